//! A step for each item of a list that is known only when the run is under way.
//!
//! Each item has its own attempts and gates, and at most three are under way at once. The run is dropped in the
//! middle of the fan-out, as a crash would do; taken up again, it runs the items that have no result yet.
//!
//! `cargo run --release -p swarm-examples --example 06_fan_out`
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use serde::{Deserialize, Serialize};
use swarm_examples::Scratch;
use swarm_pipeline::{Gate, LocalEngine, Pipeline, Retry, RunEventKind, StepError};

#[derive(Serialize, Deserialize)]
struct Counted {
    file: PathBuf,
    words: usize,
}

/// How many items are under way, how many were at most, and which were begun.
#[derive(Default)]
struct Gauge {
    now: AtomicU32,
    most: AtomicU32,
    begun: Mutex<Vec<u32>>,
}

impl Gauge {
    fn enter(&self, item: u32) {
        self.begun.lock().expect("nothing panics while it holds the list").push(item);
        self.most.fetch_max(self.now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    }

    fn leave(&self) {
        self.now.fetch_sub(1, Ordering::SeqCst);
    }

    fn take_begun(&self) -> Vec<u32> {
        std::mem::take(&mut *self.begun.lock().expect("nothing panics while it holds the list"))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let scratch = Scratch::new("fan-out")?;
    let texts = scratch.join("texts");
    fs::create_dir(&texts)?;
    for number in 0..12 {
        fs::write(texts.join(format!("{number:02}.txt")), "word ".repeat(number + 1))?;
    }
    let gauge = Arc::new(Gauge::default());

    let mut p = Pipeline::builder("fan_out");
    p.group("disk", 3);
    let files = p.step("list").run_blocking(move |_cx, ()| {
        let mut files = Vec::new();
        for entry in fs::read_dir(&texts)? {
            files.push(entry?.path());
        }
        files.sort();
        Ok(files)
    });
    let seen = Arc::clone(&gauge);
    let counted = p
        .step("count")
        .input(&files)
        .group("disk")
        .retry(Retry::fixed(2, Duration::from_millis(5)))
        .gate(Gate::at_least("words", 1.0, |counted: &Counted| counted.words as f64))
        .run_each(move |cx, file: PathBuf| {
            let gauge = Arc::clone(&seen);
            async move {
                gauge.enter(cx.item().unwrap_or_default());
                tokio::time::sleep(Duration::from_millis(10)).await;
                gauge.leave();
                if cx.item() == Some(2) && cx.attempt() == 1 {
                    return Err(StepError::new("the file is locked"));
                }
                let words = fs::read_to_string(&file)?.split_whitespace().count();
                Ok(Counted { file, words })
            }
        });
    // The outputs come as a list, in the order of the items, whatever order they ended in.
    let total = p
        .step("total")
        .input(&counted)
        .run(|_cx, counted| async move { Ok(counted.iter().map(|counted| counted.words).sum::<usize>()) });
    let pipeline = p.build()?;

    let mut done = Vec::new();
    {
        let engine = LocalEngine::open(scratch.join("runs"))?;
        let mut events = engine.events();
        let run = engine.run(&pipeline, "words", ());
        tokio::pin!(run);
        while done.len() < 5 {
            tokio::select! {
                report = &mut run => return Err(format!("the run ended too early: {}", report?).into()),
                Some(event) = events.next() => {
                    if let RunEventKind::StepSucceeded { item: Some(item), .. } = event.kind {
                        done.push(item);
                    }
                }
            }
        }
        // Here the future of the run is dropped, and the items under way with it.
    }
    println!("items {done:?} were done when the run was dropped");
    assert!(gauge.most.load(Ordering::SeqCst) <= 3);
    gauge.now.store(0, Ordering::SeqCst);
    gauge.take_begun();

    let report = LocalEngine::open(scratch.join("runs"))?.run(&pipeline, "words", ()).await?;
    println!("{report}");
    let again = gauge.take_begun();
    println!("items {again:?} were begun afterwards");
    assert!(again.iter().all(|item| !done.contains(item)));
    assert!(gauge.most.load(Ordering::SeqCst) <= 3);
    let retried =
        report.step("count")?.attempts.into_iter().filter(|attempt| attempt.item == Some(2)).count();
    assert!(retried >= 2);
    assert_eq!(*report.output(&total)?, (1..=12).sum::<usize>());
    assert_eq!(report.output(&counted)?[11].words, 12);
    Ok(())
}
