//! How often the means of two samples would be so far apart if the same values had been dealt out by chance.

use crate::drift::sample::Sample;
use crate::drift::special::normal_tail;

/// The chance that `recent` has a mean as far from the baseline's as it has, or farther the same way, if both were drawn by chance from all
/// values: the tail of the permutation test.
///
/// By the saddlepoint approximation of sampling without replacement (Robinson, JRSS B 44, 1982, in the form of Skovgaard, Journal of Applied
/// Probability 24, 1987), which is within a quarter of the counted chance also for a dozen values with heavy tails. `None` where the sizes do
/// not tell: all the same, or the recent values are among the farthest there are.
pub(super) fn tail(baseline: &Sample, recent: &Sample) -> Option<f64> {
    let (before, after) = (baseline.count() as f64, recent.count() as f64);
    let (all, share) = (before + after, after / (before + after));
    let values =
        || baseline.sizes().iter().chain(recent.sizes()).map(|&(value, count)| (value, count as f64));
    let mean = values().map(|(value, count)| value * count).sum::<f64>() / all;
    let deviation = (values().map(|(value, count)| (value - mean).powi(2) * count).sum::<f64>() / all).sqrt();
    let exact = pooled_deviation(baseline, recent);
    // A sketch may have nearly equal values as one.
    if !deviation.is_finite() || deviation < 0.1 * exact || exact == 0.0 {
        return None;
    }
    // The sum of the recent values, each in deviations from the mean of all; the means are exact, also where sizes are not.
    let apart = (recent.mean() - baseline.mean()) / exact;
    let side = if apart < 0.0 { -1.0 } else { 1.0 };
    let sum = apart.abs() * before * share;
    // Where there are few sizes for many values, each is reached once.
    let values = || values().map(|(value, count)| (side * (value - mean) / deviation, count));

    // Each value is drawn with a chance of its own, whose logarithmic odds are `even + tilt * value`, such that on average there are as many as
    // were drawn, with their sum.
    let odds = (share / (1.0 - share)).ln();
    let (mut even, mut tilt) = (0.0, 0.0);
    let (mut k_ee, mut k_et, mut k_tt) = (0.0, 0.0, 0.0);
    let mut settled = false;
    for _ in 0..100 {
        let (mut number, mut total) = (0.0, 0.0);
        (k_ee, k_et, k_tt) = (0.0, 0.0, 0.0);
        for (value, count) in values() {
            let chance = 1.0 / (1.0 + (-(odds + even + tilt * value)).exp());
            let spread = count * chance * (1.0 - chance);
            number += count * chance;
            total += count * chance * value;
            k_ee += spread;
            k_et += spread * value;
            k_tt += spread * value * value;
        }
        let (off_number, off_total) = (after - number, sum - total);
        let determinant = k_ee * k_tt - k_et * k_et;
        if determinant.is_nan() || determinant <= 0.0 {
            return None;
        }
        let step_even = (k_tt * off_number - k_et * off_total) / determinant;
        let step_tilt = (k_ee * off_total - k_et * off_number) / determinant;
        // Far away the odds are no straight line.
        let shorten = (1.0 / step_even.abs().max(step_tilt.abs())).min(1.0);
        even += shorten * step_even;
        tilt += shorten * step_tilt;
        if step_even.abs() + step_tilt.abs() < 1e-9 {
            settled = true;
            break;
        }
    }
    if !settled {
        return None;
    }
    let cumulant: f64 = values()
        .map(|(value, count)| {
            let by = even + tilt * value;
            // Of the greater of the two, so that none is infinite.
            let part = if by > 0.0 {
                by + ((1.0 - share) * (-by).exp_m1()).ln_1p()
            } else {
                (share * by.exp_m1()).ln_1p()
            };
            count * part
        })
        .sum();
    let w = (2.0 * (even * after + tilt * sum - cumulant)).sqrt();
    let u = tilt * ((k_ee * k_tt - k_et * k_et) / (all * share * (1.0 - share))).sqrt();
    // The two terms cancel close to the mean, where nothing depends on them.
    if tilt.abs() < 0.01 * all.sqrt().recip() {
        return Some(0.5);
    }
    if w.is_nan() || u.is_nan() || w <= 0.0 || u <= 0.0 {
        return None;
    }
    let density = (-0.5 * w * w).exp() / std::f64::consts::TAU.sqrt();
    Some((normal_tail(w) + density * (1.0 / u - 1.0 / w)).clamp(0.0, 1.0))
}

