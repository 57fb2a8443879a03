//! A fifth of the agents get the new version, it is watched for 24 hours, then all get it; later it is taken back.
//!
//! `cargo run --release -p swarm-examples --example 23_registry_rollout`
//!
//! The plan is a text, as it would stand in a file beside the service. What was measured comes from a `MetricSource`, here
//! a made-up one; yours asks Prometheus or a database. The driver dies in the middle of the day, and another process
//! carries on. The clock moves by itself when someone sleeps, so that the day takes a moment.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::error::Error;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use swarm_examples::Scratch;
use swarm_registry::testing::FakeClock;
use swarm_registry::{
    EventKind, Measure, MetricSource, Observed, Rollout, RolloutPhase, Split, Version, VersionRegistry,
    Window,
};

const PLAN: &str = r#"
    steps = [{ weight = 20 }, { analysis = "24h" }, { weight = 100 }]
    look_every = "10m"
    deadline = { after = "12h", then = "abort" }

    [judge]
    planned_samples = 3_000

    [[judge.metrics]]
    name = "tasks_without_violation"
    better = "higher"
    tolerance_absolute = 0.02
"#;

/// Ten tasks a minute, of which the new version spoils fewer.
struct Tasks {
    /// Until when there is an answer at all.
    until: DateTime<Utc>,
}

#[async_trait]
impl MetricSource for Tasks {
    async fn observe(&self, window: &Window) -> Result<Observed, Box<dyn Error + Send + Sync>> {
        if window.until > self.until {
            // The process is as good as dead: it never comes back from here.
            std::future::pending::<()>().await;
        }
        let minutes = (window.until - window.since).num_minutes() as u64;
        let (tasks, without) = if window.version == "v2.0_refactored" { (2, 97) } else { (8, 85) };
        let trials = minutes * tasks;
        let measure = Measure::Proportion { successes: trials * without / 100, trials };
        Ok(Observed::new().metric("tasks_without_violation", measure))
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = Scratch::new("registry-rollout")?;
    let start = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
    let clock = FakeClock::hurried(start);
    let open = || VersionRegistry::builder().clock(Arc::new(clock.clone())).open(&folder);
    let registry = open().await?.acting_as("Agent-8");
    for id in ["v1.0_current", "v2.0_refactored"] {
        registry.register(Version::new(id).artifact(id)).await?;
    }
    registry.deploy("agents", Split::all("v1.0_current")).await?;
    let router = registry.router("agents").await?;

    let plan = Rollout::from_toml(PLAN)?;
    registry.start_rollout("agents", "v2.0_refactored", &plan).await?;

    // The first driver is gone after seven hours, in the middle of a look.
    let tasks = Tasks { until: start + TimeDelta::hours(7) };
    tokio::select! {
        ended = registry.drive_rollout("agents", &tasks) => {
            return Err(format!("it cannot have ended: {}", ended?).into());
        }
        () = gone(&clock, start + TimeDelta::hours(7)) => {}
    }
    println!("{}", registry.rollout("agents").await?);

    // Another process finds the rollout in the folder, waits until the lease of the first is over, and carries on.
    let elsewhere = open().await?.acting_as("Agent-3");
    let ended = elsewhere.drive_rollout("agents", &Tasks { until: DateTime::<Utc>::MAX_UTC }).await?;
    assert_eq!(ended.phase(), RolloutPhase::Completed);

    for event in registry.history(ended.id()).await? {
        let EventKind::Rollout(rollout) = &event.kind else { continue };
        println!("{} {:?} {:?}", event.at, event.actor, rollout.change);
    }
    registry.refresh().await?;
    assert_eq!(router.route("Agent-7"), "v2.0_refactored");

    // The whole rollout is one deployment to go back from, not one a step.
    let back = registry.rollback("agents").await?;
    assert_eq!((back.sole_version(), &*router.route("Agent-7")), (Some("v1.0_current"), "v1.0_current"));
    println!("rolled back to {}", back.split());
    Ok(())
}

/// Answers once it is `then`.
async fn gone(clock: &FakeClock, then: DateTime<Utc>) {
    use swarm_registry::Clock;
    while clock.now() <= then {
        tokio::task::yield_now().await;
    }
}
