//! Plugins that come and go with their files.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use futures::stream;
use notify::event::{AccessKind, AccessMode};
use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::change::Made;
use super::{Making, Recipe, Shared, Supply, Unit};
use crate::brake::Brake;
use crate::call::after;
use crate::catalogue::Catalogue;
use crate::digest::Digest;
use crate::discovery::{CHANGED, Candidate, Found, Look, NOT_COPIED, PluginDiscovery};
use crate::error::Result;
use crate::event::{Event, EventKind, Stage};
use crate::info::Origin;
use crate::loader::Loader;

/// Files are loaded at the same time, up to so many.
const AT_ONCE: usize = 8;
/// Folders are looked at so often, though the system told nothing.
const REASSURE: Duration = Duration::from_secs(5);
/// Looks that signals lead to: so many at once, and then this far apart.
const LOOKS: (u32, Duration) = (16, Duration::from_millis(10));

/// Where plugins come from, and what is known of them.
pub(crate) struct Folders {
    pub(super) discovery: PluginDiscovery,
    pub(super) loaders: Vec<Arc<dyn Loader>>,
    pub(super) settle: Duration,
    pub(super) store: TempDir,
    /// Held over the awaits of one look, so that looks queue. Nobody waits for it while holding it.
    pub(super) known: tokio::sync::Mutex<Known>,
}

#[derive(Default)]
pub(super) struct Known {
    places: HashMap<PathBuf, Place>,
    /// What was told of a path that is not used, so that it is told once.
    told: HashMap<PathBuf, String>,
}

/// A file or folder that is, or was to be, a plugin.
struct Place {
    unit: Arc<Unit>,
    /// How it looked when it was taken.
    taken: Option<u64>,
    /// What it was when it was taken and not refused. It is not tried again until it is something else.
    digest: Option<Digest>,
    /// Whose name and version it has, if it was refused for that.
    behind: Option<Behind>,
    /// How it looks, and when it will have stood still for long enough.
    seen: (u64, Instant),
    /// Since when it is not there. Who writes a file in place, or removes it first, leaves none for a moment.
    missing: Option<Instant>,
}

/// What became of a file that was taken.
enum Taken {
    Used(Digest),
    Refused(Option<Behind>),
}

/// An instance that is in the way of another.
struct Behind {
    generation: u64,
    unit: Option<Arc<Unit>>,
}

impl Behind {
    fn new(generation: u64, catalogue: &Catalogue) -> Behind {
        let slot = catalogue.slots().find(|slot| slot.loaded.generation == generation);
        Behind { generation, unit: slot.map(|slot| slot.unit.clone()) }
    }

    /// Whether it went with its file, or became something else. What was removed by hand is not to be had from a copy.
    fn has_left(&self, catalogue: &Catalogue) -> bool {
        let left = |unit: &Arc<Unit>| unit.here().is_err() || unit.removed().is_empty();
        self.unit.as_ref().is_none_or(left)
            && !catalogue.slots().any(|slot| slot.loaded.generation == self.generation)
    }
}

