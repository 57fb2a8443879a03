use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A check on the output of a step. A refused output stops what depends on the step.
///
/// ```
/// # use swarm_pipeline::Gate;
/// struct Report { coverage: f64, findings: Vec<String> }
/// let coverage = Gate::at_least("coverage", 0.82, |r: &Report| r.coverage);
/// let findings = Gate::at_most("findings", 10.0, |r: &Report| r.findings.len() as f64).warn_only();
/// let named = Gate::check("named", |r: &Report| r.findings.is_empty().then_some(()).ok_or("findings are left".into()));
/// ```
pub struct Gate<O> {
    name: String,
    check: Check<O>,
    limit: Option<f64>,
    pub(crate) warn_only: bool,
    pub(crate) retry: bool,
}

type Check<O> = Arc<dyn Fn(&O) -> Measured + Send + Sync>;

struct Measured {
    value: Option<f64>,
    complaint: Option<String>,
}

/// What a gate found, kept in the history of the run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct GateResult {
    /// The gate's name.
    pub gate: String,
    /// Whether the output may pass.
    pub verdict: Verdict,
    /// The value that was measured; absent where the gate measures none, or none that is finite.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measured: Option<f64>,
    /// The limit it was held against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
    /// Why the output was not found good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// What a gate says of an output.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Verdict {
    /// Good.
    Passed,
    /// Not good, but the gate only warns.
    Warned,
    /// Not good; the step counts as failed.
    Refused,
}

impl<O: 'static> Gate<O> {
    /// Passes outputs whose `measure` is `limit` or more. A measure that is NaN does not pass.
    pub fn at_least(
        name: impl Into<String>,
        limit: f64,
        measure: impl Fn(&O) -> f64 + Send + Sync + 'static,
    ) -> Self {
        Gate::measured(name, limit, measure, |value, limit| value >= limit, "is below")
    }

    /// Passes outputs whose `measure` is `limit` or less. A measure that is NaN does not pass.
    pub fn at_most(
        name: impl Into<String>,
        limit: f64,
        measure: impl Fn(&O) -> f64 + Send + Sync + 'static,
    ) -> Self {
        Gate::measured(name, limit, measure, |value, limit| value <= limit, "is above")
    }

    /// Passes outputs for which `check` answers `Ok`; the `Err` says what is wrong.
    pub fn check(
        name: impl Into<String>,
        check: impl Fn(&O) -> Result<(), String> + Send + Sync + 'static,
    ) -> Self {
        let check = move |output: &O| Measured { value: None, complaint: check(output).err() };
        Gate { name: name.into(), check: Arc::new(check), limit: None, warn_only: false, retry: false }
    }

    fn measured(
        name: impl Into<String>,
        limit: f64,
        measure: impl Fn(&O) -> f64 + Send + Sync + 'static,
        passes: fn(f64, f64) -> bool,
        fault: &'static str,
    ) -> Self {
        let check = move |output: &O| {
            let value = measure(output);
            let complaint = (!passes(value, limit)).then(|| match value.is_nan() {
                true => "there is no number to measure".to_owned(),
                false => format!("{value} {fault} {limit}"),
            });
            Measured { value: Some(value), complaint }
        };
        Gate { name: name.into(), check: Arc::new(check), limit: Some(limit), warn_only: false, retry: false }
    }

    /// Lets the output pass all the same; the history says that the gate warned.
    #[must_use]
    pub fn warn_only(mut self) -> Self {
        self.warn_only = true;
        self
    }

    /// Lets the step's [`Retry`](crate::Retry) make a refused attempt again. Without this a refusal is final.
    #[must_use]
    pub fn retry_on_refusal(mut self) -> Self {
        self.retry = true;
        self
    }

    /// A gate that panics refuses.
    pub(crate) fn judge(&self, output: &O) -> GateResult {
        let found = catch_unwind(AssertUnwindSafe(|| (self.check)(output)))
            .unwrap_or_else(|_| Measured { value: None, complaint: Some("the gate panicked".to_owned()) });
        let verdict = match (&found.complaint, self.warn_only) {
            (None, _) => Verdict::Passed,
            (Some(_), true) => Verdict::Warned,
            (Some(_), false) => Verdict::Refused,
        };
        GateResult {
            gate: self.name.clone(),
            verdict,
            measured: found.value.filter(|value| value.is_finite()),
            limit: self.limit.filter(|limit| limit.is_finite()),
            message: found.complaint,
        }
    }
}
