use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::error::Result;
use crate::judge::{Comparison, Judge};
use crate::state::State;
use crate::version::VersionInfo;

use super::VersionRegistry;

/// What versions to find. Conditions add up; without any, it finds all.
#[derive(Debug, Clone, Default)]
#[must_use = "it is asked by VersionRegistry::find"]
pub struct Query {
    labels: Vec<(String, Option<String>)>,
    metrics: Vec<(String, f64, f64)>,
    since: Option<DateTime<Utc>>,
    until: Option<DateTime<Utc>>,
    ancestor: Option<String>,
}

impl Query {
    /// Finds every version.
    pub fn new() -> Self {
        Query::default()
    }

    /// Whose label `key` is `value`.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.push((key.into(), Some(value.into())));
        self
    }

    /// That have the label `key`.
    pub fn labelled(mut self, key: impl Into<String>) -> Self {
        self.labels.push((key.into(), None));
        self
    }

    /// Whose metric is at least `least`; of samples, their mean. A version without the metric is not found.
    pub fn metric_at_least(mut self, metric: impl Into<String>, least: f64) -> Self {
        self.metrics.push((metric.into(), least, f64::INFINITY));
        self
    }

    /// Whose metric is at most `most`; of samples, their mean. A version without the metric is not found.
    pub fn metric_at_most(mut self, metric: impl Into<String>, most: f64) -> Self {
        self.metrics.push((metric.into(), f64::NEG_INFINITY, most));
        self
    }

    /// That were registered at `time` or later.
    pub fn since(mut self, time: DateTime<Utc>) -> Self {
        self.since = Some(time);
        self
    }

    /// That were registered before `time`.
    pub fn until(mut self, time: DateTime<Utc>) -> Self {
        self.until = Some(time);
        self
    }

    /// That were made from `version`, from one that was, and so on. A line ends at a version that retention removed: what was
    /// made from that one is not found.
    pub fn descendants_of(mut self, version: impl Into<String>) -> Self {
        self.ancestor = Some(version.into());
        self
    }

    /// Whether it finds `version`, by all but its ancestor.
    fn finds(&self, version: &VersionInfo) -> bool {
        let labels = self.labels.iter().all(|(key, value)| {
            let has = version.labels.get(key);
            has.is_some() && (value.is_none() || has == value.as_ref())
        });
        let metrics = self.metrics.iter().all(|(metric, least, most)| {
            let mean = version.metrics.get(metric).and_then(|measure| measure.mean());
            mean.is_some_and(|mean| *least <= mean && mean <= *most)
        });
        let at = version.registered_at;
        let times = self.since.is_none_or(|since| since <= at) && self.until.is_none_or(|until| at < until);
        labels && metrics && times
    }
}

/// The parent, its parent, and so on, as far as they are registered. A parent is always registered before its child, so
/// this ends.
fn ancestors(state: &State, version: &VersionInfo) -> Vec<Arc<VersionInfo>> {
    let parent = |version: &VersionInfo| state.versions.get(version.parent()?).cloned();
    std::iter::successors(parent(version), |version| parent(version)).collect()
}

impl VersionRegistry {
    /// The versions that `query` finds, in the order of their registration.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound) where the version of
    /// [`descendants_of`](Query::descendants_of) is not registered; [`ErrorKind::Store`](crate::ErrorKind::Store).
    pub async fn find(&self, query: &Query) -> Result<Vec<Arc<VersionInfo>>> {
        self.refresh().await?;
        let state = self.state();
        let mut found: Vec<_> = state.versions.values().collect();
        found.sort_unstable_by_key(|version| version.record);
        if let Some(ancestor) = &query.ancestor {
            // A parent is registered before its child, so one pass finds the whole line.
            let mut line = BTreeSet::from([state.version(ancestor)?.id()]);
            found.retain(|version| {
                let is_child = version.parent().is_some_and(|parent| line.contains(parent));
                is_child && line.insert(version.id())
            });
        }
        found.retain(|version| query.finds(version));
        Ok(found.into_iter().cloned().collect())
    }

    /// The version that `id` was made from, the one that was made from, and so on: the nearest first. It ends at a
    /// version without a parent, and at one that was removed by retention.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound); [`ErrorKind::Store`](crate::ErrorKind::Store).
    pub async fn lineage(&self, id: &str) -> Result<Vec<Arc<VersionInfo>>> {
        self.refresh().await?;
        let state = self.state();
        Ok(ancestors(&state, state.version(id)?))
    }

    /// Compares the metrics that the version `candidate` was registered with to those of `baseline`.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`](crate::ErrorKind::NotFound); [`ErrorKind::Store`](crate::ErrorKind::Store); else as
    /// [`Judge::compare`].
    pub async fn compare(&self, baseline: &str, candidate: &str, judge: &Judge) -> Result<Comparison> {
        let baseline = self.version(baseline).await?;
        let candidate = self.version(candidate).await?;
        judge.compare(baseline.metrics(), candidate.metrics())
    }

    /// The channels that something was deployed to.
    ///
    /// # Errors
    /// [`ErrorKind::Store`](crate::ErrorKind::Store).
    pub async fn channels(&self) -> Result<BTreeSet<String>> {
        self.refresh().await?;
        Ok(self.state().channels.keys().map(|channel| channel.to_string()).collect())
    }
}
