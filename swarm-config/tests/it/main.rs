//! The behaviour of the crate as its users see it.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs, reason = "tests")]

mod answers;
mod autofix;
mod bombs;
mod cache;
mod canaries;
mod explain;
mod features;
mod incremental;
mod instances;
mod layers;
mod limits;
mod live;
mod merge;
mod real;
mod secrets;
mod sections;
#[cfg(feature = "sops")]
mod sops;
mod subscribers;
mod suites;
mod validation;

/// Every file of this folder is declared above, so that no test is left out by accident.
#[test]
fn every_file_here_is_declared() {
    let source = include_str!("main.rs");
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let module = name.trim_end_matches(".rs");
        assert!(module == "main" || source.contains(&format!("mod {module};")), "{name} is not declared");
    }
}
