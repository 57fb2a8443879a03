//! Any bytes as a configuration, in each format: a tree or a typed error, and every value of a tree in its place.
//!
//! `cargo +nightly fuzz run config_read`
#![no_main]

use libfuzzer_sys::fuzz_target;
use swarm_config::{Color, Format, Limits, Tree, Value};

fn look(value: Value<'_>) {
    assert!(value.location().line().is_some_and(|line| line > 0));
    value.items().for_each(look);
    for (key, child) in value.entries() {
        let found = value.get(key).expect("a key that is listed is found");
        assert!(found == child, "{key} is there twice");
        look(child);
    }
}

/// Whether both hold the same, but that `-0` is an integer to us, as in TOML and YAML, and to `serde_json` none.
fn is_same(ours: &serde_json::Value, theirs: &serde_json::Value) -> bool {
    use serde_json::Value::{Array, Number, Object};
    match (ours, theirs) {
        (Array(ours), Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(ours, theirs)| is_same(ours, theirs))
        }
        (Object(ours), Object(theirs)) => {
            ours.len() == theirs.len()
                && ours.iter().all(|(key, ours)| theirs.get(key).is_some_and(|theirs| is_same(ours, theirs)))
        }
        (Number(ours), Number(theirs)) if ours.as_i64() == Some(0) => theirs.as_f64() == Some(0.0),
        _ => ours == theirs,
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut limits = Limits::default();
    limits.bytes = 1 << 16;
    limits.nodes = 1 << 14;
    for format in [Format::Json, Format::Toml, Format::Yaml] {
        match Tree::parse("fuzz", format, bytes, &limits) {
            Ok(tree) => {
                look(tree.root());
                let json = tree.to_json().to_string();
                let again = Tree::parse("json", Format::Json, &json, &Limits::default())
                    .expect("what we write we read");
                assert!(again.root() == tree.root(), "{json}");
                if format == Format::Json {
                    // Ours is stricter and never laxer.
                    let text = std::str::from_utf8(bytes).expect("read as text");
                    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
                    let theirs: serde_json::Value = serde_json::from_str(text).expect("JSON to others too");
                    assert!(is_same(&tree.to_json(), &theirs), "{} is not {theirs}", tree.to_json());
                }
            }
            Err(error) => {
                error.render(Color::Never);
                assert!(!error.to_string().is_empty());
            }
        }
    }
});
