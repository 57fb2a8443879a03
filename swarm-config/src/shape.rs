//! Which keys there can be and of what kind, from a schema, from the type that is loaded, or from the layers.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;

use crate::doc::Kind;
use crate::path::Pattern;
use crate::validate::{Schema, Step};

mod probe;

use probe::{Probe, Wanted};

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Shape {
    pub(crate) kind: Option<Kind>,
    pub(crate) fields: BTreeMap<String, Shape>,
    /// For a list: of what.
    pub(crate) items: Option<Box<Shape>>,
    pub(crate) default: Option<serde_json::Value>,
    /// The key that a deprecated one was replaced by.
    pub(crate) renamed: Option<String>,
}

/// Types and schemas may hold themselves; no configuration goes deeper than this by hand.
const DEPTH: usize = 8;
/// Where what holds itself branches, fewer levels are looked at instead of more keys than this.
const KEYS: usize = 10_000;
/// Any item of a list, any key of a map.
const ANY: &str = "*";

impl Shape {
    pub(crate) const NOTHING: Shape =
        Shape { kind: None, fields: BTreeMap::new(), items: None, default: None, renamed: None };

    /// Adds what another one knows. What is there already stays.
    pub(crate) fn learn(&mut self, other: Shape) {
        self.kind = self.kind.or(other.kind);
        self.default = self.default.take().or(other.default);
        self.renamed = self.renamed.take().or(other.renamed);
        if self.items.is_none() {
            self.items = other.items;
        }
        if self.fields.is_empty() {
            self.fields = other.fields;
            return;
        }
        for (key, shape) in other.fields {
            match self.fields.entry(key) {
                Entry::Vacant(new) => drop(new.insert(shape)),
                Entry::Occupied(mut known) => known.get_mut().learn(shape),
            }
        }
    }

    /// What a schema says of the keys that it names.
    pub(crate) fn of_schema(schema: &Schema<'_>) -> Shape {
        if schema.parts().is_empty() {
            return Shape::default();
        }
        let within = |depth: usize| of_schema(schema, 0, depth, &mut { KEYS });
        (1..=DEPTH + 1).rev().find_map(within).unwrap_or_default()
    }

    /// What a type says of itself when it is asked to read nothing, and where it holds a [`Secret`](crate::Secret).
    pub(crate) fn of_type<'de, T: Deserialize<'de>>() -> (Shape, Vec<Pattern>) {
        let mut shape = Shape::default();
        let mut secrets = Vec::new();
        let mut open = VecDeque::from([(Vec::new(), true)]);
        // Each type is asked once for a struct at each path, so this ends; the bounds are for types that hold
        // themselves. The shallow paths come first, so that those are the ones to be known.
        for _ in 0..KEYS {
            let Some((path, settable)) = open.pop_front() else { break };
            let mut found = Wanted::default();
            let _ = T::deserialize(Probe { way: &path, found: &mut found });
            if found.secret {
                secrets.push(Pattern(path.iter().map(|part| (*part).to_owned()).collect()));
                continue;
            }
            if path.len() < DEPTH {
                let fields = found.fields.iter().map(|field| (*field, settable));
                // What is in a list, a map of any keys or a variant has no path to set it by.
                let others = found.variants.iter().copied().chain(found.many.then_some(ANY));
                let below = fields.chain(others.map(|part| (part, false)));
                open.extend(below.map(|(part, settable)| {
                    (path.iter().copied().chain([part]).collect::<Vec<_>>(), settable)
                }));
            }
            if !settable {
                continue;
            }
            let place = path.iter().fold(&mut shape, |shape, key: &&'static str| {
                shape.fields.entry((*key).to_owned()).or_default()
            });
            place.kind = found.kind;
            if found.list {
                place.items = Some(Box::new(Shape { kind: found.item, ..Shape::default() }));
            }
            for field in found.fields {
                place.fields.entry((*field).to_owned()).or_default();
            }
        }
        (shape, secrets)
    }

    /// Whether there may be something at a path in which `*` stands for any one key. What is known of no keys, but to be a
    /// table or a list, may have any.
    pub(crate) fn may_have(&self, pattern: &[String]) -> bool {
        let Some((key, rest)) = pattern.split_first() else { return true };
        match key == ANY {
            _ if self.fields.is_empty() => self.kind.is_some(),
            true => self.fields.values().any(|field| field.may_have(rest)),
            false => self.fields.get(key).is_some_and(|field| field.may_have(rest)),
        }
    }

    pub(crate) fn walk(&self, path: &[String]) -> Option<&Shape> {
        path.iter().try_fold(self, |shape, key| shape.fields.get(key))
    }

    /// Every path, and what is known of it.
    pub(crate) fn each(&self, path: &mut Vec<String>, found: &mut dyn FnMut(&[String], &Shape)) {
        for (key, shape) in &self.fields {
            path.push(key.clone());
            found(path, shape);
            shape.each(path, found);
            path.pop();
        }
    }
}

