//! Whether a program still answers, told by the calls that were sent to it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmcp::model::ServerResult;
use rmcp::service::ServiceError;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A ping that is not answered for so long is a sign that nothing will be.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

pub(super) type Pong = oneshot::Receiver<Result<ServerResult, ServiceError>>;

/// Of one run of a program: the ping that is sent when a call was given up.
#[derive(Default)]
pub(super) struct Health(Mutex<Option<Ping>>);

/// Sent when a call was given up, and not answered yet.
struct Ping {
    sent: Instant,
    /// The first call that was sent after it.
    before: u64,
    pong: Pong,
}

impl Health {
    /// That a call was answered says as much as a pong.
    pub(super) fn heard(&self) {
        *self.ping() = None;
    }

    /// Sends a ping before the call of this number, where none is waited for already.
    pub(super) fn ask(&self, before: u64, send: impl FnOnce() -> Option<Pong>) {
        let mut ping = self.ping();
        if ping.is_none()
            && let Some(pong) = send()
        {
            *ping = Some(Ping { sent: Instant::now(), before, pong });
        }
    }

    /// Whether a ping is not answered, nor anything else since, and the first call that is under way was not sent before it: a
    /// program may do one thing after the other. What was sent after the ping waits behind it, and says nothing.
    pub(super) fn is_silent(&self, first: impl FnOnce() -> Option<u64>) -> bool {
        let mut waiting = self.ping();
        let Some(ping) = &mut *waiting else { return false };
        if !matches!(ping.pong.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            *waiting = None;
            return false;
        }
        ping.sent.elapsed() > SILENCE && first().is_none_or(|call| call >= ping.before)
    }

    fn ping(&self) -> MutexGuard<'_, Option<Ping>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A health, and what answers the ping that it was told to send before the call of this number.
    fn pinged(health: &Health, before: u64) -> oneshot::Sender<Result<ServerResult, ServiceError>> {
        let (sender, pong) = oneshot::channel();
        health.ask(before, || Some(pong));
        sender
    }

    #[tokio::test(start_paused = true)]
    async fn new_calls_do_not_hide_that_nothing_is_answered() {
        let health = Health::default();
        let _never = pinged(&health, 2);
        tokio::time::advance(SILENCE * 2).await;
        assert!(!health.is_silent(|| Some(1)), "it may still be at the call that was sent before the ping");
        assert!(health.is_silent(|| Some(2)));
        assert!(health.is_silent(|| None));
        health.heard();
        assert!(!health.is_silent(|| Some(2)), "whoever answers a call is not silent");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pong_or_a_link_that_closed_is_no_silence() {
        let health = Health::default();
        let pong = pinged(&health, 0);
        tokio::time::advance(SILENCE * 2).await;
        assert!(health.is_silent(|| None));
        drop(pong);
        assert!(!health.is_silent(|| None));
        let _never = pinged(&health, 0);
        tokio::time::advance(SILENCE / 2).await;
        assert!(!health.is_silent(|| None), "not yet");
    }
}
