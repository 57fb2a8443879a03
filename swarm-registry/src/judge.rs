//! Is one version better than another? Directions, tests, verdicts.

mod comparison;
mod estimate;
mod ratio;
mod sequential;
mod special;
mod stored;

pub use comparison::{Comparison, MetricComparison, Verdict};
pub use ratio::SampleRatio;

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{Error, Result};
use crate::measure::Measure;
use crate::name;

use estimate::{Estimate, Summary};

/// Compares what was measured of a candidate with what was measured of a baseline.
///
/// ```
/// use std::collections::BTreeMap;
/// use swarm_registry::{Criterion, Judge, Measure, Verdict};
///
/// let judge = Judge::new([Criterion::lower_is_better("latency_ms"), Criterion::higher_is_better("success")]);
/// let baseline = BTreeMap::from([
///     ("latency_ms".to_string(), Measure::Summary { count: 5_000, mean: 45.2, deviation: 11.0 }),
///     ("success".to_string(), Measure::Proportion { successes: 4_990, trials: 5_000 }),
/// ]);
/// let candidate = BTreeMap::from([
///     ("latency_ms".to_string(), Measure::Summary { count: 1_200, mean: 44.1, deviation: 10.5 }),
///     ("success".to_string(), Measure::Proportion { successes: 1_140, trials: 1_200 }),
/// ]);
/// let comparison = judge.compare(&baseline, &candidate)?;
/// assert_eq!(comparison.verdict(), Verdict::Fail);
/// println!("{comparison}"); // each metric, and why
/// # Ok::<(), swarm_registry::Error>(())
/// ```
///
/// # How a verdict comes about
///
/// - **Fail**: the candidate is significantly worse, and the estimate is worse by more than the tolerance.
/// - **Pass**: not that, and the confidence interval rules out that it is worse by more than the tolerance.
/// - **Inconclusive**: neither; most often there are too few samples.
///
/// So where a candidate is truly no different, the chance of a `Fail` is at most half of `alpha` a metric; where it is truly
/// worse by the tolerance or more, so is that of a `Pass`. Of a `Fail` by small counts of proportions that is exact. Else it
/// holds as means become normal: a few dozen samples that are very skewed have somewhat more, and samples that are all equal
/// say nothing of their spread. The same input gives the same verdict: nothing here is random.
///
/// # What is compared with what
///
/// | baseline and candidate | test |
/// |---|---|
/// | samples, summaries, or one of each | Welch's t test of the means; Mann-Whitney where [`ranks`](Criterion::ranks) asks for it and both are samples |
/// | proportions | two proportions; Fisher's exact test where fewer than 100 successes or failures of one are expected |
/// | single values | none: `Fail` where worse by more than the tolerance, else `Pass`; `Inconclusive` under a [`sequential`](Judge::sequential) judge, for they do not tell how many samples they stand for |
/// | a metric that is missing, of different kinds, NaN or infinite, or of fewer than the minimum of samples | `Inconclusive`, with the reason |
/// | a baseline of zero, or a share of 0 or 1 | as any; the relative difference is `None`, and a relative tolerance is zero: give [`tolerance_absolute`](Criterion::tolerance_absolute) |
/// | samples that are all equal, in both versions | what is seen is what is: the interval is one point. Under a [`sequential`](Judge::sequential) judge `Inconclusive` until the planned number. Of 0 and 1 make a [`Proportion`](Measure::Proportion), whose interval knows better |
#[derive(Debug, Clone, PartialEq)]
pub struct Judge {
    criteria: Vec<Criterion>,
    alpha: f64,
    minimum: u64,
    planned: Option<u64>,
}

/// One metric, which way is better, and by how much it may be worse.
#[derive(Debug, Clone, PartialEq)]
#[must_use]
pub struct Criterion {
    metric: String,
    direction: Direction,
    relative: f64,
    absolute: f64,
    ranks: bool,
}

/// Which way is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// As of errors and latencies.
    LowerIsBetter,
    /// As of coverage and throughput.
    HigherIsBetter,
}

