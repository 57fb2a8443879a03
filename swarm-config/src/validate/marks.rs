//! What a schema marks as secret, and where that stands in the sources.

use serde_json::Value as Json;

use super::schema::{Schema, Step};
use crate::error::{Error, ErrorKind, Result};
use crate::path::Pattern;

/// How deep marks are looked for. What may hold one further down is secret as a whole.
const DEPTH: usize = 16;
/// How many places are looked at where a secret may be.
const PLACES: usize = 10_000;

/// The paths that a schema marks as `writeOnly`, or as a `password` by format.
pub(super) fn secrets(schema: &Schema<'_>) -> Result<Vec<Pattern>> {
    let mut walk = Walk { holds: holding(schema), schema, places: 0, found: Vec::new() };
    if !schema.parts().is_empty() {
        walk.look(0, &mut Vec::new())?;
    }
    Ok(walk.found)
}

fn is_mark(schema: &Json) -> bool {
    schema["writeOnly"] == true || schema["format"] == "password"
}

/// Of each part, whether it is marked or leads to one that is.
fn holding(schema: &Schema<'_>) -> Vec<bool> {
    let parts = schema.parts();
    let mut from = vec![Vec::new(); parts.len()];
    let mut marks = Vec::new();
    for (at, part) in parts.iter().enumerate() {
        if is_mark(part.text) {
            marks.push(at);
        }
        part.below.iter().map(|(_, next)| *next).chain(part.in_place()).for_each(|next| from[next].push(at));
    }
    let mut holds = vec![false; parts.len()];
    while let Some(at) = marks.pop() {
        if !std::mem::replace(&mut holds[at], true) {
            marks.extend(&from[at]);
        }
    }
    holds
}

struct Walk<'w> {
    schema: &'w Schema<'w>,
    holds: Vec<bool>,
    places: usize,
    found: Vec<Pattern>,
}

impl Walk<'_> {
    fn look(&mut self, at: usize, path: &mut Vec<String>) -> Result<()> {
        if !self.holds[at] {
            return Ok(());
        }
        self.places += 1;
        if self.places > PLACES {
            let message = format!("the schema may mark secrets in more than {PLACES} places");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let part = &self.schema.parts()[at];
        if is_mark(part.text) || path.len() == DEPTH {
            self.found.push(Pattern(path.clone()));
            return Ok(());
        }
        for (step, next) in &part.below {
            path.push(match step {
                Step::Key(key) => (*key).to_owned(),
                Step::Position(at) => at.to_string(),
                Step::Matching(_) | Step::OtherKey | Step::Item | Step::Some => "*".to_owned(),
            });
            self.look(*next, path)?;
            path.pop();
        }
        part.in_place().try_for_each(|next| self.look(next, path))
    }
}
