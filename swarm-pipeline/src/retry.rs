use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::step_error::StepError;

/// How often a failed attempt is made again, and after which delay.
///
/// ```
/// # use std::time::Duration;
/// # use swarm_pipeline::Retry;
/// let retry = Retry::exponential(5).base(Duration::from_millis(200)).when(|error| error.message().contains("timeout"));
/// ```
#[derive(Clone)]
pub struct Retry {
    attempts: u32,
    base: Duration,
    factor: f64,
    max: Duration,
    jitter: f64,
    when: Option<Arc<dyn Fn(&StepError) -> bool + Send + Sync>>,
}

impl Retry {
    /// One attempt. This is what a step has when nothing is said.
    pub const fn none() -> Self {
        Retry { attempts: 1, base: Duration::ZERO, factor: 1.0, max: Duration::ZERO, jitter: 0.0, when: None }
    }

    /// Up to `attempts` attempts in all, the same `delay` after each.
    pub const fn fixed(attempts: u32, delay: Duration) -> Self {
        Retry { attempts, base: delay, factor: 1.0, max: delay, jitter: 0.0, when: None }
    }

    /// Up to `attempts` attempts in all; 100 ms after the first, doubled each time, at most 30 s, and up to half of it taken off at random.
    pub const fn exponential(attempts: u32) -> Self {
        Retry {
            attempts,
            base: Duration::from_millis(100),
            factor: 2.0,
            max: Duration::from_secs(30),
            jitter: 0.5,
            when: None,
        }
    }

    /// The delay after the first attempt.
    #[must_use]
    pub const fn base(mut self, delay: Duration) -> Self {
        self.base = delay;
        self
    }

    /// What the delay is multiplied with after each attempt; at least 1.
    #[must_use]
    pub const fn factor(mut self, factor: f64) -> Self {
        self.factor = factor;
        self
    }

    /// The longest delay.
    #[must_use]
    pub const fn max_delay(mut self, delay: Duration) -> Self {
        self.max = delay;
        self
    }

    /// The part of the delay, from 0 to 1, that chance may take off. Chance is drawn from run, step and attempt, so that a resumed run waits as long as it would have.
    #[must_use]
    pub const fn jitter(mut self, part: f64) -> Self {
        self.jitter = part;
        self
    }

    /// Retries only errors of which `predicate` says so. Called once per failure; its answer is kept in the log.
    /// A predicate that panics counts as no.
    #[must_use]
    pub fn when(mut self, predicate: impl Fn(&StepError) -> bool + Send + Sync + 'static) -> Self {
        self.when = Some(Arc::new(predicate));
        self
    }

    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Whether an attempt that failed with `error` may be made again, as far as the error goes.
    pub(crate) fn allows(&self, error: &StepError) -> bool {
        error.is_retryable()
            && self.when.as_ref().is_none_or(|when| {
                std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| when(error))).unwrap_or(false)
            })
    }

    /// Microseconds to wait after the `tries`-th attempt; `chance` is uniform over `u64`.
    pub(crate) fn delay(&self, tries: u32, chance: u64) -> i64 {
        let whole = self.base.as_secs_f64() * self.factor.powi(tries.saturating_sub(1).min(10_000) as i32);
        let capped = whole.min(self.max.as_secs_f64());
        let part = chance as f64 / u64::MAX as f64;
        // A cast from float to integer saturates, so that no policy can overflow here.
        (capped * (1.0 - self.jitter * part) * 1e6) as i64
    }

    pub(crate) fn problem(&self) -> Option<String> {
        if self.attempts == 0 {
            return Some("a retry policy of 0 attempts; 1 means no retry".to_owned());
        }
        if !(self.factor >= 1.0 && self.factor.is_finite()) {
            return Some(format!("a retry factor of {}; at least 1 is allowed", self.factor));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Some(format!("a retry jitter of {}; 0 to 1 is allowed", self.jitter));
        }
        None
    }
}

impl fmt::Debug for Retry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("attempts", &self.attempts)
            .field("base", &self.base)
            .field("factor", &self.factor)
            .field("max", &self.max)
            .field("jitter", &self.jitter)
            .field("when", &self.when.is_some())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_the_cap_and_jitter_only_shortens() {
        let retry = Retry::exponential(20);
        assert_eq!(retry.delay(1, 0), 100_000);
        assert_eq!(retry.delay(3, 0), 400_000);
        assert_eq!(retry.delay(19, 0), 30_000_000);
        assert_eq!(retry.delay(1, u64::MAX), 50_000);
        assert_eq!(retry.delay(u32::MAX, 0), 30_000_000);
    }

    #[test]
    fn a_panicking_predicate_means_no() {
        let retry = Retry::exponential(2).when(|_| panic!("no idea"));
        assert!(!retry.allows(&StepError::new("x")));
    }
}
