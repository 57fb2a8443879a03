use std::collections::{BTreeMap, HashSet};

use crate::export::family::{LEFT_OUT, LEFT_OUT_HELP, left_out};
use crate::export::free;
use crate::export::otlp::exponential::Exponential;
use crate::export::otlp::wire::Message;
use crate::metric::{Description, MetricKind};
use crate::monitor::Inner;
use crate::series::Series;
use crate::sketch::Sketch;
use crate::summary::Summary;
use crate::table::Metric;
use crate::window::time;

/// What one request holds: an `ExportMetricsServiceRequest`.
#[derive(Debug)]
pub(crate) struct Request {
    pub(crate) body: Vec<u8>,
    pub(crate) points: usize,
}

/// What becomes of a histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Buckets with the bounds of its description.
    Explicit,
    /// Buckets whose bounds are powers.
    Exponential,
}

/// All metrics, in requests of at most `limit` bytes.
///
/// Field numbers are those of `opentelemetry/proto/metrics/v1/metrics.proto`, version 1.
pub(crate) fn requests(
    monitor: &Inner,
    resource: &BTreeMap<String, String>,
    form: Form,
    limit: usize,
) -> Vec<Request> {
    let mut batches = Batches::new(resource, limit);
    let look = Look { monitor, form, now: monitor.now(), nanos: monitor.nanos() };
    for metric in monitor.table.all() {
        let description = metric.about.description();
        let head = Head::new(&metric.about.name, metric.about.kind, &description, form);
        batches.metric(&head, look.points(&metric, &description));
    }
    let description = Description::new(LEFT_OUT_HELP);
    let head = Head::new(LEFT_OUT, MetricKind::Counter, &description, form);
    let samples = left_out(&monitor.table).into_iter().map(|(labels, n)| {
        let mut point = Message::default();
        attributes(&mut point, 7, &labels);
        look.times(&mut point, monitor.began);
        total(&mut point, n);
        point
    });
    batches.metric(&head, samples);
    batches.finish()
}

/// The moment that is told.
struct Look<'a> {
    monitor: &'a Inner,
    form: Form,
    now: u64,
    nanos: u64,
}

impl Look<'_> {
    /// A data point for each series that has something to tell.
    fn points(&self, metric: &Metric, description: &Description) -> Vec<Message> {
        let mut seen = HashSet::new();
        metric
            .select(&[])
            .into_iter()
            .filter_map(|series| {
                let mut tags: Vec<(String, String)> = series
                    .tags
                    .iter()
                    .map(|(name, value)| ((**name).to_owned(), (**value).to_owned()))
                    .collect();
                if let Some(at) = tags.iter().position(|(name, _)| name.is_empty()) {
                    // What has no name is not an attribute.
                    tags[at].0 = free("_".to_owned(), |name| tags.iter().any(|(other, _)| other == name));
                }
                // Only the overflow series, which is the last, may have the very tags of another.
                while !seen.insert(tags.clone()) {
                    tags.iter_mut().for_each(|(name, _)| name.push('_'));
                }
                self.point(&series, metric.about.kind, description, &tags)
            })
            .collect()
    }

    fn point(
        &self,
        series: &Series,
        kind: MetricKind,
        description: &Description,
        tags: &[(String, String)],
    ) -> Option<Message> {
        let mut point = Message::default();
        match kind {
            MetricKind::Counter | MetricKind::Event => {
                let mut all = Summary::empty(time(self.now), time(self.now));
                series.summarize_own(self.now, &mut all);
                attributes(&mut point, 7, tags);
                self.times(&mut point, series.since);
                total(&mut point, all.count);
                exemplars(&mut point, 5, series);
            }
            MetricKind::Gauge => {
                let last = series.last()?;
                attributes(&mut point, 7, tags);
                point.fixed(3, self.nanos);
                point.double(4, last);
            }
            MetricKind::Histogram => {
                let mut all = Summary::empty(time(self.now), time(self.now));
                let mut sketch = Sketch::new(self.monitor.table.settings.mapping);
                series.distribution_of_own(self.now, &mut all, &mut sketch);
                let exponential = self.form == Form::Exponential;
                attributes(&mut point, if exponential { 1 } else { 9 }, tags);
                self.times(&mut point, series.since);
                point.fixed(4, all.count);
                // A sum that may fall is none.
                if all.min >= 0.0 {
                    point.double(5, series.never_less(all.sum()));
                }
                if exponential {
                    Exponential::of(&sketch).write(&mut point);
                } else {
                    let bounds = description.bounds_or_usual();
                    let mut seen = 0;
                    let up_to = sketch.at_most_each(&bounds).into_iter().chain([all.count]);
                    point.all_fixed(6, up_to.map(|at_most| at_most - std::mem::replace(&mut seen, at_most)));
                    point.all_fixed(7, bounds.iter().map(|bound| bound.to_bits()));
                }
                exemplars(&mut point, if exponential { 11 } else { 8 }, series);
                // Of one that was restored they would be those of before too.
                if all.count > 0 && !series.is_restored() {
                    let (min, max) = if exponential { (12, 13) } else { (11, 12) };
                    point.double(min, all.min);
                    point.double(max, all.max);
                }
            }
        }
        Some(point)
    }

    /// Since when, in seconds, and up to when a point counts.
    fn times(&self, point: &mut Message, since: u64) {
        point.fixed(2, since.saturating_mul(1_000_000_000));
        point.fixed(3, self.nanos);
    }
}

