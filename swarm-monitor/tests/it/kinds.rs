use swarm_monitor::{Description, Direction, ErrorKind, Measurement, MetricKind, PerformanceMonitor};

use crate::{Timed, last};

fn info(monitor: &PerformanceMonitor, name: &str) -> swarm_monitor::MetricInfo {
    monitor.metrics().into_iter().find(|info| &*info.name == name).unwrap()
}

#[test]
fn the_founding_metrics_are_recorded_and_asked_by_tag() {
    let Timed { monitor, .. } = Timed::new();
    for (agent, minutes) in [("Agent-7", 45.2), ("Agent-7", 44.8), ("Agent-1", 30.0)] {
        monitor.record("agent_cycle_time", minutes, &[("agent", agent), ("task_type", "refactoring")]);
    }
    monitor.record("v2_violations", Measurement::Gauge(12.0), &[("scan_date", "2026-11-21")]);
    let all = monitor.select("agent_cycle_time");
    assert_eq!(all.summary(last(60)).unwrap().count, 3);
    let seven = all.clone().tag("agent", "Agent-7").summary(last(60)).unwrap();
    assert_eq!((seven.count, seven.mean, seven.min, seven.max), (2, 45.0, 44.8, 45.2));
    let by_agent: Vec<(String, f64)> = all
        .by("agent")
        .unwrap()
        .into_iter()
        .map(|(agent, one)| (agent, one.summary(last(60)).unwrap().mean))
        .collect();
    assert_eq!(by_agent, [("Agent-1".to_owned(), 30.0), ("Agent-7".to_owned(), 45.0)]);
    let standing = monitor.select("v2_violations").last().unwrap();
    assert_eq!(standing, [(vec![("scan_date".to_owned(), "2026-11-21".to_owned())], 12.0)]);
}

#[test]
fn handles_and_names_record_into_the_same_series() {
    let Timed { monitor, .. } = Timed::new();
    let requests = monitor.counter("requests", &[("route", "/pay"), ("method", "POST")]);
    requests.increment();
    requests.add(2);
    monitor.record("requests", Measurement::Count(4), &[("method", "POST"), ("route", "/pay")]);
    monitor.record("requests", Measurement::Count(8), &[("route", "/pay"), ("method", "POST")]);
    let seconds = monitor.histogram("request_seconds", &[]);
    seconds.record(0.25);
    monitor.record("request_seconds", 0.75, &[]);
    let queue = monitor.gauge("queue", &[]);
    queue.set(5.0);
    queue.add(-2.0);
    queue.clone().add(0.5);
    assert_eq!(monitor.select("requests").total().unwrap().count, 15);
    assert_eq!(info(&monitor, "requests").series, 1);
    assert_eq!(monitor.select("request_seconds").total().unwrap().mean, 0.5);
    assert_eq!(monitor.select("queue").last().unwrap()[0].1, 3.5);
    let queue = monitor.select("queue").total().unwrap();
    assert_eq!((queue.count, queue.min, queue.max), (3, 3.0, 5.0));
}

#[test]
fn what_cannot_be_added_up_is_counted_and_left_out() {
    let Timed { monitor, .. } = Timed::new();
    for value in [f64::NAN, 1.0, f64::INFINITY, 3.0, f64::NEG_INFINITY, 1e300, -f64::MAX] {
        monitor.record("values", value, &[]);
        monitor.record("gauge", Measurement::Gauge(value), &[]);
    }
    for name in ["values", "gauge"] {
        let sum = monitor.select(name).summary(last(60)).unwrap();
        assert_eq!((sum.count, sum.mean, sum.variance()), (2, 2.0, Some(2.0)), "{name}");
        assert_eq!(info(&monitor, name).refused, 5, "{name}");
    }
    assert_eq!(monitor.select("gauge").last().unwrap()[0].1, 3.0);
    let drifting = monitor.gauge("drifting", &[]);
    drifting.set(1e140);
    drifting.add(1e140);
    drifting.add(f64::NAN);
    assert_eq!(monitor.select("drifting").last().unwrap()[0].1, 1e140);
    assert_eq!(info(&monitor, "drifting").refused, 2);
}

