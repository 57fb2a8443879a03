//! When the output of an earlier run serves.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use swarm_pipeline::*;

#[tokio::test]
async fn an_output_is_reused_by_a_run_with_the_same_input_and_the_same_outputs_before_it() {
    let engine = LocalEngine::with_store(MemoryStore::default());
    let calls = Arc::new(AtomicU32::new(0));
    let pipeline = |given: u32, version: &str| {
        let mut p = Pipeline::builder("reusing");
        let given = p.step("given").run(move |_cx, ()| async move { Ok(given) });
        let counter = Arc::clone(&calls);
        let made = p.step("made").input(&given).version(version).reuse().run(move |cx, given| {
            counter.fetch_add(1, Ordering::SeqCst);
            async move { Ok(cx.run_input::<u32>()? * 100 + *given) }
        });
        p.step("last").input(&made).run(|_cx, made| async move { Ok(*made) });
        p.build().unwrap()
    };
    // The run's input, what comes before, the version, and the run whose output serves.
    let runs = [
        (1, 1, "a", None),
        (1, 1, "a", Some("run0")),
        (2, 1, "a", None),
        (1, 2, "a", None),
        (1, 1, "b", None),
        (1, 2, "a", Some("run3")),
        (2, 1, "a", Some("run2")),
        (1, 1, "a", Some("run0")),
    ];
    for (at, (input, given, version, from)) in runs.into_iter().enumerate() {
        let before = calls.load(Ordering::SeqCst);
        let report = engine.run(&pipeline(given, version), format!("run{at}"), input).await.unwrap();
        assert_eq!(*report.output_by_name::<u32>("last").unwrap(), input * 100 + given, "run{at}");
        let expected = match from {
            Some(from) => (Why::Reused { from: from.into() }, 0),
            None => (Why::Ran { attempts: 1 }, 1),
        };
        let called = calls.load(Ordering::SeqCst) - before;
        assert_eq!((report.why("made").unwrap(), called), expected, "run{at}");
    }
}
