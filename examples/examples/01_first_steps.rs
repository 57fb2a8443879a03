//! A pipeline of three steps: declared, checked, run, and asked what happened.
//!
//! The same run id again executes nothing: the results are recorded, and the report is made from them.
//!
//! `cargo run --release -p swarm-examples --example 01_first_steps`
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::sync::Arc;

use swarm_examples::Scratch;
use swarm_pipeline::{LocalEngine, Pipeline, StepContext, StepError, Why};

/// A step is an async function of its context and its inputs.
async fn checkout(_cx: StepContext, (): ()) -> Result<Vec<String>, StepError> {
    Ok(vec!["main.rs".to_owned(), "lib.rs".to_owned()])
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut p = Pipeline::builder("first_steps");
    // `run` answers with a handle, and handing that to `input` makes the dependency.
    let files = p.step("checkout").run(checkout);
    // A closure does as well. Inputs come in an `Arc`, since several steps may share them.
    let count =
        p.step("count").input(&files).run(|_cx, files: Arc<Vec<String>>| async move { Ok(files.len()) });
    let text = p
        .step("describe")
        .input((&files, &count))
        .run(|_cx, (files, count)| async move { Ok(format!("{count} files, the first is {}", files[0])) });
    let pipeline = p.build()?;

    // An engine on a folder. Whatever happens in a run is on disk before the next step may rely on it.
    let scratch = Scratch::new("first-steps")?;
    let engine = LocalEngine::open(scratch.join("runs"))?;
    let report = engine.run(&pipeline, "monday", ()).await?;
    println!("{report}");
    println!("describe: {}", report.output(&text)?);
    assert!(report.is_success());
    assert_eq!(*report.output(&text)?, "2 files, the first is main.rs");
    assert_eq!(report.why("describe")?, Why::Ran { attempts: 1 });

    let again = engine.run(&pipeline, "monday", ()).await?;
    println!("describe {}", again.why("describe")?);
    assert_eq!(again.why("describe")?, Why::Recorded);
    assert_eq!(again.output(&count)?, report.output(&count)?);

    // Mistakes are all told at once, when the pipeline is built.
    let mut p = Pipeline::builder("mistaken");
    p.step("build").run(|_cx, ()| async { Ok(1) });
    p.step("deploy").after(["biuld"]).run(|_cx, ()| async { Ok(2) }); // typos:ignore-line
    p.step("deploy").run(|_cx, ()| async { Ok(3) });
    let mistakes = p.build().expect_err("a name twice, and one that is not there");
    println!("{mistakes}");
    assert_eq!(mistakes.problems().len(), 2);
    Ok(())
}
