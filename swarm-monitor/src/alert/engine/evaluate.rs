use std::collections::{BTreeMap, HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use crate::alert::Alert;
use crate::alert::condition::Seen;
use crate::alert::engine::{AlertEngine, Inner};
use crate::alert::instance::{Change, Instance};
use crate::alert::plan::{Quiet, wants};
use crate::alert::rule::{AlertRule, OVERFLOW};
use crate::alert::wire::{AlertRecord, Record};
use crate::drift::change::ChangeDetector;
use crate::error::{Error, ErrorKind, Result};
use crate::select::Selection;
use crate::window::time;

/// What an evaluation of all rules has changed.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Evaluation {
    /// Alerts that began to fire.
    pub fired: Vec<Alert>,
    /// Alerts that were resolved.
    pub resolved: Vec<Alert>,
    /// Rules that could not be looked at, and why. Their alerts are as they were; of a rule that looks at [each](AlertRule::each) value of a
    /// tag, those of the values that it failed at.
    pub failed: Vec<(String, Error)>,
    /// Why this is not on the disk, if there is a file and it could not be written. Alerts are told all the same.
    pub not_stored: Option<Error>,
}

/// Tags that a rule looks at by themselves, and what was seen there. `None` where it could not be looked at.
type Looked = Vec<(Vec<(String, String)>, Option<Seen>)>;

/// What is known of conditions that are looked at once in a window, by rule and tags.
pub(crate) type Looks = HashMap<(String, Vec<(String, String)>), Look>;

pub(crate) struct Look {
    /// Until when, or when, it was looked at.
    at: u64,
    seen: Seen,
    detector: Option<Box<dyn ChangeDetector>>,
    /// Whether it is still there, in the evaluation under way.
    visited: bool,
}

/// The end of an alert is told for so long, and not any more then.
const EXPIRES: u64 = 86_400;

impl AlertEngine {
    /// Looks at all rules now, and keeps what changed before anybody is told of it.
    ///
    /// It blocks while it writes its file: on an async runtime, call it where blocking is allowed, as [`run`](AlertEngine::run) does.
    pub fn evaluate(&self) -> Evaluation {
        let mut looks = self.inner.looks.lock().unwrap_or_else(PoisonError::into_inner);
        self.inner.monitor.tick();
        let now = self.now();
        let mut evaluation = Evaluation::default();
        let mut changed = Vec::new();
        let mut all = Vec::new();
        for rule in &self.inner.rules {
            match contained(|| self.inner.look(rule, &mut looks, now)) {
                Ok((looked, failed)) => {
                    all.push((rule, looked));
                    evaluation.failed.extend(failed.map(|error| (rule.name.clone(), error)));
                }
                Err(error) => evaluation.failed.push((rule.name.clone(), error)),
            }
        }
        self.inner.forget_looks(&mut looks, &evaluation.failed);
        let mut state = self.state();
        for (rule, looked) in all {
            let alerts = state.alerts.entry(rule.name.clone()).or_default();
            apply(rule, looked, alerts, self.inner.limit, now, &mut evaluation, &mut changed);
        }
        changed.extend(self.settle(&mut state, now));
        let ended: Vec<u64> = state
            .silences
            .iter()
            .filter(|silence| silence.until <= time(now))
            .map(|silence| silence.id)
            .collect();
        changed.extend(ended.into_iter().filter(|id| state.unsilence(*id)).map(Record::Unsilence));
        let stored = state.store(changed);
        drop(state);
        self.warn_of_storage(&stored);
        evaluation.not_stored = stored.err();
        self.inner.lanes.iter().for_each(|lane| lane.changed.notify_one());
        evaluation
    }

