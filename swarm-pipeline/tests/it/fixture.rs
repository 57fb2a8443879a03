//! Logs of every released format, read by the code of today: seen as history, and carried on to their ends.
//!
//! `SWARM_WRITE_FIXTURES=1 cargo test -p swarm-pipeline --test it fixture` writes those of the present format anew. That is
//! for a format that was not released yet: a released fixture is never changed.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use swarm_pipeline::testing::{Fault, FaultyStore};
use swarm_pipeline::{
    Error, FileStore, Gate, LocalEngine, OnChange, Pipeline, Retry, RunEvent, RunEventKind, RunOptions,
    RunReport, RunStatus, StepContext, StepError, StepStatus, Why,
};

use super::victim::{Shown, Witness};

/// Every kind of entry that a log can hold; the fixtures hold them all.
const ENTRIES: [&str; 22] = [
    "run_started",
    "resumed",
    "redefined",
    "reset",
    "step_started",
    "step_succeeded",
    "step_failed",
    "step_prepared",
    "step_skipped",
    "step_reused",
    "fanned_out",
    "sleeping",
    "timer_fired",
    "signalled",
    "cancel_requested",
    "undo_started",
    "undo_succeeded",
    "undo_failed",
    "undo_retried",
    "undo_marked",
    "rollback_requested",
    "finished",
];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/log-v1")
}

fn is_writing() -> bool {
    std::env::var("SWARM_WRITE_FIXTURES").is_ok_and(|write| write == "1")
}

/// What differs between the runs.
#[derive(Clone, Copy, Default)]
struct Twist {
    /// The last step fails for good.
    fails: bool,
    /// The undo of `flaky` fails for good.
    sticks: bool,
    /// The version of `audit`.
    changed: bool,
}

fn pipeline(witness: &Witness, twist: Twist) -> Pipeline {
    let say = |w: &Witness| {
        let w = w.clone();
        move |cx: &StepContext| {
            w.tell("begin", cx.step(), cx.item(), cx.attempt(), "");
            format!("{}#{}", cx.idempotency_key(), cx.attempt())
        }
    };
    let undo = |w: &Witness| {
        let w = w.clone();
        move |cx: StepContext, out: Option<Arc<String>>| {
            let out = out.map_or_else(|| "-".to_owned(), |out| out.to_string());
            w.tell("undo", cx.step(), cx.item(), cx.attempt(), &out);
            let fails = cx.step() == "flaky" && (twist.sticks || cx.attempt() == 1);
            async move { if fails { Err(StepError::new("not undone")) } else { Ok(()) } }
        }
    };
    let soon = Retry::fixed(2, Duration::ZERO);
    let mut p = Pipeline::builder("fixture");
    let told = say(witness);
    let flaky =
        p.step("flaky").retry(soon.clone()).compensate_retry(soon.clone()).compensate(undo(witness)).run(
            move |cx, ()| {
                let value = told(&cx);
                async move { if cx.attempt() == 1 { Err(StepError::new("at first")) } else { Ok(value) } }
            },
        );
    let told = say(witness);
    let audit =
        p.step("audit")
            .input(&flaky)
            .version(if twist.changed { "2" } else { "1" })
            .retry(soon.clone())
            .gate(
                Gate::check("second", |audit: &String| {
                    if audit.ends_with("#1") { Err("it is the first".into()) } else { Ok(()) }
                })
                .retry_on_refusal(),
            )
            .gate(Gate::at_least("long", 1000.0, |audit: &String| audit.len() as f64).warn_only())
            .compensate(undo(witness))
            .run(move |cx, _| {
                let value = told(&cx);
                async { Ok(value) }
            });
    let told = say(witness);
    let table = p.step("table").reuse().run(move |cx, ()| {
        told(&cx);
        async { Ok(vec![3_u32, 1, 2]) }
    });
    let told = say(witness);
    let each = p.step("each").input(&table).retry(soon).compensate(undo(witness)).run_each(move |cx, item: u32| {
        let value = told(&cx);
        async move {
            if item == 1 && cx.attempt() == 1 { Err(StepError::new("at first")) } else { Ok(value) }
        }
    });
    let nap = p.step("nap").input(&audit).sleep(Duration::from_micros(100));
    p.step("never").input(&table).when(|table| table.is_empty()).run(|_cx, _| async { Ok(()) });
    let approve = p.step::<bool>("approve").input((&each, &nap)).wait_for_signal();
    let told = say(witness);
    p.step("publish")
        .input((&approve, &each, &audit))
        .when(|(_, each, _)| !each.is_empty())
        .compensate(undo(witness))
        .run(move |cx, (approve, each, _)| {
            let value = told(&cx);
            async move {
                if twist.fails {
                    Err(StepError::permanent("for good"))
                } else {
                    Ok(format!("{value} {approve} {}", each.len()))
                }
            }
        });
    p.build().unwrap()
}

