use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::authorizer::Action;
use crate::error::{Error, ErrorKind, Result};
use crate::name;
use crate::state::{Channel, State};
use crate::traffic::{Deployment, Router, Routes, Slots, Split};
use crate::wire::{Cause, Change, Deployed};

use super::VersionRegistry;

/// How many deployments a channel can be rolled back through.
const DEPTH: usize = 100;

/// Traffic: channels, such as `production`, and what they serve.
impl VersionRegistry {
    /// Serves `split` on `channel` from now on. As few users as possible get another version than before.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where a version is not registered; [`ErrorKind::InvalidInput`]; [`ErrorKind::Untrusted`]
    /// where a version lacks signatures that the policy asks for; [`ErrorKind::Denied`]; [`ErrorKind::Store`].
    pub async fn deploy(&self, channel: &str, split: Split) -> Result<Arc<Deployment>> {
        self.change_traffic(Action::Deploy, channel, |state| {
            deploy(state, channel, &split, Cause::Deployed).map(Some)
        })
        .await
    }

    /// Serves `split` on `channel` if its deployment is still number `current`, 0 for none: compare-and-swap.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] where it is another; else as [`deploy`](VersionRegistry::deploy).
    pub async fn deploy_after(&self, channel: &str, current: u64, split: Split) -> Result<Arc<Deployment>> {
        let planned = |state: &State| {
            let now = state.channels.get(channel).map_or(0, |channel| channel.current.number);
            if now != current {
                let message = format!("the channel {channel:?} is at deployment {now}, not {current}");
                return Err(Error::new(ErrorKind::Conflict, message).of_channel(channel));
            }
            deploy(state, channel, &split, Cause::Deployed).map(Some)
        };
        self.change_traffic(Action::Deploy, channel, planned).await
    }

    /// Serves on `channel` what `from` serves, which must be one version alone. It gets everything: the pins and the mirror
    /// of either channel are not taken over, and those of `channel` end.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidState`] where `from` divides its traffic; [`ErrorKind::NotFound`] where it serves nothing;
    /// else as [`deploy`](VersionRegistry::deploy).
    pub async fn promote(&self, from: &str, channel: &str) -> Result<Arc<Deployment>> {
        let planned = |state: &State| {
            let source = &state.channel(from)?.current;
            let Some(version) = source.sole_version() else {
                let message = format!("the channel {from:?} serves {}, not one version", source.split());
                return Err(Error::new(ErrorKind::InvalidState, message).of_channel(from));
            };
            deploy(state, channel, &Split::all(version), Cause::Promoted).map(Some)
        };
        self.change_traffic(Action::Promote, channel, planned).await
    }

    /// Restores the whole split, pins, mirror and every user's place of the last good deployment: the one before the current
    /// one. The current one is no longer good, so calling again goes further back; up to 100 deployments. Those that serve
    /// what is served already, as where the same split was deployed twice, are passed over.
    ///
    /// History is not rewritten: a rollback is a deployment too. If several callers see the same trouble, each rolls back
    /// once; let each call [`rollback_from`](VersionRegistry::rollback_from) with the deployment that it saw fail.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidState`] where no earlier one serves anything else; [`ErrorKind::NotFound`] where nothing was
    /// deployed; [`ErrorKind::Denied`]; [`ErrorKind::Store`].
    pub async fn rollback(&self, channel: &str) -> Result<Arc<Deployment>> {
        self.change_traffic(Action::Rollback, channel, |state| rollback(state.channel(channel)?).map(Some))
            .await
    }

    /// [`rollback`](VersionRegistry::rollback), if the deployment of `channel` is still number `failed`.
    ///
    /// # Errors
    /// [`ErrorKind::Conflict`] where it is another; else as [`rollback`](VersionRegistry::rollback).
    pub async fn rollback_from(&self, channel: &str, failed: u64) -> Result<Arc<Deployment>> {
        let planned = |state: &State| {
            let now = state.channel(channel)?;
            if now.current.number != failed {
                let number = now.current.number;
                let message = format!("the channel {channel:?} is at deployment {number}, not {failed}");
                return Err(Error::new(ErrorKind::Conflict, message).of_channel(channel));
            }
            rollback(now).map(Some)
        };
        self.change_traffic(Action::Rollback, channel, planned).await
    }

