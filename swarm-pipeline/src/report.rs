//! What became of a run.

mod step;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::error::{Error, ErrorKind, Result};
use crate::gate::GateResult;
use crate::handle::Handle;
use crate::output::{Outputs, StepOutput, typed};
use crate::pipeline::Pipeline;
use crate::run::Notes;
use crate::scheduler::{Event, Kind, NONE, Outcome, Scheduler, Status, Task, UndoStatus};
use crate::step_error::StepError;
use crate::store::RunId;
pub use step::{AttemptReport, StepReport, StepStatus, UndoState, Why};

/// How a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum RunStatus {
    /// Not over; the last driver died, or somebody drives it now.
    Unfinished,
    /// Waits for a signal, and nothing else is left to do.
    Suspended,
    /// Every step is done, reused or skipped by its condition.
    Succeeded,
    /// A step failed; what had to be undone is undone.
    Failed,
    /// Cancelled; what had to be undone is undone.
    Cancelled,
    /// Undone by an operator after it was over.
    RolledBack,
    /// An undo failed; an operator must `retry_undo` or `mark_compensated`.
    Stuck,
}

impl From<Outcome> for RunStatus {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Succeeded => RunStatus::Succeeded,
            Outcome::Failed => RunStatus::Failed,
            Outcome::Cancelled => RunStatus::Cancelled,
            Outcome::RolledBack => RunStatus::RolledBack,
            Outcome::Stuck => RunStatus::Stuck,
        }
    }
}

impl fmt::Display for RunStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RunStatus::Unfinished => "unfinished",
            RunStatus::Suspended => "suspended",
            RunStatus::Succeeded => "succeeded",
            RunStatus::Failed => "failed",
            RunStatus::Cancelled => "cancelled",
            RunStatus::RolledBack => "rolled back",
            RunStatus::Stuck => "stuck",
        })
    }
}

/// Something that happened, with its time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) event: Event,
    pub(crate) at: i64,
}

/// What the history knows of one attempt beyond its times.
#[derive(Debug, Default, Clone)]
pub(crate) struct Note {
    pub(crate) error: Option<StepError>,
    pub(crate) gates: Vec<GateResult>,
}

/// What became of a run: status, outputs, and what happened when.
#[must_use = "a run that failed is no `Err`: look at its status, or ask `into_result`"]
pub struct RunReport {
    pub(crate) run: RunId,
    pub(crate) pipeline: Pipeline,
    pub(crate) status: RunStatus,
    pub(crate) scheduler: Scheduler,
    pub(crate) outputs: Outputs,
    pub(crate) history: Vec<Moment>,
    pub(crate) notes: Notes,
    /// Entries of the history that were there when this driver took over.
    pub(crate) recovered: usize,
    pub(crate) changed: Vec<u32>,
    pub(crate) asked: Vec<u32>,
}

pub(crate) fn time(at: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(at).unwrap_or_default()
}

impl RunReport {
    /// The run's id.
    pub fn run(&self) -> &RunId {
        &self.run
    }

    /// The pipeline that ran.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// How the run stands.
    pub fn status(&self) -> RunStatus {
        self.status
    }

    /// Whether every step is done, reused or skipped by its condition.
    pub fn is_success(&self) -> bool {
        self.status == RunStatus::Succeeded
    }

    /// The report itself where the run succeeded, and an error everywhere else.
    ///
    /// # Errors
    /// [`ErrorKind::NotSucceeded`], with what [`Display`](fmt::Display) says of the report.
    pub fn into_result(self) -> Result<Self> {
        match self.is_success() {
            true => Ok(self),
            false => Err(Error::new(ErrorKind::NotSucceeded, self.to_string()).in_run(&self.run)),
        }
    }

    /// The output of a step.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where the step has none, with the reason; [`ErrorKind::InvalidInput`] for a handle of another pipeline.
    pub fn output<T: StepOutput>(&self, step: &Handle<T>) -> Result<Arc<T>> {
        if step.pipeline != self.pipeline.id() {
            return Err(Error::new(ErrorKind::InvalidInput, "the handle is from another pipeline"));
        }
        self.output_of(step.step)
    }

