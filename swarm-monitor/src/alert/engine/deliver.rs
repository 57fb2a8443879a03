use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use futures::FutureExt;
use futures::future::join_all;

use crate::alert::engine::{AlertEngine, RouteStatus};
use crate::alert::plan::{Due, Quiet, plan};
use crate::alert::route::Route;
use crate::alert::wire::{Record, ToldRecord};
use crate::notify::NotifyError;
use crate::window::time;

/// What one round of deliveries came to: [`AlertEngine::deliver`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Delivery {
    /// Notifications that were delivered.
    pub delivered: usize,
    /// Routes on which one failed, and why. It is tried again.
    pub failed: Vec<(String, NotifyError)>,
}

/// A route with how it fares.
pub(crate) struct Lane {
    pub(crate) route: Route,
    /// Wakes whoever delivers on it.
    pub(crate) changed: tokio::sync::Notify,
    /// One notification at a time.
    turn: tokio::sync::Mutex<()>,
    trouble: Mutex<Trouble>,
    delivered: AtomicU64,
    failed: AtomicU64,
    pub(crate) expired: AtomicU64,
}

/// What went wrong lately.
#[derive(Default)]
struct Trouble {
    /// Of the receiver.
    all: Pause,
    /// Of what it would not take, by group. What it may take later waits for the whole receiver, and not by itself.
    groups: HashMap<BTreeMap<String, String>, Pause>,
    last: Option<String>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Pause {
    failures: u32,
    until: u64,
}

impl Lane {
    pub(crate) fn new(route: Route) -> Self {
        Lane {
            route,
            changed: tokio::sync::Notify::new(),
            turn: tokio::sync::Mutex::default(),
            trouble: Mutex::default(),
            delivered: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            expired: AtomicU64::new(0),
        }
    }

    fn trouble(&self) -> MutexGuard<'_, Trouble> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failures(&self, group: &BTreeMap<String, String>) -> u32 {
        self.trouble().groups.get(group).map_or(0, |pause| pause.failures)
    }

    /// The receiver takes things again.
    fn over(&self, group: &BTreeMap<String, String>) {
        let mut trouble = self.trouble();
        (trouble.all, trouble.last) = (Pause::default(), None);
        trouble.groups.remove(group);
    }

    pub(crate) fn status(&self, pending: usize, now: u64) -> RouteStatus {
        let trouble = self.trouble();
        RouteStatus {
            name: self.route.name.clone(),
            pending,
            delivered: self.delivered.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            expired: self.expired.load(Ordering::Relaxed),
            next_try: (trouble.all.failures > 0).then(|| time(trouble.all.until.max(now))),
            last_error: trouble.last.clone(),
        }
    }
}

impl AlertEngine {
    /// Tells on each route what is due on it, and waits for the slowest. A route that fails is tried again after a pause that doubles from a
    /// second to five minutes.
    ///
    /// To be polled within a tokio runtime with time.
    pub async fn deliver(&self) -> Delivery {
        let rounds = join_all(self.inner.lanes.iter().map(|lane| self.deliver_on(lane))).await;
        let mut delivery = Delivery::default();
        for (lane, (delivered, failed)) in self.inner.lanes.iter().zip(rounds) {
            delivery.delivered += delivered;
            delivery.failed.extend(failed.into_iter().map(|error| (lane.route.name.clone(), error)));
        }
        delivery
    }

    pub(crate) async fn deliver_on(&self, lane: &Lane) -> (usize, Vec<NotifyError>) {
        let _turn = lane.turn.lock().await;
        let (mut delivered, mut failed) = (0, Vec::new());
        if lane.trouble().all.until > self.now() {
            return (delivered, failed);
        }
        let (mut all, mut untold) = self.due(lane).await;
        // One that the receiver chokes on comes last, and holds up no other.
        all.sort_by_cached_key(|due| lane.failures(&due.notification.group));
        for due in all {
            let group = &due.notification.group;
            if lane.trouble().groups.get(group).is_some_and(|pause| pause.until > self.now()) {
                continue;
            }
            // Called within, as one may panic before it has a future to give.
            let tried = async { lane.route.notifier.notify(&due.notification).await };
            let tried = AssertUnwindSafe(tried).catch_unwind();
            let told = match tokio::time::timeout(lane.route.time_out, tried).await {
                Ok(Ok(told)) => told,
                Ok(Err(_)) => Err(NotifyError::later("the notifier panicked")),
                Err(_) => Err(NotifyError::later(format!("no answer in {:?}", lane.route.time_out))),
            };
            // Where it did not say no, it may have taken it.
            if told.as_ref().map_or_else(NotifyError::is_retryable, |()| true) {
                for (id, ..) in &due.told.alerts {
                    untold.remove(id);
                }
            }
            match told {
                Ok(()) => {
                    delivered += 1;
                    lane.delivered.fetch_add(1, Ordering::Relaxed);
                    lane.over(group);
                    self.note(due.told).await;
                }
                Err(error) => {
                    lane.failed.fetch_add(1, Ordering::Relaxed);
                    let again = self.after_failure(lane, group, &error);
                    failed.push(error);
                    if again {
                        break;
                    }
                }
            }
        }
        self.take_back(lane, untold).await;
        (delivered, failed)
    }