    /// Restores the last good deployment in which `version` had all the weight. Those after it are no longer good. Where it
    /// has all the weight now, nothing changes, so that this can be repeated where its answer was lost.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidState`] where there is none: [`deploy`](VersionRegistry::deploy) it instead; else as
    /// [`rollback`](VersionRegistry::rollback).
    pub async fn rollback_to(&self, channel: &str, version: &str) -> Result<Arc<Deployment>> {
        let planned = |state: &State| {
            state.version(version)?;
            let now = state.channel(channel)?;
            if now.current.sole_version() == Some(version) {
                return Ok(None);
            }
            let good = now.current.good();
            let at = good.iter().rposition(|number| {
                now.history.get(number).and_then(|good| good.sole_version()) == Some(version)
            });
            match at {
                Some(at) => restore(now, &good[..=at]).map(Some),
                None => {
                    let message =
                        format!("{version:?} had all of {channel:?} in no deployment to go back to");
                    Err(Error::new(ErrorKind::InvalidState, message).of_channel(channel).of_version(version))
                }
            }
        };
        self.change_traffic(Action::Rollback, channel, planned).await
    }

    /// What `channel` serves.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where nothing was deployed to it; [`ErrorKind::Store`].
    pub async fn deployment(&self, channel: &str) -> Result<Arc<Deployment>> {
        self.refresh().await?;
        Ok(self.state().channel(channel)?.current.clone())
    }

    /// What `channel` served, the earliest first and the current one last; without what was compacted away.
    ///
    /// # Errors
    /// As [`deployment`](VersionRegistry::deployment).
    pub async fn deployments(&self, channel: &str) -> Result<Vec<Arc<Deployment>>> {
        self.refresh().await?;
        Ok(self.state().channel(channel)?.history.values().cloned().collect())
    }

    /// A router for `channel`: it serves what this process knows. What other processes deploy it serves once this one has heard
    /// of it; keep [`follow`](VersionRegistry::follow) going.
    ///
    /// # Errors
    /// As [`deployment`](VersionRegistry::deployment).
    pub async fn router(&self, channel: &str) -> Result<Router> {
        self.refresh().await?;
        // The state stays locked, so that what is published meanwhile reaches the new cell.
        let state = self.state();
        let current = &state.channel(channel)?.current;
        let mut routes = self.shared.routes.lock().unwrap_or_else(PoisonError::into_inner);
        let cell = routes
            .entry(current.channel.clone())
            .or_insert_with(|| Arc::new(ArcSwap::from_pointee(Routes::new(current.clone()))));
        Ok(Router::new(cell.clone()))
    }

