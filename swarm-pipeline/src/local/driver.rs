//! The loop that carries one run: asks the scheduler, appends, acts, waits.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tracing::Instrument;

use super::attempt::{self, Begun, Done, Outcome};
use super::{Control, LocalEngine, OnChange, RunOptions};
use crate::definition::Work;
use crate::digest::sha256_parts;
use crate::error::{Error, ErrorKind, Result};
use crate::event::RunEventKind;
use crate::pipeline::Pipeline;
use crate::report::RunStatus;
use crate::run::{Changes, INLINE_LIMIT, OUTPUT_LIMIT, Past, Run, parse};
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
    run: Run,
    log: Option<Box<dyn RunLog>>,
    /// How many dispatches go into one append.
    batch: usize,
    control: mpsc::Receiver<Control>,
    tasks: JoinSet<Done>,
    timers: BinaryHeap<Reverse<(i64, Task)>>,
    /// When attempts that were asked to end are dropped.
    abandon_at: Option<Instant>,
    return_when_suspended: bool,
    told_suspended: bool,
    /// Answers owed to callers once the outbox is appended.
    answers: Vec<oneshot::Sender<Result<()>>>,
    reuse_keys: HashMap<u32, String>,
    /// The time as it was last read: when the last attempt made in place ended, or the last wait.
    now: i64,
}

/// Attempts made in place before the runtime gets a turn.
const TURN: u32 = 128;

/// An attempt that the scheduler asked for and the log knows of.
#[derive(Clone, Copy)]
struct Dispatched {
    task: Task,
    attempt: u32,
    undo: bool,
}

/// What is kept for reuse.
#[derive(Serialize, Deserialize)]
struct Reusable {
    run: String,
    output: Box<RawValue>,
}

