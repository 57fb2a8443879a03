//! Stored bytes that are not what was written: a typed error or a right recovery, never wrong data.
//!
//! What cannot be told is a log whose last lines are missing as a whole: it looks like one whose last lines were never
//! written. Such a run repeats what was lost with them, and only that.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use swarm_pipeline::{
    Error, ErrorKind, FileStore, Gate, LocalEngine, Pipeline, Retry, RunEventKind, RunReport, RunStatus,
    StepContext, StepError,
};

use super::kill::is_long;
use super::victim::{RUN, Shown, Witness};

/// A run of few bytes: a retry, a gate, a fan-out, and, if it `fails`, a rollback.
fn small(witness: &Witness, fails: bool) -> Pipeline {
    let mut p = Pipeline::builder("small");
    let tell = |w: &Witness| {
        let w = w.clone();
        move |cx: &StepContext| {
            w.tell("begin", cx.step(), cx.item(), cx.attempt(), "");
            format!("{}#{}@{}", cx.idempotency_key(), cx.attempt(), w.life())
        }
    };
    let w = witness.clone();
    let undo = move |cx: StepContext, out: Option<Arc<String>>| {
        let out = out.map_or_else(|| "-".to_owned(), |out| out.to_string());
        w.tell("undo", cx.step(), cx.item(), cx.attempt(), &out);
        async { Ok(()) }
    };
    let say = tell(witness);
    let a = p
        .step("a")
        .retry(Retry::fixed(2, std::time::Duration::ZERO))
        .gate(Gate::at_least("long", 1.0, |a: &String| a.len() as f64))
        .compensate(undo)
        .run(move |cx, ()| {
            let value = say(&cx);
            async move { if cx.attempt() == 1 { Err(StepError::new("at first")) } else { Ok(value) } }
        });
    let say = tell(witness);
    let list = p.step("list").input(&a).run(move |cx, _| {
        let value = say(&cx);
        async move { Ok(vec![format!("{value}.0"), format!("{value}.1")]) }
    });
    let say = tell(witness);
    let each = p.step("each").input(&list).run_each(move |cx, _: String| {
        let value = say(&cx);
        async move { Ok(value) }
    });
    let say = tell(witness);
    p.step("end").input((&a, &each)).run(move |cx, _| {
        let value = say(&cx);
        async move { if fails { Err(StepError::permanent("for good")) } else { Ok(value) } }
    });
    p.build().unwrap()
}

const STEPS: [&str; 4] = ["a", "list", "each", "end"];

fn engine(dir: &Path) -> LocalEngine {
    LocalEngine::with_store(FileStore::open(dir).unwrap())
}

/// Runs without a wait, for nothing in these runs waits but the store's threads.
async fn run(dir: &Path, witness: &Witness, fails: bool) -> Result<RunReport, Error> {
    engine(dir).run(&small(witness, fails), RUN, ()).await
}

fn log_of(dir: &Path) -> PathBuf {
    dir.join(format!("{RUN}.jsonl"))
}

fn outputs(report: &RunReport) -> HashMap<String, String> {
    let of = |step: &str| Some(report.output_by_name::<serde_json::Value>(step).ok()?.shown());
    STEPS.iter().filter_map(|step| Some(((*step).to_owned(), of(step)?))).collect()
}

/// A whole log, or the beginning of one that ends in the middle of the run, with what the whole run brought.
struct Sample {
    name: &'static str,
    fails: bool,
    bytes: Vec<u8>,
    outputs: HashMap<String, String>,
}

