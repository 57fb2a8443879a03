use crate::sink::adapt::{FanOut, Filter, Rename};

pub(crate) mod adapt;

/// What a measurement is about: pairs of name and value, in any order.
///
/// Of two pairs with the same name the last holds. An empty value is the same as no pair.
pub type Tags<'a> = &'a [(&'a str, &'a str)];

/// One thing measured. A plain `f64` is an [`Observation`](Measurement::Observation).
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum Measurement<'a> {
    /// So many more of something: requests, bytes. Sums are kept for ever, and rates can be asked.
    Count(u64),
    /// What something stands at now: a queue's length, a temperature.
    Gauge(f64),
    /// One of many values whose distribution matters: a duration, a size.
    Observation(f64),
    /// Something that happened once, with a text: a deployment, a restart.
    Event(&'a str),
}

impl From<f64> for Measurement<'_> {
    fn from(value: f64) -> Self {
        Measurement::Observation(value)
    }
}

impl Measurement<'_> {
    /// The number in it: 1 for an event.
    pub fn value(&self) -> f64 {
        match *self {
            Measurement::Count(n) => n as f64,
            Measurement::Gauge(value) | Measurement::Observation(value) => value,
            Measurement::Event(_) => 1.0,
        }
    }
}

/// A place where measurements go.
///
/// Implemented by [`PerformanceMonitor`](crate::PerformanceMonitor), by the adaptors of [`MetricSinkExt`], and by you for
/// another system or for a test.
///
/// `record` is called on hot paths, from any thread and from several at once. An implementation returns soon, does not block
/// on I/O, does not panic, and copes with every `f64` there is. A call is one measurement: nobody repeats it.
pub trait MetricSink: Send + Sync {
    /// Takes one measurement of `metric`.
    fn record(&self, metric: &str, measurement: Measurement<'_>, tags: Tags<'_>);
}

impl<S: MetricSink + ?Sized> MetricSink for &S {
    fn record(&self, metric: &str, measurement: Measurement<'_>, tags: Tags<'_>) {
        (**self).record(metric, measurement, tags);
    }
}

impl<S: MetricSink + ?Sized> MetricSink for Box<S> {
    fn record(&self, metric: &str, measurement: Measurement<'_>, tags: Tags<'_>) {
        (**self).record(metric, measurement, tags);
    }
}

impl<S: MetricSink + ?Sized> MetricSink for std::sync::Arc<S> {
    fn record(&self, metric: &str, measurement: Measurement<'_>, tags: Tags<'_>) {
        (**self).record(metric, measurement, tags);
    }
}

/// Sinks made of sinks. None of them allocates when it records.
///
/// ```
/// use swarm_monitor::{MetricSink, MetricSinkExt, PerformanceMonitor};
///
/// let (all, slow) = (PerformanceMonitor::new(), PerformanceMonitor::new());
/// let sink = all.clone().and(slow.clone().filter(|_, measurement, _| measurement.value() > 1.0));
/// sink.record("request_seconds", 0.2.into(), &[]);
/// sink.record("request_seconds", 3.0.into(), &[]);
/// assert_eq!(all.select("request_seconds").total()?.count, 2);
/// assert_eq!(slow.select("request_seconds").total()?.count, 1);
/// # Ok::<(), swarm_monitor::Error>(())
/// ```
pub trait MetricSinkExt: MetricSink + Sized {
    /// Passes every measurement to this sink, then to `other`.
    fn and<S: MetricSink>(self, other: S) -> FanOut<Self, S> {
        FanOut::new(self, other)
    }

    /// Passes on what `keep` wants.
    fn filter<F>(self, keep: F) -> Filter<Self, F>
    where
        F: Fn(&str, &Measurement<'_>, Tags<'_>) -> bool + Send + Sync,
    {
        Filter::new(self, keep)
    }

    /// Passes everything on, metrics in `names` under the name beside theirs.
    fn rename<I, A, B>(self, names: I) -> Rename<Self>
    where
        I: IntoIterator<Item = (A, B)>,
        A: Into<String>,
        B: Into<String>,
    {
        Rename::new(self, names)
    }
}

impl<S: MetricSink> MetricSinkExt for S {}