impl Driver {
    pub(super) async fn open(
        engine: &LocalEngine,
        pipeline: &Pipeline,
        id: RunId,
        input: Option<String>,
        mut log: Option<Box<dyn RunLog>>,
        control: mpsc::Receiver<Control>,
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
            run,
            log,
            batch,
            control,
            tasks: JoinSet::new(),
            timers: BinaryHeap::new(),
            abandon_at: None,
            return_when_suspended: options.return_when_suspended,
            told_suspended: false,
            answers: Vec::new(),
            reuse_keys: HashMap::new(),
        })
    }

    pub(super) fn into_run(self) -> Run {
        self.run
    }

    pub(super) async fn drive(&mut self) -> Result<()> {
        let mut wave = Vec::with_capacity(self.batch);
        let mut turn = 0;
        loop {
            while wave.len() < self.batch {
                match self.run.scheduler.poll() {
                    None => break,
                    Some(Command::Dispatch { task, attempt }) => {
                        let at = self.now;
                        self.run.record(Event::Started { task, attempt, at }, at)?;
                        wave.push(Dispatched { task, attempt, undo: false });
                    }
                    Some(Command::Compensate { task, attempt }) => {
                        self.run.record(Event::UndoStarted { task, attempt }, self.now)?;
                        wave.push(Dispatched { task, attempt, undo: true });
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
            for dispatched in wave.drain(..) {
                turn += 1;
                match self.execute(dispatched) {
                    None => {}
                    Some(done) if self.log.is_none() => self.settle(done)?,
                    Some(done) => self.settle_logged(done).await?,
                }
            }
            if turn >= TURN {
                turn = 0;
                tokio::task::yield_now().await;
                self.now = self.run.shared.clock.now();
                self.take_in().await?;
            }
        }
    }

    /// Appends what was recorded; then observers and callers may know of it.
    async fn flush(&mut self) -> Result<()> {
        if let Some(log) = &mut self.log
            && !self.run.outbox.is_empty()
        {
            let appended = log.append(&self.run.outbox).await;
            self.run.outbox.clear();
            if let Err(error) = appended {
                self.tasks.abort_all();
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
                self.timers.push(Reverse((at, task)));
                Ok(())
            }
            Command::CancelInFlight { drop } => {
                self.run.shared.cancel.set();
                if drop {
                    self.abandon_at = Some(Instant::now() + self.run.shared.pipeline.cancel_grace());
                }
                Ok(())
            }
            Command::Finish { outcome } => self.run.finish(outcome, self.now),
            Command::TakeSignal { step } => match self.run.take_signal(step, self.now)? {
                Some((attempt, outcome)) => {
                    let task = Task::of(step);
                    self.settle_logged(Done { task, attempt, undo: false, outcome }).await
                }
                None => Ok(()),
            },
            Command::Dispatch { .. } | Command::Compensate { .. } => Ok(()),
        }
    }

    /// Asks the condition, looks for an output to reuse, and counts lists.
    async fn prepare(&mut self, step: u32) -> Result<()> {
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

    /// Takes the output of an earlier run, if the step wants that and there is one.
    async fn reuse(&mut self, step: u32) -> Result<bool> {
        let pipeline = self.run.shared.pipeline.clone();
        let def = &pipeline.node(step).def;
        if !def.reuse {
            return Ok(false);
        }
        let mut parts: Vec<String> =
            vec![pipeline.graph().name(step).into(), pipeline.step_fingerprint(step)];
        parts.push(self.run.shared.input.clone());
        for dependency in pipeline.graph().dependencies(step) {
            let output = self.run.outputs.steps[*dependency as usize].as_ref();
            let json = output.map(|output| output.encode()).transpose().map_err(|error| {
                Error::new(ErrorKind::Codec, "an input cannot be written as JSON").because(error)
            })?;
            parts.push(json.map_or_else(String::new, |json| json.get().to_owned()));
        }
        let key = sha256_parts(parts.iter().map(String::as_bytes));
        // A lost or damaged entry costs a run of the step, not more.
        let kept =
            self.run.shared.store().get_blob(&BlobKey::Reuse { key: key.clone() }).await.ok().flatten();
        let kept = kept.and_then(|bytes| serde_json::from_slice::<Reusable>(&bytes).ok());
        if let Some(Reusable { run, output: json }) = kept
            && let Ok(output) = (def.body.decode)(json.get())
        {
            let stored = store(&self.run.shared, json).await?;
            self.run.reuse(step, run, output, stored, self.now)?;
            return Ok(true);
        }
        self.reuse_keys.insert(step, key);
        Ok(false)
    }

    /// Begins an attempt; answers how it ended if it did not have to wait.
    fn execute(&mut self, Dispatched { task, attempt, undo }: Dispatched) -> Option<Done> {
        let shared = &self.run.shared;
        let node = shared.pipeline.node(task.step);
        let span = tracing::info_span!(
            "step",
            run = shared.run.as_str(),
            step = shared.pipeline.graph().name(task.step),
            attempt,
            undo
        );
        let deadline = if undo { None } else { self.deadline(task) };
        let mut cx = self.run.context(task, attempt);
        cx.deadline = deadline.map(Instant::into_std);
        cx.undo = undo;
        let nothing = || Work::Ready(Err(StepError::permanent("the step does nothing")));
        let before = self.now;
        let begun = if undo {
            let output = self.run.to_undo(task);
            let work = || node.def.undo.as_ref().map_or_else(nothing, |undo| undo(cx, output));
            span.in_scope(|| attempt::begin(shared, work))
        } else {
            if let Some(breaker) = &node.def.breaker
                && !breaker.admit(self.now)
            {
                let message = format!("circuit breaker {:?} is open", breaker.name());
                let outcome = Err(StepError::of(StepErrorKind::CircuitOpen, message));
                return Some(Done { task, attempt, undo, outcome });
            }
            let view = self.run.view(task.step);
            let work = || node.def.body.start.as_ref().map_or_else(nothing, |start| start(cx, view));
            span.in_scope(|| attempt::begin(shared, work))
        };
        // One reading serves as the end of this attempt and the beginning of the next.
        self.now = shared.clock.now();
        attempt::notice(shared, self.now - before);
        match begun {
            Begun::Ended(outcome) => return Some(Done { task, attempt, undo, outcome }),
            Begun::Waits(work) => {
                let carried = attempt::carry(Arc::clone(shared), work, deadline, undo).instrument(span);
                self.tasks.spawn(async move { Done { task, attempt, undo, outcome: carried.await } });
            }
            Begun::Blocking(work) => {
                let deadline = deadline.map(Instant::into_std);
                self.tasks.spawn_blocking(move || {
                    let outcome = span.in_scope(|| attempt::block(work, deadline));
                    Done { task, attempt, undo, outcome }
                });
            }
        }
        None
    }

    /// When an attempt that begins now has to end.
    fn deadline(&self, task: Task) -> Option<Instant> {
        let shared = &self.run.shared;
        let node = shared.pipeline.node(task.step);
        if node.def.timeout.is_none() && shared.pipeline.step_plan(task.step).total_timeout.is_none() {
            return None;
        }
        let own = node.def.timeout.map(|timeout| Instant::now() + timeout);
        let total = self.run.scheduler.deadline(task).map(|deadline| shared.clock.instant(deadline));
        own.into_iter().chain(total).min()
    }

    /// Records how an attempt ended, where there is no log.
    fn settle(&mut self, done: Done) -> Result<()> {
        let at = self.now;
        let Done { task, attempt, undo, outcome } = done;
        if undo {
            return self.run.undo_ended(task, attempt, outcome.map(drop), at);
        }
        let def = &self.run.shared.pipeline.node(task.step).def;
        match outcome {
            // Nobody has a say in it.
            Ok(output) if def.gates.is_empty() && def.breaker.is_none() => {
                self.run.succeeded(task, attempt, output, at)
            }
            outcome => {
                self.tell_breaker(task, &outcome);
                let ended = self.run.judge(task, outcome);
                self.run.ended(task, attempt, ended, at)
            }
        }
    }

    fn tell_breaker(&self, task: Task, outcome: &Outcome) {
        let shared = &self.run.shared;
        let Some(breaker) = &shared.pipeline.node(task.step).def.breaker else { return };
        match outcome {
            Err(error) if error.kind() == StepErrorKind::CircuitOpen => {}
            Err(error) if error.kind() == StepErrorKind::Cancelled => breaker.forget(),
            outcome => breaker.record(outcome.is_ok(), self.now),
        }
    }

    /// Records how an attempt ended, with its output in the log or beside it.
    async fn settle_logged(&mut self, done: Done) -> Result<()> {
        if self.log.is_none() || done.undo {
            return self.settle(done);
        }
        let Done { task, attempt, outcome, .. } = done;
        self.tell_breaker(task, &outcome);
        let mut ended = self.run.judge(task, outcome);
        if let Some(output) = ended.result.as_ref().ok().or(ended.refused.as_ref()) {
            match encode(output) {
                Ok(json) => {
                    if ended.result.is_ok() {
                        self.keep_for_reuse(task, &json).await;
                    }
                    ended.stored = Some(store(&self.run.shared, json).await?);
                }
                Err(error) if ended.result.is_ok() => {
                    (ended.result, ended.retry) = (Err(error), false);
                }
                // A refused output that cannot be kept is not there for the undo after a crash.
                Err(_) => ended.refused = None,
            }
        }
        let at = self.now;
        self.run.ended(task, attempt, ended, at)?;
        if self.reuse_keys.contains_key(&task.step)
            && self.run.scheduler.status(Task::of(task.step)) == Status::Succeeded
            && let Some(Ok(json)) = self.run.outputs.steps[task.step as usize].as_ref().map(encode)
        {
            self.keep_for_reuse(Task::of(task.step), &json).await;
        }
        Ok(())
    }

    /// Keeps the output of a whole step, if it asked for that.
    async fn keep_for_reuse(&mut self, task: Task, output: &RawValue) {
        if task.item != NONE {
            return;
        }
        let Some(key) = self.reuse_keys.remove(&task.step) else { return };
        let run = self.run.shared.run.to_string();
        if let Ok(bytes) = serde_json::to_vec(&Reusable { run, output: output.to_owned() }) {
            let kept = self.run.shared.store().put_blob(&BlobKey::Reuse { key }, &bytes).await;
            if let Err(error) = kept {
                tracing::warn!(%error, "an output was not kept for reuse");
            }
        }
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
            Done(std::result::Result<Done, tokio::task::JoinError>),
            Control(Control),
            Timer,
            Abandon,
        }
        let came = tokio::select! {
            Some(done) = self.tasks.join_next() => Came::Done(done),
            Some(control) = self.control.recv() => Came::Control(control),
            () = sleep(timer) => Came::Timer,
            () = sleep(self.abandon_at) => Came::Abandon,
        };
        self.now = self.run.shared.clock.now();
        match came {
            Came::Done(done) => self.joined(done).await?,
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
        while let Some(done) = self.tasks.try_join_next() {
            self.joined(done).await?;
        }
        while self.timers.peek().is_some_and(|Reverse((at, _))| *at <= self.now) {
            self.fire()?;
        }
        Ok(())
    }

    async fn joined(&mut self, done: std::result::Result<Done, tokio::task::JoinError>) -> Result<()> {
        match done {
            Ok(done) => self.settle_logged(done).await,
            // Panics are caught inside, so that only a runtime that shuts down ends a task from outside.
            Err(error) => Err(Error::new(ErrorKind::InvalidState, "the runtime ended a step").because(error)),
        }
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
                    Ok(()) => self.answers.push(answer),
                    // The caller may have gone.
                    Err(error) => drop(answer.send(Err(error))),
                }
            }
        }
        Ok(())
    }
}

