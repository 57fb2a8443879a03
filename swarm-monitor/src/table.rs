mod saved;

use std::collections::{HashMap, HashSet};
use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use foldhash::quality::RandomState;
use hashbrown::HashTable;

use crate::metric::{About, Description, MetricKind, Restorable};
use crate::series::{OwnedTags, Series, Settings};
use crate::sink::Tags;

/// Longer names and tags are cut, at a character's end.
pub(crate) const LONGEST: usize = 1_024;
/// Of more tags, those whose names come first are kept.
pub(crate) const MOST_TAGS: usize = 64;

/// How much may be kept.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub(crate) metrics: usize,
    pub(crate) series: usize,
    /// Seconds without a record after which a series may make room for another.
    pub(crate) idle: u64,
}

/// Every metric of a monitor and every series of each.
pub(crate) struct Table {
    metrics: RwLock<HashMap<Arc<str>, Arc<Metric>>>,
    /// What was said of metrics that are not there yet.
    described: Mutex<HashMap<String, Description>>,
    strings: Mutex<HashSet<Arc<str>>>,
    hasher: RandomState,
    limits: Limits,
    pub(crate) settings: Settings,
    /// Records of metrics beyond the limit.
    pub(crate) lost: Restorable,
}

/// One metric.
pub(crate) struct Metric {
    pub(crate) about: Arc<About>,
    series: RwLock<HashTable<Arc<Series>>>,
    overflow: OnceLock<Arc<Series>>,
    /// When room was last looked for.
    looked: AtomicU64,
    /// Evicted counters whose last records may have been under way, and when.
    evicted: Mutex<Vec<(u64, Arc<Series>)>>,
}

/// Where a record goes.
pub(crate) enum Found {
    /// To its own series.
    Own(Arc<Series>),
    /// To the one for everything beyond the limit, this time.
    Overflow(Arc<Series>),
    /// Nowhere. It was counted why.
    Nowhere,
}

impl Drop for Table {
    /// Threads remember series for longer, and are not to keep their buckets. Whoever has a handle goes on.
    fn drop(&mut self) {
        for metric in self.all() {
            for series in metric.read().iter() {
                if Arc::strong_count(series) > 1 && series.handles.load(Ordering::Relaxed) == 0 {
                    series.evict();
                }
            }
        }
    }
}

impl Table {
    pub(crate) fn new(settings: Settings, limits: Limits) -> Self {
        Table {
            metrics: RwLock::default(),
            described: Mutex::default(),
            strings: Mutex::default(),
            hasher: RandomState::default(),
            limits,
            settings,
            lost: Restorable::default(),
        }
    }

    /// The series of these tags, made if there is room. `held` counts a handle on it, before anyone could evict it.
    pub(crate) fn find(&self, name: &str, kind: MetricKind, tags: Tags<'_>, held: bool) -> Found {
        let Some(metric) = self.metric(cut(name), kind) else {
            self.lost.increment();
            return Found::Nowhere;
        };
        if metric.about.kind != kind {
            metric.about.mismatched.increment();
            return Found::Nowhere;
        }
        if let Some(series) = metric.get(self.hash(tags), tags, held) {
            return Found::Own(series);
        }
        let tags = &canonical(tags)[..];
        let hash = self.hash(tags);
        if let Some(series) = metric.get(hash, tags, held) {
            return Found::Own(series);
        }
        if let Some(series) = metric.insert(self, hash, tags, held) {
            return Found::Own(series);
        }
        metric.about.folded.increment();
        Found::Overflow(metric.overflow(self))
    }

    fn metric(&self, name: &str, kind: MetricKind) -> Option<Arc<Metric>> {
        if let Some(metric) = self.get(name) {
            return Some(metric);
        }
        let mut metrics = self.metrics.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(metric) = metrics.get(name) {
            return Some(metric.clone());
        }
        if metrics.len() >= self.limits.metrics {
            return None;
        }
        let description = lock(&self.described).remove(name).unwrap_or_default();
        let name = self.intern(name);
        let metric = Arc::new(Metric {
            about: Arc::new(About::new(name.clone(), kind, description)),
            series: RwLock::default(),
            overflow: OnceLock::new(),
            looked: AtomicU64::new(0),
            evicted: Mutex::default(),
        });
        metrics.insert(name, metric.clone());
        Some(metric)
    }

