//! Taking a run up again: after a crash, on an operator's word, or over a changed definition.

use std::collections::HashMap;
use std::sync::Arc;

use super::{
    Command, Group, Kind, Mode, NONE, Outcome, Plan, Ranks, ReadySet, Scheduler, Status, Task, TaskState,
};

impl Scheduler {
    /// Counts everything anew from the states of the tasks, and issues again what is owed.
    pub(super) fn recount(&mut self) {
        let plan = Arc::clone(&self.plan);
        self.ready.clear();
        self.commands.clear();
        (self.left, self.running, self.timers, self.signals_awaited) = (0, 0, 0, 0);
        self.groups.iter_mut().for_each(|group| *group = Group::default());
        if self.mode == Mode::Running {
            self.settle_hopeless();
        }
        let mut reached = Vec::new();
        for step in 0..plan.steps.len() as u32 {
            let satisfied = |dependency: u32| match self.tasks[dependency as usize].status {
                Status::Skipped => plan.optional.contains(&(dependency, step)),
                status => status.is_done(),
            };
            let pending = plan.graph.dependencies(step).iter().filter(|d| !satisfied(**d)).count() as u32;
            self.pending[step as usize] = pending;
            let state = &mut self.tasks[step as usize];
            let is_signal = plan.steps[step as usize].kind == Kind::Signal;
            match state.status {
                Status::Waiting if pending == 0 => reached.push(step),
                Status::Preparing => state.status = Status::Ready,
                Status::AwaitingSignal => reached.push(step),
                Status::Ready if is_signal => reached.push(step),
                Status::Running => {
                    self.running += 1;
                    self.count_in_group(step);
                }
                Status::BackingOff | Status::Sleeping => {
                    self.timers += 1;
                    let (task, at) = (Task::of(step), state.timer);
                    self.commands.push_back(Command::StartTimer { task, at });
                }
                _ => {}
            }
            let state = &self.tasks[step as usize];
            if !state.status.is_settled() {
                self.left += 1;
            }
            if state.status == Status::Ready && !is_signal {
                self.ready.insert(self.ranks.of[step as usize]);
            }
        }
        reached.into_iter().for_each(|step| self.make_ready(step));
        let mut fan_outs: Vec<u32> = self.items.keys().copied().collect();
        fan_outs.sort_unstable();
        for step in fan_outs {
            let states: Vec<_> =
                self.items[&step].tasks.iter().map(|state| (state.status, state.timer)).collect();
            for (item, (status, at)) in states.into_iter().enumerate() {
                match status {
                    Status::Running => {
                        self.running += 1;
                        self.count_in_group(step);
                    }
                    Status::BackingOff => {
                        self.timers += 1;
                        let task = Task { step, item: item as u32 };
                        self.commands.push_back(Command::StartTimer { task, at });
                    }
                    _ => {}
                }
            }
        }
    }

    /// What waits for a step that failed or was skipped will not run, whoever put it there.
    fn settle_hopeless(&mut self) {
        let plan = Arc::clone(&self.plan);
        for &step in plan.graph.order() {
            if self.tasks[step as usize].status != Status::Waiting {
                continue;
            }
            let is_optional = |dependency: u32| plan.optional.contains(&(dependency, step));
            for &dependency in plan.graph.dependencies(step) {
                let status = &mut self.tasks[dependency as usize].status;
                let settled = match *status {
                    Status::Failed | Status::Blocked => Status::Blocked,
                    Status::Skipped if !is_optional(dependency) => Status::Skipped,
                    _ => continue,
                };
                let state = &mut self.tasks[step as usize];
                if state.status != Status::Blocked {
                    state.status = settled;
                }
            }
        }
    }

    fn count_in_group(&mut self, step: u32) {
        let group = self.plan.steps[step as usize].group;
        if group != NONE {
            self.groups[group as usize].running += 1;
        }
    }

