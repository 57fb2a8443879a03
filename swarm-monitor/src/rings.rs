use std::collections::VecDeque;

use crate::snapshot::wire::{Saved, load_len, save_all};
use crate::window::Span;

/// What is counted up in an open bucket and packed when the bucket's time is over.
pub(crate) trait Tally: Default {
    type Closed;

    fn is_empty(&self) -> bool;
    /// Adds what a finer bucket held.
    fn absorb(&mut self, finer: &Self);
    /// Packs, and starts again from nothing.
    fn close(&mut self) -> Self::Closed;
}

/// Seconds in a bucket of each ring.
pub(crate) const WIDTHS: [u64; 3] = [1, 60, 3_600];

/// How many buckets each ring reaches back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reach(pub(crate) [u64; 3]);

impl Reach {
    /// Two minutes of seconds, three hours of minutes, eight days of hours.
    pub(crate) const DEFAULT: Reach = Reach([120, 180, 192]);
}

/// Buckets of a second, a minute and an hour, and what ever was.
///
/// Only buckets with something in them are kept. Those of the current second, minute and hour are open; each holds what the
/// finer ones have closed.
#[derive(Debug)]
pub(crate) struct Rings<T: Tally> {
    second: u64,
    open: [T; 3],
    closed: [VecDeque<(u64, T::Closed)>; 3],
    ever: T,
    reach: Reach,
}