/// A count, as a whole number where it is one of OTLP's.
fn total(point: &mut Message, n: u64) {
    match i64::try_from(n) {
        Ok(n) => point.fixed(6, n as u64),
        Err(_) => point.double(4, n as f64),
    }
}

/// Where some values came from. A trace and a span are told as such if they are, and are attributes if not.
fn exemplars(point: &mut Message, field: u64, series: &Series) {
    for exemplar in series.exemplars() {
        let mut message = Message::default();
        message.fixed(2, exemplar.time.saturating_mul(1_000_000_000));
        message.double(3, exemplar.value);
        for (name, value) in exemplar.labels {
            match (name.as_str(), bytes(&value)) {
                ("trace_id", Some(id)) if id.len() == 16 => message.bytes(5, &id),
                ("span_id", Some(id)) if id.len() == 8 => message.bytes(4, &id),
                _ => attributes(&mut message, 7, &[(name, value)]),
            }
        }
        point.message(field, &message);
    }
}

/// What hexadecimal digits stand for.
fn bytes(hex: &str) -> Option<Vec<u8>> {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let pairs = hex.as_bytes().chunks(2);
    pairs.map(|pair| Some((digit(&pair[0])? << 4 | digit(pair.get(1)?)?) as u8)).collect()
}

fn attributes(message: &mut Message, field: u64, tags: &[(String, String)]) {
    for (name, value) in tags {
        let (mut pair, mut any) = (Message::default(), Message::default());
        any.bytes(1, value.as_bytes());
        pair.text(1, name);
        pair.message(2, &any);
        message.message(field, &pair);
    }
}

/// A metric without its points.
struct Head {
    fields: Message,
    /// The number of the field that has its points.
    data: u64,
    kind: MetricKind,
}

impl Head {
    fn new(name: &str, kind: MetricKind, description: &Description, form: Form) -> Self {
        let mut fields = Message::default();
        fields.text(1, if name.is_empty() { "_" } else { name });
        fields.text(2, &description.help);
        fields.text(3, &unit(&description.unit));
        let data = match (kind, form) {
            (MetricKind::Counter | MetricKind::Event, _) => 7,
            (MetricKind::Gauge, _) => 5,
            (MetricKind::Histogram, Form::Explicit) => 9,
            (MetricKind::Histogram, Form::Exponential) => 10,
        };
        Head { fields, data, kind }
    }
}

