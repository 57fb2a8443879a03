use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

/// What time it is, and how to wait. The system's by default; `testing::FakeClock` (feature `testing`) is moved by hand.
#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// The time that records are stamped with.
    fn now(&self) -> DateTime<Utc>;

    /// Answers after `duration`. Dropping the future is the end of it.
    async fn sleep(&self, duration: Duration);
}

pub(crate) struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}
