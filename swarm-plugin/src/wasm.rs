//! WebAssembly components in a sandbox.

mod cache;
mod component;
mod guest;
mod host;
mod limiter;
mod lines;
mod sandbox;
mod warm;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::sync::OnceCell;

use self::cache::Cache;
use self::component::{Parts, Stateful, Stateless};
use self::guest::{About, Blueprint};
use self::host::Host;
use self::sandbox::{Offer, Sandbox};
use crate::call::blocking;
use crate::discovery::Found;
use crate::loader::{Load, Loader, too_much_memory};
use crate::manifest::{Access, Manifest, ManifestFile};
use crate::plugin::{Plugin, PluginError};

/// Loads `*.wasm` files and folders of the kind `wasm`: a WebAssembly component of the world `swarm:plugin`, which is
/// `wit/plugin.wit` of this crate.
///
/// Comes with the feature `wasm`, and is there without being asked for; give your own to
/// [`PluginManagerBuilder::loader`](crate::PluginManagerBuilder::loader) to offer more to plugins or to have other limits. Clones
/// share the engine and its instances, until something is set on one of them.
///
/// ```no_run
/// use swarm_plugin::{Access, PluginManager, WasmLoader};
///
/// # async fn start() -> Result<(), swarm_plugin::Error> {
/// let loader = WasmLoader::new().folder("data", "data", Access::Read).cache("cache/plugins");
/// let plugins = PluginManager::builder().folder("tools/plugins").loader(loader).start().await?;
/// # Ok(())
/// # }
/// ```
///
/// # What a component has
/// Memory and time within limits, a source of random numbers, and a place in the log: what it prints and logs goes to `tracing`,
/// target `swarm_plugin::wasm`, at most 1,000 lines a call. WASI 0.2 is there, so that Rust, Python, JavaScript and C run as
/// they are, and it is empty: no files, no environment, no arguments, no network, and a clock that stands still, although timers run. What `plugin.toml`
/// asks for under `[grants]` is added, if this loader offers it; else the plugin is refused.
///
/// # Names and versions
/// A file is called as the component says, which must be the name of the file; it need say neither, and has then version 0.0.0.
/// Of a folder with `plugin.toml`, the component is what `command` names, or else its only `*.wasm` file. Name and version there
/// must be what the component says, if it says any; for the rest, what stands there is stronger.
///
/// ```toml
/// name = "words"
/// version = "1.0.0"
/// kind = "wasm"
///
/// [grants]
/// folders = { data = "read", scratch = "write" } # seen as /data and /scratch
/// env = ["API_URL"]
/// clock = true
/// ```
///
/// # Calls
/// A component that keeps nothing serves any number of calls at the same time, each in an instance of its own. An instance
/// whose call ended is used again, so that what a call leaves in its memory may be seen by a later one of the same plugin;
/// [`warm(0)`](WasmLoader::warm) gives each call a fresh one.
///
/// A component that exports `lifecycle` has one instance, and calls wait for each other. Its state is what it tells after each
/// call. Where an instance traps, is cut off by a deadline or cannot tell its state, another takes its place with the state after
/// the last call that ended: a call that failed so has changed nothing. A state is JSON of up to 16 MiB.
///
/// Code of a component runs on the threads of the runtime, and lets others run each millisecond, but for one instruction on
/// all of its memory, or one call of the host, which it does not interrupt. A thread that makes these ticks
/// runs while calls do. A call that is cancelled, times out or is dropped ends at the next tick.
///
/// # Contained, and not
/// Contained: loops, traps and panics, exits, overflow of the stack, memory and tables without end, more than 256 open files
/// and other handles of an instance, answers that are large or no JSON, lies about name and version, a cleanup that never
/// returns, and any file that is no component; [row by row](crate#what-a-plugin-can-do-to-your-service). Not contained: how
/// long and with how much memory a component is compiled, up to the 256 MiB that its file may have; what it can learn by measuring time
/// where it has a clock; errors of the compiler. wasmtime handles the signals of the process that traps need.
#[derive(Debug, Clone)]
#[must_use]
pub struct WasmLoader {
    settings: Settings,
    shared: Arc<OnceCell<Arc<Shared>>>,
}

