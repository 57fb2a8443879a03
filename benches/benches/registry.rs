//! The registry's hot paths: routing a key, beside its parts and a lock, and going back.
//!
//! Routing is `registry/route`, with keys of 16 bytes; `part` is what any way to route without a lock needs, alone: a hash, a
//! look into a table of slots, arc-swap. `peer` is a `RwLock` around a table, with the standard hasher. `registry/rollback`
//! is with 10,000 versions, in memory and in a folder; each prints the 99th percentile of 1,000 rollbacks too.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench")]

use std::collections::hash_map::DefaultHasher;
use std::hash::{BuildHasher, Hash, Hasher};
use std::hint::black_box;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, Cache};
use criterion::{Criterion, criterion_group, criterion_main};
use swarm_benches::measure::test_mode;
use swarm_registry::{ObjectVersionStore, Split, Version, VersionRegistry};
use tokio::runtime::{Builder, Runtime};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn registry(store: ObjectVersionStore, versions: usize) -> VersionRegistry {
    let registry = VersionRegistry::with_store(store).await.unwrap();
    let digest = swarm_registry::Digest::of(b"the same");
    for at in 0..versions {
        registry.register(Version::new(format!("v{at}")).digest(digest)).await.unwrap();
    }
    registry.deploy("production", Split::of([("v0", 80.0), ("v1", 20.0)]).unwrap()).await.unwrap();
    registry
}

fn route(c: &mut Criterion) {
    let runtime = runtime();
    let registry = runtime.block_on(registry(ObjectVersionStore::memory(), 2));
    let router = runtime.block_on(registry.router("production")).unwrap();
    let keys: Vec<String> = (0..1_024).map(|at| format!("user-{at:011}")).collect();
    assert_eq!(keys[0].len(), 16);
    let mut group = c.benchmark_group("registry/route");
    let mut at = 0;
    let mut next = || {
        at = (at + 1) % 1_024;
        &*keys[at]
    };
    group.bench_function("part: key", |b| b.iter(|| black_box(next()).len()));
    let mut cached = router.cached();
    group.bench_function("cached", |b| b.iter(|| black_box(cached.route(black_box(next())).as_ptr())));
    group.bench_function("plain", |b| b.iter(|| black_box(router.route(black_box(next()))).len()));
    let ahash = ahash::RandomState::with_seeds(1, 2, 3, 4);
    group.bench_function("part: ahash", |b| b.iter(|| ahash.hash_one(black_box(next()))));
    let foldhash = foldhash::quality::FixedState::default();
    group.bench_function("part: foldhash", |b| b.iter(|| foldhash.hash_one(black_box(next()))));
    let seed = xxh3_64(b"production");
    group.bench_function("part: xxh3", |b| {
        b.iter(|| xxh3_64_with_seed(black_box(next()).as_bytes(), seed));
    });
    let slots: Vec<u16> = (0..10_000).map(|slot| u16::from(slot >= 8_000)).collect();
    let mut hash = 0_u64;
    group.bench_function("part: slot", |b| {
        b.iter(|| {
            hash = hash.wrapping_add(0x9e37_79b9_7f4a_7c15);
            slots[(((black_box(hash) >> 32) * 10_000) >> 32) as usize]
        });
    });
    let swap = Arc::new(ArcSwap::from_pointee(1_u64));
    let mut cache = Cache::new(swap.clone());
    group.bench_function("part: arc-swap, cached", |b| b.iter(|| **black_box(cache.load())));
    group.bench_function("part: arc-swap, loaded", |b| b.iter(|| **black_box(swap.load())));
    let table: Vec<usize> = (0..10_000).map(|slot| usize::from(slot >= 8_000)).collect();
    let locked = RwLock::new((table, ["v0", "v1"]));
    group.bench_function("peer: RwLock and SipHash", |b| {
        b.iter(|| {
            let mut hasher = DefaultHasher::new();
            black_box(next()).hash(&mut hasher);
            let table = locked.read().unwrap();
            black_box(table.1[table.0[(hasher.finish() % 10_000) as usize]]).len()
        });
    });
    group.finish();
}

fn rollback(c: &mut Criterion) {
    let versions = if test_mode() { 100 } else { 10_000 };
    let runtime = runtime();
    let folder = tempfile::tempdir().unwrap();
    for (name, store) in [
        ("memory", ObjectVersionStore::memory()),
        ("folder", ObjectVersionStore::folder(folder.path()).unwrap()),
    ] {
        // In the folder one process registers in memory first and restores, so that the set-up does not sync each.
        let registry = runtime.block_on(async {
            let memory = registry(ObjectVersionStore::memory(), versions).await;
            let file = folder.path().with_extension(name);
            memory.backup(&file).await.unwrap();
            VersionRegistry::restore(&file, store.clone()).await.unwrap();
            std::fs::remove_file(&file).unwrap();
            VersionRegistry::with_store(store).await.unwrap()
        });
        let once = || {
            runtime.block_on(async {
                registry.deploy("production", Split::all("v1")).await.unwrap();
                let from = Instant::now();
                registry.rollback("production").await.unwrap();
                from.elapsed()
            })
        };
        let mut times: Vec<Duration> = (0..if test_mode() { 5 } else { 1_000 }).map(|_| once()).collect();
        times.sort_unstable();
        let p99 = times[times.len() * 99 / 100];
        println!("registry/rollback/{name}: median {:?}, p99 {p99:?}", times[times.len() / 2]);
        c.bench_function(&format!("registry/rollback/{name}"), |b| {
            b.iter_custom(|rounds| (0..rounds).map(|_| once()).sum());
        });
    }
}

criterion_group!(benches, route, rollback);
criterion_main!(benches);
