//! A program that does harm in each way it can, and a service that goes on: what is contained, and what the caller is told.
//!
//! `cargo run --release -p swarm-examples --example 46_plugin_misbehaves`
//!
//! The program is a script in Python that does what it is told, however bad. It is called while another plugin is called
//! without a pause, of whose calls none fails, and it answers again after each deed: where it ended, it was started anew.
//! `44_plugin_wasm` shows the same of components; what each kind contains, and what it does not, stands on the crate page.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use swarm_examples::Scratch;
use swarm_plugin::{CallOptions, ErrorKind, FnPlugin, Manifest, PluginManager, ProcessLoader};

type Error = Box<dyn std::error::Error + Send + Sync>;

const UNRULY: &str = r#"#!/usr/bin/env python3
import json, os, subprocess, sys, threading

def do(what):
    if what == "loop":
        while True: pass
    if what == "exit": os._exit(0)
    if what == "abort": os.abort()
    if what == "memory": bytearray(1 << 40)
    if what == "pour":
        for _ in range(1024): sys.stdout.write("x" * (1 << 20))
        print()
    if what == "garbage": print("not JSON\n{}\n\x00\xff")
    if what == "shout": sys.stderr.write("\x1b[2Jx\n" * 100000)
    if what == "descriptors":
        while True: os.dup(0)
    if what == "children":
        for _ in range(8): subprocess.Popen(["sleep", "1000"])
    return what

def answer(ask):
    if ask["method"] == "initialize":
        return {"result": {"protocolVersion": ask["params"]["protocolVersion"], "capabilities": {"tools": {}},
                "serverInfo": {"name": "unruly", "version": "1.0.0"}}}
    if ask["method"] == "tools/list":
        return {"result": {"tools": [{"name": "unruly", "inputSchema": {"type": "object"}}]}}
    if ask["method"] != "tools/call":
        return {"result": {}}
    try:
        return {"result": {"content": [{"type": "text", "text": do(ask["params"]["arguments"].get("do", "nothing"))}]}}
    except BaseException as error:
        return {"error": {"code": -32603, "message": repr(error)}}

def serve(ask):
    print(json.dumps({"jsonrpc": "2.0", "id": ask["id"], **answer(ask)}), flush=True)

for line in sys.stdin:
    ask = json.loads(line)
    if "id" in ask:
        threading.Thread(target=serve, args=[ask], daemon=True).start()
"#;

#[tokio::main]
async fn main() -> Result<(), Error> {
    if std::process::Command::new("python3").arg("--version").output().is_err() {
        println!("left out: python3 is not here");
        return Ok(());
    }
    let root = Scratch::new("plugin-misbehaves")?;
    let script = root.as_ref().join("unruly.py");
    fs::write(&script, UNRULY)?;
    #[cfg(unix)]
    fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let loader = ProcessLoader::new().memory(1 << 30);
    let plugins = PluginManager::builder().folder(root.as_ref()).loader(loader).start().await?;
    let beside = Manifest::builder("beside", "1.0.0").build()?;
    plugins.register(FnPlugin::new(beside, |params: Value, _cx| async { Ok(params) })).await?;

    let over = Arc::new(AtomicBool::new(false));
    let caller = tokio::spawn({
        let (plugins, over) = (plugins.clone(), over.clone());
        async move {
            let (mut calls, mut slowest) = (0_u64, Duration::ZERO);
            while !over.load(SeqCst) {
                let begun = Instant::now();
                plugins.call("beside", json!({"call": calls})).await?;
                (calls, slowest) = (calls + 1, slowest.max(begun.elapsed()));
                tokio::task::yield_now().await;
            }
            Ok::<_, Error>((calls, slowest))
        }
    });

    for (deed, ends) in [
        ("loop", Some(ErrorKind::TimedOut)),
        ("exit", Some(ErrorKind::Failed)),
        ("abort", Some(ErrorKind::Failed)),
        ("memory", Some(ErrorKind::Failed)),
        ("pour", None),
        ("garbage", None),
        ("shout", None),
        ("children", None),
        ("descriptors", Some(ErrorKind::Failed)),
    ] {
        let wait = if deed == "loop" { Duration::from_millis(300) } else { Duration::from_secs(30) };
        let options = CallOptions::new().timeout(wait);
        let outcome = plugins.call_with("unruly", json!({ "do": deed }), options).await;
        match &outcome {
            Ok(answer) => println!("{deed:>12}: answers {answer}"),
            Err(error) => println!("{deed:>12}: {error}"),
        }
        assert_eq!(outcome.err().map(|error| error.kind()), ends, "{deed}");
        // As if nothing had been. One that ended is started again, after a moment where it ends often.
        plugins.call("unruly", json!({})).await?;
    }

    over.store(true, SeqCst);
    let (calls, slowest) = caller.await??;
    println!("{calls} calls of another plugin meanwhile, none failed, the slowest took {slowest:?}");
    assert!(calls > 0);
    // With the processes that it left.
    plugins.shutdown().await;
    Ok(())
}
