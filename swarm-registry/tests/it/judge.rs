use std::collections::BTreeMap;

use serde_json::Value;
use swarm_registry::{
    Criterion, Judge, Measure, MetricComparison, ObjectVersionStore, Split, Verdict, Version, VersionRegistry,
};

fn one(measure: impl Into<Measure>) -> BTreeMap<String, Measure> {
    BTreeMap::from([("m".to_owned(), measure.into())])
}

/// Compares the metric `m`, of which less is better.
fn compare(judge: &Judge, a: impl Into<Measure>, b: impl Into<Measure>) -> MetricComparison {
    judge.compare(&one(a), &one(b)).unwrap().metric("m").unwrap().clone()
}

fn lower() -> Judge {
    Judge::new([Criterion::lower_is_better("m")])
}

fn vectors(name: &str) -> Vec<Value> {
    let text = include_str!("../vectors/statistics.json");
    serde_json::from_str::<Value>(text).unwrap()[name].as_array().unwrap().clone()
}

/// All figures of a comparison beside scipy's, statsmodels' and numpy's: see `tests/vectors/statistics.py`.
fn agree(row: &Value, has: &MetricComparison) {
    let (low, high) = has.interval.unwrap();
    for (what, has) in [
        ("difference", has.difference.unwrap()),
        ("p", has.p.unwrap()),
        ("low", low),
        ("high", high),
        ("effect", has.effect.unwrap()),
    ] {
        let want = row[what].as_f64().unwrap();
        // A difference of shares or means near zero is known to the last digits of its parts.
        let near = (has - want).abs() <= 1e-9 * want.abs() || (what != "p" && (has - want).abs() <= 1e-15);
        assert!(near, "{} at {}: {what} {has:e}, not {want:e}", row["name"], row["level"]);
    }
}

fn judge_at(row: &Value, criterion: Criterion) -> Judge {
    Judge::new([criterion]).minimum_samples(2).alpha(row["level"].as_f64().unwrap())
}

fn samples(row: &Value, side: &str) -> Vec<f64> {
    serde_json::from_value(row[side].clone()).unwrap()
}

#[test]
fn welch_agrees_with_scipy() {
    for row in vectors("welch") {
        let judge = judge_at(&row, Criterion::lower_is_better("m"));
        agree(&row, &compare(&judge, samples(&row, "a"), samples(&row, "b")));
    }
}

#[test]
fn mann_whitney_agrees_with_scipy_and_all_pairs() {
    for row in vectors("mann_whitney") {
        let judge = judge_at(&row, Criterion::lower_is_better("m").ranks());
        agree(&row, &compare(&judge, samples(&row, "a"), samples(&row, "b")));
    }
}

#[test]
fn proportions_agree_with_statsmodels() {
    for row in vectors("proportions") {
        let share = |side: &str| {
            let (successes, trials) = serde_json::from_value(row[side].clone()).unwrap();
            Measure::Proportion { successes, trials }
        };
        let judge = judge_at(&row, Criterion::higher_is_better("m"));
        agree(&row, &compare(&judge, share("a"), share("b")));
    }
}

/// The founding example: violations 15 to 3, coverage 82 to 88, directions told, percentages as they are.
#[tokio::test]
async fn two_registered_versions_are_compared_with_direction() {
    let registry = VersionRegistry::with_store(ObjectVersionStore::memory()).await.unwrap();
    for (id, violations, coverage) in [("v1.0_current", 15.0, 82.0), ("v2.0_refactored", 3.0, 88.0)] {
        let version = Version::new(id).artifact(id).metric("v2_violations", violations);
        registry.register(version.metric("test_coverage", coverage)).await.unwrap();
    }
    let judge = Judge::new([
        Criterion::lower_is_better("v2_violations"),
        Criterion::higher_is_better("test_coverage"),
    ]);
    let better = registry.compare("v1.0_current", "v2.0_refactored", &judge).await.unwrap();
    assert_eq!(better.verdict(), Verdict::Pass);
    assert_eq!(better.metric("v2_violations").unwrap().improvement(), Some(0.8));
    let coverage = better.metric("test_coverage").unwrap().improvement().unwrap();
    assert!((coverage - 6.0 / 82.0).abs() < 1e-12);
    let worse = registry.compare("v2.0_refactored", "v1.0_current", &judge).await.unwrap();
    assert_eq!(worse.verdict(), Verdict::Fail);
    assert_eq!(
        worse.to_string(),
        "Fail v2_violations: 3.0000 to 15.0000 (400.0 % worse), the figure is worse by more than 0.1500\n\
         Fail test_coverage: 88.0000 to 82.0000 (6.8 % worse), the figure is worse by more than 4.4000"
    );
}

