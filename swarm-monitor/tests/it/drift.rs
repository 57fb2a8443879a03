use swarm_monitor::{
    Adwin, Description, Direction, DriftDetector, ErrorKind, Finding, KolmogorovSmirnov, MannWhitney,
    Measurement, PerformanceMonitor, PopulationStability, RelativeMean, Sample, Streamed, Verdict, Welch,
    Window,
};

use crate::Timed;

/// A week of one value every six minutes around `before`, then an hour of one a minute around `after`.
fn week(timed: &Timed, name: &str, before: f64, after: f64) {
    let wobble = |at: u64| 1.0 + ((at * 7_919 % 101) as f64 - 50.0) / 1_000.0;
    for at in 0..168 * 10 {
        timed.monitor.record(name, before * wobble(at), &[("agent", "Agent-7")]);
        timed.pass(360);
    }
    for at in 0..60 {
        timed.monitor.record(name, after * wobble(at), &[("agent", "Agent-7")]);
        timed.pass(60);
    }
}

#[test]
fn the_founding_cycle_time_drifts_at_a_fifth_and_not_below() {
    for (after, threshold, drifts) in
        [(45.2, 0.2, false), (52.0, 0.2, false), (55.0, 0.2, true), (52.0, 0.1, true)]
    {
        let timed = Timed::new();
        week(&timed, "agent_cycle_time", 45.2, after);
        let drift = timed.monitor.detect_drift("agent_cycle_time", threshold).unwrap();
        assert_eq!(drift.is_some(), drifts, "{after} {drift:?}");
        if let Some(drift) = drift {
            assert!((drift.change().unwrap() - (after / 45.2 - 1.0)).abs() < 0.01);
            assert!(drift.finding.p_value.unwrap() < 0.001);
        }
    }
}

#[test]
fn a_report_says_in_a_sentence_what_was_compared() {
    let timed = Timed::new();
    week(&timed, "agent_cycle_time", 45.2, 55.0);
    let drift =
        timed.monitor.select("agent_cycle_time").tag("agent", "Agent-7").drift().any_hour().check().unwrap();
    assert_eq!(
        drift.to_string(),
        "agent_cycle_time{agent=\"Agent-7\"} drifted: mean 54.98 in 60 values after 45.2 in 1680 (+21.6 %), \
         relative mean p < 0.0001"
    );
    assert!(drift.baseline.to <= drift.recent.from);
}

#[test]
fn coverage_that_rises_and_violations_that_fall_are_no_drift() {
    for (name, before, after, direction, drifts) in [
        ("test_coverage", 85.5, 95.0, Direction::LowerIsWorse, false),
        ("test_coverage", 85.5, 80.0, Direction::LowerIsWorse, true),
        ("v2_violations", 12.0, 3.0, Direction::HigherIsWorse, false),
        ("v2_violations", 12.0, 15.0, Direction::HigherIsWorse, true),
        ("anything", 12.0, 3.0, Direction::Both, true),
    ] {
        let timed = Timed::new();
        timed.monitor.describe(name, Description::new("").direction(direction));
        week(&timed, name, before, after);
        assert_eq!(timed.monitor.detect_drift(name, 0.05).unwrap().is_some(), drifts, "{name} {after}");
    }
}

#[test]
fn a_baseline_of_zero_or_below_has_an_answer() {
    for (before, after, drifts, change) in [
        (0.0, 0.0, false, Some(0.0)),
        (0.0, 3.0, true, None),
        (-10.0, -13.0, true, Some(-0.3)),
        (-10.0, -10.0, false, Some(0.0)),
        (5.0, 5.0, false, Some(0.0)),
    ] {
        let timed = Timed::new();
        week(&timed, "x", before, after);
        let report = timed.monitor.select("x").drift().check().unwrap();
        assert_eq!(report.is_drift(), drifts, "{report}");
        match (report.change(), change) {
            (Some(has), Some(want)) => assert!((has - want).abs() < 0.01, "{report}"),
            (has, want) => assert_eq!(has, want, "{report}"),
        }
    }
}

#[test]
fn too_few_values_are_not_steady_but_unknown() {
    let timed = Timed::new();
    for _ in 0..29 {
        timed.monitor.record("x", 1.0, &[]);
    }
    let report = timed.monitor.select("x").drift().check().unwrap();
    assert_eq!(report.finding, Finding::unknown());
    assert_eq!(report.to_string(), "x: too little to tell, 29 recent values where 30 are needed");
    assert_eq!(timed.monitor.detect_drift("x", 0.1).unwrap(), None);
}

