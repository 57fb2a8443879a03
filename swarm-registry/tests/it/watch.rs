//! What a watch tells, and when it asks.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use swarm_registry::testing::FakeClock;
use swarm_registry::{
    Event, EventKind, ObjectVersionStore, Result, Retention, Rollout, Split, Version, VersionRegistry,
    VersionStore, Watch, WatchOptions,
};

fn start() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

fn tomorrow() -> Retention {
    Retention::since(Utc::now() + TimeDelta::days(1))
}

async fn opened(store: &ObjectVersionStore) -> VersionRegistry {
    VersionRegistry::with_store(store.clone()).await.unwrap()
}

/// The events up to that of record `last`.
async fn told(watch: &mut Watch, last: u64) -> Vec<Event> {
    let mut events = Vec::new();
    while events.last().is_none_or(|event: &Event| event.record < last) {
        events.push(watch.next().await.unwrap().unwrap());
    }
    events
}

fn skipped(events: &[Event]) -> Vec<u64> {
    let skips = events.iter().filter(|event| event.kind == EventKind::RecordsSkipped);
    skips.map(|event| event.record).collect()
}

/// Eight records: three versions, three moves of an alias, two deployments.
async fn write(registry: &VersionRegistry) {
    for version in ["v1", "v2", "stray"] {
        registry.register(Version::new(version).artifact(version)).await.unwrap();
    }
    for (from, to) in [(None, Some("v1")), (Some("v1"), None), (None, Some("v2"))] {
        registry.move_alias("stable", from, to).await.unwrap();
    }
    for version in ["v1", "v2"] {
        registry.deploy("production", Split::all(version)).await.unwrap();
    }
}

#[tokio::test]
async fn a_watch_leaves_out_nothing_that_a_compaction_kept() {
    let store = ObjectVersionStore::memory();
    let (registry, other) = (opened(&store).await, opened(&store).await);
    let mut watch = other.watch(WatchOptions::default());
    write(&registry).await;
    registry.compact(Retention::everything()).await.unwrap();
    let events = told(&mut watch, 8).await;
    assert_eq!(events, registry.history(1).await.unwrap());
    let router = other.router("production").await.unwrap();

    // Behind a collection, of which everybody hears, and the records that it takes away before anybody heard.
    registry.deploy("production", Split::all("v1")).await.unwrap();
    registry.rollback("production").await.unwrap();
    registry.deploy("production", Split::all("v1")).await.unwrap();
    registry.rollback("production").await.unwrap();
    registry.compact(tomorrow()).await.unwrap();
    let kept = registry.history(9).await.unwrap();
    let events = told(&mut watch, 13).await;
    assert_eq!(skipped(&events), [11], "9 to 11 are gone");
    let (_, others): (Vec<Event>, Vec<Event>) =
        events.into_iter().partition(|event| event.kind == EventKind::RecordsSkipped);
    assert_eq!(others, kept);
    let collected = EventKind::VersionsCollected { versions: vec!["stray".into()] };
    assert_eq!(others.last().unwrap().kind, collected);
    assert_eq!(router.route("anyone"), "v2", "what it read is served");
    assert_eq!(router.deployment().number(), 6);
}

#[tokio::test]
async fn an_event_reads_as_one_line() {
    let clock = FakeClock::new("2026-03-01T09:00:00Z".parse().unwrap());
    let registry = VersionRegistry::builder().clock(Arc::new(clock));
    let registry = registry.with_store(ObjectVersionStore::memory()).await.unwrap();
    write(&registry).await;
    let ops = registry.acting_as("ops");
    ops.rollback("production").await.unwrap();
    let plan = Rollout::new().weight(12.5).weight(100.0);
    registry.start_rollout("production", "v2", &plan).await.unwrap();
    registry.drive_rollout("production", &()).await.unwrap();
    let begun = registry.start_rollout("production", "v1", &plan).await.unwrap();
    registry.abort_rollout(&begun, "late\n43 ops: \u{1b}[2Jnothing").await.unwrap();
    let lines: Vec<String> = registry.history(4).await.unwrap().iter().map(ToString::to_string).collect();
    let expected = [
        "4 2026-03-01T09:00:00Z: alias stable: nothing to v1",
        "5 2026-03-01T09:00:00Z: alias stable: v1 to nothing",
        "6 2026-03-01T09:00:00Z: alias stable: nothing to v2",
        "7 2026-03-01T09:00:00Z: production #1: v1 100%",
        "8 2026-03-01T09:00:00Z: production #2: v2 100%",
        "9 2026-03-01T09:00:00Z ops: production #3: v1 100%, as in #1",
        "10 2026-03-01T09:00:00Z: rollout 10 of production: started with v2",
        "11 2026-03-01T09:00:00Z: rollout 10 of production: driver 1 until 2026-03-01T09:03:00Z",
        "12 2026-03-01T09:00:00Z: rollout 10 of production: weighted, at step 1, \
         production #4: v1 87.5%, v2 12.5%, by rollout 10",
        "13 2026-03-01T09:00:00Z: rollout 10 of production: weighted, completed after 2 steps, \
         production #5: v2 100%, by rollout 10",
        "14 2026-03-01T09:00:00Z: rollout 14 of production: started with v1",
        "15 2026-03-01T09:00:00Z: rollout 14 of production: aborted (late\\n43 ops: \\u{1b}[2Jnothing)",
    ];
    assert_eq!(lines, expected);
}

