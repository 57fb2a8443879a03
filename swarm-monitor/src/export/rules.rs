use std::collections::HashSet;
use std::fmt::Write;

use crate::export::family::{Family, families};
use crate::export::free;
use crate::metric::{Direction, MetricKind};
use crate::monitor::PerformanceMonitor;

impl PerformanceMonitor {
    /// A rule file for Prometheus with what it needs to show and to alert on these metrics by itself.
    ///
    /// Of each metric, added up over its series and by job: the rate of a counter; rate, mean and 99th percentile of a histogram; the mean of
    /// a gauge; each over five minutes and named as Prometheus' own rules are, `job:NAME:OPERATION`. For each histogram and gauge whose
    /// [`Description`](crate::Description) says which way is worse there is an alert as well: for the last hour's mean has moved
    /// that way by a tenth against the seven days before, for ten minutes. A share is all that PromQL can ask; whether it is more
    /// than chance, [`detect_drift`](PerformanceMonitor::detect_drift) tells.
    ///
    /// Metrics that were not recorded yet are not there: write the file when all are known.
    pub fn prometheus_rules(&self) -> String {
        let mut rules = Vec::new();
        let families = families(&self.inner.table);
        for family in &families {
            let name = &family.name;
            match family.info.kind {
                MetricKind::Counter | MetricKind::Event => {
                    rules.push(recorded(
                        name,
                        "rate5m",
                        &format!("sum by (job) (rate({}[5m]))", family.sample()),
                    ));
                }
                MetricKind::Gauge => {
                    rules.push(recorded(name, "avg5m", &format!("avg by (job) (avg_over_time({name}[5m]))")));
                }
                MetricKind::Histogram => {
                    rules.push(recorded(name, "rate5m", &format!("sum by (job) (rate({name}_count[5m]))")));
                    rules.push(recorded(name, "mean5m", &mean(name, "5m", "")));
                    let p99 = format!("histogram_quantile(0.99, sum by (job, le) (rate({name}_bucket[5m])))");
                    rules.push(recorded(name, "p99_5m", &p99));
                }
            }
        }
        let mut taken = HashSet::new();
        let alerts: Vec<String> = families.iter().filter_map(|family| moved(family, &mut taken)).collect();
        let mut out = String::from("groups:\n");
        for (group, rules) in [("swarm-monitor: recorded", rules), ("swarm-monitor: drift", alerts)] {
            if !rules.is_empty() {
                let _ = write!(out, "  - name: {}\n    rules:\n{}", quoted(group), rules.concat());
            }
        }
        // An empty list is a rule file too; nothing at all is not.
        if out.ends_with("groups:\n") { "groups: []\n".to_owned() } else { out }
    }
}

fn recorded(name: &str, operation: &str, expression: &str) -> String {
    format!("      - record: job:{name}:{operation}\n        expr: {}\n", quoted(expression))
}

/// The mean of what a histogram took within `range`, as it was `ago`.
fn mean(name: &str, range: &str, ago: &str) -> String {
    let sum = |of: &str| format!("sum by (job) (increase({name}_{of}[{range}]{ago}))");
    format!("{} / {}", sum("sum"), sum("count"))
}

/// The alert for a metric that is known to be worse one way.
fn moved(family: &Family, taken: &mut HashSet<String>) -> Option<String> {
    let (sign, way) = match family.info.description.direction {
        Direction::HigherIsWorse => (">", "risen"),
        Direction::LowerIsWorse => ("<", "fallen"),
        Direction::Both => return None,
    };
    let name = &family.name;
    let (recent, before) = match family.info.kind {
        MetricKind::Histogram => (mean(name, "1h", ""), mean(name, "7d", " offset 1h")),
        MetricKind::Gauge => {
            let mean = |range: &str, ago: &str| format!("avg by (job) (avg_over_time({name}[{range}]{ago}))");
            (mean("1h", ""), mean("7d", " offset 1h"))
        }
        MetricKind::Counter | MetricKind::Event => return None,
    };
    // Of a baseline below zero a tenth is a tenth of its size.
    let sense = if sign == ">" { "" } else { "-" };
    let expression = format!("({recent}) - ({before}) {sign} {sense}0.1 * abs({before})");
    let words: String = name.split(['_', ':']).flat_map(capital).collect();
    let alert = free(words + "Drift", |name| taken.contains(name));
    taken.insert(alert.clone());
    let mut out =
        format!("      - alert: {alert}\n        expr: {}\n        for: 10m\n", quoted(&expression));
    let summary =
        format!("{name} of {{{{ $labels.job }}}} has {way} by more than a tenth against the week before");
    let _ = writeln!(
        out,
        "        labels:\n          severity: warning\n        annotations:\n          summary: {}",
        quoted(&summary)
    );
    let help = &family.info.description.help;
    if !help.is_empty() {
        // Braces begin a template, which a sentence about a metric is not.
        let help = help.replace("{{", "{ {");
        let _ = writeln!(out, "          description: {}", quoted(&help));
    }
    Some(out)
}

fn capital(word: &str) -> impl Iterator<Item = char> {
    let mut chars = word.chars();
    chars.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(chars)
}

/// A string of YAML, as JSON writes it, which YAML takes for what it is.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string().replace('\u{7f}', "\\u007f").replace('\u{85}', "\\u0085")
}
