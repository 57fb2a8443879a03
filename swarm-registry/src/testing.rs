//! What the tests of a store or an application need: a clock moved by hand, a store that fails on order, the contract of
//! [`VersionStore`](crate::VersionStore) as a list of checks, and a simulator of rollouts.

mod clock;
pub mod conformance;
mod faults;
mod simulation;

pub use clock::FakeClock;
pub use faults::{Fault, FaultyStore};
pub use simulation::{Draw, Simulated, Simulation, Traffic};
