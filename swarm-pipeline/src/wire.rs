//! The entries of a run's log as they are written: one JSON object each, `{"step_started": {…}}`.
//!
//! Format 1. Steps are named, so that a log can be read by eye. It holds what is needed to fold it without the pipeline.
//! Times are microseconds since the epoch. Unknown fields are ignored; an unknown entry is an error.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::gate::GateResult;
use crate::scheduler::{Kind, NONE, Outcome, Task};
use crate::step::Artifact;
use crate::step_error::StepError;

/// The newest format this crate reads and the one it writes.
pub(crate) const FORMAT: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Entry<'a> {
    RunStarted {
        at: i64,
        format: u32,
        #[serde(borrow)]
        pipeline: Cow<'a, str>,
        definition: Definition<'a>,
        input: Box<RawValue>,
        /// Microseconds each step was expected to take, 0 where unknown; empty where none is known.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        durations: Vec<u64>,
    },
    Resumed {
        at: i64,
        token: u64,
        pid: u32,
        /// How many steps were done.
        done: u32,
    },
    /// What follows was done by this definition. The results of `rerun` no longer count, and those of `stale` will not
    /// when the run goes forward again.
    Redefined {
        at: i64,
        #[serde(borrow)]
        definition: Definition<'a>,
        rerun: Vec<Cow<'a, str>>,
        #[serde(default, borrow, skip_serializing_if = "Vec::is_empty")]
        stale: Vec<Cow<'a, str>>,
    },
    /// An operator asked for `steps` to run again.
    Reset {
        at: i64,
        #[serde(borrow)]
        steps: Vec<Cow<'a, str>>,
        /// Those of `steps` that are fan-outs whose recorded items still stand.
        #[serde(default, borrow, skip_serializing_if = "Vec::is_empty")]
        keep_items: Vec<Cow<'a, str>>,
    },
    StepStarted(#[serde(borrow)] Attempt<'a>),
    StepSucceeded {
        #[serde(borrow, flatten)]
        attempt: Attempt<'a>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        gates: Vec<GateResult>,
        output: Stored,
    },
    StepFailed {
        #[serde(borrow, flatten)]
        attempt: Attempt<'a>,
        error: StepError,
        /// When the next attempt may begin, if there is to be one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        again: Option<i64>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        gates: Vec<GateResult>,
        /// What a gate refused.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<Stored>,
    },
    /// The condition said yes.
    StepPrepared {
        at: i64,
        #[serde(borrow)]
        step: Cow<'a, str>,
    },
    StepSkipped {
        at: i64,
        #[serde(borrow)]
        step: Cow<'a, str>,
    },
    StepReused {
        at: i64,
        #[serde(borrow)]
        step: Cow<'a, str>,
        from: Cow<'a, str>,
        output: Stored,
    },
    FannedOut {
        at: i64,
        #[serde(borrow)]
        step: Cow<'a, str>,
        items: u32,
    },
    Sleeping {
        at: i64,
        #[serde(borrow)]
        step: Cow<'a, str>,
        until: i64,
    },
    TimerFired {
        at: i64,
        #[serde(borrow)]
        step: Cow<'a, str>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        item: Option<u32>,
    },
    /// A value came. It is the output of the step once an attempt has taken it.
    Signalled {
        at: i64,
        #[serde(borrow)]
        step: Cow<'a, str>,
        value: Box<RawValue>,
    },
    CancelRequested {
        at: i64,
    },
    UndoStarted(#[serde(borrow)] Attempt<'a>),
    UndoSucceeded(#[serde(borrow)] Attempt<'a>),
    UndoFailed {
        #[serde(borrow, flatten)]
        attempt: Attempt<'a>,
        error: StepError,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        again: Option<i64>,
    },
    UndoRetried {
        at: i64,
        #[serde(borrow)]
        step: Cow<'a, str>,
    },
    UndoMarked {
        at: i64,
        #[serde(borrow)]
        step: Cow<'a, str>,
    },
    RollbackRequested {
        at: i64,
    },
    Finished {
        at: i64,
        outcome: OutcomeName,
    },
}

/// What the entries that follow it were decided by: all of a pipeline but code, limits and the numbers of policies,
/// whose decisions are in the entries themselves.
#[derive(Serialize, Deserialize, PartialEq)]
pub(crate) struct Definition<'a> {
    #[serde(borrow)]
    pub(crate) steps: Vec<Step<'a>>,
    /// Whether steps that do not depend on a failed one still run.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) carry_on: bool,
    /// Whether a run that fails is undone without being asked.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) rollback: bool,
}

#[derive(Serialize, Deserialize, PartialEq)]
pub(crate) struct Step<'a> {
    #[serde(borrow)]
    pub(crate) name: Cow<'a, str>,
    /// [`Pipeline::step_fingerprint`](crate::Pipeline).
    pub(crate) print: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "KindName::is_task")]
    pub(crate) kind: KindName,
    /// The places, in the list of steps, of those it depends on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) after: Vec<u32>,
    /// Those of `after` that may be skipped.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) optional: Vec<u32>,
    /// Whether it has an undo.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) undo: bool,
    /// Whether it is looked at before it is dispatched.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(crate) prepare: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum KindName {
    #[default]
    Task,
    ForEach,
    Signal,
    Sleep,
}

