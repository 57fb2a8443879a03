//! A registry in S3: machines that share nothing but a bucket, and one that goes on serving while the bucket is away.
//!
//! `cargo run -p swarm-examples --features s3 --example 29_registry_s3`
//!
//! Runs against the server moto where `moto_server` of PyPI's `moto[server]` is in the PATH, started for the moment.
//! Elsewhere it says so, and does the same in memory. For a bucket of your own only `client` differs:
//! `AmazonS3Builder::from_env()` with the bucket's name takes region and credentials as the `aws` tool does.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use swarm_examples::Scratch;
use swarm_registry::object_store::aws::AmazonS3Builder;
use swarm_registry::object_store::memory::InMemory;
use swarm_registry::object_store::{ClientOptions, ObjectStore, RetryConfig};
use swarm_registry::{ErrorKind, ObjectVersionStore, Split, Version, VersionRegistry, WatchOptions};

const BUCKET: &str = "releases";

/// A server with one bucket, until it is dropped.
struct Moto {
    child: Child,
    port: u16,
}

impl Moto {
    /// `None` where it is not installed.
    fn start() -> Result<Option<Moto>, Box<dyn Error>> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new("moto_server");
        command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).env("PYTHONUNBUFFERED", "1");
        let Ok(mut child) = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn() else {
            return Ok(None);
        };
        let says = child.stderr.take().ok_or("it has no standard error")?;
        let server = Moto { child, port };
        let mut lines = BufReader::new(says).lines().map_while(Result::ok);
        if !lines.any(|line| line.contains("Running on")) {
            return Err("moto_server ended before it listened".into());
        }
        // It goes on talking, and someone has to listen.
        std::thread::spawn(move || lines.count());
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        let make = format!("PUT /{BUCKET} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\n");
        stream.write_all(format!("{make}content-length: 0\r\nconnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        if !answer.starts_with("HTTP/1.1 200") {
            return Err(format!("the bucket was not made: {answer}").into());
        }
        Ok(Some(server))
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn client(server: &Moto) -> Result<Arc<dyn ObjectStore>, Box<dyn Error>> {
    // Whoever is asked while the bucket is away says so within seconds; by default, within minutes.
    let retry =
        RetryConfig { max_retries: 2, retry_timeout: Duration::from_secs(5), ..RetryConfig::default() };
    let builder = AmazonS3Builder::new().with_bucket_name(BUCKET).with_region("us-east-1").with_retry(retry);
    let builder = builder.with_access_key_id("example").with_secret_access_key("example");
    let builder = builder.with_endpoint(format!("http://127.0.0.1:{}", server.port));
    Ok(Arc::new(builder.with_client_options(ClientOptions::new().with_allow_http(true)).build()?))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let server = Moto::start()?;
    let objects = match &server {
        Some(server) => client(server)?,
        None => {
            println!("left out: S3, for `moto_server` is not here (pip install 'moto[server]'); in memory:");
            Arc::new(InMemory::new())
        }
    };
    // Under a path of its own, so that a bucket can hold several, and other things.
    let open = async || VersionRegistry::with_store(ObjectVersionStore::new(objects.clone(), "shop")?).await;

    // One machine builds, another serves.
    let builds = open().await?.acting_as("ci");
    builds.register(Version::new("v1").artifact("the old build")).await?;
    builds.register(Version::new("v2").artifact("the new build").parent("v1")).await?;
    builds.deploy("production", Split::all("v1")).await?;

    let serves = open().await?;
    let router = serves.router("production").await?;
    let mut watch = serves.watch(WatchOptions::default().longest(Duration::from_millis(200)));
    let changed = builds.deploy("production", Split::of([("v1", 80.0), ("v2", 20.0)])?).await?;
    while let Some(event) = watch.next().await {
        let event = event?;
        println!("seen by the machine that serves: record {} by {:?}", event.record, event.actor);
        if event.deployment().is_some_and(|made| made.number() == changed.number()) {
            break;
        }
    }
    let users = (0..10_000).filter(|user| router.route(&format!("user-{user}")) == "v2").count();
    println!("{users} of 10,000 users have v2");
    assert!((1_800..2_200).contains(&users));

    // Of two that saw the same deployment one comes late, and is told.
    let seen = changed.number();
    builds.deploy_after("production", seen, Split::all("v2")).await?;
    let late = serves.deploy_after("production", seen, Split::all("v1")).await;
    assert_eq!(late.map_err(|error| error.kind()).err(), Some(ErrorKind::Conflict));
    assert_eq!(router.route("user-42"), "v2");
    assert_eq!(serves.artifact("v2").await?, "the new build");

    // All of it as one file, and from there in a folder.
    let scratch = Scratch::new("29_registry_s3")?;
    let head = serves.backup(scratch.join("backup")).await?;
    let folder = ObjectVersionStore::folder(scratch.join("registry"))?;
    assert_eq!(VersionRegistry::restore(scratch.join("backup"), folder).await?, head);

    // The bucket is away: nothing can be changed, and everybody is served as before.
    if let Some(server) = server {
        drop(server);
        let away = serves.rollback("production").await.err().ok_or("nobody was there to write to")?;
        assert!(away.is_retryable());
        println!("while the bucket is away: {away}");
    }
    assert_eq!(router.route("user-42"), "v2");
    Ok(())
}
