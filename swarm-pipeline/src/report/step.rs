//! What became of one step.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::gate::GateResult;
use crate::step_error::StepError;

/// What became of one step.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct StepReport {
    /// The step's name.
    pub name: String,
    /// How it stands.
    pub status: StepStatus,
    /// Every attempt, in the order they began; those of all items in a fan-out step.
    pub attempts: Vec<AttemptReport>,
    /// The number of items of a fan-out step, once known.
    pub items: Option<u32>,
    /// Whether it was undone, where the run was rolled back and the step has an undo.
    pub undo: Option<UndoState>,
    /// From the end of its last dependency (or of the start of the run) to its first attempt.
    pub waited: Option<Duration>,
}

/// One attempt of a step.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct AttemptReport {
    /// Its number, from 1.
    pub attempt: u32,
    /// The item, in a fan-out step.
    pub item: Option<u32>,
    /// When it began.
    pub started: DateTime<Utc>,
    /// When its end was known; absent where the process died before.
    pub ended: Option<DateTime<Utc>>,
    /// Why it failed, if it did.
    pub error: Option<StepError>,
    /// What the gates said of its output.
    pub gates: Vec<GateResult>,
    /// Whether this is an attempt to undo the step.
    pub undo: bool,
}

impl AttemptReport {
    /// From start to end.
    pub fn duration(&self) -> Option<Duration> {
        (self.ended? - self.started).to_std().ok()
    }
}

impl StepReport {
    /// The error of the last attempt that was no undo.
    pub fn error(&self) -> Option<&StepError> {
        self.attempts.iter().rev().find(|attempt| !attempt.undo)?.error.as_ref()
    }

    /// The time all attempts took together, without the delays between them.
    pub fn busy(&self) -> Duration {
        self.attempts.iter().filter(|attempt| !attempt.undo).filter_map(AttemptReport::duration).sum()
    }
}

/// How a step stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StepStatus {
    /// Not reached.
    Waiting,
    /// An attempt was under way, or waits for its next one, a time or a signal.
    Open,
    /// Done, with a result.
    Succeeded,
    /// Done by the result of an earlier run.
    Reused,
    /// Its condition, or that of a step it needs, said no.
    Skipped,
    /// Failed for good.
    Failed,
    /// A step it needs failed.
    Blocked,
}

impl fmt::Display for StepStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StepStatus::Waiting => "waiting",
            StepStatus::Open => "open",
            StepStatus::Succeeded => "succeeded",
            StepStatus::Reused => "reused",
            StepStatus::Skipped => "skipped",
            StepStatus::Failed => "failed",
            StepStatus::Blocked => "blocked",
        })
    }
}

/// Whether a step was undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UndoState {
    /// Waits for what depends on it to be undone, or for its next attempt.
    Pending,
    /// Undone.
    Done,
    /// Every attempt failed.
    Stuck,
}

/// Why a step ran, or did not; see [`RunReport::why`](crate::RunReport::why).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// It had no result yet.
    Ran {
        /// How many attempts it took.
        attempts: u32,
    },
    /// Its definition, or that of a step it depends on, changed since the run began.
    Changed,
    /// An operator asked for it to run again, or for a step it depends on.
    Asked,
    /// Its result was recorded before this driver took the run over; it did not run again.
    Recorded,
    /// The result of an earlier run serves.
    Reused {
        /// That run's id.
        from: String,
    },
    /// Its own condition said no.
    ConditionFalse,
    /// A step it needs was skipped.
    SkippedWith {
        /// That step.
        step: String,
    },
    /// A step it needs failed.
    BlockedBy {
        /// That step.
        step: String,
    },
    /// Its signal came, or its time.
    Waited,
    /// It waits for its signal, or its time.
    Waiting,
    /// The run ended, or was suspended, before its turn came.
    NotReached,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Ran { attempts: 1 } => f.write_str("ran: it had no result yet"),
            Why::Ran { attempts } => write!(f, "ran: it had no result yet, and took {attempts} attempts"),
            Why::Changed => f.write_str("ran again: its definition, or one it depends on, changed"),
            Why::Asked => f.write_str("ran again: an operator asked for it"),
            Why::Recorded => f.write_str("kept: its result was recorded before this run was taken up again"),
            Why::Reused { from } => write!(f, "reused: run {from} had the same inputs"),
            Why::ConditionFalse => f.write_str("skipped: its condition was false"),
            Why::SkippedWith { step } => write!(f, "skipped: it needs {step:?}, which was skipped"),
            Why::BlockedBy { step } => write!(f, "not run: it needs {step:?}, which failed"),
            Why::Waited => f.write_str("done: what it waited for has come"),
            Why::Waiting => f.write_str("open: what it waits for has not come"),
            Why::NotReached => f.write_str("not run: the run ended before its turn came"),
        }
    }
}
