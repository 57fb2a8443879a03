mod by_name;

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::breaker::CircuitBreaker;
use crate::build_error::{BuildError, Problem};
use crate::definition::{Body, FanOut, Node, StepDef, Undo, Wake, Work};
use crate::gate::Gate;
use crate::graph::{Graph, Names};
use crate::handle::{Edge, Handle, Inputs, One, Source};
use crate::output::{Items, List, Output, StepOutput, View, decode, typed};
use crate::pipeline::Pipeline;
use crate::retry::Retry;
use crate::scheduler::{Kind, NONE, Plan, Ranks, StepPlan};
use crate::step::{PipelineStep, StepContext};
use crate::step_error::StepError;

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

#[derive(Clone, Default)]
struct Policy {
    retry: Option<Retry>,
    undo_retry: Option<Retry>,
    undo_timeout: Option<Duration>,
    timeout: Option<Duration>,
    total_timeout: Option<Duration>,
    group: Option<String>,
    priority: i32,
    version: String,
    reuse: bool,
    breaker: Option<CircuitBreaker>,
    expected: Option<Duration>,
}

/// A step under construction. `S` is what it takes, `O` what it returns; both follow from the calls.
// Two type parameters, since the compiler infers the closures of gates, compensation and `run` from them.
#[must_use = "a step is added by `run` or one of its siblings"]
pub struct StepBuilder<'p, S, O> {
    pipeline: &'p mut PipelineBuilder,
    name: String,
    source: S,
    edges: Vec<Edge>,
    after: Vec<String>,
    gates: Vec<Gate<O>>,
    policy: Policy,
    undo: Option<Undo>,
    when: Option<Condition>,
    ends_itself: bool,
}

type Condition = Box<dyn Fn(View<'_>) -> Result<bool, StepError> + Send + Sync>;

impl<'p, O> StepBuilder<'p, (), O> {
    /// What the step takes: a handle, a tuple of handles, or a `Vec<Handle<T>>`. Each is a dependency.
    pub fn input<I: Inputs>(mut self, inputs: I) -> StepBuilder<'p, I::Source, O> {
        let source = inputs.source(&mut self.edges);
        StepBuilder {
            pipeline: self.pipeline,
            name: self.name,
            source,
            edges: self.edges,
            after: self.after,
            gates: self.gates,
            policy: self.policy,
            undo: self.undo,
            when: self.when,
            ends_itself: self.ends_itself,
        }
    }
}

