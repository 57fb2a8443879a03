//! Programs that speak MCP over their standard streams.

mod calls;
mod child;
mod frames;
#[cfg(feature = "testing")]
mod fuzzing;
#[cfg(unix)]
mod guard;
mod health;
mod link;
mod server;
mod wire;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::{Stream, stream};
use rmcp::model::{CallToolResult, Tool};
use serde_json::{Value, json};

use self::child::Program;
#[cfg(feature = "testing")]
pub(crate) use self::fuzzing::said;
use self::server::{Server, User};
use crate::brake::Brake;
use crate::call::CallContext;
use crate::discovery::Found;
use crate::loader::{Load, Loader, too_much_memory};
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
/// # Names and versions
/// A tool brings its name, description and parameters; the name and description in `plugin.toml` are those of the program, and
/// parameters are refused there. Version, requirements and limits are those of `plugin.toml`, for all tools of the program.
/// Without one the version is 0.0.0, whatever the program
/// says of itself: write one where a range of versions is to be met.
///
/// # What runs, and where
/// The file itself, or `command` of `plugin.toml`, whose first word is a file of the folder, or else a program on the `PATH` or
/// one with its whole path. It runs in its private copy, in a process group of its own. Its environment is empty but for `PATH`
/// and `LANG` of this process, `HOME` and `TMPDIR`, which are its copy, and what [`env`](ProcessLoader::env) adds. What it writes
/// to standard error goes to `tracing`, target `swarm_plugin::process`.
///
/// # Results
/// `structuredContent`, where a tool answers it; else the text, where it answers one; else the list of its content blocks. A
/// result with `isError` is a failure.
///
/// # When it ends
/// Calls under way fail, and say that the same call may succeed later: the program may have begun them. The next call starts it
/// anew: at once the first time, then not before 0.1 s, 0.2 s and so on up to 30 s have passed since its last start, and at once
/// again when ten seconds more than that have passed, whether or not it was up in them. Calls wait for that as long as they may
/// take, and one that has less time than that fails at once. A program has ended when its
/// process has, whoever else holds its streams. One that does not speak MCP again within
/// [`start_timeout`](ProcessLoader::start_timeout) is killed, and those who waited are told.
///
/// A program that answers nothing any more is started anew as well: when a call was given up, a ping sent then is not answered
/// for five seconds, nor any call since, and none is under way that was sent before it, since a program may do one thing after
/// the other.
///
/// # Tools that come and go
/// A server that says `tools/list_changed`, or has other tools once it was started anew, is asked for its tools, and its plugins
/// are replaced as in a reload, while it runs on. Where the new list cannot be used, the plugins stay and an event says why. A
/// server may change its tools 16 times, and then once a second: what comes more often is looked at once. It may have 1,024
/// tools, and 16 MiB of them.
///
/// # Progress and cancellation
/// `notifications/progress` is told to the caller, in order, as far as it grows. A call that is cancelled, times out or is dropped
/// is told to the server with `notifications/cancelled`.
///
/// # Contained, and not
/// Contained: crashes, loops, exits, silence, output without end (a message is read up to 16 MiB, and a longer one is dropped
/// and fails its call; of what it says to people, 200 lines are passed on, and then 50 a second), questions without end,
/// processes that it starts (the whole group is killed in the end, also when your service is killed: a shell that does nothing
/// else waits for that), and on Linux core files, files over 1 GiB, over 1,024 open files, and memory and processes, where
/// [`memory`](ProcessLoader::memory) or `memory_bytes` of `plugin.toml`, and [`processes`](ProcessLoader::processes) say how much;
/// [row by row](crate#what-a-plugin-can-do-to-your-service).
///
/// Not contained: it may do what the user may that your service runs as, files and network included; a process that leaves its
/// group is not found again; it may use all of the processor; what it starts before the limits are set, a moment after it, has
/// none; an answer that is not JSON is passed over, so that its call ends with its deadline.
#[derive(Clone)]
#[must_use]
pub struct ProcessLoader {
    env: BTreeMap<String, String>,
    limits: Limits,
    patience: Duration,
    #[cfg(unix)]
    guard: Arc<self::guard::Guard>,
}

/// Without the values of the environment, which may be secrets.
impl fmt::Debug for ProcessLoader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessLoader")
            .field("env", &self.env.keys())
            .field("limits", &self.limits)
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}

/// What a program may use of the machine.
#[derive(Debug, Clone)]
struct Limits {
    memory: Option<u64>,
    processes: Option<u64>,
    file: u64,
    descriptors: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { memory: None, processes: None, file: 1024 * 1024 * 1024, descriptors: 1024 }
    }
}

impl Default for ProcessLoader {
    fn default() -> Self {
        ProcessLoader::new()
    }
}

impl ProcessLoader {
    /// A loader with the environment described above.
    pub fn new() -> Self {
        ProcessLoader {
            env: BTreeMap::new(),
            limits: Limits::default(),
            patience: Duration::from_secs(10),
            #[cfg(unix)]
            guard: Arc::default(),
        }
    }

    /// Sets a variable of the environment of all programs.
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// How many bytes of address space a program may have; `memory_bytes` under `[limits]` of `plugin.toml` may say less.
    /// Programs of some runtimes, such as Node.js, reserve far more than they use. Linux only.
    pub fn memory(mut self, bytes: u64) -> Self {
        self.limits.memory = Some(bytes);
        self
    }

    /// How many processes and threads the user may have for a program to start another. All of the user's count, your
    /// service's included, and none of it holds for `root`. Linux only.
    pub fn processes(mut self, count: u64) -> Self {
        self.limits.processes = Some(count);
        self
    }

