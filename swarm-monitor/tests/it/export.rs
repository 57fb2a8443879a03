use std::collections::BTreeMap;
use std::process::Command;

use proptest::prelude::*;
use serde_json::Value;
use swarm_monitor::{Description, Exposition, Measurement, PerformanceMonitor};

use crate::Timed;
use crate::programs::{fed, program, python_with_parser};

const OPEN_METRICS: &str = "application/openmetrics-text;version=1.0.0";

#[test]
fn each_kind_has_its_form_in_both_formats() {
    let timed = Timed::new();
    let monitor = &timed.monitor;
    monitor.describe(
        "agent_cycle_time",
        Description::new("Time for a \"task\"\n\\").unit("seconds").bounds([1.0, 50.0]),
    );
    monitor.record("agent_cycle_time", 45.0, &[("agent", "Agent-7")]);
    monitor.record("agent_cycle_time", 55.5, &[("agent", "Agent-7")]);
    monitor.record("deployed", Measurement::Event("v2.0"), &[]);
    monitor.record("requests_total", Measurement::Count(7), &[("b", "2"), ("a", "1")]);
    monitor.record("v2_violations", Measurement::Gauge(12.0), &[]);
    let Exposition { content_type, body, .. } = monitor.expose(OPEN_METRICS);
    assert_eq!(content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    assert_eq!(
        body,
        r#"# TYPE agent_cycle_time_seconds histogram
# UNIT agent_cycle_time_seconds seconds
# HELP agent_cycle_time_seconds Time for a \"task\"\n\\
agent_cycle_time_seconds_bucket{agent="Agent-7",le="1.0"} 0
agent_cycle_time_seconds_bucket{agent="Agent-7",le="50.0"} 1
agent_cycle_time_seconds_bucket{agent="Agent-7",le="+Inf"} 2
agent_cycle_time_seconds_sum{agent="Agent-7"} 100.5
agent_cycle_time_seconds_count{agent="Agent-7"} 2
# TYPE deployed counter
deployed_total 1
# TYPE requests counter
requests_total{a="1",b="2"} 7
# TYPE v2_violations gauge
v2_violations 12.0
# EOF
"#
    );
    let Exposition { content_type, body, .. } = monitor.expose("*/*");
    assert_eq!(content_type, "text/plain; version=0.0.4; charset=utf-8");
    assert!(body.starts_with(
        "# TYPE agent_cycle_time_seconds histogram\n# HELP agent_cycle_time_seconds Time for a \"task\"\\n\\\\\n"
    ));
    assert!(
        body.contains("# TYPE deployed_total counter\ndeployed_total 1\n# TYPE requests_total counter\n")
    );
    assert!(!body.contains("# UNIT") && !body.contains("# EOF"), "{body}");
}

#[test]
fn nothing_recorded_is_an_empty_exposition() {
    let timed = Timed::new();
    assert_eq!(timed.monitor.expose(OPEN_METRICS).body, "# EOF\n");
    assert_eq!(timed.monitor.expose("").body, "");
}

#[test]
fn names_that_are_not_allowed_or_clash_are_told_apart() {
    let timed = Timed::new();
    let monitor = &timed.monitor;
    for name in ["a.b", "a_b", "a-b", "9lives", ""] {
        monitor.record(name, Measurement::Gauge(1.0), &[]);
    }
    monitor.record("request", 1.0, &[]);
    monitor.record("request_count", Measurement::Count(1), &[]);
    monitor.record("request_sum", Measurement::Gauge(1.0), &[]);
    monitor.record("tagged", Measurement::Gauge(1.0), &[("x.y", "1")]);
    monitor.record("tagged", Measurement::Gauge(2.0), &[("x_y", "1")]);
    monitor.record("tagged", Measurement::Gauge(3.0), &[("x-y", "1")]);
    let body = monitor.expose(OPEN_METRICS).body;
    let types: Vec<&str> = body.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
    let names = [
        "_ gauge",
        "_9lives gauge",
        "a_b gauge",
        "a_b_ gauge",
        "a_b__ gauge",
        "request histogram",
        "request_count_ counter",
        "request_sum_ gauge",
        "tagged gauge",
    ];
    assert_eq!(types, names);
    for sample in ["tagged{x_y=\"1\"} 2.0\n", "tagged{x_y_=\"1\"} 3.0\n", "tagged{x_y__=\"1\"} 1.0\n"] {
        assert!(body.contains(sample), "{body}");
    }
}

#[test]
fn thousands_that_look_alike_are_told_apart() {
    let timed = Timed::with(PerformanceMonitor::builder().series_limit(2_000));
    for at in 0..2_000 {
        let alike: String = (0..11).map(|bit| if at >> bit & 1 == 1 { 'é' } else { 'ß' }).collect();
        timed.monitor.record(&alike, Measurement::Count(1), &[]);
        timed.monitor.record("alike", Measurement::Count(1), &[(&alike, "v")]);
    }
    assert_eq!(samples(&timed.monitor.expose("").body).len(), 4_000);
}

#[test]
fn a_series_that_looks_like_the_overflow_series_is_another() {
    let timed = Timed::with(PerformanceMonitor::builder().series_limit(1));
    timed.monitor.record("n", Measurement::Count(1), &[("overflow", "true")]);
    timed.monitor.record("n", Measurement::Count(2), &[("agent", "1")]);
    let body = timed.monitor.expose("").body;
    let mut samples: Vec<&str> = body.lines().filter(|line| !line.starts_with('#')).collect();
    samples.sort_by_key(|line| line.chars().last());
    assert_eq!(samples.len(), 2, "{body}");
    assert!(
        samples[0].starts_with("n_total{overflow") && samples[1].starts_with("n_total{overflow"),
        "{body}"
    );
    assert_ne!(samples[0].split(' ').next(), samples[1].split(' ').next());
}

#[test]
fn what_was_left_out_is_exposed() {
    let timed = Timed::with(PerformanceMonitor::builder().metric_limit(1));
    let monitor = &timed.monitor;
    monitor.record("first", 1.0, &[]);
    monitor.record("first", f64::NAN, &[]);
    monitor.record("first", Measurement::Count(1), &[]);
    monitor.record("second", 1.0, &[]);
    let body = monitor.expose(OPEN_METRICS).body;
    for sample in [
        "{metric=\"first\",why=\"mismatched\"}",
        "{metric=\"first\",why=\"refused\"}",
        "{why=\"too many metrics\"}",
    ] {
        assert!(body.contains(&format!("swarm_monitor_left_out_records_total{sample} 1\n")), "{body}");
    }
}

#[test]
fn values_below_zero_leave_out_the_sum() {
    let timed = Timed::new();
    timed.monitor.record("change", 1.0, &[]);
    assert!(timed.monitor.expose("").body.contains("change_sum 1.0\n"));
    timed.monitor.record("change", -3.0, &[]);
    let body = timed.monitor.expose("").body;
    assert!(!body.contains("change_sum") && !body.contains("change_count"), "{body}");
    assert!(
        body.contains("change_bucket{le=\"0.001\"} 1\n") && body.contains("change_bucket{le=\"+Inf\"} 2\n")
    );
}

/// `name value` of every sample.
fn samples(body: &str) -> BTreeMap<String, f64> {
    let sample =
        |line: &str| line.rsplit_once(' ').map(|(name, value)| (name.to_owned(), value.parse().unwrap()));
    body.lines().filter(|line| !line.starts_with('#')).filter_map(sample).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Readers take any step back of a counter for a new beginning.
    #[test]
    fn no_sample_of_a_histogram_ever_goes_back(
        values in prop::collection::vec(prop_oneof![Just(0.0), 0.0..1e-3f64, 0.1..0.3f64, 0.0..1e12f64], 1..60),
    ) {
        let timed = Timed::new();
        let mut before = BTreeMap::new();
        let mut sum = 0.0;
        for (at, &value) in values.iter().enumerate() {
            timed.monitor.record("seconds", value, &[]);
            if at % 7 == 6 {
                timed.pass(1);
            }
            sum += value;
            let now = samples(&timed.monitor.expose("").body);
            for (name, value) in &before {
                prop_assert!(now[name] >= *value, "{name}: {} after {value}", now[name]);
            }
            prop_assert!((now["seconds_sum"] - sum).abs() <= sum * 1e-9);
            before = now;
        }
        for (name, count) in &before {
            let Some(bound) = name.strip_prefix("seconds_bucket{le=\"") else { continue };
            let bound = bound.trim_end_matches("\"}").replace("+Inf", "inf").parse::<f64>().unwrap();
            let at_most = |bound: f64| values.iter().filter(|value| **value <= bound).count() as f64;
            prop_assert!(*count >= at_most(bound) && *count <= at_most(bound * 1.0203), "{name} {count}");
        }
    }
}

/// Everything that could break a parser, and what was recorded in it.
fn hostile() -> (Timed, BTreeMap<String, f64>) {
    let timed = Timed::new();
    let monitor = &timed.monitor;
    let mut recorded = BTreeMap::new();
    let values = [
        "plain",
        "\"",
        "\\",
        "\n",
        "\\n",
        "\\\"",
        "a\"b\\c\nd",
        "{}",
        "a=\"b\",c=\"d\"",
        "# EOF",
        "\n# EOF\n",
        "\r\n",
        "\t",
        "é ü ✓ 🦀",
        "\u{1}\u{7f}",
        " ",
        "1.0",
        "+Inf",
        "NaN",
        "\u{2028}",
        "\u{feff}",
        "\\\\\\",
        "}",
    ];
    for (at, value) in values.iter().enumerate() {
        monitor.record("hostile", Measurement::Count(at as u64 + 1), &[("value", value)]);
        recorded.insert((*value).to_owned(), at as f64 + 1.0);
        monitor.record("hostile_seconds", 0.001 * (at + 1) as f64, &[("value", value), ("le", value)]);
        monitor.record(
            "hostile_bytes",
            Measurement::Gauge(1e-9 * at as f64),
            &[(&value.to_lowercase(), value), ("__name__", value)],
        );
    }
    let help = Description::new("Values \\ with \"quotes\"\nand lines\\n.");
    monitor.describe("hostile", help.clone());
    monitor.describe("hostile_seconds", help.clone().unit("seconds"));
    monitor.describe("hostile_bytes", help.unit("bytes"));
    (timed, recorded)
}

#[test]
fn promtool_finds_nothing_wrong_with_hostile_labels() {
    let Some(promtool) = program("promtool") else { return };
    let (timed, _) = hostile();
    let output = fed(Command::new(promtool).args(["check", "metrics"]), &timed.monitor.expose("").body);
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success() && said.is_empty(),
        "{} {}",
        output.status,
        String::from_utf8_lossy(&said)
    );
}

