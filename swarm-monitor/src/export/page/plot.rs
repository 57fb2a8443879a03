use std::fmt::Write;

use chrono::{DateTime, Utc};

use super::text::{Xml, amount, clock};
use crate::window::Span;

/// A point of a plot: from when to when, and what is drawn there.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Point {
    pub(super) from: DateTime<Utc>,
    pub(super) to: DateTime<Utc>,
    pub(super) count: u64,
    /// The mean, or of counts the rate a second.
    pub(super) value: f64,
    /// What [`Plot::high`] says, of a histogram.
    pub(super) high: Option<f64>,
}

/// What the recent values are compared with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Base {
    pub(super) mean: f64,
    pub(super) deviation: f64,
}

/// When an alert fired, and what it said.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Mark {
    pub(super) from: DateTime<Utc>,
    /// `None` while it fires.
    pub(super) to: Option<DateTime<Utc>>,
    pub(super) text: String,
}

/// One metric over the time from the left to the right.
pub(super) struct Plot<'a> {
    pub(super) from: DateTime<Utc>,
    pub(super) to: DateTime<Utc>,
    pub(super) points: &'a [Point],
    pub(super) base: Option<Base>,
    /// From when on the values are away from their baseline.
    pub(super) moved: Option<DateTime<Utc>>,
    pub(super) events: &'a [(DateTime<Utc>, String)],
    pub(super) alerts: &'a [Mark],
    pub(super) unit: &'a str,
    pub(super) value: &'static str,
    /// What the upper line is.
    pub(super) high: &'static str,
}

/// A drawing is a thousand wide and a thousand high, and stretched to its place.
const SIZE: f64 = 1_000.0;

impl<'a> Plot<'a> {
    /// Points and nothing else.
    pub(super) fn new(span: Span, points: &'a [Point]) -> Self {
        Plot {
            from: span.from(),
            to: span.to(),
            points,
            base: None,
            moved: None,
            events: &[],
            alerts: &[],
            unit: "",
            value: "",
            high: "",
        }
    }

    /// The drawing with its axes, its key, and what its points say.
    pub(super) fn figure(&self, title: &str) -> String {
        let (low, high, ticks) = self.scale();
        let y = |value: f64| ((high - value) / (high - low) * SIZE).clamp(-SIZE, 2.0 * SIZE);
        let mut out = String::from("<figure");
        if !self.points.is_empty() {
            let at: Vec<String> =
                self.points.iter().map(|point| format!("{:.0}", self.middle(point))).collect();
            let said: Vec<String> = self.points.iter().map(|point| self.said(point)).collect();
            let _ = write!(out, " data-at=\"{}\" data-said=\"{}\"", at.join(" "), Xml(&said.join("|")));
        }
        out.push_str("><div class=\"plot\">");
        for tick in &ticks {
            let top = y(*tick) / SIZE * 100.0;
            let _ = write!(out, "<span class=\"y\" style=\"top:{top:.1}%\">{}</span>", Xml(&amount(*tick)));
        }
        let _ = write!(
            out,
            "<svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" role=\"img\" aria-label=\"{}\">",
            Xml(title)
        );
        for tick in &ticks {
            let y = y(*tick);
            let _ = write!(out, "<path class=\"grid\" d=\"M0 {y:.1}H1000\"/>");
        }
        if let Some(base) = self.base {
            let (top, bottom) = (y(base.mean + base.deviation), y(base.mean - base.deviation));
            let _ = write!(
                out,
                "<rect class=\"band\" x=\"0\" y=\"{top:.1}\" width=\"1000\" height=\"{:.1}\"/><path class=\"base\" d=\"M0 {:.1}H1000\"/>",
                bottom - top,
                y(base.mean)
            );
        }
        if let Some(moved) = self.moved {
            let x = self.x(moved).max(0.0);
            let _ = write!(
                out,
                "<rect class=\"moved\" x=\"{x:.1}\" y=\"0\" width=\"{:.1}\" height=\"1000\"/><path class=\"moved-from\" d=\"M{x:.1} 0V1000\"/>",
                SIZE - x
            );
        }
        for (time, text) in self.events {
            let x = self.x(*time);
            let _ = write!(
                out,
                "<path class=\"event\" d=\"M{x:.1} 0V1000\"><title>{}</title></path>",
                Xml(&format!("{} {text}", self.label(*time)))
            );
        }
        for mark in self.alerts.iter().filter(|mark| mark.to.is_none_or(|to| to > self.from)) {
            let (x, end) = (self.x(mark.from), mark.to.map_or(SIZE, |to| self.x(to)));
            let _ = write!(
                out,
                "<path class=\"alert\" d=\"M{x:.1} 12H{:.1}\"><title>{}</title></path>",
                end.max(x + 1.0),
                Xml(&format!("{} {}", self.label(mark.from), mark.text))
            );
        }
        let highs: Vec<(f64, f64)> =
            self.points.iter().filter_map(|point| Some((self.middle(point), y(point.high?)))).collect();
        let means: Vec<(f64, f64)> =
            self.points.iter().map(|point| (self.middle(point), y(point.value))).collect();
        let gap = self.gap();
        if !highs.is_empty() {
            out.push_str(&line("high", &highs, gap));
        }
        let _ = write!(out, "{}</svg></div>", line("mean", &means, gap));
        let middle = self.from + (self.to - self.from) / 2;
        let _ = write!(
            out,
            "<div class=\"x\"><span>{}</span><span>{}</span><span>{}</span></div>",
            self.label(self.from),
            self.label(middle),
            self.label(self.to)
        );
        self.key(&mut out, !highs.is_empty());
        out.push_str("<div class=\"read\"></div></figure>\n");
        out
    }

