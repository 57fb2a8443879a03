//! What is further out than lately, of series that nobody has looked at.

use std::f64::consts::TAU;

use swarm_monitor::{ChangeDetector, ErrorKind, Surprise};

use crate::drift::Random;

const DAY: usize = 96;

/// Up and down with the day, with noise.
fn load(random: &mut Random, at: usize) -> f64 {
    50.0 + 20.0 * (TAU * at as f64 / DAY as f64).sin() + 2.0 * random.normal()
}

/// Where a detector was surprised by `count` values.
fn alarms(detector: &mut Surprise, count: usize, mut value: impl FnMut(usize) -> f64) -> Vec<usize> {
    (0..count).filter(|&at| detector.update(value(at))).collect()
}

#[test]
fn what_is_further_out_than_usual_is_told_once() {
    let mut random = Random(1);
    let noise: Vec<f64> = (0..4_000).map(|_| random.normal()).collect();
    let day: Vec<f64> = (0..4_000).map(|at| load(&mut random, at)).collect();
    type Change = fn(usize, f64) -> f64;
    let changes: [(&str, &[f64], Change); 5] = [
        ("a spike", &noise, |at, value| if at == 2_000 { 20.0 } else { value }),
        ("a shift", &noise, |at, value| if at >= 2_000 { value + 6.0 } else { value }),
        ("a greater spread", &noise, |at, value| if at >= 2_000 { value * 6.0 } else { value }),
        ("a spike within the day's range", &day, |at, value| if at == 2_000 { 145.0 - value } else { value }),
        ("a day off", &day, |at, value| if (2_000..2_096).contains(&at) { 30.0 } else { value }),
    ];
    for (what, values, change) in changes {
        let mut detector = Surprise::new().season(DAY);
        let seen = alarms(&mut detector, 4_000, |at| change(at, values[at]));
        let soon = seen.iter().filter(|at| (2_000..2_100).contains(*at)).count();
        assert!((1..=3).contains(&soon), "{what}: {seen:?}");
        assert!(seen.iter().filter(|at| **at < 2_000 || **at >= 2_400).count() <= 1, "{what}: {seen:?}");
    }
}

#[test]
fn it_may_be_told_of_any_unit() {
    let mut random = Random(2);
    let values: Vec<f64> =
        (0..2_000).map(|at| load(&mut random, at) + f64::from(at == 1_500) * 90.0).collect();
    let seen = |by: f64, from: f64| {
        let mut detector = Surprise::new().season(DAY);
        alarms(&mut detector, values.len(), |at| values[at] * by + from)
    };
    let as_is = seen(1.0, 0.0);
    assert!(as_is.contains(&1_500), "{as_is:?}");
    for (by, from) in [(1024.0, 0.0), (-1.0, 0.0), (0.25, 0.0), (1.0, 1_000.0)] {
        assert_eq!(seen(by, from), as_is, "{by} {from}");
    }
}

#[test]
fn constants_are_no_surprise_until_they_change() {
    for constant in [0.0, 5.0, -1e140, 1e-300] {
        let mut detector = Surprise::new().season(10);
        assert!(alarms(&mut detector, 1_000, |_| constant).is_empty(), "{constant}");
        assert!(detector.update(constant + 1e130), "{constant}");
    }
    let mut detector = Surprise::new();
    for value in [f64::NAN, f64::INFINITY, 1e141] {
        assert_eq!(detector.score(value), 0.0);
        assert_eq!(detector, Surprise::new());
    }
}

