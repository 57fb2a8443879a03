//! Which plugins there are: a snapshot that callers read without a lock, and that a change replaces as a whole.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use semver::{Version, VersionReq};
use tokio_util::sync::CancellationToken;

use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, EventKind};
use crate::info::{PluginInfo, Status};
use crate::lease::{Lease, Loaded};
use crate::manager::Unit;
use crate::manifest::NAME_LIMIT;
use crate::requirement::{self, Node, Verdict};
use crate::stats::Counters;

#[derive(Clone, Default)]
pub(crate) struct Catalogue {
    names: HashMap<Arc<str>, Arc<Entry>, RandomState>,
    pub(crate) closed: bool,
}

/// All versions of one name.
#[derive(Clone, Default)]
pub(crate) struct Entry {
    pub(crate) disabled: bool,
    pub(crate) pin: Option<VersionReq>,
    /// What a call gets that asks for no version.
    chosen: Option<usize>,
    /// Releases before pre-releases, then the highest version, then the highest precedence first.
    slots: Vec<Slot>,
}

#[derive(Clone)]
pub(crate) struct Slot {
    pub(crate) unit: Arc<Unit>,
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) serving: Serving,
    /// As of the last [`settle`](Catalogue::settle).
    pub(crate) status: Status,
    /// Plugins of a lower rank are what this one may require.
    pub(crate) rank: usize,
}

#[derive(Clone)]
pub(crate) enum Serving {
    Live(Arc<Lease>),
    /// Calls wait until this is cancelled, and look again.
    Held(CancellationToken),
}

impl Catalogue {
    /// Finds what serves a name, which every call does.
    pub(crate) fn find(&self, name: &str, version: Option<&VersionReq>) -> Result<&Slot> {
        let entry = match self.names.get(name) {
            Some(entry) if !entry.disabled => entry,
            _ => return Err(self.absent(name)),
        };
        let found = match version {
            None => entry.chosen.map(|at| &entry.slots[at]),
            Some(range) => entry.slots.iter().find(|slot| slot.is_active() && range.matches(slot.version())),
        };
        match found {
            Some(slot) => Ok(slot),
            None => Err(entry.unavailable(version).of_plugin(name)),
        }
    }

    fn absent(&self, name: &str) -> Error {
        if self.closed {
            return Error::new(ErrorKind::Closed, "the plugin manager was shut down");
        }
        if self.names.contains_key(name) {
            return Error::new(ErrorKind::Disabled, "is disabled").of_plugin(name);
        }
        // To compare takes as long as both are, and no plugin has a longer name.
        let comparable = self.names.keys().filter(|_| name.len() <= NAME_LIMIT);
        let near = comparable.map(|known| (strsim::jaro_winkler(known, name), known));
        let near = near.max_by(|(a, _), (b, _)| a.total_cmp(b)).filter(|(likeness, _)| *likeness > 0.8);
        let hint = near.map(|(_, known)| format!("; did you mean {known}?")).unwrap_or_default();
        let shown: String = name.chars().take(64).collect();
        Error::new(ErrorKind::NotFound, format!("there is no plugin {shown:?}{hint}"))
    }

    pub(crate) fn entry(&self, name: &str) -> Option<&Entry> {
        self.names.get(name).map(|entry| &**entry)
    }

    /// # Errors
    /// [`ErrorKind::NotFound`], with the nearest name.
    pub(crate) fn entry_mut(&mut self, name: &str) -> Result<&mut Entry> {
        if !self.names.contains_key(name) {
            return Err(self.absent(name));
        }
        self.names.get_mut(name).map(Arc::make_mut).ok_or_else(|| Error::new(ErrorKind::NotFound, "is gone"))
    }

    pub(crate) fn slots(&self) -> impl Iterator<Item = &Slot> {
        self.names.values().flat_map(|entry| &entry.slots)
    }

    pub(crate) fn of_unit<'c>(&'c self, unit: &'c Arc<Unit>) -> impl Iterator<Item = &'c Slot> {
        self.slots().filter(move |slot| Arc::ptr_eq(&slot.unit, unit))
    }

    /// Puts a slot in, and makes an entry for its name if there is none.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`] for the same version of the same precedence, and for a name that differs only in case.
    pub(crate) fn insert(&mut self, slot: Slot) -> Result<()> {
        let name = slot.loaded.manifest.shared_name().clone();
        if !self.names.contains_key(&name)
            && let Some((twin, entry)) =
                self.names.iter().find(|(known, _)| known.eq_ignore_ascii_case(&name))
        {
            let message = format!("differs from {twin}, which is here, only in case");
            let behind = entry.slots.first().map(|slot| slot.loaded.generation);
            return Err(Error::new(ErrorKind::AlreadyExists, message).of_plugin(&name).behind(behind));
        }
        let entry = Arc::make_mut(self.names.entry(name.clone()).or_default());
        let same =
            |known: &Slot| known.version() == slot.version() && known.unit.precedence == slot.unit.precedence;
        if let Some(known) = entry.slots.iter().find(|known| same(known)) {
            let message = format!("version {} is here already", slot.version());
            let behind = Some(known.loaded.generation);
            return Err(Error::new(ErrorKind::AlreadyExists, message).of_plugin(&name).behind(behind));
        }
        entry.slots.push(slot);
        entry.slots.sort_by_key(|slot| {
            let version = slot.version().clone();
            (!version.pre.is_empty(), Reverse(version), slot.unit.precedence)
        });
        Ok(())
    }

    /// Takes out what a unit put in. What was said of a name, such as that it is disabled, outlives its plugins.
    pub(crate) fn remove_unit(&mut self, unit: &Arc<Unit>) -> Vec<Slot> {
        self.remove(|slot| Arc::ptr_eq(&slot.unit, unit))
    }

