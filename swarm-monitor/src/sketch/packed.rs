use crate::sketch::bins::{Bins, MOST_BINS, Run};

/// The bins of a bucket that takes no more values, in few bytes, by one of two simple ways.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Packed {
    /// Of values above zero, which is what most are.
    Positive(PackedRun),
    /// Negative, zero, positive.
    Mixed(Box<(PackedRun, u64, PackedRun)>),
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PackedRun {
    Empty,
    /// Pairs of varints: bins skipped, count.
    Sparse {
        first: i32,
        pairs: Box<[u8]>,
    },
    /// Every bin of the span.
    Bytes {
        first: i32,
        counts: Box<[u8]>,
    },
    Shorts {
        first: i32,
        counts: Box<[u16]>,
    },
    Words {
        first: i32,
        counts: Box<[u32]>,
    },
    Longs {
        first: i32,
        counts: Box<[u64]>,
    },
}

impl Packed {
    pub(crate) fn new(bins: &Bins) -> Self {
        let (negative, positive) = (pack(&bins.negative), pack(&bins.positive));
        if bins.zero == 0 && negative == PackedRun::Empty {
            Packed::Positive(positive)
        } else {
            Packed::Mixed(Box::new((negative, bins.zero, positive)))
        }
    }

    pub(crate) fn add_to(&self, bins: &mut Bins) {
        match self {
            Packed::Positive(positive) => positive.add_to(&mut bins.positive),
            Packed::Mixed(mixed) => {
                mixed.0.add_to(&mut bins.negative);
                bins.zero += mixed.1;
                mixed.2.add_to(&mut bins.positive);
            }
        }
    }

    /// Takes out of `bins` what these were merged into.
    pub(crate) fn take_from(&self, bins: &mut Bins) {
        let mut own = Bins::default();
        self.add_to(&mut own);
        bins.take_out(&own);
    }

    /// Bytes on the heap.
    pub(crate) fn heap(&self) -> usize {
        match self {
            Packed::Positive(positive) => positive.heap(),
            Packed::Mixed(mixed) => size_of_val(&**mixed) + mixed.0.heap() + mixed.2.heap(),
        }
    }
}

fn pack(run: &Run) -> PackedRun {
    let Some((first, last)) = run.span() else { return PackedRun::Empty };
    let from = (first - run.first) as usize;
    let counts = &run.counts[from..=(last - run.first) as usize];
    let width = match counts.iter().copied().max().unwrap_or(0) {
        0..0x100 => 1,
        0x100..0x1_0000 => 2,
        0x1_0000..0x1_0000_0000 => 4,
        _ => 8,
    };
    // Pairs are read one by one and whole spans several at a time, which is worth more bytes where buckets are large.
    let most = if width == 1 { counts.len() } else { width * counts.len() / 4 * 3 };
    let mut pairs = Vec::new();
    let mut next = 0;
    for (at, &count) in counts.iter().enumerate().filter(|(_, count)| **count > 0) {
        put(&mut pairs, (at - next) as u64);
        put(&mut pairs, count);
        next = at + 1;
        if pairs.len() >= most {
            break;
        }
    }
    if pairs.len() < most {
        return PackedRun::Sparse { first, pairs: pairs.into() };
    }
    match width {
        1 => PackedRun::Bytes { first, counts: counts.iter().map(|&count| count as u8).collect() },
        2 => PackedRun::Shorts { first, counts: counts.iter().map(|&count| count as u16).collect() },
        4 => PackedRun::Words { first, counts: counts.iter().map(|&count| count as u32).collect() },
        _ => PackedRun::Longs { first, counts: counts.into() },
    }
}

impl PackedRun {
    fn add_to(&self, run: &mut Run) {
        match self {
            PackedRun::Empty => {}
            PackedRun::Sparse { first, pairs } => {
                let (mut index, mut rest) = (*first, &pairs[..]);
                while !rest.is_empty() {
                    index += take(&mut rest) as i32;
                    run.add(index, take(&mut rest));
                    index += 1;
                }
            }
            PackedRun::Bytes { first, counts } => add_all(run, *first, counts),
            PackedRun::Shorts { first, counts } => add_all(run, *first, counts),
            PackedRun::Words { first, counts } => add_all(run, *first, counts),
            PackedRun::Longs { first, counts } => add_all(run, *first, counts),
        }
    }

