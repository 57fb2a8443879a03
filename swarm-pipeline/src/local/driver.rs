//! The loop that carries one run: asks the scheduler, appends, acts, waits.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tracing::Instrument;

use super::attempt::{self, Attempt, Begun, Deadline, Done, Outcome};
use super::in_flight::InFlight;
use super::live::{Control, Place};
use super::take_up::{check_same, take_up};
use super::{LocalEngine, RunOptions};
use crate::breaker::Permit;
use crate::definition::{StepDef, Work};
use crate::error::{Error, ErrorKind, Result};
use crate::event::RunEventKind;
use crate::output::Output;
use crate::pipeline::Pipeline;
use crate::run::{INLINE_LIMIT, OUTPUT_LIMIT, Past, Run, parse};
use crate::scheduler::{Command, Event, Kind, NONE, Status, Task};
use crate::shared::RunShared;
use crate::step::Artifact;
use crate::step_error::{StepError, StepErrorKind};
use crate::store::{BlobKey, RunId, RunLog};
use crate::wire::Stored;

/// How a driver treats what the log holds.
pub(super) struct Resumption {
    pub(super) options: RunOptions,
    /// What an operator asked for.
    pub(super) verb: Option<Event>,
}

pub(super) struct Driver {
    pub(super) run: Run,
    flight: InFlight,
    /// How many dispatches go into one append.
    batch: usize,
    control: mpsc::Receiver<Control>,
    timers: BinaryHeap<Reverse<(i64, Task)>>,
    /// When attempts that were asked to end are dropped.
    abandon_at: Option<Instant>,
    return_when_suspended: bool,
    told_suspended: bool,
    /// Answers owed to callers once the outbox is appended.
    answers: Vec<oneshot::Sender<Result<()>>>,
    pub(super) reuse_keys: HashMap<u32, String>,
    /// The time as it was last read: when the last attempt made in place ended, or the last wait.
    pub(super) now: i64,
}

/// Attempts made in place before the runtime gets a turn, and microseconds: a turn costs as much as some of them.
const TURN: u32 = 1024;
const TURN_TIME: i64 = 200;

impl Driver {
    pub(super) async fn open(
        engine: &LocalEngine,
        pipeline: &Pipeline,
        id: RunId,
        input: Option<String>,
        mut log: Option<Box<dyn RunLog>>,
        (place, control): (Place, mpsc::Receiver<Control>),
        resumption: Resumption,
    ) -> Result<Self> {
        let records = log.as_mut().map(|log| log.take_records()).unwrap_or_default();
        let batch = log.as_ref().map_or(1, |log| log.batch().max(1));
        let Resumption { options, verb } = resumption;
        let missing = || Error::new(ErrorKind::NotFound, format!("there is no run {id}")).in_run(&id);
        let run = if records.is_empty() {
            let input = input.filter(|_| verb.is_none()).ok_or_else(missing)?;
            let shared = engine.share(pipeline, id, input);
            let durations = engine.learnt(pipeline).await;
            let at = shared.clock.now();
            Run::begin(shared, durations, log.is_some(), at)?
        } else {
            let entries = parse(&id, &records)?;
            let past = Past::fold(&id, &entries)?;
            check_same(&id, &past, pipeline, input.as_deref())?;
            let shared = engine.share(pipeline, id, past.input.get().to_owned());
            let token = log.as_ref().map_or(0, |log| log.token());
            take_up(shared, past, records.len(), token, &options, verb).await?
        };
        Ok(Driver {
            now: run.shared.clock.now(),
            flight: InFlight::new(Arc::clone(&run.shared), log, place),
            run,
            batch,
            control,
            timers: BinaryHeap::new(),
            abandon_at: None,
            return_when_suspended: options.return_when_suspended,
            told_suspended: false,
            answers: Vec::new(),
            reuse_keys: HashMap::new(),
        })
    }

    /// After an error: nobody goes on beside whoever takes the run up next.
    pub(super) async fn wind_up(&mut self) {
        self.flight.end().await;
    }

    pub(super) fn into_run(self) -> Run {
        self.run
    }

