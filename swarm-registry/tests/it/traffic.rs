use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use futures::StreamExt;
use proptest::prelude::*;
use swarm_registry::testing::{FakeClock, FaultyStore};
use swarm_registry::{
    DeploymentCause, Digest, ErrorKind, EventKind, ObjectVersionStore, Routed, Split, Version,
    VersionRegistry, WatchOptions, slot,
};

use crate::registry_with;

#[test]
fn weights_that_are_no_split_are_refused_by_name() {
    for (weights, part) in [
        (vec![("v1", 0.8), ("v2", 0.2)], "looks like a fraction"),
        (vec![("v1", 1.0)], "looks like a fraction"),
        (vec![("v1", f64::NAN), ("v2", 20.0)], "is not a number"),
        (vec![("v1", -1.0), ("v2", 101.0)], "is negative"),
        (vec![("v1", 101.0)], "is over 100 %"),
        (vec![("v1", 99.999), ("v2", 0.001)], "is finer than 0.01 %"),
        (vec![("v1", 80.0), ("v2", 10.0)], "the weights make 90 %"),
        (vec![("v1", 80.0), ("v2", 21.0)], "the weights make 101 %"),
        (vec![("v1", 50.0), ("v1", 50.0)], "stands twice"),
        (vec![], "the weights make 0 %"),
    ] {
        let error = Split::of(weights.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(part), "{weights:?}: {error}");
    }
    let thirds = Split::of([("a", 33.33), ("b", 33.33), ("c", 33.34), ("d", 0.0)]).unwrap();
    assert_eq!(thirds.basis_points().collect::<Vec<_>>(), [("a", 3333), ("b", 3333), ("c", 3334)]);
}

/// A fifth of the agents, then all, then back: the founding example.
#[tokio::test]
async fn a_rollback_restores_the_split_before_and_the_next_one_goes_further() {
    let registry = registry_with(&["v1", "v2", "v3"]).await;
    let split = |old: f64| Split::of([("v1", old), ("v2", 100.0 - old)]).unwrap();
    registry.deploy("production", Split::all("v1")).await.unwrap();
    registry.deploy("production", split(80.0)).await.unwrap();
    registry.deploy("production", Split::all("v2")).await.unwrap();
    let back = registry.rollback("production").await.unwrap();
    assert_eq!((back.number(), back.cause()), (4, DeploymentCause::RolledBack(2)));
    assert_eq!(back.split(), split(80.0));
    assert_eq!(registry.rollback("production").await.unwrap().split(), Split::all("v1"));
    let end = registry.rollback("production").await.unwrap_err();
    assert_eq!((end.kind(), end.channel()), (ErrorKind::InvalidState, Some("production")));
    // What is deployed after a rollback stands on what was restored.
    registry.deploy("production", Split::all("v3")).await.unwrap();
    assert_eq!(registry.rollback("production").await.unwrap().split(), Split::all("v1"));
    let causes: Vec<_> =
        registry.deployments("production").await.unwrap().iter().map(|d| d.cause()).collect();
    assert_eq!(causes.len(), 7, "history is appended to");
    assert_eq!(causes[5], DeploymentCause::Deployed);
}

/// A release that is deployed twice, as by a job that ran again, is gone after one rollback.
#[tokio::test]
async fn a_rollback_passes_over_what_serves_the_same() {
    let registry = registry_with(&["v1", "v2"]).await;
    let pinned = || Split::all("v2").pin("user-42", "v1");
    for split in [Split::all("v1"), Split::all("v2"), pinned(), pinned(), pinned()] {
        registry.deploy("production", split).await.unwrap();
    }
    let back = registry.rollback("production").await.unwrap();
    assert_eq!((back.cause(), back.split()), (DeploymentCause::RolledBack(2), Split::all("v2")));
    assert_eq!(registry.rollback("production").await.unwrap().split(), Split::all("v1"));
    registry.deploy("production", Split::all("v1")).await.unwrap();
    let end = registry.rollback("production").await.unwrap_err();
    assert_eq!(end.kind(), ErrorKind::InvalidState, "nothing before serves anything else");
}

