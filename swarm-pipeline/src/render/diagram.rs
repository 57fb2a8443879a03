//! The graph of a run, as SVG for the page.

use super::layout::{self, Edge, Sizes};
use super::sheet::Sheet;
use super::text::{self, Xml};
use super::{Look, marks, state};
use crate::scheduler::Kind;

const MARGIN: f64 = 12.0;

pub(super) fn render(sheet: &Sheet<'_>) -> String {
    let pipeline = sheet.pipeline();
    let count = pipeline.len();
    // Two lines a box while there are few, one line when there are many.
    let tall = count <= 60;
    let (size, small, most) = if tall { (12.5, 10.5, 190.0) } else { (10.5, 9.0, 190.0) };
    let boxes: Vec<Label> =
        (0..count as u32).map(|step| Label::new(sheet, step, tall, size, small, most)).collect();
    let sizes = Sizes {
        height: if tall { 40.0 } else { 20.0 },
        widths: boxes.iter().map(|label| label.width).collect(),
        row_gap: if tall { 14.0 } else { 6.0 },
        column_gap: if tall { 52.0 } else { 44.0 },
        rows: ((count as f64).sqrt() * 1.6).max(14.0) as usize,
    };
    let layout = layout::layered(pipeline.graph(), &sizes);
    let (width, height) = (layout.width + MARGIN * 2.0, layout.height + MARGIN * 2.0);
    let mut out = String::new();
    put!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" class="swarm" role="group" aria-labelledby="swarm-graph-title" "#
    );
    put!(out, r#"width="{width:.0}" height="{height:.0}" viewBox="0 0 {width:.0} {height:.0}">"#);
    put!(out, "<title id=\"swarm-graph-title\">Graph of {}, {count} steps</title>\n", Xml(pipeline.name()));
    put!(out, "<g transform=\"translate({MARGIN} {MARGIN})\">\n");
    // Critical edges last, so that they lie on top.
    for critical in [false, true] {
        for Edge { from, to, points } in &layout.edges {
            if sheet.is_critical_edge(*from, *to) == critical {
                let optional = pipeline.plan().optional.contains(&(*from, *to));
                let graph = pipeline.graph();
                let degree = graph.dependents(*from).len().max(graph.dependencies(*to).len());
                let faint = match degree {
                    _ if critical => "",
                    // The edges of a hub are one dark blot unless each is next to nothing.
                    25.. => " hub",
                    _ if count > 60 => " far",
                    _ => "",
                };
                edge(&mut out, points, faint, critical, optional);
                put!(out, " data-e=\"{from} {to}\"/>\n");
            }
        }
    }
    for (step, label) in boxes.iter().enumerate() {
        label.draw(&mut out, sheet, step as u32, layout.corners[step], sizes.height);
    }
    out.push_str("</g></svg>\n");
    out
}

fn edge(out: &mut String, points: &[(f64, f64)], faint: &str, critical: bool, optional: bool) {
    let critical = if critical { " crit" } else { "" };
    let optional = if optional { " opt" } else { "" };
    put!(*out, r#"<path class="edge{critical}{optional}{faint}" d=""#);
    for (at, pair) in points.windows(2).enumerate() {
        let ((x, y), (to_x, to_y)) = (pair[0], pair[1]);
        if at == 0 {
            put!(*out, "M{x:.1} {y:.1}");
        }
        // Between two levels an edge swings from one height to the other; across a level it is straight.
        if at % 2 == 0 {
            let middle = (x + to_x) / 2.0;
            put!(*out, "C{middle:.1} {y:.1} {middle:.1} {to_y:.1} {to_x:.1} {to_y:.1}");
        } else {
            put!(*out, "H{to_x:.1}");
        }
    }
    out.push('"');
}

struct Label {
    marks: String,
    name: String,
    below: String,
    indent: f64,
    width: f64,
    size: f64,
    small: f64,
    tall: bool,
}

impl Label {
    fn new(sheet: &Sheet<'_>, step: u32, tall: bool, size: f64, small: f64, most: f64) -> Self {
        let report = &sheet.steps[step as usize];
        let marks = marks(report);
        let indent = 8.0 + text::width(&marks, size) + 3.0;
        // Names on the critical path are bold.
        let name_width = text::width(&report.name, size * 1.08) + 1.0;
        let below = if tall {
            let summary = sheet.summary(step);
            if summary.is_empty() { state(report) } else { summary }
        } else {
            sheet.took(step).map(text::duration).unwrap_or_default()
        };
        let below_width = text::width(&below, small) + 1.0;
        let natural = match tall {
            true => (indent + name_width).max(10.0 + below_width) + 8.0,
            false => indent + name_width + 6.0 + below_width + 6.0,
        };
        let width = natural.clamp(if tall { 84.0 } else { 60.0 }, most);
        let room = width - indent - if tall { 8.0 } else { below_width + 12.0 };
        let name = text::fit(&report.name, size * 1.08, room).into_owned();
        let below = if tall { text::fit(&below, small, width - 18.0).into_owned() } else { below };
        Label { marks, name, below, indent, width, size, small, tall }
    }

    fn draw(&self, out: &mut String, sheet: &Sheet<'_>, step: u32, at: (f64, f64), height: f64) {
        let report = &sheet.steps[step as usize];
        let (w, h, size, small) = (self.width, height, self.size, self.small);
        let critical = if sheet.is_critical(step) { " crit" } else { "" };
        put!(
            *out,
            r##"<a href="#step-{step}" data-n="{step}"><g class="{}{critical}" "##,
            Look::of(report.status).class
        );
        put!(*out, r#"transform="translate({:.1} {:.1})">"#, at.0, at.1);
        let about = format!("{}: {} {}", report.name, state(report), sheet.summary(step));
        put!(*out, "<title>{}</title>", Xml(about.trim_end()));
        match sheet.kind(step) {
            Kind::Task => put!(*out, r#"<rect class="box" width="{w:.1}" height="{h}" rx="5"/>"#),
            Kind::ForEach => {
                put!(*out, r#"<rect class="box" x="3" y="3" width="{w:.1}" height="{h}" rx="2"/>"#);
                put!(*out, r#"<rect class="box" width="{w:.1}" height="{h}" rx="2"/>"#);
            }
            Kind::Sleep => put!(*out, r#"<rect class="box" width="{w:.1}" height="{h}" rx="{}"/>"#, h / 2.0),
            Kind::Signal => {
                let (c, x, m) = (7.0, w - 7.0, h / 2.0);
                put!(*out, r#"<path class="box" d="M{c} 0H{x:.1}L{w:.1} {m}L{x:.1} {h}H{c}L0 {m}z"/>"#);
            }
        }
        let base = if self.tall { 17.0 } else { h / 2.0 + size * 0.36 };
        put!(*out, r#"<text class="mark" x="8" y="{base:.1}" font-size="{size}">{}</text>"#, self.marks);
        put!(
            *out,
            r#"<text class="name" x="{:.1}" y="{base:.1}" font-size="{size}">{}</text>"#,
            self.indent,
            Xml(&self.name)
        );
        let (x, y, anchor) =
            if self.tall { (10.0, 32.0, "") } else { (w - 6.0, base, r#" text-anchor="end""#) };
        if !self.below.is_empty() {
            put!(
                *out,
                r#"<text class="m" x="{x:.1}" y="{y:.1}" font-size="{small}"{anchor}>{}</text>"#,
                Xml(&self.below)
            );
        }
        out.push_str("</g></a>\n");
    }
}
