//! What goes into the scheduler and what comes out.

use super::NONE;

/// A step, or one item of a fan-out step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Task {
    pub(crate) step: u32,
    /// [`NONE`] for a step that is no fan-out.
    pub(crate) item: u32,
}

impl Task {
    pub(crate) fn of(step: u32) -> Self {
        Task { step, item: NONE }
    }

    pub(crate) fn renumbered(self, numbers: &[Option<u32>]) -> Option<Self> {
        Some(Task { step: numbers[self.step as usize]?, ..self })
    }
}

/// What happened. Times are microseconds since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// The engine has looked; the step is to run.
    Prepared {
        step: u32,
    },
    /// The condition said no.
    Skipped {
        step: u32,
    },
    /// An output of an earlier run serves.
    Reused {
        step: u32,
    },
    /// The list of a fan-out step has this many items.
    FannedOut {
        step: u32,
        items: u32,
    },
    /// A sleeping step is to end at this time.
    Sleeping {
        step: u32,
        until: i64,
    },
    Started {
        task: Task,
        attempt: u32,
        at: i64,
    },
    Succeeded {
        task: Task,
        attempt: u32,
    },
    /// `again` is when the next attempt may begin, as [`Scheduler::retry_at`](super::Scheduler::retry_at) said.
    Failed {
        task: Task,
        attempt: u32,
        again: Option<i64>,
    },
    TimerFired {
        task: Task,
    },
    /// A value has come for a step that waits for a signal, or will. The engine keeps it until
    /// [`Command::TakeSignal`] asks for it.
    Signalled {
        step: u32,
    },
    CancelRequested,
    UndoStarted {
        task: Task,
        attempt: u32,
    },
    UndoSucceeded {
        task: Task,
        attempt: u32,
    },
    /// `again` is when the next attempt may begin, as [`Scheduler::undo_retry_at`](super::Scheduler::undo_retry_at) said.
    UndoFailed {
        task: Task,
        attempt: u32,
        again: Option<i64>,
    },
    /// A new driver took over; what was under way is lost. So many steps are done.
    Resumed {
        done: u32,
    },
    /// An operator put so many steps back to where they had not run.
    Reset {
        steps: u32,
    },
    /// An operator wants what failed in the rollback to be tried again.
    UndoRetried {
        step: u32,
    },
    /// An operator has undone the step by hand.
    UndoMarked {
        step: u32,
    },
    /// An operator wants a run that is over to be undone.
    RollbackRequested,
    Finished {
        outcome: Outcome,
    },
}

/// What the engine is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// Look at condition, reuse, list or wake-up time; answer with `Skipped`, `Reused`, `FannedOut`, `Sleeping` or `Prepared`.
    Prepare {
        step: u32,
    },
    /// Answer with `Started` before the attempt begins.
    Dispatch {
        task: Task,
        attempt: u32,
    },
    /// Answer with `UndoStarted` before the attempt begins.
    Compensate {
        task: Task,
        attempt: u32,
    },
    StartTimer {
        task: Task,
        at: i64,
    },
    /// The step waits for its signal: if its value is there, answer with `Started` and how that ended.
    TakeSignal {
        step: u32,
    },
    /// Tell every attempt under way that its result is no longer wanted.
    CancelInFlight {
        drop: bool,
    },
    /// Answer with `Finished`.
    Finish {
        outcome: Outcome,
    },
}

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Succeeded,
    Failed,
    Cancelled,
    /// Undone by an operator after it was over.
    RolledBack,
    Stuck,
}

impl Event {
    /// The same event of a pipeline that numbers its steps otherwise; none where the step is gone.
    pub(crate) fn renumbered(mut self, numbers: &[Option<u32>]) -> Option<Self> {
        match &mut self {
            Event::Started { task, .. }
            | Event::Succeeded { task, .. }
            | Event::Failed { task, .. }
            | Event::TimerFired { task }
            | Event::UndoStarted { task, .. }
            | Event::UndoSucceeded { task, .. }
            | Event::UndoFailed { task, .. } => *task = task.renumbered(numbers)?,
            Event::Prepared { step }
            | Event::Skipped { step }
            | Event::Reused { step }
            | Event::FannedOut { step, .. }
            | Event::Sleeping { step, .. }
            | Event::Signalled { step }
            | Event::UndoRetried { step }
            | Event::UndoMarked { step } => *step = numbers[*step as usize]?,
            Event::CancelRequested
            | Event::Resumed { .. }
            | Event::Reset { .. }
            | Event::RollbackRequested
            | Event::Finished { .. } => {}
        }
        Some(self)
    }
}
