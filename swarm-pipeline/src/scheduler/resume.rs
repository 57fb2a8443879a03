//! Taking a run up again: after a crash, on an operator's word, or over a changed definition.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::{Command, Group, Items, Mode, ReadySet, Scheduler, Status, Task, TaskState};

impl Scheduler {
    /// Counts everything anew from the states of the tasks, and issues again what is owed.
    pub(super) fn recount(&mut self) {
        let plan = Arc::clone(&self.plan);
        self.ready.clear();
        self.commands.clear();
        (self.left, self.running, self.timers, self.signals_awaited) = (0, 0, 0, 0);
        self.groups.iter_mut().for_each(|group| *group = Group::default());
        let mut reached = Vec::new();
        for step in 0..plan.steps.len() as u32 {
            let satisfied = |dependency: u32| match self.tasks[dependency as usize].status {
                Status::Skipped => plan.optional.contains(&(dependency, step)),
                status => status.is_done(),
            };
            let pending = plan.graph.dependencies(step).iter().filter(|d| !satisfied(**d)).count() as u32;
            self.pending[step as usize] = pending;
            let state = &mut self.tasks[step as usize];
            match state.status {
                Status::Waiting if pending == 0 => reached.push(step),
                Status::Preparing => state.status = Status::Ready,
                Status::AwaitingSignal => self.signals_awaited += 1,
                Status::BackingOff | Status::Sleeping => {
                    self.timers += 1;
                    let (task, at) = (Task::of(step), state.timer);
                    self.commands.push_back(Command::StartTimer { task, at });
                }
                _ => {}
            }
            if !state.status.is_settled() {
                self.left += 1;
            }
            if state.status == Status::Ready {
                self.ready.insert(self.ranks.of[step as usize]);
            }
        }
        reached.into_iter().for_each(|step| self.make_ready(step));
        let waiting: BTreeMap<_, _> = self.items.iter().map(|(step, items)| (*step, items)).collect();
        for (step, items) in waiting {
            for (item, state) in items.tasks.iter().enumerate() {
                if state.status == Status::BackingOff {
                    self.timers += 1;
                    let task = Task { step, item: item as u32 };
                    self.commands.push_back(Command::StartTimer { task, at: state.timer });
                }
            }
        }
    }

    /// What was under way when the last driver died is lost: it runs again, or, when nothing new may be
    /// dispatched, it counts as failed, and what it did may have to be undone.
    pub(super) fn resumed(&mut self) -> bool {
        let draining = self.mode != Mode::Running;
        let lose = |state: &mut TaskState| {
            if state.status == Status::Running {
                state.tries -= 1;
                state.status = if draining { Status::Failed } else { Status::Ready };
            }
        };
        self.tasks.iter_mut().for_each(lose);
        for items in self.items.values_mut() {
            for (item, state) in items.tasks.iter_mut().enumerate() {
                lose(state);
                if state.status == Status::Ready && !items.failed {
                    items.ready.insert(item as u32);
                } else if items.failed && state.status == Status::Ready {
                    state.status = Status::Failed;
                }
            }
            items.running = 0;
        }
        let failing: Vec<u32> =
            self.items.iter().filter(|(_, items)| items.failed).map(|(step, _)| *step).collect();
        let was = self.mode;
        self.recount();
        for step in failing {
            self.settle_items(step);
        }
        match was {
            Mode::Running | Mode::Draining(_) => self.settle(),
            Mode::RollingBack(_) => self.rollback_resumed(),
            Mode::Finishing(outcome) => self.finish(outcome),
            Mode::Finished(_) => {}
        }
        true
    }

