use super::sheet::Sheet;
use super::tree::Branch;
use super::{Look, marks, text};
use crate::pipeline::Pipeline;
use crate::scheduler::Kind;

/// The definition, or with `sheet` a run of it.
pub(super) fn render(pipeline: &Pipeline, sheet: Option<&Sheet<'_>>) -> String {
    let mut dot = Dot { pipeline, sheet, out: String::new(), clusters: 0 };
    dot.write();
    dot.out
}

struct Dot<'a> {
    pipeline: &'a Pipeline,
    sheet: Option<&'a Sheet<'a>>,
    out: String,
    clusters: u32,
}

impl Dot<'_> {
    fn write(&mut self) {
        let title = match self.sheet {
            None => self.pipeline.name().to_owned(),
            Some(Sheet { report, .. }) => {
                format!("{}: run {} {}", self.pipeline.name(), report.run(), report.status())
            }
        };
        let title = label(&title);
        self.line(0, &format!("digraph {} {{", id(self.pipeline.name())));
        self.line(1, &format!("graph [rankdir=LR, label={title}, labelloc=t, fontname=\"sans-serif\"];"));
        self.line(1, "node [shape=box, style=\"rounded,filled\", fillcolor=white, fontname=\"sans-serif\"];");
        self.line(1, "edge [color=\"#6e7781\"];");
        let pipeline = self.pipeline;
        self.branches(1, &Branch::all(pipeline));
        for step in 0..pipeline.len() as u32 {
            for &dependency in pipeline.graph().dependencies(step) {
                self.edge(dependency, step);
            }
        }
        self.line(0, "}");
    }

    fn branches(&mut self, depth: usize, branches: &[Branch<'_>]) {
        for branch in branches {
            match branch {
                Branch::Step { step, label } => self.node(depth, *step, label),
                Branch::Group { name, branches } => {
                    self.line(depth, &format!("subgraph cluster_{} {{", self.clusters));
                    self.clusters += 1;
                    let style = "style=rounded; color=\"#6e7781\";";
                    self.line(depth + 1, &format!("label={}; {style}", label(name)));
                    self.branches(depth + 1, branches);
                    self.line(depth, "}");
                }
            }
        }
    }

    fn node(&mut self, depth: usize, step: u32, name: &str) {
        let kind = self.pipeline.step_plan(step).kind;
        let mut attributes = match self.sheet {
            None => format!("label={}", label(name)),
            Some(sheet) => {
                let report = &sheet.steps[step as usize];
                let look = Look::of(report.status);
                let below = sheet.summary(step);
                let text = format!("{} {name}", marks(report));
                let mut attributes = match below.is_empty() {
                    true => format!("label={}", label(&text)),
                    false => format!("label=\"{}\\n{}\"", escape(&text), escape(&below)),
                };
                put!(attributes, ", fillcolor={:?}, color={:?}", look.fill, look.stroke);
                if sheet.is_critical(step) {
                    attributes.push_str(", penwidth=3");
                }
                attributes
            }
        };
        attributes.push_str(match kind {
            Kind::Task => "",
            Kind::ForEach => ", shape=box3d, style=filled",
            Kind::Signal => ", shape=hexagon, style=filled",
            Kind::Sleep => ", shape=ellipse, style=filled",
        });
        let name = id(self.pipeline.graph().name(step));
        self.line(depth, &format!("{name} [{attributes}];"));
    }

    fn edge(&mut self, from: u32, to: u32) {
        let mut attributes = Vec::new();
        if self.pipeline.plan().optional.contains(&(from, to)) {
            attributes.push("style=dashed");
        }
        if self.sheet.is_some_and(|sheet| sheet.is_critical_edge(from, to)) {
            attributes.push("penwidth=3, color=\"#bc4c00\"");
        }
        let attributes = match attributes.is_empty() {
            true => String::new(),
            false => format!(" [{}]", attributes.join(", ")),
        };
        let graph = self.pipeline.graph();
        self.line(1, &format!("{} -> {}{attributes};", id(graph.name(from)), id(graph.name(to))));
    }

    fn line(&mut self, depth: usize, text: &str) {
        put!(self.out, "{:1$}{text}\n", "", depth * 2);
    }
}

/// A quoted identifier. Every name gives another one, since a backslash is always doubled.
fn id(name: &str) -> String {
    format!("\"{}\"", text::printable(name).replace('\\', "\\\\").replace('"', "\\\""))
}

fn label(text: &str) -> String {
    format!("\"{}\"", escape(text))
}

/// Labels know escapes (`\n`, `\N`) and, even where they are no HTML, character entities.
fn escape(label: &str) -> String {
    text::printable(label).replace('&', "&amp;").replace('\\', "\\\\").replace('"', "\\\"")
}
