use std::time::Duration;

use super::{OnDeadline, Rollout, RolloutStep, points};
use crate::judge::Judge;
use crate::wire::{StoredDeadline, StoredOnDeadline, StoredPlan, StoredStep};

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl Rollout {
    /// What is written of a plan that was checked.
    pub(crate) fn store(&self) -> StoredPlan {
        let step = |step: &RolloutStep| match step {
            // A checked weight has points.
            RolloutStep::Weight(percent) => StoredStep::Weight(points(*percent).unwrap_or_default()),
            RolloutStep::Hold(time) => StoredStep::Hold(micros(*time)),
            RolloutStep::Analysis(time) => StoredStep::Analysis(micros(*time)),
            RolloutStep::Approval(what) => StoredStep::Approval(what.clone()),
        };
        let deadline = self.deadline.map(|(after, then)| StoredDeadline {
            after: micros(after),
            then: match then {
                OnDeadline::Abort => StoredOnDeadline::Abort,
                OnDeadline::Pause => StoredOnDeadline::Pause,
            },
        });
        StoredPlan {
            steps: self.steps.iter().map(step).collect(),
            look_every: micros(self.look_every),
            deadline,
            judge: self.judge.as_ref().map(Judge::store),
        }
    }

    pub(crate) fn read(stored: &StoredPlan) -> Self {
        let step = |step: &StoredStep| match step {
            StoredStep::Weight(points) => RolloutStep::Weight(f64::from(*points) / 100.0),
            StoredStep::Hold(time) => RolloutStep::Hold(Duration::from_micros(*time)),
            StoredStep::Analysis(time) => RolloutStep::Analysis(Duration::from_micros(*time)),
            StoredStep::Approval(what) => RolloutStep::Approval(what.clone()),
        };
        let then = |then| match then {
            StoredOnDeadline::Abort => OnDeadline::Abort,
            StoredOnDeadline::Pause => OnDeadline::Pause,
        };
        Rollout {
            steps: stored.steps.iter().map(step).collect(),
            judge: stored.judge.as_ref().map(Judge::read),
            look_every: Duration::from_micros(stored.look_every),
            deadline: stored.deadline.map(|d| (Duration::from_micros(d.after), then(d.then))),
        }
    }
}
