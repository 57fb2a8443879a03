use std::time::Duration;

use swarm_monitor::{AlertEngine, AlertRule, Condition, ErrorKind, Measurement, PerformanceMonitor};

use crate::Timed;
use crate::alerts::seconds;

#[test]
fn every_condition_holds_when_it_should_and_says_what_it_saw() {
    let window = seconds(60);
    let timed = Timed::new();
    timed.pass(300);
    for value in 1..=100 {
        timed.monitor.record("seconds", f64::from(value), &[("route", "/pay")]);
        timed.monitor.record("errors", Measurement::Count(3), &[]);
    }
    timed.monitor.record("queue", Measurement::Gauge(7.0), &[("shard", "1")]);
    timed.monitor.record("queue", Measurement::Gauge(3.0), &[("shard", "2")]);
    let seconds_of = || Condition::of("seconds").window(window);
    for (condition, holds, says) in [
        (seconds_of().above(50.0), true, "mean of seconds in 1m is 50.5, above 50"),
        (seconds_of().above(51.0), false, ""),
        (seconds_of().below(51.0), true, "mean of seconds in 1m is 50.5, below 51"),
        (seconds_of().max().above(99.0), true, "greatest of seconds in 1m is 100, above 99"),
        (seconds_of().min().below(2.0), true, "least of seconds in 1m is 1, below 2"),
        (seconds_of().sum().above(5_000.0), true, "sum of seconds in 1m is 5050, above 5000"),
        (seconds_of().count().above(99.0), true, "count of seconds in 1m is 100, above 99"),
        (seconds_of().quantile(0.5).above(48.0), true, "p50 of seconds in 1m is "),
        (seconds_of().quantile(0.999).above(110.0), false, ""),
        (seconds_of().tag("route", "/pay").above(50.0), true, "mean of seconds{route=\"/pay\"} in 1m is"),
        (seconds_of().tag("route", "/none").above(50.0), false, ""),
        (seconds_of().least(101).above(50.0), false, ""),
        (
            Condition::of("errors").count().window(window).above(299.0),
            true,
            "count of errors in 1m is 300, above 299",
        ),
        (Condition::of("errors").rate().window(window).above(4.0), true, "rate of errors in 1m is 4.9"),
        (Condition::of("queue").last().above(6.0), true, "queue is 7, above 6"),
        (Condition::of("queue").last().below(4.0), true, "queue is 3, below 4"),
        (Condition::of("nothing").above(0.0), false, ""),
        (Condition::of("nothing").absent(), true, "nothing was ever recorded of nothing"),
        (seconds_of().absent(), false, ""),
        (
            seconds_of().tag("route", "/none").absent(),
            true,
            "nothing was recorded of seconds{route=\"/none\"} in 1m",
        ),
        (Condition::of("seconds").drifts(0.1), false, ""),
    ] {
        let shown = format!("{condition:?}");
        let alerts =
            AlertEngine::builder(&timed.monitor).rule(AlertRule::new("rule", condition)).build().unwrap();
        let evaluation = alerts.evaluate();
        assert!(evaluation.failed.is_empty(), "{shown} {:?}", evaluation.failed);
        assert_eq!(evaluation.fired.len(), usize::from(holds), "{shown} {:?}", evaluation.fired);
        let summary = evaluation.fired.first().map_or("", |alert| alert.summary());
        assert!(summary.starts_with(says), "{shown}: {summary}");
    }
}

#[test]
fn a_number_that_a_metric_does_not_have_is_an_error() {
    let timed = Timed::new();
    timed.monitor.record("errors", Measurement::Count(3), &[]);
    timed.monitor.record("seconds", 1.0, &[]);
    let counts = "\"errors\" is made of counts, which have no distribution: ask for its count or rate";
    for (condition, says) in [
        (Condition::of("errors").above(1.0), counts),
        (Condition::of("errors").max().above(1.0), counts),
        (Condition::of("errors").quantile(0.5).above(1.0), counts),
        (Condition::of("errors").drifts(0.2), "\"errors\" is made of counts, which have no distribution"),
        (
            Condition::of("errors").last().above(1.0),
            "\"errors\" is no gauge, and stands at nothing: ask for its count or rate",
        ),
        (
            Condition::of("seconds").last().above(1.0),
            "\"seconds\" is no gauge, and stands at nothing: ask for its count or rate",
        ),
    ] {
        let alerts =
            AlertEngine::builder(&timed.monitor).rule(AlertRule::new("rule", condition)).build().unwrap();
        let error = alerts.evaluate().failed.remove(0).1;
        assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::WrongKind, says));
    }
}

