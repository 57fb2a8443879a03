mod saved;
mod total;

use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use crate::cells::{CountCell, EVICTED, ValueCell, place, places};
use crate::exemplar::Exemplars;
use crate::metric::About;
use crate::rings::{Part, Reach, Rings, Tally};
use crate::sketch::bins::Bins;
use crate::sketch::mapping::Mapping;
use crate::sketch::packed::{Gather, Packed};
use crate::sketch::{MOST, Sketch};
use crate::summary::{Moments, Summary};
use crate::window::Span;

/// The monitor's time, read wherever something is recorded and moved in one place.
#[derive(Debug)]
pub(crate) struct Time(pub(crate) AtomicU64);

impl Time {
    #[inline]
    pub(crate) fn now(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a new series needs to know of its monitor.
#[derive(Clone)]
pub(crate) struct Settings {
    pub(crate) time: Arc<Time>,
    pub(crate) reach: Reach,
    pub(crate) mapping: Mapping,
}

pub(crate) type OwnedTags = Box<[(Arc<str>, Arc<str>)]>;

/// One metric with one set of tags.
pub(crate) struct Series {
    pub(crate) about: Arc<About>,
    /// In order of their names, no name twice.
    pub(crate) tags: OwnedTags,
    /// Of the tags, whatever their order.
    pub(crate) hash: u64,
    /// Handles that point here. A series with one is not evicted.
    pub(crate) handles: AtomicUsize,
    /// When it began to count: for one that was restored, the restart.
    #[cfg_attr(not(feature = "otlp"), expect(dead_code, reason = "only OTLP tells it"))]
    pub(crate) since: u64,
    /// Made when there is one.
    pub(crate) exemplars: OnceLock<Box<Exemplars>>,
    settings: Settings,
    body: Body,
}

#[expect(clippy::large_enum_variant, reason = "a box would be one more step in every record")]
enum Body {
    Counted(Counted),
    Observed(Observed),
}

struct Counted {
    cells: Box<[CountCell]>,
    state: Mutex<CountedState>,
}

struct CountedState {
    rings: Rings<u64>,
    /// How much of the cells the rings have.
    folded: u64,
    /// How much of what the rings have was restored.
    before: u64,
    active: u64,
    evicted: bool,
}

struct Observed {
    cells: Box<[OnceLock<Box<ValueCell>>]>,
    /// The last value of a gauge, as bits.
    last: AtomicU64,
    /// As bits: see [`Series::never_less`].
    greatest_sum: AtomicU64,
    state: Mutex<ObservedState>,
}

struct ObservedState {
    rings: Rings<Values>,
    /// What of it was restored.
    before: Option<Box<(Moments, Packed)>>,
    mapping: Mapping,
    pivot: Option<f64>,
    active: u64,
    evicted: bool,
}

/// The series was evicted: look for another.
#[derive(Debug)]
pub(crate) struct Evicted;

impl Series {
    pub(crate) fn new(about: Arc<About>, tags: OwnedTags, hash: u64, settings: &Settings) -> Self {
        let now = settings.time.now();
        let body = if about.kind.counts() {
            Body::Counted(Counted {
                cells: (0..places()).map(|_| CountCell::new()).collect(),
                state: Mutex::new(CountedState {
                    rings: Rings::new(now, settings.reach),
                    folded: 0,
                    before: 0,
                    active: now,
                    evicted: false,
                }),
            })
        } else {
            Body::Observed(Observed {
                cells: (0..places()).map(|_| OnceLock::new()).collect(),
                last: AtomicU64::new(f64::NAN.to_bits()),
                greatest_sum: AtomicU64::new(0),
                state: Mutex::new(ObservedState {
                    rings: Rings::new(now, settings.reach),
                    before: None,
                    mapping: settings.mapping,
                    pivot: None,
                    active: now,
                    evicted: false,
                }),
            })
        };
        Series {
            about,
            tags,
            hash,
            handles: AtomicUsize::new(0),
            since: now,
            exemplars: OnceLock::new(),
            settings: settings.clone(),
            body,
        }
    }

    /// Counts `n` more.
    #[inline]
    pub(crate) fn count(&self, n: u64) -> Result<(), Evicted> {
        let Body::Counted(counted) = &self.body else { return Ok(()) };
        let now = self.settings.time.now();
        let cell = &counted.cells[place() & (counted.cells.len() - 1)];
        if cell.add(n, now) { Ok(()) } else { counted.add_slowly(cell, n, now) }
    }

    /// Counts as many more as are missing to `total` of what was not restored, if any are.
    #[cfg(feature = "metrics")]
    pub(crate) fn raise_to(&self, total: u64) -> Result<(), Evicted> {
        let Body::Counted(counted) = &self.body else { return Ok(()) };
        // One at a time, so that two do not both count what is missing.
        let mut state = counted.caught_up(self.settings.time.now());
        if state.evicted {
            return Err(Evicted);
        }
        let missing = total.saturating_sub(state.own());
        counted.cells[0].value.fetch_add(missing, Ordering::Relaxed);
        counted.fold(&mut state);
        Ok(())
    }

    /// Takes one value. What is not finite, or too great to be squared and added up, is counted as refused.
    #[inline]
    pub(crate) fn observe(&self, value: f64) -> Result<(), Evicted> {
        let Body::Observed(observed) = &self.body else { return Ok(()) };
        // False for NaN too.
        if value.abs() <= MOST {
            let now = self.settings.time.now();
            let cell = observed.cells[place() & (observed.cells.len() - 1)].get();
            if cell.is_some_and(|cell| cell.leave(value, now)) {
                Ok(())
            } else {
                observed.add_slowly(value, now)
            }
        } else {
            self.about.refused.increment();
            Ok(())
        }
    }

    /// Sets a gauge.
    #[inline]
    pub(crate) fn set(&self, value: f64) -> Result<(), Evicted> {
        if let Body::Observed(observed) = &self.body
            && value.abs() <= MOST
        {
            observed.last.store(value.to_bits(), Ordering::Relaxed);
        }
        self.observe(value)
    }

    /// Moves a gauge. One that was never set begins at 0.
    pub(crate) fn shift(&self, by: f64) -> Result<(), Evicted> {
        let Body::Observed(observed) = &self.body else { return Ok(()) };
        let moved = |bits: u64| {
            let last = f64::from_bits(bits);
            let next = if last.is_nan() { by } else { last + by };
            (next.abs() <= MOST).then(|| next.to_bits())
        };
        match observed.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, moved) {
            Ok(before) => self.observe(moved(before).map_or(f64::NAN, f64::from_bits)),
            Err(_) => self.observe(f64::NAN),
        }
    }

    /// The monitor's time.
    pub(crate) fn now(&self) -> u64 {
        self.settings.time.now()
    }

    /// The last value of a gauge.
    pub(crate) fn last(&self) -> Option<f64> {
        let Body::Observed(observed) = &self.body else { return None };
        Some(f64::from_bits(observed.last.load(Ordering::Relaxed))).filter(|last| !last.is_nan())
    }

    /// Adds what `span` holds.
    pub(crate) fn summarize(&self, span: &Span, into: &mut Summary) {
        match &self.body {
            Body::Counted(counted) => {
                let state = counted.caught_up(span.now);
                state.rings.visit(span, |part| match part {
                    Part::Open(n) | Part::Closed(_, n) => into.count = into.count.saturating_add(*n),
                });
                into.mean = f64::from(u8::from(into.count > 0));
            }
            Body::Observed(observed) => {
                let state = observed.caught_up(span.now);
                let mut moments = Moments::default();
                state.rings.visit(span, |part| match part {
                    Part::Open(values) => moments.merge(&values.moments),
                    Part::Closed(_, closed) => moments.merge(&closed.0),
                });
                into.merge(&moments.summary(state.pivot.unwrap_or(0.0), into.from, into.to));
            }
        }
    }

    /// Adds what `span` holds, bucket by bucket; `at` finds the one for a number.
    pub(crate) fn summarize_each(&self, span: &Span, mut at: impl FnMut(u64, &Summary)) {
        let zero = Summary::empty(span.from(), span.to());
        let open = span.end - 1;
        match &self.body {
            Body::Counted(counted) => {
                let state = counted.caught_up(span.now);
                let of = |n: u64| Summary { count: n, mean: 1.0, ..zero };
                state.rings.visit(span, |part| match part {
                    Part::Open(n) => at(open, &of(*n)),
                    Part::Closed(bucket, n) => at(bucket, &of(*n)),
                });
            }
            Body::Observed(observed) => {
                let state = observed.caught_up(span.now);
                let of = |moments: &Moments| moments.summary(state.pivot.unwrap_or(0.0), zero.from, zero.to);
                state.rings.visit(span, |part| match part {
                    Part::Open(values) => at(open, &of(&values.moments)),
                    Part::Closed(bucket, closed) => at(bucket, &of(&closed.0)),
                });
            }
        }
    }

    /// Adds the sizes of the values of `span`.
    pub(crate) fn sketch(&self, span: &Span, into: &mut Sketch) {
        let Body::Observed(observed) = &self.body else { return };
        let state = observed.caught_up(span.now);
        let mut all = Gather::new(into.bins_mut());
        state.rings.visit(span, |part| match part {
            Part::Open(values) => all.merge(&values.bins),
            Part::Closed(_, closed) => all.add(&closed.1),
        });
        all.finish();
    }

    /// Since when nothing was recorded, and whether nothing is left in the rings.
    pub(crate) fn idle(&self, now: u64) -> (u64, bool) {
        let (active, empty) = match &self.body {
            Body::Counted(counted) => {
                let state = counted.caught_up(now);
                (state.active, state.rings.is_empty())
            }
            Body::Observed(observed) => {
                let state = observed.caught_up(now);
                (state.active, state.rings.is_empty())
            }
        };
        (now.saturating_sub(active), empty)
    }

    /// Takes no more from here on, and gives up its buckets, as threads that recorded here remember it for longer. A counter's cells may still
    /// grow by what was under way: see [`Series::remains`].
    pub(crate) fn evict(&self) {
        match &self.body {
            Body::Counted(counted) => {
                let mut state = counted.lock();
                state.evicted = true;
                counted.cells.iter().for_each(|cell| cell.second.store(EVICTED, Ordering::Relaxed));
                counted.fold(&mut state);
                state.rings = Rings::new(state.rings.second(), self.settings.reach);
                state.before = 0;
            }
            Body::Observed(observed) => {
                let mut state = observed.lock();
                state.evicted = true;
                observed.empty(&mut state, EVICTED);
                state.rings = Rings::new(state.rings.second(), self.settings.reach);
                state.before = None;
            }
        }
    }

    /// What was counted after the eviction.
    pub(crate) fn remains(&self) -> u64 {
        match &self.body {
            Body::Counted(counted) => counted.fold(&mut counted.lock()),
            Body::Observed(_) => 0,
        }
    }

    /// Bytes that this series takes, without its names.
    pub(crate) fn memory(&self) -> usize {
        size_of::<Series>()
            + self.exemplars.get().map_or(0, |exemplars| exemplars.memory())
            + match &self.body {
                Body::Counted(counted) => {
                    counted.cells.len() * size_of::<CountCell>() + counted.lock().rings.heap(|_| 0)
                }
                Body::Observed(observed) => {
                    let made = observed.cells.iter().filter(|cell| cell.get().is_some()).count();
                    let state = observed.lock();
                    let rings = &state.rings;
                    observed.cells.len() * size_of::<OnceLock<Box<ValueCell>>>()
                        + made * size_of::<ValueCell>()
                        + rings.heap(|closed| closed.1.heap())
                        + rings.live().map(|values| values.bins.heap()).sum::<usize>()
                        + state.before.as_ref().map_or(0, |before| size_of_val(&**before) + before.1.heap())
                }
            }
    }
}

impl fmt::Debug for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Series")
            .field("metric", &self.about.name)
            .field("tags", &self.tags)
            .finish_non_exhaustive()
    }
}

