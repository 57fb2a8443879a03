//! An axum service that routes requests by user, with a split that changes while it serves.
//!
//! `cargo run --release -p swarm-examples --example 28_registry_web`
//!
//! Each request names its user in a header; the router answers which version the user gets, without a lock or a question to
//! the store, and the response says so. The service counts successes and users by version, and these counters are the
//! source of metrics of a rollout: a bad candidate is taken back while requests come in. A second service on the same
//! folder agrees on every user, because it follows what is deployed.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example speaks to the terminal")]

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::get;
use swarm_examples::Scratch;
use swarm_registry::{
    Criterion, Judge, Measure, MetricSource, Observed, Rollout, RolloutPhase, Router, Split, Version,
    VersionRegistry, Window,
};

/// What was seen of a version since the table changed last.
#[derive(Default)]
struct Seen {
    requests: u64,
    successes: u64,
    users: BTreeSet<String>,
}

struct Service {
    router: Router,
    /// The number of the deployment, and what was seen of its versions.
    seen: Mutex<(u64, BTreeMap<String, Seen>)>,
}

async fn handle(State(service): State<Arc<Service>>, headers: HeaderMap) -> (StatusCode, String) {
    let Some(user) = headers.get("x-user").and_then(|user| user.to_str().ok()) else {
        return (StatusCode::BAD_REQUEST, "who are you?".to_owned());
    };
    let (version, number) = {
        let routed = service.router.route(user);
        (routed.to_string(), routed.deployment().number())
    };
    // The new version fails for every third user.
    let fails = version == "v2" && user.bytes().map(u64::from).sum::<u64>() % 3 == 0;
    let mut seen = service.seen.lock().unwrap_or_else(PoisonError::into_inner);
    if seen.0 < number {
        *seen = (number, BTreeMap::new());
    }
    // Who was routed before the table changed counts for nothing after it.
    if seen.0 == number {
        let of = seen.1.entry(version.clone()).or_default();
        of.requests += 1;
        of.successes += u64::from(!fails);
        of.users.insert(user.to_owned());
    }
    (if fails { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK }, version)
}

#[async_trait]
impl MetricSource for Service {
    async fn observe(&self, window: &Window) -> Result<Observed, Box<dyn Error + Send + Sync>> {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of) = seen.1.get(&window.version) else { return Ok(Observed::new()) };
        let measure = Measure::Proportion { successes: of.successes, trials: of.requests };
        Ok(Observed::new().metric("success", measure).users(of.users.len() as u64))
    }
}

/// A service on a port of its own, which follows the registry in `folder`.
async fn serve(folder: &Scratch) -> Result<(Arc<Service>, SocketAddr, VersionRegistry), Box<dyn Error>> {
    let registry = VersionRegistry::open(folder).await?;
    let service = Arc::new(Service { router: registry.router("web").await?, seen: Mutex::default() });
    let app = axum::Router::new().route("/", get(handle)).with_state(service.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move { axum::serve(listener, app).await });
    let following = registry.clone();
    tokio::spawn(async move {
        let Err(error) = following.follow(Duration::from_millis(100)).await;
        eprintln!("traffic is not followed any more: {error}");
    });
    Ok((service, address, registry))
}

/// Asks as `user`; answers the status and the version.
async fn ask(address: SocketAddr, user: &str) -> Result<(u16, String), Box<dyn Error>> {
    let (url, user) = (format!("http://{address}/"), user.to_owned());
    let answer = tokio::task::spawn_blocking(move || {
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let mut answer = agent.get(&url).header("x-user", &user).call()?;
        let body = answer.body_mut().read_to_string()?;
        Ok::<_, ureq::Error>((answer.status().as_u16(), body))
    });
    Ok(answer.await??)
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Box<dyn Error>> {
    let folder = Scratch::new("registry-web")?;
    let registry = VersionRegistry::open(&folder).await?;
    for id in ["v1", "v2"] {
        registry.register(Version::new(id).artifact(id)).await?;
    }
    registry.deploy("web", Split::all("v1")).await?;
    let (service, first, driving) = serve(&folder).await?;
    let (_, second, _) = serve(&folder).await?;

    let judge = Judge::new([Criterion::higher_is_better("success").tolerance_absolute(0.02)]);
    let plan = Rollout::new()
        .weight(30.0)
        .analysis(Duration::from_secs(3600))
        .weight(100.0)
        .judge(judge.sequential(300))
        .look_every(Duration::from_millis(200));
    // This service drives whatever rollout someone begins.
    tokio::spawn(async move {
        let Err(error) = driving.drive_rollouts("web", &*service).await;
        eprintln!("rollouts are not driven any more: {error}");
    });
    registry.start_rollout("web", "v2", &plan).await?;

    // Users come until the rollout is over.
    let mut met: BTreeMap<String, u32> = BTreeMap::new();
    let mut asked = 0;
    let ended = loop {
        let status = registry.rollout("web").await?;
        if status.phase().is_over() {
            break status;
        }
        asked += 1;
        let (_, version) = ask(first, &format!("user-{asked}")).await?;
        *met.entry(version).or_default() += 1;
    };
    println!("after {asked} requests, {met:?}: {ended}");
    assert_eq!(ended.phase(), RolloutPhase::Failed);

    // Both services agree on every user as soon as they have heard of a change.
    registry.deploy("web", Split::of([("v1", 50.0), ("v2", 50.0)])?).await?;
    let (mut agree, mut versions) = (0, BTreeSet::new());
    while agree < 50 {
        let user = format!("user-{agree}");
        let (a, b) = (ask(first, &user).await?.1, ask(second, &user).await?.1);
        if a == b && a == *registry.router("web").await?.route(&user) {
            versions.insert(a);
            agree += 1;
        }
    }
    assert_eq!(versions.len(), 2);
    println!("both services agree on {agree} users of {versions:?}");
    Ok(())
}
