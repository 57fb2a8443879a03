use crate::drift::change::{ChangeDetector, is_taken, not_a_state};
use crate::error::Result;

/// How many times further out than lately something is: a jump from the values just before, their level, or what is left of them without the
/// season.
///
/// Each of the three has a usual distance from its middle, the greatest of some thousand values, which fades. It asks for no distribution and no
/// unit, so that one threshold does for many series that nobody has looked at; in return it has no stated rate of false alarms. It is scored on the
/// [Numenta anomaly benchmark](https://doi.org/10.1109/ICMLA.2015.141) by `cargo bench -p swarm-benches --bench nab`.
///
/// After an alarm it takes four times as much to be told again, which fades within some hundred values, while a shift that lasts becomes usual.
/// Beyond forty thresholds it fades within some twenty: the first move of a constant, infinitely far out, hides nothing for long.
/// The first 132 values are only learned from, and of a season as many after the first.
///
/// ```
/// use swarm_monitor::{ChangeDetector, Surprise};
///
/// // Up at the same eight of each 24 values, by more or less.
/// let load = |at: usize| if at % 24 < 8 { 80.0 } else { 20.0 } + (at * 7_919 % 13) as f64;
/// let mut surprise = Surprise::new().season(24);
/// assert!((0..480).all(|at| !surprise.update(load(at))));
/// assert!((480..488).any(|at| surprise.update(load(at) - 60.0)), "that it stays low is one");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Surprise {
    threshold: f64,
    seen: f64,
    /// In the season, of the next value.
    place: f64,
    /// The means of the last few values, of some more, and of as many without their season.
    near: f64,
    level: f64,
    rest: f64,
    /// How far out was told, which fades.
    told: f64,
    jumps: Usual,
    levels: Usual,
    rests: Usual,
    slots: Vec<Slot>,
}

/// One place of the season.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Slot {
    seen: f64,
    mean: f64,
}

/// Where something is usually.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Usual {
    seen: f64,
    center: f64,
    /// The mean distance from it, and the greatest lately.
    scale: f64,
    reach: f64,
}

/// So many values count in each mean.
const NEAR: f64 = 4.0;
const LEVEL: f64 = 12.0;
const USUAL: f64 = 1_000.0;
/// The greatest distance has lost two thirds after so many values, and so has what was told.
const REACH: f64 = 1_500.0;
const TOLD: f64 = 200.0;
/// So many times what was told is news.
const NEWS: f64 = 4.0;
/// So many thresholds of what was told fade slowly, and what is more by half with each value: the first move of a constant is as far out as
/// can be, and is not to hide all others.
const SLOWLY_TOLD: f64 = 10.0;
/// By what share one value may raise the greatest distance: a jump is over at once, and what is left without the season must not be
/// followed where it moves away slowly.
const AT_ONCE: f64 = 1.0;
const SLOWLY: f64 = 0.02;
/// The means of the last values mean something after so many, and a usual distance after so many more.
const SETTLED: f64 = 32.0;
const LEARNED: f64 = 100.0;
/// A season's newest value has at least this weight.
const NEWEST: f64 = 0.15;
/// What has no usual distance at all is so many times further out, and nothing is more.
const FARTHEST: f64 = 1e6;

impl Surprise {
    /// Surprised from twice the usual distance on, without a season.
    pub fn new() -> Self {
        Surprise {
            threshold: 2.0,
            seen: 0.0,
            place: 0.0,
            near: 0.0,
            level: 0.0,
            rest: 0.0,
            told: 0.0,
            jumps: Usual::default(),
            levels: Usual::default(),
            rests: Usual::default(),
            slots: Vec::new(),
        }
    }

    /// How many times the usual distance is a surprise: 2 by default.
    #[must_use]
    pub fn threshold(mut self, times: f64) -> Self {
        self.threshold = times;
        self
    }

    /// Values repeat more or less after so many, at most 10,000: 288 for those of a day at one every five minutes. Each costs 16 bytes. It is
    /// looked at once there was a whole season. What is missing is given as NaN, so that the values after it keep their places.
    #[must_use]
    pub fn season(mut self, values: usize) -> Self {
        self.slots = vec![Slot::default(); values.min(10_000)];
        self
    }

