use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::export::labels;
use crate::metric::MetricKind;
use crate::series::Series;
use crate::sink::Tags;
use crate::sketch::MOST;
use crate::table::canonical;

/// One value that was recorded, with labels that lead to where it came from.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Exemplar {
    pub(crate) value: f64,
    /// In seconds since 1970.
    pub(crate) time: u64,
    /// As OpenMetrics allows them, in order.
    pub(crate) labels: Vec<(String, String)>,
}

/// OpenMetrics 1.0: so many characters are in names and values of an exemplar's labels at most.
const LONGEST: usize = 128;

impl Exemplar {
    /// `None` for labels that are none, or more than an exemplar may have.
    pub(crate) fn new(value: f64, time: u64, given: Tags<'_>) -> Option<Self> {
        let mut labels = labels(&canonical(given), "", 0);
        labels.sort();
        let characters = |(name, value): &(String, String)| name.chars().count() + value.chars().count();
        let fits = labels.iter().map(characters).sum::<usize>() <= LONGEST;
        (fits && !labels.is_empty()).then_some(Exemplar { value, time, labels })
    }
}

/// The last exemplar of each bucket of a series; a counter has one.
#[derive(Debug, Default)]
pub(crate) struct Exemplars(Mutex<Vec<Option<Exemplar>>>);

impl Exemplars {
    pub(crate) fn put(&self, bucket: usize, exemplar: Exemplar) {
        let mut all = self.lock();
        if bucket >= all.len() {
            all.resize(bucket + 1, None);
        }
        all[bucket] = Some(exemplar);
    }

    /// Whatever the bounds were when they came.
    pub(crate) fn all(&self) -> Vec<Exemplar> {
        self.lock().iter().flatten().cloned().collect()
    }

    /// Bytes that they take.
    pub(crate) fn memory(&self) -> usize {
        let all = self.lock();
        let text = |text: &String| text.capacity() + size_of::<String>();
        let one = |exemplar: &Exemplar| {
            exemplar.labels.iter().map(|(name, value)| text(name) + text(value)).sum::<usize>()
        };
        size_of::<Self>()
            + all.capacity() * size_of::<Option<Exemplar>>()
            + all.iter().flatten().map(one).sum::<usize>()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Exemplar>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Series {
    /// Keeps where a value came from that was recorded here. Of a gauge it does not.
    pub(crate) fn link(&self, value: f64, labels: Tags<'_>) {
        let bucket = match self.about.kind {
            MetricKind::Counter | MetricKind::Event => 0,
            MetricKind::Histogram if value.abs() <= MOST => self.about.bucket(value),
            MetricKind::Histogram | MetricKind::Gauge => return,
        };
        if let Some(exemplar) = Exemplar::new(value, self.now(), labels) {
            self.exemplars.get_or_init(Box::default).put(bucket, exemplar);
        }
    }

    /// Where some of its values came from.
    pub(crate) fn exemplars(&self) -> Vec<Exemplar> {
        self.exemplars.get().map_or_else(Vec::new, |exemplars| exemplars.all())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_what_openmetrics_allows() {
        let check = |given: Tags<'_>, expected: Option<&[(&str, &str)]>| {
            let made = Exemplar::new(1.0, 0, given);
            let labels = made.as_ref().map(|exemplar| {
                exemplar.labels.iter().map(|(name, value)| (&**name, &**value)).collect::<Vec<_>>()
            });
            assert_eq!(labels.as_deref(), expected, "{given:?}");
        };
        check(&[("trace_id", "a"), ("span_id", "b")], Some(&[("span_id", "b"), ("trace_id", "a")]));
        check(&[("trace.id", "a"), ("trace_id", "")], Some(&[("trace_id", "a")]));
        check(&[("a", "1"), ("a", "2")], Some(&[("a", "2")]));
        check(&[], None);
        check(&[("a", "")], None);
        // Characters, not bytes.
        let (fits, long) = ("é".repeat(127), "é".repeat(128));
        check(&[("a", &fits)], Some(&[("a", &fits)]));
        check(&[("a", &long)], None);
    }
}
