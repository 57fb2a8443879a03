//! What happens on the wire when a client goes, or the manager.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::FutureExt;
use serde_json::{Value, json};
use swarm_plugin::{
    Authorizer, EventKind, FnPlugin, Manifest, McpClient, McpServer, PluginManager, VersionReq,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use crate::tool::{Tool, next, plain};

fn ask(id: u64, method: &str, params: Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}).to_string()
}

fn initialize() -> String {
    let client = json!({"name": "raw", "version": "1.0.0"});
    let params = json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client});
    ask(1, "initialize", params)
}

const INITIALIZED: &str = r#"{"jsonrpc": "2.0", "method": "notifications/initialized"}"#;

/// A plugin that tells when it began, and ends when it is told.
async fn slow(plugins: &PluginManager) -> (Arc<Notify>, Arc<Notify>) {
    let (begun, go) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (tell, wait) = (begun.clone(), go.clone());
    let manifest = Manifest::builder("slow", "1.0.0").build().unwrap();
    let plugin = FnPlugin::new(manifest, move |_: Value, _cx| {
        let (tell, wait) = (tell.clone(), wait.clone());
        async move {
            tell.notify_one();
            wait.notified().await;
            Ok("done")
        }
    });
    plugins.register(plugin).await.unwrap();
    (begun, go)
}

/// Shuts down while the call is under way, and lets it end once nothing new is taken.
async fn shut_down(plugins: &PluginManager, begun: &Notify, go: &Notify) {
    begun.notified().await;
    let release = async {
        while !plugins.list().is_empty() {
            tokio::task::yield_now().await;
        }
        go.notify_one();
    };
    tokio::join!(plugins.shutdown(), release);
}

#[tokio::test]
async fn a_shutdown_answers_the_calls_under_way_over_streams() {
    let plugins = PluginManager::new();
    let (begun, go) = slow(&plugins).await;
    let (ours, theirs) = tokio::io::duplex(4096);
    let (input, output) = tokio::io::split(ours);
    let server = McpServer::new(plugins.clone());
    let (read, mut write) = tokio::io::split(theirs);
    let call = ask(2, "tools/call", json!({"name": "slow"}));
    let client = async {
        write.write_all(format!("{}\n{INITIALIZED}\n{call}\n", initialize()).as_bytes()).await.unwrap();
        let mut lines = BufReader::new(read).lines();
        let mut told = Vec::new();
        while let Some(line) = lines.next_line().await.unwrap() {
            told.push(line);
        }
        told
    };
    let (served, told, ()) =
        tokio::join!(server.serve(input, output), client, shut_down(&plugins, &begun, &go));
    served.unwrap();
    assert!(told.iter().any(|line| line.contains("\"id\":2") && line.contains("done")), "{told:?}");
}

#[tokio::test]
async fn a_client_that_asks_more_than_it_reads_is_read_no_further_and_garbage_is_passed_over() {
    const CALLS: usize = 1_000;
    let plugins = PluginManager::new();
    let (now, most): (Arc<AtomicUsize>, Arc<AtomicUsize>) = (Arc::default(), Arc::default());
    let (running, highest) = (now.clone(), most.clone());
    let plugin = FnPlugin::new(Manifest::builder("busy", "1.0.0").build().unwrap(), move |_: Value, _cx| {
        let (running, highest) = (running.clone(), highest.clone());
        async move {
            highest.fetch_max(running.fetch_add(1, SeqCst) + 1, SeqCst);
            tokio::task::yield_now().await;
            running.fetch_sub(1, SeqCst);
            Ok("done")
        }
    });
    plugins.register(plugin).await.unwrap();
    let (ours, theirs) = tokio::io::duplex(4096);
    let (input, output) = tokio::io::split(ours);
    let server = McpServer::new(plugins.clone());
    let (read, mut write) = tokio::io::split(theirs);
    let client = async move {
        let mut text = format!("{}\n{INITIALIZED}\n", initialize());
        for id in 0..CALLS {
            text += &ask(id as u64 + 10, "tools/call", json!({"name": "busy"}));
            text += "\nnot JSON\n{}\n[1, 2\n\n";
        }
        let asking = tokio::spawn(async move { write.write_all(text.as_bytes()).await.map(|()| write) });
        let mut lines = BufReader::new(read).lines();
        let mut answered = 0;
        while answered < CALLS {
            let line = lines.next_line().await.unwrap().unwrap();
            answered += usize::from(line.contains("done"));
        }
        asking.await.unwrap().unwrap().shutdown().await.unwrap();
        while lines.next_line().await.unwrap().is_some() {}
    };
    let serving = async {
        server.serve(input, output).await.unwrap();
    };
    let both = async { tokio::join!(serving, client) };
    tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    let most = most.load(SeqCst);
    assert!((1..=64).contains(&most), "{most}");
    plugins.shutdown().await;
}

