//! The records of rollouts. Durations and times are microseconds, weights are basis points.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::Deployed;

/// That a rollout began. Its id is the number of this record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StartedRollout {
    pub(crate) channel: Arc<str>,
    pub(crate) candidate: Arc<str>,
    pub(crate) baseline: Arc<str>,
    /// The deployment that an abort restores.
    pub(crate) origin: u64,
    pub(crate) plan: StoredPlan,
    pub(crate) progress: StoredProgress,
}

/// That a rollout went on, was held or came to its end, and what it deployed with that.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct MovedRollout {
    pub(crate) channel: Arc<str>,
    pub(crate) rollout: u64,
    pub(crate) change: StoredRolloutChange,
    pub(crate) progress: StoredProgress,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) reason: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deployed: Option<Deployed>,
}

/// That one driver has the rollout for itself until a time. Who takes it over has the next term.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct LeasedRollout {
    pub(crate) channel: Arc<str>,
    pub(crate) rollout: u64,
    pub(crate) term: u64,
    /// What tells this driver from every other: random, so that it knows its lease again though the answer was lost.
    pub(crate) driver: Arc<str>,
    pub(crate) until: i64,
}

/// Where a rollout stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredProgress {
    /// The step under way, from 0; the number of steps once all are done.
    pub(crate) step: usize,
    pub(crate) began: i64,
    /// When the step's own time is over.
    pub(crate) due: i64,
    pub(crate) phase: StoredPhase,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) paused_at: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoredPhase {
    Running,
    Inconclusive,
    Paused,
    Completed,
    Failed,
    Aborted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoredRolloutChange {
    Weighted,
    Held,
    Passed,
    Failed,
    Inconclusive,
    DeadlinePassed,
    Approved,
    Skipped,
    Paused,
    Resumed,
    Aborted,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredPlan {
    pub(crate) steps: Vec<StoredStep>,
    pub(crate) look_every: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) deadline: Option<StoredDeadline>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) judge: Option<StoredJudge>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoredStep {
    Weight(u16),
    Hold(u64),
    Analysis(u64),
    Approval(String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredDeadline {
    pub(crate) after: u64,
    pub(crate) then: StoredOnDeadline,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoredOnDeadline {
    Abort,
    Pause,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredJudge {
    pub(crate) criteria: Vec<StoredCriterion>,
    pub(crate) alpha: f64,
    pub(crate) minimum: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) planned: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredCriterion {
    pub(crate) metric: String,
    pub(crate) better: StoredDirection,
    pub(crate) relative: f64,
    pub(crate) absolute: f64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) ranks: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoredDirection {
    Lower,
    Higher,
}
