//! A library that is replaced again and again while it is called.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use futures::{FutureExt, StreamExt};
use serde_json::{Value, json};
use swarm_plugin::EventKind;

use super::{built, example, host, install, loader, version};

fn reloads() -> u64 {
    if std::env::var_os("SWARM_LONG").is_some() { 1_000 } else { 20 }
}

/// Memory of this process that is in use, and that of libraries which is theirs alone, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

async fn lose_no_call_and_no_state(library: &[u8], name: &str, what: &str) {
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
                let mut times = Vec::new();
                while !over.load(SeqCst) {
                    let begun = Instant::now();
                    plugins.call(&name, Value::Null).await.unwrap();
                    times.push(begun.elapsed());
                }
                times
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
    for at in 1..=reloads() {
        install(root.path(), "unruly.so", &version(library, at));
        plugins.rescan().await;
        let serves = plugins.get(name).unwrap().manifest().version().patch;
        assert_eq!(serves, 100_000 + at);
        count_cleaned(&mut events);
        if at == reloads() / 5 {
            first = resident();
        }
    }
    over.store(true, SeqCst);
    let mut during = Vec::new();
    for caller in callers {
        during.extend(caller.await.unwrap());
    }
    let last = resident();
    let calls = before + during.len() as u64;
    let answer = plugins.call(name, Value::Null).await.unwrap();
    assert_eq!(
        answer,
        json!({ "count": calls + 1 }),
        "the counter was handed over each time, to the last call"
    );
    plugins.shutdown().await;
    count_cleaned(&mut events);
    let expected: BTreeMap<u64, i32> = (1..=reloads() + 1).map(|generation| (generation, 1)).collect();
    assert_eq!(cleaned, expected, "each version is cleaned up exactly once");
    assert_eq!(loader.loaded() as u64, reloads() + 1);
    assert_eq!(loader.lost(), 0);
    // The leak that is stated: each version stays, with what the system needs to know of it.
    let each = last.saturating_sub(first) / (reloads() - reloads() / 5);
    let stays = library.len() as u64 / 1024 + 1024;
    assert!(each < stays, "{each} KiB a version, of a file of {} bytes", library.len());
    eprintln!(
        "{what}: {} reloads, {calls} calls, 0 lost; p99 idle {:?}, during {:?}; {each} KiB stay of a version of {} KiB",
        reloads(),
        p99(&mut idle),
        p99(&mut during),
        library.len() / 1024,
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reloads_of_a_library_in_c_lose_no_call_and_no_state() {
    let Some(library) = built("unruly.c", &[]) else { return };
    lose_no_call_and_no_state(&library, "unruly", "C").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reloads_of_a_library_in_rust_lose_no_call_and_no_state() {
    let Some(library) = example("native_unruly") else { return };
    lose_no_call_and_no_state(&library, "unruly_rust", "Rust").await;
}
