use std::time::Duration;

use crate::alert::condition::{Measure, Span};
use crate::export::family::Family;
use crate::metric::{Direction, MetricKind};

/// What PromQL is asked of a family: by which labels, of which series, over how long.
pub(super) struct Query<'a> {
    pub(super) family: &'a Family,
    pub(super) by: String,
    /// As in `{region="eu"}`, or nothing.
    pub(super) only: String,
    pub(super) range: Duration,
}

impl<'a> Query<'a> {
    /// By job, over five minutes.
    pub(super) fn new(family: &'a Family) -> Self {
        Query { family, by: "job".to_owned(), only: String::new(), range: Duration::from_secs(300) }
    }

    /// A number of the window. `None` for one that a scrape does not show: how often a gauge was set, the least and the greatest of a
    /// histogram.
    pub(super) fn number(&self, measure: Measure, greatest: bool) -> Option<String> {
        let Query { by, only, .. } = self;
        let name = &self.family.name;
        let gauge = |of: &str| format!("{of} by ({by}) ({})", self.over(&format!("{of}_over_time"), "", ""));
        Some(match (self.family.info.kind, measure) {
            (MetricKind::Counter | MetricKind::Event, Measure::Sum) => self.count("increase")?,
            (_, Measure::Count) => self.count("increase")?,
            (_, Measure::Rate) => self.count("rate")?,
            (MetricKind::Histogram, Measure::Sum) => self.sum("increase", "_sum", ""),
            (MetricKind::Histogram | MetricKind::Gauge, Measure::Mean) => self.mean("")?,
            (MetricKind::Histogram, Measure::Quantile(q)) => {
                let buckets = self.over("rate", "_bucket", "");
                format!("histogram_quantile({q}, sum by ({by}, le) ({buckets}))")
            }
            (MetricKind::Gauge, Measure::Min) => gauge("min"),
            (MetricKind::Gauge, Measure::Max) => gauge("max"),
            (MetricKind::Gauge, Measure::Last) => {
                let of = if greatest { "max" } else { "min" };
                format!("{of} by ({by}) ({name}{only})")
            }
            _ => return None,
        })
    }

    /// How much was counted, or how many values there were.
    pub(super) fn count(&self, function: &str) -> Option<String> {
        match self.family.info.kind {
            MetricKind::Counter | MetricKind::Event => Some(self.sum(function, "_total", "")),
            MetricKind::Histogram => Some(self.sum(function, "_count", "")),
            MetricKind::Gauge => None,
        }
    }

    /// Whether the mean is away from that of the seven days before by more than a share of it, in the direction that is worse.
    pub(super) fn moved(&self, share: f64) -> Option<String> {
        let recent = self.mean("")?;
        let before = Query {
            range: Duration::from_secs(7 * 86_400),
            by: self.by.clone(),
            only: self.only.clone(),
            ..*self
        };
        let before = before.mean(&format!(" offset {}", self.span()))?;
        let away = match self.family.info.description.direction {
            Direction::Both => format!("abs(({recent}) - ({before}))"),
            Direction::HigherIsWorse => format!("({recent}) - ({before})"),
            Direction::LowerIsWorse => format!("({before}) - ({recent})"),
        };
        // Of a baseline below zero a share is one of its size.
        Some(format!("{away} > {share} * abs({before})"))
    }

    /// The mean of values, as it was `ago`.
    fn mean(&self, ago: &str) -> Option<String> {
        match self.family.info.kind {
            MetricKind::Histogram => Some(format!(
                "{} / {}",
                self.sum("increase", "_sum", ago),
                self.sum("increase", "_count", ago)
            )),
            MetricKind::Gauge => {
                Some(format!("avg by ({}) ({})", self.by, self.over("avg_over_time", "", ago)))
            }
            MetricKind::Counter | MetricKind::Event => None,
        }
    }

    fn sum(&self, function: &str, of: &str, ago: &str) -> String {
        format!("sum by ({}) ({})", self.by, self.over(function, of, ago))
    }

    fn over(&self, function: &str, of: &str, ago: &str) -> String {
        format!("{function}({}{of}{}[{}]{ago})", self.family.name, self.only, self.span())
    }

    fn span(&self) -> Span {
        Span(self.range)
    }
}
