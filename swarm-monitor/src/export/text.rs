use std::fmt::Write;

use crate::exemplar::Exemplar;
use crate::export::Format;
use crate::export::family::{Family, LEFT_OUT, LEFT_OUT_HELP};
use crate::metric::MetricKind;
use crate::sketch::Sketch;
use crate::sketch::mapping::Mapping;
use crate::summary::Summary;
use crate::window::time;

/// Writes families as text.
pub(crate) struct Writer {
    format: Format,
    text: String,
}

impl Writer {
    pub(crate) fn new(format: Format) -> Self {
        Writer { format, text: String::new() }
    }

    pub(crate) fn family(&mut self, family: &Family, now: u64, mapping: Mapping) {
        let series = family.series();
        if series.is_empty() {
            return;
        }
        self.head(family);
        let sample = family.sample();
        for (labels, series) in series {
            match family.info.kind {
                MetricKind::Counter | MetricKind::Event => {
                    let mut total = Summary::empty(time(now), time(now));
                    series.summarize_own(now, &mut total);
                    self.linked(&sample, &labels, &total.count.to_string(), series.exemplars().last());
                }
                MetricKind::Gauge => {
                    if let Some(last) = series.last() {
                        self.sample(&sample, &labels, &number(last));
                    }
                }
                MetricKind::Histogram => {
                    let mut total = Summary::empty(time(now), time(now));
                    let mut sketch = Sketch::new(mapping);
                    series.distribution_of_own(now, &mut total, &mut sketch);
                    let sum = (total.min >= 0.0).then(|| series.never_less(total.sum()));
                    self.histogram(family, labels, &sketch, total.count, sum, &series.exemplars());
                }
            }
        }
    }

    /// What is in no series.
    pub(crate) fn left_out(&mut self, samples: Vec<(Vec<(String, String)>, u64)>) {
        if samples.is_empty() {
            return;
        }
        let ending = if self.format == Format::Prometheus { "_total" } else { "" };
        let _ = writeln!(self.text, "# TYPE {LEFT_OUT}{ending} counter");
        let _ = writeln!(self.text, "# HELP {LEFT_OUT}{ending} {LEFT_OUT_HELP}");
        for (labels, n) in samples {
            self.sample(&format!("{LEFT_OUT}_total"), &labels, &n.to_string());
        }
    }

    pub(crate) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn head(&mut self, family: &Family) {
        let (kind, description) = (family.info.kind, &family.info.description);
        // Of OpenMetrics the ending is no part of the name.
        let name = if self.format == Format::Prometheus { family.sample() } else { family.name.clone() };
        let kind = match kind {
            MetricKind::Counter | MetricKind::Event => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
        };
        let _ = writeln!(self.text, "# TYPE {name} {kind}");
        if self.format == Format::OpenMetrics && !family.unit.is_empty() {
            let _ = writeln!(self.text, "# UNIT {name} {}", family.unit);
        }
        if !description.help.is_empty() {
            let _ = write!(self.text, "# HELP {name} ");
            self.escaped(&description.help, self.format == Format::OpenMetrics);
            self.text.push('\n');
        }
    }

    fn histogram(
        &mut self,
        family: &Family,
        mut labels: Vec<(String, String)>,
        sketch: &Sketch,
        count: u64,
        sum: Option<f64>,
        exemplars: &[Exemplar],
    ) {
        let name = &family.name;
        let bounds = family.info.description.bounds_or_usual();
        let bucket = format!("{name}_bucket");
        // By the bounds of now, which may be others than when they came.
        let mut latest: Vec<Option<&Exemplar>> = vec![None; bounds.len() + 1];
        for exemplar in exemplars {
            let bucket = &mut latest[bounds.partition_point(|bound| *bound < exemplar.value)];
            if bucket.is_none_or(|other| other.time <= exemplar.time) {
                *bucket = Some(exemplar);
            }
        }
        let own = labels.len();
        labels.push(("le".to_owned(), String::new()));
        for ((bound, at_most), exemplar) in bounds.iter().zip(sketch.at_most_each(&bounds)).zip(&latest) {
            labels[own].1 = number(*bound);
            self.linked(&bucket, &labels, &at_most.to_string(), *exemplar);
        }
        "+Inf".clone_into(&mut labels[own].1);
        self.linked(&bucket, &labels, &count.to_string(), latest[bounds.len()]);
        labels.truncate(own);
        if let Some(sum) = sum {
            self.sample(&format!("{name}_sum"), &labels, &number(sum));
            self.sample(&format!("{name}_count"), &labels, &count.to_string());
        }
    }

    fn sample(&mut self, name: &str, labels: &[(String, String)], value: &str) {
        self.linked(name, labels, value, None);
    }

    /// A sample of a counter or a bucket, which alone may have an exemplar, and in OpenMetrics only.
    fn linked(&mut self, name: &str, labels: &[(String, String)], value: &str, exemplar: Option<&Exemplar>) {
        self.text.push_str(name);
        self.labels(labels);
        self.text.push(' ');
        self.text.push_str(value);
        if let Some(exemplar) = exemplar.filter(|_| self.format == Format::OpenMetrics) {
            self.text.push_str(" # ");
            self.labels(&exemplar.labels);
            let _ = write!(self.text, " {} {}.0", number(exemplar.value), exemplar.time);
        }
        self.text.push('\n');
    }

    fn labels(&mut self, labels: &[(String, String)]) {
        for (at, (label, value)) in labels.iter().enumerate() {
            self.text.push(if at == 0 { '{' } else { ',' });
            self.text.push_str(label);
            self.text.push_str("=\"");
            self.escaped(value, true);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
    }

    fn escaped(&mut self, text: &str, quotes: bool) {
        for c in text.chars() {
            match c {
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '"' if quotes => self.text.push_str("\\\""),
                _ => self.text.push(c),
            }
        }
    }
}

/// As the specification wants bounds written, so that both formats name them alike: 0.25, 1.0, 1e+06.
pub(crate) fn number(value: f64) -> String {
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    match exponent.parse::<i32>() {
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            format!("{mantissa}e{}{:02}", if exponent < 0 { '-' } else { '+' }, exponent.abs())
        }
        _ => format!("{value:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_the_specification_wants() {
        for (value, written) in [
            (0.0, "0.0"),
            (-0.0, "-0.0"),
            (1.0, "1.0"),
            (0.0025, "0.0025"),
            (0.0001, "0.0001"),
            (0.00001, "1e-05"),
            (100_000.0, "100000.0"),
            (1_000_000.0, "1e+06"),
            (1_234_567.5, "1.2345675e+06"),
            (-1e140, "-1e+140"),
            (f64::MIN_POSITIVE, "2.2250738585072014e-308"),
        ] {
            assert_eq!(number(value), written);
            assert_eq!(written.parse::<f64>().unwrap(), value);
        }
    }
}
