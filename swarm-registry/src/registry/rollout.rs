use std::sync::Arc;

use crate::authorizer::Action;
use crate::error::{Error, ErrorKind, Result};
use crate::name;
use crate::rollout::{
    Rollout, RolloutPhase, RolloutStatus, RolloutStep, Step, Traffic, arrive, points, ramped,
};
use crate::state::State;
use crate::wire::{Cause, Change, MovedRollout, StartedRollout, StoredPhase, StoredRolloutChange};

use super::VersionRegistry;
use super::traffic::{deploy, restore, stacked};

/// Rollouts: plans that bring a version to a channel step by step. [`drive_rollout`](VersionRegistry::drive_rollout)
/// carries one on; the verbs here are for people, and need no driver.
impl VersionRegistry {
    /// Begins to roll `candidate` out on `channel`. Nothing is deployed until someone
    /// [drives](VersionRegistry::drive_rollout) it.
    ///
    /// The version with the largest share so far is the baseline that the candidate is compared with. For a
    /// [`rollback`](VersionRegistry::rollback) the whole rollout counts as one deployment: it restores what was served
    /// before. As long as the candidate has no weight, and after the rollout failed or was aborted, that is served already,
    /// and a rollback goes back further: [`rollback_from`](VersionRegistry::rollback_from) or
    /// [`abort_rollout`](VersionRegistry::abort_rollout) is what you mean.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use swarm_registry::{Criterion, Judge, ObjectVersionStore, Rollout, RolloutPhase, Split, Version, VersionRegistry};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), swarm_registry::Error> {
    /// # let registry = VersionRegistry::with_store(ObjectVersionStore::memory()).await?;
    /// # for id in ["v1.0", "v2.0"] { registry.register(Version::new(id).artifact(id)).await?; }
    /// registry.deploy("production", Split::all("v1.0")).await?;
    /// let plan = Rollout::new()
    ///     .weight(20.0)
    ///     .analysis(Duration::from_secs(24 * 3600))
    ///     .weight(100.0)
    ///     .judge(Judge::new([Criterion::lower_is_better("errors").tolerance_absolute(0.01)]).sequential(10_000));
    /// let status = registry.start_rollout("production", "v2.0", &plan).await?;
    /// assert_eq!((status.candidate(), status.baseline()), ("v2.0", "v1.0"));
    ///
    /// let status = registry.abort_rollout(&status, "not on a Friday").await?;
    /// assert_eq!(status.phase(), RolloutPhase::Aborted);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] lists everything that is wrong with the plan; [`ErrorKind::InvalidState`] where a rollout
    /// is under way on the channel, or the candidate has more of it already than the plan first gives;
    /// [`ErrorKind::NotFound`] where the candidate is not registered or nothing was deployed to the channel;
    /// [`ErrorKind::Untrusted`] where a version that it will serve, the candidate or another, lacks signatures that the
    /// policy asks for; [`ErrorKind::Denied`]; [`ErrorKind::Store`].
    pub async fn start_rollout(
        &self,
        channel: &str,
        candidate: &str,
        plan: &Rollout,
    ) -> Result<Arc<RolloutStatus>> {
        name::check("channel", channel)?;
        plan.check()?;
        let stored = plan.store();
        let started = self.commit(Action::StartRollout, channel, |state| {
            let candidate = state.version(candidate)?.id.clone();
            let now = state.channel(channel)?;
            let refuse = |why: String| {
                let error = Error::new(ErrorKind::InvalidState, why);
                Err(error.of_channel(channel).of_version(&candidate))
            };
            if let Some(other) = last(state, channel).filter(|other| !other.phase.is_over()) {
                return refuse(format!(
                    "the channel {channel:?} has a rollout of {:?} under way",
                    other.candidate
                ));
            }
            let weights = &now.current.weights;
            let has = weights.iter().find(|(version, _)| *version == candidate).map_or(0, |(_, has)| *has);
            let first = plan.steps().iter().find_map(|step| match step {
                RolloutStep::Weight(percent) => points(*percent),
                _ => None,
            });
            if first.is_none_or(|first| first < has) {
                return refuse(format!(
                    "{candidate:?} has {} % of {channel:?} already, more than the first weight",
                    f64::from(has) / 100.0
                ));
            }
            let others = weights.iter().filter(|(version, _)| *version != candidate);
            // The first of the largest, so that the order of the split decides between equals.
            let baseline = others.rev().max_by_key(|(_, points)| *points).map(|(version, _)| version.clone());
            let Some(baseline) = baseline else {
                return refuse(format!("{candidate:?} has all of {channel:?} already"));
            };
            Ok(Some(Change::RolloutStarted(StartedRollout {
                channel: channel.into(),
                candidate,
                baseline,
                origin: now.current.number,
                plan: stored.clone(),
                progress: arrive(plan, 0, self.shared.clock.now()),
            })))
        });
        started.await?;
        self.known_rollout(channel)
    }

