//! A restart that forgets nothing: a week of baselines, an alert that fires, and who was told of it.
//!
//! `cargo run --release -p swarm-examples --example 33_monitor_restart`
//!
//! The monitor writes a snapshot, the alerts have a file of their own. The second life knows the week before, so that it sees at once that
//! tasks take longer; and what was told in the first is not told again. A snapshot that is damaged is kept aside, and the service
//! starts all the same.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use swarm_examples::Scratch;
use swarm_monitor::testing::{FakeClock, RecordingNotifier, Synthetic};
use swarm_monitor::{AlertEngine, AlertRule, Condition, Measurement, PerformanceMonitor, Route, Severity};

struct Life {
    monitor: PerformanceMonitor,
    alerts: AlertEngine,
}

fn start(folder: &Path, clock: &FakeClock, told: &RecordingNotifier) -> Result<Life, swarm_monitor::Error> {
    let monitor = PerformanceMonitor::builder()
        .restore(folder.join("metrics.snapshot"))
        .clock(clock.clone())
        .build()?;
    let full = Condition::of("disk_used").last().above(0.9);
    let alerts = AlertEngine::builder(&monitor)
        .rule(AlertRule::new("disk_full", full).severity(Severity::Critical))
        .rule(
            AlertRule::new("slower", Condition::of("agent_cycle_time").drifts(0.2))
                .severity(Severity::Critical),
        )
        .route(Route::new("ops", told.clone()))
        .file(folder.join("alerts"))
        .build()?;
    if let Some(restored) = monitor.restored() {
        println!("{restored}; {} alerts", alerts.recovery().alerts);
    }
    Ok(Life { monitor, alerts })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = Scratch::new("monitor-restart")?;
    let clock = FakeClock::new(chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::days(20_000));
    let told = RecordingNotifier::new();

    let Life { monitor, alerts } = start(&folder, &clock, &told)?;
    for value in Synthetic::new(7).level(45.2).spread(4.0).values(7 * 24 * 10) {
        monitor.record("agent_cycle_time", value, &[("agent", "Agent-7")]);
        clock.advance(Duration::from_secs(360));
        monitor.tick();
    }
    monitor.record("disk_used", Measurement::Gauge(0.97), &[]);
    alerts.evaluate();
    alerts.deliver().await;
    let first: Vec<String> = told.take().iter().map(|told| told.title()).collect();
    println!("told: {first:?}");
    assert_eq!(first, ["1 firing · disk_full"]);
    monitor.snapshot(folder.join("metrics.snapshot"))?;
    // As a crash would: nothing is closed or written here.
    drop((monitor, alerts));

    clock.advance(Duration::from_secs(600));
    let Life { monitor, alerts } = start(&folder, &clock, &told)?;
    assert_eq!(alerts.alerts()[0].rule, "disk_full");
    for value in Synthetic::new(8).level(60.0).spread(4.0).values(60) {
        monitor.record("agent_cycle_time", value, &[("agent", "Agent-7")]);
        clock.advance(Duration::from_secs(60));
        monitor.tick();
    }
    alerts.evaluate();
    alerts.deliver().await;
    let second: Vec<String> = told.take().iter().map(|told| told.title()).collect();
    println!("told: {second:?}");
    assert_eq!(
        second,
        ["1 firing · slower"],
        "the week before was there, and the full disk is not told again"
    );
    for alert in alerts.alerts() {
        println!("{alert}");
    }
    drop((monitor, alerts));

    std::fs::write(folder.join("metrics.snapshot"), "half a sna")?;
    let Life { monitor, alerts } = start(&folder, &clock, &told)?;
    assert!(monitor.restored().is_some_and(|restored| restored.is_refused()));
    assert_eq!(alerts.alerts().len(), 2, "the alerts are in another file");
    Ok(())
}
