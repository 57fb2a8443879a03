//! What tests of an application, a sink, a detector or a notifier need: a clock moved by hand, a notifier that keeps what it is told, series
//! that change where they are told to, and the contracts of [`MetricSink`](crate::MetricSink), [`DriftDetector`](crate::DriftDetector) and
//! [`Notifier`](crate::Notifier) as lists of checks.

mod clock;
pub mod conformance;
mod notifier;
mod synthetic;

pub use clock::FakeClock;
pub use notifier::RecordingNotifier;
pub use synthetic::{Shape, Synthetic};
