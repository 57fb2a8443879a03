use std::time::Duration;

use swarm_monitor::testing::RecordingNotifier;
use swarm_monitor::{
    Adwin, AlertEngine, AlertEngineBuilder, AlertRule, AlertState, Condition, Cusum, ErrorKind, FnNotifier,
    Inhibition, Matcher, Measurement, NotifyError, PerformanceMonitor, Route, Severity,
};

use crate::Timed;

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A monitor, an engine on it, and somebody who is told.
struct Watched {
    timed: Timed,
    alerts: AlertEngine,
    ops: RecordingNotifier,
}

impl Watched {
    fn new(make: impl FnOnce(AlertEngineBuilder, RecordingNotifier) -> AlertEngineBuilder) -> Self {
        let (timed, ops) = (Timed::new(), RecordingNotifier::new());
        let alerts = make(AlertEngine::builder(&timed.monitor), ops.clone()).build().unwrap();
        Watched { timed, alerts, ops }
    }

    /// With a critical rule on a gauge, for each agent, told at once to `ops`.
    fn over(limit: f64, rule: impl FnOnce(AlertRule) -> AlertRule) -> Self {
        let condition = Condition::of("load").last().above(limit);
        let over = rule(AlertRule::new("over", condition).each("agent").severity(Severity::Critical));
        Watched::new(|builder, ops| builder.rule(over).route(Route::new("ops", ops)))
    }

    fn load(&self, agent: &str, load: f64) {
        self.timed.monitor.record("load", Measurement::Gauge(load), &[("agent", agent)]);
    }

    /// Some seconds pass, all is evaluated, and what is due is told: how many fire and were resolved in each notification.
    async fn pass(&self, seconds: u64) -> Vec<(usize, usize)> {
        self.timed.pass(seconds);
        let evaluation = self.alerts.evaluate();
        assert!(evaluation.failed.is_empty(), "{:?}", evaluation.failed);
        self.alerts.deliver().await;
        self.told()
    }

    fn told(&self) -> Vec<(usize, usize)> {
        let count = |state| {
            move |told: &swarm_monitor::Notification| {
                told.alerts.iter().filter(|alert| alert.state == state).count()
            }
        };
        let (firing, resolved) = (count(AlertState::Firing), count(AlertState::Resolved));
        self.ops.take().iter().map(|told| (firing(told), resolved(told))).collect()
    }

    fn states(&self) -> Vec<AlertState> {
        self.alerts.alerts().iter().map(|alert| alert.state).collect()
    }
}

#[tokio::test]
async fn an_alert_is_pending_then_firing_then_resolved_and_told_once_each() {
    let watched = Watched::over(5.0, |rule| rule.lasting(seconds(60)).keep_firing_for(seconds(30)));
    watched.load("a", 9.0);
    assert_eq!(watched.pass(10).await, []);
    assert_eq!(watched.states(), [AlertState::Pending]);
    assert_eq!(watched.pass(50).await, []);
    assert_eq!(watched.pass(10).await, [(1, 0)]);
    let alert = &watched.alerts.alerts()[0];
    assert_eq!((alert.state, alert.value), (AlertState::Firing, Some(9.0)));
    assert_eq!((alert.fired.unwrap() - alert.since).num_seconds(), 60);
    assert_eq!(alert.to_string(), "critical over firing agent=\"a\": load{agent=\"a\"} is 9, above 5");
    assert_eq!(watched.pass(600).await, []);
    watched.load("a", 1.0);
    assert_eq!(watched.pass(10).await, []);
    // It comes back within the time that it is kept firing.
    watched.load("a", 9.0);
    assert_eq!(watched.pass(10).await, []);
    watched.load("a", 1.0);
    assert_eq!(watched.pass(20).await, []);
    assert_eq!(watched.states(), [AlertState::Firing]);
    assert_eq!(watched.pass(300).await, [(0, 1)]);
    assert_eq!(watched.states(), []);
    assert_eq!(watched.pass(100_000).await, []);
}

#[tokio::test]
async fn what_did_not_last_is_never_told() {
    let watched = Watched::over(5.0, |rule| rule.lasting(seconds(60)));
    for _ in 0..5 {
        watched.load("a", 9.0);
        assert_eq!(watched.pass(50).await, []);
        watched.load("a", 1.0);
        assert_eq!(watched.pass(50).await, []);
        assert_eq!(watched.states(), []);
    }
}

