use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use serde::de::DeserializeOwned;

use crate::diff::Change;
use crate::error::{Error, ErrorKind, Result};
use crate::explain::Explanation;
use crate::loader::{ConfigLoader, Loaded, Prints};
use crate::report::Report;
use crate::section::Sections;
use crate::tree::Tree;
use crate::watch::{Audience, ConfigEvent, Events, Subscription, Watching};

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
    turns: Turns,
    pub(crate) audience: Audience<T>,
}

pub(crate) struct State<T> {
    pub(crate) value: T,
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) sections: Arc<Sections>,
}

/// The configuration at one moment. Dereferences to `T`.
///
/// One of [`Config::get`] is meant to be held briefly: many that are held make further reads slower.
/// [`keep`](Snapshot::keep) makes one to keep.
pub struct Snapshot<T>(Guard<Arc<State<T>>>);

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
        Config::open_with(loader, PATIENCE)
    }

    fn open_with(loader: ConfigLoader, patience: Duration) -> Result<Config<T>> {
        let first = loader.typed::<T>(None, &mut Prints::new())?;
        first.loaded.tree.warnings().log(&Report::NOTHING);
        let current = Arc::new(ArcSwap::from_pointee(first));
        // From here on what is kept of files is that of this configuration's own last load.
        let loader = loader.apart();
        let (watching, audience) = (Mutex::new(None), Audience::default());
        let turns = Turns { at: Mutex::new(None), free: Condvar::new(), patience };
        Ok(Config { shared: Arc::new(Shared { watching, current, loader, turns, audience }) })
    }

    /// Loads again and, if all is well, puts the new configuration in place. Answers with what changed, which those who
    /// [`watch`](Config::watch) are told too. It reads on the thread that calls, as [`load`](ConfigLoader::load) does.
    ///
    /// # Errors
    ///
    /// As [`ConfigLoader::load`]. One reload waits for another, so what a reload calls, a rule, a provider or somebody's
    /// `Deserialize`, must not reload the same configuration: on its own thread that is an error at once, and for a thread
    /// that it waits for one after 30 seconds ([`ErrorKind::Busy`]). The configuration stays as it was.
    pub fn reload(&self) -> Result<Vec<Change>> {
        Ok(self.shared.reload(|_, _| true)?.unwrap_or_default())
    }

    /// Watches the files from now on, and answers with a stream of what happens to the configuration.
    ///
    /// The first call starts a thread, which ends with the last [`Config`]. It watches the folders of the files,
    /// waits until nothing has happened to them for 10 ms and nobody has one open for writing, but no longer than a
    /// second, and reloads if the content is another. What failed and may not fail again, as a provider that was away,
    /// is tried again every 5 seconds. Editors that rename, Kubernetes' swap of a link and files that are removed and made anew are
    /// understood. Where the system does not watch, files are looked at twice a second, and an event says so. What changed
    /// without a notice is read once two looks have found the same. Files that are something else each time that they
    /// are read are looked at less and less often, and after 5 seconds an event says so ([`ErrorKind::Busy`]).
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    pub fn watch(&self) -> Result<Events> {
        let events = self.shared.audience.stream();
        let mut watching = self.shared.watching.lock().unwrap_or_else(PoisonError::into_inner);
        if watching.is_none() {
            *watching = Some(Watching::start(self)?);
        }
        Ok(events)
    }

    /// Calls `callback` with each event and the configuration as it is then, for as long as the [`Subscription`] is kept,
    /// on the thread that watches or that calls [`reload`](Config::reload), in the order in which configurations were put
    /// in place. It is called with one event after the other: of what happens meanwhile, also by a reload of its own, it
    /// is told once it has returned, by the same thread, and so the configuration may be newer than the event. At most 64
    /// events wait for it. Panics in it are contained.
    ///
    /// Watching ends with the last [`Config`], so a callback that holds one keeps it going until its [`Subscription`] is
    /// dropped.
    ///
    /// ```
    /// # use swarm_config::{ConfigEvent, ConfigLoader, testing::FakeSource, Format};
    /// # let source = FakeSource::new("a.toml", Format::Toml, "limit = 1");
    /// # #[derive(serde::Deserialize)]
    /// # struct Settings { limit: u32 }
    /// # let config = ConfigLoader::new().fake(&source).load::<Settings>()?;
    /// let (limits, applied) = std::sync::mpsc::channel();
    /// let subscription = config.on_change(move |event, settings| match event {
    ///     ConfigEvent::Changed { .. } => drop(limits.send(settings.limit)),
    ///     ConfigEvent::Rejected { error, .. } => eprintln!("{error}"),
    ///     _ => {}
    /// })?;
    /// source.set("limit = 2");
    /// config.reload()?;
    /// assert_eq!(applied.recv(), Ok(2));
    /// # Ok::<(), swarm_config::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`watch`](Config::watch), which it starts. The callback is dropped then.
    pub fn on_change(
        &self,
        callback: impl Fn(&ConfigEvent, &Snapshot<T>) + Send + Sync + 'static,
    ) -> Result<Subscription> {
        // First, so that it hears of what is found at once.
        let subscription = self.shared.audience.callback(callback);
        self.watch()?;
        Ok(subscription)
    }
}

/// How long a reload waits for another one.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lets one reload at a time go from reading to swapping, so that of two at once the later one stays, and each difference
/// is to the one before.
struct Turns {
    /// Who reloads.
    at: Mutex<Option<ThreadId>>,
    free: Condvar,
    patience: Duration,
}

/// Ends a reload, after a panic too.
struct Turn<'t>(&'t Turns);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        *self.0.lock() = None;
        self.0.free.notify_one();
    }
}

