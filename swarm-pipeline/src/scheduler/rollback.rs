//! Going back: the undo of every step that is done or may be done, dependents before dependencies.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::{Command, Mode, NONE, Outcome, Scheduler, Task, TaskState, chance};

/// The state of a rollback.
#[derive(Debug, Clone)]
pub(super) struct Rollback {
    undos: BTreeMap<Task, Undo>,
    /// For each step, its dependents that are not settled.
    pending: Vec<u32>,
    /// For each step, its own undos that are not done.
    open: Vec<u32>,
    ready: VecDeque<Task>,
    /// Undos that are running or wait for their next attempt.
    active: u32,
}

#[derive(Debug, Clone, Copy)]
struct Undo {
    status: UndoStatus,
    attempt: u32,
    tries: u32,
    timer: i64,
}

/// Where the undo of one task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum UndoStatus {
    /// A dependent is not undone yet.
    Waiting,
    Ready,
    Running,
    BackingOff,
    Done,
    Stuck,
}

impl Rollback {
    #[cfg(any(test, feature = "testing"))]
    pub(super) fn snapshot(&self) -> Vec<(Task, UndoStatus, u32)> {
        self.undos.iter().map(|(task, undo)| (*task, undo.status, undo.attempt)).collect()
    }

    /// In a folded log tasks are started without having been polled, so that they are still in the queue.
    fn drop_stale(&mut self) {
        while self.ready.front().is_some_and(|task| self.undos[task].status != UndoStatus::Ready) {
            self.ready.pop_front();
        }
    }

    fn of(&self, step: u32) -> impl Iterator<Item = &Undo> {
        self.undos.range(Task { step, item: 0 }..=Task { step, item: NONE }).map(|(_, undo)| undo)
    }

    pub(super) fn touched(&self, step: u32) -> bool {
        self.of(step).next().is_some()
    }
}

impl Scheduler {
    pub(crate) fn undo_status(&self, task: Task) -> Option<UndoStatus> {
        Some(self.rollback.as_ref()?.undos.get(&task)?.status)
    }

    /// Where the undos of a step and of its items stand.
    pub(crate) fn undo_statuses(&self, step: u32) -> impl Iterator<Item = UndoStatus> {
        self.rollback.iter().flat_map(move |rollback| rollback.of(step)).map(|undo| undo.status)
    }

    pub(super) fn begin_rollback(&mut self, outcome: Outcome, undo: bool) {
        if !undo {
            return self.finish(outcome);
        }
        self.commands.retain(|command| matches!(command, Command::CancelInFlight { .. }));
        let count = self.tasks.len();
        let mut rollback = Rollback {
            undos: BTreeMap::new(),
            pending: (0..count as u32).map(|step| self.plan.graph.dependents(step).len() as u32).collect(),
            open: vec![0; count],
            ready: VecDeque::new(),
            active: 0,
        };
        let undo = |state: &TaskState| Undo {
            status: UndoStatus::Waiting,
            attempt: state.undo_attempts,
            tries: 0,
            timer: 0,
        };
        for (step, plan) in self.plan.steps.iter().enumerate() {
            if !plan.undo {
                continue;
            }
            let step = step as u32;
            let state = &self.tasks[step as usize];
            if state.left_traces() {
                rollback.undos.insert(Task::of(step), undo(state));
                rollback.open[step as usize] += 1;
            }
            let items = self.items.get(&step).map_or(&[][..], |items| &items.tasks);
            for (item, state) in items.iter().enumerate().filter(|(_, state)| state.left_traces()) {
                rollback.undos.insert(Task { step, item: item as u32 }, undo(state));
                rollback.open[step as usize] += 1;
            }
        }
        for (task, state) in self.former_items.iter().filter(|(_, state)| state.left_traces()) {
            if self.plan.steps[task.step as usize].undo {
                rollback.undos.entry(*task).or_insert_with(|| {
                    rollback.open[task.step as usize] += 1;
                    undo(state)
                });
            }
        }
        self.mode = Mode::RollingBack(outcome);
        self.cause = outcome;
        let leaves = (0..count as u32).filter(|step| rollback.pending[*step as usize] == 0).collect();
        self.rollback = Some(rollback);
        self.reach(leaves);
        self.settle_rollback();
    }

    /// Every dependent of `steps` is settled: undo them, or pass on to what they depend on.
    fn reach(&mut self, mut steps: Vec<u32>) {
        let plan = Arc::clone(&self.plan);
        let Some(rollback) = &mut self.rollback else { return };
        while let Some(step) = steps.pop() {
            if rollback.open[step as usize] > 0 {
                let tasks = rollback.undos.range_mut(Task { step, item: 0 }..=Task { step, item: NONE });
                // Later items first.
                for (task, undo) in tasks.rev().filter(|(_, undo)| undo.status == UndoStatus::Waiting) {
                    undo.status = UndoStatus::Ready;
                    rollback.ready.push_back(*task);
                }
                continue;
            }
            for &dependency in plan.graph.dependencies(step) {
                let pending = &mut rollback.pending[dependency as usize];
                *pending -= 1;
                if *pending == 0 {
                    steps.push(dependency);
                }
            }
        }
    }

