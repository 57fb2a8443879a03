use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::drift::change::ChangeDetector;
use crate::drift::mean::RelativeMean;
use crate::drift::{DriftDetector, Verdict};
use crate::error::{Error, ErrorKind, Result};
use crate::metric::MetricKind;
use crate::select::Selection;
use crate::window::{Window, time};

/// What must be so of a metric for a rule to raise an alert.
///
/// That nothing was recorded, or that a count, a rate or a sum is too small, holds only once the process has run for a window: before,
/// there was less time to record in.
///
/// ```
/// use std::time::Duration;
/// use swarm_monitor::{Condition, Cusum};
///
/// let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
/// Condition::of("request_seconds").tag("route", "/pay").quantile(0.99).above(0.5).window(minutes(5));
/// Condition::of("errors").rate().above(2.0).window(minutes(1));
/// Condition::of("test_coverage").drifts(0.05);
/// Condition::of("heartbeats").absent().window(minutes(2));
/// Condition::of("queue_length").window(minutes(1)).changes(|| Cusum::new(20.0, 4.0));
/// // What is usual is learned from the first 30 windows.
/// Condition::of("request_seconds").window(minutes(1)).changes(|| Cusum::new(f64::NAN, f64::NAN).run_length(1e6));
/// ```
#[derive(Clone)]
#[must_use]
pub struct Condition {
    pub(crate) metric: String,
    pub(crate) tags: Vec<(String, String)>,
    pub(crate) measure: Measure,
    pub(crate) window: Duration,
    least: u64,
    pub(crate) test: Test,
    said: Said,
}

/// What was said, and is not to be the test's own.
#[derive(Debug, Clone, Copy, Default)]
struct Said {
    window: bool,
    least: bool,
    /// Another test before the one there is.
    another: bool,
}

/// Which number of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Measure {
    Mean,
    Min,
    Max,
    Sum,
    Count,
    Rate,
    Quantile(f64),
    Last,
}

#[derive(Clone)]
pub(crate) enum Test {
    /// Nothing was said.
    Unset,
    Above(f64),
    Below(f64),
    Absent,
    /// With the share that a mean is to move by, where it was asked for as one.
    Drift(Arc<dyn DriftDetector>, Option<f64>),
    Change(Arc<dyn Fn() -> Box<dyn ChangeDetector> + Send + Sync>),
}

/// What a condition finds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Seen {
    /// It holds, in a sentence.
    Holds(Option<f64>, String),
    /// It does not.
    Clear(Option<f64>),
    /// There is nothing to tell by.
    Nothing,
}

impl Condition {
    /// Of a metric's mean within five minutes, unless told otherwise.
    pub fn of(metric: impl Into<String>) -> Self {
        Condition {
            metric: metric.into(),
            tags: Vec::new(),
            measure: Measure::Mean,
            window: Duration::from_secs(300),
            least: 1,
            test: Test::Unset,
            said: Said::default(),
        }
    }

    /// Only series with this tag.
    pub fn tag(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.tags.push((name.into(), value.into()));
        self
    }

    /// How far back to look: [five minutes](Condition::of), for drift an hour.
    pub fn window(mut self, window: Duration) -> Self {
        (self.window, self.said.window) = (window, true);
        self
    }

    /// With fewer values in the window there is nothing to tell by: 1 by default, for drift 30. Counts and rates need none.
    pub fn least(mut self, values: u64) -> Self {
        (self.least, self.said.least) = (values, true);
        self
    }

    /// Looks at the value that a share `q` of the values are at most: 0.99 is the 99th percentile.
    pub fn quantile(mut self, q: f64) -> Self {
        self.measure = Measure::Quantile(q);
        self
    }

    /// Looks at the mean, as it does by default.
    pub fn mean(mut self) -> Self {
        self.measure = Measure::Mean;
        self
    }

    /// Looks at the least.
    pub fn min(mut self) -> Self {
        self.measure = Measure::Min;
        self
    }

    /// Looks at the greatest.
    pub fn max(mut self) -> Self {
        self.measure = Measure::Max;
        self
    }

    /// Looks at the sum.
    pub fn sum(mut self) -> Self {
        self.measure = Measure::Sum;
        self
    }

