//! Names and dependency lists become one dense, flat graph.

mod cycle;
mod names;
#[cfg(feature = "petgraph")]
mod petgraph;

pub(crate) use names::{Names, nearest};

use crate::build_error::{BuildError, Problem};

/// A directed acyclic graph of named nodes, numbered `0..len()` in the order they were declared.
///
/// An edge runs from a dependency to the node that depends on it. The edges are stored twice, by
/// either end, in flat arrays, so that walking them touches no other memory.
///
/// ```
/// use swarm_pipeline::Graph;
///
/// let graph = Graph::resolve([("deploy", vec!["build", "test"]), ("build", vec![]), ("test", vec!["build"])])?;
/// let order: Vec<_> = graph.order().iter().map(|&node| graph.name(node)).collect();
/// assert_eq!(order, ["build", "test", "deploy"]);
/// # Ok::<(), swarm_pipeline::BuildError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Graph {
    names: Names,
    dependencies: Adjacency,
    dependents: Adjacency,
    order: Vec<u32>,
}

/// The neighbours of every node: those of node `n` are `to[starts[n]..starts[n + 1]]`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Adjacency {
    starts: Vec<u32>,
    to: Vec<u32>,
}

impl Adjacency {
    fn of(&self, node: u32) -> &[u32] {
        let node = node as usize;
        &self.to[self.starts[node] as usize..self.starts[node + 1] as usize]
    }
}

/// The longest chain of dependencies, by weight.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct CriticalPath {
    /// The sum of the weights along [`nodes`](CriticalPath::nodes), in the unit of the weights.
    pub length: u64,
    /// From a node without dependencies to one without dependents.
    pub nodes: Vec<u32>,
}

impl Graph {
    /// Resolves nodes given by name, each with the names it depends on, in any order.
    ///
    /// A dependency named twice by one node counts once. Takes time and memory linear in nodes, edges and the bytes of the names.
    ///
    /// # Errors
    /// A [`BuildError`] with every problem: names used twice, names unknown (with the nearest known
    /// one), nodes that depend on themselves, and the shortest cycle of each knot of cycles.
    pub fn resolve<'a, D>(nodes: impl IntoIterator<Item = (&'a str, D)>) -> Result<Self, BuildError>
    where
        D: IntoIterator<Item = &'a str>,
    {
        let nodes = nodes.into_iter();
        let mut problems = Vec::new();
        let mut names = Names::with_capacity(nodes.size_hint().0);
        let mut wanted: Vec<&'a str> = Vec::with_capacity(nodes.size_hint().0.saturating_mul(3));
        let mut starts = Vec::with_capacity(nodes.size_hint().0 + 1);
        starts.push(0);
        for (name, dependencies) in nodes {
            names.push(name);
            wanted.extend(dependencies);
            starts.push(wanted.len() as u32);
        }
        if wanted.len() >= u32::MAX as usize || names.overflowed() {
            return Err(BuildError::of(Problem::TooLarge));
        }
        names.index(|name| problems.push(Problem::DuplicateName { step: name.to_owned() }));

        let mut found = Vec::with_capacity(wanted.len());
        names.find_all(&wanted, &mut found);
        if found.contains(&UNKNOWN) {
            drop_unknown(&names, &wanted, &mut starts, &mut found, &mut problems);
        }
        Graph::assemble(names, Adjacency { starts, to: found }, problems)
    }

    /// Builds the graph from indices that are already known; `dependencies[n]` lists those of node `n`.
    pub(crate) fn from_indices(
        names: Names,
        dependencies: impl IntoIterator<Item = Vec<u32>>,
        problems: Vec<Problem>,
    ) -> Result<Self, BuildError> {
        let mut adjacency = Adjacency { starts: vec![0], to: Vec::new() };
        for list in dependencies {
            adjacency.to.extend(list);
            adjacency.starts.push(adjacency.to.len() as u32);
        }
        Graph::assemble(names, adjacency, problems)
    }

    fn assemble(
        names: Names,
        mut dependencies: Adjacency,
        mut problems: Vec<Problem>,
    ) -> Result<Self, BuildError> {
        let count = names.len();
        let mut degrees = dedup(&names, &mut dependencies, &mut problems);
        let dependents = reverse(&dependencies, &mut degrees);
        let order = topological_order(&dependencies, &dependents);
        if order.len() < count {
            cycle::report(&names, &dependencies, &dependents, &order, &mut problems);
        }
        if problems.is_empty() {
            Ok(Graph { names, dependencies, dependents, order })
        } else {
            Err(BuildError::new(problems))
        }
    }

    /// The number of nodes.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there is no node.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The number of edges.
    pub fn edge_count(&self) -> usize {
        self.dependencies.to.len()
    }

    /// The name of `node`.
    ///
    /// # Panics
    /// If `node` is not below [`len`](Graph::len); so do the other methods that take a node.
    pub fn name(&self, node: u32) -> &str {
        self.names.get(node)
    }

    /// The node of that name.
    pub fn find(&self, name: &str) -> Option<u32> {
        self.names.find(name)
    }

    /// The nodes that `node` waits for, in the order they were declared.
    pub fn dependencies(&self, node: u32) -> &[u32] {
        self.dependencies.of(node)
    }

    /// The nodes that wait for `node`, in ascending order.
    pub fn dependents(&self, node: u32) -> &[u32] {
        self.dependents.of(node)
    }

    /// Every node once, dependencies before dependents. The same input gives the same order.
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// For each node, the number of edges on the longest way to it from a node without dependencies.
    pub fn levels(&self) -> Vec<u32> {
        let mut levels = vec![0; self.len()];
        for &node in &self.order {
            let level = self.dependencies(node).iter().map(|&d| levels[d as usize] + 1).max();
            levels[node as usize] = level.unwrap_or(0);
        }
        levels
    }

    /// For each node, its weight plus the heaviest way from it to a node without dependents.
    pub fn remaining(&self, weight: impl Fn(u32) -> u64) -> Vec<u64> {
        let mut remaining = vec![0_u64; self.len()];
        for &node in self.order.iter().rev() {
            let after = self.dependents(node).iter().map(|&d| remaining[d as usize]).max().unwrap_or(0);
            remaining[node as usize] = after.saturating_add(weight(node));
        }
        remaining
    }

    /// The heaviest chain of dependencies, where `weight` is the cost of a node.
    pub fn critical_path(&self, weight: impl Fn(u32) -> u64) -> CriticalPath {
        let remaining = self.remaining(weight);
        let heaviest = |nodes: &mut dyn Iterator<Item = u32>| {
            nodes.max_by_key(|&node| (remaining[node as usize], std::cmp::Reverse(node)))
        };
        let mut nodes = Vec::new();
        let mut next = heaviest(&mut (0..self.len() as u32).filter(|&n| self.dependencies(n).is_empty()));
        while let Some(node) = next {
            nodes.push(node);
            next = heaviest(&mut self.dependents(node).iter().copied());
        }
        let length = nodes.first().map_or(0, |&node| remaining[node as usize]);
        CriticalPath { length, nodes }
    }
}

