//! What all components of a loader share: the engine, what they may import, places for instances, the ticks.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::thread::{self, Thread};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use wasmtime::component::{ComponentType, Lift, Linker};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, StoreContextMut};

use super::guest::Room;
use super::limiter::TABLE_ELEMENTS;
use super::lines::plain;
use super::warm::Warm;
use crate::call::Progress;
use crate::plugin::PluginError;

/// How long code of a component runs before it lets others run.
pub(super) const TICK: Duration = Duration::from_millis(1);
/// How long the ticks go on after the last call.
const QUIET: Duration = Duration::from_secs(1);
const INTERFACE: &str = "swarm:plugin/host@0.1.0";

/// Of one component: components of other languages are linked from several modules.
const MODULES: u32 = 64;
const MEMORIES: u32 = 2;
const TABLES: u32 = 16;

pub(super) struct Host {
    pub(super) engine: Engine,
    pub(super) linker: Linker<Room>,
    idle: Duration,
    slots: Arc<Semaphore>,
    /// Who waits for a slot.
    waiting: AtomicUsize,
    /// Instances that nobody uses, by plugin.
    warm: Mutex<Vec<Weak<Warm>>>,
    running: AtomicUsize,
    parked: AtomicBool,
    ticker: OnceLock<Thread>,
}

impl Host {
    /// # Errors
    /// Where the system does not give the address space, or the thread.
    pub(super) fn start(instances: u32, memory: usize, idle: Duration) -> Result<Arc<Host>, PluginError> {
        let failed = |error: wasmtime::Error| PluginError::new(format_args!("there is no engine: {error:#}"));
        let engine = engine(instances, memory).map_err(failed)?;
        let host = Arc::new(Host {
            linker: linker(&engine).map_err(failed)?,
            engine,
            idle,
            slots: Arc::new(Semaphore::new(instances as usize)),
            waiting: AtomicUsize::new(0),
            warm: Mutex::default(),
            running: AtomicUsize::new(0),
            parked: AtomicBool::new(false),
            ticker: OnceLock::new(),
        });
        let of = Arc::downgrade(&host);
        let ticker = thread::Builder::new().name("swarm-plugin-wasm".into()).spawn(move || tick(&of))?;
        let _ = host.ticker.set(ticker.thread().clone());
        Ok(host)
    }

    /// Has the ticks go on while code of a component runs.
    pub(super) fn run(&self) -> Running<'_> {
        self.running.fetch_add(1, SeqCst);
        if self.parked.load(SeqCst) && self.parked.swap(false, SeqCst) {
            self.wake();
        }
        Running(self)
    }

    fn wake(&self) {
        if let Some(ticker) = self.ticker.get() {
            ticker.unpark();
        }
    }

    /// A place for one more instance. Where there is none, an instance that nobody uses gives way.
    pub(super) async fn slot(&self) -> Result<OwnedSemaphorePermit, PluginError> {
        if let Ok(slot) = self.slots.clone().try_acquire_owned() {
            return Ok(slot);
        }
        self.waiting.fetch_add(1, SeqCst);
        let _waiting = Waiting(self);
        // After it was said that somebody waits: who gives an instance back from now on, sees it.
        self.give_way();
        Ok(self.slots.clone().acquire_owned().await?)
    }

    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.load(SeqCst) > 0
    }

    /// Drops an instance that nobody uses.
    pub(super) fn give_way(&self) {
        let _ = self.pools().iter().find_map(|warm| warm.take());
    }

    pub(super) fn add(&self, warm: &Arc<Warm>) {
        let mut all = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|warm| warm.strong_count() > 0);
        all.push(Arc::downgrade(warm));
    }

    fn pools(&self) -> Vec<Arc<Warm>> {
        let all = self.warm.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().filter_map(Weak::upgrade).collect()
    }

    /// Drops what was not used for long, and answers how many instances are left that are not used.
    fn sweep(&self, now: Instant) -> usize {
        // A clock that began to count less than that ago knows of nothing older.
        let before = now.checked_sub(self.idle);
        let left = |warm: &Arc<Warm>| before.map_or_else(|| warm.len(), |before| warm.sweep(before));
        self.pools().iter().map(left).sum()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.wake();
    }
}

/// As long as it is held, the ticks go on.
pub(super) struct Running<'h>(&'h Host);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

struct Waiting<'h>(&'h Host);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, SeqCst);
    }
}

/// Ends with the host, and rests while nothing runs.
fn tick(of: &Weak<Host>) {
    let begun = Instant::now();
    let (mut active, mut swept) = (begun, begun);
    while let Some(host) = of.upgrade() {
        host.engine.increment_epoch();
        let now = Instant::now();
        if host.running.load(SeqCst) > 0 {
            active = now;
        }
        if now.saturating_duration_since(active) < QUIET {
            if now.saturating_duration_since(swept) >= QUIET {
                host.sweep(now);
                swept = now;
            }
            drop(host);
            thread::sleep(TICK);
            continue;
        }
        let idle = host.sweep(now);
        host.parked.store(true, SeqCst);
        // Who begins to run from here on sees that it is parked; who began before is seen here.
        let rests = host.running.load(SeqCst) == 0;
        drop(host);
        if rests && idle > 0 {
            thread::park_timeout(QUIET);
        } else if rests {
            thread::park();
        }
        let Some(host) = of.upgrade() else { return };
        let woken = !host.parked.swap(false, SeqCst);
        if woken {
            active = Instant::now();
        }
    }
}

fn engine(instances: u32, memory: usize) -> wasmtime::Result<Engine> {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(MODULES))
        .max_core_instances_per_component(MODULES)
        .total_memories(instances.saturating_mul(MEMORIES))
        .max_memories_per_component(MEMORIES)
        .max_memory_size(memory)
        .total_tables(instances.saturating_mul(TABLES))
        .max_tables_per_component(TABLES)
        .table_elements(TABLE_ELEMENTS)
        .total_stacks(instances.saturating_mul(2));
    let mut config = Config::new();
    config.epoch_interruption(true).allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    Engine::new(&config)
}

#[derive(Debug, Clone, Copy, ComponentType, Lift)]
#[component(enum)]
#[repr(u8)]
#[expect(dead_code, reason = "lifted from what a component passes")]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
}

fn linker(engine: &Engine) -> wasmtime::Result<Linker<Room>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    let mut own = linker.instance(INTERFACE)?;
    own.func_wrap("log", |store: StoreContextMut<'_, Room>, (level, message): (Level, String)| {
        if let Some(plugin) = store.data().lines.next() {
            let message = plain(&message);
            match level {
                Level::Trace => tracing::trace!(target: "swarm_plugin::wasm", plugin, "{message}"),
                Level::Debug => tracing::debug!(target: "swarm_plugin::wasm", plugin, "{message}"),
                Level::Info => tracing::info!(target: "swarm_plugin::wasm", plugin, "{message}"),
                Level::Warn => tracing::warn!(target: "swarm_plugin::wasm", plugin, "{message}"),
                Level::Error => tracing::error!(target: "swarm_plugin::wasm", plugin, "{message}"),
            }
        }
        Ok(())
    })?;
    type Told = (f64, Option<f64>, Option<String>);
    own.func_wrap("progress", |store: StoreContextMut<'_, Room>, (done, total, message): Told| {
        if let Some(caller) = &store.data().caller {
            caller.progress(Progress { done, total, message: message.as_deref().map(plain) });
        }
        Ok(())
    })?;
    Ok(linker)
}
