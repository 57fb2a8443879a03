//! The plugins as tools of an MCP server, to the official client of Python.

mod raw;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use serde_json::{Value, json};
use swarm_plugin::{
    Authorizer, CallContext, FnPlugin, Manifest, McpClient, McpServer, PluginManager, Progress,
};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{ChildStderr, Command};

const WORDS: &str = include_str!("../programs/words.py");
const CLIENT: &str = include_str!("../programs/client.py");

/// The Python beside the program `mcp`, which comes with the package of that name.
fn python() -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).find(|folder| folder.join("mcp").is_file());
    if found.is_none() {
        eprintln!("left out: a test with the program `mcp`, which is not here");
    }
    found.map(|folder| folder.join("python3"))
}

fn drop_in(root: &Path, name: &str, text: &str) {
    let next = root.join(".next");
    fs::write(&next, text).unwrap();
    fs::set_permissions(&next, fs::Permissions::from_mode(0o755)).unwrap();
    fs::rename(next, root.join(name)).unwrap();
}

fn plugin<F>(name: &str, run: impl Fn(CallContext) -> F + Send + Sync + 'static) -> FnPlugin
where
    F: Future<Output = Result<(), swarm_plugin::PluginError>> + Send + 'static,
{
    FnPlugin::new(Manifest::builder(name, "1.0.0").build().unwrap(), move |_: Value, cx| run(cx))
}

/// Counts the calls that were dropped before they ended.
struct Dropped(Arc<AtomicUsize>);

impl Drop for Dropped {
    fn drop(&mut self) {
        self.0.fetch_add(1, SeqCst);
    }
}

struct NoSecrets;

#[async_trait]
impl Authorizer for NoSecrets {
    async fn allows(&self, client: &McpClient, plugin: &Manifest) -> bool {
        client.name().is_some() && plugin.name() != "secret"
    }
}

struct Host {
    root: tempfile::TempDir,
    plugins: PluginManager,
    dropped: Arc<AtomicUsize>,
}

async fn host() -> Host {
    let root = tempfile::tempdir().unwrap();
    drop_in(root.path(), "words.py", WORDS);
    let plugins = PluginManager::builder().folder(root.path()).watch().settle(Duration::ZERO);
    let plugins = plugins.load_timeout(Duration::from_secs(60)).start().await.unwrap();
    let dropped: Arc<AtomicUsize> = Arc::default();
    let gone = dropped.clone();
    let wait = plugin("wait", move |_cx| {
        let guard = Dropped(gone.clone());
        async move {
            let _guard = guard;
            std::future::pending().await
        }
    });
    let steps = plugin("steps", |cx| async move {
        for done in [1.0, 2.0, 3.0] {
            cx.progress(Progress { done, total: Some(3.0), message: None });
        }
        Ok(())
    });
    for one in [wait, steps, plugin("secret", |_cx| async { Ok(()) })] {
        plugins.register(one).await.unwrap();
    }
    Host { root, plugins, dropped }
}

/// Reads what the client tells, and drops a tool into the folder when it is ready. Answers how long that took to be seen.
async fn watch(host: &Host, told: ChildStderr, version: &str) -> Duration {
    let mut told = BufReader::new(told).lines();
    let mut seen = BTreeMap::new();
    let mut noise = String::new();
    let mut begun = SystemTime::now();
    while let Some(line) = told.next_line().await.unwrap() {
        let Ok(Value::Object(line)) = serde_json::from_str(&line) else {
            noise.push_str(&line);
            noise.push('\n');
            continue;
        };
        if line.contains_key("ready") {
            let second = WORDS.replace("\"name\": \"words\"", "\"name\": \"second\"");
            begun = SystemTime::now();
            drop_in(host.root.path(), "second.py", &second);
        }
        seen.extend(line);
    }
    assert!(seen.contains_key("second"), "{seen:?}\n{noise}");
    assert_eq!(seen["version"], version);
    let tools: Vec<_> = seen["tools"].as_object().unwrap().keys().collect();
    assert_eq!(tools, ["steps", "wait", "words"]);
    assert_eq!(seen["tools"]["words"]["required"], json!(["text"]));
    assert_eq!(seen["words"]["structured"], json!({"words": 3}));
    assert_eq!(seen["invalid"]["error"], true);
    assert!(seen["invalid"]["text"][0].as_str().unwrap().contains("text"), "{:?}", seen["invalid"]);
    assert!(seen["unknown"].to_string().contains("there is no tool"), "{:?}", seen["unknown"]);
    assert_eq!(seen["progress"], json!([1.0, 2.0, 3.0]));
    assert_eq!(seen["cancelled"], true);
    assert_eq!(seen["second"]["structured"], json!({"words": 2}));
    let at = SystemTime::UNIX_EPOCH + Duration::from_secs_f64(seen["at"].as_f64().unwrap());
    at.duration_since(begun).unwrap()
}

async fn cancelled(host: &Host) {
    let dropped = async {
        while host.dropped.load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), dropped).await.unwrap();
}

