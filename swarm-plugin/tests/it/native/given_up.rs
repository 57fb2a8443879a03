//! Calls of libraries that nobody waits for any more, and what goes on beside them.

use std::fs;
use std::path::Path;
use std::time::Duration;

use futures::FutureExt;
use serde_json::{Value, json};
use swarm_plugin::{CallOptions, CancellationToken, Error, ErrorKind, NativeLoader, PluginManager};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{builder, built, example, host, install, loader, none_lost};

/// A call that tells that it is in the library, and is there by now.
async fn inside(
    plugins: &PluginManager,
    name: &'static str,
    params: &Value,
    stop: &CancellationToken,
) -> JoinHandle<Result<Value, Error>> {
    let (tells, mut told) = mpsc::unbounded_channel();
    let options = CallOptions::new().cancel(stop.clone()).on_progress(move |_| {
        let _ = tells.send(());
    });
    let (plugins, params) = (plugins.clone(), params.clone());
    let call = tokio::spawn(async move { plugins.call_with(name, params, options).await });
    told.recv().await.expect("a call that tells that it is in the library");
    call
}

/// A call that is in the library, and was given up.
async fn given_up(plugins: &PluginManager, params: &Value) {
    let stop = CancellationToken::new();
    let call = inside(plugins, "unruly", params, &stop).await;
    stop.cancel();
    assert_eq!(call.await.unwrap().unwrap_err().kind(), ErrorKind::Cancelled);
}

fn hang(go_on: &Path) -> Value {
    json!({"do": "hang", "path": go_on})
}

/// A library whose process ends when more calls than it says are in it.
fn with_concurrency(calls: usize) -> Option<Vec<u8>> {
    let description =
        json!({"name": "unruly", "version": "1.0.100000", "limits": {"concurrency": calls}}).to_string();
    let description = format!("-DDESCRIPTION=\"{}\"", description.replace('"', "\\\""));
    built("unruly.c", &[&description, &format!("-DAT_MOST={calls}")])
}

async fn exists(path: &Path) {
    let there = async {
        while !path.exists() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), there).await.expect("a file in time");
}

#[tokio::test]
async fn calls_run_beside_each_other_and_those_that_do_not_return_are_left() {
    let Some(unruly) = built("unruly.c", &[]) else { return };
    let loader = loader();
    let (root, plugins) = host(&unruly, &loader).await;
    let go_on = root.path().join(".go-on");
    for lost in 1..=8 {
        given_up(&plugins, &hang(&go_on)).await;
        assert_eq!(loader.lost(), lost);
    }
    let error = plugins.call("unruly", json!({})).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("takes no more: 8"), "{error}");
    fs::write(&go_on, "").unwrap();
    none_lost(&loader).await;
    assert_eq!(plugins.call("unruly", json!({})).await.unwrap(), json!({"count": 1}));
    plugins.shutdown().await;
}

#[tokio::test]
async fn a_call_that_was_given_up_counts_until_it_returns() {
    let Some(unruly) = with_concurrency(1) else { return };
    let loader = loader();
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("unruly");
    fs::create_dir(&folder).unwrap();
    install(&folder, "unruly.so", &unruly);
    let manifest =
        "name = \"unruly\"\nversion = \"1.0.100000\"\nkind = \"native\"\ncommand = [\"unruly.so\"]\n";
    fs::write(folder.join("plugin.toml"), format!("{manifest}[limits]\nconcurrency = 4\n")).unwrap();
    let plugins = builder(root.path(), &loader).start().await.unwrap();
    let limits = plugins.get("unruly").unwrap().manifest().limits().clone();
    assert_eq!(limits.concurrency, Some(1), "a folder allows no more than the library does");
    let go_on = root.path().join(".go-on");
    given_up(&plugins, &hang(&go_on)).await;
    let error = plugins.call("unruly", json!({})).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("takes no more: 1"), "{error}");
    fs::write(&go_on, "").unwrap();
    none_lost(&loader).await;
    assert_eq!(plugins.call("unruly", json!({})).await.unwrap(), json!({"count": 1}));
    plugins.shutdown().await;

    let Some(unruly) = with_concurrency(2) else { return };
    let (root, plugins) = host(&unruly, &loader).await;
    let go_on = root.path().join(".go-on");
    given_up(&plugins, &hang(&go_on)).await;
    let second = inside(&plugins, "unruly", &hang(&go_on), &CancellationToken::new()).await;
    let mut third = Box::pin(plugins.call("unruly", json!({})));
    assert!((&mut third).now_or_never().is_none());
    fs::write(&go_on, "").unwrap();
    assert_eq!(third.await.unwrap(), json!({"count": 1}));
    assert_eq!(second.await.unwrap().unwrap(), "back");
    plugins.shutdown().await;
}

