//! A process dies, or is told of a failure, at every call that changes a file. What is left is judged by what it had been
//! acknowledged: all of that is there, and at most the verb that was cut off besides.
//!
//! `SWARM_KILL_POINTS` is the number of points for each kind of call; `SWARM_LONG=1` means every one.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use chrono::TimeDelta;
use swarm_registry::testing::{Fault, FaultyStore};
use swarm_registry::{ErrorKind, ObjectVersionStore, Result, Retention, Split, Version, VersionRegistry};

use super::crashes::seen;

const FOLDER: &str = "SWARM_REGISTRY_KILL";
const OPENED: &str = "SWARM_REGISTRY_OPEN";
/// How many calls of each kind the thread under test makes beforehand, so that no other thread comes first to a number.
const BIAS: usize = 100;
/// The exit code of a process that was told of a failure.
const REFUSED: i32 = 17;

/// One of the verbs of the script: all there are, those of upkeep in the middle of others.
pub(crate) async fn step(registry: &VersionRegistry, at: usize) -> Result<()> {
    let tomorrow = chrono::Utc::now() + TimeDelta::days(1);
    let all = |version: &str| Split::all(version);
    match at {
        0 => registry.register(Version::new("v3").artifact("three").parent("v1")).await.map(drop),
        1 => registry.deploy("production", all("v3")).await.map(drop),
        2 => registry.rollback("production").await.map(drop),
        3 => registry.compact(Retention::everything()).await,
        4 => registry.deploy("staging", all("v3")).await.map(drop),
        5 => registry.promote("staging", "production").await.map(drop),
        6 => registry.move_alias("stable", Some("v1"), Some("v2")).await,
        7 => registry.compact(Retention::since(tomorrow)).await,
        _ => registry.rollback("staging").await.map(drop),
    }
}

/// The last one is refused in any case.
pub(crate) const STEPS: usize = 8;

pub(crate) async fn prepare(folder: &Path) {
    let registry = VersionRegistry::open(folder.join("registry")).await.unwrap();
    for id in ["v1", "v2", "stray"] {
        registry.register(Version::new(id).artifact(id)).await.unwrap();
    }
    registry.move_alias("stable", None, Some("v1")).await.unwrap();
    registry.deploy("production", Split::all("v1")).await.unwrap();
    registry.compact(Retention::everything()).await.unwrap();
    registry.deploy("production", Split::of([("v1", 80.0), ("v2", 20.0)]).unwrap()).await.unwrap();
    registry.backup(folder.join("backup")).await.unwrap();
}

/// What writers left that were killed: beside a record and a snapshot that are there, and an artifact that is not.
fn leave_parts(folder: &Path) {
    for name in
        ["log/00000000000000000001.json#1", "snapshots/00000000000000000005.jsonl#12", "artifacts/a#1"]
    {
        std::fs::write(folder.join("registry").join(name), "half of").unwrap();
    }
}

/// Makes a file look as if it was written two hours ago.
fn aged(file: &Path) {
    let long_ago = std::time::SystemTime::now() - std::time::Duration::from_secs(7_200);
    std::fs::File::options().write(true).open(file).unwrap().set_modified(long_ago).unwrap();
}

/// The files of writes that were cut off.
fn parts(registry: &Path) -> Vec<PathBuf> {
    let folders = ["log", "snapshots", "artifacts"].map(|folder| registry.join(folder));
    let entries = folders.iter().flat_map(|folder| std::fs::read_dir(folder).unwrap());
    let files = entries.map(|entry| entry.unwrap().path());
    files.filter(|file| file.to_string_lossy().contains('#')).collect()
}

/// What a started process does, and nothing where nobody started it: restores, then does the script on the registry that
/// was there. It appends a line to a witness for each acknowledged verb.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = PathBuf::from(folder);
    // All calls of the store are made by one thread, and this one makes none.
    let runtime = tokio::runtime::Builder::new_current_thread().max_blocking_threads(1).build().unwrap();
    let code = runtime.block_on(async {
        let waste = folder.join("waste");
        tokio::task::spawn_blocking(move || waste_calls(&waste)).await.unwrap();
        let mut told = std::fs::OpenOptions::new().append(true).open(folder.join("told")).unwrap();
        let mut tell = |what: &str| std::io::Write::write_all(&mut told, what.as_bytes()).unwrap();
        let script = async {
            let store = ObjectVersionStore::folder(folder.join("restored"))?;
            VersionRegistry::restore(folder.join("backup"), store).await?;
            tell("r");
            let registry = VersionRegistry::open(folder.join("registry")).await?;
            for at in 0..STEPS {
                step(&registry, at).await?;
                tell("+");
            }
            Ok::<_, swarm_registry::Error>(())
        };
        match script.await {
            Ok(()) => 0,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Store | ErrorKind::Io), "{error:?}");
                REFUSED
            }
        }
    });
    std::process::exit(code);
}

