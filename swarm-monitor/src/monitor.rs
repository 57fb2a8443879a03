use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::clock::Clock;
use crate::drift::change::ChangeDetector;
use crate::drift::mean::RelativeMean;
use crate::drift::report::DriftReport;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::handle::{Counter, Gauge, Handle, Histogram};
use crate::metric::{Description, MetricInfo, MetricKind};
use crate::monitor::builder::MonitorBuilder;
use crate::monitor::ticker::Ticker;
use crate::recent::{self, Key};
use crate::select::Selection;
use crate::series::{Evicted, Series};
use crate::sink::{Measurement, MetricSink, Tags};
use crate::snapshot::{self, Head, Restored};
use crate::table::{Found, Table};
use crate::window::time;

pub(crate) mod builder;
mod ticker;

/// Records metrics and answers questions about them. A handle: clones are the same monitor.
///
/// Recording is synchronous and never fails. A thread's first record of a second into a series, and one in 32 of a histogram or gauge, sort
/// in what waits: they may allocate, and wait for a query that reads this series at that moment. A thread of the monitor's own moves its
/// time on once a second, and ends with the last clone.
///
/// ```
/// use std::time::Duration;
/// use swarm_monitor::{Measurement, PerformanceMonitor, Window};
///
/// let monitor = PerformanceMonitor::new();
/// monitor.record("agent_cycle_time", 45.2, &[("agent", "Agent-7"), ("task_type", "refactoring")]);
/// monitor.record("deployments", Measurement::Count(1), &[("agent", "Agent-8")]);
/// let hour = monitor.select("agent_cycle_time").summary(Window::last(Duration::from_secs(3600)))?;
/// assert_eq!((hour.count, hour.mean), (1, 45.2));
/// # Ok::<(), swarm_monitor::Error>(())
/// ```
#[derive(Clone)]
pub struct PerformanceMonitor {
    pub(crate) inner: Arc<Inner>,
    /// The thread ends with the last of these.
    _ticker: Option<Arc<Ticker>>,
}

pub(crate) struct Inner {
    /// Tells monitors apart in what threads remember.
    id: u64,
    pub(crate) table: Arc<Table>,
    clock: Box<dyn Clock>,
    pub(crate) started: u64,
    /// The second that this process began to count in, also where `started` was restored.
    pub(crate) began: u64,
    events: Mutex<VecDeque<Event>>,
    events_kept: usize,
    /// What detectors know, by the names they were saved under.
    states: Mutex<BTreeMap<String, Vec<f64>>>,
    restored: Option<Restored>,
    /// Held while a snapshot is written: where one is that could not be read, and may be whole.
    saving: Mutex<Option<PathBuf>>,
}

impl PerformanceMonitor {
    /// A monitor with the usual limits: see [`MonitorBuilder`] for each.
    pub fn new() -> Self {
        MonitorBuilder::default().start()
    }

    /// To set limits and other options.
    pub fn builder() -> MonitorBuilder {
        MonitorBuilder::default()
    }

    fn over(inner: Inner, ticks: bool) -> Self {
        let inner = Arc::new(inner);
        let ticker = if ticks { Ticker::start(Arc::downgrade(&inner)).map(Arc::new) } else { None };
        PerformanceMonitor { inner, _ticker: ticker }
    }

