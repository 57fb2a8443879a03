use crate::drift::change::{ChangeDetector, is_beyond, is_taken, not_a_state};
use crate::error::Result;
use crate::metric::Direction;

/// The cumulative sum of deviations from a target (Page, Biometrika 41, 1954), both ways.
///
/// With a slack of 0.5 and a threshold of 5 it is the textbook's, which alarms once in 465 normal values that did not change.
/// [`run_length`](Cusum::run_length) sets a threshold for fewer. For values whose distribution is not known to be normal
/// use it within [`Scored`](crate::Scored).
///
/// After an alarm it learns the level and the deviation anew, so that a shift that lasts is told once, and the next one is found, also the
/// one back. The first 30 values are only learned from; those up to the thousandth are judged by what was before each, as Student's
/// distribution has it (Hawkins, Journal of Quality Technology 19, 1987), which keeps the rate of false alarms.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cusum {
    slack: f64,
    threshold: f64,
    /// What the threshold follows from, where it was not said itself.
    run_length: Option<f64>,
    direction: Direction,
    reference: Reference,
    above: f64,
    below: f64,
}

/// What values are compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Reference {
    target: f64,
    per_deviation: f64,
    /// Of the values since the last alarm; as many as are learned from, where there was none.
    learned: f64,
    mean: f64,
    squares: f64,
}

/// So many values are learned from before any is judged.
const UNJUDGED: f64 = 30.0;
/// So many are learned from.
const LEARNED: f64 = 1_000.0;
/// A mean of equal values is so near to them, as a share of it.
const ROUNDING: f64 = 1e-12;
/// No value is more deviations off, also where there is no deviation.
const FARTHEST: f64 = 1e6;

