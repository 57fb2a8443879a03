//! A page with plots: nine days of three agents, with a deployment that made one of them slow.
//!
//! `cargo run --release -p swarm-examples --example 36_monitor_page`, and a file's name to keep the page there.
//!
//! The clock is moved by hand, so that nine days take a second. Each metric is drawn with the baseline that it is compared with; what
//! an alert fires of, or what drifted, comes first and says so in a sentence. The page is one file that fetches nothing.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::time::Duration;

use chrono::{DateTime, Timelike, Utc};
use swarm_monitor::testing::FakeClock;
use swarm_monitor::{
    AlertEngine, AlertRule, Condition, Description, Direction, Measurement, PerformanceMonitor, Window,
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let start = DateTime::<Utc>::from_timestamp(1_795_262_400, 0).ok_or("a time")?;
    let clock = FakeClock::new(start);
    let monitor = PerformanceMonitor::builder().clock(clock.clone()).build()?;
    let cycle = Description::new("Time an agent takes for a task.").unit("minutes");
    monitor.describe("agent_cycle_time", cycle.direction(Direction::HigherIsWorse));
    let seconds = Description::new("Time to answer a request.").unit("seconds");
    monitor.describe("request_seconds", seconds.direction(Direction::HigherIsWorse));
    let coverage = Description::new("Share of lines that tests run, in percent.");
    monitor.describe("test_coverage", coverage.direction(Direction::LowerIsWorse));
    monitor.describe("requests", Description::new("Requests answered, by route."));

    let slow = Condition::of("agent_cycle_time").above(60.0).window(Duration::from_secs(15 * 60));
    let alerts = AlertEngine::builder(&monitor)
        .rule(AlertRule::new("slow_agent", slow).each("agent").lasting(Duration::from_secs(5 * 60)))
        .build()?;

    let minutes = 9 * 24 * 60;
    let mut random = 42u64;
    let mut uniform = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((random >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    for minute in 0..minutes {
        let now = monitor.now();
        let day =
            1.0 + 0.5 * (f64::from(now.hour() * 60 + now.minute()) / 1_440.0 * std::f64::consts::TAU).sin();
        let deployed = minute >= minutes - 65;
        if minute == minutes - 65 {
            monitor.record(
                "deployed",
                Measurement::Event("v2.0_refactored to Agent-7"),
                &[("agent", "Agent-7")],
            );
        }
        for agent in ["Agent-1", "Agent-7", "Agent-8"] {
            let slow = if deployed && agent == "Agent-7" { 2.1 } else { 1.0 };
            let took = slow * (30.0 - 12.0 * uniform().ln().max(-4.0));
            monitor.record("agent_cycle_time", took, &[("agent", agent)]);
        }
        for (route, share) in [("/pay", 0.6), ("/status", 1.4)] {
            let count = (40.0 * share * day * (0.8 + 0.4 * uniform())) as u64;
            monitor.record("requests", Measurement::Count(count), &[("route", route)]);
            for _ in 0..count / 8 {
                monitor.record("request_seconds", -0.05 / share * uniform().ln(), &[("route", route)]);
            }
        }
        if minute % 5 == 0 {
            monitor.record("test_coverage", Measurement::Gauge(85.0 + uniform()), &[]);
        }
        clock.advance(Duration::from_secs(60));
        monitor.tick();
        alerts.evaluate();
    }

    // Without the alerts it is `monitor.to_html`.
    let page = alerts.to_html("Agents", Window::last(Duration::from_secs(3 * 3_600)));
    let drift = monitor.detect_drift("agent_cycle_time", 0.1)?.ok_or("drift of the cycle time")?;
    println!("{drift}");
    assert!(page.contains("drift +"), "the plot says so too");
    assert!(page.contains("slow_agent") && alerts.alerts().len() == 1, "Agent-7 fires, and nobody else");
    assert!(monitor.detect_drift("test_coverage", 0.1)?.is_none(), "and nothing else drifted");
    match std::env::args().nth(1) {
        Some(file) => {
            std::fs::write(&file, &page)?;
            println!("{file}: {} kB", page.len() / 1_000);
        }
        None => println!("{} kB of HTML; name a file to keep it", page.len() / 1_000),
    }
    Ok(())
}
