//! Shapes, clocks and peers shared by the benches.
//!
//! Every bench measures our crate and its peers on the same [`Shape`](shapes::Shape), checks the values that
//! come out, and keeps construction outside the timer. Criterion benches give the curves; the `targets` bench
//! measures everything interleaved in one process and prints ratios.
//!
//! Hand-written peers are always built. Libraries come with the feature `peers`.
#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "a bench that cannot set itself up has nothing better to do than stop"
)]

pub mod large;
pub mod measure;
pub mod nab;
pub mod ours;
pub mod peers;
pub mod runner;
pub mod schedule;
pub mod session;
pub mod shapes;
pub mod table;
pub mod trace;
