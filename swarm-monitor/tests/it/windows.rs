use std::time::Duration;

use proptest::prelude::*;
use swarm_monitor::{Measurement, PerformanceMonitor, Window};

use crate::{Timed, last, start};

#[test]
fn windows_of_every_length_see_what_fell_into_them() {
    let timed = Timed::new();
    let seconds = timed.monitor.counter("seconds", &[]);
    let hours = 9 * 24;
    for _ in 0..hours * 60 {
        seconds.add(60);
        timed.pass(60);
    }
    for (window, most, least) in [
        (last(60), 120, 60),
        (last(3_600), 3_660, 3_600),
        (last(3 * 3_600), 3 * 3_600 + 60, 3 * 3_600),
        (last(86_400), 86_400 + 3_600, 86_400),
        (last(7 * 86_400), 7 * 86_400 + 3_600, 7 * 86_400),
        (Window::before(Duration::from_secs(3_600), Duration::from_secs(3_600)), 3_660, 3_600),
        (
            Window::before(Duration::from_secs(86_400), Duration::from_secs(6 * 86_400)),
            6 * 86_400,
            6 * 86_400,
        ),
        (Window::between(start(), start()), 0, 0),
    ] {
        let summary = timed.monitor.select("seconds").summary(window).unwrap();
        assert!((least..=most).contains(&summary.count), "{window:?} {summary:?}");
        if summary.count > 0 {
            let rate = summary.rate().unwrap();
            assert!((rate - 1.0).abs() < 0.51, "{window:?} {rate} {summary:?}");
        }
    }
    assert_eq!(timed.monitor.select("seconds").total().unwrap().count, hours * 3_600);
}

#[test]
fn a_window_before_another_shares_nothing_with_it() {
    let timed = Timed::new();
    for _ in 0..48 * 60 {
        timed.monitor.record("x", 1.0, &[]);
        timed.pass(60);
    }
    for hours in [1, 5, 24] {
        let ago = Duration::from_secs(hours * 3_600);
        let recent = timed.monitor.select("x").summary(Window::last(ago)).unwrap();
        let before = timed.monitor.select("x").summary(Window::before(ago, ago)).unwrap();
        assert!(before.to <= recent.from, "{before:?} {recent:?}");
    }
}

#[test]
fn points_are_the_buckets_of_the_window() {
    let timed = Timed::new();
    for minute in 0..10 {
        timed.monitor.record(
            "x",
            f64::from(minute),
            &[("parity", if minute % 2 == 0 { "even" } else { "odd" })],
        );
        timed.monitor.record("n", Measurement::Count(2), &[]);
        timed.pass(60);
    }
    let points = timed.monitor.select("x").points(last(600)).unwrap();
    assert_eq!(
        points.iter().map(|point| point.mean).collect::<Vec<_>>(),
        (0..10).map(f64::from).collect::<Vec<_>>()
    );
    assert!(points.windows(2).all(|pair| pair[0].to == pair[1].from));
    let counts = timed.monitor.select("n").points(last(600)).unwrap();
    assert!(counts.iter().all(|point| point.count == 2 && point.rate() == Some(2.0 / 60.0)), "{counts:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// The witness keeps every value.
    #[test]
    fn percentiles_are_within_the_accuracy_of_a_value_that_was_there(
        values in prop::collection::vec(prop_oneof![-1e6..1e6f64, 0.001..0.1f64, Just(0.0)], 1..400),
        accuracy in prop_oneof![Just(0.01), 0.001..0.2f64], pauses in prop::collection::vec(0..4_000u64, 8),
    ) {
        let timed = Timed::with(PerformanceMonitor::builder().accuracy(accuracy));
        for (at, &value) in values.iter().enumerate() {
            timed.monitor.record("x", value, &[("half", if at % 2 == 0 { "a" } else { "b" })]);
            if at % 50 == 49 {
                timed.pass(pauses[at / 50]);
            }
        }
        let mut sorted = values;
        sorted.sort_by(f64::total_cmp);
        let sketch = timed.monitor.select("x").sketch(last(7 * 86_400)).unwrap();
        prop_assert_eq!(sketch.count(), sorted.len() as u64);
        // 2,048 bins of one sign reach down from its greatest value: the less so, the narrower they are.
        let octaves = 2_000.0 * ((1.0 + accuracy) / (1.0 - accuracy)).ln() / 0.7;
        let greatest = |sign: f64| sorted.iter().map(|value| value * sign).fold(0.0, f64::max);
        let least = |value: f64| greatest(value.signum()) / octaves.exp2();
        for q in [0.0, 0.01, 0.25, 0.5, 0.9, 0.99, 1.0] {
            let exact = sorted[(q * (sorted.len() - 1) as f64) as usize];
            let close = sketch.quantile(q).unwrap();
            if exact != 0.0 && exact.abs() < least(exact) {
                let within = least(exact) * 2.0;
                prop_assert!(close * exact.signum() > 0.0 && close.abs() <= within, "{q}: {close} {exact}");
                continue;
            }
            prop_assert!((close - exact).abs() <= accuracy * exact.abs() * (1.0 + 1e-9), "{q}: {close} {exact}");
        }
        let middle = sorted[sorted.len() / 2];
        if middle == 0.0 || middle.abs() >= least(middle) {
            let half = sketch.share_at_most(middle).unwrap();
            prop_assert!(half >= (sorted.len() / 2 + 1) as f64 / sorted.len() as f64);
        }
        prop_assert_eq!(sketch.share_at_most(f64::INFINITY), Some(1.0));
    }
}
