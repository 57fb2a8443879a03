use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use futures::FutureExt;
use serde_json::value::RawValue;

use crate::definition::Work;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Bus;
use crate::local::{RunOptions, take_up};
use crate::output::Output;
use crate::pipeline::Pipeline;
use crate::report::RunReport;
use crate::run::{Past, Run, parse};
use crate::scheduler::{Command, Event, GOLDEN, Kind, Status, Task, splitmix};
use crate::shared::{Clock, RunShared};
use crate::step_error::StepError;
use crate::store::{MemoryStore, Record, RunId};
use crate::wire::Stored;

/// Runs a pipeline in virtual time, with interleavings, failures and crashes drawn from a seed.
///
/// It drives the same scheduler and writes the same log as [`LocalEngine`](crate::LocalEngine); an hour takes no time, and the
/// same seed gives the same run. Steps run their real code in place: one that waits for something outside fails the simulation.
///
/// ```
/// use std::time::Duration;
/// use swarm_pipeline::Pipeline;
/// use swarm_pipeline::testing::SimEngine;
///
/// let mut p = Pipeline::builder("two");
/// let a = p.step("a").run(|_cx, ()| async { Ok(1) });
/// p.step("b").input(&a).run(|_cx, a| async move { Ok(*a + 1) });
/// let sim = SimEngine::new(7).duration(|_| Duration::from_secs(60)).crash_rate(0.2).run(&p.build()?)?;
/// assert!(sim.report.is_success());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct SimEngine {
    seed: u64,
    workers: u32,
    duration: Option<Box<dyn Fn(&SimAttempt<'_>) -> Duration>>,
    failure: Option<Box<dyn Fn(&SimAttempt<'_>) -> bool>>,
    crash_rate: f64,
    cancel_at: Option<Duration>,
    signals: Vec<(Duration, String, Box<RawValue>)>,
    takeovers: Vec<(Duration, Pipeline, RunOptions)>,
}

/// An attempt that is about to begin.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct SimAttempt<'a> {
    /// The step's name.
    pub step: &'a str,
    /// The item, in a fan-out step.
    pub item: Option<u32>,
    /// Its number, from 1.
    pub attempt: u32,
    /// Whether it is an undo.
    pub undo: bool,
}

/// What came of a simulation.
#[derive(Debug)]
#[non_exhaustive]
pub struct SimReport {
    /// The run as its last driver saw it.
    pub report: RunReport,
    /// What really happened, whoever knew of it.
    pub witness: Vec<Witness>,
    /// Virtual time from the beginning to the end.
    pub makespan: Duration,
    /// How many drivers died.
    pub crashes: u32,
}

/// Something that really happened in a simulation. Steps are numbered as in [`Pipeline::graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are named after those of SimAttempt")]
pub enum Witness {
    /// The code of a step was called.
    Began { step: u32, item: Option<u32>, attempt: u32 },
    /// Its success was appended to the log.
    Recorded { step: u32, item: Option<u32> },
    /// The undo of a step was called.
    UndoBegan { step: u32, item: Option<u32>, attempt: u32 },
    /// Its success was appended to the log.
    UndoRecorded { step: u32, item: Option<u32> },
    /// The driver died, with all that was under way.
    Crashed,
    /// The failure of an attempt was appended to the log.
    Failed { step: u32, item: Option<u32> },
    /// The failure of an undo was appended to the log.
    UndoFailed { step: u32, item: Option<u32> },
    /// Another driver took the run up, in the order of [`SimEngine::take_over_at`], or was refused. Steps are numbered by its
    /// pipeline from here on.
    TakenOver { takeover: u32, accepted: bool },
    /// A result that was recorded no longer counts, because of the takeover just before.
    PutBack { step: u32, item: Option<u32> },
}

/// Something that is to happen.
enum Due {
    Ended { task: Task, attempt: u32, undo: bool, outcome: Result<Output, StepError> },
    Timer { task: Task },
    Cancel,
    Signal { at: usize },
    Takeover { number: usize },
}

