//! A run waits for a person. Nothing needs to be running in the meantime.
//!
//! The run is suspended, the engine goes away, days later another one brings the answer in and takes the run on.
//! A condition on the answer decides what happens then.
//!
//! `cargo run --release -p swarm-examples --example 07_approval`
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;

use serde::{Deserialize, Serialize};
use swarm_examples::Scratch;
use swarm_pipeline::{
    BuildError, ErrorKind, Handle, LocalEngine, Pipeline, RunOptions, RunStatus, StepStatus, Why,
};

/// What the person says.
#[derive(Debug, Serialize, Deserialize)]
struct Approval {
    by: String,
    granted: bool,
}

fn release() -> Result<(Pipeline, Handle<String>), BuildError> {
    let mut p = Pipeline::builder("approval");
    let built = p.step("build").run(|_cx, ()| async { Ok("v2.0".to_owned()) });
    let approval = p.step::<Approval>("approve").input(&built).wait_for_signal();
    let live = p
        .step("deploy")
        .input((&built, &approval))
        .when(|(_built, approval)| approval.granted)
        .run(|_cx, (built, approval)| async move { Ok(format!("{built}, approved by {}", approval.by)) });
    Ok((p.build()?, live))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let scratch = Scratch::new("approval")?;
    {
        let (pipeline, _) = release()?;
        let engine = LocalEngine::open(scratch.path())?;
        for run in ["release-1", "release-2"] {
            let options = RunOptions::new().return_when_suspended();
            let report = engine.run_with(&pipeline, run, (), options).await?;
            println!("{report}");
            assert_eq!((report.status(), report.awaited_signals()), (RunStatus::Suspended, vec!["approve"]));
        }
    }

    // Another day, another engine; it could be another process. The answer is recorded at once.
    let (pipeline, live) = release()?;
    let engine = LocalEngine::open(scratch.path())?;
    engine.signal("release-1", "approve", Approval { by: "Agent-1".to_owned(), granted: true }).await?;
    let report = engine.run(&pipeline, "release-1", ()).await?;
    println!("{report}\n  deploy: {}", report.output(&live)?);
    assert_eq!(*report.output(&live)?, "v2.0, approved by Agent-1");
    assert_eq!(report.why("build")?, Why::Recorded);

    // A misspelt signal, or a value of another shape, is refused and changes nothing.
    let mistyped = engine.signal("release-2", "aprove", true).await.expect_err("there is no such signal"); // typos:ignore-line
    println!("{mistyped}");
    assert_eq!(mistyped.kind(), ErrorKind::NotFound);

    // The other is answered while it is being driven.
    let refusal = Approval { by: "Agent-2".to_owned(), granted: false };
    let answer = async {
        while engine.signal("release-2", "approve", &refusal).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    let (report, ()) = tokio::join!(engine.run(&pipeline, "release-2", ()), answer);
    let report = report?;
    println!("{report}");
    assert!(report.is_success());
    assert_eq!(report.step("deploy")?.status, StepStatus::Skipped);
    assert_eq!(report.why("deploy")?, Why::ConditionFalse);
    Ok(())
}
