//! What the examples share: scratch folders, and progress on the terminal.
//!
//! Start reading at `01_first_steps`; `deploy` is the one that does a real job, `swarm` the one with all five crates.
#![forbid(unsafe_code)]

mod complexity;
mod progress;
mod scratch;

pub use complexity::complexity;
pub use progress::Progress;
pub use scratch::{Scratch, copy_tree};

/// The code of the root README, compiled as a doc test.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
