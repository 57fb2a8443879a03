//! The plugins of a folder are the tools of an MCP server, and that server is a plugin of another service.
//!
//! `cargo run --release -p swarm-examples --example 44_plugins_for_agents`
//!
//! The program starts itself once more, with `--serve`, as an agent would start it: a folder that is watched, behind an
//! `McpServer` on the standard streams. The agent here is another `PluginManager`, to which any MCP server is a plugin. A script
//! that is dropped into the folder can be called by the agent a moment later. Where `mcp-server-time` is on the `PATH`
//! (`pip install mcp-server-time`), the agent has that as well.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;
use std::{env, fs};

use futures::{Stream, StreamExt};
use serde_json::{Value, json};
use swarm_examples::Scratch;
use swarm_plugin::{ErrorKind, Event, EventKind, FnPlugin, Manifest, McpServer, PluginManager};

type Error = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Error> {
    let args: Vec<_> = env::args_os().skip(1).collect();
    match &*args {
        [verb, folder] if verb == "--serve" => serve(Path::new(folder)).await,
        _ => work().await,
    }
}

/// A service whose plugins are for agents.
async fn serve(folder: &Path) -> Result<(), Error> {
    let plugins = PluginManager::builder().folder(folder).watch().start().await?;
    let manifest = Manifest::builder("words", "1.0.0")
        .description("Counts the words of a text")
        .required("text", json!({"type": "string"}))
        .build()?;
    let words = FnPlugin::new(manifest, |params: Value, _cx| async move {
        Ok(json!({"words": params["text"].as_str().unwrap_or_default().split_whitespace().count()}))
    });
    plugins.register(words).await?;
    let server = McpServer::new(plugins.clone()).name("desk", "1.0.0");
    server.serve(tokio::io::stdin(), tokio::io::stdout()).await?; // until the agent closes its end
    plugins.shutdown().await;
    Ok(())
}

/// What an agent does with it.
async fn work() -> Result<(), Error> {
    let root = Scratch::new("plugins-for-agents")?;
    let (tools, servers) = (root.as_ref().join("tools"), root.as_ref().join("servers"));
    fs::create_dir(&tools)?;
    server(&servers, "desk", &json!([env::current_exe()?, "--serve", &tools]))?;
    let has_time = is_there("mcp-server-time", "--help");
    if has_time {
        server(&servers, "time", &json!(["mcp-server-time"]))?;
    }
    let agent = PluginManager::builder().folder(&servers).start().await?;
    let mut events = agent.events();
    for tool in agent.list() {
        println!("{}: {}", tool.manifest().name(), tool.manifest().description());
    }

    assert_eq!(agent.call("words", json!({"text": "two words"})).await?, json!({"words": 2}));
    // The schema came along: what does not fit it is refused before anybody is asked.
    let error = agent.call("words", json!({"txt": "two words"})).await.err();
    assert_eq!(error.map(|error| error.kind()), Some(ErrorKind::InvalidParams));
    match has_time {
        true => println!("{}", agent.call("get_current_time", json!({"timezone": "UTC"})).await?),
        false => println!("left out: mcp-server-time is not here"),
    }

    if is_there("python3", "--version") {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/plugins/complexity.py");
        let begun = Instant::now();
        fs::copy(&script, tools.join(".next"))?;
        fs::rename(tools.join(".next"), tools.join("complexity.py"))?;
        activated(&mut events, "complexity_pro").await;
        let answer = agent.call("complexity_pro", json!({"file_path": script})).await?;
        println!("called {:?} after it was dropped: {answer}", begun.elapsed());
        assert_eq!(answer["complexity_score"], 9);
    } else {
        println!("left out: python3 is not here");
    }
    agent.shutdown().await;
    Ok(())
}

/// A folder that says how an MCP server is started. Each of its tools is a plugin.
fn server(root: &Path, name: &str, command: &Value) -> Result<(), Error> {
    let folder = root.join(name);
    fs::create_dir_all(&folder)?;
    let manifest =
        format!("name = \"{name}\"\nversion = \"1.0.0\"\nkind = \"process\"\ncommand = {command}\n");
    Ok(fs::write(folder.join("plugin.toml"), manifest)?)
}

fn is_there(program: &str, question: &str) -> bool {
    Command::new(program).arg(question).stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

async fn activated(events: &mut (impl Stream<Item = Event> + Unpin), name: &str) {
    while let Some(event) = events.next().await {
        if &*event.name == name && event.kind == EventKind::Activated {
            return;
        }
    }
}
