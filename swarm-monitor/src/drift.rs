use std::fmt;
use std::sync::Arc;

use crate::drift::sample::Sample;
use crate::metric::Direction;

pub(crate) mod adwin;
pub(crate) mod change;
pub(crate) mod check;
pub(crate) mod cusum;
pub(crate) mod distribution;
pub(crate) mod hinkley;
pub(crate) mod kswin;
pub(crate) mod mean;
pub(crate) mod rank;
pub(crate) mod report;
pub(crate) mod sample;
mod shuffle;
mod special;
pub(crate) mod surprise;

/// Tells whether recent values are unlike earlier ones.
///
/// Implemented by the tests of this crate, each from a named source, by [`Streamed`](crate::Streamed) for those that look at one value at a
/// time, and by you. It is arithmetic: the same samples give the same answer, nothing is random, no clock is asked. It may be
/// called from any thread, with samples of any size, also empty and constant ones, and answers [`Finding::unknown`] where there is too little
/// to tell.
pub trait DriftDetector: Send + Sync {
    /// What it is called in reports.
    fn name(&self) -> &str;

    /// Compares. Of a change in the harmless direction it says that there is none.
    fn compare(&self, baseline: &Sample, recent: &Sample, direction: Direction) -> Finding;
}

impl<D: DriftDetector + ?Sized> DriftDetector for &D {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn compare(&self, baseline: &Sample, recent: &Sample, direction: Direction) -> Finding {
        (**self).compare(baseline, recent, direction)
    }
}

impl<D: DriftDetector + ?Sized> DriftDetector for Box<D> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn compare(&self, baseline: &Sample, recent: &Sample, direction: Direction) -> Finding {
        (**self).compare(baseline, recent, direction)
    }
}

impl<D: DriftDetector + ?Sized> DriftDetector for Arc<D> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn compare(&self, baseline: &Sample, recent: &Sample, direction: Direction) -> Finding {
        (**self).compare(baseline, recent, direction)
    }
}

/// What a [`DriftDetector`] makes of two samples.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Finding {
    /// Drift, steady, or not to be told.
    pub verdict: Verdict,
    /// The test's own figure, where there is one.
    pub statistic: Option<f64>,
    /// How likely a figure as great would be if nothing had changed. Of detectors that do not test a hypothesis there is none.
    pub p_value: Option<f64>,
}

/// Whether there is drift.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// The recent values are unlike the earlier ones, in a direction that matters.
    Drift,
    /// Nothing shows that they are.
    Steady,
    /// There is too little to tell.
    Unknown,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Verdict::Drift => "drift",
            Verdict::Steady => "steady",
            Verdict::Unknown => "unknown",
        })
    }
}

impl Finding {
    /// There is too little to tell.
    pub const fn unknown() -> Self {
        Finding { verdict: Verdict::Unknown, statistic: None, p_value: None }
    }

    /// Drift, or none.
    pub fn of(drift: bool, statistic: Option<f64>, p_value: Option<f64>) -> Self {
        let verdict = if drift { Verdict::Drift } else { Verdict::Steady };
        Finding { verdict, statistic, p_value }
    }

    pub(crate) fn test(statistic: f64, p_value: f64, alpha: f64) -> Self {
        Finding::of(p_value <= alpha, Some(statistic), Some(p_value))
    }
}

/// The p-value in the direction that matters, of a statistic whose sign tells the way and of its two-sided p-value.
fn directed(statistic: f64, two_sided: f64, direction: Direction) -> f64 {
    let harmful = match direction {
        Direction::Both => return two_sided,
        Direction::HigherIsWorse => statistic > 0.0,
        Direction::LowerIsWorse => statistic < 0.0,
    };
    if harmful { two_sided / 2.0 } else { 1.0 - two_sided / 2.0 }
}

/// The chance of a false alarm that tests are made with unless told otherwise.
pub(crate) const ALPHA: f64 = 0.01;
