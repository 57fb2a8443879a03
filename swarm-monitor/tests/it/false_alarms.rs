//! How often detectors alarm where nothing changed, and how soon where something did. The tables of the crate page.
//!
//! `SWARM_LONG=1` makes 10,000 series of each kind in place of 300; best with `--release`, where it takes some minutes.

use std::f64::consts::TAU;

use swarm_monitor::{
    Adwin, ChangeDetector, Cusum, Direction, DriftDetector, KolmogorovSmirnov, Kswin, MannWhitney,
    PageHinkley, PopulationStability, RelativeMean, Sample, Scored, Verdict, Welch,
};

use crate::drift::Random;

/// Values in a season.
const SEASON: usize = 1_000;

/// A value that did not change, by its place in the season.
type Draw = fn(&mut Random, usize) -> f64;

const KINDS: [(&str, Draw); 5] = [
    ("normal", |random, _| 10.0 + random.normal()),
    ("exponential", |random, _| random.exponential()),
    ("heavy-tailed", |random, _| random.normal().exp()),
    ("counts", |random, _| random.count()),
    // Twice the deviation up and down.
    ("seasonal", |random, at| 10.0 + 2.0 * (TAU * at as f64 / SEASON as f64).sin() + random.normal()),
];

fn series() -> usize {
    if std::env::var_os("SWARM_LONG").is_some() { 10_000 } else { 300 }
}

/// The most alarms in so many series at this rate, luck included: four deviations.
fn most(rate: f64, series: usize) -> f64 {
    rate + 4.0 * (rate * (1.0 - rate) / series as f64).sqrt()
}

fn tests(alpha: f64) -> [Box<dyn DriftDetector>; 5] {
    [
        Box::new(RelativeMean::new(0.001).alpha(alpha)),
        Box::new(Welch::new(alpha)),
        Box::new(MannWhitney::new(alpha)),
        Box::new(KolmogorovSmirnov::new(alpha)),
        Box::new(PopulationStability::new(alpha)),
    ]
}

/// Of a series with seasons the baseline is what was there at the same time of five seasons before, as a
/// [`DriftCheck`](swarm_monitor::DriftCheck) takes the same hour of the week before.
#[test]
fn tests_of_two_samples_alarm_at_the_rate_that_was_asked_for() {
    let (series, before, after) = (series(), 500, 100);
    let rates = [0.01, 0.001];
    let mut wrong = Vec::new();
    eprintln!(
        "false alarms of {series}, {before} values then {after}; found of those moved by half a deviation"
    );
    for (seed, (kind, draw)) in KINDS.into_iter().enumerate() {
        let mut random = Random(seed as u64);
        let tests = rates.map(tests);
        let mut counted = [[(0, 0); 5]; 2];
        for _ in 0..series {
            let mut draw = |n: usize| (0..n).map(|at| draw(&mut random, at % after)).collect::<Vec<f64>>();
            let (baseline, recent) = (Sample::of(&draw(before)), draw(after));
            let by = 0.5 * baseline.variance().sqrt();
            let moved: Vec<f64> = recent.iter().map(|value| value + by).collect();
            let (recent, moved) = (Sample::of(&recent), Sample::of(&moved));
            for (test, (alarms, found)) in tests.iter().flatten().zip(counted.as_flattened_mut()) {
                let drift =
                    |sample| test.compare(&baseline, sample, Direction::Both).verdict == Verdict::Drift;
                *alarms += usize::from(drift(&recent));
                *found += usize::from(drift(&moved));
            }
        }
        for ((rate, tests), counted) in rates.iter().zip(&tests).zip(counted) {
            for (test, (alarms, found)) in tests.iter().zip(counted) {
                let (share, power) = (alarms as f64 / series as f64, found as f64 / series as f64);
                let name = test.name();
                eprintln!("  {kind:<13} {name:<22} {share:.4} at {rate}  {power:.3}");
                if share > most(1.5 * rate, series) || power <= 0.25 {
                    wrong.push(format!("{kind} {name}: {share} at {rate}, finds {power}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// Values of a series with seasons are taken less what was there a season before.
#[test]
fn detectors_of_single_values_alarm_no_more_often_than_they_say() {
    let (series, values) = (series() / 2, 1_000);
    // One alarm in so many values is one in a hundred of such series.
    let run_length = -(values as f64) / 0.99f64.ln();
    eprintln!(
        "alarms in {values} unchanged values, of {series}; values until a shift by a deviation is seen"
    );
    for (seed, (kind, draw)) in KINDS.into_iter().enumerate() {
        let mut random = Random(100 + seed as u64);
        let mut next = |at: usize| {
            let before = if kind == "seasonal" { draw(&mut random, at) } else { 0.0 };
            draw(&mut random, at) - before
        };
        let mut draw = |n: usize| (0..n).map(&mut next).collect::<Vec<f64>>();
        // As many baselines as there are tens of series, so that it is not one that is lucky or not.
        let baselines: Vec<Sample> = (0..series / 10).map(|_| Sample::of(&draw(20_000))).collect();
        let deviation = baselines[0].variance().sqrt();
        let make: [(f64, fn(f64, &Sample) -> Box<dyn ChangeDetector>); 4] = [
            (0.01, |length, baseline| Box::new(Scored::new(Cusum::standard().run_length(length), baseline))),
            (0.01, |length, baseline| Box::new(Scored::new(PageHinkley::new().run_length(length), baseline))),
            (0.01, |_, baseline| Box::new(Scored::new(Adwin::default(), baseline))),
            // Eight tests in a thousand values.
            (1.0 - (1.0f64 - 0.001).powi(8), |_, _| Box::new(Kswin::new(0.001).window(300, 100))),
        ];
        for (rate, make) in make {
            let (mut alarms, mut delay, mut missed) = (0, 0, 0);
            let make = |at: usize| make(run_length, &baselines[at / 10]);
            for at in 0..series {
                let mut detector = make(at);
                alarms +=
                    usize::from(draw(values).into_iter().fold(false, |any, v| detector.update(v) | any));
            }
            let shifts = series / 5;
            for at in 0..shifts {
                let mut detector = make(at);
                for value in draw(200) {
                    // After a false alarm it would learn from what comes, the shift too.
                    if detector.update(value) {
                        detector = make(at);
                    }
                }
                match draw(500).iter().position(|value| detector.update(value + deviation)) {
                    Some(at) => delay += at + 1,
                    None => missed += 1,
                }
            }
            let (name, share) = (make(0).name().to_owned(), alarms as f64 / series as f64);
            let delay = delay as f64 / (shifts - missed).max(1) as f64;
            eprintln!(
                "  {kind:<13} {name:<22} {share:.4} at {rate:.4}  {delay:.0} values, {missed} of {shifts} missed"
            );
            assert!(share <= most(1.5 * rate, series), "{kind} {name}: {share}");
            assert!(delay < 150.0 && missed == 0, "{kind} {name}: {delay} values, {missed} missed");
        }
    }
}
