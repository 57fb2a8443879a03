#![allow(unsafe_code, reason = "whoever loads native libraries promises that they are sound")]

mod given_up;
mod hostile;
mod reloads;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::json;
use swarm_plugin::testing::conformance;
use swarm_plugin::{
    CallOptions, Digest, ErrorKind, NativeLoader, PluginDiscovery, PluginManager, PluginManagerBuilder,
};
use tempfile::TempDir;

/// The libraries of these tests are built of C files of this crate, or are examples of it.
pub(crate) fn loader() -> NativeLoader {
    // SAFETY: they keep to the header, but where a test says what they do wrong and that it is noticed.
    unsafe { NativeLoader::new() }
}

fn builder(root: &Path, loader: &NativeLoader) -> PluginManagerBuilder {
    PluginManager::builder().folder(root).settle(Duration::ZERO).loader(loader.clone())
}

/// Builds a library from `tests/programs`; `None` where there is no compiler.
pub(crate) fn built(source: &str, flags: &[&str]) -> Option<Vec<u8>> {
    built_of(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/programs").join(source), flags)
}

fn built_of(source: &Path, flags: &[&str]) -> Option<Vec<u8>> {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out.so");
    let run = Command::new("cc")
        .args(["-std=gnu99", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-I"])
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/include"))
        .args(flags)
        .arg("-o")
        .args([out.as_path(), source])
        .output();
    let Ok(run) = run else {
        eprintln!("left out: a test with the program `cc`, which is not here");
        return None;
    };
    assert!(run.status.success(), "{} {flags:?}: {}", source.display(), String::from_utf8_lossy(&run.stderr));
    Some(fs::read(out).unwrap())
}

/// A library that is an example of this crate, without what debuggers read; `None` where examples were not built.
fn example(name: &str) -> Option<Vec<u8>> {
    let own = std::env::current_exe().unwrap();
    let folder = own.parent().and_then(Path::parent).unwrap().join("examples");
    let file = folder.join(format!("{}{name}{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX));
    if !file.exists() {
        eprintln!("left out: a test with the example {name}, which `cargo build --examples` builds");
        return None;
    }
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out.so");
    let run = Command::new("strip").arg("-o").args([&out, &file]).output();
    let stripped = run.is_ok_and(|run| run.status.success());
    Some(fs::read(if stripped { out } else { file }).unwrap())
}

/// Renamed into place, as a library should be.
fn install(root: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let (next, path) = (root.join(".next"), root.join(name));
    fs::write(&next, bytes).unwrap();
    fs::rename(next, &path).unwrap();
    path
}

/// The same library in another version, of which all have six digits at the end.
fn version(bytes: &[u8], at: u64) -> Vec<u8> {
    let (from, to) = (b"1.0.100000", format!("1.0.{}", 100_000 + at));
    let mut bytes = bytes.to_owned();
    let places: Vec<usize> = bytes
        .iter()
        .enumerate()
        .filter(|&(place, &byte)| byte == b'1' && bytes[place..].starts_with(from))
        .map(|(place, _)| place)
        .collect();
    assert!(!places.is_empty());
    for place in places {
        bytes[place..place + to.len()].copy_from_slice(to.as_bytes());
    }
    bytes
}

async fn host(library: &[u8], loader: &NativeLoader) -> (TempDir, PluginManager) {
    let root = tempfile::tempdir().unwrap();
    install(root.path(), "unruly.so", library);
    let plugins = builder(root.path(), loader).start().await.unwrap();
    assert_eq!(plugins.list().len(), 1);
    (root, plugins)
}

#[tokio::test]
async fn a_library_in_c_is_a_plugin() {
    let Some(words) = built("words.c", &["-std=c99", "-Wpedantic"]) else { return };
    let (root, loader) = (tempfile::tempdir().unwrap(), loader());
    let path = install(root.path(), "words.so", &words);
    let plugins = builder(root.path(), &loader).start().await.unwrap();
    let info = plugins.get("words").unwrap();
    assert_eq!((info.kind(), info.path()), (Some("native"), Some(&*path)));
    assert_eq!(info.digest(), Some(Digest::of(&words)));
    assert_eq!(info.manifest().description(), "Counts words");
    assert_eq!(plugins.call("words", json!({"text": "one two"})).await.unwrap(), json!({"words": 2}));
    let error = plugins.call("words", json!({"text": "ONE"})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidParams);

    // What is done to the file afterwards is nothing to the copy that is loaded.
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(0).unwrap();
    assert_eq!(plugins.call("words", json!({"text": "one"})).await.unwrap(), json!({"words": 1}));
    fs::remove_file(path).unwrap();
    plugins.rescan().await;
    assert_eq!(plugins.call("words", json!({})).await.unwrap_err().kind(), ErrorKind::NotFound);
    plugins.shutdown().await;
}

#[tokio::test]
async fn the_example_in_the_header_is_a_plugin() {
    let header = include_str!("../../include/swarm_plugin.h");
    let from = header.lines().skip_while(|line| !line.contains("#include \"swarm_plugin.h\""));
    let example = from.take_while(|line| !line.contains(" cc -shared"));
    let example: Vec<&str> = example.map(|line| line.strip_prefix(" *     ").unwrap_or_default()).collect();
    let scratch = tempfile::tempdir().unwrap();
    fs::write(scratch.path().join("hello.c"), example.join("\n")).unwrap();
    let Some(hello) = built_of(&scratch.path().join("hello.c"), &["-std=c99", "-Wpedantic"]) else { return };
    let (_root, plugins) = host(&hello, &loader()).await;
    assert_eq!(plugins.call("hello", json!({})).await.unwrap(), "hello");
    plugins.shutdown().await;
}

#[test]
fn the_header_is_cpp_as_well() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("header.cpp");
    fs::write(&file, "#include \"swarm_plugin.h\"\n").unwrap();
    let run = Command::new("c++")
        .args(["-std=c++11", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-I"])
        .args([&Path::new(env!("CARGO_MANIFEST_DIR")).join("include"), &file])
        .output();
    let Ok(run) = run else {
        eprintln!("left out: a test with the program `c++`, which is not here");
        return;
    };
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
}

#[tokio::test]
async fn libraries_in_c_and_in_rust_keep_the_contract() {
    let libraries = [
        (built("words.c", &[]), "words", json!({"text": "a"})),
        (built("unruly.c", &[]), "unruly", json!({})),
        (built("unruly.c", &["-DFLAGS=SWARM_INLINE"]), "unruly", json!({})),
        (example("native_words"), "words", json!({"text": "a"})),
        (example("native_unruly"), "unruly_rust", json!({})),
    ];
    for (library, name, params) in libraries {
        let Some(library) = library else { continue };
        let (root, store, loader) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), loader());
        install(root.path(), "tool.so", &library);
        let (found, _) = PluginDiscovery::new().folder(root.path()).scan(store.path()).unwrap();
        let report = conformance::check_file(&loader, &found[0], name, params).await;
        assert!(report.is_ok(), "{report}");
        assert_eq!(loader.loaded(), 1, "the same bytes are loaded once");
    }
}

#[tokio::test]
async fn a_plugin_in_rust_is_a_library() {
    let Some(unruly) = example("native_unruly") else { return };
    let loader = loader();
    let (_root, plugins) = host(&unruly, &loader).await;
    let manifest = plugins.get("unruly_rust").unwrap().manifest().clone();
    assert_eq!(
        (manifest.limits().timeout, manifest.limits().concurrency),
        (Some(Duration::from_secs(20)), Some(16))
    );
    let call = async |what: &str| plugins.call("unruly_rust", json!({ "do": what })).await;
    assert_eq!(call("count").await.unwrap(), json!({"count": 1}));
    let error = call("fail").await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Failed, true), "{error}");
    let error = call("panic").await.unwrap_err();
    assert_eq!(
        (error.kind(), &*error.to_string()),
        (ErrorKind::Panicked, "plugin unruly_rust: panicked: oh no")
    );
    assert_eq!(call("spawn").await.unwrap(), 7);
    assert!(call("call").await.unwrap_err().to_string().contains("does not require it"));
    let error = plugins.call("unruly_rust", json!({"does": 1})).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidParams);

    let told = Arc::new(Mutex::new(Vec::new()));
    let tells = told.clone();
    let options = CallOptions::new().on_progress(move |progress| tells.lock().unwrap().push(progress));
    assert_eq!(plugins.call_with("unruly_rust", json!({"do": "progress"}), options).await.unwrap(), true);
    let told = told.lock().unwrap().clone();
    assert_eq!(
        (told.len(), told[0].done, told[0].total, told[0].message.as_deref()),
        (1, 1.0, None, Some("half"))
    );

    // One waits and one computes; both notice that nobody waits for them.
    for what in ["sleep", "loop"] {
        let options = CallOptions::new().timeout(Duration::from_millis(50));
        let outcome = plugins.call_with("unruly_rust", json!({ "do": what }), options).await;
        match outcome {
            Err(error) => assert_eq!(error.kind(), ErrorKind::TimedOut, "{what}: {error}"),
            // It may notice before its caller does, and answer.
            Ok(answer) => assert_eq!((what, answer), ("loop", json!("noticed"))),
        }
        none_lost(&loader).await;
    }
    assert_eq!(call("count").await.unwrap(), json!({"count": 2}));
    plugins.shutdown().await;
}

/// Waits until no call goes on that was given up.
async fn none_lost(loader: &NativeLoader) {
    while loader.lost() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_folder_says_more_of_a_library() {
    let Some(words) = built("words.c", &[]) else { return };
    let root = tempfile::tempdir().unwrap();
    let folder = |name: &str, files: &[&str], text: &str| {
        let next = root.path().join(format!(".{name}"));
        fs::create_dir(&next).unwrap();
        for file in files {
            fs::write(next.join(file), &words).unwrap();
        }
        fs::write(next.join("plugin.toml"), text).unwrap();
        fs::rename(next, root.path().join(name)).unwrap();
    };
    let good = "name = \"words\"\nversion = \"1.0.0\"\nkind = \"native\"\n";
    let only = ["libwords.so"];
    folder("good", &only, &format!("{good}description = \"Words\"\n[limits]\ntimeout_ms = 5000\n"));
    folder("none", &[], good);
    folder("twins", &["libwords.so", "other.so"], good);
    folder("words", &only, &format!("{good}command = [\"libwords.so\", \"fast\"]\n"));
    folder("out", &only, &format!("{good}command = [\"../good/libwords.so\"]\n"));
    folder("gone", &only, &format!("{good}command = [\"gone.so\"]\n"));
    folder("lies", &only, &format!("{}command = [\"./libwords.so\"]\n", good.replace("1.0.0", "2.0.0")));
    let plugins = builder(root.path(), &loader()).start().await.unwrap();
    let mut events = plugins.events();
    assert_eq!(plugins.list().len(), 1);
    let manifest = plugins.get("words").unwrap().manifest().clone();
    assert_eq!((manifest.description(), manifest.limits().timeout), ("Words", Some(Duration::from_secs(5))));
    assert_eq!(manifest.parameters()["required"], json!(["text"]), "of which plugin.toml says nothing");
    assert_eq!(plugins.call("words", json!({"text": "a b"})).await.unwrap(), json!({"words": 2}));
    for (name, reason) in [
        ("none", "there is no file of the kind native beside plugin.toml"),
        ("twins", "several files of the kind native beside plugin.toml, libwords.so, other.so: command"),
        ("words", "command in plugin.toml has more than one word"),
        ("out", "command in plugin.toml: ../good/libwords.so leads out of its folder"),
        ("gone", "command in plugin.toml: its folder has no file gone.so"),
        ("lies", "plugin.toml is for words 2.0.0, and what stands beside it calls itself words 1.0.0"),
    ] {
        let file = root.path().join(name).join("plugin.toml");
        fs::write(&file, fs::read_to_string(&file).unwrap() + "# once more\n").unwrap();
        plugins.rescan().await;
        assert!(hostile::refused(&mut events, name).contains(reason), "{name}");
    }
    plugins.shutdown().await;
}

#[tokio::test]
async fn what_is_loaded_is_counted_and_bounded() {
    let Some(unruly) = built("unruly.c", &[]) else { return };
    let loader = loader().generations(2);
    let (root, plugins) = host(&unruly, &loader).await;
    let mut events = plugins.events();
    install(root.path(), "again.so", &unruly);
    plugins.rescan().await;
    assert_eq!(loader.loaded(), 1, "the same bytes are loaded once");
    fs::remove_file(root.path().join("again.so")).unwrap();
    for at in 1..=3 {
        install(root.path(), "unruly.so", &version(&unruly, at));
        plugins.rescan().await;
    }
    assert_eq!(loader.loaded(), 2);
    let reason = hostile::refused(&mut events, "unruly.so");
    assert!(reason.contains("2 native libraries were loaded, which is as many as are allowed"), "{reason}");
    assert_eq!(plugins.call("unruly", json!({})).await.unwrap(), json!({"count": 1}), "the second serves on");
    // What was loaded before can be gone back to.
    plugins.rollback("unruly").await.unwrap();
    assert_eq!(plugins.get("unruly").unwrap().manifest().version().to_string(), "1.0.100000");
    assert_eq!(plugins.call("unruly", json!({})).await.unwrap(), json!({"count": 2}));
    plugins.shutdown().await;
}

#[tokio::test]
async fn an_inline_library_is_called_on_the_callers_thread() {
    let Some(unruly) = built("unruly.c", &["-DFLAGS=SWARM_INLINE"]) else { return };
    let loader = loader();
    let (_root, plugins) = host(&unruly, &loader).await;
    let seen = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (sees, here) = (seen.clone(), std::thread::current().id());
    let options = CallOptions::new().on_progress(move |progress| {
        assert_eq!(
            (progress.done, progress.total, progress.message.as_deref()),
            (1.0, Some(2.0), Some("half"))
        );
        sees.fetch_add(usize::from(std::thread::current().id() == here), SeqCst);
    });
    assert_eq!(plugins.call_with("unruly", json!({"do": "progress"}), options).await.unwrap(), true);
    assert_eq!(seen.load(SeqCst), 1);
    let error = plugins.call("unruly", json!({"do": "panic"})).await.unwrap_err();
    assert_eq!((error.kind(), &*error.to_string()), (ErrorKind::Panicked, "plugin unruly: panicked: oh no"));
    plugins.shutdown().await;
}