impl Criterion {
    /// A metric such as errors or latency.
    pub fn lower_is_better(metric: impl Into<String>) -> Self {
        Criterion {
            metric: metric.into(),
            direction: Direction::LowerIsBetter,
            relative: 0.05,
            absolute: 0.0,
            ranks: false,
        }
    }

    /// A metric such as coverage or throughput.
    pub fn higher_is_better(metric: impl Into<String>) -> Self {
        Criterion { direction: Direction::HigherIsBetter, ..Criterion::lower_is_better(metric) }
    }

    /// How much worse is still good enough, as a fraction of the baseline: 0.05 unless told otherwise. Of a proportion, it is a
    /// fraction of the smaller of successes and failures, so that 99 % do not become 94 %. Where the baseline is zero, or never
    /// fails, that is nothing, and no number of samples shows that a candidate is not worse at all: give
    /// [`tolerance_absolute`](Criterion::tolerance_absolute) too.
    pub fn tolerance(mut self, fraction: f64) -> Self {
        self.relative = fraction;
        self
    }

    /// How much worse is still good enough, in the unit of the metric; of a proportion, in shares. The larger of the two
    /// tolerances counts.
    pub fn tolerance_absolute(mut self, amount: f64) -> Self {
        self.absolute = amount;
        self
    }

    /// Compares samples by their ranks (Mann-Whitney) instead of their means: for metrics whose mean a few outliers make.
    ///
    /// Ranks do not see how bad the worst are. Where they say that the candidate is worse, though the typical difference is
    /// zero because most samples are equal, the verdict is inconclusive.
    pub fn ranks(mut self) -> Self {
        self.ranks = true;
        self
    }
}

impl Judge {
    /// A judge of these metrics, at a significance level of 0.05 each and a minimum of 10 samples of each version.
    pub fn new(criteria: impl IntoIterator<Item = Criterion>) -> Self {
        Judge { criteria: criteria.into_iter().collect(), alpha: 0.05, minimum: 10, planned: None }
    }

    /// The significance level of each metric.
    #[must_use]
    pub fn alpha(mut self, alpha: f64) -> Self {
        self.alpha = alpha;
        self
    }

    /// How many samples of each version it takes before there is a verdict at all; at least 2.
    #[must_use]
    pub fn minimum_samples(mut self, samples: u64) -> Self {
        self.minimum = samples;
        self
    }

    /// Makes verdicts valid however often one looks, as when a rollout is watched: the chance that a candidate which is no
    /// different is *ever* found so is at most `alpha`.
    ///
    /// `planned` is about how many samples of each version there will be when a decision is wanted; the test is sharpest
    /// there. It must not be chosen after the samples. The price is wider intervals: by half, at that point.
    ///
    /// Measures must be of all samples since the start. The test is the mixture sequential probability ratio test ([Johari and
    /// others, 2022](https://arxiv.org/abs/1512.04922)); it is exact for normal samples of known variance, and for others
    /// holds as their means become normal.
    #[must_use]
    pub fn sequential(mut self, planned: u64) -> Self {
        self.planned = Some(planned);
        self
    }

    /// Compares metric by metric.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) lists what is wrong with the judge itself: no criterion, a
    /// metric twice, an `alpha` outside 0 to 1, a negative tolerance, a minimum below 2, a plan for no samples.
    pub fn compare(
        &self,
        baseline: &BTreeMap<String, Measure>,
        candidate: &BTreeMap<String, Measure>,
    ) -> Result<Comparison> {
        self.check()?;
        let metrics = self.criteria.iter().map(|criterion| {
            self.metric(criterion, baseline.get(&criterion.metric), candidate.get(&criterion.metric))
        });
        Ok(Comparison { metrics: metrics.collect() })
    }

