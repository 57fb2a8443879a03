use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::ThreadId;

use arc_swap::{ArcSwap, Guard};
use serde::de::DeserializeOwned;

use crate::diff::Change;
use crate::error::{Error, ErrorKind, Result};
use crate::explain::Explanation;
use crate::loader::{ConfigLoader, Loaded, Prints};
use crate::report::Report;
use crate::section::Sections;
use crate::tree::Tree;
use crate::watch::{Audience, Changes, ConfigEvent, Watching};

/// A loaded configuration: a `T`, and the tree that it was made of.
///
/// Cheap to clone; all clones see each reload. Reading is one atomic load, and what was read does not change while it
/// is held: a reload is seen whole or not at all.
pub struct Config<T> {
    pub(crate) shared: Arc<Shared<T>>,
}

pub(crate) struct Shared<T> {
    /// First, so that the thread has ended before the rest goes.
    watching: Mutex<Option<Watching>>,
    current: Arc<ArcSwap<State<T>>>,
    pub(crate) loader: ConfigLoader,
    /// From reading to swapping, so that of two reloads at once the later one stays, and each difference is to the one
    /// before.
    reloading: Mutex<()>,
    /// Who does.
    reloader: Mutex<Option<ThreadId>>,
    pub(crate) audience: Audience,
}

pub(crate) struct State<T> {
    pub(crate) value: T,
    pub(crate) loaded: Arc<Loaded>,
    /// Warnings.
    pub(crate) report: Report,
    pub(crate) sections: Arc<Sections>,
}

/// The configuration at one moment. Dereferences to `T`.
///
/// Meant to be held briefly; [`keep`](Snapshot::keep) makes one to keep.
pub struct Snapshot<T>(Guard<Arc<State<T>>>);

/// A [`Snapshot`] to keep or to send elsewhere.
pub struct Kept<T>(Arc<State<T>>);

/// Reads a configuration that is needed very often, at the cost of a comparison while nothing changes.
///
/// Made by [`Config::handle`]. Each thread has its own.
pub struct Handle<T>(arc_swap::Cache<Arc<ArcSwap<State<T>>>, Arc<State<T>>>);

impl<T> Handle<T> {
    /// The configuration as it is now.
    pub fn get(&mut self) -> &T {
        &self.0.load().value
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> Config<T> {
    pub(crate) fn open(loader: ConfigLoader) -> Result<Config<T>> {
        let current = Arc::new(ArcSwap::from_pointee(loader.typed::<T>(None, &mut Prints::new())?));
        // From here on what is kept of files is that of this configuration's own last load.
        let loader = loader.apart();
        let audience = Audience::default();
        let (reloading, reloader, watching) = (Mutex::new(()), Mutex::new(None), Mutex::new(None));
        Ok(Config { shared: Arc::new(Shared { watching, current, loader, reloading, reloader, audience }) })
    }

    /// Loads again and, if all is well, puts the new configuration in place. Answers with what changed, which those who
    /// [`watch`](Config::watch) are told too.
    ///
    /// # Errors
    ///
    /// As [`ConfigLoader::load`], and when it is called by what a reload of the same configuration calls: a rule, a
    /// provider, somebody's `Deserialize`. The configuration stays as it was.
    pub fn reload(&self) -> Result<Vec<Change>> {
        Ok(self.shared.reload(|_, _| true)?.unwrap_or_default())
    }

    /// Watches the files from now on, and answers with a stream of what happens to the configuration.
    ///
    /// The first call starts a thread, which ends with the last [`Config`]. It watches the folders of the files,
    /// waits until nothing has happened to them for 10 ms and nobody has one open for writing, but no longer than a
    /// second, and reloads if the content is another. What failed and may not fail again, as a provider that was away,
    /// is tried again every 5 seconds. Editors that rename, Kubernetes' swap of a link and files that are removed and made anew are
    /// understood. Where the system does not watch, files are looked at twice a second, and an event says so.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn watch(&self) -> Result<Changes> {
        let changes = self.shared.audience.stream();
        let mut watching = self.shared.watching.lock().unwrap_or_else(PoisonError::into_inner);
        if watching.is_none() {
            *watching = Some(Watching::start(self)?);
        }
        Ok(changes)
    }

    /// Calls `callback` with each event from now on, on the thread that watches or that calls
    /// [`reload`](Config::reload). Panics in it are contained.
    ///
    /// # Errors
    ///
    /// As [`watch`](Config::watch), which it starts.
    pub fn on_change(&self, callback: impl Fn(&ConfigEvent) + Send + Sync + 'static) -> Result<()> {
        self.shared.audience.callback(Arc::new(callback));
        self.watch().map(drop)
    }
}

/// Says that nobody reloads any more, after a panic too.
struct Done<'s>(&'s Mutex<Option<ThreadId>>);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl<T: DeserializeOwned> Shared<T> {
    /// Loads again and puts the new configuration in place, whole. Answers with what changed, or with nothing if
    /// `is_settled`, which is asked after reading, says no. It is given what was read, and whether that was loaded.
    pub(crate) fn reload(
        &self,
        is_settled: impl FnOnce(&Prints, bool) -> bool,
    ) -> Result<Option<Vec<Change>>> {
        let reloader = || self.reloader.lock().unwrap_or_else(PoisonError::into_inner);
        let this = std::thread::current().id();
        if *reloader() == Some(this) {
            return Err(Error::new(ErrorKind::InvalidInput, "a reload was asked for within a reload"));
        }
        let one = self.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        *reloader() = Some(this);
        let done = Done(&self.reloader);
        let mut read = Prints::new();
        let before = self.current.load_full();
        let loaded = self.loader.typed::<T>(Some((&before.loaded, before.sections.clone())), &mut read);
        if !is_settled(&read, loaded.is_ok()) {
            return Ok(None);
        }
        let new = loaded?;
        let changes = before.loaded.tree.diff(&new.loaded.tree);
        let warnings = Arc::new(new.report.clone());
        // Places may have moved where values have not, so the new one is taken in either case.
        self.current.store(Arc::new(new));
        // Callbacks may reload.
        drop(done);
        drop(one);
        if !changes.is_empty() {
            self.audience.tell(&ConfigEvent::Changed { changes: changes.clone().into(), warnings });
        }
        Ok(Some(changes))
    }
}

