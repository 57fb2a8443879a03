//! Bare scheduler that counts down dependencies and polls each boxed future where it stands.

use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use tokio::runtime::Runtime;

use super::step::{Inputs, Wiring};
use crate::runner::Runner;
use crate::shapes::Shape;

/// Polls in place; knows only futures that never wait.
pub struct Inline;

/// The graph and room for its values.
pub struct Built(Wiring, Vec<u64>);

impl Runner for Inline {
    type Built = Built;
    type Done = Built;

    fn build(shape: &Shape) -> Built {
        Built(Wiring::of(shape), vec![0; shape.len()])
    }

    fn run(_: &Runtime, Built(graph, mut values): Built) -> Built {
        let (mut waiting, mut ready) = graph.start();
        let mut context = Context::from_waker(Waker::noop());
        while let Some(node) = ready.pop() {
            let node = node as usize;
            let mut future = (graph.steps[node])(Inputs::gather(&graph.parents[node], &values));
            let Poll::Ready(value) = Pin::new(&mut future).poll(&mut context) else {
                unreachable!("no step of a shape waits");
            };
            values[node] = value;
            for &child in &graph.children[node] {
                waiting[child as usize] -= 1;
                if waiting[child as usize] == 0 {
                    ready.push(child);
                }
            }
        }
        Built(graph, values)
    }

    fn values(Built(_, values): Built) -> Vec<u64> {
        values
    }
}