    /// Looks at how many there are; of a counter, at how much was counted.
    pub fn count(mut self) -> Self {
        self.measure = Measure::Count;
        self
    }

    /// Looks at how many there are a second.
    pub fn rate(mut self) -> Self {
        self.measure = Measure::Rate;
        self
    }

    /// Looks at what a gauge stands at, whenever it was set; of several series, at the greatest for [`above`](Condition::above), at the
    /// least for [`below`](Condition::below).
    pub fn last(mut self) -> Self {
        self.measure = Measure::Last;
        self
    }

    /// Holds while the number is greater than this. A condition has one test: this, or one of those below.
    pub fn above(self, limit: f64) -> Self {
        self.test(Test::Above(limit))
    }

    /// Holds while the number is less than this.
    pub fn below(self, limit: f64) -> Self {
        self.test(Test::Below(limit))
    }

    /// Holds while nothing was recorded within the window.
    pub fn absent(self) -> Self {
        self.test(Test::Absent)
    }

    /// Holds while the mean of the last hour is away from its baseline by a share of at least `threshold`, and by more than chance
    /// explains: see [`detect_drift`](crate::PerformanceMonitor::detect_drift).
    ///
    /// It looks once in a window, however often rules are evaluated, as each look is a chance of a false alarm.
    pub fn drifts(self, threshold: f64) -> Self {
        self.test(Test::Drift(Arc::new(RelativeMean::new(threshold)), Some(threshold)))
    }

    /// The same, asking this detector.
    pub fn drifts_by(self, detector: impl DriftDetector + 'static) -> Self {
        self.test(Test::Drift(Arc::new(detector), None))
    }