/// The first move of a constant is further out than anything can be, and is told; it does not hide what comes after.
#[test]
fn what_comes_after_the_first_move_of_a_constant_is_told_too() {
    let seen = alarms(&mut Surprise::new(), 3_000, |at| match at {
        200 => 1.0,
        1_601.. => 1_000.0,
        _ => 0.0,
    });
    assert_eq!(seen, [200, 1_601]);
    let mut random = Random(5);
    let seen = alarms(&mut Surprise::new(), 4_500, |at| {
        let spike = at >= 1_000 && at % 500 == 0;
        if at < 200 { 0.0 } else { 10.0 + random.normal() + 60.0 * f64::from(spike) }
    });
    // The later ones have become usual by then.
    assert!([200, 1_000, 1_500, 2_000].iter().all(|at| seen.contains(at)), "{seen:?}");
    assert!(seen.iter().all(|at| *at == 200 || at % 500 <= 10), "{seen:?}");
}

#[test]
fn a_missing_value_does_not_move_the_season() {
    let mut detector = Surprise::new().season(4);
    for at in 0..80 {
        // Two are missing at once, then one.
        let missing = matches!(at, 33 | 34 | 61);
        detector.update(if missing { f64::NAN } else { f64::from(at % 4) });
    }
    let state = detector.save();
    let means: Vec<f64> = state[18..].chunks(2).map(|slot| slot[1]).collect();
    assert_eq!((state[0], means), (77.0, vec![0.0, 1.0, 2.0, 3.0]));
}

#[test]
fn a_saved_surprise_goes_on_as_if_nothing_had_happened_and_does_not_grow() {
    let mut random = Random(3);
    let values: Vec<f64> =
        (0..3_000).map(|at| load(&mut random, at) + f64::from(at % 700 == 699) * 90.0).collect();
    let mut whole = Surprise::new().season(DAY);
    let mut resumed = whole.clone();
    let size = whole.save().len();
    assert_eq!(size, 18 + 2 * DAY);
    for (at, &value) in values.iter().enumerate() {
        assert_eq!(whole.score(value), resumed.score(value), "{at}");
        if at % 50 == 0 {
            let state = resumed.save();
            assert_eq!(state.len(), size);
            resumed = Surprise::new().season(DAY);
            resumed.restore(&state).unwrap();
        }
    }
    let state = whole.save();
    let spoilt = |at: usize, by: f64| {
        let mut state = state.clone();
        state[at] = by;
        state
    };
    let shorter = &state[..size - 2];
    for wrong in [
        &[][..],
        shorter,
        &[0.0; 18],
        &spoilt(0, 1.5),
        &spoilt(1, DAY as f64),
        &spoilt(4, f64::NAN),
        &spoilt(5, -0.5),
        &spoilt(9, -1.0),
    ] {
        let mut detector = Surprise::new().season(DAY);
        assert_eq!(detector.restore(wrong).unwrap_err().kind(), ErrorKind::InvalidInput);
        assert_eq!(detector, Surprise::new().season(DAY));
    }
}

/// As the crate page says.
#[test]
fn unchanged_series_seldom_surprise() {
    let series = if std::env::var_os("SWARM_LONG").is_some() { 10_000 } else { 300 };
    let mut random = Random(4);
    type Draw = fn(&mut Random, usize) -> f64;
    let kinds: [(&str, Draw, f64); 5] = [
        ("normal", |random, _| random.normal(), 0.5),
        ("exponential", |random, _| random.exponential(), 18.0),
        ("heavy-tailed", |random, _| random.normal().exp(), 64.0),
        ("counts", |random, _| random.count(), 3.0),
        ("seasonal", |random, at| load(random, at) / 10.0, 7.0),
    ];
    for (kind, draw, most) in kinds {
        let mut alarmed = 0;
        for _ in 0..series {
            let mut detector = Surprise::new().season(if kind == "seasonal" { DAY } else { 0 });
            alarmed += usize::from(!alarms(&mut detector, 1_000, |at| draw(&mut random, at)).is_empty());
        }
        let share = 100.0 * f64::from(alarmed as u32) / f64::from(series);
        eprintln!("  {kind:<13} {share:.1} of a hundred series of 1,000 values");
        assert!(share <= most, "{kind}: {share}");
    }
}
