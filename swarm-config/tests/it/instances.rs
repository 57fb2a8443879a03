use std::time::Duration;

use futures::{FutureExt as _, StreamExt as _};
use serde_json::{Value, json};
use swarm_config::testing::{FakeSource, Instances, ManualWatch};
use swarm_config::{ConfigEvent, ConfigLoader, ConfigValidator, ErrorKind, Format};

fn schema() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 2, "maxLength": 5},
            "port": {"$ref": "#/$defs/port"},
            "ratio": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
            "level": {"enum": ["info", "debug"]},
            "host": {"type": "string", "format": "hostname", "examples": ["a.example", "b.example"]},
            "tags": {"type": "array", "items": {"type": "string", "minLength": 1}, "minItems": 1, "maxItems": 3},
            "next": {"anyOf": [{"type": "null"}, {"$ref": "#"}]},
            "pools": {"type": "object", "additionalProperties": {"allOf": [{"type": "integer", "multipleOf": 8}, {"minimum": 8}]}},
        },
        "required": ["name", "port", "tags"],
        "additionalProperties": false,
        "$defs": {"port": {"type": "integer", "minimum": 1, "maximum": 65535}},
    })
}

#[test]
fn instances_are_what_they_are_said_to_be() {
    // Another validator than the one that they come from, compiled and asked by a loader.
    let validator = ConfigValidator::builder().schema(schema()).formats().build().unwrap();
    let load = |value: &Value| {
        let loader = ConfigLoader::new().text("a.json", Format::Json, value.to_string());
        loader.validator(validator.clone()).load_tree()
    };
    let mut instances = Instances::new(schema(), 1).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        let valid = instances.valid().unwrap();
        load(&valid).unwrap_or_else(|error| panic!("{valid}: {error}"));
        seen.extend(valid.as_object().unwrap().keys().cloned());
        let invalid = instances.invalid().unwrap();
        // A loader has its own word for a root that is no table.
        let expected = if invalid.is_object() { ErrorKind::Invalid } else { ErrorKind::Type };
        assert_eq!(load(&invalid).unwrap_err().kind(), expected, "{invalid}");
    }
    assert_eq!(seen.len(), 8, "every key is there at times: {seen:?}");
}

#[test]
fn the_same_seed_gives_the_same_instances() {
    let first = |seed| {
        let mut instances = Instances::new(schema(), seed).unwrap();
        (0..5).map(|_| (instances.valid(), instances.invalid())).collect::<Vec<_>>()
    };
    assert_eq!(first(3), first(3));
    assert_ne!(first(3), first(4));
}

#[test]
fn nothing_is_invalid_where_everything_is_allowed() {
    let mut instances = Instances::new(json!({}), 1).unwrap();
    assert!(instances.valid().is_some());
    assert_eq!(instances.invalid(), None);
    assert_eq!(Instances::new(json!(false), 1).unwrap().valid(), None);
}

#[test]
fn a_fake_source_is_watched_like_a_file() {
    let source = FakeSource::new("app.json", Format::Json, "{\"limit\": 1}");
    let config = ConfigLoader::new().fake(&source).load::<Value>().unwrap();
    let mut watch = ManualWatch::new(&config);
    source.fail(ErrorKind::NotFound);
    watch.touched("app.json");
    watch.advance(Duration::from_millis(10));
    let event = watch.events().next().now_or_never().flatten();
    assert!(
        matches!(event, Some(ConfigEvent::Rejected { error, .. }) if error.kind() == ErrorKind::NotFound)
    );
    source.set("{\"limit\": 2}");
    watch.touched("app.json");
    watch.advance(Duration::from_millis(10));
    assert_eq!(config.get()["limit"], 2);
}
