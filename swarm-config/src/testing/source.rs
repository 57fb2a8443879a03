use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::error::{Error, ErrorKind, Result};
use crate::source::Format;

/// A file that is none: a text that a test changes, or makes unreadable, between loads.
///
/// All clones are one source. Give it to a loader with [`ConfigLoader::fake`](crate::ConfigLoader::fake).
///
/// ```
/// use swarm_config::testing::FakeSource;
/// use swarm_config::{ConfigLoader, ErrorKind, Format};
///
/// let source = FakeSource::new("app.toml", Format::Toml, "limit = 1");
/// let config = ConfigLoader::new().fake(&source).load::<serde_json::Value>()?;
/// source.fail(ErrorKind::Io);
/// assert_eq!(config.reload().unwrap_err().kind(), ErrorKind::Io);
/// assert_eq!(config.get()["limit"], 1);
/// source.set("limit = 2");
/// config.reload()?;
/// assert_eq!(config.get()["limit"], 2);
/// assert_eq!(config.get().tree().get("limit").unwrap().location().to_string(), "app.toml:1:9");
/// # Ok::<(), swarm_config::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct FakeSource {
    pub(crate) name: Arc<str>,
    pub(crate) format: Format,
    text: Arc<Mutex<Result<String, ErrorKind>>>,
}

impl FakeSource {
    /// A source with a text. `name` stands in locations.
    pub fn new(name: &str, format: Format, text: impl Into<String>) -> FakeSource {
        FakeSource { name: name.into(), format, text: Arc::new(Mutex::new(Ok(text.into()))) }
    }

    fn lock(&self) -> MutexGuard<'_, Result<String, ErrorKind>> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives it another text, which can be read.
    pub fn set(&self, text: impl Into<String>) {
        *self.lock() = Ok(text.into());
    }

    /// Makes reading fail from now on.
    pub fn fail(&self, kind: ErrorKind) {
        *self.lock() = Err(kind);
    }

    pub(crate) fn read(&self) -> Result<String> {
        self.lock().clone().map_err(|kind| Error::new(kind, format!("could not read {}", self.name)))
    }
}
