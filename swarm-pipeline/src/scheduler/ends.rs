//! What follows when a task ends: its step is done, tried again or given up, and others come nearer or will not run.

use std::sync::Arc;

use super::{Command, Kind, Mode, NONE, Outcome, Scheduler, Status, Task, chance};

impl Scheduler {
    pub(super) fn succeed(&mut self, task: Task) {
        if task.item == NONE {
            return self.complete(task.step, Status::Succeeded);
        }
        let Some(items) = self.items.get_mut(&task.step) else { return };
        items.tasks[task.item as usize].status = Status::Succeeded;
        items.done += 1;
        if items.done as usize == items.tasks.len() {
            self.complete(task.step, Status::Succeeded);
        } else {
            self.settle_items(task.step);
            self.settle();
        }
    }

    /// The whole step is done; its dependents come nearer.
    pub(super) fn complete(&mut self, step: u32, status: Status) {
        self.tasks[step as usize].status = status;
        self.left -= 1;
        // By index, since a clone of the plan would cost as much as the rest of this function.
        for at in 0..self.plan.graph.dependents(step).len() {
            self.one_less(self.plan.graph.dependents(step)[at]);
        }
        self.settle();
    }

    pub(super) fn one_less(&mut self, dependent: u32) {
        let pending = &mut self.pending[dependent as usize];
        *pending -= 1;
        if *pending == 0 && self.tasks[dependent as usize].status == Status::Waiting {
            self.make_ready(dependent);
        }
    }

    pub(super) fn make_ready(&mut self, step: u32) {
        let state = &mut self.tasks[step as usize];
        let plan = &self.plan.steps[step as usize];
        if plan.kind != Kind::Signal || (plan.prepare && !state.prepared) {
            state.status = Status::Ready;
            self.ready.insert(self.ranks.of[step as usize]);
        } else {
            state.status = Status::AwaitingSignal;
            self.signals_awaited += 1;
            self.commands.push_back(Command::TakeSignal { step });
        }
    }

    /// When the task may be tried again after an attempt that fails at `at`; `retry` says whether its error allows that.
    /// A signal that was refused is waited for again at once, however often.
    pub(crate) fn retry_at(&self, task: Task, at: i64, retry: bool) -> Option<i64> {
        let step = &self.plan.steps[task.step as usize];
        let may_go_on = retry && self.mode == Mode::Running && !self.is_halted(task);
        let state = self.task(task).filter(|_| may_go_on)?;
        if step.kind == Kind::Signal {
            return Some(at);
        }
        let delay = step.retries.step().delay(state.tries, chance(self.seed, task, state.attempt));
        let again = at.saturating_add(delay);
        let deadline = self.deadline(task).unwrap_or(i64::MAX);
        (state.tries < step.retries.step().attempts() && again < deadline).then_some(again)
    }

    /// Whether it is an item of a step of which another item has failed for good.
    pub(super) fn is_halted(&self, task: Task) -> bool {
        task.item != NONE && self.items.get(&task.step).is_some_and(|items| items.failed)
    }

    pub(super) fn failed(&mut self, task: Task, again: Option<i64>) {
        match again {
            Some(_) if self.plan.steps[task.step as usize].kind == Kind::Signal => self.make_ready(task.step),
            Some(at) => self.back_off(task, at),
            None => self.give_up(task),
        }
    }

    pub(super) fn back_off(&mut self, task: Task, at: i64) {
        if let Some(state) = self.task_mut(task) {
            state.status = Status::BackingOff;
            state.timer = at;
        }
        self.timers += 1;
        self.commands.push_back(Command::StartTimer { task, at });
    }

    pub(super) fn give_up(&mut self, task: Task) {
        if let Some(state) = self.task_mut(task) {
            state.status = Status::Failed;
        }
        if task.item == NONE {
            return self.step_failed(task.step);
        }
        if let Some(items) = self.items.get_mut(&task.step) {
            items.failed = true;
            items.ready.clear();
        }
        self.ready.remove(self.ranks.of[task.step as usize]);
        let group = self.plan.steps[task.step as usize].group;
        if group != NONE {
            // The place that it may have been given.
            self.unpark(group);
        }
        self.settle_items(task.step);
        self.settle();
    }

    /// Lets the first rank that waits for a place in the group, and still has something to run, be looked at again.
    pub(super) fn unpark(&mut self, group: u32) {
        while let Some(std::cmp::Reverse(rank)) = self.groups[group as usize].parked.pop() {
            let step = self.ranks.steps[rank as usize];
            let has_items = self.items.get(&step).is_none_or(|items| !items.ready.is_empty());
            // One that is ready again by itself, as a fan-out whose item is to be retried, is looked at in any case.
            let waits = self.tasks[step as usize].status == Status::Ready && !self.ready.contains(rank);
            if has_items && waits {
                return self.ready.insert(rank);
            }
        }
    }

    /// A fan-out step with a failed item ends when the items under way have ended.
    pub(super) fn settle_items(&mut self, step: u32) {
        let Some(items) = self.items.get_mut(&step) else { return };
        if !items.failed || items.running > 0 || self.tasks[step as usize].status.is_settled() {
            return;
        }
        for state in &mut items.tasks {
            if state.status == Status::BackingOff {
                state.status = Status::Failed;
                self.timers -= 1;
            }
        }
        self.step_failed(step);
    }

    pub(super) fn step_failed(&mut self, step: u32) {
        self.tasks[step as usize].status = Status::Failed;
        self.left -= 1;
        self.any_failed = true;
        if self.mode == Mode::Running && !self.plan.carry_on {
            self.mode = Mode::Draining(Outcome::Failed);
            self.commands.push_back(Command::CancelInFlight { drop: false });
        } else {
            self.block_dependents(step, Status::Blocked);
        }
        self.settle();
    }

    pub(super) fn skip(&mut self, step: u32) {
        self.tasks[step as usize].status = Status::Skipped;
        self.left -= 1;
        self.block_dependents(step, Status::Skipped);
        self.settle();
    }

    /// What waits for `step` will not run, except over an optional edge from a step that was skipped.
    pub(super) fn block_dependents(&mut self, step: u32, status: Status) {
        let plan = Arc::clone(&self.plan);
        let mut stack = vec![step];
        while let Some(step) = stack.pop() {
            for &dependent in plan.graph.dependents(step) {
                if status == Status::Skipped && plan.optional.contains(&(step, dependent)) {
                    self.one_less(dependent);
                } else if self.tasks[dependent as usize].status == Status::Waiting {
                    self.tasks[dependent as usize].status = status;
                    self.left -= 1;
                    stack.push(dependent);
                }
            }
        }
    }
}