#[derive(Debug, Clone)]
struct Settings {
    memory: usize,
    instances: u32,
    warm: usize,
    idle: Duration,
    cache: Option<PathBuf>,
    offer: Offer,
}

struct Shared {
    host: Arc<Host>,
    cache: Option<Cache>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

const MIB: usize = 1024 * 1024;

impl Default for WasmLoader {
    fn default() -> Self {
        let settings = Settings {
            memory: 256 * MIB,
            instances: 64,
            warm: 8,
            idle: Duration::from_secs(60),
            cache: None,
            offer: Offer::default(),
        };
        WasmLoader { settings, shared: Arc::default() }
    }
}

impl WasmLoader {
    /// A loader that offers nothing, and has the limits described below.
    pub fn new() -> Self {
        WasmLoader::default()
    }

    /// Offers a folder under a name to plugins that ask for it. A plugin that asks sees it as `/name`, and nothing beside
    /// it, whatever links stand in it.
    pub fn folder(self, name: impl Into<String>, path: impl Into<PathBuf>, access: Access) -> Self {
        self.set(|to| to.offer.folders.insert(name.into(), (path.into(), access)))
    }

    /// Offers a variable of the environment to plugins that ask for it.
    pub fn env(self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.set(|to| to.offer.env.insert(name.into(), value.into()))
    }

    /// Offers the time to plugins that ask for it.
    pub fn clock(self) -> Self {
        self.set(|to| to.offer.clock = true)
    }

    /// The most memory of one instance, in bytes. 256 MiB. `memory_bytes` under `[limits]` of `plugin.toml` may say less.
    pub fn memory(self, bytes: usize) -> Self {
        self.set(|to| to.memory = bytes)
    }

    /// How many instances there are of all plugins together, of which each call needs one. 64. Calls wait for one.
    ///
    /// A plugin with state keeps one as long as it is loaded, and a reload of it needs another.
    ///
    /// Address space is taken for them at the first load: about 8 GiB each, of which none is used before it is needed.
    pub fn instances(self, count: u32) -> Self {
        self.set(|to| to.instances = count)
    }

    /// How many instances of one plugin are kept for later calls. 8.
    pub fn warm(self, count: usize) -> Self {
        self.set(|to| to.warm = count)
    }

    /// How long an instance is kept that nobody uses. A minute.
    pub fn idle(self, time: Duration) -> Self {
        self.set(|to| to.idle = time)
    }

    /// Keeps compiled components in a folder, so that they are loaded in a moment by the next process as well.
    ///
    /// The folder is made for this user alone, and is refused where others may use it: what stands in it becomes machine code.
    /// Each file is authenticated with a key that is kept there; one that was changed, or is of another version of this
    /// crate or another processor, is compiled anew. Nothing is ever removed from it.
    ///
    /// For Unix. Elsewhere it is not known who may use a folder, and a loader with a cache loads nothing.
    pub fn cache(self, folder: impl Into<PathBuf>) -> Self {
        self.set(|to| to.cache = Some(folder.into()))
    }

    /// An engine is shared only by loaders of which nothing was set since.
    fn set<T>(mut self, change: impl FnOnce(&mut Settings) -> T) -> Self {
        change(&mut self.settings);
        self.shared = Arc::default();
        self
    }

    /// The engine, made when the first component is loaded.
    async fn shared(&self) -> Result<Arc<Shared>, PluginError> {
        let start = || async {
            let Settings { memory, instances, idle, cache, .. } = self.settings.clone();
            blocking(move || {
                let cache = cache.map(|folder| {
                    Cache::open(&folder).map_err(|error| {
                        PluginError::new(format_args!(
                            "the cache {} cannot be used: {error}",
                            folder.display()
                        ))
                    })
                });
                let cache = cache.transpose()?;
                Ok(Arc::new(Shared { host: Host::start(instances, memory, idle)?, cache }))
            })
            .await?
        };
        self.shared.get_or_try_init(start).await.cloned()
    }

