use std::fmt;

use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

use crate::notify::http::Endpoint;
use crate::notify::{Notification, Notifier, NotifyError};

/// Posts what Alertmanager's webhook receiver would, version 4 (feature `http`).
///
/// With a [key](Webhook::key) each request is signed as Standard Webhooks has it, with HMAC-SHA256: `webhook-id`, which is the
/// notification's [id](Notification::id), `webhook-timestamp` and `webhook-signature`.
#[derive(Clone)]
pub struct Webhook {
    endpoint: Endpoint,
    key: Option<Vec<u8>>,
}

impl Webhook {
    /// To this address.
    pub fn new(endpoint: Endpoint) -> Self {
        Webhook { endpoint, key: None }
    }

    /// Signs with this key. Libraries of Standard Webhooks want it in base64, after `whsec_`.
    #[must_use]
    pub fn key(mut self, key: impl Into<Vec<u8>>) -> Self {
        self.key = Some(key.into());
        self
    }
}

#[async_trait]
impl Notifier for Webhook {
    async fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        let body = notification.to_webhook().to_string().into_bytes();
        let mut headers = vec![("webhook-id", notification.id.clone())];
        if let Some(key) = &self.key {
            let time = notification.time.timestamp();
            headers.push(("webhook-timestamp", time.to_string()));
            headers.push(("webhook-signature", signature(key, &notification.id, time, &body)));
        }
        self.endpoint.post(body, headers).await
    }
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook")
            .field("endpoint", &self.endpoint)
            .field("signed", &self.key.is_some())
            .finish()
    }
}

/// Standard Webhooks 1.0, symmetric: over id, time and body with dots in between.
fn signature(key: &[u8], id: &str, time: i64, body: &[u8]) -> String {
    // A key of any length is one for HMAC.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return String::new() };
    mac.update(format!("{id}.{time}.").as_bytes());
    mac.update(body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of the specification.
    #[test]
    fn a_signature_is_that_of_standard_webhooks() {
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let signature =
            signature(&key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1_614_265_330, br#"{"test": 2432232314}"#);
        assert_eq!(signature, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn a_key_is_not_shown() {
        let webhook =
            Webhook::new(Endpoint::new("https://example.com/TOKEN").unwrap().bearer("BEARER").unwrap())
                .key("KEY");
        let shown = format!("{webhook:?}");
        assert!(!shown.contains("KEY") && !shown.contains("TOKEN") && !shown.contains("BEARER"), "{shown}");
    }
}
