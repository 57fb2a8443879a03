#![doc = include_str!("../README.md")]
#![forbid(unsafe_code)]
#![warn(missing_debug_implementations)]
#![cfg_attr(docsrs, feature(doc_cfg))]

mod autofix;
mod config;
mod diff;
mod doc;
mod error;
mod explain;
mod frame;
mod hierarchy;
mod index;
mod interpolate;
mod layer;
mod limits;
mod loader;
mod merge;
mod path;
mod read;
mod report;
mod secret;
mod section;
mod shape;
#[cfg(feature = "sops")]
mod sops;
mod source;
#[cfg(feature = "testing")]
pub mod testing;
mod tree;
mod validate;
mod watch;

pub use autofix::{Autofix, Fix};
pub use config::{Config, Handle, Snapshot};
pub use diff::Change;
pub use doc::Kind;
pub use error::{Error, ErrorKind, Result};
pub use explain::{Contribution, Effect, Explanation};
pub use frame::Color;
pub use hierarchy::ConfigHierarchy;
pub use limits::Limits;
pub use loader::ConfigLoader;
pub use merge::MergeStrategy;
pub use report::{Finding, Report, Severity};
pub use secret::{FileSecrets, Secret, SecretError, SecretProvider};
pub use section::Section;
#[cfg(feature = "sops")]
#[cfg_attr(docsrs, doc(cfg(feature = "sops")))]
pub use sops::{AgeKeys, AgeRecipient, SopsFile, SopsOptions, SopsRule};
pub use source::{Format, Location};
pub use tree::{Tree, Value};
pub use validate::{ConfigValidator, ConfigValidatorBuilder, References, Rule};
pub use watch::{ConfigEvent, Events, Subscription};
