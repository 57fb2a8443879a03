use crate::drift::sample::{Sample, side_by_side};
use crate::drift::special::normal_tail;
use crate::drift::{ALPHA, DriftDetector, Finding, directed};
use crate::metric::Direction;

/// The Mann-Whitney test: whether recent values tend to be greater or smaller (Annals of Mathematical Statistics 18, 1947).
///
/// Looks at ranks only, so that a few huge values do not matter. The normal approximation, with corrections for equal values and for
/// continuity. The statistic is U of the recent sample.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MannWhitney {
    alpha: f64,
}

impl MannWhitney {
    /// With the chance `alpha` of an alarm where nothing changed.
    pub fn new(alpha: f64) -> Self {
        MannWhitney { alpha }
    }
}

impl Default for MannWhitney {
    /// With a chance of 0.01.
    fn default() -> Self {
        MannWhitney::new(ALPHA)
    }
}

impl DriftDetector for MannWhitney {
    fn name(&self) -> &str {
        "Mann-Whitney"
    }

    fn compare(&self, baseline: &Sample, recent: &Sample, direction: Direction) -> Finding {
        // Below this the approximation is too coarse for small p-values.
        if baseline.count < 5 || recent.count < 5 {
            return Finding::unknown();
        }
        let (n, m) = (baseline.count as f64, recent.count as f64);
        let (mut below, mut u, mut ties) = (0.0, 0.0, 0.0);
        side_by_side(baseline, recent, |a, b| {
            let (a, b) = (a as f64, b as f64);
            u += b * (below + a / 2.0);
            below += a;
            ties += (a + b).powi(3) - (a + b);
        });
        let all = n + m;
        let variance = n * m / 12.0 * ((all + 1.0) - ties / (all * (all - 1.0)));
        let off = u - n * m / 2.0;
        if variance <= 0.0 {
            return Finding::test(u, 1.0, self.alpha);
        }
        let z = (off.abs() - 0.5) / variance.sqrt();
        let two_sided = (2.0 * normal_tail(z)).min(1.0);
        Finding::test(u, directed(off, two_sided, direction), self.alpha)
    }
}
