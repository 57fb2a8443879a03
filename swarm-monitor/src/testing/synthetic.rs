use std::f64::consts::TAU;

/// A series that changes where it is told to, the same for the same seed: to try detectors on.
///
/// ```
/// use swarm_monitor::testing::{Shape, Synthetic};
/// use swarm_monitor::{ChangeDetector, Cusum};
///
/// let series = Synthetic::new(1).shape(Shape::Normal).level(45.2).spread(2.0).shift(500, 6.0);
/// let mut cusum = Cusum::new(45.2, 2.0).run_length(1e6);
/// let seen = series.values(600).into_iter().position(|value| cusum.update(value)).unwrap();
/// assert!((series.changes()[0]..520).contains(&seen));
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Synthetic {
    seed: u64,
    shape: Shape,
    level: f64,
    spread: f64,
    season: Option<(usize, f64)>,
    changes: Vec<(usize, Change)>,
}

/// How the values of a [`Synthetic`] series are distributed about its level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shape {
    /// Normally.
    Normal,
    /// Exponentially, from the level upwards.
    Exponential,
    /// Log-normally, with a heavy tail, from the level upwards.
    HeavyTailed,
    /// As counts: Poisson, with the level as mean, whatever the spread.
    Counts,
}

#[derive(Debug, Clone, Copy)]
enum Change {
    Shift(f64),
    Scale(f64),
    Slope(f64),
}

impl Synthetic {
    /// Normal values about 0 with a deviation of 1, which do not change.
    pub fn new(seed: u64) -> Self {
        Synthetic { seed, shape: Shape::Normal, level: 0.0, spread: 1.0, season: None, changes: Vec::new() }
    }

    /// Distributed like this.
    pub fn shape(mut self, shape: Shape) -> Self {
        self.shape = shape;
        self
    }

    /// About this.
    pub fn level(mut self, level: f64) -> Self {
        self.level = level;
        self
    }

    /// With this deviation; of a skewed shape, with this scale.
    pub fn spread(mut self, spread: f64) -> Self {
        self.spread = spread;
        self
    }

    /// Goes up and down by `height` once in `values`.
    pub fn season(mut self, values: usize, height: f64) -> Self {
        self.season = Some((values.max(1), height));
        self
    }

    /// From value `at` on, the level is moved by `by`.
    pub fn shift(self, at: usize, by: f64) -> Self {
        self.change(at, Change::Shift(by))
    }

    /// From value `at` on, the spread is `times` what it was.
    pub fn scale(self, at: usize, times: f64) -> Self {
        self.change(at, Change::Scale(times))
    }

    /// From value `at` on, the level moves by `by` with each value.
    pub fn slope(self, at: usize, by: f64) -> Self {
        self.change(at, Change::Slope(by))
    }

    fn change(mut self, at: usize, change: Change) -> Self {
        self.changes.push((at, change));
        self
    }

    /// Where it changes, in order.
    pub fn changes(&self) -> Vec<usize> {
        let mut changes: Vec<usize> = self.changes.iter().map(|(at, _)| *at).collect();
        changes.sort_unstable();
        changes
    }

    /// The first `count` values.
    pub fn values(&self, count: usize) -> Vec<f64> {
        let mut random = Random(self.seed);
        (0..count).map(|at| self.value(at, &mut random)).collect()
    }

    fn value(&self, at: usize, random: &mut Random) -> f64 {
        let (mut level, mut spread) = (self.level, self.spread);
        if let Some((values, height)) = self.season {
            level += height * (TAU * (at % values) as f64 / values as f64).sin();
        }
        for (from, change) in self.changes.iter().filter(|(from, _)| at >= *from) {
            match change {
                Change::Shift(by) => level += by,
                Change::Scale(times) => spread *= times,
                Change::Slope(by) => level += by * (at - from + 1) as f64,
            }
        }
        match self.shape {
            Shape::Normal => level + spread * random.normal(),
            Shape::Exponential => level - spread * random.uniform().ln(),
            Shape::HeavyTailed => level + spread * random.normal().exp(),
            Shape::Counts => random.poisson(level),
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014).
struct Random(u64);

impl Random {
    /// Above 0 and up to 1.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((mixed ^ (mixed >> 31)) >> 11) + 1) as f64 / (1_u64 << 53) as f64
    }

    /// By Box and Muller.
    fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (TAU * self.uniform()).cos()
    }

    /// By Knuth, in steps of 500 so that nothing underflows.
    fn poisson(&mut self, mut mean: f64) -> f64 {
        let mut count = 0_u32;
        while mean > 0.0 {
            let step = mean.min(500.0);
            let (limit, mut product) = ((-step).exp(), self.uniform());
            while product > limit {
                product *= self.uniform();
                count += 1;
            }
            mean -= step;
        }
        f64::from(count)
    }
}
