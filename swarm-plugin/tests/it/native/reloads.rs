//! A library that is replaced again and again while it is called.

use serde_json::Value;

use super::{built, example, host, install, loader, version};
use crate::load::{Load, Tells};

async fn lose_no_call_and_no_state(what: &'static str, library: &[u8], name: &'static str) {
    let loader = loader().generations(2_000);
    let (root, plugins) = host(library, &loader).await;
    let load = Load {
        what,
        plugins: plugins.clone(),
        name,
        params: Value::Null,
        tells: Tells::Count(|answer| answer["count"].as_u64().unwrap()),
        few: 10,
        // The leak that is stated: what a version has changed of its memory stays. The rest is what the allocator keeps.
        leaves: 1024 + library.len() as u64 / 1024 / 8,
    };
    let reloads = load
        .run(async |at| {
            install(root.path(), "unruly.so", &version(library, at));
            plugins.rescan().await;
        })
        .await;
    assert_eq!((loader.loaded() as u64, loader.lost()), (reloads + 1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reloads_of_a_library_in_c_lose_no_call_and_no_state() {
    let Some(library) = built("unruly.c", &[]) else { return };
    lose_no_call_and_no_state("native in C", &library, "unruly").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reloads_of_a_library_in_rust_lose_no_call_and_no_state() {
    let Some(library) = example("native_unruly") else { return };
    lose_no_call_and_no_state("native in Rust", &library, "unruly_rust").await;
}