/// A unit as OpenTelemetry writes it: in UCUM where it is one that Prometheus knows, else a note in braces.
fn unit(word: &str) -> String {
    let known = [
        ("", ""),
        ("days", "d"),
        ("hours", "h"),
        ("minutes", "min"),
        ("seconds", "s"),
        ("milliseconds", "ms"),
        ("microseconds", "us"),
        ("nanoseconds", "ns"),
        ("bytes", "By"),
        ("kibibytes", "KiBy"),
        ("mebibytes", "MiBy"),
        ("gibibytes", "GiBy"),
        // UCUM has `kBy`, from which Prometheus makes no `kilobytes`.
        ("kilobytes", "KBy"),
        ("megabytes", "MBy"),
        ("gigabytes", "GBy"),
        ("meters", "m"),
        ("volts", "V"),
        ("amperes", "A"),
        ("joules", "J"),
        ("watts", "W"),
        ("grams", "g"),
        ("celsius", "Cel"),
        ("hertz", "Hz"),
        ("ratio", "1"),
        ("percent", "%"),
    ];
    match known.iter().find(|(known, _)| *known == word) {
        Some((_, short)) => (*short).to_owned(),
        // A note is of printable ASCII without braces.
        None => {
            let plain = |c: char| if c.is_ascii_graphic() && !"{}".contains(c) { c } else { '_' };
            format!("{{{}}}", word.chars().map(plain).collect::<String>())
        }
    }
}

/// Requests, filled one after the other.
struct Batches {
    limit: usize,
    /// The fields that each `ResourceMetrics` has.
    resource: Message,
    /// And each `ScopeMetrics`.
    scope: Message,
    /// The metrics of the request that is open.
    open: Message,
    points: usize,
    full: Vec<Request>,
}

/// What nesting a message takes at most: a tag and a length, six times over.
const NESTING: usize = 64;

impl Batches {
    fn new(resource: &BTreeMap<String, String>, limit: usize) -> Self {
        let pairs: Vec<(String, String)> =
            resource.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let (mut all, mut named, mut scope) = (Message::default(), Message::default(), Message::default());
        attributes(&mut all, 1, &pairs);
        let mut resource = Message::default();
        resource.message(1, &all);
        named.text(1, env!("CARGO_PKG_NAME"));
        named.text(2, env!("CARGO_PKG_VERSION"));
        scope.message(1, &named);
        Batches { limit, resource, scope, open: Message::default(), points: 0, full: Vec::new() }
    }

    /// Adds a metric, over as many requests as it takes. One point that is larger than the limit goes alone.
    fn metric(&mut self, head: &Head, points: impl IntoIterator<Item = Message>) {
        let (mut data, mut some) = (Message::default(), 0);
        for point in points {
            let len =
                self.resource.len() + self.scope.len() + self.open.len() + head.fields.len() + data.len();
            if len + point.len() + NESTING > self.limit && self.points + some > 0 {
                self.close(head, std::mem::take(&mut data), std::mem::take(&mut some));
                self.flush();
            }
            data.message(1, &point);
            some += 1;
        }
        self.close(head, data, some);
    }

    fn close(&mut self, head: &Head, mut data: Message, points: usize) {
        if points == 0 {
            return;
        }
        if head.kind != MetricKind::Gauge {
            // Cumulative.
            data.varint(2, 2);
        }
        if head.kind.counts() {
            // Monotonic.
            data.varint(3, 1);
        }
        let mut metric = Message::default();
        metric.append(&head.fields);
        metric.message(head.data, &data);
        self.open.message(2, &metric);
        self.points += points;
    }

    fn flush(&mut self) {
        if self.points == 0 {
            return;
        }
        let (mut scope, mut resource, mut body) =
            (Message::default(), Message::default(), Message::default());
        scope.append(&self.scope);
        scope.append(&std::mem::take(&mut self.open));
        resource.append(&self.resource);
        resource.message(2, &scope);
        body.message(1, &resource);
        self.full.push(Request { body: body.into_bytes(), points: std::mem::take(&mut self.points) });
    }