#[test]
fn what_cannot_be_looked_at_is_an_error() {
    let Timed { monitor, .. } = Timed::new();
    assert_eq!(monitor.detect_drift("x", 0.1).unwrap_err().kind(), ErrorKind::NotFound);
    monitor.record("x", 1.0, &[]);
    monitor.record("n", Measurement::Count(1), &[]);
    for threshold in [0.0, -0.1, f64::NAN, f64::INFINITY] {
        assert_eq!(monitor.detect_drift("x", threshold).unwrap_err().kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(monitor.detect_drift("n", 0.1).unwrap_err().kind(), ErrorKind::WrongKind);
    let long = monitor.select("x").drift().recent(std::time::Duration::from_secs(90_000)).check();
    assert_eq!(long.unwrap_err().kind(), ErrorKind::InvalidInput);
}

/// A day's rhythm by a factor of three, the same every week.
#[test]
fn the_same_hour_of_the_week_is_compared_where_there_is_enough_of_it() {
    let mut random = Random(5);
    let (mut seasonal, mut any_hour) = (0, 0);
    let timed = Timed::with(PerformanceMonitor::builder());
    let names: Vec<String> = (0..100).map(|at| at.to_string()).collect();
    let mut record = |hour: u64, each: u64| {
        for name in &names {
            for _ in 0..each {
                let level = 2.0 + (std::f64::consts::TAU * hour as f64 / 24.0).sin();
                timed.monitor.record(name, level * random.exponential(), &[]);
            }
        }
    };
    for hour in 0..168 {
        // The hour that is compared with is busy; the others need not be.
        record(hour, if hour == 6 { 60 } else { 3 });
        timed.pass(3_600);
    }
    for hour in 168..174 {
        record(hour, 3);
        timed.pass(3_600);
    }
    record(174, 60);
    timed.pass(3_540);
    for name in &names {
        let drift = timed.monitor.select(name).drift();
        let same = drift.check().unwrap();
        assert!(
            same.same_hour && (60..70).contains(&same.baseline.count) && same.recent.count == 60,
            "{same:?}"
        );
        seasonal += u32::from(same.is_drift());
        any_hour += u32::from(timed.monitor.select(name).drift().any_hour().check().unwrap().is_drift());
    }
    assert!(seasonal <= 5, "{seasonal} false alarms of 100 at a rate of 1 %");
    assert!(any_hour >= 30, "the rhythm is one to see: {any_hour}");
}

#[test]
fn every_detector_can_be_asked_of_a_metric() {
    let timed = Timed::new();
    week(&timed, "x", 45.2, 60.0);
    week(&timed, "steady", 45.2, 45.2);
    let detectors: [fn() -> Box<dyn DriftDetector>; 6] = [
        || Box::new(RelativeMean::default()),
        || Box::new(Welch::default()),
        || Box::new(KolmogorovSmirnov::default()),
        || Box::new(PopulationStability::default()),
        || Box::new(MannWhitney::default()),
        || Box::new(Streamed(Adwin::default())),
    ];
    for detector in detectors {
        let name = detector().name().to_owned();
        let hour = std::time::Duration::from_secs(3_600);
        let two = Window::before(hour, 100 * hour);
        let check = |metric: &str, base: Window| {
            timed.monitor.select(metric).drift().by(detector()).baseline(base).check()
        };
        // The metric recorded first ended a week and an hour ago.
        let ago = 169 * hour;
        let old = Window::before(ago, 24 * hour);
        assert_eq!(check("steady", two).unwrap().finding.verdict, Verdict::Steady, "{name}");
        let report = check("x", old);
        assert_eq!(report.unwrap().finding.verdict, Verdict::Unknown, "{name}: nothing recent");
    }
}

#[test]
fn empty_constant_and_tiny_samples_have_an_answer_from_every_detector() {
    let detectors: [Box<dyn DriftDetector>; 6] = [
        Box::new(RelativeMean::default()),
        Box::new(Welch::default()),
        Box::new(KolmogorovSmirnov::default()),
        Box::new(PopulationStability::default()),
        Box::new(MannWhitney::default()),
        Box::new(Streamed(Adwin::default())),
    ];
    let constant = Sample::of(&[5.0; 200]);
    let other = Sample::of(&[6.0; 200]);
    for detector in &detectors {
        let verdict = |a: &Sample, b: &Sample| detector.compare(a, b, Direction::Both).verdict;
        assert_eq!(verdict(&Sample::of(&[]), &Sample::of(&[])), Verdict::Unknown, "{}", detector.name());
        assert_eq!(verdict(&constant, &Sample::of(&[])), Verdict::Unknown, "{}", detector.name());
        assert_eq!(verdict(&Sample::of(&[f64::NAN]), &constant), Verdict::Unknown, "{}", detector.name());
        assert_eq!(verdict(&constant, &constant), Verdict::Steady, "{}", detector.name());
        assert_eq!(verdict(&constant, &other), Verdict::Drift, "{}", detector.name());
        let up = detector.compare(&constant, &other, Direction::LowerIsWorse).verdict;
        let knows = detector.name() != PopulationStability::default().name();
        assert_eq!(up == Verdict::Steady, knows, "{}", detector.name());
        for tiny in [&[1.0][..], &[1.0, 2.0], &[1.0, 1.0, 1.0]] {
            detector.compare(&Sample::of(tiny), &constant, Direction::Both);
            detector.compare(&constant, &Sample::of(tiny), Direction::Both);
        }
    }
}

/// Reproducible draws.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    /// Above 0, below 1. SplitMix64.
    pub(crate) fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    }

    pub(crate) fn exponential(&mut self) -> f64 {
        -self.uniform().ln()
    }

    pub(crate) fn normal(&mut self) -> f64 {
        (-2.0 * self.uniform().ln()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }

    /// Poisson with a mean of 4.
    pub(crate) fn count(&mut self) -> f64 {
        let (mut product, mut n) = (self.uniform(), 0.0);
        while product > (-4.0f64).exp() {
            product *= self.uniform();
            n += 1.0;
        }
        n
    }
}
