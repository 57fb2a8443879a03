//! What is checked of a schema before it is compiled: that its references end, and that it is not a bomb.

use serde_json::Value as Json;

use super::schema::Schema;
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

/// Refuses references that lead back to themselves without going into a value, and schemas that apply too many
/// subschemas to one value.
pub(super) fn check(schema: &Schema<'_>, depth: usize, limits: &Limits) -> Result<Cost> {
    let mut counted = vec![Count::Not; schema.parts().len()];
    let mut cost = Cost { subschemas: 0, depth };
    for at in 0..counted.len() {
        cost.subschemas = cost.subschemas.max(count(schema, at, &mut counted, limits, 0)?);
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

/// How many subschemas a part applies to one value.
#[derive(Clone, Copy)]
enum Count {
    Not,
    /// On the way to it.
    Now,
    Done(usize),
}

fn count(
    schema: &Schema<'_>,
    at: usize,
    counted: &mut [Count],
    limits: &Limits,
    depth: usize,
) -> Result<usize> {
    let part = &schema.parts()[at];
    match counted[at] {
        Count::Done(count) => return Ok(count),
        Count::Now => {
            let name = part.text["$ref"].as_str().unwrap_or("it");
            let message = format!("the schema's reference `{name}` leads back to itself");
            return Err(Error::new(ErrorKind::Schema, message));
        }
        Count::Not => {}
    }
    if depth > limits.max_depth() {
        let message = format!("the schema has more than {} references in a row", limits.max_depth());
        return Err(Error::new(ErrorKind::Limit, message));
    }
    counted[at] = Count::Now;
    let mut total = 1usize;
    for part in part.in_place() {
        total = total.saturating_add(count(schema, part, counted, limits, depth + 1)?);
    }
    if total > limits.subschemas {
        return Err(too_many(limits));
    }
    counted[at] = Count::Done(total);
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
