use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};

use crate::alert::instance::{Instance, Told};
use crate::alert::journal::Journal;
use crate::alert::matcher::{Matcher, Silence};
use crate::alert::wire::{AlertRecord, Record, SilenceRecord, ToldRecord};
use crate::error::{Error, ErrorKind, Result};

/// All that survives a restart.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// By rule and id.
    pub(crate) alerts: BTreeMap<String, BTreeMap<String, Instance>>,
    pub(crate) silences: Vec<Silence>,
    last_silence: u64,
    pub(crate) journal: Option<Journal>,
    /// Whether the file is behind.
    behind: bool,
}

impl State {
    /// Takes in what a file says.
    pub(crate) fn fold(&mut self, record: Record, now: u64) {
        match record {
            Record::Format(_) => {}
            Record::Alert(record) => {
                let instance = record.instance(now);
                self.alerts.entry(instance.rule.clone()).or_default().insert(instance.id(), instance);
            }
            Record::Gone(id) => self.remove(&id),
            Record::Silence(record) => {
                let silence = record.silence(now);
                self.last_silence = self.last_silence.max(silence.id);
                self.silences.retain(|other| other.id != silence.id);
                self.silences.push(silence);
            }
            Record::Unsilence(id) => {
                self.last_silence = self.last_silence.max(id);
                self.unsilence(id);
            }
            Record::Told(told) => self.told(&told),
        }
    }

    pub(crate) fn instances(&self) -> impl Iterator<Item = &Instance> + Clone {
        self.alerts.values().flat_map(BTreeMap::values)
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Instance> {
        self.alerts.values_mut().find_map(|alerts| alerts.get_mut(id))
    }

    fn remove(&mut self, id: &str) {
        self.alerts.values_mut().for_each(|alerts| drop(alerts.remove(id)));
    }

    /// Notes what a route was told.
    pub(crate) fn told(&mut self, told: &ToldRecord) {
        for (id, fired, firing) in &told.alerts {
            if let Some(instance) = self.get_mut(id) {
                let told_state = Told { fired: *fired, firing: *firing, at: told.at };
                instance.told.insert(told.route.clone(), told_state);
                instance.unsure.remove(&told.route);
            }
        }
    }

    /// Notes that a route may hear from now on that these fire, and answers the ids of those of which it was sure that it did not.
    pub(crate) fn telling<'a>(
        &mut self,
        route: &str,
        told: impl Iterator<Item = &'a ToldRecord>,
    ) -> HashSet<String> {
        let fire = |record: &'a ToldRecord| record.alerts.iter().filter(|(.., firing)| *firing);
        let firing: HashSet<&String> = told.flat_map(fire).map(|(id, ..)| id).collect();
        let mut new = HashSet::new();
        if firing.is_empty() {
            return new;
        }
        for (id, instance) in self.alerts.values_mut().flatten() {
            let knows = instance.told.get(route).is_some_and(|told| told.firing);
            if !knows && firing.contains(id) && instance.unsure.insert(route.to_owned()) {
                new.insert(id.clone());
            }
        }
        new
    }

    /// Takes back that a route may have heard of these.
    pub(crate) fn not_told(&mut self, route: &str, ids: &HashSet<String>) {
        for (id, instance) in self.alerts.values_mut().flatten() {
            if ids.contains(id) {
                instance.unsure.remove(route);
            }
        }
    }

    pub(crate) fn silence(
        &mut self,
        matchers: Vec<Matcher>,
        (from, until): (DateTime<Utc>, DateTime<Utc>),
        by: &str,
        comment: &str,
    ) -> Silence {
        self.last_silence += 1;
        let silence = Silence {
            id: self.last_silence,
            matchers,
            from,
            until,
            by: by.to_owned(),
            comment: comment.to_owned(),
        };
        self.silences.push(silence.clone());
        silence
    }

    pub(crate) fn unsilence(&mut self, id: u64) -> bool {
        let before = self.silences.len();
        self.silences.retain(|silence| silence.id != id);
        self.silences.len() < before
    }

    /// Brings to the disk what was changed. Where that fails, the next call writes everything.
    pub(crate) fn store(&mut self, changed: Vec<Record>) -> Result<()> {
        let Some(mut journal) = self.journal.take() else { return Ok(()) };
        let appended = if changed.is_empty() && !self.behind {
            Ok(())
        } else if !self.behind && journal.can_append() {
            journal.append(&changed)
        } else {
            Err(std::io::Error::other("to be written anew"))
        };
        let stored = appended.or_else(|_| journal.rewrite(self.records()));
        self.behind = stored.is_err();
        self.journal = Some(journal);
        stored.map_err(|error| Error::new(ErrorKind::Storage, "cannot write the alerts").because(error))
    }

    /// Writes everything.
    pub(crate) fn rewrite(&mut self) -> Result<()> {
        self.behind = true;
        self.store(Vec::new())
    }

    /// Everything, as records.
    fn records(&self) -> impl Iterator<Item = Record> + '_ {
        // The last number of a silence, which no other is given, also where that one has ended.
        let last = (self.last_silence > 0).then_some(Record::Unsilence(self.last_silence));
        let alerts = self.instances().map(|instance| Record::Alert(Box::new(AlertRecord::of(instance))));
        last.into_iter()
            .chain(alerts)
            .chain(self.silences.iter().map(|silence| Record::Silence(SilenceRecord::of(silence))))
    }
}
