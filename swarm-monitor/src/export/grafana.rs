use serde_json::{Value, json};

use crate::export::family::{Family, families};
use crate::metric::MetricKind;
use crate::monitor::PerformanceMonitor;

impl PerformanceMonitor {
    /// A dashboard for Grafana, as JSON to import: a panel for every metric that a Prometheus scrapes from [`expose`](Self::expose).
    ///
    /// Counters are drawn as rates, histograms as mean, median and 99th percentile, gauges as they are, one line for each value of the
    /// metric's first tag if it has tags. Grafana asks for the data source and offers the jobs to choose from. Metrics that were not
    /// recorded yet are not there.
    pub fn grafana_dashboard(&self, title: &str) -> String {
        let panels: Vec<Value> =
            families(&self.inner.table).iter().enumerate().map(|(at, family)| panel(at, family)).collect();
        let dashboard = json!({
            "title": title,
            "tags": ["swarm-monitor"],
            "schemaVersion": 38,
            "editable": true,
            "graphTooltip": 1,
            "refresh": "30s",
            "time": { "from": "now-3h", "to": "now" },
            "templating": { "list": [
                { "name": "source", "label": "Source", "type": "datasource", "query": "prometheus" },
                {
                    "name": "job", "label": "Job", "type": "query", "datasource": source(),
                    "query": { "query": "label_values(up, job)", "refId": "jobs" },
                    "refresh": 2, "multi": true, "includeAll": true, "allValue": ".+",
                    "current": { "text": "All", "value": "$__all" },
                },
            ] },
            "panels": panels,
        });
        format!("{dashboard:#}\n")
    }
}

fn source() -> Value {
    json!({ "type": "prometheus", "uid": "${source}" })
}

/// Two beside each other.
fn panel(at: usize, family: &Family) -> Value {
    let place = json!({ "h": 8, "w": 12, "x": 12 * (at % 2), "y": 8 * (at / 2) });
    let mut panel = json!({
        "id": at + 1,
        "type": "timeseries",
        "title": &*family.info.name,
        "description": family.info.description.help,
        "datasource": source(),
        "gridPos": place,
        "fieldConfig": { "defaults": { "unit": unit(family) }, "overrides": [] },
        "options": { "tooltip": { "mode": "multi" }, "legend": { "displayMode": "list", "placement": "bottom" } },
    });
    let targets: Vec<Value> = queries(family)
        .into_iter()
        .zip('A'..='Z')
        .map(|((expression, legend), id)| {
            json!({ "refId": id, "datasource": source(), "expr": expression, "legendFormat": legend })
        })
        .collect();
    panel["targets"] = targets.into();
    panel
}

/// What to ask, and what to call it.
fn queries(family: &Family) -> Vec<(String, String)> {
    const JOB: &str = "{job=~\"$job\"}";
    let name = &family.name;
    let label = family.series().into_iter().find_map(|(labels, _)| labels.into_iter().next());
    let (by, legend) = match label.map(|(label, _)| label) {
        Some(label) => (format!("{label}, "), format!("{{{{{label}}}}} ")),
        None => (String::new(), String::new()),
    };
    let one = |text: &str| if legend.is_empty() { text.to_owned() } else { legend.trim_end().to_owned() };
    match family.info.kind {
        MetricKind::Counter | MetricKind::Event => {
            let rate = format!("sum by ({by}job) (rate({}{JOB}[$__rate_interval]))", family.sample());
            vec![(rate, one("rate"))]
        }
        MetricKind::Gauge => vec![(format!("avg by ({by}job) ({name}{JOB})"), one("value"))],
        MetricKind::Histogram => {
            let sum = |of: &str| format!("sum by ({by}job) (rate({name}_{of}{JOB}[$__rate_interval]))");
            let quantile = |q: f64| {
                let buckets = format!("sum by ({by}job, le) (rate({name}_bucket{JOB}[$__rate_interval]))");
                format!("histogram_quantile({q}, {buckets})")
            };
            vec![
                (format!("{} / {}", sum("sum"), sum("count")), format!("{legend}mean")),
                (quantile(0.5), format!("{legend}p50")),
                (quantile(0.99), format!("{legend}p99")),
            ]
        }
    }
}

/// Grafana's name of the unit.
fn unit(family: &Family) -> String {
    let unit = family.info.description.unit.as_str();
    if family.info.kind.counts() {
        return if unit == "bytes" { "Bps" } else { "cps" }.to_owned();
    }
    let known = match unit {
        "" => "short",
        "seconds" => "s",
        "milliseconds" => "ms",
        "microseconds" => "µs",
        "nanoseconds" => "ns",
        "minutes" => "m",
        "hours" => "h",
        "days" => "d",
        "bytes" => "bytes",
        "ratio" => "percentunit",
        "percent" => "percent",
        "celsius" => "celsius",
        other => return format!("suffix: {other}"),
    };
    known.to_owned()
}
