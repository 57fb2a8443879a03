//! A plugin is registered, called and replaced while a call is under way; its state stays, and a bad version is refused.
//!
//! `cargo run --release -p swarm-examples --example 40_first_plugin`
//!
//! The plugin counts the files that it looked at. It is written as a type, because it has state: version 1.1.0 goes on
//! where 1.0.0 was. Version 1.2.0 fails its check, so 1.1.0 serves on. Everything that happens is told as an event.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use async_trait::async_trait;
use futures::StreamExt;
use serde_json::{Value, json};
use swarm_plugin::{CallContext, ErrorKind, Manifest, Plugin, PluginError, PluginManager};

/// Tells how many lines a text has, and how many texts it has seen.
struct Lines {
    manifest: Manifest,
    seen: AtomicU64,
    is_good: bool,
}

impl Lines {
    fn new(version: &str, is_good: bool) -> Result<Lines, swarm_plugin::Error> {
        let manifest = Manifest::builder("lines", version)
            .description("Counts the lines of a text")
            .required("text", json!({"type": "string"}))
            .build()?;
        Ok(Lines { manifest, seen: AtomicU64::new(0), is_good })
    }
}

#[async_trait]
impl Plugin for Lines {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    async fn execute(&self, params: Value, _cx: &CallContext) -> Result<Value, PluginError> {
        let lines = params["text"].as_str().unwrap_or_default().lines().count();
        let seen = self.seen.fetch_add(1, SeqCst) + 1;
        Ok(json!({"lines": lines, "seen": seen}))
    }

    async fn check(&self) -> Result<(), PluginError> {
        if self.is_good { Ok(()) } else { Err(PluginError::new("the dictionary is missing")) }
    }

    async fn export_state(&self) -> Result<Option<Value>, PluginError> {
        Ok(Some(json!(self.seen.load(SeqCst))))
    }

    async fn import_state(&self, state: Value) -> Result<(), PluginError> {
        self.seen.store(state.as_u64().ok_or_else(|| PluginError::new("the state is not a count"))?, SeqCst);
        Ok(())
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let plugins = PluginManager::new();
    let events = plugins.events();
    plugins.register(Lines::new("1.0.0", true)?).await?;
    let answer = plugins.call("lines", json!({"text": "a\nb"})).await?;
    assert_eq!(answer, json!({"lines": 2, "seen": 1}));

    let wrong = plugins.call("lines", json!({"txt": "a", "limit": 1})).await;
    let wrong = wrong.expect_err("`text` is required, and nothing else is known");
    assert_eq!(wrong.kind(), ErrorKind::InvalidParams);
    println!("{wrong}");

    plugins.reload("lines", Lines::new("1.1.0", true)?).await?;
    assert_eq!(plugins.call("lines", json!({"text": "a"})).await?, json!({"lines": 1, "seen": 2}));

    let refused = plugins.reload("lines", Lines::new("1.2.0", false)?).await;
    let refused = refused.expect_err("its check fails");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    println!("{refused}");
    assert_eq!(plugins.call("lines", json!({"text": ""})).await?, json!({"lines": 0, "seen": 3}));

    for info in plugins.list() {
        println!(
            "{} {}: {}, {:?}",
            info.manifest().name(),
            info.manifest().version(),
            info.status(),
            info.stats()
        );
    }
    plugins.shutdown().await;
    drop(plugins);
    let events: Vec<_> = events.collect().await;
    for event in &events {
        let version = event.version.as_ref().map(ToString::to_string).unwrap_or_default();
        println!("{version:>6} {:?}", event.kind);
    }
    Ok(())
}