#[tokio::test]
async fn a_watch_goes_on_after_a_restart_where_it_was() {
    let store = ObjectVersionStore::memory();
    let registry = opened(&store).await;
    write(&registry).await;
    let history = registry.history(1).await.unwrap();
    let mut events = told(&mut opened(&store).await.watch_from(1, WatchOptions::default()), 3).await;
    events.extend(told(&mut opened(&store).await.watch_from(4, WatchOptions::default()), 8).await);
    assert_eq!(events, history);
    for from in 0..10 {
        let later: Vec<Event> = history.iter().filter(|event| event.record >= from).cloned().collect();
        assert_eq!(registry.history(from).await.unwrap(), later, "from {from}");
    }
    registry.compact(tomorrow()).await.unwrap();
    let events = told(&mut opened(&store).await.watch_from(1, WatchOptions::default()), 9).await;
    assert_eq!(skipped(&events), [5], "3 to 5: the stray version, and an alias that pointed elsewhere");
    assert_eq!(events.len(), 1 + registry.history(1).await.unwrap().len());
    // The last records can be gone too: the next event is of a later one.
    let mut late = opened(&store).await.watch_from(12, WatchOptions::default());
    for _ in 0..3 {
        registry.deploy("production", Split::all("v1")).await.unwrap();
    }
    assert_eq!(told(&mut late, 12).await[0].deployment().unwrap().number(), 5);
}

/// More than a process keeps for its watches.
#[tokio::test]
async fn a_watch_that_falls_far_behind_reads_what_the_process_has_forgotten() {
    let store = ObjectVersionStore::memory();
    let registry = opened(&store).await;
    let mut watch = registry.watch(WatchOptions::default());
    let large = "x".repeat(400_000);
    for at in 1..=8 {
        let version = Version::new(format!("v{at}")).artifact("same").metadata("large", large.as_str());
        registry.register(version).await.unwrap();
        if at == 4 {
            registry.compact(Retention::everything()).await.unwrap();
        }
    }
    let events = told(&mut watch, 8).await;
    assert_eq!(events.iter().map(|event| event.record).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert!(skipped(&events).is_empty());
}

/// Notes when the log was asked for its next record, and lets another registry write before some answers.
#[derive(Clone)]
struct Asked {
    store: ObjectVersionStore,
    clock: FakeClock,
    at: Arc<Mutex<Vec<i64>>>,
    /// Before these questions, counted from 1.
    writes: [usize; 2],
}

#[async_trait]
impl VersionStore for Asked {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        if name.starts_with("log/") {
            let number = {
                let mut at = self.at.lock().unwrap();
                at.push((swarm_registry::Clock::now(&self.clock) - start()).num_seconds());
                at.len()
            };
            if self.writes.contains(&number) {
                let other = opened(&self.store).await;
                other.register(Version::new(format!("v{number}")).artifact("1")).await.unwrap();
            }
        }
        self.store.get(name).await
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool> {
        self.store.create(name, bytes).await
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.store.put(name, bytes).await
    }

    async fn list(&self, folder: &str, after: &str) -> Result<Vec<String>> {
        self.store.list(folder, after).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.store.delete(name).await
    }
}

#[tokio::test]
async fn a_watch_asks_less_and_less_often_until_something_happens() {
    let clock = FakeClock::hurried(start());
    let store = Asked {
        store: ObjectVersionStore::memory(),
        clock: clock.clone(),
        at: Arc::default(),
        writes: [7, 11],
    };
    let builder = VersionRegistry::builder().clock(Arc::new(clock));
    let registry = builder.with_store(store.clone()).await.unwrap();
    let seconds = Duration::from_secs;
    let mut watch = registry.watch(WatchOptions::default().shortest(seconds(1)).longest(seconds(8)));
    for _ in 0..2 {
        let event = watch.next().await.unwrap().unwrap();
        assert!(matches!(event.kind, EventKind::VersionRegistered { .. }));
    }
    // Once at each of these times, and at once after an event.
    assert_eq!(*store.at.lock().unwrap(), [0, 1, 3, 7, 15, 23, 31, 31, 32, 34, 38]);
}
