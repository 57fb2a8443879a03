//! `PluginManager`, and what is shared by all that act for it.

mod builder;
mod call;
mod change;
mod folders;
mod follow;
mod retire;
mod unit;

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

pub use self::builder::PluginManagerBuilder;
use self::builder::Settings;
use self::folders::Folders;
pub(crate) use self::unit::Unit;
use arc_swap::ArcSwap;
use futures::Stream;
use futures::future::BoxFuture;
use semver::VersionReq;
use serde_json::Value;
use tokio::sync::broadcast;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::call::CallOptions;
use crate::catalogue::Catalogue;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{self, Event, EventKind};
use crate::info::{Origin, PluginInfo};
use crate::loader::Load;
use crate::plugin::{Plugin, PluginError};

/// Knows the plugins, calls them, and replaces them while calls are under way.
///
/// A handle that is cheap to clone. Call [`shutdown`](PluginManager::shutdown) at the end: plugins are not cleaned up when
/// the last handle is dropped.
///
/// Verbs that change something go on to their end when their future is dropped, so that no plugin is left half changed.
#[derive(Clone)]
pub struct PluginManager {
    shared: Arc<Shared>,
}

impl PluginManager {
    /// A manager of no plugins, with default settings.
    #[expect(clippy::new_without_default, reason = "a manager has an identity; two of them are not equal")]
    pub fn new() -> PluginManager {
        let events = event::sender();
        PluginManager { shared: Arc::new(Shared::new(Settings::default(), events, None)) }
    }

    /// Begins a manager with settings of your own.
    pub fn builder() -> PluginManagerBuilder {
        PluginManagerBuilder::default()
    }

    /// Calls the default version of a plugin: the highest that is there and not a pre-release, or what
    /// [`pin`](PluginManager::pin) says.
    ///
    /// Dropping the future cancels the call. `null` stands for no parameters.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], [`ErrorKind::Disabled`] and [`ErrorKind::Waiting`] where there is nobody to call;
    /// [`ErrorKind::InvalidParams`] and [`ErrorKind::TooLarge`] before the plugin runs; [`ErrorKind::Failed`],
    /// [`ErrorKind::Panicked`], [`ErrorKind::TimedOut`], [`ErrorKind::Cancelled`], [`ErrorKind::CutOff`] and
    /// [`ErrorKind::TooLarge`] of the call itself; [`ErrorKind::Closed`].
    pub fn call(&self, name: &str, params: Value) -> impl Future<Output = Result<Value>> + Send {
        static PLAIN: CallOptions = CallOptions::new();
        // Passed on as it is: an async function would move parameters and result once more.
        self.shared.call(name, params, &PLAIN)
    }

    /// Calls a plugin with a deadline, a range of versions, a token or an observer of this call's own.
    ///
    /// # Errors
    /// As for [`call`](PluginManager::call).
    pub async fn call_with(&self, name: &str, params: Value, options: CallOptions) -> Result<Value> {
        self.shared.call(name, params, &options).await
    }

    /// Takes a plugin in, which serves calls once this answers.
    ///
    /// It may require plugins that are not there yet; until they are it is [`Status::Waiting`](crate::Status::Waiting).
    /// Several versions of a name can be there. [`rollback`](PluginManager::rollback) cannot make it anew;
    /// [`register_with`](PluginManager::register_with) is for that.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`], or [`ErrorKind::Refused`] if its check failed.
    pub async fn register(&self, plugin: impl Plugin) -> Result<()> {
        self.shared.register(Supply::Value(Arc::new(plugin))).await
    }

    /// Takes in a plugin that a function makes, so that it can be made again.
    ///
    /// # Errors
    /// As for [`register`](PluginManager::register), and [`ErrorKind::Refused`] if it could not be made.
    pub async fn register_with<P, F, Fut>(&self, make: F) -> Result<()>
    where
        P: Plugin,
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<P, PluginError>> + Send + 'static,
    {
        self.shared.register(Supply::Recipe(recipe(make))).await
    }

    /// Lets a plugin take the place of the default version of a name, which was registered in code, and answers once new
    /// calls go to it.
    ///
    /// The new version is checked beside the old one and takes over its state; calls under way end on the old one, which is
    /// then cleaned up. [`events`](PluginManager::events) tells each stage.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] if its check failed, it lacks what it requires, or it did not take over the state;
    /// [`ErrorKind::InvalidInput`] if it has another name; [`ErrorKind::NotFound`]; [`ErrorKind::InvalidState`] if the
    /// default version comes from a file. The old version serves on in each case.
    pub async fn reload(&self, name: &str, plugin: impl Plugin) -> Result<()> {
        self.shared.reload(name, Supply::Value(Arc::new(plugin))).await
    }

