//! What changes together, one change at a time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::DropGuard;

use super::{Recipe, Shared};
use crate::error::{Error, ErrorKind, Result};

/// What is loaded, replaced and rolled back together: a plugin registered in code, or all that one file holds.
pub(crate) struct Unit {
    /// Lower is stronger. 0 is code.
    pub(crate) precedence: u32,
    pub(crate) path: Option<Arc<Path>>,
    /// Held over all awaits of a change, so that changes of one unit queue. Nobody waits for it while holding it.
    turn: tokio::sync::Mutex<Past>,
    removed: Mutex<Removed>,
    /// Set while what it had is taken out of the catalogue, and looked at where something is put in.
    is_gone: AtomicBool,
}

impl Unit {
    pub(crate) fn new(precedence: u32, path: Option<Arc<Path>>) -> Arc<Unit> {
        let (turn, removed, is_gone) =
            (tokio::sync::Mutex::default(), Mutex::default(), AtomicBool::new(false));
        Arc::new(Unit { precedence, path, turn, removed, is_gone })
    }

    pub(super) fn removed(&self) -> MutexGuard<'_, Removed> {
        self.removed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Its file is gone: no change of it that is under way may put anything into the catalogue any more.
    pub(super) fn go(&self) {
        self.is_gone.store(true, Ordering::Release);
    }

    /// # Errors
    /// [`ErrorKind::NotFound`] when its file is gone.
    pub(super) fn here(&self) -> Result<()> {
        match self.is_gone.load(Ordering::Acquire) {
            true => Err(Error::new(ErrorKind::NotFound, "its file is gone")),
            false => Ok(()),
        }
    }

    /// Stops following what it becomes, once no change of it is under way.
    pub(super) async fn leave(&self) {
        self.turn.lock().await.following = None;
    }
}

/// The names of a unit that were removed by hand, each with the number of its removal.
#[derive(Default)]
pub(super) struct Removed {
    names: BTreeMap<String, u64>,
    count: u64,
}

impl Removed {
    pub(super) fn insert(&mut self, name: &str) {
        self.count += 1;
        self.names.insert(name.to_owned(), self.count);
    }

    /// How many removals there were: what a change undoes that begins now. One that a plugin makes by itself undoes none.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Whether a name stays removed over a change that undoes so many removals.
    pub(super) fn stays(&self, name: &str, undone: u64) -> bool {
        self.names.get(name).is_some_and(|number| *number > undone)
    }

    /// Such a change succeeded.
    pub(super) fn undo(&mut self, undone: u64) {
        self.names.retain(|_, number| *number > undone);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }
}

/// What a unit was made with.
#[derive(Default)]
pub(super) struct Past {
    pub(super) current: Option<Recipe>,
    /// The last good one before that.
    pub(super) previous: Option<Recipe>,
    /// Cancelled when what is followed is not what serves any more.
    pub(super) following: Option<DropGuard>,
}

impl Shared {
    /// Waits for the turn of a unit, which whoever changes it takes first.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] when its file is gone, and [`ErrorKind::Closed`].
    pub(super) async fn turn<'u>(&self, unit: &'u Unit) -> Result<tokio::sync::MutexGuard<'u, Past>> {
        let past = unit.turn.lock().await;
        self.open()?;
        unit.here()?;
        Ok(past)
    }
}