fn waste_calls(waste: &Path) {
    use std::io::Write;
    for at in 0..BIAS {
        let mut file = std::fs::File::create(waste).unwrap();
        file.write_all(b"x").unwrap();
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        let other = waste.with_extension(at.to_string());
        std::fs::hard_link(waste, &other).unwrap();
        std::fs::rename(&other, waste.with_extension("renamed")).unwrap();
        std::fs::remove_file(waste.with_extension("renamed")).unwrap();
        std::fs::create_dir(&other).unwrap();
        std::fs::remove_dir(&other).unwrap();
    }
}

/// Runs the child under `strace` with these arguments; answers its exit code, `None` where it was killed.
fn live(folder: &Path, arguments: &[&str]) -> Option<i32> {
    let output = Command::new("strace")
        .args(["-f", "-qq"])
        .args(arguments)
        .arg(std::env::current_exe().unwrap())
        .args(["kill::child", "--exact", "--test-threads=1", "--nocapture"])
        .env(FOLDER, folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .unwrap();
    let code = output.status.code();
    // A shell would say 128 + 9 of one that was killed.
    let known = [None, Some(0), Some(REFUSED), Some(137)];
    assert!(known.contains(&code), "{code:?}: {}", String::from_utf8_lossy(&output.stderr));
    code.filter(|code| *code != 137)
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), &to).unwrap();
            if to.to_string_lossy().contains('#') {
                aged(&to);
            }
        }
    }
}

/// How many of `call` the thread under test makes after its bias.
fn count(template: &Path, call: &str) -> usize {
    let folder = tempfile::tempdir().unwrap();
    copy(template, folder.path());
    let log = folder.path().join("strace");
    let trace = format!("trace={call}");
    assert_eq!(live(folder.path(), &["-o", log.to_str().unwrap(), "-e", &trace]), Some(0));
    // `strace` counts each call by itself, and the bias is one of each.
    let mut by_call = std::collections::HashMap::<(String, String), usize>::new();
    for line in std::fs::read_to_string(log).unwrap().lines() {
        // What is no call is a thread's end, a signal, or the end of a call that another one interrupted.
        if !["+++", "---", "resumed>"].iter().any(|no| line.contains(no)) {
            let (thread, rest) = line.split_once(' ').unwrap_or((line, ""));
            let name = rest.trim_start().split('(').next().unwrap_or_default();
            *by_call.entry((thread.to_owned(), name.to_owned())).or_default() += 1;
        }
    }
    by_call.into_values().max().unwrap_or(0).saturating_sub(BIAS)
}

/// The step that is two changes: versions go with one record, and then the history that is shortened.
const COLLECT: usize = 7;

/// Everything that can be seen after each step, in memory; and after the first half of the one that has two.
pub(crate) async fn expected(template: &Path) -> (Vec<String>, String) {
    let store = ObjectVersionStore::memory();
    VersionRegistry::restore(template.join("backup"), store.clone()).await.unwrap();
    let registry = VersionRegistry::with_store(store.clone()).await.unwrap();
    let mut states = vec![seen(&registry).await];
    let mut half = String::new();
    for at in 0..STEPS {
        if at == COLLECT {
            let dying = FaultyStore::new(store.clone()).fail(0, Fault::DieAfter);
            step(&VersionRegistry::with_store(dying).await.unwrap(), at).await.unwrap_err();
            half = seen(&VersionRegistry::with_store(store.clone()).await.unwrap()).await;
        }
        step(&registry, at).await.unwrap();
        states.push(seen(&registry).await);
    }
    step(&registry, STEPS).await.unwrap_err();
    (states, half)
}

struct Point {
    call: &'static str,
    fault: &'static str,
    number: usize,
}

