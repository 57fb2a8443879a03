use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::error::Result;
use crate::traffic::Deployment;
use crate::wire::{self, Change, Line};

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
    AliasGuarded {
        /// The alias.
        alias: String,
        /// Whether it is protected now.
        protected: bool,
    },
    /// A channel has a new deployment; its cause tells a rollback.
    Deployed(Arc<Deployment>),
    /// Records between the event before and this one were compacted before this process read them. What they did is
    /// part of the state; what they were is not known.
    RecordsSkipped,
}

impl Event {
    pub(crate) fn of(line: &Line, object: &str) -> Result<Self> {
        let record = &line.record;
        let text = |id: &Arc<str>| id.to_string();
        let kind = match &record.change {
            Change::Registered(registered) => EventKind::VersionRegistered { version: text(&registered.id) },
            Change::Collected { versions, .. } => {
                EventKind::VersionsCollected { versions: versions.iter().map(text).collect() }
            }
            Change::AliasMoved { alias, from, to } => EventKind::AliasMoved {
                alias: alias.clone(),
                from: from.as_ref().map(text),
                to: to.as_ref().map(text),
            },
            Change::AliasGuarded { alias, protected } => {
                EventKind::AliasGuarded { alias: alias.clone(), protected: *protected }
            }
            Change::Deployed(deployed) => {
                EventKind::Deployed(Arc::new(Deployment::read(deployed, record, object)?))
            }
        };
        let at = wire::time(object, record.at)?;
        Ok(Event { record: record.seq, at, actor: record.actor.clone(), kind })
    }
}