    /// A line in a row of a table.
    pub(super) fn sparkline(&self) -> String {
        let (low, high) = range(self.points.iter().map(|point| point.value));
        let span = if high > low { high - low } else { 1.0 };
        let means: Vec<(f64, f64)> = self
            .points
            .iter()
            .map(|point| (self.middle(point), 80.0 + (high - point.value) / span * 840.0))
            .collect();
        format!(
            "<svg viewBox=\"0 0 1000 1000\" preserveAspectRatio=\"none\" aria-hidden=\"true\">{}</svg>",
            line("mean", &means, self.gap())
        )
    }

    fn key(&self, out: &mut String, highs: bool) {
        let _ = write!(out, "<ul class=\"key\"><li class=\"k-mean\">{}</li>", self.value);
        let mut item = |class: &str, text: &str| {
            let _ = write!(out, "<li class=\"{class}\">{text}</li>");
        };
        if highs {
            item("k-high", self.high);
        }
        if self.base.is_some() {
            item("k-base", "baseline and its deviation");
        }
        if self.moved.is_some() {
            item("k-moved", "drift");
        }
        if !self.events.is_empty() {
            item("k-event", "event");
        }
        if self.alerts.iter().any(|mark| mark.to.is_none_or(|to| to > self.from)) {
            item("k-moved", "alert fires");
        }
        out.push_str("</ul>");
    }

    fn said(&self, point: &Point) -> String {
        let mut said = format!("{} {} {}", self.label(point.from), self.value, amount(point.value));
        if !self.unit.is_empty() {
            let _ = write!(said, " {}", self.unit);
        }
        if let Some(high) = point.high {
            let _ = write!(said, ", {} {}", self.high, amount(high));
        }
        let _ = write!(said, ", {} recorded", point.count);
        said.replace('|', "/")
    }

    fn label(&self, time: DateTime<Utc>) -> String {
        clock(time, (self.to - self.from).num_seconds())
    }

    fn x(&self, time: DateTime<Utc>) -> f64 {
        let all = (self.to - self.from).num_seconds().max(1) as f64;
        ((time - self.from).num_seconds() as f64 / all * SIZE).clamp(0.0, SIZE)
    }

    fn middle(&self, point: &Point) -> f64 {
        f64::midpoint(self.x(point.from), self.x(point.to))
    }

    /// Points further apart than this are not joined: five times what is usual between them.
    fn gap(&self) -> f64 {
        let middles: Vec<f64> = self.points.iter().map(|point| self.middle(point)).collect();
        let mut apart: Vec<f64> = middles.windows(2).map(|pair| pair[1] - pair[0]).collect();
        apart.sort_by(f64::total_cmp);
        5.0 * apart.get(apart.len() / 2).copied().unwrap_or(SIZE)
    }

    /// From where to where it reaches, and the round numbers in between.
    fn scale(&self) -> (f64, f64, Vec<f64>) {
        let values = self.points.iter().flat_map(|point| [Some(point.value), point.high]).flatten();
        let base = self.base.map(|base| base.mean);
        let (low, high) = range(values.chain(base));
        // Near enough to zero that zero is worth showing.
        let low = if low > 0.0 && low < high / 2.0 { 0.0 } else { low };
        let span = if high > low { high - low } else { low.abs() };
        let span = if span > 0.0 { span } else { 1.0 };
        let step = round_step(span / 4.0);
        let (first, last) = ((low / step).floor(), (high / step).ceil());
        let last = if last > first { last } else { first + 1.0 };
        let count = (last - first).min(12.0) as i32;
        let ticks = (0..=count).map(|at| (first + f64::from(at)) * step).collect();
        let room = (last - first) * step * 0.04;
        (first * step - if first == 0.0 { 0.0 } else { room }, last * step + room, ticks)
    }
}

fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
    if low <= high { (low, high) } else { (0.0, 1.0) }
}

/// 1, 2 or 5 times a power of ten, at least `least`.
fn round_step(least: f64) -> f64 {
    let power = 10f64.powf(least.log10().floor());
    [1.0, 2.0, 5.0]
        .map(|figure| figure * power)
        .into_iter()
        .find(|step| *step >= least)
        .unwrap_or(10.0 * power)
}

/// A line, or where there are only points alone, dots that are large enough to be seen.
fn line(class: &str, points: &[(f64, f64)], gap: f64) -> String {
    let path = path(points, gap);
    let dots = if path.contains('L') || path.is_empty() { "" } else { " dots" };
    format!("<path class=\"{class}{dots}\" d=\"{path}\"/>")
}

/// Lines through points, broken at gaps; a point alone is a dot.
fn path(points: &[(f64, f64)], gap: f64) -> String {
    let mut path = String::new();
    for (at, (x, y)) in points.iter().enumerate() {
        let joined = at > 0 && x - points[at - 1].0 <= gap;
        let _ = write!(path, "{}{x:.1} {y:.1}", if joined { "L" } else { "M" });
        let goes_on = points.get(at + 1).is_some_and(|next| next.0 - x <= gap);
        if !joined && !goes_on {
            path.push_str("h0.1");
        }
    }
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        for (least, step) in [(1.0, 1.0), (1.1, 2.0), (0.03, 0.05), (7.0, 10.0), (1234.0, 2_000.0)] {
            assert!((round_step(least) - step).abs() < step * 1e-9, "{least}");
        }
    }

    #[test]
    fn lines_are_broken_at_gaps() {
        let points = [(0.0, 1.0), (10.0, 2.0), (100.0, 3.0), (200.0, 4.0)];
        assert_eq!(path(&points, 50.0), "M0.0 1.0L10.0 2.0M100.0 3.0h0.1M200.0 4.0h0.1");
        assert_eq!(path(&[], 50.0), "");
    }
}
