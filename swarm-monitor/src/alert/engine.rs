use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::join_all;

use crate::alert::Alert;
use crate::alert::engine::builder::AlertEngineBuilder;
use crate::alert::engine::deliver::Lane;
use crate::alert::engine::evaluate::Looks;
use crate::alert::engine::state::State;
use crate::alert::matcher::{Inhibition, Matcher, Silence};
use crate::alert::plan::{Quiet, wants};
use crate::alert::rule::AlertRule;
use crate::alert::wire::{AlertRecord, Record, SilenceRecord};
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::PerformanceMonitor;
use crate::window::time;

pub(crate) mod builder;
pub(crate) mod deliver;
pub(crate) mod evaluate;
mod state;

/// Looks at rules, and tells of each alert once. A handle: clones are the same engine.
///
/// Nothing happens by itself: [`run`](AlertEngine::run) is a future that does everything as long as it is polled;
/// [`evaluate`](AlertEngine::evaluate) and [`deliver`](AlertEngine::deliver) do it by hand. Time is the monitor's.
///
/// With a [file](AlertEngineBuilder::file), [`acknowledge`](AlertEngine::acknowledge), [`silence`](AlertEngine::silence) and
/// [`unsilence`](AlertEngine::unsilence) answer when it is on the disk, as [`evaluate`](AlertEngine::evaluate) does: in a handler of an async
/// server, call them where blocking is allowed.
///
/// ```
/// use std::time::Duration;
/// use swarm_monitor::{AlertEngine, AlertRule, Condition, FnNotifier, PerformanceMonitor, Route, Severity};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), swarm_monitor::Error> {
/// let monitor = PerformanceMonitor::new();
/// let violations = Condition::of("v2_violations").max().above(10.0);
/// let alerts = AlertEngine::builder(&monitor)
///     .rule(AlertRule::new("too_many_violations", violations).severity(Severity::Critical))
///     .route(Route::new("log", FnNotifier::new(|told| {
///         told.alerts.iter().for_each(|alert| eprintln!("{alert}"));
///         Ok(())
///     })))
///     .build()?;
/// monitor.record("v2_violations", 12.0, &[]);
/// assert_eq!(alerts.evaluate().fired.len(), 1);
/// assert_eq!(alerts.deliver().await.delivered, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AlertEngine {
    inner: Arc<Inner>,
}

struct Inner {
    monitor: PerformanceMonitor,
    rules: Vec<AlertRule>,
    inhibitions: Vec<Inhibition>,
    lanes: Vec<Lane>,
    interval: Duration,
    limit: usize,
    recovery: Recovery,
    /// What is known of conditions that are looked at seldom. Held while rules are evaluated.
    looks: Mutex<Looks>,
    state: Mutex<State>,
    warned: AtomicBool,
}

/// What was found in an engine's file: [`AlertEngine::recovery`].
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct Recovery {
    /// Alerts that were there, pending, firing, or resolved and not told yet.
    pub alerts: usize,
    /// Silences that were there.
    pub silences: usize,
    /// Records that could not be read. Each is about one alert, which a rule that still holds makes again, or about one silence, which is
    /// lost.
    pub damaged: usize,
    /// Where a file that was damaged or of a later format is kept.
    pub kept: Option<PathBuf>,
    /// Why nothing of the file is used, or why it could not be written. The engine works all the same, and tries again to write it whenever
    /// it evaluates.
    pub error: Option<Error>,
}

/// How a route fares: [`AlertEngine::routes`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RouteStatus {
    /// Its name.
    pub name: String,
    /// Alerts that it is still to be told of.
    pub pending: usize,
    /// Notifications delivered since the start.
    pub delivered: u64,
    /// Tries that failed since the start.
    pub failed: u64,
    /// Ends of alerts that could not be told within a day, and are not told any more.
    pub expired: u64,
    /// When the next try is, while it fails.
    pub next_try: Option<DateTime<Utc>>,
    /// Why the last try failed, if it did.
    pub last_error: Option<String>,
}

impl AlertEngine {
    /// To set rules, routes and other options. Numbers and time come from this monitor.
    pub fn builder(monitor: &PerformanceMonitor) -> AlertEngineBuilder {
        AlertEngineBuilder::new(monitor.clone())
    }

    /// Evaluates at the interval and delivers whenever something is due, for ever. Dropping the future ends it; a notification that is
    /// under way then may arrive, and is told again later. Of a rule that cannot be looked at the log says so, once until it can.
    ///
    /// To be polled within a tokio runtime with time. Of two at once the second does nothing harmful.
    pub async fn run(&self) {
        let evaluations = async {
            let mut failing = Vec::new();
            loop {
                let engine = self.clone();
                match tokio::task::spawn_blocking(move || engine.evaluate().failed).await {
                    Ok(failed) => warn_of_rules(&mut failing, failed),
                    Err(error) => tracing::error!(%error, "rules could not be evaluated"),
                }
                tokio::time::sleep(self.inner.interval).await;
            }
        };
        let deliveries = join_all(self.inner.lanes.iter().map(|lane| async move {
            loop {
                self.deliver_on(lane).await;
                let _ = tokio::time::timeout(Duration::from_secs(1), lane.changed.notified()).await;
            }
        }));
        futures::future::join(evaluations, deliveries).await;
    }

