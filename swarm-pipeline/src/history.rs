//! Runs as their logs tell them, without the pipeline they belong to.

use chrono::{DateTime, Utc};

use crate::error::Result;
use crate::event::{RunEvent, RunEventKind};
use crate::report::{RunStatus, time};
use crate::run::{Past, parse};
use crate::store::{Record, RunId};

/// One line about a run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RunSummary {
    /// The run's id.
    pub run: RunId,
    /// The name of its pipeline.
    pub pipeline: String,
    /// How it stands.
    pub status: RunStatus,
    /// The signals it waits for.
    pub awaited_signals: Vec<String>,
    /// When it began.
    pub started: DateTime<Utc>,
    /// When the last thing happened.
    pub updated: DateTime<Utc>,
    /// How many steps the pipeline has.
    pub steps: usize,
    /// How many have a result that stands.
    pub done: usize,
}

pub(crate) fn summarize(run: &RunId, records: &[Record]) -> Result<RunSummary> {
    let entries = parse(run, records)?;
    let past = Past::fold(run, &entries)?;
    let awaited = past.scheduler.awaited_signals().map(|step| past.graph().name(step).to_owned());
    Ok(RunSummary {
        run: run.clone(),
        pipeline: past.pipeline.to_owned(),
        status: past.status(),
        awaited_signals: if past.scheduler.is_finished() { Vec::new() } else { awaited.collect() },
        started: time(past.began),
        updated: time(past.updated),
        steps: past.graph().len(),
        done: past.scheduler.done() as usize,
    })
}

/// The log as the events that observers were told. Those of steps that a later definition took away are left out.
pub(crate) fn events(run: &RunId, records: &[Record]) -> Result<Vec<RunEvent>> {
    let entries = parse(run, records)?;
    let past = Past::fold(run, &entries)?;
    let event = |at: i64, kind: RunEventKind| RunEvent { run: run.to_string(), at: time(at), kind };
    let started = RunEventKind::Started { pipeline: past.pipeline.to_owned(), steps: past.graph().len() };
    let mut events = vec![event(past.began, started)];
    for moment in &past.history {
        past.notes.tell(past.pipeline, past.graph(), *moment, |kind| events.push(event(moment.at, kind)));
    }
    Ok(events)
}
