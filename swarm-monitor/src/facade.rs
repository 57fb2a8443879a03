use std::sync::Arc;

use metrics::{CounterFn, GaugeFn, HistogramFn, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::handle::{Counter, Gauge, Histogram};
use crate::monitor::PerformanceMonitor;

/// Takes what the macros of the crate `metrics` record: install it once and change no line of what records.
///
/// Labels become tags. A counter's `absolute` raises it to a value and never takes it back. Targets and levels are not looked at.
///
/// ```
/// use swarm_monitor::PerformanceMonitor;
///
/// let monitor = PerformanceMonitor::new();
/// metrics::set_global_recorder(monitor.clone()).expect("the only recorder of this process");
/// metrics::counter!("requests", "route" => "/pay").increment(1);
/// assert_eq!(monitor.select("requests").tag("route", "/pay").total()?.count, 1);
/// # Ok::<(), swarm_monitor::Error>(())
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "metrics")))]
impl Recorder for PerformanceMonitor {
    fn describe_counter(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        say(self, &key, unit, &description);
    }

    fn describe_gauge(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        say(self, &key, unit, &description);
    }

    fn describe_histogram(&self, key: KeyName, unit: Option<Unit>, description: SharedString) {
        say(self, &key, unit, &description);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> metrics::Counter {
        let counter = self.counter(key.name(), &tags(key));
        metrics::Counter::from_arc(Arc::new(Counting(counter)))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::from_arc(Arc::new(Gauging(self.gauge(key.name(), &tags(key)))))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::from_arc(Arc::new(Observing(self.histogram(key.name(), &tags(key)))))
    }
}

struct Counting(Counter);
struct Gauging(Gauge);
struct Observing(Histogram);

impl CounterFn for Counting {
    fn increment(&self, value: u64) {
        self.0.add(value);
    }

    fn absolute(&self, value: u64) {
        self.0.raise_to(value);
    }
}

impl GaugeFn for Gauging {
    fn increment(&self, value: f64) {
        self.0.add(value);
    }

    fn decrement(&self, value: f64) {
        self.0.add(-value);
    }

    fn set(&self, value: f64) {
        self.0.set(value);
    }
}

impl HistogramFn for Observing {
    fn record(&self, value: f64) {
        self.0.record(value);
    }
}

fn tags(key: &Key) -> Vec<(&str, &str)> {
    key.labels().map(|label| (label.key(), label.value())).collect()
}

/// Keeps what else was said of the metric. A count is no unit: names do not end in it.
fn say(monitor: &PerformanceMonitor, key: &KeyName, unit: Option<Unit>, help: &SharedString) {
    let unit = unit.filter(|unit| *unit != Unit::Count);
    monitor.inner.table.amend(key.as_str(), |description| {
        help.as_ref().clone_into(&mut description.help);
        if let Some(unit) = unit {
            unit.as_str().clone_into(&mut description.unit);
        }
    });
}
