//! Metrics pushed by OTLP, with an exemplar that leads from a slow request to its trace.
//!
//! `cargo run --release -p swarm-examples --example 38_monitor_otlp`
//!
//! Without a Collector there is a receiver of a few lines in here: it is busy the first time, and does not take one point the second. With
//! one, set OpenTelemetry's own variable: `OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318`, or
//! `http://localhost:9090/api/v1/otlp` for a Prometheus 3 that was started with `--web.enable-otlp-receiver`.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::error::Error;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};

use swarm_monitor::{Description, Endpoint, Measurement, OtlpExporter, PerformanceMonitor};

/// Of the W3C's trace context.
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let monitor = PerformanceMonitor::new();
    monitor.describe("request_seconds", Description::new("Time to answer a request.").unit("seconds"));
    let seconds = monitor.histogram("request_seconds", &[("route", "/pay")]);
    for at in 0..10_000 {
        seconds.record(0.001 * f64::from(at % 100));
    }
    // One that was slow, and where to look why.
    seconds.record_with_exemplar(2.7, &[("trace_id", TRACE), ("span_id", "b7ad6b7169203331")]);
    monitor.record("deployed", Measurement::Event("v2.0_refactored"), &[("agent", "Agent-8")]);
    monitor.record("v2_violations", Measurement::Gauge(12.0), &[]);

    if let Ok(receiver) = std::env::var("OTEL_EXPORTER_OTLP_ENDPOINT") {
        let exporter = OtlpExporter::new(Endpoint::new(&receiver)?.allow_private()).service("checkout");
        println!("{:#?}", exporter.push(&monitor).await?);
        return Ok(());
    }

    let listener = TcpListener::bind("127.0.0.1:0")?;
    let receiver = Endpoint::new(&format!("http://{}", listener.local_addr()?))?
        .allow_private() // it is on this machine
        .header("x-api-key", "not in any log")?;
    let receiving = std::thread::spawn(move || receive(&listener).map_err(|error| error.to_string()));
    let exporter =
        OtlpExporter::new(receiver).service("checkout").resource("deployment.environment.name", "staging");

    let busy = exporter.push(&monitor).await.expect_err("it is busy at first");
    println!("pushed: {busy}; again later: {}", busy.is_retryable());
    assert!(busy.is_retryable());
    // `run` waits and tries again by itself. Nothing was lost: every point counts from when its series began.
    let pushed = exporter.push(&monitor).await?;
    println!("pushed: {} points, {} of them not taken: {}", pushed.points, pushed.rejected, pushed.message);
    assert_eq!((pushed.requests, pushed.points, pushed.rejected), (1, 3, 1));

    let body = receiving.join().map_err(|_| "the receiver panicked")??;
    let has = |part: &[u8]| body.windows(part.len()).any(|window| window == part);
    assert!(has(b"request_seconds") && has(b"checkout") && has(&[0x0a, 0xf7, 0x65, 0x19]));
    println!("received: {} bytes, with the name, the service and the trace in them", body.len());
    Ok(())
}

/// Answers two requests, and gives back what was in the second.
fn receive(listener: &TcpListener) -> Result<Vec<u8>, Box<dyn Error>> {
    let busy = "503 Service Unavailable\r\nRetry-After: 1";
    // `ExportMetricsServiceResponse { partial_success { rejected_data_points: 1, error_message: "too old" } }`
    let partial = b"\x0a\x0b\x08\x01\x12\x07too old";
    answer(listener.accept()?.0, busy, b"")?;
    answer(listener.accept()?.0, "200 OK", partial)
}

fn answer(mut stream: TcpStream, status: &str, with: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut length = 0;
    for line in reader.by_ref().lines() {
        let line = line?;
        match line.split_once(": ") {
            None if line.is_empty() => break,
            None => println!("received: {line}"),
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse()?,
            Some(_) => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        with.len()
    )?;
    stream.write_all(with)?;
    Ok(body)
}