#[test]
fn what_cannot_be_told_is_inconclusive_with_the_reason() {
    let many = |value: f64| Measure::Samples(vec![value; 20]);
    let summary = |count, deviation| Measure::Summary { count, mean: 1.0, deviation };
    for (a, b, part) in [
        (many(1.0), Measure::Samples(vec![]), "0 samples of a version are fewer than 10"),
        (many(1.0), Measure::Samples(vec![1.0; 9]), "9 samples"),
        (many(1.0), many(f64::NAN), "is NaN"),
        (many(f64::INFINITY), many(1.0), "is inf"),
        (many(1.0), summary(50, -1.0), "negative"),
        (many(1.0), Measure::Proportion { successes: 5, trials: 50 }, "in different ways"),
        (
            Measure::Proportion { successes: 0, trials: 0 },
            Measure::Proportion { successes: 0, trials: 0 },
            "0 samples",
        ),
        (Measure::Proportion { successes: 9, trials: 5 }, many(1.0), "9 successes in 5 trials"),
    ] {
        let found = compare(&lower(), a.clone(), b.clone());
        assert_eq!(found.verdict, Verdict::Inconclusive, "{a:?} {b:?}");
        assert!(found.reason.contains(part), "{a:?} {b:?}: {}", found.reason);
    }
    let lacking = lower().compare(&one(1.0), &BTreeMap::new()).unwrap();
    assert_eq!(lacking.verdict(), Verdict::Inconclusive);
    assert_eq!(lacking.metrics()[0].reason, "the candidate lacks the metric");
}

#[test]
fn a_judge_that_makes_no_sense_lists_everything_that_is_wrong() {
    let judge = Judge::new([
        Criterion::lower_is_better("m").tolerance(-1.0),
        Criterion::higher_is_better("m").tolerance_absolute(f64::NAN),
    ]);
    let error = judge.alpha(1.5).minimum_samples(1).sequential(0).compare(&one(1.0), &one(1.0)).unwrap_err();
    for part in ["alpha is 1.5", "minimum of 1", "0 samples are planned", "stands twice", "is -1", "is NaN"] {
        assert!(error.to_string().contains(part), "{error}");
    }
    assert!(Judge::new([]).compare(&one(1.0), &one(1.0)).is_err());
}

/// Few samples of many planned: no verdict, whichever test it is, and however clear it looks.
#[test]
fn a_look_long_before_the_planned_number_tells_nothing() {
    let samples = |low: f64, high: f64| {
        Measure::Samples((0..10).map(|at| low + (high - low) * f64::from(at) / 9.0).collect())
    };
    let (baseline, candidate) = (samples(90.0, 100.0), samples(10.0, 95.0));
    let criterion = || Criterion::higher_is_better("m");
    for planned in [20_000, 100_000, u64::MAX] {
        for criterion in [criterion(), criterion().ranks()] {
            let judge = Judge::new([criterion]).sequential(planned);
            let found = compare(&judge, baseline.clone(), candidate.clone());
            assert_eq!(found.verdict, Verdict::Inconclusive, "{planned}: {found}");
        }
        let share = |successes| Measure::Proportion { successes, trials: 10 };
        let judge = Judge::new([criterion()]).sequential(planned);
        assert_eq!(compare(&judge, share(10), share(1)).verdict, Verdict::Inconclusive);
    }
    // What the fixed test finds, a look by ranks does not find at its own level.
    let ranks = || Judge::new([criterion().ranks()]);
    let (fixed, look) = (
        compare(&ranks(), baseline.clone(), candidate.clone()),
        compare(&ranks().sequential(100), baseline, candidate),
    );
    assert_eq!((fixed.verdict, look.verdict), (Verdict::Fail, Verdict::Inconclusive));
    let wider = look.interval.unwrap().1 > fixed.interval.unwrap().1;
    assert!(wider && look.level.unwrap() < 0.05, "{look:?}");
}

/// Nothing tells a sequential judge how many requests a figure stands for, or by how much equal samples could differ.
#[test]
fn figures_and_equal_samples_are_not_judged_at_each_look() {
    let judge = lower().sequential(200);
    for (a, b) in [(1.0, 9.0), (1.0, 1.0)] {
        assert_eq!(compare(&judge, a, b).verdict, Verdict::Inconclusive, "{a} to {b}");
        for judge in [&judge, &Judge::new([Criterion::lower_is_better("m").ranks()]).sequential(200)] {
            let early = compare(judge, vec![a; 199], vec![b; 500]);
            assert_eq!(early.verdict, Verdict::Inconclusive, "{early}");
            assert!(early.reason.contains("before the planned 200"), "{early}");
        }
        let due = compare(&judge, vec![a; 200], vec![b; 200]);
        assert_eq!(due.verdict, if b > a { Verdict::Fail } else { Verdict::Pass });
    }
}

