//! Plugins as WebAssembly components: what one does stays in its sandbox, and one is replaced while it is called.
//!
//! `cargo run -p swarm-examples --features wasm --example 44_plugin_wasm`
//!
//! The component is `examples/assets/plugins/words.wat`, written by hand so that nothing but this crate is needed;
//! `swarm-plugin/guests` has the same in Rust, Python, JavaScript and C. One that takes memory without end and one that loops
//! are dropped beside it, and one that asks for a folder which it may only read. Four callers go on all the while, also when
//! version 1.1.0 takes the place of the first, and none of their calls fails.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use serde_json::json;
use swarm_examples::Scratch;
use swarm_plugin::{Access, CallOptions, ErrorKind, Event, EventKind, PluginManager, WasmLoader};

type Error = Box<dyn std::error::Error + Send + Sync>;

const WORDS: &str = include_str!("../assets/plugins/words.wat");
const GREEDY: &str =
    "(loop $more (br_if $more (i32.ne (i32.const -1) (memory.grow (i32.const 16))))) unreachable";
const ENDLESS: &str = "(loop $forever (br $forever))";

#[tokio::main]
async fn main() -> Result<(), Error> {
    let root = Scratch::new("plugin-wasm")?;
    let (folder, data) = (root.as_ref().join("plugins"), root.as_ref().join("data"));
    for folder in [&folder, &data] {
        fs::create_dir(folder)?;
    }
    let loader = WasmLoader::new().memory(16 * 1024 * 1024).folder("data", data, Access::Read);
    let plugins = PluginManager::builder().folder(&folder).loader(loader).watch().start().await?;
    let mut events = plugins.events();

    let begun = Instant::now();
    drop_in(&folder.join("words.wasm"), &component("1.0.0", "")?)?;
    until(&mut events, |kind| *kind == EventKind::Activated).await;
    println!("compiled, and there after {:?}", begun.elapsed());
    let params = json!({"text": "a plugin is a file"});
    assert_eq!(plugins.call("words", params.clone()).await?, 5);

    let (over, made) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (plugins, params, over, made) = (plugins.clone(), params.clone(), over.clone(), made.clone());
            tokio::spawn(async move {
                while !over.load(SeqCst) {
                    plugins.call("words", params.clone()).await?;
                    made.fetch_add(1, SeqCst);
                    tokio::task::yield_now().await;
                }
                Ok::<_, Error>(())
            })
        })
        .collect();

    for (name, does) in [("greedy", GREEDY), ("endless", ENDLESS)] {
        drop_in(&folder.join(format!("{name}.wasm")), &component("1.0.0", does)?)?;
        until(&mut events, |kind| *kind == EventKind::Activated).await;
        let before = made.load(SeqCst);
        let options = CallOptions::new().timeout(Duration::from_millis(200));
        let failure = plugins.call_with(name, params.clone(), options).await.expect_err("it does not end");
        println!("{name}: {failure}, and {} calls beside it", made.load(SeqCst) - before);
        let expected = if name == "greedy" { ErrorKind::Failed } else { ErrorKind::TimedOut };
        assert_eq!(failure.kind(), expected);
    }

    let curious = root.as_ref().join("curious");
    fs::create_dir(&curious)?;
    fs::write(curious.join("curious.wasm"), component("1.0.0", "")?)?;
    let manifest = "name = \"curious\"\nversion = \"1.0.0\"\nkind = \"wasm\"\n[grants]\nfolders = { data = \"write\" }\n";
    fs::write(curious.join("plugin.toml"), manifest)?;
    fs::rename(curious, folder.join("curious"))?;
    until(&mut events, |kind| matches!(kind, EventKind::Refused { .. })).await;
    assert!(plugins.get("curious").is_none());

    drop_in(&folder.join("words.wasm"), &component("1.1.0", "")?)?;
    until(&mut events, |kind| matches!(kind, EventKind::CleanedUp { failure: None })).await;
    let words = plugins.get("words").expect("another version of it serves");
    assert_eq!(words.manifest().version().to_string(), "1.1.0");

    over.store(true, SeqCst);
    for caller in callers {
        caller.await??;
    }
    println!("{} calls, none failed", made.load(SeqCst));
    plugins.shutdown().await;
    Ok(())
}

/// The component in this version, which does something else first.
fn component(version: &str, first: &str) -> Result<Vec<u8>, wat::Error> {
    wat::parse_str(WORDS.replace("<version>", version).replace("<first>", first))
}

/// Writes a component beside its place, and renames it there.
fn drop_in(place: &Path, component: &[u8]) -> Result<(), Error> {
    let next = place.with_file_name(".next");
    fs::write(&next, component)?;
    fs::rename(next, place)?;
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
