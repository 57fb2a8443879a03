//! What comes next: pure decisions, without a clock, a store or a source of metrics.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::status::SKEW;
use super::{OnDeadline, Rollout, RolloutPhase, RolloutStatus, RolloutStep, points};
use crate::judge::Verdict;
use crate::wire::{StoredPhase, StoredProgress, StoredRolloutChange};

/// What a driver has to do.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Todo {
    /// Record this.
    Take(Step),
    /// Ask what was measured, and decide by [`RolloutStatus::judged`].
    Look,
    /// Nothing of its own until then.
    Wait(DateTime<Utc>),
    /// Nothing of its own at all.
    Rest,
}

/// A change of a rollout: what its record says.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    pub(crate) change: StoredRolloutChange,
    pub(crate) progress: StoredProgress,
    pub(crate) reason: Option<String>,
    pub(crate) traffic: Traffic,
}

/// What a change does to the channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Traffic {
    Stays,
    /// The candidate gets these basis points.
    Weighs(u16),
    /// The split before the rollout is restored.
    Restored,
}

fn after(time: DateTime<Utc>, span: Duration) -> DateTime<Utc> {
    let span = TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX);
    time.checked_add_signed(span).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// How long a step takes by itself.
fn length(step: Option<&RolloutStep>) -> Duration {
    match step {
        Some(RolloutStep::Hold(time) | RolloutStep::Analysis(time)) => *time,
        _ => Duration::ZERO,
    }
}

/// Where a rollout stands that comes to `step` at `now`.
pub(crate) fn arrive(plan: &Rollout, step: usize, now: DateTime<Utc>) -> StoredProgress {
    let steps = plan.steps();
    let phase = if step < steps.len() { StoredPhase::Running } else { StoredPhase::Completed };
    let due = after(now, length(steps.get(step)));
    let (began, due) = (now.timestamp_micros(), due.timestamp_micros());
    StoredProgress { step, began, due, phase, paused_at: None }
}

impl RolloutStatus {
    /// Whether the step's times can be those of a clock that shows `now`: it did not begin later, what is left of it is not
    /// more than all of it, and no earlier change has a later time.
    pub(crate) fn fits(&self, now: DateTime<Utc>) -> bool {
        let latest = after(now, length(self.current_step()));
        !self.behind && self.began - now <= SKEW && self.due - latest <= SKEW
    }

    /// The same step, begun at `now`.
    pub(crate) fn begun_at(&self, now: DateTime<Utc>) -> Self {
        let due = after(now, length(self.current_step()));
        RolloutStatus { began: now, due, behind: false, ..self.clone() }
    }

    /// What a driver has to do at `now`, having looked last at `looked`.
    pub(crate) fn todo(&self, now: DateTime<Utc>, looked: Option<DateTime<Utc>>) -> Todo {
        let Some(step) = self.current_step().filter(|_| !self.phase.is_over()) else { return Todo::Rest };
        // A look in the future was by a clock that was ahead.
        let looked = looked.filter(|at| *at <= now);
        if self.phase == RolloutPhase::Paused {
            return Todo::Rest;
        }
        match step {
            RolloutStep::Weight(percent) => {
                let traffic = points(*percent).map_or(Traffic::Stays, Traffic::Weighs);
                Todo::Take(self.next(StoredRolloutChange::Weighted, now, traffic))
            }
            RolloutStep::Hold(_) if now >= self.due => {
                Todo::Take(self.next(StoredRolloutChange::Held, now, Traffic::Stays))
            }
            RolloutStep::Hold(_) => Todo::Wait(self.due),
            RolloutStep::Approval(_) => match self.expiry() {
                Some((expires, then)) if now >= expires => Todo::Take(self.expired(then, now)),
                Some((expires, _)) => Todo::Wait(expires),
                None => Todo::Rest,
            },
            RolloutStep::Analysis(_) => {
                // The last look of the window is at its end, however long before that the one before it was.
                let regular = after(looked.unwrap_or(self.began).max(self.began), self.plan.looks_every());
                let closing = if looked.is_none_or(|looked| looked < self.due) { self.due } else { regular };
                let next = regular.min(closing);
                match self.expiry() {
                    // What is measured counts first, so that a pass at the deadline is one.
                    Some((expires, then)) if now >= expires && looked.is_some_and(|at| at >= expires) => {
                        Todo::Take(self.expired(then, now))
                    }
                    Some((expires, _)) if now >= next.min(expires) => Todo::Look,
                    Some((expires, _)) => Todo::Wait(next.min(expires)),
                    None if now >= next => Todo::Look,
                    None => Todo::Wait(next),
                }
            }
        }
    }

