use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use swarm_monitor::testing::conformance;
use swarm_monitor::{Measurement, MetricSink, MetricSinkExt, PerformanceMonitor, Tags};

use crate::Timed;

#[test]
fn the_monitor_passes_the_kit_for_sinks() {
    let Timed { monitor, .. } = Timed::new();
    let recorded = conformance::metric_sink(&monitor);
    let total = |name: &str| monitor.select(name).total().unwrap().count;
    let refused = |name: &str| monitor.metrics().iter().find(|info| &*info.name == name).unwrap().refused;
    for name in ["conformance_value", "conformance_gauge"] {
        assert_eq!(total(name) + refused(name), recorded.values, "{name}");
        assert_eq!(refused(name), recorded.values / 2, "{name}");
    }
    assert_eq!(total("conformance_count"), recorded.counted);
    assert_eq!(total("conformance_tags"), recorded.tagged);
    assert_eq!(total(""), recorded.tagged);
    assert_eq!(total("conformance_threads"), recorded.by_threads);
    assert_eq!(total("conformance_event"), 1);
}

#[test]
fn adaptors_pass_the_kit_too_and_pass_everything_on() {
    let (first, second) = (Timed::new().monitor, Timed::new().monitor);
    let to: Box<dyn MetricSink> = Box::new(Arc::new(second.clone()));
    let sink = first.clone().and(to.filter(|name, _, _| name != "conformance_gauge").rename([("a", "b")]));
    let recorded = conformance::metric_sink(&sink);
    for monitor in [&first, &second] {
        assert_eq!(monitor.select("conformance_threads").total().unwrap().count, recorded.by_threads);
    }
    assert!(first.select("conformance_gauge").total().is_ok());
    assert!(second.select("conformance_gauge").total().is_err());
}

#[test]
fn a_sink_can_be_renamed_filtered_and_anyone_s_own() {
    struct Sum(AtomicU64);
    impl MetricSink for Sum {
        fn record(&self, metric: &str, measurement: Measurement<'_>, tags: Tags<'_>) {
            assert_eq!((metric, tags), ("new", &[("agent", "Agent-7")][..]));
            self.0.fetch_add(measurement.value() as u64, Ordering::Relaxed);
        }
    }
    let sum = Sum(AtomicU64::new(0));
    let monitor = Timed::new().monitor;
    let sink = (&sum).filter(|_, _, tags| !tags.is_empty()).rename([("old", "new")]).and(monitor.clone());
    sink.record("old", Measurement::Count(3), &[("agent", "Agent-7")]);
    sink.record("new", Measurement::Count(4), &[("agent", "Agent-7")]);
    sink.record("old", Measurement::Count(5), &[]);
    assert_eq!(sum.0.into_inner(), 7);
    assert_eq!(monitor.select("old").total().unwrap().count, 8);
}

#[test]
fn two_monitors_in_one_thread_do_not_mix() {
    let (first, second) = (Timed::new().monitor, Timed::new().monitor);
    for _ in 0..10 {
        first.record("x", 1.0, &[("a", "1")]);
        second.record("x", 2.0, &[("a", "1")]);
    }
    let mean = |monitor: &PerformanceMonitor| monitor.select("x").total().unwrap().mean;
    assert_eq!((mean(&first), mean(&second)), (1.0, 2.0));
}
