//! Any YAML with references in it: an end within the limits, and texts without references stay what they are.
//!
//! `cargo +nightly fuzz run config_interpolate`
#![no_main]

use libfuzzer_sys::fuzz_target;
use swarm_config::{Color, ConfigLoader, Format, Limits};

fuzz_target!(|text: &str| {
    let mut limits = Limits::default();
    limits.bytes = 1 << 16;
    limits.nodes = 1 << 12;
    let loader = ConfigLoader::new()
        .text("fuzz", Format::Yaml, text)
        .env_from("APP", [("APP_A", "${b}"), ("HOME", "h")])
        .limits(limits);
    let Ok(literal) = loader.clone().without_interpolation().load_tree() else { return };
    match loader.load_tree() {
        Ok(tree) => {
            if !literal.to_json().to_string().contains("${") {
                assert_eq!(tree.to_json(), literal.to_json());
            }
            drop(tree.diff(&literal));
        }
        Err(error) => drop(error.render(Color::Never)),
    }
});