async fn samples() -> Vec<Sample> {
    let mut samples = Vec::new();
    for (name, fails) in [("succeeded", false), ("rolled back", true)] {
        let dir = tempfile::tempdir().unwrap();
        let report = run(dir.path(), &Witness::in_memory(), fails).await.unwrap();
        assert_eq!(report.status(), if fails { RunStatus::Failed } else { RunStatus::Succeeded });
        let bytes = std::fs::read(log_of(dir.path())).unwrap();
        samples.push(Sample { name, fails, bytes, outputs: outputs(&report) });
    }
    // The fan-out is done in half: one item is recorded, the other has begun.
    let whole = &samples[0];
    let halves = whole.bytes.split_inclusive(|byte| *byte == b'\n');
    let mut items = 0;
    let half = halves.take_while(|line| {
        let before = items;
        items += usize::from(String::from_utf8_lossy(line).contains(r#""item":"#));
        before < 3
    });
    let bytes = half.collect::<Vec<_>>().concat();
    assert!(bytes.len() > whole.bytes.len() / 2 && bytes.len() < whole.bytes.len());
    samples.push(Sample {
        name: "cut off in the fan-out",
        fails: false,
        bytes,
        outputs: whole.outputs.clone(),
    });
    samples
}

/// What a log says: the tasks that are done, or why it cannot be read.
async fn done_by(dir: &Path) -> Result<Vec<(String, Option<u32>)>, Error> {
    let history = match engine(dir).history(RUN).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        other => other?,
    };
    let done = history.iter().filter_map(|event| match &event.kind {
        RunEventKind::StepSucceeded { step, item, .. } => Some((step.clone(), *item)),
        _ => None,
    });
    Ok(done.collect())
}

/// Checks a resumed run against the witness of this life: nothing that was `done` is run or changed.
fn check_recovery(
    sample: &Sample,
    report: &RunReport,
    witness: &Witness,
    done: &[(String, Option<u32>)],
    name: &str,
) {
    let wanted = if sample.fails { RunStatus::Failed } else { RunStatus::Succeeded };
    assert_eq!(report.status(), wanted, "{name}");
    let said = witness.said();
    let begun = said.lines().filter_map(|line| {
        let words: Vec<&str> = line.split(' ').collect();
        (words[1] == "begin").then(|| (words[2].to_owned(), words[3].parse().ok()))
    });
    for task in begun {
        assert!(!done.contains(&task), "{name}: {task:?} was executed again");
    }
    let found = outputs(report);
    for step in STEPS.iter().filter(|step| !(sample.fails && **step == "end")) {
        let (value, first) = (&found[*step], &sample.outputs[*step]);
        let items = if *step == "each" { vec![Some(0), Some(1)] } else { vec![None] };
        let parts = value.split('+').zip(first.split('+'));
        if *step == "list" {
            let is_done = done.contains(&("list".to_owned(), None));
            assert_eq!(value == first, is_done, "{name}: {step}");
            continue;
        }
        for ((value, first), item) in parts.zip(items) {
            let is_done = done.contains(&((*step).to_owned(), item));
            assert_eq!(value == first, is_done, "{name}: {step} {item:?} is {value}, and was {first}");
        }
    }
}

fn check_typed(error: &Error, dir: &Path, at: usize, name: &str) {
    assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NewerFormat), "{name}: {error:?}");
    assert_eq!(error.path(), Some(log_of(dir).as_path()), "{name}: {error:?}");
    assert!(error.offset().unwrap() <= at as u64, "{name}: {error:?}");
}

