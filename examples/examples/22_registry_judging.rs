//! A canary is watched while samples come in, and taken back as soon as it is known to be worse.
//!
//! `cargo run --release -p swarm-examples --example 22_registry_judging`
//!
//! The samples are made up: the new version takes 50 ms instead of 45. A test for a fixed number of samples would find a
//! difference sooner or later even where there is none, if it is looked at often enough; a sequential one may be looked at
//! after every request. Whether each version sees the share of users that it should is checked too.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::collections::BTreeMap;

use swarm_registry::{
    Criterion, Judge, Measure, ObjectVersionStore, Split, Verdict, Version, VersionRegistry,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let registry = VersionRegistry::with_store(ObjectVersionStore::memory()).await?;
    for id in ["v1", "v2"] {
        registry.register(Version::new(id).artifact(id)).await?;
    }
    registry.deploy("production", Split::all("v1")).await?;
    let canary = registry.deploy("production", Split::of([("v1", 80.0), ("v2", 20.0)])?).await?;
    let router = registry.router("production").await?;

    let judge = Judge::new([Criterion::lower_is_better("latency_ms")]).sequential(2_000);
    let mut latencies: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    let mut requests = 0_u32;
    let verdict = loop {
        for _ in 0..500 {
            requests += 1;
            let version = router.route(&format!("user-{requests}")).to_string();
            // Between 0.5 and 1.5 times what the version takes.
            let noise = f64::from(requests.wrapping_mul(2_654_435_761) >> 8) / f64::from(1 << 24) + 0.5;
            let latency = if version == "v2" { 50.0 } else { 45.0 } * noise;
            latencies.entry(version).or_default().push(latency);
        }
        let measured = |version: &str| {
            let samples = latencies.get(version).cloned().unwrap_or_default();
            BTreeMap::from([("latency_ms".to_owned(), Measure::Samples(samples))])
        };
        let comparison = judge.compare(&measured("v1"), &measured("v2"))?;
        println!("after {requests} requests: {comparison}");
        if comparison.verdict() != Verdict::Inconclusive || requests >= 20_000 {
            break comparison.verdict();
        }
    };
    assert_eq!(verdict, Verdict::Fail);

    let counts = latencies.iter().map(|(version, samples)| (version.clone(), samples.len() as u64)).collect();
    let ratio = canary.split().sample_ratio(&counts);
    println!("{counts:?}: p {:.3}", ratio.p);
    assert!(!ratio.is_mismatch());

    // Only if nobody else took this very deployment back meanwhile.
    let back = registry.rollback_from("production", canary.number()).await?;
    assert_eq!(back.sole_version(), Some("v1"));
    Ok(())
}