    /// Where the last rollout on `channel` stands.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there was none; [`ErrorKind::Store`].
    pub async fn rollout(&self, channel: &str) -> Result<Arc<RolloutStatus>> {
        self.refresh().await?;
        self.known_rollout(channel)
    }

    /// The rollouts on `channel`, the earliest first; without what was compacted away.
    ///
    /// # Errors
    /// [`ErrorKind::Store`].
    pub async fn rollouts(&self, channel: &str) -> Result<Vec<Arc<RolloutStatus>>> {
        self.refresh().await?;
        let state = self.state();
        Ok(state.rollouts.get(channel).into_iter().flat_map(|all| all.values().cloned()).collect())
    }

    /// Stops the rollout that was `seen` where it is: nothing happens to it, not even a rollback, until someone resumes,
    /// skips or aborts it. One that is paused stays so.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] where another rollout was begun on the channel since; [`ErrorKind::InvalidState`] where it is
    /// over; [`ErrorKind::Denied`]; [`ErrorKind::Store`].
    pub async fn pause_rollout(&self, seen: &RolloutStatus) -> Result<Arc<RolloutStatus>> {
        self.step_rollout(Action::PauseRollout, seen, |status| {
            let pause = || status.pause(StoredRolloutChange::Paused, self.shared.clock.now());
            Ok((status.phase != RolloutPhase::Paused).then(pause))
        })
        .await
    }

    /// Lets the rollout that was `seen` go on. The pause does not count for the time of its step, though what was measured
    /// meanwhile does; a deadline that has passed begins anew. One that is not paused goes on as it does.
    ///
    /// # Errors
    /// As [`pause_rollout`](VersionRegistry::pause_rollout).
    pub async fn resume_rollout(&self, seen: &RolloutStatus) -> Result<Arc<RolloutStatus>> {
        self.step_rollout(Action::ResumeRollout, seen, |status| {
            Ok((status.phase == RolloutPhase::Paused).then(|| status.resume(self.shared.clock.now())))
        })
        .await
    }

    /// Gives the approval that `seen` waits for. It holds for that step of that rollout, and no other.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] where the rollout is not at that step any more; [`ErrorKind::InvalidState`] where it does not
    /// wait for approval, or is paused; [`ErrorKind::Denied`]; [`ErrorKind::Store`].
    pub async fn approve_rollout(&self, seen: &RolloutStatus) -> Result<Arc<RolloutStatus>> {
        self.step_rollout(Action::ApproveRollout, seen, |status| {
            same_step(status, seen)?;
            if !matches!(status.current_step(), Some(RolloutStep::Approval(_))) {
                return Err(unfit(status, "does not wait for approval"));
            }
            if status.phase == RolloutPhase::Paused {
                return Err(unfit(status, "is paused"));
            }
            let now = self.shared.clock.now();
            Ok(Some(status.next(StoredRolloutChange::Approved, now, Traffic::Stays)))
        })
        .await
    }

    /// Leaves out the step that `seen` is at, whatever it waits for, and goes on with the next, also where it is paused: the
    /// one way past an analysis that tells nothing. A rollout that failed is over, and cannot be skipped on.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] where the rollout is not at that step any more; else as
    /// [`pause_rollout`](VersionRegistry::pause_rollout).
    pub async fn skip_rollout_step(&self, seen: &RolloutStatus, reason: &str) -> Result<Arc<RolloutStatus>> {
        self.step_rollout(Action::SkipRolloutStep, seen, |status| {
            same_step(status, seen)?;
            let now = self.shared.clock.now();
            let step = status.next(StoredRolloutChange::Skipped, now, Traffic::Stays);
            Ok(Some(Step { reason: Some(reason.to_owned()), ..step }))
        })
        .await
    }

