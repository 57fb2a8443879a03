//! Drift: a week of the founding metrics, then an hour that is unlike it, or only seems to be.
//!
//! `cargo run --release -p swarm-examples --example 31_monitor_drift`
//!
//! A mean that moved by a fifth is drift where chance does not explain it. The clock is moved by hand, so that a week
//! passes in a moment.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::time::Duration;

use swarm_monitor::testing::FakeClock;
use swarm_monitor::{Description, Direction, Error, PerformanceMonitor};

/// Between -1 and 1, the same in every run.
fn noise(at: u64) -> f64 {
    let mixed = (at + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (mixed >> 11) as f64 / (1u64 << 52) as f64 - 1.0
}

fn main() -> Result<(), Error> {
    let clock = FakeClock::new(saturday());
    let monitor = PerformanceMonitor::builder().clock(clock.clone()).build()?;
    let pass = |seconds| {
        clock.advance(Duration::from_secs(seconds));
        monitor.tick();
    };
    monitor
        .describe("agent_cycle_time", Description::new("minutes a task").direction(Direction::HigherIsWorse));
    monitor
        .describe("v2_violations", Description::new("findings a scan").direction(Direction::HigherIsWorse));
    monitor.describe("test_coverage", Description::new("per cent").direction(Direction::LowerIsWorse));
    let record = |at: u64, levels: [f64; 3], spreads: [f64; 3]| {
        for (metric, name) in ["agent_cycle_time", "v2_violations", "test_coverage"].into_iter().enumerate() {
            let value = levels[metric] + spreads[metric] * noise(3 * at + metric as u64);
            monitor.record(name, value, &[("agent", "Agent-7")]);
        }
    };
    for at in 0..168 * 10 {
        record(at, [45.2, 12.0, 85.5], [8.0, 6.0, 1.0]);
        pass(360);
    }
    for at in 0..60 {
        // Tasks take a third longer, violations go down, coverage falls by six points.
        record(5_000 + at, [60.0, 9.0, 79.5], [8.0, 6.0, 1.0]);
        pass(60);
    }
    let slower = monitor.detect_drift("agent_cycle_time", 0.2)?;
    let fewer = monitor.detect_drift("v2_violations", 0.2)?;
    let lower = monitor.detect_drift("test_coverage", 0.05)?;
    for report in [&slower, &fewer, &lower].into_iter().flatten() {
        println!("{report}");
    }
    assert!(slower.is_some() && lower.is_some());
    assert!(fewer.is_none(), "fewer violations are no drift to be told of");
    Ok(())
}

/// A Saturday's noon.
fn saturday() -> chrono::DateTime<chrono::Utc> {
    chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::seconds(1_795_262_400)
}
