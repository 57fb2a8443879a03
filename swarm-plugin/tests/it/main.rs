//! The behaviour of the crate as its users see it.
#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs, reason = "tests")]

mod calls;
mod catalogue;
mod features;
mod folders;
#[cfg(all(target_os = "linux", feature = "process", feature = "native"))]
mod hostile;
mod kit;
mod load;
mod manifest;
mod mines;
#[cfg(all(unix, feature = "native"))]
mod native;
#[cfg(all(unix, feature = "process"))]
mod process;
mod races;
mod reload;
#[cfg(all(unix, feature = "process", feature = "serve_mcp"))]
mod serve;
#[cfg(unix)]
mod signatures;
mod tool;
#[cfg(all(target_os = "linux", feature = "process", feature = "native"))]
mod traced;
#[cfg(feature = "wasm")]
mod wasm;

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
