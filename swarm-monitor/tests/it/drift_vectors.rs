//! scipy's and river's figures: see `tests/vectors/drift.py`.

use serde_json::Value;
use swarm_monitor::{
    Adwin, ChangeDetector, Cusum, Direction, DriftDetector, ErrorKind, KolmogorovSmirnov, Kswin, MannWhitney,
    PageHinkley, Sample, Scored, Welch,
};

fn vectors() -> Value {
    serde_json::from_str(include_str!("../vectors/drift.json")).unwrap()
}

fn numbers(value: &Value) -> Vec<f64> {
    serde_json::from_value(value.clone()).unwrap()
}

#[track_caller]
fn close(has: Option<f64>, want: f64, within: f64) {
    let has = has.unwrap();
    assert!((has - want).abs() <= within * want.abs().max(1e-12), "{has} {want}");
}

#[test]
fn tests_of_two_samples_agree_with_scipy() {
    let vectors = vectors();
    let pairs = vectors["pairs"].as_array().unwrap();
    assert_eq!(pairs.len(), 10);
    for pair in pairs {
        let (baseline, recent) =
            (Sample::of(&numbers(&pair["baseline"])), Sample::of(&numbers(&pair["recent"])));
        let compare = |detector: &dyn DriftDetector| detector.compare(&baseline, &recent, Direction::Both);
        let welch = compare(&Welch::new(0.05).plain());
        close(welch.statistic, numbers(&pair["welch"])[0], 1e-9);
        close(welch.p_value, numbers(&pair["welch"])[1], 1e-8);
        let ks = compare(&KolmogorovSmirnov::new(0.05));
        close(ks.statistic, numbers(&pair["ks_exact"])[0], 1e-9);
        let exact = baseline.count() * recent.count() <= 40_000;
        // Where paths are not counted, Stephens' correction is within a tenth, at a chance of 0.0003.
        close(ks.p_value, numbers(&pair["ks_exact"])[1], if exact { 1e-7 } else { 0.1 });
        let mann = compare(&MannWhitney::new(0.05));
        close(mann.statistic, numbers(&pair["mann_whitney"])[0], 1e-12);
        close(mann.p_value, numbers(&pair["mann_whitney"])[1], 1e-9);
    }
}

#[test]
fn a_direction_halves_the_chance_on_its_side() {
    let pair = &vectors()["pairs"][4];
    let (baseline, recent) = (Sample::of(&numbers(&pair["baseline"])), Sample::of(&numbers(&pair["recent"])));
    for (detector, name) in [
        (&Welch::new(0.05).plain() as &dyn DriftDetector, "welch"),
        (&MannWhitney::new(0.05), "mann_whitney"),
    ] {
        let p = |direction| detector.compare(&baseline, &recent, direction).p_value;
        let both = numbers(&pair[name])[1];
        close(p(Direction::Both), both, 1e-8);
        close(p(Direction::HigherIsWorse), both / 2.0, 1e-8);
        close(p(Direction::LowerIsWorse), 1.0 - both / 2.0, 1e-8);
    }
}

fn changes(detector: &mut dyn ChangeDetector, values: &[f64]) -> Vec<usize> {
    values.iter().enumerate().filter(|(_, value)| detector.update(**value)).map(|(at, _)| at).collect()
}

#[test]
fn adwin_and_page_hinkley_see_changes_where_river_does() {
    let vectors = vectors();
    let mut seen = 0;
    for stream in vectors["streams"].as_array().unwrap() {
        let values = numbers(&stream["values"]);
        let found = |list: &Value| -> Vec<usize> { serde_json::from_value(list.clone()).unwrap() };
        let adwin = changes(&mut Adwin::default(), &values);
        assert_eq!(adwin, found(&stream["adwin"]), "{}", stream["name"]);
        let mut window = Adwin::default();
        let mut rows = stream["adwin_window"].as_array().unwrap().iter();
        for (at, &value) in values.iter().enumerate() {
            let change = window.update(value);
            if at % 100 == 99 {
                let row = numbers(rows.next().unwrap());
                assert_eq!(row[0] as usize, at);
                // river begins anew with the value after a change, we with the change.
                if !change {
                    assert_eq!(window.width(), row[1] as u64, "{} {at}", stream["name"]);
                    close(window.mean(), row[2], 1e-9);
                }
            }
        }
        for (mode, direction) in
            [("up", Direction::HigherIsWorse), ("down", Direction::LowerIsWorse), ("both", Direction::Both)]
        {
            let hinkley = changes(&mut PageHinkley::new().direction(direction), &values);
            assert_eq!(hinkley, found(&stream["page_hinkley"][mode]), "{} {mode}", stream["name"]);
            seen += hinkley.len();
        }
        seen += adwin.len();
    }
    assert!(seen >= 10, "the streams have changes to see: {seen}");
}

#[test]
fn a_saved_detector_goes_on_as_if_nothing_had_happened() {
    let vectors = vectors();
    let step = numbers(&vectors["streams"][0]["values"]);
    let baseline = Sample::of(&step[..600]);
    let make: [&dyn Fn() -> Box<dyn ChangeDetector>; 5] = [
        &|| Box::new(Adwin::default()),
        &|| Box::new(PageHinkley::new()),
        &|| Box::new(Cusum::new(0.0, 1.0)),
        &|| Box::new(Kswin::default()),
        &|| Box::new(Scored::new(Cusum::standard().run_length(1e4), &baseline)),
    ];
    for make in make {
        let whole = changes(&mut *make(), &step);
        assert!(!whole.is_empty(), "{}", make().name());
        let mut resumed = Vec::new();
        let mut state = make().save();
        for (part, values) in step.chunks(77).enumerate() {
            let mut detector = make();
            detector.restore(&state).unwrap();
            resumed.extend(changes(&mut *detector, values).into_iter().map(|at| part * 77 + at));
            state = detector.save();
            assert!(state.len() < 200, "{} has {} numbers", detector.name(), state.len());
        }
        assert_eq!(resumed, whole, "{}", make().name());
        let mut detector = make();
        let before = detector.save();
        for wrong in [&[][..], &[f64::NAN; 3], &[-1.0, 5.0, 7.0, 1.0], &[1.5; 150], &[1e300; 9]] {
            assert_eq!(detector.restore(wrong).unwrap_err().kind(), ErrorKind::InvalidInput, "{wrong:?}");
            assert_eq!(detector.save().len(), before.len());
        }
    }
}

#[test]
fn values_that_cannot_be_squared_and_added_up_change_nothing() {
    let detectors: [Box<dyn ChangeDetector>; 4] = [
        Box::new(Adwin::default()),
        Box::new(PageHinkley::new()),
        Box::new(Cusum::new(0.0, 1.0)),
        Box::new(Kswin::default()),
    ];
    for mut detector in detectors {
        detector.update(1.0);
        let before = detector.save();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, -1e141] {
            assert!(!detector.update(value));
        }
        assert_eq!(detector.save(), before, "{}", detector.name());
    }
}
