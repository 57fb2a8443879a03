use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::matcher::Matcher;
use crate::notify::Notifier;

/// Where alerts are told, which of them, and how often: a [`Notifier`] with what Alertmanager calls a route.
///
/// Each route is told of each alert that its matchers fit, grouped by labels. The first of a group waits a little for others, further ones
/// for longer, and what still fires is repeated. A critical alert waits for nothing.
#[derive(Clone)]
#[must_use]
pub struct Route {
    pub(crate) name: String,
    pub(crate) notifier: Arc<dyn Notifier>,
    pub(crate) matchers: Vec<Matcher>,
    pub(crate) group_by: Vec<String>,
    pub(crate) group_wait: u64,
    pub(crate) group_interval: u64,
    pub(crate) repeat_interval: u64,
    pub(crate) escalation: Option<u64>,
    pub(crate) relay: bool,
    pub(crate) time_out: Duration,
}

impl Route {
    /// For people: alerts grouped by rule, 30 seconds after the first, every 5 minutes if there are new ones, and every 4 hours as long as
    /// some fire. Names of routes differ, and are kept in the engine's file.
    pub fn new(name: impl Into<String>, notifier: impl Notifier) -> Self {
        Route {
            name: name.into(),
            notifier: Arc::new(notifier),
            matchers: Vec::new(),
            group_by: vec!["alertname".to_owned()],
            group_wait: 30,
            group_interval: 300,
            repeat_interval: 4 * 3_600,
            escalation: None,
            relay: false,
            time_out: Duration::from_secs(60),
        }
    }

    /// For a system that groups, repeats and acknowledges by itself, as Alertmanager does: everything at once, and again every minute as
    /// long as it fires, acknowledged or not.
    pub fn relay(name: impl Into<String>, notifier: impl Notifier) -> Self {
        let mut route = Route::new(name, notifier).group_by::<[&str; 0]>([]);
        (route.group_wait, route.group_interval, route.repeat_interval, route.relay) = (0, 0, 60, true);
        route
    }

    /// Only alerts that this fits. May be given several times, and then all must fit.
    pub fn only(mut self, matcher: Matcher) -> Self {
        self.matchers.push(matcher);
        self
    }

    /// Only critical alerts that have fired for so long without anybody acknowledging them.
    pub fn escalation(mut self, after: Duration) -> Self {
        self.escalation = Some(after.as_secs());
        self
    }

    /// Tells alerts together that have the same values in these labels. With none, all together.
    pub fn group_by<L: IntoIterator<Item: Into<String>>>(mut self, labels: L) -> Self {
        self.group_by = labels.into_iter().map(Into::into).collect();
        self
    }

    /// How long the first alert of a group waits for others.
    pub fn group_wait(mut self, wait: Duration) -> Self {
        self.group_wait = wait.as_secs();
        self
    }

    /// How long a change in a group that was told of waits for others.
    pub fn group_interval(mut self, interval: Duration) -> Self {
        self.group_interval = interval.as_secs();
        self
    }

    /// How long until a group in which nothing changed is told again.
    pub fn repeat_interval(mut self, interval: Duration) -> Self {
        self.repeat_interval = interval.as_secs();
        self
    }

    /// How long one notification may take before it counts as failed: a minute by default.
    pub fn time_out(mut self, time_out: Duration) -> Self {
        self.time_out = time_out;
        self
    }

    pub(crate) fn check(&self, wrong: &mut Vec<String>) {
        if self.name.is_empty() {
            wrong.push("a route's name is not empty".to_owned());
        }
        if self.repeat_interval == 0 {
            wrong.push(format!("route {:?}: repeat_interval is at least a second", self.name));
        }
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Route")
            .field("name", &self.name)
            .field("group_by", &self.group_by)
            .finish_non_exhaustive()
    }
}
