//! How a version comes to serve everybody, step by step: the plan, where it stands, and what comes next.

mod progress;
mod ramp;
mod source;
mod status;
mod stored;
#[cfg(feature = "toml")]
mod toml;

pub(crate) use progress::{Step, Todo, Traffic, arrive};
pub(crate) use ramp::ramped;
pub use source::{MetricSource, Observed, Window};
pub use status::{RolloutPhase, RolloutStatus};

use std::fmt;
use std::time::Duration;

use crate::error::{Error, Result};
use crate::judge::Judge;
use crate::traffic::WHOLE;

/// One percent in basis points.
const ONE: u16 = WHOLE / 100;

/// Nobody looks more often.
const SHORTEST: Duration = Duration::from_millis(1);

/// No step takes longer.
const LONGEST: Duration = Duration::from_secs(3_660 * 24 * 3600);

/// A plan to bring a version to a channel: its steps, one after the other, and who judges it.
///
/// ```
/// use std::time::Duration;
/// use swarm_registry::{Criterion, Judge, OnDeadline, Rollout};
///
/// let hours = |hours: u64| Duration::from_secs(hours * 3600);
/// let plan = Rollout::new()
///     .weight(20.0)
///     .analysis(hours(24))
///     .approval("the release manager looks at the figures")
///     .weight(100.0)
///     .judge(Judge::new([Criterion::lower_is_better("errors").tolerance_absolute(0.01)]).sequential(10_000))
///     .deadline(hours(12), OnDeadline::Abort);
/// ```
///
/// The judge has an absolute tolerance, since a baseline without any errors leaves a relative one nothing, and the candidate
/// would be held for ever.
///
/// Setters do not fail; [`start_rollout`](crate::VersionRegistry::start_rollout) tells what is wrong, all of it at once.
/// The same plan serves for every version.
#[derive(Debug, Clone, PartialEq)]
#[must_use = "it is begun by VersionRegistry::start_rollout"]
pub struct Rollout {
    steps: Vec<RolloutStep>,
    judge: Option<Judge>,
    look_every: Duration,
    deadline: Option<(Duration, OnDeadline)>,
}

/// One step of a [`Rollout`].
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum RolloutStep {
    /// Gives the candidate this percentage of the traffic. What else is served shrinks in proportion.
    Weight(f64),
    /// Lets this time pass.
    Hold(Duration),
    /// Looks at what is measured for this time, and longer where that says nothing.
    Analysis(Duration),
    /// Waits until someone approves. The text says what of.
    Approval(String),
}

/// What becomes of a rollout whose deadline has passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum OnDeadline {
    /// It ends, and the split before it is restored.
    Abort,
    /// It pauses as it stands, until someone resumes, skips or aborts it.
    Pause,
}

impl Default for Rollout {
    fn default() -> Self {
        Rollout::new()
    }
}

impl Rollout {
    /// A plan without steps.
    pub fn new() -> Self {
        Rollout { steps: Vec::new(), judge: None, look_every: Duration::from_secs(60), deadline: None }
    }

    /// Then gives the candidate `percent` of the traffic, with at most two decimals. Each weight is more than the one before,
    /// and one of them at least is over 1: a plan that gives no more than 1 % is taken for one of fractions.
    pub fn weight(mut self, percent: f64) -> Self {
        self.steps.push(RolloutStep::Weight(percent));
        self
    }

    /// Then lets `time` pass, without looking at anything: a warm-up.
    pub fn hold(mut self, time: Duration) -> Self {
        self.steps.push(RolloutStep::Hold(time));
        self
    }

    /// Then looks at what is measured, from the beginning of this step on, again and again for `time`.
    ///
    /// A look that says [`Verdict::Fail`](crate::Verdict::Fail) ends the rollout at once, and the split before it is
    /// restored. Once `time` is over, a look that says [`Verdict::Pass`](crate::Verdict::Pass) ends the step. As long as it
    /// is [`Verdict::Inconclusive`](crate::Verdict::Inconclusive) then, the rollout is held where it is, and looks on.
    pub fn analysis(mut self, time: Duration) -> Self {
        self.steps.push(RolloutStep::Analysis(time));
        self
    }

    /// Then waits until someone [approves](crate::VersionRegistry::approve_rollout) of `what`.
    pub fn approval(mut self, what: impl Into<String>) -> Self {
        self.steps.push(RolloutStep::Approval(what.into()));
        self
    }

    /// Who says whether the candidate is worse. It must be a [sequential](Judge::sequential) one, since it is asked often.
    /// Its `alpha` is that of each analysis.
    pub fn judge(mut self, judge: Judge) -> Self {
        self.judge = Some(judge);
        self
    }

