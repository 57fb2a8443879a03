use std::fmt;

use crate::drift::mean::relative;
use crate::drift::{Finding, Verdict};
use crate::summary::Summary;

/// What was made of a metric's recent values: with what they were compared, how, and in a sentence.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct DriftReport {
    /// The metric.
    pub metric: String,
    /// The tags that were asked for.
    pub tags: Vec<(String, String)>,
    /// The name of the test.
    pub detector: String,
    /// What it found.
    pub finding: Finding,
    /// The values compared with.
    pub baseline: Summary,
    /// The values compared.
    pub recent: Summary,
    /// Whether the baseline is the same hour of the week before.
    pub same_hour: bool,
    /// Fewer values than this on either side are too few to tell.
    pub least: u64,
}

impl DriftReport {
    /// Whether there is drift.
    pub fn is_drift(&self) -> bool {
        self.finding.verdict == Verdict::Drift
    }

    /// By what share of its size the mean moved. `None` from a baseline of zero.
    pub fn change(&self) -> Option<f64> {
        relative(self.baseline.mean, self.recent.mean)
    }
}

/// One sentence: what is compared, by how much it moved, and what the test says.
impl fmt::Display for DriftReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.metric)?;
        for (at, (name, value)) in self.tags.iter().enumerate() {
            write!(f, "{}{name}={value:?}", if at == 0 { "{" } else { ", " })?;
        }
        if !self.tags.is_empty() {
            f.write_str("}")?;
        }
        let (baseline, recent) = (&self.baseline, &self.recent);
        if self.finding.verdict == Verdict::Unknown {
            let (has, of) = if recent.count < self.least {
                (recent.count, "recent")
            } else {
                (baseline.count, "baseline")
            };
            return write!(f, ": too little to tell, {has} {of} values where {} are needed", self.least);
        }
        let moved = if self.is_drift() { "drifted" } else { "is steady" };
        write!(f, " {moved}: mean {} in {} values", short(recent.mean), recent.count)?;
        write!(f, " after {} in {}", short(baseline.mean), baseline.count)?;
        if self.same_hour {
            f.write_str(" in the same hour a week ago")?;
        }
        if let Some(change) = self.change() {
            write!(f, " ({:+.1} %)", change * 100.0)?;
        }
        write!(f, ", {}", self.detector)?;
        if let Some(p) = self.finding.p_value {
            if p < 0.0001 {
                f.write_str(" p < 0.0001")?;
            } else {
                write!(f, " p = {p:.4}")?;
            }
        }
        Ok(())
    }
}

/// Four figures.
fn short(value: f64) -> String {
    if value == 0.0 || !(1e-4..1e9).contains(&value.abs()) {
        return format!("{value:.3e}").replace("0.000e0", "0");
    }
    let places = (3 - value.abs().log10().floor() as i32).clamp(0, 8) as usize;
    let text = format!("{value:.places$}");
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}