    /// Takes one measurement: a number is an observation of a histogram, [`Measurement`] has the others.
    ///
    /// Allocates for tags it has seen only where it makes a bucket. It is fastest for up to eight tags that have, with the metric's name, some
    /// 190 bytes altogether, and none 128, which a thread remembers; others are looked for among all series, with locks that threads share.
    /// What becomes of odd values is told on the [crate page](crate#answers).
    #[inline]
    pub fn record<'a>(&self, metric: &str, measurement: impl Into<Measurement<'a>>, tags: Tags<'_>) {
        self.inner.record(metric, measurement.into(), tags);
    }

    /// Takes one measurement, and keeps with it the labels of an exemplar: where it came from, such as the trace of a slow request.
    ///
    /// By custom the labels are `trace_id` and `span_id`, in hexadecimal. Each series keeps the last exemplar of each bucket that
    /// [`expose`](PerformanceMonitor::expose) has, a counter or event the last one. They are exported in OpenMetrics and OTLP, with the
    /// second they were recorded in, and are in no snapshot. Labels of more than 128 characters altogether are not kept, as OpenMetrics
    /// forbids them, nor those of gauges; the measurement itself is taken in any case.
    ///
    /// It allocates, which [`record`](PerformanceMonitor::record) does not: for one request in many.
    ///
    /// ```
    /// let monitor = swarm_monitor::PerformanceMonitor::new();
    /// let trace = [("trace_id", "0af7651916cd43dd8448eb211c80319c"), ("span_id", "b7ad6b7169203331")];
    /// monitor.record_with_exemplar("request_seconds", 0.67, &[("route", "/pay")], &trace);
    /// let text = monitor.expose("application/openmetrics-text").body;
    /// assert!(text.contains("le=\"1.0\"} 1 # {span_id=\"b7ad6b7169203331\",trace_id=\"0af7"));
    /// ```
    pub fn record_with_exemplar<'a>(
        &self,
        metric: &str,
        measurement: impl Into<Measurement<'a>>,
        tags: Tags<'_>,
        exemplar: Tags<'_>,
    ) {
        self.inner.record_slowly(None, metric, measurement.into(), tags, Some(exemplar));
    }

    /// A counter to keep: counting through it is one atomic addition.
    pub fn counter(&self, metric: &str, tags: Tags<'_>) -> Counter {
        Counter::new(self.handle(metric, MetricKind::Counter, tags))
    }

    /// A gauge to keep.
    pub fn gauge(&self, metric: &str, tags: Tags<'_>) -> Gauge {
        Gauge::new(self.handle(metric, MetricKind::Gauge, tags))
    }

    /// A histogram to keep.
    pub fn histogram(&self, metric: &str, tags: Tags<'_>) -> Histogram {
        Histogram::new(self.handle(metric, MetricKind::Histogram, tags))
    }

    fn handle(&self, metric: &str, kind: MetricKind, tags: Tags<'_>) -> Handle {
        Handle::new(&self.inner.table, metric, kind, tags)
    }

    /// Says what a metric is about: in what unit, and which way is worse. Before or after the first record; before it, of as many metrics as
    /// [there may be](MonitorBuilder::metric_limit).
    pub fn describe(&self, metric: &str, description: Description) {
        self.inner.table.describe(metric, description);
    }

    /// The series of a metric, to be asked.
    pub fn select(&self, metric: &str) -> Selection {
        Selection::new(self.inner.clone(), metric)
    }

    /// Whether a metric's mean of the last hour is away from its baseline by a share of at least `threshold`, and by more than chance
    /// explains.
    ///
    /// 0.2 is 20 %. `None` where it is not, or where there is too little to tell; [`Selection::drift`] tells these apart, and
    /// has other tests, windows and tags. The baseline is the same hour of the week before, or the seven days before where that
    /// has too few values.
    ///
    /// # Errors
    ///
    /// [`NotFound`](crate::ErrorKind::NotFound) while nothing was recorded under this name, [`WrongKind`](crate::ErrorKind::WrongKind) for
    /// counts, [`InvalidInput`](crate::ErrorKind::InvalidInput) for a threshold that is not a positive number.
    pub fn detect_drift(&self, metric: &str, threshold: f64) -> Result<Option<DriftReport>> {
        if !(threshold > 0.0 && threshold.is_finite()) {
            return Err(Error::input(format!("a threshold is above 0, not {threshold}")));
        }
        let report = self.select(metric).drift().by(RelativeMean::new(threshold)).check()?;
        Ok(report.is_drift().then_some(report))
    }

    /// Every metric there is, by name.
    pub fn metrics(&self) -> Vec<MetricInfo> {
        self.inner
            .table
            .all()
            .iter()
            .map(|metric| {
                let memory = metric.select(&[]).iter().map(|series| series.memory()).sum();
                metric.about.info(metric.len(), memory)
            })
            .collect()
    }

    /// The events recorded last, oldest first.
    pub fn events(&self) -> Vec<Event> {
        self.inner.events.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }

    /// Records that were left out because there were too many metrics.
    pub fn lost(&self) -> u64 {
        self.inner.table.lost.ever()
    }

    /// Writes everything to `path`, for [`restore`](MonitorBuilder::restore) after a restart or a crash.
    ///
    /// The file is written beside it, brought to the disk and renamed, so that a crash leaves the snapshot before or this one. Each series
    /// is as it was at some moment of the call, which blocks: on an async runtime, make it where blocking is allowed. A path belongs to
    /// one process.
    ///
    /// # Errors
    ///
    /// [`Storage`](crate::ErrorKind::Storage) if it cannot be written; [`InvalidInput`](crate::ErrorKind::InvalidInput) if what detectors have
    /// [saved](PerformanceMonitor::save_detector), with the events kept, is more than 64 MiB. The one before is still there.
    pub fn snapshot(&self, path: impl AsRef<Path>) -> Result<()> {
        self.inner.snapshot(path.as_ref())
    }

    /// What became of the snapshot that the monitor was made from. `None` if it was not asked to [`restore`](MonitorBuilder::restore) one.
    pub fn restored(&self) -> Option<&Restored> {
        self.inner.restored.as_ref()
    }

    /// Puts what a detector knows into the snapshots from here on, in place of what was saved under the name before.
    pub fn save_detector(&self, name: &str, detector: &dyn ChangeDetector) {
        let state = detector.save();
        self.inner.states.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), state);
    }

    /// Lets a detector go on from what was saved under the name, in this process or in the one whose snapshot was restored. Answers whether
    /// there was something.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput) if it is the state of another detector; then this one begins anew.
    pub fn restore_detector(&self, name: &str, detector: &mut dyn ChangeDetector) -> Result<bool> {
        // Not while the states are locked, as the detector may be anybody's.
        let state = self.inner.states.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned();
        state.map_or(Ok(false), |state| detector.restore(&state).map(|()| true))
    }

    /// Forgets what was saved under the name.
    pub fn forget_detector(&self, name: &str) {
        self.inner.states.lock().unwrap_or_else(PoisonError::into_inner).remove(name);
    }

    /// What time it is for the monitor, to the second.
    pub fn now(&self) -> DateTime<Utc> {
        time(self.inner.now())
    }

    /// The same in seconds since 1970.
    pub(crate) fn seconds(&self) -> u64 {
        self.inner.now()
    }

    /// Looks at the clock and does what is due.
    ///
    /// The monitor's thread calls it once a second. With a [clock](MonitorBuilder::clock) of your own there is no thread, and you call
    /// it; what is recorded in between counts as of the last call.
    pub fn tick(&self) {
        self.inner.tick();
    }
}

