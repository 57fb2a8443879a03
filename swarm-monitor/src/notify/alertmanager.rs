use std::time::Duration;

use async_trait::async_trait;

use crate::error::Result;
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
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for what is no `http` or `https` address, or has a user in it.
    pub fn new(url: &str) -> Result<Self> {
        Ok(Alertmanager { endpoint: Endpoint::new(&format!("{}/api/v2/alerts", url.trim_end_matches('/')))? })
    }

    /// Sends this token as `Authorization: Bearer`.
    #[must_use]
    pub fn bearer(mut self, token: impl Into<String>) -> Self {
        self.endpoint.bearer(token.into());
        self
    }

    /// Allows addresses of this machine and of private networks.
    #[must_use]
    pub fn allow_private(mut self) -> Self {
        self.endpoint.allow_private();
        self
    }

    /// How long a request may take: 10 seconds by default.
    #[must_use]
    pub fn time_out(mut self, time_out: Duration) -> Self {
        self.endpoint.time_out(time_out);
        self
    }
}

#[async_trait]
impl Notifier for Alertmanager {
    async fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        self.endpoint.post(notification.to_alertmanager().to_string().into_bytes(), Vec::new()).await
    }
}
