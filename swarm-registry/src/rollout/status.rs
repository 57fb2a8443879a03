use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::{Rollout, RolloutStep};
use crate::error::Result;
use crate::wire::{self, LeasedRollout, MovedRollout, Record, StartedRollout, StoredPhase, StoredProgress};

/// Where a rollout stands: what [`VersionRegistry::rollout`](crate::VersionRegistry::rollout) answers.
#[derive(Debug, Clone, PartialEq)]
pub struct RolloutStatus {
    pub(crate) channel: Arc<str>,
    pub(crate) id: u64,
    pub(crate) candidate: Arc<str>,
    pub(crate) baseline: Arc<str>,
    pub(crate) origin: u64,
    pub(crate) plan: Arc<Rollout>,
    pub(crate) step: usize,
    pub(crate) began: DateTime<Utc>,
    pub(crate) due: DateTime<Utc>,
    pub(crate) paused_at: Option<DateTime<Utc>>,
    pub(crate) phase: RolloutPhase,
    pub(crate) reason: Option<String>,
    pub(crate) lease: Option<Lease>,
    pub(crate) started_at: DateTime<Utc>,
    pub(crate) actor: Option<String>,
    pub(crate) record: u64,
    pub(crate) changed_at: DateTime<Utc>,
    /// The times of the step are of a clock that was behind that of the change before it.
    pub(crate) behind: bool,
}

/// By how much two clocks may differ that are called the same.
pub(crate) const SKEW: TimeDelta = TimeDelta::minutes(1);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Lease {
    pub(crate) term: u64,
    pub(crate) driver: Arc<str>,
    pub(crate) until: DateTime<Utc>,
}

/// How a rollout does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RolloutPhase {
    /// It is at one of its steps.
    Running,
    /// An analysis has had its time and tells nothing yet. It looks on; nothing is promoted.
    Inconclusive,
    /// Nothing happens to it, not even a rollback, until someone resumes, skips or aborts it.
    Paused,
    /// All steps are done.
    Completed,
    /// The candidate was found to be worse, and the split before was restored.
    Failed,
    /// Someone, or the deadline, ended it, and the split before was restored.
    Aborted,
    /// Someone deployed to the channel, promoted to it or rolled it back, and that stays.
    Superseded,
}

impl RolloutPhase {
    /// Whether it has ended, in whatever way.
    pub fn is_over(self) -> bool {
        use RolloutPhase::{Aborted, Completed, Failed, Superseded};
        matches!(self, Completed | Failed | Aborted | Superseded)
    }
}

impl fmt::Display for RolloutPhase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RolloutPhase::Running => "running",
            RolloutPhase::Inconclusive => "inconclusive",
            RolloutPhase::Paused => "paused",
            RolloutPhase::Completed => "completed",
            RolloutPhase::Failed => "failed",
            RolloutPhase::Aborted => "aborted",
            RolloutPhase::Superseded => "superseded",
        })
    }
}

impl RolloutStatus {
    /// The channel.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// What tells it from every other rollout: the number of the record that began it.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The version that is rolled out.
    pub fn candidate(&self) -> &str {
        &self.candidate
    }

    /// The version that it is compared with: the one that had the largest share before.
    pub fn baseline(&self) -> &str {
        &self.baseline
    }

    /// The number of the deployment before it, which an abort restores.
    pub fn origin(&self) -> u64 {
        self.origin
    }

    /// The plan.
    pub fn plan(&self) -> &Rollout {
        &self.plan
    }

    /// The step under way, from 0: how many are done.
    pub fn step(&self) -> usize {
        self.step
    }

    /// What the step under way is; `None` once all are done.
    pub fn current_step(&self) -> Option<&RolloutStep> {
        self.plan.steps().get(self.step)
    }

    /// When the step under way began.
    pub fn step_began(&self) -> DateTime<Utc> {
        self.began
    }

    /// When the step's own time is over.
    pub fn step_due(&self) -> DateTime<Utc> {
        self.due
    }

    /// How it does.
    pub fn phase(&self) -> RolloutPhase {
        self.phase
    }

