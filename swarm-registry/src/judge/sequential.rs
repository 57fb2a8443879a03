//! A test that may be looked at as often as one likes.
//!
//! The mixture sequential probability ratio test of Robbins ("Statistical methods related to the law of the iterated
//! logarithm", 1970), in the form of Johari, Koomen, Pekelis and Walsh ("Always valid inference: continuous monitoring of
//! A/B tests", 2022). With `z` the standardised difference, `r` the information gathered over that planned, and a normal
//! prior on the standardised effect whose variance is `c` over the information planned,
//!
//! ```text
//! ratio = (1 + r c)^(-1/2) · exp(z² · r c / (2 (1 + r c)))
//! ```
//!
//! is a mixture of likelihood ratios: where there is no difference it is a non-negative martingale that begins at 1. By
//! Ville's inequality it reaches `1 / alpha` at any time whatever with a chance of at most `alpha`. Solved for `z`, that is
//! a boundary, and the two-sided level of that boundary is what the fixed tests are asked at. The martingale is exact for
//! normal samples of known variance; otherwise it holds as sample means become normal, which is why tests by Student's
//! distribution and a minimum of samples stay in force.

use super::special::normal_tail;

/// The level for a look at `a` and `b` samples, where `planned` of each version is when one would like to decide.
pub(crate) fn level(alpha: f64, a: u64, b: u64, planned: u64) -> f64 {
    let (a, b) = (a as f64, b as f64);
    let information = a * b / (a + b) / (planned as f64 / 2.0);
    // The mixture whose boundary is lowest at the planned information: Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas,
    // "Time-uniform central limit theory and asymptotic confidence sequences", 2024, appendix B.2.
    let log = -2.0 * alpha.ln();
    let spread = information * (log + (log + 1.0).ln());
    let square = (1.0 + spread) / spread * (log + spread.ln_1p());
    2.0 * normal_tail(square.sqrt())
}
