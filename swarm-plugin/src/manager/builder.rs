use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use tokio::sync::broadcast;

use super::folders::{self, Folders};
use super::{PluginManager, Shared};
use crate::digest::Digest;
use crate::discovery::{PluginDiscovery, PublicKey, private_folder};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{self, Event};
use crate::loader::Loader;

/// Settings of a [`PluginManager`].
#[must_use]
pub struct PluginManagerBuilder {
    settings: Settings,
    discovery: PluginDiscovery,
    loaders: Vec<Arc<dyn Loader>>,
    settle: Duration,
    store: Option<PathBuf>,
    watches: bool,
    events: broadcast::Sender<Event>,
}

#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(super) call_timeout: Duration,
    pub(super) load_timeout: Duration,
    pub(super) drain_timeout: Duration,
    pub(super) cleanup_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            call_timeout: Duration::from_secs(30),
            load_timeout: Duration::from_secs(10),
            drain_timeout: Duration::from_secs(30),
            cleanup_timeout: Duration::from_secs(5),
        }
    }
}

impl Default for PluginManagerBuilder {
    fn default() -> Self {
        PluginManagerBuilder {
            settings: Settings::default(),
            discovery: PluginDiscovery::new(),
            loaders: Vec::new(),
            settle: Duration::from_millis(50),
            store: None,
            watches: false,
            events: event::sender(),
        }
    }
}

impl PluginManagerBuilder {
    /// Loads the plugins in a folder, which need not exist yet. What is registered in code is stronger than any folder, and
    /// a folder is stronger than those after it: of the same name and version, the strongest is called.
    pub fn folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.discovery = self.discovery.folder(path);
        self
    }

    /// Loads nothing from folders but what has one of these digests. Called again, adds to them.
    pub fn allow(mut self, digests: impl IntoIterator<Item = Digest>) -> Self {
        self.discovery = self.discovery.allow(digests);
        self
    }

    /// Loads nothing from folders but what this key has signed, or another that was given so.
    /// [`PluginDiscovery::signed_by`] says what is signed, and how.
    pub fn signed_by(mut self, key: PublicKey) -> Self {
        self.discovery = self.discovery.signed_by(key);
        self
    }

    /// Goes on looking at the folders: a file that is dropped there, changed or removed is loaded, reloaded or removed.
    pub fn watch(mut self) -> Self {
        self.watches = true;
        self
    }

    /// How long a file must not have changed before it is loaded, so that none is loaded half copied, and how long it must be
    /// missing before its plugin goes, so that one that is written anew is replaced. 50 ms.
    ///
    /// Files that are renamed into place are whole in any case.
    pub fn settle(mut self, time: Duration) -> Self {
        self.settle = time;
        self
    }

    /// Loads a kind of your own from folders, or one of those that come with the crate in another way.
    pub fn loader(mut self, loader: impl Loader) -> Self {
        self.loaders.push(Arc::new(loader));
        self
    }

    /// Where private copies of what is loaded are kept while it may be needed. The system's folder for temporary files,
    /// unless it is set; that one may forbid to run programs. They are removed with the manager, so that a process that is
    /// killed leaves its own there, in a folder whose name begins with `swarm-plugin-`.
    pub fn store(mut self, folder: impl Into<PathBuf>) -> Self {
        self.store = Some(folder.into());
        self
    }

    /// How long a call may take, where neither the caller nor the plugin's manifest says. 30 s.
    pub fn call_timeout(mut self, timeout: Duration) -> Self {
        self.settings.call_timeout = timeout;
        self
    }

    /// How long each of load, check, export and import of state may take. 10 s.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.settings.load_timeout = timeout;
        self
    }

    /// How long calls of a version that was replaced or removed may go on. 30 s.
    pub fn drain_timeout(mut self, timeout: Duration) -> Self {
        self.settings.drain_timeout = timeout;
        self
    }

    /// How long a cleanup may take. 5 s.
    pub fn cleanup_timeout(mut self, timeout: Duration) -> Self {
        self.settings.cleanup_timeout = timeout;
        self
    }

    /// What happens in the [`start`](PluginManagerBuilder::start) and after it. [`PluginManager::events`] comes too late for
    /// what was refused in the start, of which only this and the log tell.
    ///
    /// ```no_run
    /// # use futures::StreamExt;
    /// # use swarm_plugin::{EventKind, PluginManager};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let builder = PluginManager::builder().folder("tools/plugins").watch();
    /// let mut events = builder.events();
    /// let plugins = builder.start().await?;
    /// while let Some(event) = events.next().await {
    ///     if let EventKind::Refused { reason, .. } = event.kind {
    ///         eprintln!("{}: {reason}", event.name);
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn events(&self) -> impl Stream<Item = Event> + Send + Unpin + use<> {
        event::heard(&self.events)
    }

    /// Makes the manager, and loads what is in the folders. What cannot be loaded is told in
    /// [`events`](PluginManagerBuilder::events) and in the log, and fails nothing.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if the store cannot be used, or two loaders are for the same kind.
    #[cfg_attr(
        not(any(feature = "process", feature = "wasm")),
        expect(unused_mut, reason = "no loader comes with the crate")
    )]
    pub async fn start(mut self) -> Result<PluginManager> {
        let mut kinds = HashSet::new();
        if let Some(twice) = self.loaders.iter().find(|loader| !kinds.insert(loader.kind())) {
            let message = format!("two loaders are for the kind {}", twice.kind());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        #[cfg(feature = "process")]
        if !kinds.contains("process") {
            self.loaders.push(Arc::new(crate::process::ProcessLoader::new()));
        }
        #[cfg(feature = "wasm")]
        if !self.loaders.iter().any(|loader| loader.kind() == "wasm") {
            self.loaders.push(Arc::new(crate::wasm::WasmLoader::new()));
        }
        if self.discovery.folders().is_empty() {
            return Ok(PluginManager { shared: Arc::new(Shared::new(self.settings, self.events, None)) });
        }
        for folder in self.discovery.folders().iter().filter(|folder| !folder.exists()) {
            let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
            tracing::warn!(folder = %folder.display(), "there is no such folder yet; it is looked at once it is there");
        }
        let place = self.store.unwrap_or_else(std::env::temp_dir);
        let store = private_folder("swarm-plugin-", &place).map_err(|error| {
            let message = format!("nothing can be stored in {}", place.display());
            Error::new(ErrorKind::InvalidInput, message).because(error)
        })?;
        let folders = Arc::new(Folders {
            discovery: self.discovery,
            loaders: self.loaders,
            settle: self.settle,
            store,
            known: tokio::sync::Mutex::default(),
        });
        let shared = Arc::new(Shared::new(self.settings, self.events, Some(folders.clone())));
        // Before the first look, so that nothing is missed between.
        let watch = self.watches.then(|| folders::watch(&shared, &folders));
        shared.look_until_still(&folders).await;
        if let Some(watch) = watch {
            shared.tasks.spawn(watch);
        }
        Ok(PluginManager { shared })
    }
}