/// One failure in ten is no news where one in a hundred fails: it happens in 9.6 % of such tens.
#[test]
fn a_failure_among_few_requests_is_no_proof() {
    let judge = Judge::new([Criterion::higher_is_better("m")]);
    let share = |successes, trials| Measure::Proportion { successes, trials };
    assert_eq!(compare(&judge, share(990, 1_000), share(9, 10)).verdict, Verdict::Inconclusive);
    assert_eq!(compare(&judge, share(990, 1_000), share(7, 10)).verdict, Verdict::Fail);
    // The chance of a `Fail` where both succeed by the same share, of all outcomes by their binomial chances.
    for (failing, trials) in [(0.01, 10), (0.01, 100), (0.1, 20), (0.02, 400)] {
        let mut chance = (1.0_f64 - failing).powi(trials);
        let mut failed = 0.0;
        for failures in 0..=trials as u64 {
            let baseline = share((100_000.0 * (1.0 - failing)) as u64, 100_000);
            let candidate = share(trials as u64 - failures, trials as u64);
            if compare(&judge, baseline, candidate).verdict == Verdict::Fail {
                failed += chance;
            }
            chance *= (trials as f64 - failures as f64) / (failures as f64 + 1.0) * failing / (1.0 - failing);
        }
        assert!(failed <= 0.025, "{failing} of {trials}: {failed}");
    }
}

/// More samples would not help, and the reason does not ask for them.
#[test]
fn where_nothing_is_tolerated_the_reason_says_so() {
    let share = |trials| Measure::Proportion { successes: trials, trials };
    let judge = Judge::new([Criterion::higher_is_better("m")]);
    let found = compare(&judge, share(5_000), share(5_000));
    assert_eq!(found.verdict, Verdict::Inconclusive);
    assert!(found.reason.ends_with("nothing is tolerated: give a tolerance_absolute"), "{found}");
    let judge = Judge::new([Criterion::higher_is_better("m").tolerance_absolute(0.01)]);
    assert_eq!(compare(&judge, share(5_000), share(5_000)).verdict, Verdict::Pass);
}

/// Constants need no random noise to be judged, and are judged the same way every time.
#[test]
fn constants_and_zeros_are_judged_by_what_is_seen() {
    for ranks in [false, true] {
        let mut criterion = Criterion::lower_is_better("m").tolerance_absolute(0.5);
        if ranks {
            criterion = criterion.ranks();
        }
        let judge = Judge::new([criterion]);
        for (a, b, verdict) in [
            (7.0, 7.0, Verdict::Pass),
            (7.0, 7.4, Verdict::Pass),
            (7.0, 9.0, Verdict::Fail),
            (7.0, 1.0, Verdict::Pass),
            (0.0, 0.0, Verdict::Pass),
            (0.0, 1.0, Verdict::Fail),
        ] {
            for _ in 0..5 {
                let found = compare(&judge, vec![a; 20], vec![b; 20]);
                // Within the tolerance and significantly worse, with every pair so: that passes.
                assert_eq!(found.verdict, verdict, "{a} to {b}, ranks {ranks}: {found}");
                assert_eq!(found.interval, Some((b - a, b - a)));
            }
        }
        assert_eq!(compare(&judge, vec![0.0; 20], vec![1.0; 20]).improvement(), None);
    }
    // No failure in 200 is not proof of none in the long run.
    let share = |successes| Measure::Proportion { successes, trials: 200 };
    let judge = Judge::new([Criterion::higher_is_better("m").tolerance_absolute(0.03)]);
    assert_eq!(compare(&judge, share(200), share(200)).verdict, Verdict::Pass);
    let strict = Judge::new([Criterion::higher_is_better("m").tolerance_absolute(0.01)]);
    assert_eq!(compare(&strict, share(200), share(200)).verdict, Verdict::Inconclusive);
}

/// Kayenta's known bad case: 7 of 10 values are 100 times worse.
#[test]
fn most_values_a_hundred_times_worse_fail() {
    let near = |at: usize| 1.0 + at as f64 / 100.0;
    let baseline: Vec<f64> = (0..10).map(near).collect();
    let candidate: Vec<f64> = (0..10).map(|at| if at < 7 { 100.0 * near(at) } else { near(at) }).collect();
    for criterion in [Criterion::lower_is_better("m"), Criterion::lower_is_better("m").ranks()] {
        let judge = Judge::new([criterion]);
        assert_eq!(compare(&judge, baseline.clone(), candidate.clone()).verdict, Verdict::Fail);
        assert_eq!(compare(&judge, candidate.clone(), baseline.clone()).verdict, Verdict::Pass);
    }
}

