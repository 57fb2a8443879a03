//! How often detectors alarm where nothing changed, and how soon where something did. The tables of the crate page.
//!
//! `SWARM_LONG=1` makes 10,000 series of each kind in place of 1,000.

use swarm_monitor::{
    Adwin, ChangeDetector, Cusum, Direction, DriftDetector, KolmogorovSmirnov, Kswin, MannWhitney,
    PageHinkley, PopulationStability, RelativeMean, Sample, Scored, Verdict, Welch,
};

use crate::drift::Random;

const KINDS: [(&str, fn(&mut Random) -> f64); 4] = [
    ("normal", |random| 10.0 + random.normal()),
    ("exponential", |random| random.exponential()),
    ("heavy-tailed", |random| random.normal().exp()),
    ("counts", |random| random.count()),
];

fn series() -> usize {
    if std::env::var_os("SWARM_LONG").is_some() { 10_000 } else { 1_000 }
}

/// The most alarms in so many series at this rate, luck included: four deviations.
fn most(rate: f64, series: usize) -> f64 {
    rate + 4.0 * (rate * (1.0 - rate) / series as f64).sqrt()
}

#[test]
fn tests_of_two_samples_alarm_at_the_rate_that_was_asked_for() {
    let alpha = 0.01;
    let (series, before, after) = (series(), 500, 100);
    let tests: [Box<dyn DriftDetector>; 5] = [
        Box::new(RelativeMean::new(0.001).alpha(alpha)),
        Box::new(Welch::new(alpha)),
        Box::new(KolmogorovSmirnov::new(alpha)),
        Box::new(PopulationStability::new(alpha)),
        Box::new(MannWhitney::new(alpha)),
    ];
    eprintln!(
        "false alarms at a rate of {alpha}, {before} values then {after}; power against +0.5 deviations"
    );
    for (seed, (kind, draw)) in KINDS.into_iter().enumerate() {
        let mut random = Random(seed as u64);
        let (mut alarms, mut found) = ([0; 5], [0; 5]);
        for _ in 0..series {
            let mut draw = |n: usize| (0..n).map(|_| draw(&mut random)).collect::<Vec<f64>>();
            let (baseline, recent) = (Sample::of(&draw(before)), draw(after));
            let by = 0.5 * baseline.variance().sqrt();
            let moved: Vec<f64> = recent.iter().map(|value| value + by).collect();
            let (recent, moved) = (Sample::of(&recent), Sample::of(&moved));
            for (at, test) in tests.iter().enumerate() {
                let drift =
                    |sample| test.compare(&baseline, sample, Direction::Both).verdict == Verdict::Drift;
                alarms[at] += usize::from(drift(&recent));
                found[at] += usize::from(drift(&moved));
            }
        }
        for (at, test) in tests.iter().enumerate() {
            let (rate, power) = (alarms[at] as f64 / series as f64, found[at] as f64 / series as f64);
            eprintln!("  {kind:<13} {:<28} {rate:.4}  {power:.3}", test.name());
            assert!(rate <= most(1.5 * alpha, series), "{kind} {}: {rate}", test.name());
            assert!(power > 0.5, "{kind} {}: finds {power}", test.name());
        }
    }
}

#[test]
fn detectors_of_single_values_alarm_no_more_often_than_they_say() {
    let (series, values) = (series() / 2, 1_000);
    // One alarm in so many values is one in a hundred of such series.
    let run_length = -(values as f64) / 0.99f64.ln();
    eprintln!("alarms in {values} unchanged values, then values until a shift by a deviation is seen");
    for (seed, (kind, draw)) in KINDS.into_iter().enumerate() {
        let mut random = Random(100 + seed as u64);
        let mut draw = |n: usize| (0..n).map(|_| draw(&mut random)).collect::<Vec<f64>>();
        let baseline = Sample::of(&draw(20_000));
        let deviation = baseline.variance().sqrt();
        let make: [(f64, &dyn Fn() -> Box<dyn ChangeDetector>); 4] = [
            (0.01, &|| Box::new(Scored::new(Cusum::standard().run_length(run_length), &baseline))),
            (0.01, &|| Box::new(Scored::new(PageHinkley::new().run_length(run_length), &baseline))),
            (0.01, &|| Box::new(Scored::new(Adwin::default(), &baseline))),
            // Eight tests in a thousand values.
            (1.0 - (1.0f64 - 0.001).powi(8), &|| Box::new(Kswin::new(0.001).window(300, 100))),
        ];
        for (rate, make) in make {
            let (mut alarms, mut delay) = (0, 0.0);
            for _ in 0..series {
                let mut detector = make();
                alarms +=
                    usize::from(draw(values).into_iter().filter(|&value| detector.update(value)).count() > 0);
            }
            let shifts = 50;
            for _ in 0..shifts {
                let mut detector = make();
                for value in draw(200) {
                    detector.update(value);
                }
                let moved = draw(2_000);
                let seen = moved.iter().position(|value| detector.update(value + deviation));
                delay += seen.map_or(2_000.0, |at| at as f64) / f64::from(shifts);
            }
            let (name, share) = (make().name().to_owned(), alarms as f64 / series as f64);
            eprintln!("  {kind:<13} {name:<28} {share:.4} at {rate:.4}  {delay:.0} values");
            assert!(share <= most(1.5 * rate, series), "{kind} {name}: {share}");
            assert!(delay < 150.0, "{kind} {name}: {delay} values until it sees a shift");
        }
    }
}
