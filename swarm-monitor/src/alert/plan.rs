use std::collections::BTreeMap;

use crate::alert::Severity;
use crate::alert::instance::Instance;
use crate::alert::matcher::{Inhibited, Inhibition, Silence, fit};
use crate::alert::route::Route;
use crate::alert::wire::ToldRecord;
use crate::notify::Notification;
use crate::window::time;

/// A notification has at most so many alerts; more go with the next ones.
const MOST: usize = 500;

/// A notification that is due, and the record of it.
pub(crate) struct Due {
    pub(crate) notification: Notification,
    pub(crate) told: ToldRecord,
}

/// What a route makes of an alert.
struct Looked<'a> {
    instance: &'a Instance,
    firing: bool,
    fired: u64,
    /// It is to be told.
    news: bool,
    /// What is told at once.
    urgent: bool,
    /// It is worth repeating.
    open: bool,
    /// When this route was told of it last.
    told: Option<u64>,
    /// Since when there is something to tell.
    since: u64,
}

/// Whether a route still wants to hear of it, and has not.
pub(crate) fn wants(route: &Route, instance: &Instance, now: u64, quiet: bool) -> bool {
    look(route, instance, now, quiet).is_some_and(|looked| looked.news)
}

fn look<'a>(route: &Route, instance: &'a Instance, now: u64, quiet: bool) -> Option<Looked<'a>> {
    let episode = instance.episode.as_ref()?;
    if !fit(&route.matchers, &instance.labels) {
        return None;
    }
    let firing = episode.resolved.is_none();
    let told = instance.told.get(&route.name);
    let knows = told.is_some_and(|told| told.fired == episode.fired);
    let knows_firing = told.is_some_and(|told| told.firing);
    let unsure = instance.unsure.contains(&route.name);
    let critical = instance.severity == Severity::Critical;
    let acknowledged = episode.acknowledged.is_some();
    if let Some(after) = route.escalation
        && told.is_none()
        && (firing || !unsure)
    {
        let until = episode.resolved.unwrap_or(now);
        if !critical || acknowledged || until.saturating_sub(episode.fired) < after {
            return None;
        }
    }
    let news = if firing {
        !(quiet || knows && knows_firing)
    } else {
        // The end is told to who knows of the beginning or may know, and a critical one that came and went to everybody.
        knows_firing || unsure || (critical && !knows && !quiet)
    };
    // Silent ones are not so much as mentioned, unless it is their end.
    if quiet && !news {
        return None;
    }
    Some(Looked {
        instance,
        firing,
        fired: episode.fired,
        news,
        urgent: news && critical && firing && !knows,
        open: firing && (!acknowledged || route.relay),
        told: told.map(|told| told.at),
        since: episode.resolved.unwrap_or(episode.fired),
    })
}

/// Alerts that are not to be told at the moment: silenced, or inhibited by others.
pub(crate) struct Quiet<'a> {
    silences: &'a [Silence],
    inhibited: Inhibited<'a>,
    now: u64,
}

impl<'a> Quiet<'a> {
    pub(crate) fn new(
        silences: &'a [Silence],
        inhibitions: &'a [Inhibition],
        alerts: impl Iterator<Item = &'a Instance> + Clone,
        now: u64,
    ) -> Self {
        let firing = alerts.filter(|instance| instance.is_firing()).map(|instance| &instance.labels);
        Quiet { silences, inhibited: Inhibited::by(inhibitions, firing), now }
    }

    pub(crate) fn has(&self, instance: &Instance) -> bool {
        let now = time(self.now);
        self.silences.iter().any(|silence| silence.until > now && fit(&silence.matchers, &instance.labels))
            || self.inhibited.has(&instance.labels)
    }
}

/// The notifications that are due on a route, the most urgent first.
pub(crate) fn plan<'a>(
    route: &Route,
    alerts: impl Iterator<Item = &'a Instance>,
    quiet: &Quiet<'_>,
    now: u64,
) -> Vec<Due> {
    let mut groups: BTreeMap<Vec<(&str, &str)>, Vec<Looked<'a>>> = BTreeMap::new();
    for instance in alerts {
        if let Some(looked) = look(route, instance, now, quiet.has(instance)) {
            let key = route
                .group_by
                .iter()
                .map(|label| (label.as_str(), instance.labels.get(label).map_or("", String::as_str)));
            groups.entry(key.collect()).or_default().push(looked);
        }
    }
    let mut due: Vec<(bool, Due)> = Vec::new();
    for (key, mut group) in groups {
        let last = group.iter().filter_map(|looked| looked.told).max();
        let news = group.iter().filter(|looked| looked.news).map(|looked| looked.since).min();
        let urgent = group.iter().any(|looked| looked.urgent);
        let open = group.iter().any(|looked| looked.open);
        let is_due = match (news, last) {
            (Some(_), _) if urgent => true,
            (Some(since), None) => now >= since.saturating_add(route.group_wait),
            (Some(_), Some(last)) => now >= last.saturating_add(route.group_interval),
            (None, Some(last)) => open && now >= last.saturating_add(route.repeat_interval),
            (None, None) => false,
        };
        if !is_due {
            continue;
        }
        let repeated = news.is_none();
        group.retain(|looked| looked.news || looked.firing);
        group.sort_by_key(|looked| {
            (!looked.urgent, !looked.news, looked.instance.severity != Severity::Critical, looked.fired)
        });
        // What is neither new nor due again fills up the first notification, and makes no further ones.
        let needed = if repeated { group.len() } else { group.iter().filter(|looked| looked.news).count() };
        for (at, part) in group.chunks(MOST).enumerate().take_while(|(at, _)| at * MOST < needed) {
            due.push((urgent && at == 0, one(route, &key, part, now)));
        }
    }
    due.sort_by_key(|(urgent, _)| !urgent);
    due.into_iter().map(|(_, due)| due).collect()
}

fn one(route: &Route, key: &[(&str, &str)], part: &[Looked<'_>], now: u64) -> Due {
    let alerts: Vec<_> = part.iter().filter_map(|looked| looked.instance.told_as()).collect();
    let told = ToldRecord {
        route: route.name.clone(),
        at: now,
        alerts: part.iter().map(|looked| (looked.instance.id(), looked.fired, looked.firing)).collect(),
    };
    let group = key.iter().map(|(label, value)| ((*label).to_owned(), (*value).to_owned())).collect();
    let valid = time(now.saturating_add(route.repeat_interval.saturating_mul(4)));
    let before = part.iter().filter_map(|looked| looked.told).max();
    let notification = Notification::new(route.name.clone(), time(now), valid, group, alerts, before);
    Due { notification, told }
}
