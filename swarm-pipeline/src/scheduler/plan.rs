use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};
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
    pub(crate) retries: Retries,
    /// Microseconds from the first start, over all attempts.
    pub(crate) total_timeout: Option<i64>,
    /// Microseconds, as far as known.
    pub(crate) estimate: u64,
}

/// How often attempts and undos are made again. Few steps say, and only failures ask.
#[derive(Debug, Clone, Default)]
pub(crate) struct Retries(Option<Arc<(Retry, Retry)>>);

static UNSAID: (Retry, Retry) = (Retry::none(), Retry::exponential(5));

impl Retries {
    pub(crate) fn of(step: Option<Retry>, undo: Option<Retry>) -> Self {
        if step.is_none() && undo.is_none() {
            return Retries(None);
        }
        let (unsaid, unsaid_undo) = UNSAID.clone();
        Retries(Some(Arc::new((step.unwrap_or(unsaid), undo.unwrap_or(unsaid_undo)))))
    }

    pub(crate) fn step(&self) -> &Retry {
        &self.0.as_deref().unwrap_or(&UNSAID).0
    }

    pub(crate) fn undo(&self) -> &Retry {
        &self.0.as_deref().unwrap_or(&UNSAID).1
    }
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
    /// Without durations every step counts the same, so that the way is the number of steps still to come. With them,
    /// and fewer places than steps, both this order and that of becoming ready are tried, and the faster is taken:
    /// the longest way first is a heuristic, and on some graphs a little worse than none.
    pub(crate) fn new(graph: &Graph, steps: &[StepPlan], durations: &[u64], concurrency: u32) -> Self {
        let known = |node: u32| durations.get(node as usize).copied().filter(|d| *d > 0);
        let weight = |node: u32| known(node).unwrap_or(steps[node as usize].estimate).max(1);
        let remaining = graph.remaining(weight);
        let mut by_rank: Vec<u32> = (0..steps.len() as u32).collect();
        let urgency = |node: u32| -i64::from(steps[node as usize].priority);
        by_rank.sort_by_cached_key(|&node| (urgency(node), Reverse(remaining[node as usize])));
        let ranks = Ranks::of_order(by_rank);
        let tells = (0..steps.len() as u32).any(|node| weight(node) > 1);
        if !tells || concurrency as usize >= steps.len() {
            return ranks;
        }
        let (longest_first, _) = simulate(graph, concurrency, weight, |node, _| ranks.of[node as usize]);
        let (first_come, order) = simulate(graph, concurrency, weight, |node, come| (urgency(node), come));
        if first_come < longest_first { Ranks::of_order(order) } else { ranks }
    }

    /// The order for a run whose steps are expected to take `durations`, as far as they are known.
    pub(super) fn expecting(plan: &Plan, durations: &[u64]) -> Arc<Self> {
        match durations {
            [] => Arc::clone(&plan.ranks),
            _ => Arc::new(Ranks::new(&plan.graph, &plan.steps, durations, plan.concurrency)),
        }
    }

    pub(crate) fn of_order(steps: Vec<u32>) -> Self {
        let mut of = vec![0; steps.len()];
        for (at, &node) in steps.iter().enumerate() {
            of[node as usize] = at as u32;
        }
        Ranks { of, steps }
    }
}

/// Lets the steps take their time on `places` places, and answers when all are done and the order they began in,
/// which as ranks gives the same schedule again. Of what is ready, the smallest by `key` begins; `key` is given the
/// node and how many became ready before it. Limits of groups are left out.
fn simulate<K: Ord>(
    graph: &Graph,
    places: u32,
    duration: impl Fn(u32) -> u64,
    key: impl Fn(u32, u32) -> K,
) -> (u64, Vec<u32>) {
    let count = graph.len() as u32;
    let mut missing: Vec<usize> = (0..count).map(|node| graph.dependencies(node).len()).collect();
    let mut come = 0..;
    let mut arrive = |node: u32| Reverse((key(node, come.next().unwrap_or(u32::MAX)), node));
    let roots = (0..count).filter(|&node| missing[node as usize] == 0);
    let mut ready: BinaryHeap<_> = roots.map(&mut arrive).collect();
    let mut running = BinaryHeap::new();
    let mut begun = Vec::with_capacity(count as usize);
    let mut now = 0;
    loop {
        while running.len() < places as usize
            && let Some(Reverse((_, node))) = ready.pop()
        {
            running.push(Reverse((now + duration(node), node)));
            begun.push(node);
        }
        let Some(Reverse((end, node))) = running.pop() else { return (now, begun) };
        now = end;
        for &dependent in graph.dependents(node) {
            missing[dependent as usize] -= 1;
            if missing[dependent as usize] == 0 {
                ready.push(arrive(dependent));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(estimate: u64) -> StepPlan {
        StepPlan {
            kind: Kind::Task,
            prepare: false,
            undo: false,
            group: NONE,
            priority: 0,
            retries: Retries::default(),
            total_timeout: None,
            estimate,
        }
    }

    #[test]
    fn the_longest_way_goes_first_unless_that_takes_longer() {
        let graph = |nodes: &[(&str, &[&str])]| {
            Graph::resolve(nodes.iter().map(|(name, deps)| (*name, deps.iter().copied()))).unwrap()
        };
        let order = |graph: &Graph, times: &[u64], places| {
            let steps: Vec<StepPlan> = times.iter().map(|time| step(*time)).collect();
            Ranks::new(graph, &steps, &[], places).steps
        };
        // On two places the long chain first gives 6, and in order of declaration 8.
        let chain = graph(&[("x", &[]), ("y", &[]), ("a", &[]), ("b", &["a"])]);
        assert_eq!(order(&chain, &[2, 2, 3, 3], 2), [2, 3, 0, 1]);
        // Of 3, 3, 2, 2, 2 the longest first gives 7 on two places, and 2, 2, 2 before 3, 3 gives 7 too: a tie.
        let loose = graph(&[("a", &[]), ("b", &[]), ("c", &[]), ("d", &[]), ("e", &[])]);
        assert_eq!(order(&loose, &[2, 2, 2, 3, 3], 2), [3, 4, 0, 1, 2]);
        // 3, 2, 2, 3, 2 gives 6 where it was declared so.
        assert_eq!(order(&loose, &[3, 2, 2, 3, 2], 2), [0, 1, 2, 3, 4]);
    }
}
