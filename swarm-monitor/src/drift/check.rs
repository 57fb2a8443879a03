use std::fmt;
use std::time::Duration;

use crate::drift::mean::RelativeMean;
use crate::drift::report::DriftReport;
use crate::drift::sample::Sample;
use crate::drift::{DriftDetector, Finding};
use crate::error::{Error, ErrorKind, Result};
use crate::metric::Direction;
use crate::select::Selection;
use crate::window::Window;

const HOUR: u64 = 3_600;
const WEEK: u64 = 168 * HOUR;

/// Compares a metric's recent values with earlier ones: [`Selection::drift`].
///
/// By default the last hour, with the same hour of the week before if that has enough values, or else with the seven days before;
/// by the [`RelativeMean`], 10 %; in the direction that the metric's [`Description`](crate::Description) says is worse; and only
/// with at least 30 values on either side.
///
/// ```
/// use swarm_monitor::{KolmogorovSmirnov, PerformanceMonitor};
///
/// let monitor = PerformanceMonitor::new();
/// monitor.record("agent_cycle_time", 45.2, &[("agent", "Agent-7")]);
/// let report = monitor.select("agent_cycle_time").drift().by(KolmogorovSmirnov::default()).check()?;
/// assert_eq!(report.to_string(), "agent_cycle_time: too little to tell, 1 recent values where 30 are needed");
/// # Ok::<(), swarm_monitor::Error>(())
/// ```
#[must_use]
pub struct DriftCheck {
    selection: Selection,
    detector: Box<dyn DriftDetector>,
    recent: Duration,
    baseline: Option<Window>,
    same_hour: bool,
    least: u64,
    direction: Option<Direction>,
}

impl DriftCheck {
    pub(crate) fn new(selection: Selection) -> Self {
        DriftCheck {
            selection,
            detector: Box::new(RelativeMean::default()),
            recent: Duration::from_secs(HOUR),
            baseline: None,
            same_hour: true,
            least: 30,
            direction: None,
        }
    }

    /// With another test.
    pub fn by(mut self, detector: impl DriftDetector + 'static) -> Self {
        self.detector = Box::new(detector);
        self
    }

    /// How much of the past is recent: an hour by default. More than three hours are taken in whole hours.
    pub fn recent(mut self, recent: Duration) -> Self {
        self.recent = recent;
        self
    }

    /// Compares with this window.
    pub fn baseline(mut self, window: Window) -> Self {
        self.baseline = Some(window);
        self
    }

    /// Compares with the whole seven days, for values that do not depend on the time of day.
    pub fn any_hour(mut self) -> Self {
        self.same_hour = false;
        self
    }

    /// With fewer values on either side there is too little to tell: 30 by default. Below that, the rate of false alarms is higher than
    /// what was asked for where values are skewed.
    pub fn least(mut self, values: u64) -> Self {
        self.least = values.max(2);
        self
    }

    /// Which way is worse, whatever the metric's description says.
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = Some(direction);
        self
    }

    /// Looks.
    ///
    /// # Errors
    ///
    /// [`NotFound`](ErrorKind::NotFound) while nothing was recorded under the metric's name; [`WrongKind`](ErrorKind::WrongKind) for
    /// counts; [`InvalidInput`](ErrorKind::InvalidInput) for a recent window longer than a day.
    pub fn check(&self) -> Result<DriftReport> {
        if self.recent > Duration::from_secs(24 * HOUR) {
            let message = format!("recent values reach back at most a day, not {:?}", self.recent);
            return Err(Error::new(ErrorKind::InvalidInput, message).of_metric(self.selection.metric_name()));
        }
        let recent = self.sample(Window::last(self.recent))?;
        let (baseline, same_hour) = self.compared_with()?;
        let direction = match self.direction {
            Some(direction) => direction,
            None => self.selection.direction()?,
        };
        let enough = recent.0.count >= self.least && baseline.0.count >= self.least;
        let finding = if enough {
            self.detector.compare(&baseline.1, &recent.1, direction)
        } else {
            Finding::unknown()
        };
        Ok(DriftReport {
            metric: self.selection.metric_name().to_owned(),
            tags: self.selection.tags().to_vec(),
            detector: self.detector.name().to_owned(),
            finding,
            baseline: baseline.0,
            recent: recent.0,
            same_hour,
            least: self.least,
        })
    }

    fn compared_with(&self) -> Result<((crate::Summary, Sample), bool)> {
        if let Some(window) = self.baseline {
            return Ok((self.sample(window)?, false));
        }
        if self.same_hour {
            // Whole hours: those that the recent ones fall into, a week earlier.
            let now = self.selection.now();
            let from = (now.saturating_sub(WEEK + self.recent.as_secs())) / HOUR * HOUR;
            let to = (now.saturating_sub(WEEK)).div_ceil(HOUR) * HOUR;
            let same = self.sample(Window::seconds(from, to))?;
            if same.0.count >= self.least {
                return Ok((same, true));
            }
        }
        Ok((self.sample(Window::before(self.recent, Duration::from_secs(WEEK)))?, false))
    }

    fn sample(&self, window: Window) -> Result<(crate::Summary, Sample)> {
        let summary = self.selection.summary(window)?;
        let sketch = self.selection.sketch(window)?;
        let in_order = self.selection.points(window)?.iter().map(|point| point.mean).collect();
        Ok((summary, Sample::of_window(&summary, &sketch, in_order)))
    }
}

impl fmt::Debug for DriftCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DriftCheck")
            .field("selection", &self.selection)
            .field("detector", &self.detector.name())
            .finish_non_exhaustive()
    }
}
