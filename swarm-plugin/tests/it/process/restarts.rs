//! Programs that end, or do not come back.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::{Value, json};
use swarm_plugin::{CallOptions, ErrorKind, PluginManager, ProcessLoader};

use super::{is_alive, unruly};

async fn pid(plugins: &PluginManager) -> swarm_plugin::Result<u64> {
    let answer = plugins.call("unruly", json!({"do": "pid"})).await?;
    Ok(answer["pid"].as_u64().unwrap())
}

fn within(millis: u64) -> CallOptions {
    CallOptions::new().timeout(Duration::from_millis(millis))
}

#[tokio::test]
async fn a_program_that_ended_is_started_again_and_not_at_once_each_time() {
    let Some((_root, plugins)) = unruly(ProcessLoader::new()).await else { return };
    let mut before = pid(&plugins).await.unwrap();
    let begun = Instant::now();
    for how in ["exit", "abort", "exit", "abort"] {
        let error = plugins.call("unruly", json!({ "do": how })).await.unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Failed, true), "{error}");
        // Whoever has the time waits for it.
        let after = pid(&plugins).await.unwrap();
        assert_ne!(before, after);
        before = after;
    }
    // At once, then after 0.1 s, 0.2 s and 0.4 s.
    assert!(begun.elapsed() > Duration::from_millis(600), "{:?}", begun.elapsed());
    plugins.call("unruly", json!({"do": "exit"})).await.unwrap_err();
    let error = plugins.call_with("unruly", json!({"do": "pid"}), within(20)).await.unwrap_err();
    assert!(error.is_retryable(), "{error}");
    assert!(error.to_string().contains("not started again before"), "{error}");
    plugins.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_is_killed_between_calls_costs_none() {
    let Some((_root, plugins)) = unruly(ProcessLoader::new()).await else { return };
    for _ in 0..3 {
        let before = pid(&plugins).await.unwrap();
        let killed = Command::new("kill").args(["-9", &before.to_string()]).status().unwrap();
        assert!(killed.success());
        while is_alive(before) {
            tokio::task::yield_now().await;
        }
        for after in join_all((0..8).map(|_| pid(&plugins))).await {
            assert_ne!(after.unwrap(), before);
        }
    }
    plugins.shutdown().await;
}

#[tokio::test]
async fn a_program_whose_child_holds_its_streams_has_ended_all_the_same() {
    let Some((_root, plugins)) = unruly(ProcessLoader::new()).await else { return };
    let before = pid(&plugins).await.unwrap();
    let begun = Instant::now();
    let error = plugins.call("unruly", json!({"do": "leave"})).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Failed, true), "{error}");
    assert_ne!(pid(&plugins).await.unwrap(), before);
    // Not the time that a call may take.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    plugins.shutdown().await;
}

#[tokio::test]
async fn a_program_that_does_not_come_back_holds_nobody_up() {
    let loader = ProcessLoader::new().start_timeout(Duration::from_millis(500));
    let Some((_root, plugins)) = unruly(loader).await else { return };
    let seen = plugins.call("unruly", json!({"do": "environment"})).await.unwrap();
    let mute = PathBuf::from(seen["cwd"].as_str().unwrap()).join("mute");
    plugins.call("unruly", json!({"do": "mute"})).await.unwrap_err();
    // All that waited for the same start are told at once.
    let calls = (0..4).map(|_| plugins.call_with("unruly", json!({"do": "pid"}), within(60_000)));
    let begun = Instant::now();
    for answer in join_all(calls).await {
        let error = answer.unwrap_err();
        assert!(error.is_retryable(), "{error}");
        assert!(error.to_string().contains("did not speak MCP within 500ms"), "{error}");
    }
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
    fs::remove_file(mute).unwrap();
    let back = async {
        // A start takes longer than half a second where the machine is busy.
        while let Err(error) = pid(&plugins).await {
            assert!(error.is_retryable(), "{error}");
        }
    };
    tokio::time::timeout(Duration::from_secs(120), back).await.unwrap();
    plugins.shutdown().await;
}

#[tokio::test]
async fn a_program_that_falls_silent_under_load_is_started_anew() {
    let Some((_root, plugins)) = unruly(ProcessLoader::new()).await else { return };
    let before = pid(&plugins).await.unwrap();
    let params = json!({"do": "deaf", "questions": 0});
    let error = plugins.call_with("unruly", params, within(300)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    // Never is there a moment in which nobody waits for an answer.
    let caller = async |delay: u64| -> Value {
        tokio::time::sleep(Duration::from_millis(delay)).await;
        loop {
            match plugins.call_with("unruly", json!({"do": "pid"}), within(1_000)).await {
                Ok(answer) => break answer["pid"].clone(),
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
    };
    let callers = join_all([0, 250, 500, 750].map(caller));
    for after in tokio::time::timeout(Duration::from_secs(60), callers).await.unwrap() {
        assert_ne!(after, before);
    }
    plugins.shutdown().await;
}
