use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use swarm_config::{
    Color, ConfigLoader, ConfigValidator, ConfigValidatorBuilder, ErrorKind, Finding, Format, Limits,
    References, Rule, Severity, Tree,
};

use crate::suites::suite;

fn tree(value: &Value) -> Tree {
    Tree::parse("a.json", Format::Json, text(value), &Limits::default()).unwrap()
}

/// With the members in the order of their names: what else is built decides on the order that `serde_json` keeps.
fn text(value: &Value) -> String {
    match value {
        Value::Object(members) => {
            let sorted = std::collections::BTreeMap::from_iter(members);
            let members: Vec<String> =
                sorted.into_iter().map(|(name, value)| format!("{}:{}", json!(name), text(value))).collect();
            format!("{{{}}}", members.join(","))
        }
        Value::Array(items) => format!("[{}]", Vec::from_iter(items.iter().map(text)).join(",")),
        other => other.to_string(),
    }
}

fn messages(schema: Value, value: Value) -> Vec<String> {
    let report = ConfigValidator::new(schema).unwrap().validate(&tree(&value)).unwrap();
    report.findings().iter().map(|finding| format!("{}: {}", finding.pointer(), finding.message())).collect()
}

fn founding() -> Value {
    json!({"type": "object",
        "properties": {
            "agent_id": {"type": "string", "pattern": "^Agent-[1-8]$", "description": "Agent identifier"},
            "workspace_path": {"type": "string", "default": "agent_workspaces/"},
            "max_retries": {"type": "integer", "minimum": 1, "maximum": 5, "default": 3},
            "discord_webhook_url":
                {"type": "string", "format": "uri", "pattern": "^https://discord.com/api/webhooks/"}},
        "required": ["agent_id", "discord_webhook_url"]})
}

