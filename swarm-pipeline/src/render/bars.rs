//! What stands in one row of the timeline.

use super::axis::Axis;
use super::sheet::Sheet;
use super::text::{self, Xml};
use super::{Look, state, undo_mark};
use crate::gate::{GateResult, Verdict};
use crate::report::AttemptReport;

/// A row: a step, and for each of its attempts the lane it is drawn in.
pub(super) struct Row {
    pub(super) step: u32,
    pub(super) height: f64,
    /// From one lane to the next.
    pitch: f64,
    lanes: Vec<usize>,
    lane_count: usize,
}

impl Row {
    pub(super) fn new(sheet: &Sheet<'_>, step: u32, least: f64) -> Self {
        let most = if least < 14.0 { 8 } else { 16 };
        let mut free: Vec<i64> = Vec::new();
        let lane = |attempt: &AttemptReport| {
            let (from, to) = (sheet.offset(attempt.started), sheet.offset(sheet.end_of(attempt)));
            let lane = free.iter().position(|free| *free <= from).unwrap_or(free.len());
            // Beyond the last lane attempts are drawn over each other.
            let lane = if lane == free.len() && lane >= most { step as usize % most } else { lane };
            if lane == free.len() {
                free.push(to)
            } else {
                free[lane] = free[lane].max(to)
            }
            lane
        };
        let lanes: Vec<usize> = sheet.steps[step as usize].attempts.iter().map(lane).collect();
        let lane_count = free.len().max(1);
        let pitch = match lane_count {
            1 => least - least.min(18.0) / 3.0,
            2..=5 => 7.0_f64.min(least - 3.0),
            _ => 4.0,
        };
        let height = least.max(pitch * lane_count as f64 + 6.0);
        Row { step, height, pitch, lanes, lane_count }
    }