/// A run with an output beside the log.
fn large(witness: &Witness) -> Pipeline {
    let w = witness.clone();
    let mut p = Pipeline::builder("large");
    let large = p.step("large").run(move |cx, ()| {
        w.tell("begin", "large", None, cx.attempt(), "");
        async { Ok("x".repeat(256 * 1024)) }
    });
    let approve = p.step::<u32>("approve").wait_for_signal();
    p.step("length")
        .input((&large, &approve))
        .run(|_cx, (large, more)| async move { Ok(large.len() + *more as usize) });
    p.build().unwrap()
}

fn until_suspended() -> RunOptions {
    RunOptions::new().return_when_suspended()
}

async fn write_all(dir: &Path) -> Result<(), Error> {
    let w = Witness::in_memory();
    let plain = pipeline(&w, Twist::default());
    let fails = pipeline(&w, Twist { fails: true, ..Twist::default() });
    let sticks = pipeline(&w, Twist { fails: true, sticks: true, ..Twist::default() });
    let engine = LocalEngine::open(dir)?;
    let _ = engine.run_with(&plain, "earlier", (), until_suspended()).await?;

    for run in ["suspended", "cancelled", "redefined", "succeeded", "undone", "failed", "stuck", "marked"] {
        let _ = engine.run_with(&plain, run, (), until_suspended()).await?;
    }
    engine.cancel("cancelled").await?;
    let _ = engine.run(&plain, "cancelled", ()).await?;
    let changed = pipeline(&w, Twist { changed: true, ..Twist::default() });
    let _ = engine.run_with(&changed, "redefined", (), until_suspended().on_change(OnChange::Rerun)).await?;
    let _ = engine.run_with(&changed, "redefined", (), until_suspended().restart_from("nap")).await?;
    for (run, pipeline) in [
        ("succeeded", &plain),
        ("undone", &plain),
        ("failed", &fails),
        ("stuck", &sticks),
        ("marked", &sticks),
    ] {
        engine.signal(run, "approve", true).await?;
        let _ = engine.run(pipeline, run, ()).await?;
    }
    let _ = engine.rollback(&plain, "undone").await?;
    let _ = engine.retry_undo(&sticks, "stuck", "flaky").await?;
    let _ = engine.mark_compensated(&sticks, "marked", "flaky").await?;
    let _ = engine.run_with(&large(&w), "large", (), until_suspended()).await?;
    engine.signal("large", "approve", 7_u32).await?;

    // Dies when an item is done and another has begun, is taken up, and dies again before it does anything.
    let store = FileStore::open(dir)?;
    for n in 1.. {
        store_delete(&store, "crashed").await?;
        let dying = LocalEngine::with_store(FaultyStore::failing_at(store.clone(), n, Fault::CrashAfter));
        let died = dying.run_with(&plain, "crashed", (), until_suspended()).await;
        assert!(died.is_err(), "it never came to the middle of the fan-out");
        let history = engine.history("crashed").await?;
        let item = |kind: &RunEventKind| matches!(kind, RunEventKind::StepSucceeded { item: Some(_), .. });
        if history.iter().any(|event| item(&event.kind)) {
            break;
        }
    }
    let dying = LocalEngine::with_store(FaultyStore::failing_at(store.clone(), 1, Fault::CrashAfter));
    assert!(dying.run_with(&plain, "crashed", (), until_suspended()).await.is_err());
    for name in ["earlier.jsonl", "reuse", "durations"] {
        let path = dir.join(name);
        if path.is_dir() {
            std::fs::remove_dir_all(path).unwrap()
        } else {
            let _ = std::fs::remove_file(path);
        }
    }
    std::fs::write(dir.join("history.txt"), histories(&engine).await?).unwrap();
    Ok(())
}