    pub(crate) fn get(&self, name: &str) -> Option<Arc<Metric>> {
        self.metrics.read().unwrap_or_else(PoisonError::into_inner).get(cut(name)).cloned()
    }

    /// Every metric, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Metric>> {
        let metrics = self.metrics.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = metrics.values().cloned().collect();
        all.sort_by(|a, b| a.about.name.cmp(&b.about.name));
        all
    }

    pub(crate) fn describe(&self, name: &str, description: Description) {
        let name = cut(name);
        // Not while it is locked: who makes a metric locks them the other way round.
        let is_there = self.get(name).is_some();
        let mut described = lock(&self.described);
        if is_there || described.contains_key(name) || described.len() < self.limits.metrics {
            // A metric that is made from here on takes it from there.
            described.insert(name.to_owned(), description);
        }
        drop(described);
        if let Some(metric) = self.get(name)
            && let Some(description) = lock(&self.described).remove(name)
        {
            metric.about.describe(description);
        }
    }

    /// Changes what was said of a metric, and keeps the rest.
    #[cfg(feature = "metrics")]
    pub(crate) fn amend(&self, name: &str, change: impl FnOnce(&mut Description)) {
        let name = cut(name);
        let described = lock(&self.described).get(name).cloned();
        let known = described.or_else(|| self.get(name).map(|metric| metric.about.info(0, 0).description));
        let mut description = known.unwrap_or_default();
        change(&mut description);
        self.describe(name, description);
    }

    /// Gives up series that hold nothing any more, and the strings that only they had.
    pub(crate) fn sweep(&self) {
        for metric in self.all() {
            metric.evict(self, usize::MAX, |_, empty| empty);
        }
        lock(&self.strings).retain(|string| Arc::strong_count(string) > 1);
    }

    /// Passes on what was counted on a series while it was evicted.
    pub(crate) fn collect_remains(&self) {
        for metric in self.all() {
            let now = self.settings.time.now();
            let mut due = Vec::new();
            lock(&metric.evicted).retain(|(at, series)| {
                if *at + 1 < now {
                    due.push(series.clone());
                }
                *at + 1 >= now
            });
            for series in due {
                let remains = series.remains();
                if remains > 0 {
                    let tags: Vec<(&str, &str)> = series.tags.iter().map(|(k, v)| (&**k, &**v)).collect();
                    if let Found::Own(other) | Found::Overflow(other) =
                        self.find(&metric.about.name, metric.about.kind, &tags, false)
                    {
                        // One that was evicted in between takes it all the same, and the next call finds it there.
                        let _ = other.count(remains);
                    }
                }
            }
        }
    }

    fn hash(&self, tags: Tags<'_>) -> u64 {
        tags.iter().fold(0, |sum: u64, tag| sum.wrapping_add(self.hasher.hash_one(tag)))
    }

    fn intern(&self, string: &str) -> Arc<str> {
        let mut strings = lock(&self.strings);
        if let Some(known) = strings.get(string) {
            return known.clone();
        }
        let new: Arc<str> = string.into();
        strings.insert(new.clone());
        new
    }

    pub(crate) fn own(&self, tags: &[(&str, &str)]) -> OwnedTags {
        tags.iter().map(|(key, value)| (self.intern(key), self.intern(value))).collect()
    }
}

