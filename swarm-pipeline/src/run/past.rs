//! A run as its log tells it, without the code of its pipeline.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::sync::Arc;

use serde_json::value::RawValue;

use super::Notes;
use crate::error::{Error, ErrorKind, Result};
use crate::graph::{Graph, Names};
use crate::pipeline::Pipeline;
use crate::report::{Moment, RunStatus};
use crate::scheduler::{Event, Kind, NONE, Plan, Ranks, Retries, Scheduler, StepPlan, Task};
use crate::store::{Record, RunId};
use crate::wire::{Attempt, Definition, Entry, FORMAT, Step, Stored};

/// How a pipeline differs from the one a run was started with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Changes {
    /// Steps that the run did not know.
    pub(crate) added: Vec<String>,
    /// Steps that are gone.
    pub(crate) removed: Vec<String>,
    /// Steps whose kind, version or dependencies are others.
    pub(crate) changed: Vec<String>,
}

impl Changes {
    pub(crate) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.removed.is_empty() && self.changed.is_empty()
    }
}

impl fmt::Display for Changes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [("added", &self.added), ("removed", &self.removed), ("changed", &self.changed)];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(_, steps)| !steps.is_empty())
            .map(|(what, steps)| format!("{what} {}", steps.join(", ")))
            .collect();
        f.write_str(&parts.join("; "))
    }
}

/// Reads the entries of a log, whose first must be one of a run's beginning in a format that is known.
pub(crate) fn parse<'r>(run: &RunId, records: &'r [Record]) -> Result<Vec<Entry<'r>>> {
    let mut entries = Vec::with_capacity(records.len());
    for record in records {
        let entry = serde_json::from_str(&record.body).map_err(|error| {
            let newer = error.to_string().contains("unknown variant");
            let kind = if newer { ErrorKind::NewerFormat } else { ErrorKind::Corrupt };
            Error::new(kind, format!("record {} of run {run} cannot be read", record.seq))
                .in_run(run)
                .because(error)
        })?;
        if let Entry::RunStarted { format, .. } = entry
            && format > FORMAT
        {
            let message = format!("run {run} is in format {format}; this version reads up to {FORMAT}");
            return Err(Error::new(ErrorKind::NewerFormat, message).in_run(run));
        }
        entries.push(entry);
    }
    Ok(entries)
}

/// What a log says of a run. Steps are numbered as in the definition that was last in force.
pub(crate) struct Past<'e> {
    id: RunId,
    pub(crate) pipeline: &'e str,
    pub(crate) input: &'e RawValue,
    /// When it began and when the last thing was recorded, in microseconds since the epoch.
    pub(crate) began: i64,
    pub(crate) updated: i64,
    definition: &'e Definition<'e>,
    durations: HashMap<&'e str, u64>,
    pub(crate) scheduler: Scheduler,
    pub(super) outputs: HashMap<Task, &'e Stored>,
    /// What gates refused.
    pub(super) refused: HashMap<Task, &'e Stored>,
    /// Values that no attempt has taken yet.
    pub(super) signals: HashMap<u32, &'e RawValue>,
    /// When sleeping steps are to end.
    pub(super) sleeps: HashMap<u32, i64>,
    pub(crate) history: Vec<Moment>,
    pub(crate) notes: Notes,
    pub(super) changed: Vec<u32>,
    /// Steps whose results no longer count once the run goes forward again.
    pub(super) stale: Vec<u32>,
    pub(super) asked: Vec<u32>,
}

