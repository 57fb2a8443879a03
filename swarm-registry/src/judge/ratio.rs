use std::collections::BTreeMap;

use super::special::chi_square_tail;
use crate::traffic::Split;

/// Whether versions saw the traffic that their weights say: see [`Split::sample_ratio`].
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct SampleRatio {
    /// Pearson's statistic of the counts against the weights.
    pub chi_square: f64,
    /// The chance of counts at least so uneven where all is well.
    pub p: f64,
}

impl SampleRatio {
    /// Whether something loses, repeats or misdirects traffic: `p` is below 0.001. A comparison of samples that were gathered
    /// so is worth nothing, however clear it looks.
    pub fn is_mismatch(&self) -> bool {
        self.p < 0.001
    }
}

impl Split {
    /// Tests whether `counts`, of distinct users by version, fit the weights: a chi-square test.
    ///
    /// A version without a weight that has users anyway is a mismatch with `p` 0. Without any user there is nothing to test,
    /// and `p` is 1. Leave out pinned keys.
    pub fn sample_ratio(&self, counts: &BTreeMap<String, u64>) -> SampleRatio {
        let weighed: BTreeMap<&str, u16> = self.basis_points().collect();
        let stray = counts.iter().any(|(version, count)| *count > 0 && !weighed.contains_key(&**version));
        // Not as integers: a source may count anything.
        let total: f64 = counts.values().map(|count| *count as f64).sum();
        if stray {
            return SampleRatio { chi_square: f64::INFINITY, p: 0.0 };
        }
        if total == 0.0 || weighed.len() < 2 {
            return SampleRatio { chi_square: 0.0, p: 1.0 };
        }
        let chi_square = weighed
            .iter()
            .map(|(version, points)| {
                let expected = total * f64::from(*points) / 10_000.0;
                (counts.get(*version).copied().unwrap_or(0) as f64 - expected).powi(2) / expected
            })
            .sum();
        SampleRatio { chi_square, p: chi_square_tail(chi_square, (weighed.len() - 1) as f64) }
    }
}
