use crate::sketch::mapping::{Bin, Mapping};

/// So many bins of one sign are kept at most. What lies below them is counted in the lowest.
pub(crate) const MOST_BINS: usize = 2_048;
/// Bins are added so many at a time.
const STEP: i32 = 16;

/// Counts by bin, for both signs and zero.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bins {
    pub(crate) negative: Run,
    pub(crate) zero: u64,
    pub(crate) positive: Run,
}

/// Counts of neighbouring bins.
#[derive(Debug, Clone, Default)]
pub(crate) struct Run {
    pub(crate) first: i32,
    pub(crate) counts: Vec<u64>,
}

impl Bins {
    #[inline]
    pub(crate) fn add(&mut self, bin: Bin) {
        match bin {
            Bin::Positive(index) => self.positive.add(index, 1),
            Bin::Negative(index) => self.negative.add(index, 1),
            Bin::Zero => self.zero += 1,
        }
    }

    pub(crate) fn merge(&mut self, other: &Bins) {
        self.negative.merge(&other.negative);
        self.zero += other.zero;
        self.positive.merge(&other.positive);
    }

    /// Takes out what was merged into these.
    pub(crate) fn take_out(&mut self, part: &Bins) {
        self.negative.take_out(&part.negative);
        self.zero = self.zero.saturating_sub(part.zero);
        self.positive.take_out(&part.positive);
    }

    /// The same values in the bins of another mapping, each value as the middle of its bin.
    pub(crate) fn rebinned(&self, from: Mapping, to: Mapping) -> Bins {
        let mut bins = Bins::default();
        for (bin, count) in self.ascending() {
            match to.bin(from.value(bin)) {
                Bin::Positive(index) => bins.positive.add(index, count),
                Bin::Negative(index) => bins.negative.add(index, count),
                Bin::Zero => bins.zero += count,
            }
        }
        bins
    }

    pub(crate) fn clear(&mut self) {
        self.negative.clear();
        self.zero = 0;
        self.positive.clear();
    }

    pub(crate) fn count(&self) -> u64 {
        let sum = |run: &Run| run.counts.iter().sum::<u64>();
        sum(&self.negative) + self.zero + sum(&self.positive)
    }

    /// Bytes on the heap.
    pub(crate) fn heap(&self) -> usize {
        (self.negative.counts.capacity() + self.positive.counts.capacity()) * size_of::<u64>()
    }

    /// The bin of the value with this rank, counted from 0 for the least.
    pub(crate) fn at_rank(&self, rank: u64) -> Option<Bin> {
        self.ascending()
            .scan(0, |seen, (bin, count)| {
                *seen += count;
                Some((bin, *seen))
            })
            .find(|(_, seen)| *seen > rank)
            .map(|(bin, _)| bin)
    }

    /// How many values are in `bin` or below.
    pub(crate) fn up_to(&self, bin: Bin) -> u64 {
        self.ascending().take_while(|(at, _)| !at.is_above(bin)).map(|(_, count)| count).sum()
    }

    pub(crate) fn ascending(&self) -> impl Iterator<Item = (Bin, u64)> + '_ {
        let negative = self.negative.iter().rev().map(|(index, count)| (Bin::Negative(index), count));
        let zero = std::iter::once((Bin::Zero, self.zero));
        let positive = self.positive.iter().map(|(index, count)| (Bin::Positive(index), count));
        negative.chain(zero).chain(positive).filter(|(_, count)| *count > 0)
    }
}

impl Run {
    #[inline]
    pub(crate) fn add(&mut self, index: i32, count: u64) {
        // An index below `first` wraps to beyond the end.
        match self.counts.get_mut(index.wrapping_sub(self.first) as u32 as usize) {
            Some(bin) => *bin += count,
            None => self.add_outside(index, count),
        }
    }

    #[cold]
    fn add_outside(&mut self, index: i32, count: u64) {
        self.cover(index, index);
        // Below the lowest that is kept: into the lowest.
        let at = (index - self.first).max(0) as usize;
        self.counts[at] += count;
    }

