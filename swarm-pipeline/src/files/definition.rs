//! From the values of a file to a pipeline.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::StepRegistry;
use super::fields::{self, Fields};
use super::policy::{self, Policy, When};
use super::tree::{Data, Fault, Faults, Item, Key};
use crate::build_error::Problem;
use crate::builder::{OnFailure, PipelineBuilder, Rollback, StepBuilder};
use crate::digest::sha256;
use crate::gate::Gate;
use crate::graph::nearest;
use crate::handle::{Handle, Source};
use crate::output::{Items, StepOutput};
use crate::pipeline::Pipeline;
use crate::retry::Retry;
use crate::step::PipelineStep;

/// How many steps a file may have.
const STEP_LIMIT: usize = 100_000;

/// What a step does.
enum Work<'t> {
    Run(Arc<dyn PipelineStep>),
    /// Over the list that this step gives.
    Each(Arc<dyn PipelineStep>, &'t Item),
    Signal,
    Sleep(Duration),
    SleepUntil(DateTime<Utc>),
    /// Wrong, which was noted; it stands for the step in the graph.
    Unknown,
}

struct Step<'t> {
    key: &'t Key,
    work: Work<'t>,
    after: Vec<&'t Item>,
    when: Option<When<'t>>,
    gates: Vec<Gate<Value>>,
    policy: Policy,
    priority: i32,
    undo: Option<Undoing>,
    version: String,
}

pub(super) fn build(root: &Item, kinds: &StepRegistry) -> Result<Pipeline, Faults> {
    let mut faults = Faults::default();
    let pipeline = read(root, kinds, &mut faults);
    match pipeline {
        Some(pipeline) if faults.is_empty() => Ok(pipeline),
        _ => Err(faults),
    }
}

fn read(root: &Item, kinds: &StepRegistry, faults: &mut Faults) -> Option<Pipeline> {
    let mut fields = Fields::open(root, faults)?;
    let name = fields.text("name", faults);
    if fields.take("name").is_none() {
        faults.add(root.at, "the file has no `name`");
    }
    let mut builder = Pipeline::builder(name.unwrap_or_default());
    fields.text("description", faults);
    if let Some(limit) = fields.take("concurrency").and_then(|item| fields::count(item, faults)) {
        builder.concurrency(limit);
    }
    if let Some(1) = fields.word("on_failure", &["stop", "carry_on"], faults) {
        builder.on_failure(OnFailure::CarryOn);
    }
    if let Some(1) = fields.word("rollback", &["automatic", "manual"], faults) {
        builder.rollback(Rollback::Manual);
    }
    if let Some(grace) = fields.duration("cancel_grace", faults) {
        builder.cancel_grace(grace);
    }
    let mut groups = Vec::new();
    for (key, limit) in fields.take("groups").and_then(|item| fields::table(item, faults)).unwrap_or_default()
    {
        groups.push(&*key.name);
        if let Some(limit) = fields::count(limit, faults) {
            builder.group(&key.name, limit);
        }
    }
    let steps = match fields.take("steps") {
        Some(item) => fields::table(item, faults).unwrap_or_default(),
        None => {
            faults.add(root.at, "the file has no `steps`");
            &[]
        }
    };
    fields.finish("the pipeline", faults);
    if steps.len() > STEP_LIMIT {
        faults.add(steps[STEP_LIMIT].0.at, format!("more than {STEP_LIMIT} steps"));
        return None;
    }
    let steps: Vec<Step<'_>> =
        steps.iter().map(|(key, item)| step(key, item, kinds, &groups, faults)).collect();
    assemble(builder, steps, faults)
}

