//! What an engine learns from one run for the order of the next.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use swarm_pipeline::*;

#[tokio::test(start_paused = true)]
async fn the_step_that_took_longest_begins_first_the_next_time() {
    let began: Arc<Mutex<Vec<String>>> = Arc::default();
    let mut p = Pipeline::builder("learning");
    p.concurrency(2);
    for (name, seconds) in [("a", 1), ("b", 1), ("c", 1), ("long", 60)] {
        let began = Arc::clone(&began);
        p.step::<()>(name).run(move |cx, ()| {
            began.lock().unwrap().push(cx.step().to_owned());
            async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                Ok(())
            }
        });
    }
    let pipeline = p.build().unwrap();
    let order = || std::mem::take(&mut *began.lock().unwrap());
    let store = MemoryStore::new();
    let engine = LocalEngine::with_store(store.clone());
    assert!(engine.run(&pipeline, "first", ()).await.unwrap().is_success());
    assert_eq!(order(), ["a", "b", "c", "long"], "nothing is known yet");
    // The engine that ran it, and one that finds what was learnt in the store.
    for (run, engine) in [("second", engine), ("third", LocalEngine::with_store(store))] {
        let report = engine.run(&pipeline, run, ()).await.unwrap();
        assert_eq!(report.duration().as_secs(), 60, "{run}");
        assert_eq!(order()[0], "long", "{run}");
    }
}
