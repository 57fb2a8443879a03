//! First metrics: record by name and through handles, and ask for windows.
//!
//! `cargo run --release -p swarm-examples --example 30_monitor_first_metrics`
//!
//! Three agents work on tasks and scan their code. What they record is kept in memory, in buckets of a second, a minute and an
//! hour; nothing else needs to run. Handles are for hot paths: through one, a count is one atomic addition.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::time::Duration;

use swarm_monitor::{Description, Direction, Error, Measurement, PerformanceMonitor, Window};

fn main() -> Result<(), Error> {
    let monitor = PerformanceMonitor::new();
    let minutes = Description::new("Time an agent takes for a task.").unit("minutes");
    monitor.describe("agent_cycle_time", minutes.direction(Direction::HigherIsWorse));

    // By name: any tags, in any order.
    for (agent, task, minutes) in [
        ("Agent-7", "refactoring", 45.2),
        ("Agent-7", "review", 12.5),
        ("Agent-1", "refactoring", 31.0),
        ("Agent-8", "deployment", 4.1),
    ] {
        monitor.record("agent_cycle_time", minutes, &[("agent", agent), ("task_type", task)]);
    }
    monitor.record("v2_violations", Measurement::Gauge(12.0), &[("scan_date", "2026-11-21")]);
    monitor.record("deployed", Measurement::Event("v2.0_refactored"), &[("agent", "Agent-8")]);

    // Through handles, from any thread.
    let requests = monitor.counter("requests", &[("route", "/pay")]);
    let seconds = monitor.histogram("request_seconds", &[("route", "/pay")]);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for at in 0..10_000 {
                    requests.increment();
                    seconds.record(0.001 * f64::from(1 + at % 100));
                }
            });
        }
    });

    let hour = Window::last(Duration::from_secs(3_600));
    for (agent, tasks) in monitor.select("agent_cycle_time").by("agent")? {
        let tasks = tasks.summary(hour)?;
        println!("{agent}: {} tasks, {:.1} minutes each", tasks.count, tasks.mean);
    }
    let p99 = monitor.select("request_seconds").quantile(hour, 0.99)?.unwrap_or_default();
    println!("{} requests, p99 {p99:.3} s", monitor.select("requests").total()?.count);
    for event in monitor.events() {
        println!("{} {}", event.metric, event.text);
    }

    // A value that is no number is counted, and spoils nothing.
    monitor.record("request_seconds", f64::NAN, &[("route", "/pay")]);
    let info = monitor.metrics().into_iter().find(|info| &*info.name == "request_seconds");
    assert_eq!(info.map(|info| info.refused), Some(1));
    assert_eq!(monitor.select("requests").total()?.count, 20_000);
    assert!((p99 - 0.099).abs() <= 0.001, "within 1 %: {p99}");
    Ok(())
}
