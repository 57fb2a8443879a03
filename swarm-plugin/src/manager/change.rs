//! Taking a version in: loaded, admitted, checked, given the state, put in place.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use futures::future::join_all;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::unit::Past;
use super::{Recipe, Shared, Supply, Unit};
use crate::catalogue::{Catalogue, Serving, Slot};
use crate::contained::{Contained, dropped};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventKind, Stage};
use crate::info::Status;
use crate::lease::Loaded;
use crate::loader::Load;
use crate::plugin::{Plugin, PluginError};
use crate::stats::Counters;

impl Shared {
    pub(super) async fn register(self: &Arc<Self>, supply: Supply) -> Result<()> {
        let shared = self.clone();
        self.to_the_end(async move {
            let unit = Unit::new(0, None);
            let mut past = shared.turn(&unit).await?;
            let Made { load, recipe } = shared.make("", supply).await?;
            shared.install(&unit, load.plugins, recipe.as_ref(), None, 0).await?;
            *past = Past { current: recipe, ..Past::default() };
            Ok(())
        })
        .await
    }

    pub(super) async fn reload(self: &Arc<Self>, name: &str, supply: Supply) -> Result<()> {
        let (shared, name) = (self.clone(), name.to_owned());
        self.to_the_end(async move {
            let unit = shared.unit_of(&name)?;
            if unit.path.is_some() {
                let message = "its default version comes from a file, which is to be changed instead";
                return Err(Error::new(ErrorKind::InvalidState, message).of_plugin(&name));
            }
            let mut past = shared.turn(&unit).await?;
            let Made { load, recipe } = shared.make(&name, supply).await?;
            shared.install(&unit, load.plugins, recipe.as_ref(), Some(&name), 0).await?;
            past.previous = std::mem::replace(&mut past.current, recipe);
            Ok(())
        })
        .await
    }

    pub(super) async fn rollback(self: &Arc<Self>, name: &str) -> Result<()> {
        let (shared, name) = (self.clone(), name.to_owned());
        self.to_the_end(async move {
            let unit = shared.unit_of(&name)?;
            let undone = unit.removed().count();
            let mut past = shared.turn(&unit).await?;
            let Some(previous) = past.previous.clone() else {
                let message = "there is no version to go back to that could be made again";
                return Err(Error::new(ErrorKind::InvalidState, message).of_plugin(&name));
            };
            let Made { load, recipe } = shared.make(&name, Supply::Recipe(previous)).await?;
            // What comes from a file may be several plugins, of which this is one.
            let name = unit.path.is_none().then_some(&*name);
            shared.install(&unit, load.plugins, recipe.as_ref(), name, undone).await?;
            *past = Past { current: recipe, ..Past::default() };
            shared.follow(&unit, &mut past, load.changes);
            Ok(())
        })
        .await
    }

    fn unit_of(&self, name: &str) -> Result<Arc<Unit>> {
        let catalogue = self.catalogue.load();
        if let Some(slot) = catalogue.entry(name).and_then(|entry| entry.chosen()) {
            return Ok(slot.unit.clone());
        }
        // Says why there is none: unknown, disabled, waiting.
        catalogue.find(name, None).map(drop)?;
        Err(Error::new(ErrorKind::NotFound, "has no default version").of_plugin(name))
    }

    /// Makes the instances. What fails here has no version yet, and goes by the name that was asked for.
    pub(super) async fn make(&self, name: &str, supply: Supply) -> Result<Made> {
        let recipe = match supply {
            Supply::Value(plugin) => return Ok(Made { load: Load::new([plugin]), recipe: None }),
            Supply::Recipe(recipe) => recipe,
        };
        let limit = self.settings.load_timeout;
        let making = Contained::new(Box::pin(async { (recipe.make)().await }));
        let failure = match tokio::time::timeout(limit, making).await {
            Ok(Ok(Ok(load))) => return Ok(Made { load, recipe: Some(recipe) }),
            Ok(Ok(Err(failure))) => failure,
            Ok(Err(payload)) => PluginError::panicked(payload),
            Err(_) => PluginError::new(format_args!("took longer than {limit:?}, the load_timeout")),
        };
        let event = |kind| Event { name: name.into(), version: None, generation: 0, kind };
        self.tell(event(EventKind::Refused { stage: Stage::Load, reason: failure.to_string() }));
        let error = Error::of_failure(ErrorKind::Refused, failure);
        Err(if name.is_empty() { error } else { error.of_plugin(name) })
    }

