use crate::drift::sample::Sample;
use crate::drift::special::student_two_sided;
use crate::drift::{ALPHA, DriftDetector, Finding, directed, shuffle};
use crate::metric::Direction;

/// Welch's test of two means that need not have the same variance (Biometrika 34, 1947).
///
/// Skewed samples get Hall's transformation of the statistic (JRSS B 54, 1992), and the p-value is no less than that of dealing the
/// values of both out by chance (Robinson, JRSS B 44, 1982). So there are no more alarms than were asked for, neither with a few huge values
/// nor with a deviation that changed. [`plain`](Welch::plain) leaves both out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Welch {
    alpha: f64,
    plain: bool,
}

impl Welch {
    /// With the chance `alpha` of an alarm where nothing changed.
    pub fn new(alpha: f64) -> Self {
        Welch { alpha, plain: false }
    }

    /// The textbook's statistic.
    #[must_use]
    pub fn plain(mut self) -> Self {
        self.plain = true;
        self
    }

    /// The statistic, positive where recent values are greater, and its two-sided p-value.
    fn test(&self, baseline: &Sample, recent: &Sample) -> Option<(f64, f64)> {
        if baseline.count < 2 || recent.count < 2 {
            return None;
        }
        let share = |sample: &Sample| sample.variance / sample.count as f64;
        let (a, b) = (share(baseline), share(recent));
        let difference = recent.mean - baseline.mean;
        // Rounding of equal values is no difference.
        let scale = baseline.mean.abs().max(recent.mean.abs());
        if a + b <= (scale * 1e-15).powi(2) {
            let same = difference.abs() <= scale * 1e-12;
            return Some(if same { (0.0, 1.0) } else { (f64::INFINITY.copysign(difference), 0.0) });
        }
        let error = (a + b).sqrt();
        // In shares, as squares of squares of great values are infinite.
        let (from_a, from_b) = (a / (a + b), b / (a + b));
        let freedom = 1.0
            / (from_a * from_a / (baseline.count - 1) as f64 + from_b * from_b / (recent.count - 1) as f64);
        let mut t = difference / error;
        if !self.plain {
            let skew = |sample: &Sample| sample.third() / (sample.count as f64).powi(2);
            let skew = (skew(recent) - skew(baseline)) / error.powi(3);
            // Cubes of great values are infinite.
            if skew.is_finite() {
                t += skew * t * t / 3.0 + skew * skew * t * t * t / 27.0 + skew / 6.0;
            }
        }
        let mut p = student_two_sided(t.abs(), freedom);
        if !self.plain
            && let Some(tail) = shuffle::tail(baseline, recent)
        {
            p = p.max((2.0 * tail).min(1.0));
        }
        Some((t, p))
    }
}

impl Default for Welch {
    /// With a chance of 0.01.
    fn default() -> Self {
        Welch::new(ALPHA)
    }
}

impl DriftDetector for Welch {
    fn name(&self) -> &str {
        "Welch"
    }

    fn compare(&self, baseline: &Sample, recent: &Sample, direction: Direction) -> Finding {
        match self.test(baseline, recent) {
            Some((t, p)) => Finding::test(t, directed(t, p, direction), self.alpha),
            None => Finding::unknown(),
        }
    }
}

/// The mean moved by a share of what it was, and by more than chance explains.
///
/// Both must hold: a move of `threshold` alone is what small samples do by themselves, and a significant one alone is what great
/// samples show of any change, however small. A baseline of zero has no share: any significant move away from it counts. For a negative
/// baseline the share is of its size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RelativeMean {
    threshold: f64,
    welch: Welch,
}

impl RelativeMean {
    /// A move by at least `threshold`, 0.1 for 10 %, with a chance of 0.01 where nothing changed.
    pub fn new(threshold: f64) -> Self {
        RelativeMean { threshold, welch: Welch::default() }
    }

    /// With another chance of an alarm where nothing changed.
    #[must_use]
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.welch = Welch::new(alpha);
        self
    }
}

impl Default for RelativeMean {
    /// A move by 10 %.
    fn default() -> Self {
        RelativeMean::new(0.1)
    }
}

impl DriftDetector for RelativeMean {
    fn name(&self) -> &str {
        "relative mean"
    }

    fn compare(&self, baseline: &Sample, recent: &Sample, direction: Direction) -> Finding {
        let Some((t, p)) = self.welch.test(baseline, recent) else { return Finding::unknown() };
        let change = relative(baseline.mean, recent.mean);
        let far = change.is_none_or(|change| change.abs() >= self.threshold);
        let p = directed(t, p, direction);
        Finding::of(far && p <= self.welch.alpha, change, Some(p))
    }
}

/// By what share of `from` it is away from it.
pub(crate) fn relative(from: f64, to: f64) -> Option<f64> {
    if from == to { Some(0.0) } else { (from != 0.0).then(|| (to - from) / from.abs()) }
}
