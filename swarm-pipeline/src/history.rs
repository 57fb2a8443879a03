//! Runs as their logs tell them, without the pipeline they belong to.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};

use crate::error::{Error, ErrorKind, Result};
use crate::event::{RunEvent, RunEventKind};
use crate::gate::GateResult;
use crate::report::{RunStatus, time};
use crate::run::{open, parse};
use crate::store::{Record, RunId};
use crate::wire::{Attempt, Entry, OutcomeName};

/// One line about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunSummary {
    /// The run's id.
    pub run: RunId,
    /// The name of its pipeline.
    pub pipeline: String,
    /// How it stands. A run that waits for a signal is `Unfinished` here: only its pipeline could tell.
    pub status: RunStatus,
    /// When it began.
    pub started: DateTime<Utc>,
    /// When the last thing happened.
    pub updated: DateTime<Utc>,
    /// How many steps the pipeline has.
    pub steps: usize,
    /// How many are done.
    pub done: usize,
}

pub(crate) fn summarize(run: &RunId, records: &[Record]) -> Result<RunSummary> {
    let opened = open(run, records)?;
    let mut done: HashSet<String> = HashSet::new();
    // The items of each fan-out step: how many there are, and those that are done.
    let mut items: HashMap<String, (u32, HashSet<u32>)> = HashMap::new();
    let mut sleeping: HashSet<String> = HashSet::new();
    let (mut status, mut steps_known) = (RunStatus::Unfinished, 0);
    let (mut started, mut updated) = (None, 0);
    for record in records {
        let entry = parse(run, record)?;
        updated = entry.at();
        started.get_or_insert(updated);
        match &entry {
            Entry::RunStarted { steps, .. } => steps_known = steps.len(),
            Entry::Redefined { steps, rerun, .. } => {
                steps_known = steps.len();
                done.retain(|step| steps.iter().any(|known| known.name == *step));
                done.retain(|step| !rerun.iter().any(|again| again == step));
            }
            Entry::Reset { steps, .. } => done.retain(|step| !steps.iter().any(|again| again == step)),
            Entry::FannedOut { step, items: 0, .. } => {
                done.insert(step.to_string());
            }
            Entry::FannedOut { step, items: count, .. } => {
                items.insert(step.to_string(), (*count, HashSet::new()));
            }
            Entry::StepSucceeded { attempt: Attempt { step, item: Some(item), .. }, .. } => {
                if let Some((count, all)) = items.get_mut(&**step) {
                    all.insert(*item);
                    if all.len() == *count as usize {
                        done.insert(step.to_string());
                    }
                }
            }
            Entry::Sleeping { step, .. } => {
                sleeping.insert(step.to_string());
            }
            // The timer of a retry fires too.
            Entry::TimerFired { step, item: None, .. } if sleeping.remove(&**step) => {
                done.insert(step.to_string());
            }
            Entry::StepSucceeded { attempt: Attempt { step, item: None, .. }, .. }
            | Entry::StepReused { step, .. }
            | Entry::Signalled { step, .. } => {
                done.insert(step.to_string());
            }
            Entry::UndoSucceeded(Attempt { step, .. }) | Entry::UndoMarked { step, .. } => {
                done.remove(&**step);
            }
            _ => {}
        }
        status = match entry {
            Entry::Finished { outcome, .. } => status_of(outcome),
            Entry::Resumed { .. } => status,
            _ => RunStatus::Unfinished,
        };
    }
    let started = time(started.unwrap_or(0));
    let updated = time(updated);
    let (run, done) = (run.clone(), done.len());
    Ok(RunSummary { run, pipeline: opened.pipeline, status, started, updated, steps: steps_known, done })
}

/// Whether an entry from outside makes sense at the end of a log.
pub(crate) fn accepts(run: &RunId, records: &[Record], entry: &Entry<'_>) -> Result<()> {
    let summary = summarize(run, records)?;
    if summary.status != RunStatus::Unfinished {
        let message = format!("run {run} is over: {}", summary.status);
        return Err(Error::new(ErrorKind::InvalidState, message).in_run(run));
    }
    let Entry::Signalled { step, .. } = entry else { return Ok(()) };
    for record in records.iter().rev() {
        if let Entry::RunStarted { steps, .. } | Entry::Redefined { steps, .. } = parse(run, record)? {
            let known = steps.iter().find(|known| known.name == *step);
            if known.is_none_or(|known| !known.signal) {
                let signals: Vec<&str> =
                    steps.iter().filter(|step| step.signal).map(|step| &*step.name).collect();
                let message = format!("run {run} awaits no signal {step:?}; it knows {signals:?}");
                return Err(Error::new(ErrorKind::NotFound, message).in_run(run).in_step(step.to_string()));
            }
            return Ok(());
        }
    }
    Ok(())
}

