use std::fmt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use crate::metric::MetricKind;
use crate::series::{OwnedTags, Series};
use crate::sink::Tags;
use crate::table::{Found, Table, canonical, cut};

/// Counts into one series: [`PerformanceMonitor::counter`](crate::PerformanceMonitor::counter).
///
/// As long as it is kept, the series is not evicted. Clones are cheap and count into the same series.
#[derive(Debug, Clone)]
pub struct Counter(Handle);

/// Sets one series: [`PerformanceMonitor::gauge`](crate::PerformanceMonitor::gauge).
///
/// As long as it is kept, the series is not evicted. Clones are cheap and set the same series.
#[derive(Debug, Clone)]
pub struct Gauge(Handle);

/// Takes values into one series: [`PerformanceMonitor::histogram`](crate::PerformanceMonitor::histogram).
///
/// As long as it is kept, the series is not evicted. Clones are cheap and record into the same series.
#[derive(Debug, Clone)]
pub struct Histogram(Handle);

impl Counter {
    pub(crate) fn new(handle: Handle) -> Self {
        Counter(handle)
    }

    /// Counts one.
    #[inline]
    pub fn increment(&self) {
        self.add(1);
    }

    /// Counts `n`.
    #[inline]
    pub fn add(&self, n: u64) {
        if let Some(series) = self.0.series() {
            // Held, hence never evicted.
            let _ = series.count(n);
        }
    }

    /// Counts `n`, and keeps the labels of an exemplar beside it, as
    /// [`record_with_exemplar`](crate::PerformanceMonitor::record_with_exemplar) does.
    pub fn add_with_exemplar(&self, n: u64, exemplar: Tags<'_>) {
        if let Some(series) = self.0.series() {
            let _ = series.count(n);
            series.link(n as f64, exemplar);
        }
    }

    /// Counts as many more as are missing to `total`.
    #[cfg(feature = "metrics")]
    pub(crate) fn raise_to(&self, total: u64) {
        if let Some(series) = self.0.series() {
            let _ = series.raise_to(total);
        }
    }
}

impl Gauge {
    pub(crate) fn new(handle: Handle) -> Self {
        Gauge(handle)
    }

    /// Sets it to `value`.
    #[inline]
    pub fn set(&self, value: f64) {
        if let Some(series) = self.0.series() {
            let _ = series.set(value);
        }
    }

    /// Moves it by `by`, from 0 where it was never set.
    pub fn add(&self, by: f64) {
        if let Some(series) = self.0.series() {
            let _ = series.shift(by);
        }
    }
}

impl Histogram {
    pub(crate) fn new(handle: Handle) -> Self {
        Histogram(handle)
    }

    /// Takes one value.
    #[inline]
    pub fn record(&self, value: f64) {
        if let Some(series) = self.0.series() {
            let _ = series.observe(value);
        }
    }

    /// Takes one value, and keeps the labels of an exemplar beside it, as
    /// [`record_with_exemplar`](crate::PerformanceMonitor::record_with_exemplar) does.
    pub fn record_with_exemplar(&self, value: f64, exemplar: Tags<'_>) {
        if let Some(series) = self.0.series() {
            let _ = series.observe(value);
            series.link(value, exemplar);
        }
    }
}

/// A series, as soon as there is room for it.
#[derive(Clone)]
pub(crate) struct Handle {
    own: OnceLock<Held>,
    /// What to look for, where there was no room at first.
    wanted: Option<Box<Wanted>>,
}

#[derive(Clone)]
struct Wanted {
    table: Arc<Table>,
    name: Arc<str>,
    kind: MetricKind,
    tags: OwnedTags,
}

struct Held(Arc<Series>);

impl Clone for Held {
    fn clone(&self) -> Self {
        self.0.handles.fetch_add(1, Ordering::Relaxed);
        Held(self.0.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.handles.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A series to record into, held or for this time only.
pub(crate) enum Reached<'a> {
    Held(&'a Series),
    Once(Arc<Series>),
}

impl std::ops::Deref for Reached<'_> {
    type Target = Series;

    #[inline]
    fn deref(&self) -> &Series {
        match self {
            Reached::Held(series) => series,
            Reached::Once(series) => series,
        }
    }
}

impl Handle {
    pub(crate) fn new(table: &Arc<Table>, name: &str, kind: MetricKind, tags: &[(&str, &str)]) -> Self {
        match table.find(name, kind, tags, true) {
            Found::Own(series) => Handle { own: OnceLock::from(Held(series)), wanted: None },
            Found::Overflow(_) | Found::Nowhere => {
                // Of its own, as names that nobody shares would stay in the table when it is gone.
                let tags =
                    canonical(tags).into_iter().map(|(key, value)| (key.into(), value.into())).collect();
                let (table, name) = (table.clone(), cut(name).into());
                Handle { own: OnceLock::new(), wanted: Some(Box::new(Wanted { table, name, kind, tags })) }
            }
        }
    }

    #[inline]
    fn series(&self) -> Option<Reached<'_>> {
        match self.own.get() {
            Some(held) => Some(Reached::Held(&held.0)),
            None => self.find(),
        }
    }

    /// Tries again, as there may be room now.
    #[cold]
    fn find(&self) -> Option<Reached<'_>> {
        let wanted = self.wanted.as_deref()?;
        let tags: Vec<(&str, &str)> = wanted.tags.iter().map(|(key, value)| (&**key, &**value)).collect();
        match wanted.table.find(&wanted.name, wanted.kind, &tags, true) {
            Found::Own(series) => {
                // Made first: where another thread was faster, dropping it takes back that it was counted.
                let held = Held(series);
                Some(Reached::Held(&self.own.get_or_init(|| held).0))
            }
            Found::Overflow(series) => Some(Reached::Once(series)),
            Found::Nowhere => None,
        }
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, tags) = match (self.own.get(), &self.wanted) {
            (Some(held), _) => (&held.0.about.name, &held.0.tags),
            (None, Some(wanted)) => (&wanted.name, &wanted.tags),
            (None, None) => return f.write_str("Handle"),
        };
        f.debug_struct("Handle").field("metric", name).field("tags", tags).finish_non_exhaustive()
    }
}
