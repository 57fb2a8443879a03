use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::digest::Digest;
use crate::manifest::Manifest;
use crate::stats::Stats;

/// Whether a plugin can be called.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Status {
    /// It serves calls.
    Active,
    /// It was disabled by name.
    Disabled,
    /// It waits for plugins that it requires.
    Waiting {
        /// For which, and what is there instead.
        reason: String,
    },
    /// The same version of the same name comes from a place of higher precedence.
    Shadowed,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Status::Active => f.write_str("active"),
            Status::Disabled => f.write_str("disabled"),
            Status::Waiting { reason } => write!(f, "waiting: {reason}"),
            Status::Shadowed => f.write_str("shadowed"),
        }
    }
}

/// What an instance was made of.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) kind: Arc<str>,
    pub(crate) digest: Digest,
}

/// What the catalogue says of one version of one plugin, as of the moment it was asked.
#[derive(Debug, Clone)]
pub struct PluginInfo {
    pub(crate) manifest: Manifest,
    pub(crate) status: Status,
    pub(crate) stats: Stats,
    pub(crate) generation: u64,
    pub(crate) is_default: bool,
    pub(crate) path: Option<Arc<Path>>,
    pub(crate) origin: Option<Origin>,
}

impl PluginInfo {
    /// Name, version, parameters and requirements.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Whether it can be called.
    pub fn status(&self) -> &Status {
        &self.status
    }

    /// What became of its calls.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The number of the instance: a reload gives a higher one.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether a call by name that asks for no version gets this one.
    pub fn is_default(&self) -> bool {
        self.is_default
    }

    /// The file or folder it comes from. `None` for one registered in code.
    pub fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// `wasm`, `native`, `process`, or the kind of a loader of your own. `None` for one registered in code.
    pub fn kind(&self) -> Option<&str> {
        self.origin.as_ref().map(|origin| &*origin.kind)
    }

    /// The digest of the file or folder as it was loaded. `None` for one registered in code.
    pub fn digest(&self) -> Option<Digest> {
        self.origin.as_ref().map(|origin| origin.digest)
    }
}