    /// All alerts there are: pending, firing, and resolved ones that some route is still to be told of. Critical ones first, then by rule.
    pub fn alerts(&self) -> Vec<Alert> {
        let mut alerts: Vec<Alert> =
            self.state().instances().filter_map(|instance| instance.alert()).collect();
        alerts.sort_by_key(|alert| alert.severity != crate::Severity::Critical);
        alerts
    }

    /// Takes a firing alert on: it is neither repeated nor escalated until it is resolved.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if no alert with this id fires. [`Storage`](ErrorKind::Storage) if it is done, but would not
    /// survive a crash.
    pub fn acknowledge(&self, id: &str, by: &str, note: &str) -> Result<Alert> {
        let now = self.now();
        let mut state = self.state();
        let taken = state.get_mut(id).filter(|instance| instance.is_firing()).and_then(|instance| {
            instance.episode.as_mut()?.acknowledged = Some((by.to_owned(), note.to_owned(), now));
            Some((AlertRecord::of(instance), instance.alert()?))
        });
        let Some((record, alert)) = taken else {
            return Err(Error::new(ErrorKind::NotFound, format!("no alert {id:?} fires")));
        };
        state.store(vec![Record::Alert(Box::new(record))])?;
        Ok(alert)
    }

    /// Does not tell of alerts that all `matchers` fit, for this long from now.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) without a matcher, as that would be everything. [`Storage`](ErrorKind::Storage) if it is
    /// done, but would not survive a crash.
    pub fn silence(
        &self,
        matchers: impl IntoIterator<Item = Matcher>,
        duration: Duration,
        by: &str,
        comment: &str,
    ) -> Result<Silence> {
        let matchers: Vec<Matcher> = matchers.into_iter().collect();
        if matchers.is_empty() {
            return Err(Error::input("a silence has at least one matcher"));
        }
        let now = self.now();
        let stretch = (time(now), time(now.saturating_add(duration.as_secs())));
        let mut state = self.state();
        let silence = state.silence(matchers, stretch, by, comment);
        state.store(vec![Record::Silence(SilenceRecord::of(&silence))])?;
        Ok(silence)
    }

    /// Ends a silence.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) if there is none with this id. [`Storage`](ErrorKind::Storage) if it is done, but would not survive
    /// a crash.
    pub fn unsilence(&self, id: u64) -> Result<()> {
        let mut state = self.state();
        if !state.unsilence(id) {
            return Err(Error::new(ErrorKind::NotFound, format!("no silence {id}")));
        }
        state.store(vec![Record::Unsilence(id)])
    }

    /// The silences that have not ended.
    pub fn silences(&self) -> Vec<Silence> {
        let now = time(self.now());
        self.state().silences.iter().filter(|silence| silence.until > now).cloned().collect()
    }

    /// How each route fares.
    pub fn routes(&self) -> Vec<RouteStatus> {
        let now = self.now();
        let state = self.state();
        let quiet = Quiet::new(&state.silences, &self.inner.inhibitions, state.instances(), now);
        let pending = |lane: &Lane| {
            state
                .instances()
                .filter(|instance| wants(&lane.route, instance, now, quiet.has(instance)))
                .count()
        };
        self.inner.lanes.iter().map(|lane| lane.status(pending(lane), now)).collect()
    }

    /// The rules.
    pub fn rules(&self) -> &[AlertRule] {
        &self.inner.rules
    }

    /// What was found in the file. Of an engine without one, nothing.
    pub fn recovery(&self) -> &Recovery {
        &self.inner.recovery
    }

    pub(crate) fn monitor(&self) -> &PerformanceMonitor {
        &self.inner.monitor
    }

    fn now(&self) -> u64 {
        self.inner.monitor.seconds()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says once that alerts are not kept.
    fn warn_of_storage(&self, stored: &Result<()>) {
        match stored {
            Ok(()) => self.inner.warned.store(false, Ordering::Relaxed),
            Err(error) if !self.inner.warned.swap(true, Ordering::Relaxed) => {
                let source = std::error::Error::source(error).map(ToString::to_string).unwrap_or_default();
                tracing::error!(%error, source, "alerts are told, and would not survive a crash");
            }
            Err(_) => {}
        }
    }
}

/// Says of each rule that it cannot be looked at, unless it is among those of which that was said.
fn warn_of_rules(said: &mut Vec<String>, failed: Vec<(String, Error)>) {
    for (rule, error) in failed.iter().filter(|(rule, _)| !said.contains(rule)) {
        tracing::warn!(rule, %error, "a rule cannot be looked at, and raises no alert");
    }
    *said = failed.into_iter().map(|(rule, _)| rule).collect();
}

impl fmt::Debug for AlertEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlertEngine")
            .field("rules", &self.inner.rules.len())
            .field("routes", &self.inner.lanes.iter().map(|lane| &lane.route.name).collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
