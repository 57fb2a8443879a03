//! The distribution functions that the tests need.

use std::f64::consts::{PI, SQRT_2};

/// The upper tail of the standard normal distribution.
pub(crate) fn normal_tail(z: f64) -> f64 {
    0.5 * libm::erfc(z / SQRT_2)
}

/// The point with the upper tail `tail`, for 0 < `tail` < 1.
pub(crate) fn normal_point(tail: f64) -> f64 {
    if tail > 0.5 {
        return -normal_point(1.0 - tail);
    }
    // Abramowitz and Stegun 26.2.23, then Newton's method, which doubles the digits each time.
    let t = (-2.0 * tail.ln()).sqrt();
    let mut z = t
        - (2.515517 + t * (0.802853 + t * 0.010328)) / (1.0 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
    for _ in 0..4 {
        let density = (-0.5 * z * z).exp() / (2.0 * PI).sqrt();
        z += (normal_tail(z) - tail) / density;
    }
    z
}

/// The chance of being at least `t` from zero, to either side, under Student's distribution.
pub(crate) fn student_two_sided(t: f64, freedom: f64) -> f64 {
    if !t.is_finite() {
        return 0.0;
    }
    if freedom > 1e5 {
        // So close to normal that the incomplete beta function would cancel: Hill, algorithm 395, CACM 13, 1970.
        let a = freedom - 0.5;
        let b = 48.0 * a * a;
        let y = a * (t * t / freedom).ln_1p();
        let series = (((-0.4 * y - 3.3) * y - 24.0) * y - 85.5) / (0.8 * y * y + 100.0 + b) + y + 3.0;
        return 2.0 * normal_tail((series / b + 1.0) * y.sqrt());
    }
    half_beta(freedom / 2.0, freedom, t * t)
}

/// The upper tail of the chi-square distribution.
pub(crate) fn chi_square_tail(x: f64, freedom: f64) -> f64 {
    if x <= 0.0 {
        return 1.0;
    }
    let (a, x) = (freedom / 2.0, x / 2.0);
    let scale = (a * x.ln() - x - libm::lgamma(a)).exp();
    if x < a + 1.0 {
        // The series of the lower tail.
        let (mut term, mut sum, mut n) = (1.0 / a, 1.0 / a, a);
        while term > sum * 1e-17 {
            n += 1.0;
            term *= x / n;
            sum += term;
        }
        return 1.0 - scale * sum;
    }
    // Legendre's continued fraction of the upper tail, by Lentz's method.
    let (mut b, mut c) = (x + 1.0 - a, 1e300);
    let mut d = 1.0 / b;
    let mut fraction = d;
    for n in 1..10_000 {
        let step = f64::from(n) * (a - f64::from(n));
        b += 2.0;
        d = 1.0 / (step * d + b);
        c = b + step / c;
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-16 {
            break;
        }
    }
    scale * fraction
}

/// The regularised incomplete beta function of `a` and 1/2 at `freedom / (freedom + square)`.
fn half_beta(a: f64, freedom: f64, square: f64) -> f64 {
    let b = 0.5;
    let (x, rest) = (freedom / (freedom + square), square / (freedom + square));
    if rest == 0.0 {
        return 1.0;
    }
    if x == 0.0 {
        return 0.0;
    }
    // a·ln(x) as ln1p, since x is close to 1 for many degrees of freedom.
    let scale = (a * libm::log1p(-rest) + b * rest.ln() - ln_half_beta(a)).exp();
    if x < (a + 1.0) / (a + b + 2.0) {
        scale * beta_fraction(a, b, x) / a
    } else {
        1.0 - scale * beta_fraction(b, a, rest) / b
    }
}

/// The logarithm of the beta function of `a` and 1/2.
fn ln_half_beta(a: f64) -> f64 {
    if a < 20.0 {
        return libm::lgamma(a) + 0.5 * PI.ln() - libm::lgamma(a + 0.5);
    }
    // The difference of the two, which would cancel: Abramowitz and Stegun 6.1.47, as a series of its logarithm.
    let square = a * a;
    let series =
        (-1.0 / 8.0 + (1.0 / 192.0 - (1.0 / 640.0 - 17.0 / (14_336.0 * square)) / square) / square) / a;
    0.5 * PI.ln() - (0.5 * a.ln() + series)
}

/// The continued fraction of the incomplete beta function (DLMF 8.17.22), by Lentz's method.
fn beta_fraction(a: f64, b: f64, x: f64) -> f64 {
    const TINY: f64 = 1e-300;
    let away = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for n in 1..20_000 {
        let n = f64::from(n);
        let even = n * (b - n) * x / ((a + 2.0 * n - 1.0) * (a + 2.0 * n));
        d = 1.0 / away(1.0 + even * d);
        c = away(1.0 + even / c);
        fraction *= d * c;
        let odd = -(a + n) * (a + b + n) * x / ((a + 2.0 * n) * (a + 2.0 * n + 1.0));
        d = 1.0 / away(1.0 + odd * d);
        c = away(1.0 + odd / c);
        fraction *= d * c;
        if (d * c - 1.0).abs() < 1e-16 {
            break;
        }
    }
    fraction
}

/// The chance that the distance between two samples' distributions is at least `distance`, where nothing changed.
///
/// Exact by counting paths (Kim and Jennrich, 1973) while that is cheap, then Kolmogorov's limit with Stephens' correction
/// (JRSS B 32, 1970). Equal values make it too great, never too small.
pub(crate) fn kolmogorov_tail(distance: f64, n: u64, m: u64) -> f64 {
    let (few, many) = (n.min(m), n.max(m));
    if few.saturating_mul(many) <= 40_000 {
        exact(distance, few as usize, many as usize)
    } else {
        limit(distance, n, m)
    }
}

fn exact(distance: f64, n: usize, m: usize) -> f64 {
    let (rows, columns) = (n as f64, m as f64);
    // Halfway to the next lower distance there can be.
    let inside = ((distance * rows * columns - 1e-7).floor() + 0.5) / (rows * columns);
    let mut paths: Vec<f64> = (0..=m).map(|j| f64::from(u8::from(j as f64 / columns <= inside))).collect();
    for i in 1..=n {
        let weight = i as f64 / (i + m) as f64;
        let row = i as f64 / rows;
        paths[0] = if row > inside { 0.0 } else { weight * paths[0] };
        for j in 1..=m {
            let off = (row - j as f64 / columns).abs() > inside;
            paths[j] = if off { 0.0 } else { weight * paths[j] + paths[j - 1] };
        }
    }
    (1.0 - paths[m]).clamp(0.0, 1.0)
}

fn limit(distance: f64, n: u64, m: u64) -> f64 {
    let root = (n as f64 * (m as f64 / (n as f64 + m as f64))).sqrt();
    let lambda = (root + 0.12 + 0.11 / root) * distance;
    if lambda < 0.2 {
        return 1.0;
    }
    let term = |k: i32| f64::from(1 - 2 * (k % 2)) * (-2.0 * f64::from(k * k) * lambda * lambda).exp();
    (-2.0 * (1..100).map(term).sum::<f64>()).clamp(0.0, 1.0)
}
