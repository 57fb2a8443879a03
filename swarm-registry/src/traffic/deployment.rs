use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::slots::Slots;
use super::split::{Split, named};
use crate::error::{Error, Result};
use crate::wire::{self, Cause, Deployed, Record};

/// What a channel served from some moment on.
#[derive(Debug, Clone, PartialEq)]
pub struct Deployment {
    pub(crate) channel: Arc<str>,
    pub(crate) number: u64,
    pub(crate) cause: Cause,
    pub(crate) weights: Vec<(Arc<str>, u16)>,
    pub(crate) mirror: Option<(Arc<str>, u16)>,
    pub(crate) pins: BTreeMap<String, Arc<str>>,
    pub(crate) slots: Slots,
    pub(crate) stack: Vec<u64>,
    actor: Option<String>,
    at: DateTime<Utc>,
    record: u64,
}

/// Why a [`Deployment`] was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeploymentCause {
    /// Someone deployed it.
    Deployed,
    /// It was promoted from another channel.
    Promoted,
    /// It restored the deployment of this number.
    RolledBack(u64),
    /// The rollout of this id gave its candidate another weight.
    RolledOut(u64),
}

impl Deployment {
    /// The channel.
    pub fn channel(&self) -> &str {
        &self.channel
    }

    /// Its number in the channel, from 1.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Why it was made.
    pub fn cause(&self) -> DeploymentCause {
        match self.cause {
            Cause::Deployed => DeploymentCause::Deployed,
            Cause::Promoted => DeploymentCause::Promoted,
            Cause::RolledBack(number) => DeploymentCause::RolledBack(number),
            Cause::RolledOut(rollout) => DeploymentCause::RolledOut(rollout),
        }
    }

    /// The split that it serves.
    pub fn split(&self) -> Split {
        let own = |(version, points): &(Arc<str>, u16)| (version.to_string(), *points);
        Split {
            weights: self.weights.iter().map(own).collect(),
            mirror: self.mirror.as_ref().map(own),
            pins: self.pins.iter().map(|(key, version)| (key.clone(), version.to_string())).collect(),
        }
    }

    /// The one version that has all the weight, if one has.
    pub fn sole_version(&self) -> Option<&str> {
        match &self.weights[..] {
            [(version, _)] => Some(version),
            _ => None,
        }
    }

    /// The version of each of the 10,000 slots, in order: the table that other programs route by, see [`slot`](crate::slot).
    pub fn slots(&self) -> Vec<String> {
        self.slots.expand().map(|version| self.weights[usize::from(version)].0.to_string()).collect()
    }

    /// The numbers of the deployments that [`rollback`](crate::VersionRegistry::rollback) goes back through, the
    /// earliest first and without this one.
    pub fn good(&self) -> &[u64] {
        match &self.stack[..] {
            [good @ .., _] => good,
            [] => &[],
        }
    }

    /// Who made it, where the registry was told.
    pub fn actor(&self) -> Option<&str> {
        self.actor.as_deref()
    }

    /// When it was made, by the clock of who did.
    pub fn at(&self) -> DateTime<Utc> {
        self.at
    }

    /// The number of its record.
    pub fn record(&self) -> u64 {
        self.record
    }

    /// Whether every user gets the same from both.
    pub(crate) fn serves_as(&self, other: &Deployment) -> bool {
        self.weights == other.weights
            && self.slots == other.slots
            && self.pins == other.pins
            && self.mirror == other.mirror
    }

    /// Every version that it names.
    pub(crate) fn versions(&self) -> impl Iterator<Item = &str> {
        named(&self.weights, self.mirror.as_ref(), &self.pins)
    }

    pub(crate) fn read(stored: &Deployed, record: &Record, object: &str) -> Result<Self> {
        let slots = Slots { runs: stored.slots.clone() };
        if !slots.fit(&stored.weights) {
            return Err(Error::corrupt(object, "has a table that does not fit its weights"));
        }
        Ok(Deployment {
            channel: stored.channel.clone(),
            number: stored.number,
            cause: stored.cause,
            weights: stored.weights.clone(),
            mirror: stored.mirror.clone(),
            pins: stored.pins.clone(),
            slots,
            stack: stored.stack.clone(),
            actor: record.actor.clone(),
            at: wire::time(object, record.at)?,
            record: record.seq,
        })
    }
}

/// `production #7: v1.0 80%, v2.0 20%`, and what number it restored or whose rollout it belongs to.
impl fmt::Display for Deployment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} #{}: {}", self.channel, self.number, self.split())?;
        match self.cause {
            Cause::Deployed => Ok(()),
            Cause::Promoted => f.write_str(", promoted"),
            Cause::RolledBack(number) => write!(f, ", as in #{number}"),
            Cause::RolledOut(rollout) => write!(f, ", by rollout {rollout}"),
        }
    }
}
