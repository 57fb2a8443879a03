use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, Utc};

/// Which alerts are meant: those whose label is, or is not, this.
///
/// A label that an alert does not have is the same as an empty one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Matcher {
    pub(crate) label: String,
    pub(crate) value: String,
    pub(crate) is: bool,
}

impl Matcher {
    /// The label has this value.
    pub fn is(label: impl Into<String>, value: impl Into<String>) -> Self {
        Matcher { label: label.into(), value: value.into(), is: true }
    }

    /// The label has another value, or is not there.
    pub fn is_not(label: impl Into<String>, value: impl Into<String>) -> Self {
        Matcher { label: label.into(), value: value.into(), is: false }
    }

    fn fits(&self, labels: &BTreeMap<String, String>) -> bool {
        (labels.get(&self.label).map_or("", String::as_str) == self.value) == self.is
    }
}

/// Whether all of them fit.
pub(crate) fn fit(matchers: &[Matcher], labels: &BTreeMap<String, String>) -> bool {
    matchers.iter().all(|matcher| matcher.fits(labels))
}

/// Alerts that are not told for some time: [`AlertEngine::silence`](crate::AlertEngine::silence).
///
/// They still fire. Of an alert that was told as firing before, the end is told all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Silence {
    /// What to call it by. No other is given the number, also after a restart where the engine has a file.
    pub id: u64,
    /// Which alerts: those that all of these fit.
    pub matchers: Vec<Matcher>,
    /// When it was made.
    pub from: DateTime<Utc>,
    /// When it ends.
    pub until: DateTime<Utc>,
    /// Who asked for it.
    pub by: String,
    /// Why.
    pub comment: String,
}

/// Keeps alerts quiet while others fire that explain them.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use]
pub struct Inhibition {
    sources: Vec<Matcher>,
    targets: Vec<Matcher>,
    equal: Vec<String>,
}

impl Inhibition {
    /// While an alert fires that all of `sources` fit, those that all of `targets` fit are not told. An alert that is both is not kept
    /// quiet.
    pub fn new(
        sources: impl IntoIterator<Item = Matcher>,
        targets: impl IntoIterator<Item = Matcher>,
    ) -> Self {
        let (sources, targets) = (sources.into_iter().collect(), targets.into_iter().collect());
        Inhibition { sources, targets, equal: Vec::new() }
    }

    /// Only those that have the same value in this label. May be given several times.
    pub fn equal(mut self, label: impl Into<String>) -> Self {
        self.equal.push(label.into());
        self
    }

    fn shared<'a>(&self, labels: &'a BTreeMap<String, String>) -> Vec<&'a str> {
        self.equal.iter().map(|label| labels.get(label).map_or("", String::as_str)).collect()
    }
}

/// Inhibitions with what fires at the moment.
pub(crate) struct Inhibited<'a>(Vec<(&'a Inhibition, HashSet<Vec<&'a str>>)>);

impl<'a> Inhibited<'a> {
    pub(crate) fn by(
        inhibitions: &'a [Inhibition],
        firing: impl Iterator<Item = &'a BTreeMap<String, String>> + Clone,
    ) -> Self {
        let sources = |inhibition: &'a Inhibition| {
            firing
                .clone()
                .filter(|labels| fit(&inhibition.sources, labels))
                .map(|labels| inhibition.shared(labels))
                .collect()
        };
        Inhibited(inhibitions.iter().map(|inhibition| (inhibition, sources(inhibition))).collect())
    }

    pub(crate) fn has(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().any(|(inhibition, firing)| {
            fit(&inhibition.targets, labels)
                && !fit(&inhibition.sources, labels)
                && firing.contains(&inhibition.shared(labels))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_explains_others_is_not_explained_by_itself() {
        let labels = |name: &str| {
            BTreeMap::from([("alertname", name), ("host", "a")].map(|(k, v)| (k.to_owned(), v.to_owned())))
        };
        let (down, slow) = (labels("down"), labels("slow"));
        let inhibitions = [Inhibition::new([Matcher::is("alertname", "down")], [Matcher::is("host", "a")])];
        let inhibited = Inhibited::by(&inhibitions, [&down, &slow].into_iter());
        assert_eq!((inhibited.has(&down), inhibited.has(&slow)), (false, true));
    }
}
