//! The templates in `guests`, each built with the tool of its language, as `guests/README.md` says.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use swarm_plugin::WasmLoader;
use swarm_plugin::testing::PluginFolder;
use tempfile::TempDir;

use super::{builder, conforms};

/// Where a program is. Says aloud that the test is left out where it is not.
fn has(program: &str) -> Option<PathBuf> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let here = std::env::split_paths(&paths).map(|folder| folder.join(program)).find(|path| path.is_file());
    if here.is_none() {
        eprintln!("left out: a test with the program `{program}`, which is not here");
    }
    here
}

/// A copy of a template, beside one of the interface as in the crate: tools leave files beside what they build.
fn template(language: &str) -> (TempDir, PathBuf) {
    let (home, ours) = (tempfile::tempdir().unwrap(), Path::new(env!("CARGO_MANIFEST_DIR")));
    let folder = Path::new("guests").join(language);
    for part in [Path::new("wit"), &folder] {
        copy(&ours.join(part), &home.path().join(part));
    }
    let folder = home.path().join(folder);
    (home, folder)
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (from, to) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if from.is_dir() {
            copy(&from, &to);
        } else {
            fs::copy(from, to).unwrap();
        }
    }
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
}

/// The kit, and that it counts.
async fn counts_words(component: &Path) {
    let component = fs::read(component).unwrap();
    // Compiled once for all of it.
    let (folder, home) = (PluginFolder::new().unwrap(), tempfile::tempdir().unwrap());
    let loader = WasmLoader::new().cache(home.path().join("compiled"));
    conforms(&loader, "words", &component, json!({"text": "one two"})).await;
    folder.program("words.wasm", component).unwrap();
    let plugins = builder(&folder, loader).start().await.unwrap();
    for (text, words) in [("", 0), ("one", 1), ("  grün  und\nblau ", 3)] {
        assert_eq!(plugins.call("words", json!({ "text": text })).await.unwrap(), json!({ "words": words }));
    }
    assert_eq!(plugins.get("words").unwrap().manifest().description(), "Counts the words of a text");
    plugins.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_in_python_keeps_the_contract() {
    let Some(tool) = has("componentize-py") else { return };
    let (_home, here) = template("python");
    let words = ["-d", "../../wit", "-w", "plugin", "componentize", "words", "-o", "words.wasm"];
    run(Command::new(tool).current_dir(&here).args(words));
    counts_words(&here.join("words.wasm")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_in_javascript_keeps_the_contract() {
    let Some(tool) = has("componentize-js") else { return };
    let (_home, here) = template("javascript");
    let words = ["words.js", "-w", "../../wit", "-n", "plugin", "-o", "words.wasm"];
    run(Command::new(tool).current_dir(&here).args(words).args(["-d", "http", "-d", "fetch-event"]));
    counts_words(&here.join("words.wasm")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_in_c_keeps_the_contract() {
    let Some(zig) = has("python-zig") else { return };
    let Some(jco) = has("jco") else { return };
    let (_home, here) = template("c");
    run(Command::new(zig)
        .current_dir(&here)
        .args(["cc", "-target", "wasm32-freestanding", "-O2", "-nostdlib", "-Wl,--no-entry"])
        .args(["words.c", "-o", "core.wasm"]));
    // A script finds its packages beside itself.
    let packages = jco.parent().and_then(Path::parent).unwrap();
    std::os::unix::fs::symlink(packages, here.join("node_modules")).unwrap();
    let words = ["build.mjs", "core.wasm", "../../wit/plugin.wit", "words.wasm"];
    run(Command::new("node").current_dir(&here).args(words));
    counts_words(&here.join("words.wasm")).await;
}

/// What `rustc --print` says.
fn printed(what: &[&str]) -> PathBuf {
    let output = Command::new("rustc").arg("--print").args(what).output().unwrap();
    PathBuf::from(String::from_utf8_lossy(&output.stdout).trim())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_in_rust_keeps_the_contract() {
    let (_home, here) = template("rust");
    let mut cargo = Command::new("cargo");
    let target = if printed(&["target-libdir", "--target", "wasm32-wasip2"]).is_dir() {
        "wasm32-wasip2"
    } else {
        // A compiler beside its library's source, as distributions have it, and the linker that Rust has for that target.
        let Some(rustc) = has("rustc-web") else { return };
        let linkers = printed(&["target-libdir"]).with_file_name("bin");
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let paths = std::env::split_paths(&paths).chain([linkers.join("gcc-ld")]);
        cargo
            .env("PATH", std::env::join_paths(paths).unwrap())
            .env("RUSTC", rustc)
            .env("RUSTC_BOOTSTRAP", "1");
        cargo.env("CARGO_TARGET_WASM32_UNKNOWN_UNKNOWN_LINKER", linkers.join("wasm-component-ld"));
        cargo.args(["-Zbuild-std=std,panic_abort", "-Zbuild-std-features="]);
        "wasm32-unknown-unknown"
    };
    // The library is built once.
    let out = Path::new(env!("CARGO_TARGET_TMPDIR")).join("guests");
    let build = ["build", "--quiet", "--release", "--target", target];
    run(cargo.current_dir(&here).env("CARGO_TARGET_DIR", &out).args(build));
    counts_words(&out.join(target).join("release/words.wasm")).await;
}
