use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::guest::Guest;

/// Instances of one plugin that nobody uses at the moment, the last used on top.
#[derive(Default)]
pub(super) struct Warm(Mutex<Vec<(Guest, Instant)>>);

impl Warm {
    pub(super) fn take(&self) -> Option<Guest> {
        Some(self.lock().pop()?.0)
    }

    /// Keeps an instance, unless there are as many already.
    pub(super) fn put(&self, guest: Guest, most: usize) {
        let mut all = self.lock();
        if all.len() < most {
            all.push((guest, Instant::now()));
            return;
        }
        drop(all);
        drop(guest);
    }

    /// Drops those that were used before this for the last time, and answers how many are left.
    pub(super) fn sweep(&self, before: Instant) -> usize {
        let mut all = self.lock();
        let old = all.iter().take_while(|(_, used)| *used < before).count();
        let old: Vec<_> = all.drain(..old).collect();
        let left = all.len();
        drop(all);
        drop(old);
        left
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(Guest, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
