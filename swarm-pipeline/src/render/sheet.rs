use std::time::Duration;

use chrono::{DateTime, Utc};

use super::text;
use crate::pipeline::Pipeline;
use crate::report::{AttemptReport, RunReport, StepReport, StepStatus, time};
use crate::scheduler::{Event, Kind};

/// What the pictures of a run are drawn from, worked out once.
pub(super) struct Sheet<'r> {
    pub(super) report: &'r RunReport,
    pub(super) steps: Vec<StepReport>,
    /// The place of each step on the critical path, if it is on it.
    critical: Vec<Option<u32>>,
    /// When each step was reused, signalled, woken or skipped: what ends without an attempt.
    instants: Vec<Option<DateTime<Utc>>>,
    /// When a driver took over, and the last thing known of its predecessor.
    pub(super) resumes: Vec<Resume>,
    pub(super) began: DateTime<Utc>,
    pub(super) ended: DateTime<Utc>,
}

pub(super) struct Resume {
    pub(super) last_seen: DateTime<Utc>,
    pub(super) at: DateTime<Utc>,
}

impl<'r> Sheet<'r> {
    pub(super) fn new(report: &'r RunReport) -> Self {
        let pipeline = report.pipeline();
        let mut sheet = Sheet {
            report,
            steps: report.steps(),
            critical: vec![None; pipeline.len()],
            instants: vec![None; pipeline.len()],
            resumes: Vec::new(),
            began: report.started(),
            ended: report.started(),
        };
        let path = report.critical_path();
        let mut path: Vec<u32> = path.iter().filter_map(|name| pipeline.graph().find(name)).collect();
        // What took no time at either end is there by chance.
        let busy = |step: &u32| !sheet.steps[*step as usize].busy().is_zero();
        path.truncate(path.iter().rposition(busy).map_or(0, |last| last + 1));
        path.drain(..path.iter().position(busy).unwrap_or(0));
        for (place, step) in path.into_iter().enumerate() {
            sheet.critical[step as usize] = Some(place as u32);
        }
        for moment in &report.history {
            // The clocks of the processes that drove the run in turn need not agree.
            let at = time(moment.at).max(sheet.began);
            match moment.event {
                Event::Reused { step } | Event::Skipped { step } => {
                    sheet.instants[step as usize] = Some(at);
                }
                Event::TimerFired { task } if sheet.kind(task.step) == Kind::Sleep => {
                    sheet.instants[task.step as usize] = Some(at);
                }
                Event::Succeeded { task, .. } if sheet.kind(task.step) == Kind::Signal => {
                    sheet.instants[task.step as usize] = Some(at);
                }
                Event::Resumed { .. } => sheet.resumes.push(Resume { last_seen: sheet.ended, at }),
                _ => {}
            }
            sheet.ended = sheet.ended.max(at);
        }
        sheet
    }

    pub(super) fn pipeline(&self) -> &'r Pipeline {
        self.report.pipeline()
    }

    pub(super) fn kind(&self, step: u32) -> Kind {
        self.pipeline().step_plan(step).kind
    }

    pub(super) fn is_critical(&self, step: u32) -> bool {
        self.critical[step as usize].is_some()
    }

    /// Whether the critical path leads from `from` directly to `to`.
    pub(super) fn is_critical_edge(&self, from: u32, to: u32) -> bool {
        let place = |step: u32| self.critical[step as usize];
        place(from).zip(place(to)).is_some_and(|(from, to)| from + 1 == to)
    }

    /// Microseconds from the start of the run.
    pub(super) fn offset(&self, at: DateTime<Utc>) -> i64 {
        (at - self.began).num_microseconds().unwrap_or(i64::MAX).max(0)
    }

    /// Whether the process died during the attempt, or it is still under way.
    pub(super) fn is_open(&self, attempt: &AttemptReport) -> bool {
        attempt.ended.is_none()
    }

    /// When the attempt ended; where nobody knows, when the run was last seen alive during it.
    pub(super) fn end_of(&self, attempt: &AttemptReport) -> DateTime<Utc> {
        let known = attempt.ended.filter(|_| !self.is_open(attempt));
        let seen = || self.resumes.iter().find(|resume| resume.at > attempt.started).map(|r| r.last_seen);
        known.or_else(seen).unwrap_or(self.ended).max(attempt.started)
    }

    /// For a step that ends without an attempt: from when its dependencies were done to when it ended, or until now.
    pub(super) fn pause(&self, step: u32) -> Option<(DateTime<Utc>, DateTime<Utc>)> {
        let report = &self.steps[step as usize];
        if !report.attempts.is_empty() && self.kind(step) != Kind::Signal {
            return None;
        }
        let open = report.status == StepStatus::Open;
        let end = self.instants[step as usize].or_else(|| open.then_some(self.ended))?;
        let dependencies = self.pipeline().graph().dependencies(step);
        let begin = dependencies.iter().filter_map(|d| self.done_at(*d)).max();
        Some((begin.unwrap_or(self.began).min(end), end))
    }

    /// When what depends on `step` could begin.
    fn done_at(&self, step: u32) -> Option<DateTime<Utc>> {
        let attempts = self.steps[step as usize].attempts.iter().filter(|attempt| !attempt.undo);
        attempts.map(|attempt| self.end_of(attempt)).max().or(self.instants[step as usize])
    }

    /// `×12 · 3.4 s`, `1.2 s · 3 attempts` or `waited 5 s`; empty for a step that never began.
    pub(super) fn summary(&self, step: u32) -> String {
        let report = &self.steps[step as usize];
        let mut parts = Vec::new();
        parts.extend(report.items.map(|items| format!("×{items}")));
        parts.extend(self.took(step).map(text::duration));
        let attempts = report.attempts.iter().filter(|attempt| !attempt.undo).count();
        if report.items.is_none() && attempts > 1 {
            parts.push(format!("{attempts} attempts"));
        }
        if let Some((begin, end)) = self.pause(step).filter(|(begin, end)| begin < end) {
            parts.push(format!("waited {}", text::micros(self.offset(end) - self.offset(begin))));
        }
        parts.join(" · ")
    }

    /// How long the step was busy; for a fan-out step, whose items overlap, from the first start to the last end.
    pub(super) fn took(&self, step: u32) -> Option<Duration> {
        let report = &self.steps[step as usize];
        let attempts = report.attempts.iter().filter(|attempt| !attempt.undo);
        let last = attempts.clone().filter_map(|attempt| attempt.ended).max()?;
        match report.items {
            None => Some(report.busy()),
            Some(_) => (last - attempts.map(|attempt| attempt.started).min()?).to_std().ok(),
        }
    }
}
