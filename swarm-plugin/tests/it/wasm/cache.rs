use std::fs;
use std::path::{Path, PathBuf};

use serde_json::json;
use swarm_plugin::testing::PluginFolder;
use swarm_plugin::{PluginManager, WasmLoader};

use super::{Guest, builder, told, unruly};

async fn with(folder: &PluginFolder, cache: &Path) -> PluginManager {
    builder(folder, WasmLoader::new().cache(cache)).start().await.unwrap()
}

/// The one compiled component that is there.
fn entry(cache: &Path) -> PathBuf {
    let names = fs::read_dir(cache).unwrap().map(|entry| entry.unwrap().path());
    let mut entries: Vec<_> = names.filter(|path| path.file_name().unwrap() != "key").collect();
    assert_eq!(entries.len(), 1, "{entries:?}");
    entries.remove(0)
}

#[tokio::test]
async fn what_was_compiled_is_used_again_and_never_when_it_was_changed() {
    let (folder, home) = (PluginFolder::new().unwrap(), tempfile::tempdir().unwrap());
    let cache = home.path().join("cache/wasm");
    folder.program("unruly.wasm", Guest::new("1.0.0").bytes()).unwrap();
    let answers = async || {
        let plugins = with(&folder, &cache).await;
        assert_eq!(told(&plugins, "echo").await.unwrap(), json!({"do": "echo"}));
        plugins.shutdown().await;
    };
    answers().await;
    let path = entry(&cache);
    let written = fs::read(&path).unwrap();
    let inode = || std::os::unix::fs::MetadataExt::ino(&fs::metadata(&path).unwrap());
    let first = inode();
    answers().await;
    assert_eq!(inode(), first, "it was not written again");

    let length = written.len();
    for damage in [0, 100, length / 3, length / 2, length - 33, length - 1] {
        let mut bytes = written.clone();
        bytes[damage] ^= 1;
        fs::write(&path, bytes).unwrap();
        answers().await;
        assert_eq!(fs::read(&path).unwrap(), written, "byte {damage}: it was compiled anew");
    }
    for short in [0, 31, 32, length / 2, length - 1] {
        fs::write(&path, &written[..short]).unwrap();
        answers().await;
        assert_eq!(fs::read(&path).unwrap(), written, "{short} bytes: it was compiled anew");
    }

    // That of another component, in its place.
    let other = PluginFolder::new().unwrap();
    other.program("unruly.wasm", Guest::new("2.0.0").bytes()).unwrap();
    with(&other, &cache).await.shutdown().await;
    let names = fs::read_dir(&cache).unwrap().map(|entry| entry.unwrap().path());
    let foreign = names.into_iter().find(|name| *name != path && !name.ends_with("key")).unwrap();
    fs::copy(&foreign, &path).unwrap();
    let plugins = with(&folder, &cache).await;
    assert_eq!(plugins.get("unruly").unwrap().manifest().version().to_string(), "1.0.0");
    plugins.shutdown().await;
    assert_eq!(fs::read(&path).unwrap(), written);

    // Another key: nothing of before is taken.
    fs::write(cache.join("key"), [7; 32]).unwrap();
    answers().await;
    assert_ne!(fs::read(&path).unwrap(), written);
}

#[tokio::test]
async fn a_cache_that_others_may_write_to_is_refused() {
    use std::os::unix::fs::{PermissionsExt, symlink};
    let (folder, home) = (PluginFolder::new().unwrap(), tempfile::tempdir().unwrap());
    let cache = home.path().join("cache");
    folder.program("unruly.wasm", Guest::new("1.0.0").bytes()).unwrap();
    let loads = async |cache: &Path| {
        let plugins = with(&folder, cache).await;
        let loaded = plugins.get("unruly").is_some();
        plugins.shutdown().await;
        loaded
    };
    assert!(loads(&cache).await);
    let mode = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    mode(&cache, 0o755);
    assert!(!loads(&cache).await, "others may read the key's folder");
    mode(&cache, 0o700);
    mode(&cache.join("key"), 0o644);
    assert!(!loads(&cache).await, "others may read the key");
    mode(&cache.join("key"), 0o600);
    symlink(&cache, home.path().join("link")).unwrap();
    assert!(!loads(&home.path().join("link")).await, "a link");
    mode(&entry(&cache), 0o666);
    assert!(loads(&cache).await, "it was compiled anew");
    assert_eq!(fs::metadata(entry(&cache)).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn what_is_set_on_a_clone_holds_for_it() {
    let home = tempfile::tempdir().unwrap();
    let cache = home.path().join("compiled");
    let loader = WasmLoader::new();
    let (_folder, first) = unruly(&Guest::new("1.0.0"), loader.clone()).await;
    let (_folder, second) = unruly(&Guest::new("1.0.0"), loader.cache(&cache)).await;
    assert!(entry(&cache).is_file());
    first.shutdown().await;
    second.shutdown().await;
}
