//! Stands before a server and fails every so many requests, in turns as it was told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The answer is 503, and the server never sees it.
    Unavailable,
    /// The server does it, and the answer is lost with the connection.
    LoseAnswer,
    /// No answer comes, until the client gives up; the server never sees it.
    Hangs,
}

pub(super) struct Proxy {
    pub(super) port: u16,
    state: Arc<State>,
}

struct State {
    server: u16,
    faults: Vec<Fault>,
    each: usize,
    requests: AtomicUsize,
    injected: Vec<AtomicUsize>,
    /// One conditional request at a time. moto looks and then writes, and tells two at once that each made the object.
    conditional: std::sync::Mutex<()>,
    /// Connections whose clients wait for an answer that does not come.
    hanging: std::sync::Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// One of `each` requests fails.
    pub(super) fn start(server: u16, faults: &[Fault], each: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let injected = faults.iter().map(|_| AtomicUsize::new(0)).collect();
        let requests = AtomicUsize::new(0);
        let (conditional, hanging) = (std::sync::Mutex::default(), std::sync::Mutex::default());
        let faults = faults.to_vec();
        let state = Arc::new(State { server, faults, each, requests, injected, conditional, hanging });
        let shared = state.clone();
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = shared.clone();
                // An error is a client that went away.
                std::thread::spawn(move || drop(state.serve(stream)));
            }
        });
        Proxy { port, state }
    }

    pub(super) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::Relaxed)
    }

    /// How often each fault was injected.
    pub(super) fn injected(&self) -> Vec<usize> {
        self.state.injected.iter().map(|count| count.load(Ordering::Relaxed)).collect()
    }
}

impl State {
    /// Time-outs take a while, so there are few of them.
    fn fault(&self, number: usize) -> Option<Fault> {
        if self.faults.is_empty() || number % self.each != self.each - 1 {
            return None;
        }
        let turn = number / self.each;
        let quick = self.faults.len() - usize::from(self.faults.last() == Some(&Fault::Hangs));
        let at = if turn % 16 == 15 { self.faults.len() - 1 } else { turn % quick };
        self.injected[at].fetch_add(1, Ordering::Relaxed);
        Some(self.faults[at])
    }

    /// One request, and the end of the connection.
    fn serve(&self, mut client: TcpStream) -> std::io::Result<()> {
        let request = read_request(&client)?;
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        match self.fault(number) {
            None => client.write_all(&self.ask(&request)?),
            Some(Fault::LoseAnswer) => self.ask(&request).map(drop),
            Some(Fault::Unavailable) => client.write_all(
                b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            ),
            Some(Fault::Hangs) => {
                self.hanging.lock().unwrap().push(client);
                Ok(())
            }
        }
    }

    fn ask(&self, request: &[u8]) -> std::io::Result<Vec<u8>> {
        let condition = b"\r\nif-none-match: *\r\n";
        let is_conditional =
            request.windows(condition.len()).any(|part| part.eq_ignore_ascii_case(condition));
        let _turn = is_conditional.then(|| self.conditional.lock().unwrap_or_else(PoisonError::into_inner));
        let mut server = TcpStream::connect(("127.0.0.1", self.server))?;
        server.write_all(request)?;
        let mut answer = Vec::new();
        server.read_to_end(&mut answer)?;
        Ok(answer)
    }
}

/// A request with its body, which asks for the connection to be closed behind it.
fn read_request(client: &TcpStream) -> std::io::Result<Vec<u8>> {
    let mut reader = BufReader::new(client);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().map_err(|_| std::io::ErrorKind::InvalidData)?;
        }
        if line.trim().is_empty() {
            break;
        }
        if !lower.starts_with("connection:") {
            head += &line;
        }
    }
    let mut request = format!("{head}connection: close\r\n\r\n").into_bytes();
    reader.take(length).read_to_end(&mut request)?;
    Ok(request)
}