impl Metric {
    fn read(&self) -> RwLockReadGuard<'_, HashTable<Arc<Series>>> {
        self.series.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, hash: u64, tags: Tags<'_>, held: bool) -> Option<Arc<Series>> {
        let series = self.read();
        let found = series.find(hash, |series| same(&series.tags, tags))?;
        if held {
            found.handles.fetch_add(1, Ordering::Relaxed);
        }
        Some(found.clone())
    }

    fn insert(&self, table: &Table, hash: u64, tags: Tags<'_>, held: bool) -> Option<Arc<Series>> {
        if self.read().len() >= table.limits.series && !self.make_room(table) {
            return None;
        }
        let new = Series::new(self.about.clone(), table.own(tags), hash, &table.settings);
        let mut series = self.series.write().unwrap_or_else(PoisonError::into_inner);
        let found = match series.find(hash, |series| same(&series.tags, tags)) {
            Some(found) => found.clone(),
            None if series.len() >= table.limits.series => return None,
            None => {
                let new = Arc::new(new);
                series.insert_unique(hash, new.clone(), |series| series.hash);
                new
            }
        };
        if held {
            found.handles.fetch_add(1, Ordering::Relaxed);
        }
        Some(found)
    }

    /// Evicts some of those that were idle longest. Looks at most once a second.
    fn make_room(&self, table: &Table) -> bool {
        let now = table.settings.time.now();
        if self.looked.swap(now, Ordering::Relaxed) == now {
            return false;
        }
        let some = (table.limits.series / 10).max(1);
        self.evict(table, some, |idle, _| idle >= table.limits.idle)
    }

    /// Evicts up to `most` series, the longest idle first, that have no handle and of which `idle, empty` allows it.
    fn evict(&self, table: &Table, most: usize, allowed: impl Fn(u64, bool) -> bool) -> bool {
        let now = table.settings.time.now();
        let free = |series: &Series| {
            let (idle, empty) = series.idle(now);
            (series.handles.load(Ordering::Relaxed) == 0 && allowed(idle, empty)).then_some(idle)
        };
        let mut candidates: Vec<(u64, Arc<Series>)> =
            self.read().iter().filter_map(|series| Some((free(series)?, series.clone()))).collect();
        candidates.sort_by_key(|(idle, _)| std::cmp::Reverse(*idle));
        candidates.truncate(most);
        let mut evicted = false;
        let mut all = self.series.write().unwrap_or_else(PoisonError::into_inner);
        for (_, series) in candidates {
            // Nobody can find it, or count a handle on it, while the table is locked.
            if free(&series).is_some()
                && let Ok(entry) = all.find_entry(series.hash, |other| Arc::ptr_eq(other, &series))
            {
                entry.remove();
                series.evict();
                evicted = true;
                if self.about.kind.counts() {
                    lock(&self.evicted).push((now, series));
                }
            }
        }
        evicted
    }

    fn overflow(&self, table: &Table) -> Arc<Series> {
        let make = || {
            let tags = table.own(&[("overflow", "true")]);
            Arc::new(Series::new(self.about.clone(), tags, 0, &table.settings))
        };
        self.overflow.get_or_init(make).clone()
    }

    /// Its series that have all of `tags`, the overflow series among them.
    pub(crate) fn select(&self, tags: &[(String, String)]) -> Vec<Arc<Series>> {
        let has = |series: &&Arc<Series>| {
            let is = |tag: &(Arc<str>, Arc<str>), key: &str, value: &str| {
                *tag.0 == *cut(key) && *tag.1 == *cut(value)
            };
            tags.iter().all(|(key, value)| series.tags.iter().any(|tag| is(tag, key, value)))
        };
        self.read().iter().chain(self.overflow.get()).filter(has).cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.read().len()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether `given` is `tags` in some order.
fn same(tags: &[(Arc<str>, Arc<str>)], given: Tags<'_>) -> bool {
    // The names of `tags` differ, so that as many pairs that are all there are the same.
    tags.len() == given.len()
        && tags.iter().zip(given).all(|(tag, first)| {
            let is = |other: &(&str, &str)| *tag.0 == *other.0 && *tag.1 == *other.1;
            is(first) || given.iter().any(is)
        })
}

/// In order, each name once with the value that came last, none empty, none too long, not too many.
pub(crate) fn canonical<'a>(tags: Tags<'a>) -> Vec<(&'a str, &'a str)> {
    let mut sorted: Vec<(&str, &str)> = tags.iter().map(|(key, value)| (cut(key), cut(value))).collect();
    sorted.reverse();
    sorted.sort_by_key(|(key, _)| *key);
    sorted.dedup_by_key(|(key, _)| *key);
    sorted.retain(|(_, value)| !value.is_empty());
    sorted.truncate(MOST_TAGS);
    sorted
}

