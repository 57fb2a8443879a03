use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::time::Instant;

use crate::output::{Output, StepOutput, typed};
use crate::scheduler::NONE;
use crate::shared::RunShared;
use crate::step_error::{StepError, StepErrorKind};
use crate::store::BlobKey;

/// A step that is known by its name, with JSON for its output.
///
/// Implement it for steps that are chosen at run time, shared between programs, or made from a file;
/// where the types are known, a closure given to [`StepBuilder::run`](crate::StepBuilder::run) is shorter.
///
/// The engine may call [`run`](PipelineStep::run) again after an error, a crash or a lost lease, until a
/// result is recorded: use [`StepContext::idempotency_key`] towards the outside. It never calls it again
/// afterwards. It may drop the future at any await once the run is cancelled or the attempt timed out.
#[async_trait]
pub trait PipelineStep: Send + Sync + 'static {
    /// Does the work. The outputs of the dependencies are read with [`StepContext::output`].
    ///
    /// # Errors
    /// Any error fails the attempt; [`StepError::permanent`] one that no retry can mend.
    async fn run(&self, cx: &StepContext) -> Result<Value, StepError>;

    /// Undoes what [`run`](PipelineStep::run) did, if [`compensates`](PipelineStep::compensates) says so.
    ///
    /// `output` is absent where the step failed or its end was not recorded: it may have done all, part or nothing.
    ///
    /// # Errors
    /// Retried; when that does not help, the run is stuck until an operator decides.
    async fn compensate(&self, cx: &StepContext, output: Option<&Value>) -> Result<(), StepError> {
        let _ = (cx, output);
        Ok(())
    }

    /// Whether the step has something to undo.
    fn compensates(&self) -> bool {
        false
    }

    /// Names the behaviour; a change is noticed when a run is resumed.
    fn version(&self) -> &str {
        ""
    }

    /// Whether the step ends by itself, and soon, when its time is up, which [`StepContext::cancelled`] then tells it; the engine
    /// waits for that instead of dropping it. For steps that have something outside to end.
    fn ends_itself(&self) -> bool {
        false
    }
}

#[async_trait]
impl<P: PipelineStep + ?Sized> PipelineStep for Arc<P> {
    async fn run(&self, cx: &StepContext) -> Result<Value, StepError> {
        (**self).run(cx).await
    }

    async fn compensate(&self, cx: &StepContext, output: Option<&Value>) -> Result<(), StepError> {
        (**self).compensate(cx, output).await
    }

    fn compensates(&self) -> bool {
        (**self).compensates()
    }

    fn version(&self) -> &str {
        (**self).version()
    }

    fn ends_itself(&self) -> bool {
        (**self).ends_itself()
    }
}

/// What an attempt of a step knows of its run. Cheap to clone.
#[derive(Clone)]
pub struct StepContext {
    pub(crate) shared: Arc<RunShared>,
    pub(crate) step: u32,
    pub(crate) item: u32,
    pub(crate) attempt: u32,
    /// The outputs of the dependencies, for steps that ask for them by name.
    pub(crate) inputs: Option<Arc<[(u32, Output)]>>,
    pub(crate) deadline: Option<Instant>,
    /// Whether this is an attempt to undo the step, which a cancelled run waits for.
    pub(crate) undo: bool,
}

impl StepContext {
    /// The run's id.
    pub fn run_id(&self) -> &str {
        self.shared.run.as_str()
    }

    /// The step's name.
    pub fn step(&self) -> &str {
        self.shared.pipeline.graph().name(self.step)
    }

    /// The index of the item, in a fan-out step.
    pub fn item(&self) -> Option<u32> {
        (self.item != NONE).then_some(self.item)
    }

    /// Which attempt this is, from 1, over all resumes of the run.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// `run/step`, or `run/step[item]` in a fan-out, with `/undo` behind it in an undo: the same for every attempt. Give it
    /// to a service that must do a thing once.
    pub fn idempotency_key(&self) -> String {
        let undo = if self.undo { "/undo" } else { "" };
        match self.item() {
            Some(item) => format!("{}/{}[{item}]{undo}", self.run_id(), self.step()),
            None => format!("{}/{}{undo}", self.run_id(), self.step()),
        }
    }

    /// The idempotency key with the number of the attempt: different for every attempt.
    pub fn attempt_key(&self) -> String {
        format!("{}/{}", self.idempotency_key(), self.attempt)
    }

    /// The input that the run was started with.
    ///
    /// # Errors
    /// If it cannot be read as a `T`.
    pub fn run_input<T: DeserializeOwned>(&self) -> Result<T, StepError> {
        serde_json::from_str(&self.shared.input).map_err(|error| {
            let wanted = std::any::type_name::<T>();
            StepError::of(StepErrorKind::BadValue, format_args!("the run's input is no {wanted}: {error}"))
        })
    }

