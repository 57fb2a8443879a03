use std::collections::VecDeque;

use crate::drift::change::{ChangeDetector, is_taken, not_a_state};
use crate::drift::distribution::KolmogorovSmirnov;
use crate::drift::sample::Sample;
use crate::drift::{DriftDetector, Verdict};
use crate::error::Result;
use crate::metric::Direction;

/// A window whose newest part is compared with the rest by the Kolmogorov-Smirnov test
/// (Raab, Heusinger, Schleif, Neurocomputing 416, 2020).
///
/// The original draws the rest at random and tests with every value. This one takes all of the rest and tests once for each newest part, so that it draws
/// nothing, and the chance of a false alarm is that of one test for so many values.
#[derive(Debug, Clone, PartialEq)]
pub struct Kswin {
    test: KolmogorovSmirnov,
    window: usize,
    newest: usize,
    values: VecDeque<f64>,
    since: usize,
}

impl Kswin {
    /// With the chance `alpha` of a false alarm in each test, a window of 100 values of which the newest are 30.
    pub fn new(alpha: f64) -> Self {
        let values = VecDeque::with_capacity(100);
        Kswin { test: KolmogorovSmirnov::new(alpha), window: 100, newest: 30, values, since: 0 }
    }

    /// Another window, of at least 4 values and at most 10,000, of which the newest are a share of at most half.
    #[must_use]
    pub fn window(mut self, window: usize, newest: usize) -> Self {
        self.window = window.clamp(4, 10_000);
        self.newest = newest.clamp(2, self.window / 2);
        self
    }
}

impl Default for Kswin {
    /// With a chance of 0.005.
    fn default() -> Self {
        Kswin::new(0.005)
    }
}

impl ChangeDetector for Kswin {
    fn name(&self) -> &str {
        "KSWIN"
    }

    fn update(&mut self, value: f64) -> bool {
        if !is_taken(value) {
            return false;
        }
        if self.values.len() == self.window {
            self.values.pop_front();
        }
        self.values.push_back(value);
        self.since += 1;
        if self.values.len() < self.window || self.since < self.newest {
            return false;
        }
        self.since = 0;
        let values = self.values.make_contiguous();
        let (rest, newest) = values.split_at(self.window - self.newest);
        let finding = self.test.compare(&Sample::of(rest), &Sample::of(newest), Direction::Both);
        let change = finding.verdict == Verdict::Drift;
        if change {
            // The newest are what it goes on with.
            self.values.drain(..self.window - self.newest);
        }
        change
    }

    fn save(&self) -> Vec<f64> {
        std::iter::once(self.since as f64).chain(self.values.iter().copied()).collect()
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        match state.split_first() {
            Some((&since, values))
                if values.len() <= self.window
                    && (0.0..=1e6).contains(&since)
                    && since.fract() == 0.0
                    && values.iter().all(|value| value.is_finite()) =>
            {
                self.since = since as usize;
                self.values = values.iter().copied().collect();
                Ok(())
            }
            _ => Err(not_a_state(self.name(), state)),
        }
    }
}
