//! Numenta's anomaly benchmark, standard profile: `Surprise` on made series, and on the benchmark's own where they are.
//!
//! `SWARM_NAB=folder cargo bench -p swarm-benches --bench nab`, with a copy of <https://github.com/numenta/NAB>, or its `data` and
//! `labels`. A threshold is one for all series, and the best for them, as the benchmark has it. Published on its series: windowed Gaussian 39.6, random
//! cut forest 51.7.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench")]

use std::path::Path;
use std::time::Instant;

use swarm_benches::measure::test_mode;
use swarm_benches::nab::corpus::{self, Series};
use swarm_benches::nab::made;
use swarm_benches::nab::score::{Profile, Score, score};
use swarm_monitor::{ChangeDetector, Surprise};

/// What a detector makes of a series, of whose values so many make a day.
type Detect = fn(&Series, usize) -> Vec<f64>;

const DETECTORS: [(&str, Detect); 3] =
    [("Surprise, a day as season", seasonal), ("Surprise", plain), ("mean and deviation so far", gaussian)];

fn seasonal(series: &Series, a_day: usize) -> Vec<f64> {
    surprise(Surprise::new().season(a_day), series)
}

fn plain(series: &Series, _: usize) -> Vec<f64> {
    surprise(Surprise::new(), series)
}

fn surprise(mut detector: Surprise, series: &Series) -> Vec<f64> {
    let taken = detector.save().len();
    let scores = series.values.iter().map(|&value| detector.score(value)).collect();
    assert_eq!(detector.save().len(), taken, "its memory does not grow with the values");
    scores
}

/// The naive way: deviations from the mean, both of the last 2,000 values or so.
fn gaussian(series: &Series, _: usize) -> Vec<f64> {
    let (mut n, mut mean, mut variance) = (0.0, 0.0, 0.0);
    let mut score = |value: f64| {
        let deviation = f64::sqrt(variance);
        let off = value - mean;
        let far = if off == 0.0 { 0.0 } else { (off.abs() / deviation).min(1e6) };
        n = f64::min(n + 1.0, 2_000.0);
        mean += off / n;
        variance += (off * (value - mean) - variance) / n;
        far
    };
    series.values.iter().map(|&value| score(value)).collect()
}

fn show(what: &str, series: &[Series]) -> Vec<Score> {
    let values: usize = series.iter().map(|series| series.values.len()).sum();
    let days: Vec<usize> = series.iter().map(Series::a_day).collect();
    println!("\n{what}: {} series, {values} values\n", series.len());
    println!("| | of 100 | windows found | alarms outside | ns a value |\n|---|---|---|---|---|");
    DETECTORS
        .iter()
        .map(|(name, detect)| {
            let from = Instant::now();
            let scores: Vec<Vec<f64>> =
                series.iter().zip(&days).map(|(one, day)| detect(one, *day)).collect();
            let took = from.elapsed().as_secs_f64() * 1e9 / values as f64;
            let score = score(series, &scores, Profile::STANDARD);
            let Score { normalised, found, windows, false_alarms, .. } = score;
            println!("| {name} | {normalised:.1} | {found} of {windows} | {false_alarms} | {took:.0} |");
            score
        })
        .collect()
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    made::write(folder.path(), &made::corpus(if test_mode() { 1..5 } else { 1..17 })).unwrap();
    let [seasonal, plain, gaussian] = show("Made", &corpus::read(folder.path()).unwrap())[..] else {
        unreachable!("a score for each")
    };
    assert!(seasonal.normalised > plain.normalised && plain.normalised > gaussian.normalised);
    let least = if test_mode() { 75.0 } else { 85.0 };
    assert!(seasonal.normalised >= least, "{seasonal:?}");
    match std::env::var_os("SWARM_NAB") {
        Some(folder) => {
            let series =
                corpus::read(Path::new(&folder)).unwrap_or_else(|error| panic!("SWARM_NAB: {error}"));
            show("Numenta's", &series);
        }
        None => println!("\nleft out: Numenta's own series, as SWARM_NAB names no folder with them"),
    }
}
