//! The templates in `guests`, each built with the tool of its language.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::json;
use swarm_plugin::WasmLoader;
use swarm_plugin::testing::PluginFolder;

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

fn template(language: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("guests").join(language)
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}{}", String::from_utf8_lossy(&output.stdout));
}

/// The kit, and that it counts.
async fn counts_words(component: &Path) {
    let component = std::fs::read(component).unwrap();
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
    if has("componentize-py").is_none() {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let component = out.path().join("words.wasm");
    run(Command::new("componentize-py")
        .current_dir(template("python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args(["-d", "../../wit", "-w", "plugin", "componentize", "words", "-o"])
        .arg(&component));
    counts_words(&component).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_in_javascript_keeps_the_contract() {
    if has("componentize-js").is_none() {
        return;
    }
    let out = tempfile::tempdir().unwrap();
    let component = out.path().join("words.wasm");
    run(Command::new("componentize-js")
        .current_dir(template("javascript"))
        .args(["words.js", "-w", "../../wit", "-n", "plugin", "-o"])
        .arg(&component)
        .args(["-d", "http", "-d", "fetch-event"]));
    counts_words(&component).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_in_c_keeps_the_contract() {
    let Some(zig) = has("python-zig") else { return };
    let Some(jco) = has("jco") else { return };
    let out = tempfile::tempdir().unwrap();
    let (core, component) = (out.path().join("core.wasm"), out.path().join("words.wasm"));
    run(Command::new(zig)
        .current_dir(template("c"))
        .args(["cc", "-target", "wasm32-freestanding", "-O2", "-nostdlib", "-Wl,--no-entry", "words.c", "-o"])
        .arg(&core));
    // A script finds its packages beside itself.
    let packages = jco.parent().and_then(Path::parent).unwrap();
    std::os::unix::fs::symlink(packages, out.path().join("node_modules")).unwrap();
    std::fs::copy(template("c").join("build.mjs"), out.path().join("build.mjs")).unwrap();
    run(Command::new("node").current_dir(out.path()).args([
        Path::new("build.mjs"),
        &core,
        &template("c").join("../../wit/plugin.wit"),
        &component,
    ]));
    counts_words(&component).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_in_rust_keeps_the_contract() {
    const TARGET: &str = "wasm32-wasip2";
    let folder =
        Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]).output().unwrap();
    if !Path::new(String::from_utf8_lossy(&folder.stdout).trim()).is_dir() {
        eprintln!("left out: a test with Rust's target {TARGET}, which is not here");
        return;
    }
    let out = tempfile::tempdir().unwrap();
    run(Command::new("cargo").current_dir(template("rust")).env("CARGO_TARGET_DIR", out.path()).args([
        "build",
        "--quiet",
        "--release",
        "--target",
        TARGET,
    ]));
    counts_words(&out.path().join(TARGET).join("release/words.wasm")).await;
}
