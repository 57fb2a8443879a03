//! A series as it stands in a snapshot.

use std::sync::Arc;

use crate::metric::About;
use crate::rings::{Rings, Tally};
use crate::series::{Body, OwnedTags, Series, Settings, Values};
use crate::sketch::bins::Bins;
use crate::sketch::mapping::Mapping;
use crate::sketch::packed::Packed;
use crate::snapshot::wire::{Saved, save_tags};
use crate::summary::Moments;

/// A snapshot takes less than so many seconds to write, so that no series in it has seen a later time.
const LATER: u64 = 3_600;

impl Series {
    /// Brings its buckets up to `now` and writes them. What is recorded meanwhile waits, or is in the next snapshot.
    pub(crate) fn save(&self, now: u64, out: &mut Vec<u8>) {
        save_tags(&self.tags, out);
        match &self.body {
            Body::Counted(counted) => {
                let state = counted.caught_up(now);
                state.active.save(out);
                state.rings.save(out);
            }
            Body::Observed(observed) => {
                let state = observed.caught_up(now);
                state.active.save(out);
                state.pivot.unwrap_or(f64::NAN).save(out);
                state.rings.save(out);
            }
        }
    }

    /// Reads what follows the tags. The bins of sketches were those of `mapping`.
    pub(crate) fn load(
        about: Arc<About>,
        tags: OwnedTags,
        hash: u64,
        settings: &Settings,
        mapping: Mapping,
        input: &mut &[u8],
    ) -> Option<Self> {
        let series = Series::new(about, tags, hash, settings);
        let now = settings.time.now();
        match &series.body {
            Body::Counted(counted) => {
                let mut state = counted.lock();
                state.active = u64::load(input)?;
                state.rings = Rings::load(input, settings.reach)?;
                let mut before = 0u64;
                state.rings.visit_all(|n| before = before.wrapping_add(*n));
                state.before = before;
                (state.rings.second() <= now + LATER).then(|| state.rings.roll(now))?;
            }
            Body::Observed(observed) => {
                let mut state = observed.lock();
                state.active = u64::load(input)?;
                state.pivot = Some(f64::load(input)?).filter(|pivot| pivot.is_finite());
                state.rings = Rings::load(input, settings.reach)?;
                if mapping != settings.mapping {
                    state.rings.map(
                        |open| open.bins = open.bins.rebinned(mapping, settings.mapping),
                        |closed| closed.1 = rebinned(&closed.1, mapping, settings.mapping),
                    );
                }
                let mut before = Values::default();
                state.rings.visit_all(|values| before.absorb(values));
                if !before.is_empty() {
                    state.before = Some(Box::new(before.close()));
                }
                (state.rings.second() <= now + LATER).then(|| state.rings.roll(now))?;
            }
        }
        input.is_empty().then_some(series)
    }

    /// When something was last recorded.
    pub(crate) fn active(&self) -> u64 {
        match &self.body {
            Body::Counted(counted) => counted.lock().active,
            Body::Observed(observed) => observed.lock().active,
        }
    }
}

fn rebinned(packed: &Packed, from: Mapping, to: Mapping) -> Packed {
    let mut bins = Bins::default();
    packed.add_to(&mut bins);
    Packed::new(&bins.rebinned(from, to))
}

impl Saved for Values {
    fn save(&self, out: &mut Vec<u8>) {
        self.moments.save(out);
        self.bins.save(out);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        let (moments, bins) = (Moments::load(input)?, Bins::load(input)?);
        (bins.count() == moments.count).then_some(Values { moments, bins })
    }
}