#[tokio::test]
async fn a_rollback_to_a_version_takes_the_last_deployment_it_had_alone() {
    let registry = registry_with(&["v1", "v2", "v3"]).await;
    for split in [
        Split::all("v1"),
        Split::all("v2"),
        Split::of([("v2", 50.0), ("v3", 50.0)]).unwrap(),
        Split::all("v3"),
    ] {
        registry.deploy("production", split).await.unwrap();
    }
    let back = registry.rollback_to("production", "v2").await.unwrap();
    assert_eq!(back.cause(), DeploymentCause::RolledBack(2));
    assert_eq!(back.good(), [1]);
    let never = registry.rollback_to("production", "v3").await.unwrap_err();
    assert_eq!(never.kind(), ErrorKind::InvalidState, "it was rolled back from");
    assert_eq!(registry.rollback("production").await.unwrap().sole_version(), Some("v1"));
}

/// Whoever lost the answer asks again.
#[tokio::test]
async fn a_rollback_to_a_version_that_serves_alone_changes_nothing() {
    let registry = registry_with(&["v1", "v2"]).await;
    for version in ["v1", "v2", "v1", "v2"] {
        registry.deploy("production", Split::all(version)).await.unwrap();
    }
    let back = registry.rollback_to("production", "v1").await.unwrap();
    let again = registry.rollback_to("production", "v1").await.unwrap();
    assert_eq!((again.clone(), again.good()), (back, &[1, 2][..]));
}

#[tokio::test]
async fn verbs_that_name_a_deployment_happen_once() {
    let registry = registry_with(&["v1", "v2"]).await;
    registry.deploy_after("production", 0, Split::all("v1")).await.unwrap();
    let late = registry.deploy_after("production", 0, Split::all("v2")).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Conflict);
    registry.deploy_after("production", 1, Split::all("v2")).await.unwrap();
    registry.rollback_from("production", 2).await.unwrap();
    let again = registry.rollback_from("production", 2).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::Conflict, "two who see the same trouble roll back once");
}

#[tokio::test]
async fn a_promotion_takes_the_one_version_of_another_channel() {
    let registry = registry_with(&["v1", "v2"]).await;
    registry.deploy("staging", Split::of([("v1", 50.0), ("v2", 50.0)]).unwrap()).await.unwrap();
    let split = registry.promote("staging", "production").await.unwrap_err();
    assert_eq!(split.kind(), ErrorKind::InvalidState);
    registry.deploy("staging", Split::all("v2")).await.unwrap();
    let made = registry.promote("staging", "production").await.unwrap();
    assert_eq!((made.sole_version(), made.cause()), (Some("v2"), DeploymentCause::Promoted));
    let pinned = Split::all("v1").pin("tester", "v2").mirror("v2", 5.0).unwrap();
    registry.deploy("production", pinned).await.unwrap();
    let made = registry.promote("staging", "production").await.unwrap();
    assert_eq!(made.split(), Split::all("v2"), "without what was pinned and mirrored");
    let near = registry.promote("stagin", "production").await.unwrap_err().to_string(); // typos:ignore-line
    assert!(near.contains("did you mean \"staging\"?"), "{near}");
}

