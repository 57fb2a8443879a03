use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::sink::Measurement;

/// What sort of numbers a metric is made of. The first record of a name decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MetricKind {
    /// Counts: only ever more.
    Counter,
    /// What something stands at.
    Gauge,
    /// Values with a distribution.
    Histogram,
    /// Things that happened, counted; their texts are in [`events`](crate::PerformanceMonitor::events).
    Event,
}

impl MetricKind {
    pub(crate) fn of(measurement: &Measurement<'_>) -> Self {
        match measurement {
            Measurement::Count(_) => MetricKind::Counter,
            Measurement::Gauge(_) => MetricKind::Gauge,
            Measurement::Observation(_) => MetricKind::Histogram,
            Measurement::Event(_) => MetricKind::Event,
        }
    }

    /// Whether its numbers are counts, which have no distribution.
    pub(crate) fn counts(self) -> bool {
        matches!(self, MetricKind::Counter | MetricKind::Event)
    }
}

/// Which way is worse, for drift and for alerts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Direction {
    /// A change either way matters.
    #[default]
    Both,
    /// Only more is worse: violations, durations.
    HigherIsWorse,
    /// Only less is worse: coverage, throughput.
    LowerIsWorse,
}

/// What is known of a metric besides its numbers: see [`describe`](crate::PerformanceMonitor::describe).
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct Description {
    /// One sentence.
    pub help: String,
    /// The unit in plural and in full, as in `seconds` and `bytes`.
    pub unit: String,
    /// Which way is worse.
    pub direction: Direction,
    /// Finite and ascending, or empty for the usual ones.
    pub(crate) bounds: Vec<f64>,
}

impl Description {
    /// With this sentence.
    pub fn new(help: impl Into<String>) -> Self {
        Description { help: help.into(), ..Description::default() }
    }

    /// In this unit.
    #[must_use]
    pub fn unit(mut self, unit: impl Into<String>) -> Self {
        self.unit = unit.into();
        self
    }

    /// Which way is worse.
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// Up to where each bucket goes when the histogram is [exported](crate::PerformanceMonitor::expose). Windows and percentiles of the
    /// monitor itself do not depend on them, and they can be changed at any time.
    ///
    /// Without, there are 1, 2.5 and 5 in each power of ten from 0.001 to 10,000; of bytes, the powers of four from 256 to 1 Gi.
    /// What is not finite is left out.
    #[must_use]
    pub fn bounds(mut self, bounds: impl IntoIterator<Item = f64>) -> Self {
        self.bounds = bounds.into_iter().filter(|bound| bound.is_finite()).collect();
        self.bounds.sort_by(f64::total_cmp);
        self.bounds.dedup();
        self
    }

    pub(crate) fn bounds_or_usual(&self) -> Vec<f64> {
        if !self.bounds.is_empty() {
            self.bounds.clone()
        } else if self.unit == "bytes" {
            (4..=15).map(|power| f64::from(1_u32 << (2 * power))).collect()
        } else {
            // Divided, because a product with 0.001 would not be the nearest number.
            let decade = |power: i32| [10.0, 25.0, 50.0].map(|figure| figure * 10f64.powi(power) / 10_000.0);
            (0..7).flat_map(decade).chain([10_000.0]).collect()
        }
    }
}

/// What there is of a metric.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MetricInfo {
    /// Its name.
    pub name: Arc<str>,
    /// Its kind.
    pub kind: MetricKind,
    /// What was said of it.
    pub description: Description,
    /// How many series it has, without the overflow series.
    pub series: usize,
    /// Records that went to the overflow series, because the limit was reached.
    pub folded: u64,
    /// Values that were refused: NaN, infinite, or beyond 1e140 either way.
    pub refused: u64,
    /// Records of another kind than the first, which are left out.
    pub mismatched: u64,
    /// Bytes that its series take, without names and tags.
    pub memory: usize,
}

/// A count that goes on over a restart, and how much of it did.
#[derive(Debug, Default)]
pub(crate) struct Restorable {
    ever: AtomicU64,
    restored: AtomicU64,
}

impl Restorable {
    pub(crate) fn increment(&self) {
        self.ever.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ever(&self) -> u64 {
        self.ever.load(Ordering::Relaxed)
    }

    /// Since this process began, as exports count.
    pub(crate) fn own(&self) -> u64 {
        self.ever().saturating_sub(self.restored.load(Ordering::Relaxed))
    }

    /// Goes on from `count`.
    pub(crate) fn restore(&self, count: u64) {
        self.restored.store(count, Ordering::Relaxed);
        self.ever.store(count, Ordering::Relaxed);
    }
}

/// What all series of a metric share.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) name: Arc<str>,
    pub(crate) kind: MetricKind,
    pub(crate) folded: Restorable,
    pub(crate) refused: Restorable,
    pub(crate) mismatched: Restorable,
    description: RwLock<Description>,
}

impl About {
    pub(crate) fn new(name: Arc<str>, kind: MetricKind, description: Description) -> Self {
        About {
            name,
            kind,
            folded: Restorable::default(),
            refused: Restorable::default(),
            mismatched: Restorable::default(),
            description: RwLock::new(description),
        }
    }

    pub(crate) fn describe(&self, description: Description) {
        *self.description.write().unwrap_or_else(PoisonError::into_inner) = description;
    }

    pub(crate) fn description(&self) -> Description {
        self.description.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The number of the bucket that a value is in when it is exported.
    pub(crate) fn bucket(&self, value: f64) -> usize {
        let description = self.description.read().unwrap_or_else(PoisonError::into_inner);
        description.bounds_or_usual().partition_point(|bound| *bound < value)
    }

    pub(crate) fn direction(&self) -> Direction {
        self.description.read().unwrap_or_else(PoisonError::into_inner).direction
    }

    pub(crate) fn info(&self, series: usize, memory: usize) -> MetricInfo {
        MetricInfo {
            name: self.name.clone(),
            kind: self.kind,
            description: self.description(),
            series,
            folded: self.folded.ever(),
            refused: self.refused.ever(),
            mismatched: self.mismatched.ever(),
            memory,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_ascend_and_are_round() {
        let usual = Description::default().bounds_or_usual();
        assert_eq!(usual[..4], [0.001, 0.0025, 0.005, 0.01]);
        assert_eq!((usual.len(), usual.last()), (22, Some(&10_000.0)));
        let bytes = Description::default().unit("bytes").bounds_or_usual();
        assert_eq!((bytes[0], bytes[1], bytes.last()), (256.0, 1_024.0, Some(&1_073_741_824.0)));
        let own = Description::default().bounds([5.0, f64::NAN, 1.0, f64::INFINITY, 5.0]);
        assert_eq!(own.bounds_or_usual(), [1.0, 5.0]);
        for bounds in [usual, bytes] {
            assert!(bounds.is_sorted_by(|a, b| a < b), "{bounds:?}");
        }
    }
}
