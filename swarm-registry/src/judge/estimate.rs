//! The three tests: what they say of a difference, candidate minus baseline.

use super::special::{normal_point, normal_tail, student_point, student_two_sided};

/// What a test found. The difference is in the unit of the metric.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) difference: f64,
    pub(crate) interval: (f64, f64),
    /// The chance of a difference at least so large, to either side, where there is none.
    pub(crate) p: f64,
    pub(crate) effect: Option<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    pub(crate) count: f64,
    pub(crate) mean: f64,
    pub(crate) variance: f64,
}

impl Summary {
    pub(crate) fn of(samples: &[f64]) -> Self {
        let count = samples.len() as f64;
        // From the first sample on, so that a small spread about a large mean is not lost.
        let start = samples.first().copied().unwrap_or_default();
        let mean = start + samples.iter().map(|sample| sample - start).sum::<f64>() / count;
        let squares: f64 = samples.iter().map(|sample| (sample - mean).powi(2)).sum();
        // Exactly constant samples have no spread, whatever rounding made of their mean.
        let constant = samples.windows(2).all(|pair| pair[0] == pair[1]);
        match samples.first() {
            Some(first) if constant => Summary { count, mean: *first, variance: 0.0 },
            _ => Summary { count, mean, variance: squares / (count - 1.0) },
        }
    }
}

/// Welch, "The generalization of Student's problem when several different population variances are involved", 1947. The
/// effect is Cohen's d over the root of the mean variance.
pub(crate) fn welch(a: Summary, b: Summary, level: f64) -> Estimate {
    let difference = b.mean - a.mean;
    let (va, vb) = (a.variance / a.count, b.variance / b.count);
    let error = (va + vb).sqrt();
    if error == 0.0 {
        // Two constants: what is seen is what is.
        let p = if difference == 0.0 { 1.0 } else { 0.0 };
        let effect = (difference == 0.0).then_some(0.0);
        return Estimate { difference, interval: (difference, difference), p, effect };
    }
    // Shares, so that tiny variances do not underflow when they are squared.
    let (wa, wb) = (va / (va + vb), vb / (va + vb));
    let freedom = 1.0 / (wa * wa / (a.count - 1.0) + wb * wb / (b.count - 1.0));
    let reach = student_point(level, freedom) * error;
    let effect = difference / ((a.variance + b.variance) / 2.0).sqrt();
    Estimate {
        difference,
        interval: (difference - reach, difference + reach),
        p: student_two_sided(difference / error, freedom),
        effect: Some(effect),
    }
}

/// Mann and Whitney, "On a test of whether one of two random variables is stochastically larger than the other", 1947, by
/// the normal approximation with the corrections for ties and continuity. The difference is the Hodges-Lehmann shift with
/// its interval (Hollander and Wolfe, *Nonparametric Statistical Methods*, 4.3); the effect is Cliff's delta.
pub(crate) fn mann_whitney(a: &[f64], b: &[f64], level: f64) -> Estimate {
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    a.sort_unstable_by(f64::total_cmp);
    b.sort_unstable_by(f64::total_cmp);
    let (n, m) = (a.len() as f64, b.len() as f64);
    let pairs = n * m;
    // Pairs in which the candidate is larger, ties by half.
    let wins = pairs - 0.5 * (pairs_up_to(&a, &b, 0.0, Bound::Below) + pairs_up_to(&a, &b, 0.0, Bound::Upto));
    let total = n + m;
    let variance = pairs / 12.0 * ((total + 1.0) - ties(&a, &b) / (total * (total - 1.0)));
    let deviation = variance.max(0.0).sqrt();
    let away = ((wins - pairs / 2.0).abs() - 0.5).max(0.0);
    let p = if deviation == 0.0 { 1.0 } else { (2.0 * normal_tail(away / deviation)).min(1.0) };
    let effect = Some(2.0 * wins / pairs - 1.0);
    let median = 0.5
        * (nth_difference(&a, &b, ((pairs + 1.0) / 2.0).floor())
            + nth_difference(&a, &b, (pairs / 2.0).floor() + 1.0));
    let cut = (pairs / 2.0 - normal_point(level / 2.0) * deviation).floor();
    // Neither where it is no number.
    let interval = if cut >= 1.0 {
        (nth_difference(&a, &b, cut), nth_difference(&a, &b, pairs + 1.0 - cut))
    } else {
        (f64::NEG_INFINITY, f64::INFINITY)
    };
    Estimate { difference: median, interval, p, effect }
}

enum Bound {
    Below,
    Upto,
}

/// How many differences of the sorted samples, of `b` minus `a`, are below or up to `bound`.
fn pairs_up_to(a: &[f64], b: &[f64], bound: f64, kind: Bound) -> f64 {
    let mut count = 0_usize;
    let mut within = 0;
    for from in a {
        // The larger the baseline's, the more of the candidate's are within.
        while within < b.len()
            && match kind {
                Bound::Below => b[within] - from < bound,
                Bound::Upto => b[within] - from <= bound,
            }
        {
            within += 1;
        }
        count += within;
    }
    count as f64
}