fn step<'t>(
    key: &'t Key,
    item: &'t Item,
    kinds: &StepRegistry,
    groups: &[&str],
    faults: &mut Faults,
) -> Step<'t> {
    let mut step = Step {
        key,
        work: Work::Unknown,
        after: Vec::new(),
        when: None,
        gates: Vec::new(),
        policy: Policy::default(),
        priority: 0,
        undo: None,
        version: String::new(),
    };
    let Some(mut fields) = Fields::open(item, faults) else { return step };
    let uses = fields.take("uses");
    if uses.is_none() {
        faults.add(key.at, format!("the step {:?} has no `uses`", key.name));
    }
    let kind = uses.and_then(|item| fields::text(item, faults)).unwrap_or_default();
    fields.text("description", faults);
    let version = fields.text("version", faults);
    let after = fields.take("after").and_then(|item| fields::list(item, faults));
    step.after = after.unwrap_or_default().iter().collect();
    step.when = fields.take("when").and_then(|item| When::read(item, faults));
    step.priority = fields.take("priority").and_then(|item| priority(item, faults)).unwrap_or(0);
    let waits = !kinds.knows(kind) && matches!(kind, "signal" | "sleep");
    if kind != "sleep" || !waits {
        let gates = fields.take("gates").and_then(|item| fields::list(item, faults)).unwrap_or_default();
        step.gates = gates.iter().filter_map(|item| policy::gate(item, faults)).collect();
    }
    match kind {
        "signal" if waits => step.work = Work::Signal,
        "sleep" if waits => step.work = sleep(&mut fields, faults),
        kind => {
            step.policy = Policy::read(&mut fields, groups, faults);
            step.undo = fields.take("compensate").and_then(|item| undo(item, kinds, faults));
            let each = fields.take("for_each");
            let made = make(kinds, kind, uses, fields.take("with"), item, faults);
            step.work = match (made, each) {
                (None, _) => Work::Unknown,
                (Some(made), None) => Work::Run(made),
                (Some(made), Some(list)) => Work::Each(made, list),
            };
        }
    }
    let place = match kind {
        "" => format!("step {:?}", key.name),
        kind => format!("step {:?}, which uses {kind:?}", key.name),
    };
    fields.finish(&place, faults);
    step.version = match &step.work {
        Work::Run(made) | Work::Each(made, _) => {
            digest(item, made.version(), &["uses", "with", "version", "for_each", "when"])
        }
        Work::Unknown => String::new(),
        _ if step.when.is_some() => digest(item, "", &["version", "when"]),
        Work::Signal | Work::Sleep(_) | Work::SleepUntil(_) => version.unwrap_or_default().to_owned(),
    };
    step
}

/// A digest of what decides what the step does: these keys of it, and what its kind says of itself.
fn digest(item: &Item, own: &str, keys: &[&str]) -> String {
    let mut bytes = own.as_bytes().to_vec();
    if let Data::Table(entries) = &item.data {
        for wanted in keys {
            bytes.extend(wanted.as_bytes());
            if let Some((_, value)) = entries.iter().find(|(key, _)| key.name == *wanted) {
                value.canonical(&mut bytes);
            }
        }
    }
    sha256(&bytes)[..32].to_owned()
}

fn priority(item: &Item, faults: &mut Faults) -> Option<i32> {
    let Data::Int(value) = item.data else { return fields::wrong(item, "an integer", faults) };
    let read = i32::try_from(value).ok();
    if read.is_none() {
        faults.add(item.at, "a priority that does not fit 32 bits");
    }
    read
}

fn sleep<'t>(fields: &mut Fields<'_>, faults: &mut Faults) -> Work<'t> {
    let for_item = fields.take("for");
    let duration = fields.duration("for", faults);
    let until = fields.take("until");
    let time = until.and_then(|item| {
        let time = DateTime::parse_from_rfc3339(fields::text(item, faults)?).ok();
        if time.is_none() {
            faults.add(item.at, "`until` is no time such as \"2026-11-21T08:00:00Z\"");
        }
        time
    });
    match (for_item, until) {
        (Some(_), None) => duration.map_or(Work::Unknown, Work::Sleep),
        (None, Some(_)) => time.map_or(Work::Unknown, |time| Work::SleepUntil(time.to_utc())),
        _ => {
            faults.add(fields.at, "a step that uses \"sleep\" needs `for` or `until`, not both");
            Work::Unknown
        }
    }
}

