//! One page of a run.

use chrono::{DateTime, SecondsFormat, Utc};

use super::bars::describe;
use super::sheet::Sheet;
use super::style::{DRAWING, PAGE, SCRIPT, THEME};
use super::table::last_attempts;
use super::text::{self, Xml};
use super::{Look, diagram, timeline};
use crate::gate::Verdict;
use crate::report::{RunStatus, StepReport, StepStatus, UndoState};
use crate::step_error::{StepError, StepErrorKind};

/// As many findings are told in full at the top of the page; the table has the rest.
const FINDINGS: usize = 40;

pub(super) fn render(sheet: &Sheet<'_>) -> String {
    let mut page = Page { sheet, out: String::new() };
    page.head();
    page.heading();
    page.findings();
    page.out.push_str("<section id=\"graph\"><h2>Graph</h2><div class=\"scroll\" tabindex=\"0\">\n");
    page.out.push_str(&diagram::render(sheet));
    page.out.push_str(
        "</div></section>\n<section id=\"timeline\"><h2>Timeline</h2><div class=\"scroll\" tabindex=\"0\">\n",
    );
    page.out.push_str(&timeline::render(sheet, timeline::Place::Page));
    page.out.push_str("</div></section>\n");
    page.table();
    put!(page.out, "</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n");
    page.out
}

pub(super) struct Page<'a> {
    pub(super) sheet: &'a Sheet<'a>,
    pub(super) out: String,
}

impl Page<'_> {
    fn head(&mut self) {
        let report = self.sheet.report;
        let title = format!("{} · {} · {}", report.status(), self.sheet.pipeline().name(), report.run());
        self.out.push_str("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n");
        self.out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n");
        // Whatever an error message holds, the page fetches nothing.
        self.out.push_str("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\"/>\n");
        self.out.push_str("<meta name=\"color-scheme\" content=\"light dark\"/>\n");
        put!(
            self.out,
            "<title>{}</title>\n<style>\n{THEME}{DRAWING}{PAGE}</style>\n</head>\n<body>\n<main>\n",
            Xml(&title)
        );
    }

    fn heading(&mut self) {
        let (sheet, report) = (self.sheet, self.sheet.report);
        let (mark, class) = match report.status() {
            RunStatus::Succeeded => ("✓", "done"),
            RunStatus::Failed => ("✗", "failed"),
            RunStatus::Stuck => ("↺!", "failed"),
            RunStatus::RolledBack => ("↺", "undo"),
            RunStatus::Cancelled => ("⊘", "open"),
            RunStatus::Suspended | RunStatus::Unfinished => ("◐", "open"),
        };
        put!(self.out, "<header><h1><bdi>{}</bdi></h1>", Xml(sheet.pipeline().name()));
        put!(self.out, "<p class=\"status {class}\"><b>{mark} {}</b></p>\n<dl>", report.status());
        let count =
            |wanted: &dyn Fn(&StepReport) -> bool| sheet.steps.iter().filter(|step| wanted(step)).count();
        let mut facts = vec![("Run", report.run().to_string())];
        if !report.history.is_empty() {
            facts.push(("Began", utc(sheet.began)));
            let over =
                !matches!(report.status(), RunStatus::Unfinished | RunStatus::Suspended | RunStatus::Stuck);
            facts.push((if over { "Ended" } else { "Last event" }, utc(sheet.ended)));
            facts.push(("Duration", text::micros(sheet.offset(sheet.ended))));
        }
        if !sheet.resumes.is_empty() {
            facts.push(("Taken up again", format!("{}×", sheet.resumes.len())));
        }
        let mut steps = vec![format!("{}", sheet.steps.len())];
        let all = [
            StepStatus::Succeeded,
            StepStatus::Reused,
            StepStatus::Skipped,
            StepStatus::Failed,
            StepStatus::Blocked,
            StepStatus::Open,
            StepStatus::Waiting,
        ];
        for status in all {
            let count = count(&|step| step.status == status);
            if count > 0 {
                steps.push(format!("{} {count} {status}", Look::of(status).mark));
            }
        }
        let undone = count(&|step| step.undo == Some(UndoState::Done));
        if undone > 0 {
            steps.push(format!("↺ {undone} undone"));
        }
        facts.push(("Steps", steps.join(" · ")));
        for (what, value) in facts {
            put!(self.out, "<div><dt>{what}</dt><dd><bdi>{}</bdi></dd></div>", Xml(&value));
        }
        self.out.push_str("</dl>\n<nav aria-label=\"Sections\"><a href=\"#graph\">Graph</a> <a href=\"#timeline\">Timeline</a> <a href=\"#steps\">Steps</a></nav></header>\n");
    }

    /// What went wrong, worst first.
    fn findings(&mut self) {
        let mut found: Vec<(u8, String)> = Vec::new();
        for (step, report) in self.sheet.steps.iter().enumerate() {
            let name = format!("<a href=\"#step-{step}\"><bdi>{}</bdi></a>", Xml(&report.name));
            if report.undo == Some(UndoState::Stuck) {
                let last = report.attempts.iter().rev().find(|attempt| attempt.undo);
                let error =
                    last.and_then(|attempt| attempt.error.as_ref()).map(error_html).unwrap_or_default();
                found.push((0, finding("failed", "↺! undo stuck", &name, &format!("{error}<p>Mend it and call <code>retry_undo</code>, or undo it by hand and call <code>mark_compensated</code>.</p>"))));
            }
            let gates = last_attempts(report).into_iter().flat_map(|attempt| &attempt.gates);
            let tell = |wanted: Verdict| {
                let gates = gates.clone().filter(move |gate| gate.verdict == wanted);
                gates.fold(String::new(), |mut out, gate| {
                    put!(out, "<p>{}</p>", Xml(&describe(gate)));
                    out
                })
            };
            let (refused, warned) = (tell(Verdict::Refused), tell(Verdict::Warned));
            if report.status == StepStatus::Failed {
                // A refusal says what its error says.
                let error = report
                    .error()
                    .filter(|error| error.kind() != StepErrorKind::GateRefused || refused.is_empty());
                let error = error.map(error_html).unwrap_or_default();
                found.push((1, finding("failed", "✗ failed", &name, &(error + &refused))));
            }
            if !warned.is_empty() {
                found.push((2, finding("open", "▲ warned", &name, &warned)));
            }
        }
        if found.is_empty() {
            return;
        }
        found.sort_by_key(|(rank, _)| *rank);
        let more = found.len().saturating_sub(FINDINGS);
        self.out.push_str("<section id=\"findings\"><h2>What needs attention</h2><ul class=\"findings\">\n");
        for (_, html) in found.into_iter().take(FINDINGS) {
            self.out.push_str(&html);
        }
        if more > 0 {
            put!(
                self.out,
                "<li class=\"idle\">{more} more in the <a href=\"#steps\">table of steps</a></li>\n"
            );
        }
        self.out.push_str("</ul></section>\n");
    }
}

fn finding(class: &str, what: &str, name: &str, body: &str) -> String {
    format!("<li class=\"{class}\"><b>{what}</b> {name}{body}</li>\n")
}

pub(super) fn error_html(error: &StepError) -> String {
    let mut out = format!("<pre>{}</pre>", Xml(error.message()));
    if !error.causes().is_empty() {
        out.push_str("<ul class=\"causes\">");
        error.causes().iter().for_each(|cause| put!(out, "<li>{}</li>", Xml(cause)));
        out.push_str("</ul>");
    }
    out
}

fn utc(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true).replace('T', " ").replace('Z', " UTC")
}
