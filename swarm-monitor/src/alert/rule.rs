use std::collections::BTreeMap;
use std::time::Duration;

use crate::alert::Severity;
use crate::alert::condition::Condition;

/// The label of what there was no room for.
pub(crate) const OVERFLOW: &str = "overflow";

/// When to raise an alert, and what to say.
///
/// ```
/// use std::time::Duration;
/// use swarm_monitor::{AlertRule, Condition, Severity};
///
/// let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
/// let slow = AlertRule::new("slow", Condition::of("request_seconds").quantile(0.99).above(0.5).window(minutes(5)))
///     .each("route")
///     .lasting(minutes(2))
///     .severity(Severity::Critical)
///     .annotation("runbook_url", "https://example.com/slow");
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct AlertRule {
    pub(crate) name: String,
    pub(crate) condition: Condition,
    pub(crate) each: Vec<String>,
    pub(crate) lasting: u64,
    pub(crate) keep_firing: u64,
    pub(crate) give_up: Option<u64>,
    pub(crate) severity: Severity,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

impl AlertRule {
    /// A warning as soon as the condition holds. Names of rules differ.
    pub fn new(name: impl Into<String>, condition: Condition) -> Self {
        AlertRule {
            name: name.into(),
            condition,
            each: Vec::new(),
            lasting: 0,
            keep_firing: 0,
            give_up: None,
            severity: Severity::default(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
        }
    }

    /// Looks at each value of this tag by itself, with an alert for each, which has the tag as a label. May be given several times.
    pub fn each(mut self, tag: impl Into<String>) -> Self {
        self.each.push(tag.into());
        self
    }

    /// Fires only once the condition has held for so long: Prometheus' `for`. In the meantime the alert is pending.
    pub fn lasting(mut self, duration: Duration) -> Self {
        self.lasting = duration.as_secs();
        self
    }

    /// Is resolved only once the condition has not held for so long: Prometheus' `keep_firing_for`.
    pub fn keep_firing_for(mut self, duration: Duration) -> Self {
        self.keep_firing = duration.as_secs();
        self
    }

    /// Resolves a firing alert once there was nothing to look at for so long, as for an agent that is gone for good. Without this it fires
    /// until there are numbers again: no data is not "resolved".
    pub fn resolve_without_data_after(mut self, duration: Duration) -> Self {
        self.give_up = Some(duration.as_secs());
        self
    }

    /// How bad it is.
    pub fn severity(mut self, severity: Severity) -> Self {
        self.severity = severity;
        self
    }

    /// Gives its alerts another label, to route, group, silence and inhibit by.
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(name.into(), value.into());
        self
    }

    /// What its alerts say, in place of a sentence made of the condition and the number, which is the annotation `description` then.
    pub fn summary(self, sentence: impl Into<String>) -> Self {
        self.annotation("summary", sentence)
    }

    /// Something else to tell with its alerts.
    pub fn annotation(mut self, name: impl Into<String>, text: impl Into<String>) -> Self {
        self.annotations.insert(name.into(), text.into());
        self
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The metric that it looks at.
    pub(crate) fn metric(&self) -> &str {
        &self.condition.metric
    }

    /// All that is not acceptable of it.
    pub(crate) fn check(&self, wrong: &mut Vec<String>) {
        let mut say = |what: String| wrong.push(format!("rule {:?}: {what}", self.name));
        if self.name.is_empty() {
            say("a name is not empty".to_owned());
        }
        self.condition.check(&mut say);
        if self.condition.is_moment() && self.lasting > 0 {
            say("a change of level is seen once, and cannot last".to_owned());
        }
        for taken in ["alertname", "severity", OVERFLOW] {
            if self.labels.contains_key(taken) || self.each.iter().any(|tag| tag == taken) {
                say(format!("the label {taken:?} has a meaning of its own"));
            }
        }
        for tag in self.each.iter().filter(|tag| self.labels.contains_key(*tag)) {
            say(format!("{tag:?} is both a label and a tag to look at"));
        }
    }

    /// The labels of an alert for these tags.
    pub(crate) fn labels_with(&self, tags: &[(String, String)]) -> BTreeMap<String, String> {
        let mut labels = self.labels.clone();
        labels.extend(tags.iter().cloned());
        labels.insert("alertname".to_owned(), self.name.clone());
        labels.insert("severity".to_owned(), self.severity.as_str().to_owned());
        labels
    }

    /// Whether it makes alerts with these labels.
    pub(crate) fn makes(&self, labels: &BTreeMap<String, String>) -> bool {
        let overflow = labels.contains_key(OVERFLOW).then_some(OVERFLOW);
        let tags: Vec<(String, String)> = match overflow {
            Some(name) => vec![(name.to_owned(), "true".to_owned())],
            None => {
                self.each.iter().filter_map(|tag| Some((tag.clone(), labels.get(tag)?.clone()))).collect()
            }
        };
        tags.len() == overflow.map_or(self.each.len(), |_| 1) && self.labels_with(&tags) == *labels
    }

    /// The annotations of an alert of which the condition says this.
    pub(crate) fn annotations_with(&self, sentence: String) -> BTreeMap<String, String> {
        let mut annotations = self.annotations.clone();
        let name = if annotations.contains_key("summary") { "description" } else { "summary" };
        annotations.entry(name.to_owned()).or_insert(sentence);
        annotations
    }
}
