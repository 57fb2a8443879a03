use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use swarm_monitor::testing::FakeClock;
use swarm_monitor::{Measurement, PerformanceMonitor, Restored};

use crate::{Timed, last};

#[test]
fn threads_that_record_while_others_ask_and_time_moves_lose_nothing() {
    let timed = Timed::new();
    let monitor = &timed.monitor;
    let (threads, each) = (4, 50_000u64);
    let (start, over) = (Barrier::new(threads + 1), AtomicBool::new(false));
    let counter = monitor.counter("counts", &[]);
    let histogram = monitor.histogram("values", &[]);
    let asked = thread::scope(|scope| {
        let workers: Vec<_> = (0..threads)
            .map(|_| {
                scope.spawn(|| {
                    start.wait();
                    for at in 0..each {
                        counter.increment();
                        histogram.record((at % 10) as f64);
                        monitor.record("counts", Measurement::Count(1), &[]);
                        monitor.record("values", (at % 10) as f64, &[]);
                    }
                })
            })
            .collect();
        let asker = scope.spawn(|| {
            start.wait();
            let (mut asked, mut before) = (0, 0);
            while !over.load(Ordering::Acquire) {
                let total = monitor.select("values").total().unwrap();
                assert!(
                    total.count >= before && (0.0..=9.0).contains(&total.mean) && total.max <= 9.0,
                    "{total:?}"
                );
                before = total.count;
                asked += 1;
                timed.pass(1);
            }
            asked
        });
        workers.into_iter().for_each(|worker| worker.join().unwrap());
        over.store(true, Ordering::Release);
        asker.join().unwrap()
    });
    let expected = 2 * threads as u64 * each;
    assert!(asked >= 1);
    assert_eq!(monitor.select("counts").total().unwrap().count, expected);
    let values = monitor.select("values").total().unwrap();
    assert_eq!(values.count, expected);
    assert!(
        (values.mean - 4.5).abs() < 1e-9 && (values.variance().unwrap() - 8.25).abs() < 0.001,
        "{values:?}"
    );
    if asked < 7 * 86_400 {
        assert_eq!(monitor.select("values").sketch(last(7 * 86_400)).unwrap().count(), expected);
    }
}

/// A snapshot is in the order of when series were last recorded in, which goes on changing.
#[test]
fn a_snapshot_taken_while_others_record_is_whole() {
    let timed = Timed::new();
    let monitor = &timed.monitor;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("snapshot");
    let (series, rounds) = (500u64, 40);
    let tag = |at: u64| at.to_string();
    for at in 0..series {
        monitor.record("counts", Measurement::Count(1), &[("agent", &tag(at))]);
        monitor.record("values", 1.0, &[("agent", &tag(at))]);
    }
    let over = AtomicBool::new(false);
    let recorded = thread::scope(|scope| {
        let workers: Vec<_> = (0..2)
            .map(|seed: u64| {
                let over = &over;
                scope.spawn(move || {
                    let mut at = 0u64;
                    while !over.load(Ordering::Acquire) {
                        at += 1;
                        let agent = tag((at * 7_919 + seed) % series);
                        monitor.record("counts", Measurement::Count(1), &[("agent", &agent)]);
                        monitor.record("values", 1.0, &[("agent", &agent)]);
                    }
                    at
                })
            })
            .collect();
        let clock = scope.spawn(|| {
            while !over.load(Ordering::Acquire) {
                timed.pass(1);
            }
        });
        let mut wrong = None;
        for _ in 0..rounds {
            // Not a panic here, for which the others would go on for ever.
            let taken = catch_unwind(AssertUnwindSafe(|| monitor.snapshot(&path)));
            if !matches!(taken, Ok(Ok(()))) {
                wrong = Some(format!("{taken:?}"));
                break;
            }
        }
        over.store(true, Ordering::Release);
        clock.join().unwrap();
        let recorded: u64 = workers.into_iter().map(|worker| worker.join().unwrap()).sum();
        assert_eq!(wrong, None);
        recorded
    });
    assert!(recorded >= series, "{recorded}");
    let clock = FakeClock::new(monitor.now());
    let after = PerformanceMonitor::builder().restore(&path).clock(clock).build().unwrap();
    assert!(
        matches!(after.restored(), Some(Restored::Complete { left_out: 0, .. })),
        "{:?}",
        after.restored()
    );
    for name in ["counts", "values"] {
        let info = after.metrics().into_iter().find(|info| &*info.name == name).unwrap();
        assert_eq!(info.series as u64, series);
        let total = after.select(name).total().unwrap().count;
        assert!((series..=series + recorded).contains(&total), "{total}");
    }
    monitor.snapshot(&path).unwrap();
    let clock = FakeClock::new(monitor.now());
    let after = PerformanceMonitor::builder().restore(&path).clock(clock).build().unwrap();
    assert_eq!(after.select("counts").total().unwrap().count, series + recorded);
    assert_eq!(after.select("values").total().unwrap().count, series + recorded);
}

#[test]
fn threads_that_take_each_other_s_places_lose_nothing() {
    let timed =
        Timed::with(PerformanceMonitor::builder().series_limit(4).idle_after(std::time::Duration::ZERO));
    let monitor = &timed.monitor;
    // What an evicted series had is gone with it, and the total cannot be known: what is known is that nothing
    // panics, deadlocks, or exceeds the limit.
    thread::scope(|scope| {
        for thread in 0..4usize {
            let timed = &timed;
            scope.spawn(move || {
                for at in 0..5_000usize {
                    let name = ((at + thread) % 9).to_string();
                    monitor.record("counts", Measurement::Count(1), &[("name", &name)]);
                    monitor.record("values", 1.0, &[("name", &name)]);
                    if at % 50 == 0 {
                        timed.pass(1);
                    }
                }
            });
        }
    });
    for info in monitor.metrics() {
        assert!(info.series <= 4, "{info:?}");
        let total = monitor.select(&info.name).total().unwrap().count;
        assert!(total >= info.folded && total <= 20_000, "{total} {info:?}");
    }
}

#[test]
fn a_monitor_s_own_thread_ends_with_its_last_clone() {
    let monitor = PerformanceMonitor::new();
    let before = monitor.now();
    let clone = monitor.clone();
    drop(monitor);
    clone.record("x", 1.0, &[]);
    // Joined here: a thread that did not end would hold the test up.
    drop(clone);
    assert!(before <= chrono::Utc::now());
}
