//! A script that is replaced again and again while it is called.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use futures::StreamExt;
use serde_json::json;
use swarm_plugin::EventKind;

use super::{WORDS, builder, has, install};

/// A new version takes a new Python, some 20 ms of a processor.
fn reloads() -> u64 {
    if std::env::var_os("SWARM_LONG").is_some() { 1_000 } else { 20 }
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn p99(times: &mut [Duration]) -> Duration {
    times.sort_unstable();
    times[times.len() * 99 / 100]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reloads_of_a_program_lose_no_call() {
    if !has("python3") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let version = |at: u64| WORDS.replace("\"words\": words", &format!("\"words\": words, \"at\": {at}"));
    install(root.path(), "words.py", version(0));
    let plugins = builder(root.path()).load_timeout(Duration::from_secs(60)).start().await.unwrap();
    let mut events = plugins.events();
    let call = json!({"text": "a b"});
    let mut idle = Vec::new();
    for _ in 0..500 {
        let begun = Instant::now();
        plugins.call("words", call.clone()).await.unwrap();
        idle.push(begun.elapsed());
    }
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (plugins, over, call) = (plugins.clone(), over.clone(), call.clone());
            tokio::spawn(async move {
                let (mut last, mut times) = (0, Vec::new());
                while !over.load(SeqCst) {
                    let begun = Instant::now();
                    let answer = plugins.call("words", call.clone()).await.unwrap();
                    times.push(begun.elapsed());
                    let at = answer["at"].as_u64().unwrap();
                    assert!(at >= last, "a version that was replaced answered a call that began later");
                    last = at;
                }
                times
            })
        })
        .collect();
    let (mut cleaned, mut first) = (BTreeMap::new(), 0);
    for at in 1..=reloads() {
        install(root.path(), "words.py", version(at));
        plugins.rescan().await;
        assert_eq!(plugins.call("words", call.clone()).await.unwrap()["at"], at);
        while let Some(Some(event)) = futures::FutureExt::now_or_never(events.next()) {
            assert!(!matches!(event.kind, EventKind::Missed(_) | EventKind::Refused { .. }), "{event:?}");
            if event.kind == (EventKind::CleanedUp { failure: None }) {
                *cleaned.entry(event.generation).or_insert(0) += 1;
            }
        }
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
    plugins.shutdown().await;
    while let Some(Some(event)) = futures::FutureExt::now_or_never(events.next()) {
        if event.kind == (EventKind::CleanedUp { failure: None }) {
            *cleaned.entry(event.generation).or_insert(0) += 1;
        }
    }
    let expected: BTreeMap<u64, i32> = (1..=reloads() + 1).map(|generation| (generation, 1)).collect();
    assert_eq!(cleaned, expected, "each version is cleaned up exactly once");
    assert!(during.len() as u64 > reloads());
    let grown = last.saturating_sub(first);
    assert!(grown < 64 * 1024, "{grown} KiB more than after a fifth of the reloads");
    eprintln!(
        "{} reloads, {} calls, 0 lost; p99 idle {:?}, during {:?}; resident {first} then {last} KiB",
        reloads(),
        during.len(),
        p99(&mut idle),
        p99(&mut during),
    );
}
