//! Two JSON texts, a line between them, as layers: what RFC 7396 makes of them, and the same again.
//!
//! `cargo +nightly fuzz run config_merge`
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use swarm_config::{ConfigLoader, Format, Limits, Tree};

fn patch(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = match target {
        Value::Object(target) => target,
        _ => serde_json::Map::new(),
    };
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.remove(key)),
            value => {
                let below = target.remove(key).unwrap_or(Value::Null);
                target.insert(key.clone(), self::patch(below, value));
            }
        }
    }
    Value::Object(target)
}

fuzz_target!(|text: &str| {
    let Some((base, over)) = text.split_once('\n') else { return };
    let read = |text: &str| Tree::parse("fuzz", Format::Json, text, &Limits::default()).ok();
    let (Some(one), Some(two)) = (read(base), read(over)) else { return };
    let (one, two) = (one.to_json(), two.to_json());
    let load = |texts: &[&str]| {
        let loader = ConfigLoader::new().without_interpolation();
        texts.iter().fold(loader, |loader, text| loader.text("layer", Format::Json, *text)).load_tree()
    };
    match load(&[base, over]) {
        Ok(merged) => {
            // The lowest layer stands as it is, nulls and all.
            assert_eq!(merged.to_json(), patch(one, &two));
            let again = load(&[base, over, over]).expect("loads once more");
            assert_eq!(again.to_json(), merged.to_json(), "an overlay given twice");
        }
        Err(error) => assert!(!(one.is_object() && two.is_object()), "{error}"),
    }
});