/// Marks a name that no node has.
const UNKNOWN: u32 = u32::MAX;

fn drop_unknown(
    names: &Names,
    wanted: &[&str],
    starts: &mut [u32],
    found: &mut Vec<u32>,
    problems: &mut Vec<Problem>,
) {
    let mut kept = Vec::with_capacity(found.len());
    for node in 0..names.len() {
        let (from, to) = (starts[node], starts[node + 1]);
        starts[node] = kept.len() as u32;
        // `starts[node]` is overwritten only after it was read; the next node's start is still the old one.
        for edge in from as usize..to as usize {
            if found[edge] == UNKNOWN {
                problems.push(Problem::UnknownDependency {
                    step: names.get(node as u32).to_owned(),
                    dependency: wanted[edge].to_owned(),
                    nearest: names.nearest(wanted[edge], problems.len()).map(str::to_owned),
                });
            } else {
                kept.push(found[edge]);
            }
        }
    }
    starts[names.len()] = kept.len() as u32;
    *found = kept;
}

/// Takes out repeated edges and self-dependencies, and counts the dependents of every node.
fn dedup(names: &Names, edges: &mut Adjacency, problems: &mut Vec<Problem>) -> Vec<u32> {
    let mut degrees = vec![0_u32; names.len()];
    let mut seen_by = vec![u32::MAX; names.len()];
    let mut write = 0;
    let mut from = 0;
    for node in 0..names.len() as u32 {
        let to = edges.starts[node as usize + 1] as usize;
        for read in from..to {
            let dependency = edges.to[read];
            if dependency == node {
                problems.push(Problem::SelfDependency { step: names.get(node).to_owned() });
            } else if seen_by[dependency as usize] != node {
                seen_by[dependency as usize] = node;
                degrees[dependency as usize] += 1;
                edges.to[write] = dependency;
                write += 1;
            }
        }
        from = to;
        edges.starts[node as usize + 1] = write as u32;
    }
    edges.to.truncate(write);
    degrees
}

