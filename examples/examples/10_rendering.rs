//! Pipelines and runs as pictures: DOT, Mermaid, a timeline in SVG, and a page of HTML that needs nothing else.
//!
//! The run has something to show: a retry, a fan-out, a gate that warns, a nested pipeline, a failure, its undo.
//! Give a folder to keep the files: `cargo run -p swarm-examples --example 10_rendering -- FOLDER`.
//!
//! `cargo run --release -p swarm-examples --example 10_rendering`
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;
use std::{env, fs};

use swarm_examples::Scratch;
use swarm_pipeline::{BuildError, Gate, LocalEngine, Pipeline, Retry, RunStatus, StepContext, StepError};

async fn busy(milliseconds: u64) {
    tokio::time::sleep(Duration::from_millis(milliseconds)).await;
}

fn checks() -> Result<Pipeline, BuildError> {
    let mut p = Pipeline::builder("checks");
    let lint = p.step("lint").run(|_cx, ()| async {
        busy(10).await;
        Ok(15)
    });
    p.step("v2_violations")
        .input(&lint)
        .gate(Gate::at_most("violations", 10.0, |found: &i32| f64::from(*found)).warn_only())
        .run(|_cx, found| async move { Ok(*found) });
    p.build()
}

async fn build(cx: StepContext, (): ()) -> Result<String, StepError> {
    busy(20).await;
    if cx.attempt() == 1 { Err(StepError::new("the compiler ran out of memory")) } else { Ok("v2.0".into()) }
}

fn release() -> Result<Pipeline, BuildError> {
    let mut p = Pipeline::builder("release");
    p.group("agents", 2);
    let retry = Retry::fixed(3, Duration::from_millis(5));
    p.step("build").retry(retry).run(build);
    p.nest("checks", &checks()?, ["build"]);
    let agents = p.step("agents").run(|_cx, ()| async { Ok((1..=5).collect::<Vec<u32>>()) });
    p.step("deploy")
        .input(&agents)
        .after(["checks.v2_violations"])
        .group("agents")
        .compensate(|_cx, _deployed| async {
            busy(5).await;
            Ok(())
        })
        .run_each(|_cx, agent: u32| async move {
            busy(10 + u64::from(agent)).await;
            Ok(format!("Agent-{agent}"))
        });
    p.step::<()>("announce").after(["deploy"]).run(|_cx, ()| async {
        busy(5).await;
        Err(StepError::permanent("the <channel> is \"closed\" & gone"))
    });
    p.step("archive").after(["announce"]).run(|_cx, ()| async { Ok(()) });
    p.build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let scratch = Scratch::new("rendering")?;
    let folder = env::args_os().nth(1).map_or(scratch.to_path_buf(), PathBuf::from);
    fs::create_dir_all(&folder)?;
    let pipeline = release()?;
    println!("{}", pipeline.to_mermaid());

    let report = LocalEngine::in_memory().run(&pipeline, "release-7", ()).await?;
    println!("{report}");
    assert_eq!(report.status(), RunStatus::Failed);
    let files = [
        ("pipeline.dot", pipeline.to_dot()),
        ("pipeline.mmd", pipeline.to_mermaid()),
        ("run.dot", report.to_dot()),
        ("run.mmd", report.to_mermaid()),
        ("timeline.svg", report.timeline_svg()),
        ("report.html", report.to_html()),
    ];
    for (name, text) in &files {
        fs::write(folder.join(name), text)?;
        println!("{:>7} bytes  {}", text.len(), folder.join(name).display());
        assert!(text.contains("v2_violations"), "{name} lacks a step");
    }
    let text = |wanted: &str| files.iter().find(|(name, _)| *name == wanted).map_or("", |(_, text)| text);
    assert!(text("pipeline.dot").starts_with("digraph") && text("pipeline.mmd").starts_with("flowchart"));
    assert!(text("timeline.svg").contains("<svg") && text("report.html").contains("<html"));
    // What comes from outside cannot become markup, and the page loads nothing.
    let page = text("report.html");
    assert!(!page.contains("<channel>") && page.contains("&lt;channel&gt;"));
    assert!(!page.contains("src=\"http") && !page.contains("@import"));
    Ok(())
}
