#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod breaker;
mod build_error;
mod builder;
mod definition;
mod digest;
mod error;
mod event;
#[cfg(feature = "files")]
mod files;
mod gate;
mod graph;
mod handle;
mod history;
mod local;
mod output;
mod pipeline;
mod render;
mod report;
mod retry;
mod run;
mod scheduler;
mod shared;
mod step;
mod step_error;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod wire;

pub use breaker::CircuitBreaker;
pub use build_error::{BuildError, Problem};
pub use builder::{Nested, OnFailure, PipelineBuilder, Rollback, StepBuilder};
pub use error::{Error, ErrorKind, Result};
pub use event::{EventStream, RunEvent, RunEventKind};
#[cfg(feature = "files")]
pub use files::{Format, Shell, StepRegistry};
pub use gate::{Gate, GateResult, Verdict};
pub use graph::{CriticalPath, Graph};
pub use handle::{Handle, Inputs, OptionalHandle};
pub use history::RunSummary;
pub use local::{LocalEngine, OnChange, Retention, RunOptions};
pub use output::{Items, List, StepOutput};
pub use pipeline::Pipeline;
pub use report::{AttemptReport, RunReport, RunStatus, StepReport, StepStatus, UndoState, Why};
pub use retry::Retry;
pub use step::{Artifact, PipelineStep, StepContext};
pub use step_error::{StepError, StepErrorKind};
pub use store::{
    BlobKey, CheckpointStore, Durability, FileStore, FileStoreOptions, MemoryStore, Record, RunId, RunLog,
};
