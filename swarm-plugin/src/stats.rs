use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::error::ErrorKind;

/// What became of the calls of one plugin since it was first registered, over all reloads.
///
/// The numbers are read one after the other while calls go on, so that they may be apart by the calls of that moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Calls that were begun.
    pub calls: u64,
    /// Calls under way.
    pub in_flight: u64,
    /// Calls refused before the plugin ran: parameters that are not valid or too large.
    pub refused: u64,
    /// Calls that the plugin answered with a failure, or with a result that is too large.
    pub failed: u64,
    /// Calls in which the plugin panicked.
    pub panicked: u64,
    /// Calls whose deadline passed.
    pub timed_out: u64,
    /// Calls that were cancelled, dropped or cut off.
    pub cancelled: u64,
    /// The time of all calls together.
    pub busy: Duration,
    /// The time of the slowest call.
    pub slowest: Duration,
}

/// How a call ended.
#[derive(Debug, Clone, Copy)]
pub(crate) enum End {
    Answered,
    /// Before the plugin had to do with it, for what its parameters are.
    Refused,
    Failed(ErrorKind),
}

/// The counters behind [`Stats`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    begun: AtomicU64,
    ended: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    panicked: AtomicU64,
    timed_out: AtomicU64,
    cancelled: AtomicU64,
    nanos: AtomicU64,
    slowest: AtomicU64,
}

impl Counters {
    pub(crate) fn begin(&self) {
        self.begun.fetch_add(1, Relaxed);
    }

    pub(crate) fn end(&self, end: End, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.nanos.fetch_add(nanos, Relaxed);
        if nanos > self.slowest.load(Relaxed) {
            self.slowest.fetch_max(nanos, Relaxed);
        }
        let counter = match end {
            End::Answered => None,
            End::Refused => Some(&self.refused),
            End::Failed(ErrorKind::Panicked) => Some(&self.panicked),
            End::Failed(ErrorKind::TimedOut) => Some(&self.timed_out),
            End::Failed(ErrorKind::Cancelled | ErrorKind::CutOff) => Some(&self.cancelled),
            End::Failed(_) => Some(&self.failed),
        };
        if let Some(counter) = counter {
            counter.fetch_add(1, Relaxed);
        }
        self.ended.fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self) -> Stats {
        // In this order, so that no call seems to have ended before it began.
        let ended = self.ended.load(Relaxed);
        let calls = self.begun.load(Relaxed);
        Stats {
            calls,
            in_flight: calls.saturating_sub(ended),
            refused: self.refused.load(Relaxed),
            failed: self.failed.load(Relaxed),
            panicked: self.panicked.load(Relaxed),
            timed_out: self.timed_out.load(Relaxed),
            cancelled: self.cancelled.load(Relaxed),
            busy: Duration::from_nanos(self.nanos.load(Relaxed)),
            slowest: Duration::from_nanos(self.slowest.load(Relaxed)),
        }
    }
}
