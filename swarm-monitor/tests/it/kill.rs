//! A process dies, or is told of a failure, at every call that changes a file. What is left is judged by what it had told a witness
//! before.
//!
//! `SWARM_KILL_POINTS` is the number of points for each kind of call; `SWARM_LONG=1` means every one.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use swarm_monitor::{
    Alert, AlertEngine, AlertRule, AlertState, Condition, FnNotifier, Matcher, Measurement, Notification,
    PerformanceMonitor, Restored, Result, Route, Severity,
};

use crate::{Timed, start};

const FOLDER: &str = "SWARM_MONITOR_KILL";
const SCRIPT: &str = "SWARM_MONITOR_KILL_SCRIPT";
/// How many calls of each kind the thread under test makes beforehand, so that no other thread comes first to a number.
const BIAS: usize = 60;
/// The exit code of a process that went on after a failure.
const TOLD: i32 = 17;

/// Tells the witness.
type Tell = Arc<dyn Fn(&str) + Send + Sync>;

/// What a process does in a folder until it is killed. It tells a witness of what it was acknowledged, and answers whether it was told
/// of a failure.
struct Script {
    name: &'static str,
    run: fn(&Path, Tell) -> bool,
    /// Looks at what is left, beside what the witness was told. Panics if something is not as it was promised.
    judge: fn(&Path, &str, &str),
    /// What the witness is told at most, in lines.
    lines: usize,
}

const SCRIPTS: [Script; 2] = [
    Script { name: "snapshot", run: snapshots, judge: judge_snapshot, lines: 4 },
    Script { name: "alerts", run: alerts, judge: judge_alerts, lines: 14 },
];

const ROUNDS: u64 = 4;

fn restored(folder: &Path) -> Timed {
    let clock = swarm_monitor::testing::FakeClock::new(start());
    let builder = PerformanceMonitor::builder().restore(folder.join("metrics"));
    Timed { monitor: builder.clock(clock.clone()).build().unwrap(), clock }
}

/// Each snapshot has one round more than the one before.
fn snapshots(folder: &Path, tell: Tell) -> bool {
    waste_calls(&folder.join("waste"));
    let timed = restored(folder);
    let mut failed = false;
    for round in 1..=ROUNDS {
        // Long enough for several writes.
        for user in 0..60 {
            timed.monitor.record("n", Measurement::Count(1), &[("user", &user.to_string())]);
            timed.monitor.record("x", f64::from(user), &[("user", &user.to_string())]);
        }
        match timed.monitor.snapshot(folder.join("metrics")) {
            Ok(()) => tell(&round.to_string()),
            Err(_) => failed = true,
        }
    }
    failed
}

fn judge_snapshot(folder: &Path, told: &str, point: &str) {
    let told = told.lines().last().map_or(0, |line| line.parse().unwrap());
    let monitor = restored(folder).monitor;
    let rounds = match monitor.restored() {
        Some(Restored::Complete { .. }) => monitor.select("n").total().unwrap().count / 60,
        Some(Restored::Absent) => 0,
        other => panic!("{point}: {other:?}"),
    };
    // The one that was under way may be there, though nobody was told.
    assert!((told..=ROUNDS).contains(&rounds), "{point}: {rounds} {told}");
    if rounds > 0 {
        assert_eq!(monitor.select("x").total().unwrap().count, rounds * 60, "{point}");
    }
}

fn engine(folder: &Path, tell: Tell) -> Result<(Timed, AlertEngine)> {
    let timed = Timed::new();
    let rule = AlertRule::new("over", Condition::of("load").last().above(5.0)).each("agent");
    let notifier = FnNotifier::new(move |told: &Notification| {
        for alert in &told.alerts {
            let fired = alert.fired.unwrap().timestamp();
            tell(&format!("{} {} {fired}", alert.state, alert.labels["agent"]));
        }
        Ok(())
    });
    let alerts = AlertEngine::builder(&timed.monitor)
        .rule(rule.severity(Severity::Critical))
        .route(Route::new("witness", notifier))
        .file(folder.join("alerts"))
        .build()?;
    Ok((timed, alerts))
}

