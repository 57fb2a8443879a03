//! What happens to a step that fails, and to one whose output is not good enough.
//!
//! Retries with growing delays, errors that no retry can mend, quality gates that refuse or only warn, and
//! what the history keeps of all that.
//!
//! `cargo run --release -p swarm-examples --example 03_retries_and_gates`
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use swarm_pipeline::{
    Gate, LocalEngine, Pipeline, Retry, RunEventKind, RunStatus, StepContext, StepError, StepErrorKind,
    Verdict,
};

#[derive(Serialize, Deserialize)]
struct Measured {
    violations: u32,
    coverage: f64,
    seconds: f64,
}

/// Answers at the third attempt. The number counts over all resumes of the run, so it needs no counter of its own.
async fn fetch(cx: StepContext, (): ()) -> Result<u32, StepError> {
    if cx.attempt() < 3 {
        return Err(StepError::new(format!("connection refused at attempt {}", cx.attempt())));
    }
    Ok(15)
}

fn checked(coverage: f64) -> Result<Pipeline, swarm_pipeline::BuildError> {
    let mut p = Pipeline::builder("retries_and_gates");
    let fetched = p
        .step("fetch")
        .retry(
            Retry::exponential(5)
                .base(Duration::from_millis(20))
                .when(|error| error.message().contains("refused")),
        )
        .timeout(Duration::from_secs(5))
        .run(fetch);
    let measured = p
        .step("measure")
        .input(&fetched)
        // A gate looks at the output before any other step may. All gates are asked.
        .gate(Gate::at_most("violations", 20.0, |m: &Measured| f64::from(m.violations)))
        .gate(Gate::at_least("coverage", 0.82, |m: &Measured| m.coverage))
        .gate(Gate::at_most("seconds", 1.0, |m: &Measured| m.seconds).warn_only())
        .run(
            move |_cx, fetched| async move { Ok(Measured { violations: *fetched, coverage, seconds: 1.5 }) },
        );
    p.step("publish").input(&measured).run(|_cx, _measured| async { Ok(()) });
    p.build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let engine = LocalEngine::in_memory();

    let report = engine.run(&checked(0.88)?, "good", ()).await?;
    println!("{report}");
    let fetch = report.step("fetch")?;
    for attempt in &fetch.attempts {
        let error = attempt.error.as_ref().map_or("ok".to_owned(), ToString::to_string);
        println!("  fetch, attempt {}: {error}", attempt.attempt);
    }
    assert!(report.is_success());
    assert_eq!(fetch.attempts.len(), 3);
    let gates = report.step("measure")?.attempts[0].gates.clone();
    for gate in &gates {
        println!(
            "  gate {}: {:?}, measured {:?}, limit {:?}",
            gate.gate, gate.verdict, gate.measured, gate.limit
        );
    }
    let verdicts: Vec<Verdict> = gates.iter().map(|gate| gate.verdict).collect();
    assert_eq!(verdicts, [Verdict::Passed, Verdict::Passed, Verdict::Warned]);

    // A refused gate fails the step and stops what depends on it. It is not retried unless the gate asks for it.
    let refused = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&refused);
    engine.observe(move |event| {
        if let RunEventKind::GateJudged { result, .. } = &event.kind
            && result.verdict == Verdict::Refused
        {
            seen.lock().expect("no observer panics").push(result.gate.clone());
        }
    });
    let report = engine.run(&checked(0.79)?, "poor", ()).await?;
    println!("{report}");
    assert_eq!(report.status(), RunStatus::Failed);
    let (step, error) = report.error().expect("the run failed");
    assert_eq!((step, error.kind()), ("measure", StepErrorKind::GateRefused));
    assert_eq!(report.step("measure")?.attempts.len(), 1);
    assert_eq!(*refused.lock().expect("no observer panics"), ["coverage"]);
    assert!(report.step("publish")?.attempts.is_empty());

    // A permanent error is not retried either, whatever the policy says.
    let mut p = Pipeline::builder("permanent");
    p.step::<()>("login")
        .retry(Retry::exponential(5))
        .run(|_cx, ()| async { Err(StepError::permanent("the password is wrong")) });
    let report = engine.run(&p.build()?, "permanent", ()).await?;
    println!("{report}");
    assert_eq!(report.step("login")?.attempts.len(), 1);
    Ok(())
}
