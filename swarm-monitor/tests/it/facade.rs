use std::time::{Duration, Instant};

use metrics::{Unit, counter, describe_histogram, gauge, histogram, with_local_recorder};
use swarm_monitor::{Description, Direction, MetricSinkExt, SpanTimes};
use tracing::{info_span, subscriber};
use tracing_subscriber::prelude::*;

use crate::{Timed, last};

#[test]
fn the_macros_record_into_the_monitor() {
    let timed = Timed::new();
    with_local_recorder(&timed.monitor, || {
        counter!("requests", "route" => "/pay", "agent" => String::from("Agent-7")).increment(2);
        let again = counter!("requests", "agent" => "Agent-7", "route" => "/pay");
        again.increment(3);
        gauge!("queue").set(5.0);
        gauge!("queue").increment(2.5);
        gauge!("queue").decrement(1.0);
        let seconds = histogram!("request_seconds");
        seconds.record(0.5);
        seconds.record_many(1.5, 3);
        seconds.record(f64::NAN);
        histogram!("request_seconds").record(Duration::from_millis(250));
    });
    let monitor = &timed.monitor;
    let requests = monitor.select("requests").tag("agent", "Agent-7").tag("route", "/pay");
    assert_eq!(requests.total().unwrap().count, 5);
    assert_eq!(monitor.select("queue").last().unwrap(), [(vec![], 6.5)]);
    let seconds = monitor.select("request_seconds").summary(last(60)).unwrap();
    assert_eq!((seconds.count, seconds.sum(), seconds.min), (5, 5.25, 0.25));
}

#[test]
fn absolute_values_raise_a_counter_and_never_take_it_back() {
    let timed = Timed::new();
    with_local_recorder(&timed.monitor, || {
        for value in [100, 40, 100, 120] {
            counter!("pages").absolute(value);
        }
        counter!("pages").increment(1);
        counter!("pages").absolute(121);
        timed.pass(3);
        counter!("pages").absolute(130);
    });
    assert_eq!(timed.monitor.select("pages").total().unwrap().count, 130);
    assert_eq!(timed.monitor.select("pages").summary(last(1)).unwrap().count, 9);
}

#[test]
fn absolute_values_from_several_threads_are_counted_once() {
    let timed = Timed::new();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                with_local_recorder(&timed.monitor, || {
                    for value in 0..2_000 {
                        counter!("pages").absolute(value);
                    }
                });
            });
        }
    });
    assert_eq!(timed.monitor.select("pages").total().unwrap().count, 1_999);
}

#[test]
fn descriptions_from_macros_keep_the_direction() {
    let timed = Timed::new();
    let monitor = &timed.monitor;
    monitor.describe("request_seconds", Description::new("").direction(Direction::HigherIsWorse));
    with_local_recorder(monitor, || {
        describe_histogram!("request_seconds", Unit::Seconds, "Time to answer.");
        metrics::describe_counter!("requests", Unit::Count, "All of them.");
        histogram!("request_seconds").record(1.0);
        counter!("requests").increment(1);
        describe_histogram!("request_seconds", "Time to answer a request.");
    });
    let described = Description::new("Time to answer a request.").unit("seconds");
    assert_eq!(monitor.metrics()[0].description, described.direction(Direction::HigherIsWorse));
    assert_eq!(monitor.metrics()[1].description, Description::new("All of them."));
}

#[test]
fn spans_become_histograms_of_their_durations() {
    let timed = Timed::new();
    let layer =
        SpanTimes::new(timed.monitor.clone()).busy("span_busy_seconds").field("agent").field("status");
    let begun = Instant::now();
    let inside = subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let span = info_span!("deploy", agent = "Agent-8", status = tracing::field::Empty, secret = "x");
        let inside = Instant::now();
        span.in_scope(|| info_span!("upload").in_scope(|| span.in_scope(|| ())));
        span.record("status", 201);
        let inside = inside.elapsed();
        drop(span);
        inside
    });
    let most = begun.elapsed().as_secs_f64();
    let monitor = &timed.monitor;
    let deploy = monitor.select("span_seconds").tag("span", "deploy");
    let deploy = deploy.tag("agent", "Agent-8").tag("status", "201").total().unwrap();
    assert_eq!(deploy.count, 1);
    assert!(deploy.sum() >= inside.as_secs_f64() && deploy.sum() <= most, "{deploy:?} {inside:?} {most}");
    let busy = monitor.select("span_busy_seconds").tag("span", "deploy").total().unwrap();
    assert!(busy.count == 1 && busy.sum() <= deploy.sum(), "{busy:?}");
    assert_eq!(monitor.select("span_seconds").tag("span", "upload").total().unwrap().count, 1);
    assert!(monitor.select("span_seconds").by("secret").unwrap().is_empty());
}

#[test]
fn a_span_that_was_never_entered_was_not_busy() {
    let timed = Timed::new();
    let layer = SpanTimes::new(timed.monitor.clone()).metric("task_seconds").busy("busy_seconds");
    subscriber::with_default(tracing_subscriber::registry().with(layer), || {
        let waiting = info_span!("waiting");
        waiting.clone().in_scope(|| ());
        drop(waiting);
        drop(info_span!("idle"));
    });
    let count = |metric: &str, span: &str| timed.monitor.select(metric).tag("span", span).total().unwrap();
    assert_eq!((count("task_seconds", "waiting").count, count("task_seconds", "idle").count), (1, 1));
    assert_eq!((count("busy_seconds", "idle").count, count("busy_seconds", "idle").sum()), (1, 0.0));
}

/// The layer takes any sink, and filters of its own.
#[test]
fn a_layer_records_only_what_its_filter_lets_through() {
    let timed = Timed::new();
    let sink = timed.monitor.clone().rename([("span_seconds", "handler_seconds")]);
    let only = tracing_subscriber::filter::filter_fn(|metadata| metadata.name() == "handler");
    let subscriber = tracing_subscriber::registry().with(SpanTimes::new(sink).with_filter(only));
    subscriber::with_default(subscriber, || {
        info_span!("handler").in_scope(|| info_span!("detail").in_scope(|| ()));
    });
    let by = timed.monitor.select("handler_seconds").by("span").unwrap();
    assert_eq!(by.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["handler"]);
}

/// Also one that is a clone of another.
#[test]
fn layers_of_one_subscriber_do_not_share_what_they_time() {
    let timed = Timed::new();
    let layer = SpanTimes::new(timed.monitor.clone()).field("agent");
    let other = layer.clone().metric("task_seconds").busy("busy_seconds");
    let subscriber = tracing_subscriber::registry().with(layer.clone()).with(other).with(layer);
    subscriber::with_default(subscriber, || {
        info_span!("deploy", agent = "Agent-8").in_scope(|| info_span!("upload").in_scope(|| ()));
    });
    for (metric, count) in [("span_seconds", 2), ("task_seconds", 1), ("busy_seconds", 1)] {
        let deploy = timed.monitor.select(metric).tag("span", "deploy").tag("agent", "Agent-8");
        assert_eq!(deploy.total().unwrap().count, count, "{metric}");
        let upload = timed.monitor.select(metric).tag("span", "upload");
        assert_eq!(upload.total().unwrap().count, count, "{metric}");
    }
}
