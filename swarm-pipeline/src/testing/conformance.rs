//! The contract of [`CheckpointStore`] as a list of checks.
//!
//! ```
//! use swarm_pipeline::MemoryStore;
//! use swarm_pipeline::testing::conformance;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let report = conformance::check(async || MemoryStore::new()).await;
//! assert!(report.is_ok(), "{report}");
//! # }
//! ```

mod rules;

use std::fmt;

use crate::store::CheckpointStore;

/// What [`check`] found.
#[derive(Debug, Clone, Default)]
#[must_use = "a report that nobody looks at proves nothing"]
pub struct Report {
    kept: Vec<&'static str>,
    broken: Vec<BrokenRule>,
}

/// A rule of the contract that a store does not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokenRule {
    /// The rule, as a sentence that is true of a store that keeps it.
    pub rule: &'static str,
    /// What the store did instead.
    pub why: String,
}

impl Report {
    /// Whether every rule is kept.
    pub fn is_ok(&self) -> bool {
        self.broken.is_empty()
    }

    /// The rules that are kept.
    pub fn kept(&self) -> &[&'static str] {
        &self.kept
    }

    /// The rules that are not.
    pub fn broken(&self) -> &[BrokenRule] {
        &self.broken
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.kept.len() + self.broken.len();
        write!(f, "{} of {all} rules are kept", self.kept.len())?;
        for BrokenRule { rule, why } in &self.broken {
            write!(f, "\n- not kept: {rule}: {why}")?;
        }
        Ok(())
    }
}

/// Checks every rule, each on a store of its own that `make` answers.
///
/// The stores must be empty and share nothing with one another. Nothing here sleeps, spawns or needs a certain runtime.
/// A store that lets a later writer fence the earlier one is as good as one that keeps the later one out.
pub async fn check<S: CheckpointStore>(make: impl AsyncFn() -> S) -> Report {
    let mut report = Report::default();
    for (rule, check) in rules::ALL {
        let store = make().await;
        match check(&store).await {
            Ok(()) => report.kept.push(rule),
            Err(why) => report.broken.push(BrokenRule { rule, why }),
        }
    }
    report
}
