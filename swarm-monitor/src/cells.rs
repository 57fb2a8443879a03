//! Where threads put what they record, so that they seldom meet.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::thread;

/// Stands in a cell's second once its series was evicted: it is never now, so that the next record asks.
pub(crate) const EVICTED: u64 = u64::MAX;

/// The place of this thread in each series.
#[inline]
pub(crate) fn place() -> usize {
    thread_local!(static PLACE: Cell<usize> = const { Cell::new(usize::MAX) });
    #[cold]
    fn assign() -> usize {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed)
    }
    PLACE.with(|place| {
        if place.get() == usize::MAX {
            place.set(assign());
        }
        place.get()
    })
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