impl KindName {
    fn is_task(&self) -> bool {
        *self == KindName::Task
    }
}

impl From<Kind> for KindName {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Task => KindName::Task,
            Kind::ForEach => KindName::ForEach,
            Kind::Signal => KindName::Signal,
            Kind::Sleep => KindName::Sleep,
        }
    }
}

impl From<KindName> for Kind {
    fn from(kind: KindName) -> Self {
        match kind {
            KindName::Task => Kind::Task,
            KindName::ForEach => Kind::ForEach,
            KindName::Signal => Kind::Signal,
            KindName::Sleep => Kind::Sleep,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct Attempt<'a> {
    pub(crate) at: i64,
    #[serde(borrow)]
    pub(crate) step: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) item: Option<u32>,
    pub(crate) attempt: u32,
}

impl<'a> Attempt<'a> {
    pub(crate) fn new(at: i64, step: &'a str, task: Task, attempt: u32) -> Self {
        Attempt { at, step: Cow::Borrowed(step), item: item(task), attempt }
    }
}

pub(crate) fn item(task: Task) -> Option<u32> {
    (task.item != NONE).then_some(task.item)
}

/// An output in the log, or where it is kept.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Stored {
    Inline(Box<RawValue>),
    Artifact(Artifact),
    /// In a fan-out step the items are recorded one by one.
    Items,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutcomeName {
    Succeeded,
    Failed,
    Cancelled,
    RolledBack,
    Stuck,
}

impl From<Outcome> for OutcomeName {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => OutcomeName::Succeeded,
            Outcome::Failed => OutcomeName::Failed,
            Outcome::Cancelled => OutcomeName::Cancelled,
            Outcome::RolledBack => OutcomeName::RolledBack,
            Outcome::Stuck => OutcomeName::Stuck,
        }
    }
}

impl From<OutcomeName> for Outcome {
    fn from(outcome: OutcomeName) -> Self {
        match outcome {
            OutcomeName::Succeeded => Outcome::Succeeded,
            OutcomeName::Failed => Outcome::Failed,
            OutcomeName::Cancelled => Outcome::Cancelled,
            OutcomeName::RolledBack => Outcome::RolledBack,
            OutcomeName::Stuck => Outcome::Stuck,
        }
    }
}

impl Entry<'_> {
    /// When it happened.
    pub(crate) fn at(&self) -> i64 {
        match self {
            Entry::StepStarted(attempt)
            | Entry::UndoStarted(attempt)
            | Entry::UndoSucceeded(attempt)
            | Entry::StepSucceeded { attempt, .. }
            | Entry::StepFailed { attempt, .. }
            | Entry::UndoFailed { attempt, .. } => attempt.at,
            Entry::RunStarted { at, .. }
            | Entry::Resumed { at, .. }
            | Entry::Redefined { at, .. }
            | Entry::Reset { at, .. }
            | Entry::StepPrepared { at, .. }
            | Entry::StepSkipped { at, .. }
            | Entry::StepReused { at, .. }
            | Entry::FannedOut { at, .. }
            | Entry::Sleeping { at, .. }
            | Entry::TimerFired { at, .. }
            | Entry::Signalled { at, .. }
            | Entry::CancelRequested { at }
            | Entry::UndoRetried { at, .. }
            | Entry::UndoMarked { at, .. }
            | Entry::RollbackRequested { at }
            | Entry::Finished { at, .. } => *at,
        }
    }
}
