//! The deterministic core: events in, commands out. No clock, no randomness, no await, no user code.
//!
//! An engine asks [`Scheduler::poll`] for the next command, does it, and tells what came of it with
//! [`Scheduler::apply`]. Folding the same events over the same plan always leads to the same state and
//! hence to the same commands, which is what resume rests on.

mod ends;
mod plan;
mod protocol;
mod queries;
mod ready;
mod resume;
mod rollback;

use std::collections::{BTreeMap, BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

pub(crate) use plan::{Kind, NONE, Plan, Ranks, Retries, StepPlan};
pub(crate) use protocol::{Command, Event, Outcome, Task};
use ready::ReadySet;
use rollback::Rollback;
pub(crate) use rollback::UndoStatus;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Some dependency is not done.
    Waiting,
    /// In the ready set, or parked behind its full group.
    Ready,
    Preparing,
    Running,
    BackingOff,
    Sleeping,
    AwaitingSignal,
    Succeeded,
    Reused,
    Skipped,
    Failed,
    /// A dependency failed, so that this one never runs.
    Blocked,
}

impl Status {
    fn is_done(self) -> bool {
        matches!(self, Status::Succeeded | Status::Reused)
    }

    fn is_settled(self) -> bool {
        matches!(
            self,
            Status::Succeeded | Status::Reused | Status::Skipped | Status::Failed | Status::Blocked
        )
    }
}

#[derive(Debug, Clone, Copy)]
struct TaskState {
    status: Status,
    prepared: bool,
    /// Attempts ever started.
    attempt: u32,
    /// Attempts that count against the retry policy.
    tries: u32,
    first_started: i64,
    /// When the running timer fires, if there is one.
    timer: i64,
    /// Attempts to undo it ever started, and how many attempts of its own were undone.
    undo_attempts: u32,
    undone: u32,
}

impl TaskState {
    const NEW: TaskState = TaskState {
        status: Status::Waiting,
        prepared: false,
        attempt: 0,
        tries: 0,
        first_started: i64::MIN,
        timer: 0,
        undo_attempts: 0,
        undone: 0,
    };

    /// As if it had not run; numbers go on, and what was undone stays so.
    fn put_back(&self) -> Self {
        let TaskState { attempt, undo_attempts, undone, .. } = *self;
        TaskState { attempt, undo_attempts, undone, ..TaskState::NEW }
    }

    /// Whether it did something, or may have, that is not undone.
    fn left_traces(&self) -> bool {
        self.attempt > self.undone
    }
}

/// The items of one fan-out step.
#[derive(Debug, Clone)]
struct Items {
    tasks: Vec<TaskState>,
    /// Items that may be dispatched, smallest first.
    ready: ReadySet,
    done: u32,
    running: u32,
    failed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Running,
    /// Nothing new is dispatched; what is under way comes to its end.
    Draining(Outcome),
    RollingBack(Outcome),
    /// `Finish` was commanded.
    Finishing(Outcome),
    Finished(Outcome),
}

/// An event that does not fit the state: the log is not one that this plan can have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unexpected(pub(crate) Event);

pub(crate) struct Scheduler {
    plan: Arc<Plan>,
    seed: u64,
    mode: Mode,
    tasks: Vec<TaskState>,
    items: HashMap<u32, Items>,
    /// What is known of items that were put back and are in no list now: their attempts go on counting, and what they
    /// did is undone with the rest.
    former_items: BTreeMap<Task, TaskState>,
    /// Dependencies of each step that are not done.
    pending: Vec<u32>,
    ranks: Arc<Ranks>,
    ready: ReadySet,
    /// Tasks running, and of each group, with the ranks that wait for the group.
    running: u32,
    groups: Vec<Group>,
    /// Steps that are not settled.
    left: u32,
    timers: u32,
    signals_awaited: u32,
    any_failed: bool,
    /// What a rollback that got stuck was for.
    cause: Outcome,
    commands: VecDeque<Command>,
    rollback: Option<Rollback>,
}

#[derive(Debug, Clone, Default)]
struct Group {
    running: u32,
    parked: BinaryHeap<std::cmp::Reverse<u32>>,
}