impl<'e> Past<'e> {
    pub(crate) fn fold(id: &RunId, entries: &'e [Entry<'e>]) -> Result<Self> {
        let Some(Entry::RunStarted { at, pipeline, definition, input, durations, .. }) = entries.first()
        else {
            let message = format!("run {id} does not begin with run_started");
            return Err(Error::new(ErrorKind::Corrupt, message).in_run(id));
        };
        let plan = plan_of(id, definition)?;
        let names = definition.steps.iter().map(|step| &*step.name);
        let mut past = Past {
            id: id.clone(),
            pipeline,
            input,
            began: *at,
            updated: *at,
            definition,
            durations: names.zip(durations.iter().copied()).collect(),
            scheduler: Scheduler::new(plan, super::seed(id.as_str()), &[]),
            outputs: HashMap::new(),
            refused: HashMap::new(),
            signals: HashMap::new(),
            sleeps: HashMap::new(),
            history: Vec::with_capacity(entries.len()),
            notes: Notes::default(),
            changed: Vec::new(),
            stale: Vec::new(),
            asked: Vec::new(),
        };
        for entry in &entries[1..] {
            past.updated = entry.at();
            past.apply(entry)?;
        }
        Ok(past)
    }

    fn apply(&mut self, entry: &'e Entry<'e>) -> Result<()> {
        match entry {
            Entry::RunStarted { .. } => {
                let message = format!("run {} begins twice", self.id);
                Err(Error::new(ErrorKind::Corrupt, message).in_run(&self.id))
            }
            Entry::Resumed { at, done, .. } => self.note(Event::Resumed { done: *done }, *at),
            Entry::Redefined { definition, rerun, stale, .. } => {
                let plan = plan_of(&self.id, definition)?;
                self.definition = definition;
                self.move_to(&plan);
                let (rerun, stale) = (self.steps(rerun)?, self.steps(stale)?);
                self.rerun(&rerun);
                self.stale.extend(stale);
                Ok(())
            }
            Entry::Reset { at, steps, keep_items } => {
                let (steps, keep) = (self.steps(steps)?, self.steps(keep_items)?);
                let whole: Vec<u32> = steps.iter().copied().filter(|step| !keep.contains(step)).collect();
                self.forget(&whole);
                self.stale.clear();
                self.scheduler.reset(&whole, &keep);
                self.note(Event::Reset { steps: steps.len() as u32 }, *at)?;
                self.asked.extend(steps);
                Ok(())
            }
            Entry::StepStarted(attempt) => {
                let task = self.task(attempt)?;
                self.note(Event::Started { task, attempt: attempt.attempt, at: attempt.at }, attempt.at)
            }
            Entry::StepSucceeded { attempt, gates, output } => {
                let task = self.task(attempt)?;
                self.outputs.insert(task, output);
                self.signals.remove(&task.step);
                self.notes.judged(task, attempt.attempt, gates.clone());
                self.note(Event::Succeeded { task, attempt: attempt.attempt }, attempt.at)
            }
            Entry::StepFailed { attempt, error, again, gates, output } => {
                let task = self.task(attempt)?;
                if let Some(output) = output {
                    self.refused.insert(task, output);
                }
                self.signals.remove(&task.step);
                self.notes.failed((task, attempt.attempt, false), error.clone(), gates.clone());
                let (attempt, again, at) = (attempt.attempt, *again, attempt.at);
                self.note(Event::Failed { task, attempt, again }, at)
            }
            Entry::StepPrepared { at, step } => self.note(Event::Prepared { step: self.step(step)? }, *at),
            Entry::StepSkipped { at, step } => self.note(Event::Skipped { step: self.step(step)? }, *at),
            Entry::StepReused { at, step, from, output } => {
                let step = self.step(step)?;
                self.outputs.insert(Task::of(step), output);
                self.notes.reused.insert(step, from.to_string());
                self.note(Event::Reused { step }, *at)
            }
            Entry::FannedOut { at, step, items } => {
                self.note(Event::FannedOut { step: self.step(step)?, items: *items }, *at)
            }
            Entry::Sleeping { at, step, until } => {
                let (step, until) = (self.step(step)?, *until);
                self.sleeps.insert(step, until);
                self.note(Event::Sleeping { step, until }, *at)
            }
            Entry::TimerFired { at, step, item } => {
                let task = Task { step: self.step(step)?, item: item.unwrap_or(NONE) };
                self.note(Event::TimerFired { task }, *at)
            }
            Entry::Signalled { at, step, value } => {
                let step = self.step(step)?;
                if self.scheduler.wants_signal(step) {
                    // The first value counts.
                    self.signals.entry(step).or_insert(value);
                }
                self.note(Event::Signalled { step }, *at)
            }
            Entry::CancelRequested { at } => self.note(Event::CancelRequested, *at),
            Entry::UndoStarted(attempt) => {
                let task = self.task(attempt)?;
                self.note(Event::UndoStarted { task, attempt: attempt.attempt }, attempt.at)
            }
            Entry::UndoSucceeded(attempt) => {
                let task = self.task(attempt)?;
                self.note(Event::UndoSucceeded { task, attempt: attempt.attempt }, attempt.at)
            }
            Entry::UndoFailed { attempt, error, again } => {
                let task = self.task(attempt)?;
                self.notes.failed((task, attempt.attempt, true), error.clone(), Vec::new());
                let (attempt, again, at) = (attempt.attempt, *again, attempt.at);
                self.note(Event::UndoFailed { task, attempt, again }, at)
            }
            Entry::UndoRetried { at, step } => self.note(Event::UndoRetried { step: self.step(step)? }, *at),
            Entry::UndoMarked { at, step } => self.note(Event::UndoMarked { step: self.step(step)? }, *at),
            Entry::RollbackRequested { at } => self.note(Event::RollbackRequested, *at),
            Entry::Finished { at, outcome } => self.note(Event::Finished { outcome: (*outcome).into() }, *at),
        }
    }

    fn note(&mut self, event: Event, at: i64) -> Result<()> {
        self.scheduler.apply(event).map_err(|unexpected| {
            let message =
                format!("the log of run {} contradicts itself: {:?} is out of place", self.id, unexpected.0);
            Error::new(ErrorKind::Corrupt, message).in_run(&self.id)
        })?;
        self.history.push(Moment { event, at });
        Ok(())
    }

    pub(crate) fn graph(&self) -> &Graph {
        &self.scheduler.plan().graph
    }

    fn step(&self, name: &str) -> Result<u32> {
        self.graph().find(name).ok_or_else(|| {
            let message = format!("the log names a step {name:?} that its definition does not have");
            Error::new(ErrorKind::Corrupt, message).in_run(&self.id).in_step(name)
        })
    }

    fn steps(&self, names: &[std::borrow::Cow<'_, str>]) -> Result<Vec<u32>> {
        names.iter().map(|name| self.step(name)).collect()
    }

    fn task(&self, attempt: &Attempt<'_>) -> Result<Task> {
        Ok(Task { step: self.step(&attempt.step)?, item: attempt.item.unwrap_or(NONE) })
    }

    /// Whether this very definition is the one last in force: not only the steps, but what else decides.
    pub(crate) fn is_defined_by(&self, pipeline: &Pipeline) -> bool {
        *self.definition == definition_of(pipeline)
    }

    /// What a resumed run would notice.
    pub(crate) fn changes(&self, pipeline: &Pipeline) -> Changes {
        let known: BTreeMap<&str, &str> =
            self.definition.steps.iter().map(|step| (&*step.name, &*step.print)).collect();
        let mut changes = Changes::default();
        for step in 0..pipeline.len() as u32 {
            let name = pipeline.graph().name(step);
            match known.get(name) {
                None => changes.added.push(name.to_owned()),
                Some(print) if **print != pipeline.step_fingerprint(step) => {
                    changes.changed.push(name.to_owned());
                }
                Some(_) => {}
            }
        }
        let gone = known.keys().filter(|name| pipeline.graph().find(name).is_none());
        changes.removed = gone.map(|name| (*name).to_owned()).collect();
        changes
    }

    /// Goes on with other steps, or the same with other policies; they are known by their names.
    pub(super) fn move_to(&mut self, plan: &Arc<Plan>) {
        let old = Arc::clone(self.scheduler.plan());
        let count = old.steps.len() as u32;
        let numbers: Vec<Option<u32>> =
            (0..count).map(|step| plan.graph.find(old.graph.name(step))).collect();
        let names = (0..plan.steps.len() as u32).map(|step| plan.graph.name(step));
        let durations: Vec<u64> = match self.durations.is_empty() {
            true => Vec::new(),
            false => names.map(|name| self.durations.get(name).copied().unwrap_or(0)).collect(),
        };
        self.scheduler.adopt(Arc::clone(plan), &numbers, &durations);
        let other_kind = |step: &u32| {
            let now = numbers[*step as usize];
            now.is_some_and(|now| plan.steps[now as usize].kind != old.steps[*step as usize].kind)
        };
        self.forget(&(0..count).filter(other_kind).collect::<Vec<_>>());
        if (0..count).all(|step| numbers[step as usize] == Some(step)) {
            return;
        }
        renumber_tasks(&mut self.outputs, &numbers);
        renumber_tasks(&mut self.refused, &numbers);
        self.signals = renumber_steps(std::mem::take(&mut self.signals), &numbers);
        self.sleeps = renumber_steps(std::mem::take(&mut self.sleeps), &numbers);
        let moved =
            |moment: &Moment| Some(Moment { event: moment.event.renumbered(&numbers)?, at: moment.at });
        self.history = self.history.iter().filter_map(moved).collect();
        self.notes.renumber(&numbers);
        for steps in [&mut self.changed, &mut self.stale, &mut self.asked] {
            *steps = steps.iter().filter_map(|step| numbers[*step as usize]).collect();
        }
    }

    /// Lets steps run again because their results no longer count.
    pub(super) fn rerun(&mut self, steps: &[u32]) {
        if !steps.is_empty() {
            self.forget(steps);
            self.scheduler.reset(steps, &[]);
            self.changed.extend(steps);
        }
    }

    pub(super) fn forget(&mut self, steps: &[u32]) {
        if steps.is_empty() {
            return;
        }
        let steps: HashSet<u32> = steps.iter().copied().collect();
        self.outputs.retain(|task, _| !steps.contains(&task.step));
        self.refused.retain(|task, _| !steps.contains(&task.step));
        self.sleeps.retain(|step, _| !steps.contains(step));
        self.notes.reused.retain(|step, _| !steps.contains(step));
    }

    pub(crate) fn status(&self) -> RunStatus {
        match self.scheduler.outcome() {
            Some(outcome) => outcome.into(),
            None if self.scheduler.is_suspended() && self.signals.is_empty() => RunStatus::Suspended,
            None => RunStatus::Unfinished,
        }
    }
}

