use std::fmt;

use serde_json::Value as Json;

use crate::doc::Kind;
use crate::path::{Dotted, pointer};
use crate::tree::{Tree, Value};

/// One key that differs between two configurations. Secrets show as asterisks on both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    path: Vec<String>,
    before: Option<Json>,
    after: Option<Json>,
}

impl Change {
    /// The key, as in `db.pool_size`; empty where the whole was replaced.
    pub fn path(&self) -> String {
        Dotted(&self.path).to_string()
    }

    /// The key as a JSON pointer.
    pub fn pointer(&self) -> String {
        pointer(&self.path)
    }

    /// What it was; `None` if the key is new.
    pub fn before(&self) -> Option<&Json> {
        self.before.as_ref()
    }

    /// What it is; `None` if the key is gone.
    pub fn after(&self) -> Option<&Json> {
        self.after.as_ref()
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = Dotted(&self.path);
        match (&self.before, &self.after) {
            (Some(before), Some(after)) => write!(f, "{path}: {before} -> {after}"),
            (None, Some(after)) => write!(f, "{path}: added {after}"),
            (Some(before), None) => write!(f, "{path}: removed {before}"),
            (None, None) => write!(f, "{path}"),
        }
    }
}

/// A value that differs between two trees.
pub(crate) struct Spot<'t> {
    pub(crate) path: Vec<&'t str>,
    before: Option<Value<'t>>,
    after: Option<Value<'t>>,
}

impl Spot<'_> {
    /// What is told of it, by what is secret by now.
    pub(crate) fn change(&self) -> Change {
        let Spot { path, before, after } = self;
        // A secret that became none, or the reverse, shows neither side.
        let secret = [before, after].into_iter().flatten().any(|value| value.is_secret());
        let shown = |value: Value<'_>| if secret { Json::from(crate::tree::MASK) } else { value.to_json() };
        let path = path.iter().map(|key| (*key).to_owned()).collect();
        Change { path, before: before.map(shown), after: after.map(shown) }
    }
}

impl Tree {
    /// What differs in `after`: tables are compared key by key, everything else is taken whole.
    pub fn diff(&self, after: &Tree) -> Vec<Change> {
        spots(self, after).iter().map(Spot::change).collect()
    }
}

pub(crate) fn spots<'t>(before: &'t Tree, after: &'t Tree) -> Vec<Spot<'t>> {
    let mut found = Vec::new();
    compare(before.root(), after.root(), &mut Vec::new(), &mut found);
    found
}

fn compare<'t>(one: Value<'t>, two: Value<'t>, path: &mut Vec<&'t str>, out: &mut Vec<Spot<'t>>) {
    if one.shares(two) {
        return;
    }
    if one.kind() != Kind::Object || two.kind() != Kind::Object {
        if one != two {
            out.push(Spot { path: path.clone(), before: Some(one), after: Some(two) });
        }
        return;
    }
    let at = |path: &[&'t str], key: &'t str| path.iter().copied().chain([key]).collect();
    let mut common = 0;
    // Keys mostly stand in the same order in both.
    let mut others = two.entries();
    for (key, value) in one.entries() {
        let beside = others.next().filter(|(other, _)| *other == key).map(|(_, other)| other);
        let Some(other) = beside.or_else(|| two.get(key)) else {
            out.push(Spot { path: at(path, key), before: Some(value), after: None });
            continue;
        };
        common += 1;
        path.push(key);
        compare(value, other, path, out);
        path.pop();
    }
    if common == two.len() {
        return;
    }
    for (key, value) in two.entries().filter(|(key, _)| one.get(key).is_none()) {
        out.push(Spot { path: at(path, key), before: None, after: Some(value) });
    }
}
