//! Any bytes as `plugin.toml`, as a program and as a name: found or refused with a reason, and what is found can be used.
//!
//! `cargo +nightly fuzz run plugin_manifest`
#![no_main]

use std::fs;
use std::path::Path;
use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use swarm_plugin::{PluginDiscovery, PublicKey};

static KEY: LazyLock<PublicKey> = LazyLock::new(|| {
    "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3".parse().expect("a key") // typos:ignore-line
});

/// In memory where there is such a place.
fn folder() -> std::path::PathBuf {
    let base = Path::new("/dev/shm");
    let base = if base.is_dir() { base.to_owned() } else { std::env::temp_dir() };
    base.join(format!("swarm-fuzz-{}", std::process::id()))
}

fuzz_target!(|data: &[u8]| {
    let root = folder();
    let _ = fs::remove_dir_all(&root);
    let (plugins, store) = (root.join("plugins"), root.join("store"));
    for folder in [&plugins.join("tool"), &store] {
        fs::create_dir_all(folder).expect("a folder can be made");
    }
    let write = |path: &str| fs::write(plugins.join(path), data);
    for path in ["tool/plugin.toml", "tool.wasm.minisig", "tool.wasm", "tool.sh"] {
        write(path).expect("a file can be written");
    }
    // What may be said by a name ends at what a file system takes.
    if let Ok(name) = std::str::from_utf8(&data[..data.len().min(100)])
        && !name.contains(['/', '\0'])
    {
        let _ = write(name);
    }
    let discovery = PluginDiscovery::new().folder(&plugins);
    let (found, unusable) = discovery.scan(&store).expect("the folders can be read");
    for found in found {
        let manifest = found.manifest().build().expect("what was found has a manifest");
        assert!(manifest.name().len() <= 64 && found.copy().starts_with(&store), "{found:?}");
    }
    for unusable in unusable {
        assert!(!unusable.reason().is_empty() && !unusable.reason().contains('\u{1b}'), "{unusable:?}");
    }
    // Nobody signs what comes from nowhere.
    let (found, _) = discovery.signed_by(KEY.clone()).scan(&store).expect("the folders can be read");
    assert!(found.is_empty(), "{found:?}");
    let _ = fs::remove_dir_all(&root);
});