#[test]
fn great_values_neither_drown_nor_overflow_their_deviation() {
    let Timed { monitor, .. } = Timed::new();
    for at in 0..1_000 {
        monitor.record("timestamps", 1.8e15 + f64::from(at % 2), &[]);
        monitor.record("huge", 1e139 * f64::from(1 + at % 2), &[]);
    }
    let sum = monitor.select("timestamps").summary(last(60)).unwrap();
    assert!((sum.variance().unwrap() - 0.25).abs() < 0.001, "{sum:?}");
    let sum = monitor.select("huge").summary(last(60)).unwrap();
    assert!((sum.std_dev().unwrap() / 0.5e139 - 1.0).abs() < 0.001, "{sum:?}");
}

#[test]
fn the_first_record_decides_the_kind() {
    let Timed { monitor, .. } = Timed::new();
    monitor.record("x", 1.0, &[]);
    let counter = monitor.counter("x", &[]);
    counter.increment();
    monitor.record("x", Measurement::Gauge(2.0), &[]);
    let info = info(&monitor, "x");
    assert_eq!((info.kind, info.mismatched), (MetricKind::Histogram, 3));
    assert_eq!(monitor.select("x").total().unwrap().count, 1);
    let error = monitor.select("y").total().unwrap_err();
    assert_eq!((error.kind(), error.metric(), error.is_retryable()), (ErrorKind::NotFound, Some("y"), true));
    monitor.counter("c", &[]).increment();
    assert_eq!(monitor.select("c").quantile(last(60), 0.5).unwrap_err().kind(), ErrorKind::WrongKind);
    assert_eq!(monitor.select("x").quantile(last(60), 50.0).unwrap_err().kind(), ErrorKind::InvalidInput);
}

#[test]
fn tags_are_the_same_whatever_their_order_and_odd_ones_have_one_meaning() {
    let Timed { monitor, .. } = Timed::new();
    let long = "é".repeat(600);
    let one_more = format!("{long}more");
    for tags in [
        &[("a", "1"), ("b", "2")][..],
        &[("b", "2"), ("a", "1")],
        &[("a", "0"), ("b", "2"), ("a", "1")],
        &[("a", "1"), ("c", ""), ("b", "2")],
    ] {
        // Twice, so that what the thread remembers is asked too.
        monitor.record("same", 1.0, tags);
        monitor.record("same", 1.0, tags);
    }
    monitor.record("same", 1.0, &[("a", "1"), ("a", "1")]);
    monitor.record("same", 1.0, &[("a", "1")]);
    monitor.record("cut", 1.0, &[("long", &long)]);
    monitor.record("cut", 1.0, &[("long", &one_more)]);
    assert_eq!(info(&monitor, "same").series, 2);
    assert_eq!(monitor.select("same").tag("b", "2").total().unwrap().count, 8);
    assert_eq!(info(&monitor, "cut").series, 1, "beyond 1,024 bytes tags are not told apart");
    assert_eq!(monitor.select("cut").tag("long", &one_more).total().unwrap().count, 2, "asked as they came");
}

#[test]
fn events_are_counted_and_the_last_are_kept_with_their_texts() {
    let timed = Timed::with(PerformanceMonitor::builder().events_kept(2));
    let monitor = &timed.monitor;
    for version in ["v1.0", "v2.0", "v2.1"] {
        monitor.record("deploy", Measurement::Event(version), &[("agent", "Agent-8")]);
        timed.pass(60);
    }
    let texts: Vec<String> = monitor.events().into_iter().map(|event| event.text).collect();
    assert_eq!(texts, ["v2.0", "v2.1"]);
    assert_eq!(monitor.events()[0].tags, [("agent".to_owned(), "Agent-8".to_owned())]);
    assert_eq!((monitor.events()[1].time - monitor.events()[0].time).num_seconds(), 60);
    assert_eq!(monitor.select("deploy").total().unwrap().count, 3);
}

#[test]
fn a_metric_can_be_described_before_and_after_its_first_record() {
    let Timed { monitor, .. } = Timed::new();
    let described = Description::new("time of one task").unit("minutes").direction(Direction::HigherIsWorse);
    monitor.describe("before", described.clone());
    monitor.record("before", 1.0, &[]);
    monitor.record("after", 1.0, &[]);
    monitor.describe("after", described.clone());
    assert_eq!(info(&monitor, "before").description, described);
    assert_eq!(info(&monitor, "after").description, described);
}
