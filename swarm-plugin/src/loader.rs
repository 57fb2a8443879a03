use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use futures::Stream;
use futures::stream::BoxStream;

use crate::discovery::Found;
use crate::plugin::{Plugin, PluginError};

/// Makes plugins of what was found in a folder.
///
/// Implemented by the kinds that come with the crate, and by you for a kind of your own: a script language, a remote
/// service described by a file. Called again for every version of a file, and to go back to an earlier one.
///
/// ```
/// use async_trait::async_trait;
/// use serde_json::Value;
/// use swarm_plugin::{FnPlugin, Found, Load, Loader, PluginError};
///
/// /// Folders of the kind `text`: a plugin that answers what `answer.txt` holds.
/// struct Texts;
///
/// #[async_trait]
/// impl Loader for Texts {
///     fn kind(&self) -> &str {
///         "text"
///     }
///
///     async fn load(&self, found: &Found) -> Result<Load, PluginError> {
///         let answer = std::fs::read_to_string(found.file("answer.txt")?)?;
///         let plugin = FnPlugin::blocking(found.manifest().build()?, move |_: Value, _| Ok(answer.clone()));
///         Ok(plugin.into())
///     }
/// }
/// ```
#[async_trait]
pub trait Loader: Send + Sync + 'static {
    /// The kind that it loads: `wasm`, `native`, `process`, or what `kind` says in `plugin.toml`.
    fn kind(&self) -> &str;

    /// Loads what [`Found::copy`] holds. Begin each manifest with [`Found::manifest`].
    ///
    /// # Errors
    /// Why it cannot be loaded. The version before, if there was one, still serves.
    async fn load(&self, found: &Found) -> Result<Load, PluginError>;
}

/// What a [`Loader`] made of a file: plugins that belong together, which are replaced and removed together, as one.
///
/// A plugin turns into one with `into`.
#[must_use]
pub struct Load {
    pub(crate) plugins: Vec<Arc<dyn Plugin>>,
    pub(crate) changes: Option<Changes>,
}

/// What takes the place of the plugins of a load.
pub(crate) type Changes = BoxStream<'static, Result<Vec<Arc<dyn Plugin>>, PluginError>>;

impl Load {
    /// Plugins that stay as they are until the file changes.
    pub fn new(plugins: impl IntoIterator<Item = Arc<dyn Plugin>>) -> Self {
        Load { plugins: plugins.into_iter().collect(), changes: None }
    }

    /// With what its plugins become later: each item takes the place of all of them, as a reload does without a change of the
    /// file. Read until the file is loaded anew or removed.
    ///
    /// An error leaves them as they are and is told in an event.
    pub fn followed_by(
        self,
        changes: impl Stream<Item = Result<Vec<Arc<dyn Plugin>>, PluginError>> + Send + 'static,
    ) -> Self {
        Load { changes: Some(Box::pin(changes)), ..self }
    }

    /// The plugins as they are at first.
    pub fn plugins(&self) -> &[Arc<dyn Plugin>] {
        &self.plugins
    }
}

impl<P: Plugin> From<P> for Load {
    fn from(plugin: P) -> Self {
        Load::new([Arc::new(plugin) as Arc<dyn Plugin>])
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load")
            .field("plugins", &self.plugins.len())
            .field("is_followed", &self.changes.is_some())
            .finish()
    }
}

/// Why a plugin is not loaded that asks for more memory than its loader gives.
#[cfg(any(feature = "process", feature = "wasm"))]
pub(crate) fn too_much_memory(asked: impl fmt::Display, given: impl fmt::Display) -> PluginError {
    PluginError::new(format_args!(
        "plugin.toml asks for {asked} bytes of memory, where at most {given} are given"
    ))
}
