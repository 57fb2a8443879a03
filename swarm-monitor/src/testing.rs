//! What tests of an application or of a sink need: a clock moved by hand, a notifier that keeps what it is told, and the contract of
//! [`MetricSink`](crate::MetricSink) as a list of checks.

mod clock;
pub mod conformance;
mod notifier;

pub use clock::FakeClock;
pub use notifier::RecordingNotifier;
