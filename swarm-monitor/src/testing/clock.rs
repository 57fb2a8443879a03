use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::Clock;

/// A [`Clock`] that stands still until it is moved. Clones share the time, to the millisecond.
#[derive(Debug, Clone)]
pub struct FakeClock {
    millis: Arc<AtomicI64>,
}

impl FakeClock {
    /// A clock that shows `start`.
    pub fn new(start: DateTime<Utc>) -> Self {
        FakeClock { millis: Arc::new(AtomicI64::new(start.timestamp_millis())) }
    }

    /// Moves it on. The monitor looks in its next [`tick`](crate::PerformanceMonitor::tick).
    pub fn advance(&self, duration: Duration) {
        let millis = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        self.millis.fetch_add(millis, Ordering::SeqCst);
    }

    /// Sets it, also back.
    pub fn set(&self, to: DateTime<Utc>) {
        self.millis.store(to.timestamp_millis(), Ordering::SeqCst);
    }
}

impl Clock for FakeClock {
    fn now(&self) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH
            + TimeDelta::milliseconds(self.millis.load(Ordering::SeqCst).min(8_000_000_000_000_000))
    }
}
