#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod authorizer;
mod clock;
mod digest;
mod error;
mod event;
mod hex;
mod judge;
mod log;
mod measure;
mod name;
mod random;
mod registry;
mod rollout;
#[cfg(feature = "signatures")]
mod signature;
mod state;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod traffic;
mod version;
mod wire;

pub use authorizer::{Action, Authorizer};
pub use clock::Clock;
pub use digest::Digest;
pub use error::{Error, ErrorKind, Result};
pub use event::{Event, EventKind, RolloutChange, RolloutEvent, StepEnd};
pub use judge::{Comparison, Criterion, Direction, Judge, MetricComparison, SampleRatio, Verdict};
pub use measure::Measure;
pub use object_store;
pub use registry::{
    Alias, Head, Query, Registration, RegistryBuilder, Retention, VersionRegistry, Watch, WatchOptions,
};
pub use rollout::{
    MetricSource, Observed, OnDeadline, Rollout, RolloutPhase, RolloutStatus, RolloutStep, Window,
};
#[cfg(feature = "signatures")]
pub use signature::{Signature, SignaturePolicy, SigningKey, VerifyingKey};
pub use state::AliasMove;
pub use store::{ObjectVersionStore, VersionStore};
pub use traffic::{CachedRouter, Deployment, DeploymentCause, Routed, Router, Split, slot};
pub use version::{Version, VersionInfo};