    async fn plugin(&self, found: &Found) -> Result<Arc<dyn Plugin>, PluginError> {
        let (shared, path) = (self.shared().await?, found.module()?);
        let host = shared.host.clone();
        let compiled = blocking(move || compile(&shared, &path)).await??;
        let declared = found.manifest().build()?;
        let memory = declared.limits().memory_bytes.unwrap_or(self.settings.memory);
        if memory > self.settings.memory {
            return Err(too_much_memory(memory, self.settings.memory));
        }
        let sandbox = Sandbox::new(declared.name(), memory, &found.grants(), &self.settings.offer)?;
        let (blueprint, lifecycle) = Blueprint::new(&host, &compiled, sandbox)?;
        let mut first = blueprint.instance(&host, host.slot().await?).await?;
        let about = first.describe(&host, &blueprint).await?;
        let manifest = manifest(found, &declared, about)?;
        let parts = Parts { manifest, host, blueprint };
        Ok(match lifecycle {
            Some(lifecycle) => Arc::new(Stateful::new(parts, lifecycle, first).await?),
            None => Arc::new(Stateless::new(parts, first, self.settings.warm)),
        })
    }
}

#[async_trait]
impl Loader for WasmLoader {
    fn kind(&self) -> &str {
        "wasm"
    }

    async fn load(&self, found: &Found) -> Result<Load, PluginError> {
        Ok(Load::new([self.plugin(found).await?]))
    }
}

fn compile(shared: &Shared, path: &Path) -> Result<wasmtime::component::Component, PluginError> {
    let bytes = fs::read(path).map_err(|error| {
        PluginError::new(format_args!("{}: {error}", path.file_name().unwrap_or_default().display()))
    })?;
    match bytes.first_chunk::<8>() {
        Some(b"\0asm\x01\0\0\0") => {
            return Err(PluginError::new(
                "it is a core module, not a component: build it for wasm32-wasip2, or make one with `wasm-tools component new`",
            ));
        }
        Some(start) if start.starts_with(b"\0asm") => {}
        _ => return Err(PluginError::new("it is not WebAssembly")),
    }
    let engine = &shared.host.engine;
    let compiled = match &shared.cache {
        Some(cache) => cache.component(engine, &bytes),
        None => wasmtime::component::Component::from_binary(engine, &bytes),
    };
    compiled.map_err(|error| PluginError::new(format_args!("it is not a valid component: {error:#}")))
}

/// What the component says of itself, below what `plugin.toml` says.
fn manifest(found: &Found, declared: &Manifest, about: About) -> Result<Manifest, PluginError> {
    let file = found.manifest_file();
    if file.is_none() && !about.name.is_empty() && about.name != declared.name() {
        return Err(PluginError::new(format_args!(
            "it calls itself {:?}, and its file is called {}: make them the same",
            about.name.chars().take(80).collect::<String>(),
            declared.name()
        )));
    }
    let or = |said: String, otherwise: &str| if said.is_empty() { otherwise.to_owned() } else { said };
    let mut said = json!({
        "name": or(about.name, declared.name()),
        "version": or(about.version, &declared.version().to_string()),
        "description": about.description,
    });
    if !about.parameters.is_empty() {
        said["parameters"] = serde_json::from_str(&about.parameters)
            .map_err(|error| PluginError::new(format_args!("its parameters are not JSON: {error}")))?;
    }
    let said = ManifestFile::told("wasm", said).map_err(PluginError::new)?;
    let file = match file {
        Some(file) => file.clone().over(said).map_err(PluginError::new)?,
        None => said,
    };
    Ok(file.builder().build()?)
}
