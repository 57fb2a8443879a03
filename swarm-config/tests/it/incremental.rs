//! A reload, which reads and validates only what changed, ends as a load of the same files does.

use std::collections::BTreeMap;
use std::fs;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use swarm_config::{Color, Config, ConfigLoader, ConfigValidator, References, Section};

#[derive(Debug, Deserialize)]
struct Settings {
    #[serde(default)]
    agents: Section<BTreeMap<String, Value>>,
    #[serde(default)]
    tools: Section<Value>,
    #[serde(default)]
    free: Value,
}

/// Schemas that look at values in all the ways there are: one by one, several at once, and from outside.
fn schemas() -> Vec<Value> {
    let agent = json!({
        "type": "object",
        "properties": {
            "n": {"type": "integer", "maximum": 50},
            "name": {"type": "string", "pattern": "^[a-z$]", "default": "agent"},
            "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": true},
        },
        "required": ["n"],
        "dependentRequired": {"x": ["name"]},
    });
    let agents =
        json!({"type": "object", "additionalProperties": {"$ref": "#/$defs/agent"}, "maxProperties": 40});
    let with = |more: Value| {
        let mut schema = json!({"$defs": {"agent": agent}, "properties": {"agents": agents}});
        let Value::Object(more) = more else { unreachable!() };
        schema.as_object_mut().unwrap().extend(more);
        schema
    };
    vec![
        with(json!({"required": ["agents"]})),
        with(json!({"allOf": [{"properties": {"tools": {"additionalProperties": {"type": "integer"}}}}]})),
        with(json!({"anyOf": [
            {"properties": {"agents": {"minProperties": 28}}},
            {"properties": {"tools": {"required": ["k1"]}}},
        ]})),
        with(json!({"not": {"properties": {"tools": {"additionalProperties": {"type": "integer"}}}}})),
        with(json!({"properties": {
            "agents": {"anyOf": [agents, {"type": "null"}]},
            "tools": {"enum": [{"k1": 1}, {}]},
        }})),
        with(json!({"if": {"properties": {"tools": {"required": ["k2"]}}}, "then": {"required": ["free"]}})),
        with(json!({"properties": {
            "agents": {"patternProperties": {"^k": {"$ref": "#/$defs/agent"}}, "unevaluatedProperties": false},
        }})),
        with(json!({"properties": {
            "agents": {"properties": {"k1": {"required": ["name"]}}, "additionalProperties": {"maxProperties": 3}},
            "tools": {"dependentSchemas": {"k1": {"maxProperties": 2}}},
        }})),
        json!({"$dynamicAnchor": "node", "additionalProperties": {"anyOf": [{"$dynamicRef": "#node"}, {"maximum": 60}]}}),
        json!({"additionalProperties": {"additionalProperties": {"contains": {"const": "t"}}}}),
    ]
}

/// What is taken at random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, most: usize) -> usize {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) as usize % most
    }

    fn value(&mut self) -> Value {
        match self.roll(9) {
            0 => json!(self.roll(70)),
            1 => json!("text\n"),
            2 => json!(["t", "u"]),
            3 => json!(["t", "t"]),
            4 => json!({"n": 4}),
            5 => json!({"n": 5, "x": null}),
            6 => json!("${free}"),
            7 => json!(null),
            _ => json!({"n": self.roll(70), "name": "b", "tags": ["a"]}),
        }
    }

    fn key(&mut self) -> String {
        match self.roll(8) {
            0 => "n".into(),
            1 => "free".into(),
            _ => format!("k{}", self.roll(32)),
        }
    }

    fn edit(&mut self, table: &mut Map<String, Value>, depth: usize) {
        let at = self.roll(table.len().max(1));
        let inner = table.values_mut().nth(at);
        match (self.roll(6), inner) {
            (0..=3, Some(Value::Object(inner))) if depth < 3 => self.edit(inner, depth + 1),
            (4, Some(inner)) => *inner = self.value(),
            (5, Some(_)) if depth > 0 => drop(table.remove(&self.key())),
            _ => drop(table.insert(self.key(), self.value())),
        }
    }
}

fn base() -> Map<String, Value> {
    let agents: Map<_, _> =
        (0..30).map(|at| (format!("k{at}"), json!({"n": at, "tags": ["a", "b"]}))).collect();
    let Value::Object(base) = json!({"agents": agents, "tools": {"k1": 1}, "free": 7}) else {
        unreachable!()
    };
    base
}