    /// Goes on over another plan: the same steps with other policies, or, by `numbers`, steps that were added,
    /// taken away or moved. What is known of a step that stays is kept if it is of the same kind still.
    pub(crate) fn adopt(&mut self, plan: Arc<Plan>, numbers: &[Option<u32>], durations: &[u64]) {
        let count = plan.steps.len();
        let old = std::mem::replace(&mut self.plan, Arc::clone(&plan));
        self.ranks = Ranks::expecting(&plan, durations);
        let mut tasks = vec![TaskState::NEW; count];
        let mut items = HashMap::new();
        for (before, now) in numbers.iter().enumerate() {
            let Some(now) = *now else { continue };
            let state = self.tasks[before];
            if plan.steps[now as usize].kind != old.steps[before].kind {
                tasks[now as usize] = state.put_back();
                continue;
            }
            tasks[now as usize] = state;
            if let Some(kept) = self.items.remove(&(before as u32)) {
                items.insert(now, kept);
            }
        }
        (self.tasks, self.items) = (tasks, items);
        let former = std::mem::take(&mut self.former_items).into_iter();
        self.former_items =
            former.filter_map(|(task, state)| Some((task.renumbered(numbers)?, state))).collect();
        self.pending = vec![0; count];
        self.ready = ReadySet::new(count);
        self.groups = vec![Group::default(); plan.groups.len()];
        self.any_failed = self.tasks.iter().any(|state| state.status == Status::Failed);
        self.renumber_rollback(numbers);
        self.recount();
        match self.mode {
            Mode::Running => self.settle(),
            Mode::Finishing(outcome) => self.finish(outcome),
            _ => {}
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
            items.failed |= draining && items.tasks.iter().any(|state| state.status == Status::Running);
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
        for &step in whole {
            let state = &mut self.tasks[step as usize];
            *state = state.put_back();
            if let Some(items) = self.items.remove(&step) {
                for (item, state) in (0..).zip(&items.tasks).filter(|(_, state)| state.attempt > 0) {
                    self.former_items.insert(Task { step, item }, state.put_back());
                }
            }
        }
        for &step in keep_items {
            let state = &mut self.tasks[step as usize];
            *state = TaskState { prepared: true, ..state.put_back() };
            let Some(items) = self.items.get_mut(&step) else { continue };
            items.failed = false;
            for (item, state) in items.tasks.iter_mut().enumerate() {
                if state.status != Status::Succeeded {
                    *state = TaskState { status: Status::Ready, ..state.put_back() };
                    items.ready.insert(item as u32);
                }
            }
        }
        for state in &mut self.tasks {
            if state.status == Status::Blocked {
                *state = state.put_back();
            }
        }
        self.mode = Mode::Running;
        self.any_failed = self.tasks.iter().any(|state| state.status == Status::Failed);
        self.rollback = None;
        self.recount();
        self.settle();
    }

    /// Whether results that no longer count may simply be made again: nothing was, or is to be, undone.
    pub(crate) fn goes_forward(&self) -> bool {
        matches!(
            self.mode,
            Mode::Running | Mode::Finishing(Outcome::Succeeded) | Mode::Finished(Outcome::Succeeded)
        )
    }

    /// Of `steps`, the fan-outs whose list stays and whose recorded items were not undone; those in `whole` are not.
    pub(crate) fn partly_done(&self, steps: &[u32], whole: &[u32]) -> Vec<u32> {
        let undone = |step: u32| self.rollback.as_ref().is_some_and(|rollback| rollback.touched(step));
        let stays = |step: &&u32| {
            let mut list = self.plan.graph.dependencies(**step).iter();
            self.items.contains_key(*step)
                && !whole.contains(step)
                && !undone(**step)
                && !list.any(|d| steps.contains(d))
        };
        steps.iter().filter(stays).copied().collect()
    }

    /// The steps that [`reset`](Scheduler::reset) must put back for a failed or rolled-back run to go on:
    /// those that failed or were undone, and everything after them.
    pub(crate) fn unfinished(&self) -> Vec<u32> {
        let undone = |step: u32| self.rollback.as_ref().is_some_and(|rollback| rollback.touched(step));
        let stands = |status: Status| status.is_done() || status == Status::Skipped;
        let open = |step: &u32| !stands(self.tasks[*step as usize].status) || undone(*step);
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