/// What a client is told over streams once it is there and wrote this, up to the line with that word.
async fn told(server: &McpServer, asks: &str, word: &str, meanwhile: impl FnOnce()) -> String {
    let (ours, theirs) = tokio::io::duplex(4096);
    let (input, output) = tokio::io::split(ours);
    let (read, mut write) = tokio::io::split(theirs);
    let client = async {
        // What was answered came after the client was known to be there.
        let there = ask(2, "ping", json!({}));
        let begin = format!("{}\n{INITIALIZED}\n{there}\n", initialize());
        write.write_all(begin.as_bytes()).await.unwrap();
        let mut lines = BufReader::new(read).lines();
        while !lines.next_line().await.unwrap().unwrap().contains("\"id\":2") {}
        write.write_all(asks.as_bytes()).await.unwrap();
        meanwhile();
        let mut told = String::new();
        while !told.contains(word) {
            told += &lines.next_line().await.unwrap().unwrap();
        }
        drop((write, lines));
        told
    };
    let both = async { tokio::join!(server.serve(input, output), client) };
    let (served, told) = tokio::time::timeout(Duration::from_secs(60), both).await.unwrap();
    served.unwrap();
    told
}

#[tokio::test]
async fn a_client_is_told_that_a_pin_changed_what_it_may_call() {
    let plugins = PluginManager::new();
    for version in ["1.0.0", "2.0.0"] {
        plugins.register(plain("tool", version)).await.unwrap();
    }
    let range = Some(VersionReq::parse("^1").unwrap());
    let server = McpServer::new(plugins.clone());
    told(&server, "", "notifications/tools/list_changed", || plugins.pin("tool", range).unwrap()).await;
}

struct Panics;

#[async_trait]
impl Authorizer for Panics {
    async fn allows(&self, _client: &McpClient, _plugin: &Manifest) -> bool {
        panic!("nobody knows")
    }
}

#[tokio::test]
async fn a_client_is_answered_though_the_authorizer_panics() {
    let plugins = PluginManager::new();
    plugins.register(plain("tool", "1.0.0")).await.unwrap();
    let server = McpServer::new(plugins).authorizer(Panics);
    let list = ask(3, "tools/list", json!({})) + "\n";
    let listed = told(&server, &list, "\"id\":3", || {}).await;
    assert!(listed.contains("\"tools\":[]"), "{listed}");
    let call = ask(3, "tools/call", json!({"name": "tool"})) + "\n";
    let called = told(&server, &call, "\"id\":3", || {}).await;
    assert!(called.contains("there is no tool"), "{called}");
}

/// Lets the next plugin take the place of the one that it is asked about, and allows what has this description.
struct Swaps {
    plugins: PluginManager,
    next: Mutex<Option<FnPlugin>>,
    allowed: &'static [&'static str],
    asked: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Authorizer for Swaps {
    async fn allows(&self, _client: &McpClient, plugin: &Manifest) -> bool {
        self.asked.lock().unwrap().push(plugin.description().to_owned());
        let next = self.next.lock().unwrap().take();
        if let Some(next) = next {
            self.plugins.reload("tool", next).await.unwrap();
        }
        self.allowed.contains(&plugin.description())
    }
}

