//! What may be asked of the scheduler. Nothing here changes it.

use std::sync::Arc;

use super::{Mode, Outcome, Plan, Scheduler, Status, Task, UndoStatus};
#[cfg(any(test, feature = "testing"))]
use super::{TaskState, rollback::Rollback};

impl Scheduler {
    pub(crate) fn status(&self, task: Task) -> Status {
        self.task(task).map_or(Status::Waiting, |state| state.status)
    }

    /// The number of items of a fan-out step, once known.
    pub(crate) fn item_count(&self, step: u32) -> Option<u32> {
        self.items.get(&step).map(|items| items.tasks.len() as u32)
    }

    /// Whether only a signal can bring the run on, once every command is obeyed.
    pub(crate) fn is_suspended(&self) -> bool {
        self.mode == Mode::Running
            && self.signals_awaited > 0
            && self.running == 0
            && self.timers == 0
            && self.ready.is_empty()
    }

    /// The steps that wait for their signal now.
    pub(crate) fn awaited_signals(&self) -> impl Iterator<Item = u32> {
        (0..self.tasks.len() as u32)
            .filter(|step| self.tasks[*step as usize].status == Status::AwaitingSignal)
    }

    pub(crate) fn awaits_signal(&self, step: u32) -> bool {
        self.mode == Mode::Running && self.tasks[step as usize].status == Status::AwaitingSignal
    }

    /// Whether a value for the step is of use, now or later.
    pub(crate) fn wants_signal(&self, step: u32) -> bool {
        !self.tasks.get(step as usize).is_none_or(|state| state.status.is_done())
    }

    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.plan
    }

    /// How many steps have a result that stands.
    pub(crate) fn done(&self) -> u32 {
        let done = |step: &u32| self.tasks[*step as usize].status.is_done() && !self.is_undone(*step);
        (0..self.tasks.len() as u32).filter(done).count() as u32
    }

    /// Attempts of the task that were ever started.
    pub(crate) fn attempts(&self, task: Task) -> u32 {
        self.task(task).map_or(0, |state| state.attempt)
    }

    /// Everything by which two states can differ towards the outside.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn snapshot(&self) -> Vec<String> {
        // A step that was polled and not started is as ready as one that was not polled.
        let status = |state: &TaskState| match state.status {
            Status::Preparing => (Status::Ready, state.attempt, state.tries),
            status => (status, state.attempt, state.tries),
        };
        let mut all: Vec<String> = self.tasks.iter().map(|state| format!("{:?}", status(state))).collect();
        let items: std::collections::BTreeMap<_, _> = self.items.iter().collect();
        for (step, items) in items {
            all.extend(items.tasks.iter().map(|state| format!("{step}: {:?}", status(state))));
        }
        all.push(format!("{:?} {} {}", self.mode, self.left, self.running));
        all.push(format!("{:?}", self.rollback.as_ref().map(Rollback::snapshot)));
        all
    }

    pub(crate) fn is_rolled_back(&self) -> bool {
        self.is_finished() && self.rollback.is_some() && self.outcome() != Some(Outcome::Stuck)
    }

    pub(crate) fn is_finished(&self) -> bool {
        matches!(self.mode, Mode::Finished(_))
    }

    /// Whether nothing is left but to record how the run ended, or not even that.
    pub(crate) fn is_over(&self) -> bool {
        matches!(self.mode, Mode::Finishing(_) | Mode::Finished(_))
    }

    /// The longest that the task may have to wait for its next attempt.
    pub(crate) fn longest_delay(&self, task: Task) -> Option<i64> {
        let step = &self.plan.steps[task.step as usize];
        match self.undo_status(task) {
            Some(UndoStatus::BackingOff) => Some(step.retries.undo().delay(u32::MAX, 0)),
            _ if self.status(task) == Status::BackingOff => Some(step.retries.step().delay(u32::MAX, 0)),
            _ => None,
        }
    }

    pub(crate) fn outcome(&self) -> Option<Outcome> {
        match self.mode {
            Mode::Finished(outcome) => Some(outcome),
            _ => None,
        }
    }

    /// The moment from which no further attempt of the step may begin or go on.
    pub(crate) fn deadline(&self, task: Task) -> Option<i64> {
        let total = self.plan.steps[task.step as usize].total_timeout?;
        let state = self.task(task)?;
        (state.first_started != i64::MIN).then(|| state.first_started.saturating_add(total))
    }
}
