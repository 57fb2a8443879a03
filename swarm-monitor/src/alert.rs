use std::collections::BTreeMap;
use std::fmt;

use chrono::{DateTime, Utc};

pub(crate) mod condition;
pub(crate) mod engine;
#[cfg(feature = "toml")]
mod file;
mod instance;
mod journal;
pub(crate) mod matcher;
mod plan;
pub(crate) mod route;
pub(crate) mod rule;
mod wire;

/// One thing that a rule found, for one set of labels.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Alert {
    /// What tells it from all others: 16 hexadecimal digits, made of the labels as Prometheus makes its fingerprints, hence the same after
    /// a restart.
    pub id: String,
    /// The name of its rule.
    pub rule: String,
    /// Its labels: `alertname`, `severity`, the tags that its rule looks at one by one, and the rule's own.
    pub labels: BTreeMap<String, String>,
    /// `summary`, and whatever else its rule says.
    pub annotations: BTreeMap<String, String>,
    /// How bad it is.
    pub severity: Severity,
    /// Where it is in its life.
    pub state: AlertState,
    /// Since when the condition holds, or held before it was resolved.
    pub since: DateTime<Utc>,
    /// When it began to fire.
    pub fired: Option<DateTime<Utc>>,
    /// When it was resolved.
    pub resolved: Option<DateTime<Utc>>,
    /// The number its rule looked at last, where there is one.
    pub value: Option<f64>,
    /// Who has taken it on.
    pub acknowledged: Option<Acknowledgement>,
}

impl Alert {
    /// One sentence: what is wrong.
    pub fn summary(&self) -> &str {
        self.annotations.get("summary").map_or("", String::as_str)
    }
}

/// State, severity and summary, with the labels that are not in those.
impl fmt::Display for Alert {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.severity, self.rule, self.state)?;
        for (name, value) in
            self.labels.iter().filter(|(name, _)| *name != "alertname" && *name != "severity")
        {
            write!(f, " {name}={value:?}")?;
        }
        write!(f, ": {}", self.summary())
    }
}

/// Where an alert is in its life, as in Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AlertState {
    /// The condition holds, but not yet for as long as the rule asks.
    Pending,
    /// It is told to those who want to know.
    Firing,
    /// The condition does not hold any more.
    Resolved,
}

impl fmt::Display for AlertState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            AlertState::Pending => "pending",
            AlertState::Firing => "firing",
            AlertState::Resolved => "resolved",
        })
    }
}

/// How bad it is. A critical alert goes out at once, whatever a [`Route`](crate::Route) waits for otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum Severity {
    /// To be known.
    Info,
    /// To be looked at.
    #[default]
    Warning,
    /// To be acted on now.
    Critical,
    /// Another word, treated like a warning.
    Custom(String),
}

impl Severity {
    /// From the word for it.
    pub fn from_word(word: &str) -> Self {
        match word {
            "info" => Severity::Info,
            "warning" => Severity::Warning,
            "critical" => Severity::Critical,
            other => Severity::Custom(other.to_owned()),
        }
    }

    /// The word for it, which is the value of the label `severity`.
    pub fn as_str(&self) -> &str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
            Severity::Custom(word) => word,
        }
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// That somebody has taken an alert on: it is neither repeated nor escalated until it is resolved.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acknowledgement {
    /// Who.
    pub by: String,
    /// What they said.
    pub note: String,
    /// When.
    pub at: DateTime<Utc>,
}

/// Labels as Prometheus fingerprints them: names and values in order, each followed by a byte that is in no text.
fn fingerprint(labels: &BTreeMap<String, String>) -> String {
    let texts = labels.iter().flat_map(|(name, value)| [name, value]);
    format!("{:016x}", fnv(texts.flat_map(|text| text.bytes().chain([255]))))
}

/// FNV-1a.
pub(crate) fn fnv(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
