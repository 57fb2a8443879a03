use std::error::Error as StdError;
use std::fmt;

/// What every fallible call of this crate answers.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a registry, a store or a split could not be used.
///
/// Opaque: match on [`kind`](Error::kind). A version that does badly is not an `Error`; that is a
/// [`Verdict`](crate::Verdict). An `Error` means that nothing was changed, but for [`ErrorKind::Store`], which says what it
/// leaves open, and for [`compact`](crate::VersionRegistry::compact), which removes versions before it shortens history.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    object: Option<String>,
    version: Option<String>,
    channel: Option<String>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

/// The classes of [`Error`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A name, a weight or another argument is not acceptable.
    InvalidInput,
    /// No such version, alias, channel, deployment, rollout or artifact.
    NotFound,
    /// A version of this id is, or was, registered.
    AlreadyExists,
    /// What was expected to be in place is not: another caller was first.
    Conflict,
    /// The [`Authorizer`](crate::Authorizer) said no.
    Denied,
    /// A version lacks signatures that the policy asks for (feature `signatures`).
    Untrusted,
    /// The alias is protected.
    Protected,
    /// There is nothing to do the verb to: no earlier deployment, no step that waits for approval.
    InvalidState,
    /// A stored object is not what was written. [`Error::object`] names it.
    Corrupt,
    /// A record that later ones follow, or an artifact, is gone, or its name is taken and it cannot be read.
    /// [`Error::object`] names it.
    Missing,
    /// An object was written by a newer version of this crate.
    NewerFormat,
    /// A folder or a backup of this machine could not be made, read or written, or the system gave no random numbers.
    /// Nothing was changed in a store, and the same call will hardly succeed before something is mended.
    Io,
    /// The store could not be reached, or refused. Retryable. **A mutation may have happened all the same**, where the
    /// store's answer was lost and could not be looked up: read before you repeat it.
    Store,
}

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            kind,
            message: message.into(),
            object: None,
            version: None,
            channel: None,
            source: None,
        }))
    }

    /// Makes the error that a [`VersionStore`](crate::VersionStore) of your own answers with.
    pub fn store(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::Store, message)
    }

    pub(crate) fn corrupt(object: &str, why: impl fmt::Display) -> Self {
        Error::new(ErrorKind::Corrupt, format!("{object} {why}")).at_object(object)
    }

    pub(crate) fn io(message: impl Into<String>, cause: std::io::Error) -> Self {
        Error::new(ErrorKind::Io, message).because(cause)
    }

    pub(crate) fn input(message: impl Into<String>) -> Self {
        Error::new(ErrorKind::InvalidInput, message)
    }

    /// Names the object of the store.
    #[must_use]
    pub fn at_object(mut self, object: impl Into<String>) -> Self {
        self.0.object = Some(object.into());
        self
    }

    /// Attaches the cause, which [`source`](StdError::source) then answers.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    pub(crate) fn of_version(mut self, version: &str) -> Self {
        self.0.version = Some(version.to_owned());
        self
    }

    pub(crate) fn of_channel(mut self, channel: &str) -> Self {
        self.0.channel = Some(channel.to_owned());
        self
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The object of the store that it is about: a record, a snapshot, an artifact.
    pub fn object(&self) -> Option<&str> {
        self.0.object.as_deref()
    }

    /// The version it is about.
    pub fn version(&self) -> Option<&str> {
        self.0.version.as_deref()
    }

    /// The channel it is about.
    pub fn channel(&self) -> Option<&str> {
        self.0.channel.as_deref()
    }

    /// Whether the same call may succeed later without anything being mended.
    pub fn is_retryable(&self) -> bool {
        matches!(self.0.kind, ErrorKind::Store)
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
        for (name, value) in
            [("object", &inner.object), ("version", &inner.version), ("channel", &inner.channel)]
        {
            if let Some(value) = value {
                out.field(name, value);
            }
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