impl Counted {
    fn lock(&self) -> MutexGuard<'_, CountedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn add_slowly(&self, cell: &CountCell, n: u64, now: u64) -> Result<(), Evicted> {
        let mut state = self.lock();
        if state.evicted {
            return Err(Evicted);
        }
        self.fold(&mut state);
        state.rings.roll(now);
        cell.value.fetch_add(n, Ordering::Relaxed);
        // Where the time moved on meanwhile, the next one comes here again.
        cell.second.store(now, Ordering::Relaxed);
        Ok(())
    }

    /// Brings the rings up to the cells, and tells by how much.
    fn fold(&self, state: &mut CountedState) -> u64 {
        let total =
            self.cells.iter().fold(0, |sum: u64, cell| sum.wrapping_add(cell.value.load(Ordering::Relaxed)));
        let more = total.wrapping_sub(state.folded);
        if more > 0 {
            state.folded = total;
            state.active = state.rings.second();
            let now = state.rings.current();
            *now = now.wrapping_add(more);
        }
        more
    }

    fn caught_up(&self, now: u64) -> MutexGuard<'_, CountedState> {
        let mut state = self.lock();
        self.fold(&mut state);
        state.rings.roll(now);
        state
    }
}

impl Observed {
    fn lock(&self) -> MutexGuard<'_, ObservedState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[cold]
    fn add_slowly(&self, value: f64, now: u64) -> Result<(), Evicted> {
        let mut state = self.lock();
        if state.evicted {
            return Err(Evicted);
        }
        let mine = self.cells[place() & (self.cells.len() - 1)].get_or_init(|| Box::new(ValueCell::new()));
        if now > state.rings.second() {
            self.empty(&mut state, now);
            state.rings.roll(now);
        }
        mine.empty(state.rings.second(), |values| state.add(values));
        state.add(&[value]);
        Ok(())
    }

