//! The driver dies before and after every single record of a rollout; another process carries on, and nobody can tell.

use std::sync::Arc;

use proptest::prelude::*;
use swarm_registry::testing::{FakeClock, Fault, FaultyStore};
use swarm_registry::{
    EventKind, MetricSource, Observed, OnDeadline, Rollout, RolloutChange, RolloutPhase, Split, StepEnd,
    VersionRegistry, VersionStore, Window,
};

use crate::rollouts::{bad, fine, hours, judge, opened, prepared, silent, start, successes};

async fn with_store(store: impl VersionStore, clock: &FakeClock) -> VersionRegistry {
    VersionRegistry::builder().clock(Arc::new(clock.clone())).with_store(store).await.unwrap()
}

/// What counts of a rollout: how steps ended, what was deployed, how it ended. Not who had the lease when.
async fn story(registry: &VersionRegistry) -> Vec<String> {
    let mut out = Vec::new();
    for event in registry.history(1).await.unwrap() {
        let EventKind::Rollout(rollout) = &event.kind else { continue };
        let made = rollout.deployment.as_ref().map(|made| (made.number(), made.split(), made.slots()));
        out.push(format!("{:?} {made:?}", rollout.change));
    }
    out
}

async fn sweep(plan: &Rollout, source: &dyn MetricSource, end: RolloutPhase) -> u64 {
    let clock = FakeClock::hurried(start());
    let (witness, registry) = prepared(&clock).await;
    registry.start_rollout("production", "v2", plan).await.unwrap();
    let counted = FaultyStore::new(witness.clone());
    let ended = with_store(counted.clone(), &clock).await.drive_rollout("production", source).await.unwrap();
    assert_eq!(ended.phase(), end);
    let expected = story(&registry).await;
    let writes = counted.writes();
    for write in 0..writes {
        for fault in [Fault::DieBefore, Fault::DieAfter, Fault::LoseAnswer, Fault::Refuse] {
            let clock = FakeClock::hurried(start());
            let (store, registry) = prepared(&clock).await;
            registry.start_rollout("production", "v2", plan).await.unwrap();
            let faulty = FaultyStore::new(store.clone()).fail(write, fault);
            let dying = with_store(faulty, &clock).await;
            let dead = dying.drive_rollout("production", source).await;
            if matches!(fault, Fault::DieBefore | Fault::DieAfter) {
                dead.expect_err("it dies");
            }
            let other = opened(&store, &clock).await;
            let ended = other.drive_rollout("production", source).await.unwrap();
            assert_eq!(ended.phase(), end, "{write} {fault:?}");
            assert_eq!(story(&other).await, expected, "{write} {fault:?}");
            other.verify().await.unwrap();
        }
    }
    writes
}

/// Looks far apart, so that there are few leases to renew.
fn plan() -> Rollout {
    Rollout::new()
        .weight(10.0)
        .hold(hours(1) / 2)
        .weight(30.0)
        .analysis(hours(4))
        .weight(100.0)
        .judge(judge())
        .look_every(hours(1) / 2)
        .deadline(hours(1), OnDeadline::Abort)
}

#[tokio::test]
async fn another_process_carries_on_wherever_the_driver_died() {
    let mut writes = 0;
    writes += sweep(&plan(), &fine(), RolloutPhase::Completed).await;
    writes += sweep(&plan(), &bad(), RolloutPhase::Failed).await;
    writes += sweep(&plan(), &silent(), RolloutPhase::Aborted).await;
    assert!(writes >= 20, "{writes} writes were tried");
}

/// What a look says of the candidate, by the number of the analysis.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Said {
    Fine,
    Bad,
    Nothing,
}

/// Says of the candidate what belongs to the weight that it has.
struct Speaking {
    registry: VersionRegistry,
    by_weight: Vec<(u16, Said)>,
}