#[tokio::test]
async fn every_flipped_byte_of_a_run_is_a_typed_error_or_harmless() {
    let dir = tempfile::tempdir().unwrap();
    let (mut refused, mut right) = (0, 0);
    for (number, sample) in samples().await.into_iter().enumerate() {
        // Every byte of the first, and some of the others.
        let stride = if number == 0 || is_long() { 1 } else { 8 };
        for at in (0..sample.bytes.len()).rev().step_by(stride) {
            let masks: &[u8] = &[0x01, 0x20, 0x80];
            let masks = if is_long() { masks } else { &masks[at % 3..=at % 3] };
            for mask in masks {
                let name = format!("{}, byte {at} ^ {mask:#x}", sample.name);
                let mut bytes = sample.bytes.clone();
                bytes[at] ^= mask;
                std::fs::write(log_of(dir.path()), &bytes).unwrap();
                let witness = Witness::in_memory().reborn();
                let history = done_by(dir.path()).await;
                let look = || async { engine(dir.path()).runs().await.unwrap().len() };
                let listed = if at % 16 == 15 { Some(look().await) } else { None };
                match run(dir.path(), &witness, sample.fails).await {
                    Err(error) => {
                        refused += 1;
                        check_typed(&error, dir.path(), at, &name);
                        check_typed(&history.unwrap_err(), dir.path(), at, &name);
                        assert!(listed.is_none_or(|listed| listed == 0), "{name}");
                        assert_eq!(witness.said(), "", "{name}: nothing runs on a damaged log");
                        assert_eq!(
                            std::fs::read(log_of(dir.path())).unwrap(),
                            bytes,
                            "{name}: it was changed"
                        );
                    }
                    Ok(report) => {
                        right += 1;
                        assert_eq!(
                            at,
                            sample.bytes.len() - 1,
                            "{name}: only the last newline does not count"
                        );
                        check_recovery(&sample, &report, &witness, &history.unwrap(), &name);
                        assert!(listed.is_none_or(|listed| listed == 1), "{name}");
                    }
                }
            }
        }
    }
    eprintln!("flipped bytes: {refused} refused, {right} recovered");
    assert!(refused > 2000 && right >= 3);
}

#[tokio::test]
async fn a_run_whose_log_is_cut_anywhere_repeats_what_was_cut_off_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (mut repeated, mut cuts) = (0, 0);
    for sample in samples().await {
        for len in 0..=sample.bytes.len() {
            let near_an_end =
                sample.bytes[len.saturating_sub(3)..(len + 3).min(sample.bytes.len())].contains(&b'\n');
            if !is_long() && !near_an_end && len % 16 != 0 {
                continue;
            }
            let name = format!("{}, cut to {len} bytes", sample.name);
            std::fs::write(log_of(dir.path()), &sample.bytes[..len]).unwrap();
            let done = done_by(dir.path()).await.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            let witness = Witness::in_memory().reborn();
            let report = run(dir.path(), &witness, sample.fails).await;
            let report = report.unwrap_or_else(|error| panic!("{name}: {error:?}"));
            check_recovery(&sample, &report, &witness, &done, &name);
            cuts += 1;
            repeated += witness.said().lines().count();
            let again = Witness::in_memory();
            assert_eq!(
                run(dir.path(), &again, sample.fails).await.unwrap().status(),
                report.status(),
                "{name}"
            );
            assert_eq!(again.said(), "", "{name}: the run is over");
        }
    }
    eprintln!("cut logs: {cuts} lengths, {repeated} attempts and undos repeated");
    assert!(cuts > 500 && repeated > cuts);
}

/// A run with an output beside the log, which ends in the middle: its last step holds it up.
async fn with_artifact(dir: &Path, runs: &Arc<AtomicUsize>) -> Result<Option<RunReport>, Error> {
    let mut p = Pipeline::builder("large");
    let counter = Arc::clone(runs);
    let large = p.step("large").run(move |_cx, ()| {
        counter.fetch_add(1, Ordering::SeqCst);
        async { Ok("x".repeat(300_000)) }
    });
    let hold = runs.load(Ordering::SeqCst) == 0;
    p.step("length").input(&large).run(move |_cx, large| async move {
        if hold {
            std::future::pending::<()>().await;
        }
        Ok(large.len())
    });
    let (engine, pipeline) = (engine(dir), p.build().unwrap());
    let mut events = engine.events();
    let begun = async {
        while let Some(event) = futures::StreamExt::next(&mut events).await {
            if matches!(&event.kind, RunEventKind::StepStarted { step, .. } if step == "length") && hold {
                return;
            }
        }
    };
    let begun = std::pin::pin!(begun);
    let run = std::pin::pin!(engine.run(&pipeline, RUN, ()));
    match futures::future::select(run, begun).await {
        futures::future::Either::Left((answer, _)) => answer.map(Some),
        futures::future::Either::Right(_) => Ok(None),
    }
}

