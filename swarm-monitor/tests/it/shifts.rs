//! Shifts that last: each is told once, and the next one is found.

use swarm_monitor::{Adwin, ChangeDetector, Cusum, ErrorKind, PageHinkley, Sample, Scored};

use crate::drift::Random;

/// Values at each level in turn.
const LASTS: usize = 600;
/// So many values later an alarm is still about the shift.
const SOON: usize = 60;

/// Where there were alarms, as the shift before and the values since.
fn alarms(detector: &mut dyn ChangeDetector, seed: u64, levels: &[(f64, f64)]) -> Vec<(usize, usize)> {
    let mut random = Random(seed);
    let mut alarms = Vec::new();
    for (shift, &(level, spread)) in levels.iter().enumerate() {
        for at in 0..LASTS {
            if detector.update(level + spread * random.normal()) {
                alarms.push((shift, at));
            }
        }
    }
    alarms
}

#[test]
fn a_lasting_shift_is_told_once_and_the_next_one_is_found() {
    let mut random = Random(1);
    let baseline = Sample::of(&(0..5_000).map(|_| random.normal()).collect::<Vec<f64>>());
    let detectors: [(&str, &dyn Fn() -> Box<dyn ChangeDetector>); 5] = [
        ("CUSUM", &|| Box::new(Cusum::new(0.0, 1.0).run_length(1e6))),
        ("CUSUM, scored", &|| Box::new(Scored::new(Cusum::standard().run_length(1e6), &baseline))),
        ("Page-Hinkley", &|| Box::new(PageHinkley::new().run_length(1e6))),
        // Far out, scores spread more than where they were made, which it does not learn.
        ("Page-Hinkley, scored", &|| Box::new(Scored::new(PageHinkley::new().run_length(1e9), &baseline))),
        ("Page-Hinkley, by hand", &|| Box::new(PageHinkley::new().delta(0.5).threshold(14.0))),
    ];
    // Up, back, down, and further down.
    let levels = [(0.0, 1.0), (3.0, 1.0), (0.0, 1.0), (-1.5, 1.0), (-3.5, 1.0)];
    for (name, make) in detectors {
        for seed in 0..20 {
            let seen = alarms(&mut *make(), seed, &levels);
            let shifts: Vec<usize> = seen.iter().map(|(shift, _)| *shift).collect();
            assert_eq!(shifts, [1, 2, 3, 4], "{name} {seed}: {seen:?}");
            assert!(seen.iter().all(|(_, at)| *at < SOON), "{name} {seed}: {seen:?}");
        }
    }
}

#[test]
fn a_cusum_learns_how_far_values_spread_at_the_new_level() {
    let levels = [(10.0, 1.0), (200.0, 30.0), (50.0, 30.0), (10.0, 0.1), (11.0, 0.1)];
    for seed in 0..20 {
        let seen = alarms(&mut Cusum::new(10.0, 1.0).run_length(1e6), seed, &levels);
        let shifts: Vec<usize> = seen.iter().map(|(shift, _)| *shift).collect();
        // From a spread of 30 it takes long to see one of 0.1, and its own level is learned from few of them.
        assert_eq!(shifts[..3], [1, 2, 3], "{seed}: {seen:?}");
        assert!(shifts[3..].iter().all(|shift| *shift == 4) && shifts.len() <= 4, "{seed}: {seen:?}");
    }
}

#[test]
fn what_is_learned_anew_alarms_as_seldom_as_what_was_given() {
    let (streams, values, run_length) = (400, 1_000, 100_000.0);
    let mut made = 0;
    for seed in 0..streams {
        let mut random = Random(1_000 + seed);
        let mut detector = Cusum::new(0.0, 1.0).run_length(run_length);
        assert!((0..50).any(|_| detector.update(40.0)), "a shift, from which it learns anew");
        made += (0..values).filter(|_| detector.update(40.0 + random.normal())).count();
    }
    // Expected are four; the first thirty of each are not judged.
    let most = f64::from(streams as u32 * values) / run_length;
    assert!(made as f64 <= most + 4.0 * most.sqrt(), "{made} alarms, where {most} are expected");
}