#[tokio::test]
async fn no_data_neither_raises_nor_resolves() {
    let condition = Condition::of("seconds").mean().above(5.0).window(seconds(60));
    let rule = AlertRule::new("slow", condition).severity(Severity::Critical);
    let given_up = rule.clone().resolve_without_data_after(seconds(3_600));
    for (rule, after, expected) in [(rule.clone(), 100_000, vec![]), (given_up, 4_000, vec![(0, 1)])] {
        let watched = Watched::new(|builder, ops| {
            builder.rule(rule).route(Route::new("ops", ops).repeat_interval(seconds(1_000_000)))
        });
        assert_eq!(watched.pass(1).await, []);
        watched.timed.monitor.record("seconds", 9.0, &[]);
        assert_eq!(watched.pass(1).await, [(1, 0)]);
        assert_eq!(watched.pass(1_000).await, []);
        assert_eq!(watched.states(), [AlertState::Firing]);
        assert_eq!(watched.pass(after).await, expected);
    }
    // Pending begins anew after a gap.
    let watched = Watched::new(|builder, ops| {
        let condition = Condition::of("seconds").mean().above(5.0).window(seconds(30));
        let rule = AlertRule::new("slow", condition).lasting(seconds(300)).severity(Severity::Critical);
        builder.rule(rule).route(Route::new("ops", ops))
    });
    watched.timed.monitor.record("seconds", 9.0, &[]);
    assert_eq!(watched.pass(1).await, []);
    assert_eq!(watched.pass(200).await, []);
    assert_eq!(watched.states(), []);
    watched.timed.monitor.record("seconds", 9.0, &[]);
    assert_eq!(watched.pass(200).await, []);
}

/// The founding metric: a task takes a third longer than in the week before.
#[tokio::test]
async fn drift_is_looked_at_once_in_a_window() {
    let rule = AlertRule::new("cycle_time", Condition::of("agent_cycle_time").drifts(0.2))
        .severity(Severity::Critical);
    let watched = Watched::new(|builder, ops| builder.rule(rule).route(Route::new("ops", ops)));
    let monitor = &watched.timed.monitor;
    let wobble = |at: u64| 1.0 + ((at * 7_919 % 101) as f64 - 50.0) / 1_000.0;
    for at in 0..168 * 10 {
        monitor.record("agent_cycle_time", 45.2 * wobble(at), &[]);
        watched.timed.pass(360);
    }
    assert_eq!(watched.pass(1).await, []);
    for at in 0..60 {
        monitor.record("agent_cycle_time", 60.0 * wobble(at), &[]);
        let told = watched.pass(60).await;
        assert_eq!(told, if at == 59 { vec![(1, 0)] } else { vec![] }, "{at}");
    }
    let summary = watched.alerts.alerts()[0].summary().to_owned();
    assert!(summary.starts_with("agent_cycle_time drifted: mean 59.98 in 60 values"), "{summary}");
}

#[tokio::test]
async fn a_change_of_level_is_told_once_and_the_detector_survives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let snapshot = folder.path().join("metrics");
    let rule = || {
        let condition = Condition::of("queue").window(seconds(60)).changes(|| Cusum::new(20.0, 4.0));
        AlertRule::new("queue_moved", condition).severity(Severity::Critical)
    };
    let watched = Watched::new(|builder, ops| builder.rule(rule()).route(Route::new("ops", ops)));
    let level = |at: u64| if at < 30 { 20.0 } else { 26.0 };
    let mut fired = Vec::new();
    for at in 0..45_u64 {
        watched.timed.monitor.record("queue", level(at) + (at % 3) as f64 - 1.0, &[]);
        if !watched.pass(60).await.is_empty() {
            fired.push(at);
        }
    }
    // 1.5 deviations less 0.5 for each minute, and a threshold of 5. It is over after a minute, which is told five minutes later.
    assert_eq!(fired, [35, 40]);
    watched.timed.monitor.snapshot(&snapshot).unwrap();
    let monitor =
        PerformanceMonitor::builder().restore(&snapshot).clock(watched.timed.clock.clone()).build().unwrap();
    let mut cusum = Cusum::new(20.0, 4.0);
    assert!(monitor.restore_detector("alert queue_moved", &mut cusum).unwrap());
    assert_ne!(cusum, Cusum::new(20.0, 4.0));
}

