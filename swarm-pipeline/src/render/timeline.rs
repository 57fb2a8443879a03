//! When everything happened, as SVG.

use super::axis::{Axis, TICK_SIZE};
use super::bars::Row;
use super::sheet::Sheet;
use super::style::{DRAWING, THEME};
use super::text::{self, Xml};
use super::{Look, marks, state};
use crate::report::{AttemptReport, StepReport};

/// Where the drawing stands: in a file of its own, or in the page, which has the styles and a row for each step.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Alone,
    Page,
}

const WIDTH: f64 = 1120.0;
/// Right of the axis, for what is written behind the bars.
pub(super) const MARGIN: f64 = 84.0;
const AXIS: f64 = 22.0;
/// A strip with the axis is drawn at least every so many pixels.
const STRIP: f64 = 640.0;

pub(super) fn render(sheet: &Sheet<'_>, place: Place) -> String {
    let mut order: Vec<u32> = (0..sheet.steps.len() as u32).collect();
    let begin = |step: &u32| {
        let first = sheet.steps[*step as usize].attempts.iter().map(|attempt| attempt.started).min();
        first.or(sheet.pause(*step).map(|(begin, _)| begin))
    };
    let mut place_in_order = vec![0; order.len()];
    for (at, step) in sheet.pipeline().graph().order().iter().enumerate() {
        place_in_order[*step as usize] = at;
    }
    order.sort_by_key(|step| {
        let begin = begin(step);
        (begin.is_none(), begin, place_in_order[*step as usize])
    });
    let begun = order.iter().filter(|step| begin(step).is_some()).count();
    // Many rows without anything in them say no more than a sentence.
    let idle = if order.len() - begun > 12 { order.split_off(begun) } else { Vec::new() };

    let (least, size) = match order.len() {
        ..=60 => (24.0, 12.0),
        61..=150 => (18.0, 11.0),
        _ => (12.0, 9.0),
    };
    let rows: Vec<Row> = order.iter().map(|step| Row::new(sheet, *step, least)).collect();
    let label = |row: &Row| {
        let report = &sheet.steps[row.step as usize];
        indent(report, size) + text::width(&report.name, size * BOLD) + 10.0
    };
    let left = rows.iter().map(label).fold(90.0, f64::max).min(260.0);
    let offsets = |step: &StepReport| {
        let span = |attempt| {
            let attempt: &AttemptReport = attempt;
            (sheet.offset(attempt.started), sheet.offset(sheet.end_of(attempt)))
        };
        step.attempts.iter().map(span).collect::<Vec<_>>()
    };
    let busy = sheet.steps.iter().flat_map(offsets).collect();
    let resumes: Vec<i64> = sheet.resumes.iter().map(|resume| sheet.offset(resume.at)).collect();
    let axis = Axis::new(left, WIDTH - MARGIN, sheet.offset(sheet.ended), busy, &resumes);
    let mut timeline = Timeline {
        sheet,
        place,
        axis,
        left,
        size,
        body: String::new(),
        bands: String::new(),
        strips: vec![0.0],
        y: AXIS,
    };
    timeline.rows(&rows);
    timeline.idle(&idle);
    timeline.legend();
    timeline.finish()
}

/// What bold letters are wider than others.
const BOLD: f64 = 1.08;

/// Where the name of a step begins.
fn indent(step: &StepReport, size: f64) -> f64 {
    4.0 + text::width(&marks(step), size).max(size * 0.9) + 4.0
}

struct Timeline<'a> {
    sheet: &'a Sheet<'a>,
    place: Place,
    axis: Axis,
    left: f64,
    size: f64,
    body: String,
    /// The ground of every other row, below everything else.
    bands: String,
    /// The tops of the strips that show the axis.
    strips: Vec<f64>,
    y: f64,
}