    /// The output of a step by its name, for steps without a handle.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such step or it has no output; [`ErrorKind::Codec`] where it cannot be read as a `T`.
    pub fn output_by_name<T: StepOutput>(&self, step: &str) -> Result<Arc<T>> {
        self.output_of(self.find(step)?)
    }

    fn output_of<T: StepOutput>(&self, step: u32) -> Result<Arc<T>> {
        let name = self.pipeline.graph().name(step);
        let output = self.outputs.steps.get(step as usize).and_then(Option::as_ref).ok_or_else(|| {
            let why = self.why_of(step);
            let error = self.step_of(step).error().map(|error| format!(" ({error})")).unwrap_or_default();
            Error::new(ErrorKind::NotFound, format!("step {name:?} has no output: {why}{error}"))
                .in_run(&self.run)
                .in_step(name)
        })?;
        typed(output).map_err(|error| {
            Error::new(ErrorKind::Codec, format!("step {name:?}: {error}")).in_run(&self.run).in_step(name)
        })
    }

    fn find(&self, step: &str) -> Result<u32> {
        self.pipeline.graph().find(step).ok_or_else(|| {
            let message = format!("there is no step {step:?}{}", self.pipeline.hint(step));
            Error::new(ErrorKind::NotFound, message).in_run(&self.run).in_step(step)
        })
    }

    /// Why a step ran, was reused, or did not run.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such step, with the nearest name.
    pub fn why(&self, step: &str) -> Result<Why> {
        Ok(self.why_of(self.find(step)?))
    }

    fn why_of(&self, step: u32) -> Why {
        let graph = self.pipeline.graph();
        let status = |step: u32| self.scheduler.status(Task::of(step));
        let cause = |wanted: Status| {
            let mut stack = graph.dependencies(step).to_vec();
            let mut seen = vec![false; graph.len()];
            while let Some(step) = stack.pop() {
                if std::mem::replace(&mut seen[step as usize], true) {
                    continue;
                }
                if status(step) == wanted {
                    return Some(graph.name(step).to_owned());
                }
                let unreached = |d: &&u32| matches!(status(**d), Status::Blocked | Status::Waiting);
                stack.extend(graph.dependencies(step).iter().filter(unreached));
            }
            None
        };
        match status(step) {
            Status::Reused => Why::Reused { from: self.notes.reused.get(&step).cloned().unwrap_or_default() },
            Status::Skipped => match cause(Status::Skipped) {
                Some(step) => Why::SkippedWith { step },
                None => Why::ConditionFalse,
            },
            Status::Blocked => match cause(Status::Failed) {
                Some(step) => Why::BlockedBy { step },
                // The pipeline of the report does not have that step any more, or does not wait for it.
                None => Why::NotReached,
            },
            Status::AwaitingSignal | Status::Sleeping => Why::Waiting,
            Status::Succeeded if self.pipeline.step_plan(step).kind == Kind::Signal => Why::Waited,
            status => {
                let is_start = |moment: &&Moment| matches!(moment.event, Event::Started { task, .. } if task.step == step);
                let mut tries: std::collections::HashMap<u32, u32> = std::collections::HashMap::new();
                for moment in self.history.iter().filter(is_start) {
                    if let Event::Started { task, .. } = moment.event {
                        *tries.entry(task.item).or_default() += 1;
                    }
                }
                let attempts = tries.into_values().max().unwrap_or(0);
                let now = self.history[self.recovered..].iter().filter(is_start).count();
                if attempts == 0 {
                    match (status, cause(Status::Failed)) {
                        (Status::Succeeded, _) => Why::Waited,
                        (_, Some(step)) => Why::BlockedBy { step },
                        (_, None) => Why::NotReached,
                    }
                } else if now == 0 {
                    Why::Recorded
                } else if self.changed.contains(&step) {
                    Why::Changed
                } else if self.asked.contains(&step) {
                    Why::Asked
                } else {
                    Why::Ran { attempts }
                }
            }
        }
    }

