use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::alert::engine::deliver::Lane;
use crate::alert::engine::state::State;
use crate::alert::engine::{AlertEngine, Inner, Recovery};
use crate::alert::journal::Journal;
use crate::alert::matcher::Inhibition;
use crate::alert::route::Route;
use crate::alert::rule::AlertRule;
use crate::alert::wire::FORMAT;
use crate::error::{Error, ErrorKind, Result};
use crate::monitor::PerformanceMonitor;

/// How an engine is made: [`AlertEngine::builder`].
#[must_use]
pub struct AlertEngineBuilder {
    monitor: PerformanceMonitor,
    rules: Vec<AlertRule>,
    routes: Vec<Route>,
    inhibitions: Vec<Inhibition>,
    file: Option<PathBuf>,
    interval: Duration,
    limit: usize,
}

impl AlertEngineBuilder {
    pub(crate) fn new(monitor: PerformanceMonitor) -> Self {
        AlertEngineBuilder {
            monitor,
            rules: Vec::new(),
            routes: Vec::new(),
            inhibitions: Vec::new(),
            file: None,
            interval: Duration::from_secs(15),
            limit: 1_000,
        }
    }

    /// Raises alerts by this rule.
    pub fn rule(mut self, rule: AlertRule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Raises alerts by these rules.
    pub fn rules(mut self, rules: impl IntoIterator<Item = AlertRule>) -> Self {
        self.rules.extend(rules);
        self
    }

    /// Tells alerts there.
    pub fn route(mut self, route: Route) -> Self {
        self.routes.push(route);
        self
    }

    /// Keeps some alerts quiet while others fire.
    pub fn inhibit(mut self, inhibition: Inhibition) -> Self {
        self.inhibitions.push(inhibition);
        self
    }

    /// Keeps alerts, silences and what was told to whom in this file, over restarts and crashes. It belongs to one engine at a time. Without
    /// a file, alerts end with the process.
    pub fn file(mut self, path: impl Into<PathBuf>) -> Self {
        self.file = Some(path.into());
        self
    }

    /// How often [`run`](AlertEngine::run) evaluates the rules: every 15 seconds by default.
    pub fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How many alerts a rule may have: 1,000 by default. What comes beyond is one alert with the label `overflow` = `true`, which says
    /// how many.
    pub fn alert_limit(mut self, alerts: usize) -> Self {
        self.limit = alerts;
        self
    }

    /// Makes the engine, and takes up what is in its file. What is damaged there is left out and kept aside, and
    /// [`recovery`](AlertEngine::recovery) says so.
    ///
    /// Alerts of rules that are not there any more, or whose labels have changed, are resolved.
    ///
    /// # Errors
    ///
    /// [`InvalidInput`](ErrorKind::InvalidInput) with everything that is not acceptable of rules and routes; [`InUse`](ErrorKind::InUse)
    /// if the file belongs to another engine; [`Storage`](ErrorKind::Storage) if it cannot be read; [`Corrupt`](ErrorKind::Corrupt) if it is
    /// damaged and cannot be kept aside.
    pub fn build(self) -> Result<AlertEngine> {
        self.check()?;
        let now = self.monitor.seconds();
        let (mut state, mut recovery) = (State::default(), Recovery::default());
        if let Some(path) = &self.file {
            let (journal, found) = Journal::open(path, now)?;
            for record in found.records {
                state.fold(record, now);
            }
            state
                .alerts
                .values_mut()
                .flat_map(BTreeMap::values_mut)
                .for_each(|instance| instance.bring_back(now));
            state.journal = Some(journal);
            recovery.damaged = found.damaged;
            recovery.kept = found.kept;
            recovery.error = found.newer.map(|format| {
                let message = format!("{} has format {format}, and {FORMAT} is known", path.display());
                Error::new(ErrorKind::UnknownFormat, message)
            });
        }
        recovery.alerts = state.instances().count();
        recovery.silences = state.silences.len();
        for (name, alerts) in &mut state.alerts {
            let rule = self.rules.iter().find(|rule| rule.name == *name);
            for instance in
                alerts.values_mut().filter(|instance| !rule.is_some_and(|rule| rule.makes(&instance.labels)))
            {
                instance.end(now, 0, 0);
            }
        }
        // The new file has what was found, and what became of it.
        if let Err(error) = state.rewrite() {
            tracing::error!(%error, "the file of alerts cannot be written");
            recovery.error.get_or_insert(error);
        }
        let inner = Inner {
            monitor: self.monitor,
            rules: self.rules,
            inhibitions: self.inhibitions,
            lanes: self.routes.into_iter().map(Lane::new).collect(),
            interval: self.interval,
            limit: self.limit,
            recovery,
            looks: Mutex::default(),
            state: Mutex::new(state),
            warned: AtomicBool::new(false),
        };
        Ok(AlertEngine { inner: Arc::new(inner) })
    }

    fn check(&self) -> Result<()> {
        let mut wrong = Vec::new();
        self.rules.iter().for_each(|rule| rule.check(&mut wrong));
        self.routes.iter().for_each(|route| route.check(&mut wrong));
        let mut names = HashSet::new();
        for rule in self.rules.iter().filter(|rule| !names.insert(&rule.name)) {
            wrong.push(format!("two rules are called {:?}", rule.name));
        }
        let mut names = HashSet::new();
        for route in self.routes.iter().filter(|route| !names.insert(&route.name)) {
            wrong.push(format!("two routes are called {:?}", route.name));
        }
        if self.interval.is_zero() {
            wrong.push("interval is above 0".to_owned());
        }
        if self.limit == 0 {
            wrong.push("alert_limit is at least 1".to_owned());
        }
        if wrong.is_empty() { Ok(()) } else { Err(Error::input(wrong.join("; "))) }
    }
}

impl fmt::Debug for AlertEngineBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AlertEngineBuilder")
            .field("rules", &self.rules)
            .field("routes", &self.routes)
            .field("inhibitions", &self.inhibitions)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}
