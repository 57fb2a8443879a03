//! The targets of swarm-plugin: ours beside the same call without a host, in one run.
//!
//! `cargo bench -p swarm-benches --bench plugin_targets`, and the names of parts to run only those. Native libraries need
//! `--features native`, programs `--features process`.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench")]

#[cfg(feature = "native")]
#[path = "plugin_targets/native.rs"]
mod native;
#[cfg(all(feature = "process", unix))]
#[path = "plugin_targets/process.rs"]
mod process;

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use async_trait::async_trait;
#[cfg(any(feature = "native", feature = "process"))]
use futures::{Stream, StreamExt};
use serde_json::{Value, json};
use swarm_benches::measure::wall;
use swarm_benches::session::{Contender, Session};
use swarm_benches::table::{HEADER, Row, Target, Unit};
use swarm_plugin::{CallContext, Manifest, Plugin, PluginError, PluginManager};
#[cfg(any(feature = "native", feature = "process"))]
use swarm_plugin::{Event, EventKind};
use tokio::runtime::{Builder, Runtime};

/// Counts what is asked for, while anybody counts.
struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicU64 = AtomicU64::new(0);

// SAFETY: passes everything on to the system's allocator and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTS.load(Relaxed) {
            ASKED.fetch_add(1, Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Gives back what it gets.
struct Echo(Manifest);

#[async_trait]
impl Plugin for Echo {
    fn manifest(&self) -> &Manifest {
        &self.0
    }

    async fn execute(&self, params: Value, _cx: &CallContext) -> Result<Value, PluginError> {
        Ok(params)
    }
}

/// The same without a host.
#[async_trait]
trait Bare: Send + Sync {
    async fn execute(&self, params: Value) -> Result<Value, PluginError>;
}

struct BareEcho;

#[async_trait]
impl Bare for BareEcho {
    async fn execute(&self, params: Value) -> Result<Value, PluginError> {
        Ok(params)
    }
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// About 100 bytes, and about 9 KB in 100 records.
fn payloads() -> [(&'static str, Value); 2] {
    let record = |at: usize| json!({"id": at, "path": format!("src/module_{at}/lib.rs"), "score": 0.82, "tags": ["a", "b"]});
    let large: Vec<Value> = (0..100).map(record).collect();
    [
        ("100 B", json!({"file_path": "src/lib.rs", "mode": "deep", "limit": 10, "text": "x".repeat(40)})),
        ("9 KB", json!({ "records": large })),
    ]
}

async fn manager() -> PluginManager {
    let plugins = PluginManager::new();
    plugins.register(Echo(Manifest::builder("echo", "1.0.0").build().unwrap())).await.unwrap();
    plugins
}

fn main() {
    #[cfg(all(feature = "process", unix))]
    if let [_, what, version] = &std::env::args().collect::<Vec<_>>()[..]
        && what == process::SERVER
    {
        return process::serve(version);
    }
    let session = Session::from_env();
    if matches!(session, Session::Table(_)) {
        println!("{HEADER}");
    }
    let parts: &[(&str, fn(&Session))] = &[
        ("call", call),
        ("allocations", allocations),
        ("reloads", reloads),
        #[cfg(feature = "native")]
        ("native", native::call),
        #[cfg(feature = "native")]
        ("native-reload", native::reload),
        #[cfg(all(feature = "process", unix))]
        ("process", process::call),
        #[cfg(all(feature = "process", unix))]
        ("process-reload", process::reload),
    ];
    for (name, part) in parts {
        if session.wants(name) {
            part(&session);
        }
    }
}

/// How long a call takes of a plugin that answers what it is given, one after the other.
fn each_call(runtime: &Runtime, plugins: &PluginManager, payload: &Value, calls: u32) -> Duration {
    let mut value = payload.clone();
    let took = wall(|| {
        runtime.block_on(async {
            for _ in 0..calls {
                value = plugins.call("echo", std::mem::take(&mut value)).await.unwrap();
            }
        });
    });
    assert_eq!(value, *payload);
    took / calls
}

/// Lookup, guard, deadline, counters, bounds; the value goes in and comes back.
fn call(session: &Session) {
    let calls: u32 = session.pick(10, 200_000);
    for (name, payload) in payloads() {
        let ours = || {
            let runtime = runtime();
            let plugins = runtime.block_on(manager());
            each_call(&runtime, &plugins, &payload, calls)
        };
        let bare = || {
            let plugin: Box<dyn Bare> = black_box(Box::new(BareEcho));
            let mut value = payload.clone();
            let took = wall(|| {
                runtime().block_on(async {
                    for _ in 0..calls {
                        value = plugin.execute(std::mem::take(&mut value)).await.unwrap();
                    }
                });
            });
            assert_eq!(value, payload);
            took / calls
        };
        let what = format!("call in process, {name}");
        let contenders = [Contender::new("ours", ours), Contender::new("Box<dyn> with async_trait", bare)];
        let times = session.measure(&what, 7, 9, &contenders);
        let [(_, ours), (peer, bare)] = times[..] else { continue };
        let limit = bare + Duration::from_nanos(120);
        let targets = session.pick(vec![], vec![Target::AtMost(limit.as_secs_f64())]);
        let peers = vec![(peer, bare.as_secs_f64())];
        println!("{}", Row { what, unit: Unit::Seconds, ours: Some(ours.as_secs_f64()), peers, targets });
    }
}

/// Allocations a call, which the bare call has one of: the future that `async_trait` boxes.
fn allocations(session: &Session) {
    if matches!(session, Session::Repetition { .. }) {
        return;
    }
    const CALLS: u32 = 1000;
    let runtime = runtime();
    let plugins = runtime.block_on(manager());
    let plugin: Box<dyn Bare> = Box::new(BareEcho);
    let counted = |work: &dyn Fn()| {
        ASKED.store(0, Relaxed);
        COUNTS.store(true, Relaxed);
        work();
        COUNTS.store(false, Relaxed);
        ASKED.load(Relaxed) as f64 / f64::from(CALLS)
    };
    let ours = counted(&|| {
        runtime.block_on(async {
            for _ in 0..CALLS {
                black_box(plugins.call("echo", Value::Null).await.unwrap());
            }
        });
    });
    let bare = counted(&|| {
        runtime.block_on(async {
            for _ in 0..CALLS {
                black_box(plugin.execute(Value::Null).await.unwrap());
            }
        });
    });
    let row = Row {
        what: "allocations a call".into(),
        unit: Unit::Factor,
        ours: Some(ours),
        peers: vec![("Box<dyn> with async_trait", bare)],
        targets: vec![Target::AtMost(bare)],
    };
    println!("{row}");
}

/// The 99th percentile of callers' latency while the plugin is reloaded all the time, over that of quiet. No call fails.
fn reloads(session: &Session) {
    if matches!(session, Session::Repetition { .. }) {
        return;
    }
    let count: u32 = session.pick(3, 1000);
    let runtime = Builder::new_multi_thread().worker_threads(4).enable_time().build().unwrap();
    let plugins = runtime.block_on(manager());
    let quiet = runtime.block_on(latencies(&plugins, async || {
        tokio::time::sleep(Duration::from_millis(session.pick(1, 500))).await;
    }));
    let reloading = runtime.block_on(latencies(&plugins, async || {
        for at in 1..=count {
            let manifest = Manifest::builder("echo", format!("1.0.{at}")).build().unwrap();
            plugins.reload("echo", Echo(manifest)).await.unwrap();
        }
    }));
    let stats = *plugins.get("echo").unwrap().stats();
    assert_eq!((stats.failed, stats.cancelled), (0, 0));
    let worst = |latencies: &[u64]| latencies[latencies.len() * 99 / 100] as f64;
    println!(
        "{}",
        Row {
            what: format!("p99 of a call during {count} reloads over quiet, {} calls", stats.calls),
            unit: Unit::Factor,
            ours: Some(worst(&reloading) / worst(&quiet)),
            peers: vec![],
            targets: session.pick(vec![], vec![Target::AtMost(2.0)]),
        }
    );
}

/// How long calls of four callers take while something is done, in nanoseconds, in ascending order.
async fn latencies(plugins: &PluginManager, meanwhile: impl AsyncFnOnce()) -> Vec<u64> {
    let over = Arc::new(AtomicBool::new(false));
    let callers: Vec<_> = (0..4)
        .map(|_| {
            let (plugins, over) = (plugins.clone(), over.clone());
            tokio::spawn(async move {
                let mut seen = Vec::new();
                while !over.load(Relaxed) {
                    let begun = Instant::now();
                    plugins.call("echo", Value::Null).await.unwrap();
                    seen.push(begun.elapsed().as_nanos() as u64);
                    tokio::task::yield_now().await;
                }
                seen
            })
        })
        .collect();
    meanwhile().await;
    over.store(true, Relaxed);
    let mut all = Vec::new();
    for caller in callers {
        all.extend(caller.await.unwrap());
    }
    all.sort_unstable();
    all
}

/// Waits for a version to serve, and fails where one is refused.
#[cfg(any(feature = "native", feature = "process"))]
async fn activated(events: &mut (impl Stream<Item = Event> + Unpin), version: &str) {
    while let Some(event) = events.next().await {
        assert!(!matches!(event.kind, EventKind::Refused { .. }), "{event:?}");
        let is_it = event.version.is_some_and(|seen| seen.to_string() == version);
        if is_it && event.kind == EventKind::Activated {
            return;
        }
    }
}

/// The row of how long it took each time from a file that was closed to the version that answers.
#[cfg(any(feature = "native", feature = "process"))]
fn print_answering(session: &Session, kind: &str, mut took: Vec<Duration>) {
    const SETTLE: Duration = Duration::from_millis(50);
    took.sort_unstable();
    let worst = took[(took.len() * 99 / 100).min(took.len() - 1)];
    let limit = SETTLE + Duration::from_millis(10);
    let row = Row {
        what: format!("file closed to new version answering, {kind}, p99 of {}", took.len()),
        unit: Unit::Seconds,
        ours: Some(worst.as_secs_f64()),
        peers: vec![("time to settle", SETTLE.as_secs_f64())],
        targets: session.pick(vec![], vec![Target::AtMost(limit.as_secs_f64())]),
    };
    println!("{row}");
}
