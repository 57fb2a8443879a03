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
    if tail <= 0.0 {
        return f64::INFINITY;
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

/// The `t` whose [`student_two_sided`] is `level`, for 0 < `level` < 1.
pub(crate) fn student_point(level: f64, freedom: f64) -> f64 {
    let (mut low, mut high) = (0.0, normal_point(level / 2.0).max(1.0));
    while student_two_sided(high, freedom) > level {
        if high > 1e300 {
            return f64::INFINITY;
        }
        (low, high) = (high, high * 2.0);
    }
    // Newton's method, kept between the two.
    let scale = std::f64::consts::LN_2 - 0.5 * freedom.ln() - ln_half_beta(freedom / 2.0);
    let mut t = high.min(normal_point(level / 2.0)).max(low);
    for _ in 0..200 {
        let off = student_two_sided(t, freedom) - level;
        if off > 0.0 {
            low = t;
        } else {
            high = t;
        }
        let slope = (scale - 0.5 * (freedom + 1.0) * (t * t / freedom).ln_1p()).exp();
        let newton = t + off / slope;
        let next = if newton > low && newton < high { newton } else { 0.5 * (low + high) };
        if (next - t).abs() <= 1e-15 * t {
            break;
        }
        t = next;
    }
    t
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

#[cfg(test)]
mod tests {
    use super::*;

    fn close(has: f64, want: f64) -> bool {
        (has - want).abs() <= 1e-9 * want.abs() || (has < 1e-300 && want < 1e-300)
    }

    /// scipy's figures: see `tests/vectors/statistics.py`.
    #[test]
    fn distributions_agree_with_scipy() {
        let vectors: serde_json::Value =
            serde_json::from_str(include_str!("../../tests/vectors/statistics.json")).unwrap();
        let rows = |name: &str| -> Vec<Vec<f64>> { serde_json::from_value(vectors[name].clone()).unwrap() };
        for row in rows("student") {
            let has = student_two_sided(row[0], row[1]);
            assert!(close(has, row[2]), "student {row:?}: {has}");
            if row[2] < 0.99 && row[2] > 1e-12 {
                let back = student_point(row[2], row[1]);
                assert!((back - row[0]).abs() <= 1e-9 * row[0], "student {row:?} back: {back}");
            }
        }
        for row in rows("normal") {
            assert!(close(normal_tail(row[0]), row[1]), "normal {row:?}");
            let back = normal_point(row[1]);
            assert!((back - row[0]).abs() <= 1e-9, "normal {row:?} back: {back}");
        }
        for row in rows("chi_square") {
            let has = chi_square_tail(row[0], row[1]);
            assert!(close(has, row[2]), "chi-square {row:?}: {has}");
        }
    }
}
