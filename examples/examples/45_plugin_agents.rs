//! A folder of tools in the hands of an agent: a server from a registry and a script, called by an MCP client.
//!
//! `cargo run --release -p swarm-examples --example 45_plugin_agents`
//!
//! `mcp-server-time` of Python's index (`pip install mcp-server-time`) becomes plugins through a `plugin.toml` of four lines,
//! and is left out where it is not. The client is that of MCP's own SDK for Rust. It is offered what is in the folder, is told
//! when a script is dropped beside it, and calls that a moment later. What it passes wrongly it is told, so that it can mend it.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::fs;
use std::path::Path;
use std::time::Instant;

use rmcp::model::{CallToolRequestParams, CallToolResult};
use rmcp::service::{NotificationContext, RoleClient, RunningService};
use rmcp::{ClientHandler, ServiceExt};
use serde_json::{Value, json};
use swarm_examples::Scratch;
use swarm_plugin::{McpServer, PluginManager};
use tokio::sync::mpsc;

type Error = Box<dyn std::error::Error + Send + Sync>;

/// A client that passes on that it was told of other tools.
struct Agent(mpsc::UnboundedSender<()>);

impl ClientHandler for Agent {
    async fn on_tool_list_changed(&self, _context: NotificationContext<RoleClient>) {
        let _ = self.0.send(());
    }
}

#[tokio::main]
async fn main() -> Result<(), Error> {
    let is_here = |program: &str| std::process::Command::new(program).arg("--help").output().is_ok();
    if !is_here("python3") {
        println!("left out: python3 is not here");
        return Ok(());
    }
    let root = Scratch::new("plugin-agents")?;
    let folder = root.as_ref().join("plugins");
    fs::create_dir_all(folder.join("time"))?;
    let manifest = "name = \"time\"\nversion = \"1.0.0\"\nkind = \"process\"\n\
        command = [\"mcp-server-time\", \"--local-timezone\", \"UTC\"]\n";
    let has_time = is_here("mcp-server-time");
    if has_time {
        fs::write(folder.join("time/plugin.toml"), manifest)?;
    } else {
        println!("left out: mcp-server-time is not here");
    }
    let plugins = PluginManager::builder().folder(&folder).watch().start().await?;

    // In one process, so that the example is one; a server for clients elsewhere is as short, with their streams or `http`.
    let (near, far) = tokio::io::duplex(64 * 1024);
    let (input, output) = tokio::io::split(near);
    let server = McpServer::new(plugins.clone()).name("tools", "1.0.0");
    let serving = tokio::spawn(async move { server.serve(input, output).await });
    let (changed, mut changes) = mpsc::unbounded_channel();
    let agent = Agent(changed).serve(tokio::io::split(far)).await?;

    println!("offered: {:?}", names(&agent).await?);
    if has_time {
        let noon = json!({"source_timezone": "UTC", "time": "12:00", "target_timezone": "Asia/Tokyo"});
        let answer = call(&agent, "convert_time", noon).await?;
        assert!(text(&answer).contains("21:00"), "{answer:?}");
        let wrong = call(&agent, "convert_time", json!({"time": "12:00"})).await?;
        assert_eq!(wrong.is_error, Some(true));
        println!("told: {}", text(&wrong));
    }

    let begun = Instant::now();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/plugins/complexity.py");
    fs::copy(&script, folder.join(".next"))?;
    fs::rename(folder.join(".next"), folder.join("complexity.py"))?;
    while !names(&agent).await?.contains(&"complexity_pro".to_owned()) {
        changes.recv().await.ok_or("the server is gone")?;
    }
    let answer = call(&agent, "complexity_pro", json!({ "file_path": script })).await?;
    println!("a script was dropped, and called after {:?}: {}", begun.elapsed(), text(&answer));
    let score = answer.structured_content.and_then(|answer| answer["complexity_score"].as_i64());
    assert_eq!(score, Some(9));

    agent.cancel().await?;
    serving.await??;
    plugins.shutdown().await;
    Ok(())
}

async fn names(agent: &RunningService<RoleClient, Agent>) -> Result<Vec<String>, Error> {
    Ok(agent.list_all_tools().await?.into_iter().map(|tool| tool.name.into_owned()).collect())
}

async fn call(
    agent: &RunningService<RoleClient, Agent>,
    name: &'static str,
    params: Value,
) -> Result<CallToolResult, Error> {
    let params = params.as_object().cloned().unwrap_or_default();
    Ok(agent.call_tool(CallToolRequestParams::new(name).with_arguments(params)).await?)
}

fn text(answer: &CallToolResult) -> &str {
    answer.content.first().and_then(|block| block.as_text()).map_or("", |text| &text.text)
}
