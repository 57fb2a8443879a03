//! A program that speaks MCP and gives back what it gets: called through the manager, through the client of
//! `rmcp`, and bare over the same pipes.

use std::io::{self, BufRead, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use rmcp::RoleClient;
use rmcp::model::{CallToolRequestParams, ClientConfig};
use rmcp::service::RunningService;
use serde_json::{Value, json};
use swarm_benches::measure::wall;
use swarm_benches::session::{Contender, Session};
use swarm_benches::table::{Row, Target, Unit};
use swarm_plugin::PluginManager;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::runtime::Runtime;

/// What this program is called with when it is to be the server.
pub(crate) const SERVER: &str = "--mcp-echo";

/// Is the server, of the version given.
pub(crate) fn serve(version: &str) {
    let mut out = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let mut ask: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let answer = match ask["method"].as_str() {
            Some("initialize") => json!({
                "protocolVersion": ask["params"]["protocolVersion"],
                "capabilities": {"tools": {}},
                "serverInfo": {"name": "echo", "version": version},
            }),
            Some("tools/list") => json!({"tools": [{"name": "echo", "inputSchema": {"type": "object"}}]}),
            Some("tools/call") => {
                json!({"content": [], "structuredContent": ask["params"]["arguments"].take()})
            }
            _ => json!({}),
        };
        if let Some(id) = ask.get("id") {
            let mut line =
                serde_json::to_vec(&json!({"jsonrpc": "2.0", "id": id, "result": answer})).unwrap();
            line.push(b'\n');
            out.write_all(&line).unwrap();
            out.flush().unwrap();
        }
    }
}

/// How long calls take in a task, as they are made in a service: what waits in `block_on` itself looks at the sockets twice a call.
fn timed(
    runtime: &Runtime,
    payload: &Value,
    calls: impl Future<Output = Value> + Send + 'static,
) -> Duration {
    let mut value = Value::Null;
    let took = wall(|| value = runtime.block_on(async { tokio::spawn(calls).await.unwrap() }));
    assert_eq!(value, *payload);
    took
}

/// One call after the other, and many at once.
pub(crate) fn call(session: &Session) {
    let calls: u32 = session.pick(4, 5_000);
    for (name, payload) in super::payloads() {
        let ours = || {
            let runtime = super::runtime();
            let (_root, plugins) = runtime.block_on(host());
            let (caller, mut value) = (plugins.clone(), payload.clone());
            let took = timed(&runtime, &payload, async move {
                for _ in 0..calls {
                    value = caller.call("echo", value).await.unwrap();
                }
                value
            });
            runtime.block_on(plugins.shutdown());
            took / calls
        };
        let bare = || {
            let runtime = super::runtime();
            let mut bare = runtime.block_on(async { Bare::start() });
            let mut value = payload.clone();
            let took = timed(&runtime, &payload, async move {
                for id in 0..calls {
                    value = bare.call(id, value).await;
                }
                value
            });
            took / calls
        };
        let what = format!("process call, {name}");
        let alone = || {
            let runtime = super::runtime();
            let (_child, client) = runtime.block_on(client());
            let mut value = payload.clone();
            let took = timed(&runtime, &payload, async move {
                for _ in 0..calls {
                    let Value::Object(arguments) = value else { panic!("no object") };
                    let params = CallToolRequestParams::new("echo").with_arguments(arguments);
                    value = client.call_tool(params).await.unwrap().structured_content.unwrap();
                }
                value
            });
            took / calls
        };
        let contenders = [
            Contender::new("ours", ours),
            Contender::new("bare pipe, same program", bare),
            Contender::new("rmcp's client alone", alone),
        ];
        if let [(_, ours), (peer, bare), (client, alone)] = session.measure(&what, 7, 5, &contenders)[..] {
            let targets = session.pick(vec![], vec![Target::AtMost(bare.as_secs_f64() * 1.2)]);
            let peers = vec![(peer, bare.as_secs_f64()), (client, alone.as_secs_f64())];
            println!("{}", Row { what, unit: Unit::Seconds, ours: Some(ours.as_secs_f64()), peers, targets });
        }
        let at_once = |callers: u32| {
            let runtime = super::runtime();
            let (_root, plugins) = runtime.block_on(host());
            let took = wall(|| {
                runtime.block_on(async {
                    let callers: Vec<_> = (0..callers)
                        .map(|_| {
                            let (plugins, payload) = (plugins.clone(), payload.clone());
                            tokio::spawn(async move {
                                let mut value = payload.clone();
                                for _ in 0..calls / callers {
                                    value = plugins.call("echo", value).await.unwrap();
                                }
                                assert_eq!(value, payload);
                            })
                        })
                        .collect();
                    for caller in callers {
                        caller.await.unwrap();
                    }
                });
            });
            runtime.block_on(plugins.shutdown());
            took / (calls / callers * callers)
        };
        let what = format!("process call, of 4 callers at once, {name}");
        let contenders = [
            Contender::new("ours", || at_once(4)),
            Contender::new("one caller", || at_once(1)),
            Contender::new("16 callers", || at_once(session.pick(4, 16))),
        ];
        if let [(_, ours), one, many] = session.measure(&what, 5, 3, &contenders)[..] {
            let peers = vec![(one.0, one.1.as_secs_f64()), (many.0, many.1.as_secs_f64())];
            let ours = Some(ours.as_secs_f64());
            println!("{}", Row { what, unit: Unit::Seconds, ours, peers, targets: vec![] });
        }
    }
}

