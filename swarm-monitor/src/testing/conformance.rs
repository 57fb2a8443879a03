//! The contracts of [`MetricSink`], [`DriftDetector`] and [`Notifier`] as checks that any implementation can be put through.

use std::collections::BTreeMap;
use std::sync::Barrier;
use std::thread;

use chrono::{DateTime, TimeDelta, Utc};

use crate::alert::{Alert, AlertState, Severity};
use crate::drift::sample::Sample;
use crate::drift::{DriftDetector, Verdict};
use crate::metric::Direction;
use crate::notify::{Notification, Notifier};
use crate::sink::{Measurement, MetricSink, Tags};
use crate::testing::Synthetic;

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

/// Puts a detector through samples of every size and kind. One with a target has it at 100, and deviations of 1.
///
/// It must answer the same when asked again, find no drift where nothing changed, tell harmless directions from others both ways or not at all, find one of ten deviations
/// among some hundred normal values, and say that it does not know where there is nothing. P-values are within 0 and 1.
///
/// # Panics
///
/// If the detector panics, or does otherwise.
pub fn drift_detector(detector: &dyn DriftDetector) {
    let name = detector.name();
    assert!(!name.is_empty(), "a detector has a name");
    let normal = |seed, level| Sample::of(&Synthetic::new(seed).level(level).values(400));
    let (calm, higher, lower) = (normal(1, 100.0), normal(2, 110.0), normal(3, 90.0));
    let samples = [
        ("nothing", Sample::of(&[])),
        ("one value", Sample::of(&[1.0])),
        ("two values", Sample::of(&[1.0, 2.0])),
        ("a constant", Sample::of(&[5.0; 300])),
        ("zeros", Sample::of(&[0.0; 300])),
        ("greatest values", Sample::of(&[1e140, -1e140, 1e-140])),
        ("normal values", calm.clone()),
        ("higher values", higher.clone()),
    ];
    for (first, baseline) in &samples {
        for (second, recent) in &samples {
            for direction in [Direction::Both, Direction::HigherIsWorse, Direction::LowerIsWorse] {
                let finding = detector.compare(baseline, recent, direction);
                let again = detector.compare(baseline, recent, direction);
                assert_eq!(finding, again, "{name}: {first} and {second}, asked twice");
                let sound = finding.p_value.is_none_or(|p| (0.0..=1.0).contains(&p));
                assert!(sound, "{name}: {first} and {second}: {finding:?}");
                let empty = baseline.count() == 0 || recent.count() == 0;
                assert!(
                    !empty || finding.verdict == Verdict::Unknown,
                    "{name}: {first} and {second}: {finding:?}"
                );
            }
        }
    }
    let drifts = |from, to, direction| detector.compare(from, to, direction).verdict == Verdict::Drift;
    assert!(!drifts(&calm, &calm, Direction::Both), "{name}: what is the same");
    assert!(drifts(&calm, &higher, Direction::Both), "{name}: ten deviations");
    assert!(drifts(&calm, &higher, Direction::HigherIsWorse), "{name}: ten deviations up");
    assert!(drifts(&calm, &lower, Direction::LowerIsWorse), "{name}: ten deviations down");
    // One that knows of directions knows both.
    let up = drifts(&calm, &higher, Direction::LowerIsWorse);
    let down = drifts(&calm, &lower, Direction::HigherIsWorse);
    assert_eq!(up, down, "{name}: what is harmless is so both ways");
}

/// Tells a notifier, whose receiver is there, of everything an engine may tell: one alert and 500, firing and resolved, in hostile words, and
/// the same twice.
///
/// Answers with what it was told, to be compared with what the receiver got.
///
/// # Panics
///
/// If the notifier panics or does not accept something.
pub async fn notifier(notifier: &dyn Notifier) -> Vec<Notification> {
    let start = DateTime::UNIX_EPOCH + TimeDelta::days(20_000);
    let alert = |number: usize, summary: &str, resolved: Option<DateTime<Utc>>| Alert {
        id: format!("{number:016x}"),
        rule: "conformance".to_owned(),
        labels: BTreeMap::from([
            ("alertname".to_owned(), "conformance".to_owned()),
            ("agent".to_owned(), format!("Agent-{number}")),
            ("severity".to_owned(), "critical".to_owned()),
        ]),
        annotations: BTreeMap::from([("summary".to_owned(), summary.to_owned())]),
        severity: Severity::Critical,
        state: if resolved.is_some() { AlertState::Resolved } else { AlertState::Firing },
        since: start,
        fired: Some(start),
        resolved,
        value: Some(12.0),
        acknowledged: None,
    };
    let later = Some(start + TimeDelta::minutes(5));
    let hostile = "\"\\\n\u{0}\u{202e}é <!channel> @everyone {{ .Labels }} ".repeat(100);
    let mut told = Vec::new();
    for alerts in [
        vec![alert(1, "fires", None)],
        vec![alert(1, "fires", None)],
        vec![alert(1, "is over", later), alert(2, "fires", None)],
        vec![alert(3, &hostile, None)],
        (10..510).map(|number| alert(number, "one of many", None)).collect(),
    ] {
        let group = BTreeMap::from([("alertname".to_owned(), "conformance".to_owned())]);
        let valid = start + TimeDelta::hours(16);
        let notification = Notification::new("conformance".to_owned(), start, valid, group, alerts, None);
        let answer = notifier.notify(&notification).await;
        assert!(answer.is_ok(), "{}: {answer:?}", notification.title());
        told.push(notification);
    }
    told
}