#[test]
fn both_errors_of_the_founding_example_are_told_at_once() {
    let wrong = "agent_id = 'Agent-9'\nmax_retries = 9\n";
    let error = ConfigLoader::new()
        .text("app.toml", Format::Toml, wrong)
        .validator(ConfigValidator::new(founding()).unwrap())
        .load_tree()
        .unwrap_err();
    insta::assert_snapshot!(error.render(Color::Never), @r#"
    error: the key `discord_webhook_url` is missing
     --> app.toml:1:1
      |
    1 | agent_id = 'Agent-9'
      | ^^^^^^^^^^^^^^^^^^^^

    error: agent_id: "Agent-9" does not match the pattern ^Agent-[1-8]$
     --> app.toml:1:12
      |
    1 | agent_id = 'Agent-9'
      |            ^^^^^^^^^

    error: max_retries: 9 is greater than the maximum of 5
     --> app.toml:2:15
      |
    2 | max_retries = 9
      |               ^
    "#);
}

#[test]
fn defaults_of_the_founding_example_are_filled_and_explained() {
    let good = "agent_id = 'Agent-1'\ndiscord_webhook_url = 'https://discord.com/api/webhooks/1'\n";
    let config = ConfigLoader::new()
        .text("app.toml", Format::Toml, good)
        .validator(ConfigValidator::new(founding()).unwrap())
        .load::<Value>()
        .unwrap();
    assert_eq!(config.get()["max_retries"], 3);
    assert_eq!(config.get()["workspace_path"], "agent_workspaces/");
    assert_eq!(
        config.explain("max_retries").unwrap().to_string(),
        "max_retries = 3\n  -> default in the schema: 3 by default"
    );
}

#[test]
fn defaults_are_filled_at_any_depth_through_references_and_all_of() {
    let schema = json!({
        "$defs": {
            "pool": {"properties": {"size": {"default": 5}, "idle": {"default": 1}}},
            "named": {"properties": {"name": {"default": "none"}}},
            "tree": {"properties": {"leaf": {"default": true}, "child": {"$ref": "#/$defs/tree"}}},
        },
        "properties": {
            "db": {"allOf": [{"$ref": "#/$defs/pool"}, {"properties": {"host": {}, "port": {"default": 1}}}],
                "required": ["host"]},
            "cache": {"$ref": "#/$defs/pool"},
            "agents": {"additionalProperties": {"$ref": "#/$defs/named"}},
            "list": {"items": {"$ref": "#/$defs/named"}},
            "tree": {"$ref": "#/$defs/tree"},
        },
    });
    let validator = ConfigValidator::new(schema).unwrap();
    let fill = |value: Value| {
        ConfigLoader::new()
            .text("a.json", Format::Json, value.to_string())
            .validator(validator.clone())
            .load_tree()
            .unwrap()
            .to_json()
    };
    // `db` is not made: it would lack its host. `cache` needs nothing but its defaults.
    let none = fill(json!({}));
    assert_eq!(none["cache"], json!({"size": 5, "idle": 1}));
    assert_eq!(none.get("db"), None);
    assert_eq!(
        fill(json!({"db": {"host": "h", "size": 9}}))["db"],
        json!({"host": "h", "size": 9, "idle": 1, "port": 1})
    );
    assert_eq!(
        fill(json!({"agents": {"a": {}, "b": {"name": "x"}}}))["agents"],
        json!({"a": {"name": "none"}, "b": {"name": "x"}})
    );
    assert_eq!(fill(json!({"list": [{}, {"name": "y"}]}))["list"], json!([{"name": "none"}, {"name": "y"}]));
    assert_eq!(fill(json!({"tree": {"child": {"child": {}}}}))["tree"]["child"]["child"]["leaf"], true);
}

#[test]
fn defaults_are_filled_under_keys_that_fit_a_pattern() {
    let agent = |retries: u32| json!({"type": "object", "properties": {"retries": {"default": retries}}});
    let schema = json!({
        "properties": {"named": {}},
        "patternProperties": {"^x-": true, "^big-\\d+$": agent(9)},
        "additionalProperties": agent(3),
    });
    let filled = ConfigLoader::new()
        .text(
            "a.json",
            Format::Json,
            r#"{"named": {}, "x-a": {}, "big-1": {}, "big-b": {}, "c": {"retries": 1}}"#,
        )
        .validator(ConfigValidator::new(schema).unwrap())
        .load_tree()
        .unwrap();
    assert_eq!(
        filled.to_json(),
        json!({"named": {}, "x-a": {}, "big-1": {"retries": 9}, "big-b": {"retries": 3}, "c": {"retries": 1}})
    );
}

#[test]
fn keys_that_depend_on_a_condition_are_known() {
    let validator = ConfigValidator::new(json!({
        "$ref": "#conditional",
        "$defs": {"conditional": {
            "$anchor": "conditional",
            "properties": {"kind": {"enum": ["net", "disk"]}},
            "if": {"properties": {"kind": {"const": "net"}}},
            "then": {"properties": {"timeout": {"type": "string"}}},
            "else": {"properties": {"location": {"$ref": "https://x.test/root/word"}}},
        }},
        "dependentSchemas": {"kind": {"properties": {"retries": {"type": "integer"}}}},
        "unevaluatedProperties": false,
        "$id": "https://x.test/root/schema",
        "definitions": {"word": {"$id": "word", "type": "string"}},
    }));
    let validator = validator.unwrap();
    let load = |text: &str| {
        let variables = [("APP_TIMEOUT", "7"), ("APP_RETRIES", "3")];
        let loader = ConfigLoader::new().text("a.toml", Format::Toml, text).env_from("APP", variables);
        loader.validator(validator.clone()).load_tree()
    };
    let tree = load("kind = 'net'").unwrap();
    assert_eq!(tree.to_json(), json!({"kind": "net", "timeout": "7", "retries": 3}));
    let error = load("kind = 'net'\ntiemout = 'x'").unwrap_err().to_string();
    assert!(error.contains("`tiemout` is not allowed here (did you mean `timeout`?)"), "{error}");
}

#[test]
fn what_stands_for_a_table_has_the_defaults_of_its_place() {
    let pool = |size: u32| json!({"type": "object", "properties": {"size": {"default": size}}});
    let schema = json!({
        "properties": {"base": {}, "first": pool(5), "second": {"properties": {
            "host": {"type": "string"}, "name": {"default": "on ${second.host} for $${user}"},
        }}},
    });
    let load = || {
        ConfigLoader::new()
            .text("a.toml", Format::Toml, "first = '${base}'\nsecond = '${base}'\n[base]\nhost = '$${h}'\n")
            .validator(ConfigValidator::new(schema.clone()).unwrap())
            .validator(ConfigValidator::new(json!({"properties": {"more": {"default": true}}})).unwrap())
    };
    let config = load().load::<Value>().unwrap();
    assert_eq!(
        *config.get(),
        json!({
            "first": {"host": "${h}", "size": 5},
            "second": {"host": "${h}", "name": "on ${h} for ${user}"},
            "base": {"host": "${h}"},
            "more": true,
        })
    );
    for path in ["first.size", "more"] {
        let explained = config.explain(path).unwrap().to_string();
        assert!(explained.contains("default in the schema"), "{explained}");
    }
}

#[test]
fn a_value_that_stands_in_two_places_has_the_defaults_of_each() {
    let part = |size: u32| json!({"properties": {"part": {"properties": {"size": {"default": size}}}}});
    let schema = json!({"properties": {"first": part(1), "second": part(2), "list": {"items": part(3)}}});
    let text = "first = '${base}'\nsecond = '${base}'\nlist = ['${base}']\n[base.part]\nname = 'x'\n";
    let tree = ConfigLoader::new()
        .text("a.toml", Format::Toml, text)
        .validator(ConfigValidator::new(schema).unwrap())
        .load_tree()
        .unwrap();
    let with = |size: u32| json!({"part": {"name": "x", "size": size}});
    assert_eq!(
        tree.to_json(),
        json!({"first": with(1), "second": with(2), "list": [with(3)], "base": {"part": {"name": "x"}}})
    );
}

#[test]
fn a_missing_key_is_told_with_the_one_that_may_be_it() {
    let schema = json!({"properties": {"timeout": {}, "size": {}}, "required": ["timeout", "size"]});
    let tree = tree(&json!({"tiemout": 1, "seize": 2}));
    let report = ConfigValidator::new(schema).unwrap().validate(&tree).unwrap();
    let told: Vec<_> = report.findings().iter().map(|found| found.suggestion().unwrap_or("none")).collect();
    assert_eq!(told, ["is `tiemout` meant to be it?", "is `seize` meant to be it?"]);
}

#[cfg(feature = "schemars")]
#[test]
fn secrets_and_sections_of_a_type_are_in_its_schema() {
    #[derive(schemars::JsonSchema, serde::Deserialize, Default)]
    #[allow(dead_code, reason = "`tokens` is only looked at as a schema")]
    struct Settings {
        #[serde(default)]
        password: swarm_config::Secret<String>,
        tokens: Vec<swarm_config::Secret<String>>,
        part: swarm_config::Section<Part>,
    }
    #[derive(schemars::JsonSchema, serde::Deserialize, Default)]
    struct Part {
        port: u16,
    }
    let load = |text: &str| {
        let validator = ConfigValidator::for_type::<Settings>().unwrap();
        ConfigLoader::new().text("a.toml", Format::Toml, text).validator(validator).load::<Settings>()
    };
    let config = load("password = 'CANARY'\ntokens = ['CANARY']\npart = { port = 1 }\n").unwrap();
    assert_eq!(config.get().password.expose(), "CANARY");
    assert_eq!(config.get().part.get().unwrap().port, 1);
    let tree = ConfigLoader::new()
        .text("a.toml", Format::Toml, "password = 'CANARY'\ntokens = ['CANARY']\npart = { port = 1 }\n")
        .validator(ConfigValidator::for_type::<Settings>().unwrap())
        .load_tree()
        .unwrap();
    assert_eq!(tree.to_json(), json!({"password": "******", "tokens": ["******"], "part": {"port": 1}}));
    let error = load("password = 7\ntokens = [1]\npart = { port = 'x' }\n").unwrap_err();
    assert_eq!(error.report().unwrap().findings().len(), 3, "{error}");
}

#[test]
fn messages_say_what_is_wrong_in_plain_words() {
    let schema = json!({
        "properties": {
            "port": {"type": "integer"}, "on": {"type": "boolean"}, "level": {"enum": ["info", "warning"]},
            "deep": {"properties": {"a": {"type": "string"}}, "additionalProperties": false},
        },
        "required": ["name"],
    });
    assert_eq!(
        messages(schema.clone(), json!({"port": "80", "on": "yes", "level": "warnin", "deep": {"b": 1}})),
        [
            ": the key `name` is missing",
            "/deep/b: the key `b` is not allowed here",
            "/level: \"warnin\" is not one of \"info\", \"warning\"",
            "/on: expected a boolean, found a string",
            "/port: expected an integer, found a string",
        ]
    );
    let report = ConfigValidator::new(schema)
        .unwrap()
        .validate(&tree(&json!({"port": "80", "on": "yes", "level": "warnin"})))
        .unwrap();
    let suggestions: Vec<_> = report.findings().iter().filter_map(Finding::suggestion).collect();
    assert_eq!(
        suggestions,
        ["did you mean `warning`?", "write true: this is a text since YAML 1.2", "remove the quotes"]
    );
}

struct Panics;

impl Rule for Panics {
    fn name(&self) -> &str {
        "panics"
    }

    fn check(&self, config: &Tree) -> Vec<Finding> {
        config.get("nope").map(|_| Vec::new()).expect("on purpose")
    }
}

#[test]
fn a_rule_that_panics_is_a_finding_and_stops_nothing() {
    let validator = ConfigValidator::builder()
        .rule(Panics)
        .rule(References::new("workflows.*.agent", "agents").unwrap())
        .rule(References::new("tasks.*.after", "tasks").unwrap().acyclic())
        .build()
        .unwrap();
    let report = validator
        .validate(&tree(&json!({
            "agents": {"alpha": {}},
            "workflows": {"w": {"agent": "alph"}, "v": {"agent": "alpha"}},
            "tasks": {"a": {"after": ["b"]}, "b": {"after": "c"}, "c": {"after": ["a"]}, "d": {"after": ["a"]}},
        })))
        .unwrap();
    let mut found: Vec<_> =
        report.findings().iter().map(|finding| format!("{} {}", finding.rule(), finding)).collect();
    found.sort();
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[0], "panics a.json:1:1: the rule `panics` panicked");
    assert!(found[2].contains("tasks.c.after.0: leads back to itself: a -> b -> c -> a"), "{found:?}");
    assert!(
        found[1]
            .contains("workflows.w.agent: names `alph`, which is not in `agents` (did you mean `alpha`?)"),
        "{found:?}"
    );
}