impl Scheduler {
    /// A run of `plan` that has not begun. `seed` decides the jitter; `durations` are the microseconds that
    /// each step is expected to take, 0 where unknown.
    pub(crate) fn new(plan: Arc<Plan>, seed: u64, durations: &[u64]) -> Self {
        let count = plan.steps.len();
        let ranks = Ranks::expecting(&plan, durations);
        let mut scheduler = Scheduler {
            seed,
            mode: Mode::Running,
            tasks: vec![TaskState::NEW; count],
            items: HashMap::new(),
            former_items: BTreeMap::new(),
            pending: vec![0; count],
            ranks,
            ready: ReadySet::new(count),
            running: 0,
            groups: vec![Group::default(); plan.groups.len()],
            left: 0,
            timers: 0,
            signals_awaited: 0,
            any_failed: false,
            cause: Outcome::Failed,
            commands: VecDeque::new(),
            rollback: None,
            plan,
        };
        scheduler.recount();
        scheduler.settle();
        scheduler
    }

    fn task(&self, task: Task) -> Option<&TaskState> {
        if task.item == NONE {
            self.tasks.get(task.step as usize)
        } else {
            let listed = self.items.get(&task.step).and_then(|items| items.tasks.get(task.item as usize));
            listed.or_else(|| self.former_items.get(&task))
        }
    }

    fn task_mut(&mut self, task: Task) -> Option<&mut TaskState> {
        if task.item == NONE {
            self.tasks.get_mut(task.step as usize)
        } else {
            let items = self.items.get_mut(&task.step);
            let listed = items.and_then(|items| items.tasks.get_mut(task.item as usize));
            listed.or_else(|| self.former_items.get_mut(&task))
        }
    }

    /// The next thing to do, or nothing until an event comes.
    pub(crate) fn poll(&mut self) -> Option<Command> {
        if let Some(command) = self.commands.pop_front() {
            return Some(command);
        }
        match self.mode {
            Mode::Running => self.next_dispatch(),
            Mode::RollingBack(_) => self.next_undo(),
            _ => None,
        }
    }

    fn next_dispatch(&mut self) -> Option<Command> {
        while self.running < self.plan.concurrency {
            let rank = self.ready.first()?;
            let step = self.ranks.steps[rank as usize];
            let plan = &self.plan.steps[step as usize];
            let state = &mut self.tasks[step as usize];
            if !state.prepared && plan.prepare {
                self.ready.remove(rank);
                state.status = Status::Preparing;
                return Some(Command::Prepare { step });
            }
            match plan.kind {
                Kind::Task | Kind::ForEach | Kind::Signal => {}
                Kind::Sleep => {
                    self.ready.remove(rank);
                    state.status = Status::Preparing;
                    return Some(Command::Prepare { step });
                }
            }
            if plan.group != NONE {
                let group = &mut self.groups[plan.group as usize];
                if group.running >= self.plan.groups[plan.group as usize] {
                    self.ready.remove(rank);
                    group.parked.push(std::cmp::Reverse(rank));
                    continue;
                }
            }
            if plan.kind == Kind::ForEach {
                let Some(items) = self.items.get(&step) else {
                    self.ready.remove(rank);
                    continue;
                };
                let Some(item) = items.ready.first() else {
                    self.ready.remove(rank);
                    continue;
                };
                let attempt = items.tasks[item as usize].attempt + 1;
                return Some(Command::Dispatch { task: Task { step, item }, attempt });
            }
            return Some(Command::Dispatch { task: Task::of(step), attempt: state.attempt + 1 });
        }
        None
    }

