//! What it takes to time one way of running a [`Shape`].

use std::time::Duration;

use tokio::runtime::{Builder, Runtime};

use crate::measure::cpu_now;
use crate::shapes::Shape;

/// A way of running a [`Shape`] in memory. Only [`run`](Self::run) is timed.
pub trait Runner {
    /// The graph, ready to run once.
    type Built;
    /// A finished run that still holds its outputs.
    type Done;

    /// Constructs the graph.
    fn build(shape: &Shape) -> Self::Built;

    /// Runs it to its end.
    fn run(runtime: &Runtime, built: Self::Built) -> Self::Done;

    /// The value of every node, in the shape's numbering.
    fn values(done: Self::Done) -> Vec<u64>;
}

/// Times `runs` runs of a shape, in CPU time over all threads.
pub type TimedRuns = fn(&Runtime, &Shape, usize) -> Duration;

/// CPU time of `runs` runs by `R`, all built before the clock starts and checked after it stops.
///
/// The clock runs over the whole loop, so that what worker threads do after a run hands back its result is
/// counted too.
pub fn cpu_time<R: Runner>(runtime: &Runtime, shape: &Shape, runs: usize) -> Duration {
    let built: Vec<_> = (0..runs).map(|_| R::build(shape)).collect();
    let mut done = Vec::with_capacity(runs);
    let start = cpu_now();
    for built in built {
        done.push(R::run(runtime, built));
    }
    let spent = cpu_now() - start;
    let expected = shape.values();
    for done in done {
        assert_eq!(R::values(done), expected, "{} came out wrong", shape.name);
    }
    spent
}

/// The runtime all contenders share: as `#[tokio::main]` makes it.
pub fn runtime() -> Runtime {
    Builder::new_multi_thread().enable_all().build().unwrap()
}

/// Runs `future` on a worker of `runtime`, where a service's own tasks are; what it spawns stays there without
/// waking this thread at every step.
pub fn on_worker<F>(runtime: &Runtime, future: F) -> F::Output
where
    F: Future<Output: Send + 'static> + Send + 'static,
{
    runtime.block_on(async { tokio::spawn(future).await.unwrap() })
}