fn renumber_tasks<V>(map: &mut HashMap<Task, V>, numbers: &[Option<u32>]) {
    let old = std::mem::take(map);
    map.extend(old.into_iter().filter_map(|(task, value)| Some((task.renumbered(numbers)?, value))));
}

pub(super) fn renumber_steps<V>(map: HashMap<u32, V>, numbers: &[Option<u32>]) -> HashMap<u32, V> {
    map.into_iter().filter_map(|(step, value)| Some((numbers[step as usize]?, value))).collect()
}

/// What the log is told of a pipeline.
pub(crate) fn definition_of(pipeline: &Pipeline) -> Definition<'_> {
    let (graph, plan) = (pipeline.graph(), pipeline.plan());
    let step = |step: u32| {
        let of = pipeline.step_plan(step);
        let after = graph.dependencies(step);
        Step {
            name: graph.name(step).into(),
            print: pipeline.step_fingerprint(step).into(),
            kind: of.kind.into(),
            after: after.to_vec(),
            optional: after.iter().copied().filter(|d| plan.optional.contains(&(*d, step))).collect(),
            undo: of.undo,
            prepare: of.prepare,
        }
    };
    Definition {
        steps: (0..pipeline.len() as u32).map(step).collect(),
        carry_on: plan.carry_on,
        rollback: plan.rollback,
    }
}

