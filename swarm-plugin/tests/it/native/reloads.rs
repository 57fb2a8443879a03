//! A library that is replaced again and again while it is called.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};
use swarm_plugin::EventKind;

use super::{built, example, host, install, loader, version};

/// So many times are kept of a caller, so that they are not taken for what a version leaves behind.
const TIMES: usize = 100_000;

fn reloads(long: u64, short: u64) -> u64 {
    if std::env::var_os("SWARM_LONG").is_some() { long } else { short }
}

/// Memory that is this process's alone, in KiB: without what the system can read again from files.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

async fn lose_no_call_and_no_state(library: &[u8], name: &str, reloads: u64) {
    let loader = loader().generations(2_000);
    let (root, plugins) = host(library, &loader).await;
    let mut events = plugins.events();
    let mut idle = Vec::new();
    for _ in 0..2_000 {
        let begun = Instant::now();
        plugins.call(name, Value::Null).await.unwrap();
        idle.push(begun.elapsed());
    }
    let before = idle.len() as u64;
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (plugins, over, name) = (plugins.clone(), over.clone(), name.to_owned());
            tokio::spawn(async move {
                let (mut times, mut calls) = (Vec::with_capacity(TIMES), 0);
                while !over.load(SeqCst) {
                    let begun = Instant::now();
                    plugins.call(&name, Value::Null).await.unwrap();
                    if times.len() < TIMES {
                        times.push(begun.elapsed());
                    }
                    calls += 1;
                }
                (times, calls)
            })
        })
        .collect();
    let (mut cleaned, mut first) = (BTreeMap::new(), 0);
    let mut count_cleaned =
        |events: &mut (dyn futures::Stream<Item = swarm_plugin::Event> + Unpin + Send)| {
            while let Some(Some(event)) = events.next().now_or_never() {
                assert!(!matches!(event.kind, EventKind::Missed(_) | EventKind::Refused { .. }), "{event:?}");
                if let EventKind::CleanedUp { failure } = event.kind {
                    assert_eq!(failure, None);
                    *cleaned.entry(event.generation).or_insert(0) += 1;
                }
            }
        };
    for at in 1..=reloads {
        install(root.path(), "unruly.so", &version(library, at));
        plugins.rescan().await;
        let serves = plugins.get(name).unwrap().manifest().version().patch;
        assert_eq!(serves, 100_000 + at);
        count_cleaned(&mut events);
        if at == reloads / 5 {
            first = resident();
        }
    }
    over.store(true, SeqCst);
    let last = resident();
    let (mut during, mut calls) = (Vec::new(), before);
    for caller in callers {
        let (times, made) = caller.await.unwrap();
        during.extend(times);
        calls += made;
    }
    let answer = plugins.call(name, Value::Null).await.unwrap();
    assert_eq!(
        answer,
        json!({ "count": calls + 1 }),
        "the counter was handed over each time, to the last call"
    );
    plugins.shutdown().await;
    count_cleaned(&mut events);
    let expected: BTreeMap<u64, i32> = (1..=reloads + 1).map(|generation| (generation, 1)).collect();
    assert_eq!(cleaned, expected, "each version is cleaned up exactly once");
    assert_eq!(loader.loaded() as u64, reloads + 1);
    assert_eq!(loader.lost(), 0);
    // The leak that is stated: what a version has changed of its memory stays. The rest is what the allocator keeps.
    let (grown, versions) = (last.saturating_sub(first), reloads - reloads / 5);
    let each = grown / versions;
    let bound = 128 * 1024 + versions * (1024 + library.len() as u64 / 1024 / 8);
    assert!(grown < bound, "{grown} KiB for {versions} versions of {} bytes", library.len());
    eprintln!(
        "{name}: {} reloads, {calls} calls, 0 lost; p99 idle {:?}, during {:?}; {each} KiB stay of a version of {} KiB",
        reloads,
        p99(&mut idle),
        p99(&mut during),
        library.len() / 1024,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reloads_of_a_library_in_c_lose_no_call_and_no_state() {
    let Some(library) = built("unruly.c", &[]) else { return };
    lose_no_call_and_no_state(&library, "unruly", reloads(1_000, 20)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reloads_of_a_library_in_rust_lose_no_call_and_no_state() {
    let Some(library) = example("native_unruly") else { return };
    // Each copy takes its place on the disk until the process ends.
    lose_no_call_and_no_state(&library, "unruly_rust", reloads(100, 10)).await;
}