    pub(super) async fn drive(&mut self) -> Result<()> {
        let mut wave = Vec::with_capacity(self.batch);
        let (mut turn, mut turn_began) = (0, self.now);
        loop {
            while wave.len() < self.batch {
                match self.run.scheduler.poll() {
                    None => break,
                    Some(Command::Dispatch { task, attempt }) => {
                        let at = self.now;
                        self.run.record(Event::Started { task, attempt, at }, at)?;
                        wave.push(Attempt { task, number: attempt, undo: false, permit: None });
                    }
                    Some(Command::Compensate { task, attempt }) => {
                        self.run.record(Event::UndoStarted { task, attempt }, self.now)?;
                        wave.push(Attempt { task, number: attempt, undo: true, permit: None });
                    }
                    Some(command) => self.obey(command).await?,
                }
            }
            if !self.run.is_flushed() || !self.answers.is_empty() {
                self.flush().await?;
                self.now = self.run.shared.clock.now();
            }
            if wave.is_empty() {
                if self.run.scheduler.is_finished() || self.is_left_suspended() {
                    return Ok(());
                }
                self.wait().await?;
                continue;
            }
            for attempt in wave.drain(..) {
                turn += 1;
                if attempt.undo
                    && let Err(error) = self.forget_reusable(attempt.task.step).await
                {
                    self.settle_logged(Done { attempt, outcome: Err(error) }).await?;
                    continue;
                }
                match self.execute(attempt) {
                    None => {}
                    Some(done) if self.flight.log.is_none() => self.settle(done)?,
                    Some(done) => self.settle_logged(done).await?,
                }
            }
            if turn >= TURN || self.now - turn_began >= TURN_TIME {
                tokio::task::yield_now().await;
                self.now = self.run.shared.clock.now();
                (turn, turn_began) = (0, self.now);
                self.take_in().await?;
            }
        }
    }

    /// Appends what was recorded; then observers and callers may know of it.
    async fn flush(&mut self) -> Result<()> {
        if let Some(log) = &mut self.flight.log
            && !self.run.outbox.is_empty()
        {
            let appended = log.append(&self.run.outbox).await;
            self.run.outbox.clear();
            if let Err(error) = appended {
                return Err(error.in_run(&self.run.shared.run));
            }
        }
        self.run.emit();
        for answer in self.answers.drain(..) {
            // The caller may have gone.
            let _ = answer.send(Ok(()));
        }
        Ok(())
    }

    async fn obey(&mut self, command: Command) -> Result<()> {
        match command {
            Command::Prepare { step } => self.prepare(step).await,
            Command::StartTimer { task, at } => {
                // The clock may have been set back since the time was recorded.
                let latest =
                    self.run.scheduler.longest_delay(task).map(|delay| self.now.saturating_add(delay));
                self.timers.push(Reverse((latest.map_or(at, |latest| at.min(latest)), task)));
                Ok(())
            }
            Command::CancelInFlight { drop } => {
                self.run.shared.cancel.set();
                if drop {
                    self.abandon_at = Instant::now().checked_add(self.run.shared.pipeline.cancel_grace());
                }
                Ok(())
            }
            Command::Finish { outcome } => self.run.finish(outcome, self.now),
            Command::TakeSignal { step } => match self.run.take_signal(step, self.now)? {
                Some((number, outcome)) => {
                    let attempt = Attempt { task: Task::of(step), number, undo: false, permit: None };
                    self.settle_logged(Done { attempt, outcome }).await
                }
                None => Ok(()),
            },
            Command::Dispatch { .. } | Command::Compensate { .. } => Ok(()),
        }
    }

