//! From a log back to a run.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use super::Run;
use crate::error::{Error, ErrorKind, Result};
use crate::output::Output;
use crate::pipeline::Pipeline;
use crate::report::Moment;
use crate::scheduler::{Event, Kind, NONE, Task};
use crate::shared::RunShared;
use crate::store::{BlobKey, Record, RunId};
use crate::wire::{Attempt, Entry, FORMAT, Step, Stored};

/// How a pipeline differs from the one a run was started with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Changes {
    /// Steps that the run did not know.
    pub added: Vec<String>,
    /// Steps that are gone. What they did can no longer be undone by this pipeline.
    pub removed: Vec<String>,
    /// Steps whose kind, version or dependencies are others.
    pub changed: Vec<String>,
}

impl Changes {
    fn is_empty(&self) -> bool {
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

/// The first entry of a log: what the run was started with.
pub(crate) struct Opened {
    pub(crate) pipeline: String,
    pub(crate) input: String,
}

pub(super) fn steps(pipeline: &Pipeline) -> Vec<Step<'_>> {
    let step = |step: u32| Step {
        name: Cow::Borrowed(pipeline.graph().name(step)),
        print: Cow::Owned(pipeline.step_fingerprint(step)),
        signal: pipeline.step_plan(step).kind == Kind::Signal,
    };
    (0..pipeline.len() as u32).map(step).collect()
}

pub(crate) fn parse<'r>(run: &RunId, record: &'r Record) -> Result<Entry<'r>> {
    serde_json::from_str(&record.body).map_err(|error| {
        let newer = error.to_string().contains("unknown variant");
        let kind = if newer { ErrorKind::NewerFormat } else { ErrorKind::Corrupt };
        Error::new(kind, format!("record {} of run {run} cannot be read", record.seq))
            .in_run(run)
            .because(error)
    })
}

/// Reads the head of a log.
pub(crate) fn open(run: &RunId, records: &[Record]) -> Result<Opened> {
    let corrupt = |why: &str| Error::new(ErrorKind::Corrupt, format!("run {run} {why}")).in_run(run);
    let first = records.first().ok_or_else(|| corrupt("has no records"))?;
    match parse(run, first)? {
        Entry::RunStarted { format, .. } if format > FORMAT => Err(Error::new(
            ErrorKind::NewerFormat,
            format!("run {run} is in format {format}; this version reads up to {FORMAT}"),
        )
        .in_run(run)),
        Entry::RunStarted { pipeline, input, .. } => {
            Ok(Opened { pipeline: pipeline.into_owned(), input: input.get().to_owned() })
        }
        _ => Err(corrupt("does not begin with run_started")),
    }
}

impl Run {
    /// Brings back the run that `records` tell of, over a pipeline that may have changed since.
    ///
    /// `keep` is asked for every changed step whether its result still stands; without it a change is refused.
    pub(crate) async fn resume(
        shared: Arc<RunShared>,
        records: &[Record],
        keep: Option<&(dyn Fn(&str) -> bool + Send + Sync)>,
    ) -> Result<Self> {
        let id = shared.run.clone();
        let mut entries = Vec::with_capacity(records.len());
        for record in records {
            entries.push(parse(&id, record)?);
        }
        let durations = known_durations(&entries, &shared.pipeline);
        let mut run = Run::new(shared, &durations, true);
        run.next_seq = records.len() as u64;
        let last_definition = entries
            .iter()
            .enumerate()
            .rev()
            .find_map(|(at, entry)| match entry {
                Entry::RunStarted { steps, .. } | Entry::Redefined { steps, .. } => Some((at, steps)),
                _ => None,
            })
            .ok_or_else(|| {
                Error::new(ErrorKind::Corrupt, format!("run {id} has no definition")).in_run(&id)
            })?;
        let changes = changes(last_definition.1, &run.shared.pipeline);
        if changes.is_empty() {
            let (before, after) = entries.split_at(last_definition.0 + 1);
            if last_definition.0 > 0 {
                run.import(before).await?;
            }
            for entry in after {
                run.fold(entry).await?;
            }
        } else {
            let Some(keep) = keep else {
                let message = format!(
                    "the pipeline is not the one that run {id} was started with: {changes}; \
                     resume with `OnChange::Rerun` or `OnChange::Migrate`, or start a new run"
                );
                return Err(Error::new(ErrorKind::DefinitionChanged, message).in_run(&id));
            };
            run.redefine(&entries, &changes, keep).await?;
        }
        run.recovered = run.history.len();
        run.emitted = run.history.len();
        Ok(run)
    }

