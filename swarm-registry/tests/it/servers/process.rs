//! Starts a server, waits until it says that it listens, and makes one bucket.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

pub(super) const BUCKET: &str = "registry";
pub(super) const PROGRAM: &str = "moto_server";

/// A server, until it is dropped.
pub(super) struct Server {
    child: Child,
    pub(super) port: u16,
}

impl Server {
    /// `None` where the program is not here.
    pub(super) fn start() -> Option<Self> {
        // Free a moment ago. Where another takes it first, the server ends, and the test fails and says so.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut child = Command::new(PROGRAM)
            .args(["-H", "127.0.0.1", "-p", &port.to_string()])
            .env("PYTHONUNBUFFERED", "1")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .ok()?;
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("Running on")), "{PROGRAM} ended before it listened");
        // It goes on talking; someone has to listen.
        std::thread::spawn(move || lines.count());
        let server = Server { child, port };
        server.make_bucket();
        Some(server)
    }

    fn make_bucket(&self) {
        let host = format!("127.0.0.1:{}", self.port);
        let request = format!("PUT /{BUCKET} HTTP/1.1\r\nhost: {host}\r\n");
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