    /// Ends the rollout that was `seen` and restores the whole split before it, every user's place included, in one record.
    ///
    /// # Errors
    /// As [`pause_rollout`](VersionRegistry::pause_rollout).
    pub async fn abort_rollout(&self, seen: &RolloutStatus, reason: &str) -> Result<Arc<RolloutStatus>> {
        self.step_rollout(Action::AbortRollout, seen, |status| {
            let now = self.shared.clock.now();
            let step = status.end(StoredRolloutChange::Aborted, StoredPhase::Aborted, now);
            Ok(Some(Step { reason: Some(reason.to_owned()), ..step }))
        })
        .await
    }

    /// The last rollout on `channel`, as far as this process knows.
    pub(crate) fn known_rollout(&self, channel: &str) -> Result<Arc<RolloutStatus>> {
        let state = self.state();
        last(&state, channel).cloned().ok_or_else(|| no_rollout(channel))
    }

    /// Records what `plan` makes of the rollout that was `seen`, if anything and if it is the one under way.
    async fn step_rollout(
        &self,
        action: Action,
        seen: &RolloutStatus,
        plan: impl Fn(&RolloutStatus) -> Result<Option<Step>>,
    ) -> Result<Arc<RolloutStatus>> {
        let channel = &*seen.channel;
        let planned = |state: &State| {
            let status = last(state, channel).ok_or_else(|| no_rollout(channel))?;
            if status.id != seen.id {
                let message = format!(
                    "the channel {channel:?} is at rollout {}, not at rollout {}",
                    status.id, seen.id
                );
                return Err(Error::new(ErrorKind::Conflict, message).of_channel(channel));
            }
            if status.phase.is_over() {
                return Err(unfit(status, "is over"));
            }
            plan(status)?.map(|step| step_change(state, status, step)).transpose()
        };
        self.commit(action, channel, planned).await?;
        self.known_rollout(channel)
    }
}

fn no_rollout(channel: &str) -> Error {
    Error::new(ErrorKind::NotFound, format!("there is no rollout on the channel {channel:?}"))
        .of_channel(channel)
}

fn unfit(status: &RolloutStatus, why: &str) -> Error {
    let message = format!("the rollout {}, {status}, {why}", status.id);
    Error::new(ErrorKind::InvalidState, message).of_channel(&status.channel).of_version(&status.candidate)
}

fn same_step(status: &RolloutStatus, seen: &RolloutStatus) -> Result<()> {
    if status.step == seen.step {
        return Ok(());
    }
    let message = format!("the rollout {} is at step {}, not at step {}", seen.id, status.step, seen.step);
    Err(Error::new(ErrorKind::Conflict, message).of_channel(&status.channel))
}

fn last<'a>(state: &'a State, channel: &str) -> Option<&'a Arc<RolloutStatus>> {
    state.rollouts.get(channel)?.values().next_back()
}

/// The record of `step`, with what it deploys.
pub(super) fn step_change(state: &State, status: &RolloutStatus, step: Step) -> Result<Change> {
    let channel = state.channel(&status.channel)?;
    let origin = channel.history.get(&status.origin).ok_or_else(|| {
        let message = format!("the deployment {} of {:?} is gone", status.origin, status.channel);
        Error::new(ErrorKind::InvalidState, message).of_channel(&status.channel)
    })?;
    let deployed = match step.traffic {
        Traffic::Weighs(points) => {
            let split = ramped(&origin.split(), &status.candidate, points)?;
            let mut deployed = deploy(state, &status.channel, &split, Cause::RolledOut(status.id))?;
            // The whole rollout is one deployment to go back from.
            deployed.stack = stacked(&origin.stack, deployed.number);
            Some(deployed)
        }
        // Where nothing was deployed yet, what is served is what was.
        Traffic::Restored if channel.current.number != origin.number => {
            Some(restore(channel, &origin.stack)?)
        }
        Traffic::Restored | Traffic::Stays => None,
    };
    Ok(Change::RolloutMoved(MovedRollout {
        channel: status.channel.clone(),
        rollout: status.id,
        change: step.change,
        progress: step.progress,
        reason: step.reason,
        deployed,
    }))
}