#[test]
fn ranks_that_are_worse_behind_a_typical_difference_of_zero_do_not_pass() {
    let failures = |ones: usize| (0..100).map(|at| if at < ones { 1.0 } else { 0.0 }).collect::<Vec<f64>>();
    let judge = Judge::new([Criterion::lower_is_better("m").ranks()]);
    let found = compare(&judge, failures(0), failures(30));
    assert_eq!((found.difference, found.verdict), (Some(0.0), Verdict::Inconclusive), "{found}");
    assert_eq!(compare(&judge, failures(30), failures(0)).verdict, Verdict::Pass);
    assert_eq!(compare(&lower(), failures(0), failures(30)).verdict, Verdict::Fail, "the means see it");
}

/// Random numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((x ^ (x >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self) -> f64 {
        -(1.0 - self.next()).ln()
    }

    fn normal(&mut self) -> f64 {
        (-2.0 * (1.0 - self.next()).ln()).sqrt() * (std::f64::consts::TAU * self.next()).cos()
    }
}

/// The share of streams in which one of 20 looks finds a difference that is not there.
fn false_winners(judge: &Judge, each: usize, draw: &dyn Fn(&mut Random) -> f64) -> f64 {
    const STREAMS: usize = 2_000;
    let mut random = Random(20_261_121);
    let mut found = 0;
    for _ in 0..STREAMS {
        // Count, mean and sum of squared deviations of both versions (Welford).
        let mut sums = [(0.0, 0.0, 0.0); 2];
        for _look in 0..20 {
            for sum in &mut sums {
                for _ in 0..each {
                    let sample = draw(&mut random);
                    sum.0 += 1.0;
                    let off = sample - sum.1;
                    sum.1 += off / sum.0;
                    sum.2 += off * (sample - sum.1);
                }
            }
            let [a, b] = sums.map(|(count, mean, squares)| Measure::Summary {
                count: count as u64,
                mean,
                deviation: (squares / (count - 1.0)).sqrt(),
            });
            let look = compare(judge, a, b);
            if look.p.is_some_and(|p| p <= look.level.unwrap()) {
                found += 1;
                break;
            }
        }
    }
    found as f64 / STREAMS as f64
}

#[test]
fn twenty_looks_find_a_false_winner_in_at_most_five_of_a_hundred_sequential_tests() {
    let draws: [(&str, &dyn Fn(&mut Random) -> f64); 3] = [
        ("normal", &|random| random.normal()),
        ("exponential", &|random| random.exponential()),
        ("one in ten", &|random| f64::from(random.next() < 0.1)),
    ];
    for (name, draw) in draws {
        for each in [10, 50] {
            let planned = 20 * each as u64;
            let sequential = false_winners(&lower().sequential(planned), each, draw);
            println!("{name}, {each} a look: {:.2} % false winners, sequential", sequential * 100.0);
            assert!(sequential <= 0.05, "{name}, {each} a look: {sequential}");
        }
        // The same by the fixed test, so that the simulation is known to see false winners.
        let fixed = false_winners(&lower(), 50, draw);
        println!("{name}, 50 a look: {:.2} % false winners, fixed", fixed * 100.0);
        assert!(fixed > 0.15, "{name}: {fixed}");
    }
}

/// What the validity costs: a real difference is still found, by the planned number of samples.
#[test]
fn a_sequential_test_finds_a_difference_that_is_there() {
    let mut random = Random(7);
    let judge = lower().sequential(400);
    let mut found = 0;
    for _ in 0..200 {
        let a: Vec<f64> = (0..400).map(|_| 10.0 + random.normal()).collect();
        let b: Vec<f64> = (0..400).map(|_| 10.7 + random.normal()).collect();
        found += usize::from(compare(&judge, a, b).verdict == Verdict::Fail);
    }
    assert!(found >= 180, "{found} of 200");
}

#[test]
fn a_sample_ratio_that_the_weights_do_not_explain_is_a_mismatch() {
    let split = Split::of([("v1", 80.0), ("v2", 20.0)]).unwrap();
    let counts = |v1, v2| BTreeMap::from([("v1".to_owned(), v1), ("v2".to_owned(), v2)]);
    let fair = split.sample_ratio(&counts(8_050, 1_950));
    // scipy.stats.chisquare([8050, 1950], [8000, 2000]): statistic 1.5625, p 0.2112995473337106.
    assert!((fair.chi_square - 1.5625).abs() < 1e-12);
    assert!((fair.p - 0.211_299_547_333_710_6).abs() < 1e-10);
    assert!(!fair.is_mismatch());
    assert!(split.sample_ratio(&counts(8_300, 1_700)).is_mismatch(), "3 points of the canary are lost");
    let stray = BTreeMap::from([("v3".to_owned(), 1)]);
    assert_eq!(split.sample_ratio(&stray).p, 0.0);
    assert_eq!(split.sample_ratio(&BTreeMap::new()).p, 1.0);
    // Whatever a source counts.
    assert!(split.sample_ratio(&counts(u64::MAX, u64::MAX)).is_mismatch());
}
