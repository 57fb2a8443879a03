//! A library in C that gives back what it gets: called through the manager, and bare.

use std::ffi::c_void;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use libloading::Library;
use serde_json::Value;
use swarm_benches::measure::wall;
use swarm_benches::session::{Contender, Session};
use swarm_benches::table::{Row, Target, Unit};
use swarm_plugin::{NativeLoader, PluginManager};
use tempfile::TempDir;

/// What the JSON text of a value costs both, and then the call.
pub(crate) fn call(session: &Session) {
    let calls: u32 = session.pick(10, 20_000);
    let (Some(inline), Some(plain)) = (build("SWARM_INLINE"), build("0")) else {
        println!("left out: rows of native plugins need the program `cc`, which is not here");
        return;
    };
    for (name, payload) in super::payloads() {
        let hosted = |library: &[u8]| {
            let runtime = super::runtime();
            let (_root, plugins) = runtime.block_on(host(library));
            super::each_call(&runtime, &plugins, &payload, calls)
        };
        let bare = || {
            // As in any service: in a process of one thread, the allocator of glibc takes no lock.
            std::thread::spawn(std::thread::park);
            let bare = Bare::load(&plain);
            let mut value = payload.clone();
            let took = wall(|| {
                for _ in 0..calls {
                    value = bare.call(&std::mem::take(&mut value));
                }
            });
            assert_eq!(value, payload);
            took / calls
        };
        let blocking = || {
            let runtime = super::runtime();
            let bare = std::sync::Arc::new(Bare::load(&plain));
            let mut value = payload.clone();
            let took = wall(|| {
                runtime.block_on(async {
                    for _ in 0..calls {
                        let (bare, params) = (bare.clone(), std::mem::take(&mut value));
                        value = tokio::task::spawn_blocking(move || bare.call(&params)).await.unwrap();
                    }
                });
            });
            assert_eq!(value, payload);
            took / calls
        };
        let what = format!("native call inline, {name}");
        let contenders = [Contender::new("ours", || hosted(&inline)), Contender::new("C function", bare)];
        if let [(_, ours), (peer, bare)] = session.measure(&what, 7, 5, &contenders)[..] {
            let limit = bare + Duration::from_nanos(150);
            let targets = session.pick(vec![], vec![Target::AtMost(limit.as_secs_f64())]);
            let peers = vec![(peer, bare.as_secs_f64())];
            println!("{}", Row { what, unit: Unit::Seconds, ours: Some(ours.as_secs_f64()), peers, targets });
        }
        let what = format!("native call on a thread, {name}");
        let contenders = [
            Contender::new("ours", || hosted(&plain)),
            Contender::new("C function in spawn_blocking", blocking),
        ];
        if let [(_, ours), (peer, theirs)] = session.measure(&what, 7, 5, &contenders)[..] {
            let peers = vec![(peer, theirs.as_secs_f64())];
            let ours = Some(ours.as_secs_f64());
            println!("{}", Row { what, unit: Unit::Seconds, ours, peers, targets: vec![] });
        }
    }
}

/// From a file that was renamed into a watched folder to the version that serves: the 99th percentile.
pub(crate) fn reload(session: &Session) {
    if matches!(session, Session::Repetition { .. }) {
        return;
    }
    let Some(library) = build("SWARM_INLINE") else { return };
    let count: usize = session.pick(2, 100);
    let took: Vec<Duration> = super::runtime().block_on(async {
        let (root, plugins) = host(&library).await;
        let mut events = plugins.events();
        let mut took = Vec::new();
        for at in 1..=count {
            let version = format!("1.0.{}", 100_000 + at);
            let next = replaced(&library, b"1.0.100000", version.as_bytes());
            let begun = install(root.path(), &next);
            super::activated(&mut events, &version).await;
            plugins.call("echo", Value::Null).await.unwrap();
            took.push(begun.elapsed());
        }
        plugins.shutdown().await;
        took
    });
    super::print_answering(session, "native", took);
}

async fn host(library: &[u8]) -> (TempDir, PluginManager) {
    let root = tempfile::tempdir().unwrap();
    install(root.path(), library);
    // SAFETY: the folder holds `echo.c` only, which keeps to the header.
    let loader = unsafe { NativeLoader::new() };
    let plugins = PluginManager::builder().folder(root.path()).loader(loader).watch().start().await.unwrap();
    assert_eq!(plugins.list().len(), 1);
    (root, plugins)
}

fn install(root: &Path, library: &[u8]) -> Instant {
    std::fs::write(root.join(".next"), library).unwrap();
    let begun = Instant::now();
    std::fs::rename(root.join(".next"), root.join("echo.so")).unwrap();
    begun
}

fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).position(|window| window == from).unwrap();
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

/// So many bytes, as `swarm_plugin.h` has it.
#[repr(C)]
struct Bytes {
    data: *const u8,
    len: usize,
}

type Write = unsafe extern "C" fn(*mut c_void, *const u8, usize);
type Function = unsafe extern "C" fn(Bytes, Write, *mut c_void);

/// Builds it with `cc`; `None` where there is none.
fn build(flags: &str) -> Option<Vec<u8>> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("echo.so");
    let run = Command::new("cc")
        .args(["-O2", "-shared", "-fPIC", "-I"])
        .arg(here.join("../swarm-plugin/include"))
        .arg(format!("-DFLAGS={flags}"))
        .arg("-o")
        .arg(&out)
        .arg(here.join("assets/echo.c"))
        .status();
    assert!(run.ok()?.success());
    Some(std::fs::read(out).unwrap())
}

/// The bare function of the library.
struct Bare {
    function: Function,
    _library: Library,
}

impl Bare {
    /// Loads a library that [`build`] made.
    fn load(library: &[u8]) -> Bare {
        let scratch = tempfile::tempdir().unwrap();
        let file = scratch.path().join("bare.so");
        std::fs::write(&file, library).unwrap();
        // SAFETY: it is `echo.c`, which runs nothing when it is loaded.
        let library = unsafe { Library::new(&file) }.unwrap();
        // SAFETY: this is what it says there.
        let function = *unsafe { library.get::<Function>("bare_echo") }.unwrap();
        Bare { function, _library: library }
    }

    /// Writes a value as JSON, calls the function, and reads what it answers.
    fn call(&self, value: &Value) -> Value {
        unsafe extern "C" fn write(to: *mut c_void, data: *const u8, len: usize) {
            // SAFETY: `to` is the vector below, and there are so many bytes.
            unsafe { (*to.cast::<Vec<u8>>()).extend_from_slice(std::slice::from_raw_parts(data, len)) }
        }
        let bytes = serde_json::to_vec(value).unwrap();
        let mut answer: Vec<u8> = Vec::new();
        let params = Bytes { data: bytes.as_ptr(), len: bytes.len() };
        // SAFETY: all of it outlives the call.
        unsafe { (self.function)(params, write, (&raw mut answer).cast()) };
        serde_json::from_slice(&answer).unwrap()
    }
}