    /// Asks the store every `interval` what other processes did, for ever, so that the routers of this process serve it.
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use swarm_registry::{ObjectVersionStore, VersionRegistry};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), swarm_registry::Error> {
    /// # let registry = VersionRegistry::with_store(ObjectVersionStore::memory()).await?;
    /// let following = registry.clone();
    /// tokio::spawn(async move {
    ///     let Err(error) = following.follow(Duration::from_secs(5)).await;
    ///     eprintln!("traffic is not followed any more: {error}");
    /// });
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// While the store is away, routers go on with what they have, and the log tells. A
    /// [`watch`](VersionRegistry::watch) does the same, for those who want to hear what happened.
    ///
    /// # Errors
    /// It ends by an error alone, one that another try does not mend: [`ErrorKind::Corrupt`]; [`ErrorKind::Missing`];
    /// [`ErrorKind::NewerFormat`].
    pub async fn follow(&self, interval: Duration) -> Result<Infallible> {
        loop {
            match self.refresh().await {
                Ok(()) => {}
                Err(error) if error.is_retryable() => {
                    tracing::warn!(%error, "routers go on with what they have");
                }
                Err(error) => return Err(error),
            }
            // No wait at all would be a loop that only asks.
            self.shared.clock.sleep(interval.max(Duration::from_millis(1))).await;
        }
    }

    async fn change_traffic(
        &self,
        action: Action,
        channel: &str,
        plan: impl Fn(&State) -> Result<Option<Deployed>>,
    ) -> Result<Arc<Deployment>> {
        name::check("channel", channel)?;
        // What serves already where nothing has to change, as it was when that was decided.
        let kept = Mutex::new(None);
        let planned = |state: &State| {
            let deployed = plan(state)?;
            if deployed.is_none() {
                let current = state.channel(channel)?.current.clone();
                *kept.lock().unwrap_or_else(PoisonError::into_inner) = Some(current);
            }
            Ok(deployed.map(Change::Deployed))
        };
        let line = self.commit(action, channel, planned).await?;
        let state = self.state();
        let made = match line.as_ref().map(|line| &line.record.change) {
            Some(Change::Deployed(deployed)) => {
                state.channel(channel)?.history.get(&deployed.number).cloned()
            }
            _ => kept.into_inner().unwrap_or_else(PoisonError::into_inner),
        };
        // A compaction by another process can have taken it already.
        made.map_or_else(|| Ok(state.channel(channel)?.current.clone()), Ok)
    }
}

pub(super) fn deploy(state: &State, channel: &str, split: &Split, cause: Cause) -> Result<Deployed> {
    for version in split.versions() {
        state.version(version)?;
    }
    let now = state.channels.get(channel).map(|channel| &channel.current);
    let own = |(version, points): &(String, u16)| (Arc::from(version.as_str()), *points);
    let weights: Vec<(Arc<str>, u16)> = split.weights.iter().map(own).collect();
    let slots = Slots::moved_least(&weights, now.map(|now| (&now.slots, &*now.weights)));
    let number = now.map_or(1, |now| now.number + 1);
    let stack = stacked(now.map_or(&[], |now| &now.stack), number);
    let pins: BTreeMap<String, Arc<str>> =
        split.pins.iter().map(|(key, version)| (key.clone(), version.as_str().into())).collect();
    Ok(Deployed {
        channel: channel.into(),
        number,
        cause,
        weights,
        mirror: split.mirror.as_ref().map(own),
        pins,
        slots: slots.runs,
        stack,
    })
}

/// The deployments to go back through, with one more: the last of them.
pub(super) fn stacked(stack: &[u64], number: u64) -> Vec<u64> {
    let kept = stack.len().min(DEPTH);
    [&stack[stack.len() - kept..], &[number]].concat()
}

fn rollback(channel: &Channel) -> Result<Deployed> {
    let mut good = channel.current.good();
    // To go back to what serves the same would help nobody.
    while let [before @ .., last] = good
        && channel.history.get(last).is_some_and(|last| last.serves_as(&channel.current))
    {
        good = before;
    }
    restore(channel, good)
}

/// Serves again what the last of `stack` served.
pub(super) fn restore(channel: &Channel, stack: &[u64]) -> Result<Deployed> {
    let now = &channel.current;
    let good = stack.last().and_then(|number| channel.history.get(number)).ok_or_else(|| {
        let name = &now.channel;
        let message = format!(
            "the channel {name:?} has no good deployment before number {} that serves anything else",
            now.number
        );
        Error::new(ErrorKind::InvalidState, message).of_channel(name)
    })?;
    Ok(Deployed {
        channel: now.channel.clone(),
        number: now.number + 1,
        cause: Cause::RolledBack(good.number),
        weights: good.weights.clone(),
        mirror: good.mirror.clone(),
        pins: good.pins.clone(),
        slots: good.slots.runs.clone(),
        stack: stack.to_vec(),
    })
}
