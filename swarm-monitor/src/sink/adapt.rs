use std::collections::HashMap;
use std::fmt;

use crate::sink::{Measurement, MetricSink, Tags};

/// Two sinks as one: [`MetricSinkExt::and`](crate::MetricSinkExt::and).
#[derive(Debug, Clone)]
pub struct FanOut<A, B>(A, B);

impl<A, B> FanOut<A, B> {
    pub(crate) fn new(first: A, second: B) -> Self {
        FanOut(first, second)
    }
}

impl<A: MetricSink, B: MetricSink> MetricSink for FanOut<A, B> {
    fn record(&self, metric: &str, measurement: Measurement<'_>, tags: Tags<'_>) {
        self.0.record(metric, measurement, tags);
        self.1.record(metric, measurement, tags);
    }
}

/// A sink behind a condition: [`MetricSinkExt::filter`](crate::MetricSinkExt::filter).
#[derive(Clone)]
pub struct Filter<S, F> {
    sink: S,
    keep: F,
}

impl<S, F> Filter<S, F> {
    pub(crate) fn new(sink: S, keep: F) -> Self {
        Filter { sink, keep }
    }
}

impl<S: MetricSink, F> MetricSink for Filter<S, F>
where
    F: Fn(&str, &Measurement<'_>, Tags<'_>) -> bool + Send + Sync,
{
    fn record(&self, metric: &str, measurement: Measurement<'_>, tags: Tags<'_>) {
        if (self.keep)(metric, &measurement, tags) {
            self.sink.record(metric, measurement, tags);
        }
    }
}

impl<S: fmt::Debug, F> fmt::Debug for Filter<S, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter").field("sink", &self.sink).finish_non_exhaustive()
    }
}

/// A sink that sees other names: [`MetricSinkExt::rename`](crate::MetricSinkExt::rename).
#[derive(Debug, Clone)]
pub struct Rename<S> {
    sink: S,
    names: HashMap<String, String>,
}

impl<S> Rename<S> {
    pub(crate) fn new<I, A, B>(sink: S, names: I) -> Self
    where
        I: IntoIterator<Item = (A, B)>,
        A: Into<String>,
        B: Into<String>,
    {
        Rename { sink, names: names.into_iter().map(|(from, to)| (from.into(), to.into())).collect() }
    }
}

impl<S: MetricSink> MetricSink for Rename<S> {
    fn record(&self, metric: &str, measurement: Measurement<'_>, tags: Tags<'_>) {
        let name = self.names.get(metric).map_or(metric, String::as_str);
        self.sink.record(name, measurement, tags);
    }
}
