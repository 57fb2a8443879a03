use crate::sketch::Sketch;
use crate::summary::{Moments, Summary};

/// Values to compare: their sizes, how often each is there, and, in order of time, the values or their means by bucket.
#[derive(Debug, Clone)]
pub struct Sample {
    pub(crate) count: u64,
    pub(crate) mean: f64,
    pub(crate) variance: f64,
    /// Distinct values, ascending, with how often.
    pub(crate) sizes: Vec<(f64, u64)>,
    in_order: Vec<f64>,
}

impl Sample {
    /// Of these values in this order. What is not finite, or beyond 1e140, is left out.
    pub fn of(values: &[f64]) -> Self {
        let in_order: Vec<f64> =
            values.iter().copied().filter(|value| value.abs() <= crate::sketch::MOST).collect();
        let pivot = in_order.first().copied().unwrap_or(0.0);
        let mut moments = Moments::default();
        in_order.iter().for_each(|&value| moments.add(value, pivot));
        let summary = moments.summary(pivot, chrono::DateTime::UNIX_EPOCH, chrono::DateTime::UNIX_EPOCH);
        let mut sorted = in_order.clone();
        sorted.sort_by(f64::total_cmp);
        let mut sizes: Vec<(f64, u64)> = Vec::new();
        for value in sorted {
            match sizes.last_mut() {
                Some((last, count)) if *last == value => *count += 1,
                _ => sizes.push((value, 1)),
            }
        }
        Sample { sizes, ..Sample::new(&summary, in_order) }
    }

    /// Of a window: exact in mean and deviation, to the sketch's accuracy in sizes.
    pub(crate) fn of_window(summary: &Summary, sketch: &Sketch, in_order: Vec<f64>) -> Self {
        Sample { sizes: sketch.sizes(), ..Sample::new(summary, in_order) }
    }

    fn new(summary: &Summary, in_order: Vec<f64>) -> Self {
        let variance = summary.variance().unwrap_or(0.0);
        Sample { count: summary.count, mean: summary.mean, variance, sizes: Vec::new(), in_order }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Their mean, 0 if there are none.
    pub fn mean(&self) -> f64 {
        self.mean
    }

    /// Their sample variance, 0 for fewer than two.
    pub fn variance(&self) -> f64 {
        self.variance
    }

    /// The distinct values, ascending, each with how often it is there. From a window, to within the monitor's accuracy.
    pub fn sizes(&self) -> &[(f64, u64)] {
        &self.sizes
    }

    /// The values as they came. From a window, the mean of each of its buckets.
    pub fn in_order(&self) -> &[f64] {
        &self.in_order
    }

    /// The third central moment.
    pub(crate) fn third(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        let sum: f64 =
            self.sizes.iter().map(|(value, count)| (value - self.mean).powi(3) * *count as f64).sum();
        sum / self.count as f64
    }
}

/// Walks both samples upwards: at each distinct value, how often each has it.
pub(crate) fn side_by_side(a: &Sample, b: &Sample, mut at: impl FnMut(u64, u64)) {
    let (mut a, mut b) = (a.sizes.iter().peekable(), b.sizes.iter().peekable());
    loop {
        let next = match (a.peek(), b.peek()) {
            (Some(a), Some(b)) => a.0.min(b.0),
            (Some(one), None) | (None, Some(one)) => one.0,
            (None, None) => break,
        };
        let from_a = a.next_if(|(value, _)| *value == next).map_or(0, |(_, count)| *count);
        let from_b = b.next_if(|(value, _)| *value == next).map_or(0, |(_, count)| *count);
        at(from_a, from_b);
    }
}