impl Shared {
    /// Looks once, takes what stands still, and answers when to look again for what does not yet.
    pub(super) async fn look(self: &Arc<Self>, folders: &Arc<Folders>) -> Option<Instant> {
        let mut known = folders.known.lock().await;
        self.open().ok()?;
        let discovery = folders.discovery.clone();
        // Fails only where the runtime is shutting down.
        let look = tokio::task::spawn_blocking(move || discovery.look()).await.ok()?;
        let here: HashSet<&Path> = look.candidates.iter().map(|candidate| &*candidate.path).collect();
        known.told.retain(|path, _| {
            look.unusable.iter().any(|unusable| &unusable.path == path) || here.contains(&**path)
        });
        let missing = self.remove_gone(&mut known, &look, &here, folders.settle).await;
        known.free(&self.catalogue.load());
        for unusable in &look.unusable {
            self.unusable(&mut known, &unusable.path, unusable.reason.clone());
        }
        let mut due = missing;
        let mut ready = Vec::new();
        for candidate in look.candidates {
            match known.ready(&candidate, folders.settle) {
                // It may be what is missing, under another name, and would be in the way of itself.
                Ready::Now if missing.is_some() && known.is_new(&candidate) => {}
                Ready::Now => ready.push(candidate),
                Ready::At(moment) => due = Some(due.map_or(moment, |due| due.min(moment))),
                Ready::Taken => {}
            }
        }
        let taking = ready.into_iter().map(|candidate| {
            let unit = known.places[&candidate.path].unit.clone();
            let before = known.places[&candidate.path].digest;
            let shared = self.clone();
            let folders = folders.clone();
            async move {
                let taken = shared.take(&folders, &unit, &candidate, before).await;
                (candidate, taken)
            }
        });
        let taken: Vec<_> =
            stream::iter(taking.collect::<Vec<_>>()).buffer_unordered(AT_ONCE).collect().await;
        for (candidate, outcome) in taken {
            let Some(place) = known.places.get_mut(&candidate.path) else { continue };
            match outcome {
                Ok(taken) => {
                    place.taken = Some(candidate.fingerprint);
                    (place.digest, place.behind) = match taken {
                        Taken::Used(digest) => (Some(digest), None),
                        Taken::Refused(behind) => (None, behind),
                    };
                    known.told.remove(&candidate.path);
                }
                Err(reason) if reason == CHANGED => due = Some(after(Instant::now(), folders.settle)),
                Err(reason) => {
                    // The next look tries again.
                    if !reason.starts_with(NOT_COPIED) {
                        place.taken = Some(candidate.fingerprint);
                        (place.digest, place.behind) = (None, None);
                    }
                    self.unusable(&mut known, &candidate.path, reason);
                }
            }
        }
        if known.free(&self.catalogue.load()) { Some(Instant::now()) } else { due }
    }

    /// Copies a candidate and lets it take the place of what its unit has. The error says why it cannot be used at all; of
    /// one that can, and whose plugins are refused, events tell.
    async fn take(
        self: &Arc<Self>,
        folders: &Arc<Folders>,
        unit: &Arc<Unit>,
        candidate: &Candidate,
        before: Option<Digest>,
    ) -> Result<Taken, String> {
        // What is removed from here on stays removed.
        let undone = unit.removed().count();
        let (discovery, wanted, store) =
            (folders.discovery.clone(), candidate.clone(), folders.store.path().to_owned());
        let found = tokio::task::spawn_blocking(move || discovery.take(&wanted, &store)).await;
        let found = found.map_err(|_| "it could not be read".to_owned())??;
        let digest = found.digest();
        if before == Some(digest) {
            return Ok(Taken::Used(digest));
        }
        let recipe = folders.recipe(&found)?;
        let (shared, unit) = (self.clone(), unit.clone());
        let loading = self.to_the_end(async move {
            let name = shown(found.shared_path());
            let mut past = shared.turn(&unit).await?;
            let Made { load, recipe } = shared.make(&name, Supply::Recipe(recipe)).await?;
            shared.install(&unit, load.plugins, recipe.as_ref(), None, undone).await?;
            past.previous = std::mem::replace(&mut past.current, recipe);
            shared.follow(&unit, &mut past, load.changes);
            Ok(())
        });
        Ok(match loading.await {
            Ok(()) => Taken::Used(digest),
            // It was told as an event, with its stage.
            Err(error) => {
                let catalogue = self.catalogue.load();
                Taken::Refused(error.is_behind().map(|generation| Behind::new(generation, &catalogue)))
            }
        })
    }

    /// Removes what is missing for long enough, and answers when to look again for what is not yet.
    async fn remove_gone(
        self: &Arc<Self>,
        known: &mut Known,
        look: &Look,
        here: &HashSet<&Path>,
        settle: Duration,
    ) -> Option<Instant> {
        let unsure = |path: &Path| {
            look.unread.iter().any(|folder| path.starts_with(folder))
                || look.unusable.iter().any(|unusable| unusable.path == path)
        };
        let now = Instant::now();
        let (mut gone, mut due) = (Vec::new(), None::<Instant>);
        for (path, place) in &mut known.places {
            if here.contains(&**path) || unsure(path) {
                place.missing = None;
                continue;
            }
            let moment = after(*place.missing.get_or_insert(now), settle);
            match moment <= now {
                true => gone.push(path.clone()),
                false => due = Some(due.map_or(moment, |due| due.min(moment))),
            }
        }
        for path in gone {
            let Some(place) = known.places.remove(&path) else { continue };
            let unit = place.unit.clone();
            self.tasks.spawn(async move { unit.leave().await });
            let removed = self.edit(|catalogue| {
                place.unit.go();
                Ok(catalogue.remove_unit(&place.unit))
            });
            for slot in removed.unwrap_or_default() {
                self.tell(slot.event(EventKind::Retired));
                let (shared, loaded) = (self.clone(), slot.loaded.clone());
                drop(slot);
                self.tasks.spawn(async move { shared.retire(loaded).await });
            }
        }
        due
    }

