//! What users hand in panics, calls back, or is beyond all bounds; clocks step.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use chrono::TimeDelta;
use swarm_monitor::testing::{FakeClock, RecordingNotifier};
use swarm_monitor::{
    AlertEngine, AlertRule, AlertState, ChangeDetector, Condition, Cusum, Direction, DriftDetector,
    ErrorKind, Finding, FnNotifier, Matcher, Measurement, Notification, Notifier, NotifyError,
    PerformanceMonitor, Restored, Result, Route, Sample, Severity, Window,
};

use crate::{Timed, start};

/// Panics when it is called, and not when what it gave is polled.
struct AtOnce;

impl Notifier for AtOnce {
    fn notify<'a, 'b, 'c>(
        &'a self,
        _: &'b Notification,
    ) -> Pin<Box<dyn Future<Output = std::result::Result<(), NotifyError>> + Send + 'c>>
    where
        'a: 'c,
        'b: 'c,
        Self: 'c,
    {
        panic!("before there is a future")
    }
}

#[tokio::test]
async fn a_notifier_that_panics_at_once_fails_alone() {
    let (timed, ops) = (Timed::new(), RecordingNotifier::new());
    let alerts = AlertEngine::builder(&timed.monitor)
        .rule(AlertRule::new("over", Condition::of("load").last().above(1.0)))
        .route(Route::new("broken", AtOnce).group_wait(Duration::ZERO))
        .route(Route::new("ops", ops.clone()).group_wait(Duration::ZERO))
        .build()
        .unwrap();
    timed.monitor.record("load", Measurement::Gauge(2.0), &[]);
    assert_eq!(alerts.evaluate().fired.len(), 1);
    let delivery = alerts.deliver().await;
    assert_eq!((delivery.delivered, delivery.failed.len()), (1, 1));
    assert!(delivery.failed[0].1.to_string().contains("panicked"), "{:?}", delivery.failed);
    assert_eq!(ops.take().len(), 1);
}

/// Sees drift, and panics at huge values.
struct Fragile;

impl DriftDetector for Fragile {
    fn name(&self) -> &str {
        "fragile"
    }

    fn compare(&self, _: &Sample, recent: &Sample, _: Direction) -> Finding {
        assert!(recent.mean() < 1e6, "too much for it");
        Finding::of(true, None, None)
    }
}

#[test]
fn a_detector_that_panics_at_one_value_of_a_tag_is_asked_of_the_others() {
    let timed = Timed::new();
    let drifts = Condition::of("seconds").drifts_by(Fragile).least(1).window(Duration::from_secs(60));
    let alerts = AlertEngine::builder(&timed.monitor)
        .rule(AlertRule::new("drifts", drifts).each("host").resolve_without_data_after(Duration::ZERO))
        .build()
        .unwrap();
    let both = |good: f64, bad: f64| {
        for _ in 0..100 {
            for (host, value) in [("good", good), ("bad", bad)] {
                timed.monitor.record("seconds", value, &[("host", host)]);
                timed.monitor.record("seconds", value, &[("host", host)]);
            }
            timed.pass(60);
        }
    };
    both(1.0, 1.0);
    let evaluation = alerts.evaluate();
    assert_eq!((evaluation.fired.len(), evaluation.failed.len()), (2, 0), "{evaluation:?}");
    both(1.0, 1e9);
    let evaluation = alerts.evaluate();
    assert_eq!(evaluation.failed.len(), 1, "told once, {evaluation:?}");
    assert_eq!(evaluation.failed[0].1.kind(), ErrorKind::Panicked);
    assert!(evaluation.resolved.is_empty(), "it is as it was: {evaluation:?}");
    assert!(alerts.alerts().iter().all(|alert| alert.state == AlertState::Firing));
    assert_eq!(alerts.alerts().len(), 2);
}

/// Panics at the first value that is negative.
struct Brittle(Cusum);

impl ChangeDetector for Brittle {
    fn name(&self) -> &str {
        "brittle"
    }

    fn update(&mut self, value: f64) -> bool {
        assert!(value >= 0.0, "less than nothing");
        self.0.update(value)
    }

    fn save(&self) -> Vec<f64> {
        self.0.save()
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        self.0.restore(state)
    }
}

