mod frames;
mod hostile;
mod orphans;
mod reloads;
mod restarts;
mod talk;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use futures::StreamExt;
use serde_json::{Value, json};
use swarm_plugin::testing::conformance;
use swarm_plugin::{
    CallOptions, ErrorKind, Event, EventKind, PluginDiscovery, PluginManager, PluginManagerBuilder,
    ProcessLoader,
};

pub(crate) const WORDS: &str = include_str!("../programs/words.py");
pub(crate) const UNRULY: &str = include_str!("../programs/unruly.py");

/// Whether a program is here. Says aloud that the test is left out where it is not.
pub(crate) fn has(program: &str) -> bool {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let here = std::env::split_paths(&paths).any(|folder| folder.join(program).is_file());
    if !here {
        eprintln!("left out: a test with the program `{program}`, which is not here");
    }
    here
}

pub(crate) fn install(root: &Path, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
    // Renamed into place, as programs should be.
    let (next, path) = (root.join(".next"), root.join(name));
    fs::write(&next, text).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(next, &path).unwrap();
    path
}

fn builder(root: &Path) -> PluginManagerBuilder {
    PluginManager::builder().folder(root).settle(Duration::ZERO)
}

async fn unruly(loader: ProcessLoader) -> Option<(tempfile::TempDir, PluginManager)> {
    if !has("python3") {
        return None;
    }
    let root = tempfile::tempdir().unwrap();
    install(root.path(), "unruly.py", UNRULY);
    let plugins =
        builder(root.path()).load_timeout(Duration::from_secs(60)).loader(loader).start().await.unwrap();
    assert!(plugins.get("unruly").is_some());
    Some((root, plugins))
}

pub(crate) fn is_alive(pid: u64) -> bool {
    // "pid (name) state ...": one that ended and was not waited for by its own parent is a zombie. The
    // command line would not do: it is empty for a moment while a program is being replaced by another.
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat[stat.rfind(')').unwrap_or(0)..].starts_with(") Z"))
}

