//! What is checked of a schema before it is compiled: that its references end, and that it is not a bomb.

use std::collections::HashMap;

use serde_json::Value as Json;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

/// A schema with what its references name.
pub(crate) struct Refs<'s> {
    root: &'s Json,
    /// By `$id`, and by anchor.
    names: HashMap<String, &'s Json>,
}

impl<'s> Refs<'s> {
    pub(crate) fn new(root: &'s Json) -> Refs<'s> {
        let mut names = HashMap::new();
        let mut open = vec![root];
        while let Some(schema) = open.pop() {
            for (keyword, prefix) in [("$id", ""), ("$anchor", "#"), ("$dynamicAnchor", "#")] {
                if let Some(name) = schema[keyword].as_str() {
                    names.entry(format!("{prefix}{}", name.trim_end_matches('#'))).or_insert(schema);
                }
            }
            match schema {
                Json::Object(entries) => open.extend(entries.values()),
                Json::Array(items) => open.extend(items),
                _ => {}
            }
        }
        Refs { root, names }
    }

    /// The subschema that a reference names, if it is in this document.
    pub(super) fn target(&self, reference: &str) -> Option<&'s Json> {
        let (base, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let base = if base.is_empty() { self.root } else { self.names.get(base)? };
        match fragment {
            "" => Some(base),
            pointer if pointer.starts_with('/') => {
                base.pointer(&pointer.replace("%25", "%").replace("%22", "\""))
            }
            anchor => self.names.get(&format!("#{anchor}")).copied(),
        }
    }

    /// The subschemas that apply to the same value as this one.
    pub(crate) fn in_place(&self, schema: &'s Json, alternatives: bool) -> Vec<&'s Json> {
        let mut found = Vec::new();
        for keyword in ["$ref", "$dynamicRef", "$recursiveRef"] {
            found.extend(schema[keyword].as_str().and_then(|reference| self.target(reference)));
        }
        found.extend(schema["allOf"].as_array().into_iter().flatten());
        if alternatives {
            for keyword in ["anyOf", "oneOf"] {
                found.extend(schema[keyword].as_array().into_iter().flatten());
            }
            for keyword in ["not", "if", "then", "else"] {
                found.extend(schema.get(keyword));
            }
            if let Some(dependent) = schema["dependentSchemas"].as_object() {
                found.extend(dependent.values());
            }
        }
        found
    }
}

/// Refuses references that lead back to themselves without going into a value, and schemas that apply too many
/// subschemas to one value.
pub(super) fn check(schema: &Json, limits: &Limits) -> Result<Cost> {
    let mut cost = Cost { subschemas: 0, depth: deep(schema, 0, limits)? };
    let refs = Refs::new(schema);
    let mut counted: HashMap<*const Json, Option<usize>> = HashMap::new();
    let mut open = vec![schema];
    while let Some(part) = open.pop() {
        cost.subschemas = cost.subschemas.max(count(&refs, part, &mut counted, limits, 0)?);
        match part {
            Json::Object(entries) => {
                // What an instance may be is no schema.
                open.extend(
                    entries
                        .iter()
                        .filter(|(key, _)| !matches!(&***key, "const" | "enum" | "default" | "examples"))
                        .map(|(_, part)| part),
                );
            }
            Json::Array(items) => open.extend(items),
            _ => {}
        }
    }
    Ok(cost)
}

/// What a schema was found to take.
pub(super) struct Cost {
    /// Applied to one value, at most.
    subschemas: usize,
    depth: usize,
}

impl Cost {
    pub(super) fn within(&self, limits: &Limits) -> Result<()> {
        if self.depth > limits.max_depth() {
            return Err(too_deep(limits));
        }
        if self.subschemas > limits.subschemas {
            return Err(too_many(limits));
        }
        Ok(())
    }
}

fn too_deep(limits: &Limits) -> Error {
    let message = format!("the schema has more than {} levels of nesting", limits.max_depth());
    Error::new(ErrorKind::Limit, message)
}

fn too_many(limits: &Limits) -> Error {
    let message = format!("the schema applies more than {} subschemas to one value", limits.subschemas);
    Error::new(ErrorKind::Limit, message)
}

fn count<'s>(
    refs: &Refs<'s>,
    schema: &'s Json,
    counted: &mut HashMap<*const Json, Option<usize>>,
    limits: &Limits,
    depth: usize,
) -> Result<usize> {
    let wrong = |kind, message: String| Err(Error::new(kind, message));
    match counted.get(&std::ptr::from_ref(schema)) {
        Some(Some(count)) => return Ok(*count),
        Some(None) => {
            let name = schema["$ref"].as_str().unwrap_or("it");
            return wrong(ErrorKind::Schema, format!("the schema's reference `{name}` leads back to itself"));
        }
        None => {}
    }
    if depth > limits.max_depth() {
        return wrong(
            ErrorKind::Limit,
            format!("the schema has more than {} references in a row", limits.max_depth()),
        );
    }
    counted.insert(schema, None);
    let mut total = 1usize;
    for part in refs.in_place(schema, true) {
        total = total.saturating_add(count(refs, part, counted, limits, depth + 1)?);
    }
    if total > limits.subschemas {
        return Err(too_many(limits));
    }
    counted.insert(schema, Some(total));
    Ok(total)
}

/// How deep a schema is. One given as a value may be nested deeper than any reader lets through.
pub(super) fn deep(schema: &Json, depth: usize, limits: &Limits) -> Result<usize> {
    if depth > limits.max_depth() {
        return Err(too_deep(limits));
    }
    let most = |most: usize, part: &Json| deep(part, depth + 1, limits).map(|found| most.max(found));
    match schema {
        Json::Object(entries) => entries.values().try_fold(depth, most),
        Json::Array(items) => items.iter().try_fold(depth, most),
        _ => Ok(depth),
    }
}