#[tokio::test]
async fn what_is_called_is_what_the_authorizer_was_asked_about() {
    let tool = |version: &str, text: &'static str| {
        let manifest = Manifest::builder("tool", version).description(text).build().unwrap();
        FnPlugin::new(manifest, move |_: Value, _cx| async move { Ok(text) })
    };
    for (before, after) in [
        ("1.0.0", "1.0.0"),
        ("1.0.0", "1.0.1"),
        ("1.0.0+a", "1.0.0+b"),
        ("1.0.0-rc.1", "1.0.0-rc.2"),
        ("1.0.0-rc.1+a", "1.0.0-rc.1+a"),
    ] {
        for (allowed, expected) in
            [(&["first"][..], "there is no tool"), (&["first", "second"], "\"text\":\"second\"")]
        {
            let plugins = PluginManager::new();
            plugins.register(tool(before, "first")).await.unwrap();
            let (asked, next) = (Arc::default(), Mutex::new(Some(tool(after, "second"))));
            let swaps = Swaps { plugins: plugins.clone(), next, allowed, asked: Arc::clone(&asked) };
            let server = McpServer::new(plugins.clone()).authorizer(swaps);
            let call = ask(3, "tools/call", json!({"name": "tool"})) + "\n";
            let called = told(&server, &call, "\"id\":3", || {}).await;
            assert!(called.contains(expected), "{before} {after}: {called}");
            assert_eq!(*asked.lock().unwrap(), ["first", "second"], "{before} {after}");
            let calls: u64 = plugins.list().iter().map(|info| info.stats().calls).sum();
            assert_eq!(calls, u64::from(allowed.len() == 2), "{before} {after}");
        }
    }
}

