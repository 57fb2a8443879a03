use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::export::{free, labels, plain};
use crate::metric::{MetricInfo, MetricKind};
use crate::series::Series;
use crate::table::{Metric, Table};

/// A metric under the name that Prometheus has for it.
pub(crate) struct Family {
    /// With the unit, without `_total`.
    pub(crate) name: String,
    /// What `name` ends in, where the metric has a unit.
    pub(crate) unit: String,
    pub(crate) info: MetricInfo,
    metric: Arc<Metric>,
}

/// Counts records that are in no series.
pub(crate) const LEFT_OUT: &str = "swarm_monitor_left_out_records";
/// What it is, in a sentence.
pub(crate) const LEFT_OUT_HELP: &str = "Records that are in no series, by the reason.";

/// What was refused, or came as another kind, of each metric; and what came of too many metrics: with its labels, sorted by name.
pub(crate) fn left_out(table: &Table) -> Vec<(Vec<(String, String)>, u64)> {
    let label = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let mut samples = Vec::new();
    for metric in table.all() {
        let about = &metric.about;
        for (why, n) in [("mismatched", &about.mismatched), ("refused", &about.refused)] {
            let n = n.own();
            samples.push((vec![label("metric", &about.name), label("why", why)], n));
        }
    }
    samples.push((vec![label("why", "too many metrics")], table.lost.own()));
    samples.retain(|(_, n)| *n > 0);
    samples
}

/// Every metric by its name, under names that no two share, whatever the metrics are called.
///
/// Names that Prometheus allows stay as they are, unless one is what another's samples are called; then it gets an underscore.
pub(crate) fn families(table: &Table) -> Vec<Family> {
    let mut taken: HashSet<String> = samples(LEFT_OUT, MetricKind::Counter).collect();
    let mut families: Vec<Family> = table
        .all()
        .into_iter()
        .map(|metric| {
            let info = metric.about.info(metric.len(), 0);
            let unit = if info.description.unit.is_empty() {
                String::new()
            } else {
                plain(&info.description.unit, &['_']).trim_start_matches('_').to_owned()
            };
            Family { name: String::new(), unit, info, metric }
        })
        .collect();
    // What is right already comes first, and keeps its name.
    families.sort_by_key(|family| plain(&family.info.name, ALLOWED) != *family.info.name);
    // By how much the last one was longer of those that look alike, as all that are less so are taken.
    let mut longest: HashMap<(String, String, MetricKind), usize> = HashMap::new();
    for family in &mut families {
        let (kind, base) = (family.info.kind, family.base());
        let clashes =
            |name: &str| samples(&family.with_unit(name), kind).any(|sample| taken.contains(&sample));
        let longer = longest.entry((base.clone(), family.unit.clone(), kind)).or_default();
        let name = free(base.clone() + &"_".repeat(*longer), clashes);
        *longer = name.len() - base.len();
        family.name = family.with_unit(&name);
        taken.extend(samples(&family.name, kind));
    }
    families.sort_by(|a, b| a.name.cmp(&b.name));
    families
}

/// Besides letters and digits, in names of metrics.
const ALLOWED: &[char] = &['_', ':'];

/// Every name that samples of a family may have in OpenMetrics, and its own.
fn samples(name: &str, kind: MetricKind) -> impl Iterator<Item = String> + use<> {
    let endings: &[&str] = match kind {
        MetricKind::Counter | MetricKind::Event => &["", "_total", "_created"],
        MetricKind::Gauge => &[""],
        MetricKind::Histogram => &["", "_bucket", "_count", "_sum", "_created"],
    };
    let name = name.to_owned();
    endings.iter().map(move |ending| format!("{name}{ending}"))
}

impl Family {
    /// What the samples of a counter or a gauge are called.
    pub(crate) fn sample(&self) -> String {
        if self.info.kind.counts() { format!("{}_total", self.name) } else { self.name.clone() }
    }

    /// Its series with their labels, in the order of these; no two are the same.
    pub(crate) fn series(&self) -> Vec<(Vec<(String, String)>, Arc<Series>)> {
        let reserved = if self.info.kind == MetricKind::Histogram { "le" } else { "" };
        let mut series: Vec<(Vec<(&str, &str)>, bool, &Arc<Series>)> = Vec::new();
        let all = self.metric.select(&[]);
        for one in &all {
            let tags: Vec<(&str, &str)> = one.tags.iter().map(|(name, value)| (&**name, &**value)).collect();
            let changed = labels(&tags, reserved, 0).iter().zip(&tags).any(|(label, tag)| label.0 != tag.0);
            series.push((tags, changed, one));
        }
        // Those whose names are right come first, and keep them.
        series.sort_by(|a, b| (a.1, &a.0).cmp(&(b.1, &b.0)));
        let mut labelled = BTreeMap::new();
        // By how much the last one was longer of those that look alike, as all that are less so are taken.
        let mut longest: HashMap<Vec<(String, String)>, usize> = HashMap::new();
        for (tags, changed, one) in series {
            let sorted = |longer| {
                let mut labels = labels(&tags, reserved, longer);
                // Only the overflow series has the very tags of another.
                if let (false, Some(last)) = (changed, labels.last_mut()) {
                    last.0.push_str(&"_".repeat(longer));
                }
                labels.sort();
                labels
            };
            let longer = longest.entry(sorted(0)).or_default();
            while labelled.contains_key(&sorted(*longer)) {
                *longer += 1;
            }
            labelled.insert(sorted(*longer), one.clone());
        }
        labelled.into_iter().collect()
    }

    /// Its metric's name with what is not allowed replaced.
    fn base(&self) -> String {
        let name = plain(&self.info.name, ALLOWED);
        match name.strip_suffix("_total") {
            Some(rest) if self.info.kind.counts() && !rest.is_empty() => rest.to_owned(),
            _ => name,
        }
    }

    fn with_unit(&self, name: &str) -> String {
        let has = name.strip_suffix(&*self.unit).is_some_and(|rest| rest.is_empty() || rest.ends_with('_'));
        if self.unit.is_empty() || has { name.to_owned() } else { format!("{name}_{}", self.unit) }
    }
}
