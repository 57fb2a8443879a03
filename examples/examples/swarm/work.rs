use std::collections::HashMap;
use std::error::Error;
use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use swarm_monitor::testing::FakeClock;
use swarm_monitor::{Measurement, PerformanceMonitor};
use swarm_registry::{Measure, MetricSource, Observed, Router, Window};

const TASKS_A_MINUTE: u64 = 30;

/// The agents at work: each task goes to the version that its key is routed to, and is recorded.
pub(crate) struct Work {
    monitor: PerformanceMonitor,
    clock: FakeClock,
    router: Router,
    /// Which share of its tasks each version spoils: what nobody knows before.
    spoils: Mutex<HashMap<String, f64>>,
}

impl Work {
    pub(crate) fn new(monitor: PerformanceMonitor, clock: FakeClock, router: Router) -> Self {
        Work { monitor, clock, router, spoils: Mutex::new(HashMap::from([("v1".to_owned(), 0.05)])) }
    }

    pub(crate) fn spoils(&self, version: &str, share: f64) {
        self.spoils.lock().expect("nothing panics with it").insert(version.to_owned(), share);
    }

    /// The versions that a thousand tasks would go to.
    pub(crate) fn serving(&self) -> Vec<String> {
        let mut versions: Vec<String> =
            (0..1_000).map(|task| self.router.route(&format!("task-{task}")).to_string()).collect();
        versions.sort();
        versions.dedup();
        versions
    }

    /// Goes on working until `then`.
    fn until(&self, then: DateTime<Utc>) {
        let spoils = self.spoils.lock().expect("nothing panics with it").clone();
        while self.monitor.now() < then {
            let minute = self.monitor.now().timestamp() as u64 / 60;
            for task in minute * TASKS_A_MINUTE..(minute + 1) * TASKS_A_MINUTE {
                let version = self.router.route(&format!("task-{task}"));
                let chance = task.wrapping_mul(0x9e37_79b9_7f4a_7c15) as f64 / u64::MAX as f64;
                let outcome = if chance < spoils[&*version] { "spoilt" } else { "good" };
                self.monitor.record(
                    "tasks",
                    Measurement::Count(1),
                    &[("version", &version), ("outcome", outcome)],
                );
            }
            self.clock.advance(Duration::from_secs(60));
            self.monitor.tick();
        }
    }

    fn count(&self, window: &Window, outcome: Option<&str>) -> Result<u64, swarm_monitor::Error> {
        let tasks = self.monitor.select("tasks").tag("version", &window.version);
        let tasks = match outcome {
            Some(outcome) => tasks.tag("outcome", outcome),
            None => tasks,
        };
        Ok(tasks.summary(swarm_monitor::Window::between(window.since, window.until))?.count)
    }
}

#[async_trait]
impl MetricSource for Work {
    async fn observe(&self, window: &Window) -> Result<Observed, Box<dyn Error + Send + Sync>> {
        self.until(window.until);
        let (successes, trials) = (self.count(window, Some("good"))?, self.count(window, None)?);
        Ok(Observed::new().metric("good_tasks", Measure::Proportion { successes, trials }))
    }
}
