use std::fmt;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::error::Result;
use crate::rollout::RolloutPhase;
use crate::traffic::Deployment;
use crate::wire::{self, Change, Line, StoredRolloutChange};

/// One record of the history, for observers: webhooks, dashboards, audit.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Event {
    /// The number of the record; every process sees the same ones in the same order.
    pub record: u64,
    /// When it was written, by the clock of who did.
    pub at: DateTime<Utc>,
    /// Who wrote it, where the registry was told.
    pub actor: Option<String>,
    /// What happened.
    pub kind: EventKind,
}

/// What an [`Event`] tells.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum EventKind {
    /// A version was registered.
    VersionRegistered {
        /// Its id.
        version: String,
    },
    /// Someone vouched for a version.
    VersionSigned {
        /// Its id.
        version: String,
        /// The key, in hex.
        key: String,
    },
    /// Versions were removed, because nothing reached them.
    VersionsCollected {
        /// Their ids.
        versions: Vec<String>,
    },
    /// An alias was set, moved or removed.
    AliasMoved {
        /// The alias.
        alias: String,
        /// The version before.
        from: Option<String>,
        /// The version after.
        to: Option<String>,
    },
    /// An alias was protected, or is no more.
    AliasProtected {
        /// The alias.
        alias: String,
        /// Whether it is protected now.
        protected: bool,
    },
    /// A channel has a new deployment; its cause tells a rollback. What rollouts deploy is in their own events:
    /// [`Event::deployment`] answers both.
    Deployed(Arc<Deployment>),
    /// A rollout was begun, went on, was held or ended.
    Rollout(RolloutEvent),
    /// A driver has a rollout for itself. That is no news, and comes again and again: a
    /// [`watch`](crate::VersionRegistry::watch) leaves it out, the history has it.
    RolloutLeased {
        /// The channel.
        channel: String,
        /// The id of the rollout.
        rollout: u64,
        /// Counts the drivers.
        term: u64,
        /// Until when, if it does not ask again.
        until: DateTime<Utc>,
    },
    /// The records after the event before, up to this number, were compacted away before they were read. What
    /// they did is part of the state; what they were is not known. No record has this kind: its time is that of the reader.
    RecordsSkipped,
}

/// What happened to a rollout.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct RolloutEvent {
    /// The channel.
    pub channel: String,
    /// The id of the rollout.
    pub rollout: u64,
    /// What happened.
    pub change: RolloutChange,
    /// What was deployed with that.
    pub deployment: Option<Arc<Deployment>>,
    /// Why: what a look said, or what someone gave as the reason.
    pub reason: Option<String>,
}

/// What a [`RolloutEvent`] tells.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RolloutChange {
    /// It was begun.
    Started {
        /// The version that is rolled out.
        candidate: String,
    },
    /// A step ended, and the step of this number is under way, or all are done.
    Advanced {
        /// How the step ended.
        by: StepEnd,
        /// How many steps are done.
        step: usize,
        /// [`Running`](RolloutPhase::Running) or [`Completed`](RolloutPhase::Completed).
        phase: RolloutPhase,
    },
    /// An analysis has had its time and tells nothing yet.
    Inconclusive,
    /// It was paused, by someone or by its deadline.
    Paused,
    /// It was resumed.
    Resumed,
    /// The candidate was found to be worse.
    Failed,
    /// It was ended by someone or by its deadline.
    Aborted,
}

/// How a step of a rollout ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StepEnd {
    /// The candidate got its weight.
    Weighted,
    /// The time of a hold was over.
    Held,
    /// An analysis passed.
    Passed,
    /// Someone approved.
    Approved,
    /// Someone left the step out.
    Skipped,
}

impl Event {
    /// The deployment that was made, by whatever verb.
    pub fn deployment(&self) -> Option<&Arc<Deployment>> {
        match &self.kind {
            EventKind::Deployed(made) => Some(made),
            EventKind::Rollout(rollout) => rollout.deployment.as_ref(),
            _ => None,
        }
    }