#[tokio::test]
async fn pinned_keys_and_the_mirror_are_what_the_split_says() {
    let registry = registry_with(&["v1", "v2", "v3"]).await;
    let split = Split::all("v1").pin("tester", "v2").mirror("v3", 10.0).unwrap();
    registry.deploy("production", split.clone()).await.unwrap();
    let router = registry.router("production").await.unwrap();
    assert_eq!(router.route("tester"), "v2");
    let mirrored =
        (0..100_000).filter(|user| router.route(&format!("user-{user}")).mirror() == Some("v3")).count();
    // 10,000 expected; three standard deviations are 285.
    assert!((9_715..=10_285).contains(&mirrored), "{mirrored}");
    let mut cached = router.cached();
    for user in 0..1_000 {
        let key = format!("user-{user}");
        let routed = router.route(&key);
        let same = cached.route(&key);
        assert_eq!((same.version(), same.mirror()), (routed.version(), routed.mirror()));
    }
    registry.deploy("production", Split::all("v3")).await.unwrap();
    assert_eq!(cached.route("tester"), "v3", "a pin is part of the split");
    registry.rollback("production").await.unwrap();
    assert_eq!(router.deployment().split(), split, "and restored with it");
    let unknown = registry.deploy("production", Split::all("v1").pin("x", "v9")).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::NotFound);
    for (percent, part) in [
        (f64::NAN, "is not a number"),
        (-1.0, "is negative"),
        (100.01, "is over 100 %"),
        (0.001, "is finer than 0.01 %"),
    ] {
        let error = Split::all("v1").mirror("v2", percent).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().ends_with(part) && error.to_string().contains("\"v2\""), "{error}");
    }
    assert_eq!(Split::all("v1").mirror("v2", 0.0).unwrap(), Split::all("v1"));
}

/// Whoever is mirrored is so by another part of the hash than that of the slot: each version gives its share.
#[tokio::test]
async fn a_mirror_sees_some_of_every_version() {
    let registry = registry_with(&["v1", "v2", "v3"]).await;
    let split = Split::of([("v1", 50.0), ("v2", 50.0)]).unwrap().mirror("v3", 10.0).unwrap();
    registry.deploy("production", split).await.unwrap();
    let router = registry.router("production").await.unwrap();
    for version in ["v1", "v2"] {
        let keys = (0..20_000).map(|user| format!("user-{user}"));
        let of: Vec<bool> = keys
            .filter(|key| router.route(key) == version)
            .map(|key| router.route(&key).mirror().is_some())
            .collect();
        let mirrored = of.iter().filter(|mirrored| **mirrored).count();
        // About 1,000 expected; three standard deviations are 90.
        assert!(mirrored.abs_diff(of.len() / 10) < 90, "{version}: {mirrored} of {}", of.len());
    }
}