#[test]
fn findings_are_disabled_and_weighed_as_asked() {
    let build = || {
        ConfigValidator::builder().schema(json!({
            "properties": {"a": {"type": "integer", "minimum": 5}, "b": {"type": "integer"}},
        }))
    };
    let wrong = tree(&json!({"a": 1, "b": "x"}));
    assert!(!build().build().unwrap().validate(&wrong).unwrap().is_ok());
    let off = build().disable("a", Some("minimum")).severity("type", Severity::Warning).build().unwrap();
    let report = off.validate(&wrong).unwrap();
    assert!(report.is_ok());
    assert_eq!(report.findings().len(), 1);
    let all = build().disable("*", None).build().unwrap().validate(&wrong).unwrap();
    assert!(all.findings().is_empty());
}

#[test]
fn secrets_of_a_schema_are_not_shown() {
    let canary = "hunter2-canary";
    let schema = json!({
        "properties": {"db": {"properties": {"password": {"writeOnly": true, "maxLength": 3, "enum": ["x"]}, "port": {"type": "integer"}}}},
    });
    let error = ConfigLoader::new()
        .text("a.toml", Format::Toml, format!("db = {{ password = '{canary}', port = '1' }}"))
        .validator(ConfigValidator::new(schema).unwrap())
        .load_tree()
        .unwrap_err();
    let shown = format!("{error}\n{error:?}\n{}", error.render(Color::Always));
    assert!(!shown.contains(canary), "{shown}");
    assert_eq!(error.report().unwrap().findings().len(), 3, "{shown}");
    assert!(shown.contains("password = ******, port"), "{shown}");
}

