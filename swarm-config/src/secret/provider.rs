use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::hash::BuildHasher;
use std::io::Read as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use zeroize::Zeroize as _;

use super::Secret;

/// Knows secrets by reference: a vault, a folder of mounted files, a map of what was fetched ahead.
///
/// Implemented by users for each store that they have, and given to a loader under a
/// [scheme](crate::ConfigLoader::secret_provider). The loader may assume that a reference means the same for as long
/// as a load lasts, and asks once for each; it keeps no answer for the next load, so that a reload takes in what was
/// rotated. [`watch`](crate::Config::watch) looks at files only: where secrets expire, call
/// [`reload`](crate::Config::reload) when they do.
///
/// Loading is synchronous and so is this trait: a provider may block, and should have a timeout of its own. Where
/// that does not do, in asynchronous code, load on a blocking thread or fetch ahead into a map, which is a provider.
/// Calls come from the thread that loads, one after the other within a load; two loads may overlap. There is no retry:
/// [`SecretError::Unavailable`] makes an error that [is retryable](crate::Error::is_retryable), and a reload that fails
/// leaves the configuration as it was. A panic is contained, and is an error.
///
/// A conformance kit (feature `testing`) tells whether an implementation keeps the contract:
/// `swarm_config::testing::conformance`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not provide secrets",
    label = "needs `SecretProvider`"
)]
pub trait SecretProvider: Send + Sync + 'static {
    /// The secret that `reference` names: of `${vault:app/db#password}` it is `app/db#password`.
    ///
    /// # Errors
    ///
    /// When there is no such secret, or it cannot be had.
    fn get(&self, reference: &str) -> Result<Secret<String>, SecretError>;
}

/// Why a provider has no secret to give.
///
/// Reasons are fixed texts, so that no answer of a server and no value can be in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SecretError {
    /// There is no secret of that name. The default of `${vault:x:-default}` stands in; for the others it does not.
    NotFound,
    /// The reference is not one that the provider understands.
    Malformed(&'static str),
    /// Access was refused.
    Denied(&'static str),
    /// The secret is there and cannot be used: too large, not text.
    Unusable(&'static str),
    /// Nobody answered. The same call may succeed later.
    Unavailable(&'static str),
}

impl SecretError {
    /// Whether the same call may succeed later without anything being mended.
    pub fn is_retryable(self) -> bool {
        matches!(self, SecretError::Unavailable(_))
    }
}

impl fmt::Display for SecretError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretError::NotFound => f.write_str("there is no such secret"),
            SecretError::Malformed(why) => write!(f, "not a reference that is understood: {why}"),
            SecretError::Denied(why) => write!(f, "access is denied: {why}"),
            SecretError::Unusable(why) => write!(f, "cannot be used: {why}"),
            SecretError::Unavailable(why) => write!(f, "not available: {why}"),
        }
    }
}

impl std::error::Error for SecretError {}

/// Asks a provider, whatever it does.
pub(crate) fn contained(
    provider: &dyn SecretProvider,
    reference: &str,
) -> Result<Secret<String>, SecretError> {
    catch_unwind(AssertUnwindSafe(|| provider.get(reference)))
        .unwrap_or(Err(SecretError::Unusable("the provider panicked")))
}

/// What was fetched ahead.
impl SecretProvider for BTreeMap<String, Secret<String>> {
    fn get(&self, reference: &str) -> Result<Secret<String>, SecretError> {
        BTreeMap::get(self, reference).cloned().ok_or(SecretError::NotFound)
    }
}

/// What was fetched ahead.
impl<S: BuildHasher + Send + Sync + 'static> SecretProvider for HashMap<String, Secret<String>, S> {
    fn get(&self, reference: &str) -> Result<Secret<String>, SecretError> {
        HashMap::get(self, reference).cloned().ok_or(SecretError::NotFound)
    }
}

/// Providers that are chosen at run time.
impl<P: SecretProvider + ?Sized> SecretProvider for Arc<P> {
    fn get(&self, reference: &str) -> Result<Secret<String>, SecretError> {
        (**self).get(reference)
    }
}

impl<P: SecretProvider + ?Sized> SecretProvider for Box<P> {
    fn get(&self, reference: &str) -> Result<Secret<String>, SecretError> {
        (**self).get(reference)
    }
}