    /// Sets a pause, and tells whether it is one for the whole route.
    fn after_failure(&self, lane: &Lane, group: &BTreeMap<String, String>, error: &NotifyError) -> bool {
        let now = self.now();
        tracing::warn!(route = lane.route.name, %error, "alerts could not be told");
        let mut trouble = lane.trouble();
        let Trouble { all, groups, last } = &mut *trouble;
        *last = Some(error.to_string());
        let of_group = groups.entry(group.clone()).or_default();
        of_group.failures = of_group.failures.saturating_add(1);
        let pause = if error.is_retryable() {
            all.failures = all.failures.saturating_add(1);
            all
        } else {
            of_group
        };
        let random = RandomState::new().hash_one(pause.failures);
        let asked = error.pause().map_or(0, |pause| pause.as_secs());
        pause.until = now.saturating_add(back_off(pause.failures, random).max(asked.min(LONGEST)));
        error.is_retryable()
    }

    /// What is due, as seen on a thread where blocking is allowed: the file may be written meanwhile. Of what fires there it may have heard
    /// from then on; the ids of those of which it had not before are answered too.
    async fn due(&self, lane: &Lane) -> (Vec<Due>, HashSet<String>) {
        let (engine, route) = (self.clone(), lane.route.clone());
        let due = tokio::task::spawn_blocking(move || {
            let mut state = engine.state();
            let now = engine.now();
            let quiet = Quiet::new(&state.silences, &engine.inner.inhibitions, state.instances(), now);
            let due = plan(&route, state.instances(), &quiet, now);
            let untold = state.telling(&route.name, due.iter().map(|due| &due.told));
            (due, untold)
        });
        let (due, untold) = due.await.unwrap_or_default();
        let mut trouble = lane.trouble();
        trouble.groups.retain(|group, _| due.iter().any(|due| due.notification.group == *group));
        drop(trouble);
        (due, untold)
    }

    /// Notes that these were not told after all.
    async fn take_back(&self, lane: &Lane, untold: HashSet<String>) {
        if untold.is_empty() {
            return;
        }
        let (engine, route) = (self.clone(), lane.route.name.clone());
        let taken = tokio::task::spawn_blocking(move || engine.state().not_told(&route, &untold));
        if let Err(error) = taken.await {
            tracing::error!(%error, "what was not told could not be noted");
        }
    }

    /// Keeps that somebody was told. If the process dies before, they are told again.
    async fn note(&self, told: ToldRecord) {
        let engine = self.clone();
        let noted = tokio::task::spawn_blocking(move || {
            let mut state = engine.state();
            state.told(&told);
            let now = engine.now();
            let mut changed = vec![Record::Told(told)];
            changed.extend(engine.settle(&mut state, now));
            let stored = state.store(changed);
            drop(state);
            engine.warn_of_storage(&stored);
        });
        if let Err(error) = noted.await {
            tracing::error!(%error, "what was told could not be noted");
        }
    }
}

/// No pause is longer, in seconds.
const LONGEST: u64 = 300;

/// Seconds to wait after so many failures: doubling from one, and up to a quarter more or less, so that not everybody comes back at once.
pub(crate) fn back_off(failures: u32, random: u64) -> u64 {
    let whole = 1_u64.checked_shl(failures.saturating_sub(1)).unwrap_or(LONGEST).min(LONGEST);
    let spread = whole / 4;
    whole - spread + random % (2 * spread + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_five_minutes_and_are_spread() {
        for (failures, least, most) in
            [(1, 1, 1), (2, 2, 2), (3, 3, 5), (5, 12, 20), (9, 192, 320), (40, 225, 375)]
        {
            let all: Vec<u64> = (0..1_000).map(|random| back_off(failures, random)).collect();
            assert_eq!((*all.iter().min().unwrap(), *all.iter().max().unwrap()), (least, most), "{failures}");
        }
        assert!(back_off(u32::MAX, u64::MAX) <= 375);
    }
}
