//! Detectors side by side: when each sees a change that is known, and whether it sees one where there is none.
//!
//! `cargo run --release -p swarm-examples --example 37_monitor_detectors`
//!
//! Durations of two thousand tasks; from the thousandth on they take half as long again. Detectors that look value by value tell after how
//! many they see it; tests of two samples are asked every fifty values, about the last two hundred. Each is also shown the
//! same series without the change.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use swarm_monitor::{
    Adwin, ChangeDetector, Cusum, Direction, DriftDetector, KolmogorovSmirnov, Kswin, MannWhitney,
    PageHinkley, PopulationStability, RelativeMean, Sample, Scored, Verdict, Welch,
};

const CHANGE: usize = 1_000;

/// Exponential durations, the same in every run, from the change on `longer` times as long.
fn durations(seed: u64, longer: f64) -> Vec<f64> {
    let mut state = seed;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    (0..2_000).map(|at| -40.0 * uniform().ln() * if at < CHANGE { 1.0 } else { longer }).collect()
}

/// The number of the first value at which it speaks up.
type Watch = Box<dyn Fn(&[f64]) -> Option<usize>>;

/// One that looks value by value. What is learnt of the first 500 is not asked about.
fn online(make: impl Fn(&Sample) -> Box<dyn ChangeDetector> + 'static) -> Watch {
    Box::new(move |values| {
        let mut detector = make(&Sample::of(&values[..500]));
        (500..values.len()).find(|&at| detector.update(values[at]))
    })
}

/// A test of two samples: the first 500 and the last 200, every 50 values.
fn sampled(test: impl DriftDetector + 'static) -> Watch {
    Box::new(move |values| {
        let baseline = Sample::of(&values[..500]);
        let drifts = |&at: &usize| {
            let recent = Sample::of(&values[at - 200..at]);
            test.compare(&baseline, &recent, Direction::Both).verdict == Verdict::Drift
        };
        (700..=values.len()).step_by(50).find(drifts)
    })
}

fn main() {
    let detectors: Vec<(&str, Watch)> = vec![
        ("CUSUM, scored", online(|of| Box::new(Scored::new(Cusum::standard().run_length(1e5), of)))),
        ("Page-Hinkley, scored", online(|of| Box::new(Scored::new(PageHinkley::new().run_length(1e5), of)))),
        ("ADWIN, scored", online(|of| Box::new(Scored::new(Adwin::new(0.002), of)))),
        ("KSWIN, 600 and 250", online(|_| Box::new(Kswin::new(0.01).window(600, 250)))),
        ("relative mean, 20 %", sampled(RelativeMean::new(0.2))),
        ("Welch", sampled(Welch::new(0.001))),
        ("Mann-Whitney", sampled(MannWhitney::new(0.001))),
        ("Kolmogorov-Smirnov", sampled(KolmogorovSmirnov::new(0.001))),
        ("population stability", sampled(PopulationStability::new(0.001))),
    ];
    let (changed, steady) = (durations(7, 1.5), durations(7, 1.0));
    println!("{:<22} {:>12} {:>14}", "", "seen after", "without change");
    let mut late = Vec::new();
    for (name, watch) in &detectors {
        let (seen, false_alarm) = (watch(&changed), watch(&steady));
        let tell = |at: Option<usize>, none: &str| at.map_or_else(|| none.to_owned(), |at| at.to_string());
        let after = seen.and_then(|at| at.checked_sub(CHANGE));
        println!("{name:<22} {:>12} {:>14}", tell(after, "never"), tell(false_alarm, "silent"));
        if after.is_none_or(|after| after > 500) || false_alarm.is_some() {
            late.push(name);
        }
    }
    assert!(late.is_empty(), "too late, or alarmed without a change: {late:?}");
}