/// Secrets in files of a folder, as Docker and Kubernetes mount them.
///
/// A reference is a path below the folder, or an absolute path that leads there. A link is followed if it ends within
/// the folder, as those of Kubernetes do. One newline at the end is not part of the secret, with or without a carriage
/// return before it; everything else is.
///
/// ```
/// use swarm_config::{ConfigLoader, FileSecrets, Format};
///
/// let folder = tempfile::tempdir().unwrap();
/// std::fs::write(folder.path().join("db-password"), "hunter2\n").unwrap();
/// let config = ConfigLoader::new()
///     .text("app.toml", Format::Toml, "password = '${file:db-password}'")
///     .secret_provider("file", FileSecrets::new(folder.path())) // usually /run/secrets
///     .load::<std::collections::BTreeMap<String, String>>()?;
/// assert_eq!(config.get()["password"], "hunter2");
/// # Ok::<(), swarm_config::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FileSecrets {
    folder: PathBuf,
    most: u64,
    outside: bool,
}

impl FileSecrets {
    /// Files of at most 64 KiB below `folder`.
    pub fn new(folder: impl Into<PathBuf>) -> FileSecrets {
        FileSecrets { folder: folder.into(), most: 64 << 10, outside: false }
    }

    /// Takes files of at most that many bytes.
    #[must_use]
    pub fn limit(mut self, bytes: u64) -> FileSecrets {
        self.most = bytes;
        self
    }

    /// Follows links that lead out of the folder.
    #[must_use]
    pub fn follow_links_outside(mut self) -> FileSecrets {
        self.outside = true;
        self
    }

    fn locate(&self, reference: &str) -> Result<PathBuf, SecretError> {
        let below = Path::new(reference);
        let below = below.strip_prefix(&self.folder).unwrap_or(below);
        if below.as_os_str().is_empty()
            || !below.components().all(|part| matches!(part, Component::Normal(_)))
        {
            return Err(SecretError::Malformed("a path below the folder of secrets is needed"));
        }
        let path = self.folder.join(below).canonicalize().map_err(|error| refused(&error))?;
        let folder = self.folder.canonicalize().map_err(|error| refused(&error))?;
        if !self.outside && !path.starts_with(folder) {
            return Err(SecretError::Denied("a link leads out of the folder of secrets"));
        }
        Ok(path)
    }

    fn read(&self, path: &Path) -> Result<Secret<String>, SecretError> {
        let is_file = |data: &std::fs::Metadata| match data.is_file() {
            true => Ok(()),
            false => Err(SecretError::Unusable("it is not a file")),
        };
        // First, so that what is no file is not opened.
        is_file(&path.metadata().map_err(|error| refused(&error))?)?;
        let file = crate::read::open(path).map_err(|error| refused(&error))?;
        let data = file.metadata().map_err(|error| refused(&error))?;
        is_file(&data)?;
        if data.len() > self.most {
            return Err(SecretError::Unusable("the file is too large"));
        }
        // Never grown, so that no copy is left behind.
        let mut bytes = Vec::with_capacity(self.most.min(data.len()) as usize + 2);
        let read = file.take(bytes.capacity() as u64 - 1).read_to_end(&mut bytes);
        let outcome = match read {
            Ok(read) if read as u64 > data.len() => {
                Err(SecretError::Unavailable("the file is being written"))
            }
            Ok(_) => Ok(()),
            Err(error) => Err(refused(&error)),
        };
        if let Err(error) = outcome {
            bytes.zeroize();
            return Err(error);
        }
        let end = bytes
            .strip_suffix(b"\n")
            .map_or(bytes.len(), |text| text.strip_suffix(b"\r").unwrap_or(text).len());
        bytes.truncate(end);
        String::from_utf8(bytes).map(Secret::new).map_err(|error| {
            error.into_bytes().zeroize();
            SecretError::Unusable("it is not UTF-8")
        })
    }
}

fn refused(error: &std::io::Error) -> SecretError {
    match error.kind() {
        std::io::ErrorKind::NotFound => SecretError::NotFound,
        std::io::ErrorKind::PermissionDenied => SecretError::Denied("the file may not be read"),
        _ => SecretError::Unavailable("the file cannot be read"),
    }
}

impl SecretProvider for FileSecrets {
    fn get(&self, reference: &str) -> Result<Secret<String>, SecretError> {
        let read = || self.locate(reference).and_then(|path| self.read(&path));
        // A link may have been turned, and what it led to removed, in between, as Kubernetes does: it leads elsewhere now.
        match read() {
            Err(SecretError::NotFound) => read(),
            outcome => outcome,
        }
    }
}