    /// The output of a dependency, by its name; for steps made with [`PipelineStep`].
    ///
    /// # Errors
    /// If the step does not depend on one of that name, if that was skipped, or if its output cannot be read as a `T`.
    pub fn output<T: StepOutput>(&self, dependency: &str) -> Result<Arc<T>, StepError> {
        let graph = self.shared.pipeline.graph();
        let inputs = self.inputs.as_deref().unwrap_or_default();
        let mut named =
            inputs.iter().filter(|(step, _)| *step != NONE).map(|(step, output)| (graph.name(*step), output));
        let found = named.clone().find(|(name, _)| *name == dependency);
        let (_, output) = found.ok_or_else(|| {
            let known: Vec<&str> = named.by_ref().map(|(name, _)| name).collect();
            let message = format!(
                "{:?} has no input {dependency:?}; it has {known:?}; name it with `after`",
                self.step()
            );
            StepError::of(StepErrorKind::BadValue, message)
        })?;
        typed(output)
    }

    /// The item that this attempt is about; for steps made with [`PipelineStep`] that a file runs with `for_each`.
    ///
    /// # Errors
    /// If the step is no such fan-out, or if the item cannot be read as a `T`.
    #[cfg(feature = "files")]
    pub fn item_value<T: StepOutput>(&self) -> Result<Arc<T>, StepError> {
        let inputs = self.inputs.as_deref().unwrap_or_default();
        let found = inputs.iter().find(|(step, _)| *step == NONE);
        let missing = || StepError::of(StepErrorKind::BadValue, "the step is run over no list");
        typed(&found.ok_or_else(missing)?.1)
    }

    /// The outputs of the dependencies as a JSON object by name.
    #[cfg(feature = "files")]
    pub(crate) fn inputs_json(&self) -> Result<Vec<u8>, StepError> {
        let graph = self.shared.pipeline.graph();
        let mut object = std::collections::BTreeMap::new();
        for (step, output) in self.inputs.as_deref().unwrap_or_default() {
            if *step != NONE {
                object.insert(graph.name(*step), output.encode().map_err(StepError::from)?);
            }
        }
        Ok(serde_json::to_vec(&object)?)
    }

    /// Whether the result of this attempt is no longer wanted: the run was cancelled, another step failed, or time is up.
    /// A run that failed or was cancelled waits for its undos: for one of them only time can be up.
    pub fn is_cancelled(&self) -> bool {
        !self.undo && self.shared.cancel.is_cancelled()
            || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// Waits until the result of this attempt is no longer wanted, as [`is_cancelled`](StepContext::is_cancelled) says.
    pub async fn cancelled(&self) {
        let unwanted = async {
            match self.undo {
                true => std::future::pending().await,
                false => self.shared.cancel.cancelled().await,
            }
        };
        match self.deadline {
            // The clock's word is all that comes of it.
            Some(deadline) => drop(tokio::time::timeout_at(deadline, unwanted).await),
            None => unwanted.await,
        }
    }

    /// Tells observers how far the attempt is: `done` of `total`, in any unit. Not kept in the log.
    pub fn progress(&self, done: u64, total: u64) {
        self.shared.progress(self, done, total);
    }

    /// Keeps bytes that are too large for an output, and answers what to pass on in their place.
    ///
    /// # Errors
    /// If the store cannot keep them.
    pub async fn put_artifact(&self, bytes: &[u8]) -> Result<Artifact, StepError> {
        let artifact = Artifact::of(bytes);
        let key = BlobKey::Artifact { run: self.shared.run.clone(), sha256: artifact.sha256.clone() };
        self.shared.store().put_blob(&key, bytes).await?;
        Ok(artifact)
    }

    /// Reads an artifact of this run; its digest is checked.
    ///
    /// # Errors
    /// If it is not there, damaged, or cannot be read.
    pub async fn get_artifact(&self, artifact: &Artifact) -> Result<Vec<u8>, StepError> {
        let bytes = self.shared.artifact(&artifact.sha256).await?;
        let bytes = bytes.ok_or_else(|| {
            StepError::permanent(format_args!("artifact {} is not in the store", artifact.sha256))
        })?;
        if Artifact::of(&bytes) != *artifact {
            return Err(StepError::permanent(format_args!("artifact {} is damaged", artifact.sha256)));
        }
        Ok(bytes)
    }

    /// How long the attempt may still take, if a timeout was set.
    pub fn remaining(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

impl std::fmt::Debug for StepContext {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StepContext({})", self.attempt_key())
    }
}

/// Bytes kept beside the log, by their digest.
#[derive(Debug, Clone, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[non_exhaustive]
pub struct Artifact {
    /// The SHA-256 of the bytes in lower-case hex.
    pub sha256: String,
    /// How many bytes.
    pub bytes: u64,
}

impl Artifact {
    pub(crate) fn of(bytes: &[u8]) -> Self {
        Artifact { sha256: crate::digest::sha256(bytes), bytes: bytes.len() as u64 }
    }
}