    /// The same with a plugin that a function makes, so that it can be made again.
    ///
    /// # Errors
    /// As for [`reload`](PluginManager::reload), and [`ErrorKind::Refused`] if it could not be made.
    pub async fn reload_with<P, F, Fut>(&self, name: &str, make: F) -> Result<()>
    where
        P: Plugin,
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<P, PluginError>> + Send + 'static,
    {
        self.shared.reload(name, Supply::Recipe(recipe(make))).await
    }

    /// Goes back to what served before the last reload of the name's default version: makes it anew, and replaces as a
    /// reload does, state included.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidState`] if nothing was before, it was registered as a value, or it was gone back to already;
    /// [`ErrorKind::Refused`] if it cannot be made any more; [`ErrorKind::NotFound`].
    pub async fn rollback(&self, name: &str) -> Result<()> {
        self.shared.rollback(name).await
    }

    /// Takes all versions of a name out, and answers once they are drained and cleaned up.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub async fn remove(&self, name: &str) -> Result<()> {
        self.shared.remove(name).await
    }

    /// Refuses new calls of a name. Calls under way go on; nothing is cleaned up.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub fn disable(&self, name: &str) -> Result<()> {
        self.switch(name, true)
    }

    /// Allows calls of a name again.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`].
    pub fn enable(&self, name: &str) -> Result<()> {
        self.switch(name, false)
    }

    fn switch(&self, name: &str, disabled: bool) -> Result<()> {
        let kind = if disabled { EventKind::Disabled } else { EventKind::Enabled };
        let told = self.shared.edit(|catalogue| {
            let entry = catalogue.entry_mut(name)?;
            let changed = std::mem::replace(&mut entry.disabled, disabled) != disabled;
            Ok(changed.then(|| Event { name: name.into(), version: None, generation: 0, kind }))
        })?;
        if let Some(event) = told {
            self.shared.tell(event);
        }
        Ok(())
    }

    /// Says which versions of a name a call may get that asks for none: the highest in the range. `None` for any.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if no version in the range is there.
    pub fn pin(&self, name: &str, range: Option<VersionReq>) -> Result<()> {
        let told = self.shared.edit(|catalogue| {
            let entry = catalogue.entry_mut(name)?;
            let before = std::mem::replace(&mut entry.pin, range.clone());
            let fits = |info: PluginInfo| {
                range.as_ref().is_none_or(|range| range.matches(info.manifest().version()))
            };
            if !entry.infos().any(fits) {
                return Err(entry.unavailable(None).of_plugin(name));
            }
            let kind = EventKind::Pinned(range.clone());
            Ok((before != range).then(|| Event { name: name.into(), version: None, generation: 0, kind }))
        })?;
        if let Some(event) = told {
            self.shared.tell(event);
        }
        Ok(())
    }

    /// The catalogue, by name and then with the default version first.
    pub fn list(&self) -> Vec<PluginInfo> {
        self.shared.catalogue.load().list()
    }

    /// The default version of a name, or the first there is where none can be called.
    pub fn get(&self, name: &str) -> Option<PluginInfo> {
        let catalogue = self.shared.catalogue.load();
        let infos: Vec<PluginInfo> = catalogue.entry(name)?.infos().collect();
        infos.iter().find(|info| info.is_default()).or(infos.first()).cloned()
    }

    /// What happens from now on. A reader that falls 1,024 events behind misses some, and is told how many.
    /// [`PluginManagerBuilder::events`] hears of the start as well.
    pub fn events(&self) -> impl Stream<Item = Event> + Send + Unpin + use<> {
        event::heard(&self.shared.events)
    }

    /// Looks at the folders now, and answers once everything that stands still there was loaded or refused, which events
    /// tell. Needed only where nothing [watches](PluginManagerBuilder::watch).
    pub async fn rescan(&self) {
        if let Some(folders) = &self.shared.folders {
            self.shared.look_until_still(folders).await;
        }
    }

    /// Refuses new calls, drains and cleans up all plugins, each before those that it requires, and waits for all that is
    /// under way. Can be called again.
    pub async fn shutdown(&self) {
        self.shared.shutdown().await;
    }

    /// Cancelled when it begins to shut down.
    #[cfg(feature = "serve_mcp")]
    pub(crate) fn closing(&self) -> &CancellationToken {
        &self.shared.closing
    }

    /// Runs something that a shutdown waits for.
    #[cfg(feature = "serve_mcp")]
    pub(crate) fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.shared.tasks.spawn(work);
    }

    /// Cancelled when it was shut down, and no call is under way any more.
    #[cfg(feature = "serve_mcp")]
    pub(crate) fn closed(&self) -> &CancellationToken {
        &self.shared.closed
    }
}

