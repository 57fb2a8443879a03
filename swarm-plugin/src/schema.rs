//! The JSON Schema of parameters, compiled.

use jsonschema::{PatternOptions, Validator};
use serde_json::{Value, json};

use crate::error::{Error, ErrorKind, Problem, Result};
use crate::measure;

/// A schema larger than this is refused, since it may come from a plugin that nobody read.
const SCHEMA_LIMIT: usize = 256 * 1024;
/// Schemas that have more parts than this once their references are followed are refused: each `$ref` in two places
/// doubles what is checked.
const PARTS_LIMIT: usize = 100_000;
/// Problems told of one call.
const PROBLEMS_LIMIT: usize = 32;

#[derive(Debug)]
pub(crate) struct Schema {
    value: Value,
    /// `None` where every object is acceptable.
    validator: Option<Validator>,
}

impl Schema {
    /// Any object.
    pub(crate) fn any() -> Value {
        json!({"type": "object"})
    }

    /// # Errors
    /// Says in a sentence why the schema cannot be used.
    pub(crate) fn compile(value: Value) -> Result<Schema, String> {
        let fits = measure::fits(&value, SCHEMA_LIMIT);
        if let Err(oversize) = fits {
            measure::dismantle(value);
            return Err(match oversize {
                measure::Oversize::Bytes => format!("is over {SCHEMA_LIMIT} bytes"),
                measure::Oversize::Depth => format!("is nested over {} levels deep", measure::DEPTH_LIMIT),
            });
        }
        match value.get("type") {
            Some(Value::String(kind)) if kind == "object" => {}
            _ => return Err("does not say \"type\": \"object\"; parameters are an object".into()),
        }
        Parts { root: &value, left: PARTS_LIMIT }.all()?;
        if value == Schema::any() {
            return Ok(Schema { value, validator: None });
        }
        // Patterns run in linear time. One with look-around does not compile, which is better than one that hangs.
        let validator = jsonschema::options()
            .offline()
            .with_pattern_options(PatternOptions::regex())
            .build(&value)
            .map_err(|error| format!("is not a usable JSON Schema: {error}"))?;
        Ok(Schema { value, validator: Some(validator) })
    }

    pub(crate) fn value(&self) -> &Value {
        &self.value
    }

    /// Whether there is more to check than that parameters are an object.
    pub(crate) fn asks(&self) -> bool {
        self.validator.is_some()
    }

    /// # Errors
    /// [`ErrorKind::InvalidParams`] with every problem, the first 32 of them.
    pub(crate) fn check(&self, params: &Value) -> Result<()> {
        let refuse = |problems| {
            Err(Error::of_problems(ErrorKind::InvalidParams, "the parameters are not valid", problems))
        };
        let Some(validator) = &self.validator else {
            return match params.is_object() {
                true => Ok(()),
                false => refuse(vec![Problem::new("", "parameters are not an object")]),
            };
        };
        if validator.is_valid(params) {
            return Ok(());
        }
        let problems = validator
            .iter_errors(params)
            .take(PROBLEMS_LIMIT)
            // Names of members are the caller's, as long as they like.
            .map(|error| {
                Problem::new(shown(error.instance_path().as_str()), shown(&error.masked().to_string()))
            });
        refuse(problems.collect())
    }
}

/// Counts the parts of a schema as validation meets them: a reference counts as what it leads to.
struct Parts<'s> {
    root: &'s Value,
    left: usize,
}

impl<'s> Parts<'s> {
    /// # Errors
    /// Says in a sentence what is too much, or cannot be followed.
    fn all(mut self) -> Result<(), String> {
        let Value::Object(members) = self.root else { return Ok(()) };
        let is_old =
            members.get("$schema").and_then(Value::as_str).is_some_and(|draft| draft.contains("draft-04"));
        for (key, item) in members {
            one_document(item, is_old)?;
            match key.as_str() {
                "$ref" | "$dynamicRef" | "$recursiveRef" => self.member(key, item, &mut Vec::new())?,
                // Each counts where something refers to it.
                "$defs" | "definitions" => {}
                _ => self.spend(item, &mut Vec::new())?,
            }
        }
        Ok(())
    }

    /// `within` are the references that lead here: one of them again is recursion, which the parameters bound.
    fn spend(&mut self, value: &'s Value, within: &mut Vec<&'s str>) -> Result<(), String> {
        self.left = self
            .left
            .checked_sub(1)
            .ok_or_else(|| format!("has over {PARTS_LIMIT} parts when its references are followed"))?;
        match value {
            Value::Array(items) => items.iter().try_for_each(|item| self.spend(item, within)),
            Value::Object(members) => {
                members.iter().try_for_each(|(key, item)| self.member(key, item, within))
            }
            _ => Ok(()),
        }
    }

    fn member(&mut self, key: &str, item: &'s Value, within: &mut Vec<&'s str>) -> Result<(), String> {
        match (key, item) {
            ("$ref", Value::String(reference)) => self.follow(reference, within),
            ("$dynamicRef" | "$recursiveRef", Value::String(_)) => {
                Err(format!("has a {key}, which is not followed: use $ref"))
            }
            _ => self.spend(item, within),
        }
    }

    fn follow(&mut self, reference: &'s str, within: &mut Vec<&'s str>) -> Result<(), String> {
        // In another way it could lead where nothing was counted.
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let Some(target) = target else {
            return Err(format!(
                "refers to {:?}, which is no JSON pointer to a part of it",
                shown(reference)
            ));
        };
        if within.contains(&reference) {
            return Ok(());
        }
        if within.len() == measure::DEPTH_LIMIT {
            return Err(format!("has references that lead on over {} times", measure::DEPTH_LIMIT));
        }
        within.push(reference);
        let counted = self.spend(target, within);
        within.pop();
        counted
    }
}

