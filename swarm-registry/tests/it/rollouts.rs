//! Plans, and what becomes of them. The clock moves by itself when a driver sleeps, so that days pass in no time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use swarm_registry::testing::{FakeClock, Fault, FaultyStore};
use swarm_registry::{
    Criterion, DeploymentCause, ErrorKind, Event, EventKind, Judge, Measure, MetricSource,
    ObjectVersionStore, Observed, OnDeadline, Retention, Rollout, RolloutChange, RolloutPhase, RolloutStep,
    Split, StepEnd, Version, VersionRegistry, Window,
};

type Answer = Result<Observed, Box<dyn std::error::Error + Send + Sync>>;

/// Answers by a function of the window.
pub(crate) struct Source<F>(pub(crate) F);

#[async_trait]
impl<F: Fn(&Window) -> Answer + Send + Sync + 'static> MetricSource for Source<F> {
    async fn observe(&self, window: &Window) -> Answer {
        self.0(window)
    }
}

pub(crate) fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

pub(crate) fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

pub(crate) fn judge() -> Judge {
    Judge::new([Criterion::higher_is_better("success").tolerance_absolute(0.01)]).sequential(10_000)
}

/// So many requests a minute, of which a share succeeds.
pub(crate) fn successes(window: &Window, share: f64) -> Observed {
    let trials = (window.until - window.since).num_minutes() as u64 * 20;
    let successes = (trials as f64 * share) as u64;
    Observed::new().metric("success", Measure::Proportion { successes, trials })
}

pub(crate) fn fine() -> Source<impl Fn(&Window) -> Answer + Send + Sync> {
    Source(|window: &Window| Ok(successes(window, 0.99)))
}

/// The candidate does badly.
pub(crate) fn bad() -> Source<impl Fn(&Window) -> Answer + Send + Sync> {
    Source(|window: &Window| Ok(successes(window, if window.version == "v2" { 0.80 } else { 0.99 })))
}

/// Nothing is ever measured.
pub(crate) fn silent() -> Source<impl Fn(&Window) -> Answer + Send + Sync> {
    Source(|_: &Window| Ok(Observed::new()))
}

/// v1, v2 and v3, of which the first serves all of production.
pub(crate) async fn prepared(clock: &FakeClock) -> (ObjectVersionStore, VersionRegistry) {
    let store = ObjectVersionStore::memory();
    let registry = opened(&store, clock).await;
    for version in ["v1", "v2", "v3"] {
        registry.register(Version::new(version).artifact(version)).await.unwrap();
    }
    registry.deploy("production", Split::all("v1")).await.unwrap();
    (store, registry)
}

pub(crate) async fn opened(store: &ObjectVersionStore, clock: &FakeClock) -> VersionRegistry {
    let builder = VersionRegistry::builder().clock(Arc::new(clock.clone()));
    builder.with_store(store.clone()).await.unwrap()
}

/// A fifth of the traffic, watched for a day, then all of it.
fn founding() -> Rollout {
    Rollout::new().weight(20.0).analysis(hours(24)).weight(100.0).judge(judge())
}

async fn changes(registry: &VersionRegistry) -> Vec<(i64, RolloutChange)> {
    let told = |event: Event| match event.kind {
        EventKind::Rollout(rollout) => Some(((event.at - start()).num_minutes(), rollout.change)),
        _ => None,
    };
    let changes = registry.history(1).await.unwrap().into_iter().filter_map(told);
    changes.collect()
}

fn advanced(by: StepEnd, step: usize) -> RolloutChange {
    RolloutChange::Advanced { by, step, phase: RolloutPhase::Running }
}

#[tokio::test]
async fn a_fifth_for_a_day_then_everybody_then_back() {
    let clock = FakeClock::hurried(start());
    let (_, registry) = prepared(&clock).await;
    let router = registry.router("production").await.unwrap();
    let begun = registry.acting_as("Agent-8").start_rollout("production", "v2", &founding()).await.unwrap();
    assert_eq!((begun.candidate(), begun.baseline(), begun.actor()), ("v2", "v1", Some("Agent-8")));
    assert_eq!(begun.current_step(), Some(&RolloutStep::Weight(20.0)));
    assert_eq!(registry.deployment("production").await.unwrap().number(), 1, "nothing is deployed yet");

    let ended = registry.drive_rollout("production", &fine()).await.unwrap();
    assert_eq!((ended.phase(), ended.step(), ended.current_step()), (RolloutPhase::Completed, 3, None));
    assert_eq!(router.route("anyone"), "v2");
    let completed =
        RolloutChange::Advanced { by: StepEnd::Weighted, step: 3, phase: RolloutPhase::Completed };
    assert_eq!(
        changes(&registry).await,
        [
            (0, RolloutChange::Started { candidate: "v2".into() }),
            (0, advanced(StepEnd::Weighted, 1)),
            (24 * 60, advanced(StepEnd::Passed, 2)),
            (24 * 60, completed),
        ]
    );
    let deployments = registry.deployments("production").await.unwrap();
    let fifth = Split::of([("v1", 80.0), ("v2", 20.0)]).unwrap();
    assert_eq!(deployments[1].split(), fifth);
    assert_eq!(deployments[1].cause(), DeploymentCause::RolledOut(begun.id()));

    // The whole rollout is one deployment to go back from.
    let back = registry.rollback("production").await.unwrap();
    assert_eq!((back.split(), back.good()), (Split::all("v1"), &[][..]));
}