#[tokio::test]
async fn alerts_of_a_group_are_told_together_and_a_critical_one_at_once() {
    let condition = |limit| Condition::of("load").last().above(limit);
    let watched = Watched::new(|builder, ops| {
        builder
            .rule(AlertRule::new("high", condition(5.0)).each("agent"))
            .rule(AlertRule::new("too_high", condition(50.0)).each("agent").severity(Severity::Critical))
            .route(Route::new("ops", ops).group_by(["agent"]))
    });
    watched.load("a", 9.0);
    assert_eq!(watched.pass(1).await, []);
    watched.load("b", 9.0);
    assert_eq!(watched.pass(15).await, []);
    // Of either agent 30 seconds after the first.
    assert_eq!(watched.pass(15).await, [(1, 0)]);
    assert_eq!(watched.pass(15).await, [(1, 0)]);
    watched.load("a", 90.0);
    assert_eq!(watched.pass(1).await, [(2, 0)]);
    watched.load("a", 9.0);
    assert_eq!(watched.pass(200).await, []);
    assert_eq!(watched.pass(100).await, [(1, 1)]);
    assert_eq!(watched.pass(4 * 3_600 - 200).await, [(1, 0)], "b is repeated");
    assert_eq!(watched.pass(200).await, [(1, 0)], "and then a");
}

#[tokio::test]
async fn an_acknowledged_alert_is_neither_repeated_nor_escalated() {
    let (timed, ops, boss) = (Timed::new(), RecordingNotifier::new(), RecordingNotifier::new());
    let rule = AlertRule::new("over", Condition::of("load").last().above(5.0)).severity(Severity::Critical);
    let alerts = AlertEngine::builder(&timed.monitor)
        .rule(rule)
        .rule(AlertRule::new("warned", Condition::of("load").last().above(5.0)))
        .route(
            Route::new("ops", ops.clone())
                .only(Matcher::is("severity", "critical"))
                .repeat_interval(seconds(600)),
        )
        .route(Route::new("boss", boss.clone()).escalation(seconds(900)))
        .build()
        .unwrap();
    let look = async |passed| {
        timed.pass(passed);
        alerts.evaluate();
        alerts.deliver().await;
        (ops.take().len(), boss.take().len())
    };
    let load = |load| timed.monitor.record("load", Measurement::Gauge(load), &[]);
    load(9.0);
    assert_eq!(look(1).await, (1, 0));
    let id = alerts.alerts()[0].id.clone();
    assert_eq!(alerts.acknowledge("no such", "ann", "").unwrap_err().kind(), ErrorKind::NotFound);
    let alert = alerts.acknowledge(&id, "ann", "on it").unwrap();
    assert_eq!(alert.acknowledged.unwrap().by, "ann");
    assert_eq!(look(100_000).await, (0, 0));
    load(1.0);
    assert_eq!(look(1_000).await, (1, 0), "the end is told to who knows of it");
    // The next time nobody takes it on.
    load(9.0);
    assert_eq!(look(1).await, (1, 0));
    assert_eq!(look(898).await, (1, 0));
    assert_eq!(look(2).await, (0, 1));
    assert_eq!(alerts.acknowledge(&id, "ann", "").unwrap().acknowledged.unwrap().note, "");
    load(1.0);
    assert_eq!(look(1_000).await, (1, 1), "and the end to whom it was escalated");
}

#[tokio::test]
async fn a_silence_is_kept_and_ends_and_the_end_of_what_was_told_is_told_all_the_same() {
    let watched = Watched::over(5.0, |rule| rule);
    watched.load("a", 9.0);
    assert_eq!(watched.pass(1).await, [(1, 0)]);
    let error = watched.alerts.silence([], seconds(60), "ann", "all").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let by_agent = |agent: &str| [Matcher::is("agent", agent), Matcher::is_not("team", "payments")];
    let silence = watched.alerts.silence(by_agent("b"), seconds(3_600), "ann", "moved today").unwrap();
    watched.alerts.silence(by_agent("a"), seconds(3_600), "ann", "too").unwrap();
    watched.load("b", 9.0);
    watched.load("c", 9.0);
    assert_eq!(watched.pass(1).await, [(1, 0)], "of c alone");
    watched.load("a", 1.0);
    assert_eq!(watched.pass(300).await, [(1, 1)]);
    assert_eq!(watched.pass(3_000).await, []);
    assert_eq!(watched.alerts.silences().len(), 2);
    assert_eq!(watched.pass(400).await, [(2, 0)], "it is over, and b still fires");
    assert_eq!(watched.alerts.silences(), []);
    assert_eq!(watched.alerts.unsilence(silence.id).unwrap_err().kind(), ErrorKind::NotFound);
    let silence = watched.alerts.silence(by_agent("d"), seconds(3_600), "ann", "").unwrap();
    watched.load("d", 9.0);
    assert_eq!(watched.pass(1).await, []);
    watched.alerts.unsilence(silence.id).unwrap();
    assert_eq!(watched.pass(1).await, [(3, 0)]);
}

