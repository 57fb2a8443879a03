//! What a series has had in all: ever, and since this process began.

use std::sync::atomic::Ordering;

use crate::series::{Body, CountedState, ObservedState, Series};
use crate::sketch::Sketch;
use crate::sketch::bins::Bins;
use crate::summary::{Moments, Summary};

impl Series {
    /// Adds everything that ever was, what was restored included.
    pub(crate) fn summarize_ever(&self, now: u64, into: &mut Summary) {
        match &self.body {
            Body::Counted(counted) => {
                counted.caught_up(now).rings.visit_all(|n| into.count = into.count.saturating_add(*n));
                into.mean = f64::from(u8::from(into.count > 0));
            }
            Body::Observed(observed) => {
                let state = observed.caught_up(now);
                let mut moments = Moments::default();
                state.rings.visit_all(|values| moments.merge(&values.moments));
                into.merge(&moments.summary(state.pivot.unwrap_or(0.0), into.from, into.to));
            }
        }
    }

    /// Adds what this process has recorded, which is what an export says: a total that went on from a snapshot would fall back where the last
    /// process was seen with more, and be taken for a new beginning that begins there.
    pub(crate) fn summarize_own(&self, now: u64, into: &mut Summary) {
        match &self.body {
            Body::Counted(counted) => {
                into.count = into.count.saturating_add(counted.caught_up(now).own());
                into.mean = f64::from(u8::from(into.count > 0));
            }
            Body::Observed(observed) => {
                let state = observed.caught_up(now);
                into.merge(&state.own().summary(state.pivot.unwrap_or(0.0), into.from, into.to));
            }
        }
    }

    /// The same of values at one time, and their sizes.
    pub(crate) fn distribution_of_own(&self, now: u64, values: &mut Summary, sizes: &mut Sketch) {
        let Body::Observed(observed) = &self.body else { return };
        let state = observed.caught_up(now);
        let mut bins = Bins::default();
        state.rings.visit_all(|part| bins.merge(&part.bins));
        if let Some(before) = &state.before {
            before.1.take_from(&mut bins);
        }
        sizes.bins_mut().merge(&bins);
        let own = state.own();
        values.merge(&own.summary(state.pivot.unwrap_or(0.0), values.from, values.to));
        // Also where nothing came since the restart: that there is no sum is to be known from the start.
        (values.min, values.max) = (values.min.min(own.min), values.max.max(own.max));
    }

    /// Whether it goes on from a snapshot.
    #[cfg(feature = "otlp")]
    pub(crate) fn is_restored(&self) -> bool {
        match &self.body {
            Body::Counted(counted) => counted.lock().before > 0,
            Body::Observed(observed) => observed.lock().before.is_some(),
        }
    }

    /// The greatest of `sum` and those it was called with before, for a sum of values that are not negative.
    ///
    /// Rounding can take a sum back by its last digit, which readers of a counter take for a new beginning.
    pub(crate) fn never_less(&self, sum: f64) -> f64 {
        let Body::Observed(observed) = &self.body else { return sum };
        // Of floats that are not negative the bits have the same order.
        let before = observed.greatest_sum.fetch_max(sum.max(0.0).to_bits(), Ordering::Relaxed);
        f64::from_bits(before).max(sum)
    }
}

impl CountedState {
    /// How much was counted since the restart.
    pub(super) fn own(&self) -> u64 {
        let mut ever = 0u64;
        self.rings.visit_all(|n| ever = ever.wrapping_add(*n));
        ever.wrapping_sub(self.before)
    }
}

impl ObservedState {
    /// The values since the restart; the least and the greatest are those of all.
    fn own(&self) -> Moments {
        let mut moments = Moments::default();
        self.rings.visit_all(|values| moments.merge(&values.moments));
        self.before.as_ref().map_or(moments, |before| moments.without(&before.0))
    }
}