/// The step of a kind, or what is wrong with its name or configuration.
fn make(
    kinds: &StepRegistry,
    kind: &str,
    uses: Option<&Item>,
    with: Option<&Item>,
    step: &Item,
    faults: &mut Faults,
) -> Option<Arc<dyn PipelineStep>> {
    let uses = uses.filter(|_| !kind.is_empty())?;
    let nothing = Item { at: step.at, data: Data::Table(Vec::new()) };
    match kinds.make(kind, with.unwrap_or(&nothing)) {
        Some(Ok(made)) => Some(made),
        Some(Err(fault)) => {
            faults.push(Fault::new(fault.at, format!("{kind}: {}", fault.message)));
            None
        }
        None => {
            let mut known: Vec<&str> = kinds.kinds().chain(["signal", "sleep"]).collect();
            known.sort_unstable();
            let hint = match nearest(kind, known.iter().copied()) {
                Some(near) => format!("did you mean {near:?}?"),
                None => format!("known are {}", known.join(", ")),
            };
            faults.add(uses.at, format!("unknown kind {kind:?}; {hint}"));
            None
        }
    }
}

fn undo(item: &Item, kinds: &StepRegistry, faults: &mut Faults) -> Option<Undoing> {
    let mut fields = Fields::open(item, faults)?;
    let uses = fields.take("uses");
    if uses.is_none() {
        faults.add(item.at, "`compensate` has no `uses`");
    }
    let kind = uses.and_then(|item| fields::text(item, faults)).unwrap_or_default();
    let made = make(kinds, kind, uses, fields.take("with"), item, faults);
    let retry = fields.take("retry").and_then(|item| policy::retry(item, faults));
    let timeout = fields.limit("timeout", faults);
    fields.finish("a compensation", faults);
    Some(Undoing { step: made?, retry, timeout })
}

/// How a step is undone.
struct Undoing {
    step: Arc<dyn PipelineStep>,
    retry: Option<Retry>,
    timeout: Option<Duration>,
}

/// Finds steps by name, noting the names that nobody has.
struct Finder<'t> {
    steps: HashMap<&'t str, u32>,
    names: Vec<&'t str>,
}

impl<'t> Finder<'t> {
    fn find(&self, item: &Item, faults: &mut Faults) -> Option<u32> {
        let name = fields::text(item, faults)?;
        let found = self.steps.get(name).copied();
        if found.is_none() && !faults.is_full() {
            // A look at every name of a very large file is not worth the time.
            let names = self.names.iter().copied().take(20_000);
            let hint = nearest(name, names).map(|near| format!("; did you mean {near:?}?"));
            faults.add(item.at, format!("unknown step {name:?}{}", hint.unwrap_or_default()));
        }
        found
    }
}

fn assemble(mut builder: PipelineBuilder, steps: Vec<Step<'_>>, faults: &mut Faults) -> Option<Pipeline> {
    let names: Vec<&str> = steps.iter().map(|step| &*step.key.name).collect();
    let finder = Finder { steps: names.iter().copied().zip(0..).collect(), names };
    let lists: Vec<bool> = steps.iter().map(|step| matches!(step.work, Work::Each(..))).collect();
    let keys: Vec<(&Key, Vec<&Item>)> = steps.iter().map(|step| (step.key, step.after.clone())).collect();
    for step in steps {
        add(&mut builder, step, &finder, &lists, faults);
    }
    let error = match builder.build() {
        Ok(pipeline) => return Some(pipeline),
        Err(error) => error,
    };
    for problem in error.problems() {
        let at = place(problem, &keys, &finder);
        faults.add(at, problem.to_string());
    }
    None
}

/// Where in the file a problem of the graph is best shown.
fn place(problem: &Problem, keys: &[(&Key, Vec<&Item>)], finder: &Finder<'_>) -> u32 {
    let (step, next) = match problem {
        Problem::SelfDependency { step } => (step, Some(step)),
        Problem::Cycle { steps } => (&steps[0], steps.get(1)),
        Problem::DuplicateName { step }
        | Problem::UnknownDependency { step, .. }
        | Problem::ForeignHandle { step }
        | Problem::Invalid { step, .. } => (step, None),
        Problem::TooLarge => return 0,
    };
    let Some((key, after)) = finder.steps.get(&**step).map(|step| &keys[*step as usize]) else { return 0 };
    let names_next =
        |item: &&&Item| matches!((&item.data, next), (Data::Text(name), Some(next)) if name == next);
    after.iter().find(names_next).map_or(key.at, |item| item.at)
}

