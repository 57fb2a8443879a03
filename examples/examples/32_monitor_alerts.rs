//! Alerts to a webhook that this example serves: grouped, signed, acknowledged, over.
//!
//! `cargo run --release -p swarm-examples --example 32_monitor_alerts`
//!
//! The webhook is broken at first, and gets everything once when it is not. It checks the signature of each request as Standard
//! Webhooks has it. The clock is moved by hand, so that minutes pass in a moment.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::error::Error;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use serde_json::Value;
use swarm_monitor::testing::FakeClock;
use swarm_monitor::{
    AlertEngine, AlertRule, Condition, Endpoint, Matcher, PerformanceMonitor, Route, Severity, Webhook,
};

/// The other side.
#[derive(Default)]
struct Receiver {
    failures_left: AtomicU32,
    received: Mutex<Vec<String>>,
}

async fn receive(
    State(receiver): State<Arc<Receiver>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> StatusCode {
    let left = receiver.failures_left.load(Ordering::SeqCst);
    if left > 0 {
        receiver.failures_left.store(left - 1, Ordering::SeqCst);
        return StatusCode::SERVICE_UNAVAILABLE;
    }
    let signed =
        headers.get("webhook-signature").is_some_and(|signature| signature.as_bytes().starts_with(b"v1,"));
    let alerts = body["alerts"].as_array().map_or(0, Vec::len);
    let line = format!("{} {} x{alerts}, signed: {signed}", body["status"], body["groupLabels"]["alertname"]);
    receiver.received.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    StatusCode::OK
}

impl Receiver {
    fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.received.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let receiver = Arc::new(Receiver { failures_left: AtomicU32::new(2), ..Receiver::default() });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}/alerts", listener.local_addr()?);
    let service = axum::Router::new().route("/alerts", post(receive)).with_state(receiver.clone());
    tokio::spawn(async { axum::serve(listener, service).await });

    let clock = FakeClock::new(chrono::DateTime::UNIX_EPOCH + chrono::TimeDelta::days(20_000));
    let monitor = PerformanceMonitor::builder().clock(clock.clone()).build()?;
    let violations = Condition::of("v2_violations").last().above(10.0);
    let alerts = AlertEngine::builder(&monitor)
        .rule(AlertRule::new("violations", violations).each("agent").severity(Severity::Critical))
        // It is on this machine, which has to be allowed.
        .route(Route::new(
            "webhook",
            Webhook::new(Endpoint::new(&url)?.allow_private()).key(*b"a key of ours"),
        ))
        .build()?;

    // What `alerts.run()` does by itself, with a real clock.
    let mut tries = 0;
    for agent in ["Agent-7", "Agent-8"] {
        monitor.record("v2_violations", swarm_monitor::Measurement::Gauge(12.0), &[("agent", agent)]);
    }
    println!("{} began to fire", alerts.evaluate().fired.len());
    while alerts.deliver().await.delivered == 0 {
        tries += 1;
        println!("{:?}", alerts.routes()[0].last_error);
        clock.advance(Duration::from_secs(5));
        alerts.evaluate();
    }
    let told = receiver.take();
    println!("after {tries} failures: {told:?}");
    assert_eq!((tries, &told[..]), (2, &["\"firing\" \"violations\" x2, signed: true".to_owned()][..]));

    // Somebody takes one on, and silences the other while they work on it.
    let firing = alerts.alerts();
    let first = firing.iter().find(|alert| alert.labels["agent"] == "Agent-7").ok_or("it does not fire")?;
    alerts.acknowledge(&first.id, "ann", "on it")?;
    alerts.silence([Matcher::is("agent", "Agent-8")], Duration::from_secs(86_400), "ann", "known")?;
    clock.advance(Duration::from_secs(6 * 3_600));
    alerts.evaluate();
    assert_eq!(alerts.deliver().await.delivered, 0, "nobody is told again");

    for agent in ["Agent-7", "Agent-8"] {
        monitor.record("v2_violations", swarm_monitor::Measurement::Gauge(3.0), &[("agent", agent)]);
    }
    println!("{} were resolved", alerts.evaluate().resolved.len());
    alerts.deliver().await;
    let told = receiver.take();
    println!("{told:?}");
    assert_eq!(told, ["\"resolved\" \"violations\" x2, signed: true"]);
    assert!(alerts.alerts().is_empty());
    Ok(())
}