/// One life with a fault, and what is left of it. Answers how many verbs it was acknowledged, and whether the fault struck.
async fn strike(template: &Path, states: &(Vec<String>, String), point: &Point) -> (usize, bool) {
    let Point { call, fault, number } = point;
    let name = format!("{call} {fault} {number}");
    let folder = tempfile::tempdir().unwrap();
    copy(template, folder.path());
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{fault}:when={}", number + BIAS));
    let code = live(folder.path(), &["-o", "/dev/null", "-e", &trace, "-e", &inject]);
    let told = std::fs::read_to_string(folder.path().join("told")).unwrap();
    let acknowledged = told.matches('+').count();

    // The restored one: nothing, or everything.
    let restored = ObjectVersionStore::folder(folder.path().join("restored")).unwrap();
    if VersionRegistry::with_store(restored.clone()).await.unwrap().history(1).await.unwrap().is_empty() {
        assert!(!told.contains('r'), "{name}: an acknowledged restore is gone");
        VersionRegistry::restore(folder.path().join("backup"), restored.clone()).await.unwrap();
    }
    let restored = VersionRegistry::with_store(restored).await.unwrap();
    restored.verify().await.unwrap();
    assert_eq!(seen(&restored).await, states.0[0], "{name}");

    // The other one.
    let registry = VersionRegistry::open(folder.path().join("registry")).await.unwrap();
    go_on(&name, &registry, acknowledged, states).await;
    // What was cut off now is too young to be taken for left behind. An hour later, nothing stays.
    let folder = folder.path().join("registry");
    registry.compact(Retention::everything()).await.unwrap();
    for left in parts(&folder) {
        let modified = left.metadata().unwrap().modified().unwrap();
        assert!(modified.elapsed().unwrap().as_secs() < 3_600, "{name}: {} is left", left.display());
        aged(&left);
    }
    registry.register(Version::new("later").artifact("later")).await.unwrap();
    registry.compact(Retention::everything()).await.unwrap();
    assert_eq!(parts(&folder), Vec::<PathBuf>::new(), "{name}");
    registry.verify().await.unwrap();
    (acknowledged, code != Some(0))
}

/// Finds what was acknowledged, and perhaps the verb after it; and does the rest.
pub(crate) async fn go_on(
    name: &str,
    registry: &VersionRegistry,
    acknowledged: usize,
    (states, half): &(Vec<String>, String),
) {
    registry.verify().await.unwrap_or_else(|error| panic!("{name}: {error}"));
    let left = seen(registry).await;
    let next = (acknowledged + 1).min(STEPS);
    let halfway = acknowledged == COLLECT && left == *half;
    let fits = left == states[acknowledged] || left == states[next] || halfway;
    assert!(fits, "{name}: {acknowledged} acknowledged\n{}left:\n{left}", states[acknowledged]);
    // And the rest can be done. One that changes nothing that can be seen is done again.
    let from = if left == states[acknowledged] || halfway { acknowledged } else { next };
    for at in from..STEPS {
        step(registry, at).await.unwrap_or_else(|error| panic!("{name}: step {at} again: {error}"));
    }
    assert_eq!(seen(registry).await, states[STEPS], "{name}");
    registry.verify().await.unwrap();
}

/// Opens a folder that is there, where a test started it to see what it does.
#[test]
fn opener() {
    if let Ok(folder) = std::env::var(OPENED) {
        ObjectVersionStore::folder(folder).unwrap();
    }
}

