//! Where threads put what they record, so that they seldom meet.

use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

/// Stands in a cell's second once its series was evicted: it is never now, so that the next record asks.
pub(crate) const EVICTED: u64 = u64::MAX;

/// A series has at most so many places.
const MOST_PLACES: usize = 8;

/// The place of this thread in each series.
#[inline]
pub(crate) fn place() -> usize {
    thread_local!(static PLACE: Cell<usize> = const { Cell::new(usize::MAX) });
    #[cold]
    fn assign() -> usize {
        thread_local!(static SEAT: Seat = Seat::take(&SEATS, places()));
        // What a thread records while it ends may meet others.
        SEAT.try_with(|seat| seat.place).unwrap_or(0)
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
        thread::available_parallelism().map_or(1, NonZeroUsize::get).next_power_of_two().min(MOST_PLACES)
    })
}

/// How many threads are at each place.
type Seats = Mutex<[usize; MOST_PLACES]>;

static SEATS: Seats = Mutex::new([0; MOST_PLACES]);

/// A thread at its place, until it ends.
struct Seat {
    place: usize,
    seats: &'static Seats,
}

impl Seat {
    /// Where the fewest others are: by turns, threads that come and go would end up beside those that stay.
    fn take(seats: &'static Seats, places: usize) -> Self {
        let mut taken = lock(seats);
        let place = (0..places).min_by_key(|place| taken[*place]).unwrap_or(0);
        taken[place] += 1;
        Seat { place, seats }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        lock(self.seats)[self.place] -= 1;
    }
}

fn lock(seats: &Seats) -> MutexGuard<'_, [usize; MOST_PLACES]> {
    seats.lock().unwrap_or_else(PoisonError::into_inner)
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
    fn a_thread_is_where_the_fewest_others_are_however_many_came_and_went() {
        static SEATS: Seats = Mutex::new([0; MOST_PLACES]);
        let stays = Seat::take(&SEATS, 2);
        for _ in 0..5 {
            // Gone with its thread.
            let passes = thread::spawn(|| {
                thread_local!(static SEAT: Seat = Seat::take(&SEATS, 2));
                SEAT.with(|seat| seat.place)
            });
            assert_ne!(passes.join().unwrap(), stays.place);
        }
        let others: Vec<Seat> = (0..5).map(|_| Seat::take(&SEATS, 2)).collect();
        assert_eq!(lock(&SEATS)[..3], [3, 3, 0]);
        drop((stays, others));
        assert_eq!(*lock(&SEATS), [0; MOST_PLACES]);
    }
}