#[tokio::test]
async fn a_call_that_waits_for_the_state_is_of_what_the_authorizer_was_asked_about() {
    for (fault, expected) in [("", r#""version":"2.0.0""#), ("import", r#""version":"1.0.0""#)] {
        let plugins = PluginManager::new();
        let old = Tool::new("tool", "1.0.0");
        let gate = old.gate.clone();
        plugins.register(old).await.unwrap();
        let mut events = plugins.events();
        let calling = plugins.clone();
        let mut slow = Box::pin(async move { calling.call("tool", json!({"wait": true})).await });
        assert!(slow.as_mut().now_or_never().is_none());
        let slow = tokio::spawn(slow);
        let reload = tokio::spawn({
            let plugins = plugins.clone();
            async move { plugins.reload("tool", Tool::new("tool", "2.0.0").failing(fault)).await }
        });
        assert_eq!(next(&mut events, "1.0.0").await, EventKind::Held);
        let asked = Arc::default();
        let server = McpServer::new(plugins.clone()).authorizer(Opens { gate, asked: Arc::clone(&asked) });
        let call = ask(3, "tools/call", json!({"name": "tool"})) + "\n";
        let called = told(&server, &call, "\"id\":3", || {}).await;
        assert!(called.contains(expected), "{called}");
        let asked: Vec<String> = asked.lock().unwrap().clone();
        let all: &[&str] = if fault.is_empty() { &["1.0.0", "2.0.0"] } else { &["1.0.0"] };
        assert_eq!(asked, all);
        assert_eq!(reload.await.unwrap().is_ok(), fault.is_empty());
        slow.await.unwrap().unwrap();
        plugins.shutdown().await;
    }
}

/// Allows everything, once calls under way may end.
struct Opens {
    gate: Arc<Semaphore>,
    asked: Arc<Mutex<Vec<String>>>,
}

#[async_trait]
impl Authorizer for Opens {
    async fn allows(&self, _client: &McpClient, plugin: &Manifest) -> bool {
        self.asked.lock().unwrap().push(plugin.version().to_string());
        self.gate.add_permits(1);
        true
    }
}

struct Http {
    address: std::net::SocketAddr,
    serving: JoinHandle<std::io::Result<()>>,
}

impl Http {
    async fn start(server: &McpServer) -> Http {
        let router = axum::Router::new().route_service("/mcp", server.http());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Http { address, serving: tokio::spawn(async move { axum::serve(listener, router).await }) }
    }

    async fn send(&self, verb: &str, session: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let session =
            if session.is_empty() { String::new() } else { format!("mcp-session-id: {session}\r\n") };
        let head = format!(
            "{verb} /mcp HTTP/1.1\r\nhost: localhost\r\n{session}content-type: application/json\r\n\
             accept: application/json, text/event-stream\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all((head + body).as_bytes()).await.unwrap();
        stream
    }

    /// The whole answer, with its head.
    async fn post(&self, session: &str, body: &str) -> String {
        let mut answer = String::new();
        self.send("POST", session, body).await.read_to_string(&mut answer).await.unwrap();
        answer
    }

    /// Begins a session, and answers its name.
    async fn session(&self) -> String {
        let answer = self.post("", &initialize()).await;
        let name = answer.lines().find_map(|line| line.strip_prefix("mcp-session-id: "));
        let name = name.unwrap_or_else(|| panic!("{answer}")).to_owned();
        assert!(status(&self.post(&name, INITIALIZED).await) == "202");
        name
    }
}

impl Drop for Http {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap_or_default()
}

#[tokio::test]
async fn a_shutdown_answers_the_calls_under_way_over_http() {
    let plugins = PluginManager::new();
    let (begun, go) = slow(&plugins).await;
    let http = Http::start(&McpServer::new(plugins.clone())).await;
    let session = http.session().await;
    let call = ask(2, "tools/call", json!({"name": "slow"}));
    let (answer, ()) = tokio::join!(http.post(&session, &call), shut_down(&plugins, &begun, &go));
    assert!(answer.contains("\"id\":2") && answer.contains("done"), "{answer}");
}

#[tokio::test]
async fn a_session_ends_without_its_client_whatever_changes() {
    const IDLE: Duration = Duration::from_millis(400);
    let plugins = PluginManager::new();
    let server = McpServer::new(plugins.clone()).session_idle(IDLE);
    let http = Http::start(&server).await;
    let (gone, here) = (http.session().await, http.session().await);
    // One listens, without a word of its own.
    let mut listening = http.send("GET", &here, "").await;
    let list = ask(2, "tools/list", json!({}));
    let begun = Instant::now();
    // Each round changes the tools, which both are told.
    while begun.elapsed() < IDLE * 3 {
        let manifest = Manifest::builder("tool", "1.0.0").build().unwrap();
        plugins.register(FnPlugin::new(manifest, |_: Value, _cx| async { Ok(()) })).await.unwrap();
        plugins.remove("tool").await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(status(&http.post(&gone, &list).await), "404");
    assert_eq!(status(&http.post(&here, &list).await), "200");
    let mut told = [0; 4096];
    let length = listening.read(&mut told).await.unwrap();
    assert_eq!(status(&String::from_utf8_lossy(&told[..length])), "200");
    plugins.shutdown().await;
}

#[tokio::test]
async fn there_are_only_so_many_sessions() {
    let plugins = PluginManager::new();
    let http = Http::start(&McpServer::new(plugins.clone()).sessions(2)).await;
    let first = http.session().await;
    http.session().await;
    let refused = http.post("", &initialize()).await;
    assert!(status(&refused) == "500" && refused.contains("there are 2 sessions"), "{refused}");
    // One that its client ends makes room.
    assert_eq!(status(&read(http.send("DELETE", &first, "").await).await), "200");
    let begun = async { while status(&http.post("", &initialize()).await) != "200" {} };
    tokio::time::timeout(Duration::from_secs(20), begun).await.unwrap();
    plugins.shutdown().await;
}

async fn read(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}