    /// Puts the steps in `whole` back to where they have not run, and in those of `keep_items` the items without
    /// a result, in a run that is over or not. Attempts go on counting; the retry policy starts anew.
    pub(crate) fn reset(&mut self, whole: &[u32], keep_items: &[u32]) {
        let again = |state: &TaskState| TaskState { attempt: state.attempt, ..TaskState::NEW };
        for &step in whole {
            let state = &mut self.tasks[step as usize];
            *state = again(state);
            self.items.remove(&step);
        }
        for &step in keep_items {
            let state = &mut self.tasks[step as usize];
            *state = TaskState { prepared: true, ..again(state) };
            let Some(items) = self.items.get_mut(&step) else { continue };
            items.failed = false;
            for (item, state) in items.tasks.iter_mut().enumerate() {
                if state.status != Status::Succeeded {
                    *state = TaskState { status: Status::Ready, ..again(state) };
                    items.ready.insert(item as u32);
                }
            }
        }
        self.unblock();
        self.mode = Mode::Running;
        self.any_failed = self.tasks.iter().any(|state| state.status == Status::Failed);
        self.rollback = None;
        self.recount();
        self.settle();
    }

    /// Of `steps`, the fan-outs whose list stays and whose recorded items were not undone.
    pub(crate) fn partly_done(&self, steps: &[u32]) -> Vec<u32> {
        let undone = |step: u32| self.rollback.as_ref().is_some_and(|rollback| rollback.touched(step));
        let stays = |step: &&u32| {
            let mut list = self.plan.graph.dependencies(**step).iter();
            self.items.contains_key(*step) && !undone(**step) && !list.any(|d| steps.contains(d))
        };
        steps.iter().filter(stays).copied().collect()
    }

    /// Steps that were blocked or skipped because of another one get a new chance.
    pub(super) fn unblock(&mut self) {
        for state in &mut self.tasks {
            if matches!(state.status, Status::Blocked | Status::Skipped) {
                *state = TaskState { attempt: state.attempt, ..TaskState::NEW };
            }
        }
    }

    /// Takes over what is known of a run that another definition began, by task: whether it is done, and how
    /// many attempts it had. `items` gives the number of items of the fan-out steps that keep theirs.
    pub(crate) fn restore(&mut self, items: &HashMap<u32, u32>, known: &HashMap<Task, (bool, u32)>) {
        for (&step, &count) in items {
            let tasks = vec![TaskState { status: Status::Ready, ..TaskState::NEW }; count as usize];
            let ready = ReadySet::new(count as usize);
            self.items.insert(step, Items { tasks, ready, done: 0, running: 0, failed: false });
            self.tasks[step as usize].prepared = true;
            self.tasks[step as usize].status = Status::Ready;
        }
        for (&task, &(done, attempt)) in known {
            let Some(state) = self.task_mut(task) else { continue };
            state.attempt = attempt;
            if done {
                state.status = Status::Succeeded;
            }
        }
        for (step, items) in &mut self.items {
            for (item, state) in items.tasks.iter().enumerate() {
                match state.status {
                    Status::Succeeded => items.done += 1,
                    _ => items.ready.insert(item as u32),
                }
            }
            if items.done as usize == items.tasks.len() {
                self.tasks[*step as usize].status = Status::Succeeded;
            }
        }
        self.recount();
        self.settle();
    }

    /// The steps that [`reset`](Scheduler::reset) must put back for a failed or rolled-back run to go on:
    /// those that failed or were undone, and everything after them.
    pub(crate) fn unfinished(&self) -> Vec<u32> {
        let undone = |step: u32| self.rollback.as_ref().is_some_and(|rollback| rollback.touched(step));
        let open = |step: &u32| !self.tasks[*step as usize].status.is_done() || undone(*step);
        self.downstream((0..self.tasks.len() as u32).filter(open))
    }

    /// `steps` and everything that depends on them, in ascending order.
    pub(crate) fn downstream(&self, steps: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let mut marked = vec![false; self.tasks.len()];
        let mut stack: Vec<u32> = steps.into_iter().collect();
        while let Some(step) = stack.pop() {
            if !std::mem::replace(&mut marked[step as usize], true) {
                stack.extend(self.plan.graph.dependents(step));
            }
        }
        (0..marked.len() as u32).filter(|step| marked[*step as usize]).collect()
    }
}
