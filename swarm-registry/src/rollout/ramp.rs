use crate::error::Result;
use crate::traffic::{Split, WHOLE};

/// `origin` with `points` for the candidate, and the others in proportion to what they had.
///
/// Slots are dealt out one by one to whoever has fewest for its weight (Webster's method). With fewer slots to deal nobody
/// gets more, so that while a candidate grows no slot goes from one of the others to another.
pub(crate) fn ramped(origin: &Split, candidate: &str, points: u16) -> Result<Split> {
    let others: Vec<(&str, u16)> =
        origin.basis_points().filter(|(version, _)| *version != candidate).collect();
    let mut dealt = vec![0_u16; others.len()];
    for _ in 0..WHOLE - points {
        let mut next: Option<usize> = None;
        for (at, (_, weight)) in others.iter().enumerate() {
            // weight / (2 dealt + 1), compared crosswise.
            let before = |best: usize| {
                let (has, best_has) = (2 * u32::from(dealt[at]) + 1, 2 * u32::from(dealt[best]) + 1);
                u32::from(*weight) * best_has > u32::from(others[best].1) * has
            };
            if next.is_none_or(before) {
                next = Some(at);
            }
        }
        // Without others the candidate has everything, and there is nothing to deal.
        let Some(next) = next else { break };
        dealt[next] += 1;
    }
    let weights = others.iter().zip(dealt).map(|((version, _), points)| (*version, points));
    let mut split = Split::of_basis_points(weights.chain([(candidate, points)]))?;
    split.pins.clone_from(&origin.pins);
    split.mirror.clone_from(&origin.mirror);
    Ok(split)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever was served before, a ramp never gives one of the others more than it had, and ends in proportion.
        #[test]
        fn nobody_but_the_candidate_grows(
            raw in prop::collection::vec(1_u32..1_000, 1..6),
            mut ramp in prop::collection::vec(1_u16..=WHOLE, 1..8),
        ) {
            let total: u32 = raw.iter().sum();
            let mut weights: Vec<(String, u16)> = raw
                .iter()
                .enumerate()
                .map(|(at, share)| (format!("v{at}"), (share * u32::from(WHOLE) / total) as u16))
                .collect();
            let rest = WHOLE - weights.iter().map(|(_, points)| points).sum::<u16>();
            weights[0].1 += rest;
            let origin = Split::of_basis_points(weights).unwrap();
            ramp.sort_unstable();
            let mut before = origin.clone();
            for points in ramp {
                let split = ramped(&origin, "new", points).unwrap();
                for (version, has) in split.basis_points() {
                    let had = before.basis_points().find(|(v, _)| *v == version).map_or(0, |(_, points)| points);
                    prop_assert!(version == "new" || has <= had, "{version}: {had} to {has}");
                    if version != "new" {
                        let first = origin.basis_points().find(|(v, _)| *v == version).unwrap().1;
                        let exact = f64::from(first) * f64::from(WHOLE - points) / f64::from(WHOLE);
                        prop_assert!((f64::from(has) - exact).abs() <= 3.0, "{version}: {has} of {exact}");
                    }
                }
                before = split;
            }
        }
    }

    #[test]
    fn a_candidate_that_is_served_already_grows_from_there() {
        let origin = Split::of([("old", 60.0), ("other", 30.0), ("new", 10.0)]).unwrap().pin("t", "new");
        let split = ramped(&origin, "new", 4_000).unwrap();
        assert_eq!(
            split,
            Split::of([("old", 40.0), ("other", 20.0), ("new", 40.0)]).unwrap().pin("t", "new")
        );
        assert_eq!(ramped(&origin, "new", WHOLE).unwrap(), Split::all("new").pin("t", "new"));
    }
}
