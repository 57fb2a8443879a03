//! What a schema marks as secret, and where that stands in the sources.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use serde_json::Value as Json;

use super::guard::Refs;
use crate::doc::{Kind, Node};
use crate::error::{Error, ErrorKind, Result};
use crate::path::Pattern;
use crate::source::Source;
use crate::tree::{Ref, Tree};

/// How deep marks are looked for. What may hold one further down is secret as a whole.
const DEPTH: usize = 16;
/// How many places are looked at where a secret may be.
const PLACES: usize = 10_000;

/// The paths that a schema marks as `writeOnly`, or as a `password` by format.
pub(super) fn secrets<'s>(refs: &Refs<'s>, schema: &'s Json) -> Result<Vec<Pattern>> {
    let mut walk = Walk { holding: holding(refs, schema), refs, places: 0, found: Vec::new() };
    walk.look(schema, &mut Vec::new())?;
    Ok(walk.found)
}

fn is_mark(schema: &Json) -> bool {
    schema["writeOnly"] == true || schema["format"] == "password"
}

/// The schemas for the values below one, with the key that each has.
fn below(schema: &Json) -> Vec<(String, &Json)> {
    let any = || "*".to_owned();
    let mut found = Vec::new();
    for (key, field) in schema["properties"].as_object().into_iter().flatten() {
        found.push((key.clone(), field));
    }
    let patterns = schema["patternProperties"].as_object().into_iter().flatten();
    found.extend(patterns.map(|(_, field)| (any(), field)));
    for keyword in ["prefixItems", "items"] {
        let items = schema[keyword].as_array().into_iter().flatten();
        found.extend(items.enumerate().map(|(position, item)| (position.to_string(), item)));
    }
    for keyword in [
        "additionalProperties",
        "unevaluatedProperties",
        "items",
        "additionalItems",
        "unevaluatedItems",
        "contains",
    ] {
        found.extend(schema.get(keyword).filter(|below| below.is_object()).map(|below| (any(), below)));
    }
    found
}

/// The schemas that are marked, or that lead to one which is.
fn holding<'s>(refs: &Refs<'s>, schema: &'s Json) -> HashSet<*const Json> {
    let mut from: HashMap<*const Json, Vec<*const Json>> = HashMap::new();
    let mut seen = HashSet::from([std::ptr::from_ref(schema)]);
    let mut open = vec![schema];
    let mut marks = Vec::new();
    while let Some(part) = open.pop() {
        if is_mark(part) {
            marks.push(std::ptr::from_ref(part));
        }
        for next in below(part).into_iter().map(|(_, next)| next).chain(refs.in_place(part, true)) {
            from.entry(next).or_default().push(part);
            if seen.insert(next) {
                open.push(next);
            }
        }
    }
    let mut holding = HashSet::new();
    while let Some(part) = marks.pop() {
        if holding.insert(part) {
            marks.extend(from.get(&part).into_iter().flatten());
        }
    }
    holding
}

struct Walk<'r, 's> {
    refs: &'r Refs<'s>,
    holding: HashSet<*const Json>,
    places: usize,
    found: Vec<Pattern>,
}

impl<'s> Walk<'_, 's> {
    fn look(&mut self, schema: &'s Json, path: &mut Vec<String>) -> Result<()> {
        if !self.holding.contains(&std::ptr::from_ref(schema)) {
            return Ok(());
        }
        self.places += 1;
        if self.places > PLACES {
            let message = format!("the schema may mark secrets in more than {PLACES} places");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        if is_mark(schema) || path.len() == DEPTH {
            self.found.push(Pattern(path.clone()));
            return Ok(());
        }
        for (key, part) in below(schema) {
            path.push(key);
            self.look(part, path)?;
            path.pop();
        }
        for part in self.refs.in_place(schema, true) {
            self.look(part, path)?;
        }
        Ok(())
    }
}

/// Where secrets stand in the sources, in every layer.
pub(super) fn masked(tree: &Tree, layers: &[Ref], secrets: &[Pattern]) -> Arc<[(Arc<Source>, Range<usize>)]> {
    let mut found = Vec::new();
    for root in layers.iter().copied().chain([tree.root]) {
        for pattern in secrets {
            tree.value(root).matching(&pattern.0, &mut |value| {
                value.each(&mut |value| {
                    if !matches!(value.kind(), Kind::Array | Kind::Object) {
                        found.push(value.place());
                    }
                })
            });
        }
    }
    tree.root().each(&mut |value| {
        if !tree.docs.is_empty() && value.node().is_some_and(Node::is_secret) {
            found.push(value.place());
        }
    });
    found.into()
}
