//! The half of a driver that does nothing by itself: the scheduler, the outputs, the history, and the records to append.
//!
//! Every event becomes a record, changes the scheduler and enters the history, by [`Run::record`] or, where it carries
//! more, by a method of its own. Engines append the records before they act on the commands that follow.

mod past;
mod resume;
mod told;

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::value::RawValue;

use crate::error::{Error, ErrorKind, Result};
use crate::event::RunEventKind;
use crate::gate::{GateResult, Verdict};
use crate::output::{Output, Outputs, View};
use crate::report::{Moment, RunReport, RunStatus};
use crate::scheduler::{Event, Kind, NONE, Outcome, Scheduler, Status, Task};
use crate::shared::RunShared;
use crate::step::StepContext;
use crate::step_error::{StepError, StepErrorKind};
use crate::store::Record;
use crate::wire::{self, Attempt, Entry, FORMAT, Stored};

pub(crate) use past::{Changes, Past, accepts, parse};
pub(crate) use told::Notes;

pub(crate) struct Run {
    pub(crate) shared: Arc<RunShared>,
    pub(crate) scheduler: Scheduler,
    pub(crate) outputs: Outputs,
    history: Vec<Moment>,
    notes: Notes,
    /// What gates refused, for the undo.
    refused: HashMap<Task, Output>,
    /// Values of signals that no attempt has taken yet.
    signals: HashMap<u32, Box<RawValue>>,
    /// Records not yet appended. Stays empty where there is no log.
    pub(crate) outbox: Vec<Record>,
    logging: bool,
    next_seq: u64,
    /// When the run began, until observers know of it.
    begun_at: Option<i64>,
    /// Moments that observers know of.
    emitted: usize,
    recovered: usize,
    changed: Vec<u32>,
    /// Steps whose results no longer count once the run goes forward again.
    pub(crate) stale: Vec<u32>,
    asked: Vec<u32>,
}

/// The limit for an output inside the log; larger ones go beside it.
pub(crate) const INLINE_LIMIT: usize = 256 * 1024;

/// The limit for an output altogether.
pub(crate) const OUTPUT_LIMIT: usize = 4 * 1024 * 1024;

/// How an attempt ended, with the output in the form the log keeps it in.
pub(crate) struct Ended {
    pub(crate) result: Result<Output, StepError>,
    /// What a gate refused.
    pub(crate) refused: Option<Output>,
    pub(crate) stored: Option<Stored>,
    pub(crate) gates: Vec<GateResult>,
    pub(crate) retry: bool,
}

impl Run {
    fn new(shared: Arc<RunShared>, scheduler: Scheduler, logging: bool) -> Self {
        let count = shared.pipeline.len();
        Run {
            scheduler,
            outputs: Outputs { steps: vec![None; count], items: HashMap::new() },
            history: Vec::with_capacity(count * 2 + 2),
            notes: Notes::default(),
            refused: HashMap::new(),
            signals: HashMap::new(),
            outbox: Vec::new(),
            logging,
            next_seq: 0,
            begun_at: None,
            emitted: 0,
            recovered: 0,
            changed: Vec::new(),
            stale: Vec::new(),
            asked: Vec::new(),
            shared,
        }
    }

    /// A run that begins now.
    pub(crate) fn begin(shared: Arc<RunShared>, durations: Vec<u64>, logging: bool, at: i64) -> Result<Self> {
        let plan = Arc::clone(shared.pipeline.plan());
        let scheduler = Scheduler::new(plan, seed(shared.run.as_str()), &durations);
        let mut run = Run::new(shared, scheduler, logging);
        if logging {
            let pipeline = run.shared.pipeline.clone();
            let input = RawValue::from_string(run.shared.input.clone())
                .map_err(|error| Error::new(ErrorKind::Codec, "the run's input is no JSON").because(error))?;
            let entry = Entry::RunStarted {
                at,
                format: FORMAT,
                pipeline: Cow::Borrowed(pipeline.name()),
                definition: past::definition_of(&pipeline),
                input,
                durations,
            };
            run.write(&entry)?;
        }
        run.begun_at = Some(at);
        Ok(run)
    }

    pub(crate) fn name(&self, step: u32) -> &str {
        self.shared.pipeline.graph().name(step)
    }