/// What others deploy reaches the routers of a process that follows, also after its store was away.
#[tokio::test]
async fn a_process_that_follows_routes_as_the_others_do() {
    let clock = FakeClock::hurried(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
    let store = ObjectVersionStore::memory();
    let first = VersionRegistry::with_store(store.clone()).await.unwrap();
    for version in ["v1", "v2", "v3"] {
        first.register(Version::new(version).artifact(version)).await.unwrap();
    }
    first.deploy("production", Split::all("v1")).await.unwrap();
    let faulty = FaultyStore::new(store);
    let builder = VersionRegistry::builder().clock(Arc::new(clock.clone()));
    let second = builder.with_store(faulty.clone()).await.unwrap();
    let router = second.router("production").await.unwrap();
    let following = tokio::spawn({
        let second = second.clone();
        async move { second.follow(Duration::from_secs(5)).await }
    });
    let until = async |version: &str| {
        while router.route("anyone") != version {
            tokio::task::yield_now().await;
        }
    };
    first.deploy("production", Split::all("v2")).await.unwrap();
    until("v2").await;
    faulty.away(true);
    first.deploy("production", Split::all("v3")).await.unwrap();
    while second.refresh().await.is_ok() {}
    tokio::task::yield_now().await;
    assert_eq!(router.route("anyone"), "v2", "it goes on with what it has");
    faulty.away(false);
    until("v3").await;
    assert!(!following.is_finished());
}

/// With pins and a mirror, by each way to ask, after the first question of the thread.
#[tokio::test]
async fn routing_allocates_nothing() {
    let registry = registry_with(&["v1", "v2"]).await;
    let split =
        Split::of([("v1", 80.0), ("v2", 20.0)]).unwrap().pin("user-7", "v2").mirror("v2", 5.0).unwrap();
    registry.deploy("production", split).await.unwrap();
    let router = registry.router("production").await.unwrap();
    let mut cached = router.cached();
    let keys: Vec<String> = (0..1_000).map(|at| format!("user-{at}{}", "-".repeat(at % 300))).collect();
    let mut ask = || {
        let mut second = 0;
        for key in &keys {
            let routed = router.route(key);
            second += usize::from(routed == "v2") + usize::from(routed.mirror().is_some());
            let routed = cached.route(key);
            second += usize::from(routed == "v2") + usize::from(routed.mirror().is_some());
            second += usize::from(routed.deployment().number() != 1);
        }
        second
    };
    assert!(ask() > 300, "some keys get each");
    let counted = allocation_counter::measure(|| assert!(ask() > 300));
    assert_eq!((counted.count_total, counted.bytes_total), (0, 0));
    let counted = allocation_counter::measure(|| drop(std::hint::black_box(String::from("x"))));
    assert_eq!(counted.count_total, 1, "allocations are counted");
}

/// Made with the Python binding of the reference implementation, xxhash 4.1.0: see the recipe at `slot`.
#[test]
fn slots_are_those_of_the_reference_implementation() {
    let long = [b'x'; 300];
    let counting: Vec<u8> = (0..17).collect();
    for (channel, key, expected) in [
        ("production", &b"user-42"[..], 4324),
        ("production", b"", 7261),
        ("staging", b"user-42", 6412),
        ("production", "grüße".as_bytes(), 99),
        ("canary", &long, 4065),
        ("production", b"0123456789abcdef", 826),
        ("production", &counting, 9405),
    ] {
        assert_eq!(slot(channel, key), expected, "{channel} {key:?}");
    }
}

/// Chi-square over the 10,000 slots: 9,999 degrees of freedom, so the mean is 9,999 and the deviation 141.4. Beyond 4
/// deviations in either direction is one in 16,000 for a good hash; the keys are fixed, so this is no lottery.
#[test]
fn keys_of_every_kind_spread_evenly_over_the_slots() {
    let mixed = |at: u64| {
        let mut x = at.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    };
    type Keys<'a> = (&'a str, &'a dyn Fn(u64) -> String);
    let kinds: [Keys<'_>; 4] = [
        ("numbers", &|at| at.to_string()),
        ("user ids", &|at| format!("user-{at:08}")),
        ("uuids", &|at| {
            let (a, b) = (mixed(at), mixed(!at));
            format!(
                "{:08x}-{:04x}-4{:03x}-8{:03x}-{:012x}",
                a >> 32,
                a >> 16 & 0xffff,
                a & 0xfff,
                b >> 52,
                b >> 16
            )
        }),
        ("mail addresses", &|at| format!("first.last{at}@mail{}.example.org", at % 7)),
    ];
    for (kind, key) in kinds {
        const KEYS: u64 = 1_000_000;
        let mut counts = vec![0_u64; 10_000];
        for at in 0..KEYS {
            counts[usize::from(slot("production", key(at).as_bytes()))] += 1;
        }
        let expected = KEYS as f64 / 10_000.0;
        let chi: f64 = counts.iter().map(|count| (*count as f64 - expected).powi(2) / expected).sum();
        assert!((chi - 9_999.0).abs() < 4.0 * 141.4, "{kind}: chi-square {chi}");
        // A fifth of the slots has a fifth of the keys, within three standard deviations.
        let fifth: u64 = counts[..2_000].iter().sum();
        let deviation = (KEYS as f64 * 0.2 * 0.8).sqrt();
        assert!((fifth as f64 - 200_000.0).abs() < 3.0 * deviation, "{kind}: {fifth}");
    }
}

#[tokio::test]
async fn a_router_goes_on_with_the_last_table_while_the_store_is_away() {
    let store = FaultyStore::new(ObjectVersionStore::memory());
    let registry = VersionRegistry::with_store(store.clone()).await.unwrap();
    registry.register(Version::new("v1").artifact("1")).await.unwrap();
    registry.deploy("production", Split::all("v1")).await.unwrap();
    let router = registry.router("production").await.unwrap();
    store.away(true);
    let error = registry.refresh().await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Store, true));
    assert_eq!(router.route("anyone"), "v1");
}