impl<S: Source, O: StepOutput> StepBuilder<'_, S, O> {
    /// Steps to wait for that give no input. They may be declared later.
    pub fn after<N: Into<String>>(mut self, names: impl IntoIterator<Item = N>) -> Self {
        self.after.extend(names.into_iter().map(Into::into));
        self
    }

    /// How often a failed attempt is made again.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.policy.retry = Some(retry);
        self
    }

    /// How long one attempt may take. An async attempt is then dropped; a blocking one is told by
    /// [`StepContext::is_cancelled`] and waited for.
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.policy.timeout = Some(limit);
        self
    }

    /// How long all attempts with the delays between them may take, from the first start on.
    pub fn total_timeout(mut self, limit: Duration) -> Self {
        self.policy.total_timeout = Some(limit);
        self
    }

    /// The concurrency group the step runs in; see [`PipelineBuilder::group`].
    pub fn group(mut self, name: impl Into<String>) -> Self {
        self.policy.group = Some(name.into());
        self
    }

    /// Ready steps of a higher priority start first. 0 unless said otherwise.
    pub fn priority(mut self, priority: i32) -> Self {
        self.policy.priority = priority;
        self
    }

    /// Runs the step only if `condition` says so of its inputs. Otherwise it is skipped, and so is what needs its output.
    /// Call it after [`input`](StepBuilder::input). A condition that panics fails the step.
    pub fn when(mut self, condition: impl Fn(&S::Value) -> bool + Send + Sync + 'static) -> Self {
        let source = self.source.clone();
        self.when = Some(Box::new(move |view| Ok(condition(&source.take(view)?))));
        self
    }

    /// Checks the output before anything may use it. Gates are asked in the order they were added; all are asked.
    pub fn gate(mut self, gate: Gate<O>) -> Self {
        self.gates.push(gate);
        self
    }

    /// How to undo the step, when the run fails or is cancelled after it was done or may have been done.
    ///
    /// The output is absent where the step failed or its end was not recorded: it may have done all, part or
    /// nothing. Like the step itself, an undo may be called again after a crash.
    pub fn compensate<F, Fut>(mut self, undo: F) -> Self
    where
        F: Fn(StepContext, Option<Arc<O>>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), StepError>> + Send + 'static,
    {
        self.undo =
            Some(undo_by(move |cx, output| match output.map(|output| typed::<O>(&output)).transpose() {
                Ok(output) => {
                    let undo = undo(cx, output);
                    Work::Async(Box::pin(async move { undo.await.map(|()| unit()) }))
                }
                Err(error) => Work::Ready(Err(error)),
            }));
        self
    }

    /// How often a failed undo is made again before the run is stuck; [`Retry::exponential`] of 5 unless said otherwise.
    pub fn compensate_retry(mut self, retry: Retry) -> Self {
        self.policy.undo_retry = Some(retry);
        self
    }

    /// How long an attempt to undo the step may take; any time unless said otherwise. What waits is dropped then.
    pub fn compensate_timeout(mut self, limit: Duration) -> Self {
        self.policy.undo_timeout = Some(limit);
        self
    }

    /// Names the behaviour of the step. A change is noticed when a run is resumed, and makes kept outputs useless for reuse.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.policy.version = version.into();
        self
    }

    /// Takes the output of an earlier run of a pipeline of this name where name, version, inputs and the run's input are the
    /// same, its gates let it pass, and it was not undone. For steps whose output depends on nothing else: code is known by
    /// its [`version`](StepBuilder::version) alone. A fan-out step is reused as a whole. Artifacts that the output names
    /// are read from the run that made them, as long as it is not pruned.
    pub fn reuse(mut self) -> Self {
        self.policy.reuse = true;
        self
    }

    /// Stops calling the step while the breaker is open. Give the same breaker to all steps that use the same service.
    pub fn circuit_breaker(mut self, breaker: &CircuitBreaker) -> Self {
        self.policy.breaker = Some(breaker.clone());
        self
    }

    /// How long the step is expected to take, for the order of dispatch, until the engine has learnt better.
    pub fn expect(mut self, duration: Duration) -> Self {
        self.policy.expected = Some(duration);
        self
    }

    /// Adds the step as an async function or closure of context and inputs.
    ///
    /// It is polled in place first, and moves to a task of its own as soon as it waits.
    pub fn run<F, Fut>(self, step: F) -> Handle<O>
    where
        F: Fn(StepContext, S::Value) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, StepError>> + Send + 'static,
    {
        let source = self.source.clone();
        self.add_task(Box::new(move |cx, view| match source.take(view) {
            Ok(inputs) => Work::Async(erase(step(cx, inputs))),
            Err(error) => Work::Ready(Err(error)),
        }))
    }

    /// Adds the step as a function that blocks or computes; it runs on a thread made for that.
    pub fn run_blocking<F>(self, step: F) -> Handle<O>
    where
        F: Fn(StepContext, S::Value) -> Result<O, StepError> + Send + Sync + 'static,
    {
        let source = self.source.clone();
        let step = Arc::new(step);
        self.add_task(Box::new(move |cx, view| match source.take(view) {
            Ok(inputs) => {
                let step = Arc::clone(&step);
                Work::Blocking(Box::new(move || step(cx, inputs).map(|output| Arc::new(output) as Output)))
            }
            Err(error) => Work::Ready(Err(error)),
        }))
    }

    /// Adds a step that is done when [`LocalEngine::signal`](crate::LocalEngine::signal) brings its output: an approval, say.
    pub fn wait_for_signal(self) -> Handle<O> {
        self.add(Kind::Signal, Body { start: None, decode: decode::<O>, fan_out: None, wake: None })
    }

    fn add_task(self, start: StartFn) -> Handle<O> {
        self.add(Kind::Task, Body { start: Some(start), decode: decode::<O>, fan_out: None, wake: None })
    }

    fn add<R>(self, kind: Kind, body: Body) -> Handle<R> {
        let pipeline = self.pipeline;
        let mut complain = |message: String| {
            pipeline.problems.push(Problem::Invalid { step: self.name.clone(), message });
        };
        let policy = self.policy;
        let has_retry = policy.retry.is_some();
        let retry = policy.retry.unwrap_or(Retry::none());
        let undo_retry = policy.undo_retry.unwrap_or(Retry::exponential(5));
        retry.problem().into_iter().chain(undo_retry.problem()).for_each(&mut complain);
        let zero =
            [policy.timeout, policy.total_timeout, policy.undo_timeout].contains(&Some(Duration::ZERO));
        if zero {
            complain("a timeout of 0, which no attempt can meet".to_owned());
        }
        if matches!(kind, Kind::Signal | Kind::Sleep) {
            let idle = [
                ("retry", has_retry),
                ("timeout", policy.timeout.is_some()),
                ("total_timeout", policy.total_timeout.is_some()),
                ("group", policy.group.is_some()),
                ("reuse", policy.reuse),
                ("circuit_breaker", policy.breaker.is_some()),
                ("compensate", self.undo.is_some()),
                ("gate", kind == Kind::Sleep && !self.gates.is_empty()),
            ];
            let what = if kind == Kind::Sleep { "sleeps" } else { "waits for a signal" };
            for (setting, _) in idle.into_iter().filter(|(_, is_set)| *is_set) {
                complain(format!("`{setting}` has no effect on a step that {what}"));
            }
        }
        let group = match &policy.group {
            None => NONE,
            Some(name) => match pipeline.groups.iter().position(|(group, _)| group == name) {
                Some(group) => group as u32,
                None => {
                    let known: Vec<&str> = pipeline.groups.iter().map(|(group, _)| &**group).collect();
                    complain(format!(
                        "group {name:?} has no limit yet; known are {known:?}; call `PipelineBuilder::group` first"
                    ));
                    NONE
                }
            },
        };
        let prepare = self.when.is_some() || policy.reuse || matches!(kind, Kind::ForEach);
        let plan = StepPlan {
            kind,
            prepare,
            undo: self.undo.is_some(),
            group,
            priority: policy.priority,
            retry,
            undo_retry,
            total_timeout: policy.total_timeout.map(|limit| limit.as_micros().min(i64::MAX as u128) as i64),
            estimate: policy.expected.map_or(0, |expected| expected.as_micros().min(u64::MAX as u128) as u64),
        };
        let gates = self.gates;
        let def = StepDef {
            body,
            when: self.when,
            gates: gates.iter().map(|gate| (gate.warn_only, gate.retry)).collect(),
            judge: Box::new(move |output| match typed::<O>(output) {
                Ok(output) => gates.iter().map(|gate| gate.judge(&output)).collect(),
                Err(_) => Vec::new(),
            }),
            decode_item: decode::<O>,
            undo: self.undo.map(|undo| Undo { timeout: policy.undo_timeout, ..undo }),
            timeout: policy.timeout,
            ends_itself: self.ends_itself,
            version: policy.version,
            reuse: policy.reuse,
            breaker: policy.breaker,
        };
        let step = pipeline.drafts.len() as u32;
        pipeline.names.push(&self.name);
        let node = Node { def: Arc::new(def), base: 0 };
        pipeline.drafts.push(Draft { node, plan, edges: self.edges, after: self.after });
        Handle::new(pipeline.id, step)
    }
}

