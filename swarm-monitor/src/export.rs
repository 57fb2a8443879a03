use std::collections::HashSet;

use crate::export::family::{families, left_out};
use crate::export::text::Writer;
use crate::monitor::PerformanceMonitor;

mod family;
mod grafana;
#[cfg(feature = "otlp")]
pub(crate) mod otlp;
mod page;
mod rules;
mod text;

/// What a scrape is answered with: [`PerformanceMonitor::expose`].
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Exposition {
    /// For the header `Content-Type`.
    pub content_type: &'static str,
    /// The text.
    pub body: String,
}

/// The text formats that Prometheus reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Format {
    /// <https://prometheus.io/docs/specs/om/open_metrics_spec/>, version 1.0.
    OpenMetrics,
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/>, version 0.0.4.
    Prometheus,
}

impl PerformanceMonitor {
    /// All metrics as text for Prometheus and for everything else that reads its formats.
    ///
    /// `accept` is the request's header of that name, empty if there was none. Whoever prefers OpenMetrics gets version 1.0 of it, everyone
    /// else Prometheus' format 0.0.4. That is all a `/metrics` handler of any HTTP server needs:
    ///
    /// ```
    /// use swarm_monitor::{Measurement, PerformanceMonitor};
    ///
    /// let monitor = PerformanceMonitor::new();
    /// monitor.record("requests", Measurement::Count(3), &[("route", "/pay")]);
    /// let answer = monitor.expose("application/openmetrics-text;version=1.0.0,text/plain;q=0.5");
    /// assert_eq!(answer.content_type, "application/openmetrics-text; version=1.0.0; charset=utf-8");
    /// assert_eq!(answer.body, "# TYPE requests counter\nrequests_total{route=\"/pay\"} 3\n# EOF\n");
    /// ```
    ///
    /// Counters, and the counts, buckets and sums of histograms, are those of this process: after a restart they begin at 0, whatever was
    /// [restored](crate::MonitorBuilder::restore), as readers of counters expect. [`Selection::total`](crate::Selection::total) goes on.
    ///
    /// Counters and events end in `_total`. A histogram has cumulative buckets with the [bounds](crate::Description::bounds) of its
    /// description, so that those of several processes can be added up, which quantiles cannot; a value that is above a bound by
    /// less than twice the monitor's [accuracy](crate::MonitorBuilder::accuracy) may count as at most the bound. What becomes of names, units
    /// and negative values is told on the [crate page](crate#export).
    pub fn expose(&self, accept: &str) -> Exposition {
        let format = Format::preferred(accept);
        let table = &self.inner.table;
        let mut writer = Writer::new(format);
        for family in families(table) {
            writer.family(&family, self.inner.now(), table.settings.mapping);
        }
        writer.left_out(left_out(table));
        Exposition { content_type: format.content_type(), body: writer.finish() }
    }
}

impl Format {
    fn content_type(self) -> &'static str {
        match self {
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Format::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// OpenMetrics for those that name it, unless they like `text/plain` better.
    fn preferred(accept: &str) -> Self {
        let (mut open_metrics, mut plain) = (0.0, 0.0);
        for range in accept.split(',') {
            let mut parts = range.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let (mut quality, mut version) = (1.0, None);
            for (name, value) in parts.filter_map(|part| part.split_once('=')) {
                match name.trim().to_ascii_lowercase().as_str() {
                    "q" => quality = value.trim().parse().unwrap_or(0.0),
                    "version" => version = Some(value.trim().trim_matches('"')),
                    _ => {}
                }
            }
            // A version that is not there yet is not what we write.
            if media.eq_ignore_ascii_case("application/openmetrics-text")
                && matches!(version, None | Some("1.0.0" | "0.0.1"))
            {
                open_metrics = f64::max(open_metrics, quality);
            } else if media.eq_ignore_ascii_case("text/plain") {
                plain = f64::max(plain, quality);
            }
        }
        if open_metrics > 0.0 && open_metrics >= plain { Format::OpenMetrics } else { Format::Prometheus }
    }
}

/// A name that is not `taken` yet, by underscores at its end.
fn free(mut name: String, taken: impl Fn(&str) -> bool) -> String {
    while taken(&name) {
        name.push('_');
    }
    name
}

/// `name` with an underscore for each character that is neither a letter nor a digit of ASCII nor `also`, and in front of a digit.
fn plain(name: &str, also: &[char]) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || also.contains(&c);
    let mut plain: String = name.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if plain.is_empty() || plain.starts_with(|c: char| c.is_ascii_digit()) {
        plain.insert(0, '_');
    }
    plain
}

/// Tags as a format with plain label names has them: each name once, none of `reserved`.
///
/// `longer` names those that had to be changed with so many more underscores.
pub(crate) fn labels(tags: &[(&str, &str)], reserved: &str, longer: usize) -> Vec<(String, String)> {
    let as_label = |name: &str| {
        let mut label = plain(name, &['_']);
        // Two underscores at the beginning are for Prometheus' own.
        while label.starts_with("__") {
            label.remove(0);
        }
        if label == reserved { label + "_" } else { label }
    };
    let mut taken: HashSet<String> =
        tags.iter().filter(|(name, _)| as_label(name) == *name).map(|(name, _)| (*name).to_owned()).collect();
    tags.iter()
        .map(|(name, value)| {
            let mut label = as_label(name);
            if label != *name {
                label = free(label + &"_".repeat(longer), |name| taken.contains(name));
                taken.insert(label.clone());
            }
            (label, (*value).to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn open_metrics_is_for_those_that_prefer_it() {
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,\
                          text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        for (accept, format) in [
            ("", Format::Prometheus),
            ("*/*", Format::Prometheus),
            ("text/html,application/xhtml+xml,*/*;q=0.8", Format::Prometheus),
            (prometheus, Format::OpenMetrics),
            ("application/openmetrics-text", Format::OpenMetrics),
            ("Application/OpenMetrics-Text; Version=\"1.0.0\"; Q=0.2", Format::OpenMetrics),
            ("application/openmetrics-text;q=0", Format::Prometheus),
            ("application/openmetrics-text;version=2.0.0,text/plain;q=0.1", Format::Prometheus),
            ("application/openmetrics-text;q=0.3,text/plain;q=0.4", Format::Prometheus),
            ("application/openmetrics-text;q=high", Format::Prometheus),
            (";;,=,q=,;q", Format::Prometheus),
        ] {
            assert_eq!(Format::preferred(accept), format, "{accept}");
        }
    }

    #[test]
    fn labels_are_plain_and_differ() {
        let check = |tags: &[(&str, &str)], longer, expected: &[&str]| {
            let names: Vec<String> = labels(tags, "le", longer).into_iter().map(|(name, _)| name).collect();
            assert_eq!(names, expected, "{tags:?}");
        };
        check(&[("agent", ""), ("le", ""), ("9", "")], 0, &["agent", "le_", "_9"]);
        check(&[("a.b", ""), ("a-b", ""), ("a_b", "")], 0, &["a_b_", "a_b__", "a_b"]);
        check(&[("a.b", ""), ("a_b", "")], 2, &["a_b__", "a_b"]);
        check(&[("__name__", ""), ("", ""), ("é", "")], 0, &["_name__", "_", "__"]);
    }
}