/// Of all values around the mean of all.
fn pooled_deviation(a: &Sample, b: &Sample) -> f64 {
    let (n, m) = (a.count() as f64, b.count() as f64);
    let within = a.variance() * (n - 1.0) + b.variance() * (m - 1.0);
    let between = (a.mean() - b.mean()).powi(2) * (n * (m / (n + m)));
    ((within + between) / (n + m)).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way to choose as many of the values.
    fn counted(baseline: &[f64], recent: &[f64]) -> f64 {
        let all = [baseline, recent].concat();
        let (mean, drawn) = (all.iter().sum::<f64>() / all.len() as f64, recent.iter().sum::<f64>());
        let side = drawn - mean * recent.len() as f64;
        let (mut as_far, mut ways) = (0.0, 0.0);
        for chosen in 0..1u32 << all.len() {
            if chosen.count_ones() as usize == recent.len() {
                let sum: f64 = (0..all.len()).filter(|at| chosen >> at & 1 == 1).map(|at| all[at]).sum();
                ways += 1.0;
                as_far += f64::from(u8::from((sum - drawn) * side.signum() >= -1e-9));
            }
        }
        as_far / ways
    }

    #[test]
    fn the_tail_is_that_of_all_ways_to_deal_the_values_out() {
        let samples: [(&[f64], &[f64]); 5] = [
            (&[1.1, 2.3, 2.9, 4.2, 5.7, 6.1, 7.4, 8.8, 9.6, 10.3], &[7.0, 8.1, 9.9, 10.4, 11.2, 12.7]),
            (&[1.1, 2.3, 2.9, 4.2, 5.7, 6.1, 7.4, 8.8, 9.6, 10.3], &[0.1, 1.7, 2.0, 3.3, 4.4, 5.2]),
            // With heavy tails: one value is most of the difference.
            (&[0.1, 0.2, 0.2, 0.3, 0.5, 0.6, 0.8, 1.0, 1.3, 1.9, 2.2], &[0.3, 0.4, 2.5, 3.1, 30.0]),
            (&[0.1, 0.2, 0.3, 0.3, 0.5, 0.6, 0.8, 1.0, 3.0, 9.0, 31.0], &[0.1, 0.2, 0.4, 0.5, 0.7]),
            (&[-3.0, -1.0, 0.0, 1.0, 2.5, 4.0, 6.0, 7.0], &[-2.0, 0.5, 1.5, 2.0, 3.0, 5.0, 8.0, 9.0]),
        ];
        for (baseline, recent) in samples {
            let (exact, near) = (counted(baseline, recent), tail(&Sample::of(baseline), &Sample::of(recent)));
            assert!(near.is_some_and(|near| (near / exact - 1.0).abs() < 0.25), "{exact} {near:?}");
        }
    }

    #[test]
    fn it_does_not_tell_of_what_was_dealt_as_far_as_can_be() {
        let low: Vec<f64> = (0..40).map(f64::from).collect();
        let high: Vec<f64> = (100..140).map(f64::from).collect();
        assert_eq!(tail(&Sample::of(&low), &Sample::of(&high)), None);
        assert_eq!(tail(&Sample::of(&[5.0; 40]), &Sample::of(&[5.0; 40])), None);
        assert_eq!(tail(&Sample::of(&[]), &Sample::of(&low)), None);
        let great = tail(&Sample::of(&[1e139, 2e139, -1e139]), &Sample::of(&[1.5e139, 1e139]));
        assert!(great.is_some_and(|tail| tail > 0.1), "{great:?}");
    }
}
