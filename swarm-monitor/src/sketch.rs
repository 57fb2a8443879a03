use crate::sketch::bins::Bins;
use crate::sketch::mapping::Mapping;

pub(crate) mod bins;
pub(crate) mod mapping;
pub(crate) mod packed;

/// Values by size, to within a relative error: any percentile is within it of a value that was there.
///
/// DDSketch (Masson, Rim, Lee, VLDB 2019) with the cubic index of its authors' libraries in place of the logarithm.
/// Buckets are added up bin by bin, so that a window of many loses nothing.
#[derive(Debug, Clone)]
pub struct Sketch {
    mapping: Mapping,
    bins: Bins,
}

impl Sketch {
    pub(crate) fn new(mapping: Mapping) -> Self {
        Sketch { mapping, bins: Bins::default() }
    }

    pub(crate) fn bins_mut(&mut self) -> &mut Bins {
        &mut self.bins
    }

    /// How many values are in it.
    pub fn count(&self) -> u64 {
        self.bins.count()
    }

    /// The relative error of every percentile.
    pub fn accuracy(&self) -> f64 {
        self.mapping.accuracy()
    }

    /// The value that a share `q` of all values are at most: 0.5 is the median, 0 the least, 1 the greatest.
    ///
    /// The element of rank `q * (count - 1)`, rounded down. `None` without values, or if `q` is not within 0 and 1.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        if !(0.0..=1.0).contains(&q) || self.count() == 0 {
            return None;
        }
        let rank = (q * (self.count() - 1) as f64) as u64;
        self.bins.at_rank(rank).map(|bin| self.mapping.value(bin))
    }

    /// The middles of the bins that have values, ascending, with how many.
    pub(crate) fn sizes(&self) -> Vec<(f64, u64)> {
        self.bins.ascending().map(|(bin, count)| (self.mapping.value(bin), count)).collect()
    }

    /// How many values are at most each of `bounds`, which ascend, to within the accuracy.
    pub(crate) fn at_most_each(&self, bounds: &[f64]) -> Vec<u64> {
        let mut bins = self.bins.ascending().peekable();
        let mut seen = 0;
        let up_to = |bound: &f64| {
            let bound = self.mapping.bin(bound.clamp(-MOST, MOST));
            while let Some((_, count)) = bins.next_if(|(bin, _)| !bin.is_above(bound)) {
                seen += count;
            }
            seen
        };
        bounds.iter().map(up_to).collect()
    }

    /// The share of values at most `value`, to within the accuracy of where values lie. `None` without values.
    pub fn share_at_most(&self, value: f64) -> Option<f64> {
        let count = self.count();
        (count > 0 && !value.is_nan())
            .then(|| self.bins.up_to(self.mapping.bin(value.clamp(-MOST, MOST))) as f64 / count as f64)
    }
}

/// Greater values count as infinite: so many squares of this one can be added up.
pub(crate) const MOST: f64 = 1e140;
/// Smaller ones count as zero in a sketch.
pub(crate) const LEAST: f64 = 1e-100;