    /// What follows at `now` from a look at what was measured until `seen`, if anything.
    pub(crate) fn judged(
        &self,
        verdict: Verdict,
        reason: String,
        seen: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Option<Step> {
        // A look that began before the end did not see it, however long it took.
        let over = seen >= self.due;
        let step = match verdict {
            Verdict::Fail => self.end(StoredRolloutChange::Failed, StoredPhase::Failed, now),
            Verdict::Pass if over => self.next(StoredRolloutChange::Passed, now, Traffic::Stays),
            Verdict::Inconclusive if over && self.phase != RolloutPhase::Inconclusive => {
                let progress = StoredProgress { phase: StoredPhase::Inconclusive, ..self.progress() };
                self.stay(StoredRolloutChange::Inconclusive, progress)
            }
            Verdict::Pass | Verdict::Inconclusive => return None,
        };
        Some(Step { reason: Some(reason), ..step })
    }

    /// On to the step after this one.
    pub(crate) fn next(&self, change: StoredRolloutChange, now: DateTime<Utc>, traffic: Traffic) -> Step {
        let progress = arrive(&self.plan, self.step + 1, now);
        Step { change, progress, reason: None, traffic }
    }

    /// Over, with the split before restored.
    pub(crate) fn end(&self, change: StoredRolloutChange, phase: StoredPhase, now: DateTime<Utc>) -> Step {
        let progress = StoredProgress { phase, paused_at: None, ..self.progress() };
        let progress = StoredProgress { due: now.timestamp_micros(), ..progress };
        Step { change, progress, reason: None, traffic: Traffic::Restored }
    }

    pub(crate) fn pause(&self, change: StoredRolloutChange, now: DateTime<Utc>) -> Step {
        let paused_at = Some(now.timestamp_micros());
        self.stay(change, StoredProgress { phase: StoredPhase::Paused, paused_at, ..self.progress() })
    }

    /// On with a step that was paused. The pause does not count for its time, and a deadline that had passed begins anew. Where
    /// the clocks of pause and step cannot both be right, all of its time is left.
    pub(crate) fn resume(&self, now: DateTime<Utc>) -> Step {
        let paused_at = self.paused_at.unwrap_or(now);
        let all = TimeDelta::from_std(length(self.current_step())).unwrap_or(TimeDelta::MAX);
        let left = if paused_at > now { all } else { all.min(self.due - paused_at) };
        let mut due = now.checked_add_signed(left).unwrap_or(self.due);
        if self.plan.waits().is_some_and(|(wait, _)| after(due, wait) <= now) {
            due = now;
        }
        let progress = self.progress();
        let progress = StoredProgress { due: due.timestamp_micros(), paused_at: None, ..progress };
        self.stay(StoredRolloutChange::Resumed, StoredProgress { phase: StoredPhase::Running, ..progress })
    }

    fn stay(&self, change: StoredRolloutChange, progress: StoredProgress) -> Step {
        Step { change, progress, reason: None, traffic: Traffic::Stays }
    }

    fn progress(&self) -> StoredProgress {
        let phase = match self.phase {
            RolloutPhase::Running => StoredPhase::Running,
            RolloutPhase::Inconclusive => StoredPhase::Inconclusive,
            RolloutPhase::Paused => StoredPhase::Paused,
            RolloutPhase::Completed => StoredPhase::Completed,
            RolloutPhase::Failed => StoredPhase::Failed,
            // That someone deployed is in the deployment's record; a rollout that is over is not changed.
            RolloutPhase::Aborted | RolloutPhase::Superseded => StoredPhase::Aborted,
        };
        StoredProgress {
            step: self.step,
            began: self.began.timestamp_micros(),
            due: self.due.timestamp_micros(),
            phase,
            paused_at: self.paused_at.map(|at| at.timestamp_micros()),
        }
    }

    /// When the wait for a step that may never end is over, and what then.
    pub(crate) fn expiry(&self) -> Option<(DateTime<Utc>, OnDeadline)> {
        let (wait, then) = self.plan.waits()?;
        Some((after(self.due, wait), then))
    }

    fn expired(&self, then: OnDeadline, now: DateTime<Utc>) -> Step {
        let change = StoredRolloutChange::DeadlinePassed;
        let step = match then {
            OnDeadline::Abort => self.end(change, StoredPhase::Aborted, now),
            OnDeadline::Pause => self.pause(change, now),
        };
        let why = self.reason.as_ref().map(|reason| format!("; {reason}")).unwrap_or_default();
        Step { reason: Some(format!("the deadline has passed{why}")), ..step }
    }
}
