//! A script that is replaced again and again while it is called.

use std::time::Duration;

use serde_json::json;

use super::{WORDS, builder, has, install};
use crate::load::{Load, Tells};

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reloads_of_a_program_lose_no_call() {
    if !has("python3") {
        return;
    }
    let root = tempfile::tempdir().unwrap();
    let version = |at: u64| WORDS.replace("\"words\": words", &format!("\"words\": words, \"at\": {at}"));
    install(root.path(), "words.py", version(0));
    let plugins = builder(root.path()).load_timeout(Duration::from_secs(60)).start().await.unwrap();
    let load = Load {
        what: "process",
        plugins: plugins.clone(),
        name: "words",
        params: json!({"text": "a b"}),
        tells: Tells::Version(|answer| answer["at"].as_u64().unwrap()),
        few: 20,
        leaves: 0,
    };
    load.run(async |at| {
        install(root.path(), "words.py", version(at));
        plugins.rescan().await;
    })
    .await;
}