    /// Forgets alerts that are over and of which nobody wants to hear any more.
    pub(crate) fn settle(&self, state: &mut super::State, now: u64) -> Vec<Record> {
        let quiet = Quiet::new(&state.silences, &self.inner.inhibitions, state.instances(), now);
        let mut gone = Vec::new();
        for instance in state.instances().filter(|instance| instance.pending.is_none()) {
            let Some(episode) = &instance.episode else {
                gone.push(instance.id());
                continue;
            };
            let Some(resolved) = episode.resolved else { continue };
            let quiet = quiet.has(instance);
            let waiting = self.inner.lanes.iter().filter(|lane| wants(&lane.route, instance, now, quiet));
            let expired = now.saturating_sub(resolved) >= EXPIRES;
            let mut awaited = false;
            for lane in waiting {
                awaited = true;
                if expired {
                    lane.expired.fetch_add(1, Ordering::Relaxed);
                }
            }
            if !awaited || expired {
                gone.push(instance.id());
            }
        }
        let is_gone: HashSet<&String> = gone.iter().collect();
        for alerts in state.alerts.values_mut() {
            alerts.retain(|id, _| !is_gone.contains(id));
        }
        gone.into_iter().map(Record::Gone).collect()
    }
}

impl Inner {
    /// What a rule's condition sees in each of the rule's parts, and why it sees nothing in the first it failed at.
    fn look(&self, rule: &AlertRule, looks: &mut Looks, now: u64) -> Result<(Looked, Option<Error>)> {
        let whole = rule.condition.select(&self.monitor);
        let parts = match parts(rule, &whole) {
            Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
            parts => parts?,
        };
        let (mut looked, mut failed) = (Vec::with_capacity(parts.len()), None);
        for (tags, part) in parts {
            // What one value of a tag does to a detector is not the others' trouble.
            let seen = contained(|| {
                if rule.condition.is_slow() {
                    self.look_seldom(rule, &tags, &part, looks, now)
                } else {
                    rule.condition.look(&part)
                }
            });
            match seen {
                Ok(seen) => looked.push((tags, Some(seen))),
                Err(error) => {
                    let key = (rule.name.clone(), tags);
                    // A detector that panicked goes on from what it knew when it was last kept, and not with what it panicked at.
                    if error.kind() == ErrorKind::Panicked
                        && looks.get(&key).is_some_and(|look| look.detector.is_some())
                    {
                        looks.remove(&key);
                    }
                    looked.push((key.1, None));
                    failed.get_or_insert(error);
                }
            }
        }
        Ok((looked, failed))
    }

    fn look_seldom(
        &self,
        rule: &AlertRule,
        tags: &[(String, String)],
        part: &Selection,
        looks: &mut Looks,
        now: u64,
    ) -> Result<Seen> {
        let condition = &rule.condition;
        let step = condition.window.as_secs().max(1);
        let key = (rule.name.clone(), tags.to_vec());
        let Some(look) = looks.get_mut(&key) else {
            let mut look =
                Look { at: now, seen: Seen::Nothing, detector: condition.detector(), visited: true };
            match &mut look.detector {
                Some(detector) => {
                    look.at = now / step * step;
                    // One of other options, or of another kind, begins anew.
                    let _ = self.monitor.restore_detector(&kept_as(&key), &mut **detector);
                }
                None => look.seen = condition.look(part)?,
            }
            let seen = look.seen.clone();
            looks.insert(key, look);
            return Ok(seen);
        };
        look.visited = true;
        match &mut look.detector {
            Some(detector) => {
                let (at, seen) = condition.follow(part, &mut **detector, look.at, now)?;
                if at != look.at {
                    look.at = at;
                    self.monitor.save_detector(&kept_as(&key), &**detector);
                    look.seen = seen.unwrap_or(Seen::Nothing);
                }
            }
            None if now >= look.at.saturating_add(step) => {
                (look.at, look.seen) = (now, condition.look(part)?)
            }
            None => {}
        }
        Ok(look.seen.clone())
    }

    /// Forgets looks at what is gone. Of a rule that failed nothing is known.
    fn forget_looks(&self, looks: &mut Looks, failed: &[(String, Error)]) {
        looks.retain(|key, look| {
            let stays = look.visited || failed.iter().any(|(rule, _)| *rule == key.0);
            if !stays && look.detector.is_some() {
                self.monitor.forget_detector(&kept_as(key));
            }
            look.visited = false;
            stays
        });
    }
}

