//! Whether a program still answers, told by the calls that were sent to it.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rmcp::model::ServerResult;
use rmcp::service::ServiceError;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// A ping that is not answered for so long is a sign that nothing will be.
pub(super) const SILENCE: Duration = Duration::from_secs(5);

pub(super) type Pong = oneshot::Receiver<Result<ServerResult, ServiceError>>;

/// The calls of one program, and the ping that is sent when one of them was given up.
#[derive(Default)]
pub(super) struct Health(Mutex<State>);

#[derive(Default)]
struct State {
    next: u64,
    under_way: BTreeSet<u64>,
    ping: Option<Ping>,
}

/// Sent when a call was given up, and not answered yet.
struct Ping {
    sent: Instant,
    /// The first call that was sent after it.
    before: u64,
    pong: Pong,
}

impl Health {
    /// Counts a call that is about to be sent.
    pub(super) fn begin(&self) -> u64 {
        let mut state = self.state();
        let call = state.next;
        state.next += 1;
        state.under_way.insert(call);
        call
    }

    /// The call is over. That it was answered says as much as a pong.
    pub(super) fn end(&self, call: u64, was_answered: bool) {
        let mut state = self.state();
        state.under_way.remove(&call);
        if was_answered {
            state.ping = None;
        }
    }

    /// Sends a ping, where none is waited for already.
    pub(super) fn ping(&self, send: impl FnOnce() -> Option<Pong>) {
        let mut state = self.state();
        if state.ping.is_none()
            && let Some(pong) = send()
        {
            state.ping = Some(Ping { sent: Instant::now(), before: state.next, pong });
        }
    }

    /// Whether a ping is not answered, nor anything else since, and no call is under way that was sent before it: a program
    /// may do one thing after the other. What was sent after the ping waits behind it, and says nothing.
    pub(super) fn is_silent(&self) -> bool {
        let mut state = self.state();
        let Some(ping) = &mut state.ping else { return false };
        if !matches!(ping.pong.try_recv(), Err(oneshot::error::TryRecvError::Empty)) {
            state.ping = None;
            return false;
        }
        let (sent, before) = (ping.sent, ping.before);
        sent.elapsed() > SILENCE && state.under_way.first().is_none_or(|&call| call >= before)
    }

    /// Forgets what was sent to a run that is over.
    pub(super) fn renew(&self) {
        self.state().ping = None;
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A health, and what answers the ping that it was told to send.
    fn pinged(health: &Health) -> oneshot::Sender<Result<ServerResult, ServiceError>> {
        let (sender, pong) = oneshot::channel();
        health.ping(|| Some(pong));
        sender
    }

    #[tokio::test(start_paused = true)]
    async fn new_calls_do_not_hide_that_nothing_is_answered() {
        let health = Health::default();
        let (given_up, patient) = (health.begin(), health.begin());
        health.end(given_up, false);
        let _never = pinged(&health);
        let later = health.begin();
        tokio::time::advance(SILENCE * 2).await;
        assert!(!health.is_silent(), "it may still be at the call that was sent before the ping");
        health.end(patient, false);
        assert!(health.is_silent());
        health.end(later, true);
        assert!(!health.is_silent(), "whoever answers a call is not silent");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pong_or_a_link_that_closed_is_no_silence() {
        let health = Health::default();
        let pong = pinged(&health);
        tokio::time::advance(SILENCE * 2).await;
        assert!(health.is_silent());
        drop(pong);
        assert!(!health.is_silent());
        let _never = pinged(&health);
        tokio::time::advance(SILENCE / 2).await;
        assert!(!health.is_silent(), "not yet");
    }
}
