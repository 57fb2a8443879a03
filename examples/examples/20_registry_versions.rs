//! Two versions are registered, compared and found again; the better one becomes `stable`.
//!
//! `cargo run --release -p swarm-examples --example 20_registry_versions`
//!
//! The figures are those of the first users: violations fall from 15 to 3, where less is better, and coverage rises from
//! 82 to 88, where more is. What was registered is checked when it is read, and an alias is moved only by who knows where
//! it points. The folder can be opened by any number of processes, and opened again later.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use swarm_examples::Scratch;
use swarm_registry::{Criterion, ErrorKind, Judge, Query, Verdict, Version, VersionRegistry};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Scratch::new("registry-versions")?;
    let registry = VersionRegistry::open(&folder).await?.acting_as("Agent-8");

    let old = Version::new("v1.0_current")
        .artifact("fn main() { todo!() }")
        .metric("v2_violations", 15.0)
        .metric("test_coverage", 82.0);
    let new = Version::new("v2.0_refactored")
        .artifact("fn main() { serve() }")
        .metric("v2_violations", 3.0)
        .metric("test_coverage", 88.0)
        .label("kind", "refactoring")
        .parent("v1.0_current");
    registry.register(old).await?;
    let registered = registry.register(new).await?;
    println!("{} by {:?}", registered.version.digest(), registered.version.creator());

    let judge = Judge::new([
        Criterion::lower_is_better("v2_violations"),
        Criterion::higher_is_better("test_coverage"),
    ]);
    let comparison = registry.compare("v1.0_current", "v2.0_refactored", &judge).await?;
    println!("{comparison}");
    assert_eq!(comparison.verdict(), Verdict::Pass);

    registry.move_alias("stable", None, Some("v1.0_current")).await?;
    registry.move_alias("stable", Some("v1.0_current"), Some("v2.0_refactored")).await?;
    // Another agent had the same idea, and comes late.
    let late = registry.move_alias("stable", Some("v1.0_current"), None).await;
    assert_eq!(late.map_err(|error| error.kind()), Err(ErrorKind::Conflict));

    // Another process, or this one after a restart.
    let reopened = VersionRegistry::open(&folder).await?;
    let clean = reopened
        .find(&Query::new().metric_at_most("v2_violations", 5.0).label("kind", "refactoring"))
        .await?;
    assert_eq!(clean.len(), 1);
    assert_eq!(reopened.artifact(clean[0].id()).await?, "fn main() { serve() }");
    assert_eq!(reopened.alias("stable").await?.id(), clean[0].id());
    println!("stable is {}; the log ends at {}", clean[0].id(), reopened.verify().await?);
    Ok(())
}
