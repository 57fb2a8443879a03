//! Receivers that take each thing once, that are slow, or that do not answer.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use swarm_monitor::testing::RecordingNotifier;
use swarm_monitor::{
    AlertEngine, AlertRule, Condition, FnNotifier, Measurement, Notification, Notifier, NotifyError, Route,
    Severity,
};
use tokio::sync::Semaphore;

use super::Timed;
use super::alerts::seconds;

/// A receiver that takes each id once hears of a repeat all the same.
#[tokio::test]
async fn a_repeat_has_an_id_of_its_own_and_keeps_it_over_its_tries() {
    let timed = Timed::new();
    let tried: Arc<Mutex<Vec<String>>> = Arc::default();
    let ids = tried.clone();
    let fails_first = FnNotifier::new(move |told| {
        let mut ids = ids.lock().unwrap();
        ids.push(told.id.clone());
        if ids.len() % 2 == 1 { Err(NotifyError::later("once more")) } else { Ok(()) }
    });
    let alerts = AlertEngine::builder(&timed.monitor)
        .rule(AlertRule::new("over", Condition::of("load").last().above(5.0)).severity(Severity::Critical))
        .route(Route::new("ops", fails_first).repeat_interval(seconds(600)))
        .build()
        .unwrap();
    timed.monitor.record("load", Measurement::Gauge(9.0), &[]);
    for passed in [1, 2, 600, 2] {
        timed.pass(passed);
        alerts.evaluate();
        alerts.deliver().await;
    }
    let tried = tried.lock().unwrap();
    assert_eq!(tried.len(), 4);
    assert!(tried[0] == tried[1] && tried[2] == tried[3] && tried[1] != tried[2], "{tried:?}");
}

/// Answers when it is allowed to, and says when it was told.
#[derive(Clone)]
struct Slow {
    told: RecordingNotifier,
    began: Arc<Semaphore>,
    may_answer: Arc<Semaphore>,
}

#[async_trait::async_trait]
impl Notifier for Slow {
    async fn notify(&self, told: &Notification) -> Result<(), NotifyError> {
        self.told.notify(told).await?;
        self.began.add_permits(1);
        self.may_answer.acquire().await.unwrap().forget();
        Ok(())
    }
}

/// Whether it is slow, or never answers.
#[tokio::test]
async fn who_was_being_told_of_an_alert_while_it_ended_is_told_of_its_end() {
    for answers in [true, false] {
        let timed = Timed::new();
        let slow = Slow {
            told: RecordingNotifier::new(),
            began: Arc::new(Semaphore::new(0)),
            may_answer: Arc::new(Semaphore::new(0)),
        };
        let time_out = if answers { seconds(600) } else { Duration::from_millis(20) };
        let alerts = AlertEngine::builder(&timed.monitor)
            .rule(AlertRule::new("over", Condition::of("load").last().above(5.0)).severity(Severity::Warning))
            .route(Route::new("ops", slow.clone()).time_out(time_out))
            .build()
            .unwrap();
        let load = |load| timed.monitor.record("load", Measurement::Gauge(load), &[]);
        load(9.0);
        timed.pass(1);
        alerts.evaluate();
        timed.pass(60);
        load(1.0);
        let ends = async {
            slow.began.acquire().await.unwrap().forget();
            assert_eq!(alerts.evaluate().resolved.len(), 1);
            if answers {
                slow.may_answer.add_permits(1);
            }
        };
        let (delivery, ()) = tokio::join!(alerts.deliver(), ends);
        assert_eq!((delivery.delivered, delivery.failed.len()), if answers { (1, 0) } else { (0, 1) });
        timed.pass(600);
        alerts.evaluate();
        slow.may_answer.add_permits(1);
        alerts.deliver().await;
        let titles: Vec<String> = slow.told.take().iter().map(Notification::title).collect();
        assert_eq!(titles, ["1 firing · over", "1 resolved · over"], "answers: {answers}");
        timed.pass(1);
        alerts.evaluate();
        assert_eq!(alerts.alerts(), []);
    }
}

/// Who said no, or was not asked, has not heard of it.
#[tokio::test]
async fn who_refused_to_hear_of_an_alert_is_not_told_of_its_end() {
    let (timed, ops) = (Timed::new(), RecordingNotifier::new());
    let alerts = AlertEngine::builder(&timed.monitor)
        .rule(AlertRule::new("over", Condition::of("load").last().above(5.0)).severity(Severity::Warning))
        .route(Route::new("ops", ops.clone()))
        .build()
        .unwrap();
    ops.refuse(1);
    for load in [9.0, 9.0, 1.0, 1.0] {
        timed.monitor.record("load", Measurement::Gauge(load), &[]);
        timed.pass(60);
        alerts.evaluate();
        if load > 5.0 {
            alerts.deliver().await;
        }
    }
    assert_eq!((ops.tries(), alerts.alerts()), (1, vec![]));
}