/// Two registries on one store stand for two processes.
#[tokio::test]
async fn a_watch_brings_what_another_process_deployed() {
    let inner = ObjectVersionStore::memory();
    let other = VersionRegistry::with_store(inner.clone()).await.unwrap();
    for version in ["v1", "v2"] {
        other.register(Version::new(version).artifact(version)).await.unwrap();
    }
    other.deploy("production", Split::all("v1")).await.unwrap();

    let clock = FakeClock::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
    let store = FaultyStore::new(inner);
    let builder = VersionRegistry::builder().clock(Arc::new(clock.clone()));
    let registry = builder.with_store(store.clone()).await.unwrap();
    let router = registry.router("production").await.unwrap();
    let wait = Duration::from_secs(1);
    let options = WatchOptions::default().shortest(wait).longest(wait);
    let mut watch = registry.watch(options);

    let followed = tokio::spawn(async move {
        let event = watch.next().await.unwrap().unwrap();
        (event, watch)
    });
    clock.asleep(1).await;
    other.deploy("production", Split::all("v2")).await.unwrap();
    assert_eq!(router.route("anyone"), "v1", "nobody has asked the store yet");
    clock.advance(wait);
    let (event, mut watch) = followed.await.unwrap();
    assert!(matches!(&event.kind, EventKind::Deployed(made) if made.sole_version() == Some("v2")));
    assert_eq!(router.route("anyone"), "v2");

    // Away, it says so, waits, and goes on.
    store.away(true);
    assert_eq!(watch.next().await.unwrap().unwrap_err().kind(), ErrorKind::Store);
    store.away(false);
    other.rollback("production").await.unwrap();
    let followed = tokio::spawn(async move { watch.next().await.unwrap().unwrap() });
    clock.asleep(1).await;
    clock.advance(wait);
    assert!(matches!(followed.await.unwrap().kind, EventKind::Deployed(_)));
    assert_eq!(router.route("anyone"), "v1");
}

/// What this process wrote is told without the store. Where that fails, a watch waits, whatever there is to tell.
#[tokio::test]
async fn a_watch_that_failed_waits_though_there_is_something_to_read() {
    let clock = FakeClock::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
    let store = FaultyStore::new(ObjectVersionStore::memory());
    let builder = VersionRegistry::builder().clock(Arc::new(clock.clone()));
    let registry = builder.with_store(store.clone()).await.unwrap();
    let wait = Duration::from_secs(1);
    let mut watch = registry.watch(WatchOptions::default().shortest(wait).longest(wait));
    registry.register(Version::new("v1").artifact("1")).await.unwrap();
    store.away(true);
    let event = watch.next().await.unwrap().unwrap();
    assert!(matches!(event.kind, EventKind::VersionRegistered { version } if version == "v1"));
    assert!(watch.next().await.unwrap().is_err());
    assert!(futures::poll!(watch.next()).is_pending());
    clock.advance(wait);
    assert!(watch.next().await.unwrap().is_err());
    store.away(false);
    registry.register(Version::new("v2").artifact("2")).await.unwrap();
    assert!(futures::poll!(watch.next()).is_pending());
    clock.advance(wait);
    let event = watch.next().await.unwrap().unwrap();
    assert!(matches!(event.kind, EventKind::VersionRegistered { .. }));
}

/// A version and the mirror beside it are of one deployment, for readers in other threads while it changes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_sees_half_a_change() {
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    let registry = registry_with(&["a", "a-mirror", "b", "b-mirror"]).await;
    let split = |version: &str| Split::all(version).mirror(format!("{version}-mirror"), 100.0).unwrap();
    registry.deploy("production", split("a")).await.unwrap();
    let router = registry.router("production").await.unwrap();
    let done = AtomicBool::new(false);
    let seen = [AtomicU64::new(0), AtomicU64::new(0)];
    let handle = tokio::runtime::Handle::current();
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut cached = router.cached();
                while !done.load(Ordering::Relaxed) {
                    let whole = |routed: &Routed<'_>| {
                        assert_eq!(routed.mirror().unwrap(), format!("{routed}-mirror"));
                        assert_eq!(routed.deployment().sole_version(), Some(routed.version()));
                    };
                    whole(&cached.route("anyone"));
                    let routed = router.route("anyone");
                    whole(&routed);
                    seen[usize::from(routed == "b")].fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        // Until the readers have seen both, often; a reader that failed sees no more, so there is an end.
        scope.spawn(|| {
            let few = || seen.iter().any(|count| count.load(Ordering::Relaxed) < 1_000);
            for _ in (0..20_000).take_while(|_| few()) {
                for version in ["b", "a"] {
                    handle.block_on(registry.deploy("production", split(version))).unwrap();
                }
            }
            done.store(true, Ordering::Relaxed);
        });
    });
    assert!(seen.iter().all(|count| count.load(Ordering::Relaxed) >= 1_000), "{seen:?}");
}