/// The `nth` smallest difference, from 1, without making all of them: bisects the bits of the number.
fn nth_difference(a: &[f64], b: &[f64], nth: f64) -> f64 {
    // Finite numbers in the order of their values as integers in order.
    let key = |value: f64| {
        let bits = value.to_bits() as i64;
        if bits < 0 { i64::MIN - bits } else { bits }
    };
    let value = |key: i64| f64::from_bits(if key < 0 { i64::MIN - key } else { key } as u64);
    let (mut low, mut high) = (key(b[0] - a[a.len() - 1]), key(b[b.len() - 1] - a[0]));
    while low < high {
        let middle = low + ((high as i128 - low as i128) / 2) as i64;
        if pairs_up_to(a, b, value(middle), Bound::Upto) >= nth {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    value(low)
}

/// The sum of `t³ - t` over groups of `t` equal samples.
fn ties(a: &[f64], b: &[f64]) -> f64 {
    let mut all: Vec<f64> = a.iter().chain(b).copied().collect();
    all.sort_unstable_by(f64::total_cmp);
    all.chunk_by(|x, y| x == y).map(|group| group.len() as f64).map(|t| t * t * t - t).sum()
}

/// Where fewer are expected in a cell, normal tails are too thin: at 100 a one-sided 2.5 % is 2.8 %, at 0.1 it is 10 %.
const EXACT_BELOW: f64 = 100.0;

/// Fisher's exact test where a cell expects little, else the score test with pooled variance; and Newcombe's hybrid score
/// interval ("Interval estimation for the difference between independent proportions", 1998, method 10), which holds where
/// a share is 0 or 1 too. The effect is Cohen's h.
pub(crate) fn two_proportions(a: (u64, u64), b: (u64, u64), level: f64) -> Estimate {
    let (na, nb) = (a.1 as f64, b.1 as f64);
    let (pa, pb) = (a.0 as f64 / na, b.0 as f64 / nb);
    let difference = pb - pa;
    let pooled = (a.0 as f64 + b.0 as f64) / (na + nb);
    let error = (pooled * (1.0 - pooled) * (1.0 / na + 1.0 / nb)).sqrt();
    let expected = na.min(nb) * pooled.min(1.0 - pooled);
    let p = if error == 0.0 {
        1.0
    } else if expected < EXACT_BELOW {
        fisher(a, b)
    } else {
        (2.0 * normal_tail((difference / error).abs())).min(1.0)
    };
    let z = normal_point(level / 2.0);
    let (low_a, high_a) = wilson(pa, na, z);
    let (low_b, high_b) = wilson(pb, nb, z);
    let low = difference - ((pb - low_b).powi(2) + (high_a - pa).powi(2)).sqrt();
    let high = difference + ((high_b - pb).powi(2) + (pa - low_a).powi(2)).sqrt();
    let effect = 2.0 * pb.sqrt().asin() - 2.0 * pa.sqrt().asin();
    Estimate { difference, interval: (low, high), p, effect: Some(effect) }
}

/// Fisher, "On the interpretation of χ² from contingency tables, and the calculation of P", 1922: given how many of both had
/// the rarer outcome, the chance that one has at least, or at most, as many as it has; twice the smaller one.
fn fisher(a: (u64, u64), b: (u64, u64)) -> f64 {
    let (small, large) = if a.1 <= b.1 { (a, b) } else { (b, a) };
    let sizes = (small.1 as f64, large.1 as f64);
    let successes = (small.0 as f64, large.0 as f64);
    let failures = ((small.1 - small.0) as f64, (large.1 - large.0) as f64);
    let rarer = successes.0 + successes.1 <= failures.0 + failures.1;
    let (seen, others) = if rarer { successes } else { failures };
    let all = seen + others;
    // By how much more likely `k + 1` are than `k`.
    let ratio = |k: f64| (all - k) * (sizes.0 - k) / ((k + 1.0) * (sizes.1 - all + k + 1.0));
    // More and fewer than were seen, beside the chance of those. The sums are short, for the cell expects little.
    let sum = |step: &dyn Fn(f64) -> f64, last: f64, by: f64| {
        let (mut k, mut chance, mut sum) = (seen, 1.0, 0.0);
        while k != last && sum < f64::MAX {
            let factor = step(k);
            chance *= factor;
            sum += chance;
            if factor < 1.0 && chance < sum * 1e-17 {
                break;
            }
            k += by;
        }
        sum
    };
    let more = sum(&ratio, all.min(sizes.0), 1.0);
    let fewer = sum(&|k| 1.0 / ratio(k - 1.0), (all - sizes.1).max(0.0), -1.0);
    let tail = (1.0 + more.min(fewer)) / (1.0 + more + fewer);
    (2.0 * tail).min(1.0)
}

fn wilson(p: f64, n: f64, z: f64) -> (f64, f64) {
    let square = z * z;
    let middle = (p + square / (2.0 * n)) / (1.0 + square / n);
    let reach = z / (1.0 + square / n) * (p * (1.0 - p) / n + square / (4.0 * n * n)).sqrt();
    ((middle - reach).max(0.0), (middle + reach).min(1.0))
}