    pub(crate) fn of(line: &Line, object: &str) -> Result<Self> {
        let record = &line.record;
        let text = |id: &Arc<str>| id.to_string();
        let kind = match &record.change {
            Change::Registered(registered) => EventKind::VersionRegistered { version: text(&registered.id) },
            Change::Collected { versions, .. } => {
                EventKind::VersionsCollected { versions: versions.iter().map(text).collect() }
            }
            Change::Signed { version, key, .. } => {
                EventKind::VersionSigned { version: text(version), key: key.clone() }
            }
            Change::AliasMoved { alias, from, to } => EventKind::AliasMoved {
                alias: alias.clone(),
                from: from.as_ref().map(text),
                to: to.as_ref().map(text),
            },
            Change::AliasProtected { alias, protected } => {
                EventKind::AliasProtected { alias: alias.clone(), protected: *protected }
            }
            Change::Deployed(deployed) => {
                EventKind::Deployed(Arc::new(Deployment::read(deployed, record, object)?))
            }
            Change::RolloutStarted(started) => EventKind::Rollout(RolloutEvent {
                channel: text(&started.channel),
                rollout: record.seq,
                change: RolloutChange::Started { candidate: text(&started.candidate) },
                deployment: None,
                reason: None,
            }),
            Change::RolloutMoved(moved) => {
                let made = moved.deployed.as_ref();
                let deployment = made.map(|made| Deployment::read(made, record, object)).transpose()?;
                let phase = RolloutPhase::from(moved.progress.phase);
                let advanced = |by| RolloutChange::Advanced { by, step: moved.progress.step, phase };
                let change = match moved.change {
                    StoredRolloutChange::Weighted => advanced(StepEnd::Weighted),
                    StoredRolloutChange::Held => advanced(StepEnd::Held),
                    StoredRolloutChange::Passed => advanced(StepEnd::Passed),
                    StoredRolloutChange::Approved => advanced(StepEnd::Approved),
                    StoredRolloutChange::Skipped => advanced(StepEnd::Skipped),
                    StoredRolloutChange::Inconclusive => RolloutChange::Inconclusive,
                    StoredRolloutChange::DeadlinePassed if phase == RolloutPhase::Aborted => {
                        RolloutChange::Aborted
                    }
                    StoredRolloutChange::Paused | StoredRolloutChange::DeadlinePassed => {
                        RolloutChange::Paused
                    }
                    StoredRolloutChange::Resumed => RolloutChange::Resumed,
                    StoredRolloutChange::Failed => RolloutChange::Failed,
                    StoredRolloutChange::Aborted => RolloutChange::Aborted,
                };
                EventKind::Rollout(RolloutEvent {
                    channel: text(&moved.channel),
                    rollout: moved.rollout,
                    change,
                    deployment: deployment.map(Arc::new),
                    reason: moved.reason.clone(),
                })
            }
            Change::RolloutLeased(leased) => EventKind::RolloutLeased {
                channel: text(&leased.channel),
                rollout: leased.rollout,
                term: leased.term,
                until: wire::time(object, leased.until)?,
            },
        };
        let at = wire::time(object, record.at)?;
        Ok(Event { record: record.seq, at, actor: record.actor.clone(), kind })
    }
}

/// One line: `42 2026-03-01T09:00:00Z ops: production #7: v1.0 80%, v2.0 20%`.
impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.record, shown(self.at))?;
        if let Some(actor) = &self.actor {
            write!(f, " {actor}")?;
        }
        write!(f, ": {}", self.kind)
    }
}

impl fmt::Display for EventKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |version: &Option<String>| version.clone().unwrap_or_else(|| "nothing".to_owned());
        match self {
            EventKind::VersionRegistered { version } => write!(f, "registered {version}"),
            EventKind::VersionSigned { version, key } => write!(f, "{version} signed by {key}"),
            EventKind::VersionsCollected { versions } => write!(f, "removed {}", versions.join(", ")),
            EventKind::AliasMoved { alias, from, to } => {
                write!(f, "alias {alias}: {} to {}", or_none(from), or_none(to))
            }
            EventKind::AliasProtected { alias, protected: true } => write!(f, "alias {alias} protected"),
            EventKind::AliasProtected { alias, .. } => write!(f, "alias {alias} not protected any more"),
            EventKind::Deployed(made) => write!(f, "{made}"),
            EventKind::Rollout(rollout) => write!(f, "{rollout}"),
            EventKind::RolloutLeased { channel, rollout, term, until } => {
                write!(f, "rollout {rollout} of {channel}: driver {term} until {}", shown(*until))
            }
            EventKind::RecordsSkipped => f.write_str("what came before was compacted away"),
        }
    }
}

impl fmt::Display for RolloutEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rollout {} of {}: {}", self.rollout, self.channel, self.change)?;
        if let Some(deployment) = &self.deployment {
            write!(f, ", {deployment}")?;
        }
        match &self.reason {
            // Of somebody's own words or of a failed source, so it may be anything.
            Some(reason) => write!(f, " ({})", one_line(reason)),
            None => Ok(()),
        }
    }
}

impl fmt::Display for RolloutChange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RolloutChange::Started { candidate } => write!(f, "started with {candidate}"),
            RolloutChange::Advanced { by, step, phase: RolloutPhase::Completed } => {
                write!(f, "{by}, completed after {step} steps")
            }
            RolloutChange::Advanced { by, step, .. } => write!(f, "{by}, at step {step}"),
            RolloutChange::Inconclusive => f.write_str("inconclusive"),
            RolloutChange::Paused => f.write_str("paused"),
            RolloutChange::Resumed => f.write_str("resumed"),
            RolloutChange::Failed => f.write_str("failed"),
            RolloutChange::Aborted => f.write_str("aborted"),
        }
    }
}

impl fmt::Display for StepEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            StepEnd::Weighted => "weighted",
            StepEnd::Held => "held",
            StepEnd::Passed => "passed",
            StepEnd::Approved => "approved",
            StepEnd::Skipped => "skipped",
        })
    }
}

/// Without what would begin another line or speak to a terminal.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for char in text.chars() {
        match char.is_control() {
            true => line.extend(char.escape_default()),
            false => line.push(char),
        }
    }
    line
}

fn shown(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}