    /// Takes the next value and tells how many times further out than usual it is; 0 where that is beyond the threshold and no news.
    pub fn score(&mut self, value: f64) -> f64 {
        let place = self.next_place();
        if !is_taken(value) {
            return 0.0;
        }
        if self.seen == 0.0 {
            (self.near, self.level) = (value, value);
        }
        let jump = value - self.near;
        self.near += jump / NEAR;
        self.level += (value - self.level) / LEVEL;
        let season = self.slots.len();
        if season > 0 {
            let rest = self.slots[place].without(value);
            self.rest += (rest - self.rest) / LEVEL;
        }
        self.seen += 1.0;
        let mut out = 0.0;
        if self.seen > SETTLED {
            out = self.jumps.times(jump, AT_ONCE).max(self.levels.times(self.level, AT_ONCE));
        }
        if season > 0 && self.seen > season as f64 + SETTLED {
            out = out.max(self.rests.times(self.rest, SLOWLY));
        }
        let slowly = SLOWLY_TOLD * self.threshold.max(0.0);
        self.told =
            if self.told > slowly { (0.5 * self.told).max(slowly) } else { self.told * (1.0 - 1.0 / TOLD) };
        if out <= self.threshold {
            return out;
        }
        if out <= NEWS * self.told {
            return 0.0;
        }
        self.told = out;
        out
    }

    /// Where in the season a value is, whether it is taken or not. 0 without a season.
    fn next_place(&mut self) -> usize {
        let place = self.place as usize;
        self.place = if place + 1 < self.slots.len() { self.place + 1.0 } else { 0.0 };
        place
    }

    fn usuals(&mut self) -> [&mut Usual; 3] {
        [&mut self.jumps, &mut self.levels, &mut self.rests]
    }
}

impl Default for Surprise {
    fn default() -> Self {
        Surprise::new()
    }
}

impl Slot {
    /// What is left of a value without what was here in the seasons before. Nothing in the first one.
    fn without(&mut self, value: f64) -> f64 {
        let rest = if self.seen > 0.0 { value - self.mean } else { 0.0 };
        self.seen += 1.0;
        self.mean += (value - self.mean) * (1.0 / self.seen).max(NEWEST);
        rest
    }
}

impl Usual {
    /// How many times the usual distance it is away, which it then is part of; 0 while that is not known.
    fn times(&mut self, at: f64, raise: f64) -> f64 {
        self.seen += 1.0;
        if self.seen == 1.0 {
            self.center = at;
            return 0.0;
        }
        let distance = (at - self.center).abs();
        let judged = self.seen > LEARNED && distance > 0.0;
        let times = if judged { (distance / self.reach).min(FARTHEST) } else { 0.0 };
        let newest = (1.0 / self.seen).max(1.0 / USUAL);
        self.center += newest * (at - self.center);
        self.scale += newest * (distance - self.scale);
        // One that is far out does not hide the next.
        let grown = if self.reach > 0.0 { distance.min((1.0 + raise) * self.reach) } else { distance };
        self.reach = (self.reach * (1.0 - 1.0 / REACH)).max(grown).max(2.0 * self.scale);
        times
    }
}

impl ChangeDetector for Surprise {
    fn name(&self) -> &str {
        "surprise"
    }

    fn update(&mut self, value: f64) -> bool {
        self.score(value) > self.threshold
    }

    fn save(&self) -> Vec<f64> {
        let mut state = vec![self.seen, self.place, self.near, self.level, self.rest, self.told];
        for usual in [&self.jumps, &self.levels, &self.rests] {
            state.extend([usual.seen, usual.center, usual.scale, usual.reach]);
        }
        state.extend(self.slots.iter().flat_map(|slot| [slot.seen, slot.mean]));
        state
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        let whole = |count: f64| count >= 0.0 && count.fract() == 0.0;
        let wrong = || not_a_state("surprise", state);
        let (&[seen, place, near, level, rest, told], usual) = state.split_first_chunk().ok_or_else(wrong)?;
        let (usual, slots) = usual.split_at_checked(12).ok_or_else(wrong)?;
        let fits = slots.len() == 2 * self.slots.len()
            && state.iter().all(|number| number.is_finite())
            && whole(seen)
            && whole(place)
            && (place as usize) < self.slots.len().max(1)
            && told >= 0.0
            && usual.chunks_exact(4).all(|usual| whole(usual[0]) && usual[2] >= 0.0 && usual[3] >= 0.0)
            && slots.chunks_exact(2).all(|slot| whole(slot[0]));
        if !fits {
            return Err(wrong());
        }
        (self.seen, self.place, self.near) = (seen, place, near);
        (self.level, self.rest, self.told) = (level, rest, told);
        for (has, saved) in self.usuals().into_iter().zip(usual.chunks_exact(4)) {
            *has = Usual { seen: saved[0], center: saved[1], scale: saved[2], reach: saved[3] };
        }
        for (has, saved) in self.slots.iter_mut().zip(slots.chunks_exact(2)) {
            *has = Slot { seen: saved[0], mean: saved[1] };
        }
        Ok(())
    }
}