    pub(crate) fn remove(&mut self, unwanted: impl Fn(&Slot) -> bool) -> Vec<Slot> {
        let mut removed = Vec::new();
        self.names.retain(|_, entry| {
            if entry.slots.iter().any(&unwanted) {
                let entry = Arc::make_mut(entry);
                removed.extend(entry.slots.extract_if(.., |slot| unwanted(slot)));
            }
            !entry.slots.is_empty() || entry.disabled || entry.pin.is_some()
        });
        removed
    }

    /// Lets another serve in the place of a slot.
    pub(crate) fn serve(&mut self, generation: u64, serving: &Serving) {
        for entry in self.names.values_mut() {
            if let Some(at) = entry.slots.iter().position(|slot| slot.loaded.generation == generation) {
                Arc::make_mut(entry).slots[at].serving = serving.clone();
            }
        }
    }

    /// Judges who can be called, after a change, and tells what became different.
    pub(crate) fn settle(&mut self) -> Vec<Event> {
        let mut nodes = Vec::new();
        for (name, entry) in &self.names {
            let shown = entry.slots.iter().enumerate().filter(|(at, _)| !entry.is_shadowed(*at));
            for (_, slot) in shown {
                let manifest = &slot.loaded.manifest;
                nodes.push(Node { name, version: manifest.version(), requires: manifest.requires() });
            }
        }
        let mut verdicts = requirement::judge(&nodes).into_iter();
        let mut events = Vec::new();
        // In the same order as above.
        for entry in self.names.values_mut() {
            for at in 0..entry.slots.len() {
                let verdict = if entry.is_shadowed(at) { None } else { verdicts.next() };
                let (status, rank) = match verdict {
                    None => (Status::Shadowed, 0),
                    Some(Verdict::Met { rank }) => (Status::Active, rank),
                    Some(Verdict::Waits(reason)) => (Status::Waiting { reason }, 0),
                };
                let slot = &entry.slots[at];
                if (&slot.status, slot.rank) != (&status, rank) {
                    events.extend(slot.became(&status));
                    let slot = &mut Arc::make_mut(entry).slots[at];
                    (slot.status, slot.rank) = (status, rank);
                }
            }
            let chosen = entry.choose();
            if chosen != entry.chosen {
                Arc::make_mut(entry).chosen = chosen;
            }
        }
        events
    }

    pub(crate) fn list(&self) -> Vec<PluginInfo> {
        let mut names: Vec<_> = self.names.iter().collect();
        names.sort_by_key(|(name, _)| *name);
        names.into_iter().flat_map(|(_, entry)| entry.infos()).collect()
    }
}

impl Entry {
    /// Whether the same version stands before it. Equal versions stand side by side, the one of the highest precedence first.
    fn is_shadowed(&self, at: usize) -> bool {
        at > 0 && self.slots[at - 1].version() == self.slots[at].version()
    }

    fn choose(&self) -> Option<usize> {
        let pinned = |slot: &Slot| self.pin.as_ref().is_none_or(|range| range.matches(slot.version()));
        self.slots.iter().position(|slot| slot.is_active() && pinned(slot))
    }

    pub(crate) fn chosen(&self) -> Option<&Slot> {
        self.chosen.map(|at| &self.slots[at])
    }

    pub(crate) fn infos(&self) -> impl Iterator<Item = PluginInfo> {
        self.slots.iter().enumerate().map(|(at, slot)| PluginInfo {
            manifest: slot.loaded.manifest.clone(),
            status: if self.disabled { Status::Disabled } else { slot.status.clone() },
            stats: slot.counters.read(),
            generation: slot.loaded.generation,
            is_default: !self.disabled && self.chosen == Some(at),
            path: slot.unit.path.clone(),
            origin: slot.loaded.origin.clone(),
        })
    }

    /// Why no slot will do.
    pub(crate) fn unavailable(&self, version: Option<&VersionReq>) -> Error {
        let wanted = version.or(self.pin.as_ref());
        let fits = |slot: &&Slot| wanted.is_none_or(|range| range.matches(slot.version()));
        let reason = self.slots.iter().filter(fits).find_map(|slot| match &slot.status {
            Status::Waiting { reason } => Some(reason.clone()),
            _ => None,
        });
        if let Some(reason) = reason {
            return Error::new(ErrorKind::Waiting, reason);
        }
        let here: Vec<String> = self.slots.iter().map(|slot| slot.version().to_string()).collect();
        let here = if here.is_empty() { "none".to_owned() } else { here.join(", ") };
        let range = wanted.map_or_else(|| "*".to_owned(), VersionReq::to_string);
        Error::new(ErrorKind::NotFound, format!("no version fits {range}; there is {here}"))
    }
}

impl Slot {
    pub(crate) fn version(&self) -> &Version {
        self.loaded.manifest.version()
    }

    pub(crate) fn is_active(&self) -> bool {
        self.status == Status::Active
    }

    fn became(&self, status: &Status) -> Option<Event> {
        let kind = match status {
            Status::Active => EventKind::Activated,
            Status::Waiting { reason } => EventKind::Waiting { reason: reason.clone() },
            _ => return None,
        };
        (self.status != *status).then(|| self.event(kind))
    }

    pub(crate) fn event(&self, kind: EventKind) -> Event {
        self.loaded.event(kind)
    }
}

impl Loaded {
    pub(crate) fn event(&self, kind: EventKind) -> Event {
        let version = Some(self.manifest.version().clone());
        Event { name: self.manifest.shared_name().clone(), version, generation: self.generation, kind }
    }
}
