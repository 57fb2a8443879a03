use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::watch;

use crate::clock::Clock;

/// A [`Clock`] that stands still until it is moved. Clones share the time.
#[derive(Debug, Clone)]
pub struct FakeClock {
    now: Arc<watch::Sender<DateTime<Utc>>>,
    hurried: bool,
}

impl FakeClock {
    /// A clock that shows `start`.
    pub fn new(start: DateTime<Utc>) -> Self {
        FakeClock { now: Arc::new(watch::Sender::new(start)), hurried: false }
    }

    /// A clock that shows `start`, and moves by itself when someone sleeps, to when they want to be woken: a day passes
    /// in no time.
    pub fn hurried(start: DateTime<Utc>) -> Self {
        FakeClock { now: Arc::new(watch::Sender::new(start)), hurried: true }
    }

    /// Moves it by `duration`; who slept until then is woken.
    pub fn advance(&self, duration: Duration) {
        let delta = TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
        self.now.send_modify(|now| *now = now.checked_add_signed(delta).unwrap_or(DateTime::<Utc>::MAX_UTC));
    }

    /// Answers once `sleepers` or more are asleep, so that a test moves the clock when someone waits for it.
    pub async fn asleep(&self, sleepers: usize) {
        // A sleeper holds a receiver. There is no notice of a new one, so give way to others until it is there.
        while self.now.receiver_count() < sleepers {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl Clock for FakeClock {
    fn now(&self) -> DateTime<Utc> {
        *self.now.borrow()
    }

    async fn sleep(&self, duration: Duration) {
        let mut now = self.now.subscribe();
        let delta = TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
        let until = now.borrow().checked_add_signed(delta).unwrap_or(DateTime::<Utc>::MAX_UTC);
        if self.hurried {
            // Give way first: whoever else has something to do does it at the time it is now.
            tokio::task::yield_now().await;
            self.now.send_if_modified(|now| {
                let later = *now < until;
                *now = until.max(*now);
                later
            });
            return;
        }
        // The sender lives in `self`. It does not close.
        let _ = now.wait_for(|now| *now >= until).await;
    }
}
