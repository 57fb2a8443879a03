//! The format on disk: a backup that holds every kind of record, as the first version wrote it, is read as it is.
//!
//! Until the format is released, `SWARM_WRITE_FIXTURES=1 cargo test -p swarm-registry --test it fixture` writes it anew.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use swarm_registry::testing::FakeClock;
use swarm_registry::{Measure, ObjectVersionStore, Retention, Split, Version, VersionRegistry};

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

async fn write_fixture() {
    let clock = FakeClock::new(DateTime::from_timestamp(1_795_219_200, 0).unwrap());
    let builder = VersionRegistry::builder().clock(Arc::new(clock.clone()));
    let registry = builder.with_store(ObjectVersionStore::memory()).await.unwrap().acting_as("Agent-8");
    registry.register(Version::new("stray").artifact("stray bytes")).await.unwrap();
    clock.advance(Duration::from_secs(60));
    let first = Version::new("v1").artifact("old bytes").metric("violations", 15.0).label("team", "agents");
    registry.register(first).await.unwrap();
    let second = Version::new("v2")
        .artifact("new bytes")
        .parent("v1")
        .metadata("build", serde_json::json!({"host": "ci", "attempts": [1, 2]}))
        .metric("latency", vec![44.5, 45.25])
        .metric("pause", Measure::Summary { count: 20, mean: 0.125, deviation: 0.5 })
        .metric("success", Measure::Proportion { successes: 88, trials: 100 });
    registry.register(second).await.unwrap();
    registry.move_alias("stable", None, Some("v1")).await.unwrap();
    registry.protect_alias("stable", true).await.unwrap();
    registry.deploy("production", Split::all("v1")).await.unwrap();
    let split =
        Split::of([("v1", 80.0), ("v2", 20.0)]).unwrap().pin("tester", "v2").mirror("v1", 0.5).unwrap();
    registry.deploy("production", split).await.unwrap();
    registry.rollback("production").await.unwrap();
    registry.promote("production", "staging").await.unwrap();
    let since = DateTime::from_timestamp(1_795_219_230, 0).unwrap();
    registry.compact(Retention::since(since)).await.unwrap();
    registry.backup(path("backup-v1")).await.unwrap();
    std::fs::write(path("backup-v1.txt"), described().await).unwrap();
}

/// Everything that the fixture says, as text.
async fn described() -> String {
    let store = ObjectVersionStore::memory();
    let head = VersionRegistry::restore(path("backup-v1"), store.clone()).await.unwrap();
    let registry = VersionRegistry::with_store(store).await.unwrap();
    assert_eq!(registry.verify().await.unwrap(), head);
    let mut out = String::new();
    for event in registry.history(1).await.unwrap() {
        writeln!(out, "{} {} {:?} {:?}", event.record, event.at, event.actor, event.kind).unwrap();
    }
    for version in registry.find(&swarm_registry::Query::new()).await.unwrap() {
        let bytes = registry.artifact(version.id()).await.unwrap();
        writeln!(out, "{} {bytes:?} {:?} {:?}", version.id(), version.metrics(), version.metadata()).unwrap();
    }
    for channel in registry.channels().await.unwrap() {
        let made = registry.deployment(&channel).await.unwrap();
        writeln!(out, "{channel} {:?} good {:?}", made.split(), made.good()).unwrap();
    }
    out
}

#[tokio::test]
async fn a_backup_of_format_1_is_read_as_it_was_written() {
    if std::env::var_os("SWARM_WRITE_FIXTURES").is_some() {
        write_fixture().await;
    }
    let kept = std::fs::read_to_string(path("backup-v1.txt")).unwrap();
    assert_eq!(described().await, kept);
    for kind in [
        "VersionRegistered",
        "VersionsCollected",
        "AliasMoved",
        "AliasProtected",
        "Deployed",
        "RolledBack",
        "Promoted",
    ] {
        assert!(kept.contains(kind), "the fixture lacks {kind}");
    }
}