    /// Holds for a window after a detector of this kind has seen a change. It is shown the number of each window that is over; windows
    /// without values are left out. What it knows is kept under the rule's name in
    /// [snapshots](crate::PerformanceMonitor::snapshot).
    ///
    /// The numbers are as they were recorded. [`Adwin`](crate::Adwin) and the defaults of [`PageHinkley`](crate::PageHinkley) are made for
    /// values of about 1, and hear nothing in durations of some hundredths of a second; a [`Cusum`](crate::Cusum) that is given no level learns
    /// its unit.
    pub fn changes<D: ChangeDetector + 'static>(
        self,
        detector: impl Fn() -> D + Send + Sync + 'static,
    ) -> Self {
        self.test(Test::Change(Arc::new(move || Box::new(detector()))))
    }

    fn test(mut self, test: Test) -> Self {
        self.said.another |= !matches!(self.test, Test::Unset);
        if let Test::Drift(..) = test {
            self.window = if self.said.window { self.window } else { Duration::from_secs(3_600) };
            self.least = if self.said.least { self.least } else { 30 };
        }
        self.test = test;
        self
    }

    pub(crate) fn check(&self, mut say: impl FnMut(String)) {
        if self.window.as_secs() == 0 {
            say("a window is at least a second".to_owned());
        }
        if self.said.another {
            say("a condition has one test: above, below, absent, drifts or changes".to_owned());
        }
        if matches!(self.test, Test::Absent | Test::Drift(..)) && self.measure != Measure::Mean {
            say(format!(
                "{:?} is no number to look at for absence or drift, which are of all values",
                self.measure
            ));
        }
        match self.measure {
            Measure::Quantile(q) if !(0.0..=1.0).contains(&q) => {
                say(format!("a quantile is within 0 and 1, not {q}"));
            }
            _ => {}
        }
        match &self.test {
            Test::Unset => {
                say("the condition says nothing: above, below, absent, drifts or changes".to_owned())
            }
            Test::Above(limit) | Test::Below(limit) if !limit.is_finite() => {
                say(format!("a limit is a number, not {limit}"));
            }
            Test::Drift(_, Some(threshold)) if !(*threshold > 0.0 && threshold.is_finite()) => {
                say(format!("a share to drift by is above 0, not {threshold}"));
            }
            Test::Drift(..) if self.window > Duration::from_secs(86_400) => {
                say(format!("drift looks back at most a day, not {:?}", self.window));
            }
            Test::Change(_) if self.window > LONGEST => {
                say(format!("windows to look for a change in are of at most a week, not {:?}", self.window));
            }
            Test::Change(_) if self.measure == Measure::Last => {
                say("a change is looked for in what windows hold, not in what a gauge stands at".to_owned());
            }
            _ => {}
        }
    }

    /// Whether it is looked at once in a window and holds in between.
    pub(crate) fn is_slow(&self) -> bool {
        matches!(self.test, Test::Drift(..) | Test::Change(_))
    }

    /// Whether it holds for a moment only.
    pub(crate) fn is_moment(&self) -> bool {
        matches!(self.test, Test::Change(_))
    }

    /// A new detector, if it looks for a change.
    pub(crate) fn detector(&self) -> Option<Box<dyn ChangeDetector>> {
        if let Test::Change(make) = &self.test { Some(make()) } else { None }
    }

    /// The series it is about.
    pub(crate) fn select(&self, monitor: &crate::PerformanceMonitor) -> Selection {
        let selection = monitor.select(&self.metric);
        self.tags.iter().fold(selection, |selection, (name, value)| selection.tag(name, value))
    }

    /// Looks, except for a change.
    pub(crate) fn look(&self, selection: &Selection) -> Result<Seen> {
        let seen = match &self.test {
            Test::Absent => self.look_for_absence(selection),
            Test::Drift(detector, _) => self.drift(selection, detector),
            Test::Above(limit) => self.compare(selection, *limit, true),
            Test::Below(limit) => self.compare(selection, *limit, false),
            Test::Unset | Test::Change(_) => Ok(Seen::Nothing),
        };
        match seen {
            // Nothing was ever recorded under the name.
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(match self.test {
                Test::Absent if !self.is_early(selection) => {
                    Seen::Holds(None, format!("nothing was ever recorded of {}", self.metric))
                }
                _ => Seen::Nothing,
            }),
            seen => seen,
        }
    }

    /// Whether the window reaches back to before this process. What is missing in it may have been in none.
    fn is_early(&self, selection: &Selection) -> bool {
        selection.watched() < self.window.as_secs()
    }

    fn look_for_absence(&self, selection: &Selection) -> Result<Seen> {
        let count = selection.summary(Window::last(self.window))?.count;
        let sentence =
            || format!("nothing was recorded of {} in {}", About(self, selection), Span(self.window));
        Ok(match count {
            0 if self.is_early(selection) => Seen::Nothing,
            0 => Seen::Holds(None, sentence()),
            _ => Seen::Clear(None),
        })
    }

    fn drift(&self, selection: &Selection, detector: &Arc<dyn DriftDetector>) -> Result<Seen> {
        let check = selection.drift().by(detector.clone()).recent(self.window).least(self.least);
        let report = check.check()?;
        Ok(match report.finding.verdict {
            Verdict::Drift => Seen::Holds(Some(report.recent.mean), report.to_string()),
            Verdict::Steady => Seen::Clear(Some(report.recent.mean)),
            Verdict::Unknown => Seen::Nothing,
        })
    }

    fn compare(&self, selection: &Selection, limit: f64, above: bool) -> Result<Seen> {
        let Some(value) = self.number(selection, Window::last(self.window), above)? else {
            return Ok(Seen::Nothing);
        };
        if (above && value > limit) || (!above && value < limit) {
            let adds_up = matches!(self.measure, Measure::Count | Measure::Rate | Measure::Sum);
            if !above && adds_up && self.is_early(selection) {
                return Ok(Seen::Nothing);
            }
            let than = if above { "above" } else { "below" };
            let sentence = format!("{} is {value}, {than} {limit}", About(self, selection));
            return Ok(Seen::Holds(Some(value), sentence));
        }
        Ok(Seen::Clear(Some(value)))
    }

    /// The number of a window. `None` where there are too few values.
    pub(crate) fn number(
        &self,
        selection: &Selection,
        window: Window,
        greatest: bool,
    ) -> Result<Option<f64>> {
        let kind = selection.kind()?;
        let why = match self.measure {
            Measure::Last if kind != MetricKind::Gauge => {
                "no gauge, and stands at nothing: ask for its count or rate"
            }
            Measure::Count | Measure::Rate | Measure::Sum | Measure::Last => "",
            _ if kind.counts() => "made of counts, which have no distribution: ask for its count or rate",
            _ => "",
        };
        if !why.is_empty() {
            let message = format!("{:?} is {why}", self.metric);
            return Err(Error::new(ErrorKind::WrongKind, message).of_metric(&self.metric));
        }
        if self.measure == Measure::Last {
            let all = selection.last()?.into_iter().map(|(_, value)| value);
            return Ok(if greatest { all.reduce(f64::max) } else { all.reduce(f64::min) });
        }
        let summary = selection.summary(window)?;
        let enough = summary.count >= self.least.max(1);
        Ok(match self.measure {
            Measure::Count => Some(summary.count as f64),
            Measure::Rate => summary.rate(),
            _ if !enough => None,
            Measure::Quantile(q) => selection.quantile(window, q)?,
            Measure::Min => Some(summary.min),
            Measure::Max => Some(summary.max),
            Measure::Sum => Some(summary.sum()),
            Measure::Mean | Measure::Last => Some(summary.mean),
        })
    }

    /// Shows a detector the windows that were over since `shown`, up to `now`. Answers until when it was shown, and what it saw last.
    pub(crate) fn follow(
        &self,
        selection: &Selection,
        detector: &mut dyn ChangeDetector,
        shown: u64,
        now: u64,
    ) -> Result<(u64, Option<Seen>)> {
        let step = self.window.as_secs().max(1);
        // What is further back is not in fine buckets any more.
        let mut from = shown.max(now.saturating_sub(step.saturating_mul(180)));
        let mut seen = None;
        while from + step <= now {
            let window = Window::between(time(from), time(from + step));
            from += step;
            let number = match self.number(selection, window, true) {
                Err(error) if error.kind() == ErrorKind::NotFound => None,
                number => number?,
            };
            let Some(number) = number else { continue };
            seen = Some(if detector.update(number) {
                let sentence = format!(
                    "{} changed its level, now {number}, says {}",
                    About(self, selection),
                    detector.name()
                );
                Seen::Holds(Some(number), sentence)
            } else {
                Seen::Clear(Some(number))
            });
        }
        Ok((from, seen))
    }
}

