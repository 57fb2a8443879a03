//! `petgraph` on our graph: its visit traits, and conversion both ways. Edges run from a dependency to its dependents.

use ::petgraph::Direction;
use ::petgraph::graph::{DiGraph, Graph as PetGraph, IndexType};
use ::petgraph::visit::{
    self, Data, EdgeRef, GraphBase, GraphProp, IntoEdgeReferences, IntoEdges, IntoEdgesDirected,
    IntoNeighbors, IntoNeighborsDirected, IntoNodeIdentifiers, IntoNodeReferences, NodeCompactIndexable,
    NodeCount, NodeIndexable, VisitMap, Visitable,
};

use super::{Graph, Names};
use crate::build_error::BuildError;

/// An edge of [`Graph`], for petgraph's algorithms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edge {
    source: u32,
    target: u32,
}

/// Which nodes an algorithm of petgraph has visited.
#[derive(Debug, Clone, Default)]
pub struct Visited(Vec<bool>);

impl VisitMap<u32> for Visited {
    fn visit(&mut self, node: u32) -> bool {
        !std::mem::replace(&mut self.0[node as usize], true)
    }

    fn is_visited(&self, node: &u32) -> bool {
        self.0[*node as usize]
    }

    fn unvisit(&mut self, node: u32) -> bool {
        std::mem::replace(&mut self.0[node as usize], false)
    }
}

impl EdgeRef for Edge {
    type NodeId = u32;
    type EdgeId = (u32, u32);
    type Weight = ();

    fn source(&self) -> u32 {
        self.source
    }

    fn target(&self) -> u32 {
        self.target
    }

    fn weight(&self) -> &() {
        &()
    }

    fn id(&self) -> (u32, u32) {
        (self.source, self.target)
    }
}

impl GraphBase for Graph {
    type NodeId = u32;
    type EdgeId = (u32, u32);
}

impl Data for Graph {
    /// petgraph wants a sized weight that it can borrow: the number; the name is [`Graph::name`].
    type NodeWeight = u32;
    type EdgeWeight = ();
}

impl GraphProp for Graph {
    type EdgeType = ::petgraph::Directed;
}

impl NodeCount for Graph {
    fn node_count(&self) -> usize {
        self.len()
    }
}

impl visit::EdgeCount for Graph {
    fn edge_count(&self) -> usize {
        Graph::edge_count(self)
    }
}

impl NodeIndexable for Graph {
    fn node_bound(&self) -> usize {
        self.len()
    }

    fn to_index(&self, node: u32) -> usize {
        node as usize
    }

    fn from_index(&self, index: usize) -> u32 {
        index as u32
    }
}

impl NodeCompactIndexable for Graph {}

impl Visitable for Graph {
    type Map = Visited;

    fn visit_map(&self) -> Visited {
        Visited(vec![false; self.len()])
    }

    fn reset_map(&self, map: &mut Visited) {
        map.0.clear();
        map.0.resize(self.len(), false);
    }
}

impl IntoNodeIdentifiers for &Graph {
    type NodeIdentifiers = std::ops::Range<u32>;

    fn node_identifiers(self) -> Self::NodeIdentifiers {
        0..self.len() as u32
    }
}

/// Nodes with their weights, as petgraph iterates them.
#[derive(Debug, Clone)]
pub struct NodeReferences<'a> {
    nodes: std::slice::Iter<'a, u32>,
}

impl<'a> Iterator for NodeReferences<'a> {
    type Item = (u32, &'a u32);

    fn next(&mut self) -> Option<Self::Item> {
        self.nodes.next().map(|node| (*node, node))
    }
}

impl<'a> IntoNodeReferences for &'a Graph {
    type NodeRef = (u32, &'a u32);
    type NodeReferences = NodeReferences<'a>;

    fn node_references(self) -> Self::NodeReferences {
        NodeReferences { nodes: self.order().iter() }
    }
}

impl<'a> IntoNeighbors for &'a Graph {
    type Neighbors = std::iter::Copied<std::slice::Iter<'a, u32>>;

    fn neighbors(self, node: u32) -> Self::Neighbors {
        self.dependents(node).iter().copied()
    }
}

impl<'a> IntoNeighborsDirected for &'a Graph {
    type NeighborsDirected = std::iter::Copied<std::slice::Iter<'a, u32>>;

    fn neighbors_directed(self, node: u32, direction: Direction) -> Self::NeighborsDirected {
        match direction {
            Direction::Outgoing => self.dependents(node).iter().copied(),
            Direction::Incoming => self.dependencies(node).iter().copied(),
        }
    }
}

/// The edges at one node, as petgraph iterates them.
#[derive(Debug, Clone)]
pub struct Edges<'a> {
    node: u32,
    direction: Direction,
    others: std::slice::Iter<'a, u32>,
}

impl Iterator for Edges<'_> {
    type Item = Edge;

