use serde_json::json;
use swarm_plugin::WasmLoader;

use super::{Guest, unruly};
use crate::load::{Load, Tells};

#[tokio::test]
async fn a_reload_with_state_needs_one_more_place() {
    let (folder, plugins) = unruly(&Guest::stateful("1.0.0"), WasmLoader::new().instances(2)).await;
    for at in 1..=3_u64 {
        assert_eq!(plugins.call("unruly", json!({"do": "count"})).await.unwrap(), at);
        folder.program("unruly.wasm", Guest::stateful(&format!("1.0.{at}")).bytes()).unwrap();
        plugins.rescan().await;
        assert_eq!(plugins.get("unruly").unwrap().manifest().version().patch, at);
    }
    plugins.shutdown().await;
}

async fn lose_no_call(what: &'static str, guest: impl Fn(u64) -> Guest, does: &str, tells: Tells) {
    let (folder, plugins) = unruly(&guest(0), WasmLoader::new()).await;
    let params = json!({ "do": does });
    let load = Load { what, plugins: plugins.clone(), name: "unruly", params, tells, few: 20, leaves: 0 };
    load.run(async |at| {
        folder.program("unruly.wasm", guest(at).bytes()).unwrap();
        plugins.rescan().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reloads_of_components_lose_no_call() {
    let guest = |at: u64| {
        let parameters = json!({"type": "object", "title": at.to_string()}).to_string();
        Guest { parameters, ..Guest::new(&format!("1.0.{at}")) }
    };
    let tells = Tells::Version(|parameters| parameters["title"].as_str().unwrap().parse().unwrap());
    lose_no_call("wasm", guest, "view", tells).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reloads_of_components_lose_no_state() {
    let guest = |at: u64| Guest::stateful(&format!("1.0.{at}"));
    lose_no_call("wasm with state", guest, "count", Tells::Count(|count| count.as_u64().unwrap())).await;
}