impl Default for PerformanceMonitor {
    fn default() -> Self {
        PerformanceMonitor::new()
    }
}

impl MetricSink for PerformanceMonitor {
    fn record(&self, metric: &str, measurement: Measurement<'_>, tags: Tags<'_>) {
        self.inner.record(metric, measurement, tags);
    }
}

impl fmt::Debug for PerformanceMonitor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PerformanceMonitor").field("now", &time(self.now())).finish_non_exhaustive()
    }
}

impl Inner {
    fn new(
        table: Table,
        clock: Box<dyn Clock>,
        events_kept: usize,
        head: Option<Head>,
        restored: Option<Restored>,
        unread: Option<PathBuf>,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let began = table.settings.time.now();
        let started = head.as_ref().map_or(began, |head| head.started);
        let (mut events, states) = head.map_or_else(Default::default, |head| {
            table.lost.restore(head.lost);
            (VecDeque::from(head.events), head.states.into_iter().collect())
        });
        events.drain(..events.len().saturating_sub(events_kept));
        Inner {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            table: Arc::new(table),
            clock,
            started,
            began,
            events: Mutex::new(events),
            events_kept,
            states: Mutex::new(states),
            restored,
            saving: Mutex::new(unread),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        self.table.settings.time.now()
    }

    /// What the clock shows, in nanoseconds since 1970, and not less than the monitor's second.
    #[cfg(feature = "otlp")]
    pub(crate) fn nanos(&self) -> u64 {
        let shown = self.clock.now().timestamp_nanos_opt().and_then(|nanos| u64::try_from(nanos).ok());
        shown.unwrap_or(0).max(self.now().saturating_mul(1_000_000_000))
    }

    #[inline]
    fn record(&self, metric: &str, measurement: Measurement<'_>, tags: Tags<'_>) {
        let kind = MetricKind::of(&measurement);
        let key = Key::new(self.id, kind as u8, metric, tags);
        if let Some(key) = &key
            && let Some(Ok(())) = recent::with(key, |series| put(series, measurement))
        {
            if let Measurement::Event(text) = measurement {
                self.keep_event(metric, text, tags);
            }
            return;
        }
        self.record_slowly(key.as_ref(), metric, measurement, tags, None);
    }

    #[cold]
    fn record_slowly(
        &self,
        key: Option<&Key<'_>>,
        metric: &str,
        measurement: Measurement<'_>,
        tags: Tags<'_>,
        exemplar: Option<Tags<'_>>,
    ) {
        // A series may be evicted between finding it and recording into it: once, as it was just used.
        for _ in 0..3 {
            let (series, own) = match self.table.find(metric, MetricKind::of(&measurement), tags, false) {
                Found::Own(series) => (series, true),
                Found::Overflow(series) => (series, false),
                Found::Nowhere => return,
            };
            if put(&series, measurement).is_ok() {
                if let Some(exemplar) = exemplar {
                    series.link(measurement.value(), exemplar);
                }
                // What went to the overflow series is looked for again, as there may be room the next time.
                if let Some(key) = key.filter(|_| own) {
                    recent::put(key, &series);
                }
                break;
            }
        }
        if let Measurement::Event(text) = measurement {
            self.keep_event(metric, text, tags);
        }
    }

    #[cold]
    fn keep_event(&self, metric: &str, text: &str, tags: Tags<'_>) {
        let event = Event::new(time(self.now()), metric, text, tags);
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        if events.len() >= self.events_kept {
            events.pop_front();
        }
        if self.events_kept > 0 {
            events.push_back(event);
        }
    }

    fn snapshot(&self, path: &Path) -> Result<()> {
        let mut unread = self.saving.lock().unwrap_or_else(PoisonError::into_inner);
        if unread.as_deref() == Some(path) {
            snapshot::make_way(path, self.now())?;
            *unread = None;
        }
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let head = Head {
            taken: self.now(),
            started: self.started,
            accuracy: self.table.settings.mapping.accuracy(),
            lost: self.table.lost.ever(),
            events: self.events.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect(),
            states: states.into_iter().collect(),
        };
        snapshot::write(path, &head, &self.table)
    }

    pub(crate) fn tick(&self) {
        let shown = self.clock.now().timestamp().max(0) as u64;
        let before = self.table.settings.time.0.fetch_max(shown, Ordering::Relaxed);
        if shown > before {
            self.table.collect_remains();
            if shown / 600 != before / 600 {
                self.table.sweep();
            }
        }
    }
}

#[inline(always)]
fn put(series: &Series, measurement: Measurement<'_>) -> Result<(), Evicted> {
    match measurement {
        Measurement::Count(n) => series.count(n),
        Measurement::Gauge(value) => series.set(value),
        Measurement::Observation(value) => series.observe(value),
        Measurement::Event(_) => series.count(1),
    }
}

/// Ticks until the monitor is gone, and tells how long to wait until the next time.
fn tick(monitor: &Weak<Inner>) -> Option<Duration> {
    let inner = monitor.upgrade()?;
    inner.tick();
    let nanos = inner.clock.now().timestamp_subsec_nanos().min(999_999_999);
    Some(Duration::from_nanos(u64::from(1_000_000_000 - nanos)).max(Duration::from_millis(1)))
}

/// How the thread is called.
const THREAD: &str = "swarm-monitor";

fn spawn(work: impl FnOnce() + Send + 'static) -> Option<thread::JoinHandle<()>> {
    thread::Builder::new().name(THREAD.to_owned()).spawn(work).ok()
}
