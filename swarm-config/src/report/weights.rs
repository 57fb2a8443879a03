//! Findings that are not wanted, or with another severity.

use super::{Finding, Severity};
use crate::error::Result;
use crate::path::Pattern;

/// What is to become of findings, as it was asked for.
#[derive(Clone, Default)]
pub(crate) struct Weights {
    disabled: Vec<(Pattern, Option<String>)>,
    severities: Vec<(String, Severity)>,
}

/// [`Weights`] before their paths are read.
#[derive(Clone, Default)]
pub(crate) struct Wishes {
    pub(crate) disabled: Vec<(String, Option<String>)>,
    pub(crate) severities: Vec<(String, Severity)>,
}

impl Wishes {
    pub(crate) fn weights(&self) -> Result<Weights> {
        let parsed = |(path, rule): &(String, Option<String>)| Ok((Pattern::parse(path)?, rule.clone()));
        let disabled = self.disabled.iter().map(parsed).collect::<Result<_>>()?;
        Ok(Weights { disabled, severities: self.severities.clone() })
    }
}

impl Weights {
    /// A finding with the severity that was asked for last, or not at all.
    pub(crate) fn weighed(&self, mut finding: Finding) -> Option<Finding> {
        finding.severity = self.severity(&finding.rule, &finding.path, finding.severity)?;
        Some(finding)
    }

    /// What becomes of the severity of a finding; nothing where it is not wanted.
    pub(crate) fn severity(&self, rule: &str, path: &[String], severity: Severity) -> Option<Severity> {
        let off = |(pattern, only): &(Pattern, Option<String>)| {
            pattern.covers(path) && only.as_ref().is_none_or(|only| only == rule)
        };
        if self.disabled.iter().any(off) {
            return None;
        }
        let asked = self.severities.iter().rev().find(|(asked, _)| asked == rule);
        Some(asked.map_or(severity, |(_, severity)| *severity))
    }
}