    pub(super) fn next_undo(&mut self) -> Option<Command> {
        let concurrency = self.plan.concurrency;
        let rollback = self.rollback.as_mut()?;
        if rollback.active >= concurrency {
            return None;
        }
        rollback.drop_stale();
        let task = rollback.ready.pop_front()?;
        let attempt = rollback.undos.get(&task)?.attempt + 1;
        Some(Command::Compensate { task, attempt })
    }

    fn undo_mut(&mut self, task: Task) -> Option<&mut Undo> {
        self.rollback.as_mut()?.undos.get_mut(&task)
    }

    pub(super) fn undo_started(&mut self, task: Task, attempt: u32) -> bool {
        let Some(undo) = self.undo_mut(task).filter(|undo| undo.status == UndoStatus::Ready) else {
            return false;
        };
        undo.status = UndoStatus::Running;
        undo.attempt = attempt;
        undo.tries += 1;
        if let Some(rollback) = &mut self.rollback {
            rollback.active += 1;
        }
        if let Some(state) = self.task_mut(task) {
            state.undo_attempts = attempt;
        }
        true
    }

    fn undo_stopped(&mut self, task: Task) -> bool {
        let running = self.undo_mut(task).is_some_and(|undo| undo.status == UndoStatus::Running);
        if running && let Some(rollback) = &mut self.rollback {
            rollback.active -= 1;
        }
        running
    }

    pub(super) fn undo_succeeded(&mut self, task: Task) -> bool {
        self.undo_stopped(task) && {
            self.settle_undo(task);
            self.settle_rollback();
            true
        }
    }

    fn settle_undo(&mut self, task: Task) {
        if let Some(state) = self.task_mut(task) {
            state.undone = state.attempt;
        }
        let Some(rollback) = &mut self.rollback else { return };
        if let Some(undo) = rollback.undos.get_mut(&task) {
            undo.status = UndoStatus::Done;
        }
        rollback.open[task.step as usize] -= 1;
        if rollback.open[task.step as usize] == 0 {
            self.reach(vec![task.step]);
        }
    }

    /// When the undo may be tried again after an attempt that fails at `at`; `retry` says whether its error allows that.
    pub(crate) fn undo_retry_at(&self, task: Task, at: i64, retry: bool) -> Option<i64> {
        let policy = self.plan.steps[task.step as usize].retries.undo();
        let undo = self.rollback.as_ref()?.undos.get(&task)?;
        let delay = policy.delay(undo.tries, !chance(self.seed, task, undo.attempt));
        (retry && undo.tries < policy.attempts()).then(|| at.saturating_add(delay))
    }

    pub(super) fn undo_failed(&mut self, task: Task, again: Option<i64>) -> bool {
        if !self.undo_stopped(task) {
            return false;
        }
        let Some(undo) = self.undo_mut(task) else { return false };
        if let Some(at) = again {
            undo.status = UndoStatus::BackingOff;
            undo.timer = at;
            self.commands.push_back(Command::StartTimer { task, at });
            if let Some(rollback) = &mut self.rollback {
                rollback.active += 1;
            }
        } else {
            undo.status = UndoStatus::Stuck;
        }
        self.settle_rollback();
        true
    }

    /// Whether all that the step did is undone.
    pub(super) fn is_undone(&self, step: u32) -> bool {
        self.rollback.as_ref().is_some_and(|rollback| {
            let mut undos = rollback.of(step).peekable();
            undos.peek().is_some() && undos.all(|undo| undo.status == UndoStatus::Done)
        })
    }

    /// Whether the run is, or is about to be, undone.
    pub(crate) fn is_undoing(&self) -> bool {
        matches!(self.mode, Mode::Draining(_) | Mode::RollingBack(_))
    }

    /// The steps of which something was undone, or was to be.
    pub(crate) fn undone(&self) -> Vec<u32> {
        let mut steps: Vec<u32> =
            self.rollback.iter().flat_map(|rollback| rollback.undos.keys()).map(|task| task.step).collect();
        steps.dedup();
        steps
    }

    /// The steps that still have to be undone.
    pub(crate) fn to_undo(&self) -> Vec<u32> {
        let undos = self.rollback.iter().flat_map(|rollback| &rollback.undos);
        let open = undos.filter(|(_, undo)| undo.status != UndoStatus::Done);
        let mut steps: Vec<u32> = open.map(|(task, _)| task.step).collect();
        steps.dedup();
        steps
    }

    /// The steps with an undo that did something, or may have, that is not undone.
    pub(crate) fn undoable(&self) -> Vec<u32> {
        let items = |step: u32| self.items.get(&step).map_or(&[][..], |items| &items.tasks);
        let of_step = |step: u32| Task { step, item: 0 }..=Task { step, item: NONE };
        let left_traces = |step: &u32| {
            let former = self.former_items.range(of_step(*step)).map(|(_, state)| state);
            let mut all = items(*step).iter().chain(former).chain(self.tasks.get(*step as usize));
            all.any(TaskState::left_traces)
        };
        let has_undo = |step: &u32| self.plan.steps[*step as usize].undo;
        (0..self.tasks.len() as u32).filter(|step| has_undo(step) && left_traces(step)).collect()
    }