#[test]
fn a_detector_that_panicked_goes_on_without_what_it_panicked_at() {
    let timed = Timed::new();
    let minute = Duration::from_secs(60);
    let changes = Condition::of("seconds").window(minute).changes(|| Brittle(Cusum::new(1.0, 0.1)));
    let alerts = AlertEngine::builder(&timed.monitor).rule(AlertRule::new("moved", changes)).build().unwrap();
    let look = |value: f64| {
        timed.monitor.record("seconds", value, &[]);
        timed.pass(60);
        let evaluation = alerts.evaluate();
        (evaluation.fired.len(), evaluation.failed.len())
    };
    for _ in 0..5 {
        assert_eq!(look(1.0), (0, 0));
    }
    assert_eq!(look(-1.0), (0, 1));
    assert_eq!(look(1.0), (0, 0));
    let told: usize = (0..10).map(|_| look(2.0)).map(|(fired, failed)| fired + 100 * failed).sum();
    assert_eq!(told, 1);
}

/// Calls the monitor it is restored from.
struct Nosy(PerformanceMonitor);

impl ChangeDetector for Nosy {
    fn name(&self) -> &str {
        "nosy"
    }

    fn update(&mut self, _: f64) -> bool {
        false
    }

    fn save(&self) -> Vec<f64> {
        self.0.forget_detector("another");
        vec![1.0]
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        assert_eq!(state, [1.0]);
        self.0.save_detector("another", &Cusum::standard());
        Ok(())
    }
}

#[test]
fn a_detector_may_call_its_monitor() {
    let monitor = Timed::new().monitor;
    let mut nosy = Nosy(monitor.clone());
    monitor.save_detector("nosy", &nosy);
    assert!(monitor.restore_detector("nosy", &mut nosy).unwrap());
    assert!(monitor.restore_detector("another", &mut Cusum::standard()).unwrap());
}

#[test]
fn durations_without_end_are_answered() {
    let timed = Timed::new();
    timed.monitor.record("x", 1.0, &[]);
    let select = timed.monitor.select("x");
    for window in [Window::last(Duration::MAX), Window::before(Duration::ZERO, Duration::MAX)] {
        assert!(select.summary(window).unwrap().count <= 1);
        select.points(window).unwrap();
    }
    assert_eq!(select.summary(Window::before(Duration::MAX, Duration::MAX)).unwrap().count, 0);
    let change = Condition::of("x").changes(Cusum::standard).window(Duration::MAX);
    let refused = AlertEngine::builder(&timed.monitor).rule(AlertRule::new("r", change)).build().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
    assert!(refused.to_string().contains("at most a week"), "{refused}");
    let always = Condition::of("x").above(0.5).window(Duration::MAX);
    let alerts = AlertEngine::builder(&timed.monitor).rule(AlertRule::new("r", always)).build().unwrap();
    assert_eq!(alerts.evaluate().fired.len(), 1);
    let forever = alerts.silence([Matcher::is("alertname", "r")], Duration::MAX, "ann", "for ever");
    assert!(forever.unwrap().until > start() + TimeDelta::weeks(52 * 1_000));
}

#[test]
fn counts_beyond_what_a_counter_holds_panic_nowhere() {
    let timed = Timed::new();
    let counter = timed.monitor.counter("bytes", &[]);
    for _ in 0..3 {
        counter.add(u64::MAX);
        timed.pass(61);
        timed.monitor.select("bytes").total().unwrap();
        timed.monitor.select("bytes").summary(Window::last(Duration::from_secs(86_400))).unwrap();
        timed.monitor.expose("");
    }
}