fn add<'t>(
    builder: &mut PipelineBuilder,
    mut step: Step<'t>,
    finder: &Finder<'t>,
    lists: &[bool],
    faults: &mut Faults,
) {
    let after: Vec<&str> = step
        .after
        .iter()
        .filter_map(|item| Some(finder.names[finder.find(item, faults)? as usize]))
        .collect();
    let when = step.when.take().and_then(|when| Some((finder.find(when.step, faults)?, when)));
    let undo = step.undo.take();
    let gates = std::mem::take(&mut step.gates);
    let list = match &step.work {
        Work::Each(_, item) => finder.find(item, faults),
        _ => None,
    };
    let mut common = Common { step: &mut step, after, when };
    let name = common.step.key.name.clone();
    match std::mem::replace(&mut common.step.work, Work::Unknown) {
        Work::Sleep(duration) => drop(common.apply(builder, &name).sleep(duration)),
        Work::SleepUntil(time) => drop(common.apply(builder, &name).sleep_until(time)),
        Work::Signal => drop(gated(common.apply(builder, &name), gates).wait_for_signal()),
        Work::Unknown => drop(common.apply::<Value>(builder, &name).wait_for_signal()),
        Work::Run(made) => {
            let draft = gated(compensated(common.apply(builder, &name), undo), gates);
            draft.run_shared_step(made);
        }
        Work::Each(made, _) => {
            let list = list.unwrap_or_else(|| builder.declared());
            let of_lists = lists.get(list as usize) == Some(&true);
            let (values, items): (Handle<Value>, Handle<Items<Value>>) =
                (builder.handle_at(list), builder.handle_at(list));
            let draft = gated(compensated(common.apply(builder, &name), undo), gates);
            match of_lists {
                true => draft.input(items).run_each_step(made, |item| item),
                false => draft.input(values).run_each_step(made, Arc::new),
            };
        }
    }
}

/// What steps of every kind have.
struct Common<'s, 't> {
    step: &'s mut Step<'t>,
    after: Vec<&'t str>,
    when: Option<(u32, When<'t>)>,
}

impl Common<'_, '_> {
    fn apply<'p, O: StepOutput>(
        &mut self,
        builder: &'p mut PipelineBuilder,
        name: &str,
    ) -> StepBuilder<'p, (), O> {
        let condition = self.when.take().map(|(step, when)| (builder.handle_at(step), when.condition()));
        let policy = std::mem::take(&mut self.step.policy);
        let mut draft = builder
            .step(name)
            .after(self.after.iter().copied())
            .priority(self.step.priority)
            .version(std::mem::take(&mut self.step.version));
        if let Some((on, condition)) = condition {
            draft = draft.when_output(on, condition);
        }
        if let Some(retry) = policy.retry {
            draft = draft.retry(retry);
        }
        if let Some(limit) = policy.timeout {
            draft = draft.timeout(limit);
        }
        if let Some(limit) = policy.total_timeout {
            draft = draft.total_timeout(limit);
        }
        if let Some(group) = policy.group {
            draft = draft.group(group);
        }
        if let Some(duration) = policy.expect {
            draft = draft.expect(duration);
        }
        if policy.reuse { draft.reuse() } else { draft }
    }
}

fn gated<S: Source>(draft: StepBuilder<'_, S, Value>, gates: Vec<Gate<Value>>) -> StepBuilder<'_, S, Value> {
    gates.into_iter().fold(draft, StepBuilder::gate)
}

fn compensated<S: Source>(
    draft: StepBuilder<'_, S, Value>,
    undo: Option<Undoing>,
) -> StepBuilder<'_, S, Value> {
    let Some(Undoing { step, retry, timeout }) = undo else { return draft };
    let mut draft = draft.compensate_by(step);
    if let Some(retry) = retry {
        draft = draft.compensate_retry(retry);
    }
    match timeout {
        Some(timeout) => draft.compensate_timeout(timeout),
        None => draft,
    }
}
