//! Any text as an encrypted file, and as one to encrypt, in each format: a typed error, or a file that opens to the
//! same values.
//!
//! `cargo +nightly fuzz run config_sops`
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use swarm_config::{AgeKeys, Format, Limits, SopsFile, SopsOptions, Tree};

static KEYS: LazyLock<AgeKeys> = LazyLock::new(AgeKeys::generate);
static OPTIONS: LazyLock<SopsOptions> = LazyLock::new(|| SopsOptions::new(KEYS.recipients()));

fn content(format: Format, text: &str) -> Value {
    numbers(
        Tree::parse("text", format, text, &Limits::default()).map(|tree| tree.to_json()).unwrap_or_default(),
    )
}

/// `1` and `1.0` are the same number, as in JSON, and so are both noughts.
fn numbers(value: Value) -> Value {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => Value::from(float as i64),
            _ => Value::Number(number),
        },
        Value::Array(items) => items.into_iter().map(numbers).collect(),
        Value::Object(entries) => entries.into_iter().map(|(key, value)| (key, numbers(value))).collect(),
        other => other,
    }
}

fuzz_target!(|text: &str| {
    for format in [Format::Yaml, Format::Json, Format::Dotenv, Format::Ini] {
        if let Ok(file) = SopsFile::parse("text", format, text, &Limits::default()) {
            // Nobody has the key, so nothing is told.
            assert!(file.decrypt(&KEYS).is_err());
        }
        let Ok(file) = SopsFile::encrypt("text", format, text, &OPTIONS) else { continue };
        match file.decrypt(&KEYS) {
            Ok(plain) => assert_eq!(content(format, plain.expose()), content(format, text), "{plain:?}"),
            // A text that is not written on one line, which only the loader takes.
            Err(error) => assert_eq!(format, Format::Ini, "{error}"),
        }
    }
});
