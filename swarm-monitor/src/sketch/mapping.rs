use crate::sketch::LEAST;

/// From a value to the number of its bin and back.
///
/// A bin spans at most a factor `gamma`, so that the middle of it is within `accuracy` of all values in it. In place of the logarithm stands
/// a cubic of the mantissa that is steep enough everywhere; it costs one percent more bins.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Mapping {
    accuracy: f64,
    bins_per_octave: f64,
}

/// Which bin a value is in: the sign, and for others than zero the size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Bin {
    Negative(i32),
    Zero,
    Positive(i32),
}

impl Bin {
    /// Whether its values are greater than those of `other`.
    pub(crate) fn is_above(self, other: Bin) -> bool {
        let key = |bin: Bin| match bin {
            Bin::Negative(index) => (-1, -index),
            Bin::Zero => (0, 0),
            Bin::Positive(index) => (1, index),
        };
        key(self) > key(other)
    }
}

const A: f64 = 6.0 / 35.0;
const B: f64 = -3.0 / 5.0;
const C: f64 = 10.0 / 7.0;

impl Mapping {
    /// For 1e-4 <= `accuracy` <= 0.2.
    pub(crate) fn new(accuracy: f64) -> Self {
        let gamma: f64 = (1.0 + accuracy) / (1.0 - accuracy);
        Mapping { accuracy, bins_per_octave: 1.0 / (gamma.ln() * C) }
    }

    pub(crate) fn accuracy(&self) -> f64 {
        self.accuracy
    }

    #[inline]
    pub(crate) fn bin(&self, value: f64) -> Bin {
        if value >= LEAST {
            Bin::Positive(self.index(value))
        } else if value <= -LEAST {
            Bin::Negative(self.index(-value))
        } else {
            Bin::Zero
        }
    }

    /// Of a finite value of at least [`LEAST`].
    #[inline]
    fn index(&self, value: f64) -> i32 {
        let bits = value.to_bits();
        let exponent = (bits >> 52) as i32 - 1023;
        let s = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52)) - 1.0;
        let log = f64::from(exponent) + ((A * s + B) * s + C) * s;
        // Above zero for every value there is, so that cutting off rounds down.
        (self.bins_per_octave * (log + 1024.0)) as i32
    }

    /// The middle of a bin: no value in it is further away than the accuracy, in proportion.
    pub(crate) fn value(&self, bin: Bin) -> f64 {
        let middle = |index: i32| {
            let (low, high) = (self.lower(index), self.lower(index + 1));
            2.0 * low * (high / (low + high))
        };
        match bin {
            Bin::Negative(index) => -middle(index),
            Bin::Zero => 0.0,
            Bin::Positive(index) => middle(index),
        }
    }

    fn lower(&self, index: i32) -> f64 {
        let log = f64::from(index) / self.bins_per_octave - 1024.0;
        let exponent = log.floor();
        let wanted = log - exponent;
        // The cubic is close to a straight line: Newton's method from there.
        let mut s = wanted;
        for _ in 0..6 {
            s -= (((A * s + B) * s + C) * s - wanted) / ((3.0 * A * s + 2.0 * B) * s + C);
        }
        (1.0 + s) * exponent.exp2()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_middle_of_a_bin_is_near_every_value_in_it(
            mantissa in 1.0..10.0f64, exponent in -99..139i32, accuracy in 0.001..0.2f64, sign in prop::bool::ANY,
        ) {
            let mapping = Mapping::new(accuracy);
            let value = mantissa * 10f64.powi(exponent) * if sign { 1.0 } else { -1.0 };
            let middle = mapping.value(mapping.bin(value));
            prop_assert!(((middle - value) / value).abs() <= accuracy * (1.0 + 1e-9), "{value} {middle}");
        }

        #[test]
        fn greater_values_are_in_no_lower_bin(a in LEAST..1e140f64, b in LEAST..1e140f64) {
            let mapping = Mapping::new(0.01);
            prop_assert_eq!(mapping.index(a).cmp(&mapping.index(b)).is_le() || mapping.index(a) == mapping.index(b), a <= b || mapping.index(a) == mapping.index(b));
        }
    }

    #[test]
    fn bins_are_hardly_more_than_logarithms_need() {
        let mapping = Mapping::new(0.01);
        let bins = mapping.index(1000.0) - mapping.index(1.0);
        let needed = 1000f64.ln() / (1.01f64 / 0.99).ln();
        assert!(f64::from(bins) <= needed * 1.02 + 1.0, "{bins} {needed}");
    }
}
