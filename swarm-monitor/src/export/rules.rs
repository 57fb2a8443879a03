use std::collections::HashSet;
use std::fmt::Write;
use std::time::Duration;

use crate::alert::condition::Measure;
use crate::export::family::{Family, families};
use crate::export::free;
use crate::metric::{Direction, MetricKind};
use crate::monitor::PerformanceMonitor;

use self::query::Query;

mod alerts;
mod query;

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
            let wanted: &[_] = match family.info.kind {
                MetricKind::Counter | MetricKind::Event => &[("rate5m", Measure::Rate)],
                MetricKind::Gauge => &[("avg5m", Measure::Mean)],
                MetricKind::Histogram => &[
                    ("rate5m", Measure::Rate),
                    ("mean5m", Measure::Mean),
                    ("p99_5m", Measure::Quantile(0.99)),
                ],
            };
            for (operation, measure) in wanted {
                let expression = Query::new(family).number(*measure, true);
                rules.extend(expression.map(|expression| recorded(&family.name, operation, &expression)));
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

/// The alert for a metric that is known to be worse one way.
fn moved(family: &Family, taken: &mut HashSet<String>) -> Option<String> {
    let way = match family.info.description.direction {
        Direction::HigherIsWorse => "risen",
        Direction::LowerIsWorse => "fallen",
        Direction::Both => return None,
    };
    let name = &family.name;
    let expression = Query { range: Duration::from_secs(3_600), ..Query::new(family) }.moved(0.1)?;
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
        let _ = writeln!(out, "          description: {}", text(help));
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

/// The same of what is no template, which begins with two braces. Of three, two are left after the first time.
fn text(text: &str) -> String {
    quoted(&text.replace("{{", "{ {").replace("{{", "{ {"))
}