/// Decides where an output is kept; a large one is there before the log names it.
async fn store(shared: &RunShared, json: Box<RawValue>) -> Result<Stored> {
    if json.get().len() <= INLINE_LIMIT {
        return Ok(Stored::Inline(json));
    }
    let artifact = Artifact::of(json.get().as_bytes());
    let key = BlobKey::Artifact { run: shared.run.clone(), sha256: artifact.sha256.clone() };
    shared.store().put_blob(&key, json.get().as_bytes()).await?;
    Ok(Stored::Artifact(artifact))
}

/// Brings a run back and applies what the caller wants of it.
async fn take_up(
    shared: Arc<RunShared>,
    past: Past<'_>,
    records: usize,
    token: u64,
    options: &RunOptions,
    verb: Option<Event>,
) -> Result<Run> {
    let (id, pipeline) = (shared.run.clone(), shared.pipeline.clone());
    let status = past.status();
    let over = past.scheduler.is_finished();
    let restart = options.restart_from.as_deref().map(|name| super::find(&pipeline, name)).transpose()?;
    let again = options.retry_failed && !matches!(status, RunStatus::Succeeded | RunStatus::Stuck);
    let refuse = |why: String| Err(Error::new(ErrorKind::InvalidState, why).in_run(&id));
    if restart.is_some() && (status == RunStatus::Stuck || !over && past.scheduler.is_undoing()) {
        return refuse(format!(
            "run {id} is {status} in its rollback; end that first, with `retry_undo` or `mark_compensated` where it is stuck"
        ));
    }
    let changes = past.changes(&pipeline);
    let told = verb.is_some() || restart.is_some() || over && again;
    let rerun = if changes.is_empty() {
        Vec::new()
    } else {
        let keep: &dyn Fn(&str) -> bool = match &options.on_change {
            // An operator's word is about what was done, and an answer from the log about nothing new.
            OnChange::Refuse if verb.is_some() || over && !told => &|_| true,
            OnChange::Refuse => return Err(changed(&id, &changes, past.scheduler.is_undoing())),
            OnChange::Rerun => &|_| false,
            OnChange::Migrate(keep) => &**keep,
        };
        check_undos(&id, &past, &pipeline)?;
        let others = changes.changed.iter().filter(|name| !keep(name)).chain(&changes.added);
        others.filter_map(|name| pipeline.graph().find(name)).collect()
    };
    let redefine = !past.is_defined_by(&pipeline);
    let mut run = Run::resume(shared, past, records).await?;
    let at = run.shared.clock.now();
    let rerun = run.scheduler.downstream(rerun);
    let forward = verb.is_none()
        && run.scheduler.goes_forward()
        && !(over && matches!(options.on_change, OnChange::Refuse));
    if over && !told && !(forward && !rerun.is_empty()) {
        return Ok(run);
    }
    if redefine {
        run.redefined(if forward { rerun.clone() } else { Vec::new() }, at)?;
    }
    if let Some(verb) = verb {
        if matches!(verb, Event::RollbackRequested) && run.scheduler.is_rolled_back() {
            return Ok(run);
        }
        let stuck = run.scheduler.stuck_steps();
        let fits = match verb {
            Event::RollbackRequested => run.scheduler.is_finished() && status != RunStatus::Stuck,
            Event::UndoRetried { step } | Event::UndoMarked { step } => stuck.contains(&step),
            _ => false,
        };
        if !fits {
            let names: Vec<&str> = stuck.iter().map(|step| run.name(*step)).collect();
            return refuse(match status {
                RunStatus::Stuck => format!(
                    "run {id} is stuck in the undo of {names:?}; `retry_undo` or `mark_compensated` take it on"
                ),
                status => format!("run {id} is {status}, so that there is nothing for this verb to do"),
            });
        }
        run.resumed(token, at)?;
        run.record(verb, at)?;
    } else if let Some(step) = restart {
        let mut steps = run.scheduler.undone();
        steps.push(step);
        steps.extend(rerun);
        let steps = run.scheduler.downstream(steps);
        run.resumed(token, at)?;
        run.reset(steps, &[], at)?;
    } else if over && again {
        let mut steps = run.scheduler.unfinished();
        steps.extend(rerun);
        let steps = run.scheduler.downstream(steps);
        let keep_items = run.scheduler.partly_done(&steps);
        run.resumed(token, at)?;
        run.reset(steps, &keep_items, at)?;
    } else {
        run.resumed(token, at)?;
    }
    Ok(run)
}

