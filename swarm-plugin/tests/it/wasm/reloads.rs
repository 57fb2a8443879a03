use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use futures::StreamExt;
use serde_json::json;
use swarm_plugin::{EventKind, WasmLoader};

use super::{Guest, unruly};

fn reloads() -> u64 {
    if std::env::var_os("SWARM_LONG").is_some() { 1_000 } else { 20 }
}

/// Reloads under four callers. Answers the number of calls.
async fn reloaded(guest: impl Fn(&str) -> Guest) -> (u64, u64) {
    let (folder, plugins) = unruly(&guest("1.0.0"), WasmLoader::new()).await;
    let cleaned = tokio::spawn({
        let mut events = plugins.events();
        async move {
            let mut cleaned = 0;
            while let Some(event) = events.next().await {
                match event.kind {
                    EventKind::CleanedUp { failure: None } => cleaned += 1,
                    EventKind::CleanedUp { .. } | EventKind::Refused { .. } | EventKind::Missed(_) => {
                        panic!("{event:?}")
                    }
                    _ => {}
                }
            }
            cleaned
        }
    });
    let over = Arc::new(AtomicBool::new(false));
    let made = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (plugins, over, made) = (plugins.clone(), over.clone(), made.clone());
            tokio::spawn(async move {
                while !over.load(SeqCst) {
                    plugins.call("unruly", json!({"do": "count"})).await.unwrap();
                    made.fetch_add(1, SeqCst);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for at in 1..=reloads() {
        folder.program("unruly.wasm", guest(&format!("1.0.{at}")).bytes()).unwrap();
        plugins.rescan().await;
        let info = plugins.get("unruly").unwrap();
        assert_eq!(info.manifest().version().patch, at);
        // Each version serves some calls, or nothing would be shown.
        let before = made.load(SeqCst);
        while made.load(SeqCst) < before + 8 {
            tokio::task::yield_now().await;
        }
    }
    over.store(true, SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    let count = plugins.call("unruly", json!({"do": "count"})).await.unwrap().as_u64().unwrap();
    plugins.shutdown().await;
    drop(plugins);
    assert_eq!(cleaned.await.unwrap(), reloads() + 1, "each version is cleaned up exactly once");
    (made.load(SeqCst), count)
}

#[tokio::test]
async fn a_reload_with_state_needs_one_more_place() {
    let (folder, plugins) = unruly(&Guest::stateful("1.0.0"), WasmLoader::new().instances(2)).await;
    for at in 1..=3_u64 {
        assert_eq!(plugins.call("unruly", json!({"do": "count"})).await.unwrap(), at);
        folder.program("unruly.wasm", Guest::stateful(&format!("1.0.{at}")).bytes()).unwrap();
        plugins.rescan().await;
        assert_eq!(plugins.get("unruly").unwrap().manifest().version().patch, at);
    }
    plugins.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reloads_of_components_lose_no_call() {
    let (made, _) = reloaded(Guest::new).await;
    assert!(made >= 8 * reloads());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reloads_of_components_lose_no_state() {
    let (made, count) = reloaded(Guest::stateful).await;
    assert_eq!(count, made + 1, "the counter was handed over each time, to the last call");
}