#[tokio::test]
async fn a_candidate_that_fails_is_taken_back_at_once_and_every_user_with_it() {
    let clock = FakeClock::hurried(start());
    let (_, registry) = prepared(&clock).await;
    let before =
        Split::of([("v1", 70.0), ("v3", 30.0)]).unwrap().pin("tester", "v3").mirror("v3", 1.0).unwrap();
    registry.deploy("production", before.clone()).await.unwrap();
    let slots = registry.deployment("production").await.unwrap().slots();
    let begun = registry.start_rollout("production", "v2", &founding()).await.unwrap();
    let ended = registry.drive_rollout("production", &bad()).await.unwrap();
    assert_eq!(ended.phase(), RolloutPhase::Failed);
    assert!(ended.reason().unwrap().starts_with("Fail success: 0.98"), "{ended}");
    assert!(clock_minutes(&clock) < 12 * 60, "it does not take the day: {}", clock_minutes(&clock));
    let now = registry.deployment("production").await.unwrap();
    assert_eq!((now.split(), now.slots()), (before, slots));
    assert_eq!(now.cause(), DeploymentCause::RolledBack(begun.origin()));
    assert_eq!(now.number(), 4, "one weight, and back");

    // Over is over: nobody gets past it.
    for refused in [
        registry.skip_rollout_step(&ended, "").await,
        registry.resume_rollout(&ended).await,
        registry.pause_rollout(&ended).await,
        registry.approve_rollout(&ended).await,
        registry.abort_rollout(&ended, "").await,
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidState);
    }
    let again = registry.drive_rollout("production", &fine()).await.unwrap();
    assert_eq!(again, ended);
    registry.start_rollout("production", "v2", &founding()).await.unwrap();
    assert_eq!(registry.rollouts("production").await.unwrap().len(), 2);
}

fn clock_minutes(clock: &FakeClock) -> i64 {
    use swarm_registry::Clock;
    (clock.now() - start()).num_minutes()
}

fn seconds(clock: &FakeClock) -> u64 {
    use swarm_registry::Clock;
    (clock.now() - start()).num_seconds().unsigned_abs()
}

#[tokio::test]
async fn what_cannot_be_told_is_held_and_never_promoted() {
    for (then, phase) in
        [(OnDeadline::Abort, RolloutPhase::Aborted), (OnDeadline::Pause, RolloutPhase::Paused)]
    {
        let clock = FakeClock::hurried(start());
        let (store, registry) = prepared(&clock).await;
        let plan = founding().deadline(hours(12), then);
        registry.start_rollout("production", "v2", &plan).await.unwrap();
        let driving = registry.clone();
        let driver = tokio::spawn(async move { driving.drive_rollout("production", &silent()).await });
        let watching = opened(&store, &clock).await;
        let held = until(&watching, |status| status.phase() == phase).await;
        assert_eq!(held.step(), 1);
        let reason = held.reason().unwrap();
        assert!(reason.starts_with("the deadline has passed; Inconclusive success: neither"), "{reason}");
        let seen = changes(&registry).await;
        assert_eq!(seen[2], (24 * 60, RolloutChange::Inconclusive));
        assert_eq!(seen[3].0, 36 * 60);
        let splits: Vec<Split> =
            registry.deployments("production").await.unwrap().iter().map(|d| d.split()).collect();
        assert!(!splits.contains(&Split::all("v2")), "never promoted: {splits:?}");
        match then {
            OnDeadline::Abort => {
                assert_eq!(splits.last(), Some(&Split::all("v1")));
                assert_eq!(driver.await.unwrap().unwrap().phase(), RolloutPhase::Aborted);
            }
            OnDeadline::Pause => {
                assert_eq!(splits.len(), 2, "it stays as it is");
                driver.abort();
                let _ = driver.await;
                // Someone mends the metrics, and it goes on where it was.
                let paused = registry.rollout("production").await.unwrap();
                registry.resume_rollout(&paused).await.unwrap();
                let ended = registry.drive_rollout("production", &fine()).await.unwrap();
                assert_eq!(ended.phase(), RolloutPhase::Completed);
            }
        }
    }
}

#[tokio::test]
async fn a_deadline_that_has_passed_begins_anew_when_the_rollout_is_resumed() {
    let clock = FakeClock::hurried(start());
    let (_, registry) = prepared(&clock).await;
    let plan = Rollout::new().weight(20.0).approval("x").weight(100.0).deadline(hours(2), OnDeadline::Pause);
    let begun = registry.start_rollout("production", "v2", &plan).await.unwrap();
    assert_eq!(begun.expires_at(), None, "it does not wait");
    let driving = registry.clone();
    let driver = tokio::spawn(async move { driving.drive_rollout("production", &silent()).await });
    for _ in 0..2 {
        let waiting =
            until(&registry, |status| status.step() == 1 && status.phase() == RolloutPhase::Running).await;
        assert!(waiting.expires_at().unwrap() >= waiting.step_due() + TimeDelta::hours(2));
        until(&registry, |status| status.phase() == RolloutPhase::Paused).await;
        let resumed_at = clock_minutes(&clock);
        let resumed = registry.resume_rollout(&begun).await.unwrap();
        assert_eq!(resumed.phase(), RolloutPhase::Running);
        until(&registry, |status| status.phase() == RolloutPhase::Paused).await;
        let waited = clock_minutes(&clock) - resumed_at;
        assert!((120..130).contains(&waited), "{waited} minutes");
        registry.resume_rollout(&begun).await.unwrap();
    }
    driver.abort();
}

