//! Steps whose results are recorded in a file, in wall time.
#![allow(missing_docs, reason = "criterion's macros make public functions without docs")]

use std::path::Path;
use std::time::Duration;

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use swarm_benches::measure::{scratch, test_mode, wall};
use swarm_benches::ours::{self, Durability};
use swarm_benches::peers::log::{self, Commit};
use swarm_benches::runner::runtime;
use swarm_benches::shapes::{Shape, count};

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

fn process(c: &mut Criterion) {
    let sizes: &[usize] = if test_mode() { &[10] } else { &[100, 1_000, 10_000] };
    let runtime = runtime();
    for &steps in sizes {
        let shape = Shape::chain(steps);
        let mut group = group(c, "process", &format!("chain {}", count(steps)), steps);
        bench(&mut group, "ours", |folder| ours::durable(&runtime, folder, &shape, Durability::Process));
        bench(&mut group, "bare log", |folder| {
            wall(|| log::append(&folder.join("log"), steps, Commit::Write))
        });
        #[cfg(feature = "peers")]
        bench(&mut group, "durare", |folder| swarm_benches::peers::durare::chain(&runtime, folder, steps));
        group.finish();
    }
}

fn power(c: &mut Criterion) {
    let depths: &[usize] = if test_mode() { &[1] } else { &[4, 32, 256] };
    let runtime = runtime();
    for &depth in depths {
        let shape = Shape::chains(64, depth);
        let steps = shape.len();
        let mut group = group(c, "power", &shape.name, steps);
        bench(&mut group, "ours", |folder| ours::durable(&runtime, folder, &shape, Durability::Power));
        bench(&mut group, "bare log", |folder| {
            wall(|| log::append(&folder.join("log"), steps, Commit::Sync(64)))
        });
        #[cfg(feature = "peers")]
        bench(&mut group, "redb", |folder| {
            let database = swarm_benches::peers::redb::create(&folder.join("redb"));
            wall(|| swarm_benches::peers::redb::append(&database, steps, 64))
        });
        group.finish();
    }
    let steps = if test_mode() { 2 } else { 100 };
    let shape = Shape::chain(steps);
    let mut group = group(c, "power", &shape.name, steps);
    bench(&mut group, "ours", |folder| ours::durable(&runtime, folder, &shape, Durability::Power));
    bench(&mut group, "bare log", |folder| wall(|| log::append(&folder.join("log"), steps, Commit::Sync(1))));
    group.finish();
}

fn group<'a>(
    c: &'a mut Criterion,
    durability: &str,
    size: &str,
    steps: usize,
) -> BenchmarkGroup<'a, WallTime> {
    let mut group = c.benchmark_group(format!("pipeline/store-{durability}/{size}"));
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .throughput(Throughput::Elements(steps as u64));
    group
}

fn bench(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, mut timed: impl FnMut(&Path) -> Duration) {
    group.bench_function(BenchmarkId::from_parameter(name), |b| {
        b.iter_custom(|iterations| (0..iterations).map(|_| timed(scratch(SCRATCH).path())).sum());
    });
}

criterion_group!(benches, process, power);
criterion_main!(benches);
