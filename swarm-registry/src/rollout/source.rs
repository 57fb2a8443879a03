use std::collections::BTreeMap;
use std::error::Error as StdError;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::measure::Measure;

/// Tells what was measured of a version while it served: Prometheus, a database, counters of your own.
///
/// Implemented by you. While an analysis goes on, [`drive_rollout`](crate::VersionRegistry::drive_rollout) asks once a look
/// for each version that the channel serves, for all of them at the same time. An error, a panic, or no answer within
/// 30 s makes the look inconclusive, and it asks again at the next. Asking must change nothing: several processes may
/// ask, any call may be cancelled, and after a crash the same window is asked for again.
///
/// ```
/// use async_trait::async_trait; // the trait is one of async_trait's
/// use swarm_registry::{Measure, MetricSource, Observed, Window};
///
/// struct Requests; // a client of a database, for example
///
/// #[async_trait]
/// impl MetricSource for Requests {
///     async fn observe(&self, window: &Window) -> Result<Observed, Box<dyn std::error::Error + Send + Sync>> {
///         let (successes, trials) = self.count(&window.version, window.since, window.until)?;
///         Ok(Observed::new().metric("success", Measure::Proportion { successes, trials }))
///     }
/// }
/// # impl Requests {
/// #     fn count<T>(&self, _: &str, _: T, _: T) -> Result<(u64, u64), std::io::Error> { Ok((990, 1_000)) }
/// # }
/// ```
///
/// A plan without analyses needs none: `()` is a source that measures nothing.
#[async_trait]
pub trait MetricSource: Send + Sync + 'static {
    /// What was measured in `window`: of all of it, not of what is new since the last look.
    ///
    /// # Errors
    /// Whatever went wrong; it becomes part of the reason why a rollout is held.
    async fn observe(&self, window: &Window) -> Result<Observed, Box<dyn StdError + Send + Sync>>;
}

#[async_trait]
impl MetricSource for () {
    async fn observe(&self, _: &Window) -> Result<Observed, Box<dyn StdError + Send + Sync>> {
        Ok(Observed::new())
    }
}

/// What a [`MetricSource`] is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Window {
    /// The channel.
    pub channel: String,
    /// The version that served.
    pub version: String,
    /// When the analysis began, by the clock of who recorded it.
    pub since: DateTime<Utc>,
    /// The moment of the look.
    pub until: DateTime<Utc>,
}

/// What a [`MetricSource`] answers.
#[derive(Debug, Clone, Default, PartialEq)]
#[must_use]
pub struct Observed {
    pub(crate) metrics: BTreeMap<String, Measure>,
    pub(crate) users: Option<u64>,
}

impl Observed {
    /// Nothing yet.
    pub fn new() -> Self {
        Observed::default()
    }

    /// What was measured of one metric, errors per request as a [`Measure::Proportion`] for example.
    pub fn metric(mut self, name: impl Into<String>, measure: impl Into<Measure>) -> Self {
        self.metrics.insert(name.into(), measure.into());
        self
    }

    /// How many different keys were routed to the version, pinned ones left out. If it is known of every version, it is
    /// checked against the weights, and where it does not fit them the look passes nothing:
    /// [`Split::sample_ratio`](crate::Split::sample_ratio).
    pub fn users(mut self, users: u64) -> Self {
        self.users = Some(users);
        self
    }
}