impl Turns {
    fn lock(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Result<Turn<'_>> {
        let at = self.lock();
        let this = std::thread::current().id();
        if *at == Some(this) {
            return Err(Error::new(ErrorKind::InvalidInput, "a reload was asked for within a reload"));
        }
        let wait = self.free.wait_timeout_while(at, self.patience, |at| at.is_some());
        let (mut at, waited) = wait.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            let message = format!(
                "another reload has not ended within {:?}: it is slow, or a rule or provider in it waits for this one",
                self.patience
            );
            tracing::warn!("{message}");
            return Err(Error::new(ErrorKind::Busy, message).retryable());
        }
        *at = Some(this);
        Ok(Turn(self))
    }
}

impl<T: DeserializeOwned> Shared<T> {
    /// Loads again and puts the new configuration in place, whole. Answers with what changed, or with nothing if
    /// `is_settled`, which is asked after reading, says no. It is given what was read, and whether that was loaded.
    pub(crate) fn reload(
        &self,
        is_settled: impl FnOnce(&Prints, bool) -> bool,
    ) -> Result<Option<Vec<Change>>> {
        let turn = self.turns.take()?;
        let mut read = Prints::new();
        let before = self.current.load_full();
        let loaded = self.loader.typed::<T>(Some((&before.loaded, before.sections.clone())), &mut read);
        if !is_settled(&read, loaded.is_ok()) {
            return Ok(None);
        }
        let new = loaded?;
        let changes = before.loaded.tree.diff(&new.loaded.tree);
        let warnings = Arc::new(new.loaded.tree.warnings().clone());
        // Of what is put in place, and not of what was read and is read again.
        warnings.log(before.loaded.tree.warnings());
        // Places may have moved where values have not, so the new one is taken in either case.
        self.current.store(Arc::new(new));
        if !changes.is_empty() {
            // Still in turn, so that events come in the order of what they tell.
            self.audience.post(ConfigEvent::Changed { changes: changes.clone().into(), warnings });
        }
        // Callbacks may reload.
        drop(turn);
        self.deliver();
        Ok(Some(changes))
    }
}

impl<T> Shared<T> {
    /// Tells everybody. What other threads post meanwhile may be told first.
    pub(crate) fn tell(&self, event: ConfigEvent) {
        self.audience.post(event);
        self.deliver();
    }

    /// What is in place.
    pub(crate) fn loaded(&self) -> Arc<Loaded> {
        self.current.load().loaded.clone()
    }

    fn deliver(&self) {
        self.audience.deliver(|| Snapshot(self.current.load()));
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

    /// Why a key has its value now: [`Snapshot::explain`] of the configuration as it is, which a reload may have put in
    /// place since a value was read.
    ///
    /// # Errors
    ///
    /// When no layer sets the key, or `path` is no path.
    pub fn explain(&self, path: &str) -> Result<Explanation> {
        self.get().explain(path)
    }

    /// The explanation of every key that is not a table: [`Snapshot::explain_all`] of the configuration as it is.
    pub fn explain_all(&self) -> Vec<Explanation> {
        self.get().explain_all()
    }
}

impl<T> Snapshot<T> {
    /// The tree that the configuration was made of.
    pub fn tree(&self) -> &Tree {
        &self.0.loaded.tree
    }

    /// What was noticed while loading and is no error: misspelt keys and variables, patterns that fit nothing, and
    /// findings of schemas and rules that are warnings.
    pub fn warnings(&self) -> &Report {
        self.tree().warnings()
    }

    /// Why a key has the value that it has here: each layer that has a say, file, line and column, and which one wins.
    ///
    /// # Errors
    ///
    /// When no layer sets the key, or `path` is no path.
    pub fn explain(&self, path: &str) -> Result<Explanation> {
        self.tree().explain(path)
    }

    /// The explanation of every key that is not a table, in the order of the configuration.
    pub fn explain_all(&self) -> Vec<Explanation> {
        self.tree().explain_all()
    }

    /// The same, to keep for as long as one likes.
    pub fn keep(&self) -> Snapshot<T> {
        Snapshot(Guard::from_inner(Arc::clone(&self.0)))
    }
}

impl<T> Deref for Snapshot<T> {
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
impl<T> fmt::Debug for Snapshot<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Snapshot").field(self.tree()).finish()
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

/// The tree, without secrets.
impl<T> fmt::Debug for Config<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Config").field(self.get().tree()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Format;
    use crate::validate::{ConfigValidator, Rule};
    use crate::{Finding, Severity, Tree};

    type Own = Arc<std::sync::OnceLock<Config<serde_json::Value>>>;

    /// Waits for another thread's reload of the configuration that it is a rule of.
    struct Waits(Own);

    impl Rule for Waits {
        fn name(&self) -> &str {
            "waits"
        }

        fn check(&self, _: &Tree) -> Vec<Finding> {
            let Some(config) = self.0.get().cloned() else { return Vec::new() };
            let error = std::thread::spawn(move || config.reload().unwrap_err()).join().unwrap();
            assert!(error.kind() == ErrorKind::Busy && error.is_retryable());
            vec![Finding::new(Severity::Warning, "", error.to_string())]
        }
    }

    #[test]
    fn a_rule_that_waits_for_another_reload_is_told_that_it_does() {
        let own = Own::default();
        let validator = ConfigValidator::builder().rule(Waits(own.clone())).build().unwrap();
        let loader = ConfigLoader::new().text("a.toml", Format::Toml, "a = 1").validator(validator);
        let config = Config::open_with(loader, Duration::ZERO).unwrap();
        own.set(config.clone()).unwrap();
        for _ in 0..2 {
            config.reload().unwrap();
            let told = config.get().warnings().findings()[0].message().to_owned();
            assert!(told.starts_with("another reload has not ended within 0ns"), "{told}");
        }
    }
}