    fn write(&mut self, entry: &Entry<'_>) -> Result<()> {
        if !self.logging {
            return Ok(());
        }
        let body = serde_json::to_string(entry).map_err(|error| {
            Error::new(ErrorKind::Codec, "an entry of the log cannot be written").because(error)
        })?;
        self.outbox.push(Record { seq: self.next_seq, body });
        self.next_seq += 1;
        Ok(())
    }

    /// Lets the scheduler and the history know. The record is written before by the caller.
    fn note(&mut self, event: Event, at: i64) -> Result<()> {
        self.scheduler.apply(event).map_err(|unexpected| {
            let message = format!("the log does not fit the pipeline: {:?} is out of place", unexpected.0);
            Error::new(ErrorKind::Corrupt, message).in_run(&self.shared.run)
        })?;
        self.history.push(Moment { event, at });
        Ok(())
    }

    /// Records an event that carries nothing but itself.
    pub(crate) fn record(&mut self, event: Event, at: i64) -> Result<()> {
        if self.logging {
            let pipeline = self.shared.pipeline.clone();
            let name = |step: u32| Cow::Borrowed(pipeline.graph().name(step));
            let of = |task: Task, number| Attempt::new(at, pipeline.graph().name(task.step), task, number);
            let entry = match event {
                Event::Started { task, attempt, .. } => Some(Entry::StepStarted(of(task, attempt))),
                Event::UndoStarted { task, attempt } => Some(Entry::UndoStarted(of(task, attempt))),
                Event::UndoSucceeded { task, attempt } => Some(Entry::UndoSucceeded(of(task, attempt))),
                Event::Prepared { step } => Some(Entry::StepPrepared { at, step: name(step) }),
                Event::Skipped { step } => Some(Entry::StepSkipped { at, step: name(step) }),
                Event::FannedOut { step, items } => Some(Entry::FannedOut { at, step: name(step), items }),
                Event::Sleeping { step, until } => Some(Entry::Sleeping { at, step: name(step), until }),
                Event::TimerFired { task } => {
                    Some(Entry::TimerFired { at, step: name(task.step), item: wire::item(task) })
                }
                Event::CancelRequested => Some(Entry::CancelRequested { at }),
                Event::UndoRetried { step } => Some(Entry::UndoRetried { at, step: name(step) }),
                Event::UndoMarked { step } => Some(Entry::UndoMarked { at, step: name(step) }),
                Event::RollbackRequested => Some(Entry::RollbackRequested { at }),
                // The others have calls of their own.
                _ => None,
            };
            if let Some(entry) = entry {
                self.write(&entry)?;
            }
        }
        self.note(event, at)
    }

    pub(crate) fn finish(&mut self, outcome: Outcome, at: i64) -> Result<()> {
        self.write(&Entry::Finished { at, outcome: outcome.into() })?;
        self.note(Event::Finished { outcome }, at)
    }

    /// Records the value of a signal. It is the step's once [`Run::take_signal`] has taken it.
    pub(crate) fn signalled(&mut self, step: u32, value: Box<RawValue>, at: i64) -> Result<()> {
        if let Err(error) = (self.shared.pipeline.node(step).def.body.decode)(value.get()) {
            let message = format!("the value of signal {:?} is not of the step's type", self.name(step));
            return Err(Error::new(ErrorKind::Codec, message).in_run(&self.shared.run).because(error));
        }
        let pipeline = self.shared.pipeline.clone();
        self.write(&Entry::Signalled { at, step: pipeline.graph().name(step).into(), value: value.clone() })?;
        if self.scheduler.wants_signal(step) {
            // The first value counts.
            self.signals.entry(step).or_insert(value);
        }
        self.note(Event::Signalled { step }, at)
    }

    /// Begins the attempt that takes the value of a signal, if the step waits for it and it is there: answers the
    /// number of the attempt and the value, or why it is none.
    pub(crate) fn take_signal(
        &mut self,
        step: u32,
        at: i64,
    ) -> Result<Option<(u32, Result<Output, StepError>)>> {
        if !self.scheduler.awaits_signal(step) {
            return Ok(None);
        }
        let Some(value) = self.signals.remove(&step) else { return Ok(None) };
        let task = Task::of(step);
        let attempt = self.scheduler.attempts(task) + 1;
        self.record(Event::Started { task, attempt, at }, at)?;
        let decoded = (self.shared.pipeline.node(step).def.body.decode)(value.get());
        let outcome = decoded.map_err(|error| {
            let message = format_args!("the value of the signal is not of the step's type: {error}");
            StepError::of(StepErrorKind::BadValue, message)
        });
        Ok(Some((attempt, outcome)))
    }