    /// Draws everything right of the label; `y` is the top of the row.
    pub(super) fn draw(&self, out: &mut String, sheet: &Sheet<'_>, axis: &Axis, y: f64, size: f64) {
        let report = &sheet.steps[self.step as usize];
        let middle = y + self.height / 2.0;
        let x = |at| axis.x(sheet.offset(at));
        if let Some((begin, end)) = sheet.pause(self.step) {
            self.pause(out, sheet, (x(begin), x(end)), middle, size);
        }
        let main = report.attempts.iter().filter(|attempt| !attempt.undo);
        if let Some((first, waited)) = main.clone().next().zip(report.waited) {
            let begin = first.started - chrono::TimeDelta::from_std(waited).unwrap_or_default();
            line(
                out,
                "wait",
                (x(begin), x(first.started)),
                middle,
                &format!("waited {}", text::duration(waited)),
            );
        }
        if report.items.is_none() {
            for pair in main.collect::<Vec<_>>().windows(2) {
                let (from, to) = (sheet.end_of(pair[0]), pair[1].started);
                let wait = text::micros(sheet.offset(to) - sheet.offset(from));
                line(out, "wait back", (x(from), x(to)), middle, &format!("{wait} between attempts"));
            }
        }
        let mut end: f64 = 0.0;
        // Marks may reach into the next bar, and lie on top of it.
        let mut on_top = String::new();
        for (attempt, lane) in report.attempts.iter().zip(&self.lanes) {
            let top = middle + self.pitch * (*lane as f64 - self.lane_count as f64 / 2.0) + 0.5;
            let (top, height) = (top, (self.pitch - 1.0).max(2.0));
            let right = self.bar(out, sheet, axis, attempt, (top, height));
            end = end.max(self.marks(&mut on_top, sheet, attempt, right, (top, height)));
        }
        out.push_str(&on_top);
        let Some(took) = sheet.took(self.step).map(text::duration) else { return };
        let took = format!("{took}{}", if report.undo.is_some() { " ↺" } else { "" });
        if end + 5.0 + text::width(&took, size) <= axis.right + super::timeline::MARGIN {
            let (end, base) = (end + 5.0, middle + size * 0.36);
            put!(*out, r#"<text class="m" x="{end:.1}" y="{base:.1}" font-size="{size}">{took}</text>"#);
        }
    }

    /// What ends without an attempt: a line for how long it took, and the mark of its status.
    fn pause(&self, out: &mut String, sheet: &Sheet<'_>, x: (f64, f64), y: f64, size: f64) {
        let report = &sheet.steps[self.step as usize];
        let mark = Look::of(report.status).mark;
        let what = format!("{}: {} {}", report.name, state(report), sheet.summary(self.step));
        let kind = sheet.kind(self.step);
        if matches!(kind, crate::scheduler::Kind::Signal | crate::scheduler::Kind::Sleep) {
            line(out, "wait long", x, y, &what);
        }
        let (x, base) = (x.1 + 4.0, y + size * 0.36);
        put!(
            *out,
            r#"<text class="mark" x="{x:.1}" y="{base:.1}" font-size="{size}">{mark}{}"#,
            undo_mark(report.undo)
        );
        put!(*out, "<title>{}</title></text>", Xml(what.trim_end()));
    }

    /// Draws an attempt and answers where it ends.
    fn bar(
        &self,
        out: &mut String,
        sheet: &Sheet<'_>,
        axis: &Axis,
        attempt: &AttemptReport,
        y: (f64, f64),
    ) -> f64 {
        let (from, to) = (sheet.offset(attempt.started), sheet.offset(sheet.end_of(attempt)));
        let (left, right) = (axis.x(from), axis.x(to));
        let (top, height) = y;
        let width = (right - left).max(2.0);
        let failed = attempt.error.is_some() && !sheet.is_open(attempt);
        let class = match attempt {
            _ if sheet.is_open(attempt) => "open",
            _ if failed => "failed",
            AttemptReport { undo: true, .. } => "undo",
            _ => "done",
        };
        let hatch = if attempt.undo { r#" style="fill:url(#swarm-hatch);stroke:var(--c)""# } else { "" };
        put!(
            *out,
            r#"<g class="{class}"><title>{}</title><rect class="{class} bar" x="{left:.1}" y="{top:.1}" width="{width:.1}" height="{height:.1}" rx="{:.1}"{hatch}/>"#,
            Xml(&self.tooltip(sheet, attempt)),
            if height > 6.0 { 2.0 } else { 0.5 },
        );
        if sheet.is_critical(self.step) && !attempt.undo {
            put!(
                *out,
                r#"<rect class="critbar" x="{left:.1}" y="{:.1}" width="{width:.1}" height="2"/>"#,
                top + height
            );
        }
        out.push_str("</g>");
        left + width
    }

    /// Draws what is to be seen at the end of a bar, at `x`, and answers where it ends.
    fn marks(
        &self,
        out: &mut String,
        sheet: &Sheet<'_>,
        attempt: &AttemptReport,
        x: f64,
        (top, height): (f64, f64),
    ) -> f64 {
        let (y, mut end) = (top + height / 2.0, x);
        if attempt.error.is_some() && !sheet.is_open(attempt) {
            let r = (height / 2.0).clamp(2.5, 6.0);
            let d = r * 0.5;
            put!(*out, r#"<g class="failed"><circle class="gate" cx="{x:.1}" cy="{y:.1}" r="{r:.1}"/>"#);
            let (left, right, top, bottom) = (x - d, x + d, y - d, y + d);
            put!(*out, r#"<path class="cross" d="M{left:.1} {top:.1}L{right:.1} {bottom:.1}"#);
            put!(*out, r#"M{right:.1} {top:.1}L{left:.1} {bottom:.1}"/></g>"#);
            end += r;
        }
        // In thin lanes only what did not pass is worth the room.
        let worth = |gate: &&GateResult| self.lane_count == 1 || gate.verdict != Verdict::Passed;
        for gate in attempt.gates.iter().filter(worth).take(6) {
            end = draw_gate(out, gate, end + 1.0, top + height / 2.0, (height / 2.0).clamp(2.5, 4.5));
        }
        end
    }

    fn tooltip(&self, sheet: &Sheet<'_>, attempt: &AttemptReport) -> String {
        let mut text = sheet.steps[self.step as usize].name.clone();
        if let Some(item) = attempt.item {
            put!(text, ", item {item}");
        }
        put!(text, ", {} {}", if attempt.undo { "undo, attempt" } else { "attempt" }, attempt.attempt);
        match attempt.duration() {
            Some(took) if !sheet.is_open(attempt) => put!(text, ": {}", text::duration(took)),
            _ => text.push_str(": its end is not known"),
        }
        put!(text, ", from {}", text::micros(sheet.offset(attempt.started)));
        if let Some(error) = &attempt.error {
            put!(text, "\n{}", text::cut(&error.to_string(), 300));
        }
        text
    }
}

/// Passed is a disc, warned a triangle, refused a diamond. Answers where it ends.
fn draw_gate(out: &mut String, gate: &GateResult, x: f64, y: f64, r: f64) -> f64 {
    let (class, shape) = match gate.verdict {
        Verdict::Passed => (
            "done",
            format!("M{x:.1} {y:.1}a{r:.1} {r:.1} 0 1 0 {:.1} 0a{r:.1} {r:.1} 0 1 0 -{0:.1} 0z", r * 2.0),
        ),
        Verdict::Warned => ("open", format!("M{x:.1} {:.1}h{:.1}l-{r:.1} -{1:.1}z", y + r, r * 2.0)),
        Verdict::Refused => {
            let s = r * 1.2;
            ("failed", format!("M{x:.1} {y:.1}l{s:.1} -{s:.1}l{s:.1} {s:.1}l-{s:.1} {s:.1}z"))
        }
    };
    put!(*out, r#"<path class="{class} gate" d="{shape}"><title>{}</title></path>"#, Xml(&describe(gate)));
    x + r * 2.4
}

/// `gate "coverage" refused: measured 0.79, limit 0.82`.
pub(super) fn describe(gate: &GateResult) -> String {
    let mut text = format!("gate {:?} {}", gate.gate, verdict(gate.verdict));
    let numbers = [("measured", gate.measured), ("limit", gate.limit)];
    let numbers = numbers.into_iter().filter_map(|(what, n)| Some(format!("{what} {}", n?)));
    let numbers = numbers.collect::<Vec<_>>().join(", ");
    // The message of a gate that measures says the same once more.
    let message = gate.message.clone().filter(|_| gate.measured.is_none() || gate.limit.is_none());
    let parts = [Some(numbers).filter(|numbers| !numbers.is_empty()), message];
    for (at, part) in parts.into_iter().flatten().enumerate() {
        put!(text, "{} {part}", if at == 0 { ":" } else { ";" });
    }
    text
}

pub(super) fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "passed",
        Verdict::Warned => "warned",
        Verdict::Refused => "refused",
    }
}

fn line(out: &mut String, class: &str, x: (f64, f64), y: f64, title: &str) {
    if x.1 - x.0 >= 0.5 {
        put!(
            *out,
            r#"<path class="{class}" d="M{:.1} {y:.1}H{:.1}"><title>{}</title></path>"#,
            x.0,
            x.1,
            Xml(title)
        );
    }
}