#[async_trait::async_trait]
impl MetricSource for Speaking {
    async fn observe(&self, window: &Window) -> Result<Observed, Box<dyn std::error::Error + Send + Sync>> {
        let split = self.registry.deployment("production").await?.split();
        let has = split.basis_points().find(|(version, _)| *version == "v2").map_or(0, |(_, points)| points);
        let said = self.by_weight.iter().find(|(weight, _)| *weight == has).map(|(_, said)| *said);
        Ok(match (said.unwrap(), &*window.version) {
            (Said::Nothing, _) => Observed::new(),
            (Said::Bad, "v2") => successes(window, 0.8),
            _ => successes(window, 0.99),
        })
    }
}

fn plans() -> impl Strategy<Value = (Vec<(u16, u8)>, Vec<Said>)> {
    let weights = prop::collection::btree_set(1_u16..10_000, 1..4);
    (weights, prop::collection::vec(0_u8..3, 4), prop::collection::vec(said(), 4))
        .prop_map(|(weights, kinds, said)| (weights.into_iter().zip(kinds).collect(), said))
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![3 => Just(Said::Fine), 1 => Just(Said::Bad), 1 => Just(Said::Nothing)]
}

fn cases() -> u32 {
    if std::env::var_os("SWARM_LONG").is_some() { 512 } else { 16 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    /// Whatever the plan, whatever is measured and whenever drivers die: no weight is deployed past an analysis that did
    /// not pass, each weight is deployed once and in order, and the end is the one that the measurements call for.
    #[test]
    fn nobody_gets_past_an_analysis_that_did_not_pass(
        (steps, said) in plans(),
        deaths in prop::collection::vec((0_u64..12, any::<bool>()), 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let mut plan = Rollout::new().judge(judge()).look_every(hours(1) / 2).deadline(hours(1), OnDeadline::Abort);
            let mut analyses = Vec::new();
            for (weight, kind) in &steps {
                plan = plan.weight(f64::from(*weight) / 100.0);
                match kind {
                    0 => plan = plan.hold(hours(1)),
                    1 => {
                        analyses.push(*weight);
                        plan = plan.analysis(hours(4));
                    }
                    _ => {}
                }
            }
            plan = plan.weight(100.0);
            let clock = FakeClock::hurried(start());
            let (store, registry) = prepared(&clock).await;
            registry.start_rollout("production", "v2", &plan).await.unwrap();
            let by_weight: Vec<(u16, Said)> = analyses.iter().copied().zip(said.iter().copied()).collect();
            let first_bad = by_weight.iter().find(|(_, said)| *said != Said::Fine).copied();
            let speaking = Speaking { registry: registry.clone(), by_weight };
            for (write, after) in deaths {
                let fault = if after { Fault::DieAfter } else { Fault::DieBefore };
                let faulty = FaultyStore::new(store.clone()).fail(write, fault);
                let _ = with_store(faulty, &clock).await.drive_rollout("production", &speaking).await;
            }
            let ended = registry.drive_rollout("production", &speaking).await.unwrap();
            let expected = match first_bad {
                None => RolloutPhase::Completed,
                Some((_, Said::Bad)) => RolloutPhase::Failed,
                Some(_) => RolloutPhase::Aborted,
            };
            assert_eq!(ended.phase(), expected, "{ended}");
            let now = registry.deployment("production").await.unwrap();
            let served = if first_bad.is_none() { Split::all("v2") } else { Split::all("v1") };
            assert_eq!(now.split(), served);
            let mut weights = Vec::new();
            for event in registry.history(1).await.unwrap() {
                let EventKind::Rollout(rollout) = &event.kind else { continue };
                if let RolloutChange::Advanced { by: StepEnd::Weighted, .. } = rollout.change {
                    let split = rollout.deployment.as_ref().unwrap().split();
                    weights.extend(split.basis_points().find(|(v, _)| *v == "v2").map(|(_, points)| points));
                }
            }
            let all = steps.iter().map(|(weight, _)| *weight).chain([10_000]);
            let allowed: Vec<u16> =
                all.take_while(|weight| first_bad.is_none_or(|(last, _)| *weight <= last)).collect();
            assert_eq!(weights, allowed, "each weight once, and none past the analysis");
            registry.verify().await.unwrap();
        });
    }
}
