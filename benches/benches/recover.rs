//! A finished run's log read back, in wall time.
#![allow(missing_docs, reason = "criterion's macros make public functions without docs")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use swarm_benches::measure::{scratch, test_mode};
use swarm_benches::ours::Recorded;
use swarm_benches::peers::log::{self, Commit};
use swarm_benches::runner::runtime;
use swarm_benches::shapes::count;

fn recover(c: &mut Criterion) {
    let sizes: &[usize] = if test_mode() { &[10] } else { &[1_000, 10_000, 100_000] };
    let runtime = runtime();
    for &steps in sizes {
        let folder = scratch(env!("CARGO_TARGET_TMPDIR"));
        let bare = folder.path().join("bare");
        log::append(&bare, steps, Commit::Write);
        let recorded = Recorded::record(&runtime, folder.path(), steps);
        let mut group = c.benchmark_group(format!("pipeline/recover/{}", count(steps)));
        group.sample_size(10).throughput(Throughput::Elements(steps as u64));
        group.bench_function(BenchmarkId::from_parameter("ours"), |b| {
            b.iter_custom(|iterations| (0..iterations).map(|_| recorded.recover(&runtime)).sum());
        });
        group.bench_function(BenchmarkId::from_parameter("bare log"), |b| {
            b.iter_with_large_drop(|| log::read(&bare));
        });
        group.finish();
    }
}

criterion_group!(benches, recover);
criterion_main!(benches);
