//! A plugin in Rust is built as a native library, dropped into a folder, called, and replaced while it is called.
//!
//! `cargo run --release -p swarm-examples --example 43_plugin_native`
//!
//! The library is `swarm-plugin/examples/native_words.rs`, a function and `native_plugin!`; cargo builds it twice, as version
//! 1.0.0 and 1.1.0. Four callers go on while the second takes the place of the first, and none of their calls fails. A text
//! with the name of a library is refused. Libraries are trusted like the code of the service: hence the `unsafe`.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Instant;

use futures::{Stream, StreamExt};
use serde_json::json;
use swarm_examples::Scratch;
use swarm_plugin::{Event, EventKind, NativeLoader, PluginManager};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let root = Scratch::new("plugin-native")?;
    let folder = root.as_ref().join("plugins");
    fs::create_dir(&folder)?;
    // SAFETY: nobody but this program writes to the folder, and what it puts there it has built.
    let native = unsafe { NativeLoader::new() };
    let plugins = PluginManager::builder().folder(&folder).loader(native.clone()).watch().start().await?;
    let mut events = plugins.events();

    let library = fs::read(built("1.0.0")?)?;
    let begun = Instant::now();
    drop_in(&folder, &library)?;
    until(&mut events, |kind| *kind == EventKind::Activated).await;
    println!("there after {:?}", begun.elapsed());
    let params = json!({"text": "a plugin is a file"});
    let first = plugins.call("words", params.clone()).await?;
    println!("{first}");
    assert_eq!(first, json!({"words": 5, "version": "1.0.0"}));

    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (plugins, params, over) = (plugins.clone(), params.clone(), over.clone());
            tokio::spawn(async move {
                let mut calls = 0;
                while !over.load(SeqCst) {
                    plugins.call("words", params.clone()).await?;
                    calls += 1;
                }
                Ok::<_, Error>(calls)
            })
        })
        .collect();

    drop_in(&folder, &fs::read(built("1.1.0")?)?)?;
    until(&mut events, |kind| matches!(kind, EventKind::CleanedUp { failure: None })).await;
    let second = plugins.call("words", params.clone()).await?;
    println!("{second}");
    assert_eq!(second, json!({"words": 5, "version": "1.1.0"}));

    drop_in(&folder, b"#!/bin/sh\nexit 0\n")?;
    until(&mut events, |kind| matches!(kind, EventKind::Refused { .. })).await;
    assert_eq!(plugins.call("words", params).await?, second);

    over.store(true, SeqCst);
    let mut calls = 0;
    for caller in callers {
        calls += caller.await??;
    }
    println!("{calls} calls, none failed; {} libraries stay in memory", native.loaded());
    assert_eq!(native.loaded(), 2);
    plugins.shutdown().await;
    Ok(())
}

/// Builds the library as this version, and says where it is.
fn built(version: &str) -> Result<PathBuf, Error> {
    const NAME: &str = "plugin_native_words";
    let own = env::current_exe()?;
    let (Some(folder), Some(target)) = (own.parent(), own.ancestors().nth(3)) else {
        return Err("run it by cargo".into());
    };
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
    cargo.args(["build", "--quiet", "--package", "swarm-examples", "--example", NAME]);
    cargo.args(["--manifest-path", concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml")]);
    cargo.arg("--target-dir").arg(target).env("WORDS_VERSION", version);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    if !cargo.status()?.success() {
        return Err("the library cannot be built".into());
    }
    Ok(folder.join(format!("{}{NAME}{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX)))
}

/// Writes a library beside its place, and renames it there.
fn drop_in(folder: &Path, library: &[u8]) -> Result<(), Error> {
    let next = folder.join(".next");
    fs::write(&next, library)?;
    fs::rename(next, folder.join(format!("words{}", env::consts::DLL_SUFFIX)))?;
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