    /// What became of one step.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such step, with the nearest name.
    pub fn step(&self, step: &str) -> Result<StepReport> {
        Ok(self.step_of(self.find(step)?))
    }

    fn step_of(&self, step: u32) -> StepReport {
        self.steps_where(|other| other == step).pop().unwrap_or_else(|| unreachable!("the step exists"))
    }

    /// What became of every step, in the order they were declared.
    pub fn steps(&self) -> Vec<StepReport> {
        self.steps_where(|_| true)
    }

    fn steps_where(&self, wanted: impl Fn(u32) -> bool) -> Vec<StepReport> {
        let count = self.pipeline.len();
        let mut attempts: Vec<Vec<AttemptReport>> = vec![Vec::new(); count];
        let mut ends: Vec<Option<i64>> = vec![None; count];
        let begin = self.history.first().map(|moment| moment.at);
        for moment in &self.history {
            let mut end = |task: Task, undo: bool| {
                if !wanted(task.step) {
                    return;
                }
                let open = attempts[task.step as usize].iter_mut().rev();
                let item = (task.item != NONE).then_some(task.item);
                let mut open = open.filter(|attempt| attempt.item == item && attempt.undo == undo);
                if let Some(attempt) = open.next() {
                    attempt.ended = Some(time(moment.at));
                }
            };
            match moment.event {
                Event::Started { task, attempt, .. } | Event::UndoStarted { task, attempt }
                    if wanted(task.step) =>
                {
                    let undo = matches!(moment.event, Event::UndoStarted { .. });
                    let note = self.notes.attempts.get(&(task, attempt, undo)).cloned().unwrap_or_default();
                    attempts[task.step as usize].push(AttemptReport {
                        attempt,
                        item: (task.item != NONE).then_some(task.item),
                        started: time(moment.at),
                        ended: None,
                        error: note.error,
                        gates: note.gates,
                        undo,
                    });
                }
                Event::Succeeded { task, .. } => {
                    end(task, false);
                    ends[task.step as usize] = Some(moment.at);
                }
                Event::Failed { task, .. } => end(task, false),
                Event::UndoSucceeded { task, .. } | Event::UndoFailed { task, .. } => end(task, true),
                Event::Reused { step } => ends[step as usize] = Some(moment.at),
                Event::TimerFired { task } => ends[task.step as usize] = Some(moment.at),
                _ => {}
            }
        }
        let graph = self.pipeline.graph();
        let steps = (0..count as u32).filter(|step| wanted(*step));
        let report = |step: u32| {
            let attempts = std::mem::take(&mut attempts[step as usize]);
            let ready = graph.dependencies(step).iter().filter_map(|d| ends[*d as usize]).max().or(begin);
            let first = attempts.iter().find(|attempt| !attempt.undo).map(|attempt| attempt.started);
            let waited = first.zip(ready).and_then(|(first, ready)| (first - time(ready)).to_std().ok());
            StepReport {
                name: graph.name(step).to_owned(),
                status: self.status_of(step),
                items: self.scheduler.item_count(step),
                undo: self.undo_of(step),
                attempts,
                waited,
            }
        };
        steps.map(report).collect()
    }

    fn status_of(&self, step: u32) -> StepStatus {
        match self.scheduler.status(Task::of(step)) {
            Status::Waiting => StepStatus::Waiting,
            Status::Ready if self.scheduler.item_count(step).is_none() => StepStatus::Waiting,
            Status::Ready
            | Status::Preparing
            | Status::Running
            | Status::BackingOff
            | Status::Sleeping
            | Status::AwaitingSignal => StepStatus::Open,
            Status::Succeeded => StepStatus::Succeeded,
            Status::Reused => StepStatus::Reused,
            Status::Skipped => StepStatus::Skipped,
            Status::Failed => StepStatus::Failed,
            Status::Blocked => StepStatus::Blocked,
        }
    }