pub(crate) fn cut(string: &str) -> &str {
    &string[..string.floor_char_boundary(LONGEST)]
}

#[cfg(test)]
mod tests {
    use crate::testing::FakeClock;
    use crate::{Description, Measurement, PerformanceMonitor};

    #[test]
    fn handles_and_descriptions_beyond_the_limits_leave_nothing() {
        let monitor = PerformanceMonitor::builder().series_limit(2).metric_limit(2).build().unwrap();
        let table = &monitor.inner.table;
        for user in 0..100 {
            monitor.counter("requests", &[("user", &user.to_string())]).increment();
            monitor.histogram(&format!("seconds-{user}"), &[("user", "any")]).record(1.0);
            monitor.describe(&format!("about-{user}"), Description::new("described"));
        }
        assert_eq!(monitor.metrics().len(), 2);
        // Names of the two metrics, of the tags, two values of each.
        let strings = super::lock(&table.strings).len();
        assert!(strings <= 10, "{strings}");
        assert_eq!(super::lock(&table.described).len(), 2);
        monitor.describe("requests", Description::new("known"));
        monitor.describe("about-0", Description::new("known"));
        assert_eq!(monitor.metrics()[0].description, Description::new("known"));
        assert_eq!(super::lock(&table.described)["about-0"], Description::new("known"));
    }

    #[test]
    fn what_was_evicted_keeps_no_buckets_for_threads_that_remember_it() {
        let monitor = PerformanceMonitor::new();
        let table = &monitor.inner.table;
        let mut sizes = Vec::new();
        for (name, count) in [("seconds", false), ("requests", true)] {
            for at in 0..2_000 {
                let value = if count { Measurement::Count(at) } else { Measurement::Observation(at as f64) };
                monitor.record(name, value, &[]);
            }
            let metric = table.get(name).unwrap();
            let series = metric.select(&[]).remove(0);
            let (_, empty) = series.idle(monitor.seconds());
            assert!(!empty && metric.evict(table, 1, |_, _| true));
            assert_eq!((series.remains(), series.idle(monitor.seconds()).1), (0, true));
            sizes.push(series.memory());
            // This thread remembers it, and finds another place.
            monitor.record(name, if count { Measurement::Count(1) } else { 1.0.into() }, &[]);
            assert_eq!(monitor.select(name).total().unwrap().count, 1);
        }
        assert!(sizes.iter().all(|size| *size < 4_000), "{sizes:?}");
    }

    #[test]
    fn a_monitor_that_is_gone_keeps_no_buckets_in_threads_that_remember_it() {
        let clock = FakeClock::new(chrono::DateTime::UNIX_EPOCH);
        let monitor = PerformanceMonitor::builder().clock(clock).build().unwrap();
        let kept = monitor.counter("kept", &[]);
        let mut remembered = Vec::new();
        for name in ["seconds", "kept"] {
            for at in 0..2_000 {
                let value = if name == "kept" { Measurement::Count(1) } else { f64::from(at).into() };
                monitor.record(name, value, &[]);
            }
            remembered.push(monitor.inner.table.get(name).unwrap().select(&[]).remove(0));
        }
        let [seconds, counted] = &remembered[..] else { unreachable!() };
        let before = seconds.memory();
        drop(monitor);
        assert!(seconds.observe(1.0).is_err() && seconds.memory() < before / 2, "{}", seconds.memory());
        kept.increment();
        assert!(counted.count(1).is_ok(), "a handle goes on");
    }

    #[test]
    fn what_somebody_takes_a_handle_on_meanwhile_is_not_evicted() {
        let monitor = PerformanceMonitor::new();
        monitor.record("requests", Measurement::Count(1), &[]);
        let metric = monitor.inner.table.get("requests").unwrap();
        let held = std::cell::OnceCell::new();
        let and_hold = |_, _| {
            held.get_or_init(|| monitor.counter("requests", &[]));
            true
        };
        assert!(!metric.evict(&monitor.inner.table, 1, and_hold));
        assert_eq!(metric.len(), 1);
    }
}