/// The clock is ten years ahead, an alert is told, the process ends, and the clock is right again.
#[tokio::test]
async fn alerts_noted_by_a_clock_that_was_ahead_are_told_of_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alerts");
    let engine = |at| {
        let clock = FakeClock::new(at);
        let monitor = PerformanceMonitor::builder().clock(clock.clone()).build().unwrap();
        let ops = RecordingNotifier::new();
        let over = Condition::of("load").last().above(1.0);
        let alerts = AlertEngine::builder(&monitor)
            .rule(AlertRule::new("over", over).each("host"))
            .route(Route::new("ops", ops.clone()))
            .file(&file)
            .build()
            .unwrap();
        (Timed { monitor, clock }, alerts, ops)
    };
    let load = |timed: &Timed, host| timed.monitor.record("load", Measurement::Gauge(2.0), &[("host", host)]);
    let (timed, alerts, ops) = engine(start() + TimeDelta::days(3_650));
    load(&timed, "a");
    alerts.evaluate();
    timed.pass(30);
    alerts.deliver().await;
    assert_eq!(ops.take().len(), 1);
    drop((alerts, timed));

    let (timed, alerts, ops) = engine(start());
    let since = alerts.alerts().iter().map(|alert| alert.since).max();
    assert_eq!(since, Some(start()));
    for host in ["a", "b"] {
        load(&timed, host);
    }
    alerts.evaluate();
    timed.pass(300);
    alerts.deliver().await;
    let told = ops.take();
    assert_eq!(told.len(), 1, "the one that is new");
    assert!(told[0].alerts.iter().any(|alert| alert.labels["host"] == "b"), "{told:?}");
    timed.pass(4 * 3_600);
    for host in ["a", "b"] {
        load(&timed, host);
    }
    alerts.evaluate();
    alerts.deliver().await;
    assert_eq!(ops.take().len(), 1, "repeated");
}

/// Always says of the host `a` that it may be told later.
struct ChokesOnA(RecordingNotifier);

#[async_trait::async_trait]
impl Notifier for ChokesOnA {
    async fn notify(&self, told: &Notification) -> std::result::Result<(), NotifyError> {
        if told.group["host"] == "a" {
            return Err(NotifyError::later("500"));
        }
        self.0.notify(told).await
    }
}

#[tokio::test]
async fn a_group_that_a_receiver_chokes_on_holds_up_no_other() {
    let (timed, ops) = (Timed::new(), RecordingNotifier::new());
    let over = AlertRule::new("over", Condition::of("load").last().above(1.0)).each("host");
    let alerts = AlertEngine::builder(&timed.monitor)
        .rule(over.severity(Severity::Critical))
        .route(Route::new("ops", ChokesOnA(ops.clone())).group_by(["host"]))
        .build()
        .unwrap();
    let round = async |host| {
        timed.monitor.record("load", Measurement::Gauge(2.0), &[("host", host)]);
        alerts.evaluate();
        let tried = alerts.deliver().await.failed.len();
        timed.pass(400);
        (tried, ops.take().len())
    };
    assert_eq!(round("a").await, (1, 0));
    assert_eq!(round("b").await, (1, 1));
    assert_eq!(round("c").await, (1, 1), "and a is still tried");
    assert_eq!(alerts.routes()[0].pending, 1);
}

#[test]
fn a_receiver_may_ask_for_a_pause_and_not_for_a_day() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for (asked, pause) in [(60, 60), (86_400, 300), (u64::MAX, 300)] {
        let timed = Timed::new();
        let busy = move |_: &Notification| Err(NotifyError::later("busy").after(Duration::from_secs(asked)));
        let alerts = AlertEngine::builder(&timed.monitor)
            .rule(
                AlertRule::new("over", Condition::of("load").last().above(1.0)).severity(Severity::Critical),
            )
            .route(Route::new("ops", FnNotifier::new(busy)))
            .build()
            .unwrap();
        timed.monitor.record("load", Measurement::Gauge(2.0), &[]);
        alerts.evaluate();
        assert_eq!(runtime.block_on(alerts.deliver()).failed.len(), 1);
        assert_eq!(alerts.routes()[0].next_try, Some(start() + TimeDelta::seconds(pause)));
        timed.pass(pause as u64 - 1);
        assert_eq!(runtime.block_on(alerts.deliver()).failed.len(), 0);
        timed.pass(1);
        assert_eq!(runtime.block_on(alerts.deliver()).failed.len(), 1);
    }
}

