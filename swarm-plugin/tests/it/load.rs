use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use serde_json::Value;
use swarm_plugin::PluginManager;

use crate::tool::{Tool, plain};

fn reloads() -> u64 {
    if std::env::var_os("SWARM_LONG").is_some() { 1_000 } else { 100 }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reloads_under_load_lose_no_call_and_no_state() {
    let plugins = PluginManager::new();
    let first = Tool::new("tool", "1.0.0");
    let mut seen = vec![first.seen.clone()];
    plugins.register(first).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let made = Arc::new(AtomicU64::new(0));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (plugins, over, made) = (plugins.clone(), over.clone(), made.clone());
            tokio::spawn(async move {
                while !over.load(SeqCst) {
                    plugins.call("tool", Value::Null).await.unwrap();
                    made.fetch_add(1, SeqCst);
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    for at in 1..=reloads() {
        let fresh = Tool::new("tool", &format!("1.0.{at}"));
        seen.push(fresh.seen.clone());
        plugins.reload("tool", fresh).await.unwrap();
        // Each version serves some calls, or nothing would be shown.
        while seen.last().unwrap().executed.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    }
    over.store(true, SeqCst);
    for caller in callers {
        caller.await.unwrap();
    }
    let count = plugins.call("tool", Value::Null).await.unwrap()["count"].as_u64().unwrap();
    assert_eq!(count, made.load(SeqCst) + 1, "the counter was handed over each time, to the last call");
    assert!(count > reloads());
    plugins.shutdown().await;
    assert!(
        seen.iter().all(|seen| seen.cleaned.load(SeqCst) == 1),
        "each version is cleaned up exactly once"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reloads_of_plugins_without_state_hold_nobody_up() {
    let plugins = PluginManager::new();
    plugins.register(plain("tool", "1.0.0")).await.unwrap();
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (plugins, over) = (plugins.clone(), over.clone());
            tokio::spawn(async move {
                let mut calls = 0_u64;
                while !over.load(SeqCst) {
                    plugins.call("tool", Value::Null).await.unwrap();
                    calls += 1;
                    tokio::task::yield_now().await;
                }
                calls
            })
        })
        .collect();
    for at in 1..=reloads() {
        plugins.reload("tool", plain("tool", &format!("1.0.{at}"))).await.unwrap();
        assert_eq!(plugins.call("tool", Value::Null).await.unwrap(), format!("1.0.{at}"));
    }
    over.store(true, SeqCst);
    let mut calls = reloads();
    for caller in callers {
        calls += caller.await.unwrap();
    }
    let stats = *plugins.get("tool").unwrap().stats();
    assert_eq!((stats.calls, stats.failed, stats.cancelled, stats.in_flight), (calls, 0, 0, 0));
}