/// The same edges by their other end. `degrees` holds the counts, and is used up.
fn reverse(edges: &Adjacency, degrees: &mut [u32]) -> Adjacency {
    let mut starts = Vec::with_capacity(degrees.len() + 1);
    let mut sum = 0;
    for degree in degrees.iter_mut() {
        starts.push(sum);
        sum += *degree;
        *degree = sum - *degree;
    }
    starts.push(sum);
    let mut to = vec![0; sum as usize];
    for node in 0..degrees.len() as u32 {
        for &dependency in edges.of(node) {
            let slot = &mut degrees[dependency as usize];
            to[*slot as usize] = node;
            *slot += 1;
        }
    }
    Adjacency { starts, to }
}

/// Kahn's algorithm (Kahn 1962); shorter than the graph where there is a cycle.
fn topological_order(dependencies: &Adjacency, dependents: &Adjacency) -> Vec<u32> {
    let count = dependencies.starts.len() - 1;
    if (0..count as u32).all(|node| dependencies.of(node).iter().all(|&d| d < node)) {
        return (0..count as u32).collect();
    }
    let mut missing: Vec<u32> = dependencies.starts.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let mut order = Vec::with_capacity(count);
    order.extend((0..count as u32).filter(|&node| missing[node as usize] == 0));
    let mut next = 0;
    while next < order.len() {
        for &dependent in dependents.of(order[next]) {
            missing[dependent as usize] -= 1;
            if missing[dependent as usize] == 0 {
                order.push(dependent);
            }
        }
        next += 1;
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn resolve(nodes: &[(&str, &[&str])]) -> Result<Graph, BuildError> {
        Graph::resolve(nodes.iter().map(|(name, deps)| (*name, deps.iter().copied())))
    }

    #[test]
    fn all_problems_are_told_at_once() {
        let error = resolve(&[
            ("build", &["chekout"]),
            ("checkout", &[]),
            ("checkout", &[]),
            ("own", &["own"]),
            ("a", &["b"]),
            ("b", &["c", "a"]),
            ("c", &["a"]),
        ])
        .unwrap_err();
        assert_eq!(
            error.to_string().lines().skip(1).collect::<Vec<_>>(),
            [
                "  the name \"checkout\" is used twice",
                "  \"build\" depends on \"chekout\", which does not exist; did you mean \"checkout\"?",
                "  \"own\" depends on itself",
                "  a cycle: a -> b -> a",
            ]
        );
    }

    #[test]
    fn a_long_cycle_is_found_in_time() {
        let names: Vec<String> = (0..100_000).map(|n| format!("n{n}")).collect();
        let nodes = (0..names.len()).map(|n| (&*names[n], [&*names[(n + 1) % names.len()]]));
        let error = Graph::resolve(nodes).unwrap_err();
        let [Problem::Cycle { steps }] = error.problems() else {
            panic!("{} problems", error.problems().len())
        };
        assert_eq!(steps.len(), names.len() + 1);
    }

    #[test]
    fn critical_path_takes_the_heavier_way() {
        let graph = resolve(&[("a", &[]), ("b", &["a"]), ("c", &["a"]), ("d", &["b", "c"])]).unwrap();
        let path = graph.critical_path(|node| [1, 5, 2, 1][node as usize]);
        assert_eq!((path.length, path.nodes), (7, vec![0, 1, 3]));
        assert_eq!(graph.levels(), [0, 1, 1, 2]);
    }

    proptest! {
        #[test]
        fn order_puts_dependencies_first(shuffle in any::<u64>(), edges in prop::collection::vec((0_usize..60, 0_usize..60), 0..200)) {
            let name = |n: usize| format!("s{}", (n as u64 ^ shuffle) % 1_000_003 * 100 + n as u64);
            let names: Vec<String> = (0..60).map(name).collect();
            let mut deps = vec![Vec::new(); 60];
            for (a, b) in edges {
                if a != b {
                    deps[a.max(b)].push(&*names[a.min(b)]);
                }
            }
            let mut nodes: Vec<(&str, Vec<&str>)> = names.iter().map(String::as_str).zip(deps).collect();
            nodes.sort();
            let graph = Graph::resolve(nodes.clone()).unwrap();
            let mut position = [usize::MAX; 60];
            for (at, &node) in graph.order().iter().enumerate() {
                position[node as usize] = at;
            }
            for (node, (name, deps)) in nodes.iter().enumerate() {
                prop_assert_eq!(graph.find(name), Some(node as u32));
                for dep in deps {
                    let dep = graph.find(dep).unwrap();
                    prop_assert!(position[dep as usize] < position[node]);
                    prop_assert!(graph.dependents(dep).contains(&(node as u32)));
                }
            }
        }
    }
}
