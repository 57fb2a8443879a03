use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use chrono::Utc;

use crate::clock::{Clock, SystemClock};
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::{Inner, PerformanceMonitor};
use crate::rings::Reach;
use crate::series::{Settings, Time};
use crate::sketch::mapping::Mapping;
use crate::snapshot::{Reader, Restored, keep_aside};
use crate::table::{Limits, Table};
use crate::window::time;

/// How a monitor is made: [`PerformanceMonitor::builder`].
#[must_use]
pub struct MonitorBuilder {
    clock: Option<Box<dyn Clock>>,
    limits: Limits,
    accuracy: f64,
    events: usize,
    snapshot: Option<PathBuf>,
}

impl Default for MonitorBuilder {
    fn default() -> Self {
        MonitorBuilder {
            clock: None,
            limits: Limits { metrics: 10_000, series: 1_000, idle: 600 },
            accuracy: 0.01,
            events: 1_024,
            snapshot: None,
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

    /// Goes on from the snapshot at `path`, if there is one: series with all their buckets, totals, events, states of detectors.
    ///
    /// One that is damaged, or of a later format, is kept aside, and the monitor begins with nothing:
    /// [`restored`](PerformanceMonitor::restored) tells. A gauge has its history, but stands at nothing until it is set.
    pub fn restore(mut self, path: impl Into<PathBuf>) -> Self {
        self.snapshot = Some(path.into());
        self
    }

    /// Makes the monitor, whatever becomes of a snapshot.
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
        let shown = self.clock.as_ref().map_or_else(Utc::now, |clock| clock.now());
        let shown = shown.timestamp().max(0) as u64;
        let path = self.snapshot.as_deref();
        let read = path.map(|path| Reader::open(path, shown));
        let (table, head, restored) = match (path, read) {
            (Some(path), Some(Ok(Some(mut reader)))) => {
                let table = self.table(shown.max(reader.head.taken));
                match reader.fill(path, &table) {
                    Ok(restored) => (table, Some(reader.head), Some(restored)),
                    Err(error) => (self.table(shown), None, Some(refused(path, shown, error))),
                }
            }
            (Some(path), Some(Err(error))) => (self.table(shown), None, Some(refused(path, shown, error))),
            (_, read) => (self.table(shown), None, read.map(|_| Restored::Absent)),
        };
        let now = time(table.settings.time.now());
        let clock = self.clock.unwrap_or_else(|| Box::new(SystemClock::from(now)));
        let unread = restored.as_ref().filter(|restored| restored.is_in_place()).and(self.snapshot);
        let inner = Inner::new(table, clock, self.events, head, restored, unread);
        PerformanceMonitor::over(inner, ticks)
    }

    fn table(&self, now: u64) -> Table {
        let settings = Settings {
            time: Arc::new(Time(AtomicU64::new(now))),
            reach: Reach::DEFAULT,
            mapping: Mapping::new(self.accuracy),
        };
        Table::new(settings, self.limits)
    }
}

fn refused(path: &Path, now: u64, error: Error) -> Restored {
    // What cannot be read now may be whole.
    let kept = (error.kind() != ErrorKind::Storage).then(|| keep_aside(path, now)).flatten();
    let restored = Restored::Refused { error, kept };
    tracing::warn!(path = %path.display(), "{restored}");
    restored
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
