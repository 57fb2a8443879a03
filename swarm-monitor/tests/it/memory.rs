use swarm_monitor::{Measurement, PerformanceMonitor};

use crate::Timed;

/// The table of the crate page: what a series takes after more than eight days.
#[test]
fn a_series_takes_no_more_memory_than_the_crate_page_says() {
    let timed = Timed::with(PerformanceMonitor::builder());
    let monitor = &timed.monitor;
    let mut random = 1u64;
    let mut uniform = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 11) as f64 / (1u64 << 53) as f64
    };
    // Every second of the last hours, and each half minute before.
    let pauses = std::iter::repeat_n(30, 9 * 2_880).chain(std::iter::repeat_n(1, 4 * 3_600));
    for pause in pauses {
        monitor.record("count", Measurement::Count(1), &[]);
        for _ in 0..3 {
            monitor.record("narrow", 10.0 + uniform(), &[]);
            monitor.record("wide", (uniform() * 1000f64.ln()).exp(), &[]);
        }
        timed.pass(pause);
    }
    for (name, most) in [("count", 12_000), ("narrow", 52_000), ("wide", 200_000)] {
        let info = monitor.metrics().into_iter().find(|info| &*info.name == name).unwrap();
        eprintln!("{name}: {} bytes", info.memory);
        assert!(info.memory <= most && info.memory > most / 8, "{name}: {} bytes", info.memory);
    }
}
