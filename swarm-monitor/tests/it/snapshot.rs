use std::path::Path;

use chrono::{DateTime, TimeDelta, Utc};
use swarm_monitor::testing::FakeClock;
use swarm_monitor::{
    Adwin, ChangeDetector, Cusum, Description, Direction, ErrorKind, Kswin, Measurement, MonitorBuilder,
    PageHinkley, PerformanceMonitor, Restored, Summary,
};

use crate::{Timed, last, start};

/// Nine days of every kind of metric.
fn lived() -> Timed {
    let timed = Timed::new();
    let monitor = &timed.monitor;
    monitor.describe(
        "seconds",
        Description::new("of a request").unit("seconds").direction(Direction::HigherIsWorse),
    );
    monitor.describe("later", Description::new("not there yet").bounds([1.0, 5.0]));
    for at in 0..9 * 24 * 12_u64 {
        let route = if at % 3 == 0 { "/pay" } else { "/list" };
        let value = 0.01 * (1 + at * 7_919 % 997) as f64;
        monitor.record("seconds", value, &[("route", route)]);
        monitor.record("change", value - 5.0, &[]);
        monitor.record("requests", Measurement::Count(at % 5), &[("route", route)]);
        monitor.record("queue", Measurement::Gauge(value), &[]);
        timed.pass(300);
    }
    for at in 0..200_u64 {
        monitor.record("seconds", 0.5 + at as f64 / 100.0, &[("route", "/pay")]);
        monitor.record("requests", Measurement::Count(1), &[]);
        monitor.record("seconds", f64::NAN, &[]);
        timed.pass(1);
    }
    monitor.record("restarts", Measurement::Event("because of an update"), &[("agent", "Agent-7")]);
    monitor.record("seconds", Measurement::Count(1), &[]);
    timed
}

/// All that can be asked of a monitor, in words and in numbers.
fn seen(monitor: &PerformanceMonitor) -> (String, Vec<f64>) {
    let mut words = format!("{:?} {} {:?}\n", monitor.now(), monitor.lost(), monitor.events());
    let mut numbers = Vec::new();
    let mut add = |words: &mut String, summary: Summary| {
        *words += &format!("{:?} {:?} {}\n", summary.from, summary.to, summary.count);
        numbers.extend([summary.mean, summary.std_dev().unwrap_or(-1.0), summary.min, summary.max]);
    };
    for info in monitor.metrics() {
        let counts = (info.series, info.folded, info.refused, info.mismatched);
        words += &format!("{} {:?} {:?} {counts:?}\n", info.name, info.kind, info.description);
        let selection = monitor.select(&info.name);
        let by_route = selection.by("route").unwrap();
        let parts = by_route.into_iter().map(|(_, part)| part);
        for part in parts.chain([selection]) {
            for window in [last(60), last(3_600), last(7 * 86_400)] {
                add(&mut words, part.summary(window).unwrap());
                part.points(window).unwrap().into_iter().for_each(|point| add(&mut words, point));
                if let Ok(sketch) = part.sketch(window) {
                    let at = [0.0, 0.01, 0.5, 0.99, 1.0].map(|q| sketch.quantile(q));
                    words += &format!("{at:?} {:?}\n", sketch.share_at_most(1.0));
                }
            }
            add(&mut words, part.total().unwrap());
        }
    }
    (words, numbers)
}

fn assert_same(before: &Timed, after: &Timed) {
    let (before, after) = (seen(&before.monitor), seen(&after.monitor));
    for (before, after) in before.0.lines().zip(after.0.lines()) {
        assert_eq!(before, after);
    }
    assert_eq!((before.0.len(), before.1.len()), (after.0.len(), after.1.len()));
    for (before, after) in before.1.into_iter().zip(after.1) {
        // Sums depend a little on the order of series.
        assert!(
            before == after || (before - after).abs() <= 1e-9 * before.abs().max(1.0),
            "{before} {after}"
        );
    }
}

fn restore(path: &Path, now: DateTime<Utc>) -> Timed {
    Timed::restored(PerformanceMonitor::builder(), path, now)
}

impl Timed {
    fn restored(builder: MonitorBuilder, path: &Path, now: DateTime<Utc>) -> Timed {
        let clock = FakeClock::new(now);
        let monitor = builder.restore(path).clock(clock.clone()).build().unwrap();
        Timed { monitor, clock }
    }
}