    pub(crate) fn check(&self) -> Result<()> {
        let mut wrong = Vec::new();
        if self.criteria.is_empty() {
            wrong.push("there is no criterion".to_owned());
        }
        if !(self.alpha > 0.0 && self.alpha < 1.0) {
            wrong.push(format!("alpha is {}, which is not between 0 and 1", self.alpha));
        }
        if self.minimum < 2 {
            wrong.push(format!("a minimum of {} samples tells no spread", self.minimum));
        }
        if self.planned == Some(0) {
            wrong.push("0 samples are planned".to_owned());
        }
        let mut seen = BTreeSet::new();
        for criterion in &self.criteria {
            let metric = &criterion.metric;
            if let Err(error) = name::check("metric", metric) {
                wrong.push(error.to_string());
            }
            if !seen.insert(metric) {
                wrong.push(format!("the metric {metric:?} stands twice"));
            }
            for tolerance in [criterion.relative, criterion.absolute] {
                if !(tolerance >= 0.0 && tolerance.is_finite()) {
                    wrong.push(format!("the tolerance of {metric:?} is {tolerance}"));
                }
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(Error::input(wrong.join("; "))) }
    }

    fn metric(&self, criterion: &Criterion, a: Option<&Measure>, b: Option<&Measure>) -> MetricComparison {
        let mut out = MetricComparison::new(&criterion.metric, criterion.direction);
        let (Some(a), Some(b)) = (a, b) else {
            let who = match (a, b) {
                (None, None) => "neither version has",
                (None, _) => "the baseline lacks",
                _ => "the candidate lacks",
            };
            return out.inconclusive(format!("{who} the metric"));
        };
        for (who, measure) in [("baseline", a), ("candidate", b)] {
            if let Err(error) = measure.check(&criterion.metric) {
                return out.inconclusive(format!("of the {who}, {error}"));
            }
        }
        (out.baseline, out.candidate) = (a.mean(), b.mean());
        let single = matches!((a, b), (Measure::Value(_), Measure::Value(_)));
        let least = a.count().min(b.count());
        if !single && least < self.minimum {
            return out.inconclusive(format!("{least} samples of a version are fewer than {}", self.minimum));
        }
        let level = match self.planned {
            Some(_) if single => {
                return out
                    .inconclusive("a single figure does not tell how many samples it stands for".into());
            }
            Some(planned) if least < planned && is_constant(a) && is_constant(b) => {
                let why = "all samples of a version are equal, which tells no spread";
                return out.inconclusive(format!("{why} before the planned {planned}"));
            }
            Some(planned) => sequential::level(self.alpha, a.count(), b.count(), planned),
            None => self.alpha,
        };
        // Below that the points of the distributions cannot be told.
        if level < f64::MIN_POSITIVE {
            return out.inconclusive(format!("{least} samples of a version are too few of those planned"));
        }
        match (a, b) {
            (Measure::Value(a), Measure::Value(b)) => {
                out.difference = Some(b - a);
                out.judge_value(b - a, criterion.margin(*a));
            }
            (
                Measure::Proportion { successes: sa, trials: na },
                Measure::Proportion { successes: sb, trials: nb },
            ) => {
                let estimate = estimate::two_proportions((*sa, *na), (*sb, *nb), level);
                let share = *sa as f64 / *na as f64;
                out.judge(estimate, level, criterion.margin(share.min(1.0 - share)));
            }
            (Measure::Samples(a), Measure::Samples(b)) if criterion.ranks => {
                let estimate = estimate::mann_whitney(a, b, level);
                let mut sorted = a.clone();
                sorted.sort_unstable_by(f64::total_cmp);
                let typical = sorted[sorted.len() / 2];
                out.judge(estimate, level, criterion.margin(typical));
            }
            _ => match (summary(a), summary(b)) {
                (Some(a), Some(b)) => {
                    out.judge(estimate::welch(a, b, level), level, criterion.margin(a.mean));
                }
                _ => return out.inconclusive("the versions were measured in different ways".to_owned()),
            },
        }
        out
    }
}

impl Criterion {
    fn margin(&self, typical: f64) -> f64 {
        (self.relative * typical.abs()).max(self.absolute)
    }
}

fn is_constant(measure: &Measure) -> bool {
    summary(measure).is_some_and(|summary| summary.variance == 0.0)
}

fn summary(measure: &Measure) -> Option<Summary> {
    match measure {
        Measure::Samples(samples) => Some(Summary::of(samples)),
        Measure::Summary { count, mean, deviation } => {
            Some(Summary { count: *count as f64, mean: *mean, variance: deviation * deviation })
        }
        Measure::Value(_) | Measure::Proportion { .. } => None,
    }
}