fn changed(id: &RunId, changes: &Changes, undoing: bool) -> Error {
    let advice = match undoing {
        true => "resume with `OnChange::Migrate` to finish its rollback with the undos as they are now",
        false => "resume with `OnChange::Rerun` or `OnChange::Migrate`, or start a new run",
    };
    let message = format!("the pipeline is not the one that run {id} was started with: {changes}; {advice}");
    Error::new(ErrorKind::DefinitionChanged, message).in_run(id)
}

/// What is to be undone must have its undo still.
fn check_undos(id: &RunId, past: &Past<'_>, pipeline: &Pipeline) -> Result<()> {
    let owed = past.scheduler.to_undo();
    let lost = owed
        .iter()
        .map(|step| past.graph().name(*step))
        .find(|name| pipeline.graph().find(name).is_none_or(|step| !pipeline.step_plan(step).undo));
    let Some(step) = lost else { return Ok(()) };
    let message = format!(
        "run {id} is being rolled back, and step {step:?} has no undo any more; finish it with a pipeline that has one"
    );
    Err(Error::new(ErrorKind::DefinitionChanged, message).in_run(id).in_step(step))
}

fn check_same(id: &RunId, past: &Past<'_>, pipeline: &Pipeline, input: Option<&str>) -> Result<()> {
    if past.pipeline != pipeline.name() {
        let message =
            format!("run {id} belongs to pipeline {:?}, not to {:?}", past.pipeline, pipeline.name());
        return Err(Error::new(ErrorKind::DefinitionChanged, message).in_run(id));
    }
    // The order of members is not part of a value.
    let value = |json: &str| serde_json::from_str::<serde_json::Value>(json).ok();
    let was = past.input.get();
    match input {
        Some(input) if input != was && value(input) != value(was) => {
            let message =
                format!("run {id} was started with another input; the same id resumes, so use another one");
            Err(Error::new(ErrorKind::InvalidInput, message).in_run(id))
        }
        _ => Ok(()),
    }
}

fn encode(output: &crate::output::Output) -> Result<Box<RawValue>, StepError> {
    let json = output.encode().map_err(|error| {
        StepError::of(StepErrorKind::BadValue, format_args!("the output cannot be written as JSON: {error}"))
    })?;
    if json.get().len() > OUTPUT_LIMIT {
        let message = format!(
            "the output has {} bytes as JSON; {OUTPUT_LIMIT} are allowed; keep it with `put_artifact` and return the reference",
            json.get().len()
        );
        return Err(StepError::of(StepErrorKind::BadValue, message));
    }
    Ok(json)
}
