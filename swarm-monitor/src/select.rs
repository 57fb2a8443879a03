use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::drift::check::DriftCheck;
use crate::error::{Error, ErrorKind, Result};
use crate::metric::{Direction, MetricKind};
use crate::monitor::Inner;
use crate::series::Series;
use crate::sketch::Sketch;
use crate::summary::Summary;
use crate::table::Metric;
use crate::window::{Span, Window, time};

/// A metric, or those of its series that have some tags, to be asked:
/// [`PerformanceMonitor::select`](crate::PerformanceMonitor::select).
///
/// Every answer is made from buckets, so that it costs the same however much was recorded.
///
/// # Errors
///
/// Each answer is an error of kind [`NotFound`](ErrorKind::NotFound) while nothing was recorded under the metric's name. Tags that no
/// series has make an empty answer.
#[derive(Debug, Clone)]
pub struct Selection {
    inner: Arc<Inner>,
    metric: String,
    tags: Vec<(String, String)>,
    /// The series that have the tags, where they were looked for already.
    found: Option<Vec<Arc<Series>>>,
}

impl Selection {
    pub(crate) fn new(inner: Arc<Inner>, metric: &str) -> Self {
        Selection { inner, metric: metric.to_owned(), tags: Vec::new(), found: None }
    }

    /// Only series with this tag.
    #[must_use]
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((name.into(), value.into()));
        self.found = None;
        self
    }

    /// Count, mean, deviation, least and greatest within a window. Of a counter only the count and the rate mean something.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) while there is no such metric.
    pub fn summary(&self, window: Window) -> Result<Summary> {
        let (series, span) = (self.series()?, self.span(window));
        let mut summary = Summary::empty(span.from(), span.to());
        series.iter().for_each(|series| series.summarize(&span, &mut summary));
        Ok(summary)
    }

    /// The same since the series are there, which is longer than any window reaches, and longer than the process where a snapshot was
    /// restored.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) while there is no such metric.
    pub fn total(&self) -> Result<Summary> {
        let now = self.inner.now();
        let mut summary = Summary::empty(time(self.inner.started), time(now));
        self.series()?.iter().for_each(|series| series.summarize_ever(now, &mut summary));
        Ok(summary)
    }

    /// All values of a window by size.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) while there is no such metric, [`WrongKind`](ErrorKind::WrongKind) for counts.
    pub fn sketch(&self, window: Window) -> Result<Sketch> {
        let metric = self.metric()?;
        if metric.about.kind.counts() {
            let message = format!("{:?} is made of counts, which have no distribution", self.metric);
            return Err(Error::new(ErrorKind::WrongKind, message).of_metric(&self.metric));
        }
        let span = self.span(window);
        let mut sketch = Sketch::new(self.inner.table.settings.mapping);
        self.series()?.iter().for_each(|series| series.sketch(&span, &mut sketch));
        Ok(sketch)
    }

    /// The value that a share `q` of a window's values are at most: 0.99 is the 99th percentile. `None` without values.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) while there is no such metric, [`WrongKind`](ErrorKind::WrongKind) for counts,
    /// [`InvalidInput`](ErrorKind::InvalidInput) if `q` is not within 0 and 1.
    pub fn quantile(&self, window: Window, q: f64) -> Result<Option<f64>> {
        if !(0.0..=1.0).contains(&q) {
            return Err(
                Error::input(format!("a quantile is within 0 and 1, not {q}")).of_metric(&self.metric)
            );
        }
        Ok(self.sketch(window)?.quantile(q))
    }

    /// The window's buckets that have something in them, in order, each as a summary: what a plot needs.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) while there is no such metric.
    pub fn points(&self, window: Window) -> Result<Vec<Summary>> {
        let (series, span) = (self.series()?, self.span(window));
        let mut points: BTreeMap<u64, Summary> = BTreeMap::new();
        for series in series {
            series.summarize_each(&span, |bucket, part| {
                let one = Span { first: bucket, end: bucket + 1, ..span };
                let point = points.entry(bucket).or_insert_with(|| Summary::empty(one.from(), one.to()));
                point.merge(part);
            });
        }
        Ok(points.into_values().filter(|point| point.count > 0).collect())
    }

    /// One selection for each value that the tag `name` has here, by value. Series without the tag are in none.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) while there is no such metric.
    pub fn by(&self, name: &str) -> Result<Vec<(String, Selection)>> {
        let series = self.series()?;
        let values: BTreeSet<&str> = series
            .iter()
            .flat_map(|s| s.tags.iter())
            .filter(|(key, _)| **key == *name)
            .map(|(_, v)| &**v)
            .collect();
        Ok(values.into_iter().map(|value| (value.to_owned(), self.clone().tag(name, value))).collect())
    }

    /// One selection for each combination of values that the tags `names` have here, to be asked at once and not kept. Looks through the
    /// series once, however many there are.
    pub(crate) fn each(&self, names: &[String]) -> Result<Vec<(Vec<(String, String)>, Selection)>> {
        let mut groups: BTreeMap<Vec<Arc<str>>, Vec<Arc<Series>>> = BTreeMap::new();
        for series in self.series()? {
            let value =
                |name: &String| series.tags.iter().find(|(key, _)| **key == **name).map(|(_, v)| v.clone());
            if let Some(values) = names.iter().map(value).collect() {
                groups.entry(values).or_default().push(series);
            }
        }
        let part = |(values, found): (Vec<Arc<str>>, _)| {
            let tags: Vec<(String, String)> =
                names.iter().zip(values).map(|(name, value)| (name.clone(), value.to_string())).collect();
            let all = self.tags.iter().chain(&tags).cloned().collect();
            (tags, Selection { tags: all, found: Some(found), ..self.clone() })
        };
        Ok(groups.into_iter().map(part).collect())
    }

    /// Each series alone, by its tags, to be asked at once and not kept.
    pub(crate) fn each_series(&self) -> Vec<(Vec<(String, String)>, Selection)> {
        let alone = |series: Arc<Series>| {
            let tags: Vec<(String, String)> =
                series.tags.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
            (tags.clone(), Selection { tags, found: Some(vec![series]), ..self.clone() })
        };
        let mut each: Vec<_> = self.series().unwrap_or_default().into_iter().map(alone).collect();
        each.sort_by(|one, other| one.0.cmp(&other.0));
        each
    }

    /// What each series of a gauge stands at, with its tags.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) while there is no such metric.
    pub fn last(&self) -> Result<Vec<(Vec<(String, String)>, f64)>> {
        let tags =
            |series: &Series| series.tags.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
        let mut last: Vec<(Vec<(String, String)>, f64)> =
            self.series()?.iter().filter_map(|series| Some((tags(series), series.last()?))).collect();
        last.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(last)
    }

    /// Whether recent values are unlike earlier ones.
    pub fn drift(&self) -> DriftCheck {
        DriftCheck::new(self.clone())
    }

    pub(crate) fn metric_name(&self) -> &str {
        &self.metric
    }

    pub(crate) fn tags(&self) -> &[(String, String)] {
        &self.tags
    }

    pub(crate) fn now(&self) -> u64 {
        self.inner.now()
    }

    /// For how many seconds this process has recorded.
    pub(crate) fn watched(&self) -> u64 {
        self.inner.now().saturating_sub(self.inner.began)
    }

    pub(crate) fn kind(&self) -> Result<MetricKind> {
        Ok(self.metric()?.about.kind)
    }

    pub(crate) fn direction(&self) -> Result<Direction> {
        Ok(self.metric()?.about.direction())
    }

    fn metric(&self) -> Result<Arc<Metric>> {
        self.inner.table.get(&self.metric).ok_or_else(|| Error::not_found(&self.metric))
    }

    fn series(&self) -> Result<Vec<Arc<Series>>> {
        match &self.found {
            Some(found) => Ok(found.clone()),
            None => Ok(self.metric()?.select(&self.tags)),
        }
    }

    fn span(&self, window: Window) -> Span {
        window.span(self.inner.now(), self.inner.table.settings.reach)
    }
}
