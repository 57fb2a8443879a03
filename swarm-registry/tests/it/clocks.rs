//! Clocks that are wrong by hours or years, in one process or for a while. A rollout takes the time that its plan says, by
//! the clock of who drives it, or waits a little longer; and nothing is promoted because of a clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use swarm_registry::testing::FakeClock;
use swarm_registry::{
    ObjectVersionStore, OnDeadline, Rollout, RolloutPhase, RolloutStatus, VersionRegistry, Window,
};

use crate::rollouts::{Source, bad, fine, hours, judge, opened, prepared, silent, start, successes, until};

/// By how many hours the clock of one process is wrong.
const WRONG: [i64; 8] = [-5 * 365 * 24, -24, -3, -1, 1, 3, 24, 5 * 365 * 24];

/// A registry whose clock is wrong by so many hours, and stands still.
async fn wrong(store: &ObjectVersionStore, hours: i64) -> VersionRegistry {
    opened(store, &FakeClock::new(start() + TimeDelta::hours(hours))).await
}

/// Drives the rollout to its end, and answers how many minutes that took.
async fn finish(registry: &VersionRegistry, clock: &FakeClock) -> (Arc<RolloutStatus>, i64) {
    use swarm_registry::Clock;
    let from = clock.now();
    let ended = registry.drive_rollout("production", &fine()).await.unwrap();
    (ended, (clock.now() - from).num_minutes())
}

#[tokio::test]
async fn a_hold_that_a_wrong_clock_began_takes_its_time_and_no_more() {
    for off in WRONG {
        for weighs_first in [true, false] {
            let clock = FakeClock::hurried(start());
            let (store, registry) = prepared(&clock).await;
            let other = wrong(&store, off).await;
            if weighs_first {
                // The wrong one drives to the hold, and dies there.
                let plan = Rollout::new().weight(20.0).hold(hours(2)).weight(100.0);
                registry.start_rollout("production", "v2", &plan).await.unwrap();
                let driver = tokio::spawn(async move { other.drive_rollout("production", &silent()).await });
                until(&registry, |status| status.step() == 1).await;
                driver.abort();
                let _ = driver.await;
            } else {
                let plan = Rollout::new().hold(hours(2)).weight(100.0);
                other.start_rollout("production", "v2", &plan).await.unwrap();
            }
            let (ended, took) = finish(&registry, &clock).await;
            assert_eq!(ended.phase(), RolloutPhase::Completed);
            assert!((120..=125).contains(&took), "{off} h wrong, {weighs_first}: {took} minutes");
        }
    }
}

#[tokio::test]
async fn an_analysis_that_a_wrong_clock_began_looks_at_its_own_time() {
    for off in WRONG {
        let clock = FakeClock::hurried(start());
        let (store, registry) = prepared(&clock).await;
        let plan = Rollout::new().weight(20.0).analysis(hours(24)).weight(100.0).judge(judge());
        registry.start_rollout("production", "v2", &plan).await.unwrap();
        let other = wrong(&store, off).await;
        let driver = tokio::spawn(async move { other.drive_rollout("production", &silent()).await });
        until(&registry, |status| status.step() == 1).await;
        driver.abort();
        let _ = driver.await;
        let looks = Arc::new(AtomicU64::new(0));
        let counted = looks.clone();
        let source = Source(move |window: &Window| {
            assert!(start() <= window.since && window.since <= window.until, "{window:?}");
            assert!(window.until - window.since <= TimeDelta::minutes(24 * 60 + 5), "{window:?}");
            counted.fetch_add(1, Ordering::Relaxed);
            Ok(successes(window, 0.99))
        });
        let ended = registry.drive_rollout("production", &source).await.unwrap();
        assert_eq!(ended.phase(), RolloutPhase::Completed, "{off} h wrong: {ended}");
        let looks = looks.load(Ordering::Relaxed);
        assert!((2_870..=2_890).contains(&looks), "{off} h wrong: {looks} looks of two versions");
    }
}