    fn heap(&self) -> usize {
        match self {
            PackedRun::Empty => 0,
            PackedRun::Sparse { pairs, .. } => pairs.len(),
            PackedRun::Bytes { counts, .. } => counts.len(),
            PackedRun::Shorts { counts, .. } => 2 * counts.len(),
            PackedRun::Words { counts, .. } => 4 * counts.len(),
            PackedRun::Longs { counts, .. } => 8 * counts.len(),
        }
    }
}

/// Adds the bins of many buckets: those with small counts in counts of 32 bits first, of which a processor adds several at a time.
pub(crate) struct Gather<'a> {
    into: &'a mut Bins,
    first: i32,
    counts: Vec<u32>,
    /// So many more cannot overflow.
    more: u32,
}

impl<'a> Gather<'a> {
    pub(crate) fn new(into: &'a mut Bins) -> Self {
        Gather { into, first: 0, counts: Vec::new(), more: MOST_RUNS }
    }

    pub(crate) fn add(&mut self, packed: &Packed) {
        match packed {
            Packed::Positive(PackedRun::Bytes { first, counts }) => self.add_small(*first, counts),
            Packed::Positive(PackedRun::Shorts { first, counts }) => self.add_small(*first, counts),
            other => other.add_to(self.into),
        }
    }

    pub(crate) fn merge(&mut self, open: &Bins) {
        self.into.merge(open);
    }

    fn add_small<C: Copy + Into<u32>>(&mut self, first: i32, counts: &[C]) {
        let (low, end) = if self.counts.is_empty() {
            (first, first)
        } else {
            (self.first.min(first), self.first + self.counts.len() as i32)
        };
        let end = end.max(first + counts.len() as i32);
        if self.more == 0 || (end - low) as usize > 2 * MOST_BINS {
            self.finish();
            return self.add_small(first, counts);
        }
        if self.counts.is_empty() {
            self.first = first;
        } else if low < self.first {
            self.counts.splice(0..0, std::iter::repeat_n(0, (self.first - low) as usize));
            self.first = low;
        }
        if self.counts.len() < (end - low) as usize {
            self.counts.resize((end - low) as usize, 0);
        }
        for (bin, &count) in self.counts[(first - low) as usize..].iter_mut().zip(counts) {
            *bin += count.into();
        }
        self.more -= 1;
    }

    pub(crate) fn finish(&mut self) {
        if !self.counts.is_empty() {
            add_all(&mut self.into.positive, self.first, &self.counts);
        }
        self.counts.clear();
        self.more = MOST_RUNS;
    }
}

/// As many counts of 16 bits have a sum of 32.
const MOST_RUNS: u32 = 0x1_0000;

fn add_all<C: Copy + Into<u64>>(run: &mut Run, first: i32, counts: &[C]) {
    run.cover(first, first + counts.len() as i32 - 1);
    // What lies below the lowest bin that is kept goes into that one.
    let below = ((run.first - first).max(0) as usize).min(counts.len());
    let (low, rest) = counts.split_at(below);
    run.counts[0] += low.iter().map(|&count| count.into()).sum::<u64>();
    // Nothing is left of a bucket that lies below altogether.
    let at = (first + below as i32 - run.first).max(0) as usize;
    for (bin, &count) in run.counts[at..].iter_mut().zip(rest) {
        *bin += count.into();
    }
}

