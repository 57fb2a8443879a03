//! What a pipeline keeps of each step once it is built: code with its types erased.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::breaker::CircuitBreaker;
use crate::gate::GateResult;
use crate::output::{Output, View};
use crate::step::StepContext;
use crate::step_error::StepError;

/// A step of a pipeline: what every attempt needs, close together, and the rest. Nesting shares both and moves `base`.
#[derive(Clone)]
pub(crate) struct Node {
    /// Begins an attempt. Absent in steps that only wait.
    pub(crate) start: Option<StartFn>,
    pub(crate) def: Arc<StepDef>,
    /// What must be added to the step numbers that the definition knows.
    pub(crate) base: u32,
    /// Whether `def` has nothing to say to an attempt: no gate, no timeout, no breaker.
    pub(crate) plain: bool,
}

pub(crate) type StartFn = Arc<dyn Fn(StepContext, View<'_>) -> Work + Send + Sync>;

pub(crate) struct StepDef {
    pub(crate) body: Body,
    pub(crate) when: Option<Box<dyn Fn(View<'_>) -> Result<bool, StepError> + Send + Sync>>,
    /// Of each gate, whether its refusal may be retried.
    pub(crate) gates: Vec<bool>,
    pub(crate) judge: Box<dyn Fn(&Output) -> Vec<GateResult> + Send + Sync>,
    /// Reads the output of one task: the step's own, or an item's.
    pub(crate) decode_item: fn(&str) -> serde_json::Result<Output>,
    pub(crate) undo: Option<Undo>,
    pub(crate) timeout: Option<Duration>,
    /// Whether it comes to its end by itself when its time is up, and is waited for.
    pub(crate) ends_itself: bool,
    pub(crate) version: String,
    pub(crate) reuse: bool,
    pub(crate) breaker: Option<CircuitBreaker>,
}

pub(crate) struct Undo {
    pub(crate) start: Box<dyn Fn(StepContext, Option<Output>) -> Work + Send + Sync>,
    /// Of an attempt.
    pub(crate) timeout: Option<Duration>,
    pub(crate) ends_itself: bool,
}

pub(crate) struct Body {
    /// Reads the output of the whole step.
    pub(crate) decode: fn(&str) -> serde_json::Result<Output>,
    pub(crate) fan_out: Option<FanOut>,
    pub(crate) wake: Option<Wake>,
}

pub(crate) struct FanOut {
    pub(crate) count: Box<dyn Fn(View<'_>) -> Result<usize, StepError> + Send + Sync>,
    pub(crate) collect: fn(&[Output]) -> Result<Output, StepError>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Wake {
    After(Duration),
    At(DateTime<Utc>),
}

pub(crate) type BoxWork = Pin<Box<dyn Future<Output = Result<Output, StepError>> + Send>>;

/// An attempt, ready to begin.
pub(crate) enum Work {
    Async(BoxWork),
    Blocking(Box<dyn FnOnce() -> Result<Output, StepError> + Send>),
    Ready(Result<Output, StepError>),
}