#[derive(PartialEq, Eq)]
enum Crash {
    None,
    Appended,
    Unappended,
}

impl SimEngine {
    /// A simulation without crashes, in which attempts take 1 ms to 1 s by chance and fail only if their code does.
    pub fn new(seed: u64) -> Self {
        SimEngine {
            seed,
            workers: u32::MAX,
            duration: None,
            failure: None,
            crash_rate: 0.0,
            cancel_at: None,
            signals: Vec::new(),
            takeovers: Vec::new(),
        }
    }

    /// How many attempts can be under way at once, if less than the pipeline's own limit.
    #[must_use]
    pub fn workers(mut self, workers: u32) -> Self {
        self.workers = workers;
        self
    }

    /// How long each attempt takes.
    #[must_use]
    pub fn duration(mut self, duration: impl Fn(&SimAttempt<'_>) -> Duration + 'static) -> Self {
        self.duration = Some(Box::new(duration));
        self
    }

    /// Which attempts fail, whatever their code says.
    #[must_use]
    pub fn failure(mut self, failure: impl Fn(&SimAttempt<'_>) -> bool + 'static) -> Self {
        self.failure = Some(Box::new(failure));
        self
    }

    /// The chance, from 0 to 1, that the driver dies at a moment when something happens. At most 1,000 drivers die in a run.
    #[must_use]
    pub fn crash_rate(mut self, rate: f64) -> Self {
        self.crash_rate = rate;
        self
    }

    /// Cancels the run at this virtual time.
    #[must_use]
    pub fn cancel_at(mut self, time: Duration) -> Self {
        self.cancel_at = Some(time);
        self
    }

    /// Sends a signal at this virtual time. The value must be one JSON value.
    ///
    /// # Errors
    /// [`ErrorKind::Codec`] if the value cannot be written as JSON.
    pub fn signal_at<V: serde::Serialize>(mut self, time: Duration, signal: &str, value: V) -> Result<Self> {
        let value = serde_json::value::to_raw_value(&value).map_err(|error| {
            Error::new(ErrorKind::Codec, "the value cannot be written as JSON").because(error)
        })?;
        self.signals.push((time, signal.to_owned(), value));
        Ok(self)
    }

    /// Ends the driver at this virtual time, whether the run is over or not, and lets another take the run up as
    /// [`LocalEngine::run_with`](crate::LocalEngine::run_with) would, with `pipeline` and `options`. Where that is refused, the next
    /// driver goes on as before.
    #[must_use]
    pub fn take_over_at(mut self, time: Duration, pipeline: &Pipeline, options: RunOptions) -> Self {
        self.takeovers.push((time, pipeline.clone(), options));
        self
    }

    /// Simulates one run.
    ///
    /// # Errors
    /// What resuming after a crash answers; there is none unless the crate has a fault.
    pub fn run(&self, pipeline: &Pipeline) -> Result<SimReport> {
        let pipeline = pipeline.limited_to(self.workers);
        let mut sim = Simulation::new(self, pipeline)?;
        sim.drive()?;
        let makespan = Duration::from_micros(sim.now.unsigned_abs());
        let report = sim.run.into_report();
        Ok(SimReport { report, witness: sim.witness, makespan, crashes: sim.crashes })
    }
}

struct Simulation<'a> {
    engine: &'a SimEngine,
    pipeline: Pipeline,
    run: Run,
    log: Vec<Record>,
    due: BTreeMap<(i64, u64), Due>,
    /// Microseconds since the beginning.
    now: i64,
    chance: Chance,
    witness: Vec<Witness>,
    /// What the records in the outbox will have made certain.
    unrecorded: Vec<Witness>,
    crashes: u32,
}

impl<'a> Simulation<'a> {
    fn new(engine: &'a SimEngine, pipeline: Pipeline) -> Result<Self> {
        let mut due = BTreeMap::new();
        let micros = |time: Duration| time.as_micros().min(i64::MAX as u128) as i64;
        if let Some(at) = engine.cancel_at {
            due.insert((micros(at), 0), Due::Cancel);
        }
        for (at, (time, _, _)) in engine.signals.iter().enumerate() {
            due.insert((micros(*time), 1 + at as u64), Due::Signal { at });
        }
        for (number, (time, _, _)) in engine.takeovers.iter().enumerate() {
            due.insert((micros(*time), u64::MAX - number as u64), Due::Takeover { number });
        }
        Ok(Simulation {
            engine,
            run: Run::begin(shared(&pipeline, 0)?, Vec::new(), true, 0)?,
            pipeline,
            log: Vec::new(),
            due,
            now: 0,
            chance: Chance(engine.seed),
            witness: Vec::new(),
            unrecorded: Vec::new(),
            crashes: 0,
        })
    }

