//! The records of rollouts on disk: a backup that holds every kind of them is read as it was written.
//!
//! Until the format is released, `SWARM_WRITE_FIXTURES=1 cargo test -p swarm-registry --test it fixture` writes it anew.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use swarm_registry::testing::FakeClock;
use swarm_registry::{
    Criterion, EventKind, Judge, ObjectVersionStore, OnDeadline, Rollout, Split, Version, VersionRegistry,
};

use crate::rollouts::{bad, fine, hours, silent, start};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn plan(then: OnDeadline) -> Rollout {
    let criterion = Criterion::higher_is_better("success").tolerance(0.1).tolerance_absolute(0.01).ranks();
    Rollout::new()
        .approval("ready")
        .weight(12.5)
        .hold(Duration::from_secs(90))
        .analysis(hours(4))
        .weight(100.0)
        .judge(Judge::new([criterion]).alpha(0.01).minimum_samples(20).sequential(5_000))
        .look_every(hours(1))
        .deadline(hours(1), then)
}

async fn write_fixture() {
    let clock = FakeClock::hurried(start());
    let builder = VersionRegistry::builder().clock(Arc::new(clock.clone()));
    let registry = builder.with_store(ObjectVersionStore::memory()).await.unwrap().acting_as("Agent-8");
    for version in ["v1", "v2"] {
        registry.register(Version::new(version).artifact(version)).await.unwrap();
    }
    registry.deploy("production", Split::all("v1")).await.unwrap();
    for then in [OnDeadline::Abort, OnDeadline::Pause] {
        let begun = registry.start_rollout("production", "v2", &plan(then)).await.unwrap();
        registry.pause_rollout(&begun).await.unwrap();
        registry.resume_rollout(&begun).await.unwrap();
        registry.approve_rollout(&begun).await.unwrap();
        if then == OnDeadline::Abort {
            registry.drive_rollout("production", &silent()).await.unwrap();
        } else {
            registry.drive_rollout("production", &bad()).await.unwrap();
        }
    }
    let begun = registry.start_rollout("production", "v2", &plan(OnDeadline::Pause)).await.unwrap();
    registry.skip_rollout_step(&begun, "known to be ready").await.unwrap();
    registry.drive_rollout("production", &fine()).await.unwrap();
    registry.rollback("production").await.unwrap();
    let waits = Rollout::new().approval("ready").weight(50.0).deadline(hours(1), OnDeadline::Pause);
    let begun = registry.start_rollout("production", "v2", &waits).await.unwrap();
    registry.abort_rollout(&begun, "never mind").await.unwrap();
    registry.start_rollout("production", "v2", &waits).await.unwrap();
    registry.deploy("production", Split::all("v1")).await.unwrap();
    registry.start_rollout("production", "v2", &plan(OnDeadline::Abort)).await.unwrap();
    registry.backup(path("rollouts-v1")).await.unwrap();
    std::fs::write(path("rollouts-v1.txt"), described().await).unwrap();
}

/// Everything that the fixture says, as text.
async fn described() -> String {
    let store = ObjectVersionStore::memory();
    VersionRegistry::restore(path("rollouts-v1"), store.clone()).await.unwrap();
    let registry = VersionRegistry::with_store(store).await.unwrap();
    let mut out = String::new();
    for event in registry.history(1).await.unwrap() {
        let rollout = match &event.kind {
            EventKind::Rollout(rollout) => rollout,
            EventKind::RolloutLeased { rollout, term, until, .. } => {
                let lease = format!("Leased {{ term: {term}, until: {until:?} }} None None");
                writeln!(out, "{} {} {rollout} {lease}", event.record, event.at).unwrap();
                continue;
            }
            _ => continue,
        };
        let made = event.deployment().map(|made| format!("{} {:?}", made.split(), made.cause()));
        let (change, reason) = (&rollout.change, &rollout.reason);
        writeln!(out, "{} {} {} {change:?} {made:?} {reason:?}", event.record, event.at, rollout.rollout)
            .unwrap();
    }
    for status in registry.rollouts("production").await.unwrap() {
        writeln!(out, "{} {status} {:?}", status.id(), status.plan()).unwrap();
    }
    out
}

#[tokio::test]
async fn rollouts_of_format_1_are_read_as_they_were_written() {
    if std::env::var_os("SWARM_WRITE_FIXTURES").is_some() {
        write_fixture().await;
    }
    let kept = std::fs::read_to_string(path("rollouts-v1.txt")).unwrap();
    assert_eq!(described().await, kept);
    for word in [
        "Started",
        "by: Weighted",
        "by: Held",
        "by: Passed",
        "by: Approved",
        "by: Skipped",
        "Inconclusive",
        "Paused",
        "Resumed",
        "Failed",
        "Aborted",
        "Leased",
        "Completed",
        "superseded",
        "the deadline has passed",
    ] {
        assert!(kept.contains(word), "the fixture lacks {word}");
    }
}
