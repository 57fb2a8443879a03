//! Where threads put what they record, so that they seldom meet.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;

/// Stands in a cell's second once its series was evicted: it is never now, so that the next record asks.
pub(crate) const EVICTED: u64 = u64::MAX;

/// The place of this thread in each series. Threads that are there at once have places that follow each other, so that as many as
/// there are places seldom meet, however many came and went before them.
#[inline]
pub(crate) fn place() -> usize {
    thread_local!(static PLACE: Cell<usize> = const { Cell::new(usize::MAX) });
    PLACE.with(|place| {
        if place.get() == usize::MAX {
            place.set(Taken::number());
        }
        place.get()
    })
}

/// The number of a thread, which another may have once it has ended.
struct Taken(usize);

/// Numbers of threads that have ended, and the first that nobody had.
static FREE: Mutex<(BTreeSet<usize>, usize)> = Mutex::new((BTreeSet::new(), 0));

impl Taken {
    /// The least number that no thread has, this thread's until it ends.
    #[cold]
    fn number() -> usize {
        thread_local!(static TAKEN: Taken = {
            let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
            Taken(free.0.pop_first().unwrap_or_else(|| {
                free.1 += 1;
                free.1 - 1
            }))
        });
        // Not there while the thread ends; then any will do.
        TAKEN.try_with(|taken| taken.0).unwrap_or(0)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        FREE.lock().unwrap_or_else(PoisonError::into_inner).0.insert(self.0);
    }
}

/// How many places a series has: a power of two.
pub(crate) fn places() -> usize {
    static PLACES: OnceLock<usize> = OnceLock::new();
    *PLACES.get_or_init(|| {
        thread::available_parallelism().map_or(1, NonZeroUsize::get).next_power_of_two().min(8)
    })
}

/// What one place has counted, alone on its cache line.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct CountCell {
    pub(crate) value: AtomicU64,
    /// The second until which the cell may be added to without asking.
    pub(crate) second: AtomicU64,
}

impl CountCell {
    pub(crate) fn new() -> Self {
        CountCell { value: AtomicU64::new(0), second: AtomicU64::new(0) }
    }

    /// Adds, or answers `false` where the series must be looked after first.
    #[inline]
    pub(crate) fn add(&self, n: u64, now: u64) -> bool {
        if self.second.load(Ordering::Relaxed) != now {
            return false;
        }
        self.value.fetch_add(n, Ordering::Relaxed);
        true
    }
}

/// So many values wait at a place until they are sorted in.
pub(crate) const WAITING: usize = 32;

/// Values of one second that wait to be sorted in.
///
/// Whoever has set `busy` has the other fields to itself, which is what makes plain loads and stores of them enough.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct ValueCell {
    busy: AtomicBool,
    len: AtomicU32,
    second: AtomicU64,
    values: [AtomicU64; WAITING],
}

impl ValueCell {
    pub(crate) fn new() -> Self {
        ValueCell {
            busy: AtomicBool::new(false),
            len: AtomicU32::new(0),
            second: AtomicU64::new(0),
            values: [const { AtomicU64::new(0) }; WAITING],
        }
    }

    /// Leaves the value, or answers `false`: full, another second, evicted, or someone is at it.
    #[inline]
    pub(crate) fn leave(&self, value: f64, now: u64) -> bool {
        if self.busy.swap(true, Ordering::Acquire) {
            return false;
        }
        let len = self.len.load(Ordering::Relaxed);
        let free =
            if self.second.load(Ordering::Relaxed) == now { self.values.get(len as usize) } else { None };
        if let Some(place) = free {
            place.store(value.to_bits(), Ordering::Relaxed);
            self.len.store(len + 1, Ordering::Relaxed);
        }
        self.busy.store(false, Ordering::Release);
        free.is_some()
    }

    /// Takes what waits, and accepts values of `second` from then on.
    pub(crate) fn empty(&self, second: u64, take: impl FnOnce(&[f64])) {
        // Others hold it for a few instructions, unless the system puts them to sleep in between.
        while self.busy.swap(true, Ordering::Acquire) {
            thread::yield_now();
        }
        let len = self.len.load(Ordering::Relaxed) as usize;
        let mut values = [0.0; WAITING];
        for (value, waiting) in values.iter_mut().zip(&self.values[..len]) {
            *value = f64::from_bits(waiting.load(Ordering::Relaxed));
        }
        self.len.store(0, Ordering::Relaxed);
        self.second.store(second, Ordering::Relaxed);
        self.busy.store(false, Ordering::Release);
        take(&values[..len]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_ended_leave_their_places() {
        let mine = place();
        for _ in 0..1_000 {
            assert_ne!(thread::spawn(place).join().unwrap(), mine);
        }
        // Other tests have a few threads at once.
        assert!(thread::spawn(place).join().unwrap() < 1_000);
        assert_eq!(place(), mine);
    }
}