    fn finish(mut self) -> Vec<Request> {
        self.flush();
        self.full
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use chrono::{DateTime, TimeDelta};

    use super::*;
    use crate::export::otlp::wire::{Field, fields};
    use crate::monitor::PerformanceMonitor;
    use crate::testing::FakeClock;

    /// The messages that are fields of this number.
    fn within(message: &[u8], number: u64) -> Vec<&[u8]> {
        let of = |(field, value)| match value {
            Field::Bytes(bytes) if field == number => Some(bytes),
            _ => None,
        };
        fields(message).filter_map(of).collect()
    }

    /// The numbers that are fields of these numbers.
    fn numbers(message: &[u8], which: Range<u64>) -> Vec<(u64, u64)> {
        let of = |(field, value)| match value {
            Field::Number(number) if which.contains(&field) => Some((field, number)),
            _ => None,
        };
        fields(message).filter_map(of).collect()
    }

    #[test]
    fn points_have_the_fields_of_the_protocol() {
        let clock = FakeClock::new(DateTime::UNIX_EPOCH + TimeDelta::seconds(1_000));
        let monitor = PerformanceMonitor::builder().clock(clock.clone()).build().unwrap();
        monitor.counter("n", &[("tag", "value")]).add(7);
        monitor.describe("seconds", Description::default().bounds([1.0]));
        let seconds = monitor.histogram("seconds", &[]);
        [0.5, 1.5, f64::NAN].into_iter().for_each(|value| seconds.record(value));
        clock.advance(std::time::Duration::from_secs(5));
        monitor.tick();
        let requests = requests(&monitor.inner, &BTreeMap::new(), Form::Explicit, 1 << 20);
        let [Request { body, points: 3 }] = &requests[..] else { panic!("{requests:?}") };
        let scope = within(within(body, 1)[0], 2)[0];
        let metrics = within(scope, 2);
        let names: Vec<&[u8]> = metrics.iter().map(|metric| within(metric, 1)[0]).collect();
        assert_eq!(names, [&b"n"[..], b"seconds", b"swarm_monitor_left_out_records"]);
        let (from, to) = ((2, 1_000_000_000_000), (3, 1_005_000_000_000));
        for (metric, n) in [(metrics[0], 7), (metrics[2], 1)] {
            let sum = within(metric, 7)[0];
            // Cumulative, and monotonic.
            assert_eq!(numbers(sum, 0..9), [(2, 2), (3, 1)]);
            assert_eq!(numbers(within(sum, 1)[0], 0..9), [from, to, (6, n)]);
        }
        let attribute = within(within(within(metrics[0], 7)[0], 1)[0], 7)[0];
        assert_eq!(
            (within(attribute, 1)[0], within(within(attribute, 2)[0], 1)[0]),
            (&b"tag"[..], &b"value"[..])
        );
        let histogram = within(metrics[1], 9)[0];
        assert_eq!(numbers(histogram, 0..9), [(2, 2)]);
        let point = within(histogram, 1)[0];
        let bits = f64::to_bits;
        assert_eq!(
            numbers(point, 0..20),
            [from, to, (4, 2), (5, bits(2.0)), (11, bits(0.5)), (12, bits(1.5))]
        );
        assert_eq!(within(point, 6), [[1u64.to_le_bytes(), 1u64.to_le_bytes()].concat()]);
        assert_eq!(within(point, 7), [1.0f64.to_le_bytes()]);
    }

    #[test]
    fn units_are_ucum_or_notes() {
        for (word, expected) in [
            ("", ""),
            ("seconds", "s"),
            ("bytes", "By"),
            ("kibibytes", "KiBy"),
            ("mebibytes", "MiBy"),
            ("gibibytes", "GiBy"),
            ("kilobytes", "KBy"),
            ("megabytes", "MBy"),
            ("gigabytes", "GBy"),
            ("milliseconds", "ms"),
            ("violations", "{violations}"),
            ("a b{é}", "{a_b___}"),
        ] {
            assert_eq!(unit(word), expected);
        }
    }
}
