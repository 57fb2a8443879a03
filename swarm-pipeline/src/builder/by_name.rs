//! Steps whose dependencies and inputs are known by number or name only, as those of a file are.

use std::sync::Arc;

use serde_json::Value;

use super::step::{StepBuilder, undo_by, unit};
use crate::definition::{Undo, Work};
use crate::handle::{Handle, Source};
use crate::output::{Output, View, typed};
use crate::step::{PipelineStep, StepContext};
#[cfg(feature = "files")]
use {
    super::PipelineBuilder,
    crate::definition::{Body, FanOut, StartFn},
    crate::handle::{Edge, One},
    crate::output::{Items, List, StepOutput, decode},
    crate::scheduler::{Kind, NONE},
};

#[cfg(feature = "files")]
impl PipelineBuilder {
    /// The handle of the `step`-th step, which may be declared later.
    pub(crate) fn handle_at<T>(&self, step: u32) -> Handle<T> {
        Handle::new(self.id, step)
    }

    /// The number of steps declared.
    pub(crate) fn declared(&self) -> u32 {
        self.drafts.len() as u32
    }
}

#[cfg(feature = "files")]
impl<S: Source, O: StepOutput> StepBuilder<'_, S, O> {
    /// As [`when`](StepBuilder::when), on the output of a step that need not be an input.
    pub(crate) fn when_output(
        mut self,
        on: Handle<Value>,
        condition: impl Fn(&Value) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.edges.push(Edge { pipeline: on.pipeline, step: on.step, optional: false });
        self.when = Some(Box::new(move |view| Ok(condition(&*view.typed::<Value>(on.step)?))));
        self
    }

    /// Undoes the step by running another, whose one input is the output to undo.
    pub(crate) fn compensate_by(mut self, step: Arc<dyn PipelineStep>) -> Self {
        let ends_itself = step.ends_itself();
        let undo = undo_by(move |mut cx, output| {
            let step = Arc::clone(&step);
            cx.inputs = Some(output.map(|output| (cx.step, output)).into_iter().collect());
            Work::Async(Box::pin(async move { (*step).run(&cx).await.map(|_| unit()) }))
        });
        self.undo = Some(Undo { ends_itself, ..undo });
        self
    }
}

#[cfg(feature = "files")]
impl<L: List> StepBuilder<'_, One<L>, Value> {
    /// As [`run_each`](StepBuilder::run_each); the step finds its item with [`StepContext::item_value`].
    pub(crate) fn run_each_step(
        mut self,
        step: Arc<dyn PipelineStep>,
        share: fn(L::Item) -> Arc<Value>,
    ) -> Handle<Items<Value>> {
        self.take_from(&step);
        self.ends_itself = step.ends_itself();
        let (source, list) = (self.source.clone(), self.source.clone());
        let start: StartFn = Arc::new(move |mut cx, view| match source.take(view) {
            Ok(list) => {
                let step = Arc::clone(&step);
                let item = share(list.item(cx.item as usize)) as Output;
                cx.inputs = Some(inputs(&cx, view).chain([(NONE, item)]).collect());
                Work::Async(Box::pin(
                    async move { (*step).run(&cx).await.map(|value| Arc::new(value) as Output) },
                ))
            }
            Err(error) => Work::Ready(Err(error)),
        });
        let fan_out = FanOut {
            count: Box::new(move |view| list.take(view)?.count()),
            collect: |items| {
                let items: Result<Items<Value>, _> = items.iter().map(typed::<Value>).collect();
                items.map(|items| Arc::new(items) as Output)
            },
        };
        let body = Body { decode: decode::<Items<Value>>, fan_out: Some(fan_out), wake: None };
        self.add(Kind::ForEach, Some(start), body)
    }
}

impl<S: Source> StepBuilder<'_, S, Value> {
    pub(crate) fn run_shared_step(mut self, step: Arc<dyn PipelineStep>) -> Handle<Value> {
        self.take_from(&step);
        self.ends_itself = step.ends_itself();
        self.add_task(Arc::new(move |mut cx, view| {
            let step = Arc::clone(&step);
            cx.inputs = Some(inputs(&cx, view).collect());
            Work::Async(Box::pin(
                async move { (*step).run(&cx).await.map(|value| Arc::new(value) as Output) },
            ))
        }))
    }

    /// The step's own version and compensation, where none were set.
    fn take_from(&mut self, step: &Arc<dyn PipelineStep>) {
        if self.policy.version.is_empty() {
            self.policy.version = step.version().to_owned();
        }
        if step.compensates() && self.undo.is_none() {
            let step = Arc::clone(step);
            let ends_itself = step.ends_itself();
            let undo = undo_by(move |cx, output| {
                let step = Arc::clone(&step);
                Work::Async(Box::pin(async move {
                    let output = output.map(|output| typed::<Value>(&output)).transpose()?;
                    (*step).compensate(&cx, output.as_deref()).await.map(|()| unit())
                }))
            });
            self.undo = Some(Undo { ends_itself, ..undo });
        }
    }
}

/// The outputs of the dependencies that were not skipped.
fn inputs<'v>(cx: &StepContext, view: View<'v>) -> impl Iterator<Item = (u32, Output)> + use<'v> {
    let dependencies = cx.shared.pipeline.graph().dependencies(cx.step).to_vec();
    dependencies.into_iter().filter_map(move |step| Some((step, view.outputs.steps[step as usize].clone()?)))
}