    async fn redefine(
        &mut self,
        entries: &[Entry<'_>],
        changes: &Changes,
        keep: &(dyn Fn(&str) -> bool + Send + Sync),
    ) -> Result<()> {
        let id = self.shared.run.clone();
        let undo_begun = entries.iter().rposition(|entry| matches!(entry, Entry::UndoStarted(_)));
        let over = entries.iter().rposition(|entry| matches!(entry, Entry::Finished { .. }));
        if undo_begun > over {
            let message =
                format!("run {id} is being rolled back; finish that with the pipeline it began with");
            return Err(Error::new(ErrorKind::DefinitionChanged, message).in_run(&id));
        }
        let pipeline = self.shared.pipeline.clone();
        let changed = changes.changed.iter().filter(|name| !keep(name)).chain(&changes.added);
        let rerun = self.scheduler.downstream(changed.filter_map(|name| pipeline.graph().find(name)));
        let at = self.shared.clock.now();
        let names = rerun.iter().map(|step| Cow::Borrowed(pipeline.graph().name(*step))).collect();
        let entry = Entry::Redefined { at, steps: steps(&pipeline), rerun: names };
        self.write(&entry)?;
        let mut known = Import::default();
        for old in entries {
            self.import_entry(old, &mut known).await?;
        }
        self.import_entry(&entry, &mut known).await?;
        self.take_over(known)?;
        self.changed = rerun;
        Ok(())
    }

    /// What `entries` say of steps that this pipeline still has, whatever the pipeline was then.
    async fn import(&mut self, entries: &[Entry<'_>]) -> Result<()> {
        let mut known = Import::default();
        for entry in entries {
            self.import_entry(entry, &mut known).await?;
        }
        self.take_over(known)
    }

    fn take_over(&mut self, known: Import) -> Result<()> {
        self.scheduler.restore(&known.items, &known.tasks);
        for &step in known.items.keys() {
            let all = self.outputs.items.get(&step).is_some_and(|items| items.iter().all(Option::is_some));
            if all {
                self.collect(step)?;
            }
        }
        Ok(())
    }

    async fn import_entry(&mut self, entry: &Entry<'_>, known: &mut Import) -> Result<()> {
        let graph = self.shared.pipeline.clone();
        let find = |name: &str| graph.graph().find(name);
        let fan_out = |step: u32| graph.step_plan(step).kind == Kind::ForEach;
        match entry {
            Entry::StepStarted(Attempt { step, item, attempt, at }) => {
                let Some(step) = find(step) else { return Ok(()) };
                let task = Task { step, item: item.unwrap_or(NONE) };
                known.tasks.entry(task).or_default().1 = *attempt;
                let event = Event::Started { task, attempt: *attempt, at: *at };
                self.history.push(Moment { event, at: *at });
            }
            Entry::StepSucceeded { attempt: Attempt { step, item, attempt, at }, output, .. } => {
                let Some(step) = find(step) else { return Ok(()) };
                let task = Task { step, item: item.unwrap_or(NONE) };
                if item.is_some() != fan_out(step) {
                    return Ok(());
                }
                let Ok(output) = self.load(task, output).await else {
                    // Its type is another now; the step is among the changed ones, or it fails where it is needed.
                    return Ok(());
                };
                if let (Some(item), Some(count)) = (item, known.items.get(&step)) {
                    let items = self.outputs.items.entry(step).or_insert_with(|| vec![None; *count as usize]);
                    if let Some(slot) = items.get_mut(*item as usize) {
                        *slot = Some(output);
                    }
                } else {
                    self.outputs.steps[step as usize] = Some(output);
                }
                known.tasks.entry(task).or_default().0 = true;
                self.history.push(Moment { event: Event::Succeeded { task, attempt: *attempt }, at: *at });
            }
            Entry::StepReused { step, output, from, .. } => {
                let Some(step) = find(step) else { return Ok(()) };
                if let Ok(output) = self.load(Task::of(step), output).await {
                    self.outputs.steps[step as usize] = Some(output);
                    self.reused.insert(step, from.to_string());
                    known.tasks.entry(Task::of(step)).or_default().0 = true;
                }
            }
            Entry::Signalled { step, value, .. } => {
                let Some(step) = find(step) else { return Ok(()) };
                if let Ok(output) = (graph.node(step).def.body.decode)(value.get()) {
                    self.outputs.steps[step as usize] = Some(output);
                    known.tasks.entry(Task::of(step)).or_default().0 = true;
                }
            }
            Entry::TimerFired { step, item: None, at } => {
                let Some(step) = find(step) else { return Ok(()) };
                if graph.step_plan(step).kind == Kind::Sleep {
                    self.outputs.steps[step as usize] = Some(Arc::new(crate::report::time(*at)));
                    known.tasks.entry(Task::of(step)).or_default().0 = true;
                }
            }
            Entry::FannedOut { step, items, .. } => {
                let Some(step) = find(step) else { return Ok(()) };
                if fan_out(step) {
                    known.items.insert(step, *items);
                    if *items == 0 {
                        self.collect(step)?;
                        known.tasks.entry(Task::of(step)).or_default().0 = true;
                    }
                }
            }
            Entry::UndoSucceeded(Attempt { step, item, .. }) => {
                let Some(step) = find(step) else { return Ok(()) };
                let task = Task { step, item: item.unwrap_or(NONE) };
                known.tasks.entry(task).or_default().0 = false;
                if item.is_none() {
                    self.outputs.steps[step as usize] = None;
                }
            }
            Entry::UndoMarked { step, .. } => {
                let Some(step) = find(step) else { return Ok(()) };
                known.forget(step);
                self.forget(&[step]);
            }
            Entry::Reset { .. } | Entry::Redefined { .. } => {
                let (again, keep): (_, &[_]) = match entry {
                    Entry::Reset { steps, keep_items, .. } => (steps, keep_items),
                    Entry::Redefined { rerun, .. } => (rerun, &[]),
                    _ => return Ok(()),
                };
                let whole = again.iter().filter(|step| !keep.contains(step));
                let steps: Vec<u32> = whole.filter_map(|step| find(step)).collect();
                steps.iter().for_each(|step| known.forget(*step));
                self.forget(&steps);
            }
            _ => {}
        }
        Ok(())
    }

    /// Applies one entry of this very pipeline.
    async fn fold(&mut self, entry: &Entry<'_>) -> Result<()> {
        match entry {
            Entry::RunStarted { .. } | Entry::Redefined { .. } => Ok(()),
            Entry::Resumed { at, .. } => self.note(Event::Resumed, *at),
            Entry::Reset { steps, keep_items, .. } => {
                let found = steps.iter().map(|step| self.step(step)).collect::<Result<Vec<_>>>()?;
                let keep = keep_items.iter().map(|step| self.step(step)).collect::<Result<Vec<_>>>()?;
                self.put_back(&found, &keep);
                Ok(())
            }
            Entry::StepStarted(attempt) => {
                let task = self.task(attempt)?;
                self.note(Event::Started { task, attempt: attempt.attempt, at: attempt.at }, attempt.at)
            }
            Entry::StepSucceeded { attempt, gates, output } => {
                let task = self.task(attempt)?;
                let output = self.load(task, output).await?;
                self.settle(task, attempt.attempt, Ok(output), gates.clone(), false, attempt.at)
            }
            Entry::StepFailed { attempt, error, retry, gates, output } => {
                let task = self.task(attempt)?;
                if let Some(output) = output {
                    let output = self.load(task, output).await?;
                    self.refused.insert(task, output);
                }
                self.settle(task, attempt.attempt, Err(error.clone()), gates.clone(), *retry, attempt.at)
            }
            Entry::StepPrepared { at, step } => self.note(Event::Prepared { step: self.step(step)? }, *at),
            Entry::StepSkipped { at, step } => self.note(Event::Skipped { step: self.step(step)? }, *at),
            Entry::StepReused { at, step, from, output } => {
                let step = self.step(step)?;
                let output = self.load(Task::of(step), output).await?;
                self.outputs.steps[step as usize] = Some(output);
                self.reused.insert(step, from.to_string());
                self.note(Event::Reused { step }, *at)
            }
            Entry::FannedOut { at, step, items } => {
                let step = self.step(step)?;
                if *items == 0 {
                    self.collect(step)?;
                }
                self.note(Event::FannedOut { step, items: *items }, *at)
            }
            Entry::Sleeping { at, step, until } => {
                let step = self.step(step)?;
                self.note(Event::Sleeping { step, until: *until }, *at)?;
                self.outputs.steps[step as usize] = Some(Arc::new(crate::report::time(*until)));
                Ok(())
            }
            Entry::TimerFired { at, step, item } => {
                let task = Task { step: self.step(step)?, item: item.unwrap_or(NONE) };
                self.note(Event::TimerFired { task }, *at)
            }
            Entry::Signalled { at, step, value } => {
                let step = self.step(step)?;
                let output = (self.shared.pipeline.node(step).def.body.decode)(value.get())
                    .map_err(|error| self.undecodable(step, error))?;
                self.outputs.steps[step as usize].get_or_insert(output);
                self.note(Event::Signalled { step }, *at)
            }
            Entry::CancelRequested { at } => self.note(Event::CancelRequested, *at),
            Entry::UndoStarted(attempt) => {
                let task = self.task(attempt)?;
                self.note(Event::UndoStarted { task, attempt: attempt.attempt }, attempt.at)
            }
            Entry::UndoSucceeded(attempt) => {
                let task = self.task(attempt)?;
                self.note(Event::UndoSucceeded { task }, attempt.at)
            }
            Entry::UndoFailed { attempt, error, retry } => {
                let task = self.task(attempt)?;
                let note = super::Note { error: Some(error.clone()), gates: Vec::new() };
                self.notes.insert((task, attempt.attempt, true), note);
                let (at, retry, attempt) = (attempt.at, *retry, attempt.attempt);
                self.note(Event::UndoFailed { task, attempt, at, retry }, at)
            }
            Entry::UndoRetried { at, step } => self.note(Event::UndoRetried { step: self.step(step)? }, *at),
            Entry::UndoMarked { at, step } => self.note(Event::UndoMarked { step: self.step(step)? }, *at),
            Entry::RollbackRequested { at } => self.note(Event::RollbackRequested, *at),
            Entry::Finished { at, .. } => self.note(Event::Finished, *at),
        }
    }

    fn task(&self, attempt: &Attempt<'_>) -> Result<Task> {
        Ok(Task { step: self.step(&attempt.step)?, item: attempt.item.unwrap_or(NONE) })
    }

    fn step(&self, name: &str) -> Result<u32> {
        self.shared.pipeline.graph().find(name).ok_or_else(|| {
            let message = format!("the log names a step {name:?} that the pipeline does not have");
            Error::new(ErrorKind::Corrupt, message).in_run(&self.shared.run).in_step(name)
        })
    }

    /// Reads an output back, from the log or from beside it.
    async fn load(&self, task: Task, stored: &Stored) -> Result<Output> {
        let def = &self.shared.pipeline.node(task.step).def;
        let decode = if task.item == NONE { def.body.decode } else { def.decode_item };
        let decoded = match stored {
            Stored::Inline(json) => decode(json.get()),
            Stored::Artifact(artifact) => {
                let key = BlobKey::Artifact { run: self.shared.run.clone(), sha256: artifact.sha256.clone() };
                let bytes = self.shared.store().get_blob(&key).await?.ok_or_else(|| {
                    let message = format!("the output of step {:?} is missing", self.name(task.step));
                    Error::new(ErrorKind::Corrupt, message).in_run(&self.shared.run)
                })?;
                decode(&String::from_utf8_lossy(&bytes))
            }
            Stored::Items => decode("[]"),
        };
        decoded.map_err(|error| self.undecodable(task.step, error))
    }

    fn undecodable(&self, step: u32, error: serde_json::Error) -> Error {
        let name = self.name(step);
        let message = format!(
            "the recorded output of step {name:?} is not of the type it has now; give the step another version"
        );
        Error::new(ErrorKind::Codec, message).in_run(&self.shared.run).in_step(name).because(error)
    }

    /// Marks that a new driver took over.
    pub(crate) fn resumed(&mut self, token: u64, at: i64) -> Result<()> {
        self.write(&Entry::Resumed { at, token, pid: std::process::id() })?;
        self.note(Event::Resumed, at)
    }
}

/// What is known of a run before it is taken over.
#[derive(Default)]
struct Import {
    items: HashMap<u32, u32>,
    tasks: HashMap<Task, (bool, u32)>,
}

impl Import {
    fn forget(&mut self, step: u32) {
        self.items.remove(&step);
        for (task, (done, _)) in &mut self.tasks {
            if task.step == step {
                *done = false;
            }
        }
    }
}

fn known_durations(entries: &[Entry<'_>], pipeline: &Pipeline) -> Vec<u64> {
    let Some(Entry::RunStarted { durations, steps, .. }) = entries.first() else { return Vec::new() };
    let mut known = vec![0; pipeline.len()];
    for (step, duration) in steps.iter().zip(durations) {
        if let Some(step) = pipeline.graph().find(&step.name) {
            known[step as usize] = *duration;
        }
    }
    known
}

fn changes(before: &[Step<'_>], pipeline: &Pipeline) -> Changes {
    let known: BTreeMap<&str, &str> = before.iter().map(|step| (&*step.name, &*step.print)).collect();
    let mut changes = Changes::default();
    for step in 0..pipeline.len() as u32 {
        let name = pipeline.graph().name(step);
        match known.get(name) {
            None => changes.added.push(name.to_owned()),
            Some(print) if **print != pipeline.step_fingerprint(step) => {
                changes.changed.push(name.to_owned())
            }
            Some(_) => {}
        }
    }
    let gone = known.keys().filter(|name| pipeline.graph().find(name).is_none());
    changes.removed = gone.map(|name| (*name).to_owned()).collect();
    changes
}