    /// Asks the condition, looks for an output to reuse, and counts lists.
    async fn prepare(&mut self, step: u32) -> Result<()> {
        if self.run.shared.pipeline.node(step).def.when.is_some() {
            // The condition is the user's code: it sees only what is recorded.
            self.flush().await?;
        }
        let prepared = match self.run.condition(step) {
            Ok(false) => return self.run.record(Event::Skipped { step }, self.now),
            Ok(true) => {
                if self.reuse(step).await? {
                    return Ok(());
                }
                self.run.prepare(step, self.now)
            }
            Err(error) => Err(error),
        };
        match prepared {
            Ok(()) => Ok(()),
            // What cannot be prepared fails as an attempt of its own.
            Err(error) => {
                let (at, task) = (self.now, Task::of(step));
                let attempt = self.run.scheduler.attempts(task) + 1;
                self.run.record(Event::Started { task, attempt, at }, at)?;
                let mut ended = self.run.judge(task, Err(error));
                ended.retry = false;
                self.run.ended(task, attempt, ended, at)
            }
        }
    }

    /// Begins an attempt; answers how it ended if it did not have to wait.
    fn execute(&mut self, mut attempt: Attempt) -> Option<Done> {
        let shared = &self.run.shared;
        let Attempt { task, number, undo, .. } = attempt;
        let node = shared.pipeline.node(task.step);
        let span = self.span(&attempt);
        let mut deadline = self.deadline(&attempt);
        let mut cx = self.run.context(task, number);
        cx.deadline = deadline.map(|deadline| deadline.at);
        cx.undo = undo;
        let nothing = || Work::Ready(Err(StepError::permanent("the step does nothing")));
        let before = self.now;
        let begun = if undo {
            let output = self.run.to_undo(task);
            let work = || node.def.undo.as_ref().map_or_else(nothing, |undo| (undo.start)(cx, output));
            span.in_scope(|| attempt::begin(shared, work))
        } else {
            if !node.plain
                && let Some(breaker) = &node.def.breaker
            {
                attempt.permit = breaker.admit(self.now);
                if attempt.permit.is_none() {
                    let message = format!("circuit breaker {:?} is open", breaker.name());
                    let outcome = Err(StepError::of(StepErrorKind::CircuitOpen, message));
                    return Some(Done { attempt, outcome });
                }
            }
            let view = self.run.view(task.step);
            let work = || node.start.as_ref().map_or_else(nothing, |start| start(cx, view));
            span.in_scope(|| attempt::begin(shared, work))
        };
        // One reading serves as the end of this attempt and the beginning of the next.
        self.now = shared.clock.now();
        attempt::notice(shared, self.now - before);
        match begun {
            Begun::Ended(outcome) => return Some(Done { attempt, outcome }),
            Begun::Waits(work) => {
                let ends_itself = match &node.def.undo {
                    Some(of) if undo => of.ends_itself,
                    _ => node.def.ends_itself,
                };
                let late = deadline.filter(|_| ends_itself);
                deadline = deadline.filter(|_| late.is_none());
                let carried = attempt::carry(Arc::clone(shared), work, deadline, undo);
                let carried = async move { attempt::in_time(carried.await, late) };
                self.flight.spawn(attempt, carried.instrument(span));
            }
            Begun::Blocking(work) => {
                self.flight.spawn_blocking(attempt, move || span.in_scope(|| attempt::block(work, deadline)));
            }
        }
        None
    }

    /// The span of an attempt. Where nobody collects spans, not even its fields are looked up.
    fn span(&self, attempt: &Attempt) -> tracing::Span {
        if !tracing::span_enabled!(tracing::Level::INFO) {
            return tracing::Span::none();
        }
        let (shared, Attempt { task, number, undo, .. }) = (&self.run.shared, attempt);
        tracing::info_span!(
            "step",
            run = shared.run.as_str(),
            step = shared.pipeline.graph().name(task.step),
            attempt = number,
            undo
        )
    }

    /// When an attempt that begins now has to end.
    fn deadline(&self, attempt: &Attempt) -> Option<Deadline> {
        let shared = &self.run.shared;
        let node = shared.pipeline.node(attempt.task.step);
        if attempt.undo {
            return node.def.undo.as_ref()?.timeout.and_then(Deadline::after);
        }
        if node.plain {
            return None;
        }
        let total = shared.pipeline.step_plan(attempt.task.step).total_timeout;
        let own = node.def.timeout.and_then(Deadline::after);
        let total = total.zip(self.run.scheduler.deadline(attempt.task)).map(|(allowed, at)| Deadline {
            at: shared.clock.instant(at),
            allowed: Duration::from_micros(allowed.unsigned_abs()),
            in_total: true,
        });
        own.into_iter().chain(total).min_by_key(|deadline| deadline.at)
    }

