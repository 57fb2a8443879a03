//! A server to talk to: a real one where there is one, otherwise a few lines that answer as it does.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Error, Read as _, Result, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use serde_json::{Value, json};
use swarm_examples::Scratch;

pub(crate) const TOKEN: &str = "example-token";

pub(crate) struct Server {
    pub(crate) name: String,
    pub(crate) address: String,
    running: Running,
}

enum Running {
    Program { child: Child, _home: Scratch },
    Thread { stop: Arc<AtomicBool>, thread: Option<JoinHandle<()>> },
}

pub(crate) fn start() -> Result<Server> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let local = listener.local_addr()?.to_string();
    let address = format!("http://{local}");
    for program in ["bao", "vault"] {
        if Command::new(program).arg("version").output().is_ok_and(|output| output.status.success()) {
            drop(listener);
            return program_at(program, &local, address);
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let thread = std::thread::spawn(move || serve(&listener, &stopped));
    let name = "a stand-in in this example; `bao` and `vault` are not in the PATH".to_owned();
    Ok(Server { name, address, running: Running::Thread { stop, thread: Some(thread) } })
}

fn program_at(program: &str, local: &str, address: String) -> Result<Server> {
    let home = Scratch::new("config-vault")?;
    let mut child = Command::new(program)
        .args(["server", "-dev", "-dev-no-store-token"])
        .arg(format!("-dev-root-token-id={TOKEN}"))
        .arg(format!("-dev-listen-address={local}"))
        .env("HOME", home.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let out = BufReader::new(child.stdout.take().ok_or_else(|| Error::other("no output"))?);
    let mut lines = out.lines();
    // The last of what it prints when it is ready.
    let ready = lines.by_ref().map_while(Result::ok).any(|line| line.contains("Development mode should NOT"));
    // Read on, so that it never waits for a reader.
    std::thread::spawn(move || lines.for_each(drop));
    let running = Running::Program { child, _home: home };
    let server = Server { name: format!("`{program} server -dev`"), address, running };
    if ready { Ok(server) } else { Err(Error::other(format!("`{program}` did not start"))) }
}

impl Drop for Server {
    fn drop(&mut self) {
        match &mut self.running {
            Running::Program { child, .. } => {
                let _ = child.kill();
                let _ = child.wait();
            }
            Running::Thread { stop, thread } => {
                stop.store(true, Ordering::Relaxed);
                let _ = TcpStream::connect(self.address.trim_start_matches("http://"));
                if let Some(thread) = thread.take() {
                    let _ = thread.join();
                }
            }
        }
    }
}

/// KV version 2, as far as this example goes: reading and writing the newest version.
fn serve(listener: &TcpListener, stop: &AtomicBool) {
    let mut secrets = BTreeMap::new();
    for stream in listener.incoming() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        if let Ok(stream) = stream {
            // A client that goes away is no reason to end.
            let _ = answer(stream, &mut secrets);
        }
    }
}

fn answer(stream: TcpStream, secrets: &mut BTreeMap<String, Value>) -> Result<()> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let (mut token, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name.to_ascii_lowercase().as_str() {
            "x-vault-token" => token = value.to_owned(),
            "content-length" => length = value.parse().unwrap_or(0),
            _ => {}
        }
    }
    let mut body = Vec::new();
    reader.by_ref().take(length).read_to_end(&mut body)?;
    let mut words = request.split(' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (status, body) = match (method, path.strip_prefix("/v1/secret/data/")) {
        _ if token != TOKEN => ("403 Forbidden", json!({ "errors": ["permission denied"] })),
        ("POST", Some(path)) => {
            let body: Value = serde_json::from_slice(&body)?;
            secrets.insert(path.to_owned(), body["data"].clone());
            ("200 OK", json!({ "data": {} }))
        }
        ("GET", Some(path)) if secrets.contains_key(path) => {
            ("200 OK", json!({ "data": { "data": secrets[path], "metadata": {} } }))
        }
        _ => ("404 Not Found", json!({ "errors": [] })),
    };
    let body = body.to_string();
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
    write!(reader.get_mut(), "{head}Connection: close\r\n\r\n{body}")
}
