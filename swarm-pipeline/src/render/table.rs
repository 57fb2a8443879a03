//! The table of steps on the page of a run.

use super::bars::verdict;
use super::html::{Page, error_html};
use super::text::{self, Xml};
use super::{Look, marks, state};
use crate::gate::{GateResult, Verdict};
use crate::report::{AttemptReport, StepReport, StepStatus};
use crate::scheduler::Kind;

/// As many attempts of a step are listed; a fan-out step may have thousands.
const ATTEMPTS: usize = 60;

impl Page<'_> {
    pub(super) fn table(&mut self) {
        self.out.push_str("<section id=\"steps\"><h2>Steps</h2><div class=\"wide\"><table><thead><tr>");
        for (head, class) in [
            ("Step", ""),
            ("Status", ""),
            ("Attempts", "n"),
            ("Duration", "n"),
            ("Waited", "n"),
            ("Gates", ""),
            ("Why, and what went wrong", ""),
        ] {
            put!(self.out, "<th scope=\"col\" class=\"{class}\">{head}</th>");
        }
        self.out.push_str("</tr></thead><tbody>\n");
        for step in 0..self.sheet.steps.len() as u32 {
            self.table_row(step);
        }
        self.out.push_str("</tbody></table></div></section>\n");
    }

    fn table_row(&mut self, step: u32) {
        let sheet = self.sheet;
        let report = &sheet.steps[step as usize];
        let look = Look::of(report.status);
        put!(
            self.out,
            "<tr id=\"step-{step}\" class=\"{}\"><th scope=\"row\"><bdi>{}</bdi>",
            look.class,
            Xml(&report.name)
        );
        if sheet.is_critical(step) {
            self.out.push_str(" <span class=\"tag\">critical path</span>");
        }
        put!(self.out, "</th><td class=\"state\"><b>{}</b> {}</td>", marks(report), state(report));
        let main = report.attempts.iter().filter(|attempt| !attempt.undo).count();
        let undo = report.attempts.len() - main;
        let mut attempts = if main > 0 { main.to_string() } else { "–".to_owned() };
        if let Some(items) = report.items {
            put!(attempts, " for {items} items");
        }
        if undo > 0 {
            put!(attempts, " + {undo} undo");
        }
        let pause =
            sheet.pause(step).map(|(begin, end)| sheet.offset(end) - sheet.offset(begin)).filter(|p| *p > 0);
        let waited = report.waited.map(text::duration).or(pause.map(text::micros));
        let dash = || "–".to_owned();
        let took = sheet.took(step).map(text::duration).unwrap_or_else(dash);
        put!(
            self.out,
            "<td class=\"n\">{attempts}</td><td class=\"n\">{took}</td><td class=\"n\">{}</td><td>",
            waited.unwrap_or_else(dash)
        );
        self.gates(report);
        let why = match (sheet.kind(step), report.status) {
            (Kind::Signal, StepStatus::Succeeded) => "its signal arrived".to_owned(),
            (Kind::Signal, StepStatus::Open) => "waits for its signal".to_owned(),
            (Kind::Sleep, StepStatus::Succeeded) => "its time came".to_owned(),
            (Kind::Sleep, StepStatus::Open) => "waits for its time".to_owned(),
            _ => sheet.report.why(&report.name).map(|why| why.to_string()).unwrap_or_default(),
        };
        put!(self.out, "</td><td><bdi>{}</bdi>", Xml(&why));
        if let Some(error) = report.error().filter(|_| report.status == StepStatus::Failed) {
            put!(self.out, "<div class=\"failed\">{}</div>", error_html(error));
        }
        self.attempts(report);
        self.out.push_str("</td></tr>\n");
    }

    fn gates(&mut self, report: &StepReport) {
        let last = last_attempts(report);
        let gates: Vec<&GateResult> = last.iter().flat_map(|attempt| &attempt.gates).collect();
        // The gates of many items are summed up; those that did not pass are told one by one.
        let passed = gates.iter().filter(|gate| gate.verdict == Verdict::Passed).count();
        let sum_up = report.items.is_some() && passed > 4;
        if sum_up {
            put!(self.out, "<div class=\"gateline done\"><b>●</b> {passed} passed</div>");
        }
        let told = gates.into_iter().filter(|gate| !sum_up || gate.verdict != Verdict::Passed);
        for gate in told.take(ATTEMPTS) {
            let (mark, class) = match gate.verdict {
                Verdict::Passed => ("●", "done"),
                Verdict::Warned => ("▲", "open"),
                Verdict::Refused => ("◆", "failed"),
            };
            put!(
                self.out,
                "<div class=\"gateline {class}\"><b>{mark}</b> <bdi>{}</bdi> {}",
                Xml(&gate.gate),
                verdict(gate.verdict)
            );
            match (gate.measured, gate.limit, &gate.message) {
                (Some(measured), Some(limit), _) => put!(self.out, ": {measured} (limit {limit})"),
                (_, _, Some(message)) => put!(self.out, ": {}", Xml(&text::cut(message, 200))),
                _ => {}
            }
            self.out.push_str("</div>");
        }
    }

    /// The attempts, where there is more to tell than that the only one succeeded.
    fn attempts(&mut self, report: &StepReport) {
        let plain = |attempt: &AttemptReport| {
            attempt.error.is_none() && !attempt.undo && !self.sheet.is_open(attempt)
        };
        if report.attempts.iter().all(plain) && (report.items.is_some() || report.attempts.len() < 2) {
            return;
        }
        if report.attempts.len() == 1 && report.status == StepStatus::Failed {
            return;
        }
        // Of a fan-out step with many items, those attempts that did not plainly succeed.
        let long = report.attempts.len() > ATTEMPTS;
        let listed: Vec<&AttemptReport> =
            report.attempts.iter().filter(|attempt| !long || !plain(attempt)).collect();
        put!(
            self.out,
            "<details><summary>{} attempts</summary><ol class=\"attempts\">",
            report.attempts.len()
        );
        for attempt in listed.iter().take(ATTEMPTS) {
            let sheet = self.sheet;
            let item = attempt.item.map(|item| format!("item {item}, ")).unwrap_or_default();
            let undo = if attempt.undo { "undo, " } else { "" };
            let at = text::micros(sheet.offset(attempt.started));
            put!(self.out, "<li>{item}{undo}attempt {}, at {at}: ", attempt.attempt);
            match (&attempt.error, attempt.duration()) {
                (error, Some(took)) if !sheet.is_open(attempt) => {
                    let end = if error.is_some() { "✗ failed" } else { "✓ done" };
                    put!(self.out, "{end} after {}", text::duration(took));
                }
                _ => self.out.push_str("◐ its end is not known"),
            }
            if let Some(error) = &attempt.error {
                put!(self.out, "<div class=\"failed\">{}</div>", error_html(error));
            }
            self.out.push_str("</li>");
        }
        self.out.push_str("</ol>");
        let left = report.attempts.len() - listed.len().min(ATTEMPTS);
        if left > 0 {
            put!(self.out, "<p>and {left} more</p>");
        }
        self.out.push_str("</details>");
    }
}

/// The last attempt of the step, or of each of its items.
pub(super) fn last_attempts(report: &StepReport) -> Vec<&AttemptReport> {
    let mut last = std::collections::BTreeMap::new();
    for attempt in report.attempts.iter().filter(|attempt| !attempt.undo) {
        last.insert(attempt.item, attempt);
    }
    last.into_values().collect()
}
