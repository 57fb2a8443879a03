//! The engine that runs pipelines in this process.

mod attempt;
mod driver;
mod in_flight;
mod live;
mod options;
mod reuse;
mod take_up;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::Utc;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::digest::sha256;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Bus, EventStream, RunEvent};
use crate::history::{self, RunSummary};
use crate::pipeline::Pipeline;
use crate::report::{RunReport, RunStatus};
use crate::run::{Past, Run, accepts, parse};
use crate::scheduler::Event;
use crate::shared::{Clock, RunShared};
use crate::store::{BlobKey, CheckpointStore, FileStore, MemoryStore, RunId};
use driver::{Driver, Resumption};
use live::{Control, Live};
pub use options::{OnChange, Retention, RunOptions};
use take_up::check_same;
#[cfg(feature = "testing")]
pub(crate) use take_up::take_up;

/// Runs pipelines on the tokio runtime it is called from, and keeps their logs in a [`CheckpointStore`].
///
/// Cheap to clone; clones are the same engine. A call that drives a run does so inside its own future:
/// dropping it is like a crash, and calling it again resumes.
#[derive(Clone)]
pub struct LocalEngine(Arc<Inner>);

struct Inner {
    /// Where blobs go, and logs if `logging`.
    store: Arc<dyn CheckpointStore>,
    logging: bool,
    bus: Arc<Bus>,
    live: Live,
    /// What was learnt of the durations of each pipeline's steps, by pipeline name.
    durations: Mutex<HashMap<String, HashMap<String, u64>>>,
}

