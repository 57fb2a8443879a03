//! The behaviour of the crate as its users see it.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs, reason = "tests")]

mod clocks;
mod crashes;
mod features;
mod fixture;
mod full;
mod judge;
mod kill;
mod linear;
mod log;
mod meanwhile;
mod model;
mod processes;
mod retention;
mod rollout_crashes;
mod rollout_fixture;
mod rollouts;
#[cfg(all(feature = "s3", feature = "azure"))]
mod servers;
#[cfg(feature = "signatures")]
mod signatures;
mod simulations;
mod store;
mod traffic;
mod versions;
mod watch;

use swarm_registry::{ObjectVersionStore, Version, VersionRegistry};

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

/// A registry in memory with these versions.
async fn registry_with(versions: &[&str]) -> VersionRegistry {
    let registry = VersionRegistry::with_store(ObjectVersionStore::memory()).await.unwrap();
    for version in versions {
        registry.register(Version::new(*version).artifact(format!("bytes of {version}"))).await.unwrap();
    }
    registry
}