#[tokio::test]
async fn of_what_came_and_went_those_are_told_who_were_to_hear_of_it() {
    let (timed, ops, boss) = (Timed::new(), RecordingNotifier::new(), RecordingNotifier::new());
    let over = AlertRule::new("over", Condition::of("load").last().above(1.0)).each("host");
    let alerts = AlertEngine::builder(&timed.monitor)
        .rule(over.severity(Severity::Critical))
        .route(Route::new("ops", ops.clone()))
        .route(Route::new("boss", boss.clone()).escalation(Duration::from_secs(900)))
        .build()
        .unwrap();
    let hour = Duration::from_secs(3_600);
    alerts.silence([Matcher::is("host", "silenced")], hour, "ann", "it is being moved").unwrap();
    ops.fail(1_000);
    for load in [2.0, 0.0] {
        for host in ["silenced", "a"] {
            timed.monitor.record("load", Measurement::Gauge(load), &[("host", host)]);
        }
        alerts.evaluate();
        alerts.deliver().await;
        timed.pass(600);
    }
    timed.pass(600);
    ops.fail(0);
    alerts.deliver().await;
    let told = ops.take();
    let hosts: Vec<&str> =
        told.iter().flat_map(|told| &told.alerts).map(|alert| &*alert.labels["host"]).collect();
    assert_eq!(hosts, ["a"]);
    assert_eq!(boss.take(), [], "it was over before it was due there");
    assert_eq!(alerts.alerts(), []);
}

/// Tells that it was called, and returns when it is let go.
struct Held(tokio::sync::mpsc::UnboundedSender<()>, tokio::sync::Semaphore);

#[async_trait::async_trait]
impl Notifier for Held {
    async fn notify(&self, _: &Notification) -> std::result::Result<(), NotifyError> {
        self.0.send(()).unwrap();
        self.1.acquire().await.unwrap().forget();
        Ok(())
    }
}

#[tokio::test]
async fn two_that_deliver_at_once_tell_once() {
    let timed = Timed::new();
    let (sender, mut called) = tokio::sync::mpsc::unbounded_channel();
    let held = std::sync::Arc::new(Held(sender, tokio::sync::Semaphore::new(0)));
    let alerts = AlertEngine::builder(&timed.monitor)
        .rule(AlertRule::new("over", Condition::of("load").last().above(1.0)).severity(Severity::Critical))
        .route(Route::new("ops", held.clone()))
        .build()
        .unwrap();
    timed.monitor.record("load", Measurement::Gauge(2.0), &[]);
    alerts.evaluate();
    let let_go = async {
        called.recv().await.unwrap();
        // As long as the other one takes to see what is due.
        tokio::task::spawn_blocking(|| ()).await.unwrap();
        held.1.add_permits(2);
    };
    let (one, other, ()) = tokio::join!(alerts.deliver(), alerts.deliver(), let_go);
    assert_eq!(one.delivered + other.delivered, 1);
}

#[test]
fn a_silence_made_by_a_clock_that_was_ahead_lasts_as_long_as_it_was_to() {
    let folder = tempfile::tempdir().unwrap();
    let engine = |at| {
        let monitor = PerformanceMonitor::builder().clock(FakeClock::new(at)).build().unwrap();
        AlertEngine::builder(&monitor).file(folder.path().join("alerts")).build().unwrap()
    };
    let ahead = engine(start() + TimeDelta::days(3_650));
    ahead.silence([Matcher::is("host", "a")], Duration::from_secs(7_200), "ann", "two hours").unwrap();
    drop(ahead);
    for _ in 0..2 {
        let silence = engine(start()).silences().remove(0);
        assert_eq!((silence.from, silence.until), (start(), start() + TimeDelta::hours(2)));
    }
}

#[test]
fn more_tags_than_anybody_has_are_left_out_and_spoil_no_snapshot() {
    let folder = tempfile::tempdir().unwrap();
    let timed = Timed::new();
    let value = "v".repeat(1_024);
    let names: Vec<String> = (0..70_000).map(|at| format!("{at:05}")).collect();
    let tags: Vec<(&str, &str)> = names.iter().rev().map(|name| (&**name, &*value)).collect();
    timed.monitor.record("x", 1.0, &tags);
    timed.monitor.record("x", 1.0, &tags[tags.len() - 64..]);
    timed.monitor.record("y", Measurement::Event("restarted"), &tags);
    assert_eq!(timed.monitor.metrics()[0].series, 1);
    assert_eq!(timed.monitor.select("x").tag("00063", &value).total().unwrap().count, 2);
    assert_eq!(timed.monitor.events()[0].tags.len(), 64);
    timed.monitor.snapshot(folder.path().join("metrics")).unwrap();
    let after = PerformanceMonitor::builder().restore(folder.path().join("metrics"));
    let after = after.clock(timed.clock.clone()).build().unwrap();
    assert!(matches!(after.restored(), Some(Restored::Complete { series: 2, .. })));
}
