//! The crates under test: all that touches their API is here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use swarm_pipeline::testing::SimEngine;
use swarm_pipeline::{FileStore, Graph, Handle, LocalEngine, Pipeline, RunReport, StepError};
use tokio::runtime::Runtime;

use crate::measure::timed;
use crate::runner::{Runner, on_worker};
use crate::shapes::{Shape, sum};
use crate::trace::Trace;

pub use swarm_pipeline::Durability;

/// A graph of names, resolved.
pub struct Resolved(Graph);

/// Puts the names in an order in which each comes after all it depends on.
pub fn resolve(nodes: &[(&str, Vec<&str>)]) -> Resolved {
    Resolved(Graph::resolve(nodes.iter().map(|(name, after)| (*name, after.iter().copied()))).unwrap())
}

impl Resolved {
    /// The names in order.
    pub fn names(&self) -> Vec<&str> {
        self.0.order().iter().map(|&node| self.0.name(node)).collect()
    }
}

/// Runs a shape on an engine without a store.
pub struct InMemory;

/// A pipeline with the engine to run it on.
pub struct Built {
    graph: Typed,
    engine: LocalEngine,
}

/// A finished run with what is needed to read it.
pub struct Done {
    graph: Typed,
    report: RunReport,
}

impl Runner for InMemory {
    type Built = Built;
    type Done = Done;

    fn build(shape: &Shape) -> Built {
        Built { graph: Typed::of(shape), engine: LocalEngine::in_memory() }
    }

    fn run(runtime: &Runtime, Built { graph, engine }: Built) -> Done {
        on_worker(runtime, async move {
            let report = engine.run(&graph.pipeline, "bench", ()).await.unwrap();
            Done { graph, report }
        })
    }

    fn values(Done { graph, report }: Done) -> Vec<u64> {
        graph.values(&report)
    }
}

/// Wall time of one run of `shape` with a new file store in `folder`.
pub fn durable(runtime: &Runtime, folder: &Path, shape: &Shape, durability: Durability) -> Duration {
    let graph = Typed::of(shape);
    let pipeline = graph.pipeline.clone();
    let engine = open(folder, durability);
    let (spent, report) =
        timed(|| on_worker(runtime, async move { engine.run(&pipeline, "bench", ()).await.unwrap() }));
    assert_eq!(graph.values(&report), shape.values());
    spent
}

/// A finished run of a chain in a file store that was closed.
pub struct Recorded<'a> {
    folder: &'a Path,
    graph: Typed,
    values: Vec<u64>,
}

impl<'a> Recorded<'a> {
    /// Runs a chain of `steps` steps with a new store in `folder`.
    pub fn record(runtime: &Runtime, folder: &'a Path, steps: usize) -> Self {
        let shape = Shape::chain(steps);
        let graph = Typed::of(&shape);
        let (pipeline, engine) = (graph.pipeline.clone(), open(folder, Durability::Process));
        let _ = on_worker(runtime, async move { engine.run(&pipeline, "bench", ()).await.unwrap() });
        Self { folder, graph, values: shape.values() }
    }

    /// Wall time from opening the store to a report that knows every output.
    pub fn recover(&self, runtime: &Runtime) -> Duration {
        let (pipeline, folder) = (self.graph.pipeline.clone(), self.folder.to_owned());
        let (spent, report) = timed(|| {
            on_worker(runtime, async move {
                open(&folder, Durability::Process).run(&pipeline, "bench", ()).await.unwrap()
            })
        });
        assert_eq!(self.graph.values(&report), self.values);
        spent
    }
}

fn open(folder: &Path, durability: Durability) -> LocalEngine {
    LocalEngine::with_store(FileStore::options().durability(durability).open(folder).unwrap())
}

/// Microseconds of virtual time that the scheduler takes for a recorded workflow on `workers` workers.
pub fn makespan(trace: &Trace, workers: usize) -> u64 {
    let mut p = Pipeline::builder("trace");
    p.concurrency(workers as u32);
    let took = |task: usize| Duration::from_micros(trace.durations[task]);
    for (task, parents) in trace.parents.iter().enumerate() {
        let after = parents.iter().map(|parent| parent.to_string());
        p.step(task.to_string()).after(after).expect(took(task)).run(|_cx, ()| async { Ok(()) });
    }
    let durations: Vec<Duration> = (0..trace.durations.len()).map(took).collect();
    let engine = SimEngine::new(1).duration(move |attempt| durations[attempt.step.parse::<usize>().unwrap()]);
    let sim = engine.run(&p.build().unwrap()).unwrap();
    assert!(sim.report.is_success());
    sim.makespan.as_micros() as u64
}

/// A shape as a pipeline with typed handles.
struct Typed {
    pipeline: Pipeline,
    handles: Vec<Handle<u64>>,
}

impl Typed {
    fn of(shape: &Shape) -> Self {
        let mut p = Pipeline::builder("bench");
        let mut handles: Vec<Handle<u64>> = Vec::with_capacity(shape.len());
        for node in 0..shape.len() {
            let step = p.step(format!("step-{node:06}"));
            let of = |parent: u32| &handles[parent as usize];
            handles.push(match *shape.parents(node) {
                [] => step.run(|_cx, ()| async { Ok::<u64, StepError>(sum([])) }),
                [a] => step.input(of(a)).run(|_cx, a: Arc<u64>| async move { Ok(sum([*a])) }),
                [a, b] => step
                    .input((of(a), of(b)))
                    .run(|_cx, (a, b): (Arc<u64>, Arc<u64>)| async move { Ok(sum([*a, *b])) }),
                [a, b, c] => step.input((of(a), of(b), of(c))).run(
                    |_cx, (a, b, c): (Arc<u64>, Arc<u64>, Arc<u64>)| async move { Ok(sum([*a, *b, *c])) },
                ),
                _ => unreachable!("no shape has more than three parents a node"),
            });
        }
        Self { pipeline: p.build().unwrap(), handles }
    }

    fn values(&self, report: &RunReport) -> Vec<u64> {
        self.handles.iter().map(|handle| *report.output(handle).unwrap()).collect()
    }
}