#[test]
fn values_of_the_environment_are_not_shown() {
    let shown = format!("{:?}", ProcessLoader::new().env("API_KEY", "hunter2"));
    assert!(shown.contains("API_KEY") && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn a_script_keeps_the_contract() {
    if !has("python3") {
        return;
    }
    let (root, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    install(root.path(), "words.py", WORDS);
    let (found, unusable) = PluginDiscovery::new().folder(root.path()).scan(store.path()).unwrap();
    assert!(unusable.is_empty(), "{unusable:?}");
    let loader = ProcessLoader::new();
    let report = conformance::check_file(&loader, &found[0], "words", json!({"text": "a b"})).await;
    assert!(report.is_ok() && report.kept().len() == 7, "{report}");
    let report = conformance::check_file(&loader, &found[0], "other", json!({})).await;
    let is_told = |why: &str| why.contains(r#"it has ["words"], and no "other""#);
    let told = report.broken().iter().filter(|broken| is_told(&broken.why)).count();
    assert!(told == 7 && report.kept().is_empty(), "{report}");
}

#[tokio::test]
async fn a_script_of_twenty_lines_is_a_plugin() {
    if !has("python3") {
        return;
    }
    assert!(WORDS.lines().filter(|line| !line.is_empty()).count() <= 20);
    let root = tempfile::tempdir().unwrap();
    let path = install(root.path(), "words.py", WORDS);
    let plugins = builder(root.path()).start().await.unwrap();
    let info = plugins.get("words").unwrap();
    assert_eq!((info.kind(), info.path()), (Some("process"), Some(&*path)));
    assert_eq!(info.digest(), Some(swarm_plugin::Digest::of(WORDS)));
    assert_eq!(info.manifest().description(), "Counts the words of a text");
    let answer = plugins.call("words", json!({"text": "a b c"})).await.unwrap();
    assert_eq!(answer, json!({"words": 3}));
    let error = plugins.call("words", json!({"txt": 1})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidParams);

    // Edited: the new version answers. Broken: the one before goes on.
    install(root.path(), "words.py", WORDS.replace("\"words\": words", "\"words\": words, \"edited\": True"));
    plugins.rescan().await;
    let edited = json!({"words": 1, "edited": true});
    assert_eq!(plugins.call("words", json!({"text": "a"})).await.unwrap(), edited);
    for broken in
        ["#!/usr/bin/env python3\nimport nothing_of_that_name\n", "#!/no/such/interpreter\n", "#!/bin/cat\n"]
    {
        install(root.path(), "words.py", broken);
        plugins.rescan().await;
        assert_eq!(plugins.call("words", json!({"text": "a"})).await.unwrap(), edited, "{broken}");
    }
    fs::remove_file(path).unwrap();
    plugins.rescan().await;
    assert_eq!(plugins.call("words", json!({})).await.unwrap_err().kind(), ErrorKind::NotFound);
    plugins.shutdown().await;
}

#[tokio::test]
async fn what_a_program_does_stays_in_its_process() {
    let Some((_root, plugins)) = unruly(ProcessLoader::new().memory(2 << 30)).await else { return };
    assert_eq!(plugins.get("unruly").unwrap().manifest().description(), "bad [2J");
    let call = async |params: Value| {
        let options = CallOptions::new().timeout(Duration::from_secs(20));
        plugins.call_with("unruly", params, options).await
    };
    // It answers again after each of these.
    for (params, kind) in [
        (json!({"do": "fail"}), Some(ErrorKind::Failed)),
        (json!({"do": "garbage"}), None),
        (json!({"do": "shout"}), None),
        (json!({"do": "flood", "mib": 20}), None),
        (json!({"do": "memory", "mib": 4096}), Some(ErrorKind::Failed)),
    ] {
        let outcome = call(params.clone()).await;
        assert_eq!(outcome.err().map(|error| error.kind()), kind, "{params}");
        assert_eq!(call(json!({"do": "text", "text": "hi"})).await.unwrap(), "hi", "{params}");
    }
    let error = call(json!({"do": "fail"})).await.unwrap_err();
    // Without what a terminal would obey.
    assert_eq!(error.failure().unwrap().message(), "no [2J luck");
    plugins.shutdown().await;
}

#[tokio::test]
async fn calls_run_beside_each_other_and_a_loop_ends_with_its_deadline() {
    let Some((_root, plugins)) = unruly(ProcessLoader::new()).await else { return };
    let begun = std::time::Instant::now();
    let calls = (0..16).map(|_| plugins.call("unruly", json!({"do": "sleep", "seconds": 2})));
    assert!(futures::future::join_all(calls).await.iter().all(Result::is_ok));
    // One after the other they would take 32 s.
    assert!(begun.elapsed() < Duration::from_secs(16), "{:?}", begun.elapsed());
    let options = CallOptions::new().timeout(Duration::from_millis(50));
    let error = plugins.call_with("unruly", json!({"do": "loop"}), options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    plugins.shutdown().await;
}

#[tokio::test]
async fn nothing_of_a_program_is_left_after_the_shutdown() {
    // It does not end with its input, and what it started does not know of it.
    let Some((_root, plugins)) = unruly(ProcessLoader::new().env("STUBBORN", "1")).await else { return };
    let pids = plugins.call("unruly", json!({"do": "spawn"})).await.unwrap();
    let pids = [pids["pid"].as_u64().unwrap(), pids["child"].as_u64().unwrap()];
    assert!(pids.iter().all(|&pid| is_alive(pid)), "{pids:?}");
    plugins.shutdown().await;
    assert!(!is_alive(pids[0]), "it was waited for");
    gone(pids).await;

    // Nor when everything is dropped instead.
    let Some((_root, plugins)) = unruly(ProcessLoader::new().env("STUBBORN", "1")).await else { return };
    let pids = plugins.call("unruly", json!({"do": "spawn"})).await.unwrap();
    let pids = [pids["pid"].as_u64().unwrap(), pids["child"].as_u64().unwrap()];
    drop(plugins);
    gone(pids).await;
}

/// Answers when none of them is alive. A signal that was sent takes a moment, and only our own child is waited for.
pub(crate) async fn gone(pids: impl AsRef<[u64]>) {
    let pids = pids.as_ref();
    let gone = async {
        while pids.iter().any(|&pid| is_alive(pid)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.unwrap();
}

#[tokio::test]
async fn a_program_knows_nothing_of_the_host_that_it_need_not() {
    let Some((root, plugins)) = unruly(ProcessLoader::new().env("GIVEN", "yes")).await else { return };
    let seen = plugins.call("unruly", json!({"do": "environment"})).await.unwrap();
    let env = seen["env"].as_object().unwrap();
    // Cargo gives this to the test. What a launcher of Python adds is its own.
    assert!(std::env::var_os("CARGO_MANIFEST_DIR").is_some());
    assert!(!env.keys().any(|name| name.starts_with("CARGO")), "{env:?}");
    assert_eq!((&env["GIVEN"], &env["HOME"]), (&json!("yes"), &seen["cwd"]));
    assert!(!Path::new(seen["cwd"].as_str().unwrap()).starts_with(root.path()), "it runs in its copy");
    plugins.shutdown().await;
}

fn server(root: &Path, name: &str, command: &[&str]) {
    let folder = root.join(name);
    fs::create_dir(&folder).unwrap();
    let command = toml_list(command);
    let text = format!("name = \"{name}\"\nversion = \"1.0.0\"\nkind = \"process\"\ncommand = {command}\n");
    fs::write(folder.join("plugin.toml"), text).unwrap();
}

#[tokio::test]
async fn what_runs_is_of_the_folder_or_of_the_machine() {
    let root = tempfile::tempdir().unwrap();
    for (name, command) in [
        ("none", &[][..]),
        ("out", &["../words.py"]),
        ("gone", &["./words.py"]),
        ("absent", &["no-such-program"]),
    ] {
        server(root.path(), name, command);
    }
    if has("python3") {
        // A file of the folder goes before a program of the same name.
        for (name, file, command) in [
            ("own", "python3", &["python3"][..]),
            ("below", "bin/words.py", &["python3", "./bin/words.py"]),
            ("whole", "bin/words.py", &["/usr/bin/env", "python3", "bin/words.py"]),
        ] {
            server(root.path(), name, command);
            fs::create_dir(root.path().join(name).join("bin")).unwrap();
            install(&root.path().join(name), file, WORDS.replace("\"words\"", &format!("{name:?}")));
        }
    }
    let builder = builder(root.path()).load_timeout(Duration::from_secs(60));
    let events = builder.events();
    let plugins = builder.start().await.unwrap();
    if has("python3") {
        for name in ["own", "below", "whole"] {
            let answer = plugins.call(name, json!({"text": "a b"})).await.unwrap();
            assert_eq!(answer, json!({ name: 2 }), "{name}");
        }
    }
    plugins.shutdown().await;
    drop(plugins);
    let events: Vec<Event> = events.collect().await;
    for (name, why) in [
        ("none", "plugin.toml has no command: "),
        ("out", "command in plugin.toml: ../words.py leads out of its folder: "),
        ("gone", "command in plugin.toml: its folder has no file ./words.py: "),
        ("absent", "no-such-program"),
    ] {
        let is_told = |event: &Event| match &event.kind {
            EventKind::Refused { reason, .. } => &*event.name == name && reason.contains(why),
            _ => false,
        };
        assert!(events.iter().any(is_told), "{name}: {events:?}");
    }
}

#[tokio::test]
async fn what_plugin_toml_says_holds_or_is_refused() {
    let (root, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let add = |name: &str, more: &str| {
        server(root.path(), name, &["python3", "unruly.py"]);
        let file = root.path().join(name).join("plugin.toml");
        fs::write(&file, fs::read_to_string(&file).unwrap() + more).unwrap();
    };
    add("shaped", "[parameters]\ntype = \"object\"\n");
    add("roomy", "[limits]\nmemory_bytes = 9\n");
    let library = root.path().join("roomy/plugin.toml");
    fs::write(&library, fs::read_to_string(&library).unwrap().replace("\"process\"", "\"native\"")).unwrap();
    let (found, unusable) = PluginDiscovery::new().folder(root.path()).scan(store.path()).unwrap();
    assert!(found.is_empty(), "{found:?}");
    for (name, why) in [
        ("shaped", "parameters are for other kinds: of a program, each tool tells its own"),
        ("roomy", "memory_bytes is for other kinds: a library has the memory of the service"),
    ] {
        let is_told = |it: &swarm_plugin::Unusable| it.path().ends_with(name) && it.reason().contains(why);
        assert!(unusable.iter().any(is_told), "{name}: {unusable:?}");
    }
    if !cfg!(target_os = "linux") || !has("python3") {
        return;
    }
    let most = format!("[limits]\nmemory_bytes = {}\n", 2_u64 << 30);
    add("small", &most);
    install(&root.path().join("small"), "unruly.py", UNRULY);
    let builder = || builder(root.path()).load_timeout(Duration::from_secs(60));
    let plugins = builder().start().await.unwrap();
    let error = plugins.call("unruly", json!({"do": "memory", "mib": 4096})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Failed, "{error}");
    plugins.shutdown().await;
    let builder = builder().loader(ProcessLoader::new().memory(1 << 30));
    let events = builder.events();
    let plugins = builder.start().await.unwrap();
    plugins.shutdown().await;
    drop(plugins);
    let why = "plugin.toml asks for 2147483648 bytes of memory, where at most 1073741824 are given";
    let is_told = |event: &Event| match &event.kind {
        EventKind::Refused { reason, .. } => &*event.name == "small" && reason.contains(why),
        _ => false,
    };
    let events: Vec<Event> = events.collect().await;
    assert!(events.iter().any(is_told), "{events:?}");
}

fn toml_list(words: &[&str]) -> String {
    format!("[{}]", words.iter().map(|word| format!("{word:?}")).collect::<Vec<_>>().join(", "))
}

#[tokio::test]
async fn servers_from_registries_are_plugins() {
    let root = tempfile::tempdir().unwrap();
    let mut wanted = BTreeSet::new();
    if has("mcp-server-time") {
        server(root.path(), "time", &["mcp-server-time", "--local-timezone", "UTC"]);
        wanted.extend(["convert_time", "get_current_time"]);
    }
    if has("mcp-server-git") && has("git") {
        server(root.path(), "git", &["mcp-server-git"]);
        wanted.extend(["git_status", "git_log"]);
    }
    if has("mcp-server-everything") {
        server(root.path(), "everything", &["mcp-server-everything"]);
        wanted.extend(["echo", "get-sum"]);
    }
    let plugins = builder(root.path()).load_timeout(Duration::from_secs(60)).start().await.unwrap();
    let names: BTreeSet<String> =
        plugins.list().iter().map(|info| info.manifest().name().to_owned()).collect();
    for name in &wanted {
        assert!(names.contains(*name), "{name} is not among {names:?}");
    }
    if wanted.contains("convert_time") {
        let params = json!({"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"});
        let answer = plugins.call("convert_time", params).await.unwrap();
        assert!(answer.to_string().contains("21:00"), "{answer}");
        let error = plugins.call("convert_time", json!({"time": 12})).await.unwrap_err();
        assert_eq!(error.problems().len(), 3, "{error}");
    }
    if wanted.contains("git_log") {
        let repository = tempfile::tempdir().unwrap();
        let git = |args: &[&str]| {
            let mut run = Command::new("git");
            run.args(["-c", "user.name=A", "-c", "user.email=a@example.org"]);
            let done = run.args(args).current_dir(repository.path()).output().unwrap();
            assert!(done.status.success(), "{done:?}");
        };
        git(&["init"]);
        git(&["commit", "--allow-empty", "-m", "the first of all"]);
        let answer = plugins.call("git_log", json!({"repo_path": repository.path()})).await.unwrap();
        assert!(answer.to_string().contains("the first of all"), "{answer}");
    }
    if wanted.contains("echo") {
        let answer = plugins.call("echo", json!({"message": "hello"})).await.unwrap();
        assert!(answer.to_string().contains("hello"), "{answer}");
        let sum = plugins.call("get-sum", json!({"a": 2, "b": 3})).await.unwrap();
        assert!(sum.to_string().contains('5'), "{sum}");
    }
    plugins.shutdown().await;
}