    fn undo_of(&self, step: u32) -> Option<UndoState> {
        self.scheduler
            .undo_statuses(step)
            .map(|undo| match undo {
                UndoStatus::Stuck => UndoState::Stuck,
                UndoStatus::Done => UndoState::Done,
                _ => UndoState::Pending,
            })
            .max_by_key(|undo| match undo {
                UndoState::Done => 0,
                UndoState::Pending => 1,
                UndoState::Stuck => 2,
            })
    }

    /// The names of the steps whose undo failed for good.
    pub fn stuck(&self) -> Vec<&str> {
        self.scheduler.stuck_steps().into_iter().map(|step| self.pipeline.graph().name(step)).collect()
    }

    /// The signals that the run waits for.
    pub fn awaited_signals(&self) -> Vec<&str> {
        self.scheduler.awaited_signals().map(|step| self.pipeline.graph().name(step)).collect()
    }

    /// The error of the step that failed first.
    pub fn error(&self) -> Option<(&str, &StepError)> {
        let failed = self.history.iter().find_map(|moment| match moment.event {
            Event::Failed { task, .. } if self.scheduler.status(task) == Status::Failed => Some(task),
            _ => None,
        })?;
        let notes = self.notes.attempts.iter().filter(|((task, _, undo), _)| *task == failed && !undo);
        let (_, note) = notes.max_by_key(|((_, attempt, _), _)| *attempt)?;
        Some((self.pipeline.graph().name(failed.step), note.error.as_ref()?))
    }

    /// When the run began.
    pub fn started(&self) -> DateTime<Utc> {
        self.history.first().map(|moment| time(moment.at)).unwrap_or_default()
    }

    /// When the last thing happened.
    pub fn ended(&self) -> DateTime<Utc> {
        self.history.last().map(|moment| time(moment.at)).unwrap_or_default()
    }

    /// From the beginning to the last thing that happened, over all resumes.
    pub fn duration(&self) -> Duration {
        (self.ended() - self.started()).to_std().unwrap_or_default()
    }

    /// The chain of steps that the duration of the run could not have been less than, by the time each step was busy.
    pub fn critical_path(&self) -> Vec<String> {
        let busy: Vec<u64> = self.steps().iter().map(|step| step.busy().as_micros() as u64).collect();
        let path = self.pipeline.graph().critical_path(|step| busy[step as usize]);
        path.nodes.into_iter().map(|step| self.pipeline.graph().name(step).to_owned()).collect()
    }
}

impl fmt::Debug for RunReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunReport")
            .field("run", &self.run)
            .field("pipeline", &self.pipeline.name())
            .field("status", &self.status)
            .field("error", &self.error())
            .finish()
    }
}

impl fmt::Display for RunReport {
    /// One line for the run, and one for each step that is not plainly done.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done = |step: &StepReport| matches!(step.status, StepStatus::Succeeded | StepStatus::Reused);
        let steps = self.steps();
        let count = steps.iter().filter(|step| done(step)).count();
        write!(
            f,
            "run {} of {:?} {}: {count} of {} steps done",
            self.run,
            self.pipeline.name(),
            self.status,
            steps.len()
        )?;
        for (at, step) in steps.iter().enumerate().filter(|(_, step)| !done(step) || step.undo.is_some()) {
            write!(f, "\n  {} {}", step.name, step.status)?;
            match step.error() {
                Some(error) => write!(f, ": {error}")?,
                None if !done(step) => write!(f, " ({})", self.why_of(at as u32))?,
                None => {}
            }
            match step.undo {
                Some(UndoState::Done) => f.write_str("; undone")?,
                Some(UndoState::Stuck) => {
                    let undos = step.attempts.iter().rev().filter(|attempt| attempt.undo);
                    let error = undos.filter_map(|attempt| attempt.error.as_ref()).next();
                    f.write_str("; its undo is stuck")?;
                    error.map_or(Ok(()), |error| write!(f, ": {error}"))?;
                }
                Some(UndoState::Pending) => f.write_str("; not undone yet")?,
                None => {}
            }
        }
        Ok(())
    }
}
