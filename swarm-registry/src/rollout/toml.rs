use std::time::Duration;

use serde::Deserialize;

use super::{OnDeadline, Rollout};
use crate::error::{Error, Result};
use crate::judge::{Criterion, Judge};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Plan {
    steps: Vec<Step>,
    judge: Option<JudgeTable>,
    look_every: Option<Span>,
    deadline: Option<Deadline>,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Step {
    Weight(f64),
    Hold(Span),
    Analysis(Span),
    Approval(String),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Deadline {
    after: Span,
    then: Then,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Then {
    Abort,
    Pause,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct JudgeTable {
    planned_samples: u64,
    alpha: Option<f64>,
    minimum_samples: Option<u64>,
    metrics: Vec<Metric>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Metric {
    name: String,
    better: Better,
    tolerance: Option<f64>,
    tolerance_absolute: Option<f64>,
    #[serde(default)]
    ranks: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Better {
    Lower,
    Higher,
}

/// A duration such as `1d12h`, `90m` or `250ms`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Span(Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no duration; write it as in 1d12h, 90m or 250ms");
        let mut rest = text.as_str();
        let mut millis: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
            let (number, tail) = rest.split_at(digits);
            let letters = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
            let (unit, tail) = tail.split_at(letters);
            let length: u64 = match unit {
                "d" => 86_400_000,
                "h" => 3_600_000,
                "m" => 60_000,
                "s" => 1_000,
                "ms" => 1,
                _ => return Err(wrong()),
            };
            let number: u64 = number.parse().map_err(|_| wrong())?;
            let part = number.checked_mul(length).ok_or_else(wrong)?;
            millis = millis.checked_add(part).ok_or_else(wrong)?;
            rest = tail;
        }
        if text.is_empty() { Err(wrong()) } else { Ok(Span(Duration::from_millis(millis))) }
    }
}

impl Rollout {
    /// Reads a plan from TOML (feature `toml`).
    ///
    /// ```
    /// use std::time::Duration;
    /// use swarm_registry::{Criterion, Judge, OnDeadline, Rollout};
    ///
    /// let plan = Rollout::from_toml(r#"
    ///     look_every = "5m" # 1m where it is left out
    ///     deadline = { after = "12h", then = "abort" } # or "pause"; none where it is left out
    ///     steps = [
    ///         { weight = 20 },
    ///         { hold = "10m" },
    ///         { analysis = "24h" },
    ///         { approval = "the release manager looks at the figures" },
    ///         { weight = 100 },
    ///     ]
    ///
    ///     [judge]
    ///     planned_samples = 10_000
    ///     alpha = 0.05         # these two are those of Judge::new where they are left out
    ///     minimum_samples = 10
    ///
    ///     [[judge.metrics]]
    ///     name = "errors"
    ///     better = "lower"     # or "higher"
    ///     tolerance = 0.05     # that of Criterion where it is left out; ranks can stand here too
    ///     tolerance_absolute = 0.01 # of the errors of a baseline without any, 0.05 is nothing, and nobody is promoted
    /// "#)?;
    /// let minutes = |minutes: u64| Duration::from_secs(minutes * 60);
    /// let same = Rollout::new()
    ///     .weight(20.0)
    ///     .hold(minutes(10))
    ///     .analysis(minutes(24 * 60))
    ///     .approval("the release manager looks at the figures")
    ///     .weight(100.0)
    ///     .look_every(minutes(5))
    ///     .deadline(minutes(12 * 60), OnDeadline::Abort)
    ///     .judge(Judge::new([Criterion::lower_is_better("errors").tolerance_absolute(0.01)]).sequential(10_000));
    /// assert_eq!(plan, same);
    /// # Ok::<(), swarm_registry::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput), whose source names line and column, where it is not TOML,
    /// or has keys or values that are none of a plan; and where the plan is not acceptable, listing everything.
    pub fn from_toml(text: &str) -> Result<Self> {
        let plan: Plan =
            toml::from_str(text).map_err(|error| Error::input("the plan cannot be read").because(error))?;
        let mut rollout = Rollout::new();
        for step in plan.steps {
            rollout = match step {
                Step::Weight(percent) => rollout.weight(percent),
                Step::Hold(Span(time)) => rollout.hold(time),
                Step::Analysis(Span(time)) => rollout.analysis(time),
                Step::Approval(what) => rollout.approval(what),
            };
        }
        if let Some(Span(interval)) = plan.look_every {
            rollout = rollout.look_every(interval);
        }
        if let Some(Deadline { after: Span(after), then }) = plan.deadline {
            rollout = rollout.deadline(
                after,
                match then {
                    Then::Abort => OnDeadline::Abort,
                    Then::Pause => OnDeadline::Pause,
                },
            );
        }
        if let Some(table) = plan.judge {
            rollout = rollout.judge(table.judge());
        }
        rollout.check()?;
        Ok(rollout)
    }
}

impl JudgeTable {
    fn judge(self) -> Judge {
        let criteria = self.metrics.into_iter().map(|metric| {
            let mut criterion = match metric.better {
                Better::Lower => Criterion::lower_is_better(metric.name),
                Better::Higher => Criterion::higher_is_better(metric.name),
            };
            if let Some(fraction) = metric.tolerance {
                criterion = criterion.tolerance(fraction);
            }
            if let Some(amount) = metric.tolerance_absolute {
                criterion = criterion.tolerance_absolute(amount);
            }
            if metric.ranks { criterion.ranks() } else { criterion }
        });
        let mut judge = Judge::new(criteria).sequential(self.planned_samples);
        if let Some(alpha) = self.alpha {
            judge = judge.alpha(alpha);
        }
        if let Some(samples) = self.minimum_samples {
            judge = judge.minimum_samples(samples);
        }
        judge
    }
}