    pub(crate) fn slept(&mut self, task: Task, until: i64, at: i64) -> Result<()> {
        self.outputs.steps[task.step as usize] = Some(Arc::new(crate::report::time(until)));
        self.record(Event::TimerFired { task }, at)
    }

    pub(crate) fn reuse(
        &mut self,
        step: u32,
        from: String,
        output: Output,
        stored: Stored,
        at: i64,
    ) -> Result<()> {
        let pipeline = self.shared.pipeline.clone();
        self.write(&Entry::StepReused {
            at,
            step: Cow::Borrowed(pipeline.graph().name(step)),
            from: Cow::Borrowed(&from),
            output: stored,
        })?;
        self.outputs.steps[step as usize] = Some(output);
        self.notes.reused.insert(step, from);
        self.note(Event::Reused { step }, at)
    }

    /// Judges what an attempt brought. The engine then fills in `stored`, and hands it to [`Run::ended`].
    pub(crate) fn judge(&self, task: Task, result: Result<Output, StepError>) -> Ended {
        let node = self.shared.pipeline.node(task.step);
        let (result, gates, retry) = match result {
            Ok(output) if !node.def.gates.is_empty() => {
                let gates = (node.def.judge)(&output);
                let refused = |gate: &&GateResult| gate.verdict == Verdict::Refused;
                match gates.iter().find(refused) {
                    None => (Ok(output), gates, false),
                    Some(gate) => {
                        let why = gate.message.as_deref().unwrap_or("refused");
                        let message = format!("gate {:?} refused the output: {why}", gate.gate);
                        let error = StepError::of(StepErrorKind::GateRefused, message);
                        let asked =
                            |(gate, retry): (&GateResult, &bool)| gate.verdict != Verdict::Refused || *retry;
                        let retry = gates.iter().zip(&node.def.gates).all(asked);
                        return Ended {
                            result: Err(error),
                            refused: Some(output),
                            stored: None,
                            gates,
                            retry,
                        };
                    }
                }
            }
            Ok(output) => (Ok(output), Vec::new(), false),
            Err(error) => {
                // Another value may be right.
                let plan = self.shared.pipeline.step_plan(task.step);
                let retry = plan.kind == Kind::Signal || plan.retries.step().allows(&error);
                (Err(error), Vec::new(), retry)
            }
        };
        Ended { result, refused: None, stored: None, gates, retry }
    }

    pub(crate) fn ended(&mut self, task: Task, attempt: u32, ended: Ended, at: i64) -> Result<()> {
        let Ended { result, refused, stored, gates, retry } = ended;
        let again = match &result {
            Ok(_) => None,
            Err(_) => self.scheduler.retry_at(task, at, retry),
        };
        if self.logging {
            let pipeline = self.shared.pipeline.clone();
            let entry = Attempt::new(at, pipeline.graph().name(task.step), task, attempt);
            let gates = gates.clone();
            self.write(&match &result {
                Ok(_) => {
                    let output = stored.unwrap_or(Stored::Items);
                    Entry::StepSucceeded { attempt: entry, gates, output }
                }
                Err(error) => {
                    let error = error.clone();
                    Entry::StepFailed { attempt: entry, error, again, gates, output: stored }
                }
            })?;
        }
        if let Some(output) = refused {
            self.refused.insert(task, output);
        }
        match result {
            Ok(output) => {
                self.notes.judged(task, attempt, gates);
                self.succeeded(task, attempt, output, at)
            }
            Err(error) => {
                self.notes.failed((task, attempt, false), error, gates);
                self.note(Event::Failed { task, attempt, again }, at)
            }
        }
    }

