//! Bare scheduler that counts down dependencies and spawns each step on a tokio `JoinSet`.

use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::step::{Inputs, Wiring};
use crate::runner::{Runner, on_worker};
use crate::shapes::Shape;

/// One task a step.
pub struct Spawning;

/// The graph and room for its values.
pub struct Built(Wiring, Vec<u64>);

impl Runner for Spawning {
    type Built = Built;
    type Done = Built;

    fn build(shape: &Shape) -> Built {
        Built(Wiring::of(shape), vec![0; shape.len()])
    }

    fn run(runtime: &Runtime, Built(graph, mut values): Built) -> Built {
        on_worker(runtime, async move {
            let (mut waiting, ready) = graph.start();
            let mut tasks = JoinSet::new();
            let spawn = |tasks: &mut JoinSet<(u32, u64)>, node: u32, values: &[u64]| {
                let inputs = Inputs::gather(&graph.parents[node as usize], values);
                let future = (graph.steps[node as usize])(inputs);
                tasks.spawn(async move { (node, future.await) });
            };
            for node in ready {
                spawn(&mut tasks, node, &values);
            }
            while let Some(joined) = tasks.join_next().await {
                let (node, value) = joined.unwrap();
                values[node as usize] = value;
                for &child in &graph.children[node as usize] {
                    waiting[child as usize] -= 1;
                    if waiting[child as usize] == 0 {
                        spawn(&mut tasks, child, &values);
                    }
                }
            }
            Built(graph, values)
        })
    }

    fn values(Built(_, values): Built) -> Vec<u64> {
        values
    }
}
