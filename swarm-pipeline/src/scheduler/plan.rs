use std::collections::HashSet;
use std::sync::Arc;

use crate::graph::Graph;
use crate::retry::Retry;

/// No group, no item: what an absent number is stored as.
pub(crate) const NONE: u32 = u32::MAX;

/// What the scheduler needs to know of a pipeline: the graph and the numbers of its policies, no code.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub(crate) graph: Arc<Graph>,
    pub(crate) steps: Vec<StepPlan>,
    /// Edges (dependency, dependent) that a skipped dependency satisfies.
    pub(crate) optional: HashSet<(u32, u32)>,
    /// How many tasks of each group may run at once.
    pub(crate) groups: Vec<u32>,
    /// How many tasks may run at once.
    pub(crate) concurrency: u32,
    pub(crate) carry_on: bool,
    pub(crate) rollback: bool,
    /// The order of dispatch where no durations were learnt.
    pub(crate) ranks: Arc<Ranks>,
}

/// The place of every step in the order of dispatch, and the step at every place.
#[derive(Debug, Default)]
pub(crate) struct Ranks {
    pub(super) of: Vec<u32>,
    pub(super) steps: Vec<u32>,
}

#[derive(Debug, Clone)]
pub(crate) struct StepPlan {
    pub(crate) kind: Kind,
    /// Whether the engine must look (condition, reuse, length of the list) before the step is dispatched.
    pub(crate) prepare: bool,
    pub(crate) undo: bool,
    pub(crate) group: u32,
    pub(crate) priority: i32,
    pub(crate) retry: Retry,
    pub(crate) undo_retry: Retry,
    /// Microseconds from the first start, over all attempts.
    pub(crate) total_timeout: Option<i64>,
    /// Microseconds, as far as known.
    pub(crate) estimate: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Task,
    /// One task an item of a list.
    ForEach,
    /// Done when the signal of the step's name arrives.
    Signal,
    /// Done when the time has come, which the engine tells with [`Event::Sleeping`](super::Event::Sleeping).
    Sleep,
}

impl Ranks {
    /// Priority first, then the longest remaining way to the end, then the order of declaration.
    ///
    /// Without durations every step counts the same, so that the way is the number of steps still to come.
    pub(crate) fn new(graph: &Graph, steps: &[StepPlan], durations: &[u64]) -> Self {
        let known = |node: u32| durations.get(node as usize).copied().filter(|d| *d > 0);
        let weight = |node: u32| known(node).unwrap_or(steps[node as usize].estimate).max(1);
        let remaining = graph.remaining(weight);
        let mut by_rank: Vec<u32> = (0..steps.len() as u32).collect();
        by_rank.sort_by_cached_key(|&node| {
            (-i64::from(steps[node as usize].priority), std::cmp::Reverse(remaining[node as usize]))
        });
        let mut of = vec![0; by_rank.len()];
        for (at, &node) in by_rank.iter().enumerate() {
            of[node as usize] = at as u32;
        }
        Ranks { of, steps: by_rank }
    }
}