/// A plan to fold by: the decisions that policies led to are in the log.
fn plan_of(id: &RunId, definition: &Definition<'_>) -> Result<Arc<Plan>> {
    let corrupt = |why: String| {
        Error::new(ErrorKind::Corrupt, format!("the definition of run {id} is no pipeline: {why}")).in_run(id)
    };
    let count = definition.steps.len();
    let mut names = Names::with_capacity(count);
    let mut optional = HashSet::new();
    let mut steps = Vec::with_capacity(count);
    for (number, step) in definition.steps.iter().enumerate() {
        if let Some(far) = step.after.iter().find(|after| **after as usize >= count) {
            return Err(corrupt(format!("step {:?} depends on number {far} of {count}", step.name)));
        }
        names.push(&step.name);
        optional.extend(step.optional.iter().map(|dependency| (*dependency, number as u32)));
        steps.push(StepPlan {
            kind: step.kind.into(),
            prepare: step.prepare,
            undo: step.undo,
            group: NONE,
            priority: 0,
            retries: Retries::default(),
            total_timeout: None,
            estimate: 0,
        });
    }
    let mut problems = Vec::new();
    names.index(|name| problems.push(crate::build_error::Problem::DuplicateName { step: name.to_owned() }));
    let dependencies = definition.steps.iter().map(|step| step.after.clone());
    let graph =
        Graph::from_indices(names, dependencies, problems).map_err(|error| corrupt(error.to_string()))?;
    Ok(Arc::new(Plan {
        ranks: Arc::new(Ranks::of_order((0..count as u32).collect())),
        graph: Arc::new(graph),
        steps,
        optional,
        groups: Vec::new(),
        concurrency: u32::MAX,
        carry_on: definition.carry_on,
        rollback: definition.rollback,
    }))
}

/// Whether an entry from outside makes sense at the end of this log.
pub(crate) fn accepts(past: &Past<'_>, entry: &Entry<'_>) -> Result<()> {
    let id = &past.id;
    if past.scheduler.is_over() {
        let advice = match past.status() {
            RunStatus::Stuck => "; `retry_undo` or `mark_compensated` take it on",
            _ => "",
        };
        let message = format!("run {id} is over: {}{advice}", past.status());
        return Err(Error::new(ErrorKind::InvalidState, message).in_run(id));
    }
    let Entry::Signalled { step, .. } = entry else { return Ok(()) };
    let plan = past.scheduler.plan();
    let is_signal = |step: u32| plan.steps[step as usize].kind == Kind::Signal;
    if plan.graph.find(step).is_some_and(is_signal) {
        return Ok(());
    }
    let known: Vec<&str> = (0..plan.steps.len() as u32)
        .filter(|step| is_signal(*step))
        .map(|step| plan.graph.name(step))
        .collect();
    let known = match known.is_empty() {
        true => "none at all".to_owned(),
        false => format!("{known:?}"),
    };
    let message = format!("run {id} awaits no signal {step:?}; it knows {known}");
    Err(Error::new(ErrorKind::NotFound, message).in_run(id).in_step(step.to_string()))
}