async fn store_delete(store: &FileStore, run: &str) -> Result<(), Error> {
    use swarm_pipeline::CheckpointStore;
    store.delete(&run.parse()?).await
}

/// Every run as its log tells it, one event a line, without the times.
async fn histories(engine: &LocalEngine) -> Result<String, Error> {
    let mut text = String::new();
    for run in engine.runs().await? {
        text +=
            &format!("{} of {}: {}, {} of {} done\n", run.run, run.pipeline, run.status, run.done, run.steps);
        for RunEvent { kind, .. } in engine.history(run.run.as_str()).await? {
            text += &format!("  {kind:?}\n");
        }
    }
    Ok(text)
}

/// A copy of the fixtures, for the store mends and appends.
fn copy() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    copy_dir(&fixtures(), dir.path());
    dir
}

fn copy_dir(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            std::fs::create_dir(&to).unwrap();
            copy_dir(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

/// An engine over a copy of the fixtures, with a witness and the pipeline they were written with, unless they are being written.
fn taken_up() -> Option<(tempfile::TempDir, LocalEngine, Witness, Pipeline)> {
    let dir = are_there().then(copy)?;
    let engine = LocalEngine::open(dir.path()).unwrap();
    let w = Witness::in_memory();
    let plain = pipeline(&w, Twist::default());
    Some((dir, engine, w, plain))
}

/// Whether the fixtures are there to be read; when they are written, the readers come the next time.
fn are_there() -> bool {
    if is_writing() {
        eprintln!("left out: the fixtures are being written; read them without SWARM_WRITE_FIXTURES");
    }
    !is_writing()
}

#[tokio::test]
async fn the_fixtures_are_written_when_that_is_asked_for() {
    if is_writing() {
        let dir = fixtures();
        let _ = std::fs::remove_dir_all(&dir);
        write_all(&dir).await.unwrap();
    }
}

#[test]
fn the_fixtures_hold_every_kind_of_entry() {
    if !are_there() {
        return;
    }
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "jsonl") {
            let text = std::fs::read_to_string(path).unwrap();
            for line in text.lines().skip(1) {
                let line: serde_json::Value = serde_json::from_str(line).unwrap();
                found.extend(line["event"].as_object().unwrap().keys().cloned());
            }
        }
    }
    assert_eq!(found, ENTRIES.iter().map(|entry| (*entry).to_owned()).collect());
}

#[tokio::test]
async fn logs_of_format_1_are_read_as_the_history_they_were() {
    if !are_there() {
        return;
    }
    let dir = copy();
    let engine = LocalEngine::open(dir.path()).unwrap();
    let expected = std::fs::read_to_string(fixtures().join("history.txt")).unwrap();
    assert_eq!(histories(&engine).await.unwrap(), expected);
    assert_eq!(engine.runs().await.unwrap().len(), 10);
}

/// What the steps of a resumed run did.
fn begun(witness: &Witness) -> Vec<String> {
    let words = |line: &str| line.split(' ').skip(1).take(4).collect::<Vec<_>>().join(" ");
    witness.said().lines().map(words).collect()
}

fn output(report: &RunReport, step: &str) -> String {
    report.output_by_name::<serde_json::Value>(step).unwrap().shown()
}

