//! A recorded scientific workflow (WfCommons, WfFormat 1.5) as a pipeline, run in virtual time on 4, 16 and 64 workers.
//!
//! Tasks take as long as they were recorded to take. The makespan is held against what no schedule can beat:
//! the longer of the critical path and all work shared out evenly. Without a file a small made-up workflow runs.
//!
//! `cargo run --release -p swarm-examples --example traces`
//! `cargo run --release -p swarm-examples --example traces -- --trace FILE [--trace FILE …]`
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::collections::HashMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use lexopt::Arg::Long;
use serde::Deserialize;
use swarm_pipeline::Pipeline;
use swarm_pipeline::testing::SimEngine;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Recording {
    name: String,
    schema_version: String,
    workflow: Workflow,
}

#[derive(Deserialize)]
struct Workflow {
    specification: Specification,
    execution: Execution,
}

#[derive(Deserialize)]
struct Specification {
    tasks: Vec<Task>,
}

#[derive(Deserialize)]
struct Task {
    id: String,
    parents: Vec<String>,
}

#[derive(Deserialize)]
struct Execution {
    tasks: Vec<Ran>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Ran {
    id: String,
    runtime_in_seconds: f64,
}

const MADE_UP: &str = r#"{"name": "made up", "schemaVersion": "1.5", "workflow": {
    "specification": {"tasks": [
        {"id": "split", "parents": []},
        {"id": "align-1", "parents": ["split"]}, {"id": "align-2", "parents": ["split"]},
        {"id": "align-3", "parents": ["split"]}, {"id": "align-4", "parents": ["split"]},
        {"id": "align-5", "parents": ["split"]}, {"id": "index", "parents": []},
        {"id": "merge", "parents": ["align-1", "align-2", "align-3", "align-4", "align-5", "index"]}]},
    "execution": {"tasks": [
        {"id": "split", "runtimeInSeconds": 3.5}, {"id": "index", "runtimeInSeconds": 40},
        {"id": "align-1", "runtimeInSeconds": 20}, {"id": "align-2", "runtimeInSeconds": 21.5},
        {"id": "align-3", "runtimeInSeconds": 19}, {"id": "align-4", "runtimeInSeconds": 35},
        {"id": "align-5", "runtimeInSeconds": 18}, {"id": "merge", "runtimeInSeconds": 6}]}}}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let mut files: Vec<PathBuf> = Vec::new();
    let mut parser = lexopt::Parser::from_env();
    while let Some(argument) = parser.next()? {
        match argument {
            Long("trace") => files.push(parser.value()?.into()),
            other => return Err(other.unexpected().into()),
        }
    }
    println!(
        "{:<44} {:>5} {:>8} {:>11} {:>11} {:>6}",
        "workflow", "tasks", "workers", "bound", "makespan", "ratio"
    );
    if files.is_empty() {
        simulate(MADE_UP, Path::new("the made-up workflow"))?;
    }
    for file in &files {
        let text = fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        simulate(&text, file)?;
    }
    Ok(())
}

fn simulate(text: &str, file: &Path) -> Result<(), Box<dyn Error>> {
    let at = |what: String| format!("{}: {what}", file.display());
    let recording: Recording = serde_json::from_str(text).map_err(|error| at(error.to_string()))?;
    if recording.schema_version != "1.5" {
        return Err(at(format!("is in WfFormat {}; 1.5 is read", recording.schema_version)).into());
    }
    let ran = recording.workflow.execution.tasks.iter().map(|ran| (&*ran.id, ran.runtime_in_seconds));
    let ran: HashMap<&str, f64> = ran.collect();
    let tasks = &recording.workflow.specification.tasks;
    // Ids can hold what step names cannot.
    let names: HashMap<&str, String> =
        tasks.iter().enumerate().map(|(number, task)| (&*task.id, format!("task-{number}"))).collect();
    let mut took = HashMap::new();
    let mut p = Pipeline::builder(&*recording.name);
    for task in tasks {
        let seconds = ran.get(&*task.id).ok_or_else(|| at(format!("task {:?} was not run", task.id)))?;
        let duration =
            Duration::try_from_secs_f64(*seconds).map_err(|error| at(format!("{:?}: {error}", task.id)))?;
        let unknown = |parent: &String| at(format!("task {:?} has an unknown parent {parent:?}", task.id));
        let parents =
            task.parents.iter().map(|parent| names.get(&**parent).cloned().ok_or_else(|| unknown(parent)));
        let after = parents.collect::<Result<Vec<String>, String>>()?;
        let name = &names[&*task.id];
        p.step(name).after(after).expect(duration).run(|_cx, ()| async { Ok(()) });
        took.insert(name.clone(), duration);
    }
    let pipeline = p.build().map_err(|error| at(error.to_string()))?;
    let micros = |node: u32| took[pipeline.graph().name(node)].as_micros() as u64;
    let path = Duration::from_micros(pipeline.graph().critical_path(micros).length);
    let work: Duration = took.values().sum();
    for workers in [4, 16, 64] {
        let durations = took.clone();
        let sim = SimEngine::new(1).workers(workers).duration(move |attempt| durations[attempt.step]);
        let real = Instant::now();
        let sim = sim.run(&pipeline)?;
        assert!(sim.report.is_success(), "{}", sim.report);
        let bound = path.max(work / workers);
        let ratio = sim.makespan.as_secs_f64() / bound.as_secs_f64().max(f64::MIN_POSITIVE);
        // Microseconds are rounded a task, so that a long chain may come out below the bound by as many.
        assert!(sim.makespan + Duration::from_micros(tasks.len() as u64 + 1) >= bound);
        println!(
            "{:<44} {:>5} {workers:>8} {:>9.1} s {:>9.1} s {ratio:>6.3}   simulated in {:.1?}",
            recording.name.chars().take(44).collect::<String>(),
            tasks.len(),
            bound.as_secs_f64(),
            sim.makespan.as_secs_f64(),
            real.elapsed()
        );
    }
    Ok(())
}
