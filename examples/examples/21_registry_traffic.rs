//! A fifth of the users get the new version, then all; it does badly, and everything goes back as it was.
//!
//! `cargo run --release -p swarm-examples --example 21_registry_traffic`
//!
//! Users keep their version as the share grows: only as many move as must, and a rollback restores each one's place. A
//! tester is pinned to the new version all the while. A second handle on the same folder stands for another process; it
//! hears of every change through its watch.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use futures::StreamExt;
use swarm_examples::Scratch;
use swarm_registry::{EventKind, Router, Split, Version, VersionRegistry, WatchOptions};

/// Which version each of 10,000 users gets.
fn users(router: &Router) -> Vec<String> {
    (0..10_000).map(|user| router.route(&format!("user-{user}")).to_string()).collect()
}

fn moved(before: &[String], after: &[String]) -> usize {
    before.iter().zip(after).filter(|(before, after)| before != after).count()
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Scratch::new("registry-traffic")?;
    let registry = VersionRegistry::open(&folder).await?;
    for id in ["v1.0_current", "v2.0_refactored"] {
        registry.register(Version::new(id).artifact(id)).await?;
    }
    registry.deploy("production", Split::all("v1.0_current")).await?;

    let elsewhere = VersionRegistry::open(&folder).await?;
    let router = elsewhere.router("production").await?;
    let mut watch = elsewhere.watch(WatchOptions::default());
    let first = users(&router);

    let mut before = first.clone();
    for share in [20.0, 50.0, 100.0] {
        let split = Split::of([("v1.0_current", 100.0 - share), ("v2.0_refactored", share)])?
            .pin("tester@example.org", "v2.0_refactored");
        registry.deploy("production", split).await?;
        let event = watch.next().await.ok_or("a watch has no end")??;
        assert!(matches!(event.kind, EventKind::Deployed(_)));
        assert_eq!(router.route("tester@example.org"), "v2.0_refactored");
        let after = users(&router);
        println!("{share:>3} %: {:>4} of 10,000 users moved", moved(&before, &after));
        // Whoever had the new version keeps it.
        assert!(
            before.iter().zip(&after).all(|(before, after)| before == after || *after == "v2.0_refactored")
        );
        before = after;
    }

    // Back to 50 %, back to 20 %, back to where everyone was.
    for _ in 0..3 {
        let back = registry.rollback("production").await?;
        watch.next().await.ok_or("a watch has no end")??;
        println!("rolled back to {}", back.split());
    }
    assert_eq!(users(&router), first);
    for deployment in registry.deployments("production").await? {
        println!("{} {:?} {}", deployment.number(), deployment.cause(), deployment.split());
    }
    Ok(())
}
