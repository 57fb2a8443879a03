use chrono::{DateTime, Utc};

use crate::sink::Tags;
use crate::table::{MOST_TAGS, cut};

/// Something that happened once: recorded as [`Measurement::Event`](crate::Measurement::Event), read with
/// [`PerformanceMonitor::events`](crate::PerformanceMonitor::events).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// When, to the second.
    pub time: DateTime<Utc>,
    /// The metric it was recorded under.
    pub metric: String,
    /// What was said. Cut after 1,024 bytes.
    pub text: String,
    /// Its tags as they were given, the first 64 of them.
    pub tags: Vec<(String, String)>,
}

impl Event {
    pub(crate) fn new(time: DateTime<Utc>, metric: &str, text: &str, tags: Tags<'_>) -> Self {
        let cut = |text: &str| cut(text).to_owned();
        Event {
            time,
            metric: cut(metric),
            text: cut(text),
            tags: tags.iter().take(MOST_TAGS).map(|(key, value)| (cut(key), cut(value))).collect(),
        }
    }
}
