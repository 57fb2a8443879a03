use std::fmt;

use serde::{Deserialize, Serialize};

/// Why an attempt of a step failed, in a form that survives a crash.
///
/// Whatever implements [`std::error::Error`] turns into one with `?`, keeping its message and the chain of its causes. For
/// that to be possible this type does not implement it; [`into_error`](StepError::into_error) makes one that does. Boxed
/// errors and those of `anyhow` do not implement it either: `map_err(|error| StepError::from(&*error))` serves for both,
/// and [`StepError::new`] for text.
///
/// ```
/// use swarm_pipeline::StepError;
///
/// fn read(text: &str) -> Result<u32, StepError> {
///     Ok(text.parse::<u32>()?)
/// }
///
/// fn boxed() -> Result<u32, Box<dyn std::error::Error + Send + Sync>> {
///     Err("out of paper".into())
/// }
///
/// assert!(read("x").is_err());
/// let error = boxed().map_err(|error| StepError::from(&*error)).unwrap_err();
/// assert_eq!(error.message(), "out of paper");
/// ```
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepError {
    kind: StepErrorKind,
    message: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    causes: Vec<String>,
}

/// The classes of [`StepError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum StepErrorKind {
    /// The step said so; it may be tried again.
    Failed,
    /// The step said so, and that trying again is of no use.
    Permanent,
    /// The step panicked. Retried like a failure.
    Panicked,
    /// The attempt or the step as a whole took longer than allowed.
    TimedOut,
    /// A quality gate refused the output. Not retried unless the gate asks for it.
    GateRefused,
    /// The run was cancelled while the attempt was under way.
    Cancelled,
    /// The circuit breaker was open, so that the step was not called. Retried like a failure.
    CircuitOpen,
    /// The output could not be written as JSON, is larger than allowed, or an input cannot be read as the type asked for. Not retried.
    BadValue,
}

/// Messages are cut to this many bytes, so that an error that quotes a whole response does not fill the log.
const MESSAGE_LIMIT: usize = 16 * 1024;

impl StepError {
    /// A failure that may be tried again.
    pub fn new(message: impl fmt::Display) -> Self {
        StepError::of(StepErrorKind::Failed, message)
    }

    /// A failure that no retry can mend.
    pub fn permanent(message: impl fmt::Display) -> Self {
        StepError::of(StepErrorKind::Permanent, message)
    }

    pub(crate) fn of(kind: StepErrorKind, message: impl fmt::Display) -> Self {
        StepError { kind, message: cut(message.to_string()), causes: Vec::new() }
    }

    /// What was caught when a step panicked.
    pub(crate) fn panicked(payload: &(dyn std::any::Any + Send)) -> Self {
        let said = payload.downcast_ref::<&str>().copied();
        let said = said.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        StepError::of(StepErrorKind::Panicked, format_args!("panicked: {}", said.unwrap_or("no message")))
    }

    /// The class of the failure.
    pub fn kind(&self) -> StepErrorKind {
        self.kind
    }

    /// What happened.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The messages of the causes, outermost first.
    pub fn causes(&self) -> &[String] {
        &self.causes
    }

    /// Whether another attempt may succeed.
    pub fn is_retryable(&self) -> bool {
        use StepErrorKind::{CircuitOpen, Failed, Panicked, TimedOut};
        matches!(self.kind, Failed | Panicked | TimedOut | CircuitOpen)
    }

    /// The same as a [`std::error::Error`], for code that wants one.
    pub fn into_error(self) -> Box<dyn std::error::Error + Send + Sync> {
        self.to_string().into()
    }
}

fn cut(mut message: String) -> String {
    if message.len() > MESSAGE_LIMIT {
        let mut at = MESSAGE_LIMIT;
        while !message.is_char_boundary(at) {
            at -= 1;
        }
        message.truncate(at);
        message.push_str(" … (cut)");
    }
    message
}

impl<E: std::error::Error> From<E> for StepError {
    fn from(error: E) -> Self {
        const CAUSES: usize = 16;
        let mut out = StepError::new(&error);
        let mut cause = error.source();
        while let Some(error) = cause.filter(|_| out.causes.len() < CAUSES) {
            out.causes.push(cut(error.to_string()));
            cause = error.source();
        }
        out
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.causes.iter().try_for_each(|cause| write!(f, ": {cause}"))
    }
}

impl fmt::Debug for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({self})", self.kind)
    }
}
