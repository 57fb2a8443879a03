//! What a crash in the middle of an attempt costs.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use swarm_pipeline::*;

/// An attempt that never ends, then one that fails, then one that works.
async fn third_time_lucky(calls: Arc<AtomicU32>) -> Result<(), StepError> {
    match calls.fetch_add(1, Ordering::SeqCst) {
        0 => std::future::pending().await,
        1 => Err(StepError::new("not yet")),
        _ => Ok(()),
    }
}

#[tokio::test]
async fn a_crash_uses_up_no_attempt_of_the_retry_policy() {
    let twice = || Retry::fixed(2, Duration::ZERO);
    let table: Vec<(&str, RunStatus, fn(&mut PipelineBuilder, Arc<AtomicU32>, Retry))> = vec![
        ("step", RunStatus::Succeeded, |p, calls, retry| {
            p.step::<()>("s").retry(retry).run(move |_cx, ()| third_time_lucky(Arc::clone(&calls)));
        }),
        ("item", RunStatus::Succeeded, |p, calls, retry| {
            let list = p.step("list").run(|_cx, ()| async { Ok(vec![()]) });
            let each = p.step::<()>("s").input(&list).retry(retry);
            each.run_each(move |_cx, ()| third_time_lucky(Arc::clone(&calls)));
        }),
        ("undo", RunStatus::Failed, |p, calls, retry| {
            p.step::<()>("s")
                .compensate_retry(retry)
                .compensate(move |_, _| third_time_lucky(Arc::clone(&calls)))
                .run(|_cx, ()| async { Err(StepError::permanent("broken")) });
        }),
    ];
    for (name, expected, add) in table {
        let calls = Arc::new(AtomicU32::new(0));
        let mut p = Pipeline::builder("crashing");
        add(&mut p, Arc::clone(&calls), twice());
        let pipeline = p.build().unwrap();
        let engine = LocalEngine::with_store(MemoryStore::default());
        {
            let mut first = std::pin::pin!(engine.run(&pipeline, "r", ()));
            while calls.load(Ordering::SeqCst) == 0 {
                assert!(futures::poll!(&mut first).is_pending(), "{name}");
                tokio::task::yield_now().await;
            }
        }
        let report = engine.run(&pipeline, "r", ()).await.unwrap();
        assert_eq!(report.status(), expected, "{name}: {report}");
        assert_eq!(calls.load(Ordering::SeqCst), 3, "{name}");
    }
}
