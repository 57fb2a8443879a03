//! What callers may ask for beyond running a pipeline.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::history::RunSummary;
use crate::report::RunStatus;

/// How [`LocalEngine::run_with`](crate::LocalEngine::run_with) treats a run that is there already.
#[derive(Clone, Default)]
pub struct RunOptions {
    pub(super) on_change: OnChange,
    pub(super) retry_failed: bool,
    pub(super) restart_from: Option<String>,
    pub(super) return_when_suspended: bool,
}

/// What to do when the pipeline is not the one that the run was started with.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum OnChange {
    /// Refuse with [`ErrorKind::DefinitionChanged`](crate::ErrorKind::DefinitionChanged), naming the steps.
    #[default]
    Refuse,
    /// Run again what changed and what depends on it; keep the other results. Former results of what runs again are
    /// forgotten: an undo is given the newest alone. A rollback under way goes on with the undos as they are now.
    Rerun,
    /// Ask for each changed step whether its recorded result still stands; run the others again as `Rerun` does.
    Migrate(Arc<dyn Fn(&str) -> bool + Send + Sync>),
}

impl RunOptions {
    /// Resume what is unfinished; answer what is over. The same as [`LocalEngine::run`](crate::LocalEngine::run).
    pub fn new() -> Self {
        RunOptions::default()
    }

    /// What to do when the pipeline has changed.
    #[must_use]
    pub fn on_change(mut self, choice: OnChange) -> Self {
        self.on_change = choice;
        self
    }

    /// Goes on with a run that failed or was cancelled: what failed or was undone runs again, what is done is kept.
    #[must_use]
    pub fn retry_failed(mut self) -> Self {
        self.retry_failed = true;
        self
    }

    /// Goes back to the checkpoint before `step`: it, everything that depends on it, and what was undone run again,
    /// whatever their results were. Their former results are forgotten: an undo is given the newest alone.
    #[must_use]
    pub fn restart_from(mut self, step: impl Into<String>) -> Self {
        self.restart_from = Some(step.into());
        self
    }

    /// Answers with [`RunStatus::Suspended`](crate::RunStatus::Suspended) instead of waiting where only a signal can bring the run on.
    #[must_use]
    pub fn return_when_suspended(mut self) -> Self {
        self.return_when_suspended = true;
        self
    }
}

/// Which finished runs [`LocalEngine::prune`](crate::LocalEngine::prune) removes. Runs that are not over are never removed.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    older_than: Option<Duration>,
    keep_last: Option<usize>,
    failed_too: bool,
}

impl Retention {
    /// Removes nothing until told what.
    pub fn new() -> Self {
        Retention::default()
    }

    /// Removes runs that ended longer ago than this.
    #[must_use]
    pub fn older_than(mut self, age: Duration) -> Self {
        self.older_than = Some(age);
        self
    }

    /// Keeps this many of the youngest runs of each pipeline, whatever their age.
    #[must_use]
    pub fn keep_last(mut self, runs: usize) -> Self {
        self.keep_last = Some(runs);
        self
    }

    /// Removes failed, cancelled and rolled-back runs as well as those that succeeded.
    #[must_use]
    pub fn failed_too(mut self) -> Self {
        self.failed_too = true;
        self
    }

    pub(super) fn allows(&self, run: &RunSummary, younger: usize, now: DateTime<Utc>) -> bool {
        let over = match run.status {
            RunStatus::Succeeded => true,
            RunStatus::Failed | RunStatus::Cancelled | RunStatus::RolledBack => self.failed_too,
            _ => false,
        };
        let old =
            self.older_than.is_none_or(|age| (now - run.updated).to_std().is_ok_and(|since| since > age));
        let many = self.keep_last.is_none_or(|keep| younger >= keep);
        let told = self.older_than.is_some() || self.keep_last.is_some();
        told && over && old && many
    }
}