/// One agent comes and goes, another stays for a while. All calls that change files are made by one thread.
fn alerts(folder: &Path, tell: Tell) -> bool {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build();
    runtime.unwrap().block_on(async {
        let blocking =
            async |work: Box<dyn FnOnce() -> bool + Send>| tokio::task::spawn_blocking(work).await.unwrap();
        let (waste, path, told) = (folder.join("waste"), folder.to_owned(), tell.clone());
        let opened = tokio::task::spawn_blocking(move || {
            waste_calls(&waste);
            engine(&path, told)
        });
        let Ok((timed, alerts)) = opened.await.unwrap() else { return true };
        let mut failed = alerts.recovery().error.is_some();
        for round in 0..7 {
            for (agent, fires) in [("a", round % 2 == 0 && round < 5), ("b", (1..5).contains(&round))] {
                let load = if fires { 9.0 } else { 1.0 };
                timed.monitor.record("load", Measurement::Gauge(load), &[("agent", agent)]);
            }
            timed.pass(300);
            let (engine, tell) = (alerts.clone(), tell.clone());
            failed |= blocking(Box::new(move || {
                let mut failed = engine.evaluate().not_stored.is_some();
                if round < 2 {
                    let silence =
                        engine.silence([Matcher::is("agent", "c")], Duration::from_secs(9_999), "ann", "");
                    failed |= silence.is_err();
                    silence.iter().for_each(|silence| tell(&format!("silence {}", silence.id)));
                }
                if round == 2 {
                    let stays = engine.alerts().into_iter().find(|alert| alert.labels["agent"] == "b");
                    match stays.map(|alert| engine.acknowledge(&alert.id, "ann", "")) {
                        Some(Ok(alert)) => {
                            tell(&format!("acknowledged b {}", alert.fired.unwrap().timestamp()))
                        }
                        _ => failed = true,
                    }
                }
                failed
            }))
            .await;
            alerts.deliver().await;
        }
        failed
    })
}

/// Nothing that was told as firing is lost, and nothing that was told as resolved fires again.
fn judge_alerts(folder: &Path, told: &str, point: &str) {
    let (_, engine) = engine(folder, Arc::new(|_| {})).unwrap();
    assert_eq!(engine.recovery().damaged, 0, "{point}");
    let alerts = engine.alerts();
    for agent in ["a", "b"] {
        let last = told.lines().rev().find(|line| line.split(' ').nth(1) == Some(agent));
        let Some((state, fired)) = last.and_then(|line| line.split_once(&format!(" {agent} "))) else {
            continue;
        };
        let fired: i64 = fired.parse().unwrap();
        let alert = alerts.iter().find(|alert| alert.labels["agent"] == agent);
        let begun = alert.map(|alert| (alert.fired.unwrap().timestamp(), alert.state));
        match state {
            // Its end may be known and not told, or it may have begun again.
            "firing" => {
                assert!(begun.is_some_and(|(begun, _)| begun >= fired), "{point}: {agent} is lost: {told}")
            }
            _ => assert!(begun != Some((fired, AlertState::Firing)), "{point}: {agent} is back: {told}"),
        }
    }
    for fired in told.lines().filter_map(|line| line.strip_prefix("acknowledged b ")) {
        let stays = |alert: &Alert| alert.labels["agent"] == "b" && alert.acknowledged.is_some();
        let over = told.lines().any(|line| line == format!("resolved b {fired}"));
        assert!(over || alerts.iter().any(stays), "{point}: nobody has taken b on: {told}");
    }
    for id in told.lines().filter_map(|line| line.strip_prefix("silence ")) {
        let kept = engine.silences().iter().any(|silence| silence.id.to_string() == id);
        assert!(kept, "{point}: silence {id} is lost");
    }
}

