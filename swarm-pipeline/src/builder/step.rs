//! One step of a pipeline in the making.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::{Draft, PipelineBuilder};
use crate::breaker::CircuitBreaker;
use crate::build_error::Problem;
use crate::definition::{Body, FanOut, Node, StartFn, StepDef, Undo, Wake, Work};
use crate::gate::Gate;
use crate::handle::{Edge, Handle, Inputs, One, Source};
use crate::output::{Items, List, Output, StepOutput, View, decode, typed};
use crate::retry::Retry;
use crate::scheduler::{Kind, NONE, Retries, StepPlan};
use crate::step::{PipelineStep, StepContext};
use crate::step_error::StepError;

/// How a step is treated, as far as it was said.
#[derive(Clone, Default)]
pub(super) struct Policy {
    pub(super) retry: Option<Retry>,
    pub(super) undo_retry: Option<Retry>,
    pub(super) undo_timeout: Option<Duration>,
    pub(super) timeout: Option<Duration>,
    pub(super) total_timeout: Option<Duration>,
    pub(super) group: Option<String>,
    pub(super) priority: i32,
    pub(super) version: String,
    pub(super) reuse: bool,
    pub(super) breaker: Option<CircuitBreaker>,
    pub(super) expected: Option<Duration>,
}

/// A step under construction. `S` is what it takes, `O` what it returns; both follow from the calls.
// Two type parameters, since the compiler infers the closures of gates, compensation and `run` from them.
#[must_use = "a step is added by `run` or one of its siblings"]
pub struct StepBuilder<'p, S, O> {
    pub(super) pipeline: &'p mut PipelineBuilder,
    pub(super) name: String,
    pub(super) source: S,
    pub(super) edges: Vec<Edge>,
    pub(super) after: Vec<String>,
    pub(super) gates: Vec<Gate<O>>,
    pub(super) policy: Policy,
    pub(super) undo: Option<Undo>,
    pub(super) when: Option<Condition>,
    pub(super) ends_itself: bool,
}

pub(super) type Condition = Box<dyn Fn(View<'_>) -> Result<bool, StepError> + Send + Sync>;

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
        self.add_task(Arc::new(move |cx, view| match source.take(view) {
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
        self.add_task(Arc::new(move |cx, view| match source.take(view) {
            Ok(inputs) => {
                let step = Arc::clone(&step);
                Work::Blocking(Box::new(move || step(cx, inputs).map(|output| Arc::new(output) as Output)))
            }
            Err(error) => Work::Ready(Err(error)),
        }))
    }

    /// Adds a step that is done when [`LocalEngine::signal`](crate::LocalEngine::signal) brings its output: an approval, say.
    pub fn wait_for_signal(self) -> Handle<O> {
        self.add(Kind::Signal, None, Body { decode: decode::<O>, fan_out: None, wake: None })
    }

    pub(super) fn add_task(self, start: StartFn) -> Handle<O> {
        self.add(Kind::Task, Some(start), Body { decode: decode::<O>, fan_out: None, wake: None })
    }

    pub(super) fn add<R>(self, kind: Kind, start: Option<StartFn>, body: Body) -> Handle<R> {
        let pipeline = self.pipeline;
        let mut complain = |message: String| {
            pipeline.problems.push(Problem::Invalid { step: self.name.clone(), message });
        };
        let policy = self.policy;
        let has_retry = policy.retry.is_some();
        let retries = [&policy.retry, &policy.undo_retry].into_iter().flatten();
        retries.filter_map(Retry::problem).for_each(&mut complain);
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
            retries: Retries::of(policy.retry, policy.undo_retry),
            total_timeout: policy.total_timeout.map(|limit| limit.as_micros().min(i64::MAX as u128) as i64),
            estimate: policy.expected.map_or(0, |expected| expected.as_micros().min(u64::MAX as u128) as u64),
        };
        let gates = self.gates;
        let plain = gates.is_empty()
            && policy.timeout.is_none()
            && policy.total_timeout.is_none()
            && policy.breaker.is_none();
        let def = StepDef {
            body,
            when: self.when,
            gates: gates.iter().map(|gate| gate.retry).collect(),
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
        let node = Node { start, def: Arc::new(def), base: 0, plain };
        pipeline.drafts.push(Draft { node, plan, edges: self.edges, after: self.after });
        Handle::new(pipeline.id, step)
    }
}

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
        let start: StartFn = Arc::new(move |cx, view| match source.take(view) {
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
        let body = Body { decode: decode::<Items<O>>, fan_out: Some(fan_out), wake: None };
        self.add(Kind::ForEach, Some(start), body)
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
        let body = Body { decode: decode::<DateTime<Utc>>, fan_out: None, wake: Some(wake) };
        self.add(Kind::Sleep, None, body)
    }
}

fn erase<O: StepOutput>(
    future: impl Future<Output = Result<O, StepError>> + Send + 'static,
) -> crate::definition::BoxWork {
    Box::pin(async move { future.await.map(|output| Arc::new(output) as Output) })
}

pub(super) fn undo_by(start: impl Fn(StepContext, Option<Output>) -> Work + Send + Sync + 'static) -> Undo {
    Undo { start: Box::new(start), timeout: None, ends_itself: false }
}

/// The output of an undo, which nobody reads.
pub(super) fn unit() -> Output {
    Arc::new(())
}