/// Waits until the rollout on production is as `wanted`.
pub(crate) async fn until(
    registry: &VersionRegistry,
    wanted: impl Fn(&swarm_registry::RolloutStatus) -> bool,
) -> Arc<swarm_registry::RolloutStatus> {
    loop {
        let status = registry.rollout("production").await.unwrap();
        if wanted(&status) {
            return status;
        }
        tokio::task::yield_now().await;
    }
}

/// Every way in which a look can come to nothing, and that it says why.
#[tokio::test]
async fn a_source_that_fails_panics_or_counts_wrongly_promotes_nothing() {
    type Broken = fn(&Window) -> Answer;
    let broken: [(Broken, &str); 4] = [
        (|_| Err("connection refused".into()), "nothing could be read: connection refused"),
        (|_| panic!("a bug"), "the source of metrics panicked"),
        (
            |window| match &*window.version {
                "v1" => Ok(successes(window, 0.99)),
                _ => Err("half of it".into()),
            },
            "of v2, nothing could be read: half of it",
        ),
        (
            |window| {
                let users = if window.version == "v2" { 1_500 } else { 8_000 };
                Ok(successes(window, 0.99).users(users))
            },
            "the users do not fit the weights v1 80%, v2 20%",
        ),
    ];
    for (source, why) in broken {
        let clock = FakeClock::hurried(start());
        let (_, registry) = prepared(&clock).await;
        let plan = founding().deadline(hours(1), OnDeadline::Abort).look_every(Duration::from_secs(600));
        registry.start_rollout("production", "v2", &plan).await.unwrap();
        let ended = registry.drive_rollout("production", &Source(source)).await.unwrap();
        assert_eq!(ended.phase(), RolloutPhase::Aborted);
        assert!(ended.reason().unwrap().contains(why), "{ended}");
    }
    // Counts that do not fit protect no candidate that fails.
    let clock = FakeClock::hurried(start());
    let (_, registry) = prepared(&clock).await;
    registry.start_rollout("production", "v2", &founding()).await.unwrap();
    let crashing = Source(|window: &Window| {
        let (share, users) = if window.version == "v2" { (0.8, 1_500) } else { (0.99, 8_000) };
        Ok(successes(window, share).users(users))
    });
    let ended = registry.drive_rollout("production", &crashing).await.unwrap();
    assert_eq!(ended.phase(), RolloutPhase::Failed);
}

/// A look that takes long ends no analysis whose end it did not see.
#[tokio::test]
async fn an_analysis_ends_by_a_look_at_all_of_its_time() {
    let clock = FakeClock::hurried(start());
    let (_, registry) = prepared(&clock).await;
    let plan = founding().look_every(hours(20));
    registry.start_rollout("production", "v2", &plan).await.unwrap();
    let last = Arc::new(AtomicU64::new(0));
    let (seen, slow) = (last.clone(), clock.clone());
    let source = Source(move |window: &Window| {
        seen.store((window.until - start()).num_hours() as u64, Ordering::Relaxed);
        if window.version == "v2" {
            slow.advance(Duration::from_secs(5 * 60));
        }
        // It is past the end by the time the first look is over.
        if window.version == "v2" && window.until < start() + TimeDelta::hours(21) {
            for _ in 0..60 {
                slow.advance(Duration::from_secs(5 * 60));
            }
        }
        Ok(successes(window, 0.99))
    });
    let ended = registry.drive_rollout("production", &source).await.unwrap();
    assert_eq!(ended.phase(), RolloutPhase::Completed);
    assert!(last.load(Ordering::Relaxed) >= 24, "{last:?}");
}

struct Hanging;

#[async_trait]
impl MetricSource for Hanging {
    async fn observe(&self, _: &Window) -> Answer {
        std::future::pending().await
    }
}

#[tokio::test]
async fn a_source_that_never_answers_holds_up_no_deadline() {
    let clock = FakeClock::hurried(start());
    let (_, registry) = prepared(&clock).await;
    let plan = founding().deadline(hours(1), OnDeadline::Abort);
    registry.start_rollout("production", "v2", &plan).await.unwrap();
    let ended = registry.drive_rollout("production", &Hanging).await.unwrap();
    assert_eq!(ended.phase(), RolloutPhase::Aborted);
    assert!(ended.reason().unwrap().contains("nothing was read within 30s"), "{ended}");
}

#[tokio::test]
async fn a_paused_rollout_stands_still_and_its_pause_does_not_count() {
    let clock = FakeClock::new(start());
    let (_, registry) = prepared(&clock).await;
    let plan = Rollout::new().weight(20.0).hold(hours(2)).weight(100.0);
    let begun = registry.start_rollout("production", "v2", &plan).await.unwrap();
    let driving = registry.clone();
    let driver = tokio::spawn(async move { driving.drive_rollout("production", &bad()).await });
    let minutes = async |minutes: u64| {
        for _ in 0..minutes * 4 {
            clock.asleep(1).await;
            clock.advance(Duration::from_secs(15));
        }
        clock.asleep(1).await;
    };
    minutes(60).await;
    let paused = registry.pause_rollout(&begun).await.unwrap();
    assert_eq!((paused.phase(), paused.step()), (RolloutPhase::Paused, 1));
    let twice = registry.pause_rollout(&begun).await.unwrap();
    assert_eq!(twice.record(), paused.record(), "pausing twice is one pause");
    minutes(300).await;
    assert_eq!(registry.rollout("production").await.unwrap().phase(), RolloutPhase::Paused);
    registry.resume_rollout(&begun).await.unwrap();
    minutes(59).await;
    assert_eq!(registry.rollout("production").await.unwrap().step(), 1);
    clock.advance(Duration::from_secs(70));
    assert_eq!(driver.await.unwrap().unwrap().phase(), RolloutPhase::Completed);
}