#[test]
fn what_is_missing_is_told_once_the_process_has_run_for_a_window() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("metrics");
    let rules = || {
        let of = |name: &str| Condition::of(name).window(seconds(120));
        [
            AlertRule::new("down", of("beats").absent()),
            AlertRule::new("slow", of("done").rate().below(1.0)),
            AlertRule::new("few", of("done").count().below(100.0)),
            AlertRule::new("little", of("size").sum().below(100.0)),
        ]
    };
    let fired = |alerts: &AlertEngine| {
        let evaluation = alerts.evaluate();
        assert!(evaluation.failed.is_empty(), "{:?}", evaluation.failed);
        evaluation.fired.into_iter().map(|alert| alert.rule).collect::<Vec<_>>()
    };
    let timed = Timed::new();
    let alerts = AlertEngine::builder(&timed.monitor).rules(rules()).build().unwrap();
    timed.monitor.record("done", Measurement::Count(1), &[]);
    timed.monitor.record("size", 1.0, &[]);
    for _ in 0..119 {
        assert_eq!(fired(&alerts), Vec::<String>::new());
        timed.pass(1);
    }
    timed.pass(1);
    assert_eq!(fired(&alerts), ["down", "slow", "few", "little"]);
    timed.monitor.snapshot(&file).unwrap();

    // It was off for an hour, in which nothing could be recorded.
    timed.clock.advance(seconds(3_600));
    let monitor = PerformanceMonitor::builder().restore(&file).clock(timed.clock.clone()).build().unwrap();
    let alerts = AlertEngine::builder(&monitor).rules(rules()).build().unwrap();
    assert_eq!(fired(&alerts), Vec::<String>::new());
    timed.clock.advance(seconds(120));
    assert_eq!(fired(&alerts), ["down", "slow", "few"], "of no values there is no sum");
}

#[cfg(feature = "toml")]
#[test]
fn a_change_of_a_latency_in_seconds_is_seen_by_a_rule_from_a_file() {
    use swarm_monitor::testing::{Shape, Synthetic};

    let timed = Timed::new();
    let rule = "
        [[rule]]
        name = \"slower\"
        metric = \"request_seconds\"
        changes = \"cusum\"
        window = \"1m\"";
    let rules = AlertRule::from_toml(rule).unwrap();
    let alerts = AlertEngine::builder(&timed.monitor).rules(rules).build().unwrap();
    let series = Synthetic::new(3).shape(Shape::Exponential).level(0.02).spread(0.02);
    let mut fired = Vec::new();
    for (minute, values) in series.values(10 * 600).chunks(10).enumerate() {
        let longer = if minute < 480 { 1.0 } else { 1.5 };
        values.iter().for_each(|value| timed.monitor.record("request_seconds", longer * value, &[]));
        timed.pass(60);
        fired.extend(alerts.evaluate().fired.iter().map(|_| minute));
    }
    assert_eq!(fired.len(), 1, "{fired:?}");
    assert!((480..490).contains(&fired[0]), "{fired:?}");
}

/// A clock that counts how often it is looked at, which an evaluation does.
#[cfg(feature = "tracing")]
#[derive(Clone, Default)]
struct Looks(std::sync::Arc<std::sync::atomic::AtomicU64>);

#[cfg(feature = "tracing")]
impl swarm_monitor::Clock for Looks {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        let looks = self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        chrono::DateTime::UNIX_EPOCH + seconds(86_400 + looks)
    }
}

#[cfg(feature = "tracing")]
impl Looks {
    /// Is over once it was looked at so often more.
    async fn now_after(&self, more: u64) {
        let looks = || self.0.load(std::sync::atomic::Ordering::SeqCst);
        let until = looks() + more;
        while looks() < until {
            tokio::task::yield_now().await;
        }
    }
}

/// Keeps the rules that warnings are about.
#[cfg(feature = "tracing")]
#[derive(Clone, Default)]
struct Warned(std::sync::Arc<std::sync::Mutex<Vec<String>>>);

#[cfg(feature = "tracing")]
impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Warned {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            if field.name() == "rule" {
                self.0.lock().unwrap().push(format!("{value:?}"));
            }
        });
    }
}

#[cfg(feature = "tracing")]
#[tokio::test]
async fn of_a_rule_that_cannot_be_looked_at_the_log_says_so_once() {
    use tracing_subscriber::prelude::*;

    let (clock, warned) = (Looks::default(), Warned::default());
    let monitor = PerformanceMonitor::builder().clock(clock.clone()).build().unwrap();
    monitor.record("requests", Measurement::Count(1), &[]);
    let alerts = AlertEngine::builder(&monitor)
        .rule(AlertRule::new("drift", Condition::of("requests").drifts(0.2)))
        .rule(AlertRule::new("many", Condition::of("requests").count().above(5.0)))
        .interval(Duration::from_millis(1))
        .build()
        .unwrap();
    let _guard = tracing_subscriber::registry().with(warned.clone()).set_default();
    tokio::select! {
        () = alerts.run() => unreachable!("it runs for ever"),
        () = clock.now_after(5) => {}
    }
    assert_eq!(*warned.0.lock().unwrap(), ["\"drift\""]);
}