    /// The part of [`Run::ended`] that is left where there is neither a log nor a gate.
    pub(crate) fn succeeded(&mut self, task: Task, attempt: u32, output: Output, at: i64) -> Result<()> {
        if task.item == NONE {
            self.outputs.steps[task.step as usize] = Some(output);
            return self.note(Event::Succeeded { task, attempt }, at);
        }
        self.outputs.put_item(task, self.scheduler.item_count(task.step), output);
        self.note(Event::Succeeded { task, attempt }, at)?;
        // The last item completes the step.
        match self.scheduler.status(Task::of(task.step)) {
            Status::Succeeded => self.collect(task.step),
            _ => Ok(()),
        }
    }

    /// Makes the output of a fan-out step from those of its items.
    pub(crate) fn collect(&mut self, step: u32) -> Result<()> {
        let Some(fan_out) = &self.shared.pipeline.node(step).def.body.fan_out else { return Ok(()) };
        let items: Vec<Output> =
            self.outputs.items.get(&step).into_iter().flatten().flatten().cloned().collect();
        let output = (fan_out.collect)(&items).map_err(|error| {
            Error::new(ErrorKind::Codec, format!("step {:?}: {error}", self.name(step)))
                .in_run(&self.shared.run)
        })?;
        self.outputs.steps[step as usize] = Some(output);
        Ok(())
    }

    pub(crate) fn undo_ended(
        &mut self,
        task: Task,
        attempt: u32,
        result: Result<(), StepError>,
        at: i64,
    ) -> Result<()> {
        match result {
            Ok(()) => self.record(Event::UndoSucceeded { task, attempt }, at),
            Err(error) => {
                let retry = self.shared.pipeline.step_plan(task.step).retries.undo().allows(&error);
                let pipeline = self.shared.pipeline.clone();
                let again = self.scheduler.undo_retry_at(task, at, retry);
                let entry = Attempt::new(at, pipeline.graph().name(task.step), task, attempt);
                self.write(&Entry::UndoFailed { attempt: entry, error: error.clone(), again })?;
                self.notes.failed((task, attempt, true), error, Vec::new());
                self.note(Event::UndoFailed { task, attempt, again }, at)
            }
        }
    }

    /// Lets `steps` run again, of those in `keep_items` only the items without a result.
    pub(crate) fn reset(&mut self, steps: Vec<u32>, keep_items: &[u32], at: i64) -> Result<()> {
        let pipeline = self.shared.pipeline.clone();
        let names =
            |steps: &[u32]| steps.iter().map(|step| Cow::Borrowed(pipeline.graph().name(*step))).collect();
        self.write(&Entry::Reset { at, steps: names(&steps), keep_items: names(keep_items) })?;
        let whole: Vec<u32> = steps.iter().copied().filter(|step| !keep_items.contains(step)).collect();
        self.forget(&whole);
        self.stale.clear();
        self.scheduler.reset(&whole, keep_items);
        self.note(Event::Reset { steps: steps.len() as u32 }, at)?;
        self.asked.extend(steps);
        Ok(())
    }

    fn forget(&mut self, steps: &[u32]) {
        for &step in steps {
            self.outputs.steps[step as usize] = None;
            self.outputs.items.remove(&step);
            self.refused.retain(|task, _| task.step != step);
            self.notes.reused.remove(&step);
        }
    }

