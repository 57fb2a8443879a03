//! Programs that speak MCP over their standard streams.

mod child;
mod server;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use rmcp::model::{CallToolResult, Tool};
use serde_json::{Value, json};

use self::child::Program;
use self::server::Server;
use crate::call::CallContext;
use crate::discovery::Found;
use crate::loader::Loader;
use crate::manifest::{Manifest, ManifestBuilder};
use crate::plugin::{Plugin, PluginError};

/// Loads executables and folders of the kind `process`: a program that speaks
/// [MCP](https://modelcontextprotocol.io) over standard input and output. Each of its tools is a plugin.
///
/// Comes with the feature `process`, and is there without being asked for; give your own to
/// [`PluginManagerBuilder::loader`](crate::PluginManagerBuilder::loader) to change what programs may know.
///
/// A whole plugin, without any package:
///
/// ```python
#[doc = include_str!("../tests/programs/words.py")]
/// ```
///
/// # What runs, and where
/// The file itself, or `command` of `plugin.toml`, whose first word is a file of the folder or a program on the `PATH`. It runs
/// in its private copy, in a process group of its own. Its environment is empty but for `PATH` and `LANG` of this process,
/// `HOME` and `TMPDIR`, which are its copy, and what [`env`](ProcessLoader::env) adds. What it writes to standard error goes
/// to `tracing`, target `swarm_plugin::process`.
///
/// # Results
/// `structuredContent`, where a tool answers it; else the text, where it answers one; else the list of its content blocks. A
/// result with `isError` is a failure.
///
/// # When it ends
/// Calls under way fail, and say that the same call may succeed later. The next call starts the program anew, at once the first
/// time, then after 0.1 s, 0.2 s and so on up to 30 s while it does not stay up for ten seconds.
///
/// # Contained, and not
/// Contained: crashes, loops, exits, output without end (a message is read up to 16 MiB, and what is longer is dropped), processes
/// that it starts (the whole group is killed in the end), and on Linux core files, files over 1 GiB, over 1,024 open files, and
/// memory, where [`memory`](ProcessLoader::memory) says how much. Not contained: it may do what the user may that your
/// service runs as, files and network included; a process that leaves its group is not found again; when your service is
/// killed, a program that does not end with its standard input lives on.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct ProcessLoader {
    env: BTreeMap<String, String>,
    memory: Option<u64>,
}

impl ProcessLoader {
    /// A loader with the environment described above.
    pub fn new() -> Self {
        ProcessLoader::default()
    }

    /// Sets a variable of the environment of all programs.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// How many bytes of address space a program may have. Programs of some runtimes, such as Node.js, reserve far more than
    /// they use. Linux only.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.memory = Some(bytes);
        self
    }

    fn program(&self, found: &Found) -> Program {
        let copy = found.copy();
        let folder = if copy.is_dir() { copy } else { copy.parent().unwrap_or(copy) };
        let (program, args) = match found.command().split_first() {
            None => (copy.to_owned(), Vec::new()),
            Some((first, rest)) => (resolved(folder, first), rest.to_vec()),
        };
        let name = found.path().file_name().unwrap_or_default().to_string_lossy().escape_debug().to_string();
        Program { name, program, args, folder: folder.to_owned(), env: self.env.clone(), memory: self.memory }
    }
}

fn resolved(folder: &Path, program: &str) -> PathBuf {
    let own = folder.join(program);
    if own.is_file() { own } else { program.into() }
}

#[async_trait]
impl Loader for ProcessLoader {
    fn kind(&self) -> &str {
        "process"
    }

    async fn load(&self, found: &Found) -> Result<Vec<Arc<dyn Plugin>>, PluginError> {
        if found.copy().is_dir() && found.command().is_empty() {
            return Err(PluginError::new("plugin.toml names no command"));
        }
        // Held as long as the program may be started again.
        let server = Arc::new(Server::start(self.program(found), found.clone()).await?);
        match tools(&server, found).await {
            Ok(plugins) => Ok(plugins),
            Err(failure) => {
                server.stop().await;
                Err(failure)
            }
        }
    }
}

async fn tools(server: &Arc<Server>, found: &Found) -> Result<Vec<Arc<dyn Plugin>>, PluginError> {
    let tools = server.tools().await?;
    if tools.is_empty() {
        return Err(PluginError::new("the server has no tools"));
    }
    server.begin(tools.len());
    let plugin = |tool: Tool| {
        let manifest = manifest(found.manifest(), &tool)?;
        Ok(Arc::new(ToolPlugin { manifest, tool: tool.name.into_owned(), server: server.clone() })
            as Arc<dyn Plugin>)
    };
    tools.into_iter().map(plugin).collect()
}

/// What the server says of a tool, with what `plugin.toml` says of the server.
fn manifest(base: ManifestBuilder, tool: &Tool) -> Result<Manifest, PluginError> {
    let description: String = tool
        .description
        .as_deref()
        .unwrap_or_default()
        .chars()
        .map(|c| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c })
        .take(4096)
        .collect();
    let mut schema = Value::Object((*tool.input_schema).clone());
    if schema.get("type").is_none() {
        schema["type"] = json!("object");
    }
    Ok(base.name(tool.name.as_ref()).description(description).parameters(schema).bounded().build()?)
}

/// One tool of a server.
struct ToolPlugin {
    manifest: Manifest,
    tool: String,
    server: Arc<Server>,
}

#[async_trait]
impl Plugin for ToolPlugin {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    async fn execute(&self, params: Value, _cx: &CallContext) -> Result<Value, PluginError> {
        let Value::Object(arguments) = params else {
            return Err(PluginError::new("parameters are not an object"));
        };
        answer(self.server.call(self.tool.clone(), arguments).await?)
    }

    async fn check(&self) -> Result<(), PluginError> {
        self.server.ping().await
    }

    async fn cleanup(&self) -> Result<(), PluginError> {
        self.server.end().await;
        Ok(())
    }
}

fn answer(result: CallToolResult) -> Result<Value, PluginError> {
    let texts = || result.content.iter().filter_map(|block| Some(block.as_text()?.text.as_str()));
    if result.is_error == Some(true) {
        let said: Vec<&str> = texts().collect();
        return Err(PluginError::new(if said.is_empty() {
            "the tool failed".into()
        } else {
            said.join("\n")
        }));
    }
    if let Some(value) = result.structured_content {
        return Ok(value);
    }
    match (result.content.len(), texts().next()) {
        (1, Some(text)) => Ok(text.into()),
        _ => Ok(serde_json::to_value(&result.content)?),
    }
}
