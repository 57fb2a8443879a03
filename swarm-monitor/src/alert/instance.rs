use std::collections::{BTreeMap, BTreeSet};

use crate::alert::condition::Seen;
use crate::alert::rule::AlertRule;
use crate::alert::{Alert, AlertState, Severity, fingerprint};
use crate::window::time;

/// An alert with what only the engine needs to know of it. Pure: time comes in, changes come out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Instance {
    pub(crate) rule: String,
    pub(crate) severity: Severity,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) annotations: BTreeMap<String, String>,
    pub(crate) value: Option<f64>,
    /// Since when the condition holds, while it does not fire yet.
    pub(crate) pending: Option<u64>,
    pub(crate) episode: Option<Episode>,
    /// What each route was told last.
    pub(crate) told: BTreeMap<String, Told>,
    /// The routes that may have heard that it fires, for all that is known: they did not answer, or not yet. Not kept over a restart.
    pub(crate) unsure: BTreeSet<String>,
    /// When the condition held last, and when there was something to tell by. Not kept over a restart, which counts as a moment where
    /// both were so.
    pub(crate) held: u64,
    pub(crate) seen: u64,
}

/// Once from firing to resolved.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Episode {
    pub(crate) since: u64,
    pub(crate) fired: u64,
    pub(crate) resolved: Option<u64>,
    pub(crate) acknowledged: Option<(String, String, u64)>,
}

/// What a route was told last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Told {
    /// Of the episode that began at this time.
    pub(crate) fired: u64,
    pub(crate) firing: bool,
    pub(crate) at: u64,
}

/// What a look at a rule's condition has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    None,
    /// Pending or not any more.
    Quiet,
    Fired,
    Resolved,
}

/// A clock may be so many seconds behind what was noted. Further behind, one of the two was wrong.
pub(crate) const AHEAD: u64 = 3_600;

impl Instance {
    pub(crate) fn new(rule: &AlertRule, tags: &[(String, String)], now: u64) -> Self {
        Instance {
            rule: rule.name.clone(),
            severity: rule.severity.clone(),
            labels: rule.labels_with(tags),
            annotations: BTreeMap::new(),
            value: None,
            pending: None,
            episode: None,
            told: BTreeMap::new(),
            unsure: BTreeSet::new(),
            held: now,
            seen: now,
        }
    }

    pub(crate) fn is_firing(&self) -> bool {
        self.episode.as_ref().is_some_and(|episode| episode.resolved.is_none())
    }

    /// Takes in what the condition found.
    pub(crate) fn step(&mut self, rule: &AlertRule, seen: Seen, now: u64) -> Change {
        match seen {
            Seen::Holds(value, sentence) => {
                (self.held, self.seen, self.value) = (now, now, value);
                self.annotations = rule.annotations_with(sentence);
                if self.is_firing() {
                    return Change::None;
                }
                let since = self.pending.unwrap_or(now);
                if now.saturating_sub(since) < rule.lasting {
                    let new = self.pending.is_none();
                    self.pending = Some(since);
                    return if new { Change::Quiet } else { Change::None };
                }
                self.pending = None;
                self.episode = Some(Episode { since, fired: now, resolved: None, acknowledged: None });
                Change::Fired
            }
            Seen::Clear(value) => {
                (self.seen, self.value) = (now, value);
                self.end(now, self.held, rule.keep_firing)
            }
            // It does not begin to fire without numbers, and does not end either, unless it was asked to.
            Seen::Nothing => match rule.give_up {
                Some(after) => self.end(now, self.seen, after),
                None if !self.is_firing() => self.end(now, now, 0),
                None => Change::None,
            },
        }
    }

    /// Is pending no longer, and is resolved where `last` is at least so long ago.
    pub(crate) fn end(&mut self, now: u64, last: u64, after: u64) -> Change {
        let was_pending = self.pending.take().is_some();
        match &mut self.episode {
            Some(episode) if episode.resolved.is_none() && now.saturating_sub(last) >= after => {
                episode.resolved = Some(now);
                Change::Resolved
            }
            _ if was_pending => Change::Quiet,
            _ => Change::None,
        }
    }

    /// Takes times that are far yet to come for now: the clock was ahead when they were noted, and nothing waits until it is there again.
    pub(crate) fn bring_back(&mut self, now: u64) {
        let past = |at: &mut u64| *at = if *at > now.saturating_add(AHEAD) { now } else { *at };
        self.pending.iter_mut().for_each(past);
        if let Some(episode) = &mut self.episode {
            past(&mut episode.since);
            past(&mut episode.fired);
            episode.resolved.iter_mut().for_each(past);
            episode.acknowledged.iter_mut().for_each(|(_, _, at)| past(at));
        }
        for told in self.told.values_mut() {
            past(&mut told.fired);
            past(&mut told.at);
        }
    }

    pub(crate) fn id(&self) -> String {
        fingerprint(&self.labels)
    }

    /// As users see it. `None` if there is nothing to see.
    pub(crate) fn alert(&self) -> Option<Alert> {
        let episode = self.episode.as_ref();
        let state = match (self.pending, episode) {
            (_, Some(Episode { resolved: None, .. })) => AlertState::Firing,
            (Some(_), _) => AlertState::Pending,
            (None, Some(_)) => AlertState::Resolved,
            (None, None) => return None,
        };
        let shown = episode.filter(|_| state != AlertState::Pending);
        let since = shown.map_or(self.pending, |episode| Some(episode.since)).unwrap_or(self.seen);
        Some(self.as_alert(state, since, shown))
    }

    /// As it is told: what fired, whatever it has begun again.
    pub(crate) fn told_as(&self) -> Option<Alert> {
        let episode = self.episode.as_ref()?;
        let state = if episode.resolved.is_none() { AlertState::Firing } else { AlertState::Resolved };
        Some(self.as_alert(state, episode.since, Some(episode)))
    }

    fn as_alert(&self, state: AlertState, since: u64, episode: Option<&Episode>) -> Alert {
        let acknowledged = episode.and_then(|episode| episode.acknowledged.clone());
        Alert {
            id: self.id(),
            rule: self.rule.clone(),
            labels: self.labels.clone(),
            annotations: self.annotations.clone(),
            severity: self.severity.clone(),
            state,
            since: time(since),
            fired: episode.map(|episode| time(episode.fired)),
            resolved: episode.and_then(|episode| episode.resolved).map(time),
            value: self.value,
            acknowledged: acknowledged.map(|(by, note, at)| crate::Acknowledgement {
                by,
                note,
                at: time(at),
            }),
        }
    }
}