#[test]
fn a_restored_monitor_answers_as_the_one_before_and_goes_on_like_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.snapshot");
    let before = lived();
    before.monitor.snapshot(&path).unwrap();
    let after = restore(&path, before.monitor.now());
    let restored = after.monitor.restored().unwrap().to_string();
    assert!(restored.starts_with("9 series restored as of 2026-"), "{restored}");
    assert_same(&before, &after);
    for timed in [&before, &after] {
        for at in 0..500 {
            timed.monitor.record("seconds", f64::from(at), &[("route", "/new")]);
            timed.monitor.record("requests", Measurement::Count(1), &[("route", "/pay")]);
            timed.pass(7);
        }
    }
    assert_same(&before, &after);
    let drift =
        |timed: &Timed| timed.monitor.detect_drift("seconds", 0.1).unwrap().map(|drift| drift.to_string());
    assert!(drift(&before).is_some());
    assert_eq!(drift(&before), drift(&after));
    after.monitor.record("later", 1.0, &[]);
    let described = after.monitor.metrics();
    assert!(described.iter().any(|info| &*info.name == "later" && info.description.help == "not there yet"));
    assert!(
        after.monitor.expose("").body.contains(r#"later_bucket{le="5.0"} 1"#),
        "{}",
        after.monitor.expose("").body
    );
}

#[test]
fn time_that_nobody_lived_through_is_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.snapshot");
    let before = Timed::new();
    before.monitor.record("x", 1.0, &[]);
    before.monitor.record("gauge", Measurement::Gauge(4.0), &[]);
    before.monitor.snapshot(&path).unwrap();
    let after = restore(&path, start() + TimeDelta::hours(5));
    after.monitor.record("x", 3.0, &[]);
    let select = after.monitor.select("x");
    assert_eq!(select.summary(last(3_600)).unwrap().count, 1);
    assert_eq!(select.points(last(86_400)).unwrap().len(), 2);
    assert_eq!(select.total().unwrap().from, start());
    // How many are under way after a restart is not what it was before.
    assert_eq!(after.monitor.select("gauge").last().unwrap(), []);
    after.monitor.gauge("gauge", &[]).add(1.0);
    assert_eq!(after.monitor.select("gauge").last().unwrap(), [(vec![], 1.0)]);
    // After nine days nothing is left of it.
    let late = restore(&path, start() + TimeDelta::days(9));
    assert_eq!(late.monitor.select("x").summary(last(7 * 86_400)).unwrap().count, 0);
    assert_eq!(late.monitor.select("x").total().unwrap().count, 1);
}

#[test]
fn a_clock_a_little_behind_waits_and_one_far_behind_is_not_believed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.snapshot");
    let before = Timed::new();
    before.monitor.record("x", 1.0, &[]);
    before.monitor.snapshot(&path).unwrap();
    let behind = restore(&path, start() - TimeDelta::minutes(10));
    assert_eq!(behind.monitor.now(), start());
    behind.pass(700);
    assert_eq!(behind.monitor.now(), start() + TimeDelta::seconds(100));
    let far = restore(&path, start() - TimeDelta::days(2));
    assert!(far.monitor.restored().unwrap().is_refused());
    assert_eq!(far.monitor.now(), start() - TimeDelta::days(2));
}

#[test]
fn another_accuracy_and_lower_limits_take_what_they_can() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.snapshot");
    let before = Timed::new();
    for user in 0..20 {
        before.monitor.record("x", 10.0 + f64::from(user), &[("user", &user.to_string())]);
        before.pass(1);
    }
    before.monitor.snapshot(&path).unwrap();
    let builder = PerformanceMonitor::builder().accuracy(0.05).series_limit(5);
    let after = Timed::restored(builder, &path, before.monitor.now());
    let Some(Restored::Complete { series, left_out, .. }) = after.monitor.restored() else { panic!() };
    assert_eq!((*series, *left_out), (5, 15));
    let summary = after.monitor.select("x").summary(last(60)).unwrap();
    assert_eq!((summary.min, summary.max), (25.0, 29.0), "those that were idle longest have no place");
    let median = after.monitor.select("x").quantile(last(60), 0.5).unwrap().unwrap();
    assert!((median / 27.0 - 1.0).abs() <= 0.061, "{median}");
}