#[tokio::test]
async fn an_alert_that_explains_others_keeps_them_quiet() {
    let above = |limit| Condition::of("load").last().above(limit);
    let critical = |rule: AlertRule| rule.each("agent").severity(Severity::Critical);
    let watched = Watched::new(|builder, ops| {
        builder
            .rule(critical(AlertRule::new("down", above(50.0))))
            .rule(critical(AlertRule::new("slow", above(5.0))))
            .inhibit(
                Inhibition::new([Matcher::is("alertname", "down")], [Matcher::is("alertname", "slow")])
                    .equal("agent"),
            )
            .route(Route::new("ops", ops))
    });
    watched.load("a", 90.0);
    watched.load("b", 9.0);
    assert_eq!(watched.pass(1).await, [(1, 0), (1, 0)], "a is down, b is slow");
    assert_eq!(watched.states().len(), 3);
    watched.load("a", 9.0);
    assert_eq!(watched.pass(1).await, [(2, 0)], "now a is slow");
    assert_eq!(watched.pass(300).await, [(0, 1)], "and not down any more");
}

#[tokio::test]
async fn a_route_that_fails_is_tried_again_later_and_loses_nothing() {
    let watched = Watched::over(5.0, |rule| rule);
    watched.ops.fail(1_000_000);
    watched.load("a", 9.0);
    let mut tries = Vec::new();
    for _ in 0..3_600 {
        let before = watched.ops.tries();
        assert_eq!(watched.pass(1).await, []);
        tries.push(watched.ops.tries() - before);
    }
    // After 1, 2, 4, … and then every five minutes.
    let tried: usize = tries.iter().sum();
    assert!((16..=24).contains(&tried), "{tried}");
    let status = &watched.alerts.routes()[0];
    assert_eq!((status.pending, status.delivered, status.failed), (1, 0, tried as u64));
    assert!(
        status.next_try.is_some()
            && status.last_error.as_deref() == Some("out of reach, as it was asked to be")
    );
    // It came and went meanwhile, and being critical is told when the receiver is back.
    watched.load("b", 9.0);
    watched.pass(1).await;
    watched.load("b", 1.0);
    watched.pass(1).await;
    watched.ops.fail(0);
    assert_eq!(watched.pass(400).await, [(1, 1)]);
    assert_eq!(watched.alerts.routes()[0].next_try, None);
}

#[tokio::test]
async fn what_is_refused_does_not_hold_up_the_rest() {
    let watched = Watched::new(|builder, ops| {
        let over = AlertRule::new("over", Condition::of("load").last().above(5.0)).each("agent");
        builder.rule(over.severity(Severity::Critical)).route(Route::new("ops", ops).group_by(["agent"]))
    });
    watched.ops.refuse(1);
    for agent in ["a", "b", "c"] {
        watched.load(agent, 9.0);
    }
    assert_eq!(watched.pass(1).await, [(1, 0), (1, 0)]);
    assert_eq!(watched.ops.tries(), 3);
    assert_eq!(watched.pass(5).await, [(1, 0)]);
}

#[tokio::test]
async fn a_notifier_that_panics_or_hangs_has_failed() {
    let timed = Timed::new();
    timed.monitor.record("x", 9.0, &[]);
    let hangs = RecordingNotifier::new();
    struct Hangs(RecordingNotifier);
    #[async_trait::async_trait]
    impl swarm_monitor::Notifier for Hangs {
        async fn notify(&self, told: &swarm_monitor::Notification) -> Result<(), NotifyError> {
            self.0.notify(told).await?;
            std::future::pending().await
        }
    }
    let alerts = AlertEngine::builder(&timed.monitor)
        .rule(AlertRule::new("over", Condition::of("x").above(5.0)).severity(Severity::Critical))
        .route(Route::new("panics", FnNotifier::new(|_| panic!("on purpose"))))
        .route(Route::new("hangs", Hangs(hangs.clone())).time_out(Duration::from_millis(20)))
        .build()
        .unwrap();
    alerts.evaluate();
    let delivery = alerts.deliver().await;
    let failed: Vec<String> =
        delivery.failed.iter().map(|(route, error)| format!("{route}: {error}")).collect();
    assert_eq!(failed, ["panics: the notifier panicked", "hangs: no answer in 20ms"]);
    assert_eq!(hangs.told().len(), 1);
    timed.pass(2);
    alerts.deliver().await;
    let ids: Vec<String> = hangs.told().into_iter().map(|told| told.id).collect();
    assert_eq!(ids[0], ids[1], "what is told again has the same id");
}

