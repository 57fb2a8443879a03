//! What compaction keeps for what is under way.

use chrono::TimeDelta;
use swarm_registry::testing::FakeClock;
use swarm_registry::{ObjectVersionStore, Retention, Rollout, RolloutPhase, Split, Version, VersionRegistry};

use crate::rollouts::{bad, fine, hours, judge, opened, prepared, silent, start, until};

/// A rollout that began at a deployment which is in no stack, because a rollback made it.
async fn began_at_a_rollback() -> (ObjectVersionStore, FakeClock, VersionRegistry) {
    let clock = FakeClock::hurried(start());
    let (store, registry) = prepared(&clock).await;
    registry.deploy("production", Split::all("v3")).await.unwrap();
    let origin = registry.rollback("production").await.unwrap();
    assert_eq!((origin.number(), origin.good()), (3, &[][..]));
    let plan = Rollout::new().weight(20.0).approval("x").analysis(hours(4)).weight(100.0).judge(judge());
    registry.start_rollout("production", "v2", &plan).await.unwrap();
    (store, clock, registry)
}

#[tokio::test]
async fn a_rollout_that_began_at_a_rollback_goes_on_and_back_after_a_compaction() {
    for phase in [RolloutPhase::Completed, RolloutPhase::Failed, RolloutPhase::Aborted] {
        let (store, clock, registry) = began_at_a_rollback().await;
        let driving = registry.clone();
        let driver = tokio::spawn(async move { driving.drive_rollout("production", &silent()).await });
        let waiting = until(&registry, |status| status.step() == 1).await;
        driver.abort();
        registry.compact(Retention::since(start() + TimeDelta::days(300))).await.unwrap();
        let registry = opened(&store, &clock).await;
        let numbers: Vec<u64> =
            registry.deployments("production").await.unwrap().iter().map(|made| made.number()).collect();
        assert_eq!(numbers, [1, 3, 4], "what it began at too; what was rolled back from is gone");
        let ended = match phase {
            RolloutPhase::Aborted => registry.abort_rollout(&waiting, "enough").await.unwrap(),
            _ => {
                registry.approve_rollout(&waiting).await.unwrap();
                match phase {
                    RolloutPhase::Failed => registry.drive_rollout("production", &bad()).await.unwrap(),
                    _ => registry.drive_rollout("production", &fine()).await.unwrap(),
                }
            }
        };
        assert_eq!(ended.phase(), phase);
        let serves = if phase == RolloutPhase::Completed { "v2" } else { "v1" };
        assert_eq!(registry.deployment("production").await.unwrap().sole_version(), Some(serves));
        registry.verify().await.unwrap();
    }
}

#[tokio::test]
async fn a_candidate_without_weight_is_kept_while_its_rollout_is_under_way() {
    let clock = FakeClock::hurried(start());
    let (store, registry) = prepared(&clock).await;
    registry.register(Version::new("stray").artifact("stray")).await.unwrap();
    let plan = Rollout::new().approval("x").weight(100.0);
    let begun = registry.start_rollout("production", "v2", &plan).await.unwrap();
    registry.compact(Retention::since(start() + TimeDelta::days(1))).await.unwrap();
    let registry = opened(&store, &clock).await;
    assert!(registry.version("stray").await.is_err());
    registry.approve_rollout(&begun).await.unwrap();
    registry.drive_rollout("production", &silent()).await.unwrap();
    assert_eq!(registry.artifact("v2").await.unwrap(), "v2");
    assert_eq!(registry.deployment("production").await.unwrap().sole_version(), Some("v2"));
}
