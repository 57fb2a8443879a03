use std::sync::Arc;

use async_trait::async_trait;

use crate::discovery::Found;
use crate::plugin::{Plugin, PluginError};

/// Makes plugins of what was found in a folder.
///
/// Implemented by the kinds that come with the crate, and by you for a kind of your own: a script language, a remote
/// service described by a file. Called again for every version of a file, and to go back to an earlier one.
#[async_trait]
pub trait Loader: Send + Sync + 'static {
    /// The kind that it loads: `wasm`, `native`, `process`, or what `kind` says in `plugin.toml`.
    fn kind(&self) -> &str;

    /// Loads what [`Found::copy`] holds. Begin each manifest with [`Found::manifest`].
    ///
    /// What it answers belongs together: it is replaced and removed together, as one. Where it becomes something else without
    /// a change of the file, [`Found::follow`] says what.
    ///
    /// # Errors
    /// Why it cannot be loaded. The version before, if there was one, still serves.
    async fn load(&self, found: &Found) -> Result<Vec<Arc<dyn Plugin>>, PluginError>;
}