    fn drive(&mut self) -> Result<()> {
        loop {
            while let Some(command) = self.run.scheduler.poll() {
                self.obey(command)?;
            }
            self.flush();
            let Some(((at, _), due)) = self.due.pop_first() else { return Ok(()) };
            // What comes for a run that is over is refused.
            if self.run.scheduler.is_finished() && !matches!(due, Due::Takeover { .. }) {
                continue;
            }
            self.now = self.now.max(at);
            let again = match &due {
                Due::Cancel => Some(Due::Cancel),
                Due::Signal { at } => Some(Due::Signal { at: *at }),
                _ => None,
            };
            self.happen(due)?;
            // A takeover left the run as it is; nothing is under way that a crash could touch.
            if self.run.scheduler.is_finished() {
                continue;
            }
            if self.maybe_crash()? == Crash::Unappended
                && let Some(due) = again
            {
                // Its sender had no answer, and sends it again.
                self.later(self.now.saturating_add(1_000_000), due);
            }
        }
    }

    fn flush(&mut self) {
        self.log.append(&mut self.run.outbox);
        self.witness.append(&mut self.unrecorded);
    }

    fn obey(&mut self, command: Command) -> Result<()> {
        let at = self.now;
        match command {
            Command::Prepare { step } => match self.run.condition(step) {
                Ok(false) => self.run.record(Event::Skipped { step }, at),
                Ok(true) => match self.run.prepare(step, at) {
                    Ok(()) => Ok(()),
                    Err(error) => self.fail_unprepared(step, error),
                },
                Err(error) => self.fail_unprepared(step, error),
            },
            Command::Dispatch { task, attempt } => {
                self.run.record(Event::Started { task, attempt, at }, at)?;
                self.flush();
                self.witness.push(Witness::Began { step: task.step, item: item(task), attempt });
                self.begin(task, attempt, false);
                Ok(())
            }
            Command::Compensate { task, attempt } => {
                self.run.record(Event::UndoStarted { task, attempt }, at)?;
                self.flush();
                self.witness.push(Witness::UndoBegan { step: task.step, item: item(task), attempt });
                self.begin(task, attempt, true);
                Ok(())
            }
            Command::StartTimer { task, at } => {
                self.later(at, Due::Timer { task });
                Ok(())
            }
            // Whoever is under way comes to an end in its own time, as a step that looks at nothing does.
            Command::CancelInFlight { .. } => Ok(()),
            Command::Finish { outcome } => self.run.finish(outcome, at),
            Command::TakeSignal { step } => match self.run.take_signal(step, at)? {
                Some((attempt, outcome)) => self.ended(Task::of(step), attempt, outcome),
                None => Ok(()),
            },
        }
    }

    fn fail_unprepared(&mut self, step: u32, error: StepError) -> Result<()> {
        let (at, task) = (self.now, Task::of(step));
        let attempt = self.run.scheduler.attempts(task) + 1;
        self.run.record(Event::Started { task, attempt, at }, at)?;
        let mut ended = self.run.judge(task, Err(error));
        ended.retry = false;
        self.run.ended(task, attempt, ended, at)
    }

