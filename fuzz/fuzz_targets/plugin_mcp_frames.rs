//! Any bytes as what a program says to this host, and as what a client says to its server: the talk goes on, or ends.
//!
//! `cargo +nightly fuzz run plugin_mcp_frames`
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use swarm_plugin::testing::said_by_a_program;
use swarm_plugin::{FnPlugin, Manifest, McpServer, PluginManager};

const GREETING: &str = r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"nobody","version":"1"}}}
{"jsonrpc":"2.0","method":"notifications/initialized"}
"#;

/// The first byte chooses who speaks: `<` a client that has greeted, `!` one that has not, any other a program.
async fn talk(data: &[u8]) {
    let Some((&who, said)) = data.split_first() else { return };
    let greeting = match who {
        b'<' => GREETING,
        b'!' => "",
        _ => {
            said_by_a_program(data).await;
            return;
        }
    };
    let plugins = PluginManager::new();
    let manifest =
        Manifest::builder("words", "1.0.0").required("text", serde_json::json!({"type": "string"}));
    let manifest = manifest.build().expect("a manifest");
    let words = FnPlugin::new(manifest, |params: Value, _cx| async move { Ok(params) });
    plugins.register(words).await.expect("a plugin");
    let heard = [greeting.as_bytes(), said].concat();
    let _ = McpServer::new(plugins.clone()).serve(std::io::Cursor::new(heard), tokio::io::sink()).await;
    plugins.shutdown().await;
}

fuzz_target!(|data: &[u8]| {
    // What waits for a time does not wait here.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(talk(data));
});