    /// Takes the rollback over to a pipeline that numbers its steps otherwise.
    pub(super) fn renumber_rollback(&mut self, numbers: &[Option<u32>]) {
        let plan = Arc::clone(&self.plan);
        let Some(rollback) = &mut self.rollback else { return };
        let undos = std::mem::take(&mut rollback.undos);
        let kept = undos.into_iter().filter_map(|(task, undo)| Some((task.renumbered(numbers)?, undo)));
        rollback.undos = kept.collect();
        let count = plan.steps.len() as u32;
        let of = |step: u32| rollback.undos.range(Task { step, item: 0 }..=Task { step, item: NONE });
        let open = |step: u32| of(step).filter(|(_, undo)| undo.status != UndoStatus::Done).count() as u32;
        rollback.open = (0..count).map(open).collect();
        rollback.pending = (0..count).map(|step| plan.graph.dependents(step).len() as u32).collect();
        rollback.ready.clear();
        for undo in rollback.undos.values_mut().filter(|undo| undo.status == UndoStatus::Ready) {
            undo.status = UndoStatus::Waiting;
        }
        self.reach((0..count).filter(|step| plan.graph.dependents(*step).is_empty()).collect());
    }

    pub(super) fn rollback_timer_fired(&mut self, task: Task) -> bool {
        let Some(undo) = self.undo_mut(task).filter(|undo| undo.status == UndoStatus::BackingOff) else {
            return false;
        };
        // As one that was lost: dependents that are new go first.
        undo.status = UndoStatus::Waiting;
        if let Some(rollback) = &mut self.rollback {
            rollback.active -= 1;
            if rollback.pending[task.step as usize] == 0 {
                self.reach(vec![task.step]);
            }
        }
        self.settle_rollback();
        true
    }

    pub(super) fn rollback_resumed(&mut self) {
        let Some(rollback) = &mut self.rollback else { return };
        rollback.active = 0;
        rollback.ready.clear();
        for (task, undo) in rollback.undos.iter_mut().rev() {
            match undo.status {
                UndoStatus::Running => {
                    undo.tries -= 1;
                    undo.status = if rollback.pending[task.step as usize] == 0 {
                        rollback.ready.push_back(*task);
                        UndoStatus::Ready
                    } else {
                        // The definition changed: there are dependents now that go first.
                        UndoStatus::Waiting
                    };
                }
                UndoStatus::Ready => rollback.ready.push_back(*task),
                UndoStatus::BackingOff => {
                    rollback.active += 1;
                    self.commands.push_back(Command::StartTimer { task: *task, at: undo.timer });
                }
                UndoStatus::Waiting | UndoStatus::Done | UndoStatus::Stuck => {}
            }
        }
        self.settle_rollback();
    }

    fn settle_rollback(&mut self) {
        let (Mode::RollingBack(outcome), Some(rollback)) = (self.mode, &mut self.rollback) else { return };
        rollback.drop_stale();
        if rollback.active == 0 && rollback.ready.is_empty() {
            let stuck = rollback.undos.values().any(|undo| undo.status == UndoStatus::Stuck);
            self.finish(if stuck { Outcome::Stuck } else { outcome });
        }
    }

    fn stuck(&mut self, step: u32) -> Vec<Task> {
        if self.mode != Mode::Finished(Outcome::Stuck) {
            return Vec::new();
        }
        let Some(rollback) = &self.rollback else { return Vec::new() };
        let tasks = rollback.undos.range(Task { step, item: 0 }..=Task { step, item: NONE });
        tasks.filter(|(_, undo)| undo.status == UndoStatus::Stuck).map(|(task, _)| *task).collect()
    }

    /// The steps whose undo failed for good.
    pub(crate) fn stuck_steps(&self) -> Vec<u32> {
        let undos = self.rollback.iter().flat_map(|rollback| &rollback.undos);
        let mut steps: Vec<u32> =
            undos.filter(|(_, undo)| undo.status == UndoStatus::Stuck).map(|(task, _)| task.step).collect();
        steps.dedup();
        steps
    }

    pub(super) fn undo_retried(&mut self, step: u32) -> bool {
        let tasks = self.stuck(step);
        for task in &tasks {
            if let Some(undo) = self.undo_mut(*task) {
                undo.status = UndoStatus::Ready;
                undo.tries = 0;
            }
            if let Some(rollback) = &mut self.rollback {
                rollback.ready.push_back(*task);
            }
        }
        if !tasks.is_empty() {
            self.mode = Mode::RollingBack(self.cause);
        }
        !tasks.is_empty()
    }

    pub(super) fn undo_marked(&mut self, step: u32) -> bool {
        let tasks = self.stuck(step);
        if tasks.is_empty() {
            return false;
        }
        self.mode = Mode::RollingBack(self.cause);
        for task in tasks {
            self.settle_undo(task);
        }
        self.settle_rollback();
        true
    }
}