    fn begin(&mut self, task: Task, attempt: u32, undo: bool) {
        let pipeline = self.pipeline.clone();
        let what = SimAttempt { step: pipeline.graph().name(task.step), item: item(task), attempt, undo };
        let took = match &self.engine.duration {
            Some(duration) => duration(&what).as_micros().min(i64::MAX as u128) as i64,
            None => 1_000 + (self.chance.next() % 999_000) as i64,
        };
        let outcome = match &self.engine.failure {
            Some(failure) if failure(&what) => Err(StepError::new("made to fail")),
            _ => self.call(task, attempt, undo),
        };
        self.later(self.now.saturating_add(took), Due::Ended { task, attempt, undo, outcome });
    }

    fn call(&self, task: Task, attempt: u32, undo: bool) -> Result<Output, StepError> {
        let cx = self.run.context(task, attempt);
        let node = self.pipeline.node(task.step);
        let work = match (&node.def.undo, &node.start) {
            (Some(of), _) if undo => (of.start)(cx, self.run.to_undo(task)),
            (_, Some(start)) => start(cx, self.run.view(task.step)),
            _ => return Err(StepError::permanent("the step does nothing")),
        };
        match work {
            Work::Ready(outcome) => outcome,
            Work::Blocking(work) => work(),
            Work::Async(mut future) => match future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(outcome) => outcome,
                Poll::Pending => {
                    Err(StepError::permanent("a simulated step must not wait for anything outside"))
                }
            },
        }
    }

    fn later(&mut self, at: i64, due: Due) {
        let tie = self.chance.next();
        self.due.insert((at, tie), due);
    }

    fn happen(&mut self, due: Due) -> Result<()> {
        let at = self.now;
        match due {
            Due::Timer { task } if self.run.scheduler.status(task) == Status::Sleeping => {
                self.run.slept(task, at, at)
            }
            Due::Timer { task } => self.run.record(Event::TimerFired { task }, at),
            Due::Cancel => self.run.record(Event::CancelRequested, at),
            Due::Signal { at: number } => {
                let (_, name, value) = &self.engine.signals[number];
                match self.pipeline.graph().find(name) {
                    Some(step) if self.pipeline.step_plan(step).kind == Kind::Signal => {
                        self.run.signalled(step, value.clone(), at)
                    }
                    _ => Err(Error::new(ErrorKind::NotFound, format!("no step awaits the signal {name:?}"))),
                }
            }
            Due::Takeover { number } => self.take_over(number),
            Due::Ended { task, attempt, undo: true, outcome } => {
                let (step, item) = (task.step, item(task));
                self.unrecorded.push(match outcome {
                    Ok(_) => Witness::UndoRecorded { step, item },
                    Err(_) => Witness::UndoFailed { step, item },
                });
                self.run.undo_ended(task, attempt, outcome.map(drop), at)
            }
            Due::Ended { task, attempt, undo: false, outcome } => self.ended(task, attempt, outcome),
        }
    }

    fn ended(&mut self, task: Task, attempt: u32, outcome: Result<Output, StepError>) -> Result<()> {
        let mut ended = self.run.judge(task, outcome);
        let output = ended.result.as_ref().ok().or(ended.refused.as_ref());
        ended.stored = output.and_then(|output| output.encode().ok()).map(Stored::Inline);
        let (step, item) = (task.step, item(task));
        self.unrecorded.push(match ended.result {
            Ok(_) => Witness::Recorded { step, item },
            Err(_) => Witness::Failed { step, item },
        });
        self.run.ended(task, attempt, ended, self.now)
    }