    /// How long a program that is started anew may take until it speaks MCP. 10 s. At first it may take as long as a load:
    /// [`load_timeout`](crate::PluginManagerBuilder::load_timeout).
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.patience = timeout;
        self
    }

    fn program(&self, found: &Found) -> Result<Program, PluginError> {
        let copy = found.copy();
        let folder = if copy.is_dir() { copy } else { copy.parent().unwrap_or(copy) };
        let (program, args) = match found.command().split_first() {
            None if copy.is_dir() => {
                return Err(PluginError::new(
                    "plugin.toml has no command: name a file of its folder, or a program on the PATH",
                ));
            }
            None => (copy.to_owned(), Vec::new()),
            Some((first, rest)) => (resolved(found, first)?, rest.to_vec()),
        };
        let mut limits = self.limits.clone();
        if let Some(asked) = found.manifest().build()?.limits().memory_bytes {
            if !cfg!(target_os = "linux") {
                return Err(PluginError::new("memory_bytes of a program holds on Linux only: take it out"));
            }
            let asked = u64::try_from(asked).unwrap_or(u64::MAX);
            match limits.memory {
                Some(given) if given < asked => return Err(too_much_memory(asked, given)),
                _ => limits.memory = Some(asked),
            }
        }
        let name = found.path().file_name().unwrap_or_default().to_string_lossy().escape_debug().to_string();
        Ok(Program {
            name,
            program,
            args,
            folder: folder.to_owned(),
            env: self.env.clone(),
            limits,
            patience: self.patience,
            #[cfg(unix)]
            guard: self.guard.clone(),
        })
    }
}

fn resolved(found: &Found, program: &str) -> Result<PathBuf, PluginError> {
    let path = Path::new(program);
    match found.commanded(program) {
        // Of the machine, as who wrote it down knows it.
        _ if path.is_absolute() => Ok(path.to_owned()),
        Err(_) if path.file_name() == Some(path.as_os_str()) => Ok(path.to_owned()),
        outcome => outcome,
    }
}

#[async_trait]
impl Loader for ProcessLoader {
    fn kind(&self) -> &str {
        "process"
    }

    async fn load(&self, found: &Found) -> Result<Load, PluginError> {
        // Held as long as the program may be started again.
        let server = Arc::new(Server::start(self.program(found)?, found.clone()).await?);
        let made = match server.tools().await {
            Ok(tools) => plugins(&server, found, &tools).map(|plugins| (plugins, tools)),
            Err(failure) => Err(failure),
        };
        match made {
            Ok((plugins, tools)) => {
                Ok(Load::new(plugins).followed_by(successors(server, found.clone(), tools)))
            }
            Err(failure) => {
                server.stop().await;
                Err(failure)
            }
        }
    }
}

fn plugins(server: &Arc<Server>, found: &Found, tools: &[Tool]) -> Result<Vec<Arc<dyn Plugin>>, PluginError> {
    if tools.is_empty() {
        return Err(PluginError::new("the server has no tools"));
    }
    let manifests: Vec<Manifest> =
        tools.iter().map(|tool| manifest(found.manifest(), tool)).collect::<Result<_, _>>()?;
    let plugin = |(manifest, tool): (Manifest, &Tool)| {
        let user = User::of(server.clone());
        Arc::new(ToolPlugin { manifest, tool: tool.name.to_string(), user }) as Arc<dyn Plugin>
    };
    Ok(manifests.into_iter().zip(tools).map(plugin).collect())
}

/// What the tools of a server become, until it is stopped.
fn successors(
    server: Arc<Server>,
    found: Found,
    tools: Vec<Tool>,
) -> impl Stream<Item = Result<Vec<Arc<dyn Plugin>>, PluginError>> + Send {
    /// A server may change its tools so often, and then once a second.
    const CHANGES: u32 = 16;
    let brake = Brake::new(CHANGES, Duration::from_secs(1));
    stream::unfold((server, found, tools, brake), |(server, found, mut tools, mut brake)| async move {
        loop {
            let made = match server.changed_tools(&mut brake).await? {
                Ok(now) if now == tools => continue,
                Ok(now) => {
                    let made = plugins(&server, &found, &now);
                    tools = now;
                    made
                }
                Err(failure) => Err(failure),
            };
            return Some((made, (server, found, tools, brake)));
        }
    })
}

/// What the server says of a tool, with what `plugin.toml` says of the server.
fn manifest(base: ManifestBuilder, tool: &Tool) -> Result<Manifest, PluginError> {
    let description = legible(tool.description.as_deref().unwrap_or_default());
    let mut schema = Value::Object((*tool.input_schema).clone());
    if schema.get("type").is_none() {
        schema["type"] = json!("object");
    }
    Ok(base.name(tool.name.as_ref()).description(description).parameters(schema).bounded_params().build()?)
}

/// What a program says to people, without what a terminal would obey.
fn legible(text: &str) -> String {
    let plain = |c: char| if c.is_control() && c != '\n' && c != '\t' { ' ' } else { c };
    text.chars().map(plain).take(4096).collect()
}

/// One tool of a server.
struct ToolPlugin {
    manifest: Manifest,
    tool: String,
    user: User,
}

#[async_trait]
impl Plugin for ToolPlugin {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    async fn execute(&self, params: Value, cx: &CallContext) -> Result<Value, PluginError> {
        let Value::Object(arguments) = params else {
            return Err(PluginError::new("parameters are not an object"));
        };
        answer(self.user.server().call(&self.tool, &arguments, cx).await?)
    }

    async fn check(&self) -> Result<(), PluginError> {
        self.user.server().ping().await
    }

    async fn cleanup(&self) -> Result<(), PluginError> {
        self.user.end().await;
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
            legible(&said.join("\n"))
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