    /// Records how an attempt ended, where there is no log.
    fn settle(&mut self, done: Done) -> Result<()> {
        let at = self.now;
        let Done { attempt: Attempt { task, number, undo, permit }, outcome } = done;
        if undo {
            return self.run.undo_ended(task, number, outcome.map(drop), at);
        }
        tell_breaker(permit, &outcome, at);
        match outcome {
            // Nobody has a say in it.
            Ok(output) if self.run.shared.pipeline.node(task.step).plain => {
                self.run.succeeded(task, number, output, at)
            }
            outcome => {
                let ended = self.run.judge(task, outcome);
                self.run.ended(task, number, ended, at)
            }
        }
    }

    /// Records how an attempt ended, with its output in the log or beside it.
    async fn settle_logged(&mut self, done: Done) -> Result<()> {
        if self.flight.log.is_none() || done.attempt.undo {
            return self.settle(done);
        }
        let Done { attempt: Attempt { task, number, permit, .. }, outcome } = done;
        tell_breaker(permit, &outcome, self.now);
        let mut ended = self.run.judge(task, outcome);
        if let Some(output) = ended.result.as_ref().ok().or(ended.refused.as_ref()) {
            let def = &self.run.shared.pipeline.node(task.step).def;
            match encode(def, task, output) {
                Ok(json) => {
                    if ended.result.is_ok() {
                        self.keep_for_reuse(task, &json).await;
                    }
                    ended.stored = Some(kept(&self.run.shared, json).await?);
                }
                Err(error) if ended.result.is_ok() => {
                    (ended.result, ended.retry) = (Err(error), false);
                }
                // A refused output that cannot be kept is not there for the undo after a crash.
                Err(_) => ended.refused = None,
            }
        }
        let at = self.now;
        self.run.ended(task, number, ended, at)?;
        if self.reuse_keys.contains_key(&task.step)
            && self.run.scheduler.status(Task::of(task.step)) == Status::Succeeded
            && let Some(Ok(json)) =
                self.run.outputs.steps[task.step as usize].as_ref().map(|output| output.encode())
        {
            self.keep_for_reuse(Task::of(task.step), &json).await;
        }
        Ok(())
    }

    fn is_left_suspended(&mut self) -> bool {
        if !self.run.scheduler.is_suspended() {
            self.told_suspended = false;
            return false;
        }
        if !std::mem::replace(&mut self.told_suspended, true) && self.run.shared.bus.is_active() {
            let signals = self.run.scheduler.awaited_signals().map(|step| self.run.name(step).to_owned());
            let kind = RunEventKind::Suspended { signals: signals.collect() };
            self.run.shared.emit(self.now, kind);
        }
        self.return_when_suspended
    }

    /// Waits for whatever comes first.
    async fn wait(&mut self) -> Result<()> {
        let timer = self.timers.peek().map(|Reverse((at, _))| self.run.shared.clock.instant(*at));
        let sleep = async |until: Option<Instant>| match until {
            Some(until) => tokio::time::sleep_until(until).await,
            None => std::future::pending().await,
        };
        enum Came {
            Done(Result<Done>),
            Control(Control),
            Timer,
            Abandon,
        }
        let came = tokio::select! {
            done = self.flight.next() => Came::Done(done),
            Some(control) = self.control.recv() => Came::Control(control),
            () = sleep(timer) => Came::Timer,
            () = sleep(self.abandon_at) => Came::Abandon,
        };
        self.now = self.run.shared.clock.now();
        match came {
            Came::Done(done) => self.settle_logged(done?).await?,
            Came::Control(control) => self.control(control)?,
            Came::Timer => self.fire()?,
            Came::Abandon => {
                self.abandon_at = None;
                self.run.shared.abandon.set();
            }
        }
        self.take_in().await
    }