    /// The driver dies before or after what just happened was appended, and another takes over.
    fn maybe_crash(&mut self) -> Result<Crash> {
        if self.crashes >= 1_000 || self.chance.unit() >= self.engine.crash_rate {
            return Ok(Crash::None);
        }
        self.crashes += 1;
        let appended = self.chance.next().is_multiple_of(2);
        if appended {
            self.flush();
        } else {
            self.unrecorded.clear();
            self.run.outbox.clear();
        }
        self.witness.push(Witness::Crashed);
        let before = appended.then(|| self.run.scheduler.snapshot());
        let shared = shared(&self.pipeline, self.now)?;
        let entries = parse(&shared.run, &self.log)?;
        let past = Past::fold(&shared.run, &entries)?;
        let resumed = Run::resume(shared, past, self.log.len(), &[]).now_or_never();
        let never = || Error::new(ErrorKind::InvalidState, "resuming waited for something");
        self.run = resumed.ok_or_else(never)??;
        if before.is_some_and(|before| before != self.run.scheduler.snapshot()) {
            return Err(Error::new(ErrorKind::Corrupt, "the folded log is not the state that wrote it"));
        }
        self.run.resumed(u64::from(self.crashes), self.now)?;
        self.forget_what_was_under_way();
        Ok(if appended { Crash::Appended } else { Crash::Unappended })
    }

    /// It died with the driver; what comes from outside still comes.
    fn forget_what_was_under_way(&mut self) {
        self.due.retain(|_, due| matches!(due, Due::Cancel | Due::Signal { .. } | Due::Takeover { .. }));
    }

    /// The driver dies when all it knows is appended, and the next one has wishes of its own.
    fn take_over(&mut self, number: usize) -> Result<()> {
        self.flush();
        self.witness.push(Witness::Crashed);
        self.forget_what_was_under_way();
        let (_, pipeline, options) = &self.engine.takeovers[number];
        let pipeline = pipeline.limited_to(self.engine.workers);
        let before = self.results();
        let accepted = match self.take_up(&pipeline, options) {
            Ok(run) => {
                (self.run, self.pipeline) = (run, pipeline);
                true
            }
            Err(error) if matches!(error.kind(), ErrorKind::InvalidState | ErrorKind::DefinitionChanged) => {
                self.run = self.take_up(&self.pipeline, &RunOptions::new())?;
                false
            }
            Err(error) => return Err(error),
        };
        self.unrecorded.push(Witness::TakenOver { takeover: number as u32, accepted });
        let after = self.results();
        for (name, item) in before.into_iter().filter(|result| !after.contains(result)) {
            if let Some(step) = self.pipeline.graph().find(&name) {
                self.unrecorded.push(Witness::PutBack { step, item });
            }
        }
        self.flush();
        Ok(())
    }

    fn take_up(&self, pipeline: &Pipeline, options: &RunOptions) -> Result<Run> {
        let shared = shared(pipeline, self.now)?;
        let entries = parse(&shared.run, &self.log)?;
        let past = Past::fold(&shared.run, &entries)?;
        let token = u64::from(self.crashes);
        let taken_up = take_up(shared, past, self.log.len(), token, options, None).now_or_never();
        taken_up.ok_or_else(|| Error::new(ErrorKind::InvalidState, "resuming waited for something"))?
    }

    /// The steps and items whose results count, by name.
    fn results(&self) -> BTreeSet<(String, Option<u32>)> {
        let mut results = BTreeSet::new();
        for step in 0..self.pipeline.len() as u32 {
            let items = 0..self.run.scheduler.item_count(step).unwrap_or(0);
            for task in items.map(|item| Task { step, item }).chain([Task::of(step)]) {
                if matches!(self.run.scheduler.status(task), Status::Succeeded | Status::Reused) {
                    results.insert((self.pipeline.graph().name(step).to_owned(), item(task)));
                }
            }
        }
        results
    }
}

fn item(task: Task) -> Option<u32> {
    crate::wire::item(task)
}

fn shared(pipeline: &Pipeline, at: i64) -> Result<Arc<RunShared>> {
    let (run, input) = (RunId::new("simulation")?, "null".to_owned());
    let (bus, store) = (Arc::new(Bus::new()), Arc::new(MemoryStore::default()));
    Ok(RunShared::new(run, pipeline.clone(), input, bus, Clock::stopped(at), store))
}

/// splitmix64 (Steele, Lea, Flood 2014).
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        let next = splitmix(self.0);
        self.0 = self.0.wrapping_add(GOLDEN);
        next
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}
