use crate::error::{Error, Result};

/// What was measured of one metric, from a single figure to all samples. The more there is, the more a
/// [`Judge`](crate::Judge) can say.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Measure {
    /// A figure without a spread, such as a count of violations. It can be compared, not tested.
    Value(f64),
    /// Every sample.
    Samples(Vec<f64>),
    /// What is left of samples once they are summed up.
    Summary {
        /// How many samples.
        count: u64,
        /// Their mean.
        mean: f64,
        /// Their standard deviation, dividing by `count - 1`.
        deviation: f64,
    },
    /// Successes among trials, such as requests without an error.
    Proportion {
        /// How many succeeded.
        successes: u64,
        /// Of how many.
        trials: u64,
    },
}

impl Measure {
    /// How many observations it stands for; a [`Value`](Measure::Value) is one.
    pub fn count(&self) -> u64 {
        match self {
            Measure::Value(_) => 1,
            Measure::Samples(samples) => samples.len() as u64,
            Measure::Summary { count, .. } => *count,
            Measure::Proportion { trials, .. } => *trials,
        }
    }

    /// The figure itself, the mean, or the share of successes; `None` where there is no observation.
    pub fn mean(&self) -> Option<f64> {
        if self.count() == 0 {
            return None;
        }
        Some(match self {
            Measure::Value(value) => *value,
            Measure::Samples(samples) => samples.iter().sum::<f64>() / samples.len() as f64,
            Measure::Summary { mean, .. } => *mean,
            Measure::Proportion { successes, trials } => *successes as f64 / *trials as f64,
        })
    }

    /// Checks that it can be kept and judged.
    pub(crate) fn check(&self, metric: &str) -> Result<()> {
        let fail = |why: String| Err(Error::input(format!("metric {metric:?} {why}")));
        let finite = |value: f64| {
            if value.is_finite() { Ok(()) } else { fail(format!("is {value}; numbers must be finite")) }
        };
        match self {
            Measure::Value(value) => finite(*value),
            Measure::Samples(samples) => samples.iter().try_for_each(|sample| finite(*sample)),
            Measure::Summary { mean, deviation, .. } => {
                finite(*mean)?;
                finite(*deviation)?;
                if *deviation < 0.0 {
                    return fail(format!("has the standard deviation {deviation}, which is negative"));
                }
                Ok(())
            }
            Measure::Proportion { successes, trials } if successes > trials => {
                fail(format!("has {successes} successes in {trials} trials"))
            }
            Measure::Proportion { .. } => Ok(()),
        }
    }
}

impl From<f64> for Measure {
    fn from(value: f64) -> Self {
        Measure::Value(value)
    }
}

impl From<Vec<f64>> for Measure {
    fn from(samples: Vec<f64>) -> Self {
        Measure::Samples(samples)
    }
}

impl<const N: usize> From<[f64; N]> for Measure {
    fn from(samples: [f64; N]) -> Self {
        Measure::Samples(samples.into())
    }
}
