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
        let parts = Parts { root: &value, left: std::cell::Cell::new(PARTS_LIMIT) };
        if !parts.spend(&value, &mut Vec::new()) {
            return Err(format!("has over {PARTS_LIMIT} parts when its references are followed"));
        }
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
            .map(|error| Problem::new(error.instance_path().as_str(), error.masked().to_string()));
        refuse(problems.collect())
    }
}

/// Counts the parts of a schema as validation meets them: a reference counts as what it leads to.
struct Parts<'s> {
    root: &'s Value,
    left: std::cell::Cell<usize>,
}

impl<'s> Parts<'s> {
    /// Whether the limit holds. `within` are the references that lead here: one of them again is recursion, which the
    /// parameters bound.
    fn spend(&self, value: &'s Value, within: &mut Vec<&'s str>) -> bool {
        let Some(left) = self.left.get().checked_sub(1) else { return false };
        self.left.set(left);
        match value {
            Value::Array(items) => items.iter().all(|item| self.spend(item, within)),
            Value::Object(members) => members.iter().all(|(key, item)| match (key.as_str(), item) {
                ("$ref", Value::String(reference)) => self.follow(reference, within),
                ("$defs" | "definitions", _) => true,
                _ => self.spend(item, within),
            }),
            _ => true,
        }
    }

    fn follow(&self, reference: &'s str, within: &mut Vec<&'s str>) -> bool {
        let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
        let (Some(target), false) = (target, within.contains(&reference)) else { return true };
        if within.len() == measure::DEPTH_LIMIT {
            return false;
        }
        within.push(reference);
        let holds = self.spend(target, within);
        within.pop();
        holds
    }
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
            (
                json!({"type": "object", "$ref": "https://example.org/schema.json"}),
                "not a usable JSON Schema",
            ),
            (
                json!({"type": "object", "properties": {"a": {"$ref": "#/nowhere"}}}),
                "not a usable JSON Schema",
            ),
            (json!({"type": "object", "title": "x".repeat(SCHEMA_LIMIT)}), "over 262144 bytes"),
        ] {
            let text = schema.to_string();
            assert!(why(schema).contains(expected), "{:.80}: {expected}", text);
        }
    }

    #[test]
    fn doubling_by_reference_is_refused_and_recursion_is_not() {
        let mut defs = serde_json::Map::new();
        for level in 0..40 {
            let next = json!({"$ref": format!("#/$defs/{}", level + 1)});
            defs.insert(level.to_string(), json!({"allOf": [next, next]}));
        }
        defs.insert("40".into(), json!({}));
        let bomb = json!({"type": "object", "allOf": [{"$ref": "#/$defs/0"}], "$defs": defs});
        assert!(why(bomb).contains("when its references are followed"));

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
}