    pub(crate) fn view(&self, step: u32) -> View<'_> {
        View { outputs: &self.outputs, base: self.shared.pipeline.node(step).base }
    }

    pub(crate) fn context(&self, task: Task, attempt: u32) -> StepContext {
        StepContext {
            shared: Arc::clone(&self.shared),
            step: task.step,
            item: task.item,
            attempt,
            inputs: None,
            deadline: None,
            undo: false,
        }
    }

    /// What an undo is given: the output of the task, or what a gate refused of it.
    pub(crate) fn to_undo(&self, task: Task) -> Option<Output> {
        let output = if task.item == NONE {
            self.outputs.steps[task.step as usize].clone()
        } else {
            let items = self.outputs.items.get(&task.step);
            items.and_then(|items| items.get(task.item as usize)?.clone())
        };
        output.or_else(|| self.refused.get(&task).cloned())
    }

    /// Whether there is anything to append or to tell.
    pub(crate) fn is_flushed(&self) -> bool {
        let told = self.emitted == self.history.len() && self.begun_at.is_none();
        self.outbox.is_empty() && (told || !self.shared.bus.is_active())
    }

    /// Tells observers what was appended since the last call.
    pub(crate) fn emit(&mut self) {
        let begun_at = self.begun_at.take();
        if !self.shared.bus.is_active() {
            self.emitted = self.history.len();
            return;
        }
        if let Some(at) = begun_at {
            let (pipeline, steps) = (self.shared.pipeline.name().to_owned(), self.shared.pipeline.len());
            self.shared.emit(at, RunEventKind::Started { pipeline, steps });
        }
        for at in self.emitted..self.history.len() {
            let (pipeline, moment) = (&self.shared.pipeline, self.history[at]);
            let to = |kind| self.shared.emit(moment.at, kind);
            self.notes.tell(pipeline.name(), pipeline.graph(), moment, to);
        }
        self.emitted = self.history.len();
    }

    pub(crate) fn status(&self) -> RunStatus {
        match self.scheduler.outcome() {
            Some(outcome) => outcome.into(),
            None if self.scheduler.is_suspended() => RunStatus::Suspended,
            None => RunStatus::Unfinished,
        }
    }

    /// Microseconds that each step's successful attempts took in this run, 0 where there was none.
    pub(crate) fn durations(&self) -> Vec<u64> {
        let mut durations = vec![0_u64; self.shared.pipeline.len()];
        let mut started: HashMap<Task, i64> = HashMap::new();
        for moment in &self.history {
            match moment.event {
                Event::Started { task, at, .. } => {
                    started.insert(task, at);
                }
                Event::Succeeded { task, .. } => {
                    if let Some(start) = started.remove(&task) {
                        let took = u64::try_from(moment.at - start).unwrap_or(0);
                        let slot = &mut durations[task.step as usize];
                        *slot = (*slot).max(took);
                    }
                }
                _ => {}
            }
        }
        durations
    }

    pub(crate) fn into_report(self) -> RunReport {
        RunReport {
            run: self.shared.run.clone(),
            pipeline: self.shared.pipeline.clone(),
            status: self.status(),
            scheduler: self.scheduler,
            outputs: self.outputs,
            history: self.history,
            notes: self.notes,
            recovered: self.recovered,
            changed: self.changed,
            asked: self.asked,
        }
    }

    /// Answers [`Command::Prepare`](crate::scheduler::Command::Prepare), once condition and reuse have said that the step is to run.
    pub(crate) fn prepare(&mut self, step: u32, at: i64) -> Result<(), StepError> {
        let pipeline = self.shared.pipeline.clone();
        let node = pipeline.node(step);
        let event = if let Some(wake) = node.def.body.wake {
            let until = match wake {
                crate::definition::Wake::At(time) => time.timestamp_micros(),
                crate::definition::Wake::After(duration) => {
                    at.saturating_add(duration.as_micros().min(i64::MAX as u128) as i64)
                }
            };
            Event::Sleeping { step, until }
        } else if let Some(fan_out) = &node.def.body.fan_out {
            let count = (fan_out.count)(self.view(step))?;
            let items = u32::try_from(count).ok().filter(|count| *count < NONE / 64);
            let items = items.ok_or_else(|| {
                StepError::of(StepErrorKind::BadValue, format_args!("a list of {count} items is too long"))
            })?;
            Event::FannedOut { step, items }
        } else {
            Event::Prepared { step }
        };
        if let Event::FannedOut { items: 0, .. } = event {
            // No item will ever complete the output.
            let empty = (node.def.body.fan_out.as_ref()).map(|fan_out| (fan_out.collect)(&[])).transpose()?;
            self.outputs.steps[step as usize] = empty;
        }
        self.record(event, at).map_err(StepError::from)
    }

    /// What the condition of a step says, if it has one and it has not been asked.
    pub(crate) fn condition(&self, step: u32) -> Result<bool, StepError> {
        let Some(when) = &self.shared.pipeline.node(step).def.when else { return Ok(true) };
        let view = self.view(step);
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| when(view)))
            .unwrap_or_else(|payload| Err(StepError::panicked(&*payload)))
    }
}

/// The jitter's seed: the run's id, so that a resumed run draws the same delays.
fn seed(run: &str) -> u64 {
    // FNV-1a (Fowler, Noll, Vo); the scheduler mixes it further.
    run.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}