#[tokio::test]
async fn runs_of_format_1_are_carried_on_from_where_they_were() {
    let Some((_dir, engine, w, plain)) = taken_up() else { return };

    engine.signal("suspended", "approve", false).await.unwrap();
    let report = engine.run(&plain, "suspended", ()).await.unwrap();
    assert!(report.is_success(), "{report}");
    assert_eq!(begun(&w), ["begin publish - 1"]);
    assert_eq!(*report.output_by_name::<String>("publish").unwrap(), "suspended/publish#1 false 3");
    assert_eq!(output(&report, "each"), "suspended/each[0]#1+suspended/each[1]#2+suspended/each[2]#1");
    assert_eq!(output(&report, "audit"), "suspended/audit#2");
    assert_eq!(report.why("table").unwrap(), Why::Reused { from: "earlier".into() });
    assert_eq!(report.why("never").unwrap(), Why::ConditionFalse);
    assert_eq!(report.why("flaky").unwrap(), Why::Recorded);
    let gates: Vec<_> = report.step("audit").unwrap().attempts.iter().flat_map(|a| a.gates.clone()).collect();
    assert_eq!(gates.len(), 4);

    // The item that was recorded stays; those that had begun or not are made.
    let w = Witness::in_memory();
    let report =
        engine.run_with(&pipeline(&w, Twist::default()), "crashed", (), until_suspended()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Suspended);
    let items = |line: &&String| line.starts_with("begin each");
    let (all, done) = (output(&report, "each"), report.step("each").unwrap());
    assert_eq!((all.split('+').count(), done.status), (3, StepStatus::Succeeded));
    assert!(!begun(&w).iter().any(|line| line.starts_with("begin flaky - 1")));
    assert!(begun(&w).iter().filter(items).count() < 4, "{:?}", begun(&w));
    assert!(!begun(&w).iter().any(|line| line.starts_with("begin each 0")), "{:?}", begun(&w));

    // An output beside the log.
    let w = Witness::in_memory();
    let report = engine.run(&large(&w), "large", ()).await.unwrap();
    assert_eq!((output(&report, "length"), w.said()), ((256 * 1024 + 7).to_string(), String::new()));

    // A definition that changed on the way.
    let w = Witness::in_memory();
    let changed = pipeline(&w, Twist { changed: true, ..Twist::default() });
    engine.signal("redefined", "approve", true).await.unwrap();
    let report = engine.run(&changed, "redefined", ()).await.unwrap();
    assert!(report.is_success(), "{report}");
    assert_eq!(begun(&w), ["begin publish - 1"]);
    assert_eq!(output(&report, "audit"), "redefined/audit#3");
}

#[tokio::test]
async fn runs_of_format_1_that_are_over_are_answered_without_running_anything() {
    let Some((_dir, engine, w, plain)) = taken_up() else { return };
    for (run, status) in [
        ("succeeded", RunStatus::Succeeded),
        ("undone", RunStatus::RolledBack),
        ("failed", RunStatus::Failed),
        ("marked", RunStatus::Failed),
        ("cancelled", RunStatus::Cancelled),
        ("stuck", RunStatus::Stuck),
    ] {
        let report = engine.run(&plain, run, ()).await.unwrap();
        assert_eq!(report.status(), status, "{run}");
        if !matches!(run, "succeeded" | "stuck") {
            assert!(report.step("audit").unwrap().undo.is_some(), "{run}");
        }
    }
    assert_eq!(begun(&w), [""; 0]);
    // An undo that was stuck can still be tried again, and brings the rest of the rollback.
    let report = engine.retry_undo(&plain, "stuck", "flaky").await.unwrap();
    assert_eq!((report.status(), report.stuck()), (RunStatus::Failed, Vec::<&str>::new()));
    assert_eq!(begun(&w).len(), 1, "{:?}", begun(&w));
    assert!(begun(&w)[0].starts_with("undo flaky -"));
    // A run that failed goes on where it was mended, and wants the approval of what it does anew.
    let options = until_suspended().retry_failed();
    let report = engine.run_with(&plain, "failed", (), options).await.unwrap();
    assert_eq!((report.status(), report.awaited_signals()), (RunStatus::Suspended, vec!["approve"]));
    engine.signal("failed", "approve", true).await.unwrap();
    assert!(engine.run(&plain, "failed", ()).await.unwrap().is_success());
}

/// Numbers that look random and depend on nothing but where they start (splitmix64).
fn below(state: &mut u64, bound: usize) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    ((z ^ (z >> 27)) % bound as u64) as usize
}

