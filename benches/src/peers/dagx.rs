//! dagx: typed tasks, run layer by layer on a spawner of the caller's.

use dagx::{DagRunner, Task, TaskHandle, task};
use tokio::runtime::Runtime;

use crate::runner::{Runner, on_worker};
use crate::shapes::{Shape, sum};

/// Runs a shape on tokio as dagx's own page does.
pub struct Dagx;

/// The graph with a handle a node.
pub struct Built(DagRunner, Vec<TaskHandle<u64>>);

struct Source;
struct After1;
struct After2;
struct After3;

#[task]
impl Source {
    async fn run() -> u64 {
        sum([])
    }
}

#[task]
impl After1 {
    async fn run(a: &u64) -> u64 {
        sum([*a])
    }
}

#[task]
impl After2 {
    async fn run(a: &u64, b: &u64) -> u64 {
        sum([*a, *b])
    }
}

#[task]
impl After3 {
    async fn run(a: &u64, b: &u64, c: &u64) -> u64 {
        sum([*a, *b, *c])
    }
}

impl Runner for Dagx {
    type Built = Built;
    type Done = Built;

    fn build(shape: &Shape) -> Built {
        let dag = DagRunner::new();
        let mut handles: Vec<TaskHandle<u64>> = Vec::with_capacity(shape.len());
        for node in 0..shape.len() {
            let of = |parent: u32| &handles[parent as usize];
            handles.push(match *shape.parents(node) {
                [] => dag.add_task(Source).into(),
                [a] => dag.add_task(After1).depends_on(of(a)),
                [a, b] => dag.add_task(After2).depends_on((of(a), of(b))),
                [a, b, c] => dag.add_task(After3).depends_on((of(a), of(b), of(c))),
                _ => unreachable!("no shape has more than three parents a node"),
            });
        }
        Built(dag, handles)
    }

    fn run(runtime: &Runtime, Built(dag, handles): Built) -> Built {
        on_worker(runtime, async move {
            dag.run(|task| drop(tokio::spawn(task))).await.unwrap();
            Built(dag, handles)
        })
    }

    fn values(Built(dag, handles): Built) -> Vec<u64> {
        handles.iter().map(|handle| dag.get(handle).unwrap()).collect()
    }
}
