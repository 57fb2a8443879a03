//! The same with the libraries that others record with.

use std::hint::black_box;
use std::sync::OnceLock;
use std::sync::atomic::AtomicU64;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use opentelemetry::KeyValue;
use opentelemetry::metrics::MeterProvider;
use opentelemetry_sdk::metrics::{ManualReader, SdkMeterProvider};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};

use super::{Way, alone, shared, tags};

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    agent: String,
    route: String,
    status: String,
}

fn provider() -> SdkMeterProvider {
    SdkMeterProvider::builder().with_reader(ManualReader::builder().build()).build()
}

/// The facade's macros go to the process's recorder. What it leaves for later is done by the handle, as its server does every few seconds.
fn install() -> PrometheusHandle {
    static INSTALLED: OnceLock<PrometheusHandle> = OnceLock::new();
    let install = || {
        let recorder = PrometheusBuilder::new().build_recorder();
        let handle = recorder.handle();
        metrics::set_global_recorder(recorder).unwrap();
        handle
    };
    INSTALLED.get_or_init(install).clone()
}

pub(super) fn handles() -> Vec<Way<'static>> {
    let exporter = install();
    let counter: Counter<u64, AtomicU64> = Counter::default();
    let facade = metrics::counter!("requests", "route" => "/pay");
    let provider = provider();
    let otel = provider.meter("bench").u64_counter("requests").build();
    let attributes = [KeyValue::new("route", "/pay")];
    let bound = otel.bind(&attributes);
    let keep = provider.clone();
    vec![
        shared("prometheus-client", move |_| {
            counter.inc();
        }),
        shared("metrics, with its exporter", move |_| facade.increment(1))
            .drained(move || exporter.run_upkeep()),
        shared("opentelemetry, bound", move |_| {
            let _keep = &keep;
            bound.add(1);
        }),
        shared("opentelemetry, attributes ready", move |_| {
            let _keep = &provider;
            otel.add(1, &attributes);
        }),
    ]
}

pub(super) fn labels(series: u64) -> Vec<Way<'static>> {
    let exporter = install();
    let family = Family::<Labels, Counter>::default();
    let provider = provider();
    let otel = provider.meter("bench").u64_counter("requests").build();
    vec![
        shared("prometheus-client", move |at| {
            let [agent, route, status] = tags(at, series).map(|(_, value)| value.to_owned());
            family.get_or_create(black_box(&Labels { agent, route, status })).inc();
        }),
        shared("metrics, with its exporter", move |at| {
            let [agent, route, status] = tags(at, series).map(|(_, value)| value);
            metrics::counter!("requests", "agent" => agent, "route" => route, "status" => status)
                .increment(1);
        })
        .drained(move || exporter.run_upkeep()),
        shared("opentelemetry", move |at| {
            let _keep = &provider;
            otel.add(1, black_box(&tags(at, series).map(|(key, value)| KeyValue::new(key, value))));
        }),
    ]
}

pub(super) fn histograms(values: &[f64]) -> Vec<Way<'_>> {
    let exporter = install();
    let value = |at: u64| values[at as usize % 65_536];
    let mut sketch = sketches_ddsketch::DDSketch::new(sketches_ddsketch::Config::defaults());
    let mut hdr = hdrhistogram::Histogram::<u64>::new_with_bounds(1, 10_000_000, 2).unwrap();
    let histogram = Histogram::new(exponential_buckets(0.001, 2.0, 14));
    let facade = metrics::histogram!("seconds");
    let provider = provider();
    let otel = provider.meter("bench").f64_histogram("seconds").build();
    let bound = otel.bind(&[KeyValue::new("route", "/pay")]);
    vec![
        alone("sketches-ddsketch, one thread only", move |at| sketch.add(value(at))),
        alone("hdrhistogram, one thread only", move |at| hdr.saturating_record((value(at) * 1e6) as u64)),
        shared("prometheus-client, 14 buckets", move |at| histogram.observe(value(at))),
        shared("metrics, with its exporter", move |at| facade.record(value(at)))
            .drained(move || exporter.run_upkeep()),
        shared("opentelemetry, bound, 15 buckets", move |at| {
            let _keep = &provider;
            bound.record(value(at));
        }),
    ]
}