impl Cusum {
    /// Around `target`, in units of `deviation`, whose sign does not matter.
    ///
    /// A deviation of 0 is that of a constant, of which any other value is a change, but for rounding. Where `target` is not finite, or
    /// `deviation` is NaN, both are learned from the first values, as after an alarm.
    pub fn new(target: f64, deviation: f64) -> Self {
        let known = target.is_finite() && !deviation.is_nan();
        let target = if known { target } else { 0.0 };
        let deviation = if known { deviation.abs().max(ROUNDING * target.abs()) } else { 0.0 };
        let (per_deviation, learned) = (1.0 / deviation, if known { LEARNED } else { 0.0 });
        Cusum {
            slack: 0.5,
            threshold: 5.0,
            run_length: None,
            direction: Direction::Both,
            reference: Reference { target, per_deviation, learned, mean: target, squares: 0.0 },
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
        self.settled()
    }

    /// How great the sum may become, in deviations.
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

    /// Sets the threshold at which unchanged normal values alarm once in `values` on average, with whatever slack and direction.
    #[must_use]
    pub fn run_length(mut self, values: f64) -> Self {
        self.run_length = Some(values);
        self.settled()
    }

    fn settled(mut self) -> Self {
        if let Some(values) = self.run_length {
            self.threshold = threshold(self.slack, values * sides(self.direction));
        }
        self
    }
}

/// How many sums may alarm.
pub(crate) fn sides(direction: Direction) -> f64 {
    if direction == Direction::Both { 2.0 } else { 1.0 }
}

/// The threshold of a one-sided sum with this average run length: Siegmund, "Sequential Analysis", 1985.
pub(crate) fn threshold(slack: f64, run_length: f64) -> f64 {
    let length = |threshold: f64| {
        let x = 2.0 * slack * (threshold + 1.166);
        // Without slack, what it comes to.
        if x.abs() < 1e-4 { (threshold + 1.166).powi(2) } else { (x.exp_m1() - x) / (2.0 * slack * slack) }
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

impl Reference {
    /// So many deviations the value is off. `None` where it is too early to tell.
    #[inline]
    fn judge(&mut self, value: f64) -> Option<f64> {
        if self.learned >= LEARNED {
            Some(standardised(value - self.target, self.per_deviation))
        } else {
            self.learn(value)
        }
    }

    /// The same from the values before this one, which is learned from.
    #[cold]
    fn learn(&mut self, value: f64) -> Option<f64> {
        let (n, off) = (self.learned, value - self.mean);
        let judged = (n >= UNJUDGED)
            .then(|| standardised(off, self.per_deviation_of(n)))
            .map(|t| normal_score(t * (n / (n + 1.0)).sqrt(), n - 1.0));
        self.learned += 1.0;
        self.mean += off / self.learned;
        self.squares += off * (value - self.mean);
        if self.learned >= LEARNED {
            (self.target, self.per_deviation) = (self.mean, self.per_deviation_of(self.learned));
        }
        judged
    }

    /// By the deviation of the `n` values learned from; by that of before while they are all the same.
    fn per_deviation_of(&self, n: f64) -> f64 {
        let deviation = (self.squares / (n - 1.0)).sqrt();
        if deviation > 0.0 { 1.0 / deviation } else { self.per_deviation }
    }

    fn forget(&mut self) {
        (self.learned, self.mean, self.squares) = (0.0, 0.0, 0.0);
    }
}

/// In deviations, of which there may be infinitely many in a unit.
#[inline]
fn standardised(off: f64, per_deviation: f64) -> f64 {
    if off == 0.0 { 0.0 } else { (off * per_deviation).clamp(-FARTHEST, FARTHEST) }
}

/// What a normal variable would be in place of Student's with so many degrees of freedom (Wallace, Annals of Mathematical Statistics 30,
/// 1959).
fn normal_score(t: f64, degrees: f64) -> f64 {
    let score = (degrees * (t * t / degrees).ln_1p()).sqrt() * (8.0 * degrees + 1.0) / (8.0 * degrees + 3.0);
    score.copysign(t)
}

impl ChangeDetector for Cusum {
    fn name(&self) -> &str {
        "CUSUM"
    }

    #[inline]
    fn update(&mut self, value: f64) -> bool {
        if !is_taken(value) {
            return false;
        }
        let Some(z) = self.reference.judge(value) else { return false };
        self.above = (self.above + z - self.slack).max(0.0);
        self.below = (self.below - z - self.slack).max(0.0);
        let change = is_beyond(self.threshold, self.above, self.below, self.direction);
        if change {
            (self.above, self.below) = (0.0, 0.0);
            self.reference.forget();
        }
        change
    }

    fn save(&self) -> Vec<f64> {
        let Reference { target, per_deviation, learned, mean, squares } = self.reference;
        vec![self.above, self.below, target, per_deviation, learned, mean, squares]
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        match *state {
            // As it was before levels were learned anew.
            [above, below] if above >= 0.0 && below >= 0.0 => {
                (self.above, self.below) = (above, below);
                Ok(())
            }
            [above, below, target, per_deviation, learned, mean, squares]
                if above >= 0.0
                    && below >= 0.0
                    && per_deviation >= 0.0
                    && (0.0..=LEARNED).contains(&learned)
                    && learned.fract() == 0.0
                    && squares >= 0.0
                    && [target, mean, squares].iter().all(|number| number.is_finite()) =>
            {
                (self.above, self.below) = (above, below);
                self.reference = Reference { target, per_deviation, learned, mean, squares };
                Ok(())
            }
            _ => Err(not_a_state(self.name(), state)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::drift::special::{normal_point, student_two_sided};

    #[test]
    fn student_s_values_are_scored_as_likely_normal_ones() {
        for (t, degrees) in [(0.5, 29.0), (2.0, 29.0), (-3.0, 29.0), (5.0, 29.0), (4.0, 300.0), (1.0, 998.0)]
        {
            let exact = normal_point(student_two_sided(t, degrees) / 2.0).copysign(t);
            let score = normal_score(t, degrees);
            assert!((score - exact).abs() < 0.01, "{t} {degrees}: {score} {exact}");
        }
        assert_eq!(normal_score(0.0, 29.0), 0.0);
    }

    #[test]
    fn a_run_length_is_that_of_all_options_whenever_they_are_set() {
        let up = Direction::HigherIsWorse;
        let cusum = Cusum::standard().slack(0.25).direction(up).run_length(1e4);
        assert_eq!(Cusum::standard().run_length(1e4).slack(0.25).direction(up), cusum);
        assert!(cusum.threshold < Cusum::standard().slack(0.25).run_length(1e4).threshold);
        assert_eq!(cusum.threshold(3.0).slack(0.5).threshold, 3.0);
        use crate::PageHinkley;
        let hinkley = PageHinkley::new().direction(up).run_length(1e4);
        assert_eq!(PageHinkley::new().run_length(1e4).direction(up), hinkley);
    }

    #[test]
    fn a_threshold_is_that_of_its_run_length_with_as_little_slack_as_may_be() {
        // Siegmund's approximation has it as the square of the threshold and 1.166.
        assert!((threshold(0.0, 1e4) - (100.0 - 1.166)).abs() < 1e-6);
        let all = [0.0, 1e-12, 1e-7, 1e-5, 1e-3, 0.1, 0.5].map(|slack| threshold(slack, 1e4));
        assert!(all.is_sorted_by(|a, b| *a + 1e-3 >= *b), "{all:?}");
        assert!(all[..4].iter().all(|near| (near - all[0]).abs() < 0.1), "{all:?}");
    }
}
