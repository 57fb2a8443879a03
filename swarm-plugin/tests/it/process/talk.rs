//! What a program says beside its answers, and what it is told.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::StreamExt;
use futures::future::join_all;
use serde_json::{Value, json};
use swarm_plugin::{
    CallOptions, CancellationToken, ErrorKind, Event, EventKind, PluginManager, ProcessLoader, Progress,
};

use super::unruly;

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_in_order_before_the_answer_and_only_as_it_grows() {
    let Some((_root, plugins)) = unruly(ProcessLoader::new()).await else { return };
    for _ in 0..50 {
        let told: Arc<Mutex<Vec<Progress>>> = Arc::default();
        let hear = told.clone();
        let options = CallOptions::new().on_progress(move |progress| hear.lock().unwrap().push(progress));
        let params = json!({"do": "progress", "steps": [0, 1, 1, 5, 2.5, 7]});
        plugins.call_with("unruly", params, options).await.unwrap();
        let told = told.lock().unwrap();
        let done: Vec<f64> = told.iter().map(|progress| progress.done).collect();
        assert_eq!(done, [0.0, 1.0, 5.0, 7.0]);
        assert_eq!((told[0].total, told[0].message.as_deref()), (Some(9.0), Some("a [2Jb")));
    }
    // An observer that panics is its own loss, and nobody need listen.
    let options = CallOptions::new().on_progress(|_| panic!("no ear for it"));
    let params = json!({"do": "progress", "steps": [1]});
    assert!(plugins.call_with("unruly", params.clone(), options).await.is_ok());
    assert!(plugins.call("unruly", params).await.is_ok());
    plugins.shutdown().await;
}

#[tokio::test]
async fn a_call_that_is_given_up_is_cancelled_in_the_program() {
    let Some((_root, plugins)) = unruly(ProcessLoader::new()).await else { return };
    let token = CancellationToken::new();
    let stop = token.clone();
    // Cancelled once the program has it.
    let options = CallOptions::new().cancel(token).on_progress(move |_| stop.cancel());
    let error = plugins.call_with("unruly", json!({"do": "wait"}), options).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Cancelled);
    let told =
        async { while plugins.call("unruly", json!({"do": "look"})).await.unwrap()["cancelled"] != true {} };
    tokio::time::timeout(Duration::from_secs(20), told).await.unwrap();
    plugins.shutdown().await;
}

fn names(plugins: &PluginManager) -> Vec<String> {
    plugins.list().iter().map(|info| info.manifest().name().to_owned()).collect()
}

#[tokio::test]
async fn tools_come_and_go_while_the_program_runs() {
    let Some((_root, plugins)) = unruly(ProcessLoader::new()).await else { return };
    let mut events = plugins.events();
    let mut until = async |wanted: &dyn Fn(&Event) -> bool| {
        let found = async { while !wanted(&events.next().await.unwrap()) {} };
        tokio::time::timeout(Duration::from_secs(20), found).await.unwrap();
    };
    let pid = async |name: &str| plugins.call(name, json!({"do": "pid"})).await.unwrap()["pid"].clone();
    let before = pid("unruly").await;
    let change = |names: Value| json!({"do": "tools", "names": names});
    plugins.call("unruly", change(json!(["unruly", "second"]))).await.unwrap();
    until(&|event| &*event.name == "second" && event.kind == EventKind::Activated).await;
    assert_eq!(pid("second").await, before, "it is the same program");
    plugins.call("second", change(json!(["second"]))).await.unwrap();
    until(&|event| event.kind == EventKind::Retired && names(&plugins) == ["second"]).await;
    assert_eq!(plugins.call("unruly", json!({})).await.unwrap_err().kind(), ErrorKind::NotFound);

    // What cannot be used leaves them as they are, and is told.
    for bad in [json!([]), json!(["../x"]), json!(["a", "A"]), json!(["twice", "twice"])] {
        plugins.call("second", change(bad)).await.unwrap();
        until(&|event| matches!(event.kind, EventKind::Refused { .. })).await;
        assert_eq!(names(&plugins), ["second"]);
    }
    // Any number of times is once.
    plugins.call("second", json!({"do": "tools", "names": ["third"], "times": 10_000})).await.unwrap();
    until(&|event| &*event.name == "third" && event.kind == EventKind::Activated).await;
    assert_eq!(pid("third").await, before);
    plugins.shutdown().await;
}

#[tokio::test]
async fn a_tool_that_was_removed_does_not_come_back_by_itself() {
    let Some((_root, plugins)) = unruly(ProcessLoader::new().env("TOOLS", "unruly,second")).await else {
        return;
    };
    let mut events = plugins.events();
    let mut until = async |wanted: &dyn Fn(&Event) -> bool| {
        let found = async { while !wanted(&events.next().await.unwrap()) {} };
        tokio::time::timeout(Duration::from_secs(20), found).await.unwrap();
    };
    plugins.remove("second").await.unwrap();
    let change = |names: Value| json!({"do": "tools", "names": names});
    plugins.call("unruly", change(json!(["unruly", "second", "third"]))).await.unwrap();
    until(&|event| &*event.name == "third" && event.kind == EventKind::Activated).await;
    assert_eq!(names(&plugins), ["third", "unruly"]);

    // Nor does anything else of it, while the last call of what was removed is still under way.
    plugins.call("unruly", json!({"do": "storm", "seconds": 3})).await.unwrap();
    let last = plugins.call("unruly", json!({"do": "sleep", "seconds": 3}));
    let removing = async {
        let mut removals = Vec::new();
        while let Some(name) = names(&plugins).pop() {
            let plugins = plugins.clone();
            removals.push(tokio::spawn(async move { plugins.remove(&name).await }));
            tokio::task::yield_now().await;
        }
        join_all(removals).await
    };
    let (answer, _) = tokio::join!(last, removing);
    answer.unwrap();
    assert_eq!(names(&plugins), [""; 0]);
    plugins.shutdown().await;
    assert_eq!(names(&plugins), [""; 0]);
}