/// A detector's panic as an error.
fn contained<T>(look: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(look))
        .unwrap_or_else(|_| Err(Error::new(ErrorKind::Panicked, "a detector panicked")))
}

/// Under which name a detector's state is kept.
fn kept_as((rule, tags): &(String, Vec<(String, String)>)) -> String {
    tags.iter().fold(format!("alert {rule}"), |name, (tag, value)| format!("{name} {tag}={value:?}"))
}

/// The parts that a rule looks at by themselves, with the series for which a metric had no room.
fn parts(rule: &AlertRule, whole: &Selection) -> Result<Vec<(Vec<(String, String)>, Selection)>> {
    if rule.each.is_empty() {
        return Ok(vec![(Vec::new(), whole.clone())]);
    }
    let mut parts = whole.each(&rule.each)?;
    let overflow = whole.each(&[OVERFLOW.to_owned()])?;
    parts.extend(overflow.into_iter().filter(|(tags, _)| tags[0].1 == "true"));
    Ok(parts)
}

/// Takes in what was seen of a rule.
fn apply(
    rule: &AlertRule,
    looked: Looked,
    alerts: &mut BTreeMap<String, Instance>,
    limit: usize,
    now: u64,
    evaluation: &mut Evaluation,
    changed: &mut Vec<Record>,
) {
    let mut visited = HashSet::new();
    let mut folded: Option<(u64, Option<f64>, String)> = None;
    let mut rest = None;
    let overflow = Instance::new(rule, &[(OVERFLOW.to_owned(), "true".to_owned())], now);
    let mut step = |instance: &mut Instance, seen: Seen| {
        let change = instance.step(rule, seen, now);
        if change == Change::None {
            return;
        }
        changed.push(Record::Alert(Box::new(AlertRecord::of(instance))));
        match change {
            Change::Fired => evaluation.fired.extend(instance.told_as()),
            Change::Resolved => evaluation.resolved.extend(instance.told_as()),
            Change::Quiet | Change::None => {}
        }
    };
    for (tags, seen) in looked {
        if tags.first().is_some_and(|(name, _)| name == OVERFLOW) {
            rest = Some(seen);
            continue;
        }
        let new = Instance::new(rule, &tags, now);
        let id = new.id();
        let Some(seen) = seen else {
            visited.insert(id);
            continue;
        };
        if let Some(instance) = alerts.get_mut(&id) {
            step(instance, seen);
            visited.insert(id);
        } else if let Seen::Holds(value, sentence) = seen {
            if alerts.len() < limit {
                visited.insert(id.clone());
                step(alerts.entry(id).or_insert(new), Seen::Holds(value, sentence));
            } else if let Some((count, ..)) = &mut folded {
                *count += 1;
            } else {
                folded = Some((1, value, sentence));
            }
        }
    }
    let id = overflow.id();
    let seen = match (folded, rest) {
        (Some((1, value, sentence)), _) => Some(Seen::Holds(value, sentence)),
        (Some((count, value, sentence)), _) => {
            Some(Seen::Holds(value, format!("{sentence}; the same for {} others", count - 1)))
        }
        (None, Some(seen)) => {
            visited.extend(seen.is_none().then(|| id.clone()));
            seen
        }
        (None, None) => alerts.contains_key(&id).then_some(Seen::Clear(None)),
    };
    if let Some(seen) = seen.filter(|seen| alerts.contains_key(&id) || matches!(seen, Seen::Holds(..))) {
        visited.insert(id.clone());
        step(alerts.entry(id).or_insert(overflow), seen);
    }
    // Those whose series are gone.
    for (_, instance) in alerts.iter_mut().filter(|(id, _)| !visited.contains(*id)) {
        // What the rule would not make any more was resolved before.
        if instance.pending.is_some() || instance.is_firing() {
            step(instance, Seen::Nothing);
        }
    }
}
