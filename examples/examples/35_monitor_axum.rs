//! An axum service that records with the macros of the `metrics` facade, and shows it at `/metrics` and as a page.
//!
//! `cargo run --release -p swarm-examples --example 35_monitor_axum`
//!
//! The handlers know nothing of the monitor: it is installed once as the recorder of the facade, so that a service which already uses
//! those macros changes one line. A layer turns the spans of handlers into histograms. Then a client makes requests and reads both.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::error::Error;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use metrics::{counter, describe_histogram, gauge, histogram};
use swarm_monitor::{PerformanceMonitor, SpanTimes, Window};
use tracing::Instrument;
use tracing_subscriber::prelude::*;

/// A handler as it was before there was a monitor.
async fn pay(Path(amount): Path<u32>) -> StatusCode {
    let begun = Instant::now();
    gauge!("payments_under_way").increment(1.0);
    let status = async { if amount > 100 { StatusCode::PAYMENT_REQUIRED } else { StatusCode::OK } }
        .instrument(tracing::info_span!("charge", route = "/pay"))
        .await;
    gauge!("payments_under_way").decrement(1.0);
    counter!("payments", "status" => status.as_u16().to_string()).increment(1);
    histogram!("payment_seconds").record(begun.elapsed());
    status
}

async fn exposition(State(monitor): State<PerformanceMonitor>, headers: HeaderMap) -> impl IntoResponse {
    let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok()).unwrap_or_default();
    let exposition = monitor.expose(accept);
    ([(CONTENT_TYPE, exposition.content_type)], exposition.body)
}

async fn page(State(monitor): State<PerformanceMonitor>) -> Html<String> {
    Html(monitor.to_html("Payments", Window::last(Duration::from_secs(3_600))))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let monitor = PerformanceMonitor::new();
    metrics::set_global_recorder(monitor.clone())?; // the one line
    tracing_subscriber::registry().with(SpanTimes::new(monitor.clone()).field("route")).init();
    describe_histogram!("payment_seconds", metrics::Unit::Seconds, "Time to answer a payment.");

    let service = Router::new()
        .route("/pay/{amount}", get(pay))
        .route("/metrics", get(exposition))
        .route("/", get(page))
        .with_state(monitor.clone());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serving = tokio::spawn(async move { axum::serve(listener, service).await });

    let (text, html) = tokio::task::spawn_blocking(move || client(&address.to_string())).await??;
    serving.abort();
    for line in text.lines().filter(|line| !line.contains("_bucket")) {
        println!("{line}");
    }
    println!("and a page of {} kB", html.len() / 1_000);
    assert!(
        text.contains("payments_total{status=\"200\"} 30\n")
            && text.contains("payments_total{status=\"402\"} 10\n")
    );
    assert!(text.contains("payment_seconds_count 40\n") && text.contains("payments_under_way 0.0\n"));
    assert!(text.contains("span_seconds_count{route=\"/pay\",span=\"charge\"} 40\n"));
    assert!(html.contains("payment_seconds") && text.ends_with("# EOF\n"));
    Ok(())
}

fn client(address: &str) -> Result<(String, String), ureq::Error> {
    let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
    for at in 0..40 {
        agent.get(format!("http://{address}/pay/{}", if at % 4 == 0 { 200 } else { 20 })).call()?;
    }
    let text = agent
        .get(format!("http://{address}/metrics"))
        .header("accept", "application/openmetrics-text")
        .call()?;
    let page = agent.get(format!("http://{address}/")).call()?;
    Ok((text.into_body().read_to_string()?, page.into_body().read_to_string()?))
}