#[test]
fn values_that_stay_the_same_after_a_shift_are_judged_in_the_units_of_before() {
    let mut detector = Cusum::new(0.0, 1.0).run_length(1e6);
    let first: Vec<usize> = (0..300).filter(|_| detector.update(8.0)).collect();
    assert_eq!(first.len(), 1, "{first:?}");
    assert!((0..30).any(|_| detector.update(12.0)));
}

#[test]
fn a_constant_alarms_once_it_is_another() {
    // As its mean is rounded, too.
    for (target, value, other) in
        [(0.0, 0.0, 1e-9), (5.0, 5.0, 5.1), (0.1 + 0.2, 0.3, -0.3), (-1e140, -1e140, 0.0)]
    {
        let mut detector = Cusum::new(target, 0.0);
        assert!((0..5_000).all(|_| !detector.update(value)), "{target}");
        assert!(detector.update(other), "{target}");
        // Learned anew, it is a constant again.
        assert!((0..5_000).all(|_| !detector.update(other)), "{target}");
        assert!((0..30).any(|_| detector.update(value)), "{target}");
    }
}

#[test]
fn a_cusum_of_what_is_no_deviation_learns_it_and_can_be_saved() {
    let shifted = |detector: &mut Cusum| {
        let mut random = Random(7);
        let levels = [3.0; 600].into_iter().chain([5.0; 100]);
        let seen: Vec<usize> = levels
            .enumerate()
            .filter(|(_, level)| detector.update(level + random.normal()))
            .map(|(at, _)| at)
            .collect();
        assert!(seen.len() == 1 && (600..620).contains(&seen[0]), "{seen:?}");
    };
    for (target, deviation) in
        [(3.0, -1.0), (3.0, f64::NAN), (f64::NAN, 1.0), (f64::INFINITY, 1.0), (f64::NAN, f64::NAN)]
    {
        let mut detector = Cusum::new(target, deviation).run_length(1e6);
        let mut restored = detector;
        restored.restore(&detector.save()).unwrap();
        assert_eq!(restored, detector);
        shifted(&mut detector);
        shifted(&mut restored);
        restored.restore(&detector.save()).unwrap();
        assert_eq!(restored, detector);
    }
    for deviation in [0.0, -0.0, f64::INFINITY] {
        let mut detector = Cusum::new(3.0, deviation);
        detector.restore(&detector.save()).unwrap();
    }
}

#[test]
fn states_that_no_detector_has_saved_are_refused() {
    let row = [5.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0];
    let adwin = |rows: &[&[f64]]| {
        let mut state = vec![31.0];
        rows.iter().for_each(|row| state.extend(*row));
        state.extend([5.0, 1.0]);
        Adwin::default().restore(&state).map_err(|error| error.kind())
    };
    assert_eq!(adwin(&[&row]), Ok(()));
    // A row without buckets, from which the oldest would be dropped.
    for rows in [&[&[0.0][..]][..], &[&row, &[0.0]], &[&[0.0], &row]] {
        assert_eq!(adwin(rows), Err(ErrorKind::InvalidInput));
    }
    let mut cusum = Cusum::new(0.0, 1.0);
    for wrong in [
        [0.0, 0.0, f64::NAN, 1.0, 5.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, -1.0, 5.0, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0, 5.5, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0, 1e9, 0.0, 0.0],
        [0.0, 0.0, 0.0, 1.0, 5.0, 0.0, f64::INFINITY],
    ] {
        assert_eq!(cusum.restore(&wrong).unwrap_err().kind(), ErrorKind::InvalidInput, "{wrong:?}");
    }
    // As it was saved before levels were learned anew.
    cusum.restore(&[4.9, 0.0]).unwrap();
    assert!(cusum.update(1.0));
}