#[tokio::test]
async fn a_pause_or_its_end_by_a_wrong_clock_neither_shortens_a_hold_nor_lengthens_it_by_more_than_itself() {
    for off in WRONG {
        for wrong_pauses in [true, false] {
            let clock = FakeClock::new(start());
            let (store, registry) = prepared(&clock).await;
            let plan = Rollout::new().hold(hours(2)).weight(100.0);
            let begun = registry.start_rollout("production", "v2", &plan).await.unwrap();
            clock.advance(hours(1));
            let other = opened(&store, &FakeClock::new(start() + TimeDelta::hours(1 + off))).await;
            let (pauses, resumes) = if wrong_pauses { (&other, &registry) } else { (&registry, &other) };
            pauses.pause_rollout(&begun).await.unwrap();
            resumes.resume_rollout(&begun).await.unwrap();
            let hurried = FakeClock::hurried(start() + TimeDelta::hours(1));
            let (ended, took) = finish(&opened(&store, &hurried).await, &hurried).await;
            assert_eq!(ended.phase(), RolloutPhase::Completed);
            assert!((60..=125).contains(&took), "{off} h wrong, pauses {wrong_pauses}: {took} minutes");
        }
    }
}

#[tokio::test]
async fn a_deadline_that_a_wrong_clock_set_is_kept() {
    for off in WRONG {
        let clock = FakeClock::hurried(start());
        let (store, registry) = prepared(&clock).await;
        let plan = Rollout::new().approval("x").weight(100.0).deadline(hours(2), OnDeadline::Abort);
        wrong(&store, off).await.start_rollout("production", "v2", &plan).await.unwrap();
        let (ended, took) = finish(&registry, &clock).await;
        assert_eq!(ended.phase(), RolloutPhase::Aborted);
        assert!((120..=125).contains(&took), "{off} h wrong: {took} minutes");
    }
}

/// A clock that leaps by years whenever it is asked, so many times, and is right from then on.
#[derive(Clone)]
struct Leaping {
    clock: FakeClock,
    asked: Arc<AtomicU64>,
    leaps: u64,
    seed: u64,
}

#[async_trait]
impl swarm_registry::Clock for Leaping {
    fn now(&self) -> DateTime<Utc> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        if asked >= self.leaps {
            return self.clock.now();
        }
        let mixed = (self.seed << 32 | asked).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        // About half of the answers are right.
        let days = [0, 0, 0, -3_650, -1, 1, 3_650][(mixed >> 33) as usize % 7];
        self.clock.now() + TimeDelta::days(days)
    }

    async fn sleep(&self, duration: Duration) {
        self.clock.sleep(duration).await;
    }
}

#[tokio::test]
async fn a_clock_that_leaps_to_and_fro_promotes_nothing_and_stops_nothing() {
    let mut leaps = 0;
    for seed in 0..32 {
        for good in [true, false] {
            let clock = FakeClock::hurried(start());
            let (store, registry) = prepared(&clock).await;
            let leaping =
                Leaping { clock: clock.clone(), asked: Arc::default(), leaps: 20 + seed * 10, seed };
            let builder = VersionRegistry::builder().clock(Arc::new(leaping.clone()));
            let leapt = builder.with_store(store).await.unwrap();
            let plan =
                Rollout::new().weight(20.0).hold(hours(1)).analysis(hours(6)).weight(100.0).judge(judge());
            leapt.start_rollout("production", "v2", &plan).await.unwrap();
            let driven = match good {
                true => leapt.drive_rollout("production", &fine()).await,
                false => leapt.drive_rollout("production", &bad()).await,
            };
            let ended = driven.unwrap();
            let expected = if good { RolloutPhase::Completed } else { RolloutPhase::Failed };
            assert_eq!(ended.phase(), expected, "seed {seed}: {ended}");
            let served = registry.deployment("production").await.unwrap();
            assert_eq!(served.sole_version(), Some(if good { "v2" } else { "v1" }), "seed {seed}");
            use swarm_registry::Clock;
            let took = (clock.now() - start()).num_hours();
            assert!(took <= 24, "seed {seed}: {took} hours");
            registry.verify().await.unwrap();
            leaps += leaping.asked.load(Ordering::Relaxed).min(leaping.leaps);
        }
    }
    assert!(leaps > 5_000, "{leaps}");
}
