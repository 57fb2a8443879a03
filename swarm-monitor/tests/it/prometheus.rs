//! A real Prometheus that scrapes what the monitor exposes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use serde_json::Value;
use swarm_monitor::{Description, Measurement, PerformanceMonitor};

use crate::Timed;
use crate::programs::program;

/// A Prometheus of its own, gone with this.
struct Prometheus {
    child: Child,
    address: String,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Scrapes `target` once a second.
    fn scraping(target: &str) -> Option<Self> {
        let program = program("prometheus")?;
        let folder = tempfile::tempdir().unwrap();
        let config = format!(
            "global: {{ scrape_interval: 1s, scrape_timeout: 1s }}\n\
             scrape_configs: [{{ job_name: ours, static_configs: [{{ targets: ['{target}'] }}] }}]\n"
        );
        let file = folder.path().join("prometheus.yml");
        std::fs::write(&file, config).unwrap();
        let mut child = Command::new(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", folder.path().join("data").display()))
            .args(["--web.listen-address=127.0.0.1:0", "--enable-feature=exemplar-storage"])
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let mut said = Vec::new();
        let address = lines.by_ref().find_map(|line| {
            said.push(line.clone());
            line.contains("Listening on").then(|| line.rsplit("address=").next().map(str::to_owned))?
        });
        // Read on, as a program that nobody listens to stops at a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        let address = address.unwrap_or_else(|| panic!("Prometheus did not start: {said:#?}"));
        Some(Prometheus { child, address, _folder: folder })
    }

    /// The samples that a query answers with: labels and value.
    fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let data = self.ask("query", query, "");
        let sample =
            |one: &Value| (one["metric"].clone(), one["value"][1].as_str().unwrap().parse::<f64>().unwrap());
        data["result"].as_array().unwrap().iter().map(sample).collect()
    }

    fn ask(&self, what: &str, query: &str, more: &str) -> Value {
        let encoded: String = query.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let mut stream = TcpStream::connect(&self.address).unwrap();
        let host = &self.address;
        write!(stream, "GET /api/v1/{what}?query={encoded}{more} HTTP/1.0\r\nHost: {host}\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{answer}");
        serde_json::from_str::<Value>(body).unwrap()["data"].clone()
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Answers each request with the exposition, and tells what it accepted.
fn serve(monitor: PerformanceMonitor) -> (String, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (scraped, scrapes) = channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let head: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
            let accept = head
                .iter()
                .filter_map(|line| line.split_once(':'))
                .find(|(name, _)| name.eq_ignore_ascii_case("accept"));
            let accept = accept.map_or("", |(_, value)| value.trim()).to_owned();
            let answer = monitor.expose(&accept);
            let head = format!(
                "HTTP/1.1 200 OK\r\nContent-Type: {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                answer.content_type,
                answer.body.len()
            );
            let sent = stream.write_all(&[head.as_bytes(), answer.body.as_bytes()].concat());
            if sent.is_err() || scraped.send(accept).is_err() {
                break;
            }
        }
    });
    (address, scrapes)
}

#[test]
fn a_real_prometheus_scrapes_and_answers_with_the_right_numbers() {
    let timed = Timed::new();
    let monitor = &timed.monitor;
    monitor.describe("request_seconds", Description::new("Time to answer.").unit("seconds"));
    let values = ["a\"b\\c\nd", "\u{0}", "é ✓ 🦀", "{x=\"y\"} 1 # EOF", "\r\n"];
    for (at, value) in values.iter().enumerate() {
        monitor.record("hostile.name", Measurement::Count(at as u64 + 1), &[("value", value), ("a.b", "x")]);
    }
    for at in 1..=10_000 {
        monitor.record("request_seconds", 0.001 * f64::from(at % 100), &[("route", "/pay")]);
    }
    let trace = [("trace_id", "0af7651916cd43dd8448eb211c80319c")];
    let hostile = [("hostile", "a\"b\\c\nd")];
    monitor.record_with_exemplar("slow_seconds", 0.67, &[("route", "/pay")], &trace);
    monitor.record_with_exemplar("hits", Measurement::Count(3), &[], &hostile);
    monitor.record("v2_violations", Measurement::Gauge(-12.5), &[]);
    monitor.record("events", Measurement::Event("v2.0"), &[]);
    let (target, scrapes) = serve(monitor.clone());
    let Some(prometheus) = Prometheus::scraping(&target) else { return };
    // When the next one begins, what came of one can be asked. One that was too slow for Prometheus is followed by others.
    let next = || {
        let accept = scrapes.recv_timeout(Duration::from_secs(60)).unwrap();
        assert!(accept.contains("application/openmetrics-text"), "{accept}");
    };
    next();
    next();
    let is_up = (0..30).any(|_| {
        let up = prometheus.query("up").first().is_some_and(|(_, up)| *up == 1.0);
        if !up {
            next();
        }
        up
    });
    assert!(is_up, "the scrape failed");
    let one = |query: &str| {
        let answer = prometheus.query(query);
        assert_eq!(answer.len(), 1, "{query}: {answer:?}");
        answer[0].1
    };
    assert_eq!(one("request_seconds_count{route=\"/pay\"}"), 10_000.0);
    assert!((one("request_seconds_sum") - 495.0).abs() < 1e-6);
    // Of 0 to 0.099, a hundred times each. A bound's own value is at most the bound.
    assert_eq!(one("request_seconds_bucket{le=\"0.05\"}"), 5_100.0);
    assert_eq!(one("request_seconds_bucket{le=\"+Inf\"}"), 10_000.0);
    let median = one("histogram_quantile(0.5, sum by (le) (request_seconds_bucket))");
    assert!((median - 0.049).abs() < 0.001, "{median}");
    assert_eq!(one("v2_violations"), -12.5);
    assert_eq!(one("events_total"), 1.0);
    for (name, value, label) in [("slow_seconds_bucket", "0.67", trace[0]), ("hits_total", "3", hostile[0])] {
        let found = prometheus.ask("query_exemplars", name, "&start=1795262000&end=1795263000");
        let found = found.as_array().unwrap();
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        assert_eq!(found[0]["seriesLabels"]["__name__"], name);
        let exemplar = &found[0]["exemplars"][0];
        // Prometheus 2 leaves in an exemplar what is escaped.
        let escaped = label.1.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        let read = exemplar["labels"][label.0].as_str().unwrap();
        assert!(read == label.1 || read == escaped, "{read}");
        assert_eq!(
            (&exemplar["value"], exemplar["timestamp"].as_f64()),
            (&value.into(), Some(1_795_262_400.0))
        );
    }
    let hostile = prometheus.query("hostile_name_total{a_b=\"x\"}");
    assert_eq!(hostile.len(), values.len());
    for (at, value) in values.iter().enumerate() {
        let sample = hostile.iter().find(|(labels, _)| labels["value"] == *value);
        assert_eq!(sample.map(|(_, n)| *n), Some(at as f64 + 1.0), "{value:?}");
    }
}