/// Nothing if there are more than `keys` within `depth` levels.
fn of_schema(schema: &Schema<'_>, at: usize, depth: usize, keys: &mut usize) -> Option<Shape> {
    let mut shape = Shape::default();
    let Some(depth) = depth.checked_sub(1) else { return Some(shape) };
    *keys = keys.checked_sub(1)?;
    let part = &schema.parts()[at];
    shape.kind = match &part.text["type"] {
        serde_json::Value::String(name) => kind_of(name),
        serde_json::Value::Array(names) => {
            let mut names = names.iter().filter_map(|name| name.as_str()).filter(|name| *name != "null");
            names.next().filter(|_| names.next().is_none()).and_then(kind_of)
        }
        _ => None,
    };
    shape.default = part.text.get("default").cloned();
    shape.renamed =
        part.text["x-renamed-to"].as_str().filter(|_| part.text["deprecated"] == true).map(str::to_owned);
    for (step, next) in &part.below {
        match step {
            Step::Key(key) => {
                shape.fields.insert((*key).to_owned(), of_schema(schema, *next, depth, keys)?);
            }
            Step::Item => shape.items = Some(Box::new(of_schema(schema, *next, depth, keys)?)),
            Step::Matching(_) | Step::OtherKey | Step::Position(_) | Step::Some => {}
        }
    }
    for next in part.also.iter().chain(&part.ways) {
        shape.learn(of_schema(schema, *next, depth, keys)?);
    }
    Some(shape)
}

fn kind_of(name: &str) -> Option<Kind> {
    Some(match name {
        "string" => Kind::String,
        "integer" => Kind::Integer,
        "number" => Kind::Float,
        "boolean" => Kind::Bool,
        "array" => Kind::Array,
        "object" => Kind::Object,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(dead_code, reason = "only their shape is read")]
    use super::*;

    #[derive(Deserialize)]
    struct Settings {
        name: String,
        db: Db,
        #[serde(rename = "max-retries")]
        retries: Option<u8>,
        hosts: Vec<std::net::IpAddr>,
        next: Option<Box<Settings>>,
    }

    #[derive(Deserialize)]
    struct Db {
        pool_size: u32,
        ratio: f64,
    }

    #[test]
    fn a_type_tells_its_keys_and_their_kinds() {
        let (shape, _) = Shape::of_type::<Settings>();
        let at = |path: &str| shape.walk(&crate::path::parse(path).unwrap()).and_then(|shape| shape.kind);
        assert_eq!(at("name"), Some(Kind::String));
        assert_eq!(at("db.pool_size"), Some(Kind::Integer));
        assert_eq!(at("db.ratio"), Some(Kind::Float));
        assert_eq!(at("max-retries"), Some(Kind::Integer));
        assert_eq!(at("hosts"), Some(Kind::Array));
        assert_eq!(at("next.next.db"), Some(Kind::Object));
        assert_eq!(at("retries"), None);
    }

    #[derive(Deserialize)]
    struct Hidden {
        plain: String,
        password: crate::Secret<String>,
        maybe: Option<crate::Secret<Vec<u8>>>,
        users: Vec<User>,
        tokens: std::collections::BTreeMap<String, crate::Secret<String>>,
        next: Option<Box<Hidden>>,
    }

    #[derive(Deserialize)]
    struct User {
        name: String,
        key: crate::Secret<String>,
    }

    #[test]
    fn a_type_tells_where_its_secrets_are() {
        let (_, secrets) = Shape::of_type::<Hidden>();
        let secrets: Vec<String> = secrets.iter().map(|path| path.0.join(".")).collect();
        for path in ["password", "maybe", "users.*.key", "tokens.*", "next.password", "next.next.users.*.key"]
        {
            assert!(secrets.iter().any(|secret| secret == path), "{path} is not in {secrets:?}");
        }
        assert!(!secrets.iter().any(|path| path.ends_with("plain") || path.ends_with("name")), "{secrets:?}");
    }
}