/// Whoever made it may have been killed before it could sync.
#[test]
fn a_folder_that_is_there_is_synced_with_those_above_it() {
    if !can_trace() {
        eprintln!("left out: the syncs of a folder that is there, for `strace` is not here or may not trace");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let registry = folder.path().join("made/by/another");
    std::fs::create_dir_all(&registry).unwrap();
    let log = folder.path().join("strace");
    let status = Command::new("strace")
        .args(["-f", "-qq", "-y", "-e", "trace=fsync", "-o", log.to_str().unwrap()])
        .arg(std::env::current_exe().unwrap())
        .args(["kill::opener", "--exact", "--test-threads=1"])
        .env(OPENED, &registry)
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let calls = std::fs::read_to_string(log).unwrap();
    for synced in registry.ancestors().take(4) {
        assert!(calls.contains(&format!("<{}>", synced.display())), "{}: {calls}", synced.display());
    }
}

/// A writer that is only held up may still link the file to the number, so another one must not get the name of that file.
#[tokio::test]
async fn what_is_left_beside_a_record_that_is_not_there_stays() {
    let folder = tempfile::tempdir().unwrap();
    prepare(folder.path()).await;
    let registry = folder.path().join("registry");
    let next = registry.join("log/00000000000000000009.json#1");
    for name in ["log/00000000000000000009.json#1", "artifacts/b#2", "artifacts/b#x"] {
        std::fs::write(registry.join(name), "").unwrap();
        aged(&registry.join(name));
    }
    let open = VersionRegistry::open(&registry).await.unwrap();
    assert_eq!(open.verify().await.unwrap().record, 6);
    open.compact(Retention::everything()).await.unwrap();
    assert_eq!(parts(&registry), [next.clone(), registry.join("artifacts/b#x")]);
    for id in ["v3", "v4", "v5"] {
        open.register(Version::new(id).artifact(id)).await.unwrap();
    }
    open.compact(Retention::everything()).await.unwrap();
    assert_eq!(parts(&registry), [registry.join("artifacts/b#x")]);
}

fn can_trace() -> bool {
    let tried = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    tried.is_ok_and(|tried| tried.status.success())
}

fn setting(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// All numbers up to `count`, or as many as were asked for, spread evenly.
fn spread(count: usize) -> Vec<usize> {
    let long = std::env::var("SWARM_LONG").is_ok_and(|long| long == "1");
    match setting("SWARM_KILL_POINTS").unwrap_or(if long { count } else { 2 }) {
        some if some >= count => (1..=count).collect(),
        0 | 1 => vec![count],
        some => (0..some).map(|at| 1 + at * (count - 1) / (some - 1)).collect(),
    }
}

#[test]
fn a_kill_or_a_failure_at_any_call_leaves_what_was_acknowledged_and_at_most_one_verb_more() {
    if !can_trace() {
        eprintln!("left out: kills of the registry, for `strace` is not here or may not trace");
        return;
    }
    let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
    let template = tempfile::tempdir().unwrap();
    std::fs::write(template.path().join("told"), "").unwrap();
    runtime().block_on(prepare(template.path()));
    leave_parts(template.path());
    let states = runtime().block_on(expected(template.path()));
    let mut points = Vec::new();
    let mut calls = 0;
    let mut counts = std::collections::HashMap::new();
    for (call, faults) in [
        ("write", &["signal=KILL", "error=ENOSPC"][..]),
        ("openat", &["signal=KILL", "error=EMFILE"]),
        ("/^fsync|^fdatasync", &["signal=KILL", "error=EIO"]),
        ("/^link", &["signal=KILL", "error=EIO"]),
        ("/^rename", &["signal=KILL", "error=EIO"]),
        ("/^unlink", &["signal=KILL", "error=EIO"]),
        ("/^mkdir", &["signal=KILL", "error=ENOSPC"]),
    ] {
        let count = count(template.path(), call);
        assert!(count > 0, "nothing was asked of {call}: is it not made any more?");
        counts.insert(call, count);
        calls += count;
        for number in spread(count) {
            points.extend(faults.iter().map(|fault| Point { call, fault, number }));
        }
    }
    // Of each object that is made or replaced, the file and its folder.
    let (syncs, written) = (counts["/^fsync|^fdatasync"], counts["/^link"] + counts["/^rename"]);
    assert!(syncs >= 2 * written, "{syncs} syncs of {written} objects");
    let (next, acknowledged, struck) = (AtomicUsize::new(0), Mutex::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let runtime = runtime();
                while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let (steps, hit) = runtime.block_on(strike(template.path(), &states, point));
                    *acknowledged.lock().unwrap() += steps;
                    struck.fetch_add(usize::from(hit), Ordering::Relaxed);
                }
            });
        }
    });
    let (acknowledged, struck) = (acknowledged.into_inner().unwrap(), struck.into_inner());
    eprintln!(
        "kill sweep of the registry: {} of {} points, {struck} lives ended by them, {acknowledged} verbs acknowledged",
        points.len(),
        calls * 2
    );
    assert!(struck * 2 >= points.len(), "{struck} of {}", points.len());
    assert!(acknowledged >= points.len(), "{acknowledged}");
}
