use async_trait::async_trait;

use crate::notify::http::Endpoint;
use crate::notify::{Notification, Notifier, NotifyError};

/// Hands alerts to an Alertmanager by its `/api/v2/alerts` (feature `http`), on a [`Route::relay`](crate::Route::relay).
///
/// Alertmanager holds an alert for resolved that it has not heard of for four repeat intervals of the route, as when this process is gone.
#[derive(Debug, Clone)]
pub struct Alertmanager {
    endpoint: Endpoint,
}

impl Alertmanager {
    /// At this address, as in `http://alertmanager:9093`, or with a path if it has a prefix.
    pub fn new(endpoint: Endpoint) -> Self {
        Alertmanager { endpoint: endpoint.at("/api/v2/alerts") }
    }
}

#[async_trait]
impl Notifier for Alertmanager {
    async fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        self.endpoint.post(notification.to_alertmanager().to_string().into_bytes(), Vec::new()).await
    }
}