impl Timeline<'_> {
    fn rows(&mut self, rows: &[Row]) {
        let left_over = |at: usize| rows[at..].iter().map(|row| row.height).sum::<f64>();
        for (at, row) in rows.iter().enumerate() {
            let last = self.strips.last().copied().unwrap_or(0.0);
            if self.y + row.height - last > STRIP && left_over(at) > STRIP / 4.0 {
                self.strips.push(self.y);
                self.y += AXIS;
            }
            self.row(at, row);
            self.y += row.height;
        }
        if self.y > STRIP / 2.0 {
            self.strips.push(self.y);
            self.y += AXIS;
        }
    }

    fn row(&mut self, at: usize, row: &Row) {
        let report = &self.sheet.steps[row.step as usize];
        let (y, size, out) = (self.y, self.size, &mut self.body);
        let look = Look::of(report.status);
        let critical = if self.sheet.is_critical(row.step) { " crit" } else { "" };
        put!(*out, r#"<g class="row {}{critical}">"#, look.class);
        if at % 2 == 1 {
            put!(self.bands, r#"<rect class="band" y="{y:.1}" width="{WIDTH}" height="{:.1}"/>"#, row.height);
        }
        let link = self.place == Place::Page;
        if link {
            put!(*out, r##"<a href="#step-{}">"##, row.step);
        }
        let base = y + row.height.min(24.0) / 2.0 + size * 0.36;
        let marks = marks(report);
        let indent = indent(report, size);
        let name = text::fit(&report.name, size * BOLD, self.left - indent - 8.0);
        put!(*out, r#"<text class="mark" x="4" y="{base:.1}" font-size="{size}">{marks}</text>"#);
        put!(*out, r#"<text class="name" x="{indent:.1}" y="{base:.1}" font-size="{size}">{}"#, Xml(&name));
        let about = format!("{}: {} {}", report.name, state(report), self.sheet.summary(row.step));
        put!(*out, "<title>{}</title></text>", Xml(about.trim_end()));
        if link {
            out.push_str("</a>");
        }
        if report.attempts.is_empty() && self.sheet.pause(row.step).is_none() {
            let x = self.left + 4.0;
            put!(
                *out,
                r#"<text class="m" x="{x:.1}" y="{base:.1}" font-size="{size}">{}</text>"#,
                report.status
            );
        }
        row.draw(out, self.sheet, &self.axis, y, size);
        out.push_str("</g>\n");
    }

    fn idle(&mut self, idle: &[u32]) {
        if idle.is_empty() {
            return;
        }
        let names: Vec<&str> = idle.iter().map(|step| &*self.sheet.steps[*step as usize].name).collect();
        let text = format!("{} steps did not begin: {}", idle.len(), names.join(", "));
        let shown = text::fit(&text, 11.0, WIDTH - 12.0);
        let base = self.y + 16.0;
        let title = Xml(&text);
        put!(
            self.body,
            r#"<text class="m" x="4" y="{base:.1}" font-size="11">{}<title>{title}</title></text>"#,
            Xml(&shown)
        );
        self.y += 24.0;
    }

    fn legend(&mut self) {
        let y = self.y + 10.0;
        let bar = |class: &str, style: &str| {
            format!(r#"<rect class="{class}" y="{y:.1}" width="20" height="10" rx="2"{style}/>"#)
        };
        let line = |class: &str| format!(r#"<path class="{class}" d="M0 {:.1}h20"/>"#, y + 5.0);
        let dot = |class: &str, d: &str| format!(r#"<path class="{class} gate" d="M6 {:.1}{d}"/>"#, y + 5.0);
        let keys = [
            (bar("done bar", ""), "attempt"),
            (
                format!(
                    r#"{}<circle class="failed gate" cx="20" cy="{1:.1}" r="5"/><path class="cross" d="M17.5 {2:.1}l5 5m0 -5l-5 5"/>"#,
                    bar("failed bar", ""),
                    y + 5.0,
                    y + 2.5
                ),
                "failed",
            ),
            (bar("open bar", ""), "end not known"),
            (bar("undo bar", r#" style="fill:url(#swarm-hatch);stroke:var(--c)""#), "undo"),
            (line("wait"), "waits"),
            (line("wait back"), "between attempts"),
            (line("wait long"), "signal or sleep"),
            (format!(r#"<rect class="critbar" y="{:.1}" width="20" height="2"/>"#, y + 5.0), "critical path"),
            (dot("done", "a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z"), "gate passed"),
            (dot("open", "m0 4h8l-4 -8z"), "warned"),
            (dot("failed", "l5 -5l5 5l-5 5z"), "refused"),
        ];
        let mut x = 4.0;
        for (key, label) in keys {
            let base = y + 9.0;
            put!(
                self.body,
                r#"<g transform="translate({x:.1} 0)">{key}<text class="m" x="27" y="{base:.1}" font-size="10.5">{label}</text></g>"#
            );
            x += 27.0 + text::width(label, 10.5) + 12.0;
        }
        self.y += 30.0;
    }

    fn finish(self) -> String {
        let Timeline { sheet, place, axis, body, strips, y: height, .. } = &self;
        let mut out = String::with_capacity(body.len() + 8_192);
        let report = sheet.report;
        let title =
            format!("Timeline of run {} of {}: {}", report.run(), sheet.pipeline().name(), report.status());
        let role = if *place == Place::Alone { "img" } else { "group" };
        put!(
            out,
            r#"<svg xmlns="http://www.w3.org/2000/svg" class="swarm" role="{role}" aria-labelledby="swarm-timeline-title" "#
        );
        put!(out, r#"width="{WIDTH}" height="{height:.0}" viewBox="0 0 {WIDTH} {height:.0}">"#);
        put!(out, "<title id=\"swarm-timeline-title\">{}</title>\n", Xml(&title));
        if *place == Place::Alone {
            put!(out, "<style>{THEME}{DRAWING}</style>\n");
        }
        out.push_str(r#"<defs><pattern id="swarm-hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">"#);
        out.push_str(r#"<rect width="5" height="5" style="fill:var(--undo-bg)"/><rect width="2" height="5" style="fill:var(--undo)"/></pattern></defs>"#);
        put!(out, "<rect class=\"ground\" width=\"{WIDTH}\" height=\"{height:.0}\"/>\n");
        self.grid(&mut out, axis, strips);
        out.push_str(body);
        out.push_str("</svg>\n");
        out
    }

    fn grid(&self, out: &mut String, axis: &Axis, strips: &[f64]) {
        let bottom = self.y - 30.0;
        out.push_str(&self.bands);
        out.push('\n');
        for (x, length, cut) in axis.cuts() {
            let what =
                if cut.resumed { "the run stood still, then was taken up again" } else { "nothing ran" };
            let title = format!("{}: {what}", text::micros(length));
            put!(
                *out,
                r#"<g><title>{}</title><rect class="cut" x="{:.1}" width="{:.1}" height="{bottom:.1}"/>"#,
                Xml(&title),
                x.0,
                x.1 - x.0
            );
            put!(
                *out,
                r#"<path class="cutline" d="M{:.1} 0V{bottom:.1}M{:.1} 0V{bottom:.1}"/></g>"#,
                x.0,
                x.1
            );
        }
        let ticks = axis.ticks();
        for tick in &ticks {
            put!(*out, r#"<path class="grid" d="M{0:.1} {1}V{bottom:.1}"/>"#, tick.x, AXIS - 5.0);
        }
        for strip in strips {
            let base = strip + 14.0;
            if *strip > 0.0 {
                put!(*out, r#"<rect class="ground" y="{strip:.1}" width="{WIDTH}" height="{AXIS}"/>"#);
            }
            for ((left, right), length, _) in axis.cuts() {
                let label = text::micros(length);
                let shown = text::fit(&label, TICK_SIZE, right - left - 4.0);
                let x = (left + right) / 2.0;
                put!(
                    *out,
                    r#"<text class="m" x="{x:.1}" y="{base:.1}" font-size="{TICK_SIZE}" text-anchor="middle">{shown}</text>"#
                );
            }
            for (x, label) in ticks.iter().filter_map(|tick| tick.label.as_ref()) {
                put!(*out, r#"<text class="m" x="{x:.1}" y="{base:.1}" font-size="10.5">{label}</text>"#);
            }
        }
        out.push('\n');
    }
}