/// Seven bits a byte, the lowest first.
pub(crate) fn put(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

pub(crate) fn take(bytes: &mut &[u8]) -> u64 {
    // One byte is what most take.
    if let [byte @ 0..0x80, rest @ ..] = bytes {
        let value = u64::from(*byte);
        *bytes = rest;
        return value;
    }
    let (mut value, mut shift) = (0, 0);
    while let Some((&byte, rest)) = bytes.split_first() {
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            break;
        }
        shift += 7;
    }
    value
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_was_packed_comes_back(
            counts in prop::collection::vec((-900..900i32, 1..0x3_0000_0000u64), 0..60), scale in 0..33u32, zero in 0..3u64,
        ) {
            let mut bins = Bins { zero, ..Bins::default() };
            for &(index, count) in &counts {
                let count = (count >> scale).max(1);
                if index % 5 == 0 { &mut bins.negative } else { &mut bins.positive }.add(index, count);
            }
            let packed = Packed::new(&bins);
            let mut back = Bins::default();
            packed.add_to(&mut back);
            packed.add_to(&mut back);
            let twice = |run: &Run| run.iter().filter(|(_, c)| *c > 0).map(|(i, c)| (i, 2 * c)).collect::<Vec<_>>();
            let once = |run: &Run| run.iter().filter(|(_, c)| *c > 0).collect::<Vec<_>>();
            prop_assert_eq!(twice(&bins.negative), once(&back.negative));
            prop_assert_eq!(twice(&bins.positive), once(&back.positive));
            prop_assert_eq!(back.zero, 2 * zero);
        }

        #[test]
        fn many_gathered_are_each_added(
            runs in prop::collection::vec(
                (-9_000..9_000i32, prop::collection::vec(prop_oneof![1..9u64, 1..0x300u64, 1..0x2_0000u64], 1..40)), 0..30,
            ),
        ) {
            let (mut one_by_one, mut gathered) = (Bins::default(), Bins::default());
            let mut gather = Gather::new(&mut gathered);
            for (first, counts) in &runs {
                let mut bins = Bins::default();
                for (at, &count) in counts.iter().enumerate() {
                    bins.positive.add(first / 8 + at as i32, count);
                }
                // Far apart now and then, so that some fall out below.
                if first % 8 == 0 {
                    bins.positive.add(*first, 3);
                }
                let packed = Packed::new(&bins);
                packed.add_to(&mut one_by_one);
                gather.add(&packed);
            }
            gather.finish();
            let counts = |run: &Run| run.iter().filter(|(_, c)| *c > 0).collect::<Vec<_>>();
            prop_assert_eq!(counts(&gathered.positive), counts(&one_by_one.positive));
        }
    }

    #[test]
    fn a_bucket_below_all_that_is_kept_counts_in_the_lowest_bin() {
        let mut low = Bins::default();
        low.positive.cover(-5_000, -4_900);
        low.positive.counts.fill(300);
        let all: u64 = low.positive.counts.iter().sum();
        let mut bins = Bins::default();
        bins.positive.add(0, 1);
        bins.positive.cover(-(MOST_BINS as i32), 0);
        Packed::new(&low).add_to(&mut bins);
        assert_eq!((bins.positive.counts[0], bins.count()), (all, all + 1));
    }

    /// More than the rings of any one series hold.
    #[test]
    fn more_buckets_than_counts_of_32_bits_hold_are_each_added() {
        let full = Packed::Positive(PackedRun::Shorts { first: 7, counts: Box::new([u16::MAX; 2]) });
        let mut bins = Bins::default();
        let mut gather = Gather::new(&mut bins);
        let buckets = u64::from(MOST_RUNS) + 3;
        for _ in 0..buckets {
            gather.add(&full);
        }
        gather.finish();
        let each = buckets * u64::from(u16::MAX);
        assert!(each > u64::from(u32::MAX));
        let held: Vec<_> = bins.positive.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(held, [(7, each), (8, each)]);
    }

    #[test]
    fn few_values_far_apart_take_few_bytes() {
        let mut bins = Bins::default();
        for index in [0, 500, 1_000] {
            bins.positive.add(index, 1);
        }
        assert!(Packed::new(&bins).heap() <= 12);
        bins.positive.cover(0, 1_000);
        bins.positive.counts.fill(7);
        assert!(Packed::new(&bins).heap() <= 1_024);
    }
}