    /// Takes in everything that has come, without waiting.
    async fn take_in(&mut self) -> Result<()> {
        while let Ok(control) = self.control.try_recv() {
            self.control(control)?;
        }
        while let Some(done) = self.flight.try_next() {
            self.settle_logged(done?).await?;
        }
        while self.timers.peek().is_some_and(|Reverse((at, _))| *at <= self.now) {
            self.fire()?;
        }
        Ok(())
    }

    fn fire(&mut self) -> Result<()> {
        let Some(Reverse((at, task))) = self.timers.pop() else { return Ok(()) };
        let now = self.now;
        if self.run.scheduler.status(task) == Status::Sleeping {
            self.run.slept(task, at, now)
        } else {
            self.run.record(Event::TimerFired { task }, now)
        }
    }

    fn control(&mut self, control: Control) -> Result<()> {
        let at = self.now;
        match control {
            Control::Cancel { answer } => {
                self.run.record(Event::CancelRequested, at)?;
                self.answers.push(answer);
            }
            Control::Signal { step, value, answer } => {
                let pipeline = self.run.shared.pipeline.clone();
                let found = super::find(&pipeline, &step).and_then(|found| {
                    if pipeline.step_plan(found).kind == Kind::Signal {
                        return Ok(found);
                    }
                    let message = format!("step {step:?} of pipeline {:?} awaits no signal", pipeline.name());
                    Err(Error::new(ErrorKind::NotFound, message).in_step(&*step))
                });
                match found.and_then(|step| self.run.signalled(step, value, at)) {
                    Ok(()) => {
                        self.answers.push(answer);
                        // Whoever waits is told anew, should the value be refused.
                        self.told_suspended = false;
                    }
                    // The caller may have gone.
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
        }
        Ok(())
    }
}

/// Tells the step's circuit breaker how the attempt ended, if that says anything of the service.
fn tell_breaker(permit: Option<Permit>, outcome: &Outcome, at: i64) {
    if let Some(permit) = permit
        && !matches!(outcome, Err(error) if error.kind() == StepErrorKind::Cancelled)
    {
        permit.record(outcome.is_ok(), at);
    }
}

/// Decides where an output is kept; a large one is there before the log names it.
pub(super) async fn kept(shared: &RunShared, json: Box<RawValue>) -> Result<Stored> {
    if json.get().len() <= INLINE_LIMIT {
        return Ok(Stored::Inline(json));
    }
    let artifact = Artifact::of(json.get().as_bytes());
    let key = BlobKey::Artifact { run: shared.run.clone(), sha256: artifact.sha256.clone() };
    shared.store().put_blob(&key, json.get().as_bytes()).await?;
    Ok(Stored::Artifact(artifact))
}

/// The output as the log keeps it, which must read back as what it was.
fn encode(def: &StepDef, task: Task, output: &Output) -> Result<Box<RawValue>, StepError> {
    let bad = |message: &dyn std::fmt::Display| StepError::of(StepErrorKind::BadValue, message);
    let json = catch_unwind(AssertUnwindSafe(|| output.encode()))
        .map_err(|payload| StepError::panicked(&*payload))?
        .map_err(|error| bad(&format_args!("the output cannot be written as JSON: {error}")))?;
    let text = json.get();
    if text.len() > OUTPUT_LIMIT {
        return Err(bad(&format_args!(
            "the output has {} bytes as JSON; {OUTPUT_LIMIT} are allowed; keep it with `put_artifact` and return the reference",
            text.len()
        )));
    }
    if may_read_back_otherwise(text) {
        let decode = if task.item == NONE { def.body.decode } else { def.decode_item };
        decode(text).map_err(|error| {
            bad(&format_args!(
                "the output cannot be read back from its JSON: {error}; a number that is NaN or infinite becomes null, \
                 for example"
            ))
        })?;
    }
    Ok(json)
}

/// Whether it is worth a look that JSON that was written can be read: there is a null, or it is deep.
fn may_read_back_otherwise(json: &str) -> bool {
    let bytes = json.as_bytes();
    let depth = bytes.iter().filter(|byte| matches!(byte, b'[' | b'{')).count();
    depth > 100 || bytes.windows(4).any(|word| word == b"null")
}