    /// Puts instances in the place of what the unit has, or leaves everything as it was and cleans them up. As many removals
    /// as are `undone` do not count.
    pub(super) async fn install(
        self: &Arc<Self>,
        unit: &Arc<Unit>,
        instances: Vec<Arc<dyn Plugin>>,
        recipe: Option<&Recipe>,
        name: Option<&str>,
        undone: u64,
    ) -> Result<()> {
        let mut fresh = Vec::new();
        let mut outcome = Ok(());
        for plugin in instances {
            match std::panic::catch_unwind(AssertUnwindSafe(|| plugin.manifest().clone())) {
                Ok(manifest) => {
                    let generation = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
                    let timeout = self.settings.call_timeout;
                    let origin = recipe.and_then(|recipe| recipe.origin.clone());
                    let host = Arc::downgrade(self);
                    let loaded = Loaded::new(plugin, manifest, generation, origin, timeout, host);
                    self.tell(loaded.event(EventKind::Loaded));
                    fresh.push(Arc::new(loaded));
                }
                Err(payload) => {
                    dropped(plugin);
                    outcome = Err(Error::of_failure(ErrorKind::Refused, PluginError::panicked(payload)));
                }
            }
        }
        if outcome.is_ok() {
            outcome = self.replace(unit, &fresh, name, undone).await;
        }
        if outcome.is_err() {
            join_all(fresh.iter().map(|loaded| self.clean(loaded))).await;
        }
        outcome
    }

    async fn replace(
        self: &Arc<Self>,
        unit: &Arc<Unit>,
        fresh: &[Arc<Loaded>],
        name: Option<&str>,
        undone: u64,
    ) -> Result<()> {
        if let Some(name) = name
            && let Some(other) = fresh.iter().find(|loaded| loaded.manifest.name() != name)
        {
            let message = format!("the new version calls itself {}", other.manifest.name());
            let error = Error::new(ErrorKind::InvalidInput, message).of_plugin(name);
            return Err(self.refuse(other, Stage::Admit, error));
        }
        self.open().map_err(|error| self.misfit((fresh.first(), error)))?;
        // Tried on a copy first, so that nothing is checked or asked for its state in vain.
        let old = enter(&mut Catalogue::clone(&self.catalogue.load()), unit, fresh, undone)
            .map_err(|misfit| self.misfit(misfit))?;
        let limit = self.settings.load_timeout;
        let checks = fresh.iter().map(|loaded| loaded.part(limit, async { loaded.plugin.check().await }));
        for (loaded, checked) in fresh.iter().zip(join_all(checks).await) {
            checked.map_err(|failure| self.refuse(loaded, Stage::Check, refused(failure)))?;
            self.tell(loaded.event(EventKind::Checked));
        }
        // Leases are held by the catalogue and by calls only, or they would seem to be calls under way.
        let old: Vec<(Arc<Loaded>, Arc<Counters>)> =
            old.into_iter().map(|slot| (slot.loaded, slot.counters)).collect();
        let mut held = Held { shared: self, token: CancellationToken::new(), of: Vec::new() };
        let stays_removed = |loaded: &Loaded| unit.removed().stays(loaded.manifest.name(), undone);
        for loaded in fresh {
            let before = old.iter().find(|(before, _)| before.manifest.name() == loaded.manifest.name());
            if let Some((before, counters)) = before
                && let Err((stage, error)) = self.hand_over(loaded, before, counters, &mut held).await
                && !stays_removed(loaded)
            {
                return Err(self.refuse(loaded, stage, error));
            }
        }
        let mut misfit = fresh.first();
        let (retired, left_out) = self
            .edit(|catalogue| {
                if !old.is_empty() && catalogue.of_unit(unit).next().is_none() {
                    return Err(Error::new(ErrorKind::InvalidState, REMOVED));
                }
                let retired = enter(catalogue, unit, fresh, undone).map_err(|(loaded, error)| {
                    misfit = loaded;
                    error
                })?;
                let left_out: Vec<_> = fresh.iter().filter(|loaded| stays_removed(loaded)).collect();
                Ok((retired, left_out))
            })
            .map_err(|error| self.misfit((misfit, error)))?;
        unit.removed().undo(undone);
        held.of.clear();
        drop(held);
        for slot in retired {
            self.tell(slot.event(EventKind::Retired));
            let shared = self.clone();
            let loaded = slot.loaded.clone();
            drop(slot);
            self.tasks.spawn(async move { shared.retire(loaded).await });
        }
        join_all(left_out.into_iter().map(|loaded| self.clean(loaded))).await;
        Ok(())
    }

    /// Gives a new instance the state of the one before it. Where there is state, new calls wait from here on until `held`
    /// is dropped.
    async fn hand_over(
        &self,
        loaded: &Loaded,
        before: &Arc<Loaded>,
        counters: &Arc<Counters>,
        held: &mut Held<'_>,
    ) -> Result<(), (Stage, Error)> {
        let limit = self.settings.load_timeout;
        let export = || before.part(limit, async { before.plugin.export_state().await });
        let no_export = |failure| (Stage::ExportState, refused(failure));
        // A plugin without state says so at once, and none of its callers has to wait.
        if export().await.map_err(no_export)?.is_none() {
            return Ok(());
        }
        held.hold(before.clone(), counters.clone()).map_err(|error| (Stage::ExportState, error))?;
        self.tell(before.event(EventKind::Held));
        let late = match before.idle(self.settings.drain_timeout).await {
            true => 0,
            false => counters.read().in_flight,
        };
        let state: Option<Value> = export().await.map_err(no_export)?;
        let Some(state) = state else { return Ok(()) };
        loaded
            .part(limit, async { loaded.plugin.import_state(state).await })
            .await
            .map_err(|failure| (Stage::ImportState, refused(failure)))?;
        self.tell(loaded.event(EventKind::StateTaken { late_calls: late }));
        Ok(())
    }

