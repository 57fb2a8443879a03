//! Programs that mean harm, each way by itself.

use std::fs;
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use swarm_plugin::{CallOptions, ErrorKind, EventKind, PluginManager, ProcessLoader, Stage};

use super::{UNRULY, WORDS, builder, gone, has, install, unruly};

fn most_resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

async fn call(plugins: &PluginManager, params: Value) -> swarm_plugin::Result<Value> {
    let options = CallOptions::new().timeout(Duration::from_secs(300));
    plugins.call_with("unruly", params, options).await
}

#[tokio::test]
async fn output_without_end_takes_no_memory() {
    let Some((_root, plugins)) = unruly(ProcessLoader::new()).await else { return };
    let before = most_resident();
    // 10 GB in one line take a while.
    let (mib, lines) = match std::env::var_os("SWARM_LONG") {
        Some(_) => (10 * 1024, 2_000_000),
        None => (128, 20_000),
    };
    call(&plugins, json!({"do": "flood", "mib": mib})).await.unwrap();
    call(&plugins, json!({"do": "lines", "count": lines})).await.unwrap();
    assert_eq!(call(&plugins, json!({"do": "text", "text": "hi"})).await.unwrap(), "hi");
    let grown = most_resident() - before;
    eprintln!("{mib} MiB in a line and {lines} lines: at most {grown} KiB more in memory");
    assert!(grown < 100 * 1024, "{grown} KiB");
    plugins.shutdown().await;
}

#[tokio::test]
async fn an_answer_that_is_too_long_fails_its_call_and_no_other() {
    let Some((_root, plugins)) = unruly(ProcessLoader::new()).await else { return };
    let large = json!({"do": "large", "bytes": 17 << 20});
    let beside = call(&plugins, json!({"do": "sleep", "seconds": 1}));
    let (error, beside) = tokio::join!(call(&plugins, large), beside);
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(error.failure().unwrap().message(), "the answer is over 16777216 bytes");
    beside.unwrap();
    plugins.shutdown().await;
}

