use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, Result};
use crate::monitor::{Inner, PerformanceMonitor};
use crate::rings::Reach;
use crate::series::{Settings, Time};
use crate::sketch::mapping::Mapping;
use crate::table::{Limits, Table};

/// How a monitor is made: [`PerformanceMonitor::builder`].
#[must_use]
pub struct MonitorBuilder {
    clock: Option<Box<dyn Clock>>,
    limits: Limits,
    accuracy: f64,
    events: usize,
}

impl Default for MonitorBuilder {
    fn default() -> Self {
        MonitorBuilder {
            clock: None,
            limits: Limits { metrics: 10_000, series: 1_000, idle: 600 },
            accuracy: 0.01,
            events: 1_024,
        }
    }
}

impl MonitorBuilder {
    /// The time. The system's by default. With another no thread is started, and time moves on in [`PerformanceMonitor::tick`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Some(Box::new(clock));
        self
    }

    /// How many series a metric may have: 1,000 by default. What comes beyond is recorded in one series with the tag
    /// `overflow` = `true` until there is room.
    pub fn series_limit(mut self, series: usize) -> Self {
        self.limits.series = series;
        self
    }

    /// How many metrics there may be: 10,000 by default. What comes beyond is counted in [`PerformanceMonitor::lost`].
    pub fn metric_limit(mut self, metrics: usize) -> Self {
        self.limits.metrics = metrics;
        self
    }

    /// For how long nothing must have been recorded in a series, and nobody have a handle on it, before it may make room for
    /// another: ten minutes by default. It does so only where the limit is reached, the longest idle first; a series of which
    /// nothing is left in any window goes in any case.
    pub fn idle_after(mut self, idle: Duration) -> Self {
        self.limits.idle = idle.as_secs();
        self
    }

    /// The relative error of percentiles: 0.01 by default, within 0.001 and 0.2. Half of it takes twice the memory for distributions.
    pub fn accuracy(mut self, accuracy: f64) -> Self {
        self.accuracy = accuracy;
        self
    }

    /// How many events are kept: 1,024 by default.
    pub fn events_kept(mut self, events: usize) -> Self {
        self.events = events;
        self
    }

    /// Makes the monitor.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) with everything that is not acceptable: an accuracy out of range, a limit of 0.
    pub fn build(self) -> Result<PerformanceMonitor> {
        let mut wrong = Vec::new();
        if !(0.001..=0.2).contains(&self.accuracy) {
            wrong.push(format!("accuracy is within 0.001 and 0.2, not {}", self.accuracy));
        }
        if self.limits.series == 0 {
            wrong.push("series_limit is at least 1".to_owned());
        }
        if self.limits.metrics == 0 {
            wrong.push("metric_limit is at least 1".to_owned());
        }
        if wrong.is_empty() { Ok(self.start()) } else { Err(Error::input(wrong.join("; "))) }
    }

    pub(crate) fn start(self) -> PerformanceMonitor {
        let ticks = self.clock.is_none();
        let clock = self.clock.unwrap_or_else(|| Box::new(SystemClock::new()));
        let now = clock.now().timestamp().max(0) as u64;
        let settings = Settings {
            time: Arc::new(Time(AtomicU64::new(now))),
            reach: Reach::DEFAULT,
            mapping: Mapping::new(self.accuracy),
        };
        PerformanceMonitor::over(Inner::new(Table::new(settings, self.limits), clock, self.events), ticks)
    }
}

impl std::fmt::Debug for MonitorBuilder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MonitorBuilder")
            .field("limits", &self.limits)
            .field("accuracy", &self.accuracy)
            .field("events", &self.events)
            .finish_non_exhaustive()
    }
}