/// What a started process does, and nothing where nobody started it.
#[test]
fn child() {
    let (Ok(folder), Ok(name)) = (std::env::var(FOLDER), std::env::var(SCRIPT)) else { return };
    let (folder, script) =
        (PathBuf::from(folder), SCRIPTS.iter().find(|script| script.name == name).unwrap());
    let told = std::fs::OpenOptions::new().append(true).open(folder.join("told")).unwrap();
    // A thread of its own, whose calls are counted from here on.
    let life = std::thread::spawn(move || {
        // A failure may strike here too: then nobody was told.
        (script.run)(&folder, Arc::new(move |line| drop((&told).write_all(format!("{line}\n").as_bytes()))))
    });
    let failed = life.join().unwrap();
    std::process::exit(if failed { TOLD } else { 0 });
}

fn waste_calls(waste: &Path) {
    for at in 0..BIAS {
        let mut file = std::fs::File::create(waste).unwrap();
        file.write_all(b"x").unwrap();
        file.sync_all().unwrap();
        file.sync_data().unwrap();
        let other = waste.with_extension(at.to_string());
        std::fs::rename(waste, &other).unwrap();
        std::fs::remove_file(&other).unwrap();
    }
}

/// Runs the child under `strace` with these arguments; answers its exit code, `None` where it was killed.
fn live(script: &Script, folder: &Path, arguments: &[&str]) -> Option<i32> {
    let output = Command::new("strace")
        .args(["-f", "-qq"])
        .args(arguments)
        .arg(std::env::current_exe().unwrap())
        .args(["kill::child", "--exact", "--test-threads=1", "--nocapture"])
        .env(FOLDER, folder)
        .env(SCRIPT, script.name)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .output()
        .unwrap();
    let code = output.status.code();
    // A shell would say 128 + 9 of one that was killed.
    let known = [None, Some(0), Some(TOLD), Some(137)];
    assert!(known.contains(&code), "{code:?}: {}", String::from_utf8_lossy(&output.stderr));
    code.filter(|code| *code != 137)
}

fn traces() -> bool {
    let tried = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    tried.is_ok_and(|tried| tried.status.success())
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("told"), "").unwrap();
    folder
}