#[tokio::test]
async fn a_client_over_standard_streams_sees_a_tool_appear() {
    let Some(python) = python() else { return };
    let host = host().await;
    let mut client = Command::new(python)
        .args(["-c", CLIENT])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let server = McpServer::new(host.plugins.clone()).authorizer(NoSecrets);
    let (output, input) = (client.stdout.take().unwrap(), client.stdin.take().unwrap());
    let (served, took) =
        tokio::join!(server.serve(output, input), watch(&host, client.stderr.take().unwrap(), "2025-11-25"));
    served.unwrap();
    eprintln!("dropped in the folder, and called by the client {took:?} later");
    cancelled(&host).await;
    host.plugins.shutdown().await;
}

async fn over_http(mode: &str, version: &str) {
    let Some(python) = python() else { return };
    let host = host().await;
    let server = McpServer::new(host.plugins.clone()).authorizer(NoSecrets);
    let router = axum::Router::new().route_service("/mcp", server.http());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}/mcp", listener.local_addr().unwrap());
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let mut client = Command::new(python)
        .args(["-c", CLIENT, &address, mode])
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let took = watch(&host, client.stderr.take().unwrap(), version).await;
    eprintln!("dropped in the folder, and called by the client over HTTP ({mode}) {took:?} later");
    cancelled(&host).await;
    host.plugins.shutdown().await;
    serving.abort();
}

#[tokio::test]
async fn a_client_over_http_sees_a_tool_appear() {
    over_http("legacy", "2025-11-25").await;
}

#[tokio::test]
async fn a_client_of_the_newest_protocol_sees_a_tool_appear() {
    over_http("2026-07-28", "2026-07-28").await;
}

/// The status with which a client's first request is answered.
async fn status(server: &McpServer, host: &str, origin: Option<&str>) -> String {
    let router = axum::Router::new().route_service("/mcp", server.http());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let serving = tokio::spawn(async move { axum::serve(listener, router).await });
    let ask = json!({
        "jsonrpc": "2.0",
        "id": 1,
        "method": "initialize",
        "params": {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "page", "version": "1.0.0"},
        },
    })
    .to_string();
    let origin = origin.map(|origin| format!("origin: {origin}\r\n")).unwrap_or_default();
    let head = format!(
        "POST /mcp HTTP/1.1\r\nhost: {host}\r\n{origin}content-type: application/json\r\n\
         accept: application/json, text/event-stream\r\ncontent-length: {}\r\n\r\n",
        ask.len()
    );
    stream.write_all((head + &ask).as_bytes()).await.unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.unwrap();
    serving.abort();
    line.split(' ').nth(1).unwrap().to_owned()
}

#[tokio::test]
async fn what_a_foreign_web_page_sends_is_refused() {
    let plugins = PluginManager::new();
    let server = McpServer::new(plugins.clone());
    let open = server.clone().hosts(["mcp.example.com"]).origins(["https://app.example.com:443"]);
    let closed = server.clone().hosts([] as [&str; 0]);
    for (server, host, origin, expected) in [
        (&server, "localhost", None, "200"),
        (&server, "127.0.0.1:8000", None, "200"),
        (&server, "attacker.example", None, "403"),
        (&server, "localhost", Some("https://attacker.example"), "403"),
        (&server, "localhost", Some("null"), "403"),
        (&open, "mcp.example.com", Some("https://app.example.com"), "200"),
        (&open, "mcp.example.com", Some("https://attacker.example"), "403"),
        (&open, "localhost", None, "403"),
        (&closed, "localhost", None, "403"),
    ] {
        assert_eq!(status(server, host, origin).await, expected, "{host} {origin:?}");
    }
    plugins.shutdown().await;
}

#[tokio::test]
async fn what_does_not_speak_mcp_is_told_so_and_a_shutdown_ends_the_rest() {
    let plugins = PluginManager::new();
    let server = McpServer::new(plugins.clone());
    let error = server.serve(tokio::io::empty(), tokio::io::sink()).await.unwrap_err();
    assert_eq!(error.kind(), swarm_plugin::ErrorKind::Failed);
    let (ours, _theirs) = tokio::io::duplex(64);
    let (input, output) = tokio::io::split(ours);
    let (served, ()) = tokio::join!(server.serve(input, output), plugins.shutdown());
    served.unwrap();
}
