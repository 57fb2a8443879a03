use std::collections::VecDeque;

use super::{Adjacency, Names};
use crate::build_error::Problem;

/// Edges looked at before a search for a still shorter cycle is given up.
const BUDGET: usize = 20_000_000;

/// Tells the shortest cycle of every strongly connected knot that is left after `order`.
///
/// In a knot so large that trying every node as a start exceeds [`BUDGET`], the shortest one found by then.
pub(super) fn report(
    names: &Names,
    dependencies: &Adjacency,
    dependents: &Adjacency,
    order: &[u32],
    problems: &mut Vec<Problem>,
) {
    let mut left = vec![true; names.len()];
    for &node in order {
        left[node as usize] = false;
    }
    let knots = knots(&left, dependencies, dependents);
    let mut budget = BUDGET;
    for knot in &knots.members {
        let cycle = shortest(knot, &knots.of, dependencies, &mut budget);
        let steps = cycle.into_iter().map(|node| names.get(node).to_owned()).collect();
        problems.push(Problem::Cycle { steps });
    }
}

struct Knots {
    /// The knot of each node, or `u32::MAX`.
    of: Vec<u32>,
    members: Vec<Vec<u32>>,
}

/// Strongly connected components of more than one node, by Kosaraju's two passes.
fn knots(left: &[bool], dependencies: &Adjacency, dependents: &Adjacency) -> Knots {
    let count = left.len();
    let mut finished = Vec::new();
    let mut seen: Vec<bool> = left.iter().map(|left| !left).collect();
    for root in 0..count as u32 {
        walk(root, dependencies, &mut seen, |node| finished.push(node));
    }
    let mut seen: Vec<bool> = left.iter().map(|left| !left).collect();
    let mut knots = Knots { of: vec![u32::MAX; count], members: Vec::new() };
    for &root in finished.iter().rev() {
        let mut members = Vec::new();
        walk(root, dependents, &mut seen, |node| members.push(node));
        if members.len() > 1 {
            members.sort_unstable();
            for &node in &members {
                knots.of[node as usize] = knots.members.len() as u32;
            }
            knots.members.push(members);
        }
    }
    knots
}

/// Depth first from `root` over nodes not seen, telling each as it is left; no recursion, so that depth costs no stack.
fn walk(root: u32, edges: &Adjacency, seen: &mut [bool], mut leave: impl FnMut(u32)) {
    if std::mem::replace(&mut seen[root as usize], true) {
        return;
    }
    let mut stack = vec![(root, 0)];
    while let Some((node, next)) = stack.last_mut() {
        match edges.of(*node).get(*next) {
            Some(&to) => {
                *next += 1;
                if !std::mem::replace(&mut seen[to as usize], true) {
                    stack.push((to, 0));
                }
            }
            None => {
                leave(*node);
                stack.pop();
            }
        }
    }
}

/// Breadth first from every member in turn; the shortest way back to the start, closed: `a, b, a`.
fn shortest(members: &[u32], knot_of: &[u32], dependencies: &Adjacency, budget: &mut usize) -> Vec<u32> {
    let knot = knot_of[members[0] as usize];
    let mut best: Vec<u32> = Vec::new();
    let mut came_from = vec![u32::MAX; knot_of.len()];
    let mut touched = Vec::new();
    for &start in members {
        if best.len() == 3 || (*budget == 0 && !best.is_empty()) {
            break;
        }
        let mut queue = VecDeque::from([start]);
        'search: while let Some(node) = queue.pop_front() {
            for &next in dependencies.of(node) {
                *budget = budget.saturating_sub(1);
                if next == start {
                    let mut cycle = vec![start];
                    let mut at = node;
                    while at != start {
                        cycle.push(at);
                        at = came_from[at as usize];
                    }
                    cycle.push(start);
                    cycle.reverse();
                    if best.is_empty() || cycle.len() < best.len() {
                        best = cycle;
                    }
                    break 'search;
                }
                if knot_of[next as usize] == knot && came_from[next as usize] == u32::MAX {
                    came_from[next as usize] = node;
                    touched.push(next);
                    queue.push_back(next);
                }
            }
        }
        for node in touched.drain(..) {
            came_from[node as usize] = u32::MAX;
        }
    }
    best
}
