use std::error::Error as StdError;
use std::fmt;
use std::path::{Path, PathBuf};

/// What every fallible call of this crate answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a run, a store or a definition could not be used.
///
/// Opaque: match on [`kind`](Error::kind). A step that fails is not an `Error`; it is data in the
/// [`RunReport`](crate::RunReport). An `Error` means that the engine itself could not go on.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    run: Option<String>,
    step: Option<String>,
    path: Option<PathBuf>,
    offset: Option<u64>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The classes of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Another driver holds the run. Retryable.
    RunBusy,
    /// The lease was taken by a later driver; this one's write was refused.
    Fenced,
    /// Stored bytes are not what was written: the file and the offset are named.
    Corrupt,
    /// The log was written by a newer version of this crate.
    NewerFormat,
    /// The operating system refused a read, a write or a sync.
    Io,
    /// An earlier sync failed, so what is on disk is unknown; open the run again.
    Poisoned,
    /// A run id, a step name or an argument is not acceptable.
    InvalidInput,
    /// No such run, step, signal or blob.
    NotFound,
    /// The pipeline differs from the one that the run was started with.
    DefinitionChanged,
    /// The run is not in a state that allows the verb.
    InvalidState,
    /// A value could not be written as JSON or read back as the type asked for.
    Codec,
    /// A pipeline file is wrong: file, line and column are in the message.
    Definition,
    /// The run did not succeed, which [`RunReport::into_result`](crate::RunReport::into_result) was asked for.
    NotSucceeded,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            run: None,
            step: None,
            path: None,
            offset: None,
            source: None,
        }))
    }

    /// Makes the error that a [`CheckpointStore`](crate::CheckpointStore) of your own answers with.
    pub fn store(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error::new(kind, message)
    }

    pub(crate) fn io(what: &str, path: &Path, source: std::io::Error) -> Self {
        Error::new(ErrorKind::Io, format!("could not {what} {}", path.display()))
            .at_path(path)
            .because(source)
    }

    /// Names the run.
    #[must_use]
    pub fn in_run(mut self, run: impl fmt::Display) -> Self {
        self.0.run = Some(run.to_string());
        self
    }

    /// Names the step.
    #[must_use]
    pub fn in_step(mut self, step: impl Into<String>) -> Self {
        self.0.step = Some(step.into());
        self
    }

    /// Names the file.
    #[must_use]
    pub fn at_path(mut self, path: &Path) -> Self {
        self.0.path = Some(path.to_owned());
        self
    }

    /// Names the byte in the file.
    #[must_use]
    pub fn at_offset(mut self, offset: u64) -> Self {
        self.0.offset = Some(offset);
        self
    }

    /// Attaches the cause, which [`source`](StdError::source) then answers.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The run it happened in.
    pub fn run(&self) -> Option<&str> {
        self.0.run.as_deref()
    }

    /// The step it is about.
    pub fn step(&self) -> Option<&str> {
        self.0.step.as_deref()
    }

    /// The file it is about.
    pub fn path(&self) -> Option<&Path> {
        self.0.path.as_deref()
    }

    /// The byte in [`path`](Error::path) from which the file can no longer be trusted.
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }

    /// Whether the same call may succeed later without anything being mended.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::RunBusy)
    }
}

/// For a [`RunId`](crate::RunId) where a run may be named by text too.
impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        let mut out = f.debug_struct("Error");
        out.field("kind", &inner.kind).field("message", &inner.message);
        if let Some(run) = &inner.run {
            out.field("run", run);
        }
        if let Some(step) = &inner.step {
            out.field("step", step);
        }
        if let Some(path) = &inner.path {
            out.field("path", path);
        }
        if let Some(offset) = &inner.offset {
            out.field("offset", offset);
        }
        if let Some(source) = &inner.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_ref().map(|source| &**source as _)
    }
}
