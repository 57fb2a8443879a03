//! What the limits of time bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use swarm_pipeline::*;

const SECOND: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn the_total_timeout_bounds_all_attempts_together() {
    // Whether attempts hang, their own timeout, the delay, and when how many attempts are over.
    let cases = [
        (false, None, 10, 30, 4),
        (false, None, 40, 0, 1),
        (true, None, 10, 35, 1),
        (true, Some(10), 1, 35, 4),
        (true, Some(10), 10, 30, 2),
    ];
    for (hangs, own, delay, over, attempts) in cases {
        let calls = Arc::new(AtomicU32::new(0));
        let counter = Arc::clone(&calls);
        let mut p = Pipeline::builder("slow");
        let mut step =
            p.step::<()>("slow").retry(Retry::fixed(100, delay * SECOND)).total_timeout(35 * SECOND);
        if let Some(own) = own {
            step = step.timeout(own * SECOND);
        }
        step.run(move |_cx, ()| {
            counter.fetch_add(1, Ordering::SeqCst);
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                Err(StepError::new("no"))
            }
        });
        let before = tokio::time::Instant::now();
        let (engine, pipeline) = (LocalEngine::in_memory(), p.build().unwrap());
        let ended = tokio::time::timeout(3600 * SECOND, engine.run(&pipeline, "r", ())).await;
        let report = ended.expect("it ends some time").unwrap();
        let name = format!("hangs: {hangs}, own timeout {own:?}, delay {delay}");
        assert_eq!(report.status(), RunStatus::Failed, "{name}");
        let kind = report.error().unwrap().1.kind();
        assert_eq!(kind == StepErrorKind::TimedOut, hangs, "{name}: {kind:?}");
        let found = (before.elapsed().as_secs(), calls.load(Ordering::SeqCst));
        assert_eq!(found, (over, attempts), "{name}");
    }
}

#[tokio::test]
async fn a_blocking_step_is_told_that_its_time_is_up_and_its_late_result_is_refused() {
    let told = [Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false))];
    let mut p = Pipeline::builder("late");
    p.on_failure(OnFailure::CarryOn);
    let early = Arc::clone(&told[0]);
    p.step("early").timeout(3600 * SECOND).run_blocking(move |cx, ()| {
        early.store(cx.is_cancelled(), Ordering::SeqCst);
        Ok(1)
    });
    let late = Arc::clone(&told[1]);
    p.step("late").timeout(Duration::from_nanos(1)).run_blocking(move |cx, ()| {
        while cx.remaining().is_some_and(|left| !left.is_zero()) {
            std::hint::spin_loop();
        }
        late.store(cx.is_cancelled(), Ordering::SeqCst);
        Ok(2)
    });
    let report = LocalEngine::in_memory().run(&p.build().unwrap(), "r", ()).await.unwrap();
    assert_eq!(told.map(|told| told.load(Ordering::SeqCst)), [false, true]);
    assert_eq!(report.step("early").unwrap().status, StepStatus::Succeeded);
    let late = report.step("late").unwrap();
    assert_eq!(late.status, StepStatus::Failed);
    assert_eq!(late.error().unwrap().kind(), StepErrorKind::TimedOut);
}
