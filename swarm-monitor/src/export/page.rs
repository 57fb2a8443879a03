use std::cmp::Reverse;
use std::fmt::Write;

use chrono::{DateTime, SecondsFormat, Utc};

use crate::alert::engine::AlertEngine;
use crate::drift::report::DriftReport;
use crate::metric::{MetricInfo, MetricKind};
use crate::monitor::PerformanceMonitor;
use crate::rings::Reach;
use crate::select::Selection;
use crate::summary::Summary;
use crate::window::Window;

use self::alerts::Raised;
use self::plot::{Base, Plot, Point};
use self::text::{Xml, amount};

mod alerts;
mod plot;
mod style;
mod text;

/// So many metrics are drawn: those that drifted, then by name.
const METRICS: usize = 200;
/// So many series of a metric have a row: those with the most records.
const SERIES: usize = 12;
/// So many events are told, the last ones.
const EVENTS: usize = 50;

impl PerformanceMonitor {
    /// One page of HTML with a plot of every metric over `window`: values, baselines, what drifted, and events.
    ///
    /// It holds all that it needs, style and script included, so that it can be served, mailed or kept; it fetches nothing. Light and dark
    /// follow the reader's setting. Counters are drawn as rates; of more than 200 metrics the first are drawn, those that drifted before
    /// all others.
    ///
    /// Every plot asks for buckets and percentiles, as a reader of the page would, so that it takes some milliseconds a metric: it is
    /// for people, not for scrapes. With alerts it is [`AlertEngine::to_html`].
    pub fn to_html(&self, title: &str, window: Window) -> String {
        Page { monitor: self, window, raised: None, out: String::new() }.render(title)
    }
}

impl AlertEngine {
    /// The page of its monitor, as [`PerformanceMonitor::to_html`] makes it, with [all alerts there are](AlertEngine::alerts) above the plots.
    ///
    /// A metric of which an alert fires comes before all others, and in its plot it is marked from when to when alerts of its rules fired.
    /// What was resolved, and told, is not kept, and hence not there.
    pub fn to_html(&self, title: &str, window: Window) -> String {
        let raised = Some(Raised::of(self));
        Page { monitor: self.monitor(), window, raised, out: String::new() }.render(title)
    }
}

struct Page<'a> {
    monitor: &'a PerformanceMonitor,
    window: Window,
    /// `None` where nobody was asked for alerts.
    raised: Option<Raised>,
    out: String,
}

/// A metric, whether an alert of it fires, and whether it drifted.
struct Shown {
    info: MetricInfo,
    select: Selection,
    fires: bool,
    drift: Option<DriftReport>,
}

