//! The simulator: made-up traffic, virtual time, the real registry.

use std::time::Duration;

use swarm_registry::testing::{Simulation, Traffic};
use swarm_registry::{Criterion, ErrorKind, Judge, OnDeadline, Rollout, RolloutPhase};

use crate::rollouts::hours;

fn latency(mean: f64) -> Traffic {
    Traffic::new()
        .sample("latency_ms", move |draw| draw.normal(mean, 11.0))
        .success("success", |draw| draw.chance(0.995))
}

fn plan() -> Rollout {
    let latency = Criterion::lower_is_better("latency_ms");
    let success = Criterion::higher_is_better("success").tolerance_absolute(0.01);
    Rollout::new()
        .weight(20.0)
        .analysis(hours(24))
        .approval("the figures")
        .weight(100.0)
        .judge(Judge::new([latency, success]).sequential(20_000))
        .look_every(Duration::from_secs(600))
        .deadline(hours(4), OnDeadline::Abort)
}

#[tokio::test]
async fn a_good_candidate_comes_through_and_the_same_seed_tells_the_same_story() {
    let simulation =
        Simulation::new(7).baseline(latency(45.0)).candidate(latency(44.0)).approvals_after(hours(1));
    let first = simulation.run(&plan()).await.unwrap();
    assert_eq!(first.status.phase(), RolloutPhase::Completed, "{first}");
    // A look each ten minutes, and an approval when somebody next looks at the clock.
    let late = first.elapsed - hours(25);
    assert!(late < Duration::from_secs(60), "{:?}", first.elapsed);
    let (candidate, baseline) = first.requests;
    assert_eq!(candidate + baseline, first.elapsed.as_millis() as u64 * 100 / 60_000);
    // A fifth of 10,000 users, within three deviations.
    assert!((1_880..=2_120).contains(&first.exposed), "{}", first.exposed);
    let again = simulation.run(&plan()).await.unwrap();
    assert_eq!(again.to_string(), first.to_string());
}

#[tokio::test]
async fn a_candidate_that_becomes_bad_is_taken_back_soon_after() {
    let leaking = Traffic::new()
        .sample("latency_ms", |draw| {
            let leak = draw.elapsed().saturating_sub(hours(6)).as_secs_f64() / 360.0;
            draw.normal(45.0 + leak, 11.0)
        })
        .success("success", |draw| draw.chance(0.995));
    let simulated = Simulation::new(3).baseline(latency(45.0)).candidate(leaking).run(&plan()).await.unwrap();
    assert_eq!(simulated.status.phase(), RolloutPhase::Failed, "{simulated}");
    assert!((hours(6)..hours(12)).contains(&simulated.elapsed), "{:?}", simulated.elapsed);
    assert!(simulated.to_string().contains("Fail latency_ms"), "{simulated}");
}

#[tokio::test]
async fn users_that_are_lost_hold_a_candidate_that_looks_fine() {
    let losing = latency(45.0).lost(0.3);
    let simulated = Simulation::new(5).baseline(latency(45.0)).candidate(losing).run(&plan()).await.unwrap();
    assert_eq!(simulated.status.phase(), RolloutPhase::Aborted, "{simulated}");
    assert!(simulated.to_string().contains("the users do not fit the weights"), "{simulated}");
}

#[tokio::test]
async fn without_approval_it_waits_until_the_time_is_up() {
    let patient = Rollout::new().weight(20.0).approval("anyone").weight(100.0);
    let simulated = Simulation::new(1).at_most(hours(72)).run(&patient).await.unwrap();
    assert_eq!((simulated.status.phase(), simulated.status.step()), (RolloutPhase::Running, 1));
    assert_eq!(simulated.elapsed, hours(72));
    let refused = Simulation::new(1).run(&Rollout::new()).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::InvalidInput);
}

/// The judge's promise, kept by the whole: of candidates that are no different at most a twentieth a metric, here half of
/// that since only the worse side fails, are taken back, though each is looked at 144 times.
#[tokio::test]
async fn candidates_that_are_no_different_are_rarely_taken_back() {
    let mut failed: u64 = 0;
    let traffic = || Traffic::new().sample("latency_ms", |draw| draw.normal(45.0, 11.0));
    let judge = Judge::new([Criterion::lower_is_better("latency_ms").tolerance(0.0)]).sequential(5_000);
    let plan = Rollout::new().weight(50.0).analysis(hours(24)).weight(100.0).judge(judge);
    let plan = plan.look_every(Duration::from_secs(600)).deadline(Duration::ZERO, OnDeadline::Abort);
    let seeds = if std::env::var_os("SWARM_LONG").is_some() { 200 } else { 12 };
    for seed in 0..seeds {
        let simulation = Simulation::new(seed).requests_per_minute(10);
        let simulated = simulation.baseline(traffic()).candidate(traffic()).run(&plan).await.unwrap();
        failed += u64::from(simulated.status.phase() == RolloutPhase::Failed);
    }
    assert!(failed <= seeds / 12, "{failed} of {seeds}");
}
