use crate::drift::change::{ChangeDetector, is_taken, not_a_state};
use crate::error::Result;

/// The adaptive window: keeps as many values as seem to have one mean, and drops older ones when they do not
/// (Bifet and Gavaldà, SDM 2007).
///
/// It needs no baseline and no direction, but values about as large as 1, as within [`Scored`](crate::Scored): its bound takes them to be
/// within 0 and 1, and is slow or deaf where they are far smaller. Options and answers are those of `river.drift.ADWIN`; memory grows
/// with the logarithm of the window.
#[derive(Debug, Clone, PartialEq)]
pub struct Adwin {
    delta: f64,
    window: Window,
}

/// Every so many values it looks for a cut.
const CLOCK: u64 = 32;
/// No cut in windows of up to so many values.
const GRACE: u64 = 10;
/// Either side of a cut has at least so many.
const LEAST: u64 = 5;
/// Buckets of one size.
const MOST: usize = 5;

#[derive(Debug, Clone, Default, PartialEq)]
struct Window {
    /// Buckets of 1, 2, 4, … values, each row with the oldest first: sum, and squares about the mean.
    rows: Vec<Row>,
    count: u64,
    sum: f64,
    squares: f64,
    ticks: u64,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Row {
    buckets: [(f64, f64); MOST + 1],
    len: usize,
}

impl Adwin {
    /// With the confidence `delta`: 0.002 is usual, less alarms less.
    pub fn new(delta: f64) -> Self {
        Adwin { delta, window: Window::default() }
    }

    /// The mean of the window.
    pub fn mean(&self) -> Option<f64> {
        (self.window.count > 0).then(|| self.window.sum / self.window.count as f64)
    }

    /// How many values the window has.
    pub fn width(&self) -> u64 {
        self.window.count
    }
}

impl Default for Adwin {
    fn default() -> Self {
        Adwin::new(0.002)
    }
}

impl ChangeDetector for Adwin {
    fn name(&self) -> &str {
        "ADWIN"
    }

    #[inline]
    fn update(&mut self, value: f64) -> bool {
        if !is_taken(value) {
            return false;
        }
        self.window.insert(value);
        self.window.ticks += 1;
        let change = self.window.ticks.is_multiple_of(CLOCK) && self.window.shrink(self.delta);
        if change {
            self.window = Window::default();
        }
        change
    }

    fn save(&self) -> Vec<f64> {
        let window = &self.window;
        let mut state = vec![window.ticks as f64];
        for row in &window.rows {
            state.push(row.len as f64);
            state.extend(row.buckets[..row.len].iter().flat_map(|(sum, squares)| [*sum, *squares]));
        }
        // Not made from the buckets again: sums depend on their order.
        state.extend([window.sum, window.squares]);
        state
    }

    fn restore(&mut self, state: &[f64]) -> Result<()> {
        self.window = read(state).ok_or_else(|| not_a_state(self.name(), state))?;
        Ok(())
    }
}

fn read(state: &[f64]) -> Option<Window> {
    let (body, totals) = state.split_at_checked(state.len().checked_sub(2)?)?;
    let (&ticks, mut body) = body.split_first()?;
    let whole = |number: f64| {
        (number >= 0.0 && number < 2f64.powi(53) && number.fract() == 0.0).then_some(number as u64)
    };
    let mut window = Window { ticks: whole(ticks)?, sum: totals[0], squares: totals[1], ..Window::default() };
    while let Some((&len, rest)) = body.split_first() {
        let len = whole(len)? as usize;
        let (buckets, rest) = rest.split_at_checked(2 * len)?;
        // Every row that there is has a bucket, which dropping the oldest relies on.
        if !(1..=MOST).contains(&len) || window.rows.len() >= 50 {
            return None;
        }
        let mut row = Row { len, ..Row::default() };
        for (bucket, pair) in row.buckets.iter_mut().zip(buckets.chunks_exact(2)) {
            *bucket = (pair[0], pair[1]);
        }
        window.count += (len as u64) << window.rows.len();
        window.rows.push(row);
        body = rest;
    }
    state.iter().all(|number| number.is_finite()).then_some(window)
}

impl Window {
    #[inline]
    fn insert(&mut self, value: f64) {
        if self.count > 0 {
            let n = self.count as f64;
            self.squares += n * (value - self.sum / n).powi(2) / (n + 1.0);
        }
        self.count += 1;
        self.sum += value;
        if self.rows.is_empty() {
            self.rows.push(Row::default());
        }
        self.rows[0].push((value, 0.0));
        self.compress();
    }

    /// Where a row is full, makes one bucket of its oldest two, for the next row.
    #[inline]
    fn compress(&mut self) {
        let mut at = 0;
        while self.rows[at].len > MOST {
            let size = (1u64 << at) as f64;
            let [(first, within), (second, also)] = [self.rows[at].buckets[0], self.rows[at].buckets[1]];
            let between = size * (first / size - second / size).powi(2) / 2.0;
            if at + 1 == self.rows.len() {
                self.rows.push(Row::default());
            }
            self.rows[at + 1].push((first + second, within + also + between));
            self.rows[at].drop_oldest(2);
            at += 1;
        }
    }

    /// Drops the oldest buckets as long as some cut shows two means. Tells whether one did.
    #[cold]
    fn shrink(&mut self, delta: f64) -> bool {
        let mut changed = false;
        while self.count > GRACE && self.has_cut(delta) {
            changed = true;
            self.drop_oldest();
        }
        changed
    }

    fn has_cut(&self, delta: f64) -> bool {
        let ln = (2.0 * (self.count as f64).ln() / delta).ln();
        let variance = self.squares / self.count as f64;
        let (mut before, mut sum_before) = (0u64, 0.0);
        for (at, row) in self.rows.iter().enumerate().rev() {
            let size = 1u64 << at;
            for (sum, _) in &row.buckets[..row.len] {
                before += size;
                sum_before += sum;
                let after = self.count - before;
                if before < LEAST || after < LEAST {
                    continue;
                }
                let apart = (sum_before / before as f64 - (self.sum - sum_before) / after as f64).abs();
                let share = 1.0 / (before - LEAST + 1) as f64 + 1.0 / (after - LEAST + 1) as f64;
                if apart > (2.0 * share * variance * ln).sqrt() + 2.0 / 3.0 * ln * share {
                    return true;
                }
            }
        }
        false
    }

    fn drop_oldest(&mut self) {
        let Some(row) = self.rows.last_mut() else { return };
        let (sum, squares) = row.buckets[0];
        row.drop_oldest(1);
        let emptied = row.len == 0;
        let size = 1u64 << (self.rows.len() - 1);
        self.count -= size;
        self.sum -= sum;
        if self.count > 0 {
            let (n, rest) = (size as f64, self.count as f64);
            let apart = sum / n - self.sum / rest;
            self.squares -= squares + n * rest * apart * apart / (n + rest);
        }
        if emptied {
            self.rows.pop();
        }
    }
}

impl Row {
    #[inline]
    fn push(&mut self, bucket: (f64, f64)) {
        self.buckets[self.len] = bucket;
        self.len += 1;
    }

    #[inline]
    fn drop_oldest(&mut self, some: usize) {
        self.buckets.copy_within(some..self.len, 0);
        self.len -= some;
    }
}