/// Generous, for builds without optimisation on busy machines.
const SOON: Duration = Duration::from_secs(60);

#[test]
fn hostile_schemas_are_typed_errors() {
    let doubling = |levels: usize| {
        let mut defs = serde_json::Map::new();
        for at in 0..levels {
            let next = format!("#/$defs/d{}", at + 1);
            defs.insert(format!("d{at}"), json!({"allOf": [{"$ref": next}, {"$ref": next}]}));
        }
        defs.insert(format!("d{levels}"), json!({}));
        json!({"$ref": "#/$defs/d0", "$defs": defs})
    };
    let mut deep = json!({});
    for _ in 0..1000 {
        deep = json!({"not": deep});
    }
    for (schema, kind) in [
        (json!({"$ref": "#"}), ErrorKind::Schema),
        (
            json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}}),
            ErrorKind::Schema,
        ),
        (json!({"$ref": "https://example.org/other"}), ErrorKind::Schema),
        (json!({"type": "nonsense"}), ErrorKind::Schema),
        (json!({"pattern": "(a)\\1"}), ErrorKind::Schema),
        (json!({"pattern": "((a{1,1000}){1,1000}){1,1000}"}), ErrorKind::Schema),
        (doubling(40), ErrorKind::Limit),
        (deep, ErrorKind::Limit),
    ] {
        let start = Instant::now();
        let error = ConfigValidator::new(schema).map(drop).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(start.elapsed() < SOON, "{error} after {:?}", start.elapsed());
    }
    let start = Instant::now();
    // Matching takes linear time, so this is an answer and not a limit.
    let slow = ConfigValidator::new(json!({"properties": {"a": {"pattern": "^(a+)+$"}}})).unwrap();
    assert!(!slow.validate(&tree(&json!({"a": format!("{}b", "a".repeat(50_000))}))).unwrap().is_ok());
    // Doubling down a value: found while validating, since nothing is wrong with a shallow one.
    let branching = ConfigValidator::new(json!({
        "$ref": "#/$defs/n",
        "$defs": {"n": {"properties": {"c": {"anyOf": [
            {"allOf": [{"$ref": "#/$defs/n"}, false]}, {"allOf": [{"$ref": "#/$defs/n"}, {"type": "object"}, false]},
            {"type": "string"},
        ]}}}},
    }))
    .unwrap();
    let mut value = json!({"c": 1});
    for _ in 0..60 {
        value = json!({ "c": value });
    }
    assert_eq!(branching.validate(&tree(&value)).unwrap_err().kind(), ErrorKind::Limit);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
}

