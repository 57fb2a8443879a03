use std::fmt;

use super::{Direction, Estimate};

/// Whether a candidate is good enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// It is not worse by more than is tolerated.
    Pass,
    /// It is worse.
    Fail,
    /// It cannot be told. Nothing is promoted on this.
    Inconclusive,
}

/// What a [`Judge`](crate::Judge) found, metric by metric.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    pub(super) metrics: Vec<MetricComparison>,
}

impl Comparison {
    /// `Fail` where a metric fails, else `Inconclusive` where one is, else `Pass`.
    pub fn verdict(&self) -> Verdict {
        let any = |verdict| self.metrics.iter().any(|metric| metric.verdict == verdict);
        if any(Verdict::Fail) {
            Verdict::Fail
        } else if any(Verdict::Inconclusive) {
            Verdict::Inconclusive
        } else {
            Verdict::Pass
        }
    }

    /// The metrics, in the order of the criteria.
    pub fn metrics(&self) -> &[MetricComparison] {
        &self.metrics
    }

    /// One metric.
    pub fn metric(&self, name: &str) -> Option<&MetricComparison> {
        self.metrics.iter().find(|metric| metric.metric == name)
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, metric) in self.metrics.iter().enumerate() {
            write!(f, "{}{metric}", if at == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

/// One metric of two versions. Differences are candidate minus baseline.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct MetricComparison {
    /// Its name.
    pub metric: String,
    /// Which way is better.
    pub direction: Direction,
    /// The baseline's figure, mean or share.
    pub baseline: Option<f64>,
    /// The candidate's.
    pub candidate: Option<f64>,
    /// By how much the candidate is larger, in the unit of the metric: of means or shares the difference, of ranks the
    /// Hodges-Lehmann shift.
    pub difference: Option<f64>,
    /// The confidence interval of the difference; where it is not known to one side, that end is infinite.
    pub interval: Option<(f64, f64)>,
    /// The chance of a difference at least so large, to either side, where there is none. With a sequential judge compare it
    /// with [`level`](MetricComparison::level), not with `alpha`.
    pub p: Option<f64>,
    /// The significance level of this look.
    pub level: Option<f64>,
    /// The size of the effect without a unit: Cohen's d of means, Cliff's delta of ranks, Cohen's h of shares.
    pub effect: Option<f64>,
    /// What it says of the candidate.
    pub verdict: Verdict,
    /// Why, in a sentence.
    pub reason: String,
}

impl MetricComparison {
    pub(super) fn new(metric: &str, direction: Direction) -> Self {
        MetricComparison {
            metric: metric.to_owned(),
            direction,
            baseline: None,
            candidate: None,
            difference: None,
            interval: None,
            p: None,
            level: None,
            effect: None,
            verdict: Verdict::Inconclusive,
            reason: String::new(),
        }
    }

    /// The difference as a fraction of the baseline, positive where the candidate is better: 0.8 for violations that fall
    /// from 15 to 3. `None` where the baseline is zero.
    pub fn improvement(&self) -> Option<f64> {
        let baseline = self.baseline.filter(|baseline| *baseline != 0.0)?;
        Some(-self.worsening(self.candidate? - baseline) / baseline.abs())
    }

    /// A difference as how much worse it is.
    fn worsening(&self, difference: f64) -> f64 {
        match self.direction {
            Direction::LowerIsBetter => difference,
            Direction::HigherIsBetter => -difference,
        }
    }

    pub(super) fn inconclusive(mut self, reason: String) -> Self {
        self.reason = reason;
        self
    }

    pub(super) fn judge_value(&mut self, difference: f64, margin: f64) {
        (self.verdict, self.reason) = if self.worsening(difference) > margin {
            (Verdict::Fail, format!("the figure is worse by more than {margin:.4}"))
        } else {
            (Verdict::Pass, format!("the figure is not worse by more than {margin:.4}"))
        };
    }

    pub(super) fn judge(&mut self, estimate: Estimate, level: f64, margin: f64) {
        let Estimate { difference, interval, p, effect } = estimate;
        (self.difference, self.interval, self.p) = (Some(difference), Some(interval), Some(p));
        (self.level, self.effect) = (Some(level), effect);
        // Of ranks, the shift can be zero though the ranks differ: the effect has the direction then.
        let heading = effect.filter(|_| difference == 0.0).unwrap_or(difference);
        let worse = p <= level && self.worsening(heading) > 0.0;
        let worst = self.worsening(interval.0).max(self.worsening(interval.1));
        (self.verdict, self.reason) = if worse && self.worsening(difference) > margin {
            (Verdict::Fail, format!("it is significantly worse, by more than {margin:.4}"))
        } else if worse && difference == 0.0 {
            (
                Verdict::Inconclusive,
                "its ranks are significantly worse, though the typical difference is zero".into(),
            )
        } else if worst <= margin {
            (Verdict::Pass, format!("at worst it is worse by {:.4}, within {margin:.4}", worst.max(0.0)))
        } else if margin == 0.0 {
            let why =
                format!("it may be worse by {worst:.4}, and nothing is tolerated: give a tolerance_absolute");
            (Verdict::Inconclusive, why)
        } else {
            let why = format!(
                "it may be worse by {worst:.4}, and {margin:.4} is tolerated: more samples are needed"
            );
            (Verdict::Inconclusive, why)
        };
    }
}

impl fmt::Display for MetricComparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {}: ", self.verdict, self.metric)?;
        if let (Some(baseline), Some(candidate)) = (self.baseline, self.candidate) {
            write!(f, "{baseline:.4} to {candidate:.4}")?;
            if let Some(improvement) = self.improvement() {
                let word = if improvement < 0.0 { "worse" } else { "better" };
                write!(f, " ({:.1} % {word})", improvement.abs() * 100.0)?;
            }
            f.write_str(", ")?;
        }
        f.write_str(&self.reason)
    }
}
