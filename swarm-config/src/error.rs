use std::error::Error as StdError;
use std::fmt;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use crate::frame::{Color, Frame};
use crate::path;
use crate::report::Masks;
use crate::source::{Location, Source};

/// What every fallible call of this crate answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a configuration could not be read, merged, typed or watched.
///
/// Opaque: match on [`kind`](Error::kind). What a schema or a rule has against a configuration is data in a
/// [`Report`](crate::Report); loading turns a report with errors into an `Error` that [carries it](Error::report).
/// No message holds the value of a key that was marked secret. Cheap to clone.
#[derive(Clone)]
pub struct Error(Arc<Inner>);

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    message: String,
    path: Option<String>,
    at: Option<(Arc<Source>, Range<usize>)>,
    lines: Lines,
    masked: Masks,
    retryable: bool,
    report: Option<crate::Report>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

/// Whether the lines that an error is about are rendered.
#[derive(Clone, Copy, PartialEq)]
enum Lines {
    Shown,
    /// They say nothing.
    LeftOut,
    /// A secret may stand in them.
    Hidden,
}

/// The classes of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The operating system refused to read, write or watch a file.
    Io,
    /// A required file or key is not there.
    NotFound,
    /// The text is not UTF-8, or holds a NUL byte.
    Encoding,
    /// The text does not follow its format.
    Syntax,
    /// A key stands twice in one table.
    DuplicateKey,
    /// A number is outside what 64 bits hold, or is not a finite number.
    Number,
    /// One of the [`Limits`](crate::Limits) was reached.
    Limit,
    /// A reference `${…}` is not understood, names nothing, or leads back to itself.
    Interpolation,
    /// An environment variable stands for more than one key.
    Ambiguous,
    /// A value is not of the type that is read.
    Type,
    /// A schema or a rule found errors: see [`Error::report`].
    Invalid,
    /// A schema is not usable: not valid itself, not resolvable, or beyond the limits.
    Schema,
    /// An argument is not acceptable.
    InvalidInput,
    /// Another reload of the same configuration does not come to its end, or the files that are watched never rest.
    Busy,
    /// A secret could not be had: a provider refused or failed, or an encrypted file does not open or was altered.
    Secret,
    /// A [`figment::Provider`](https://docs.rs/figment) failed.
    Provider,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Arc::new(Inner {
            kind,
            message: message.into(),
            path: None,
            at: None,
            lines: Lines::Shown,
            masked: Masks::default(),
            // Of a provider's failure nobody knows whether it lasts.
            retryable: kind == ErrorKind::Provider,
            report: None,
            source: None,
        }))
    }

    fn inner(&mut self) -> &mut Inner {
        Arc::make_mut(&mut self.0)
    }

    pub(crate) fn io(what: &str, path: &Path, source: std::io::Error) -> Self {
        use std::io::ErrorKind as System;
        let kind = match source.kind() {
            System::NotFound => ErrorKind::NotFound,
            _ => ErrorKind::Io,
        };
        let mut error = Error::new(kind, format!("could not {what} {}", path.display()));
        // What is left may pass: too many open files, a device or a server that does not answer.
        error.inner().retryable = !matches!(
            source.kind(),
            System::NotFound
                | System::PermissionDenied
                | System::AlreadyExists
                | System::NotADirectory
                | System::IsADirectory
                | System::DirectoryNotEmpty
                | System::ReadOnlyFilesystem
                | System::StorageFull
                | System::QuotaExceeded
                | System::FileTooLarge
                | System::InvalidFilename
                | System::InvalidInput
                | System::InvalidData
                | System::Unsupported
        );
        error.because(source)
    }

    pub(crate) fn invalid(report: crate::Report) -> Self {
        let mut error = Error::new(ErrorKind::Invalid, report.to_string());
        error.inner().report = Some(report);
        error
    }

    pub(crate) fn at(mut self, source: &Arc<Source>, span: Range<usize>) -> Self {
        self.inner().at = Some((source.clone(), span));
        self
    }

    pub(crate) fn in_path(mut self, path: impl fmt::Display) -> Self {
        self.inner().path = Some(path.to_string());
        self
    }

    pub(crate) fn without_frame(mut self) -> Self {
        self.inner().lines = Lines::LeftOut;
        self
    }

    /// Does not show its lines, and says that it does not.
    pub(crate) fn hiding_lines(mut self) -> Self {
        if self.0.lines == Lines::Shown {
            self.inner().lines = Lines::Hidden;
        }
        self
    }

    /// Does not show these in the frame.
    pub(crate) fn masking(self, places: Vec<(Arc<Source>, Range<usize>)>) -> Self {
        self.0.masked.add(places);
        self
    }

    /// Shares what is not shown with what else was told of the same load.
    pub(crate) fn sharing(mut self, masks: &Masks) -> Self {
        if let Some((source, _)) = &self.0.at {
            let own = self.0.masked.of(source).into_iter().map(|span| (source.clone(), span)).collect();
            masks.add(own);
            self.inner().masked = masks.clone();
        }
        self
    }

    pub(crate) fn retryable(mut self) -> Self {
        self.inner().retryable = true;
        self
    }

    pub(crate) fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.inner().source = Some(source.into().into());
        self
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The key it is about, as in `db.pool_size`.
    pub fn path(&self) -> Option<&str> {
        self.0.path.as_deref()
    }

    /// The key as a JSON pointer.
    pub fn pointer(&self) -> Option<String> {
        path::parse(self.path()?).ok().map(|path| path::pointer(&path))
    }

    /// The place it is about.
    pub fn location(&self) -> Option<Location> {
        let (source, span) = self.0.at.as_ref()?;
        Some(source.location(span.start))
    }

    /// The report, where a schema or a rule found errors.
    pub fn report(&self) -> Option<&crate::Report> {
        self.0.report.as_ref()
    }

    /// The message with the lines it is about, for a terminal or a log. A report is rendered whole.
    pub fn render(&self, color: Color) -> String {
        if let Some(report) = &self.0.report {
            return report.render(color);
        }
        let at = self.0.at.as_ref();
        let masked = at.map(|(source, _)| self.0.masked.of(source)).unwrap_or_default();
        // An environment variable has no lines.
        let is_hidden = self.0.lines == Lines::Hidden && at.is_some_and(|(source, _)| source.is_file());
        let notes = ["note: the line is not shown, for a secret may stand in it".to_owned()];
        Frame {
            label: "error",
            message: &self.text(),
            at: at.map(|(source, span)| (&**source, span.clone())),
            show: self.0.lines == Lines::Shown,
            masked: &masked,
            notes: &notes[..usize::from(is_hidden)],
        }
        .render(color)
    }

    /// Whether the same call may succeed later without anything being mended: the system had too little of something or
    /// did not answer, a provider failed, another reload was under way. A file that is missing, a folder, or not to be
    /// read has to be mended.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    fn text(&self) -> String {
        match &self.0.path {
            Some(path) => format!("{path}: {}", self.0.message),
            None => self.0.message.clone(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(location) = self.location() {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.text())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.0;
        let mut out = f.debug_struct("Error");
        out.field("kind", &inner.kind).field("message", &inner.message);
        if let Some(path) = &inner.path {
            out.field("path", path);
        }
        if let Some(location) = self.location() {
            out.field("location", &format_args!("{location}"));
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
