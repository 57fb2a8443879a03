//! What observers and readers of the history are told of a moment.

use std::collections::HashMap;

use super::past::renumber_steps;
use crate::event::RunEventKind;
use crate::gate::GateResult;
use crate::graph::Graph;
use crate::report::{Moment, Note};
use crate::scheduler::{Event, Task};
use crate::step_error::StepError;
use crate::wire::item;

/// What the events themselves are too small to hold.
#[derive(Default)]
pub(crate) struct Notes {
    /// By task, number, and whether it is an undo.
    pub(crate) attempts: HashMap<(Task, u32, bool), Note>,
    /// The runs whose results serve, by step.
    pub(crate) reused: HashMap<u32, String>,
}

impl Notes {
    /// Keeps what gates said of an output they let pass.
    pub(super) fn judged(&mut self, task: Task, attempt: u32, gates: Vec<GateResult>) {
        if !gates.is_empty() {
            self.attempts.insert((task, attempt, false), Note { error: None, gates });
        }
    }

    /// Keeps why an attempt, or an attempt to undo, failed.
    pub(super) fn failed(&mut self, of: (Task, u32, bool), error: StepError, gates: Vec<GateResult>) {
        self.attempts.insert(of, Note { error: Some(error), gates });
    }

    pub(super) fn renumber(&mut self, numbers: &[Option<u32>]) {
        let old = std::mem::take(&mut self.attempts);
        let moved = old.into_iter().filter_map(|((task, attempt, undo), note)| {
            Some(((task.renumbered(numbers)?, attempt, undo), note))
        });
        self.attempts = moved.collect();
        self.reused = renumber_steps(std::mem::take(&mut self.reused), numbers);
    }

    /// Says what happened at `moment` in the run of a pipeline; nothing of what is only the engine's concern.
    pub(crate) fn tell(
        &self,
        pipeline: &str,
        graph: &Graph,
        moment: Moment,
        mut to: impl FnMut(RunEventKind),
    ) {
        let name = |step: u32| graph.name(step).to_owned();
        let note = |task: Task, attempt: u32, undo: bool| {
            self.attempts.get(&(task, attempt, undo)).cloned().unwrap_or_default()
        };
        let judged = |task: Task, result: GateResult| RunEventKind::GateJudged {
            step: name(task.step),
            item: item(task),
            result,
        };
        let unknown = || StepError::new("unknown");
        let kind = match moment.event {
            Event::Started { task, attempt, .. } => {
                RunEventKind::StepStarted { step: name(task.step), item: item(task), attempt }
            }
            Event::Succeeded { task, attempt } => {
                note(task, attempt, false).gates.into_iter().for_each(|gate| to(judged(task, gate)));
                RunEventKind::StepSucceeded { step: name(task.step), item: item(task), attempt }
            }
            Event::Failed { task, attempt, again } => {
                let note = note(task, attempt, false);
                note.gates.into_iter().for_each(|gate| to(judged(task, gate)));
                let (step, error) = (name(task.step), note.error.unwrap_or_else(unknown));
                RunEventKind::StepFailed { step, item: item(task), attempt, error, again: again.is_some() }
            }
            Event::Skipped { step } => RunEventKind::StepSkipped { step: name(step) },
            Event::Reused { step } => {
                let from = self.reused.get(&step).cloned().unwrap_or_default();
                RunEventKind::StepReused { step: name(step), from }
            }
            Event::FannedOut { step, items } => RunEventKind::FannedOut { step: name(step), items },
            Event::Signalled { step } => RunEventKind::Signalled { step: name(step) },
            Event::CancelRequested => RunEventKind::CancelRequested,
            Event::Resumed { done } => RunEventKind::Resumed {
                pipeline: pipeline.to_owned(),
                steps: graph.len(),
                done: done as usize,
            },
            Event::Reset { steps } => RunEventKind::Restarted { steps: steps as usize },
            Event::RollbackRequested => RunEventKind::RollbackRequested,
            Event::UndoStarted { task, attempt } => {
                RunEventKind::UndoStarted { step: name(task.step), item: item(task), attempt }
            }
            Event::UndoSucceeded { task, attempt } => {
                RunEventKind::UndoSucceeded { step: name(task.step), item: item(task), attempt }
            }
            Event::UndoFailed { task, attempt, again } => {
                let error = note(task, attempt, true).error.unwrap_or_else(unknown);
                let (step, again) = (name(task.step), again.is_some());
                RunEventKind::UndoFailed { step, item: item(task), attempt, error, again }
            }
            Event::UndoRetried { step } => RunEventKind::UndoRetried { step: name(step) },
            Event::UndoMarked { step } => RunEventKind::UndoMarked { step: name(step) },
            Event::Finished { outcome } => RunEventKind::Finished { status: outcome.into() },
            Event::Prepared { .. } | Event::Sleeping { .. } | Event::TimerFired { .. } => return,
        };
        to(kind);
    }
}
