use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::alert::{Alert, AlertState, fnv};

#[cfg(feature = "http")]
pub(crate) mod alertmanager;
#[cfg(feature = "http")]
pub(crate) mod chat;
#[cfg(feature = "http")]
pub(crate) mod http;
mod payload;
#[cfg(feature = "http")]
pub(crate) mod webhook;

/// Tells somebody of alerts.
///
/// Implemented by [`FnNotifier`], by the notifiers of the feature `http`, and by you. `notify` is called with one notification at a time on a
/// route, and again with the same one until it succeeds, also after a crash: a receiver tells them apart by
/// [`id`](Notification::id). It may be cancelled at any await, when the route's time-out is over. A panic counts as a failure. Errors are
/// logged: they should not contain secrets.
#[async_trait]
pub trait Notifier: Send + Sync + 'static {
    /// Tells. `Ok` means that whoever is told has it.
    ///
    /// # Errors
    ///
    /// [`NotifyError::later`] where another try may help, [`NotifyError::never`] where this notification will not be accepted. Whoever
    /// answers the former, or nothing, may have heard, and is told of the end of these alerts.
    async fn notify(&self, notification: &Notification) -> Result<(), NotifyError>;
}

#[async_trait]
impl<N: Notifier + ?Sized> Notifier for std::sync::Arc<N> {
    async fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        (**self).notify(notification).await
    }
}

#[async_trait]
impl<N: Notifier + ?Sized> Notifier for Box<N> {
    async fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        (**self).notify(notification).await
    }
}

/// A function as a [`Notifier`]. It returns soon: what waits is a notifier of its own.
pub struct FnNotifier<F>(F);

impl<F> FnNotifier<F>
where
    F: Fn(&Notification) -> Result<(), NotifyError> + Send + Sync + 'static,
{
    /// Calls `tell`.
    pub fn new(tell: F) -> Self {
        FnNotifier(tell)
    }
}

impl<F> fmt::Debug for FnNotifier<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FnNotifier").finish_non_exhaustive()
    }
}

#[async_trait]
impl<F> Notifier for FnNotifier<F>
where
    F: Fn(&Notification) -> Result<(), NotifyError> + Send + Sync + 'static,
{
    async fn notify(&self, notification: &Notification) -> Result<(), NotifyError> {
        (self.0)(notification)
    }
}

/// Alerts of one group, to be told together.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Notification {
    /// The same for each try to tell the same, and another where it is told again after the repeat interval.
    pub id: String,
    /// The name of the route.
    pub route: String,
    /// When it was made.
    pub time: DateTime<Utc>,
    /// Until when its firing alerts are to be believed if nothing more is heard: four repeat intervals.
    pub valid_until: DateTime<Utc>,
    /// The labels that its alerts are grouped by.
    pub group: BTreeMap<String, String>,
    /// What fires, and what was resolved since the last time; what is new comes first.
    pub alerts: Vec<Alert>,
}

impl Notification {
    /// `before` is when the route was told of any of `alerts` last.
    pub(crate) fn new(
        route: String,
        time: DateTime<Utc>,
        valid_until: DateTime<Utc>,
        group: BTreeMap<String, String>,
        alerts: Vec<Alert>,
        before: Option<u64>,
    ) -> Self {
        let mut text = route.clone();
        if let Some(before) = before {
            text += &format!(" {before}");
        }
        for alert in &alerts {
            let at = |time: Option<DateTime<Utc>>| time.map_or(0, |time| time.timestamp());
            text += &format!(" {} {} {}", alert.id, at(alert.fired), at(alert.resolved));
        }
        let half = |salt: &str| fnv(salt.bytes().chain(text.bytes()));
        let id = format!("{:016x}{:016x}", half(""), half("other half"));
        Notification { id, route, time, valid_until, group, alerts }
    }

    /// Firing if any of its alerts is.
    pub fn state(&self) -> AlertState {
        let firing = self.alerts.iter().any(|alert| alert.state == AlertState::Firing);
        if firing { AlertState::Firing } else { AlertState::Resolved }
    }

    /// One line: how many fire, how many were resolved, of which group.
    pub fn title(&self) -> String {
        let firing = self.alerts.iter().filter(|alert| alert.state == AlertState::Firing).count();
        let resolved = self.alerts.len() - firing;
        let mut title = match (firing, resolved) {
            (firing, 0) => format!("{firing} firing"),
            (0, resolved) => format!("{resolved} resolved"),
            (firing, resolved) => format!("{firing} firing, {resolved} resolved"),
        };
        for value in self.group.values().filter(|value| !value.is_empty()) {
            title += " · ";
            title.extend(value.chars().map(|c| if c.is_control() { ' ' } else { c }));
        }
        title
    }
}

/// Why somebody could not be told.
pub struct NotifyError {
    message: String,
    again: bool,
    after: Option<Duration>,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl NotifyError {
    /// Another try may help.
    pub fn later(message: impl Into<String>) -> Self {
        NotifyError { message: message.into(), again: true, after: None, source: None }
    }

    /// This notification will not be accepted as it is. Others go on, and this one is tried again seldom, as something may have been mended.
    pub fn never(message: impl Into<String>) -> Self {
        NotifyError { again: false, ..NotifyError::later(message) }
    }

    /// Not before so much time has passed; on a route, not before five minutes at most.
    #[must_use]
    pub fn after(mut self, pause: Duration) -> Self {
        self.after = Some(pause);
        self
    }

    /// What it came from.
    #[must_use]
    pub fn because(mut self, source: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Whether another try may help.
    pub fn is_retryable(&self) -> bool {
        self.again
    }

    pub(crate) fn pause(&self) -> Option<Duration> {
        self.after
    }
}

impl fmt::Display for NotifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for NotifyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut out = f.debug_struct("NotifyError");
        out.field("message", &self.message).field("retryable", &self.again);
        if let Some(source) = &self.source {
            out.field("source", source);
        }
        out.finish()
    }
}

impl StdError for NotifyError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source.as_ref().map(|source| &**source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_one_line_whatever_a_tag_holds() {
        let group = BTreeMap::from([("agent".to_owned(), "a\n1 firing\u{1b}[31m".to_owned())]);
        let epoch = DateTime::UNIX_EPOCH;
        let told = Notification::new("ops".to_owned(), epoch, epoch, group, Vec::new(), None);
        assert_eq!(told.title(), "0 firing · a 1 firing [31m");
    }
}
