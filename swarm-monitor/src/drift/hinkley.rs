use crate::drift::change::{ChangeDetector, is_beyond, is_taken, not_a_state};
use crate::drift::cusum::{sides, threshold};
use crate::error::Result;
use crate::metric::Direction;

/// The Page-Hinkley test: the sum of deviations from the mean so far, which it learns itself (Hinkley, Biometrika 58, 1971).
///
/// Options and answers are those of `river.drift.PageHinkley`. After an alarm it learns the mean anew, so that a shift that lasts is
/// told once, and the next one is found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PageHinkley {
    least: u64,
    delta: f64,
    threshold: f64,
    /// What the threshold follows from, where it was not said itself.
    run_length: Option<f64>,
    forget: f64,
    direction: Direction,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct State {
    count: f64,
    mean: f64,
    up: f64,
    down: f64,
    lowest: f64,
    highest: f64,
}

const FRESH: State =
    State { count: 0.0, mean: 0.0, up: 0.0, down: 0.0, lowest: f64::INFINITY, highest: -1.0 };

impl PageHinkley {
    /// With river's defaults: from 30 values on, a slack of 0.005, a threshold of 50, and sums that lose a ten-thousandth with each value.
    /// Both are in the values' unit: of durations in seconds that are mostly below 1 it tells late or never.
    pub fn new() -> Self {
        PageHinkley {
            least: 30,
            delta: 0.005,
            threshold: 50.0,
            run_length: None,
            forget: 1.0 - 0.0001,
            direction: Direction::Both,
            state: FRESH,
        }
    }

    /// No alarm before so many values.
    #[must_use]
    pub fn least(mut self, values: u64) -> Self {
        self.least = values;
        self
    }

    /// What each deviation is lessened by, in the values' unit.
    #[must_use]
    pub fn delta(mut self, delta: f64) -> Self {
        self.delta = delta;
        self
    }

    /// How great the sum may become, in the values' unit.
    #[must_use]
    pub fn threshold(mut self, threshold: f64) -> Self {
        (self.threshold, self.run_length) = (threshold, None);
        self
    }

    /// Only shifts this way.
    #[must_use]
    pub fn direction(mut self, direction: Direction) -> Self {
        self.direction = direction;
        self.settled()
    }

    /// For standardised values, as from [`Scored`](crate::Scored): finds shifts of one deviation, and alarms once in `values` unchanged normal
    /// ones on average. That their mean is 0 is believed as if 1,000 of them had been seen, until the first alarm. Sums lose nothing.
    #[must_use]
    pub fn run_length(mut self, values: f64) -> Self {
        self.run_length = Some(values);
        self.delta = 0.5;
        // Sums far down that lose a share of themselves rise, and with them the rate of false alarms.
        self.forget = 1.0;
        self.state = State { count: 1_000.0, ..FRESH };
        self.settled()
    }

    fn settled(mut self) -> Self {
        if let Some(values) = self.run_length {
            self.threshold = threshold(0.5, values * sides(self.direction));
        }
        self
    }
}

impl Default for PageHinkley {
    fn default() -> Self {
        PageHinkley::new()
    }
}

impl ChangeDetector for PageHinkley {
    fn name(&self) -> &str {
        "Page-Hinkley"
    }

    #[inline]
    fn update(&mut self, value: f64) -> bool {
        if !is_taken(value) {
            return false;
        }
        let state = &mut self.state;
        state.count += 1.0;
        state.mean += (value - state.mean) / state.count;
        let deviation = value - state.mean;
        state.up = self.forget * state.up + deviation - self.delta;
        state.down = self.forget * state.down + deviation + self.delta;
        state.lowest = if state.up < state.lowest { state.up } else { state.lowest };
        state.highest = if state.down > state.highest { state.down } else { state.highest };
        let (up, down) = (state.up - state.lowest, state.highest - state.down);
        let change = state.count >= self.least as f64 && is_beyond(self.threshold, up, down, self.direction);
        if change {
            *state = FRESH;
        }
        change
    }

    fn save(&self) -> Vec<f64> {
        let State { count, mean, up, down, lowest, highest } = self.state;
        vec![count, mean, up, down, lowest, highest]
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        match *state {
            [count, mean, up, down, lowest, highest]
                if count >= 0.0
                    && [count, mean, up, down, highest].iter().all(|n| n.is_finite())
                    && !lowest.is_nan() =>
            {
                self.state = State { count, mean, up, down, lowest, highest };
                Ok(())
            }
            _ => Err(not_a_state(self.name(), state)),
        }
    }
}
