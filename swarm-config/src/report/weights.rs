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
        let off = |(pattern, rule): &(Pattern, Option<String>)| {
            pattern.covers(&finding.path) && rule.as_ref().is_none_or(|rule| *rule == finding.rule)
        };
        if self.disabled.iter().any(off) {
            return None;
        }
        let asked = self.severities.iter().rev().find(|(rule, _)| *rule == finding.rule);
        finding.severity = asked.map_or(finding.severity, |(_, severity)| *severity);
        Some(finding)
    }
}
