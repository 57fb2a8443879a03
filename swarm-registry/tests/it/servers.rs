//! S3 and Azure Blob Storage as real servers speak them: PyPI's `moto_server` and npm's `azurite-blob`, through a proxy that
//! fails now and then. `SWARM_LONG=1` makes it fail four times as often, and asks without it too.

mod patient;
mod process;
mod proxy;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use swarm_registry::object_store::aws::AmazonS3Builder;
use swarm_registry::object_store::azure::MicrosoftAzureBuilder;
use swarm_registry::object_store::{BackoffConfig, ClientOptions, ObjectStore, RetryConfig};
use swarm_registry::testing::conformance;
use swarm_registry::{ErrorKind, ObjectVersionStore, Split, Version, VersionRegistry};

use patient::Patient;
use process::{Kind, Server};
use proxy::{Fault, Proxy};

const ALL: [Fault; 3] = [Fault::Unavailable, Fault::LoseAnswer, Fault::Hangs];

/// A client of the server that listens at `port`, or of a proxy before it.
fn client(kind: Kind, port: u16) -> Arc<dyn ObjectStore> {
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(2),
            max_backoff: Duration::from_millis(20),
            base: 2.0,
        },
        max_retries: 20,
        retry_timeout: Duration::from_secs(30),
    };
    let options = ClientOptions::new().with_allow_http(true).with_timeout(Duration::from_millis(1500));
    let address = format!("http://127.0.0.1:{port}");
    match kind {
        Kind::S3 => {
            let builder = AmazonS3Builder::new().with_endpoint(address).with_region("us-east-1");
            let builder = builder.with_access_key_id("test").with_secret_access_key("test");
            let builder = builder.with_bucket_name(process::BUCKET).with_client_options(options);
            Arc::new(builder.with_retry(retry).build().unwrap())
        }
        Kind::Azure => {
            let builder = MicrosoftAzureBuilder::new().with_account(process::ACCOUNT);
            let builder = builder.with_access_key(process::KEY).with_container_name(process::BUCKET);
            let builder = builder.with_endpoint(format!("{address}/{}", process::ACCOUNT));
            Arc::new(builder.with_client_options(options).with_retry(retry).build().unwrap())
        }
    }
}

fn server(kind: Kind) -> Option<Server> {
    let server = Server::start(kind);
    if server.is_none() {
        eprintln!("left out: tests with a server for {kind:?}, for `{}` is not here", kind.program());
    }
    server
}

fn long() -> bool {
    std::env::var("SWARM_LONG").is_ok_and(|long| long == "1")
}

async fn keeps_the_contract(kind: Kind) {
    let Some(server) = server(kind) else { return };
    let next = AtomicU32::new(0);
    let runs = [("failing-", &ALL[..]), ("", &[])];
    for (name, faults) in &runs[..if long() { 2 } else { 1 }] {
        let proxy = Proxy::start(server.port, faults, if long() { 3 } else { 12 });
        let objects = client(kind, proxy.port);
        let report = conformance::check(async || {
            let prefix = format!("{name}{}", next.fetch_add(1, Ordering::Relaxed));
            Patient(ObjectVersionStore::new(objects.clone(), &prefix).unwrap())
        })
        .await;
        assert!(report.is_ok(), "{kind:?}: {report}");
        let injected = proxy.injected();
        assert!(injected.iter().all(|count| *count >= 5), "{kind:?}: {injected:?} were injected");
        eprintln!("{kind:?} {faults:?}: {} requests, {injected:?} injected, {report}", proxy.requests());
    }
}

/// A client repeats a write whose answer was lost, and is told that the object exists. The registry knows its own record.
async fn loses_and_doubles_nothing(kind: Kind) {
    let Some(server) = server(kind) else { return };
    let proxy = Proxy::start(server.port, &ALL, 3);
    let store = ObjectVersionStore::new(client(kind, proxy.port), "registry").unwrap();
    let one = async |member: usize| {
        let registry = loop {
            if let Ok(registry) = VersionRegistry::with_store(store.clone()).await {
                break registry;
            }
        };
        let mut acknowledged = Vec::new();
        for at in 0..6 {
            let id = format!("v{member}.{at}");
            let version = || Version::new(&id).artifact(format!("build {at}"));
            let mut tries = 0;
            while let Err(error) = registry.register(version()).await {
                // Where it was done and the answer is lost for good, trying again says so.
                assert!(error.is_retryable() || (tries > 0 && error.kind() == ErrorKind::AlreadyExists));
                tries += 1;
                if !error.is_retryable() {
                    break;
                }
            }
            let number = loop {
                match registry.deploy("production", Split::all(&id)).await {
                    Ok(made) => break made.number(),
                    Err(error) => assert!(error.is_retryable(), "{error:?}"),
                }
                // Read before you repeat.
                let made = loop {
                    if let Ok(made) = registry.deployments("production").await {
                        break made;
                    }
                };
                if let Some(made) = made.iter().find(|made| made.sole_version() == Some(&*id)) {
                    break made.number();
                }
            };
            acknowledged.push((number, id));
        }
        acknowledged
    };
    let acknowledged = futures::future::join_all((0..4).map(one)).await.concat();
    let injected = proxy.injected();
    assert!(injected.iter().all(|count| *count >= 5), "{injected:?} were injected");

    let direct = ObjectVersionStore::new(client(kind, server.port), "registry").unwrap();
    let registry = VersionRegistry::with_store(direct).await.unwrap();
    let head = registry.verify().await.unwrap();
    assert_eq!(head.record, 4 * 6 * 2, "each happened once");
    let deployments = registry.deployments("production").await.unwrap();
    assert_eq!(acknowledged.len(), 24);
    for (number, id) in acknowledged {
        assert_eq!(deployments[number as usize - 1].sole_version(), Some(&*id));
    }
    eprintln!("{kind:?}: 48 records, {} requests, {injected:?} injected", proxy.requests());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_keeps_the_contract_also_with_errors_and_time_outs() {
    keeps_the_contract(Kind::S3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn azure_keeps_the_contract_also_with_errors_and_time_outs() {
    keeps_the_contract(Kind::Azure).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_in_s3_loses_and_doubles_nothing_when_answers_are_lost() {
    loses_and_doubles_nothing(Kind::S3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_registry_in_azure_loses_and_doubles_nothing_when_answers_are_lost() {
    loses_and_doubles_nothing(Kind::Azure).await;
}
