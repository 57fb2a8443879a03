//! Any bytes as the component of a plugin: refused with a reason, or called and cleaned up once; others of the engine serve on.
//!
//! `cargo +nightly fuzz run --features wasm plugin_wasm`
#![no_main]

use std::collections::BTreeMap;
use std::sync::LazyLock;
use std::time::Duration;

use futures::{FutureExt, StreamExt};
use libfuzzer_sys::fuzz_target;
use serde_json::json;
use swarm_plugin::testing::PluginFolder;
use swarm_plugin::{CallOptions, ErrorKind, EventKind, PluginManager, PluginManagerBuilder, WasmLoader};
use tokio::runtime::{Builder, Runtime};

const COUNTER: &str = include_str!("../seeds/plugin_wasm/counter.wat");
/// A case is over in a few of these.
const SOON: Duration = Duration::from_millis(500);

struct Host {
    runtime: Runtime,
    loader: WasmLoader,
    /// Shares the engine with each case.
    other: PluginManager,
}

static HOST: LazyLock<Host> = LazyLock::new(|| {
    let runtime = Builder::new_current_thread().enable_time().build().expect("a runtime");
    let loader = WasmLoader::new().instances(4).memory(1 << 20);
    let folder = PluginFolder::new().expect("a folder");
    folder.program("tool.wasm", wat::parse_str(COUNTER).expect("a component")).expect("a file");
    let other = PluginManager::builder().folder(folder.path()).loader(loader.clone());
    let other = runtime.block_on(other.start()).expect("a plugin");
    Host { runtime, loader, other }
});

/// The first byte chooses: `(` the text of a component, `=` what stands in the memory of a good one, any other the file itself.
fn component(data: &[u8]) -> Option<Vec<u8>> {
    match data {
        [b'(', ..] => wat::parse_bytes(data).ok().map(|binary| binary.into_owned()),
        [b'=', memory @ ..] => {
            let (before, rest) = COUNTER.split_once("(data (i32.const 0) \"")?;
            let (_, after) = rest.split_once('"')?;
            let memory: String = memory.iter().take(1 << 15).map(|byte| format!("\\{byte:02x}")).collect();
            let text = format!("{before}(data (i32.const 0) \"{memory}\"{after}");
            Some(wat::parse_str(text).expect("a component, whatever stands in its memory"))
        }
        _ => Some(data.to_owned()),
    }
}

fn builder(folder: &PluginFolder, loader: &WasmLoader) -> PluginManagerBuilder {
    let builder = PluginManager::builder().folder(folder.path()).settle(Duration::ZERO);
    builder.loader(loader.clone()).load_timeout(SOON).drain_timeout(SOON).cleanup_timeout(SOON)
}

async fn live(component: Vec<u8>, loader: &WasmLoader) {
    let folder = PluginFolder::new().expect("a folder");
    let plugins = builder(&folder, loader).start().await.expect("a folder without plugins");
    let mut events = plugins.events();
    folder.program("tool.wasm", component).expect("a file");
    plugins.rescan().await;
    let serves = plugins.get("tool").is_some();
    if serves {
        let options = CallOptions::new().timeout(SOON);
        if let Err(error) = plugins.call_with("tool", json!({"text": "one two"}), options).await {
            let known = [ErrorKind::Failed, ErrorKind::InvalidParams, ErrorKind::TimedOut];
            assert!(known.contains(&error.kind()), "{error}");
        }
    }
    plugins.shutdown().await;
    let (mut lives, mut refused) = (BTreeMap::new(), 0);
    while let Some(Some(event)) = events.next().now_or_never() {
        match event.kind {
            EventKind::Loaded => drop(lives.insert(event.generation, 0)),
            EventKind::CleanedUp { .. } => *lives.get_mut(&event.generation).expect("loaded before") += 1,
            EventKind::Refused { reason, .. } => {
                assert!(!reason.is_empty() && !reason.contains('\u{1b}'), "{reason:?}");
                refused += 1;
            }
            _ => {}
        }
    }
    assert!(lives.values().all(|&cleaned| cleaned == 1), "{lives:?}");
    assert_eq!(u32::from(!serves), refused);
}

fuzz_target!(|data: &[u8]| {
    let Host { runtime, loader, other } = &*HOST;
    let Some(component) = component(data) else { return };
    runtime.block_on(async {
        live(component, loader).await;
        assert_eq!(other.call("tool", json!({})).await.expect("the other serves on"), json!({"a": 1}));
    });
});
