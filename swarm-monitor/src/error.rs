use std::error::Error as StdError;
use std::fmt;

/// What every fallible call of this crate answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why the monitor could not do, or look at, what was asked.
///
/// Opaque: match on [`kind`](Error::kind). Recording never fails; what could not be recorded is counted, see
/// [`MetricInfo`](crate::MetricInfo).
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    metric: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The classes of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument or an option is not acceptable.
    InvalidInput,
    /// No such metric, alert or silence.
    NotFound,
    /// The metric is of a kind that has no such answer: a counter has no percentiles.
    WrongKind,
    /// A file is not as it was written.
    Corrupt,
    /// A file was written in a format that is not known, by a later version.
    UnknownFormat,
    /// The system could not read or write a file.
    Storage,
    /// A file belongs to another engine, of this process or another one.
    InUse,
    /// Code that was handed in panicked.
    Panicked,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner { kind, message: message.into(), metric: None, source: None }))
    }

    pub(crate) fn input(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidInput, message)
    }

    pub(crate) fn not_found(metric: &str) -> Self {
        Error::new(ErrorKind::NotFound, format!("no metric {metric:?}")).of_metric(metric)
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn of_metric(mut self, metric: &str) -> Self {
        self.0.metric = Some(metric.to_owned());
        self
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The metric it is about.
    pub fn metric(&self) -> Option<&str> {
        self.0.metric.as_deref()
    }

    /// Whether the same call may succeed later without anything being changed here: for a metric that is not there yet, a full disk, a file
    /// in use.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::NotFound | ErrorKind::Storage | ErrorKind::InUse)
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
        if let Some(metric) = &inner.metric {
            out.field("metric", metric);
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
