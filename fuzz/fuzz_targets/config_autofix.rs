//! Any text to be mended against a schema, in each format: what comes out is read, has fewer errors for each edit,
//! and needs no more edits.
//!
//! `cargo +nightly fuzz run config_autofix`
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use serde_json::json;
use swarm_config::{ConfigValidator, Format, Limits, Severity, Tree};

static VALIDATOR: LazyLock<ConfigValidator> = LazyLock::new(|| {
    let schema = json!({
        "properties": {
            "port": {"type": "integer"},
            "debug": {"type": "boolean"},
            "level": {"enum": ["INFO", "WARNING"]},
            "retries": {"type": "integer", "default": 3},
            "old_name": {"deprecated": true, "x-renamed-to": "new_name"},
            "new_name": {"type": "string"},
            "db": {"properties": {"pool_size": {"type": "integer"}, "ratio": {"type": "number", "default": 0.5}},
                "required": ["ratio"], "additionalProperties": false},
        },
        "required": ["retries"],
        "additionalProperties": false,
    });
    ConfigValidator::new(schema).expect("a schema")
});

fn errors(format: Format, text: &str) -> usize {
    let tree = Tree::parse("fuzz", format, text, &Limits::default()).expect("what was mended is read");
    let report = VALIDATOR.validate(&tree).expect("within the limits");
    report.findings().iter().filter(|finding| finding.severity() == Severity::Error).count() + report.unlisted()
}

fuzz_target!(|text: &str| {
    for format in [Format::Json, Format::Toml, Format::Yaml] {
        let Ok(fixed) = VALIDATOR.autofix_whole("fuzz", format, text) else { continue };
        assert_eq!(fixed.text() == text, fixed.fixes().is_empty());
        assert_eq!(fixed.diff().is_empty(), fixed.text().lines().eq(text.lines()));
        assert!(errors(format, fixed.text()) <= errors(format, text));
        let again = VALIDATOR.autofix_whole("fuzz", format, fixed.text()).expect("what was mended is read");
        if fixed.fixes().len() < 200 {
            assert!(again.fixes().is_empty(), "{:?}", again.fixes());
        }
    }
});
