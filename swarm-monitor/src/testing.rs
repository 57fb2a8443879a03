//! What tests of an application or of a sink need: a clock moved by hand, and the contract of
//! [`MetricSink`](crate::MetricSink) as a list of checks.

mod clock;
pub mod conformance;

pub use clock::FakeClock;
