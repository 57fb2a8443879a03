//! Handles carry the type of what a step returns: tuples, lists of any length, inputs that may be absent, conditions.
//!
//! A step that takes the wrong type does not compile, and a cycle cannot be written, since a handle exists
//! only after its step does.
//!
//! `cargo run --release -p swarm-examples --example 02_typed_handles`
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use swarm_pipeline::{Handle, LocalEngine, Pipeline, StepContext, StepError, StepStatus, Why};

/// Outputs are kept in the log, so they can be written and read.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Suite {
    name: String,
    passed: u32,
    failed: u32,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Verdict {
    version: String,
    passed: u32,
    good: bool,
}

/// One handle of a tuple arrives as `Arc<T>`, a list of handles as `Vec<Arc<T>>`.
async fn judge(
    _cx: StepContext,
    (version, suites): (Arc<String>, Vec<Arc<Suite>>),
) -> Result<Verdict, StepError> {
    Ok(Verdict {
        version: version.to_string(),
        passed: suites.iter().map(|suite| suite.passed).sum(),
        good: suites.iter().all(|suite| suite.failed == 0),
    })
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut p = Pipeline::builder("typed_handles");
    let version = p.step("version").run(|_cx, ()| async { Ok("2.0".to_owned()) });

    // As many steps as there are suites: they run side by side.
    let suites: Vec<Handle<Suite>> = [("unit", 120), ("integration", 31), ("smoke", 4)]
        .into_iter()
        .map(|(name, passed)| {
            p.step(format!("test_{name}")).input(&version).run(move |_cx, _version| async move {
                Ok(Suite { name: name.to_owned(), passed, failed: 0 })
            })
        })
        .collect();
    let verdict = p.step("judge").input((&version, suites)).run(judge);

    // A condition looks at the inputs. What needs the output of a skipped step is skipped with it ...
    let notice = p
        .step("complain")
        .input(&verdict)
        .when(|verdict| !verdict.good)
        .run(|_cx, _verdict| async { Ok("the tests failed".to_owned()) });
    p.step("page_somebody").input(&notice).run(|_cx, _notice| async { Ok(()) });

    // ... unless it says that it can do without.
    let summary =
        p.step("summary").input((&verdict, notice.optional())).run(|_cx, (verdict, notice)| async move {
            let complaint = notice.map_or("no complaints".to_owned(), |notice| notice.to_string());
            Ok(format!("{}: {} tests passed, {complaint}", verdict.version, verdict.passed))
        });
    let pipeline = p.build()?;

    let report = LocalEngine::in_memory().run(&pipeline, "typed", ()).await?;
    println!("{}", report.output(&summary)?);
    for step in report.steps() {
        println!("{:18} {:10} {}", step.name, step.status, report.why(&step.name)?);
    }
    assert_eq!(*report.output(&summary)?, "2.0: 155 tests passed, no complaints");
    assert_eq!(report.step("complain")?.status, StepStatus::Skipped);
    assert_eq!(report.why("page_somebody")?, Why::SkippedWith { step: "complain".to_owned() });
    // The answer for an output that is not there says why it is not.
    println!("{}", report.output(&notice).expect_err("it was skipped"));
    Ok(())
}
