use std::sync::Arc;

use crate::drift::sample::Sample;
use crate::drift::special::normal_point;
use crate::drift::{DriftDetector, Finding};
use crate::error::{Error, Result};
use crate::metric::Direction;
use crate::sketch::MOST;

/// Looks at one value at a time, in memory that does not grow with them, and tells when their level changed.
///
/// Implemented by [`Cusum`](crate::Cusum), [`PageHinkley`](crate::PageHinkley), [`Adwin`](crate::Adwin), [`Kswin`](crate::Kswin),
/// [`Surprise`](crate::Surprise), and by you.
/// The same values give the same answers.
pub trait ChangeDetector: Send + Sync {
    /// What it is called in reports.
    fn name(&self) -> &str;

    /// Takes the next value and tells whether it shows a change. After one it begins anew. A value that is not finite, or
    /// beyond 1e140 either way, is left out.
    fn update(&mut self, value: f64) -> bool;

    /// All that it knows of the values so far, as numbers that are kept bit by bit.
    fn save(&self) -> Vec<f64>;

    /// Goes on from what a detector with the same options has saved.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) for what no such detector has saved, and nothing is changed.
    fn restore(&mut self, state: &[f64]) -> Result<()>;
}

impl<D: ChangeDetector + ?Sized> ChangeDetector for Box<D> {
    fn name(&self) -> &str {
        (**self).name()
    }

    fn update(&mut self, value: f64) -> bool {
        (**self).update(value)
    }

    fn save(&self) -> Vec<f64> {
        (**self).save()
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        (**self).restore(state)
    }
}

/// Whether a value can be squared and added up, so that it does not spoil all that comes after. False for NaN too.
#[inline]
pub(crate) fn is_taken(value: f64) -> bool {
    value.abs() <= MOST
}

/// Whether the statistic of a move that matters, one upwards or one downwards, is beyond `threshold`.
#[inline]
pub(crate) fn is_beyond(threshold: f64, up: f64, down: f64, direction: Direction) -> bool {
    (up > threshold && direction != Direction::LowerIsWorse)
        || (down > threshold && direction != Direction::HigherIsWorse)
}

pub(crate) fn not_a_state(name: &str, state: &[f64]) -> Error {
    Error::input(format!("{} numbers that are no saved state of {name}", state.len()))
}

/// A [`ChangeDetector`] that sees normal scores in place of values: what share of a baseline is below each, as a normal distribution
/// would have it.
///
/// Thresholds then mean the same for every distribution: durations, counts, and values with heavy tails.
///
/// ```
/// use swarm_monitor::{ChangeDetector, Cusum, Sample, Scored};
///
/// let baseline: Vec<f64> = (0..1_000).map(|at| f64::from(at * 7_919 % 1_000)).collect();
/// // One false alarm in 100,000 values.
/// let mut cusum = Scored::new(Cusum::standard().run_length(1e5), &Sample::of(&baseline));
/// assert!(baseline.iter().all(|&value| !cusum.update(value)));
/// assert!((0..50).any(|_| cusum.update(950.0)));
/// ```
#[derive(Debug, Clone)]
pub struct Scored<D> {
    detector: D,
    knots: Arc<[(f64, f64)]>,
}

/// So many values or groups of neighbours have a score of their own, besides some further out.
const KNOTS: usize = 512;

impl<D> Scored<D> {
    /// Scores by the distribution of `baseline`, which should have at least some hundred values.
    pub fn new(detector: D, baseline: &Sample) -> Self {
        let all = baseline.count.max(1) as f64;
        // Neighbours are taken together where there are many, but not far out, where each counts.
        let together = (baseline.count / KNOTS as u64).max(1);
        let mut knots: Vec<(f64, f64, f64)> = Vec::new();
        let (mut below, mut count, mut sum, mut distinct) = (0, 0, 0.0, 0);
        for (at, (value, times)) in baseline.sizes.iter().enumerate() {
            (count, sum, distinct) = (count + times, sum + value * *times as f64, distinct + 1);
            let tail = below.min(baseline.count - below) / 8;
            if count >= together.min(tail.max(1)) || at + 1 == baseline.sizes.len() {
                let middle = (below as f64 + count as f64 / 2.0) / all;
                let value = if distinct == 1 { *value } else { sum / count as f64 };
                knots.push((value, -normal_point(middle), count as f64));
                below += count;
                (count, sum, distinct) = (0, 0.0, 0);
            }
        }
        // Few distinct values have scores that spread less: stretched to a deviation of 1.
        let sum =
            |of: &dyn Fn(f64) -> f64| knots.iter().map(|(_, score, count)| of(*score) * count).sum::<f64>();
        let mean = sum(&|score| score) / all;
        let deviation = (sum(&|score| (score - mean).powi(2)) / all).sqrt();
        let scale = if deviation > 0.0 { 1.0 / deviation } else { 1.0 };
        let knots = knots.into_iter().map(|(value, score, _)| (value, (score - mean) * scale)).collect();
        Scored { detector, knots }
    }

    fn score(&self, value: f64) -> f64 {
        let (Some(first), Some(last)) = (self.knots.first(), self.knots.last()) else { return 0.0 };
        let above = self.knots.partition_point(|(knot, _)| *knot < value);
        match self.knots.get(above) {
            Some((knot, score)) if *knot == value => *score,
            // Beyond everything that was there: one deviation further out.
            None => last.1.max(0.0) + 1.0,
            Some(_) if above == 0 => first.1.min(0.0) - 1.0,
            Some((knot, score)) => {
                let (before, low) = self.knots[above - 1];
                low + (score - low) * ((value - before) / (knot - before))
            }
        }
    }
}

impl<D: ChangeDetector> ChangeDetector for Scored<D> {
    fn name(&self) -> &str {
        self.detector.name()
    }

    fn update(&mut self, value: f64) -> bool {
        is_taken(value) && self.detector.update(self.score(value))
    }

    fn save(&self) -> Vec<f64> {
        self.detector.save()
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        self.detector.restore(state)
    }
}

/// A [`ChangeDetector`] as a [`DriftDetector`]: it sees the baseline and then the recent values, in order, and tells of drift if it sees a
/// change within the recent ones.
///
/// It tests no hypothesis, so that there is no p-value; the statistic is the number of the recent value at which it saw the change. A direction
/// that matters is judged by the means.
#[derive(Debug, Clone)]
pub struct Streamed<D>(pub D);

impl<D: ChangeDetector + Clone> DriftDetector for Streamed<D> {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn compare(&self, baseline: &Sample, recent: &Sample, direction: Direction) -> Finding {
        if baseline.in_order().is_empty() || recent.in_order().is_empty() {
            return Finding::unknown();
        }
        let mut detector = self.0.clone();
        for &value in baseline.in_order() {
            detector.update(value);
        }
        let at = recent.in_order().iter().position(|&value| detector.update(value));
        let harmful = match direction {
            Direction::Both => true,
            Direction::HigherIsWorse => recent.mean > baseline.mean,
            Direction::LowerIsWorse => recent.mean < baseline.mean,
        };
        Finding::of(at.is_some() && harmful, at.map(|at| at as f64), None)
    }
}
