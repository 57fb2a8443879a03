//! A process dies in the middle of a run; another takes the run up where it was.
//!
//! The program starts itself as a child that aborts, without any goodbye, in the third of five steps. Then it
//! resumes the run itself. A witness file, to which every step appends its name, tells which steps ran how often.
//!
//! `cargo run --release -p swarm-examples --example 04_crash_and_resume`
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, abort};
use std::{env, iter};

use swarm_examples::Scratch;
use swarm_pipeline::{Handle, LocalEngine, Pipeline, RunOptions, RunStatus, StepError, Why};

const STEPS: [&str; 5] = ["fetch", "unpack", "build", "test", "publish"];

/// Five steps in a row. Each adds 1 to what it got; `build` kills the process if it is told to.
fn pipeline(folder: PathBuf, dies: bool) -> Result<(Pipeline, Handle<u32>), Box<dyn Error>> {
    let mut p = Pipeline::builder("crash_and_resume");
    let mut last = p.step("begin").run(|_cx, ()| async { Ok(0_u32) });
    for name in STEPS {
        let witness = folder.join("witness");
        last = p.step(name).input(&last).run(move |cx, so_far| {
            let witness = witness.clone();
            async move {
                let mut file = OpenOptions::new().create(true).append(true).open(&witness)?;
                writeln!(file, "{}", cx.step())?;
                if dies && cx.step() == "build" {
                    abort();
                }
                Ok::<u32, StepError>(*so_far + 1)
            }
        });
    }
    Ok((p.build()?, last))
}

/// What the child does: it never gets to the end of this.
async fn doomed(folder: &Path) -> Result<(), Box<dyn Error>> {
    let (pipeline, _) = pipeline(folder.to_owned(), true)?;
    let _ = LocalEngine::open(folder.join("runs"))?.run(&pipeline, "nightly", ()).await?;
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(folder) = env::var_os("CRASH_AND_RESUME_CHILD") {
        return doomed(Path::new(&folder)).await;
    }
    let scratch = Scratch::new("crash")?;
    let child = Command::new(env::current_exe()?).env("CRASH_AND_RESUME_CHILD", scratch.path()).output()?;
    println!("the child ended with {}", child.status);
    assert!(!child.status.success());

    // Whoever looks into the folder sees what the child left.
    let engine = LocalEngine::open(scratch.join("runs"))?;
    let left = engine.runs().await?.pop().ok_or("the child left no run")?;
    println!("it left run {} {}, with {} of {} steps done", left.run, left.status, left.done, left.steps);
    assert_eq!((left.status, left.done), (RunStatus::Unfinished, 3));

    let (pipeline, last) = pipeline(scratch.to_path_buf(), false)?;
    // A service that starts does this for every run it finds unfinished.
    let report = engine.resume(&pipeline, left.run, RunOptions::new()).await?;
    for name in STEPS {
        println!("  {name:8} {}", report.why(name)?);
    }
    assert!(report.is_success());
    assert_eq!(*report.output(&last)?, 5);
    assert_eq!(report.why("unpack")?, Why::Recorded);

    // Once each, but for the step in which the process died: nobody could know how far it had come.
    let witness = fs::read_to_string(scratch.join("witness"))?;
    let expected: Vec<&str> =
        STEPS[..3].iter().chain(iter::once(&"build")).chain(&STEPS[3..]).copied().collect();
    println!("the witness saw {}", witness.lines().collect::<Vec<_>>().join(", "));
    assert_eq!(witness.lines().collect::<Vec<_>>(), expected);
    Ok(())
}