impl LocalEngine {
    /// An engine whose runs are kept in the folder `dir`, which is made if need be; see [`FileStore`].
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where the folder cannot be made or written.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Ok(LocalEngine::with_store(FileStore::open(dir.as_ref())?))
    }

    /// An engine whose runs are kept in `store`.
    pub fn with_store(store: impl CheckpointStore) -> Self {
        LocalEngine::new(Arc::new(store), true)
    }

    /// An engine that keeps nothing: runs cannot be resumed, and outputs are never written as JSON.
    pub fn in_memory() -> Self {
        LocalEngine::new(Arc::new(MemoryStore::default()), false)
    }

    fn new(store: Arc<dyn CheckpointStore>, logging: bool) -> Self {
        LocalEngine(Arc::new(Inner {
            store,
            logging,
            bus: Arc::new(Bus::new()),
            live: Live::default(),
            durations: Mutex::default(),
        }))
    }

    /// Runs `pipeline` under the id `run`, to its end.
    ///
    /// The same id again resumes where the log ends; a run that is over is answered from its log, without running
    /// anything. A failed step is no `Err`: look at [`RunReport::status`], or ask [`RunReport::into_result`].
    ///
    /// To drive it in a task of its own, give that clones: both are cheap.
    ///
    /// ```
    /// # use swarm_pipeline::{LocalEngine, Pipeline};
    /// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let (engine, pipeline) = (LocalEngine::in_memory(), Pipeline::builder("p").build()?);
    /// let running = tokio::spawn({
    ///     let (engine, pipeline) = (engine.clone(), pipeline.clone());
    ///     async move { engine.run(&pipeline, "nightly", ()).await }
    /// });
    /// let report = running.await??.into_result()?;
    /// # let _ = report; Ok(()) }
    /// ```
    ///
    /// # Panics
    /// Where the runtime has no timer: `enable_time` or `enable_all` of its builder.
    ///
    /// # Errors
    /// [`ErrorKind::RunBusy`] where it is being driven; [`ErrorKind::DefinitionChanged`]; [`ErrorKind::InvalidState`] outside of a tokio runtime; [`ErrorKind::InvalidInput`] for an
    /// unacceptable id, or an input other than the one it was started with; and what the store answers.
    pub async fn run<I: Serialize>(
        &self,
        pipeline: &Pipeline,
        run: impl TryInto<RunId, Error: Into<Error>>,
        input: I,
    ) -> Result<RunReport> {
        self.run_with(pipeline, run, input, RunOptions::new()).await
    }

    /// As [`run`](LocalEngine::run), with options for a run that is there already.
    ///
    /// # Errors
    /// As [`run`](LocalEngine::run); [`ErrorKind::NotFound`] where [`RunOptions::restart_from`] names no step.
    pub async fn run_with<I: Serialize>(
        &self,
        pipeline: &Pipeline,
        run: impl TryInto<RunId, Error: Into<Error>>,
        input: I,
        options: RunOptions,
    ) -> Result<RunReport> {
        let run = run.try_into().map_err(Into::into)?;
        let input = serde_json::to_string(&input).map_err(|error| {
            Error::new(ErrorKind::Codec, "the run's input cannot be written as JSON")
                .in_run(&run)
                .because(error)
        })?;
        let resumption = Resumption { options, verb: None };
        self.drive(pipeline, run, Some(input), resumption).await
    }

    /// Resumes a run by its id alone, with the input that it was started with; otherwise as [`run`](LocalEngine::run).
    ///
    /// A service that starts finds its unfinished runs by [`runs`](LocalEngine::runs).
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such run; as [`run`](LocalEngine::run).
    pub async fn resume(
        &self,
        pipeline: &Pipeline,
        run: impl TryInto<RunId, Error: Into<Error>>,
        options: RunOptions,
    ) -> Result<RunReport> {
        let resumption = Resumption { options, verb: None };
        self.drive(pipeline, run.try_into().map_err(Into::into)?, None, resumption).await
    }

    /// What has become of a run so far, from its log alone: nothing runs, and whoever drives it is not disturbed.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::DefinitionChanged`] where the run is not one of a pipeline of this name;
    /// [`ErrorKind::Codec`] for a recorded output that is not of the type it has now.
    pub async fn report(
        &self,
        pipeline: &Pipeline,
        run: impl TryInto<RunId, Error: Into<Error>>,
    ) -> Result<RunReport> {
        let run = run.try_into().map_err(Into::into)?;
        let records = self.records(&run).await?;
        let entries = parse(&run, &records)?;
        let past = Past::fold(&run, &entries)?;
        check_same(&run, &past, pipeline, None)?;
        let shared = self.share(pipeline, run, past.input.get().to_owned());
        Ok(Run::resume(shared, past, records.len(), &[]).await?.into_report())
    }

    /// Undoes a run that is over: the compensation of every step that is done or may be done, in reverse order.
    ///
    /// A run that was rolled back already is answered as it is.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::InvalidState`] where the run is not over or is stuck; as [`run`](LocalEngine::run).
    pub async fn rollback(
        &self,
        pipeline: &Pipeline,
        run: impl TryInto<RunId, Error: Into<Error>>,
    ) -> Result<RunReport> {
        self.operate(pipeline, run.try_into().map_err(Into::into)?, Event::RollbackRequested).await
    }

    /// Tries the undo of `step` again, in a run that is stuck, and goes on with the rollback.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::InvalidState`] where the undo of that step is not stuck; as [`run`](LocalEngine::run).
    pub async fn retry_undo(
        &self,
        pipeline: &Pipeline,
        run: impl TryInto<RunId, Error: Into<Error>>,
        step: &str,
    ) -> Result<RunReport> {
        let step = find(pipeline, step)?;
        self.operate(pipeline, run.try_into().map_err(Into::into)?, Event::UndoRetried { step }).await
    }

    /// Takes `step` as undone by hand, in a run that is stuck, and goes on with the rollback.
    ///
    /// # Errors
    /// As [`retry_undo`](LocalEngine::retry_undo).
    pub async fn mark_compensated(
        &self,
        pipeline: &Pipeline,
        run: impl TryInto<RunId, Error: Into<Error>>,
        step: &str,
    ) -> Result<RunReport> {
        let step = find(pipeline, step)?;
        self.operate(pipeline, run.try_into().map_err(Into::into)?, Event::UndoMarked { step }).await
    }

    async fn operate(&self, pipeline: &Pipeline, run: RunId, verb: Event) -> Result<RunReport> {
        let resumption = Resumption { options: RunOptions::new(), verb: Some(verb) };
        self.drive(pipeline, run, None, resumption).await
    }

    async fn drive(
        &self,
        pipeline: &Pipeline,
        run: RunId,
        input: Option<String>,
        resumption: Resumption,
    ) -> Result<RunReport> {
        if tokio::runtime::Handle::try_current().is_err() {
            let message =
                "there is no tokio runtime here; await the run inside one that has its timer enabled";
            return Err(Error::new(ErrorKind::InvalidState, message).in_run(&run));
        }
        if input.is_none() {
            // Taking the place of a run makes its log.
            self.records(&run).await?;
        }
        let place = self.0.live.enter(&run).await?;
        let log = match self.0.logging {
            true => Some(self.0.store.acquire(&run).await?),
            false => None,
        };
        let mut driver = Driver::open(self, pipeline, run, input, log, place, resumption).await?;
        let driven = driver.drive().await;
        if driven.is_err() {
            driver.wind_up().await;
        }
        if !self.0.logging {
            // Nothing can refer to its artifacts any more.
            let _ = self.0.store.delete(&driver.run.shared.run).await;
        }
        driven?;
        let run = driver.into_run();
        self.learn(&run).await;
        Ok(run.into_report())
    }

    /// Ends a run: attempts under way are told and, after [`PipelineBuilder::cancel_grace`](crate::PipelineBuilder::cancel_grace), dropped;
    /// then the run is rolled back. Answers when the request is recorded. A run that nobody drives is cancelled when it is next resumed.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`]; [`ErrorKind::InvalidState`] where the run is over; [`ErrorKind::RunBusy`] where another process drives it.
    pub async fn cancel(&self, run: impl TryInto<RunId, Error: Into<Error>>) -> Result<()> {
        let run = run.try_into().map_err(Into::into)?;
        let (answer, answered) = oneshot::channel();
        match self.tell(&run, Control::Cancel { answer }, answered).await {
            Some(answer) => answer,
            None => self.append_offline(&run, |at| Ok(crate::wire::Entry::CancelRequested { at })).await,
        }
    }

    /// Brings the value that the step `signal` of `run` waits for, or will wait for. Answers when it is recorded. The first value counts.
    ///
    /// Another process can do so while nobody drives the run: let it go with [`RunOptions::return_when_suspended`]. The value is
    /// then looked at when the run is taken up; one of another type is refused, in the report, and the run waits on.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such run or the pipeline awaits no such signal; [`ErrorKind::Codec`] where the run is being driven and the value is not of
    /// the step's type; [`ErrorKind::InvalidState`] where the run is over; [`ErrorKind::RunBusy`] where another process drives it.
    pub async fn signal<V: Serialize>(
        &self,
        run: impl TryInto<RunId, Error: Into<Error>>,
        signal: &str,
        value: V,
    ) -> Result<()> {
        let run = run.try_into().map_err(Into::into)?;
        let value = serde_json::value::to_raw_value(&value).map_err(|error| {
            Error::new(ErrorKind::Codec, "the value of the signal cannot be written as JSON")
                .in_run(&run)
                .because(error)
        })?;
        let (answer, answered) = oneshot::channel();
        let control = Control::Signal { step: signal.to_owned(), value: value.clone(), answer };
        match self.tell(&run, control, answered).await {
            Some(answer) => answer,
            None => {
                let step = signal.to_owned();
                self.append_offline(&run, |at| {
                    Ok(crate::wire::Entry::Signalled { at, step: step.into(), value })
                })
                .await
            }
        }
    }

    /// Asks the driver of a run, if this engine has one.
    async fn tell(
        &self,
        run: &RunId,
        control: Control,
        answered: oneshot::Receiver<Result<()>>,
    ) -> Option<Result<()>> {
        let sender = self.0.live.driver(run)?;
        sender.send(control).await.ok()?;
        answered.await.ok()
    }

    /// Appends an entry to the log of a run that nobody drives.
    async fn append_offline<'e>(
        &self,
        run: &RunId,
        entry: impl FnOnce(i64) -> Result<crate::wire::Entry<'e>>,
    ) -> Result<()> {
        self.records(run).await?;
        let mut log = self.0.store.acquire(run).await?;
        let records = log.take_records();
        let entry = entry(Clock::start().now())?;
        accepts(&Past::fold(run, &parse(run, &records)?)?, &entry)?;
        let body = serde_json::to_string(&entry).map_err(|error| {
            Error::new(ErrorKind::Codec, "an entry of the log cannot be written").because(error)
        })?;
        log.append(&[crate::store::Record { seq: records.len() as u64, body }]).await
    }

    /// All runs in the store, in ascending order of their ids. A run whose log cannot be read is left out, with a warning to `tracing`.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn runs(&self) -> Result<Vec<RunSummary>> {
        let mut runs = Vec::new();
        for run in self.0.store.list().await? {
            let summary = match self.0.store.read(&run).await {
                Ok(records) if records.is_empty() => continue,
                Ok(records) => history::summarize(&run, &records),
                Err(error) => Err(error),
            };
            match summary {
                Ok(summary) => runs.push(summary),
                Err(error) => tracing::warn!(run = run.as_str(), %error, "left out of the list"),
            }
        }
        Ok(runs)
    }

    /// What happened in a run, in the order it was recorded. Needs no pipeline.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], and what the store answers.
    pub async fn history(&self, run: impl TryInto<RunId, Error: Into<Error>>) -> Result<Vec<RunEvent>> {
        let run = run.try_into().map_err(Into::into)?;
        let records = self.records(&run).await?;
        history::events(&run, &records)
    }

    /// Removes the runs that `retention` allows, with their artifacts, and answers which. A run that was taken up in the
    /// meantime stays.
    ///
    /// # Errors
    /// What the store answers.
    pub async fn prune(&self, retention: &Retention) -> Result<Vec<RunId>> {
        let mut runs = self.runs().await?;
        runs.sort_by_key(|run| std::cmp::Reverse(run.updated));
        let mut seen: HashMap<String, usize> = HashMap::new();
        let mut removed = Vec::new();
        let now = Utc::now();
        for run in runs {
            let younger = seen.entry(run.pipeline.clone()).or_default();
            let allowed = retention.allows(&run, *younger, now);
            *younger += 1;
            if !allowed {
                continue;
            }
            // Much time may have passed since it was listed.
            let is_as_listed =
                |records: Vec<_>| history::summarize(&run.run, &records).ok() == Some(run.clone());
            if !self.0.store.read(&run.run).await.is_ok_and(is_as_listed) {
                continue;
            }
            match self.0.store.delete(&run.run).await {
                Ok(()) => removed.push(run.run),
                Err(error) if error.kind() == ErrorKind::RunBusy => {}
                Err(error) => return Err(error),
            }
        }
        Ok(removed)
    }

    /// Calls `observer` with everything that happens in runs of this engine, on the thread that drives them: it must be quick.
    /// An observer that panics is contained.
    pub fn observe(&self, observer: impl Fn(&RunEvent) + Send + Sync + 'static) {
        self.0.bus.observe(Arc::new(observer));
    }

    /// A stream of everything that happens in runs of this engine from now on.
    pub fn events(&self) -> EventStream {
        self.0.bus.stream()
    }

    /// The log of a run that is there.
    async fn records(&self, run: &RunId) -> Result<Vec<crate::store::Record>> {
        let records = match self.0.logging {
            true => self.0.store.read(run).await?,
            false => Vec::new(),
        };
        match records.is_empty() {
            true => Err(Error::new(ErrorKind::NotFound, format!("there is no run {run}")).in_run(run)),
            false => Ok(records),
        }
    }

    fn share(&self, pipeline: &Pipeline, run: RunId, input: String) -> Arc<RunShared> {
        let (bus, store) = (Arc::clone(&self.0.bus), Arc::clone(&self.0.store));
        RunShared::new(run, pipeline.clone(), input, bus, Clock::start(), store)
    }

    /// What is known of the durations of the pipeline's steps; empty where nothing is.
    async fn learnt(&self, pipeline: &Pipeline) -> Vec<u64> {
        let known = self.durations().get(pipeline.name()).cloned();
        let known = match known {
            Some(known) => known,
            None if self.0.logging => {
                let kept = self.0.store.get_blob(&durations_key(pipeline)).await;
                // A lost or damaged hint costs speed, not correctness.
                let kept = kept.ok().flatten().and_then(|bytes| serde_json::from_slice(&bytes).ok());
                let known: HashMap<String, u64> = kept.unwrap_or_default();
                self.durations().insert(pipeline.name().to_owned(), known.clone());
                known
            }
            None => return Vec::new(),
        };
        if known.is_empty() {
            return Vec::new();
        }
        let graph = pipeline.graph();
        (0..pipeline.len() as u32).map(|step| known.get(graph.name(step)).copied().unwrap_or(0)).collect()
    }

    /// Learns how long the steps took: half the old value, half the new. Steps under a millisecond are not worth knowing.
    async fn learn(&self, run: &Run) {
        if !self.0.logging || run.status() != RunStatus::Succeeded {
            return;
        }
        let pipeline = &run.shared.pipeline;
        let mut changed = false;
        let known = {
            let mut all = self.durations();
            let known = all.entry(pipeline.name().to_owned()).or_default();
            for (step, took) in run.durations().into_iter().enumerate().filter(|(_, took)| *took >= 1000) {
                let slot = known.entry(pipeline.graph().name(step as u32).to_owned()).or_insert(took);
                changed |= slot.abs_diff(took) * 10 >= *slot || *slot == took;
                *slot = (*slot + took) / 2;
            }
            known.clone()
        };
        if changed && let Ok(bytes) = serde_json::to_vec(&known) {
            // As above: only a hint.
            let _ = self.0.store.put_blob(&durations_key(pipeline), &bytes).await;
        }
    }

    fn durations(&self) -> MutexGuard<'_, HashMap<String, HashMap<String, u64>>> {
        self.0.durations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn durations_key(pipeline: &Pipeline) -> BlobKey {
    BlobKey::Durations { pipeline: sha256(pipeline.name().as_bytes()) }
}

fn find(pipeline: &Pipeline, step: &str) -> Result<u32> {
    pipeline.graph().find(step).ok_or_else(|| {
        let message = format!("pipeline {:?} has no step {step:?}{}", pipeline.name(), pipeline.hint(step));
        Error::new(ErrorKind::NotFound, message).in_step(step)
    })
}

impl std::fmt::Debug for LocalEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LocalEngine").field("logging", &self.0.logging).finish_non_exhaustive()
    }
}