    /// Makes room for the bins from `low` to `high`, as far as the limit allows.
    pub(crate) fn cover(&mut self, low: i32, high: i32) {
        let floor = |index: i32| index.div_euclid(STEP) * STEP;
        let (mut first, mut end) = (floor(low), floor(high) + STEP);
        if !self.counts.is_empty() {
            first = first.min(self.first);
            end = end.max(self.first + self.counts.len() as i32);
        }
        first = first.max(end - MOST_BINS as i32);
        if !self.counts.is_empty() && first > self.first {
            let gone = ((first - self.first) as usize).min(self.counts.len());
            let low: u64 = self.counts.drain(..gone).sum();
            self.first += gone as i32;
            if self.counts.is_empty() {
                self.counts.push(0);
                self.first = first;
            }
            self.counts[0] += low;
        }
        if self.counts.is_empty() {
            self.first = first;
        }
        if first < self.first {
            let more = (self.first - first) as usize;
            self.counts.splice(0..0, std::iter::repeat_n(0, more));
            self.first = first;
        }
        self.counts.resize((end - self.first) as usize, 0);
    }

    pub(crate) fn merge(&mut self, other: &Run) {
        let Some((low, high)) = other.span() else { return };
        self.cover(low, high);
        for (index, count) in other.iter().filter(|(_, count)| *count > 0) {
            let at = (index - self.first).max(0) as usize;
            self.counts[at] += count;
        }
    }

    fn take_out(&mut self, part: &Run) {
        for (index, count) in part.iter().filter(|(_, count)| *count > 0) {
            // What lies below the lowest bin went into that one.
            if let Some(bin) = self.counts.get_mut((index - self.first).max(0) as usize) {
                *bin = bin.saturating_sub(count);
            }
        }
    }

    /// The first and the last bin with something in it.
    pub(crate) fn span(&self) -> Option<(i32, i32)> {
        let low = self.counts.iter().position(|&count| count > 0)?;
        let high = self.counts.iter().rposition(|&count| count > 0)?;
        Some((self.first + low as i32, self.first + high as i32))
    }

    pub(crate) fn iter(&self) -> impl DoubleEndedIterator<Item = (i32, u64)> + '_ {
        self.counts.iter().enumerate().map(|(at, &count)| (self.first + at as i32, count))
    }

    /// Empties the bins and keeps their room.
    fn clear(&mut self) {
        self.counts.fill(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_stay_within_the_limit_and_lose_no_count() {
        let mut run = Run::default();
        for index in [0, 5_000, -5_000, 4_990, 2_000, 5_001] {
            run.add(index, 1);
        }
        assert!(run.counts.len() <= MOST_BINS, "{}", run.counts.len());
        assert_eq!(run.counts.iter().sum::<u64>(), 6);
        assert_eq!(run.span().unwrap().1, 5_001);
    }

    #[test]
    fn what_was_merged_can_be_taken_out_even_where_it_fell_into_the_lowest_bin() {
        let run = |from: i32, step: i32| {
            let mut run = Run::default();
            (0..50).for_each(|at| run.add(from + at * step, 1 + at as u64 % 3));
            run
        };
        for (part, rest) in
            [(run(0, 7), run(30, 11)), (run(-3_000, 20), run(1_500, 3)), (run(0, 1), run(9_000, 1))]
        {
            let (part, rest) = (
                Bins { positive: part, zero: 3, ..Bins::default() },
                Bins { positive: rest, zero: 4, ..Bins::default() },
            );
            let mut all = part.clone();
            all.merge(&rest);
            all.take_out(&part);
            // The rest as it is among so many bins.
            let mut alone = rest.clone();
            alone.positive.cover(all.positive.first, all.positive.first);
            let counts = |run: &Run| run.iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>();
            assert_eq!(counts(&all.positive), counts(&alone.positive));
            assert_eq!(all.count(), rest.count());
        }
    }

    #[test]
    fn merging_is_adding_everything() {
        let (mut all, mut left, mut right) = (Run::default(), Run::default(), Run::default());
        for at in 0..2_000 {
            let index = (at * 7_919) % 977 - 400;
            all.add(index, 1);
            if at % 3 == 0 { &mut left } else { &mut right }.add(index, 1);
        }
        left.merge(&right);
        // Room that holds nothing is not merged.
        let mut roomy = right.clone();
        roomy.counts.fill(0);
        roomy.add(-400, 0);
        roomy.cover(-900, 900);
        left.merge(&roomy);
        let counts = |run: &Run| run.iter().filter(|(_, count)| *count > 0).collect::<Vec<_>>();
        assert_eq!(counts(&left), counts(&all));
    }
}