#[test]
fn detectors_go_on_from_where_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.snapshot");
    let make = || -> Vec<Box<dyn ChangeDetector>> {
        vec![
            Box::new(Cusum::standard()),
            Box::new(PageHinkley::new().threshold(20.0)),
            Box::new(Adwin::default()),
            Box::new(Kswin::default()),
        ]
    };
    let value = |at: u32| f64::from(at * 7_919 % 101) / 100.0 + if at > 1_200 { 0.6 } else { -0.5 };
    let before = Timed::new();
    let mut expected = make();
    for detector in &mut expected {
        (0..1_000).for_each(|at| _ = detector.update(value(at)));
        let name = detector.name().to_owned();
        before.monitor.save_detector(&name, &**detector);
    }
    before.monitor.snapshot(&path).unwrap();
    let after = restore(&path, start());
    let mut changes = 0;
    for (mut detector, mut expected) in make().into_iter().zip(expected) {
        assert!(after.monitor.restore_detector(expected.name(), &mut *detector).unwrap());
        for at in 1_000..2_000 {
            let change = detector.update(value(at));
            assert_eq!(change, expected.update(value(at)), "{} {at}", expected.name());
            changes += u32::from(change);
        }
    }
    assert!(changes >= 4, "{changes}");
    let mut cusum = Cusum::standard();
    assert!(!after.monitor.restore_detector("nobody", &mut cusum).unwrap());
    let error = after.monitor.restore_detector("ADWIN", &mut cusum).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_snapshot_with_any_bit_wrong_or_any_byte_missing_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.snapshot");
    let timed = Timed::new();
    timed.monitor.record("seconds", 1.5, &[("route", "/pay")]);
    timed.monitor.record("requests", Measurement::Count(3), &[]);
    timed.monitor.record("restarts", Measurement::Event("why"), &[]);
    timed.pass(61);
    timed.monitor.snapshot(&path).unwrap();
    let whole = std::fs::read(&path).unwrap();
    let refused = |bytes: &[u8], what: &str| {
        std::fs::write(&path, bytes).unwrap();
        let after = restore(&path, timed.monitor.now());
        let Some(Restored::Refused { error, kept, .. }) = after.monitor.restored() else { panic!("{what}") };
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::UnknownFormat), "{what} {error}");
        let kept = kept.clone().unwrap();
        assert_eq!(std::fs::read(&kept).unwrap(), bytes, "{what}");
        assert!(!path.exists());
        std::fs::remove_file(kept).unwrap();
        // The service starts, records, and makes the next one.
        assert_eq!(after.monitor.metrics(), []);
        after.monitor.record("x", 1.0, &[]);
        after.monitor.snapshot(&path).unwrap();
        error.kind()
    };
    for len in 0..whole.len() {
        refused(&whole[..len], &format!("cut to {len}"));
    }
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1 << (at % 8);
        refused(&bytes, &format!("bit of {at}"));
    }
    refused(&[&whole[..], b"x"].concat(), "longer");
    let mut newer = whole.clone();
    newer[8] += 1;
    assert_eq!(refused(&newer, "newer"), ErrorKind::UnknownFormat);
    std::fs::write(&path, &whole).unwrap();
    assert_same(&restore(&path, timed.monitor.now()), &timed);
}

#[test]
fn a_monitor_without_a_snapshot_says_so_and_a_folder_is_none() {
    let folder = tempfile::tempdir().unwrap();
    assert!(Timed::new().monitor.restored().is_none());
    let none = restore(&folder.path().join("none"), start());
    assert!(matches!(none.monitor.restored(), Some(Restored::Absent)));
    let there = restore(folder.path(), start());
    let Some(Restored::Refused { error, kept, .. }) = there.monitor.restored() else { panic!() };
    assert_eq!((error.kind(), kept), (ErrorKind::Storage, &None));
    let error = there.monitor.snapshot(folder.path().join("no/folder")).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Storage);
    assert!(std::error::Error::source(&error).is_some());
}

#[test]
fn a_snapshot_taken_while_others_record_is_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.snapshot");
    let monitor = PerformanceMonitor::builder().series_limit(50).build().unwrap();
    let mut counted = 0;
    let recorded = || {
        for at in 0..20_000_u32 {
            let user = (at % 80).to_string();
            monitor.record("n", Measurement::Count(1), &[("user", &user)]);
            monitor.record("x", f64::from(at % 7), &[("user", &user)]);
        }
    };
    std::thread::scope(|scope| {
        let threads = [scope.spawn(recorded), scope.spawn(recorded)];
        for _ in 0..20 {
            monitor.snapshot(&path).unwrap();
            let after = PerformanceMonitor::builder().restore(&path).build().unwrap();
            assert!(!after.restored().unwrap().is_refused(), "{}", after.restored().unwrap());
            let now = after.select("n").total().map_or(0, |total| total.count);
            assert!(now >= counted, "{now} {counted}");
            counted = now;
        }
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
    monitor.snapshot(&path).unwrap();
    let after = PerformanceMonitor::builder().restore(&path).build().unwrap();
    assert_eq!(after.select("n").total().unwrap().count, 40_000);
    assert_eq!(after.select("x").total().unwrap().count, 40_000);
}

/// What the first format looked like.
#[test]
fn a_snapshot_of_the_first_format_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.snapshot");
    std::fs::write(&path, include_bytes!("../fixtures/snapshot-1")).unwrap();
    let monitor = restore(&path, start() + TimeDelta::seconds(7_200)).monitor;
    let paid = monitor.select("seconds").tag("route", "/pay").summary(last(3 * 3_600)).unwrap();
    assert_eq!((paid.count, paid.min, paid.max), (100, 0.0, 99.0));
    let median = monitor.select("seconds").quantile(last(86_400), 0.5).unwrap().unwrap();
    assert!((median / 49.0 - 1.0).abs() <= 0.01, "{median}");
    assert_eq!(monitor.select("requests").total().unwrap().count, 1_000);
    assert_eq!(monitor.events()[0].text, "because of an update");
    let mut cusum = Cusum::standard();
    assert!(monitor.restore_detector("pay", &mut cusum).unwrap());
    // The level is the one it was made with, as this format had none.
    assert_eq!(cusum.save()[..4], [1.5, 0.0, 0.0, 1.0]);
}