fn status_of(outcome: OutcomeName) -> RunStatus {
    match outcome {
        OutcomeName::Succeeded => RunStatus::Succeeded,
        OutcomeName::Failed => RunStatus::Failed,
        OutcomeName::Cancelled => RunStatus::Cancelled,
        OutcomeName::RolledBack => RunStatus::RolledBack,
        OutcomeName::Stuck => RunStatus::Stuck,
    }
}

/// The log as the events that observers were told.
pub(crate) fn events(run: &RunId, records: &[Record]) -> Result<Vec<RunEvent>> {
    let mut entries = Vec::with_capacity(records.len());
    for record in records {
        entries.push(parse(run, record)?);
    }
    let mut events = Vec::with_capacity(entries.len());
    // Backwards, so that a failure knows whether another attempt followed.
    let mut tried_later: HashSet<(String, Option<u32>, bool)> = HashSet::new();
    for entry in entries.iter().rev() {
        let at = time(entry.at());
        let mut tell = |kind: RunEventKind| events.push(RunEvent { run: run.to_string(), at, kind });
        match entry {
            Entry::RunStarted { pipeline, steps, .. } => {
                tell(RunEventKind::Started { pipeline: pipeline.to_string(), steps: steps.len() });
            }
            Entry::Resumed { .. } => {
                let (pipeline, steps) = (String::new(), 0);
                tell(RunEventKind::Resumed { pipeline, steps, done: 0 });
            }
            Entry::StepStarted(Attempt { step, item, attempt, .. }) => {
                tried_later.insert((step.to_string(), *item, false));
                tell(RunEventKind::StepStarted { step: step.to_string(), item: *item, attempt: *attempt });
            }
            Entry::StepSucceeded { attempt: Attempt { step, item, attempt, .. }, gates, .. } => {
                tell(RunEventKind::StepSucceeded { step: step.to_string(), item: *item, attempt: *attempt });
                gates.iter().rev().for_each(|gate| tell(judged(step, *item, gate)));
            }
            Entry::StepFailed { attempt: Attempt { step, item, attempt, .. }, error, gates, .. } => {
                let again = tried_later.contains(&(step.to_string(), *item, false));
                let (error, attempt) = (error.clone(), *attempt);
                tell(RunEventKind::StepFailed { step: step.to_string(), item: *item, attempt, error, again });
                gates.iter().rev().for_each(|gate| tell(judged(step, *item, gate)));
            }
            Entry::StepSkipped { step, .. } => tell(RunEventKind::StepSkipped { step: step.to_string() }),
            Entry::StepReused { step, from, .. } => {
                tell(RunEventKind::StepReused { step: step.to_string(), from: from.to_string() });
            }
            Entry::FannedOut { step, items, .. } => {
                tell(RunEventKind::FannedOut { step: step.to_string(), items: *items });
            }
            Entry::Signalled { step, .. } => tell(RunEventKind::Signalled { step: step.to_string() }),
            Entry::CancelRequested { .. } => tell(RunEventKind::CancelRequested),
            Entry::UndoStarted(Attempt { step, item, attempt, .. }) => {
                tried_later.insert((step.to_string(), *item, true));
                tell(RunEventKind::UndoStarted { step: step.to_string(), item: *item, attempt: *attempt });
            }
            Entry::UndoSucceeded(Attempt { step, item, .. }) => {
                tell(RunEventKind::UndoSucceeded { step: step.to_string(), item: *item });
            }
            Entry::UndoFailed { attempt: Attempt { step, item, .. }, error, .. } => {
                let again = tried_later.contains(&(step.to_string(), *item, true));
                tell(RunEventKind::UndoFailed {
                    step: step.to_string(),
                    item: *item,
                    error: error.clone(),
                    again,
                });
            }
            Entry::Finished { outcome, .. } => tell(RunEventKind::Finished { status: status_of(*outcome) }),
            Entry::Redefined { .. }
            | Entry::Reset { .. }
            | Entry::StepPrepared { .. }
            | Entry::Sleeping { .. }
            | Entry::TimerFired { .. }
            | Entry::UndoRetried { .. }
            | Entry::UndoMarked { .. }
            | Entry::RollbackRequested { .. } => {}
        }
    }
    events.reverse();
    Ok(events)
}

fn judged(step: &str, item: Option<u32>, gate: &GateResult) -> RunEventKind {
    RunEventKind::GateJudged { step: step.to_owned(), item, result: gate.clone() }
}
