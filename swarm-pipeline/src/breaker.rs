use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Stops calling a service that keeps failing, and tries it again after a while.
///
/// Closed at first. After `threshold` failures in a row it opens: attempts fail at once, without calling the step,
/// with [`StepErrorKind::CircuitOpen`](crate::StepErrorKind::CircuitOpen). When `cool_down` has passed one attempt is let through;
/// its success closes the breaker, its failure opens it anew. Clones share their state, over steps and runs of one process.
#[derive(Clone)]
pub struct CircuitBreaker {
    name: Arc<str>,
    threshold: u32,
    cool_down: i64,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    failures: u32,
    /// Microseconds since the epoch.
    open_until: Option<i64>,
    probing: bool,
}

impl CircuitBreaker {
    /// A closed breaker that opens after `threshold` failures in a row (at least 1), for `cool_down`.
    pub fn new(name: impl Into<String>, threshold: u32, cool_down: Duration) -> Self {
        CircuitBreaker {
            name: name.into().into(),
            threshold: threshold.max(1),
            cool_down: cool_down.as_micros().min(i64::MAX as u128) as i64,
            state: Arc::default(),
        }
    }

    /// What it guards.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether attempts fail without being made.
    pub fn is_open(&self) -> bool {
        self.lock().open_until.is_some()
    }

    /// Lets an attempt be made at `now`, or does not.
    pub(crate) fn admit(&self, now: i64) -> Option<Permit> {
        let mut state = self.lock();
        let probe = match state.open_until {
            None => false,
            Some(until) if now >= until && !state.probing => true,
            Some(_) => return None,
        };
        state.probing |= probe;
        Some(Permit { breaker: self.clone(), probe })
    }

    fn record(&self, ok: bool, now: i64) {
        let mut state = self.lock();
        if ok {
            *state = State::default();
            return;
        }
        state.failures = state.failures.saturating_add(1);
        if state.failures >= self.threshold {
            state.open_until = Some(now.saturating_add(self.cool_down));
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to make one attempt. Dropped, it says nothing of the service and gives a probe back.
pub(crate) struct Permit {
    breaker: CircuitBreaker,
    probe: bool,
}

impl Permit {
    /// How the attempt ended.
    pub(crate) fn record(self, ok: bool, now: i64) {
        self.breaker.record(ok, now);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.probe {
            self.breaker.lock().probing = false;
        }
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("name", &self.name)
            .field("threshold", &self.threshold)
            .field("open", &self.is_open())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_opens_cools_down_probes_once_and_closes() {
        let breaker = CircuitBreaker::new("mail", 2, Duration::from_micros(100));
        let admit = |now| breaker.admit(now);
        admit(0).unwrap().record(false, 0);
        assert!(!breaker.is_open());
        admit(1).unwrap().record(false, 1);
        assert!(breaker.is_open() && admit(100).is_none());
        let probe = admit(101).expect("one probe after the cool-down");
        assert!(admit(102).is_none(), "but not two");
        drop(probe);
        let probe = admit(102).expect("a probe that came to nothing is given back");
        probe.record(false, 103);
        assert!(admit(150).is_none());
        admit(203).unwrap().record(true, 204);
        assert!(!breaker.is_open() && admit(205).is_some());
    }
}
