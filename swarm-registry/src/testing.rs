//! What the tests of a store or an application need: a clock moved by hand, a store that fails on order, and the contract
//! of [`VersionStore`](crate::VersionStore) as a list of checks.

mod clock;
pub mod conformance;
mod faults;

pub use clock::FakeClock;
pub use faults::{Fault, FaultyStore};