/// A bucket that a window takes in.
pub(crate) enum Part<'a, T: Tally> {
    Open(&'a T),
    Closed(u64, &'a T::Closed),
}

impl<T: Tally> Rings<T> {
    pub(crate) fn new(now: u64, reach: Reach) -> Self {
        Rings { second: now, open: Default::default(), closed: Default::default(), ever: T::default(), reach }
    }

    /// The bucket of the current second.
    pub(crate) fn current(&mut self) -> &mut T {
        &mut self.open[0]
    }

    /// The second that is open.
    pub(crate) fn second(&self) -> u64 {
        self.second
    }

    /// Closes what is over at `now` and forgets what is out of reach.
    pub(crate) fn roll(&mut self, now: u64) {
        if now <= self.second {
            return;
        }
        for ring in 0..3 {
            let (then, width) = (self.second / WIDTHS[ring], WIDTHS[ring]);
            if then == now / width {
                break;
            }
            if !self.open[ring].is_empty() {
                let (finer, coarser) = self.open.split_at_mut(ring + 1);
                coarser.first_mut().unwrap_or(&mut self.ever).absorb(&finer[ring]);
                let closed = finer[ring].close();
                // Not twice as much as is needed, as it grows on its own.
                if self.closed[ring].len() == self.closed[ring].capacity() {
                    self.closed[ring].reserve_exact((self.reach.0[ring] as usize / 4).max(8));
                }
                self.closed[ring].push_back((then, closed));
            }
            let oldest = (now / width).saturating_sub(self.reach.0[ring]);
            while self.closed[ring].front().is_some_and(|(at, _)| *at < oldest) {
                self.closed[ring].pop_front();
            }
        }
        self.second = now;
    }

    /// Whether nothing is left of it but what ever was.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.iter().all(T::is_empty) && self.closed.iter().all(VecDeque::is_empty)
    }

    /// Shows every bucket of `span`, which was made for the time this was rolled to.
    pub(crate) fn visit(&self, span: &Span, mut show: impl FnMut(Part<'_, T>)) {
        let ring = span.ring;
        let closed = &self.closed[ring];
        let from = closed.partition_point(|(at, _)| *at < span.first);
        for (at, bucket) in closed.range(from..).take_while(|(at, _)| *at < span.end) {
            show(Part::Closed(*at, bucket));
        }
        if (span.first..span.end).contains(&(self.second / WIDTHS[ring])) {
            self.open[..=ring].iter().for_each(|open| show(Part::Open(open)));
        }
    }

    /// Shows everything that ever was.
    pub(crate) fn visit_all(&self, mut show: impl FnMut(&T)) {
        show(&self.ever);
        self.open.iter().for_each(show);
    }

    /// Counts what the closed buckets take.
    pub(crate) fn heap(&self, of_closed: impl Fn(&T::Closed) -> usize) -> usize {
        let ring = |ring: &VecDeque<(u64, T::Closed)>| {
            ring.capacity() * size_of::<(u64, T::Closed)>()
                + ring.iter().map(|(_, c)| of_closed(c)).sum::<usize>()
        };
        self.closed.iter().map(ring).sum()
    }

    /// Changes what is in every bucket.
    pub(crate) fn map(&mut self, open: impl Fn(&mut T), closed: impl Fn(&mut T::Closed)) {
        self.open.iter_mut().chain([&mut self.ever]).for_each(open);
        self.closed.iter_mut().flatten().for_each(|(_, bucket)| closed(bucket));
    }

    /// The open buckets and what ever was.
    pub(crate) fn live(&self) -> impl Iterator<Item = &T> {
        self.open.iter().chain([&self.ever])
    }
}

impl<T: Tally + Saved> Rings<T>
where
    T::Closed: Saved,
{
    pub(crate) fn save(&self, out: &mut Vec<u8>) {
        self.second.save(out);
        self.live().for_each(|bucket| bucket.save(out));
        self.closed.iter().for_each(|ring| save_all(ring.iter(), out));
    }

    /// `None` for what was not saved from rings.
    pub(crate) fn load(input: &mut &[u8], reach: Reach) -> Option<Self> {
        let mut rings = Rings::new(u64::load(input)?, reach);
        for bucket in rings.open.iter_mut().chain([&mut rings.ever]) {
            *bucket = T::load(input)?;
        }
        for (ring, width) in rings.closed.iter_mut().zip(WIDTHS) {
            for _ in 0..load_len(input)? {
                let (at, bucket) = <(u64, T::Closed)>::load(input)?;
                let follows = ring.back().is_none_or(|(before, _)| *before < at);
                if !follows || at >= rings.second / width {
                    return None;
                }
                ring.push_back((at, bucket));
            }
        }
        Some(rings)
    }
}

impl Tally for u64 {
    type Closed = u64;

    fn is_empty(&self) -> bool {
        *self == 0
    }

    fn absorb(&mut self, finer: &u64) {
        *self = self.wrapping_add(*finer);
    }

    fn close(&mut self) -> u64 {
        std::mem::take(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::window::Window;

    fn sum(rings: &Rings<u64>, span: &Span) -> u64 {
        let mut sum = 0;
        rings.visit(span, |part| match part {
            Part::Open(n) | Part::Closed(_, n) => sum += n,
        });
        sum
    }

    proptest! {
        /// The witness keeps every single count with its second.
        #[test]
        fn a_window_holds_what_was_counted_in_its_buckets(
            steps in prop::collection::vec((prop_oneof![0..3u64, 0..90u64, 0..8_000u64], 1..9u64), 1..300),
            lasts in prop_oneof![1..150u64, 1..10_000u64, 1..700_000u64],
            ends in prop_oneof![Just(0u64), 0..100_000u64],
        ) {
            let start = 1_700_000_123;
            let mut rings = Rings::new(start, Reach::DEFAULT);
            let (mut now, mut witness) = (start, Vec::new());
            for (pause, n) in steps {
                now += pause;
                rings.roll(now);
                *rings.current() += n;
                witness.push((now, n));
            }
            let span = Window::seconds(now.saturating_sub(ends + lasts), now - ends).span(now, Reach::DEFAULT);
            let width = WIDTHS[span.ring];
            let oldest = now / width - Reach::DEFAULT.0[span.ring];
            let expected: u64 = witness
                .iter()
                .filter(|(at, _)| (span.first.max(oldest)..span.end).contains(&(at / width)))
                .map(|(_, n)| n)
                .sum();
            prop_assert_eq!(sum(&rings, &span), expected);
            let mut ever = 0;
            rings.visit_all(|n| ever += n);
            prop_assert_eq!(ever, witness.iter().map(|(_, n)| n).sum::<u64>());
        }
    }

    #[test]
    fn buckets_are_bounded_however_long_it_runs() {
        let mut rings: Rings<u64> = Rings::new(0, Reach::DEFAULT);
        for now in (0..30 * 86_400).step_by(7) {
            rings.roll(now);
            *rings.current() += 1;
        }
        for (ring, reach) in rings.closed.iter().zip(Reach::DEFAULT.0) {
            assert!(ring.len() as u64 <= reach, "{} {reach}", ring.len());
        }
    }
}
