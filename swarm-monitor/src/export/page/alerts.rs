use std::collections::HashMap;
use std::fmt::Write;

use chrono::{DateTime, Utc};

use super::plot::Mark;
use super::put;
use super::text::Xml;
use crate::alert::engine::AlertEngine;
use crate::alert::{Alert, AlertState, Severity};

/// So many alerts are told, critical ones first.
const ALERTS: usize = 100;

/// The alerts of an engine, each with the metric that its rule is about.
pub(super) struct Raised(Vec<(Alert, String)>);

impl Raised {
    pub(super) fn of(engine: &AlertEngine) -> Self {
        let metrics: HashMap<&str, &str> =
            engine.rules().iter().map(|rule| (&*rule.name, &*rule.condition.metric)).collect();
        let about = |alert: Alert| {
            let metric = metrics.get(&*alert.rule).copied().unwrap_or_default().to_owned();
            (alert, metric)
        };
        let mut raised: Vec<(Alert, String)> = engine.alerts().into_iter().map(about).collect();
        let rank = |alert: &Alert| match alert.state {
            AlertState::Firing => 0,
            AlertState::Pending => 1,
            AlertState::Resolved => 2,
        };
        raised.sort_by(|(a, _), (b, _)| {
            let calm = |alert: &Alert| (rank(alert), alert.severity != Severity::Critical);
            (calm(a), &a.rule, &a.labels).cmp(&(calm(b), &b.rule, &b.labels))
        });
        Raised(raised)
    }

    pub(super) fn firing(&self) -> usize {
        self.0.iter().filter(|(alert, _)| alert.state == AlertState::Firing).count()
    }

    /// Whether an alert of this metric fires.
    pub(super) fn fires(&self, metric: &str) -> bool {
        self.0.iter().any(|(alert, of)| of == metric && alert.state == AlertState::Firing)
    }

    /// When alerts of this metric fired.
    pub(super) fn marks(&self, metric: &str) -> Vec<Mark> {
        let of = self.0.iter().filter(|(_, of)| of == metric);
        let mark = |(alert, _): &(Alert, String)| {
            Some(Mark { from: alert.fired?, to: alert.resolved, text: alert.to_string() })
        };
        of.filter_map(mark).take(ALERTS).collect()
    }

    /// One after the other in words, with links to those of the metrics that are `drawn`.
    pub(super) fn list(&self, out: &mut String, drawn: &[&str]) {
        if self.0.is_empty() {
            return;
        }
        out.push_str("<ul class=\"alerts\" aria-label=\"Alerts\">\n");
        for (alert, of) in self.0.iter().take(ALERTS) {
            put(out, format_args!("<li class=\"{}\">", alert.state));
            let name = Xml(&alert.rule);
            match drawn.iter().position(|metric| metric == of) {
                Some(at) => put(out, format_args!("<a href=\"#m{at}\"><bdi>{name}</bdi></a>")),
                None => put(out, format_args!("<b><bdi>{name}</bdi></b>")),
            }
            let said = alert.to_string();
            let rest = said.strip_prefix(&format!("{} {}", alert.severity, alert.rule)).unwrap_or(&said);
            put(out, format_args!(" {}<bdi>{}</bdi>", Xml(alert.severity.as_str()), Xml(rest)));
            put(out, format_args!(" <span class=\"m\">{}</span></li>\n", Xml(&since(alert))));
        }
        out.push_str("</ul>\n");
        if self.0.len() > ALERTS {
            put(out, format_args!("<p class=\"m\">{} more alerts</p>\n", self.0.len() - ALERTS));
        }
    }
}

/// Since when, and who has taken it on.
fn since(alert: &Alert) -> String {
    let at = |time: DateTime<Utc>| time.format("%b %-d %H:%M:%S");
    let mut said = format!("since {}", at(alert.since));
    if let Some(resolved) = alert.resolved {
        let _ = write!(said, ", until {}", at(resolved));
    }
    if let Some(taken) = &alert.acknowledged {
        let _ = write!(said, ", taken on by {}: {}", taken.by, taken.note);
    }
    said
}
