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
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Description {
    /// One sentence.
    pub help: String,
    /// The unit in plural and in full, as in `seconds` and `bytes`.
    pub unit: String,
    /// Which way is worse.
    pub direction: Direction,
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
}

/// What there is of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
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

/// What all series of a metric share.
#[derive(Debug)]
pub(crate) struct About {
    pub(crate) name: Arc<str>,
    pub(crate) kind: MetricKind,
    pub(crate) folded: AtomicU64,
    pub(crate) refused: AtomicU64,
    pub(crate) mismatched: AtomicU64,
    description: RwLock<Description>,
}

impl About {
    pub(crate) fn new(name: Arc<str>, kind: MetricKind, description: Description) -> Self {
        About {
            name,
            kind,
            folded: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            mismatched: AtomicU64::new(0),
            description: RwLock::new(description),
        }
    }

    pub(crate) fn describe(&self, description: Description) {
        *self.description.write().unwrap_or_else(PoisonError::into_inner) = description;
    }

    pub(crate) fn direction(&self) -> Direction {
        self.description.read().unwrap_or_else(PoisonError::into_inner).direction
    }

    pub(crate) fn info(&self, series: usize, memory: usize) -> MetricInfo {
        MetricInfo {
            name: self.name.clone(),
            kind: self.kind,
            description: self.description.read().unwrap_or_else(PoisonError::into_inner).clone(),
            series,
            folded: self.folded.load(Ordering::Relaxed),
            refused: self.refused.load(Ordering::Relaxed),
            mismatched: self.mismatched.load(Ordering::Relaxed),
            memory,
        }
    }
}