impl Page<'_> {
    fn render(mut self, title: &str) -> String {
        let mut shown: Vec<Shown> = self
            .monitor
            .metrics()
            .into_iter()
            .map(|info| {
                let select = self.monitor.select(&info.name);
                let drift = select.drift().check().ok();
                let fires = self.raised.as_ref().is_some_and(|raised| raised.fires(&info.name));
                Shown { info, select, fires, drift }
            })
            .collect();
        shown.sort_by_key(|one| (!one.fires, !one.drifted()));
        self.head(title, &shown);
        if let Some(raised) = &self.raised {
            let drawn: Vec<&str> = shown.iter().take(METRICS).map(|one| &*one.info.name).collect();
            raised.list(&mut self.out, &drawn);
        }
        let drifts = shown.iter().filter(|one| one.drifted()).count();
        if drifts > 0 {
            self.out.push_str("<ul class=\"drifts\" aria-label=\"Drift\">\n");
            for (at, one) in shown.iter().enumerate().take(METRICS) {
                let Some(report) = one.drift.as_ref().filter(|report| report.is_drift()) else { continue };
                let said = report.to_string();
                let rest = said.strip_prefix(&*one.info.name).unwrap_or(&said);
                put(
                    &mut self.out,
                    format_args!(
                        "<li><a href=\"#m{at}\"><bdi>{}</bdi></a>{}</li>\n",
                        Xml(&one.info.name),
                        Xml(rest)
                    ),
                );
            }
            self.out.push_str("</ul>\n");
        }
        let events = self.events();
        self.out.push_str("<div class=\"metrics\">\n");
        for (at, one) in shown.iter().enumerate().take(METRICS) {
            self.metric(at, one, &events);
        }
        self.out.push_str("</div>\n");
        if shown.len() > METRICS {
            put(
                &mut self.out,
                format_args!("<p class=\"m\">{} more metrics are not drawn.</p>\n", shown.len() - METRICS),
            );
        }
        self.told(&events);
        put(&mut self.out, format_args!("</main>\n<script>{}</script>\n</body>\n</html>\n", style::SCRIPT));
        self.out
    }

    fn head(&mut self, title: &str, shown: &[Shown]) {
        self.out.push_str("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n");
        self.out.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n");
        // Whatever a tag holds, the page fetches nothing.
        self.out.push_str("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'\"/>\n");
        self.out.push_str("<meta name=\"color-scheme\" content=\"light dark\"/>\n");
        put(
            &mut self.out,
            format_args!(
                "<title>{0}</title>\n<style>\n{1}</style>\n</head>\n<body>\n<main>\n<header><h1><bdi>{0}</bdi></h1>\n<dl>",
                Xml(title),
                style::STYLE
            ),
        );
        let sum = |of: fn(&MetricInfo) -> u64| shown.iter().map(|one| of(&one.info)).sum::<u64>();
        let mut facts = vec![
            (
                "As of",
                self.monitor
                    .now()
                    .to_rfc3339_opts(SecondsFormat::Secs, true)
                    .replace('T', " ")
                    .replace('Z', " UTC"),
            ),
            ("Metrics", shown.len().to_string()),
            ("Series", sum(|info| info.series as u64).to_string()),
            ("Memory", format!("{}B", amount(sum(|info| info.memory as u64) as f64))),
            ("Drifted", shown.iter().filter(|one| one.drifted()).count().to_string()),
        ];
        if let Some(raised) = &self.raised {
            facts.push(("Alerts firing", raised.firing().to_string()));
        }
        let left_out = sum(|info| info.refused + info.mismatched) + self.monitor.lost();
        if left_out > 0 {
            facts.push(("Records left out", left_out.to_string()));
        }
        for (what, value) in facts {
            put(&mut self.out, format_args!("<div><dt>{what}</dt><dd>{}</dd></div>", Xml(&value)));
        }
        self.out.push_str("</dl></header>\n");
    }

    fn metric(&mut self, at: usize, one: &Shown, events: &[(DateTime<Utc>, String)]) {
        let (info, unit) = (&one.info, &*one.info.description.unit);
        let class = if one.fires || one.drifted() { " class=\"bad\"" } else { "" };
        put(
            &mut self.out,
            format_args!(
                "<section id=\"m{at}\"{class}><div class=\"head\"><h2><bdi>{}</bdi></h2>",
                Xml(&info.name)
            ),
        );
        let kind = match info.kind {
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::Event => "events",
        };
        let of = if unit.is_empty() { String::new() } else { format!(", {unit}") };
        put(&mut self.out, format_args!("<span class=\"m\">{kind}{}</span>", Xml(&of)));
        if let Some(report) = one.drift.as_ref().filter(|report| report.is_drift()) {
            let by = report
                .change()
                .map_or_else(|| "drift".to_owned(), |by| format!("drift {:+.0} %", by * 100.0));
            put(&mut self.out, format_args!("<span class=\"badge\">{by}</span>"));
        }
        if one.fires {
            self.out.push_str("<span class=\"badge\">firing</span>");
        }
        self.out.push_str("</div>");
        if !info.description.help.is_empty() {
            put(&mut self.out, format_args!("<p class=\"m\">{}</p>", Xml(&info.description.help)));
        }
        self.facts(one);
        let figure = self.figure(one, events);
        self.out.push_str(&figure);
        self.series(one);
        self.out.push_str("</section>\n");
    }

    /// The window in a few numbers.
    fn facts(&mut self, one: &Shown) {
        let Ok(summary) = one.select.summary(self.window) else { return };
        let mut facts = vec![("Recorded", amount(summary.count as f64))];
        if one.info.kind.counts() {
            facts.push(("A second", amount(summary.rate().unwrap_or(0.0))));
            let total = one.select.total().map_or(0, |total| total.count);
            facts.push(("Ever", amount(total as f64)));
        } else if summary.count > 0 {
            facts.push(("Mean", amount(summary.mean)));
            facts.push(("Least", amount(summary.min)));
            if let (MetricKind::Histogram, Ok(sketch)) = (one.info.kind, one.select.sketch(self.window)) {
                for (name, q) in [("p50", 0.5), ("p99", 0.99)] {
                    facts.push((name, sketch.quantile(q).map_or_else(String::new, amount)));
                }
            }
            facts.push(("Greatest", amount(summary.max)));
        }
        self.out.push_str("<dl>");
        for (what, value) in facts {
            put(&mut self.out, format_args!("<div><dt>{what}</dt><dd>{}</dd></div>", Xml(&value)));
        }
        self.out.push_str("</dl>");
    }

    fn figure(&self, one: &Shown, events: &[(DateTime<Utc>, String)]) -> String {
        let report = one.drift.as_ref().filter(|report| report.baseline.count >= report.least);
        let counts = one.info.kind.counts();
        let mut points = self.points(&one.info, &one.select);
        let many = one.info.kind == MetricKind::Histogram && Self::percentiles(&mut points, &one.select);
        let marks = self.raised.as_ref().map_or_else(Vec::new, |raised| raised.marks(&one.info.name));
        let mut plot = Plot::new(self.window.span(self.monitor.inner.now(), self.reach()), &points);
        plot.base = report.map(|report| Base {
            mean: report.baseline.mean,
            deviation: report.baseline.std_dev().unwrap_or(0.0),
        });
        plot.moved = report.filter(|report| report.is_drift()).map(|report| report.recent.from);
        plot.events = events;
        plot.alerts = &marks;
        plot.unit = if counts { "a second" } else { &one.info.description.unit };
        plot.value = if counts { "rate" } else { "mean" };
        plot.high = if many { "99th percentile" } else { "greatest" };
        plot.figure(&one.info.name)
    }

    fn points(&self, info: &MetricInfo, select: &Selection) -> Vec<Point> {
        let histogram = info.kind == MetricKind::Histogram;
        let point = |point: Summary| Point {
            from: point.from,
            to: point.to,
            count: point.count,
            value: if info.kind.counts() { point.rate().unwrap_or(0.0) } else { point.mean },
            high: histogram.then_some(point.max),
        };
        select.points(self.window).unwrap_or_default().into_iter().map(point).collect()
    }

    /// Puts the 99th percentile in place of the greatest value, where most buckets have as many values as that takes.
    fn percentiles(points: &mut [Point], select: &Selection) -> bool {
        if points.iter().filter(|point| point.count >= 100).count() * 2 <= points.len() {
            return false;
        }
        for point in points {
            let high = select.quantile(Window::between(point.from, point.to), 0.99).ok().flatten();
            point.high = high.or(point.high);
        }
        true
    }

    fn reach(&self) -> Reach {
        self.monitor.inner.table.settings.reach
    }

    /// A row for each series, if there are several.
    fn series(&mut self, one: &Shown) {
        let mut series: Vec<_> = one
            .select
            .each_series()
            .into_iter()
            .filter_map(|(tags, select)| Some((select.summary(self.window).ok()?, tags, select)))
            .collect();
        if series.len() < 2 {
            return;
        }
        series.sort_by_key(|(summary, ..)| Reverse(summary.count));
        let counts = one.info.kind.counts();
        let value = if counts { "A second" } else { "Mean" };
        put(
            &mut self.out,
            format_args!(
                "<details open=\"open\"><summary>{} series</summary><div class=\"wide\"><table><thead><tr><th>Tags</th><th class=\"n\">Recorded</th><th class=\"n\">{value}</th><th></th></tr></thead><tbody>\n",
                series.len()
            ),
        );
        for (summary, tags, select) in series.iter().take(SERIES) {
            let tags: Vec<String> = tags.iter().map(|(name, value)| format!("{name}={value}")).collect();
            let value =
                if counts { summary.rate() } else { Some(summary.mean).filter(|_| summary.count > 0) };
            let points = self.points(&one.info, select);
            let line =
                Plot::new(self.window.span(self.monitor.inner.now(), self.reach()), &points).sparkline();
            put(
                &mut self.out,
                format_args!(
                    "<tr><td><bdi>{}</bdi></td><td class=\"n\">{}</td><td class=\"n\">{}</td><td>{line}</td></tr>\n",
                    Xml(if tags.is_empty() { "no tags".to_owned() } else { tags.join(", ") }.as_str()),
                    amount(summary.count as f64),
                    value.map_or_else(String::new, amount)
                ),
            );
        }
        self.out.push_str("</tbody></table></div>");
        if series.len() > SERIES {
            put(&mut self.out, format_args!("<p class=\"m\">{} more</p>", series.len() - SERIES));
        }
        self.out.push_str("</details>");
    }

    /// Those within the window, oldest first.
    fn events(&self) -> Vec<(DateTime<Utc>, String)> {
        let span = self.window.span(self.monitor.inner.now(), self.reach());
        let within = span.from()..=span.to();
        let within = self.monitor.events().into_iter().filter(|event| within.contains(&event.time));
        let mut events: Vec<_> =
            within.map(|event| (event.time, format!("{} {}", event.metric, event.text))).collect();
        events.drain(..events.len().saturating_sub(EVENTS));
        events
    }

    fn told(&mut self, events: &[(DateTime<Utc>, String)]) {
        if events.is_empty() {
            return;
        }
        self.out.push_str("<h3>Events</h3><div class=\"wide\"><table><tbody>\n");
        for (time, text) in events.iter().rev() {
            put(
                &mut self.out,
                format_args!("<tr><td>{}</td><td>{}</td></tr>\n", time.format("%b %-d %H:%M:%S"), Xml(text)),
            );
        }
        self.out.push_str("</tbody></table></div>\n");
    }
}

impl Shown {
    fn drifted(&self) -> bool {
        self.drift.as_ref().is_some_and(DriftReport::is_drift)
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // A string takes everything.
    let _ = out.write_fmt(text);
}
