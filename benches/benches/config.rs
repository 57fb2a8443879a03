//! Loading a large configuration: base and overlay merged, validated and made into a struct, beside figment, config-rs
//! and the same by hand with serde_json. 1,000 agents, 1,000 tools and 200 workflows at the largest size.
#![allow(clippy::unwrap_used, missing_docs, reason = "a bench")]

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::Value;
use swarm_benches::large::{Settings, merge_by_hand, overlay, schema, settings};
use swarm_benches::measure::test_mode;
use swarm_config::{ConfigLoader, ConfigValidator, Format, Limits, Tree};

fn load(c: &mut Criterion) {
    let validator = ConfigValidator::new(schema()).unwrap();
    let sizes: &[usize] = if test_mode() { &[10] } else { &[10, 100, 1000] };
    for agents in sizes {
        let json = settings(*agents).to_string();
        let over = overlay().to_string();
        let loader = |format, text: &str| {
            ConfigLoader::new()
                .text("base", format, text)
                .text("over", Format::Json, over.clone())
                .validator(validator.clone())
        };
        let mut group = c.benchmark_group("config/load");
        group.throughput(Throughput::Bytes(json.len() as u64)).sample_size(20);
        let name = |who: &str| BenchmarkId::new(who, agents);
        let ours = loader(Format::Json, &json);
        group.bench_function(name("json, validated"), |b| {
            b.iter(|| black_box(ours.load::<Settings>().unwrap()))
        });
        group.bench_function(name("by hand with serde_json"), |b| {
            b.iter(|| {
                let mut base: Value = serde_json::from_str(&json).unwrap();
                merge_by_hand(&mut base, serde_json::from_str(&over).unwrap());
                black_box(serde_json::from_value::<Settings>(base).unwrap())
            });
        });
        let toml = toml::to_string(&settings(*agents)).unwrap();
        let ours = loader(Format::Toml, &toml);
        group.bench_function(name("toml, validated"), |b| {
            b.iter(|| black_box(ours.load::<Settings>().unwrap()))
        });
        // JSON is YAML, so this is its flow style.
        let ours = loader(Format::Yaml, &json);
        group.bench_function(name("yaml, validated"), |b| {
            b.iter(|| black_box(ours.load::<Settings>().unwrap()))
        });
        #[cfg(feature = "peers")]
        {
            use figment::providers::Format as _;
            let read = |text: &str, toml: bool| {
                let figment = if toml {
                    figment::Figment::from(figment::providers::Toml::string(text))
                } else {
                    figment::Figment::from(figment::providers::Json::string(text))
                };
                figment.merge(figment::providers::Json::string(&over)).extract::<Settings>().unwrap()
            };
            group.bench_function(name("figment json"), |b| b.iter(|| black_box(read(&json, false))));
            group.bench_function(name("figment toml"), |b| b.iter(|| black_box(read(&toml, true))));
            group.bench_function(name("config-rs json"), |b| {
                b.iter(|| {
                    let source = |text: &str| config::File::from_str(text, config::FileFormat::Json);
                    let built =
                        config::Config::builder().add_source(source(&json)).add_source(source(&over)).build();
                    black_box(built.unwrap().try_deserialize::<Settings>().unwrap())
                });
            });
        }
        group.finish();

        let mut group = c.benchmark_group("config/parts");
        group.throughput(Throughput::Bytes(json.len() as u64)).sample_size(20);
        let limits = Limits::default();
        group.bench_function(name("read json"), |b| {
            b.iter(|| black_box(Tree::parse("base", Format::Json, &json, &limits).unwrap()));
        });
        let tree = Tree::parse("base", Format::Json, &json, &limits).unwrap();
        group.bench_function(name("validate"), |b| {
            b.iter(|| assert!(validator.validate(&tree).unwrap().is_ok()))
        });
        group.bench_function(name("extract"), |b| b.iter(|| black_box(tree.extract::<Settings>().unwrap())));
        group.bench_function(name("one key by path"), |b| {
            b.iter(|| black_box(tree.get("agents.agent-5.limits.cpu").unwrap().as_u64()));
        });
        group.finish();
    }
    let config = ConfigLoader::new()
        .text("a.json", Format::Json, settings(10).to_string())
        .load::<Settings>()
        .unwrap();
    let mut group = c.benchmark_group("config/read");
    group.bench_function("snapshot", |b| b.iter(|| black_box(config.get().agents.len())));
    let mut handle = config.handle();
    group.bench_function("handle", |b| b.iter(|| black_box(handle.get().agents.len())));
    group.finish();
}

criterion_group!(benches, load);
criterion_main!(benches);