#[tokio::test]
async fn an_approval_is_for_one_step_of_one_rollout() {
    let clock = FakeClock::hurried(start());
    let (store, registry) = prepared(&clock).await;
    let plan = Rollout::new().approval("green is ready").weight(100.0).approval("blue may go").judge(judge());
    let begun = registry.start_rollout("production", "v2", &plan).await.unwrap();
    let elsewhere = opened(&store, &clock).await;
    let driver = tokio::spawn(async move { elsewhere.drive_rollout("production", &silent()).await });
    tokio::task::yield_now().await;
    registry.approve_rollout(&begun).await.unwrap();
    let late = registry.approve_rollout(&begun).await.unwrap_err();
    assert!(matches!(late.kind(), ErrorKind::Conflict | ErrorKind::InvalidState), "{late}");
    let second = until(&registry, |status| status.step() == 2).await;
    assert_eq!(registry.deployment("production").await.unwrap().sole_version(), Some("v2"));
    let stale = registry.approve_rollout(&begun).await.unwrap_err();
    assert_eq!(stale.kind(), ErrorKind::Conflict);
    assert_eq!(registry.skip_rollout_step(&begun, "x").await.unwrap_err().kind(), ErrorKind::Conflict);
    registry.skip_rollout_step(&second, "blue is gone").await.unwrap();
    let ended = driver.await.unwrap().unwrap();
    assert_eq!((ended.phase(), ended.reason()), (RolloutPhase::Completed, Some("blue is gone")));
    // The same step of another rollout is another step.
    registry.start_rollout("production", "v3", &plan).await.unwrap();
    assert_eq!(registry.approve_rollout(&begun).await.unwrap_err().kind(), ErrorKind::Conflict);
}

#[tokio::test]
async fn an_abort_restores_the_split_before_and_nothing_where_nothing_changed() {
    let clock = FakeClock::hurried(start());
    let (_, registry) = prepared(&clock).await;
    let begun = registry.start_rollout("production", "v2", &founding()).await.unwrap();
    let aborted = registry.abort_rollout(&begun, "wrong build").await.unwrap();
    assert_eq!((aborted.phase(), aborted.reason()), (RolloutPhase::Aborted, Some("wrong build")));
    assert_eq!(registry.deployment("production").await.unwrap().number(), 1);

    registry.start_rollout("production", "v2", &Rollout::new().weight(20.0).approval("x")).await.unwrap();
    let driving = registry.clone();
    let driver = tokio::spawn(async move { driving.drive_rollout("production", &silent()).await });
    let second = until(&registry, |status| status.step() == 1).await;
    // Whoever saw the one before does nothing to this one.
    for late in [
        registry.abort_rollout(&begun, "late").await,
        registry.pause_rollout(&begun).await,
        registry.resume_rollout(&begun).await,
    ] {
        assert_eq!(late.unwrap_err().kind(), ErrorKind::Conflict);
    }
    registry.abort_rollout(&second, "second thoughts").await.unwrap();
    let ended = driver.await.unwrap().unwrap();
    assert_eq!(ended.reason(), Some("second thoughts"));
    let now = registry.deployment("production").await.unwrap();
    assert_eq!((now.number(), now.split()), (3, Split::all("v1")));
}

/// In an emergency nobody has to know of the rollout: what a person deploys stays, and the rollout is over.
#[tokio::test]
async fn a_deployment_by_hand_ends_the_rollout() {
    let clock = FakeClock::hurried(start());
    let (_, registry) = prepared(&clock).await;
    for by_hand in [true, false] {
        let plan = Rollout::new().weight(20.0).approval("x").weight(100.0);
        registry.start_rollout("production", "v2", &plan).await.unwrap();
        let driving = registry.clone();
        let driver = tokio::spawn(async move { driving.drive_rollout("production", &silent()).await });
        until(&registry, |status| status.step() == 1).await;
        let made = match by_hand {
            true => registry.rollback("production").await.unwrap(),
            false => registry.deploy("production", Split::all("v3")).await.unwrap(),
        };
        let ended = driver.await.unwrap().unwrap();
        assert_eq!(ended.phase(), RolloutPhase::Superseded);
        assert_eq!(registry.deployment("production").await.unwrap().number(), made.number());
        assert_eq!(ended.record(), made.record(), "it is what changed the rollout last");
        if by_hand {
            assert_eq!(made.split(), Split::all("v1"), "back to before the rollout");
        }
    }
}

