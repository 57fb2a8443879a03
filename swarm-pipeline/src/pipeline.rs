use std::sync::Arc;
use std::time::Duration;

use crate::builder::PipelineBuilder;
use crate::definition::Node;
use crate::digest::sha256_parts;
use crate::graph::Graph;
use crate::scheduler::{Kind, Plan};

/// A checked DAG of steps, ready to run any number of times. Cheap to clone.
#[derive(Clone)]
pub struct Pipeline(Arc<Inner>);

struct Inner {
    id: u64,
    name: String,
    graph: Arc<Graph>,
    nodes: Vec<Node>,
    plan: Arc<Plan>,
    groups: Vec<String>,
    cancel_grace: Duration,
}

impl Pipeline {
    /// Begins a pipeline. The name appears in logs and reports; what is learnt of durations is kept under it.
    pub fn builder(name: impl Into<String>) -> PipelineBuilder {
        PipelineBuilder::new(name)
    }

    pub(crate) fn assemble(
        id: u64,
        name: String,
        graph: Arc<Graph>,
        nodes: Vec<Node>,
        plan: Plan,
        groups: Vec<String>,
        cancel_grace: Duration,
    ) -> Self {
        Pipeline(Arc::new(Inner { id, name, graph, nodes, plan: Arc::new(plan), groups, cancel_grace }))
    }

    /// The name given to the builder.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// The graph of its steps, in the order they were declared.
    pub fn graph(&self) -> &Graph {
        &self.0.graph
    }

    /// The number of steps.
    pub fn len(&self) -> usize {
        self.0.nodes.len()
    }

    /// Whether there is no step.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A digest of the definition: 64 hex digits that change with any step's name, kind, version or dependencies.
    /// Retries, timeouts, limits and gates are not part of it, so that they can be tuned while runs are under way.
    pub fn fingerprint(&self) -> String {
        let steps: Vec<String> = (0..self.len() as u32).map(|step| self.step_fingerprint(step)).collect();
        sha256_parts(steps.iter().map(String::as_bytes))
    }

    /// The part of the fingerprint that is about one step: 16 hex digits.
    pub(crate) fn step_fingerprint(&self, step: u32) -> String {
        let graph = self.graph();
        let node = self.node(step);
        let kind = match self.step_plan(step).kind {
            Kind::Task => "task",
            Kind::ForEach => "for_each",
            Kind::Signal => "signal",
            Kind::Sleep => "sleep",
        };
        let mut dependencies: Vec<&str> = graph.dependencies(step).iter().map(|d| graph.name(*d)).collect();
        dependencies.sort_unstable();
        let parts = [graph.name(step), kind, &node.def.version].into_iter().chain(dependencies);
        sha256_parts(parts.map(str::as_bytes))[..16].to_owned()
    }

    /// The same pipeline with at most `workers` steps at once.
    #[cfg(feature = "testing")]
    pub(crate) fn limited_to(&self, workers: u32) -> Pipeline {
        let inner = &self.0;
        let mut plan = Plan::clone(&inner.plan);
        plan.concurrency = plan.concurrency.min(workers.max(1));
        Pipeline::assemble(
            inner.id,
            inner.name.clone(),
            Arc::clone(&inner.graph),
            inner.nodes.clone(),
            plan,
            inner.groups.clone(),
            inner.cancel_grace,
        )
    }

    /// What to say of a name that no step has: the nearest one, if one is near.
    pub(crate) fn hint(&self, step: &str) -> String {
        let names = (0..self.len() as u32).map(|step| self.graph().name(step));
        let near = crate::graph::nearest(step, names);
        near.map_or_else(String::new, |name| format!("; did you mean {name:?}?"))
    }

    pub(crate) fn id(&self) -> u64 {
        self.0.id
    }

    pub(crate) fn node(&self, step: u32) -> &Node {
        &self.0.nodes[step as usize]
    }

    pub(crate) fn step_plan(&self, step: u32) -> &crate::scheduler::StepPlan {
        &self.0.plan.steps[step as usize]
    }

    pub(crate) fn plan(&self) -> &Arc<Plan> {
        &self.0.plan
    }

    pub(crate) fn group_names(&self) -> &[String] {
        &self.0.groups
    }

    pub(crate) fn cancel_grace(&self) -> Duration {
        self.0.cancel_grace
    }
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("name", &self.name()).field("steps", &self.len()).finish()
    }
}
