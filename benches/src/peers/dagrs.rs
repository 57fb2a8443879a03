//! dagrs: nodes that pass values over channels.

use std::sync::Arc;

use dagrs::{
    Action, Content, DefaultNode, EnvVar, Graph, InChannels, Node, NodeId, NodeTable, OutChannels, Output,
    async_trait::async_trait,
};
use tokio::runtime::Runtime;

use crate::runner::{Runner, on_worker};
use crate::shapes::{Shape, sum};

/// Runs a shape as dagrs' own examples do.
pub struct Dagrs;

/// The graph with the identity of each node.
pub struct Built(Graph, Vec<NodeId>);

struct Add;

#[async_trait]
impl Action for Add {
    async fn run(&self, inputs: &mut InChannels, outputs: &mut OutChannels, _: Arc<EnvVar>) -> Output {
        let inputs = inputs.map(|content| *content.unwrap().into_inner::<u64>().unwrap()).await;
        let content = Content::new(sum(inputs));
        outputs.broadcast(content.clone()).await;
        Output::Out(Some(content))
    }
}

impl Runner for Dagrs {
    type Built = Built;
    type Done = Built;

    fn build(shape: &Shape) -> Built {
        let mut table = NodeTable::default();
        let mut graph = Graph::new();
        let ids: Vec<_> = (0..shape.len())
            .map(|node| {
                let node = DefaultNode::with_action(format!("step-{node:06}"), Add, &mut table);
                let id = node.id();
                graph.add_node(node).unwrap();
                id
            })
            .collect();
        for (node, children) in shape.children().into_iter().enumerate() {
            if !children.is_empty() {
                let to: Vec<_> = children.into_iter().map(|child| ids[child as usize]).collect();
                graph.add_edge(ids[node], to).unwrap();
            }
        }
        graph.set_env(EnvVar::new(table));
        Built(graph, ids)
    }

    fn run(runtime: &Runtime, Built(mut graph, ids): Built) -> Built {
        on_worker(runtime, async move {
            graph.async_start().await.unwrap();
            Built(graph, ids)
        })
    }

    fn values(Built(graph, ids): Built) -> Vec<u64> {
        let results = graph.get_results::<u64>();
        ids.iter().map(|id| *results[id].clone().unwrap()).collect()
    }
}