/// The entries of a log that is whole, but not one that was ever written: lines left out, doubled, moved, or of another run,
/// and numbers and names in them that are others.
fn garbled(logs: &[Vec<String>], chance: &mut u64) -> Vec<String> {
    let mut log = logs[below(chance, logs.len())].clone();
    for _ in 0..1 + below(chance, 4) {
        let at = 1 + below(chance, log.len().max(2) - 1);
        if at >= log.len() {
            continue;
        }
        match below(chance, 6) {
            0 => drop(log.remove(at)),
            1 => log.insert(at, log[at].clone()),
            2 => {
                let other = 1 + below(chance, log.len() - 1);
                log.swap(at, other);
            }
            3 => {
                let other = &logs[below(chance, logs.len())];
                log.insert(at, other[below(chance, other.len())].clone());
            }
            4 => log.truncate(at),
            _ => {
                let at = below(chance, log.len());
                let digits =
                    Vec::from_iter(log[at].match_indices(|c: char| c.is_ascii_digit()).map(|(at, _)| at));
                let digit = digits[below(chance, digits.len())];
                log[at].replace_range(digit..=digit, &below(chance, 10).to_string());
                let names = ["flaky", "audit", "table", "each", "nap", "never", "approve", "publish"];
                let (from, to) = (names[below(chance, 8)], names[below(chance, 8)]);
                if below(chance, 2) == 0 {
                    log[at] = log[at].replacen(&format!("\"{from}\""), &format!("\"{to}\""), 1);
                }
            }
        }
    }
    log
}

/// Hostile or not, a log with right checksums ends in an answer: `SWARM_LONG=1` tries more of them.
#[tokio::test(start_paused = true)]
async fn logs_that_nobody_wrote_are_answered_without_a_panic() {
    use swarm_pipeline::{CheckpointStore, MemoryStore, Record};
    let mut logs = Vec::new();
    for entry in std::fs::read_dir(fixtures()).unwrap() {
        let path = entry.unwrap().path();
        // One output is beside its log, which takes long to copy.
        if path.extension().is_some_and(|extension| extension == "jsonl") && !path.ends_with("large.jsonl") {
            let text = std::fs::read_to_string(path).unwrap();
            let event = |line: &str| line[line.find("\"event\":").unwrap() + 8..line.len() - 1].to_owned();
            logs.push(Vec::from_iter(text.lines().skip(1).map(event)));
        }
    }
    logs.sort();
    let (witness, hour) = (Witness::in_memory(), Duration::from_secs(3600));
    let twist = |changed| Twist { changed, ..Twist::default() };
    let pipelines = [pipeline(&witness, twist(false)), pipeline(&witness, twist(true))];
    let tries = if std::env::var("SWARM_LONG").is_ok_and(|long| long == "1") { 100_000 } else { 1_000 };
    let (mut answered, mut refused) = (0, 0);
    for seed in 0..tries {
        let mut chance = seed;
        let store = MemoryStore::new();
        let log = garbled(&logs, &mut chance);
        let mut place = store.acquire(&"r".parse().unwrap()).await.unwrap();
        let records: Vec<Record> =
            (0..).zip(&log).map(|(seq, body)| Record { seq, body: body.clone() }).collect();
        place.append(&records).await.unwrap();
        drop(place);
        let engine = LocalEngine::with_store(store);
        let pipeline = &pipelines[below(&mut chance, 2)];
        let mut options = until_suspended().on_change(OnChange::Rerun);
        match below(&mut chance, 4) {
            0 => options = options.retry_failed(),
            1 => options = options.restart_from("each"),
            _ => {}
        }
        let all = async {
            let _ = (engine.history("r").await, engine.report(pipeline, "r").await);
            let told = match below(&mut chance, 4) {
                0 => engine.rollback(pipeline, "r").await,
                1 => engine.mark_compensated(pipeline, "r", "flaky").await,
                _ => engine.resume(pipeline, "r", options.clone()).await,
            };
            let _ = (engine.signal("r", "approve", true).await, engine.cancel("r").await);
            let _ = engine.resume(pipeline, "r", options).await;
            told.is_ok()
        };
        let told = std::panic::AssertUnwindSafe(tokio::time::timeout(hour * 24 * 365 * 200, all));
        match futures::FutureExt::catch_unwind(told).await {
            Ok(Ok(told)) => *if told { &mut answered } else { &mut refused } += 1,
            Ok(Err(_)) => panic!("seed {seed}: it never ends\n{}", log.join("\n")),
            Err(_) => panic!("seed {seed}: it panics\n{}", log.join("\n")),
        }
    }
    eprintln!("logs that nobody wrote: {answered} went on, {refused} refused");
    assert!(answered > tries / 20 && refused > tries / 20, "{answered} and {refused}");
}
