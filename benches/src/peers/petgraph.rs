//! petgraph: a `DiGraph`, a map from names to its indices, and `toposort`.

use std::collections::HashMap;

use petgraph::algo::toposort;
use petgraph::graph::{DiGraph, NodeIndex};

/// A graph of names with its nodes in execution order.
pub struct Resolved<'a> {
    graph: DiGraph<&'a str, ()>,
    order: Vec<NodeIndex>,
}

/// Puts the names in an order in which each comes after all it depends on.
pub fn resolve<'a>(nodes: &[(&'a str, Vec<&'a str>)]) -> Resolved<'a> {
    let mut graph = DiGraph::with_capacity(nodes.len(), 3 * nodes.len());
    let mut indices = HashMap::with_capacity(nodes.len());
    for (name, _) in nodes {
        indices.insert(*name, graph.add_node(*name));
    }
    for (name, after) in nodes {
        let to = indices[name];
        for before in after {
            graph.add_edge(indices[before], to, ());
        }
    }
    let order = toposort(&graph, None).expect("the lists have no cycle");
    Resolved { graph, order }
}

impl<'a> Resolved<'a> {
    /// The names in order.
    pub fn names(&self) -> Vec<&'a str> {
        self.order.iter().map(|&index| self.graph[index]).collect()
    }
}