#[cfg(test)]
impl<T> Shared<T> {
    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        self.current.load().loaded.clone()
    }
}

impl<T> Config<T> {
    /// The configuration as it is now.
    pub fn get(&self) -> Snapshot<T> {
        Snapshot(self.shared.current.load())
    }

    /// A handle for reading very often.
    ///
    /// ```
    /// # use swarm_config::{ConfigLoader, Format};
    /// #[derive(serde::Deserialize)]
    /// struct Settings {
    ///     limit: u32,
    /// }
    /// let config = ConfigLoader::new().text("a.toml", Format::Toml, "limit = 7").load::<Settings>()?;
    /// let mut settings = config.handle();
    /// assert_eq!(settings.get().limit, 7);
    /// # Ok::<(), swarm_config::Error>(())
    /// ```
    pub fn handle(&self) -> Handle<T> {
        Handle(arc_swap::Cache::new(self.shared.current.clone()))
    }

    /// Why a key has its value: each layer that has a say, file, line and column, and which one wins.
    ///
    /// # Errors
    ///
    /// When no layer sets the key, or `path` is no path.
    pub fn explain(&self, path: &str) -> Result<Explanation> {
        self.get().0.loaded.explain(path)
    }

    /// The explanation of every key that is not a table, in the order of the configuration.
    pub fn explain_all(&self) -> Vec<Explanation> {
        self.get().0.loaded.explain_all()
    }
}

impl<T> Snapshot<T> {
    /// The tree that the configuration was made of.
    pub fn tree(&self) -> &Tree {
        &self.0.loaded.tree
    }

    /// What was noticed while loading and is no error.
    pub fn warnings(&self) -> &Report {
        &self.0.report
    }

    /// The same, to keep.
    pub fn keep(&self) -> Kept<T> {
        Kept(Arc::clone(&self.0))
    }
}

impl<T> Deref for Snapshot<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Deref for Kept<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Clone for Config<T> {
    fn clone(&self) -> Self {
        Config { shared: self.shared.clone() }
    }
}

/// The tree, without secrets.
impl<T> fmt::Debug for Config<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Config").field(self.get().tree()).finish()
    }
}
