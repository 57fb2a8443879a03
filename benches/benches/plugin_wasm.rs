//! Components of swarm-plugin beside bare wasmtime, in one run.
//!
//! `cargo bench -p swarm-benches --features wasm --bench plugin_wasm`, and the names of parts to run only those.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench")]

use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use swarm_benches::measure::wall;
use swarm_benches::session::{Contender, Session};
use swarm_benches::table::{HEADER, Row, Target, Unit};
use swarm_plugin::{CallOptions, ErrorKind, PluginManager, WasmLoader};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};
use wasmtime::component::{Component, ComponentType, InstancePre, Lift, Linker, TypedFunc};
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig, Store};

const UNRULY: &str = include_str!("../../swarm-plugin/tests/guests/unruly.wat");

/// Answers its parameters.
fn component() -> Vec<u8> {
    let text = UNRULY
        .replace("<about>", &"\\00".repeat(32))
        .replace("<tool>", "swarm:plugin/tool@0.1.0")
        .replace("<texts>", "")
        .replace("<lifecycle>", "")
        .replace("<save>", "")
        .replace("<cleanup>", "")
        .replace("<describe>", "");
    wat::parse_str(text).unwrap()
}

#[derive(ComponentType, Lift)]
#[component(record)]
struct Failure {
    message: String,
    temporary: bool,
}

type Execute = TypedFunc<(String,), (Result<String, Failure>,)>;

/// wasmtime and nothing else: no deadline, no limit, no host.
struct Bare {
    engine: Engine,
    pre: InstancePre<()>,
}

impl Bare {
    fn new() -> Bare {
        let mut config = Config::new();
        let mut pool = PoolingAllocationConfig::new();
        pool.total_core_instances(4096).table_elements(100_000);
        config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
        let engine = Engine::new(&config).unwrap();
        let component = Component::from_binary(&engine, &component()).unwrap();
        let mut linker = Linker::new(&engine);
        linker.define_unknown_imports_as_traps(&component).unwrap();
        Bare { pre: linker.instantiate_pre(&component).unwrap(), engine }
    }

    fn instance(&self) -> (Store<()>, Execute) {
        let mut store = Store::new(&self.engine, ());
        let made = self.pre.instantiate(&mut store).unwrap();
        let tool = made.get_export_index(&mut store, None, "swarm:plugin/tool@0.1.0").unwrap();
        let execute = made.get_export_index(&mut store, Some(&tool), "execute").unwrap();
        let execute = made.get_typed_func(&mut store, execute).unwrap();
        (store, execute)
    }
}

fn answer(store: &mut Store<()>, execute: &Execute, params: String) -> String {
    let (answer,) = execute.call(store, (params,)).unwrap();
    answer.unwrap_or_else(|failure| panic!("{} {}", failure.message, failure.temporary))
}

fn through_json(store: &mut Store<()>, execute: &Execute, value: &Value) -> Value {
    serde_json::from_str(&answer(store, execute, value.to_string())).unwrap()
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_time().build().unwrap()
}

/// About 100 bytes, and about 9 KB in 100 records. The component answers what does not have a letter of its own as the eighth.
fn payloads() -> [(&'static str, Value); 2] {
    let record = |at: usize| json!({"id": at, "path": format!("src/module_{at}/lib.rs"), "score": 0.82, "tags": ["a", "b"]});
    let large: Vec<Value> = (0..100).map(record).collect();
    [
        ("100 B", json!({"file": "src/lib.rs", "mode": "deep", "limit": 10, "text": "x".repeat(40)})),
        ("9 KB", json!({ "records": large })),
    ]
}

async fn manager(loader: WasmLoader) -> (TempDir, PluginManager) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("unruly.wasm"), component()).unwrap();
    let builder = PluginManager::builder().folder(folder.path()).settle(Duration::ZERO);
    let plugins = builder.loader(loader).start().await.unwrap();
    assert_eq!(plugins.list().len(), 1);
    (folder, plugins)
}

fn main() {
    let session = Session::from_env();
    if matches!(session, Session::Table(_)) {
        println!("{HEADER}");
    }
    let parts: [(&str, fn(&Session)); 4] =
        [("warm", warm), ("fresh", fresh), ("load", load), ("runaway", runaway)];
    for (name, part) in parts {
        if session.wants(name) {
            part(&session);
        }
    }
}

