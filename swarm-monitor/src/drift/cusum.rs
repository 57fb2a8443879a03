use crate::drift::change::{ChangeDetector, is_beyond, not_a_state};
use crate::error::Result;
use crate::metric::Direction;

/// The cumulative sum of deviations from a target (Page, Biometrika 41, 1954), both ways.
///
/// With a slack of 0.5 and a threshold of 5 it is the textbook's, which alarms once in 465 normal values that did not change.
/// [`run_length`](Cusum::run_length) sets a threshold for fewer. For values whose distribution is not known to be normal
/// use it within [`Scored`](crate::Scored).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cusum {
    target: f64,
    per_deviation: f64,
    slack: f64,
    threshold: f64,
    direction: Direction,
    above: f64,
    below: f64,
}

impl Cusum {
    /// Around `target`, in units of `deviation`.
    pub fn new(target: f64, deviation: f64) -> Self {
        Cusum {
            target,
            per_deviation: 1.0 / deviation,
            slack: 0.5,
            threshold: 5.0,
            direction: Direction::Both,
            above: 0.0,
            below: 0.0,
        }
    }

    /// Around 0 in units of 1: for what is standardised already, as by [`Scored`](crate::Scored).
    pub fn standard() -> Self {
        Cusum::new(0.0, 1.0)
    }

    /// Half the shift to find, in deviations: 0.5 by default.
    #[must_use]
    pub fn slack(mut self, slack: f64) -> Self {
        self.slack = slack;
        self
    }

    /// How great the sum may become, in deviations.
    #[must_use]
    pub fn threshold(mut self, threshold: f64) -> Self {
        self.threshold = threshold;
        self
    }

    /// Only shifts this way.
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self
    }

    /// Sets the threshold at which unchanged normal values alarm once in `values` on average. After slack and direction.
    #[must_use]
    pub fn run_length(mut self, values: f64) -> Self {
        let sides = if self.direction == Direction::Both { 2.0 } else { 1.0 };
        self.threshold = threshold(self.slack, values * sides);
        self
    }
}

/// The threshold of a one-sided sum with this average run length: Siegmund, "Sequential Analysis", 1985.
pub(crate) fn threshold(slack: f64, run_length: f64) -> f64 {
    let length = |threshold: f64| {
        let x = 2.0 * slack * (threshold + 1.166);
        (x.exp() - x - 1.0) / (2.0 * slack * slack)
    };
    let (mut low, mut high) = (0.0, 1.0);
    while length(high) < run_length && high < 1e6 {
        high *= 2.0;
    }
    for _ in 0..100 {
        let middle = 0.5 * (low + high);
        if length(middle) < run_length { low = middle } else { high = middle }
    }
    high
}

impl ChangeDetector for Cusum {
    fn name(&self) -> &str {
        "CUSUM"
    }

    #[inline]
    fn update(&mut self, value: f64) -> bool {
        let z = (value - self.target) * self.per_deviation;
        if !z.is_finite() {
            return false;
        }
        self.above = (self.above + z - self.slack).max(0.0);
        self.below = (self.below - z - self.slack).max(0.0);
        let change = is_beyond(self.threshold, self.above, self.below, self.direction);
        if change {
            (self.above, self.below) = (0.0, 0.0);
        }
        change
    }

    fn save(&self) -> Vec<f64> {
        vec![self.above, self.below]
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        match *state {
            [above, below] if above >= 0.0 && below >= 0.0 => {
                (self.above, self.below) = (above, below);
                Ok(())
            }
            _ => Err(not_a_state(self.name(), state)),
        }
    }
}
