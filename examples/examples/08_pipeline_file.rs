//! Pipelines from files: refactor a service, deploy it to eight agents, and keep one copy instead of eight.
//!
//! The three files of `examples/assets/pipelines` are run on a copy of the assets, with a progress bar for each
//! step. `shell` steps do the work, and a kind of our own gives the list of agents.
//!
//! `cargo run --release -p swarm-examples --example 08_pipeline_file`
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::path::Path;
use std::{env, fs};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::{Value, json};
use swarm_examples::{Progress, Scratch, copy_tree};
use swarm_pipeline::{
    ErrorKind, Format, LocalEngine, PipelineStep, RunStatus, StepContext, StepError, StepRegistry,
};

/// The kind `list`: its configuration is its answer.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    items: Vec<String>,
}

#[async_trait]
impl PipelineStep for List {
    async fn run(&self, _cx: &StepContext) -> Result<Value, StepError> {
        Ok(json!(self.items))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let scratch = Scratch::new("pipeline-file")?;
    copy_tree(&Path::new(env!("CARGO_MANIFEST_DIR")).join("assets"), &scratch)?;
    // Programs in a file are run in the folder of this process.
    env::set_current_dir(&scratch)?;

    let mut registry = StepRegistry::with_shell();
    registry.register("list", Ok::<List, String>);
    let engine = LocalEngine::open("runs")?;
    for name in ["refactor", "deploy", "consolidation"] {
        let pipeline = registry.load(format!("pipelines/{name}.toml"))?;
        let run = format!("{name}-1");
        let report = Progress::new(&pipeline).watch(&engine, engine.run(&pipeline, run, ())).await?;
        println!("{report}");
        assert!(report.is_success());
    }
    for number in 1..=8 {
        let release = fs::canonicalize(format!("agents/Agent-{number}/current"))?;
        assert_eq!(release, fs::canonicalize("shared/2.1.0")?);
    }

    // A new version, and an agent that cannot take it: the others get back what they had.
    fs::write("service/VERSION", "2.2.0\n")?;
    fs::rename("agents/Agent-7", "Agent-7")?;
    fs::write("agents/Agent-7", "no folder")?;
    let deploy = registry.load("pipelines/deploy.toml")?;
    let report = Progress::new(&deploy).watch(&engine, engine.run(&deploy, "deploy-2", ())).await?;
    println!("{report}");
    assert_eq!(report.status(), RunStatus::Failed);
    for number in [1, 2, 3, 4, 5, 6, 8] {
        assert_eq!(
            fs::canonicalize(format!("agents/Agent-{number}/current"))?,
            fs::canonicalize("shared/2.1.0")?
        );
        assert!(!Path::new(&format!("agents/Agent-{number}/releases/2.2.0")).exists());
    }

    // What is wrong with a file is told all at once, with line and column.
    let wrong = "name = 'wrong'\n[steps.a]\nuses = 'shel'\nafter = ['b']\nretry = 'often'\n"; // typos:ignore-line
    let error =
        registry.parse(wrong, Format::Toml).expect_err("the kind, the dependency and the retry are wrong");
    println!("{error}");
    assert_eq!(error.kind(), ErrorKind::Definition);
    Ok(())
}
