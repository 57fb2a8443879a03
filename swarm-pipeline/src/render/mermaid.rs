use super::sheet::Sheet;
use super::tree::Branch;
use super::{Look, marks};
use crate::pipeline::Pipeline;
use crate::report::StepStatus;
use crate::scheduler::Kind;

/// The definition, or with `sheet` a run of it.
pub(super) fn render(pipeline: &Pipeline, sheet: Option<&Sheet<'_>>) -> String {
    let mut chart = Chart { pipeline, sheet, out: String::from("flowchart LR\n"), groups: 0 };
    chart.branches(1, &Branch::all(pipeline));
    chart.edges();
    chart.styles();
    chart.out
}

struct Chart<'a> {
    pipeline: &'a Pipeline,
    sheet: Option<&'a Sheet<'a>>,
    out: String,
    groups: u32,
}

impl Chart<'_> {
    fn branches(&mut self, depth: usize, branches: &[Branch<'_>]) {
        for branch in branches {
            match branch {
                Branch::Step { step, label } => self.node(depth, *step, label),
                Branch::Group { name, branches } => {
                    let group = self.groups;
                    self.groups += 1;
                    self.line(depth, &format!("subgraph g{group}[\"{}\"]", escape(name)));
                    self.branches(depth + 1, branches);
                    self.line(depth, "end");
                }
            }
        }
    }

    fn node(&mut self, depth: usize, step: u32, name: &str) {
        let (open, close) = match self.pipeline.step_plan(step).kind {
            Kind::Task => ("[", "]"),
            Kind::ForEach => ("[[", "]]"),
            Kind::Signal => ("{{", "}}"),
            Kind::Sleep => ("([", "])"),
        };
        let (text, class) = match self.sheet {
            None => (escape(name), String::new()),
            Some(sheet) => {
                let report = &sheet.steps[step as usize];
                let below = sheet.summary(step);
                let below = if below.is_empty() { below } else { format!("<br/>{}", escape(&below)) };
                let text = format!("{} {}{below}", marks(report), escape(name));
                (text, format!(":::{}", Look::of(report.status).class))
            }
        };
        self.line(depth, &format!("s{step}{open}\"{text}\"{close}{class}"));
    }

    fn edges(&mut self) {
        let mut critical = Vec::new();
        let mut count = 0;
        for step in 0..self.pipeline.len() as u32 {
            for &dependency in self.pipeline.graph().dependencies(step) {
                let optional = self.pipeline.plan().optional.contains(&(dependency, step));
                let arrow = if optional { "-.->" } else { "-->" };
                self.line(1, &format!("s{dependency} {arrow} s{step}"));
                if self.sheet.is_some_and(|sheet| sheet.is_critical_edge(dependency, step)) {
                    critical.push(count.to_string());
                }
                count += 1;
            }
        }
        if !critical.is_empty() {
            let critical = critical.join(",");
            self.line(1, &format!("linkStyle {critical} stroke:#bc4c00,stroke-width:4px"));
        }
    }

    fn styles(&mut self) {
        let Some(sheet) = self.sheet else { return };
        let all = [
            StepStatus::Waiting,
            StepStatus::Open,
            StepStatus::Succeeded,
            StepStatus::Reused,
            StepStatus::Skipped,
            StepStatus::Failed,
            StepStatus::Blocked,
        ];
        for status in all.into_iter().filter(|status| sheet.steps.iter().any(|step| step.status == *status)) {
            let Look { class, fill, stroke, .. } = Look::of(status);
            self.line(1, &format!("classDef {class} fill:{fill},stroke:{stroke},color:#1f2328"));
        }
        for step in (0..self.pipeline.len() as u32).filter(|step| sheet.is_critical(*step)) {
            self.line(1, &format!("style s{step} stroke-width:4px"));
        }
    }

    fn line(&mut self, depth: usize, text: &str) {
        put!(self.out, "{:1$}{text}\n", "", depth * 2);
    }
}

/// Everything that Mermaid may take for syntax, Markdown, a formula, an icon or a link becomes a character reference.
fn escape(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    for (at, &c) in chars.iter().enumerate() {
        let before = at.checked_sub(1).map(|at| chars[at]);
        let after = chars.get(at + 1).copied();
        let inside = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
        let plain = match c {
            // `1. x` and `- x` begin a list, `_x_` is emphasis; within a word they are harmless.
            '.' | '-' | '_' => inside(before) && inside(after),
            ' ' | ',' | '(' | ')' | '×' | '·' | 'µ' | '…' => true,
            _ => c.is_alphanumeric(),
        };
        match plain {
            true => out.push(c),
            false => {
                put!(out, "#{};", u32::from(c));
            }
        }
    }
    out
}
