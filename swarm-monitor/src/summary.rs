use chrono::{DateTime, Utc};

/// What a window holds, in a few numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Summary {
    /// The beginning of the first bucket that was looked at.
    pub from: DateTime<Utc>,
    /// The end of the last bucket, or now.
    pub to: DateTime<Utc>,
    /// How many values there are; of a counter, how much was counted.
    pub count: u64,
    /// Their mean, 0 if there are none.
    pub mean: f64,
    /// The squares of the distances from the mean, added up.
    pub(crate) squares: f64,
    /// The least, infinite if there are none.
    pub min: f64,
    /// The greatest, minus infinity if there are none.
    pub max: f64,
}

impl Summary {
    pub(crate) fn empty(from: DateTime<Utc>, to: DateTime<Utc>) -> Self {
        Summary { from, to, count: 0, mean: 0.0, squares: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }

    /// The values added up; of a counter, what was counted.
    pub fn sum(&self) -> f64 {
        self.mean * self.count as f64
    }

    /// The sample variance. `None` for fewer than two values.
    pub fn variance(&self) -> Option<f64> {
        (self.count >= 2).then(|| self.squares.max(0.0) / (self.count - 1) as f64)
    }

    /// The sample standard deviation. `None` for fewer than two values.
    pub fn std_dev(&self) -> Option<f64> {
        self.variance().map(f64::sqrt)
    }

    /// The seconds from `from` to `to`.
    pub fn seconds(&self) -> f64 {
        (self.to - self.from).num_milliseconds() as f64 / 1e3
    }

    /// How many a second of the whole window, also of what of it was before the first record: in the first minutes of a process an hour's rate
    /// is far below the present one. `None` for a window without length.
    pub fn rate(&self) -> Option<f64> {
        (self.seconds() > 0.0).then(|| self.count as f64 / self.seconds())
    }

    /// Adds the values of `other`; times stay.
    ///
    /// Chan, Golub, LeVeque, "Algorithms for computing the sample variance", 1983.
    pub(crate) fn merge(&mut self, other: &Summary) {
        if other.count == 0 {
            return;
        }
        let (a, b) = (self.count as f64, other.count as f64);
        let apart = other.mean - self.mean;
        self.count = self.count.saturating_add(other.count);
        self.mean += apart * (b / (a + b));
        self.squares += other.squares + apart * apart * (a * b / (a + b));
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }
}

/// Count, sums, least and greatest of values, as distances from a pivot.
///
/// The pivot is near the values, so that squares do not drown their differences.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Moments {
    pub(crate) count: u64,
    pub(crate) sum: f64,
    pub(crate) squares: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Default for Moments {
    fn default() -> Self {
        Moments { count: 0, sum: 0.0, squares: 0.0, min: f64::INFINITY, max: f64::NEG_INFINITY }
    }
}

impl Moments {
    #[inline]
    pub(crate) fn add(&mut self, value: f64, pivot: f64) {
        let distance = value - pivot;
        self.count += 1;
        self.sum += distance;
        self.squares += distance * distance;
        self.min = if value < self.min { value } else { self.min };
        self.max = if value > self.max { value } else { self.max };
    }

    #[inline]
    pub(crate) fn merge(&mut self, other: &Moments) {
        self.count += other.count;
        self.sum += other.sum;
        self.squares += other.squares;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// What came after the first of them, which `first` has. The least and the greatest stay those of all, also where nothing came.
    pub(crate) fn without(&self, first: &Moments) -> Moments {
        if self.count <= first.count {
            return Moments { min: self.min, max: self.max, ..Moments::default() };
        }
        Moments {
            count: self.count - first.count,
            sum: self.sum - first.sum,
            squares: self.squares - first.squares,
            ..*self
        }
    }

    pub(crate) fn summary(&self, pivot: f64, from: DateTime<Utc>, to: DateTime<Utc>) -> Summary {
        let mut summary = Summary::empty(from, to);
        if self.count > 0 {
            let n = self.count as f64;
            summary.count = self.count;
            summary.mean = pivot + self.sum / n;
            summary.squares = (self.squares - self.sum * (self.sum / n)).max(0.0);
            summary.min = self.min;
            summary.max = self.max;
        }
        summary
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn parts_merged_are_the_whole(values in prop::collection::vec(-1e3..1e3f64, 2..50), far in -1e9..1e9f64, cut in 0..50usize) {
            let values: Vec<f64> = values.iter().map(|value| value + far).collect();
            let of = |values: &[f64], pivot: f64| {
                let mut moments = Moments::default();
                values.iter().for_each(|&value| moments.add(value, pivot));
                moments.summary(pivot, DateTime::UNIX_EPOCH, DateTime::UNIX_EPOCH)
            };
            let (left, right) = values.split_at(cut.min(values.len()));
            let mut merged = of(left, values[0]);
            merged.merge(&of(right, *values.last().unwrap()));
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (values.len() - 1) as f64;
            prop_assert!((merged.mean - mean).abs() <= 1e-9 * far.abs().max(1e3));
            prop_assert!((merged.variance().unwrap() - variance).abs() <= 1e-6 * variance.max(1.0));
        }
    }
}
