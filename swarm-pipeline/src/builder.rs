mod by_name;
mod step;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::build_error::{BuildError, Problem};
use crate::definition::Node;
use crate::graph::{Graph, Names};
use crate::handle::{Edge, Handle};
use crate::pipeline::Pipeline;
use crate::scheduler::{NONE, Plan, Ranks, StepPlan};
use step::Policy;
pub use step::StepBuilder;

/// Collects the steps of a [`Pipeline`].
///
/// ```
/// use std::sync::Arc;
/// use swarm_pipeline::Pipeline;
///
/// let mut p = Pipeline::builder("sum");
/// let two = p.step("two").run(|_cx, ()| async { Ok(2_u64) });
/// let three = p.step("three").run(|_cx, ()| async { Ok(3_u64) });
/// let sum = p.step("sum").input((&two, &three)).run(|_cx, (a, b)| async move { Ok(*a + *b) });
/// let pipeline = p.build()?;
/// # let _ = sum;
/// # Ok::<(), swarm_pipeline::BuildError>(())
/// ```
pub struct PipelineBuilder {
    id: u64,
    name: String,
    names: Names,
    drafts: Vec<Draft>,
    groups: Vec<(String, u32)>,
    concurrency: u32,
    carry_on: bool,
    rollback: bool,
    cancel_grace: Duration,
    problems: Vec<Problem>,
}

/// A step as declared: its dependencies are indices where they came by handle, names where by name.
struct Draft {
    node: Node,
    plan: StepPlan,
    edges: Vec<Edge>,
    after: Vec<String>,
}

/// What becomes of the other steps when one has failed for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnFailure {
    /// Nothing new is started; what is under way is asked to end and waited for.
    #[default]
    Stop,
    /// Everything that does not depend on the failed step still runs.
    CarryOn,
}

/// What becomes of the work done when a run fails or is cancelled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Rollback {
    /// Every step that is done or may be done, and says how, is undone in reverse order.
    #[default]
    Automatic,
    /// Only when [`LocalEngine::rollback`](crate::LocalEngine::rollback) says so.
    Manual,
}

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

impl PipelineBuilder {
    pub(crate) fn new(name: impl Into<String>) -> Self {
        PipelineBuilder {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            name: name.into(),
            names: Names::default(),
            drafts: Vec::new(),
            groups: Vec::new(),
            concurrency: u32::MAX,
            carry_on: false,
            rollback: true,
            cancel_grace: Duration::from_secs(5),
            problems: Vec::new(),
        }
    }

