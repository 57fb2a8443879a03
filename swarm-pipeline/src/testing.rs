//! What the tests of a store, an engine or an application need: injected faults, and the contract of
//! [`CheckpointStore`](crate::CheckpointStore) as a list of checks.

pub mod conformance;
mod faults;

pub use faults::{Fault, FaultyStore};