/// Refuses documents within a document, in which the same reference leads elsewhere.
fn one_document(value: &Value, is_old: bool) -> Result<(), String> {
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| one_document(item, is_old)),
        Value::Object(members) => members.iter().try_for_each(|(key, item)| match (key.as_str(), item) {
            ("$id" | "$schema", Value::String(_)) => Err(format!("has a {key} below its top")),
            ("id", Value::String(_)) if is_old => Err("has an id below its top".into()),
            _ => one_document(item, is_old),
        }),
        _ => Ok(()),
    }
}

/// The beginning of what somebody else wrote, without what a terminal would obey.
fn shown(text: &str) -> String {
    const LIMIT: usize = 256;
    let mut shown = String::new();
    for c in text.chars().take(LIMIT) {
        if c.is_control() { shown.extend(c.escape_default()) } else { shown.push(c) }
    }
    if text.chars().nth(LIMIT).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn why(value: Value) -> String {
        Schema::compile(value).err().unwrap_or_default()
    }

    #[test]
    fn schemas_that_cannot_be_used_say_why() {
        for (schema, expected) in [
            (json!({"type": "array"}), "\"type\": \"object\""),
            (json!(true), "\"type\": \"object\""),
            (json!({"type": "object", "required": 3}), "not a usable JSON Schema"),
            (json!({"type": "object", "$ref": "https://example.org/schema.json"}), "no JSON pointer"),
            (json!({"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}), "no JSON pointer"),
            (json!({"type": "object", "not": {"$dynamicRef": "#here"}}), "has a $dynamicRef"),
            (json!({"type": "object", "$defs": {"a": {"$id": "a"}}}), "has a $id below its top"),
            (json!({"type": "object", "title": "x".repeat(SCHEMA_LIMIT)}), "over 262144 bytes"),
        ] {
            let text = schema.to_string();
            assert!(why(schema).contains(expected), "{:.80}: {expected}", text);
        }
    }

    /// A schema that doubles what is checked with each level, by references that `refer` writes.
    fn bomb(refer: impl Fn(usize) -> String) -> Value {
        let mut defs = serde_json::Map::new();
        for level in 0..40 {
            let next = json!({"$ref": refer(level + 1)});
            let (anchor, id) = (format!("a{level}"), format!("https://example.org/{level}"));
            defs.insert(level.to_string(), json!({"$anchor": anchor, "$id": id, "allOf": [next, next]}));
        }
        defs.insert("40".into(), json!({}));
        json!({"type": "object", "allOf": [{"$ref": refer(0)}], "$defs": defs})
    }

    /// The same schema without members of this name.
    fn without(mut value: Value, name: &str) -> Value {
        for def in value["$defs"].as_object_mut().into_iter().flat_map(|defs| defs.values_mut()) {
            def.as_object_mut().map(|def| def.remove(name));
        }
        value
    }

    #[test]
    fn doubling_by_reference_is_refused_and_recursion_is_not() {
        let plain = without(bomb(|level| format!("#/$defs/{level}")), "$id");
        assert!(why(plain.clone()).contains("when its references are followed"));
        // As a parameter of that name, which is no place for definitions.
        for name in ["$defs", "definitions"] {
            let mut hidden = plain.clone();
            hidden["properties"] = json!({name: hidden["allOf"].take()});
            hidden["allOf"] = json!([]);
            assert!(why(hidden).contains("when its references are followed"), "{name}");
        }
        // What leads to the same place by another way.
        assert!(why(without(bomb(|level| format!("#a{level}")), "$id")).contains("no JSON pointer"));
        assert!(why(without(bomb(|level| format!("#/%24defs/{level}")), "$id")).contains("no JSON pointer"));
        assert!(why(bomb(|level| format!("https://example.org/{level}"))).contains("below its top"));

        let tree = json!({"type": "object", "properties": {"next": {"$ref": "#"}, "n": {"type": "integer"}}});
        let tree = Schema::compile(tree).unwrap();
        assert!(tree.check(&json!({"n": 1, "next": {"n": 2}})).is_ok());
        assert_eq!(tree.check(&json!({"next": {"n": "x"}})).unwrap_err().problems()[0].at(), "/next/n");
    }

    #[test]
    fn values_do_not_appear_in_problems() {
        let schema = json!({"type": "object", "properties": {"token": {"type": "integer"}}});
        let schema = Schema::compile(schema).unwrap();
        let error = schema.check(&json!({"token": "hunter2"})).unwrap_err();
        assert!(!error.to_string().contains("hunter2"), "{error}");
    }

    #[test]
    fn problems_are_short_and_legible_whatever_members_are_called() {
        let numbers = json!({"type": "array", "items": {"type": "integer"}});
        let schema = json!({"type": "object", "additionalProperties": numbers});
        let schema = Schema::compile(schema).unwrap();
        let name = format!("\u{1b}[2J{}", "x".repeat(1_000_000));
        let error = schema.check(&json!({name: vec![Value::Null; 100]})).unwrap_err();
        let said = error.to_string();
        assert!(error.problems().len() == PROBLEMS_LIMIT && said.len() < 64 * 1024, "{}", said.len());
        assert!(!said.contains('\u{1b}') && said.contains("/\\u{1b}[2Jxx"), "{said:.200}");
    }
}