#[tokio::test]
async fn a_damaged_output_beside_the_log_is_a_typed_error_and_nothing_runs_on_it() {
    let dir = tempfile::tempdir().unwrap();
    let runs = Arc::new(AtomicUsize::new(0));
    assert!(with_artifact(dir.path(), &runs).await.unwrap().is_none(), "it is cut off in the middle");
    let folder = dir.path().join(format!("{RUN}.artifacts"));
    let file = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    let whole = std::fs::read(&file).unwrap();
    let log = std::fs::read(log_of(dir.path())).unwrap();
    let at = [0, 1, whole.len() / 2, whole.len() - 1];
    let flipped = at.map(|at| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        Some(bytes)
    });
    let cut = at.map(|len| Some(whole[..len].to_vec()));
    for damaged in flipped.into_iter().chain(cut).chain([None]) {
        let len = damaged.as_ref().map(Vec::len);
        match damaged {
            Some(bytes) => std::fs::write(&file, bytes).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let error = with_artifact(dir.path(), &runs).await.unwrap_err();
        assert_eq!((error.kind(), error.run()), (ErrorKind::Corrupt, Some(RUN)), "{len:?}: {error:?}");
        assert!(len.is_none() || error.path() == Some(file.as_path()), "{len:?}: {error:?}");
        assert_eq!(std::fs::read(log_of(dir.path())).unwrap(), log, "{len:?}: the log is left as it was");
    }
    std::fs::write(&file, &whole).unwrap();
    let report = with_artifact(dir.path(), &runs).await.unwrap().unwrap();
    assert_eq!(*report.output_by_name::<usize>("length").unwrap(), 300_000);
    assert_eq!(runs.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn lines_that_are_right_but_make_no_run_are_a_typed_error() {
    let dir = tempfile::tempdir().unwrap();
    let (witness, store) = (Witness::in_memory(), FileStore::open(dir.path()).unwrap());
    let report = run(dir.path(), &witness, false).await.unwrap();
    assert!(report.is_success());
    let id = RUN.parse().unwrap();
    use swarm_pipeline::CheckpointStore;
    let whole = store.read(&id).await.unwrap();
    // Each record left out, doubled, or swapped with the next, under right checksums and numbers.
    let mut wrong = Vec::new();
    for at in 0..whole.len() {
        let mut without = whole.clone();
        without.remove(at);
        let mut doubled = whole.clone();
        doubled.insert(at, whole[at].clone());
        let mut swapped = whole.clone();
        swapped.swap(at, (at + 1) % whole.len());
        wrong.extend([("left out", at, without), ("doubled", at, doubled), ("swapped", at, swapped)]);
    }
    let mut refused = 0;
    for (what, at, mut records) in wrong {
        let name = format!("record {at} {what}: {}", whole[at].body);
        store.delete(&id).await.unwrap();
        (0..).zip(&mut records).for_each(|(seq, record)| record.seq = seq);
        let mut log = store.acquire(&id).await.unwrap();
        log.append(&records).await.unwrap();
        drop(log);
        let _ = engine(dir.path()).history(RUN).await;
        let again = Witness::in_memory().reborn();
        match run(dir.path(), &again, false).await {
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::Codec), "{name}: {error:?}");
                assert_eq!(again.said(), "", "{name}: nothing runs on it");
                refused += 1;
            }
            // The last record may be missing, and independent ones may change places.
            Ok(report) => {
                assert!(report.is_success(), "{name}");
                let all = outputs(&report).len();
                assert_eq!(all, STEPS.len(), "{name}");
            }
        }
    }
    assert!(refused * 3 >= whole.len() * 3 * 2, "only {refused} of {} were refused", whole.len() * 3);
}
