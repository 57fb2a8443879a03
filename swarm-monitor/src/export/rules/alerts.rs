//! An engine's rules as those of Prometheus.

use std::fmt::Write;
use std::time::Duration;

use super::query::Query;
use super::{quoted, text};
use crate::alert::condition::{Span, Test};
use crate::alert::engine::AlertEngine;
use crate::alert::rule::AlertRule;
use crate::export::family::{Family, families};
use crate::export::{labels, plain};
use crate::metric::MetricKind;

impl AlertEngine {
    /// The [rule file of its monitor](crate::PerformanceMonitor::prometheus_rules), and the engine's rules as alerts of Prometheus, by job.
    ///
    /// Names, labels, annotations and durations are the same, and what is looked at is as near as PromQL comes to it. Left out, with a
    /// comment that says so, are rules about metrics that were not recorded yet, and about what a scrape does not show: detectors, how often
    /// a gauge was set, the least and the greatest of a histogram.
    pub fn prometheus_rules(&self) -> String {
        let monitor = self.monitor();
        let families = families(&monitor.inner.table);
        let (mut rules, mut left_out) = (String::new(), String::new());
        for rule in self.rules() {
            let family = families.iter().find(|family| *family.info.name == *rule.metric());
            match family.and_then(|family| expression(rule, family)) {
                Some(expression) => write(&mut rules, rule, &expression),
                None => {
                    let _ = writeln!(left_out, "# left out: {}", quoted(&rule.name));
                }
            }
        }
        let mut out = monitor.prometheus_rules();
        if !rules.is_empty() {
            // In front of the others, whose list may be empty.
            let others = out.strip_prefix("groups:\n").unwrap_or_default();
            out = format!("groups:\n  - name: \"swarm-monitor: alerts\"\n    rules:\n{rules}{others}");
        }
        left_out + &out
    }
}

/// In what Prometheus has for a duration: at most 292 years.
fn within(duration: Duration) -> Duration {
    duration.min(Duration::from_secs(100 * 365 * 86_400))
}

fn write(out: &mut String, rule: &AlertRule, expression: &str) {
    let _ = write!(out, "      - alert: {}\n        expr: {}\n", quoted(&rule.name), quoted(expression));
    for (option, seconds) in [("for", rule.lasting), ("keep_firing_for", rule.keep_firing)] {
        if seconds > 0 {
            let _ = writeln!(out, "        {option}: {}", Span(within(Duration::from_secs(seconds))));
        }
    }
    let severity = ("severity", rule.severity.as_str());
    let given: Vec<(&str, &str)> =
        rule.labels.iter().map(|(name, value)| (&**name, &**value)).chain([severity]).collect();
    let _ = writeln!(out, "        labels:");
    for (name, value) in labels(&given, "", 0) {
        let _ = writeln!(out, "          {}: {}", quoted(&name), text(&value));
    }
    let said = rule.annotations_with(format!("{} is {{{{ $value }}}}", rule.metric().replace("{{", "{ {")));
    let _ = writeln!(out, "        annotations:");
    for (name, value) in &said {
        // The sentence made here has the number in it, by a template.
        let own = rule.annotations.contains_key(name);
        let value = if own { text(value) } else { quoted(value) };
        let _ = writeln!(out, "          {}: {value}", quoted(&plain(name, &['_'])));
    }
}

/// `None` for what PromQL cannot ask.
fn expression(rule: &AlertRule, family: &Family) -> Option<String> {
    let condition = &rule.condition;
    let reserved = if family.info.kind == MetricKind::Histogram { "le" } else { "" };
    let tags: Vec<(&str, &str)> = condition.tags.iter().map(|(name, value)| (&**name, &**value)).collect();
    let only: Vec<String> =
        labels(&tags, reserved, 0).iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
    let only = if only.is_empty() { String::new() } else { format!("{{{}}}", only.join(",")) };
    let each: Vec<(&str, &str)> = rule.each.iter().map(|tag| (&**tag, "")).collect();
    let by = labels(&each, reserved, 0).into_iter().fold("job".to_owned(), |by, (name, _)| by + ", " + &name);
    let query = Query { family, by, only, range: within(condition.window) };
    match condition.test {
        Test::Above(limit) => Some(format!("{} > {limit}", query.number(condition.measure, true)?)),
        Test::Below(limit) => Some(format!("{} < {limit}", query.number(condition.measure, false)?)),
        Test::Absent => Some(format!("{} == 0", query.count("increase")?)),
        Test::Drift(_, Some(share)) => query.moved(share),
        Test::Drift(_, None) | Test::Change(_) | Test::Unset => None,
    }
}