type StartFn = Box<dyn Fn(StepContext, View<'_>) -> Work + Send + Sync>;

impl<L: List, O: StepOutput> StepBuilder<'_, One<L>, O> {
    /// Adds the step once for each item of the list that its input brings; the outputs come in the list's order.
    ///
    /// Each item has its own attempts, timeouts, gates and undo, and is never repeated once its result is recorded.
    /// An item that fails for good fails the step when the items under way have ended.
    pub fn run_each<F, Fut>(self, step: F) -> Handle<Items<O>>
    where
        F: Fn(StepContext, L::Item) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<O, StepError>> + Send + 'static,
    {
        let (source, list) = (self.source.clone(), self.source.clone());
        let start: StartFn = Box::new(move |cx, view| match source.take(view) {
            Ok(list) => Work::Async(erase(step(cx.clone(), list.item(cx.item as usize)))),
            Err(error) => Work::Ready(Err(error)),
        });
        let fan_out = FanOut {
            count: Box::new(move |view| list.take(view)?.count()),
            collect: |items| {
                let items: Result<Items<O>, StepError> = items.iter().map(typed::<O>).collect();
                items.map(|items| Arc::new(items) as Output)
            },
        };
        let body =
            Body { start: Some(start), decode: decode::<Items<O>>, fan_out: Some(fan_out), wake: None };
        self.add(Kind::ForEach, body)
    }
}

impl<S: Source> StepBuilder<'_, S, Value> {
    /// Adds a [`PipelineStep`]. Its own version and compensation apply where none were set here.
    pub fn run_step(self, step: impl PipelineStep) -> Handle<Value> {
        self.run_shared_step(Arc::new(step))
    }
}

impl<S: Source> StepBuilder<'_, S, DateTime<Utc>> {
    /// Adds a step that is done a while after its dependencies are; its output is the time it aimed at.
    /// The time is fixed when the wait begins, and survives a crash.
    pub fn sleep(self, duration: Duration) -> Handle<DateTime<Utc>> {
        self.sleep_with(Wake::After(duration))
    }

    /// Adds a step that is done when the time has come; its output is that time.
    pub fn sleep_until(self, time: DateTime<Utc>) -> Handle<DateTime<Utc>> {
        self.sleep_with(Wake::At(time))
    }

    fn sleep_with(self, wake: Wake) -> Handle<DateTime<Utc>> {
        let body = Body { start: None, decode: decode::<DateTime<Utc>>, fan_out: None, wake: Some(wake) };
        self.add(Kind::Sleep, body)
    }
}

fn erase<O: StepOutput>(
    future: impl Future<Output = Result<O, StepError>> + Send + 'static,
) -> crate::definition::BoxWork {
    Box::pin(async move { future.await.map(|output| Arc::new(output) as Output) })
}

fn undo_by(start: impl Fn(StepContext, Option<Output>) -> Work + Send + Sync + 'static) -> Undo {
    Undo { start: Box::new(start), timeout: None, ends_itself: false }
}

/// The output of an undo, which nobody reads.
fn unit() -> Output {
    Arc::new(())
}
