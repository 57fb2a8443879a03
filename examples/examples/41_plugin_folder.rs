//! A script is dropped into a folder and called a moment later, edited while it is called, broken, and taken away.
//!
//! `cargo run --release -p swarm-examples --example 41_plugin_folder`
//!
//! The script is `examples/assets/plugins/complexity.py`: it speaks MCP, needs Python and no package, and scores how
//! complex a Python file is; here it looks at itself. Four callers go on all the while, and none of their calls fails.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use futures::{Stream, StreamExt};
use serde_json::json;
use swarm_examples::Scratch;
use swarm_plugin::{Event, EventKind, PluginManager};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/plugins/complexity.py");
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        println!("left out: python3 is not here");
        return Ok(());
    }
    let root = Scratch::new("plugin-folder")?;
    let folder = root.as_ref().join("plugins");
    fs::create_dir(&folder)?;
    let plugins = PluginManager::builder().folder(&folder).watch().start().await?;
    let mut events = plugins.events();

    let begun = Instant::now();
    drop_in(&source, &folder, &fs::read_to_string(&source)?)?;
    until(&mut events, |kind| *kind == EventKind::Activated).await;
    println!("there after {:?}", begun.elapsed());
    let params = json!({ "file_path": source });
    let first = plugins.call("complexity_pro", params.clone()).await?;
    println!("{first}");
    assert_eq!(first["complexity_score"], 9);

    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (plugins, params, over) = (plugins.clone(), params.clone(), over.clone());
            tokio::spawn(async move {
                let mut calls = 0;
                while !over.load(SeqCst) {
                    plugins.call("complexity_pro", params.clone()).await?;
                    calls += 1;
                }
                Ok::<_, Error>(calls)
            })
        })
        .collect();

    // Stricter from now on.
    drop_in(&source, &folder, &fs::read_to_string(&source)?.replace("LIMIT = 10", "LIMIT = 1"))?;
    until(&mut events, |kind| matches!(kind, EventKind::CleanedUp { .. })).await;
    let stricter = plugins.call("complexity_pro", params.clone()).await?;
    println!("{stricter}");
    assert_ne!(stricter["recommendations"], first["recommendations"]);

    drop_in(&source, &folder, "#!/usr/bin/env python3\nimport nothing_of_that_name\n")?;
    until(&mut events, |kind| matches!(kind, EventKind::Refused { .. })).await;
    assert_eq!(plugins.call("complexity_pro", params.clone()).await?, stricter);

    over.store(true, SeqCst);
    let mut calls = 0;
    for caller in callers {
        calls += caller.await??;
    }
    println!("{calls} calls, none failed");

    fs::remove_file(folder.join("complexity.py"))?;
    until(&mut events, |kind| matches!(kind, EventKind::CleanedUp { failure: None })).await;
    assert!(plugins.get("complexity_pro").is_none());
    plugins.shutdown().await;
    Ok(())
}

/// Writes a script beside its place, and renames it there.
fn drop_in(like: &Path, folder: &Path, text: &str) -> Result<(), Error> {
    let next = folder.join(".next");
    fs::write(&next, text)?;
    fs::set_permissions(&next, fs::metadata(like)?.permissions())?;
    fs::rename(next, folder.join("complexity.py"))?;
    Ok(())
}

async fn until(events: &mut (impl Stream<Item = Event> + Unpin), wanted: impl Fn(&EventKind) -> bool) {
    while let Some(event) = events.next().await {
        println!("   {} {:?}", event.name, event.kind);
        if wanted(&event.kind) {
            return;
        }
    }
}
