//! What the tests of a store, an engine or an application need: virtual time, injected faults, and the contract of
//! [`CheckpointStore`](crate::CheckpointStore) as a list of checks.

pub mod conformance;
mod faults;
mod sim;

pub use faults::{Fault, FaultyStore};
pub use sim::{SimAttempt, SimEngine, SimReport, Witness};
