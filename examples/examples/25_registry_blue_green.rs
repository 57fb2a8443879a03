//! Blue-green: the new version stands ready beside the old one, is tried by testers, and takes over in one go.
//!
//! `cargo run --release -p swarm-examples --example 25_registry_blue_green`
//!
//! A tester is pinned to green while everybody else has blue. The rollout waits for an approval, switches, and waits for
//! another before it calls itself complete; until then an abort puts everything back as it was, pins included. No reader
//! ever sees half of a switch.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::sync::Arc;

use futures::StreamExt;
use swarm_registry::{
    ErrorKind, EventKind, ObjectVersionStore, Rollout, RolloutPhase, RolloutStatus, Split, Version,
    VersionRegistry,
};

/// Answers once the rollout is at its step number `step`.
async fn at_step(
    registry: &VersionRegistry,
    step: usize,
) -> Result<Arc<RolloutStatus>, Box<dyn std::error::Error>> {
    let mut watch = registry.watch(Default::default());
    loop {
        let status = registry.rollout("production").await?;
        if status.step() == step {
            return Ok(status);
        }
        watch.next().await.ok_or("a watch has no end")??;
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = VersionRegistry::with_store(ObjectVersionStore::memory()).await?;
    for id in ["blue", "green"] {
        registry.register(Version::new(id).artifact(id)).await?;
    }
    registry.deploy("production", Split::all("blue").pin("tester@example.org", "green")).await?;
    let router = registry.router("production").await?;
    let plan = Rollout::new().approval("the testers like it").weight(100.0).approval("nothing burns");

    for all_is_well in [false, true] {
        registry.start_rollout("production", "green", &plan).await?;
        let driver = tokio::spawn({
            let registry = registry.acting_as("release-bot");
            // There is no analysis in this plan.
            async move { registry.drive_rollout("production", &()).await }
        });
        let ready = at_step(&registry, 0).await?;
        assert_eq!((&*router.route("anyone"), &*router.route("tester@example.org")), ("blue", "green"));
        registry.acting_as("qa").approve_rollout(&ready).await?;

        let switched = at_step(&registry, 2).await?;
        assert_eq!(router.route("anyone"), "green");
        // An approval holds for one step: that of before is worth nothing here.
        let stale = registry.approve_rollout(&ready).await;
        assert_eq!(stale.map_err(|error| error.kind()).err(), Some(ErrorKind::Conflict));
        if all_is_well {
            registry.acting_as("operations").approve_rollout(&switched).await?;
        } else {
            registry.acting_as("operations").abort_rollout(&switched, "the pager rang").await?;
        }
        let ended = driver.await??;
        println!("{ended}");
        let expected = if all_is_well { RolloutPhase::Completed } else { RolloutPhase::Aborted };
        assert_eq!(ended.phase(), expected);
        assert_eq!(router.route("anyone"), if all_is_well { "green" } else { "blue" });
        assert_eq!(router.route("tester@example.org"), "green");
    }
    for event in registry.history(1).await? {
        let EventKind::Rollout(rollout) = &event.kind else { continue };
        println!("{:?} by {:?}: {:?}", rollout.change, event.actor, rollout.reason);
    }
    Ok(())
}