    /// How often an analysis looks: every minute unless told otherwise, and at most once a millisecond.
    pub fn look_every(mut self, interval: Duration) -> Self {
        self.look_every = interval;
        self
    }

    /// How long the rollout waits for what may never come, an approval or the end of an inconclusive analysis after its
    /// time, and what then. Without a deadline it waits until someone does something.
    pub fn deadline(mut self, after: Duration, then: OnDeadline) -> Self {
        self.deadline = Some((after, then));
        self
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[RolloutStep] {
        &self.steps
    }

    /// The judge, where there is one.
    pub fn judged_by(&self) -> Option<&Judge> {
        self.judge.as_ref()
    }

    /// How often an analysis looks.
    pub fn looks_every(&self) -> Duration {
        self.look_every
    }

    /// How long it waits for what may never come, and what then; `None` where it waits for as long as it takes.
    pub fn waits(&self) -> Option<(Duration, OnDeadline)> {
        self.deadline
    }

    /// Lists everything that is wrong with it.
    pub(crate) fn check(&self) -> Result<()> {
        let mut wrong = Vec::new();
        let mut weight = 0_u16;
        for (at, step) in self.steps.iter().enumerate() {
            let mut note = |why: String| wrong.push(format!("step {at}, {step}, {why}"));
            match step {
                RolloutStep::Weight(percent) => match points(*percent) {
                    Some(points) if points > weight => weight = points,
                    Some(_) => note("is not more than what the candidate has by then".to_owned()),
                    None => note("is no percentage with at most two decimals".to_owned()),
                },
                RolloutStep::Analysis(_) if weight == 0 => {
                    note("comes before the candidate has any traffic".to_owned());
                }
                RolloutStep::Analysis(_) if weight == WHOLE => {
                    note("comes when nothing is left to compare with".to_owned());
                }
                RolloutStep::Approval(what) if what.trim().is_empty() => {
                    note("does not say what of".to_owned());
                }
                _ => {}
            }
            if let RolloutStep::Hold(time) | RolloutStep::Analysis(time) = step
                && *time > LONGEST
            {
                note("takes more than ten years".to_owned());
            }
        }
        let analyses = self.steps.iter().any(|step| matches!(step, RolloutStep::Analysis(_)));
        match &self.judge {
            Some(judge) => {
                if let Err(error) = judge.check() {
                    wrong.push(format!("of the judge, {error}"));
                }
                if analyses && !judge.is_sequential() {
                    wrong.push("the judge is asked often, and is not a sequential one".to_owned());
                }
            }
            None if analyses => wrong.push("there is an analysis and no judge".to_owned()),
            None => {}
        }
        if (1..=ONE).contains(&weight) {
            wrong.push("no weight is over 1 %: they look like fractions; weights are percentages".to_owned());
        }
        if weight == 0 {
            wrong.push("no step gives the candidate any traffic".to_owned());
        }
        if !(SHORTEST..=LONGEST).contains(&self.look_every) {
            let why = "which is not between a millisecond and ten years";
            wrong.push(format!("it looks every {:?}, {why}", self.look_every));
        }
        if self.deadline.is_some_and(|(after, _)| after > LONGEST) {
            wrong.push("the deadline is more than ten years away".to_owned());
        }
        if wrong.is_empty() {
            return Ok(());
        }
        Err(Error::input(format!("the plan is not acceptable: {}", wrong.join("; "))))
    }
}

impl fmt::Display for RolloutStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RolloutStep::Weight(percent) => write!(f, "weight {percent} %"),
            RolloutStep::Hold(time) => write!(f, "hold {}", shown(*time)),
            RolloutStep::Analysis(time) => write!(f, "analysis {}", shown(*time)),
            RolloutStep::Approval(what) => write!(f, "approval {what:?}"),
        }
    }
}

/// The basis points of a percentage, if it is one above 0.
pub(crate) fn points(percent: f64) -> Option<u16> {
    let exact = percent * 100.0;
    let fits = exact >= 1.0 && exact <= f64::from(WHOLE) && (exact - exact.round()).abs() < 1e-6;
    // At most 10,000, which was just checked.
    fits.then(|| exact.round() as u16)
}

/// A duration as plans write it: `1d12h`.
fn shown(time: Duration) -> String {
    if time.subsec_millis() != 0 || time.is_zero() {
        return format!("{time:?}");
    }
    let mut seconds = time.as_secs();
    let mut out = String::new();
    for (unit, length) in [("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1)] {
        if seconds >= length {
            out += &format!("{}{unit}", seconds / length);
            seconds %= length;
        }
    }
    out
}