/// A plain model of one channel: the split that each deployment had, and the stack of the good ones.
#[derive(Default)]
struct Model {
    splits: Vec<Vec<(String, u16)>>,
    stack: Vec<usize>,
}

#[derive(Debug, Clone)]
enum Verb {
    Deploy(Vec<(String, u16)>),
    Rollback,
    RollbackTo(usize),
    Reopen,
    Compact,
}

fn verbs() -> impl Strategy<Value = Vec<Verb>> {
    let split = prop::collection::vec(0..=10_000_u16, 0..4).prop_map(|mut cuts| {
        cuts.sort_unstable();
        let ends = cuts.iter().copied().chain([10_000]);
        let starts = std::iter::once(0).chain(cuts.iter().copied());
        let weights = starts.zip(ends).enumerate().map(|(at, (start, end))| (format!("v{at}"), end - start));
        weights.filter(|(_, points)| *points > 0).collect::<Vec<_>>()
    });
    let verb = prop_oneof![
        4 => split.prop_map(Verb::Deploy),
        2 => Just(Verb::Rollback),
        1 => (0..4_usize).prop_map(Verb::RollbackTo),
        1 => Just(Verb::Reopen),
        1 => Just(Verb::Compact),
    ];
    prop::collection::vec(verb, 1..25)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// Whatever is deployed and rolled back: the split is the model's, the fewest slots move, none between versions that
    /// do not shrink, and a restart or a compaction changes nothing.
    #[test]
    fn a_channel_is_what_a_plain_model_says(verbs in verbs()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let store = ObjectVersionStore::memory();
            let mut registry = VersionRegistry::with_store(store.clone()).await.unwrap();
            for at in 0..4 {
                registry.register(Version::new(format!("v{at}")).artifact("x")).await.unwrap();
            }
            let mut model = Model::default();
            for verb in verbs {
                let before = registry.deployment("c").await.ok();
                let (made, expected) = match verb {
                    Verb::Deploy(weights) => {
                        model.splits.push(weights.clone());
                        model.stack.push(model.splits.len() - 1);
                        let split = Split::of_basis_points(weights).unwrap();
                        (registry.deploy("c", split).await.ok(), model.stack.last().copied())
                    }
                    Verb::Rollback => {
                        let now = model.stack.last().map(|at| &model.splits[*at]);
                        let found = model.stack.iter().rposition(|at| Some(&model.splits[*at]) != now);
                        if let Some(at) = found {
                            model.stack.truncate(at + 1);
                            model.splits.push(model.splits[model.stack[at]].clone());
                        }
                        let made = registry.rollback("c").await.ok();
                        (made, found.and_then(|_| model.stack.last().copied()))
                    }
                    Verb::RollbackTo(version) => {
                        let id = format!("v{version}");
                        let alone = |at: &usize| model.splits[*at] == [(id.clone(), 10_000)];
                        if model.stack.last().is_some_and(alone) {
                            let kept = registry.rollback_to("c", &id).await.unwrap();
                            assert_eq!(Some(kept), before);
                            continue;
                        }
                        let good = model.stack.len().saturating_sub(1);
                        let found = model.stack[..good].iter().rposition(alone);
                        if let Some(at) = found {
                            model.stack.truncate(at + 1);
                            model.splits.push(model.splits[model.stack[at]].clone());
                        }
                        let made = registry.rollback_to("c", &id).await.ok();
                        (made, found.and_then(|_| model.stack.last().copied()))
                    }
                    Verb::Reopen => {
                        registry = VersionRegistry::with_store(store.clone()).await.unwrap();
                        continue;
                    }
                    Verb::Compact => {
                        registry.compact(swarm_registry::Retention::everything()).await.unwrap();
                        continue;
                    }
                };
                assert_eq!(made.is_some(), expected.is_some());
                let (Some(made), Some(expected)) = (made, expected) else { continue };
                let split = made.split();
                let weights: Vec<(String, u16)> = split.basis_points().map(|(v, p)| (v.to_owned(), p)).collect();
                assert_eq!(weights, model.splits[expected]);
                assert_eq!(made.number() as usize, model.splits.len());
                if let (Some(before), DeploymentCause::Deployed) = (before, made.cause()) {
                    fewest_move(&before.split(), &split, &before.slots(), &made.slots());
                }
            }
        });
    }
}

