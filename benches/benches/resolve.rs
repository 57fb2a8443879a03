//! Names and `depends_on` lists to an execution order, in wall time.
#![allow(missing_docs, reason = "criterion's macros make public functions without docs")]

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use swarm_benches::measure::test_mode;
use swarm_benches::ours;
use swarm_benches::shapes::{NameList, count};

fn resolve(c: &mut Criterion) {
    let sizes: &[usize] = if test_mode() { &[100] } else { &[1_000, 10_000, 100_000, 1_000_000] };
    for &size in sizes {
        let list = NameList::random(size);
        let nodes = list.nodes();
        let mut group = c.benchmark_group(format!("pipeline/resolve/{}", count(size)));
        group.sample_size(10).throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::from_parameter("ours"), |b| {
            b.iter_with_large_drop(|| ours::resolve(&nodes));
        });
        #[cfg(feature = "peers")]
        group.bench_function(BenchmarkId::from_parameter("petgraph"), |b| {
            b.iter_with_large_drop(|| swarm_benches::peers::petgraph::resolve(&nodes));
        });
        group.finish();
    }
}

criterion_group!(benches, resolve);
criterion_main!(benches);