    /// Why it is as it is: what the last look said, or who aborted it why.
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// When it was begun, by the clock of who did.
    pub fn started_at(&self) -> DateTime<Utc> {
        self.started_at
    }

    /// Who began it, where the registry was told.
    pub fn actor(&self) -> Option<&str> {
        self.actor.as_deref()
    }

    /// The number of the record that last changed it.
    pub fn record(&self) -> u64 {
        self.record
    }

    /// Until when a driver has the rollout for itself, by that driver's clock. It says so anew as long as it goes on, so that a
    /// time that is past means that nobody drives; as does `None`, for a rollout that is over too.
    pub fn driven_until(&self) -> Option<DateTime<Utc>> {
        self.lease.as_ref().map(|lease| lease.until).filter(|_| !self.phase.is_over())
    }

    /// When the [deadline](Rollout::deadline) of the step under way passes; `None` where it has none, is paused or over.
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        let waits = matches!(self.current_step()?, RolloutStep::Analysis(_) | RolloutStep::Approval(_));
        let running = matches!(self.phase, RolloutPhase::Running | RolloutPhase::Inconclusive);
        self.expiry().filter(|_| waits && running).map(|(at, _)| at)
    }

    /// A rollout that follows a deployment of the time `after`.
    pub(crate) fn start(
        stored: &StartedRollout,
        after: Option<DateTime<Utc>>,
        record: &Record,
        object: &str,
    ) -> Result<Self> {
        let at = wire::time(object, record.at)?;
        let mut status = RolloutStatus {
            channel: stored.channel.clone(),
            id: record.seq,
            candidate: stored.candidate.clone(),
            baseline: stored.baseline.clone(),
            origin: stored.origin,
            plan: Arc::new(Rollout::read(&stored.plan)),
            step: 0,
            began: DateTime::UNIX_EPOCH,
            due: DateTime::UNIX_EPOCH,
            paused_at: None,
            phase: RolloutPhase::Running,
            reason: None,
            lease: None,
            started_at: at,
            actor: record.actor.clone(),
            record: record.seq,
            changed_at: at,
            behind: after.is_some_and(|after| after - at > SKEW),
        };
        status.place(&stored.progress, object)?;
        Ok(status)
    }

    pub(crate) fn moved(&mut self, stored: &MovedRollout, record: &Record, object: &str) -> Result<()> {
        self.place(&stored.progress, object)?;
        self.reason.clone_from(&stored.reason);
        self.record = record.seq;
        let at = wire::time(object, record.at)?;
        self.behind = self.changed_at - at > SKEW;
        self.changed_at = at;
        Ok(())
    }

    pub(crate) fn leased(&mut self, stored: &LeasedRollout, object: &str) -> Result<()> {
        let until = wire::time(object, stored.until)?;
        self.lease = Some(Lease { term: stored.term, driver: stored.driver.clone(), until });
        Ok(())
    }

    fn place(&mut self, progress: &StoredProgress, object: &str) -> Result<()> {
        self.step = progress.step;
        self.began = wire::time(object, progress.began)?;
        self.due = wire::time(object, progress.due)?;
        self.paused_at = progress.paused_at.map(|at| wire::time(object, at)).transpose()?;
        self.phase = progress.phase.into();
        Ok(())
    }
}

impl From<StoredPhase> for RolloutPhase {
    fn from(stored: StoredPhase) -> Self {
        match stored {
            StoredPhase::Running => RolloutPhase::Running,
            StoredPhase::Inconclusive => RolloutPhase::Inconclusive,
            StoredPhase::Paused => RolloutPhase::Paused,
            StoredPhase::Completed => RolloutPhase::Completed,
            StoredPhase::Failed => RolloutPhase::Failed,
            StoredPhase::Aborted => RolloutPhase::Aborted,
        }
    }
}

impl fmt::Display for RolloutStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RolloutStatus { candidate, channel, phase, .. } = self;
        write!(f, "{candidate} to {channel}: {phase}")?;
        if let Some(step) = self.current_step() {
            write!(f, " at step {}, {step}", self.step)?;
        }
        match &self.reason {
            Some(reason) => write!(f, " ({reason})"),
            None => Ok(()),
        }
    }
}
