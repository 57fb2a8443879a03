//! Attempts that end badly: late, never, in a panic, or when nobody waits for them any more.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use swarm_pipeline::testing::{Fault, FaultyStore};
use swarm_pipeline::{
    CircuitBreaker, ErrorKind, Gate, LocalEngine, MemoryStore, Pipeline, PipelineBuilder, Retry, RunOptions,
    RunReport, RunStatus, StepContext, StepError, StepErrorKind, Why,
};

fn build(add: impl FnOnce(&mut PipelineBuilder)) -> Pipeline {
    let mut p = Pipeline::builder("p");
    add(&mut p);
    p.build().unwrap()
}

async fn run(pipeline: &Pipeline) -> RunReport {
    LocalEngine::with_store(MemoryStore::new()).run(pipeline, "r", ()).await.unwrap()
}

fn kind(report: &RunReport) -> StepErrorKind {
    report.error().unwrap().1.kind()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_blocking_step_of_a_dropped_run_is_told_and_waited_for_before_the_run_goes_on() {
    let (began, at_once) = (Arc::new(tokio::sync::Notify::new()), Arc::new(AtomicU32::new(0)));
    let pipeline = build(|p| {
        let (began, at_once) = (Arc::clone(&began), Arc::clone(&at_once));
        p.step("slow").run_blocking(move |cx, ()| {
            assert_eq!(at_once.fetch_add(1, Ordering::SeqCst), 0, "two attempts at once");
            began.notify_one();
            while cx.attempt() == 1 && !cx.is_cancelled() {
                std::thread::yield_now();
            }
            at_once.fetch_sub(1, Ordering::SeqCst);
            Ok(cx.attempt())
        });
    });
    let engine = LocalEngine::with_store(MemoryStore::new());
    {
        let mut first = Box::pin(engine.run(&pipeline, "r", ()));
        tokio::select! {
            _ = &mut first => unreachable!("it waits to be told"),
            () = began.notified() => {}
        }
    }
    let report = engine.run(&pipeline, "r", ()).await.unwrap();
    assert!(report.is_success(), "{report}");
    assert_eq!(*report.output_by_name::<u32>("slow").unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_undo_that_does_not_end_is_stuck_when_its_time_is_up() {
    let pipeline = build(|p| {
        p.step("a")
            .compensate_timeout(Duration::from_secs(5))
            .compensate_retry(Retry::fixed(2, Duration::ZERO))
            .compensate(|_cx, _| std::future::pending())
            .run(|_cx, ()| async { Ok(()) });
        p.step("b").after(["a"]).run(|_cx, ()| async { Err::<(), _>(StepError::new("no")) });
    });
    let before = tokio::time::Instant::now();
    let report = run(&pipeline).await;
    assert_eq!(report.status(), RunStatus::Stuck);
    assert_eq!(before.elapsed().as_secs(), 10);
    assert!(report.to_string().contains("took longer than the 5s that an attempt has"), "{report}");
}

#[tokio::test]
async fn times_beyond_the_clock_mean_no_limit() {
    let pipeline = build(|p| {
        p.cancel_grace(Duration::MAX);
        p.step("a").timeout(Duration::MAX).total_timeout(Duration::MAX).run(|_cx, ()| async {
            tokio::task::yield_now().await;
            Ok(())
        });
        p.step("b").after(["a"]).run(|_cx, ()| async { Err::<(), _>(StepError::new("no")) });
    });
    assert_eq!(run(&pipeline).await.error().unwrap().0, "b");
}

/// Panics when it is dropped, once.
struct Bomb(Arc<AtomicBool>);

impl Drop for Bomb {
    fn drop(&mut self) {
        assert!(self.0.swap(true, Ordering::SeqCst), "the destructor panics");
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_in_a_destructor_is_a_failure_of_the_attempt() {
    let exploded = Arc::new(AtomicBool::new(false));
    let pipeline = build(|p| {
        let exploded = Arc::clone(&exploded);
        p.step("a").timeout(Duration::from_secs(1)).run(move |_cx, ()| {
            let bomb = Bomb(Arc::clone(&exploded));
            async move {
                std::future::pending::<()>().await;
                drop(bomb);
                Ok(())
            }
        });
    });
    let report = run(&pipeline).await;
    assert_eq!((report.status(), kind(&report)), (RunStatus::Failed, StepErrorKind::Panicked));
}

/// Cannot be written.
#[derive(Deserialize)]
struct Unwritable;

impl Serialize for Unwritable {
    fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
        panic!("the serializer panics")
    }
}

#[derive(Serialize, Deserialize)]
struct Nest(Option<Box<Nest>>);

#[tokio::test]
async fn an_output_that_would_not_read_back_fails_the_attempt() {
    let nan = build(|p| {
        p.step("a").run(|_cx, ()| async { Ok(f64::NAN) });
    });
    let report = run(&nan).await;
    assert_eq!(kind(&report), StepErrorKind::BadValue);
    assert!(report.error().unwrap().1.message().contains("NaN"), "{report}");
    let deep = build(|p| {
        p.step("a").run(|_cx, ()| async {
            Ok((0..200).fold(serde_json::json!(0), |inside, _| serde_json::json!([inside])))
        });
    });
    assert_eq!(kind(&run(&deep).await), StepErrorKind::BadValue);
    let nothing = build(|p| {
        p.step("a").run(|_cx, ()| async { Ok((None::<u32>, "null".to_owned(), Nest(None))) });
    });
    assert!(run(&nothing).await.is_success(), "a null that reads back is a value");
    let panics = build(|p| {
        p.step("a").run(|_cx, ()| async { Ok(Unwritable) });
    });
    assert_eq!(kind(&run(&panics).await), StepErrorKind::Panicked);
}

#[tokio::test(start_paused = true)]
async fn a_probe_that_came_to_nothing_leaves_the_breaker_to_the_next() {
    let breaker = CircuitBreaker::new("service", 1, Duration::ZERO);
    let hangs = Arc::new(AtomicBool::new(false));
    let pipeline = build(|p| {
        let hangs = Arc::clone(&hangs);
        p.step("a").circuit_breaker(&breaker).run(move |_cx, ()| {
            let hangs = hangs.load(Ordering::SeqCst);
            async move {
                if hangs {
                    std::future::pending::<()>().await;
                }
                Err::<(), _>(StepError::new("down"))
            }
        });
    });
    let engine = LocalEngine::with_store(MemoryStore::new());
    assert_eq!(kind(&engine.run(&pipeline, "1", ()).await.unwrap()), StepErrorKind::Failed);
    assert!(breaker.is_open());
    hangs.store(true, Ordering::SeqCst);
    let probe = engine.run(&pipeline, "3", ());
    let _ = tokio::time::timeout(Duration::from_secs(1), async {
        let second = async {
            tokio::task::yield_now().await;
            engine.run(&pipeline, "4", ()).await
        };
        let (_, second) = futures::join!(probe, second);
        second
    })
    .await
    .unwrap_err();
    let second = engine.report(&pipeline, "4").await.unwrap();
    assert_eq!(kind(&second), StepErrorKind::CircuitOpen, "one probe at a time");
    hangs.store(false, Ordering::SeqCst);
    assert_eq!(kind(&engine.run(&pipeline, "3", ()).await.unwrap()), StepErrorKind::Failed, "it was called");
}

#[test]
fn without_a_runtime_a_run_is_an_error() {
    let pipeline = build(|p| {
        p.step("a").run(|_cx, ()| async { Ok(()) });
    });
    let engine = LocalEngine::in_memory();
    let answer = futures::FutureExt::now_or_never(engine.run(&pipeline, "r", ())).unwrap();
    assert_eq!(answer.unwrap_err().kind(), ErrorKind::InvalidState);
}

#[tokio::test]
async fn nobody_hears_of_a_run_whose_beginning_could_not_be_recorded() {
    let store = FaultyStore::failing_at(MemoryStore::new(), 1, Fault::Error);
    let engine = LocalEngine::with_store(store);
    let heard = Arc::new(AtomicU32::new(0));
    engine.observe({
        let heard = Arc::clone(&heard);
        move |_| {
            heard.fetch_add(1, Ordering::SeqCst);
        }
    });
    let pipeline = build(|p| {
        p.step("a").run(|_cx, ()| async { Ok(()) });
    });
    let _ = engine.run(&pipeline, "r", ()).await.unwrap_err();
    assert_eq!(heard.load(Ordering::SeqCst), 0);
}

fn measured(name: &'static str, least: f64, made: &Arc<AtomicU32>) -> Pipeline {
    let mut p = Pipeline::builder(name);
    let made = Arc::clone(made);
    let measured = p
        .step("measure")
        .reuse()
        .gate(Gate::at_least("enough", least, |measured: &(f64, swarm_pipeline::Artifact)| measured.0))
        .compensate(|_cx, _| async { Ok(()) })
        .run(move |cx: StepContext, ()| {
            made.fetch_add(1, Ordering::SeqCst);
            async move { Ok((0.6, cx.put_artifact(b"the evidence").await?)) }
        });
    p.step("read").input(&measured).run(|cx, measured| async move {
        let evidence = cx.get_artifact(&measured.1).await?;
        Ok(String::from_utf8_lossy(&evidence).into_owned())
    });
    p.build().unwrap()
}

#[tokio::test]
async fn a_reused_result_is_gated_brings_its_artifacts_and_stays_in_its_pipeline() {
    let made = Arc::new(AtomicU32::new(0));
    let engine = LocalEngine::with_store(MemoryStore::new());
    assert!(engine.run(&measured("one", 0.5, &made), "1", ()).await.unwrap().is_success());
    let report = engine.run(&measured("one", 0.5, &made), "2", ()).await.unwrap();
    assert_eq!(report.why("measure").unwrap(), Why::Reused { from: "1".to_owned() });
    assert_eq!(*report.output_by_name::<String>("read").unwrap(), "the evidence");
    assert_eq!(made.load(Ordering::SeqCst), 1);
    let report = engine.run(&measured("one", 0.9, &made), "3", ()).await.unwrap();
    assert_eq!((report.status(), kind(&report)), (RunStatus::Failed, StepErrorKind::GateRefused));
    let report = engine.run(&measured("other", 0.5, &made), "4", ()).await.unwrap();
    assert_eq!(report.why("measure").unwrap(), Why::Ran { attempts: 1 });
}

#[tokio::test]
async fn a_result_that_was_undone_serves_nobody() {
    let made = Arc::new(AtomicU32::new(0));
    let engine = LocalEngine::with_store(MemoryStore::new());
    let pipeline = measured("one", 0.5, &made);
    assert!(engine.run(&pipeline, "1", ()).await.unwrap().is_success());
    assert_eq!(engine.rollback(&pipeline, "1").await.unwrap().status(), RunStatus::RolledBack);
    let report = engine.run(&pipeline, "2", ()).await.unwrap();
    assert_eq!(report.why("measure").unwrap(), Why::Ran { attempts: 1 });
    let again = engine.run_with(&pipeline, "1", (), RunOptions::new().retry_failed()).await.unwrap();
    assert!(again.is_success(), "{again}");
}

#[tokio::test]
async fn a_report_becomes_an_error_where_the_run_did_not_succeed() {
    let pipeline = build(|p| {
        p.step("a").run(|_cx, ()| async { Err::<(), _>(StepError::new("no")) });
    });
    let error = run(&pipeline).await.into_result().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotSucceeded);
    assert!(error.to_string().contains("a failed: no"), "{error}");
}