    fn next(&mut self) -> Option<Edge> {
        let other = *self.others.next()?;
        Some(match self.direction {
            Direction::Outgoing => Edge { source: self.node, target: other },
            Direction::Incoming => Edge { source: other, target: self.node },
        })
    }
}

impl<'a> IntoEdges for &'a Graph {
    type Edges = Edges<'a>;

    fn edges(self, node: u32) -> Edges<'a> {
        self.edges_directed(node, Direction::Outgoing)
    }
}

impl<'a> IntoEdgesDirected for &'a Graph {
    type EdgesDirected = Edges<'a>;

    fn edges_directed(self, node: u32, direction: Direction) -> Edges<'a> {
        let others = match direction {
            Direction::Outgoing => self.dependents(node),
            Direction::Incoming => self.dependencies(node),
        };
        Edges { node, direction, others: others.iter() }
    }
}

/// Every edge once, as petgraph iterates them.
#[derive(Debug, Clone)]
pub struct EdgeReferences<'a> {
    graph: &'a Graph,
    edges: Edges<'a>,
}

impl Iterator for EdgeReferences<'_> {
    type Item = Edge;

    fn next(&mut self) -> Option<Edge> {
        loop {
            if let Some(edge) = self.edges.next() {
                return Some(edge);
            }
            let next = self.edges.node + 1;
            if next as usize >= self.graph.len() {
                return None;
            }
            self.edges = self.graph.edges(next);
        }
    }
}

impl<'a> IntoEdgeReferences for &'a Graph {
    type EdgeRef = Edge;
    type EdgeReferences = EdgeReferences<'a>;

    fn edge_references(self) -> EdgeReferences<'a> {
        let edges = if self.is_empty() {
            Edges { node: 0, direction: Direction::Outgoing, others: [].iter() }
        } else {
            self.edges(0)
        };
        EdgeReferences { graph: self, edges }
    }
}

impl From<&Graph> for DiGraph<String, ()> {
    /// Node `n` becomes petgraph's node `n`.
    fn from(graph: &Graph) -> Self {
        let mut out = DiGraph::with_capacity(graph.len(), graph.edge_count());
        for node in 0..graph.len() as u32 {
            out.add_node(graph.name(node).to_owned());
        }
        for edge in graph.edge_references() {
            out.add_edge(edge.source.into(), edge.target.into(), ());
        }
        out
    }
}

impl<N: AsRef<str>, E, Ix: IndexType> TryFrom<&PetGraph<N, E, ::petgraph::Directed, Ix>> for Graph {
    type Error = BuildError;

    /// petgraph's node `n` becomes node `n`; node weights are the names, edge weights are left behind.
    fn try_from(graph: &PetGraph<N, E, ::petgraph::Directed, Ix>) -> Result<Self, BuildError> {
        let mut problems = Vec::new();
        let mut names = Names::with_capacity(graph.node_count());
        graph.node_weights().for_each(|name| names.push(name.as_ref()));
        names.index(|name| {
            problems.push(crate::build_error::Problem::DuplicateName { step: name.to_owned() });
        });
        let dependencies = graph.node_indices().map(|node| {
            let mut list: Vec<u32> = graph
                .neighbors_directed(node, Direction::Incoming)
                .map(|dependency| dependency.index() as u32)
                .collect();
            list.sort_unstable();
            list
        });
        Graph::from_indices(names, dependencies, problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::petgraph::algo::{dominators, is_cyclic_directed, toposort};

    fn diamond() -> Graph {
        Graph::resolve([("d", vec!["b", "c"]), ("b", vec!["a"]), ("c", vec!["a"]), ("a", vec![])]).unwrap()
    }

    #[test]
    fn petgraphs_algorithms_run_on_our_graph() {
        let graph = diamond();
        assert!(!is_cyclic_directed(&graph));
        assert_eq!(toposort(&graph, None).unwrap().first(), graph.find("a").as_ref());
        let (a, d) = (graph.find("a").unwrap(), graph.find("d").unwrap());
        assert_eq!(dominators::simple_fast(&graph, a).immediate_dominator(d), Some(a));
        assert_eq!((&graph).edge_references().count(), 4);
    }

    #[test]
    fn there_and_back_is_the_same_graph() {
        let graph = diamond();
        let there = DiGraph::from(&graph);
        let back = Graph::try_from(&there).unwrap();
        for node in 0..graph.len() as u32 {
            assert_eq!(back.name(node), graph.name(node));
            assert_eq!(back.dependents(node), graph.dependents(node));
        }
    }

    #[test]
    fn a_cycle_in_petgraph_is_refused() {
        let mut graph = DiGraph::<&str, ()>::new();
        let (a, b) = (graph.add_node("a"), graph.add_node("b"));
        graph.extend_with_edges([(a, b), (b, a)]);
        assert_eq!(Graph::try_from(&graph).unwrap_err().to_string(), "a cycle: a -> b -> a");
    }
}