#[test]
fn documents_elsewhere_come_from_the_retriever_only() {
    let schema = json!({"properties": {"a": {"$ref": "https://example.org/int"}}});
    let validator = ConfigValidator::builder()
        .schema(schema)
        .retriever(|uri| match uri {
            "https://example.org/int" => Ok(json!({"type": "integer"})),
            other => Err(format!("no {other}").into()),
        })
        .build()
        .unwrap();
    assert!(!validator.validate(&tree(&json!({"a": "x"}))).unwrap().is_ok());
}

#[test]
fn a_reference_that_leads_back_to_itself_is_refused_however_it_is_written() {
    for schema in [
        json!({"$ref": "#/%24defs/a", "$defs": {"a": {"$ref": "#/%24defs/a"}}}),
        json!({"$id": "http://x/root.json", "$ref": "http://x/a.json", "$defs": {"a": {"$id": "a.json", "$ref": "http://x/a.json"}}}),
        json!({"$id": "http://x/root.json", "properties": {"x": {"$ref": "a.json"}}, "$defs": {"a": {"$id": "a.json", "allOf": [{"$ref": "#"}]}}}),
        json!({"$schema": "http://json-schema.org/draft-04/schema#", "id": "http://x/root", "allOf": [{"$ref": "http://x/root"}]}),
        json!({"properties": {"default": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
    ] {
        let error = ConfigValidator::new(schema.clone()).err().unwrap_or_else(|| panic!("{schema}"));
        assert_eq!(error.kind(), ErrorKind::Schema, "{schema}");
        assert!(error.to_string().contains("leads back to itself"), "{schema}: {error}");
    }
}

#[test]
fn a_relative_id_counts_once() {
    let item = json!({
        "$id": "schemas/item.json",
        "$defs": {"s": {"type": "string", "writeOnly": true}, "p": {"default": 5432}},
        "properties": {"password": {"$ref": "#/$defs/s"}, "port": {"$ref": "#/$defs/p"}},
    });
    let validator = ConfigValidator::builder()
        .schema(json!({"properties": {"db": {"$ref": "http://x/d.json#/$defs/item"}}}))
        .retriever(move |_| Ok(json!({"$defs": {"item": item}})))
        .build()
        .unwrap();
    let loader = ConfigLoader::new().text("a.json", Format::Json, r#"{"db": {"password": "p"}}"#);
    let tree = loader.validator(validator).load_tree().unwrap();
    assert!(tree.get("db.password").unwrap().is_secret());
    assert_eq!(tree.get("db.port").unwrap().as_i64(), Some(5432));
}

#[test]
fn a_retriever_that_panics_is_an_error() {
    let schema = json!({"$ref": "https://x.test/a"});
    let built = ConfigValidator::builder().schema(schema).retriever(|_| panic!("no")).build();
    let error = built.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Schema);
    assert!(error.to_string().contains("the retriever panicked at https://x.test/a"), "{error}");
}

#[test]
fn what_a_retrieved_document_says_of_secrets_defaults_and_keys_holds() {
    let schema = json!({"properties": {"db": {"$ref": "https://x.test/db.json#/%24defs/db"}}});
    let db = json!({
        "properties": {"port": {"type": "integer", "default": 5432}, "word": {"$ref": "word.json"}},
        "additionalProperties": false,
    });
    let validator = ConfigValidator::builder()
        .schema(schema)
        .retriever(move |uri| match uri {
            "https://x.test/db.json" => Ok(json!({"$defs": {"db": db}})),
            "https://x.test/word.json" => Ok(json!({"type": "string", "writeOnly": true})),
            other => Err(format!("no {other}").into()),
        })
        .build()
        .unwrap();
    let load = |text: &str| {
        ConfigLoader::new().text("a.toml", Format::Toml, text).validator(validator.clone()).load::<Value>()
    };
    let config = load("[db]\nword = 'CANARY'\n").unwrap();
    assert_eq!(config.get()["db"]["port"], 5432);
    assert!(!config.explain("db.word").unwrap().to_string().contains("CANARY"));
    let error = load("[db]\nprot = 1\nword = 'CANARY'\n").unwrap_err().render(Color::Never);
    assert!(error.contains("did you mean `port`?") && !error.contains("CANARY"), "{error}");
}

/// All required cases of the JSON Schema Test Suite, through our validator and our readers, with limits on.
#[test]
fn json_schema_test_suite_gives_the_verdicts_it_has() {
    let Some(suite) = suite("json-schema") else { return };
    let remotes = suite.join("remotes");
    let mut wrong = Vec::new();
    for (draft, uri, least) in [
        ("draft7", "http://json-schema.org/draft-07/schema#", 900),
        ("draft2020-12", "https://json-schema.org/draft/2020-12/schema", 1250),
    ] {
        let mut verdicts = 0;
        for file in std::fs::read_dir(suite.join("tests").join(draft)).unwrap() {
            let path = file.unwrap().path();
            if path.is_dir() {
                continue;
            }
            let cases: Vec<Value> = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
            for case in cases {
                let name = format!(
                    "{draft}/{} {}",
                    path.file_name().unwrap().to_str().unwrap(),
                    case["description"]
                );
                let mut schema = case["schema"].clone();
                if let Some(schema) = schema.as_object_mut() {
                    schema.entry("$schema").or_insert_with(|| uri.into());
                }
                let remotes = remotes.clone();
                let built = ConfigValidator::builder()
                    .schema(schema)
                    .retriever(move |uri| remote(&remotes, uri))
                    .build();
                let validator = match built {
                    Ok(validator) => validator,
                    Err(error) => {
                        wrong.push(format!("{name}: {error}"));
                        continue;
                    }
                };
                for test in case["tests"].as_array().unwrap() {
                    let Ok(data) =
                        Tree::parse("data", Format::Json, test["data"].to_string(), &Limits::default())
                    else {
                        wrong.push(format!("{name}: {} is not read", test["data"]));
                        continue;
                    };
                    match validator.validate(&data) {
                        Ok(report) if report.is_ok() == test["valid"].as_bool().unwrap() => verdicts += 1,
                        Ok(report) => wrong.push(format!("{name}: {}: {report}", test["description"])),
                        Err(error) => wrong.push(format!("{name}: {}: {error}", test["description"])),
                    }
                }
            }
        }
        eprintln!("JSON-Schema-Test-Suite, {draft}: {verdicts} verdicts as they should be");
        assert!(verdicts >= least, "{draft}: {verdicts}");
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

fn remote(folder: &Path, uri: &str) -> Result<Value, Box<dyn std::error::Error + Send + Sync>> {
    let path = uri.strip_prefix("http://localhost:1234/").ok_or_else(|| format!("nobody has {uri}"))?;
    Ok(serde_json::from_slice(&std::fs::read(folder.join(path))?)?)
}

#[test]
fn each_way_to_a_schema_goes_with_all_that_a_builder_has() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("schema.yaml");
    std::fs::write(&file, "properties: {port: {$ref: common.json}, other: {type: integer}}").unwrap();
    let loader = ConfigLoader::new().text("a.toml", Format::Toml, "port = 'x'\nother = 'y'\njobs.a = 'b'");
    let error = loader.clone().schema_file(&file).load_tree().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Schema);
    assert!(error.to_string().contains("`ConfigValidatorBuilder::retriever`"), "{error}");

    let validator = ConfigValidator::builder()
        .schema_file(&file)
        .retriever(|uri| match uri {
            "json-schema:///common.json" => Ok(json!({"type": "integer"})),
            other => Err(other.into()),
        })
        .rule(References::new("jobs.*", "jobs").unwrap())
        .severity("type", Severity::Warning)
        .disable("other", None);
    let error = loader.validator(validator.build().unwrap()).load_tree().unwrap_err();
    let found: Vec<_> = error.report().unwrap().findings().iter().map(|found| found.rule()).collect();
    assert_eq!(found, ["type", "references"]);

    let missing = ConfigValidator::builder().schema_file(folder.path().join("none.json")).build();
    assert_eq!(missing.err().unwrap().kind(), ErrorKind::NotFound);
}

#[cfg(feature = "schemars")]
#[test]
fn the_schema_of_a_type_goes_with_rules() {
    #[derive(schemars::JsonSchema)]
    #[allow(dead_code, reason = "read by the schema alone")]
    struct Settings {
        port: u16,
    }
    let validator = ConfigValidator::builder()
        .schema_of::<Settings>()
        .rule(References::new("jobs.*", "jobs").unwrap())
        .build()
        .unwrap();
    let report = validator.validate(&tree(&json!({"port": "x", "jobs": {"a": "b"}}))).unwrap();
    let found: Vec<_> = report.findings().iter().map(|found| found.rule()).collect();
    assert_eq!(found, ["references", "type"]);
}

#[test]
fn references_that_lead_nowhere_are_refused_where_they_are_made() {
    for (from, to) in [("a..b", "c"), ("a", "c."), ("a", "jobs.*"), ("a", "*")] {
        assert_eq!(References::new(from, to).unwrap_err().kind(), ErrorKind::InvalidInput, "{from} {to}");
    }
    let rule = |from, name| References::new(from, "jobs").unwrap().named(name);
    let validator = ConfigValidator::builder()
        .rule(rule("a", "first"))
        .rule(rule("b", "second"))
        .disable("", Some("first"))
        .build()
        .unwrap();
    let report = validator.validate(&tree(&json!({"a": "x", "b": "y", "jobs": {}}))).unwrap();
    assert_eq!(report.to_string(), "error: a.json:1:14: b: names `y`, which is not in `jobs`");
    assert_eq!(report.findings()[0].rule(), "second");
}

#[test]
fn rules_can_be_chosen_at_run_time() {
    let rules: Vec<Box<dyn Rule>> = vec![
        Box::new(References::new("a", "jobs").unwrap()),
        Box::new(Arc::new(References::new("b", "jobs").unwrap())),
    ];
    let shared: Arc<dyn Rule> = Arc::new(References::new("c", "jobs").unwrap().named("shared"));
    let builder = rules.into_iter().fold(ConfigValidator::builder(), ConfigValidatorBuilder::rule);
    let report = builder
        .rule(shared)
        .build()
        .unwrap()
        .validate(&tree(&json!({"a": "x", "b": "x", "c": "x"})))
        .unwrap();
    let rules: Vec<_> = report.findings().iter().map(Finding::rule).collect();
    assert_eq!(rules, ["references", "references", "shared"]);
}

#[test]
fn what_is_not_wanted_hides_no_error_that_comes_after_it() {
    let schema = json!({
        "properties": {
            "legacy": {"items": {"type": "integer"}},
            "port": {"minimum": 1},
        },
        "additionalProperties": {"properties": {"a": {}}, "additionalProperties": false},
    });
    let build = || ConfigValidator::builder().schema(schema.clone());
    let wrong = json!({"legacy": vec!["x"; 500], "port": 0});
    for validator in [build().disable("legacy", None), build().severity("type", Severity::Warning)] {
        let report = validator.build().unwrap().validate(&tree(&wrong)).unwrap();
        assert!(!report.is_ok(), "{report}");
        assert!(report.findings().iter().any(|finding| finding.path() == "port"), "{report}");
    }
    let loader = ConfigLoader::new().text("a.json", Format::Json, wrong.to_string());
    let loader = loader.validator(build().build().unwrap());
    let error = loader.clone().disable("legacy", None).load::<Value>().unwrap_err();
    assert_eq!(error.report().unwrap().findings().len(), 1, "{error}");
    assert!(loader.disable("legacy", None).disable("port", None).load::<Value>().is_ok());

    // Of one error that names many keys too.
    let keys: serde_json::Map<String, Value> = (0..500).map(|at| (format!("k{at}"), json!(at))).collect();
    let unknown = json!({"other": keys});
    let check =
        |validator: ConfigValidatorBuilder| validator.build().unwrap().validate(&tree(&unknown)).unwrap();
    let warned = check(build().severity("additionalProperties", Severity::Warning));
    assert!(warned.is_ok());
    assert_eq!((warned.findings().len(), warned.unlisted()), (100, 400));
    let off = check(build().disable("other.*", None));
    assert_eq!((off.findings().len(), off.unlisted()), (0, 0));
    assert!(off.is_ok());
    assert!(!check(build()).is_ok());
}

#[test]
fn errors_after_the_last_that_is_made_are_counted() {
    let validator = ConfigValidator::new(json!({"items": {"type": "integer"}})).unwrap();
    let report = validator.validate(&tree(&json!(vec!["x"; 10_000]))).unwrap();
    assert_eq!(report.findings().len(), 100);
    assert_eq!(report.unlisted(), 317);
}

#[test]
fn a_value_that_the_schema_has_as_secret_is_in_no_message() {
    let schema = json!({"properties": {
        "password": {"writeOnly": true, "maxLength": 3, "pattern": "^x", "enum": ["a"]},
        "auth": {"writeOnly": true, "properties": {"user": {"maxLength": 3}}},
    }});
    let validator = ConfigValidator::new(schema).unwrap();
    let text = "password = 'hunter2'\n[auth]\nuser = 'hunter2'\n";
    let report =
        validator.validate(&Tree::parse("t", Format::Toml, text, &Limits::default()).unwrap()).unwrap();
    assert_eq!(report.findings().len(), 4, "{report}");
    let fixed = validator.autofix("t", Format::Toml, text).unwrap();
    for shown in [
        report.to_string(),
        format!("{report:?}"),
        report.render(Color::Never),
        fixed.report().to_string(),
        format!("{fixed:?}"),
    ] {
        assert!(!shown.to_lowercase().contains("hunter2"), "{shown}");
    }
}

#[test]
fn defaults_of_what_holds_itself_are_filled_once() {
    let schema = json!({"properties": {
        "a": {"$ref": "#"}, "b": {"$ref": "#"}, "c": {"$ref": "#"}, "d": {"$ref": "#"}, "v": {"default": 1},
    }});
    let load = |schema: Value, text: &str| {
        let loader = ConfigLoader::new().text("a.json", Format::Json, text);
        loader
            .validator(ConfigValidator::new(schema).unwrap())
            .load::<Value>()
            .map(|config| config.get().tree().to_json())
    };
    assert_eq!(load(schema.clone(), "{}").unwrap(), json!({"v": 1}));
    assert_eq!(load(schema, r#"{"a": {"b": {}}}"#).unwrap(), json!({"a": {"b": {"v": 1}, "v": 1}, "v": 1}));

    // Tables that differ, each holding the next three times.
    let mut defs: serde_json::Map<String, Value> = (0..14)
        .map(|at| {
            let next = json!({"$ref": format!("#/$defs/d{}", at + 1)});
            (format!("d{at}"), json!({"properties": {"a": next, "b": next, "c": next}}))
        })
        .collect();
    defs.insert("d14".into(), json!({"properties": {"v": {"default": 1}}}));
    let error = load(json!({"$ref": "#/$defs/d0", "$defs": defs}), "{}").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(error.to_string().contains("filling in defaults"), "{error}");
}

#[test]
fn a_document_that_is_fetched_may_not_be_deeper_than_the_limit() {
    let deep = |levels: usize| {
        let document = (0..levels).fold(json!({}), |below, at| match at % 2 {
            0 => json!({"x-note": below}),
            _ => json!([below]),
        });
        ConfigValidator::builder()
            .schema(json!({"properties": {"a": {"$ref": "http://x.test/a"}}}))
            .retriever(move |_| Ok(json!({"type": "integer", "examples": document})))
            .build()
            .map(drop)
    };
    deep(20).unwrap();
    assert_eq!(deep(400).unwrap_err().kind(), ErrorKind::Limit);
}

#[test]
fn a_frame_shows_no_character_that_a_terminal_acts_upon() {
    let text = "{\"port\": \"\u{202e}\u{2066}1\", \"\\u001b[2J\": 1}";
    let schema = json!({"properties": {"port": {"type": "integer"}}, "additionalProperties": false});
    let tree = Tree::parse("a.json", Format::Json, text, &Limits::default()).unwrap();
    let shown = ConfigValidator::new(schema).unwrap().validate(&tree).unwrap().render(Color::Never);
    assert!(!shown.contains(['\u{202e}', '\u{2066}', '\u{1b}']), "{shown}");
    assert_eq!(shown.matches("\"\u{fffd}\u{fffd}1\"").count(), 2, "{shown}");
}
