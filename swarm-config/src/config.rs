use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::{ArcSwap, Guard};
use serde::de::DeserializeOwned;

use crate::diff::Change;
use crate::error::Result;
use crate::explain::Explanation;
use crate::loader::{ConfigLoader, Loaded};
use crate::report::Report;
use crate::tree::Tree;

/// A loaded configuration: a `T`, and the tree that it was made of.
///
/// Cheap to clone; all clones see each reload. Reading is one atomic load, and what was read does not change while it
/// is held: a reload is seen whole or not at all.
pub struct Config<T> {
    shared: Arc<Shared<T>>,
}

pub(crate) struct Shared<T> {
    current: Arc<ArcSwap<State<T>>>,
    pub(crate) loader: ConfigLoader,
    /// One reload at a time.
    reloading: Mutex<()>,
}

pub(crate) struct State<T> {
    value: T,
    loaded: Loaded,
}

/// The configuration at one moment. Dereferences to `T`.
///
/// Meant to be held briefly; [`to_arc`](Snapshot::to_arc) makes one to keep.
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
        let (value, loaded) = loader.typed::<T>()?;
        let current = Arc::new(ArcSwap::from_pointee(State { value, loaded }));
        Ok(Config { shared: Arc::new(Shared { current, loader, reloading: Mutex::new(()) }) })
    }

    /// Loads again and, if all is well, puts the new configuration in place. Answers with what changed.
    ///
    /// # Errors
    ///
    /// As [`ConfigLoader::load`]. The configuration stays as it was.
    pub fn reload(&self) -> Result<Vec<Change>> {
        let _one = self.shared.reloading.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, loaded) = self.shared.loader.typed::<T>()?;
        let before = self.shared.current.load_full();
        let changes = before.loaded.tree.diff(&loaded.tree);
        // Places may have moved where values have not, so the new one is taken in either case.
        self.shared.current.store(Arc::new(State { value, loaded }));
        Ok(changes)
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
        &self.0.loaded.report
    }

    /// The same, to keep.
    pub fn to_arc(&self) -> Kept<T> {
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
