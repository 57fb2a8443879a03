//! The behaviour of the crate as its users see it.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs, reason = "tests")]

mod alert_file;
#[cfg(feature = "toml")]
mod alert_rules;
#[cfg(feature = "http")]
mod alertmanager;
mod alerts;
mod conditions;
mod dashboards;
mod drift;
mod drift_vectors;
mod exemplars;
mod export;
#[cfg(all(feature = "metrics", feature = "tracing"))]
mod facade;
mod false_alarms;
mod features;
mod folder;
mod hostile;
mod kill;
mod kinds;
mod kits;
mod limits;
mod memory;
#[cfg(feature = "http")]
mod notify;
#[cfg(feature = "otlp")]
mod otlp;
mod page;
mod programs;
mod prometheus;
mod receivers;
mod shifts;
mod sinks;
mod snapshot;
mod soak;
mod surprise;
mod threads;
mod time;
#[cfg(feature = "http")]
mod tls;
mod windows;

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use swarm_monitor::testing::FakeClock;
use swarm_monitor::{MonitorBuilder, PerformanceMonitor, Window};

/// Every file of this folder is declared above, so that no test is left out by accident.
#[test]
fn every_file_here_is_declared() {
    let source = include_str!("main.rs");
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(module == "main" || source.contains(&format!("mod {module};")), "{name} is not declared");
    }
}

/// A monitor whose time a test moves.
struct Timed {
    monitor: PerformanceMonitor,
    clock: FakeClock,
}

impl Timed {
    fn new() -> Self {
        Timed::with(PerformanceMonitor::builder())
    }

    fn with(builder: MonitorBuilder) -> Self {
        let clock = FakeClock::new(start());
        let monitor = builder.clock(clock.clone()).build().unwrap();
        Timed { monitor, clock }
    }

    fn pass(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.monitor.tick();
    }
}

/// A Saturday's noon.
fn start() -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::seconds(1_795_262_400)
}

fn last(seconds: u64) -> Window {
    Window::last(Duration::from_secs(seconds))
}