/// Hours are kept for a day more, so that a window that is over is whole.
const LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// What a sentence is about: the number, the series, the window.
struct About<'a>(&'a Condition, &'a Selection);

impl fmt::Display for About<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let About(condition, selection) = self;
        if !matches!(condition.test, Test::Absent) {
            match condition.measure {
                Measure::Mean => f.write_str("mean of ")?,
                Measure::Min => f.write_str("least of ")?,
                Measure::Max => f.write_str("greatest of ")?,
                Measure::Sum => f.write_str("sum of ")?,
                Measure::Count => f.write_str("count of ")?,
                Measure::Rate => f.write_str("rate of ")?,
                Measure::Quantile(q) => write!(f, "p{} of ", (q * 1e6).round() / 1e4)?,
                Measure::Last => {}
            }
        }
        f.write_str(&condition.metric)?;
        for (at, (name, value)) in selection.tags().iter().enumerate() {
            write!(f, "{}{name}={value:?}", if at == 0 { "{" } else { ", " })?;
        }
        if !selection.tags().is_empty() {
            f.write_str("}")?;
        }
        if matches!(condition.test, Test::Absent) || condition.measure == Measure::Last {
            return Ok(());
        }
        write!(f, " in {}", Span(condition.window))
    }
}

/// A duration as people write it: 90s, 5m, 36h.
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_secs() {
            seconds if seconds > 0 && seconds % 3_600 == 0 => write!(f, "{}h", seconds / 3_600),
            seconds if seconds > 0 && seconds % 60 == 0 => write!(f, "{}m", seconds / 60),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let test = match &self.test {
            Test::Unset => "nothing".to_owned(),
            Test::Above(limit) => format!("above {limit}"),
            Test::Below(limit) => format!("below {limit}"),
            Test::Absent => "absent".to_owned(),
            Test::Drift(detector, _) => format!("drifts by {}", detector.name()),
            Test::Change(_) => "changes".to_owned(),
        };
        f.debug_struct("Condition")
            .field("metric", &self.metric)
            .field("tags", &self.tags)
            .field("measure", &self.measure)
            .field("window", &self.window)
            .field("least", &self.least)
            .field("test", &test)
            .finish_non_exhaustive()
    }
}
