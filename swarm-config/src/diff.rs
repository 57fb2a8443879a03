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

impl Tree {
    /// What differs in `after`: tables are compared key by key, everything else is taken whole.
    pub fn diff(&self, after: &Tree) -> Vec<Change> {
        let mut changes = Vec::new();
        compare(Some(self.root()), Some(after.root()), &mut Vec::new(), &mut changes);
        changes
    }
}

fn compare(
    before: Option<Value<'_>>,
    after: Option<Value<'_>>,
    path: &mut Vec<String>,
    out: &mut Vec<Change>,
) {
    if let (Some(one), Some(two)) = (before, after) {
        if one.shares(two) {
            return;
        }
        if one.kind() == Kind::Object && two.kind() == Kind::Object {
            for (key, value) in one.entries() {
                path.push(key.to_owned());
                compare(Some(value), two.get(key), path, out);
                path.pop();
            }
            for (key, value) in two.entries().filter(|(key, _)| one.get(key).is_none()) {
                path.push(key.to_owned());
                compare(None, Some(value), path, out);
                path.pop();
            }
            return;
        }
        if one == two {
            return;
        }
    }
    // A secret that became none, or the reverse, shows neither side.
    let secret = [before, after].into_iter().flatten().any(Value::is_secret);
    let shown = |value: Value<'_>| if secret { Json::from(crate::tree::MASK) } else { value.to_json() };
    out.push(Change { path: path.clone(), before: before.map(shown), after: after.map(shown) });
}