    /// Begins a step. Set what it takes and how it is treated, then end with [`run`](StepBuilder::run) or one of its siblings.
    pub fn step<O>(&mut self, name: impl Into<String>) -> StepBuilder<'_, (), O> {
        StepBuilder {
            pipeline: self,
            name: name.into(),
            source: (),
            edges: Vec::new(),
            after: Vec::new(),
            gates: Vec::new(),
            policy: Policy::default(),
            undo: None,
            when: None,
            ends_itself: false,
        }
    }

    /// How many steps may run at once; without it, any number.
    pub fn concurrency(&mut self, limit: u32) -> &mut Self {
        self.concurrency = limit;
        self
    }

    /// How many steps of the group `name` may run at once; steps join it with [`StepBuilder::group`].
    pub fn group(&mut self, name: impl Into<String>, limit: u32) -> &mut Self {
        self.groups.push((name.into(), limit));
        self
    }

    /// What becomes of the other steps when one fails.
    pub fn on_failure(&mut self, choice: OnFailure) -> &mut Self {
        self.carry_on = choice == OnFailure::CarryOn;
        self
    }

    /// What becomes of the work done when the run fails or is cancelled.
    pub fn rollback(&mut self, choice: Rollback) -> &mut Self {
        self.rollback = choice == Rollback::Automatic;
        self
    }

    /// How long an attempt may go on after the run was cancelled, before its future is dropped; 5 s unless
    /// said otherwise. Blocking steps cannot be dropped and are waited for.
    pub fn cancel_grace(&mut self, grace: Duration) -> &mut Self {
        self.cancel_grace = grace;
        self
    }

    /// Takes all steps of `other` into this pipeline, each under the name `prefix.step`, waiting for `after`.
    ///
    /// They keep their policies and compensations and become steps like any other: one log, one report, one rollback.
    /// The limits, groups aside, are those of this pipeline.
    pub fn nest<'n>(
        &mut self,
        prefix: &str,
        other: &Pipeline,
        after: impl IntoIterator<Item = &'n str>,
    ) -> Nested {
        let base = self.drafts.len() as u32;
        let after: Vec<String> = after.into_iter().map(str::to_owned).collect();
        let inner = other.plan();
        let offset = self.groups.len() as u32;
        for (name, limit) in other.group_names().iter().zip(&inner.groups) {
            self.groups.push((format!("{prefix}.{name}"), *limit));
        }
        for step in 0..other.len() as u32 {
            let mut node = other.node(step).clone();
            node.base += base;
            let mut plan = inner.steps[step as usize].clone();
            if plan.group != NONE {
                plan.group += offset;
            }
            let dependencies = other.graph().dependencies(step);
            let edge = |&dependency: &u32| Edge {
                pipeline: self.id,
                step: base + dependency,
                optional: inner.optional.contains(&(dependency, step)),
            };
            let edges = dependencies.iter().map(edge).collect();
            let after = if dependencies.is_empty() { after.clone() } else { Vec::new() };
            self.names.push(&format!("{prefix}.{}", other.graph().name(step)));
            self.drafts.push(Draft { node, plan, edges, after });
        }
        Nested { pipeline: self.id, inner: other.id(), base }
    }

    /// Checks everything and makes the pipeline.
    ///
    /// # Errors
    /// Every problem at once: names used twice, unknown (with the nearest known one), self-dependencies, the shortest
    /// cycles, handles of other pipelines, policies without sense.
    pub fn build(mut self) -> Result<Pipeline, BuildError> {
        let mut problems = std::mem::take(&mut self.problems);
        if self.names.overflowed() {
            return Err(BuildError::of(Problem::TooLarge));
        }
        self.names.index(|name| problems.push(Problem::DuplicateName { step: name.to_owned() }));
        let mut optional = HashSet::new();
        let mut dependencies = Vec::with_capacity(self.drafts.len());
        for (step, draft) in self.drafts.iter().enumerate() {
            let name = self.names.get(step as u32);
            problems.extend(invalid_name(name));
            let mut list = Vec::with_capacity(draft.edges.len() + draft.after.len());
            for edge in &draft.edges {
                if edge.pipeline != self.id {
                    problems.push(Problem::ForeignHandle { step: name.to_owned() });
                    continue;
                }
                if edge.optional {
                    optional.insert((edge.step, step as u32));
                }
                list.push(edge.step);
            }
            for after in &draft.after {
                match self.names.find(after) {
                    Some(dependency) => list.push(dependency),
                    None => problems.push(Problem::UnknownDependency {
                        step: name.to_owned(),
                        dependency: after.clone(),
                        nearest: self.names.nearest(after, problems.len()).map(str::to_owned),
                    }),
                }
            }
            dependencies.push(list);
        }
        // A dependency that is needed as well as optional is needed.
        for (step, draft) in self.drafts.iter().enumerate() {
            for edge in draft.edges.iter().filter(|edge| !edge.optional) {
                optional.remove(&(edge.step, step as u32));
            }
        }
        self.check_limits(&mut problems);
        let graph = Arc::new(Graph::from_indices(self.names, dependencies, problems)?);
        let (nodes, steps): (Vec<Node>, Vec<StepPlan>) =
            self.drafts.into_iter().map(|draft| (draft.node, draft.plan)).unzip();
        let plan = Plan {
            ranks: Arc::new(Ranks::new(&graph, &steps, &[], self.concurrency)),
            graph: Arc::clone(&graph),
            steps,
            optional,
            groups: self.groups.iter().map(|(_, limit)| *limit).collect(),
            concurrency: self.concurrency,
            carry_on: self.carry_on,
            rollback: self.rollback,
        };
        let groups = self.groups.into_iter().map(|(name, _)| name).collect();
        Ok(Pipeline::assemble(self.id, self.name, graph, nodes, plan, groups, self.cancel_grace))
    }

    fn check_limits(&mut self, problems: &mut Vec<Problem>) {
        let mut complain = |message: String| {
            problems.push(Problem::Invalid { step: self.name.clone(), message });
        };
        if self.concurrency == 0 {
            complain("a concurrency of 0; at least 1 step must be able to run".to_owned());
        }
        for (at, (name, limit)) in self.groups.iter().enumerate() {
            if *limit == 0 {
                complain(format!("group {name:?} has limit 0; at least 1 step must be able to run"));
            }
            if self.groups[..at].iter().any(|(other, _)| other == name) {
                complain(format!("group {name:?} is given twice"));
            }
        }
    }
}

fn invalid_name(name: &str) -> Option<Problem> {
    let fault = if name.is_empty() {
        "a step name is empty".to_owned()
    } else if name.len() > 256 {
        format!("a step name has {} bytes; 256 are allowed", name.len())
    } else {
        let bad = name.chars().find(|c| c.is_control() || matches!(c, '/' | '[' | ']'))?;
        format!("a step name contains {bad:?}, which is kept for idempotency keys")
    };
    Some(Problem::Invalid { step: name.to_owned(), message: fault })
}

/// Where the steps of a nested pipeline are in the outer one.
#[derive(Debug, Clone, Copy)]
pub struct Nested {
    pipeline: u64,
    inner: u64,
    base: u32,
}

impl Nested {
    /// The handle, in the outer pipeline, of a step whose handle came from the inner pipeline's builder.
    ///
    /// A handle of any third pipeline is told as a problem when the outer pipeline is built.
    pub fn handle<T>(&self, inner: &Handle<T>) -> Handle<T> {
        if inner.pipeline == self.inner { Handle::new(self.pipeline, self.base + inner.step) } else { *inner }
    }
}
