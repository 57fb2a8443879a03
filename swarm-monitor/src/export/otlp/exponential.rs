use crate::export::otlp::wire::Message;
use crate::sketch::{LEAST, Sketch};

/// So many buckets of one sign are the most by default in OpenTelemetry's SDKs, and what receivers expect.
const MOST: i32 = 160;

/// The values of a sketch in OTLP's buckets, whose bounds are powers of 2 to the power of 2<sup>-scale</sup>.
///
/// The bins of a sketch are not these. Each goes where its middle is, which is within the sketch's accuracy of every value in it: a value
/// is in the bucket that holds it, or is nearer to that than the accuracy.
#[derive(Debug)]
pub(crate) struct Exponential {
    scale: i32,
    zero: u64,
    positive: Buckets,
    negative: Buckets,
}

/// Counts from bucket `first` on. Bucket `i` is above the `i`th power and at most the next one.
#[derive(Debug, Default)]
struct Buckets {
    first: i32,
    counts: Vec<u64>,
}

impl Exponential {
    /// With buckets about as wide as the sketch's bins, or as much wider as it takes for the values to fit.
    pub(crate) fn of(sketch: &Sketch) -> Self {
        let gamma = (1.0 + sketch.accuracy()) / (1.0 - sketch.accuracy());
        // The finest whose buckets are no narrower than the bins.
        let finest = (-libm::log2(libm::log2(gamma))).floor() as i32;
        let mut zero = 0;
        let (mut positive, mut negative) = (Vec::new(), Vec::new());
        for (middle, count) in sketch.sizes() {
            if middle == 0.0 {
                zero += count;
            } else {
                let power = libm::log2(middle.abs()) * f64::from(finest).exp2();
                let buckets = if middle > 0.0 { &mut positive } else { &mut negative };
                buckets.push((power.ceil() as i32 - 1, count));
            }
        }
        let span = |all: &[(i32, u64)]| {
            let indices = || all.iter().map(|(index, _)| *index);
            (indices().min().unwrap_or(0), indices().max().unwrap_or(0))
        };
        let fits = |coarser: i32| {
            [&positive, &negative].into_iter().all(|all| {
                let (low, high) = span(all);
                (high >> coarser) - (low >> coarser) < MOST
            })
        };
        // Each step takes buckets together two by two; after 31 there is one.
        let coarser = (0..31).find(|coarser| fits(*coarser)).unwrap_or(31);
        let buckets = |all: &[(i32, u64)]| {
            let (low, high) = span(all);
            let (first, last) = (low >> coarser, high >> coarser);
            if all.is_empty() {
                return Buckets::default();
            }
            let mut counts = vec![0; (last - first) as usize + 1];
            for (index, count) in all {
                counts[((index >> coarser) - first) as usize] += count;
            }
            Buckets { first, counts }
        };
        Exponential {
            scale: finest - coarser,
            zero,
            positive: buckets(&positive),
            negative: buckets(&negative),
        }
    }

    /// Writes the fields that only this kind of a data point has.
    pub(crate) fn write(&self, point: &mut Message) {
        point.signed(6, self.scale);
        point.fixed(7, self.zero);
        for (field, buckets) in [(8, &self.positive), (9, &self.negative)] {
            if !buckets.counts.is_empty() {
                let mut message = Message::default();
                message.signed(1, buckets.first);
                message.varints(2, &buckets.counts);
                point.message(field, &message);
            }
        }
        point.double(14, LEAST);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::sketch::mapping::Mapping;

    proptest! {
        #[test]
        fn values_are_in_their_buckets_or_nearer_than_the_accuracy(
            // No more decades than a sketch of this accuracy spans.
            (accuracy, values) in prop_oneof![(0.001..0.2f64, Just(1.5)), (0.1..0.2f64, Just(60.0))].prop_flat_map(
                |(accuracy, decades)| {
                    let value = prop_oneof![4 => (0.0..decades).prop_map(|x: f64| 10f64.powf(x)), 1 => Just(0.0)];
                    let signed = (value, prop::bool::ANY).prop_map(|(value, up)| if up { value } else { -value });
                    (Just(accuracy), prop::collection::vec(signed, 1..300))
                },
            ),
        ) {
            let mapping = Mapping::new(accuracy);
            let mut sketch = Sketch::new(mapping);
            values.iter().for_each(|value| sketch.bins_mut().add(mapping.bin(*value)));
            let made = Exponential::of(&sketch);
            prop_assert_eq!(made.zero, values.iter().filter(|value| **value == 0.0).count() as u64);
            for (buckets, sign) in [(&made.positive, 1.0), (&made.negative, -1.0)] {
                let mut own: Vec<f64> = values.iter().map(|value| value * sign).filter(|value| *value > 0.0).collect();
                own.sort_by(f64::total_cmp);
                prop_assert!(buckets.counts.len() <= MOST as usize);
                prop_assert_eq!(buckets.counts.iter().sum::<u64>(), own.len() as u64);
                let mut own = own.into_iter();
                for (index, count) in (buckets.first..).zip(&buckets.counts) {
                    // 2 to the power of 2 to the power of -scale, to the power of the index.
                    let power = |index: i32| (f64::from(index) * f64::from(-made.scale).exp2()).exp2();
                    let (low, high) = (power(index), power(index + 1));
                    for value in own.by_ref().take(*count as usize) {
                        prop_assert!(
                            value * (1.0 + accuracy) > low * (1.0 - 1e-9)
                                && value * (1.0 - accuracy) <= high * (1.0 + 1e-9),
                            "{value} in {low} to {high}"
                        );
                    }
                }
            }
        }
    }

    #[test]
    fn buckets_are_as_narrow_as_the_bins_where_they_fit() {
        for (accuracy, scale) in [(0.01, 5), (0.001, 8), (0.2, 0)] {
            let mapping = Mapping::new(accuracy);
            let mut sketch = Sketch::new(mapping);
            sketch.bins_mut().add(mapping.bin(3.0));
            let made = Exponential::of(&sketch);
            assert_eq!((made.scale, made.positive.counts), (scale, vec![1]), "{accuracy}");
        }
        let empty = Exponential::of(&Sketch::new(Mapping::new(0.01)));
        assert!(empty.positive.counts.is_empty() && empty.negative.counts.is_empty());
    }
}
