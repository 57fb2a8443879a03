//! A group of agents that deploy code to each other: the five crates as one program.
//!
//! `cargo run --release -p swarm-examples --example swarm`
//!
//! Agents send versions of a tool through a pipeline. A plugin scores the code, a gate holds the score to the limit of the
//! configuration, the registry gives the version a part of the work, the monitor records how the work went, and the
//! rollout judges by that. One version comes through, one is refused by the gate until somebody raises the limit while
//! everything runs, and one looks fine and spoils work: it is taken back before most agents have seen it.
//! A day passes in a moment, for the clocks are moved by whoever sleeps.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

mod release;
mod settings;
mod work;

use std::error::Error;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use futures::StreamExt;
use serde_json::{Value, json};
use swarm_config::{Config, ConfigEvent};
use swarm_examples::Scratch;
use swarm_monitor::PerformanceMonitor;
use swarm_pipeline::{LocalEngine, RunStatus};
use swarm_plugin::{FnPlugin, Manifest, PluginError, PluginManager};
use swarm_registry::{Split, Version, VersionRegistry, testing::FakeClock};

use release::{CHANNEL, Candidate, pipeline};
use settings::Settings;
use work::Work;

/// What the steps of a release use.
pub(crate) struct Swarm {
    config: Config<Settings>,
    plugins: PluginManager,
    registry: VersionRegistry,
    work: Work,
}

/// Scores a text: one, and one more for each place where its flow divides.
fn complexity() -> Result<FnPlugin, swarm_plugin::Error> {
    let manifest = Manifest::builder("complexity", "1.0.0")
        .description("How many ways lead through a text of Python")
        .required("text", json!({"type": "string"}))
        .build()?;
    Ok(FnPlugin::new(manifest, |params: Value, _cx| async move {
        let text = params["text"].as_str().ok_or_else(|| PluginError::new("no text"))?;
        let words = text.split(|c: char| !c.is_alphanumeric());
        Ok(1 + words
            .filter(|word| ["if", "elif", "for", "while", "and", "or", "except"].contains(word))
            .count())
    }))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = Scratch::new("swarm")?;
    let config = settings::load(&folder)?;
    let mut edits = config.watch()?;

    let plugins = PluginManager::new();
    plugins.register(complexity()?).await?;

    let start = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::days(20_000);
    let registry = VersionRegistry::builder()
        .clock(Arc::new(FakeClock::hurried(start)))
        .open(folder.join("registry"))
        .await?
        .acting_as("Agent-8");
    registry.register(Version::new("v1").artifact("def run(task): return task")).await?;
    registry.deploy(CHANNEL, Split::all("v1")).await?;

    let clock = swarm_monitor::testing::FakeClock::new(start);
    let monitor = PerformanceMonitor::builder().clock(clock.clone()).build()?;
    let router = registry.router(CHANNEL).await?;
    let work = Work::new(monitor.clone(), clock, router);
    let swarm = Arc::new(Swarm { config, plugins, registry, work });
    let engine = LocalEngine::open(folder.join("runs"))?;
    let release = async |version: &str, code: &str, spoils: f64| {
        swarm.work.spoils(version, spoils);
        let candidate = Candidate { version: version.to_owned(), code: code.to_owned() };
        let report = engine.run(&pipeline(&swarm)?, version, &candidate).await?;
        println!("{report}");
        Ok::<_, Box<dyn Error>>(report)
    };

    let plain = "def run(task):\n    if task.urgent:\n        return now(task)\n    return later(task)\n";
    assert!(release("v2", plain, 0.04).await?.is_success());
    assert_eq!(swarm.work.serving(), ["v2"]);

    // Refused by the gate, before a single task was given to it.
    let branching =
        "def run(task):\n    if a and b or c:\n        for x in task:\n            if x or not x: pass\n";
    let refused = release("v3", branching, 0.02).await?;
    assert_eq!(refused.status(), RunStatus::Failed);
    println!();

    // An operator raises the limit. The next run has it, and nothing was restarted.
    settings::edit(&folder, "complexity = 5", "complexity = 10")?;
    let Some(ConfigEvent::Changed { changes, .. }) = edits.next().await else {
        return Err("the edit was refused".into());
    };
    changes.iter().for_each(|change| println!("{change}\n"));
    assert!(release("v3-again", branching, 0.02).await?.is_success());
    assert_eq!(swarm.work.serving(), ["v3-again"]);

    // Its code passes every gate. What it does to the work is seen at a fifth of the traffic, and taken back.
    let careless = "def run(task):\n    return later(task)\n";
    let taken_back = release("v4", careless, 0.25).await?;
    assert_eq!(taken_back.status(), RunStatus::Failed);
    println!();
    assert_eq!(swarm.work.serving(), ["v3-again"]);
    assert_eq!(swarm.registry.alias("stable").await?.id(), "v3-again");

    println!("tasks by version, and how many of them were spoilt:");
    for (version, tasks) in monitor.select("tasks").by("version")? {
        let spoilt = tasks.tag("outcome", "spoilt").total()?.count;
        println!(
            "  {version:<9} {:>6} {spoilt:>5}",
            monitor.select("tasks").tag("version", &version).total()?.count
        );
    }
    swarm.plugins.shutdown().await;
    Ok(())
}