    fn misfit(&self, (loaded, error): Misfit<'_>) -> Error {
        match loaded {
            Some(loaded) => self.refuse(loaded, Stage::Admit, error),
            None => error,
        }
    }

    fn refuse(&self, loaded: &Loaded, stage: Stage, error: Error) -> Error {
        self.tell(loaded.event(EventKind::Refused { stage, reason: error.to_string() }));
        error.of_plugin(loaded.manifest.name())
    }
}

/// What a supply gave.
pub(super) struct Made {
    pub(super) load: Load,
    /// How to make the same again.
    pub(super) recipe: Option<Recipe>,
}

fn refused(failure: PluginError) -> Error {
    Error::of_failure(ErrorKind::Refused, failure)
}

const REMOVED: &str = "was removed meanwhile";

/// Which instance does not fit into the catalogue, if there is one, and why.
type Misfit<'f> = (Option<&'f Arc<Loaded>>, Error);

/// Lets instances take the place of what their unit has, and answers what that was. Those that stay removed are left out.
fn enter<'f>(
    catalogue: &mut Catalogue,
    unit: &Arc<Unit>,
    fresh: &'f [Arc<Loaded>],
    undone: u64,
) -> Result<Vec<Slot>, Misfit<'f>> {
    unit.here().map_err(|error| (fresh.first(), error))?;
    let old = catalogue.remove_unit(unit);
    let mut left_out = 0;
    for loaded in fresh {
        if unit.removed().stays(loaded.manifest.name(), undone) {
            left_out += 1;
            continue;
        }
        let before = old.iter().find(|slot| slot.loaded.manifest.name() == loaded.manifest.name());
        let counters = before.map(|slot| slot.counters.clone()).unwrap_or_default();
        let serving = Serving::Live(loaded.lease(counters.clone()));
        let slot = Slot {
            unit: unit.clone(),
            loaded: loaded.clone(),
            counters,
            serving,
            status: Status::Shadowed,
            rank: 0,
        };
        catalogue.insert(slot).map_err(|error| {
            // What is in the way of its own sibling goes with it.
            let is_sibling = |generation| fresh.iter().any(|fresh| fresh.generation == generation);
            let error = if error.is_behind().is_some_and(is_sibling) { error.behind(None) } else { error };
            (Some(loaded), error)
        })?;
    }
    if left_out > 0 && left_out == fresh.len() {
        return Err((fresh.first(), Error::new(ErrorKind::InvalidState, REMOVED)));
    }
    // A version that would wait must not take the place of one that serves.
    let replaces = |loaded: &&Arc<Loaded>| {
        let name = loaded.manifest.name();
        old.iter().any(|slot| slot.is_active() && slot.loaded.manifest.name() == name)
    };
    let replacing: Vec<&Arc<Loaded>> = fresh.iter().filter(replaces).collect();
    if replacing.is_empty() {
        return Ok(old);
    }
    // Judged on a copy, since what becomes different is told when the change is made.
    let mut judged = catalogue.clone();
    judged.settle();
    for loaded in replacing {
        let slot = judged.of_unit(unit).find(|slot| slot.loaded.generation == loaded.generation);
        if let Some(Slot { status: Status::Waiting { reason }, .. }) = slot {
            return Err((Some(loaded), Error::new(ErrorKind::Refused, reason.clone())));
        }
    }
    Ok(old)
}

/// Plugins whose new calls wait. They are let go when this is dropped, to whoever serves then.
struct Held<'s> {
    shared: &'s Shared,
    token: CancellationToken,
    /// Who is to serve again, if no one else does by then.
    of: Vec<(Arc<Loaded>, Arc<Counters>)>,
}

impl Held<'_> {
    fn hold(&mut self, loaded: Arc<Loaded>, counters: Arc<Counters>) -> Result<()> {
        let generation = loaded.generation;
        self.of.push((loaded, counters));
        self.shared.edit(|catalogue| {
            catalogue.serve(generation, &Serving::Held(self.token.clone()));
            Ok(())
        })
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if !self.of.is_empty() {
            // Also where it is being shut down: calls under way may call what they require.
            let _ = self.shared.change(|catalogue| {
                for (loaded, counters) in &self.of {
                    catalogue.serve(loaded.generation, &Serving::Live(loaded.lease(counters.clone())));
                }
                Ok(())
            });
        }
        self.token.cancel();
    }
}
