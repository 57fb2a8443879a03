//! What a run that is there already accepts.

use std::sync::{Arc, Mutex};

use serde_json::json;
use swarm_pipeline::*;

/// Two steps that say that they run, and a wait that both come before.
fn pipeline(name: &str, version: &str, said: &Arc<Mutex<Vec<String>>>) -> Pipeline {
    let mut p = Pipeline::builder(name);
    let steps: Vec<Handle<()>> = ["a", "b"]
        .into_iter()
        .map(|step| {
            let said = Arc::clone(said);
            p.step(step).version(version).run(move |cx, ()| {
                said.lock().unwrap().push(cx.step().to_owned());
                async { Ok(()) }
            })
        })
        .collect();
    p.step::<()>("word").input(steps).wait_for_signal();
    p.build().unwrap()
}

#[tokio::test]
async fn a_run_is_resumed_only_with_its_own_pipeline_and_input() {
    let said = Arc::default();
    let (own, other) = (pipeline("own", "", &said), pipeline("other", "", &said));
    let engine = LocalEngine::with_store(MemoryStore::default());
    let options = RunOptions::new().return_when_suspended().on_change(OnChange::Rerun);
    let _ = engine.run_with(&own, "r", json!({"a": 1, "b": [2]}), options.clone()).await.unwrap();
    assert_eq!(std::mem::take(&mut *said.lock().unwrap()), ["a", "b"]);
    let refused = [
        (&own, json!({"a": 1, "b": [3]}), ErrorKind::InvalidInput),
        (&own, json!(null), ErrorKind::InvalidInput),
        (&other, json!({"a": 1, "b": [2]}), ErrorKind::DefinitionChanged),
    ];
    for (pipeline, input, kind) in refused {
        let error = engine.run_with(pipeline, "r", &input, options.clone()).await.unwrap_err();
        assert_eq!((error.kind(), error.run()), (kind, Some("r")), "{input}: {error}");
    }
    assert_eq!(engine.rollback(&other, "r").await.unwrap_err().kind(), ErrorKind::DefinitionChanged);
    // The order of members says nothing. Written by hand, for a map would sort them.
    let same: Box<serde_json::value::RawValue> = serde_json::from_str(r#"{"b": [2], "a": 1}"#).unwrap();
    let report = engine.run_with(&own, "r", same, options).await.unwrap();
    assert_eq!(report.status(), RunStatus::Suspended);
    assert_eq!(*said.lock().unwrap(), [""; 0]);
}

#[tokio::test]
async fn migrating_keeps_the_changed_steps_whose_results_still_stand() {
    let cases: [(&str, fn(&str) -> bool, &[&str]); 4] = [
        ("all", |_| true, &[]),
        ("a", |step| step == "a", &["b"]),
        ("b", |step| step == "b", &["a"]),
        ("none", |_| false, &["a", "b"]),
    ];
    let engine = LocalEngine::with_store(MemoryStore::default());
    let said = Arc::default();
    for (run, keep, expected) in cases {
        let options = RunOptions::new().return_when_suspended();
        let _ = engine.run_with(&pipeline("p", "1", &said), run, (), options.clone()).await.unwrap();
        said.lock().unwrap().clear();
        let options = options.on_change(OnChange::Migrate(Arc::new(keep)));
        let _ = engine.run_with(&pipeline("p", "2", &said), run, (), options).await.unwrap();
        assert_eq!(std::mem::take(&mut *said.lock().unwrap()), expected, "kept: {run}");
    }
}