impl fmt::Debug for PluginManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.shared.catalogue.load().slots().count();
        f.debug_struct("PluginManager").field("plugins", &count).finish_non_exhaustive()
    }
}

type Making = BoxFuture<'static, Result<Load, PluginError>>;

/// Makes the instances of a unit.
#[derive(Clone)]
pub(crate) struct Recipe {
    make: Arc<dyn Fn() -> Making + Send + Sync>,
    origin: Option<Origin>,
}

pub(crate) enum Supply {
    Value(Arc<dyn Plugin>),
    Recipe(Recipe),
}

fn recipe<P, F, Fut>(make: F) -> Recipe
where
    P: Plugin,
    F: Fn() -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<P, PluginError>> + Send + 'static,
{
    let make = Arc::new(move || -> Making {
        let making = make();
        Box::pin(async move { Ok(Load::from(making.await?)) })
    });
    Recipe { make, origin: None }
}

pub(crate) struct Shared {
    catalogue: ArcSwap<Catalogue>,
    /// One change of the catalogue at a time; never held over an await.
    editing: Mutex<()>,
    events: broadcast::Sender<Event>,
    tasks: TaskTracker,
    generations: AtomicU64,
    settings: Settings,
    folders: Option<Arc<Folders>>,
    /// Cancelled when nothing new is to be begun.
    closing: CancellationToken,
    /// Cancelled when nothing is under way any more.
    closed: CancellationToken,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.closing.cancel();
        self.closed.cancel();
    }
}

impl Shared {
    fn new(settings: Settings, events: broadcast::Sender<Event>, folders: Option<Arc<Folders>>) -> Shared {
        Shared {
            catalogue: ArcSwap::default(),
            editing: Mutex::default(),
            events,
            tasks: TaskTracker::new(),
            generations: AtomicU64::new(0),
            settings,
            folders,
            closing: CancellationToken::new(),
            closed: CancellationToken::new(),
        }
    }

    /// Changes the catalogue as a whole, or not at all where the change fails or it was shut down.
    fn edit<T>(&self, change: impl FnOnce(&mut Catalogue) -> Result<T>) -> Result<T> {
        self.change(|catalogue| match catalogue.closed {
            true => Err(shut_down()),
            false => change(catalogue),
        })
    }

    /// The same for what a shutdown needs.
    fn change<T>(&self, change: impl FnOnce(&mut Catalogue) -> Result<T>) -> Result<T> {
        let editing = self.editing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = Catalogue::clone(&self.catalogue.load());
        let out = change(&mut next)?;
        let events = next.settle();
        self.catalogue.store(Arc::new(next));
        // Told under the lock, so that they come in the order of the changes.
        events.into_iter().for_each(|event| self.tell(event));
        drop(editing);
        Ok(out)
    }

    pub(crate) fn tell(&self, event: Event) {
        let Event { name, version, generation, kind } = &event;
        let version = version.as_ref().map(tracing::field::display);
        match kind {
            EventKind::Refused { stage, reason } => {
                tracing::warn!(plugin = %name, version, generation, %stage, reason, "plugin refused");
            }
            EventKind::CleanedUp { failure: Some(failure) } => {
                tracing::warn!(plugin = %name, version, generation, failure, "plugin not cleaned up");
            }
            EventKind::Drained { cut_off: true } => {
                tracing::warn!(plugin = %name, version, generation, "calls cut off");
            }
            kind => tracing::debug!(plugin = %name, version, generation, ?kind, "plugin"),
        }
        // Nobody may be listening.
        let _ = self.events.send(event);
    }

    /// # Errors
    /// [`ErrorKind::Closed`] once it begins to shut down, when nothing new is to be begun.
    fn open(&self) -> Result<()> {
        match self.closing.is_cancelled() {
            true => Err(shut_down()),
            false => Ok(()),
        }
    }

    /// Runs what a verb does to its end, also if whoever waits for it stops waiting.
    async fn to_the_end<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        self.open()?;
        match self.tasks.spawn(work).await {
            Ok(outcome) => outcome,
            Err(error) => Err(Error::new(ErrorKind::Closed, "the runtime is shutting down").because(error)),
        }
    }
}

fn shut_down() -> Error {
    Error::new(ErrorKind::Closed, "the plugin manager was shut down")
}
