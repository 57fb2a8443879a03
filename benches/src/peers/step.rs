//! The erased asynchronous step that both bare schedulers run.

use std::pin::Pin;

use crate::shapes::{MAX_PARENTS, Shape, sum};

/// A step's inputs, without an allocation.
#[derive(Clone, Copy, Default)]
pub(super) struct Inputs {
    values: [u64; MAX_PARENTS],
    len: usize,
}

impl Inputs {
    pub(super) fn gather(parents: &[u32], values: &[u64]) -> Self {
        let mut inputs = Self::default();
        for &parent in parents {
            inputs.values[inputs.len] = values[parent as usize];
            inputs.len += 1;
        }
        inputs
    }
}

pub(super) type Step = Box<dyn Fn(Inputs) -> Pin<Box<dyn Future<Output = u64> + Send>> + Send + Sync>;

/// A graph as flat as a scheduler could wish for.
pub(super) struct Wiring {
    pub(super) steps: Vec<Step>,
    pub(super) parents: Vec<Vec<u32>>,
    pub(super) children: Vec<Vec<u32>>,
}

impl Wiring {
    pub(super) fn of(shape: &Shape) -> Self {
        let step = || -> Step {
            Box::new(|inputs| Box::pin(async move { sum(inputs.values[..inputs.len].iter().copied()) }))
        };
        Self {
            steps: (0..shape.len()).map(|_| step()).collect(),
            parents: (0..shape.len()).map(|node| shape.parents(node).to_vec()).collect(),
            children: shape.children(),
        }
    }

    /// How many parents each node still waits for, and the nodes that wait for none.
    pub(super) fn start(&self) -> (Vec<u32>, Vec<u32>) {
        let waiting: Vec<u32> = self.parents.iter().map(|parents| parents.len() as u32).collect();
        let ready = waiting.iter().zip(0..).filter(|(waiting, _)| **waiting == 0).map(|(_, node)| node);
        let ready = ready.collect();
        (waiting, ready)
    }
}