/// A total that went on would fall back where the last process was seen with more, and readers of counters would add all of it once more.
#[test]
fn an_export_counts_from_the_restart_on_and_a_total_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.snapshot");
    let tags = [("route", "/pay")];
    let record = |monitor: &PerformanceMonitor, n: u64| {
        monitor.record("requests", Measurement::Count(n), &tags);
        (0..n).for_each(|at| monitor.record("seconds", at as f64 - 0.5, &[]));
        (0..n).for_each(|_| monitor.record("bytes", 3.0, &[]));
        monitor.record("bytes", f64::NAN, &[]);
        monitor.record("deployments", Measurement::Event("again"), &[]);
    };
    let exported = |monitor: &PerformanceMonitor| {
        let body = monitor.expose("").body;
        let lines = body.lines().filter(|line| !line.starts_with('#')).map(str::to_owned);
        let (buckets, rest): (Vec<_>, Vec<_>) = lines.partition(|line| line.contains("_bucket"));
        let wanted = [r#"{le="2.5"}"#, r#"{le="+Inf"}"#];
        let buckets = buckets.into_iter().filter(|line| wanted.iter().any(|bound| line.contains(bound)));
        rest.into_iter().chain(buckets).collect::<Vec<_>>()
    };
    let before = Timed::new();
    record(&before.monitor, 100);
    before.pass(90);
    record(&before.monitor, 20);
    before.monitor.snapshot(&path).unwrap();
    let mut ever = 120;
    for (own, accuracy) in [(7, 0.01), (200, 0.01), (5, 0.04)] {
        let builder = PerformanceMonitor::builder().accuracy(accuracy);
        let after = Timed::restored(builder, &path, before.monitor.now() + TimeDelta::hours(2));
        let fresh = Timed::with(PerformanceMonitor::builder().accuracy(accuracy));
        let restored = exported(&after.monitor);
        for line in &restored {
            assert!(line.ends_with(" 0") || line.ends_with(" 0.0"), "{line}");
        }
        assert!(restored.iter().any(|line| line.starts_with("requests_total")), "{restored:?}");
        // Nor a sum that goes away with the first value, as there were values below zero.
        assert!(!restored.iter().any(|line| line.starts_with("seconds_sum")), "{restored:?}");
        assert!(restored.iter().any(|line| line.starts_with("bytes_sum")), "{restored:?}");
        record(&after.monitor, own);
        record(&fresh.monitor, own);
        after.pass(70);
        record(&after.monitor, 3);
        record(&fresh.monitor, 3);
        ever += own + 3;
        assert_eq!(exported(&after.monitor), exported(&fresh.monitor));
        for name in ["requests", "seconds", "bytes"] {
            assert_eq!(after.monitor.select(name).total().unwrap().count, ever, "{name}");
        }
        after.monitor.snapshot(&path).unwrap();
    }
}

/// Knows a great many numbers.
struct Great(usize);

impl ChangeDetector for Great {
    fn name(&self) -> &str {
        "great"
    }

    fn update(&mut self, _: f64) -> bool {
        false
    }

    fn save(&self) -> Vec<f64> {
        vec![0.5; self.0]
    }

    fn restore(&mut self, _: &[f64]) -> swarm_monitor::Result<()> {
        Ok(())
    }
}

#[test]
fn detectors_that_know_more_than_a_snapshot_has_room_for_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("metrics.snapshot");
    let timed = Timed::new();
    timed.monitor.save_detector("one", &Great(10));
    timed.monitor.snapshot(&path).unwrap();
    let before = std::fs::read(&path).unwrap();
    timed.monitor.save_detector("one", &Great((64 << 20) / 8));
    let error = timed.monitor.snapshot(&path).unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::InvalidInput, false));
    assert!(error.to_string().starts_with("detectors saved and events kept take 671088"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}