    /// Tells what happened.
    ///
    /// # Errors
    /// [`Unexpected`] for an event that cannot have happened in this state. The state is then unusable.
    pub(crate) fn apply(&mut self, event: Event) -> Result<(), Unexpected> {
        let ok = match event {
            Event::Started { task, attempt, at } => self.started(task, attempt, at),
            Event::Succeeded { task, attempt } => {
                self.stop(task, attempt) && {
                    self.succeed(task);
                    true
                }
            }
            Event::Failed { task, attempt, again } => {
                self.stop(task, attempt) && {
                    self.failed(task, again);
                    true
                }
            }
            Event::Prepared { step } => self.prepared(step),
            Event::Skipped { step } => {
                self.leave_preparing(step) && {
                    self.skip(step);
                    true
                }
            }
            Event::Reused { step } => {
                self.leave_preparing(step) && {
                    self.complete(step, Status::Reused);
                    true
                }
            }
            Event::FannedOut { step, items } => self.fanned_out(step, items),
            Event::Sleeping { step, until } => self.sleeping(step, until),
            Event::TimerFired { task } => self.timer_fired(task),
            Event::Signalled { step } => self.signalled(step),
            Event::CancelRequested => self.cancel(),
            Event::Resumed { .. } => self.resumed(),
            // The engine calls `reset` itself, which needs the list.
            Event::Reset { .. } => true,
            Event::UndoStarted { task, attempt } => self.undo_started(task, attempt),
            Event::UndoSucceeded { task, .. } => self.undo_succeeded(task),
            Event::UndoFailed { task, again, .. } => self.undo_failed(task, again),
            Event::UndoRetried { step } => self.undo_retried(step),
            Event::UndoMarked { step } => self.undo_marked(step),
            Event::RollbackRequested => match self.mode {
                Mode::Finished(outcome) if outcome != Outcome::Stuck && self.rollback.is_none() => {
                    self.begin_rollback(Outcome::RolledBack, true);
                    true
                }
                _ => false,
            },
            Event::Finished { .. } => match self.mode {
                Mode::Finishing(outcome) => {
                    self.mode = Mode::Finished(outcome);
                    self.commands.clear();
                    true
                }
                _ => false,
            },
        };
        if ok { Ok(()) } else { Err(Unexpected(event)) }
    }

    fn started(&mut self, task: Task, attempt: u32, at: i64) -> bool {
        let step = task.step;
        if self.mode != Mode::Running {
            return false;
        }
        let Some(state) = self.task_mut(task) else { return false };
        let before = state.status;
        let may_begin = matches!(before, Status::Ready | Status::Preparing | Status::AwaitingSignal);
        if !may_begin || attempt <= state.attempt {
            return false;
        }
        state.status = Status::Running;
        state.attempt = attempt;
        state.tries += 1;
        if state.first_started == i64::MIN {
            state.first_started = at;
        }
        self.signals_awaited -= u32::from(before == Status::AwaitingSignal);
        let rank = self.ranks.of[step as usize];
        if task.item == NONE {
            self.ready.remove(rank);
        } else if let Some(items) = self.items.get_mut(&step) {
            items.ready.remove(task.item);
            items.running += 1;
            if items.ready.is_empty() {
                self.ready.remove(rank);
            }
        }
        self.running += 1;
        let group = self.plan.steps[step as usize].group;
        if group != NONE {
            self.groups[group as usize].running += 1;
        }
        true
    }

    /// Takes a running task out of the counts.
    fn stop(&mut self, task: Task, attempt: u32) -> bool {
        let running = |state: &TaskState| state.status == Status::Running && state.attempt == attempt;
        if !self.task(task).is_some_and(running) {
            return false;
        }
        self.running -= 1;
        if task.item != NONE
            && let Some(items) = self.items.get_mut(&task.step)
        {
            items.running -= 1;
        }
        let group = self.plan.steps[task.step as usize].group;
        if group != NONE {
            self.groups[group as usize].running -= 1;
            self.unpark(group);
        }
        true
    }

    fn leave_preparing(&mut self, step: u32) -> bool {
        let Some(state) = self.tasks.get(step as usize) else { return false };
        // In a folded log the step was never polled, so it is still ready, or waits.
        let before = state.status;
        let fits = matches!(before, Status::Preparing | Status::Ready | Status::AwaitingSignal)
            && self.mode == Mode::Running;
        self.signals_awaited -= u32::from(fits && before == Status::AwaitingSignal);
        self.ready.remove(self.ranks.of[step as usize]);
        fits
    }

    fn prepared(&mut self, step: u32) -> bool {
        if !self.leave_preparing(step) {
            return false;
        }
        self.tasks[step as usize].prepared = true;
        self.make_ready(step);
        true
    }

