use crate::drift::sample::{Sample, side_by_side};
use crate::drift::special::{chi_square_tail, kolmogorov_tail};
use crate::drift::{ALPHA, DriftDetector, Finding};
use crate::metric::Direction;

/// The Kolmogorov-Smirnov test: the greatest distance between the two distributions.
///
/// Sees a change of shape that leaves the mean where it was. Exact for small samples, Kolmogorov's limit with Stephens' correction for
/// others. With a direction that matters it looks at shifts that way only.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KolmogorovSmirnov {
    alpha: f64,
}

impl KolmogorovSmirnov {
    /// With the chance `alpha` of an alarm where nothing changed. Equal values make it less.
    pub fn new(alpha: f64) -> Self {
        KolmogorovSmirnov { alpha }
    }
}

impl Default for KolmogorovSmirnov {
    /// With a chance of 0.01.
    fn default() -> Self {
        KolmogorovSmirnov::new(ALPHA)
    }
}

impl DriftDetector for KolmogorovSmirnov {
    fn name(&self) -> &str {
        "Kolmogorov-Smirnov"
    }

    fn compare(&self, baseline: &Sample, recent: &Sample, direction: Direction) -> Finding {
        let (n, m) = (baseline.count, recent.count);
        if n < 2 || m < 2 {
            return Finding::unknown();
        }
        let (mut a, mut b, mut higher, mut lower) = (0, 0, 0.0f64, 0.0f64);
        side_by_side(baseline, recent, |from_a, from_b| {
            a += from_a;
            b += from_b;
            let ahead = a as f64 / n as f64 - b as f64 / m as f64;
            higher = higher.max(ahead);
            lower = lower.max(-ahead);
        });
        // A one-sided distance is at least as great with half the chance, to a very good approximation where it matters.
        let (distance, sides) = match direction {
            Direction::Both => (higher.max(lower), 1.0),
            Direction::HigherIsWorse => (higher, 0.5),
            Direction::LowerIsWorse => (lower, 0.5),
        };
        Finding::test(distance, sides * kolmogorov_tail(distance, n, m), self.alpha)
    }
}

/// The population stability index over tenths of both samples together, with its threshold made for their sizes.
///
/// The usual "above 0.1" alarms on most small samples that did not change. The index times the harmonic mean of the sizes is
/// distributed as chi-square (Yurdakul and Naranjo, J. Risk Model Validation 14, 2020), which gives it a p-value.
/// It knows no direction.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PopulationStability {
    alpha: f64,
}

impl PopulationStability {
    /// With the chance `alpha` of an alarm where nothing changed.
    pub fn new(alpha: f64) -> Self {
        PopulationStability { alpha }
    }
}

impl Default for PopulationStability {
    /// With a chance of 0.01.
    fn default() -> Self {
        PopulationStability::new(ALPHA)
    }
}

impl DriftDetector for PopulationStability {
    fn name(&self) -> &str {
        "population stability index"
    }

    fn compare(&self, baseline: &Sample, recent: &Sample, _direction: Direction) -> Finding {
        let (n, m) = (baseline.count, recent.count);
        // Fewer than ten a bin, and the logarithm sees chance.
        let bins = (n.min(m) / 10).min(10);
        if bins < 2 {
            return Finding::unknown();
        }
        // Both together decide the cuts, so that neither has empty bins by construction.
        let each = (n + m) as f64 / bins as f64;
        let mut cells: Vec<(u64, u64)> = vec![(0, 0)];
        let mut seen = 0;
        side_by_side(baseline, recent, |a, b| {
            let full = seen as f64 >= each * cells.len() as f64;
            if full {
                cells.push((0, 0));
            }
            seen += a + b;
            if let Some(cell) = cells.last_mut() {
                *cell = (cell.0 + a, cell.1 + b);
            }
        });
        if cells.len() < 2 {
            return Finding::test(0.0, 1.0, self.alpha);
        }
        let share = |count: u64, of: u64| (count as f64 + 0.5) / (of as f64 + 0.5 * cells.len() as f64);
        let index: f64 = cells
            .iter()
            .map(|&(a, b)| {
                let (a, b) = (share(a, n), share(b, m));
                (b - a) * (b / a).ln()
            })
            .sum();
        let scaled = index / (1.0 / n as f64 + 1.0 / m as f64);
        Finding::test(index, chi_square_tail(scaled, (cells.len() - 1) as f64), self.alpha)
    }
}
