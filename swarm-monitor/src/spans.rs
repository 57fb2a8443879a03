use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tracing::Subscriber;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use crate::sink::MetricSink;

/// Turns `tracing` spans into histograms: a layer that records how long each span lasted when it closes.
///
/// The metric is `span_seconds` with the tag `span`, the span's name. Fields become tags only if they are [named](SpanTimes::field), as each
/// value makes a series of its own. Which spans to record is for the filters that `tracing-subscriber` has for every layer.
///
/// ```
/// use swarm_monitor::{PerformanceMonitor, SpanTimes};
/// use tracing_subscriber::prelude::*;
///
/// let monitor = PerformanceMonitor::new();
/// let layer = SpanTimes::new(monitor.clone()).field("agent");
/// let subscriber = tracing_subscriber::registry().with(layer);
/// tracing::subscriber::with_default(subscriber, || {
///     tracing::info_span!("deploy", agent = "Agent-8").in_scope(|| { /* … */ });
/// });
/// let deploys = monitor.select("span_seconds").tag("span", "deploy").tag("agent", "Agent-8");
/// assert_eq!(deploys.total()?.count, 1);
/// # Ok::<(), swarm_monitor::Error>(())
/// ```
#[cfg_attr(docsrs, doc(cfg(feature = "tracing")))]
#[derive(Debug, Clone)]
pub struct SpanTimes<S> {
    /// Tells layers of one subscriber apart.
    number: u64,
    sink: S,
    metric: String,
    busy: Option<String>,
    fields: Vec<String>,
}

fn number() -> u64 {
    static LAST: AtomicU64 = AtomicU64::new(0);
    LAST.fetch_add(1, Ordering::Relaxed)
}

impl<S: MetricSink> SpanTimes<S> {
    /// Records into `sink`, which a [`PerformanceMonitor`](crate::PerformanceMonitor) is.
    pub fn new(sink: S) -> Self {
        SpanTimes {
            number: number(),
            sink,
            metric: "span_seconds".to_owned(),
            busy: None,
            fields: Vec::new(),
        }
    }

    /// Records under another name, which ends in `_seconds` by custom.
    #[must_use]
    pub fn metric(mut self, metric: impl Into<String>) -> Self {
        self.metric = metric.into();
        self
    }

    /// Records as well, under this name, for how long the span was entered: without the time that a future waited.
    #[must_use]
    pub fn busy(mut self, metric: impl Into<String>) -> Self {
        self.busy = Some(metric.into());
        self
    }

    /// Makes a tag of this field in spans that have it, of the value it has last.
    #[must_use]
    pub fn field(mut self, name: impl Into<String>) -> Self {
        self.fields.push(name.into());
        self
    }
}

/// What a span carries until it closes, of each layer.
struct Timings(Vec<Timing>);

struct Timing {
    layer: u64,
    created: Instant,
    entered: Option<Instant>,
    /// A span can be entered again while it is.
    depth: usize,
    busy: Duration,
    tags: Vec<(&'static str, String)>,
}

impl<C, S> Layer<C> for SpanTimes<S>
where
    C: Subscriber + for<'a> LookupSpan<'a>,
    S: MetricSink + 'static,
{
    fn on_layer(&mut self, _: &mut C) {
        // A clone is another layer.
        self.number = number();
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, C>) {
        let Some(span) = context.span(id) else { return };
        let mut tags = Vec::new();
        if !self.fields.is_empty() {
            attributes.record(&mut Tagger { wanted: &self.fields, tags: &mut tags });
        }
        let (layer, created) = (self.number, Instant::now());
        let timing = Timing { layer, created, entered: None, depth: 0, busy: Duration::ZERO, tags };
        let mut extensions = span.extensions_mut();
        match extensions.get_mut::<Timings>() {
            Some(Timings(all)) => all.push(timing),
            None => extensions.insert(Timings(vec![timing])),
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, C>) {
        if self.fields.is_empty() {
            return;
        }
        self.timing(id, &context, |timing| {
            values.record(&mut Tagger { wanted: &self.fields, tags: &mut timing.tags });
        });
    }

    fn on_enter(&self, id: &Id, context: Context<'_, C>) {
        if self.busy.is_none() {
            return;
        }
        self.timing(id, &context, |timing| {
            timing.depth += 1;
            timing.entered.get_or_insert_with(Instant::now);
        });
    }

    fn on_exit(&self, id: &Id, context: Context<'_, C>) {
        if self.busy.is_none() {
            return;
        }
        self.timing(id, &context, |timing| {
            timing.depth = timing.depth.saturating_sub(1);
            if timing.depth == 0
                && let Some(entered) = timing.entered.take()
            {
                timing.busy += entered.elapsed();
            }
        });
    }

    fn on_close(&self, id: Id, context: Context<'_, C>) {
        let Some(span) = context.span(&id) else { return };
        let taken = span.extensions_mut().get_mut().and_then(|Timings(all)| {
            let mine = all.iter().position(|timing| timing.layer == self.number)?;
            Some(all.swap_remove(mine))
        });
        let Some(timing) = taken else { return };
        let lasted = timing.created.elapsed();
        let mut tags = vec![("span", span.name())];
        tags.extend(timing.tags.iter().map(|(name, value)| (*name, value.as_str())));
        self.sink.record(&self.metric, lasted.as_secs_f64().into(), &tags);
        if let Some(busy) = &self.busy {
            self.sink.record(busy, timing.busy.as_secs_f64().into(), &tags);
        }
    }
}

impl<S: MetricSink> SpanTimes<S> {
    fn timing<C>(&self, id: &Id, context: &Context<'_, C>, change: impl FnOnce(&mut Timing))
    where
        C: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Some(span) = context.span(id) else { return };
        if let Some(Timings(all)) = span.extensions_mut().get_mut()
            && let Some(timing) = all.iter_mut().find(|timing| timing.layer == self.number)
        {
            change(timing);
        }
    }
}

/// Takes the fields that are wanted.
struct Tagger<'a> {
    wanted: &'a [String],
    tags: &'a mut Vec<(&'static str, String)>,
}

impl Visit for Tagger<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if self.wanted.iter().any(|name| name == field.name()) {
            self.tags.retain(|(name, _)| *name != field.name());
            self.tags.push((field.name(), value.to_owned()));
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if self.wanted.iter().any(|name| name == field.name()) {
            self.record_str(field, &format!("{value:?}"));
        }
    }
}