/// Where the split before the rollout is served already, a rollback goes back further; what is bound to what was seen
/// does not.
#[tokio::test]
async fn a_rollback_before_the_first_weight_or_after_a_failure_goes_back_further() {
    for weighed in [false, true] {
        let clock = FakeClock::hurried(start());
        let (_, registry) = prepared(&clock).await;
        registry.deploy("production", Split::all("v3")).await.unwrap();
        registry.start_rollout("production", "v2", &founding()).await.unwrap();
        let mut seen = 2;
        if weighed {
            let ended = registry.drive_rollout("production", &bad()).await.unwrap();
            assert_eq!(ended.phase(), RolloutPhase::Failed);
            seen = 3;
            let late = registry.rollback_from("production", seen).await.unwrap_err();
            assert_eq!(late.kind(), ErrorKind::Conflict, "what failed is taken back");
        }
        let now = registry.deployment("production").await.unwrap();
        assert_eq!(now.sole_version(), Some("v3"));
        assert_eq!(now.number() == seen, !weighed);
        let back = registry.rollback("production").await.unwrap();
        assert_eq!(back.sole_version(), Some("v1"), "the one before v3, weighed: {weighed}");
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_plan_is_told_all_at_once() {
    let clock = FakeClock::new(start());
    let (_, registry) = prepared(&clock).await;
    let plan = Rollout::new()
        .analysis(hours(1))
        .weight(50.0)
        .weight(20.0)
        .weight(f64::NAN)
        .approval(" ")
        .weight(100.0)
        .analysis(hours(1))
        .look_every(Duration::ZERO)
        .judge(Judge::new([Criterion::lower_is_better("m").tolerance(-1.0)]));
    let error = registry.start_rollout("production", "v2", &plan).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    for part in [
        "step 0, analysis 1h, comes before the candidate has any traffic",
        "step 2, weight 20 %, is not more than what the candidate has by then",
        "step 3, weight NaN %, is no percentage",
        "step 4, approval \" \", does not say what of",
        "step 6, analysis 1h, comes when nothing is left to compare with",
        "of the judge, the tolerance of \"m\" is -1",
        "is not a sequential one",
        "it looks every 0ns",
    ] {
        assert!(error.to_string().contains(part), "{part}: {error}");
    }
    for (plan, part) in [
        (Rollout::new(), "no step gives the candidate any traffic"),
        (
            Rollout::new().weight(0.05).weight(0.5).weight(1.0),
            "no weight is over 1 %: they look like fractions",
        ),
        (Rollout::new().weight(5.0).analysis(hours(1)), "there is an analysis and no judge"),
        (Rollout::new().weight(5.0).hold(Duration::MAX), "takes more than ten years"),
        (
            Rollout::new().weight(5.0).look_every(Duration::from_nanos(500)),
            "it looks every 500ns, which is not",
        ),
    ] {
        let error = registry.start_rollout("production", "v2", &plan).await.unwrap_err();
        assert!(error.to_string().contains(part), "{error}");
    }
    let whole = Rollout::new().weight(100.0);
    for (channel, candidate, kind) in [
        ("production", "v9", ErrorKind::NotFound),
        ("staging", "v2", ErrorKind::NotFound),
        ("production", "v1", ErrorKind::InvalidState),
    ] {
        let error = registry.start_rollout(channel, candidate, &whole).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
    }
    registry.deploy("production", Split::of([("v1", 60.0), ("v2", 40.0)]).unwrap()).await.unwrap();
    let down = registry.start_rollout("production", "v2", &founding()).await.unwrap_err();
    assert_eq!(down.kind(), ErrorKind::InvalidState);
    registry.start_rollout("production", "v2", &whole).await.unwrap();
    let second = registry.start_rollout("production", "v3", &whole).await.unwrap_err();
    assert!(second.to_string().contains("a rollout of \"v2\" under way"), "{second}");
    assert_eq!(registry.rollout("staging").await.unwrap_err().kind(), ErrorKind::NotFound);
}

/// Waits at its first look for leave, then says that the candidate is bad.
struct Late(Arc<tokio::sync::Notify>, AtomicU64);

#[async_trait]
impl MetricSource for Late {
    async fn observe(&self, window: &Window) -> Answer {
        if self.1.fetch_add(1, Ordering::Relaxed) < 2 {
            self.0.notified().await;
        }
        bad().observe(window).await
    }
}

/// A clock that stands still for one process: it is held up, and does not notice that its time is over.
#[tokio::test]
async fn one_driver_has_the_lease_and_a_late_one_is_refused() {
    let clock = FakeClock::hurried(start());
    let (store, _) = prepared(&clock).await;
    let frozen = FakeClock::new(start());
    let slow = opened(&store, &frozen).await;
    let plan = founding().look_every(Duration::from_secs(60));
    slow.start_rollout("production", "v2", &plan).await.unwrap();

    let leave = Arc::new(tokio::sync::Notify::new());
    let late = Late(leave.clone(), AtomicU64::new(0));
    let driving = slow.clone();
    let first = tokio::spawn(async move { driving.drive_rollout("production", &late).await });
    frozen.asleep(1).await;
    frozen.advance(Duration::from_secs(60));
    // It asks for both versions at once, each with a time limit, and hangs.
    frozen.asleep(2).await;

    let other = opened(&store, &clock).await;
    let second = tokio::spawn({
        let other = other.clone();
        async move { other.drive_rollout("production", &fine()).await }
    });
    until(&other, |status| status.step() == 3 || status.phase().is_over()).await;
    leave.notify_waiters();
    leave.notify_one();
    leave.notify_one();
    assert_eq!(second.await.unwrap().unwrap().phase(), RolloutPhase::Completed);
    assert_eq!(first.await.unwrap().unwrap().phase(), RolloutPhase::Completed, "what it saw does not count");
    let terms: Vec<u64> = other
        .history(1)
        .await
        .unwrap()
        .iter()
        .filter_map(|event| match event.kind {
            EventKind::RolloutLeased { term, .. } => Some(term),
            _ => None,
        })
        .collect();
    assert_eq!((terms.first(), terms.last()), (Some(&1), Some(&2)));
    assert!(terms.is_sorted(), "{terms:?}");
    let weights = other.deployments("production").await.unwrap().len();
    assert_eq!(weights, 3, "each weight was deployed once");
}

/// A driver that is held up in its look, while another has the lease and nothing else has happened, is refused too.
#[tokio::test]
async fn a_look_of_a_driver_whose_lease_is_lost_counts_for_nothing() {
    let (frozen, clock) = (FakeClock::new(start()), FakeClock::new(start() + TimeDelta::seconds(200)));
    let (store, slow) = prepared(&frozen).await;
    let plan = Rollout::new().weight(20.0).analysis(hours(1)).weight(100.0).judge(judge());
    slow.start_rollout("production", "v2", &plan).await.unwrap();
    let leave = Arc::new(tokio::sync::Notify::new());
    let late = Late(leave.clone(), AtomicU64::new(0));
    let first = tokio::spawn(async move { slow.drive_rollout("production", &late).await });
    frozen.asleep(1).await;
    frozen.advance(Duration::from_secs(60));
    // It asks for both versions at once, each with a time limit, and hangs.
    frozen.asleep(2).await;

    let other = opened(&store, &clock).await;
    let driving = other.clone();
    let second = tokio::spawn(async move { driving.drive_rollout("production", &fine()).await });
    clock.asleep(1).await;
    let before = other.rollout("production").await.unwrap();
    assert_eq!((before.step(), before.driven_until()), (1, Some(start() + TimeDelta::seconds(380))));
    leave.notify_waiters();
    while !second.is_finished() {
        clock.advance(Duration::from_secs(15));
        tokio::task::yield_now().await;
    }
    assert_eq!(second.await.unwrap().unwrap().phase(), RolloutPhase::Completed);
    frozen.advance(Duration::from_secs(15));
    assert_eq!(first.await.unwrap().unwrap().phase(), RolloutPhase::Completed);
}

/// A lease whose taking was acknowledged to nobody is known again by who took it.
#[tokio::test]
async fn a_driver_does_not_wait_for_its_own_lease() {
    let clock = FakeClock::hurried(start());
    let (inner, registry) = prepared(&clock).await;
    registry.start_rollout("production", "v2", &Rollout::new().weight(100.0)).await.unwrap();
    let store = FaultyStore::new(inner).fail(0, Fault::DieAfter);
    let builder = VersionRegistry::builder().clock(Arc::new(clock.clone()));
    let driving = builder.with_store(store.clone()).await.unwrap();
    let driver = tokio::spawn(async move { driving.drive_rollout("production", &silent()).await });
    while store.writes() == 0 {
        tokio::task::yield_now().await;
    }
    store.away(false);
    assert_eq!(driver.await.unwrap().unwrap().phase(), RolloutPhase::Completed);
    assert!(seconds(&clock) < 30, "{} s", seconds(&clock));
}

/// Any number of processes may drive; together they do what one does.
#[tokio::test]
async fn many_drivers_do_what_one_does() {
    let clock = FakeClock::hurried(start());
    let (store, registry) = prepared(&clock).await;
    registry.start_rollout("production", "v2", &founding()).await.unwrap();
    let looks = Arc::new(AtomicU64::new(0));
    let mut drivers = Vec::new();
    for _ in 0..4 {
        let registry = opened(&store, &clock).await;
        let looks = looks.clone();
        drivers.push(tokio::spawn(async move {
            let counting = Source(move |window: &Window| {
                looks.fetch_add(1, Ordering::Relaxed);
                Ok(successes(window, 0.99))
            });
            registry.drive_rollout("production", &counting).await
        }));
    }
    for driver in drivers {
        assert_eq!(driver.await.unwrap().unwrap().phase(), RolloutPhase::Completed);
    }
    assert_eq!(registry.deployments("production").await.unwrap().len(), 3);
    let looks = looks.load(Ordering::Relaxed);
    assert!(
        (2..=2 * 24 * 60 + 2).contains(&looks),
        "one driver's looks at two versions, not four's: {looks}"
    );
    registry.verify().await.unwrap();
}

/// What a service keeps going: it waits for rollouts, and drives each.
#[tokio::test]
async fn a_driver_of_all_rollouts_waits_for_the_next() {
    let clock = FakeClock::hurried(start());
    let (inner, registry) = prepared(&clock).await;
    let store = FaultyStore::new(inner);
    let builder = VersionRegistry::builder().clock(Arc::new(clock.clone()));
    let driving = builder.with_store(store.clone()).await.unwrap();
    let driver = tokio::spawn(async move { driving.drive_rollouts("production", &fine()).await });
    for (candidate, away) in [("v2", false), ("v3", true), ("v1", false)] {
        store.away(away);
        let before = clock_minutes(&clock);
        registry.start_rollout("production", candidate, &founding()).await.unwrap();
        // Longer than one drive waits for its store.
        while away && clock_minutes(&clock) < before + 10 {
            tokio::task::yield_now().await;
        }
        assert!(!away || !registry.rollout("production").await.unwrap().phase().is_over());
        store.away(false);
        let ended = until(&registry, |status| status.phase().is_over()).await;
        assert_eq!((ended.candidate(), ended.phase()), (candidate, RolloutPhase::Completed));
    }
    assert!(!driver.is_finished());
}

#[tokio::test]
async fn a_driver_outlasts_a_store_that_is_away_for_a_while() {
    let clock = FakeClock::hurried(start());
    let (inner, _) = prepared(&clock).await;
    let store = FaultyStore::new(inner);
    let builder = VersionRegistry::builder().clock(Arc::new(clock.clone()));
    let registry = builder.with_store(store.clone()).await.unwrap();
    registry.start_rollout("production", "v2", &founding()).await.unwrap();
    let looks = AtomicU64::new(0);
    let away = store.clone();
    let flaky = Source(move |window: &Window| {
        if looks.fetch_add(1, Ordering::Relaxed) == 200 {
            away.away(true);
        }
        Ok(successes(window, 0.99))
    });
    let driving = registry.clone();
    let driver = tokio::spawn(async move { driving.drive_rollout("production", &flaky).await });
    while registry.refresh().await.is_ok() && !driver.is_finished() {
        tokio::task::yield_now().await;
    }
    assert!(!driver.is_finished());
    store.away(false);
    assert_eq!(driver.await.unwrap().unwrap().phase(), RolloutPhase::Completed);
}

#[tokio::test]
async fn a_driver_waits_about_five_minutes_for_its_store_from_its_first_question_on() {
    for at_once in [true, false] {
        let clock = FakeClock::hurried(start());
        let (inner, _) = prepared(&clock).await;
        let store = FaultyStore::new(inner);
        let builder = VersionRegistry::builder().clock(Arc::new(clock.clone()));
        let registry = builder.with_store(store.clone()).await.unwrap();
        registry.start_rollout("production", "v2", &founding()).await.unwrap();
        let left = Arc::new(AtomicU64::new(0));
        let (away, then, now) = (store.clone(), left.clone(), clock.clone());
        let source = Source(move |_: &Window| {
            if then.load(Ordering::Relaxed) == 0 {
                away.away(true);
                then.store(seconds(&now), Ordering::Relaxed);
            }
            Ok(Observed::new())
        });
        store.away(at_once);
        let gone = registry.drive_rollout("production", &source).await.unwrap_err();
        assert_eq!(gone.kind(), ErrorKind::Store);
        let left = left.load(Ordering::Relaxed);
        assert_eq!(left == 0, at_once, "it is the source that takes the store away, or nobody is asked");
        let waited = seconds(&clock) - left;
        assert!((300..360).contains(&waited), "{waited} s, away at once: {at_once}");
        store.away(false);
        let ended = registry.drive_rollout("production", &fine()).await.unwrap();
        assert_eq!(ended.phase(), RolloutPhase::Completed);
    }
}

/// A webhook hears what happened to the rollout, and not that its driver is still there.
#[tokio::test]
async fn a_watch_tells_no_leases_and_the_history_has_them() {
    use futures::StreamExt;
    let clock = FakeClock::hurried(start());
    let (_, registry) = prepared(&clock).await;
    let mut watch = registry.watch(Default::default());
    registry.start_rollout("production", "v2", &founding()).await.unwrap();
    let ended = registry.drive_rollout("production", &fine()).await.unwrap();
    let history = registry.history(ended.id()).await.unwrap();
    let is_lease = |event: &Event| matches!(event.kind, EventKind::RolloutLeased { .. });
    assert!(history.iter().filter(|event| is_lease(event)).count() > 20, "a day of leases");
    for event in history.iter().filter(|event| !is_lease(event)) {
        assert_eq!(watch.next().await.unwrap().unwrap(), *event);
    }
}

#[tokio::test]
async fn a_lease_that_was_taken_by_a_clock_far_ahead_holds_up_nobody() {
    let clock = FakeClock::hurried(start());
    let (store, registry) = prepared(&clock).await;
    let plan = Rollout::new().weight(20.0).approval("x").weight(100.0);
    registry.start_rollout("production", "v2", &plan).await.unwrap();
    let ahead = opened(&store, &FakeClock::hurried(start() + TimeDelta::days(30))).await;
    let driver = tokio::spawn(async move { ahead.drive_rollout("production", &silent()).await });
    let waiting = until(&registry, |status| status.step() == 1).await;
    driver.abort();
    let _ = driver.await;
    registry.approve_rollout(&waiting).await.unwrap();
    let ended = registry.drive_rollout("production", &silent()).await.unwrap();
    assert_eq!(ended.phase(), RolloutPhase::Completed);
    assert!(clock_minutes(&clock) < 10, "{}", clock_minutes(&clock));
}

/// A clock that is set wrong for a while.
#[derive(Clone)]
struct Jumping {
    clock: FakeClock,
    days: Arc<AtomicU64>,
}

#[async_trait]
impl swarm_registry::Clock for Jumping {
    fn now(&self) -> DateTime<Utc> {
        self.clock.now() + TimeDelta::days(self.days.load(Ordering::Relaxed) as i64)
    }

    async fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }
}

#[tokio::test]
async fn a_driver_whose_clock_jumps_ahead_and_back_looks_on() {
    let clock = FakeClock::hurried(start());
    let (store, _) = prepared(&clock).await;
    let jumping = Jumping { clock: clock.clone(), days: Arc::default() };
    let builder = VersionRegistry::builder().clock(Arc::new(jumping.clone()));
    let registry = builder.with_store(store).await.unwrap();
    registry.start_rollout("production", "v2", &founding()).await.unwrap();
    let looks = AtomicU64::new(0);
    let source = Source(move |window: &Window| {
        if window.version != "v2" {
            return Ok(successes(window, 0.99));
        }
        match looks.fetch_add(1, Ordering::Relaxed) {
            10 => jumping.days.store(30, Ordering::Relaxed),
            // The look before this one was in the future.
            12 => jumping.days.store(0, Ordering::Relaxed),
            13.. => return Ok(successes(window, 0.99)),
            _ => {}
        }
        Ok(Observed::new())
    });
    let ended = registry.drive_rollout("production", &source).await.unwrap();
    assert_eq!(ended.phase(), RolloutPhase::Completed);
    assert!(clock_minutes(&clock) <= 25 * 60, "{}", clock_minutes(&clock));
}

#[tokio::test]
async fn a_rollout_outlasts_compaction_and_goes_with_its_window() {
    let clock = FakeClock::hurried(start());
    let (store, registry) = prepared(&clock).await;
    let plan = Rollout::new().weight(20.0).approval("x").weight(100.0);
    registry.register(Version::new("v4").artifact("4")).await.unwrap();
    let begun = registry.start_rollout("production", "v2", &plan).await.unwrap();
    let driving = registry.clone();
    let driver = tokio::spawn(async move { driving.drive_rollout("production", &silent()).await });
    let waiting = until(&registry, |status| status.step() == 1).await;
    let later = start() + TimeDelta::days(300);
    registry.compact(Retention::since(later)).await.unwrap();
    let reopened = opened(&store, &clock).await;
    assert_eq!(reopened.rollout("production").await.unwrap(), waiting, "all of it is kept");
    assert_eq!(reopened.version("v4").await.unwrap_err().kind(), ErrorKind::NotFound);
    reopened.approve_rollout(&waiting).await.unwrap();
    assert_eq!(driver.await.unwrap().unwrap().phase(), RolloutPhase::Completed);

    registry.compact(Retention::since(later)).await.unwrap();
    let reopened = opened(&store, &clock).await;
    assert!(reopened.rollouts("production").await.unwrap().is_empty(), "it is over, and long ago");
    let now = reopened.deployment("production").await.unwrap();
    assert_eq!((now.sole_version(), now.cause()), (Some("v2"), DeploymentCause::RolledOut(begun.id())));
    assert_eq!(reopened.rollback("production").await.unwrap().split(), Split::all("v1"));
    reopened.verify().await.unwrap();
}

#[tokio::test]
async fn others_shrink_in_proportion_and_nobody_else_moves() {
    let clock = FakeClock::hurried(start());
    let (_, registry) = prepared(&clock).await;
    registry.deploy("production", Split::of([("v1", 75.0), ("v3", 25.0)]).unwrap()).await.unwrap();
    let plan = Rollout::new().weight(10.0).weight(33.33).weight(60.0);
    registry.start_rollout("production", "v2", &plan).await.unwrap();
    registry.drive_rollout("production", &silent()).await.unwrap();
    let deployments = registry.deployments("production").await.unwrap();
    for pair in deployments[1..].windows(2) {
        let (before, after) = (pair[0].slots(), pair[1].slots());
        let moved = before.iter().zip(&after).filter(|(before, after)| before != after);
        assert!(moved.clone().all(|(_, after)| after == "v2"), "to the candidate alone");
    }
    let last: BTreeMap<String, u16> =
        deployments.last().unwrap().split().basis_points().map(|(v, p)| (v.to_owned(), p)).collect();
    assert_eq!(last, BTreeMap::from([("v1".into(), 3_000), ("v2".into(), 6_000), ("v3".into(), 1_000)]));
}

#[cfg(feature = "toml")]
#[test]
fn a_plan_in_toml_says_what_is_wrong_and_where() {
    use std::error::Error as _;

    for (text, part) in [
        ("steps = [{ weight = 20 }", "TOML parse error at line 1"),
        ("steps = [{ wieght = 20 }]", "unknown variant `wieght`"), // typos:ignore-line
        ("step = []\nsteps = []", "unknown field `step`"),
        ("steps = [{ hold = \"1 day\" }]", "\"1 day\" is no duration"),
        ("steps = [{ hold = \"\" }]", "\"\" is no duration"),
        ("steps = [{ hold = \"99999999999999999999h\" }]", "is no duration"),
        ("steps = [{ hold = \"h\" }]", "\"h\" is no duration"),
        ("steps = []\ndeadline = { after = \"1h\", then = \"explode\" }", "unknown variant `explode`"),
    ] {
        let error = Rollout::from_toml(text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        let source = error.source().unwrap().to_string();
        assert!(source.contains(part), "{text}: {source}");
    }
    let all = Rollout::from_toml("steps = [{ weight = 120 }, { approval = \"\" }]").unwrap_err().to_string();
    assert!(all.contains("step 0, weight 120 %") && all.contains("step 1, approval"), "{all}");
    let plan =
        Rollout::from_toml("steps = [{ hold = \"1d2h3m4s5ms\" }, { weight = 0.5 }, { weight = 2 }]").unwrap();
    assert_eq!(plan.steps()[0], RolloutStep::Hold(Duration::from_millis(93_784_005)));
}
