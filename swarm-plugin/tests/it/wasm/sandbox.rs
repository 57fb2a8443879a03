use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use serde_json::json;
use swarm_plugin::testing::PluginFolder;
use swarm_plugin::{Access, PluginManager, WasmLoader};

use super::{ASKS, builder};

/// Codes of WASI, each one more than there.
const NOT_PERMITTED: u64 = 32;
const READ_ONLY: u64 = 34;
const ACCESS_DENIED: u64 = 2;
const NO_FOLDER: u64 = 100;

async fn asks(grants: &str, loader: WasmLoader) -> (PluginFolder, PluginManager) {
    let folder = PluginFolder::new().unwrap();
    let manifest = format!("name = \"asks\"\nversion = \"1.0.0\"\nkind = \"wasm\"\n[grants]\n{grants}\n");
    folder.folder("asks", &[("plugin.toml", &manifest)]).unwrap();
    fs::write(folder.path().join("asks/asks.wasm"), wat::parse_str(ASKS).unwrap()).unwrap();
    let plugins = builder(&folder, loader).start().await.unwrap();
    (folder, plugins)
}

async fn answer(plugins: &PluginManager, what: &str) -> u64 {
    plugins.call("asks", json!({ "ask": what })).await.unwrap().as_u64().unwrap()
}

#[tokio::test]
async fn a_component_has_nothing_that_it_was_not_granted() {
    let home = tempfile::tempdir().unwrap();
    let loader = WasmLoader::new().folder("data", home.path(), Access::Write).env("SECRET", "x").clock();
    let (_folder, plugins) = asks("", loader).await;
    assert_eq!(answer(&plugins, "dhere").await, NO_FOLDER);
    assert_eq!(answer(&plugins, "environment").await, 0);
    assert_eq!(answer(&plugins, "clock").await, 0);
    assert_eq!(answer(&plugins, "network").await, ACCESS_DENIED);
    assert_eq!(fs::read_dir(home.path()).unwrap().count(), 0);
    plugins.shutdown().await;
}

#[test]
fn values_of_the_environment_are_not_shown() {
    let shown = format!("{:?}", WasmLoader::new().env("API_KEY", "hunter2"));
    assert!(shown.contains("API_KEY") && !shown.contains("hunter2"), "{shown}");
}

#[tokio::test]
async fn what_is_granted_ends_at_its_edge() {
    let home = tempfile::tempdir().unwrap();
    let (inside, outside) = (home.path().join("inside"), home.path().join("outside"));
    for path in [&inside, &outside] {
        fs::create_dir(path).unwrap();
    }
    symlink(&outside, inside.join("out")).unwrap();
    symlink("../outside", inside.join("up")).unwrap();
    let loader = || {
        let loader = WasmLoader::new().folder("data", &inside, Access::Write);
        loader.env("LANG", "C").env("HOME", "nowhere").clock()
    };
    let grants = "folders = { data = \"write\" }\nenv = [\"LANG\"]\nclock = true";
    let (_folder, plugins) = asks(grants, loader()).await;
    assert_eq!(answer(&plugins, "dmine").await, 0);
    assert!(inside.join("mine").is_dir());
    for path in ["d../outside/x", "dout/x", "dup/x", "dmine/../../outside/x"] {
        assert_eq!(answer(&plugins, path).await, NOT_PERMITTED, "{path}");
    }
    assert_ne!(answer(&plugins, &format!("d{}/x", outside.display())).await, 0);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(answer(&plugins, "environment").await, 1);
    assert_eq!(answer(&plugins, "clock").await, 1);
    assert_eq!(answer(&plugins, "network").await, ACCESS_DENIED);
    plugins.shutdown().await;

    // A plugin may ask for less than is offered.
    let (_folder, plugins) = asks("folders = { data = \"read\" }", loader()).await;
    let code = answer(&plugins, "dother").await;
    assert!([NOT_PERMITTED, READ_ONLY].contains(&code), "{code}");
    assert!(!inside.join("other").exists());
    plugins.shutdown().await;
}

#[tokio::test]
async fn what_is_not_offered_is_refused() {
    for grants in [
        "folders = { data = \"read\" }",
        "env = [\"HOME\"]",
        "clock = true",
        "hosts = [\"example.com\"]",
        "files = [\"data\"]",
    ] {
        let (_folder, plugins) =
            asks(grants, WasmLoader::new().folder("other", Path::new("."), Access::Read)).await;
        assert!(plugins.get("asks").is_none(), "{grants}");
        plugins.shutdown().await;
    }
}