/// From a file that was renamed into a watched folder to the version that answers: the 99th percentile.
pub(crate) fn reload(session: &Session) {
    if matches!(session, Session::Repetition { .. }) {
        return;
    }
    let count: usize = session.pick(2, 100);
    let took: Vec<Duration> = super::runtime().block_on(async {
        let (root, plugins) = host().await;
        let mut events = plugins.events();
        let mut took = Vec::new();
        for at in 1..=count {
            let begun = install(root.path(), &format!("1.0.{at}"));
            // A program without `plugin.toml` is of no version.
            super::activated(&mut events, "0.0.0").await;
            plugins.call("echo", json!({})).await.unwrap();
            took.push(begun.elapsed());
        }
        plugins.shutdown().await;
        took
    });
    super::print_answering(session, "process", took);
}

async fn host() -> (TempDir, PluginManager) {
    let root = tempfile::tempdir().unwrap();
    install(root.path(), "1.0.0");
    let plugins = PluginManager::builder().folder(root.path()).watch().start().await.unwrap();
    assert_eq!(plugins.list().len(), 1);
    (root, plugins)
}

fn install(root: &Path, version: &str) -> Instant {
    let next = root.join(".next");
    let program = std::env::current_exe().unwrap();
    std::fs::write(&next, format!("#!/bin/sh\nexec '{}' {SERVER} {version}\n", program.display())).unwrap();
    std::fs::set_permissions(&next, PermissionsExt::from_mode(0o755)).unwrap();
    let begun = Instant::now();
    std::fs::rename(next, root.join("echo")).unwrap();
    begun
}

/// The same program, with what this crate talks to it with.
async fn client() -> (Child, RunningService<RoleClient, ClientConfig>) {
    let (child, stdin, stdout) = start();
    (child, rmcp::serve_client(ClientConfig::default(), (stdout, stdin)).await.unwrap())
}

fn start() -> (Child, ChildStdin, ChildStdout) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([SERVER, "1.0.0"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (stdin, stdout) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    (child, stdin, stdout)
}

/// The same program without a host.
struct Bare {
    _child: Child,
    stdin: ChildStdin,
    stdout: BufReader<ChildStdout>,
    line: Vec<u8>,
}

impl Bare {
    fn start() -> Bare {
        let (child, stdin, stdout) = start();
        Bare { _child: child, stdin, stdout: BufReader::new(stdout), line: Vec::new() }
    }

    async fn call(&mut self, id: u32, params: Value) -> Value {
        let ask = json!({
            "jsonrpc": "2.0", "id": id, "method": "tools/call",
            "params": {"name": "echo", "arguments": params},
        });
        self.line.clear();
        serde_json::to_writer(&mut self.line, &ask).unwrap();
        self.line.push(b'\n');
        self.stdin.write_all(&self.line).await.unwrap();
        self.line.clear();
        self.stdout.read_until(b'\n', &mut self.line).await.unwrap();
        let mut answer: Value = serde_json::from_slice(&self.line).unwrap();
        assert_eq!(answer["id"], id);
        answer["result"]["structuredContent"].take()
    }
}