    /// Sorts in what waits in every cell, into the second that is open.
    fn empty(&self, state: &mut ObservedState, second: u64) {
        for cell in self.cells.iter().filter_map(OnceLock::get) {
            cell.empty(second, |values| state.add(values));
        }
    }

    fn caught_up(&self, now: u64) -> MutexGuard<'_, ObservedState> {
        let mut state = self.lock();
        let second = if state.evicted { EVICTED } else { now.max(state.rings.second()) };
        self.empty(&mut state, second);
        state.rings.roll(now);
        state
    }
}

impl ObservedState {
    fn add(&mut self, new: &[f64]) {
        let Some(&first) = new.first() else { return };
        let pivot = *self.pivot.get_or_insert(first);
        self.active = self.rings.second();
        let values = self.rings.current();
        // A copy stays in registers while the bins are written.
        let mut moments = values.moments;
        for &value in new {
            moments.add(value, pivot);
            values.bins.add(self.mapping.bin(value));
        }
        values.moments = moments;
    }
}

/// An open bucket of values.
#[derive(Debug, Default)]
pub(crate) struct Values {
    moments: Moments,
    bins: Bins,
}

impl Tally for Values {
    type Closed = (Moments, Packed);

    fn is_empty(&self) -> bool {
        self.moments.count == 0
    }

    fn absorb(&mut self, finer: &Self) {
        self.moments.merge(&finer.moments);
        self.bins.merge(&finer.bins);
    }

    fn close(&mut self) -> Self::Closed {
        let closed = (std::mem::take(&mut self.moments), Packed::new(&self.bins));
        self.bins.clear();
        closed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeClock;
    use crate::{Measurement, PerformanceMonitor};

    #[test]
    fn what_was_under_way_while_a_counter_was_evicted_is_counted_elsewhere() {
        let clock = FakeClock::new(chrono::DateTime::UNIX_EPOCH);
        let monitor = PerformanceMonitor::builder().clock(clock.clone()).build().unwrap();
        let pass = |seconds| {
            clock.advance(std::time::Duration::from_secs(seconds));
            monitor.tick();
        };
        monitor.record("requests", Measurement::Count(1), &[]);
        let series = monitor.inner.table.get("requests").unwrap().select(&[]).remove(0);
        pass(10 * 86_400);
        let Body::Counted(counted) = &series.body else { panic!() };
        counted.cells[0].value.fetch_add(5, Ordering::Relaxed);
        pass(2);
        assert_eq!(monitor.select("requests").total().unwrap().count, 5);
    }
}
