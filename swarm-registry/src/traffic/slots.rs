use std::sync::Arc;

use super::split::WHOLE;

/// Which version each of the 10,000 slots has, as runs of the same one.
///
/// A slot is a basis point. A user is in one slot for good; what changes is the version of the slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Slots {
    /// The place of a version in the weights, and how many slots follow one another.
    pub(crate) runs: Vec<(u16, u16)>,
}

impl Slots {
    /// Slots for `weights`, which make 10,000, with the fewest changes from `before`.
    ///
    /// A version that shrinks gives up its last slots; those that grow take them, in order. So the slots that change are
    /// the sum of what versions grow by, which is the least there can be, and no slot goes from one version to another
    /// that does not grow.
    pub(crate) fn moved_least(
        weights: &[(Arc<str>, u16)],
        before: Option<(&Slots, &[(Arc<str>, u16)])>,
    ) -> Self {
        const FREE: u16 = u16::MAX;
        let mut missing: Vec<u16> = weights.iter().map(|(_, points)| *points).collect();
        let mut table = vec![FREE; usize::from(WHOLE)];
        if let Some((slots, old)) = before {
            let place: Vec<Option<usize>> =
                old.iter().map(|(version, _)| weights.iter().position(|(v, _)| v == version)).collect();
            for (slot, version) in table.iter_mut().zip(slots.expand()) {
                if let Some(place) = place.get(usize::from(version)).copied().flatten()
                    && missing[place] > 0
                {
                    missing[place] -= 1;
                    *slot = place as u16; // At most 10,000 weights, since none is zero.
                }
            }
        }
        let mut place = 0;
        for slot in table.iter_mut().filter(|slot| **slot == FREE) {
            while missing.get(place) == Some(&0) {
                place += 1;
            }
            missing[place] -= 1;
            *slot = place as u16;
        }
        Slots::of_table(&table)
    }

    fn of_table(table: &[u16]) -> Self {
        let mut runs: Vec<(u16, u16)> = Vec::new();
        for version in table {
            match runs.last_mut() {
                Some((last, length)) if last == version => *length += 1,
                _ => runs.push((*version, 1)),
            }
        }
        Slots { runs }
    }

    /// Whether they are 10,000, of versions below `versions`, and as many of each as it weighs.
    pub(crate) fn fit(&self, weights: &[(Arc<str>, u16)]) -> bool {
        let mut counts = vec![0_u64; weights.len()];
        for (version, length) in &self.runs {
            match counts.get_mut(usize::from(*version)) {
                Some(count) => *count += u64::from(*length),
                None => return false,
            }
        }
        counts.iter().sum::<u64>() == u64::from(WHOLE)
            && counts.iter().zip(weights).all(|(count, (_, points))| *count == u64::from(*points))
    }

    /// The version of every slot, in order.
    pub(crate) fn expand(&self) -> impl Iterator<Item = u16> {
        self.runs.iter().flat_map(|(version, length)| std::iter::repeat_n(*version, usize::from(*length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weights(points: &[(&str, u16)]) -> Vec<(Arc<str>, u16)> {
        points.iter().filter(|(_, p)| *p > 0).map(|(version, points)| ((*version).into(), *points)).collect()
    }

    /// The ramp of the targets: 8, 10, 30 and 50 % of users move, none between canaries.
    #[test]
    fn a_ramp_moves_the_fewest_slots_and_swaps_no_canaries() {
        let ramp = [
            ([9_800, 100, 100], 0),
            ([9_000, 500, 500], 800),
            ([8_000, 1_000, 1_000], 1_000),
            ([5_000, 2_500, 2_500], 3_000),
            ([0, 5_000, 5_000], 5_000),
        ];
        let mut before: Option<(Slots, Vec<(Arc<str>, u16)>)> = None;
        for ([stable, a, b], expected) in ramp {
            let weights = weights(&[("stable", stable), ("a", a), ("b", b)]);
            let slots = Slots::moved_least(&weights, before.as_ref().map(|(s, w)| (s, &**w)));
            assert!(slots.fit(&weights));
            if let Some((old, old_weights)) = &before {
                let pairs = old.expand().zip(slots.expand()).map(|(from, to)| {
                    (old_weights[usize::from(from)].0.clone(), weights[usize::from(to)].0.clone())
                });
                let moved: Vec<_> = pairs.filter(|(from, to)| from != to).collect();
                assert_eq!(moved.len(), expected);
                assert!(moved.iter().all(|(from, _)| &**from == "stable"), "no canary loses a user");
            }
            before = Some((slots, weights));
        }
    }
}