    fn fanned_out(&mut self, step: u32, count: u32) -> bool {
        let is_fan_out = self.plan.steps.get(step as usize).is_some_and(|plan| plan.kind == Kind::ForEach);
        if !is_fan_out || !self.leave_preparing(step) {
            return false;
        }
        let mut ready = ReadySet::new(count as usize);
        (0..count).for_each(|item| ready.insert(item));
        let former = |item| self.former_items.remove(&Task { step, item }).unwrap_or(TaskState::NEW);
        let tasks =
            (0..count).map(former).map(|state| TaskState { status: Status::Ready, ..state }).collect();
        self.items.insert(step, Items { tasks, ready, done: 0, running: 0, failed: false });
        let state = &mut self.tasks[step as usize];
        state.prepared = true;
        if count == 0 {
            self.complete(step, Status::Succeeded);
        } else {
            state.status = Status::Ready;
            self.ready.insert(self.ranks.of[step as usize]);
        }
        true
    }

    fn sleeping(&mut self, step: u32, until: i64) -> bool {
        if !self.leave_preparing(step) {
            return false;
        }
        let state = &mut self.tasks[step as usize];
        state.status = Status::Sleeping;
        state.timer = until;
        self.timers += 1;
        self.commands.push_back(Command::StartTimer { task: Task::of(step), at: until });
        true
    }

    fn timer_fired(&mut self, task: Task) -> bool {
        if self.rollback_timer_fired(task) {
            return true;
        }
        let running = self.mode == Mode::Running;
        let halted = self.is_halted(task);
        let Some(state) = self.task_mut(task) else { return false };
        match state.status {
            // The run was cancelled or failed in the meantime: nothing waits for the timer any more.
            _ if !running => true,
            // It fails with the others when the last one under way has ended.
            Status::BackingOff if halted => true,
            Status::BackingOff => {
                state.status = Status::Ready;
                self.timers -= 1;
                if let Some(items) = self.items.get_mut(&task.step).filter(|_| task.item != NONE) {
                    items.ready.insert(task.item);
                }
                self.ready.insert(self.ranks.of[task.step as usize]);
                true
            }
            Status::Sleeping => {
                self.timers -= 1;
                self.complete(task.step, Status::Succeeded);
                true
            }
            _ => true,
        }
    }

    fn signalled(&mut self, step: u32) -> bool {
        if self.plan.steps.get(step as usize).is_none_or(|plan| plan.kind != Kind::Signal) {
            return false;
        }
        if self.awaits_signal(step) {
            self.commands.push_back(Command::TakeSignal { step });
        }
        true
    }

    fn cancel(&mut self) -> bool {
        if matches!(self.mode, Mode::Running | Mode::Draining(Outcome::Failed)) {
            self.mode = Mode::Draining(Outcome::Cancelled);
            self.commands.push_back(Command::CancelInFlight { drop: true });
            self.settle();
        }
        true
    }

    /// Moves the run on where nothing is left of its present mode.
    fn settle(&mut self) {
        let outcome = match self.mode {
            Mode::Running if self.left == 0 && !self.any_failed => Outcome::Succeeded,
            Mode::Running if self.left == 0 && self.running == 0 => Outcome::Failed,
            Mode::Draining(outcome) if self.running == 0 => outcome,
            _ => return,
        };
        if outcome == Outcome::Succeeded {
            self.finish(outcome);
        } else {
            self.timers = 0;
            self.begin_rollback(outcome, self.plan.rollback);
        }
    }

    fn finish(&mut self, outcome: Outcome) {
        self.mode = Mode::Finishing(outcome);
        self.commands.push_back(Command::Finish { outcome });
    }
}

/// A number that looks random and depends on nothing but its arguments.
fn chance(seed: u64, task: Task, attempt: u32) -> u64 {
    let task = u64::from(task.step) << 32 | u64::from(task.item);
    splitmix(seed ^ task ^ u64::from(attempt).rotate_right(24))
}

/// One step of splitmix64 (Steele, Lea, Flood 2014) from `state`; the next state is `state` and [`GOLDEN`] more.
pub(crate) fn splitmix(state: u64) -> u64 {
    let mut z = state.wrapping_add(GOLDEN);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

pub(crate) const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