    fn unusable(&self, known: &mut Known, path: &Path, reason: String) {
        if known.told.get(path) != Some(&reason) {
            let kind = EventKind::Refused { stage: Stage::Discover, reason: reason.clone() };
            self.tell(Event { name: shown(path).into(), version: None, generation: 0, kind });
            known.told.insert(path.to_owned(), reason);
        }
    }

    /// Looks until everything that stands still was taken.
    pub(super) async fn look_until_still(self: &Arc<Self>, folders: &Arc<Folders>) {
        /// A file that somebody writes to all the time must not hold up the rest for ever.
        const ROUNDS: usize = 16;
        for _ in 0..ROUNDS {
            let Some(due) = self.look(folders).await else { return };
            tokio::time::sleep_until(due).await;
        }
    }
}

impl Folders {
    fn recipe(&self, found: &Found) -> Result<Recipe, String> {
        let loader = self.loaders.iter().find(|loader| loader.kind() == found.kind());
        let loader = loader.cloned().ok_or_else(|| {
            let remedy = match found.kind() {
                "native" => "give a NativeLoader, of the feature native, to PluginManagerBuilder::loader",
                "process" | "wasm" => "add the feature of this name to swarm-plugin",
                _ => "give one to PluginManagerBuilder::loader, or mend the kind in plugin.toml",
            };
            format!("there is no loader for the kind {}: {remedy}", found.kind().escape_debug())
        })?;
        let origin = Some(Origin { kind: found.kind().into(), digest: found.digest() });
        let found = found.clone();
        let make = Arc::new(move || -> Making {
            let (loader, found) = (loader.clone(), found.clone());
            Box::pin(async move { loader.load(&found).await })
        });
        Ok(Recipe { make, origin })
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Ready {
    Now,
    At(Instant),
    Taken,
}

impl Known {
    /// Lets places that wait for the name and version of another be tried again where those are free, and answers whether
    /// there are any.
    fn free(&mut self, catalogue: &Catalogue) -> bool {
        let mut any = false;
        for place in self.places.values_mut() {
            if place.behind.take_if(|behind| behind.has_left(catalogue)).is_some() {
                place.taken = None;
                any = true;
            }
        }
        any
    }

    /// Whether nothing of its path was ever taken.
    fn is_new(&self, candidate: &Candidate) -> bool {
        self.places.get(&candidate.path).is_none_or(|place| place.taken.is_none() && place.digest.is_none())
    }

    /// Whether a candidate has stood still for long enough. One that last changed long ago need not be watched first.
    fn ready(&mut self, candidate: &Candidate, settle: Duration) -> Ready {
        let now = Instant::now();
        let age = SystemTime::now().duration_since(candidate.changed).unwrap_or_default();
        let place = self.places.entry(candidate.path.clone()).or_insert_with(|| {
            let due = after(now, settle.saturating_sub(age));
            let seen = (candidate.fingerprint, due);
            Place { unit: candidate.unit(), taken: None, digest: None, behind: None, seen, missing: None }
        });
        if place.taken == Some(candidate.fingerprint) {
            return Ready::Taken;
        }
        if place.seen.0 != candidate.fingerprint {
            place.seen = (candidate.fingerprint, after(now, settle));
        }
        let due = place.seen.1;
        if due <= now { Ready::Now } else { Ready::At(due) }
    }
}

impl Candidate {
    fn unit(&self) -> Arc<Unit> {
        Unit::new(self.precedence(), Some(self.path.as_path().into()))
    }
}

/// The name of a file for people: without what a terminal would obey.
pub(super) fn shown(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().escape_debug().to_string()
}

/// Hears of changes in the folders, as far as the system tells.
struct Ears {
    watcher: Option<RecommendedWatcher>,
    has_warned: bool,
}

impl Ears {
    fn new(heard: Arc<Notify>) -> Ears {
        let config = notify::Config::default().with_follow_symlinks(false);
        let handler = move |event: notify::Result<notify::Event>| {
            // Our own reading is heard as well; it must not lead to more of it.
            let written = AccessKind::Close(AccessMode::Write);
            if !matches!(event, Ok(notify::Event { kind: notify::EventKind::Access(kind), .. }) if kind != written)
            {
                heard.notify_one();
            }
        };
        Ears { watcher: RecommendedWatcher::new(handler, config).ok(), has_warned: false }
    }

    /// Watches the folders. To watch again what is watched already is how a folder that was made anew is taken up.
    fn prick(&mut self, folders: &Folders) {
        let Some(watcher) = &mut self.watcher else { return };
        for folder in folders.discovery.folders() {
            // Elsewhere a second watch would stand beside the first.
            if !cfg!(target_os = "linux") {
                let _ = watcher.unwatch(folder);
            }
            // Where it is missing or the system has no watches left, looking now and then has to do.
            if let Err(error) = watcher.watch(folder, RecursiveMode::Recursive)
                && !std::mem::replace(&mut self.has_warned, true)
            {
                tracing::warn!(folder = %folder.display(), %error, "not watched; looked at every {REASSURE:?}");
            }
        }
    }
}

/// Begins to watch; what happens from now on is heard.
pub(super) fn watch(shared: &Arc<Shared>, folders: &Arc<Folders>) -> impl Future<Output = ()> + Send + use<> {
    let heard = Arc::new(Notify::new());
    let mut ears = Ears::new(heard.clone());
    ears.prick(folders);
    let closing = shared.closing.clone();
    let (shared, folders): (Weak<Shared>, _) = (Arc::downgrade(shared), folders.clone());
    async move {
        let mut reassure = Instant::now() + REASSURE;
        let mut due = reassure;
        let mut brake = Brake::new(LOOKS.0, LOOKS.1);
        loop {
            tokio::select! {
                () = closing.cancelled() => return,
                () = heard.notified() => {
                    while let Err(wait) = brake.pass() {
                        tokio::time::sleep(wait).await;
                    }
                }
                () = tokio::time::sleep_until(due) => {}
            }
            let Some(shared) = shared.upgrade() else { return };
            if reassure <= Instant::now() {
                ears.prick(&folders);
                reassure = Instant::now() + REASSURE;
            }
            let sooner = shared.look(&folders).await;
            due = sooner.map_or(reassure, |sooner| sooner.min(reassure));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_file_is_taken_once_it_stands_still() {
        const SETTLE: Duration = Duration::from_secs(1);
        let mut known = Known::default();
        let mut ready = |fingerprint, changed: SystemTime| {
            known.ready(&Candidate::fake("tool", fingerprint, changed), SETTLE)
        };
        // A clock that is ahead is no reason to trust a file.
        let ahead = SystemTime::now() + SETTLE * 100;
        let long_ago = SystemTime::now() - SETTLE * 100;
        let begun = Instant::now();
        assert_eq!(ready(1, ahead), Ready::At(begun + SETTLE));
        tokio::time::advance(SETTLE / 2).await;
        assert_eq!(ready(2, ahead), Ready::At(begun + SETTLE * 3 / 2), "each change begins anew");
        tokio::time::advance(SETTLE).await;
        assert_eq!(ready(2, ahead), Ready::Now);
        let later = Instant::now() + SETTLE;
        assert_eq!(ready(3, long_ago), Ready::At(later), "a time that was set back is not believed");
        let mut other = Known::default();
        assert_eq!(other.ready(&Candidate::fake("tool", 1, long_ago), SETTLE), Ready::Now);
        for seen in [1, 2] {
            let ready = Known::default().ready(&Candidate::fake("tool", seen, long_ago), Duration::MAX);
            assert!(matches!(ready, Ready::At(_)), "as good as never");
        }
    }
}