const PARSE: &str = "
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families
text = sys.stdin.buffer.read().decode()
print(json.dumps([
    [f.name, f.type, f.unit, f.documentation, [[s.name, s.labels, s.value] for s in f.samples]]
    for f in text_string_to_metric_families(text)
]))
";

fn parsed(python: &std::path::Path, body: &str) -> Vec<Value> {
    let output = fed(Command::new(python).args(["-c", PARSE]), body);
    assert!(output.status.success(), "{}\n{body}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap().as_array().unwrap().clone()
}

#[test]
fn pythons_parser_reads_back_what_was_recorded() {
    let Some(python) = python_with_parser() else { return };
    let (timed, recorded) = hostile();
    let families = parsed(&python, &timed.monitor.expose(OPEN_METRICS).body);
    let family = |name: &str| families.iter().find(|family| family[0] == name).unwrap();
    assert_eq!(family("hostile")[1], "counter");
    assert_eq!(family("hostile")[3], "Values \\ with \"quotes\"\nand lines\\n.");
    assert_eq!(
        (&family("hostile_bytes")[1], &family("hostile_bytes")[2]),
        (&"gauge".into(), &"bytes".into())
    );
    let read: BTreeMap<String, f64> = family("hostile")[4]
        .as_array()
        .unwrap()
        .iter()
        .map(|sample| (sample[1]["value"].as_str().unwrap().to_owned(), sample[2].as_f64().unwrap()))
        .collect();
    assert_eq!(read, recorded);
    let counts =
        family("hostile_seconds")[4].as_array().unwrap().iter().filter(|s| s[0] == "hostile_seconds_count");
    assert_eq!(counts.count(), recorded.len());
}

/// Every name of the alphabet that makes clashes, of every kind, is read, with as many samples as there are series.
#[test]
fn pythons_parser_finds_no_clash_among_hostile_names() {
    let Some(python) = python_with_parser() else { return };
    let timed = Timed::new();
    let endings = [
        "", ".", "_", "_total", "_created", "_count", "_sum", "_bucket", "_seconds", "_info", " x", "é", "\n",
    ];
    for (at, ending) in endings.iter().enumerate() {
        for (kind, measurement) in [
            Measurement::Count(1),
            Measurement::Gauge(-2.5),
            Measurement::Observation(3.0),
            Measurement::Event("text"),
        ]
        .into_iter()
        .enumerate()
        {
            // Each ending with two kinds, one of them in a unit.
            let name = format!("{}{ending}", ["m", "n", "m_total", "n_sum"][(at + kind) % 4]);
            timed.monitor.record(
                &name,
                measurement,
                &[("a.b", "1"), ("a_b", "2"), ("__a", "3"), ("le", "4")],
            );
            if at % 2 == 0 {
                timed.monitor.describe(&name, Description::new("Help.").unit("seconds"));
            }
        }
    }
    let families = parsed(&python, &timed.monitor.expose(OPEN_METRICS).body);
    let left_out = usize::from(families.iter().any(|family| family[0] == "swarm_monitor_left_out_records"));
    assert_eq!(families.len() - left_out, timed.monitor.metrics().len());
    assert!(families.iter().all(|family| !family[4].as_array().unwrap().is_empty()));
}
