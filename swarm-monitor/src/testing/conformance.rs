//! The contract of [`MetricSink`] as checks that any sink can be put through.

use std::sync::Barrier;
use std::thread;

use crate::sink::{Measurement, MetricSink, Tags};

/// Puts a sink through everything a caller may do: odd numbers, odd strings, many tags, several threads at once.
///
/// Answers with what was recorded, so that the caller can compare it with what arrived.
///
/// # Panics
///
/// If the sink panics.
pub fn metric_sink(sink: &dyn MetricSink) -> Recorded {
    let mut recorded = Recorded::default();
    for value in [0.0, -0.0, 1.5, -1.5, 1e-300, 1e300, f64::MAX, f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        sink.record("conformance_value", Measurement::Observation(value), &[]);
        sink.record("conformance_gauge", Measurement::Gauge(value), &[]);
        recorded.values += 1;
    }
    for n in [0, 1, u64::from(u32::MAX)] {
        sink.record("conformance_count", Measurement::Count(n), &[]);
        recorded.counted += n;
    }
    let long = "é".repeat(5_000);
    let many: Vec<(&str, &str)> =
        (0..64).map(|at| if at % 2 == 0 { ("even", "yes") } else { ("odd", "yes") }).collect();
    let odd: [Tags<'_>; 6] = [
        &[("", "")],
        &[("a", "1"), ("a", "2")],
        &[("\"\n\\", "\u{0}")],
        &[("long", &long)],
        &many,
        &[("é", "ü")],
    ];
    for tags in odd {
        sink.record("conformance_tags", Measurement::Count(1), tags);
        sink.record("", Measurement::Count(1), tags);
        recorded.tagged += 1;
    }
    sink.record("conformance_event", Measurement::Event(&long), &[("agent", "Agent-7")]);
    let (threads, each) = (4, 1_000);
    let start = Barrier::new(threads);
    thread::scope(|scope| {
        for thread in 0..threads {
            let start = &start;
            scope.spawn(move || {
                let name = thread.to_string();
                start.wait();
                for _ in 0..each {
                    sink.record("conformance_threads", Measurement::Count(1), &[("thread", &name)]);
                    sink.record("conformance_threads", Measurement::Count(1), &[("thread", "all")]);
                }
            });
        }
    });
    recorded.by_threads = 2 * (threads * each) as u64;
    recorded
}

/// What [`metric_sink`] recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Recorded {
    /// Calls with an observation, and as many with a gauge. Of the ten, five are NaN, infinite or beyond 1e140.
    pub values: u64,
    /// The sum of the counts in `conformance_count`.
    pub counted: u64,
    /// The sum of the counts in `conformance_tags`, and as many in the metric without a name.
    pub tagged: u64,
    /// The sum of the counts in `conformance_threads`.
    pub by_threads: u64,
}
