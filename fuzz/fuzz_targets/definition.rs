//! Any text as a pipeline file, in each format: a pipeline or a typed error, and the same answer again.
//!
//! `cargo +nightly fuzz run definition`
#![no_main]

use libfuzzer_sys::fuzz_target;
use swarm_pipeline::{ErrorKind, Format, StepRegistry};

fuzz_target!(|text: &str| {
    let mut registry = StepRegistry::with_shell();
    registry.register("any", |_: serde_json::Value| Ok::<_, String>(swarm_pipeline::Shell::new("true")));
    for format in [Format::Toml, Format::Yaml, Format::Json] {
        match (registry.parse(text, format), registry.parse(text, format)) {
            (Ok(pipeline), Ok(again)) => assert_eq!(pipeline.fingerprint(), again.fingerprint()),
            (Err(error), Err(again)) => {
                assert_eq!(error.kind(), ErrorKind::Definition);
                assert_eq!(error.to_string(), again.to_string());
            }
            (first, second) => panic!("{format:?}: {first:?} and then {second:?}"),
        }
    }
});
