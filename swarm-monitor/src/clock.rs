use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

/// What time it is. The system's by default; `testing::FakeClock` (feature `testing`) is moved by hand.
///
/// The monitor looks once a second, in [`tick`](crate::PerformanceMonitor::tick), and never follows a clock
/// backwards: while a clock shows less than it did, time stands still.
pub trait Clock: Send + Sync + 'static {
    /// The time of day.
    fn now(&self) -> DateTime<Utc>;
}

/// The system's clock. Steps forward are followed at once. After a step back it goes on from where it was, at nine tenths of
/// the pace, until the system's time has caught up.
pub(crate) struct SystemClock {
    last: Mutex<(Instant, DateTime<Utc>)>,
}

impl SystemClock {
    /// One that does not show less than `least`.
    pub(crate) fn from(least: DateTime<Utc>) -> Self {
        SystemClock { last: Mutex::new((Instant::now(), Utc::now().max(least))) }
    }
}

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let (instant, wall) = (Instant::now(), Utc::now());
        let passed = TimeDelta::from_std(instant - last.0).unwrap_or(TimeDelta::MAX);
        *last = (instant, steady(last.1, passed, wall));
        last.1
    }
}

/// The time to show when `passed` after `last` the system says `wall`.
fn steady(last: DateTime<Utc>, passed: TimeDelta, wall: DateTime<Utc>) -> DateTime<Utc> {
    let slowed = last.checked_add_signed(passed * 9 / 10).unwrap_or(wall);
    wall.max(slowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_forward_are_followed_and_steps_back_are_walked_off() {
        let noon = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::hours(12);
        let second = TimeDelta::seconds(1);
        assert_eq!(steady(noon, second, noon + second), noon + second);
        assert_eq!(steady(noon, second, noon + TimeDelta::hours(3)), noon + TimeDelta::hours(3));
        let (mut shown, mut wall, mut seconds) = (noon, noon - TimeDelta::seconds(60), 0);
        while shown > wall {
            wall += second;
            let next = steady(shown, second, wall);
            assert!(next > shown);
            (shown, seconds) = (next, seconds + 1);
        }
        assert_eq!(seconds, 600, "a minute is caught up in ten");
    }
}
