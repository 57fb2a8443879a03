//! Starts a server, waits until it says that it listens, and makes one bucket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use base64::Engine;
use sha2::Digest;

pub(super) const BUCKET: &str = "registry";
/// The account that Azurite's documentation names, with its key, which is no secret.
pub(super) const ACCOUNT: &str = "devstoreaccount1";
pub(super) const KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    S3,
    Azure,
}

impl Kind {
    pub(super) fn program(self) -> &'static str {
        match self {
            Kind::S3 => "moto_server",
            Kind::Azure => "azurite-blob",
        }
    }
}

/// A server, until it is dropped.
pub(super) struct Server {
    child: Child,
    pub(super) port: u16,
    _folder: tempfile::TempDir,
}

impl Server {
    /// `None` where the program is not here.
    pub(super) fn start(kind: Kind) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new(kind.program());
        match kind {
            Kind::S3 => command.args(["-H", "127.0.0.1", "-p", "0"]),
            Kind::Azure => {
                command.args(["--blobHost", "127.0.0.1", "--blobPort", "0", "--silent"]);
                command.args(["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"])
            }
        };
        let started = command
            .current_dir(folder.path())
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn();
        let mut child = match started {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
            started => started.unwrap(),
        };
        let (out, err) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let (says, other): (Box<dyn Read + Send>, Box<dyn Read + Send>) = match kind {
            Kind::S3 => (Box::new(err), Box::new(out)),
            Kind::Azure => (Box::new(out), Box::new(err)),
        };
        let mut lines = BufReader::new(says).lines().map_while(Result::ok);
        // "... on http://127.0.0.1:PORT", with the port that the system gave it.
        let listens = lines.find(|line| line.contains("Running on") || line.contains("successfully listen"));
        let Some(listens) = listens else {
            let mut why = String::new();
            BufReader::new(other).read_to_string(&mut why).unwrap();
            panic!("{} ended before it listened: {why}", kind.program());
        };
        let port = listens.rsplit(':').next().and_then(|port| port.trim().parse().ok());
        let port =
            port.unwrap_or_else(|| panic!("{} does not say where it listens: {listens}", kind.program()));
        // It goes on talking, and would end if nobody listened.
        std::thread::spawn(move || lines.count());
        std::thread::spawn(move || BufReader::new(other).lines().map_while(Result::ok).count());
        let server = Server { child, port, _folder: folder };
        server.make_bucket(kind);
        Some(server)
    }

    fn make_bucket(&self, kind: Kind) {
        let host = format!("127.0.0.1:{}", self.port);
        let request = match kind {
            Kind::S3 => format!("PUT /{BUCKET} HTTP/1.1\r\nhost: {host}\r\n"),
            Kind::Azure => {
                let date = chrono::Utc::now().format("%a, %d %b %Y %H:%M:%S GMT");
                let headers = format!("x-ms-date:{date}\nx-ms-version:2021-08-06");
                let resource = format!("/{ACCOUNT}/{ACCOUNT}/{BUCKET}\nrestype:container");
                let signature = sign(&format!("PUT\n\n\n\n\n\n\n\n\n\n\n\n{headers}\n{resource}"));
                format!(
                    "PUT /{ACCOUNT}/{BUCKET}?restype=container HTTP/1.1\r\nhost: {host}\r\nx-ms-date: {date}\r\n\
                     x-ms-version: 2021-08-06\r\nauthorization: SharedKey {ACCOUNT}:{signature}\r\n"
                )
            }
        };
        let mut stream = TcpStream::connect(&host).unwrap();
        stream
            .write_all(format!("{request}content-length: 0\r\nconnection: close\r\n\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 20"), "{answer}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// HMAC-SHA256 with the account's key, as Azure's Shared Key asks for it.
fn sign(text: &str) -> String {
    let base64 = base64::engine::general_purpose::STANDARD;
    let mut key = base64.decode(KEY).unwrap();
    key.resize(64, 0);
    let pad = |with: u8| key.iter().map(|byte| byte ^ with).collect::<Vec<u8>>();
    let inner = sha2::Sha256::digest([&pad(0x36), text.as_bytes()].concat());
    base64.encode(sha2::Sha256::digest([&pad(0x5c)[..], &inner[..]].concat()))
}