fn fewest_move(old: &Split, new: &Split, before: &[String], after: &[String]) {
    let old: BTreeMap<&str, u16> = old.basis_points().collect();
    let new: BTreeMap<&str, u16> = new.basis_points().collect();
    let grown = |version: &str| {
        let weight = |split: &BTreeMap<&str, u16>| split.get(version).copied().unwrap_or(0);
        weight(&new).saturating_sub(weight(&old))
    };
    let least: usize = new.keys().map(|version| usize::from(grown(version))).sum();
    let moved: Vec<_> = before.iter().zip(after).filter(|(from, to)| from != to).collect();
    assert_eq!(moved.len(), least);
    assert!(moved.iter().all(|(from, to)| grown(from) == 0 && grown(to) > 0));
}

/// No wait at all would be a loop that only asks, and twice the longest wait there is would be longer.
#[tokio::test]
async fn a_watch_takes_any_waits() {
    let least = Duration::from_millis(1);
    let options = WatchOptions::default();
    assert_eq!(
        options.shortest(Duration::ZERO).longest(Duration::ZERO),
        options.shortest(least).longest(least)
    );
    let store = ObjectVersionStore::memory();
    let clock = FakeClock::hurried(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
    let builder = VersionRegistry::builder().clock(Arc::new(clock));
    let registry = builder.with_store(store.clone()).await.unwrap();
    let mut watch = registry.watch(options.shortest(Duration::MAX).longest(Duration::MAX));
    let elsewhere = tokio::spawn(async move {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
        let other = VersionRegistry::with_store(store).await.unwrap();
        other.register(Version::new("v1").artifact("1")).await.unwrap();
    });
    let event = watch.next().await.unwrap().unwrap();
    assert!(matches!(event.kind, EventKind::VersionRegistered { .. }), "{event:?}");
    elsewhere.await.unwrap();
}

/// Also around the most that a byte can tell apart.
#[tokio::test]
async fn any_number_of_versions_is_routed_by_the_same_table() {
    for count in [256_u16, 257, 1_000] {
        let registry = VersionRegistry::with_store(ObjectVersionStore::memory()).await.unwrap();
        let digest = Digest::of(b"the same");
        for at in 0..count {
            registry.register(Version::new(format!("v{at}")).digest(digest)).await.unwrap();
        }
        let rest = 10_000 - (count - 1);
        let points = (0..count).map(|at| (format!("v{at}"), if at == 0 { rest } else { 1 }));
        let split = Split::of_basis_points(points).unwrap();
        let table = registry.deploy("production", split).await.unwrap().slots();
        let router = registry.router("production").await.unwrap();
        let mut seen = BTreeSet::new();
        for key in (0..60_000).map(|at| format!("user-{at}")) {
            let version = &table[usize::from(slot("production", key.as_bytes()))];
            assert_eq!(router.route(&key), version.as_str(), "{key} of {count}");
            seen.insert(version);
        }
        assert!(seen.len() > usize::from(count) * 9 / 10, "{} of {count}", seen.len());
    }
}
