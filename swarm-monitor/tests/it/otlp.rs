//! What is pushed by OTLP, read by OpenTelemetry's own messages in Python.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use chrono::TimeDelta;
use serde_json::{Value, json};
use swarm_monitor::testing::FakeClock;
use swarm_monitor::{Description, Measurement, OtlpExporter, PerformanceMonitor};

use crate::notify::{Answer, Request, Server, answer, here, ok};
use crate::programs::{fed, python_with_otlp};
use crate::{Timed, start};

/// Reads requests, each after its length, and says what is in them. Nothing in them may be unknown.
const DECODE: &str = "
import json, struct, sys
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
decoded = []
while head := sys.stdin.buffer.read(8):
    request = ExportMetricsServiceRequest.FromString(sys.stdin.buffer.read(struct.unpack('<Q', head)[0]))
    size = request.ByteSize()
    request.DiscardUnknownFields()
    assert request.ByteSize() == size, 'a field that is unknown'
    decoded.append(MessageToDict(request))
print(json.dumps(decoded))
";

pub(crate) fn decoded(python: &Path, requests: &[Request]) -> Vec<Value> {
    let input: Vec<u8> = requests
        .iter()
        .flat_map(|request| [&(request.body.len() as u64).to_le_bytes()[..], &request.body].concat())
        .collect();
    let output = fed(Command::new(python).args(["-c", DECODE]), input);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The metrics of a request.
pub(crate) fn metrics(request: &Value) -> &Vec<Value> {
    request["resourceMetrics"][0]["scopeMetrics"][0]["metrics"].as_array().unwrap()
}

/// What one push sends.
pub(crate) async fn pushed(
    monitor: &PerformanceMonitor,
    change: fn(OtlpExporter) -> OtlpExporter,
) -> Vec<Request> {
    let server = Server::answering(&[ok]);
    let exporter = change(OtlpExporter::new(here(&server.url(""))).service("checkout"));
    let pushed = exporter.push(monitor).await.unwrap();
    (0..pushed.requests).map(|_| server.next()).collect()
}

/// A Saturday's noon, and five seconds later.
const NOON: &str = "1795262400000000000";
const LATER: &str = "1795262405000000000";

fn text(key: &str, value: &str) -> Value {
    json!({ "key": key, "value": { "stringValue": value } })
}

#[tokio::test]
async fn opentelemetrys_messages_read_back_what_was_recorded() {
    let Some(python) = python_with_otlp() else { return };
    let timed = Timed::with(PerformanceMonitor::builder().accuracy(0.001));
    let monitor = &timed.monitor;
    let cycle = Description::new("Time for a task.").unit("minutes").bounds([1.0, 50.0]);
    monitor.describe("agent_cycle_time", cycle);
    for value in [45.0, 55.5, 0.5] {
        monitor.record("agent_cycle_time", value, &[("agent", "Agent-7"), ("task_type", "é\"\n🦀")]);
    }
    monitor.record("agent_cycle_time", f64::NAN, &[("task_type", "é\"\n🦀"), ("agent", "Agent-7")]);
    monitor.record("deployed", Measurement::Event("v2.0"), &[]);
    monitor.record("requests_total", Measurement::Count(u64::from(u32::MAX) + 7), &[]);
    monitor.record("v2.violations", Measurement::Gauge(-12.5), &[("scan date", "2026-11-21")]);
    monitor.describe("v2.violations", Description::default().unit("violations"));
    timed.pass(5);
    let requests = pushed(monitor, |exporter| exporter).await;
    assert_eq!(requests.len(), 1);
    assert_eq!(requests[0].line, "POST /v1/metrics HTTP/1.1");
    assert_eq!(requests[0].header("content-type"), Some("application/x-protobuf"));
    let decoded = &decoded(&python, &requests)[0];
    let resource = decoded["resourceMetrics"][0]["resource"]["attributes"].as_array().unwrap();
    assert!(resource.contains(&text("service.name", "checkout")), "{resource:?}");
    assert!(resource.contains(&text("telemetry.sdk.language", "rust")), "{resource:?}");
    assert!(resource.iter().any(|pair| pair["key"] == "service.instance.id"), "{resource:?}");
    let scope = &decoded["resourceMetrics"][0]["scopeMetrics"][0]["scope"];
    assert_eq!(
        (&scope["name"], &scope["version"]),
        (&"swarm-monitor".into(), &env!("CARGO_PKG_VERSION").into())
    );
    assert_eq!(
        json!(metrics(decoded)),
        json!([
            {
                "name": "agent_cycle_time", "description": "Time for a task.", "unit": "min",
                "histogram": {
                    "aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE",
                    "dataPoints": [
                        {
                            "startTimeUnixNano": NOON, "timeUnixNano": LATER,
                            "count": "3", "sum": 101.0, "min": 0.5, "max": 55.5,
                            "bucketCounts": ["1", "1", "1"], "explicitBounds": [1.0, 50.0],
                            "attributes": [text("agent", "Agent-7"), text("task_type", "é\"\n🦀")],
                        },
                    ],
                },
            },
            {
                "name": "deployed",
                "sum": {
                    "aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE", "isMonotonic": true,
                    "dataPoints": [{ "startTimeUnixNano": NOON, "timeUnixNano": LATER, "asInt": "1" }],
                },
            },
            {
                "name": "requests_total",
                "sum": {
                    "aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE", "isMonotonic": true,
                    "dataPoints": [{ "startTimeUnixNano": NOON, "timeUnixNano": LATER, "asInt": "4294967302" }],
                },
            },
            {
                "name": "v2.violations", "unit": "{violations}",
                "gauge": {
                    "dataPoints": [
                        {
                            "timeUnixNano": LATER, "asDouble": -12.5,
                            "attributes": [text("scan date", "2026-11-21")],
                        },
                    ],
                },
            },
            {
                "name": "swarm_monitor_left_out_records",
                "description": "Records that are in no series, by the reason.",
                "sum": {
                    "aggregationTemporality": "AGGREGATION_TEMPORALITY_CUMULATIVE", "isMonotonic": true,
                    "dataPoints": [
                        {
                            "startTimeUnixNano": NOON, "timeUnixNano": LATER, "asInt": "1",
                            "attributes": [text("metric", "agent_cycle_time"), text("why", "refused")],
                        },
                    ],
                },
            },
        ])
    );
}

#[tokio::test]
async fn exponential_histograms_hold_every_value_near_where_it_was() {
    let Some(python) = python_with_otlp() else { return };
    let timed = Timed::new();
    let values: Vec<f64> = (0..1_000).map(|at| 1.01f64.powi(at - 500)).chain([0.0, 0.0]).collect();
    values.iter().for_each(|value| timed.monitor.record("seconds", *value, &[("route", "/pay")]));
    values.iter().for_each(|value| timed.monitor.record("change", -*value, &[]));
    let requests = pushed(&timed.monitor, OtlpExporter::exponential).await;
    let decoded = decoded(&python, &requests);
    let of = |name: &str| {
        let metric = metrics(&decoded[0]).iter().find(|metric| metric["name"] == name).unwrap();
        let histogram = &metric["exponentialHistogram"];
        assert_eq!(histogram["aggregationTemporality"], "AGGREGATION_TEMPORALITY_CUMULATIVE");
        histogram["dataPoints"][0].clone()
    };
    let (seconds, change) = (of("seconds"), of("change"));
    assert_eq!((&seconds["count"], &seconds["zeroCount"]), (&"1002".into(), &"2".into()));
    assert!((seconds["sum"].as_f64().unwrap() - values.iter().sum::<f64>()).abs() < 1e-6);
    // A sum that may fall is none.
    assert_eq!((&change["count"], &change["sum"]), (&"1002".into(), &Value::Null));
    assert_eq!(change["max"].as_f64(), Some(0.0));
    let buckets = |point: &Value, sign: &str| {
        let counts = point[sign]["bucketCounts"].as_array().unwrap();
        assert!(counts.len() <= 160);
        let counts: Vec<u64> = counts.iter().map(|n| n.as_str().unwrap().parse().unwrap()).collect();
        (point[sign]["offset"].as_i64().unwrap_or(0), counts)
    };
    assert_eq!(buckets(&seconds, "positive"), buckets(&change, "negative"));
    // Of 14.4 octaves there are 8 buckets each.
    let scale = seconds["scale"].as_i64().unwrap();
    assert_eq!(scale, 3);
    let (mut bucket, counts) = buckets(&seconds, "positive");
    let mut at_most = 0;
    for count in counts {
        bucket += 1;
        at_most += count;
        let bound = (bucket as f64 / (1 << scale) as f64).exp2();
        let real =
            |bound: f64| values.iter().filter(|value| **value > 0.0 && **value <= bound).count() as u64;
        assert!((real(bound * 0.989)..=real(bound * 1.011)).contains(&at_most), "{bound}: {at_most}");
    }
    assert_eq!(at_most, 1_000);
}

#[tokio::test]
async fn exemplars_have_the_trace_and_the_span_as_such() {
    let Some(python) = python_with_otlp() else { return };
    let timed = Timed::new();
    let (trace, span) = ("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331");
    let both = [("trace_id", trace), ("span_id", span)];
    timed.monitor.record_with_exemplar("seconds", 0.67, &[], &both);
    timed.monitor.record_with_exemplar("seconds", 6.7, &[], &[("trace_id", "no trace"), ("user", "Ann")]);
    timed.monitor.record_with_exemplar("n", Measurement::Count(3), &[], &both);
    timed.pass(5);
    let mut requests = pushed(&timed.monitor, |exporter| exporter).await;
    requests.extend(pushed(&timed.monitor, OtlpExporter::exponential).await);
    let decoded = decoded(&python, &requests);
    // Of `bytes` the decoder makes base64.
    let traced = |value: f64| {
        json!({
            "timeUnixNano": NOON, "asDouble": value,
            "traceId": "CvdlGRbNQ92ESOshHIAxnA==", "spanId": "t61rcWkgMzE=",
        })
    };
    let other = json!({
        "timeUnixNano": NOON, "asDouble": 6.7,
        "filteredAttributes": [text("trace_id", "no trace"), text("user", "Ann")],
    });
    let of = |request: usize, at: usize, data: &str| {
        metrics(&decoded[request])[at][data]["dataPoints"][0]["exemplars"].clone()
    };
    assert_eq!(of(0, 0, "sum"), json!([traced(3.0)]));
    assert_eq!(of(0, 1, "histogram"), json!([traced(0.67), other]));
    assert_eq!(of(1, 1, "exponentialHistogram"), json!([traced(0.67), other]));
}

#[tokio::test]
async fn what_is_too_much_for_one_request_goes_into_several_and_all_of_it_arrives_once() {
    let Some(python) = python_with_otlp() else { return };
    let timed = Timed::new();
    let monitor = &timed.monitor;
    let all: BTreeSet<(String, String)> =
        (0..1_500).map(|at| (format!("metric_{}", at % 3), format!("{at} {}", "x".repeat(at / 4)))).collect();
    all.iter().for_each(|(name, tag)| monitor.record(name, Measurement::Count(1), &[("tag", tag)]));
    monitor.record("small", Measurement::Gauge(1.0), &[]);
    let names: Vec<String> = (0..30).map(|at| format!("tag{at}")).collect();
    let long = "x".repeat(1_000);
    let tags: Vec<(&str, &str)> = names.iter().map(|name| (&**name, &*long)).collect();
    monitor.record("larger", Measurement::Gauge(1.0), &tags);
    let requests = pushed(monitor, |exporter| exporter.request_limit(20_000)).await;
    // 300 kB, and one of 30 kB.
    assert!((15..40).contains(&requests.len()), "{}", requests.len());
    let too_large: Vec<&Request> = requests.iter().filter(|request| request.body.len() > 20_000).collect();
    assert_eq!(too_large.len(), 1);
    let (mut read, mut other) = (BTreeSet::new(), 0);
    for request in decoded(&python, &requests) {
        for metric in metrics(&request) {
            let Some(points) = metric["sum"]["dataPoints"].as_array() else {
                other += 1;
                continue;
            };
            assert_eq!(metric["sum"]["isMonotonic"], true);
            for point in points {
                let tag = point["attributes"][0]["value"]["stringValue"].as_str().unwrap();
                assert!(
                    read.insert((metric["name"].as_str().unwrap().to_owned(), tag.to_owned())),
                    "twice: {tag}"
                );
            }
        }
    }
    assert_eq!((read, other), (all, 2));
}

/// Of the first point of the first metric.
fn started(request: &Value) -> (&Value, &Value) {
    let point = &metrics(request)[0]["sum"]["dataPoints"][0];
    (&point["startTimeUnixNano"], &point["asInt"])
}

#[tokio::test]
async fn a_series_counts_from_when_it_began_also_after_a_restart() {
    let Some(python) = python_with_otlp() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("snapshot");
    let timed = Timed::with(PerformanceMonitor::builder().series_limit(1).idle_after(Duration::from_secs(1)));
    let count = |tag: &str| timed.monitor.record("n", Measurement::Count(5), &[("agent", tag)]);
    count("1");
    let mut requests = pushed(&timed.monitor, |exporter| exporter).await;
    timed.monitor.snapshot(&file).unwrap();
    // Another takes its room, and it takes that back.
    timed.pass(60);
    count("2");
    timed.pass(60);
    count("1");
    requests.extend(pushed(&timed.monitor, |exporter| exporter).await);
    let clock = FakeClock::new(start() + TimeDelta::hours(1));
    let restarted = PerformanceMonitor::builder().restore(&file).clock(clock).build().unwrap();
    restarted.record("n", Measurement::Count(3), &[("agent", "1")]);
    assert_eq!(restarted.select("n").total().unwrap().count, 8);
    requests.extend(pushed(&restarted, |exporter| exporter).await);
    let decoded = decoded(&python, &requests);
    assert_eq!(started(&decoded[0]), (&NOON.into(), &"5".into()));
    assert_eq!(started(&decoded[1]), (&"1795262520000000000".into(), &"5".into()));
    assert_eq!(started(&decoded[2]), (&"1795266000000000000".into(), &"3".into()));
}

#[tokio::test]
async fn what_was_left_out_counts_from_the_restart_too() {
    let Some(python) = python_with_otlp() else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("snapshot");
    let timed = Timed::new();
    (0..3).for_each(|_| timed.monitor.record("seconds", f64::NAN, &[]));
    timed.monitor.snapshot(&file).unwrap();
    let clock = FakeClock::new(start() + TimeDelta::hours(1));
    let restarted = PerformanceMonitor::builder().restore(&file).clock(clock).build().unwrap();
    restarted.record("seconds", f64::NAN, &[]);
    let mut requests = pushed(&timed.monitor, |exporter| exporter).await;
    requests.extend(pushed(&restarted, |exporter| exporter).await);
    let left_out: Vec<Value> = decoded(&python, &requests)
        .iter()
        .map(|request| {
            let metric = metrics(request).last().unwrap().clone();
            assert_eq!(metric["name"], "swarm_monitor_left_out_records");
            metric["sum"]["dataPoints"][0].clone()
        })
        .collect();
    let of = |point: &Value| (point["startTimeUnixNano"].clone(), point["asInt"].clone());
    assert_eq!(of(&left_out[0]), (NOON.into(), "3".into()));
    assert_eq!(of(&left_out[1]), ("1795266000000000000".into(), "1".into()));
}

/// Answers with a message of protobuf, and goes on.
fn say(stream: &mut std::net::TcpStream, status: &str, body: &[u8]) -> bool {
    let (kind, len) = ("application/x-protobuf", body.len());
    let head = format!("HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len}\r\n\r\n");
    stream.write_all(head.as_bytes()).is_ok() && stream.write_all(body).is_ok()
}

#[tokio::test]
async fn what_a_receiver_says_is_told() {
    let timed = Timed::new();
    timed.monitor.record("n", Measurement::Count(1), &[]);
    timed.monitor.record("other", Measurement::Count(1), &[]);
    let cases: [(Answer, Result<u64, (&str, bool)>); 6] = [
        (|stream| say(stream, "200 OK", b"\x0a\x07\x08\x03\x12\x03bad"), Ok(3)),
        (|stream| say(stream, "200 OK", b"\xff\xff\xff"), Ok(0)),
        (
            |stream| say(stream, "400 Bad Request", b"\x08\x03\x12\x05no\nno"),
            Err(("127.0.0.1 answers 400 Bad Request: \"no\\nno\"", false)),
        ),
        (
            |stream| say(stream, "500 Internal Server Error", b""),
            Err(("127.0.0.1 answers 500 Internal Server Error", false)),
        ),
        (
            |stream| say(stream, "503 Service Unavailable\r\nretry-after: 7", b""),
            Err(("127.0.0.1 answers 503 Service Unavailable", true)),
        ),
        (
            |stream| say(stream, "302 Found\r\nlocation: http://169.254.169.254/", b""),
            Err(("127.0.0.1 answers 302 Found, and redirects are not followed", false)),
        ),
    ];
    for (answer, expected) in cases {
        let answers: &'static [Answer] = Box::leak(Box::new([answer, ok as Answer]));
        let server = Server::answering(answers);
        // One point a request; the first connection, whatever is asked over it, has the answer.
        let exporter = OtlpExporter::new(here(&server.url("/TOKEN"))).request_limit(0);
        match (exporter.push(&timed.monitor).await, expected) {
            (Ok(pushed), Ok(rejected)) => {
                assert_eq!((pushed.requests, pushed.points), (2, 2));
                assert_eq!(pushed.rejected, rejected * 2);
                assert_eq!(pushed.message, if rejected > 0 { "bad" } else { "" });
            }
            (Err(error), Err((says, retryable))) => {
                assert_eq!((error.to_string().as_str(), error.is_retryable()), (says, retryable));
            }
            (other, _) => panic!("{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_receiver_that_repeats_a_secret_is_not_quoted() {
    let timed = Timed::new();
    timed.monitor.record("n", Measurement::Count(1), &[]);
    const SECRETS: [&str; 3] = ["TOKEN-OF-HEADER", "TOKEN-OF-PATH", "KEY"];
    let cases: [(Answer, bool); 6] = [
        (|stream| say(stream, "200 OK", b"\x0a\x14\x08\x01\x12\x10no KEY of tenant"), true),
        (|stream| say(stream, "200 OK", b"\x0a\x17\x08\x01\x12\x13not TOKEN-OF-HEADER"), true),
        (|stream| say(stream, "400 Bad Request", b"\x12\x0bno KEY here"), false),
        (|stream| say(stream, "401 Unauthorized", b"\x12\x16Bearer TOKEN-OF-HEADER"), false),
        (|stream| say(stream, "404 Not Found", b"\x12\x11/TOKEN-OF-PATH/v1"), false),
        // What would be cut within the token.
        (
            |stream| {
                let message = format!("{}TOKEN-OF-HEADER", "x".repeat(1_020));
                let mut body = vec![0x12, 0x8b, 0x08];
                body.extend(message.bytes());
                say(stream, "400 Bad Request", &body)
            },
            false,
        ),
    ];
    for (answer, taken) in cases {
        let server = Server::answering(Box::leak(Box::new([answer])));
        let endpoint = here(&server.url("/TOKEN-OF-PATH?a=b")).bearer("TOKEN-OF-HEADER").unwrap();
        let exporter = OtlpExporter::new(endpoint.header("x-api-key", "KEY").unwrap());
        let pushed = exporter.push(&timed.monitor).await;
        let shown = format!("{pushed:?}");
        assert!(SECRETS.iter().all(|secret| !shown.contains(&secret[..3])), "{shown}");
        match pushed {
            Ok(pushed) if taken => {
                assert_eq!((pushed.rejected, &*pushed.message), (1, "left out, as it repeats a secret"));
            }
            Err(error) if !taken => {
                let shown = error.to_string();
                assert!(shown.starts_with("127.0.0.1 answers 40"), "{shown}");
                assert!(shown.ends_with(": left out, as it repeats a secret"), "{shown}");
            }
            other => panic!("{other:?}"),
        }
    }
}

/// Keeps what is logged.
#[cfg(feature = "tracing")]
#[derive(Clone, Default)]
struct Logged(std::sync::Arc<std::sync::Mutex<String>>);

#[cfg(feature = "tracing")]
impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for Logged {
    fn on_event(&self, event: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        let mut logged = self.0.lock().unwrap();
        event.record(&mut |field: &tracing::field::Field, value: &dyn std::fmt::Debug| {
            logged.push_str(&format!("{field}={value:?} "));
        });
    }
}

#[cfg(feature = "tracing")]
#[tokio::test]
async fn what_was_said_of_the_requests_that_were_taken_is_logged_when_one_is_refused() {
    use tracing_subscriber::prelude::*;

    let server = Server::answering(&[
        |stream| {
            say(stream, "200 OK\r\nconnection: close", b"\x0a\x07\x08\x03\x12\x03bad");
            false
        },
        |stream| say(stream, "400 Bad Request", b""),
    ]);
    let timed = Timed::new();
    ["one", "two"].iter().for_each(|name| timed.monitor.record(name, Measurement::Count(1), &[]));
    let logged = Logged::default();
    let _guard = tracing_subscriber::registry().with(logged.clone()).set_default();
    let exporter = OtlpExporter::new(here(&server.url(""))).request_limit(0);
    let error = exporter.push(&timed.monitor).await.unwrap_err();
    assert_eq!(error.to_string(), "127.0.0.1 answers 400 Bad Request");
    let logged = logged.0.lock().unwrap();
    assert!(logged.contains("rejected=3 ") && logged.contains("said=\"bad\""), "{logged}");
}

#[tokio::test]
async fn a_receiver_that_was_busy_is_told_again() {
    let server = Server::answering(&[
        |stream| answer(stream, "503 Service Unavailable\r\nretry-after: 1\r\ncontent-length: 0"),
        ok,
    ]);
    let timed = Timed::new();
    timed.monitor.record("n", Measurement::Count(1), &[]);
    let exporter = OtlpExporter::new(here(&server.url("")));
    let both = tokio::task::spawn_blocking(move || [server.next(), server.next()]);
    tokio::select! {
        () = exporter.run(&timed.monitor, Duration::from_secs(3_600)) => unreachable!("it runs for ever"),
        both = both => assert_eq!(both.unwrap().map(|request| request.line), ["POST /v1/metrics HTTP/1.1"; 2]),
    }
}