#[tokio::test]
async fn a_storm_stays_bounded_and_loses_no_first_critical() {
    // SWARM_LONG=1 makes it 100,000 breaches at once.
    let rules = if std::env::var_os("SWARM_LONG").is_some() { 100 } else { 20 };
    let (timed, ops) = (Timed::new(), RecordingNotifier::new());
    let above = || Condition::of("load").window(seconds(60)).above(5.0);
    let mut builder = AlertEngine::builder(&timed.monitor)
        .alert_limit(300)
        .rule(
            AlertRule::new("critical", Condition::of("vital").window(seconds(60)).above(5.0))
                .severity(Severity::Critical),
        )
        .route(Route::new("ops", ops.clone()));
    for rule in 0..rules {
        builder = builder.rule(AlertRule::new(format!("storm-{rule}"), above()).each("agent"));
    }
    let alerts = builder.build().unwrap();
    for agent in 0..1_000 {
        timed.monitor.record("load", 9.0, &[("agent", &agent.to_string())]);
    }
    timed.monitor.record("vital", 9.0, &[]);
    ops.fail(1);
    let evaluation = alerts.evaluate();
    // Of each rule as many as there is room for, and one for the other 700.
    assert_eq!(evaluation.fired.len(), rules * 301 + 1);
    let overflow = evaluation.fired.iter().find(|alert| alert.labels.contains_key("overflow")).unwrap();
    assert!(overflow.summary().ends_with("; the same for 699 others"), "{}", overflow.summary());
    alerts.deliver().await;
    timed.pass(2);
    alerts.evaluate();
    alerts.deliver().await;
    let first = ops.take();
    assert_eq!(first.len(), 1, "only the critical one waits for nothing");
    assert_eq!(first[0].alerts[0].rule, "critical");
    // The same again makes no more of them.
    for _ in 0..2 {
        for agent in 0..1_000 {
            timed.monitor.record("load", 9.0, &[("agent", &agent.to_string())]);
        }
        timed.pass(15);
        assert_eq!(alerts.evaluate().fired.len(), 0);
    }
    assert_eq!(alerts.alerts().len(), rules * 301 + 1);
    timed.pass(1);
    alerts.deliver().await;
    let told = ops.take();
    assert_eq!(told.len(), rules, "one a group");
    assert!(told.iter().all(|told| told.alerts.len() == 301));
    assert_eq!(alerts.routes()[0].pending, 0);
}

#[tokio::test]
async fn more_than_fits_in_one_notification_goes_in_several() {
    let watched = Watched::over(5.0, |rule| rule);
    for agent in 0..900 {
        watched.load(&agent.to_string(), 9.0);
    }
    assert_eq!(watched.pass(1).await, [(500, 0), (400, 0)]);
    for agent in 0..900 {
        watched.load(&agent.to_string(), 1.0);
    }
    assert_eq!(watched.pass(300).await, [(0, 500), (0, 400)]);
    assert_eq!(watched.states(), []);
}

#[tokio::test]
async fn running_tells_by_itself() {
    let monitor = PerformanceMonitor::new();
    let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
    let alerts = AlertEngine::builder(&monitor)
        .interval(Duration::from_millis(5))
        .rule(AlertRule::new("over", Condition::of("x").above(5.0)).severity(Severity::Critical))
        .route(Route::new(
            "ops",
            FnNotifier::new(move |told| sender.send(told.title()).map_err(|_| NotifyError::never("gone"))),
        ))
        .build()
        .unwrap();
    monitor.record("x", 9.0, &[]);
    let told = tokio::select! {
        () = alerts.run() => unreachable!("it runs for ever"),
        told = receiver.recv() => told,
    };
    assert_eq!(told.as_deref(), Some("1 firing · over"));
}

#[test]
fn all_that_is_not_acceptable_is_told_at_once() {
    let monitor = PerformanceMonitor::new();
    let error = AlertEngine::builder(&monitor)
        .rule(AlertRule::new("twice", Condition::of("x").above(f64::NAN)))
        .rule(AlertRule::new("twice", Condition::of("x")))
        .rule(AlertRule::new("q", Condition::of("x").quantile(2.0).above(1.0)).label("severity", "high"))
        .rule(AlertRule::new("moment", Condition::of("x").changes(Adwin::default)).lasting(seconds(1)))
        .route(Route::new("", RecordingNotifier::new()))
        .interval(Duration::ZERO)
        .alert_limit(0)
        .build()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    for part in [
        "NaN",
        "two rules",
        "says nothing",
        "not 2",
        "\"severity\"",
        "cannot last",
        "route's name",
        "interval",
        "alert_limit",
    ] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
}