/// How many of `call` the thread under test makes after its bias.
fn count(script: &Script, call: &str) -> usize {
    let folder = folder();
    let log = folder.path().join("strace");
    let trace = format!("trace={call}");
    assert_eq!(live(script, folder.path(), &["-o", log.to_str().unwrap(), "-e", &trace]), Some(0));
    let told = std::fs::read_to_string(folder.path().join("told")).unwrap();
    assert_eq!(told.lines().count(), script.lines, "{told}");
    (script.judge)(folder.path(), &told, "no fault");
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

/// A power cut is no kill: what a killed process wrote is there, and what was not brought to the disk before a power cut may not be.
#[test]
fn what_is_acknowledged_was_brought_to_the_disk_before() {
    if !traces() {
        eprintln!("left out: the order of syncs, for `strace` is not here or may not trace");
        return;
    }
    for script in &SCRIPTS {
        let folder = folder();
        let log = folder.path().join("strace");
        let trace = "trace=/^write,/^pwrite,/^fsync|^fdatasync,/^rename";
        let arguments = ["-y", "-s", "0", "-o", log.to_str().unwrap(), "-e", trace];
        assert_eq!(live(script, folder.path(), &arguments), Some(0));
        let here = format!("{}/", folder.path().display());
        let (mut behind, mut renamed) = (std::collections::BTreeSet::new(), None);
        let (mut told, mut renames) = (0, 0);
        for line in std::fs::read_to_string(&log).unwrap().lines() {
            let Some((_, call)) = line.split_once(' ') else { continue };
            let Some((call, rest)) = call.trim_start().split_once('(') else { continue };
            let opened = rest.split_once('<').and_then(|(_, path)| Some(path.split_once('>')?.0));
            match (call, opened) {
                ("fsync" | "fdatasync", Some(path)) if path == here.trim_end_matches('/') => renamed = None,
                ("fsync" | "fdatasync", Some(path)) => drop(behind.remove(path)),
                (call, Some(path)) if call.contains("write") && path.starts_with(&here) => {
                    if path == format!("{here}told") {
                        assert!(behind.is_empty() && renamed.is_none(), "{behind:?} {renamed:?}: {line}");
                        told += 1;
                    } else {
                        behind.insert(path.to_owned());
                    }
                }
                (call, _) if call.starts_with("rename") && !line.contains("/waste") => {
                    let from = rest.split('"').nth(1).unwrap();
                    assert!(!behind.contains(from), "{line}");
                    (renamed, renames) = (Some(line.to_owned()), renames + 1);
                }
                _ => {}
            }
        }
        assert!(told == script.lines && renames > 0, "{}: {told} {renames}", script.name);
    }
}

/// All the numbers up to `count`, or as many as were asked for, spread evenly.
fn spread(count: usize) -> Vec<usize> {
    let long = std::env::var("SWARM_LONG").is_ok_and(|long| long == "1");
    let points = std::env::var("SWARM_KILL_POINTS").ok().map(|points| points.parse().unwrap());
    match points.unwrap_or(if long { count } else { 3 }) {
        some if some >= count => (1..=count).collect(),
        0 | 1 => vec![count],
        some => (0..some).map(|at| 1 + at * (count - 1) / (some - 1)).collect(),
    }
}

#[test]
fn a_kill_or_a_failure_at_any_call_leaves_what_was_acknowledged() {
    if !traces() {
        eprintln!("left out: kills of the monitor, for `strace` is not here or may not trace");
        return;
    }
    for script in &SCRIPTS {
        let mut points = Vec::new();
        let mut calls = 0;
        for (call, faults) in [
            ("write", &["signal=KILL", "error=ENOSPC"][..]),
            ("openat", &["signal=KILL", "error=EMFILE"]),
            ("/^fsync|^fdatasync", &["signal=KILL", "error=EIO"]),
            ("/^rename", &["signal=KILL", "error=EIO"]),
        ] {
            let count = count(script, call);
            assert!(count > 0, "nothing was asked of {call}: is it not made any more?");
            calls += count * faults.len();
            for number in spread(count) {
                points.extend(faults.iter().map(|fault| (call, *fault, number)));
            }
        }
        let (next, told, struck) = (AtomicUsize::new(0), Mutex::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let (lines, hit) = strike(script, *point);
                        *told.lock().unwrap() += lines;
                        struck.fetch_add(usize::from(hit), Ordering::Relaxed);
                    }
                });
            }
        });
        let (told, struck) = (told.into_inner().unwrap(), struck.into_inner());
        eprintln!(
            "kill sweep of the {}: {} of {calls} points, {struck} lives struck by them, {told} times told",
            script.name,
            points.len()
        );
        assert!(struck * 2 >= points.len(), "{struck} of {}", points.len());
        assert!(told >= points.len(), "{told}");
    }
}

/// One life with a fault, and what is left of it. Answers how often the witness was told, and whether the fault struck.
fn strike(script: &Script, (call, fault, number): (&str, &str, usize)) -> (usize, bool) {
    let folder = folder();
    let (trace, inject) = (format!("trace={call}"), format!("inject={call}:{fault}:when={}", number + BIAS));
    let code = live(script, folder.path(), &["-o", "/dev/null", "-e", &trace, "-e", &inject]);
    let told = std::fs::read_to_string(folder.path().join("told")).unwrap();
    (script.judge)(folder.path(), &told, &format!("{} {call} {fault} {number}", script.name));
    (told.lines().count(), code != Some(0))
}