fn print(
    session: &Session,
    what: String,
    times: &[(&'static str, Duration)],
    target: impl Fn(f64) -> Option<f64>,
) {
    let [(_, ours), peers @ ..] = times else { return };
    let peers: Vec<_> = peers.iter().map(|(name, time)| (*name, time.as_secs_f64())).collect();
    let limit = peers.first().and_then(|(_, time)| target(*time));
    let targets = session.pick(vec![], limit.map(Target::AtMost).into_iter().collect());
    println!("{}", Row { what, unit: Unit::Seconds, ours: Some(ours.as_secs_f64()), peers, targets });
}

fn ours(loader: WasmLoader, payload: &Value, calls: u32) -> Duration {
    let runtime = runtime();
    let (_folder, plugins) = runtime.block_on(manager(loader));
    let mut value = payload.clone();
    let took = wall(|| {
        runtime.block_on(async {
            for _ in 0..calls {
                value = plugins.call("unruly", std::mem::take(&mut value)).await.unwrap();
            }
        });
    });
    assert_eq!(value, *payload);
    took / calls
}

/// A call of an instance that is there, through the manager and with its JSON written and read.
fn warm(session: &Session) {
    let calls: u32 = session.pick(10, 20_000);
    for (name, payload) in payloads() {
        let json = || {
            let bare = Bare::new();
            let (mut store, execute) = bare.instance();
            let mut value = payload.clone();
            let took = wall(|| {
                for _ in 0..calls {
                    value = through_json(&mut store, &execute, &value);
                }
            });
            assert_eq!(value, payload);
            took / calls
        };
        let text = || {
            let bare = Bare::new();
            let (mut store, execute) = bare.instance();
            let mut text = payload.to_string();
            let took = wall(|| {
                for _ in 0..calls {
                    text = answer(&mut store, &execute, std::mem::take(&mut text));
                }
            });
            took / calls
        };
        let what = format!("component, warm call, {name}");
        let contenders = [
            Contender::new("ours", || ours(WasmLoader::new(), &payload, calls)),
            Contender::new("wasmtime, with the JSON", json),
            Contender::new("wasmtime, text only", text),
        ];
        print(session, what.clone(), &session.measure(&what, 5, 5, &contenders), |bare| Some(1.3 * bare));
    }
}

/// The same with an instance for each call.
fn fresh(session: &Session) {
    let calls: u32 = session.pick(10, 10_000);
    for (name, payload) in payloads() {
        let bare = || {
            let bare = Bare::new();
            let mut value = payload.clone();
            let took = wall(|| {
                for _ in 0..calls {
                    let (mut store, execute) = bare.instance();
                    value = through_json(&mut store, &execute, &value);
                }
            });
            assert_eq!(value, payload);
            took / calls
        };
        let what = format!("component, new instance, {name}");
        let contenders = [
            Contender::new("ours", || ours(WasmLoader::new().warm(0), &payload, calls)),
            Contender::new("wasmtime, pooling, with the JSON", bare),
        ];
        print(session, what.clone(), &session.measure(&what, 5, 5, &contenders), |bare| Some(1.3 * bare));
    }
}

/// From the file's change to the new version in place, without the time to settle.
fn load(session: &Session) {
    let loads: u32 = session.pick(2, 50);
    // Of as many different components as said, one after the other and again.
    let reloads = |loader: WasmLoader, different: u32| {
        let runtime = runtime();
        runtime.block_on(async {
            let (folder, plugins) = manager(loader).await;
            let path = folder.path().join("unruly.wasm");
            let mut took = Duration::ZERO;
            for load in 0..different + loads {
                replace(&path, load % different);
                let begun = std::time::Instant::now();
                plugins.rescan().await;
                if load >= different {
                    took += begun.elapsed();
                }
            }
            assert!(plugins.get("unruly").unwrap().generation() > u64::from(loads));
            took / loads
        })
    };
    let bare = || {
        let bare = Bare::new();
        let bytes = component();
        wall(|| {
            for _ in 0..loads {
                Component::from_binary(&bare.engine, &bytes).unwrap();
            }
        }) / loads
    };
    let cached = || {
        let cache = tempfile::tempdir().unwrap();
        reloads(WasmLoader::new().cache(cache.path().join("compiled")), 2)
    };
    let what = "component, reload, compiled";
    let contenders = [
        Contender::new("ours", || reloads(WasmLoader::new(), 2)),
        Contender::new("wasmtime, to compile it", bare),
    ];
    let limit = |_| Some(Duration::from_millis(110).as_secs_f64());
    print(session, what.into(), &session.measure(what, 5, 3, &contenders), limit);
    let what = "component, reload, of the cache";
    let contenders = [Contender::new("ours", cached), Contender::new("wasmtime, to compile it", bare)];
    let limit = |_| Some(Duration::from_millis(10).as_secs_f64());
    print(session, what.into(), &session.measure(what, 5, 3, &contenders), limit);
}

fn replace(path: &Path, version: u32) {
    let next = path.with_extension("tmp");
    let mut bytes = component();
    // A section that nobody reads: its kind, its size, and its name with the length of that.
    bytes.extend([0, 6, 1, b'v']);
    bytes.extend(version.to_le_bytes());
    std::fs::write(&next, bytes).unwrap();
    std::fs::rename(next, path).unwrap();
}

/// A loop with a deadline of 10 ms.
fn runaway(session: &Session) {
    let calls: u32 = session.pick(2, 20);
    let ours = || {
        let runtime = runtime();
        let (_folder, plugins) = runtime.block_on(manager(WasmLoader::new()));
        let took = wall(|| {
            runtime.block_on(async {
                for _ in 0..calls {
                    let options = CallOptions::new().timeout(Duration::from_millis(10));
                    let ended = plugins.call_with("unruly", json!({"do": "loop"}), options).await;
                    assert_eq!(ended.unwrap_err().kind(), ErrorKind::TimedOut);
                }
            });
        });
        took / calls
    };
    let what = "component, a loop with a deadline of 10 ms";
    let times = session.measure(what, 5, 3, &[Contender::new("ours", ours)]);
    let [(_, took)] = times[..] else { return };
    let targets = session.pick(vec![], vec![Target::AtMost(0.012)]);
    let what = what.to_owned();
    println!("{}", Row { what, unit: Unit::Seconds, ours: Some(took.as_secs_f64()), peers: vec![], targets });
}
