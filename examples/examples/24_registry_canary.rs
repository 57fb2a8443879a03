//! A canary that aborts itself: the same plan, tried on made-up traffic before it is trusted with users.
//!
//! `cargo run --release -p swarm-examples --example 24_registry_canary`
//!
//! Four candidates go through it: one that is fine, one that is slower from the start, one that becomes slower after six
//! hours, and one that crashes for some users before they are counted. The first comes through; the others are taken back,
//! each for its own reason. Nobody writes that down: the analysis looks, and the split before is restored.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::time::Duration;

use swarm_registry::testing::{Simulation, Traffic};
use swarm_registry::{Criterion, Judge, OnDeadline, Rollout, RolloutPhase};

fn hours(hours: u64) -> Duration {
    Duration::from_secs(hours * 3600)
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plan = Rollout::new()
        .weight(5.0)
        .hold(Duration::from_secs(600)) // caches warm up
        .analysis(hours(4))
        .weight(25.0)
        .analysis(hours(20))
        .weight(100.0)
        .judge(Judge::new([Criterion::lower_is_better("latency_ms")]).sequential(5_000))
        .deadline(hours(6), OnDeadline::Abort);

    let latency = |mean: f64| Traffic::new().sample("latency_ms", move |draw| draw.normal(mean, 11.0));
    let leaking = Traffic::new().sample("latency_ms", |draw| {
        let leak = draw.elapsed().saturating_sub(hours(6)).as_secs_f64() / 720.0;
        draw.normal(45.0 + leak, 11.0)
    });
    for (name, candidate, expected) in [
        ("fine", latency(44.5), RolloutPhase::Completed),
        ("slower", latency(55.0), RolloutPhase::Failed),
        ("leaking", leaking, RolloutPhase::Failed),
        ("crashing", latency(45.0).lost(0.4), RolloutPhase::Aborted),
    ] {
        let simulation = Simulation::new(8).requests_per_minute(200);
        let simulated = simulation.baseline(latency(45.0)).candidate(candidate).run(&plan).await?;
        println!("{name}\n{simulated}\n");
        assert_eq!(simulated.status.phase(), expected, "{name}");
    }
    Ok(())
}
