//! A real Prometheus scrapes the monitor and answers a query.
//!
//! `cargo run --release -p swarm-examples --example 34_monitor_prometheus`
//!
//! It needs the program `prometheus` (Debian: `apt-get install prometheus`); without, the example shows what would be scraped, says what to
//! install, and ends. The HTTP server is a few lines of the standard library: all that a handler needs of the monitor is
//! the text that goes with the request's `Accept`.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::error::Error;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use serde_json::Value;
use swarm_examples::Scratch;
use swarm_monitor::{Description, Measurement, PerformanceMonitor};

fn main() -> Result<(), Box<dyn Error>> {
    let monitor = PerformanceMonitor::new();
    monitor.describe("request_seconds", Description::new("Time to answer a request.").unit("seconds"));
    let seconds = monitor.histogram("request_seconds", &[("route", "/pay")]);
    for at in 0..10_000 {
        seconds.record(0.001 * f64::from(at % 100));
    }
    monitor.record("deployed", Measurement::Event("v2.0_refactored"), &[("agent", "Agent-8")]);

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let target = listener.local_addr()?;
    let scratch = Scratch::new("prometheus")?;
    let config = scratch.path().join("prometheus.yml");
    std::fs::write(
        &config,
        format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
             scrape_configs: [{{ job_name: agents, static_configs: [{{ targets: ['{target}'] }}] }}]\n"
        ),
    )?;
    let started = Command::new("prometheus")
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", scratch.path().join("data").display()))
        .arg("--web.listen-address=127.0.0.1:0")
        .stderr(Stdio::piped())
        .spawn();
    let mut prometheus = match started {
        Ok(child) => Stopped(child),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            println!("{}", monitor.expose("").body);
            println!(
                "left out: the scrape, for there is no `prometheus` on PATH; `apt-get install prometheus`"
            );
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let address = listening(&mut prometheus.0)?;

    let (scraped, scrapes) = channel();
    let answering = monitor.clone();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            if let Err(error) = answer(stream, &answering, &scraped) {
                println!("a scrape that was given up: {error}");
            }
        }
    });
    // When the second scrape begins, what came of the first can be asked.
    for _ in 0..2 {
        println!("scraped, accepting {}", scrapes.recv_timeout(Duration::from_secs(60))?);
    }
    for (query, expected) in [
        ("request_seconds_count", 10_000.0),
        ("deployed_total{agent=\"Agent-8\"}", 1.0),
        ("histogram_quantile(0.9, request_seconds_bucket)", 0.09),
    ] {
        let answer = loop {
            match ask(&address, query)? {
                Some(answer) => break answer,
                // It gave up the first scrape, as the machine was busy. There is one a second.
                None => println!("scraped, accepting {}", scrapes.recv_timeout(Duration::from_secs(60))?),
            }
        };
        println!("{query} = {answer}");
        assert!((answer - expected).abs() <= 0.02 * expected, "{query}: {answer}, not {expected}");
    }
    Ok(())
}

/// A `/metrics` handler.
fn answer(
    mut stream: TcpStream,
    monitor: &PerformanceMonitor,
    scraped: &Sender<String>,
) -> Result<(), Box<dyn Error>> {
    let mut accept = String::new();
    for line in BufReader::new(stream.try_clone()?).lines() {
        let line = line?;
        match line.split_once(':') {
            Some((name, value)) if name.eq_ignore_ascii_case("accept") => {
                value.trim().clone_into(&mut accept)
            }
            _ if line.is_empty() => break,
            _ => {}
        }
    }
    let exposition = monitor.expose(&accept);
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
        exposition.content_type,
        exposition.body.len(),
        exposition.body
    )?;
    Ok(scraped.send(accept)?)
}

/// The address it says that it listens on.
fn listening(prometheus: &mut Child) -> Result<String, Box<dyn Error>> {
    let stderr = prometheus.stderr.take().ok_or("no standard error")?;
    let mut lines = BufReader::new(stderr).lines().map_while(Result::ok);
    let line = lines.find(|line| line.contains("Listening on")).ok_or("Prometheus did not start")?;
    // Read on, as a program that nobody listens to stops at a full pipe.
    std::thread::spawn(move || lines.for_each(drop));
    Ok(line.rsplit("address=").next().unwrap_or_default().to_owned())
}

/// The first value of an answer, if it has one.
fn ask(address: &str, query: &str) -> Result<Option<f64>, Box<dyn Error>> {
    let query: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let mut stream = TcpStream::connect(address)?;
    write!(stream, "GET /api/v1/query?query={query} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body: Value = serde_json::from_str(answer.split_once("\r\n\r\n").ok_or("no answer")?.1)?;
    let value = &body["data"]["result"][0]["value"][1];
    Ok(value.as_str().map(str::parse).transpose()?)
}

/// A program that ends with the example.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
