use chrono::TimeDelta;

use crate::{Timed, last, start};

#[test]
fn a_clock_that_goes_back_stops_the_time_and_loses_nothing() {
    let timed = Timed::new();
    timed.monitor.record("x", 1.0, &[]);
    timed.clock.set(start() - TimeDelta::hours(3));
    timed.monitor.tick();
    timed.monitor.record("x", 1.0, &[]);
    assert_eq!(timed.monitor.now(), start());
    timed.clock.set(start() + TimeDelta::seconds(2));
    timed.monitor.tick();
    timed.monitor.record("x", 1.0, &[]);
    let summary = timed.monitor.select("x").summary(last(60)).unwrap();
    assert_eq!((summary.count, summary.to), (3, start() + TimeDelta::seconds(3)));
}

#[test]
fn a_clock_that_leaps_leaves_a_gap_and_not_zeros() {
    let timed = Timed::new();
    // Keeps the series over the years.
    let _held = timed.monitor.histogram("x", &[]);
    timed.monitor.record("x", 1.0, &[]);
    timed.pass(3 * 86_400);
    timed.monitor.record("x", 3.0, &[]);
    let points = timed.monitor.select("x").points(last(7 * 86_400)).unwrap();
    assert_eq!(
        points.iter().map(|point| (point.count, point.mean)).collect::<Vec<_>>(),
        [(1, 1.0), (1, 3.0)]
    );
    timed.pass(u64::from(u32::MAX));
    timed.monitor.record("x", 5.0, &[]);
    assert_eq!(timed.monitor.select("x").summary(last(7 * 86_400)).unwrap().mean, 5.0);
    assert_eq!(timed.monitor.select("x").total().unwrap().count, 3);
}

#[test]
fn a_clock_before_1970_and_one_at_the_end_of_time_are_clocks_too() {
    let timed = Timed::new();
    timed.clock.set(chrono::DateTime::<chrono::Utc>::MIN_UTC);
    timed.monitor.tick();
    timed.monitor.record("x", 1.0, &[]);
    timed.clock.set(chrono::DateTime::<chrono::Utc>::MAX_UTC);
    timed.monitor.tick();
    timed.monitor.record("x", 1.0, &[]);
    assert_eq!(timed.monitor.select("x").summary(last(1)).unwrap().count, 1);
}
