//! Steps that do nothing but pass a value, in memory, in CPU time over all threads.
#![allow(missing_docs, reason = "criterion's macros make public functions without docs")]

use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use swarm_benches::measure::test_mode;
use swarm_benches::ours;
use swarm_benches::peers::{inline::Inline, join_set::Spawning};
use swarm_benches::runner::{TimedRuns, cpu_time, runtime};
use swarm_benches::shapes::Shape;

/// Graphs built ahead of the clock hold at most about this many steps.
const STEPS_AHEAD: usize = 20_000;

fn run(c: &mut Criterion) {
    let shapes = if test_mode() {
        vec![Shape::chain(10), Shape::fan_out(10), Shape::layered(5, 5), Shape::random(20)]
    } else {
        vec![
            Shape::chain(1_000),
            Shape::fan_out(1_000),
            Shape::fan_out(10_000),
            Shape::layered(100, 100),
            Shape::random(10_000),
        ]
    };
    let contenders: &[(&str, TimedRuns)] = &[
        ("ours", cpu_time::<ours::InMemory>),
        ("inline", cpu_time::<Inline>),
        ("JoinSet", cpu_time::<Spawning>),
        #[cfg(feature = "peers")]
        ("dagx", cpu_time::<swarm_benches::peers::dagx::Dagx>),
        #[cfg(feature = "peers")]
        ("dagrs", cpu_time::<swarm_benches::peers::dagrs::Dagrs>),
    ];
    let runtime = runtime();
    for shape in shapes {
        let ahead = STEPS_AHEAD.div_ceil(shape.len()) as u64;
        let mut group = c.benchmark_group(format!("pipeline/run/{}", shape.name));
        group
            .sample_size(10)
            .warm_up_time(Duration::from_millis(500))
            .measurement_time(Duration::from_secs(2))
            .throughput(Throughput::Elements(shape.len() as u64));
        for (name, timed) in contenders {
            group.bench_function(BenchmarkId::from_parameter(name), |b| {
                b.iter_custom(|iterations| {
                    (0..iterations)
                        .step_by(ahead as usize)
                        .map(|done| timed(&runtime, &shape, ahead.min(iterations - done) as usize))
                        .sum()
                });
            });
        }
        group.finish();
    }
}

criterion_group!(benches, run);
criterion_main!(benches);