/// All that can be seen of a configuration, or of why there is none.
fn seen(config: Result<&Config<Settings>, &swarm_config::Error>) -> String {
    match config {
        Ok(config) => {
            let now = config.get();
            let agents = now.agents.get().map_err(|error| error.to_string());
            let explained: Vec<_> = config.explain_all().iter().map(|one| one.to_string()).collect();
            format!(
                "{}\n{:?}\n{:?}\n{:?}\n{explained:#?}",
                now.tree().to_json(),
                agents,
                now.tools.get(),
                now.free
            )
        }
        Err(error) => error.render(Color::Never),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_reload_ends_as_a_load_does(seed in any::<u64>()) {
        let mut dice = Dice(seed);
        let folder = tempfile::tempdir().unwrap();
        let [at, over] = ["a.json", "b.json"].map(|name| folder.path().join(name));
        let all = schemas();
        let (first, second) = (&all[dice.roll(all.len())], &all[dice.roll(all.len())]);
        let validator = |schema: &Value| {
            let rule = References::new("tools.uses", "agents").unwrap();
            ConfigValidator::builder().schema(schema.clone()).rule(rule).build().unwrap()
        };
        let loader = ConfigLoader::new().file(&at).optional_file(&over);
        let loader = loader.validator(validator(first)).validator(validator(second));
        let fresh = || loader.clone().limits(Default::default()).load::<Settings>();
        let mut table = base();
        let write = |table: &Map<String, Value>| {
            fs::write(&at, serde_json::to_string_pretty(table).unwrap()).unwrap();
        };
        write(&table);
        // Not all schemas let the first one through.
        let Ok(config) = fresh() else { return Ok(()) };
        let mut good = fresh().unwrap();
        for _ in 0..24 {
            let _made = (config.get().agents.get().is_ok(), config.get().tools.get().is_ok());
            match dice.roll(12) {
                0 => fs::write(&over, json!({"agents": {dice.key(): dice.value()}}).to_string()).unwrap(),
                1 => drop(fs::remove_file(&over)),
                2 => {
                    let mut text = serde_json::to_string_pretty(&table).unwrap();
                    let at_byte = dice.roll(text.len());
                    if text.is_char_boundary(at_byte) {
                        text.insert_str(at_byte, ["}", "1", "\"", ",", " ", "\\"][dice.roll(6)]);
                    }
                    fs::write(&at, text).unwrap();
                }
                3 => {
                    table = base();
                    write(&table);
                }
                _ => {
                    dice.edit(&mut table, 0);
                    write(&table);
                }
            }
            let (part, whole) = (config.reload(), fresh());
            prop_assert_eq!(
                seen(part.as_ref().map(|_| &config)),
                seen(whole.as_ref()),
                "{}\n{}", first, second
            );
            if let (Ok(changes), Ok(whole)) = (part, whole) {
                prop_assert_eq!(changes, good.get().tree().diff(whole.get().tree()));
                good = whole;
            } else {
                prop_assert_eq!(config.get().tree().to_json(), good.get().tree().to_json());
            }
        }
    }
}

/// The validator remembers what it found of a value that is looked at often. Here one value is looked at as a part, which
/// is known to be valid, and then whole, as what a reference stands for.
#[test]
fn what_is_found_of_a_part_is_not_taken_as_found_of_the_whole() {
    let part =
        json!({"properties": {"c": {"$ref": "#/$defs/S"}}, "patternProperties": {"^k": {"type": "integer"}}});
    let schema = json!({"$defs": {"S": part}, "properties": {
        "b": {"anyOf": [{"$ref": "#/$defs/S"}, {"type": "object"}]},
        "x": {"$ref": "#/$defs/S"},
    }});
    let deep = (0..20).fold(json!({"k": "no", "c": {}}), |below, _| json!({"k": 1, "c": below}));
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("a.json");
    let write = |x: Value| fs::write(&at, json!({"b": deep, "x": x, "z": 0}).to_string()).unwrap();
    write(json!(1));
    let loader = ConfigLoader::new().file(&at).validator(ConfigValidator::new(schema).unwrap());
    let config = loader.load::<Value>().unwrap();
    write(json!("${b}"));
    assert!(loader.clone().limits(Default::default()).load::<Value>().is_err());
    assert!(config.reload().is_err());
}

/// What a key asks of the others beside it, in the drafts that have one keyword for it.
#[test]
fn a_key_that_is_added_is_held_against_the_keys_that_were_there() {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "properties": {"tools": {"dependencies": {"k1": {"properties": {"n": {"maximum": 5}}}}}},
    });
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path().join("a.json");
    let write = |tools: Value| fs::write(&at, json!({"tools": tools, "z": 0}).to_string()).unwrap();
    write(json!({"n": 9}));
    let loader = ConfigLoader::new().file(&at).validator(ConfigValidator::new(schema).unwrap());
    let config = loader.load::<Value>().unwrap();
    write(json!({"n": 9, "k1": 1}));
    assert!(config.reload().is_err());
    write(json!({"n": 4, "k1": 1}));
    config.reload().unwrap();
}
