use std::error::Error as StdError;
use std::fmt;

use crate::plugin::PluginError;

/// What every fallible call of this crate answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a plugin could not be registered, called or replaced.
///
/// Opaque: match on [`kind`](Error::kind). What a plugin itself answers as its failure is of the kind
/// [`ErrorKind::Failed`], with the plugin's own words.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    plugin: Option<String>,
    problems: Vec<Problem>,
    failure: Option<PluginError>,
    source: Option<Box<dyn StdError + Send + Sync>>,
    /// The generation of the instance that has the place that this one wanted.
    behind: Option<u64>,
}

/// The classes of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A name, a version, a schema or another part of a manifest is not acceptable. [`Error::problems`] lists each.
    InvalidInput,
    /// A plugin of this name and version was registered in code before, or one whose name differs only in case.
    AlreadyExists,
    /// There is no plugin of this name, or none of the version asked for.
    NotFound,
    /// The plugin was disabled.
    Disabled,
    /// The plugin waits for others that it requires.
    Waiting,
    /// The parameters are not what the plugin's schema asks for. [`Error::problems`] lists each problem; the plugin did
    /// not run.
    InvalidParams,
    /// The plugin ran and answered a failure.
    Failed,
    /// The plugin panicked, in this call only.
    Panicked,
    /// The deadline of the call passed. What the plugin did until then is done. Retryable.
    TimedOut,
    /// The caller's token was cancelled.
    Cancelled,
    /// The version that ran the call was replaced or removed, and the time to drain was over. What the plugin did until then
    /// is done. Retryable.
    CutOff,
    /// The parameters or the result are larger, or nested deeper, than the limits allow.
    TooLarge,
    /// A version could not be loaded, its check failed, or it did not take over the state. The one before it still serves.
    Refused,
    /// There is nothing to do the verb to: no version to go back to.
    InvalidState,
    /// The manager was shut down.
    Closed,
}

/// One thing that is wrong with parameters or a manifest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub(crate) at: String,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(at: impl Into<String>, message: impl Into<String>) -> Self {
        Problem { at: at.into(), message: message.into() }
    }

    /// Where it is: a JSON pointer into the parameters, or a key of the manifest. Empty for the whole.
    pub fn at(&self) -> &str {
        &self.at
    }

    /// What is wrong there. The value itself is not quoted: parameters may hold secrets.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.at.is_empty() {
            true => f.write_str(&self.message),
            false => write!(f, "{}: {}", self.at, self.message),
        }
    }
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            plugin: None,
            problems: Vec::new(),
            failure: None,
            source: None,
            behind: None,
        }))
    }

    /// One error of all that was found, which is at least one.
    pub(crate) fn of_problems(kind: ErrorKind, what: &str, problems: Vec<Problem>) -> Self {
        let list: Vec<String> = problems.iter().map(Problem::to_string).collect();
        let mut error = Error::new(kind, format!("{what}: {}", list.join("; ")));
        error.0.problems = problems;
        error
    }

    pub(crate) fn of_failure(kind: ErrorKind, failure: PluginError) -> Self {
        let kind = match kind {
            ErrorKind::Failed if failure.is_too_large() => ErrorKind::TooLarge,
            kind => kind,
        };
        let mut error = Error::new(kind, failure.to_string());
        error.0.failure = Some(failure);
        error
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn of_plugin(mut self, name: &str) -> Self {
        self.0.plugin.get_or_insert_with(|| name.to_owned());
        self
    }

    pub(crate) fn behind(mut self, generation: Option<u64>) -> Self {
        self.0.behind = generation;
        self
    }

    pub(crate) fn is_behind(&self) -> Option<u64> {
        self.0.behind
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The name of the plugin it is about.
    pub fn plugin(&self) -> Option<&str> {
        self.0.plugin.as_deref()
    }

    /// Everything that is wrong with the parameters or the manifest, in the order in which it stands there.
    pub fn problems(&self) -> &[Problem] {
        &self.0.problems
    }

    /// The plugin's own failure, of a call that it answered with one.
    pub fn failure(&self) -> Option<&PluginError> {
        self.0.failure.as_ref()
    }

    /// Whether the same call may succeed later without anything being mended.
    pub fn is_retryable(&self) -> bool {
        match self.0.kind {
            ErrorKind::TimedOut | ErrorKind::CutOff | ErrorKind::Waiting => true,
            ErrorKind::Failed => self.failure().is_some_and(PluginError::is_temporary),
            _ => false,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0.plugin {
            Some(plugin) => write!(f, "plugin {plugin}: {}", self.0.message),
            None => f.write_str(&self.0.message),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        let mut out = f.debug_struct("Error");
        out.field("kind", &inner.kind).field("message", &inner.message);
        if let Some(plugin) = &inner.plugin {
            out.field("plugin", plugin);
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