#[tokio::test]
async fn one_instance_leaves_threads_to_others() {
    let (Some(unruly), Some(words)) = (built("unruly.c", &[]), built("words.c", &[])) else { return };
    let (root, loader) = (tempfile::tempdir().unwrap(), loader().threads(4));
    install(root.path(), "unruly.so", &unruly);
    install(root.path(), "words.so", &words);
    let plugins = builder(root.path(), &loader).start().await.unwrap();
    let go_on = root.path().join(".go-on");
    let params = hang(&go_on);
    let stop = CancellationToken::new();
    let begun =
        [inside(&plugins, "unruly", &params, &stop).await, inside(&plugins, "unruly", &params, &stop).await];
    let mut more: Vec<_> = (0..6).map(|_| Box::pin(plugins.call("unruly", params.clone()))).collect();
    assert!(more.iter_mut().all(|call| call.now_or_never().is_none()));
    assert_eq!(plugins.call("words", json!({"text": "one two"})).await.unwrap(), json!({"words": 2}));
    fs::write(&go_on, "").unwrap();
    for call in begun {
        assert_eq!(call.await.unwrap().unwrap(), "back");
    }
    for call in more {
        assert_eq!(call.await.unwrap(), "back");
    }
    plugins.shutdown().await;
}

/// A host that waits for nothing long.
async fn hasty(root: &Path, loader: &NativeLoader) -> PluginManager {
    let short = Duration::from_millis(20);
    builder(root, loader).drain_timeout(short).cleanup_timeout(short).start().await.unwrap()
}

#[tokio::test]
async fn nothing_is_cleaned_up_or_freed_while_a_call_is_in_it() {
    let Some(unruly) = built("unruly.c", &[]) else { return };
    let (root, loader) = (tempfile::tempdir().unwrap(), loader());
    let path = install(root.path(), "unruly.so", &unruly);
    let plugins = hasty(root.path(), &loader).await;
    let go_on = root.path().join(".go-on");
    given_up(&plugins, &hang(&go_on)).await;
    fs::remove_file(path).unwrap();
    plugins.rescan().await;
    // It would abort if it were cleaned up or destroyed now.
    plugins.shutdown().await;
    assert!(loader.lost() >= 1);
    fs::write(&go_on, "").unwrap();
    // Cleaned up once, and destroyed after that.
    exists(&root.path().join(".go-on.1")).await;
    none_lost(&loader).await;
}

#[tokio::test]
async fn a_cleanup_that_waits_for_a_thread_is_not_left_out() {
    let Some(unruly) = built("unruly.c", &[]) else { return };
    let (root, loader) = (tempfile::tempdir().unwrap(), loader().threads(1));
    install(root.path(), "unruly.so", &unruly);
    let plugins = hasty(root.path(), &loader).await;
    let go_on = root.path().join(".go-on");
    // The only thread.
    given_up(&plugins, &hang(&go_on)).await;
    plugins.shutdown().await;
    fs::write(&go_on, "").unwrap();
    exists(&root.path().join(".go-on.1")).await;
    none_lost(&loader).await;
}

#[tokio::test]
async fn a_late_cleanup_in_rust_goes_on_to_its_end() {
    let Some(unruly) = example("native_unruly") else { return };
    let (root, loader) = (tempfile::tempdir().unwrap(), loader());
    install(root.path(), "unruly.so", &unruly);
    let plugins = hasty(root.path(), &loader).await;
    let path = root.path().join(".ends");
    plugins.call("unruly_rust", json!({"do": "stay", "path": path})).await.unwrap();
    plugins.shutdown().await;
    assert_eq!(loader.lost(), 1, "it took longer than allowed");
    fs::write(&path, "").unwrap();
    exists(&path.with_extension("cleaned")).await;
    none_lost(&loader).await;
}

#[tokio::test]
async fn a_call_in_rust_that_computes_holds_up_none_that_waits() {
    let Some(unruly) = example("native_unruly") else { return };
    let loader = loader();
    let (_root, plugins) = host(&unruly, &loader).await;
    let stop = CancellationToken::new();
    let computes = inside(&plugins, "unruly_rust", &json!({"do": "compute"}), &stop).await;
    assert_eq!(plugins.call("unruly_rust", json!({"do": "nap"})).await.unwrap(), "rested");
    stop.cancel();
    // It may notice before its caller does, and answer.
    if let Err(error) = computes.await.unwrap() {
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
    none_lost(&loader).await;
    plugins.shutdown().await;
}