#[tokio::test]
async fn a_list_of_tools_without_end_is_refused() {
    if !has("python3") {
        return;
    }
    for (page, reason) in [("1", "has over 1024 pages"), ("2000000", "are over 16777216 bytes")] {
        let root = tempfile::tempdir().unwrap();
        let plugins = builder(root.path()).load_timeout(Duration::from_secs(60));
        let plugins = plugins.loader(ProcessLoader::new().env("PAGES", page)).start().await.unwrap();
        let mut events = plugins.events();
        install(root.path(), "unruly.py", UNRULY);
        plugins.rescan().await;
        let event = events.next().await.unwrap();
        let EventKind::Refused { stage: Stage::Load, reason: told } = event.kind else { panic!("{event:?}") };
        assert!(told.contains(reason), "{told}");
        plugins.shutdown().await;
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_program_is_told() {
    if !has("python3") {
        return;
    }
    let programs = [
        ("#!/no/such/interpreter\n", "or the interpreter that its first line names"),
        ("#!/bin/sh\nexit 3\n", "ended, or closed its streams, before it spoke MCP"),
        (
            "#!/usr/bin/env python3\nimport nothing_of_that_name\n",
            "is in the log, target swarm_plugin::process",
        ),
        ("#!/usr/bin/env python3\r\nprint()\r\n", "ended, or closed its streams, before it spoke MCP"),
    ];
    let root = tempfile::tempdir().unwrap();
    let plugins = builder(root.path()).load_timeout(Duration::from_secs(60)).start().await.unwrap();
    let mut events = plugins.events();
    for (text, reason) in programs {
        install(root.path(), "tool", text);
        plugins.rescan().await;
        let event = events.next().await.unwrap();
        let EventKind::Refused { stage: Stage::Load, reason: told } = event.kind else { panic!("{event:?}") };
        assert!(told.contains(reason), "{text}: {told}");
        assert!(!told.contains("::Wire"), "{told}");
    }
    let bare =
        WORDS.replace(r#"{"content": [], "structuredContent": {"words": words}}"#, r#"{"words": words}"#);
    assert_ne!(bare, WORDS);
    install(root.path(), "tool", &bare);
    plugins.rescan().await;
    let error = plugins.call("words", json!({"text": "a b"})).await.unwrap_err();
    let told = "plugin words: the result has neither content nor structuredContent";
    assert!(error.to_string().starts_with(told), "{error}");
    plugins.shutdown().await;
}

#[tokio::test]
async fn tools_that_change_without_end_are_looked_at_now_and_then() {
    let Some((_root, plugins)) = unruly(ProcessLoader::new()).await else { return };
    let mut events = plugins.events();
    const SECONDS: u64 = 3;
    call(&plugins, json!({"do": "storm", "seconds": SECONDS})).await.unwrap();
    let begun = std::time::Instant::now();
    call(&plugins, json!({"do": "sleep", "seconds": SECONDS})).await.unwrap();
    let changes = async {
        let mut changes = 0_u64;
        while let Some(event) = events.next().await {
            changes += u64::from(event.kind == EventKind::Activated && &*event.name == "unruly");
        }
        changes
    };
    let stop = async {
        plugins.shutdown().await;
        drop(plugins);
    };
    let (changes, ()) = tokio::join!(changes, stop);
    let most = 16 + begun.elapsed().as_secs() + 1;
    assert!(changes > 1 && changes <= most, "{changes} changes of the tools, at most {most} expected");
}

#[tokio::test]
async fn descriptors_files_and_processes_are_limited() {
    let loader = ProcessLoader::new().processes(5_000);
    let Some((_root, plugins)) = unruly(loader).await else { return };
    let held = call(&plugins, json!({"do": "descriptors"})).await.unwrap()["held"].as_u64().unwrap();
    assert!((500..1024).contains(&held), "{held}");
    let big = call(&plugins, json!({"do": "file", "bytes": 2_u64 << 30})).await;
    assert!(big.is_err() || big.as_ref().unwrap()["error"] == "File too large", "{big:?}");
    let limits = call(&plugins, json!({"do": "limits"})).await.unwrap();
    assert_eq!(limits["processes"], 5_000);
    plugins.shutdown().await;
}

#[tokio::test]
async fn all_of_a_fork_bomb_is_gone_with_the_plugin() {
    let Some((_root, plugins)) = unruly(ProcessLoader::new()).await else { return };
    let marks = tempfile::tempdir().unwrap();
    let mark = marks.path().join("pids");
    fs::write(&mark, "").unwrap();
    call(&plugins, json!({"do": "bomb", "depth": 5, "mark": mark})).await.unwrap();
    let pids: Vec<u64> =
        fs::read_to_string(&mark).unwrap().lines().map(|line| line.parse().unwrap()).collect();
    assert_eq!(pids.len(), 31);
    plugins.remove("unruly").await.unwrap();
    gone(pids).await;
    plugins.shutdown().await;
}

#[tokio::test]
async fn a_program_that_answers_nothing_any_more_is_started_anew() {
    let Some((_root, plugins)) = unruly(ProcessLoader::new()).await else { return };
    let pid = async || plugins.call("unruly", json!({"do": "pid"})).await.map(|answer| answer["pid"].clone());
    let before = pid().await.unwrap();
    // It asks without end, and reads no answer.
    let options = CallOptions::new().timeout(Duration::from_millis(300));
    let params = json!({"do": "deaf", "questions": 1_000_000});
    let error = plugins.call_with("unruly", params, options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    let back = async {
        loop {
            let options = CallOptions::new().timeout(Duration::from_millis(300));
            match plugins.call_with("unruly", json!({"do": "pid"}), options).await {
                Ok(answer) => break answer["pid"].clone(),
                Err(error) => assert!(error.is_retryable(), "{error}"),
            }
        }
    };
    let after = tokio::time::timeout(Duration::from_secs(60), back).await.unwrap();
    assert_ne!(before, after);
    plugins.shutdown().await;
}

#[tokio::test]
async fn one_that_never_answers_is_refused_in_time_and_leaves_nothing() {
    let root = tempfile::tempdir().unwrap();
    let pid = root.path().join("pid");
    let silent = format!("#!/bin/sh\necho $$ > '{}'\nwhile :; do sleep 1000; done\n", pid.display());
    install(root.path(), "silent.sh", &silent);
    let plugins = builder(root.path()).load_timeout(Duration::from_millis(500)).start().await.unwrap();
    assert!(plugins.list().is_empty());
    gone([fs::read_to_string(pid).unwrap().trim().parse().unwrap()]).await;
    plugins.shutdown().await;
}

#[tokio::test]
async fn a_lie_about_the_name_changes_nobody_else() {
    if !has("python3") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    install(root.path(), "words.py", WORDS);
    let plugins = builder(root.path()).start().await.unwrap();
    let mut events = plugins.events();
    let say = |name: &str| UNRULY.replace("\"TOOLS\", \"unruly\"", &format!("\"TOOLS\", {}", json!(name)));
    for (name, stage) in [
        ("words", Stage::Admit),
        ("Words", Stage::Admit),
        ("liar,words", Stage::Admit),
        ("../x", Stage::Load),
        ("/etc/passwd", Stage::Load),
        ("a\u{0}b", Stage::Load),
        ("\u{1b}[2J", Stage::Load),
        ("", Stage::Load),
        (&"x".repeat(65), Stage::Load),
    ] {
        install(root.path(), "liar.py", say(name));
        plugins.rescan().await;
        let refused = loop {
            match events.next().await.unwrap().kind {
                EventKind::Refused { stage, .. } => break stage,
                _ => continue,
            }
        };
        assert_eq!(refused, stage, "{name:?}");
        assert_eq!(plugins.list().len(), 1, "{name:?}");
        assert_eq!(plugins.call("words", json!({"text": "a b"})).await.unwrap(), json!({"words": 2}));
    }
    plugins.shutdown().await;
}
