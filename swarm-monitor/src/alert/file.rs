use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::alert::Severity;
use crate::alert::condition::Condition;
use crate::alert::rule::AlertRule;
use crate::drift::adwin::Adwin;
use crate::drift::cusum::Cusum;
use crate::error::{Error, Result};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    #[serde(default)]
    rule: Vec<Rule>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    name: String,
    metric: String,
    #[serde(default)]
    tags: BTreeMap<String, String>,
    #[serde(default)]
    each: Vec<String>,
    measure: Option<Measure>,
    quantile: Option<f64>,
    above: Option<f64>,
    below: Option<f64>,
    drifts: Option<f64>,
    #[serde(default)]
    absent: bool,
    changes: Option<Detector>,
    window: Option<Span>,
    least: Option<u64>,
    r#for: Option<Span>,
    keep_firing_for: Option<Span>,
    resolve_without_data_after: Option<Span>,
    severity: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Measure {
    Mean,
    Min,
    Max,
    Sum,
    Count,
    Rate,
    Last,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "snake_case")]
enum Detector {
    Adwin,
    Cusum,
}

/// A duration such as `1d12h`, `90m` or `15s`.
#[derive(Deserialize, Clone, Copy)]
#[serde(try_from = "String")]
struct Span(Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no duration; write it as in 1d12h, 90m or 15s");
        let (mut rest, mut seconds) = (text.as_str(), 0_u64);
        while !rest.is_empty() {
            let (number, tail) =
                rest.split_at(rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len());
            let mut tail = tail.chars();
            let length = match tail.next() {
                Some('d') => 86_400,
                Some('h') => 3_600,
                Some('m') => 60,
                Some('s') => 1,
                _ => return Err(wrong()),
            };
            let part = number.parse().ok().and_then(|number: u64| number.checked_mul(length));
            seconds = part.and_then(|part| seconds.checked_add(part)).ok_or_else(wrong)?;
            rest = tail.as_str();
        }
        if text.is_empty() { Err(wrong()) } else { Ok(Span(Duration::from_secs(seconds))) }
    }
}

impl AlertRule {
    /// Reads rules from TOML (feature `toml`).
    ///
    /// ```
    /// use swarm_monitor::AlertRule;
    ///
    /// let rules = AlertRule::from_toml(r#"
    ///     [[rule]]
    ///     name = "slow"
    ///     metric = "request_seconds"
    ///     tags = { region = "eu" }  # only series with these
    ///     each = ["route"]          # an alert for each
    ///     quantile = 0.99           # or measure = "mean", "min", "max", "sum", "count", "rate", "last"
    ///     above = 0.5               # or below, drifts = 0.2, absent = true, changes = "cusum" or "adwin"
    ///     window = "5m"
    ///     least = 20                # values, to tell by
    ///     for = "2m"
    ///     keep_firing_for = "1m"
    ///     resolve_without_data_after = "1d"
    ///     severity = "critical"     # or "warning", "info", in any case, or a word of yours
    ///     labels = { team = "payments" }
    ///     annotations = { summary = "payments are slow", runbook_url = "https://example.com/slow" }
    ///
    ///     [[rule]]
    ///     name = "coverage_fell"
    ///     metric = "test_coverage"
    ///     drifts = 0.05
    /// "#)?;
    /// assert_eq!(rules.iter().map(|rule| rule.name()).collect::<Vec<_>>(), ["slow", "coverage_fell"]);
    /// # Ok::<(), swarm_monitor::Error>(())
    /// ```
    ///
    /// `"cusum"` learns level and deviation from the first 30 windows, in whatever unit. It is set to one false alarm in a million windows of
    /// normal numbers, for skewed ones alarm far more often. `"adwin"` is [`Adwin::default`](crate::Adwin).
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](crate::ErrorKind::InvalidInput), whose source names line and column, for what is no TOML or has other keys; and with
    /// everything that is not acceptable of the rules.
    pub fn from_toml(text: &str) -> Result<Vec<Self>> {
        let rules: Rules =
            toml::from_str(text).map_err(|error| Error::input("the rules cannot be read").because(error))?;
        let mut wrong = Vec::new();
        let rules: Vec<AlertRule> = rules.rule.into_iter().map(|rule| rule.read(&mut wrong)).collect();
        rules.iter().for_each(|rule| rule.check(&mut wrong));
        if wrong.is_empty() { Ok(rules) } else { Err(Error::input(wrong.join("; "))) }
    }
}

impl Rule {
    fn read(self, wrong: &mut Vec<String>) -> AlertRule {
        if self.quantile.is_some() && self.measure.is_some() {
            wrong.push(format!("rule {:?}: either quantile or measure", self.name));
        }
        let mut rule = AlertRule::new(self.name.clone(), self.condition());
        rule = self.each.into_iter().fold(rule, AlertRule::each);
        rule = self.labels.into_iter().fold(rule, |rule, (name, value)| rule.label(name, value));
        rule = self.annotations.into_iter().fold(rule, |rule, (name, text)| rule.annotation(name, text));
        rule.lasting = self.r#for.map_or(0, |span| span.0.as_secs());
        rule.keep_firing = self.keep_firing_for.map_or(0, |span| span.0.as_secs());
        rule.give_up = self.resolve_without_data_after.map(|span| span.0.as_secs());
        rule.severity = self.severity.map_or_else(Severity::default, |word| {
            match Severity::from_word(&word.to_ascii_lowercase()) {
                Severity::Custom(_) => Severity::Custom(word),
                known => known,
            }
        });
        rule
    }

    fn condition(&self) -> Condition {
        let mut condition = Condition::of(&self.metric);
        for (name, value) in &self.tags {
            condition = condition.tag(name, value);
        }
        condition = match self.measure {
            None | Some(Measure::Mean) => condition,
            Some(Measure::Min) => condition.min(),
            Some(Measure::Max) => condition.max(),
            Some(Measure::Sum) => condition.sum(),
            Some(Measure::Count) => condition.count(),
            Some(Measure::Rate) => condition.rate(),
            Some(Measure::Last) => condition.last(),
        };
        if let Some(q) = self.quantile {
            condition = condition.quantile(q);
        }
        // All the tests there are: that it has one is for the condition to say.
        if let Some(limit) = self.above {
            condition = condition.above(limit);
        }
        if let Some(limit) = self.below {
            condition = condition.below(limit);
        }
        if let Some(threshold) = self.drifts {
            condition = condition.drifts(threshold);
        }
        if self.absent {
            condition = condition.absent();
        }
        condition = match self.changes {
            Some(Detector::Adwin) => condition.changes(Adwin::default),
            Some(Detector::Cusum) => condition.changes(|| Cusum::new(f64::NAN, f64::NAN).run_length(1e6)),
            None => condition,
        };
        if let Some(window) = self.window {
            condition = condition.window(window.0);
        }
        if let Some(values) = self.least {
            condition = condition.least(values);
        }
        condition
    }
}
