//! Exemplars: from a value to where it came from, in the formats that have them.

use std::process::Command;

use serde_json::Value;
use swarm_monitor::{Description, Measurement, PerformanceMonitor};

use crate::Timed;
use crate::programs::{fed, python_with_parser};

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0";
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const SPAN: &str = "b7ad6b7169203331";

#[test]
fn the_last_exemplar_of_each_bucket_is_exposed_in_openmetrics_only() {
    let timed = Timed::new();
    let monitor = &timed.monitor;
    monitor.describe("seconds", Description::default().bounds([1.0, 5.0]));
    let seconds = monitor.histogram("seconds", &[("route", "/pay")]);
    seconds.record_with_exemplar(0.25, &[("trace_id", "first")]);
    seconds.record_with_exemplar(0.5, &[("trace_id", "second")]);
    timed.pass(2);
    seconds.record_with_exemplar(7.5, &[("user", "a\"b\\c\nd")]);
    timed.pass(1);
    seconds.record_with_exemplar(1.0, &[("trace_id", "third"), ("span_id", SPAN)]);
    seconds.record(0.125);
    let total = monitor.counter("requests", &[]);
    total.add_with_exemplar(3, &[("trace_id", TRACE)]);
    total.add(4);
    monitor.record_with_exemplar("deployed", Measurement::Event("v2"), &[], &[("trace_id", "one")]);
    monitor.record_with_exemplar("queue", Measurement::Gauge(5.0), &[], &[("trace_id", "none")]);
    let body = monitor.expose(OPEN_METRICS).body;
    assert_eq!(
        body,
        r#"# TYPE deployed counter
deployed_total 1 # {trace_id="one"} 1.0 1795262403.0
# TYPE queue gauge
queue 5.0
# TYPE requests counter
requests_total 7 # {trace_id="0af7651916cd43dd8448eb211c80319c"} 3.0 1795262403.0
# TYPE seconds histogram
seconds_bucket{route="/pay",le="1.0"} 4 # {span_id="b7ad6b7169203331",trace_id="third"} 1.0 1795262403.0
seconds_bucket{route="/pay",le="5.0"} 4
seconds_bucket{route="/pay",le="+Inf"} 5 # {user="a\"b\\c\nd"} 7.5 1795262402.0
seconds_sum{route="/pay"} 9.375
seconds_count{route="/pay"} 5
# EOF
"#
    );
    let plain = monitor.expose("").body;
    assert!(!plain.contains(" # "), "{plain}");
    // Other bounds: where two are in one bucket now, the later one is shown.
    monitor.describe("seconds", Description::default().bounds([0.75]));
    let body = monitor.expose(OPEN_METRICS).body;
    assert!(body.contains("le=\"0.75\"} 3\n") && body.contains("le=\"+Inf\"} 5 # {span_id="), "{body}");
}

#[test]
fn what_cannot_be_an_exemplar_is_left_out_and_the_value_is_not() {
    let timed = Timed::new();
    let monitor = &timed.monitor;
    let long = "x".repeat(129);
    for exemplar in [&[][..], &[("trace_id", "")], &[("trace_id", &long)]] {
        monitor.record_with_exemplar("seconds", 0.5, &[], exemplar);
        monitor.counter("n", &[]).add_with_exemplar(1, exemplar);
    }
    for value in [f64::NAN, f64::INFINITY, 1e200] {
        monitor.record_with_exemplar("seconds", value, &[], &[("trace_id", TRACE)]);
    }
    // Of another kind than the metric is.
    monitor.record_with_exemplar("seconds", Measurement::Count(1), &[], &[("trace_id", TRACE)]);
    let body = monitor.expose(OPEN_METRICS).body;
    assert!(body.contains("seconds_count 3\n") && body.contains("n_total 3\n"), "{body}");
    assert!(!body.contains(" # {"), "{body}");
}

#[test]
fn exemplars_stay_within_bounds_and_beside_their_series() {
    let timed = Timed::with(PerformanceMonitor::builder().series_limit(2));
    let monitor = &timed.monitor;
    let memory = || monitor.metrics()[0].memory;
    let record = |at: u32| {
        let id = format!("{at:032x}");
        let value = 0.001 * f64::from(at % 20_000);
        monitor.record_with_exemplar("seconds", value, &[("route", "/pay")], &[("trace_id", &id)]);
    };
    (0..20_000).for_each(record);
    let before = memory();
    (20_000..100_000).for_each(record);
    assert!(memory() <= before + 1_000, "{} after {before}", memory());
    // Beyond the limit they are those of the overflow series.
    for route in ["/a", "/b", "/c"] {
        monitor.record_with_exemplar("seconds", 0.5, &[("route", route)], &[("trace_id", route)]);
    }
    let body = monitor.expose(OPEN_METRICS).body;
    let of =
        |labels: &str| body.lines().filter(|line| line.contains(labels) && line.contains(" # {")).count();
    assert_eq!((of("route=\"/pay\""), of("route=\"/a\""), of("overflow=\"true\"")), (14, 1, 1), "{body}");
}

const PARSE: &str = "
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
text = sys.stdin.buffer.read().decode()
print(json.dumps([
    [s.name, s.labels.get('le'), s.exemplar.labels, s.exemplar.value, float(s.exemplar.timestamp)]
    for f in text_string_to_metric_families(text) for s in f.samples if s.exemplar
]))
";

#[test]
fn pythons_parser_reads_exemplars_back() {
    let Some(python) = python_with_parser() else { return };
    let timed = Timed::new();
    // That parser takes an odd number of quotes amiss, which Prometheus reads.
    let hostile = ["\"\"", "\\", "\n", "# {}", "} 1 1\n# EOF\n", "é 🦀", "\r", &"x".repeat(110)];
    for (at, value) in hostile.iter().enumerate() {
        let metric = format!("seconds_{at}");
        timed.monitor.record_with_exemplar(&metric, 3e-7, &[], &[("a.b", value), ("trace_id", "abc")]);
        timed.monitor.record_with_exemplar(&format!("n_{at}"), Measurement::Count(2), &[], &[("é", value)]);
    }
    let body = timed.monitor.expose(OPEN_METRICS).body;
    let output = fed(Command::new(python).args(["-c", PARSE]), &body);
    assert!(output.status.success(), "{}\n{body}", String::from_utf8_lossy(&output.stderr));
    let read: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let mut expected = Vec::new();
    for (at, value) in hostile.iter().enumerate() {
        expected
            .push(serde_json::json!([format!("n_{at}_total"), null, { "_": value }, 2.0, 1_795_262_400.0]));
        let labels = serde_json::json!({ "a_b": value, "trace_id": "abc" });
        expected.push(serde_json::json!([
            format!("seconds_{at}_bucket"),
            "0.001",
            labels,
            3e-7,
            1_795_262_400.0
        ]));
    }
    expected.sort_by_key(|sample| sample[0].as_str().unwrap().to_owned());
    assert_eq!(read, expected);
}
