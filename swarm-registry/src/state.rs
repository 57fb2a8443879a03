//! What a log says: the fold of its records.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::name;
use crate::rollout::{RolloutPhase, RolloutStatus};
use crate::traffic::Deployment;
use crate::version::VersionInfo;
use crate::wire::{self, Change, Deployed, Line, Record};

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct State {
    /// The last record, and the digest of its line; 0 and `None` before the first.
    pub(crate) seq: u64,
    pub(crate) head: Option<Digest>,
    pub(crate) versions: BTreeMap<Arc<str>, Arc<VersionInfo>>,
    pub(crate) by_digest: HashMap<Digest, Vec<Arc<str>>>,
    /// Ids that are used up.
    pub(crate) collected: BTreeSet<Arc<str>>,
    /// Objects of bytes that no version has any more.
    pub(crate) dead: BTreeSet<String>,
    pub(crate) aliases: BTreeMap<String, Alias>,
    pub(crate) channels: BTreeMap<Arc<str>, Channel>,
    /// The rollouts of each channel by their ids. Only the last one can be under way.
    pub(crate) rollouts: BTreeMap<Arc<str>, BTreeMap<u64, Arc<RolloutStatus>>>,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Alias {
    pub(crate) to: Option<Arc<str>>,
    pub(crate) protected: bool,
    pub(crate) moves: Vec<AliasMove>,
}

/// That an alias was set, moved or removed.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct AliasMove {
    /// The version before, if there was one.
    pub from: Option<String>,
    /// The version after; `None` where the alias was removed.
    pub to: Option<String>,
    /// When, by the clock of who did it.
    pub at: DateTime<Utc>,
    /// Who did it, where the registry was told.
    pub actor: Option<String>,
    /// The number of the record.
    pub record: u64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Channel {
    pub(crate) current: Arc<Deployment>,
    pub(crate) history: BTreeMap<u64, Arc<Deployment>>,
}

impl State {
    /// Takes in `line`, which the caller knows to be the next.
    pub(crate) fn apply(&mut self, line: &Line, object: &str) -> Result<()> {
        let record = &line.record;
        match &record.change {
            Change::Registered(registered) => {
                let info = Arc::new(registered.info(record, object)?);
                self.by_digest.entry(info.digest).or_default().push(info.id.clone());
                self.versions.insert(info.id.clone(), info);
            }
            Change::Collected { versions, artifacts } => {
                for id in versions {
                    if let Some(info) = self.versions.remove(id)
                        && let Some(ids) = self.by_digest.get_mut(&info.digest)
                    {
                        ids.retain(|other| other != id);
                    }
                    self.collected.insert(id.clone());
                }
                self.dead.extend(artifacts.iter().cloned());
            }
            Change::AliasMoved { alias, from, to } => {
                let at = wire::time(object, record.at)?;
                let entry = self.aliases.entry(alias.clone()).or_default();
                entry.to.clone_from(to);
                let (from, to) = (from.as_deref().map(str::to_owned), to.as_deref().map(str::to_owned));
                entry.moves.push(AliasMove { from, to, at, actor: record.actor.clone(), record: record.seq });
            }
            Change::AliasProtected { alias, protected } => {
                self.aliases.entry(alias.clone()).or_default().protected = *protected;
            }
            Change::Deployed(deployed) => {
                self.deployed(deployed, record, object)?;
                if let Some(rollout) = self.last_rollout(&deployed.channel)
                    && !rollout.phase.is_over()
                {
                    rollout.phase = RolloutPhase::Superseded;
                    rollout.record = record.seq;
                    rollout.changed_at = wire::time(object, record.at)?;
                    rollout.reason = Some(format!("deployment {} was made", deployed.number));
                }
            }
            Change::RolloutStarted(started) => {
                let after = self.channels.get(&started.channel).map(|channel| channel.current.at());
                let status = Arc::new(RolloutStatus::start(started, after, record, object)?);
                self.rollouts.entry(started.channel.clone()).or_default().insert(status.id, status);
            }
            Change::RolloutMoved(moved) => {
                if let Some(deployed) = &moved.deployed {
                    self.deployed(deployed, record, object)?;
                }
                // Of a rollout that compaction removed, only what it deployed is left.
                if let Some(rollout) = self.rollout(&moved.channel, moved.rollout) {
                    rollout.moved(moved, record, object)?;
                }
            }
            Change::Signed { version, key, signature } => {
                if let Some(info) = self.versions.get_mut(version) {
                    Arc::make_mut(info).signatures.insert(key.clone(), signature.clone());
                }
            }
            Change::RolloutLeased(leased) => {
                if let Some(rollout) = self.rollout(&leased.channel, leased.rollout) {
                    rollout.leased(leased, object)?;
                }
            }
        }
        self.seq = record.seq;
        self.head = Some(line.digest);
        Ok(())
    }

    fn deployed(&mut self, deployed: &Deployed, record: &Record, object: &str) -> Result<()> {
        let deployment = Arc::new(Deployment::read(deployed, record, object)?);
        let history = match self.channels.remove(&deployed.channel) {
            Some(mut channel) => std::mem::take(&mut channel.history),
            None => BTreeMap::new(),
        };
        let mut channel = Channel { current: deployment.clone(), history };
        channel.history.insert(deployment.number, deployment);
        self.channels.insert(deployed.channel.clone(), channel);
        Ok(())
    }

    fn rollout(&mut self, channel: &str, id: u64) -> Option<&mut RolloutStatus> {
        self.rollouts.get_mut(channel)?.get_mut(&id).map(Arc::make_mut)
    }

    fn last_rollout(&mut self, channel: &str) -> Option<&mut RolloutStatus> {
        self.rollouts.get_mut(channel)?.values_mut().next_back().map(Arc::make_mut)
    }

    /// The rollout on `channel` that is not over.
    pub(crate) fn rollout_under_way(&self, channel: &str) -> Option<&Arc<RolloutStatus>> {
        self.rollouts.get(channel)?.values().next_back().filter(|rollout| !rollout.phase.is_over())
    }

    pub(crate) fn version(&self, id: &str) -> Result<&Arc<VersionInfo>> {
        self.versions.get(id).ok_or_else(|| {
            let message = if self.collected.contains(id) {
                format!("version {} was removed by retention", name::quoted(id))
            } else {
                let near = name::nearest(id, self.versions.keys().map(|known| &**known));
                format!("there is no version {}{near}", name::quoted(id))
            };
            Error::new(ErrorKind::NotFound, message).of_version(id)
        })
    }

    pub(crate) fn channel(&self, channel: &str) -> Result<&Channel> {
        self.channels.get(channel).ok_or_else(|| {
            let near = name::nearest(channel, self.channels.keys().map(|known| &**known));
            let message = format!("nothing was deployed to the channel {}{near}", name::quoted(channel));
            Error::new(ErrorKind::NotFound, message).of_channel(channel)
        })
    }
}
