use std::time::Duration;

use swarm_monitor::{ErrorKind, Measurement, PerformanceMonitor};

use crate::{Timed, last};

fn limited(series: usize) -> Timed {
    Timed::with(PerformanceMonitor::builder().series_limit(series).idle_after(Duration::from_secs(300)))
}

fn count(monitor: &PerformanceMonitor, user: &str) {
    monitor.record("requests", Measurement::Count(1), &[("user", user)]);
}

fn counted(monitor: &PerformanceMonitor, tag: &str, value: &str) -> u64 {
    monitor.select("requests").tag(tag, value).total().unwrap().count
}

#[test]
fn beyond_the_limit_everything_is_still_counted_in_the_overflow_series() {
    let Timed { monitor, .. } = limited(10);
    for user in 0..100 {
        count(&monitor, &user.to_string());
        count(&monitor, &user.to_string());
    }
    let info = &monitor.metrics()[0];
    assert_eq!((info.series, info.folded), (10, 180));
    assert_eq!(counted(&monitor, "overflow", "true"), 180);
    assert_eq!(monitor.select("requests").total().unwrap().count, 200);
}

#[test]
fn what_overflowed_gets_its_own_series_when_there_is_room() {
    let timed = limited(2);
    let monitor = &timed.monitor;
    count(monitor, "a");
    count(monitor, "b");
    let late = monitor.counter("requests", &[("user", "late")]);
    late.increment();
    count(monitor, "c");
    assert_eq!(counted(monitor, "overflow", "true"), 2);
    timed.pass(299);
    count(monitor, "b");
    count(monitor, "c");
    timed.pass(1);
    late.increment();
    count(monitor, "b");
    count(monitor, "c");
    assert_eq!(counted(monitor, "user", "late"), 1, "a was idle for five minutes");
    assert_eq!(counted(monitor, "user", "b"), 3, "b was not");
    assert_eq!(counted(monitor, "overflow", "true"), 4);
    assert_eq!(counted(monitor, "user", "a"), 0);
}

#[test]
fn a_series_with_a_handle_or_with_recent_records_is_not_evicted() {
    let timed = limited(3);
    let monitor = &timed.monitor;
    let held = monitor.counter("requests", &[("user", "held")]);
    held.increment();
    count(monitor, "busy");
    count(monitor, "idle");
    for round in 0..20 {
        timed.pass(100);
        count(monitor, "busy");
        count(monitor, &format!("new-{round}"));
    }
    held.increment();
    assert_eq!(counted(monitor, "user", "held"), 2);
    assert_eq!(counted(monitor, "user", "busy"), 21);
    drop(held);
    timed.pass(400);
    count(monitor, "busy");
    count(monitor, "next");
    timed.pass(1);
    count(monitor, "other");
    assert_eq!(counted(monitor, "user", "held"), 0, "without its handle it goes");
    assert_eq!(counted(monitor, "user", "next"), 1);
}

#[test]
fn nothing_recorded_into_an_evicted_series_is_lost() {
    let timed = limited(1);
    let monitor = &timed.monitor;
    let mut expected = 0;
    for round in 0..50 {
        // Each takes the only place of the other, whose series this thread still remembers.
        for user in ["a", "b"] {
            count(monitor, user);
            monitor.record("seconds", 1.0, &[("user", user)]);
            expected += 1;
            if round % 2 == 0 {
                timed.pass(300);
            }
        }
    }
    let requests = &monitor.metrics()[0];
    assert_eq!(requests.series, 1);
    let kept = monitor.select("requests").total().unwrap().count;
    assert!(kept < expected, "evicted series take their history with them");
    assert_eq!(counted(monitor, "overflow", "true"), requests.folded);
    let now = monitor.select("requests").summary(last(1)).unwrap().count;
    count(monitor, "a");
    count(monitor, "b");
    assert_eq!(monitor.select("requests").summary(last(1)).unwrap().count, now + 2);
}

#[test]
fn a_series_with_nothing_left_in_any_window_goes_by_itself() {
    let timed = limited(10);
    count(&timed.monitor, "a");
    timed.monitor.record("seconds", 1.0, &[("user", "a")]);
    timed.pass(7 * 86_400);
    assert_eq!(timed.monitor.metrics()[0].series, 1);
    timed.pass(2 * 86_400);
    assert_eq!(timed.monitor.metrics().iter().map(|info| info.series).collect::<Vec<_>>(), [0, 0]);
    count(&timed.monitor, "a");
    assert_eq!(counted(&timed.monitor, "user", "a"), 1);
}

#[test]
fn metrics_beyond_the_limit_are_counted_as_lost() {
    let timed = Timed::with(PerformanceMonitor::builder().metric_limit(2));
    for name in ["a", "b", "c", "c"] {
        timed.monitor.record(name, 1.0, &[]);
    }
    assert_eq!((timed.monitor.metrics().len(), timed.monitor.lost()), (2, 2));
}

#[test]
fn every_unacceptable_option_is_told_at_once() {
    let error =
        PerformanceMonitor::builder().accuracy(f64::NAN).series_limit(0).metric_limit(0).build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    for part in ["accuracy", "NaN", "series_limit", "metric_limit"] {
        assert!(error.to_string().contains(part), "{error}");
    }
}
