use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use swarm_pipeline::*;

type Log = Arc<Mutex<Vec<String>>>;

fn said(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

fn say(log: &Log, what: &str) {
    log.lock().unwrap().push(what.to_owned());
}

#[tokio::test]
async fn values_flow_through_tuples_and_vectors() {
    let mut p = Pipeline::builder("sum");
    let ones: Vec<Handle<u64>> =
        (0..20).map(|n| p.step(format!("one{n}")).run(|_cx, ()| async { Ok(1) })).collect();
    let sum =
        p.step("sum").input(ones).run(|_cx, ones| async move { Ok(ones.iter().map(|n| **n).sum::<u64>()) });
    let text = p.step("text").run(|_cx, ()| async { Ok("n=".to_owned()) });
    let both = p.step("both").input((&text, &sum)).run(|_cx, (t, n)| async move { Ok(format!("{t}{n}")) });
    let pipeline = p.build().unwrap();
    for engine in [LocalEngine::in_memory(), LocalEngine::with_store(MemoryStore::default())] {
        let report = engine.run(&pipeline, "r", ()).await.unwrap();
        assert!(report.is_success(), "{report}");
        assert_eq!(*report.output(&both).unwrap(), "n=20");
    }
}

#[tokio::test(start_paused = true)]
async fn retries_wait_longer_each_time_and_then_give_up() {
    let calls = Arc::new(AtomicU32::new(0));
    let counter = Arc::clone(&calls);
    let mut p = Pipeline::builder("flaky");
    p.step::<()>("flaky").retry(Retry::exponential(4).jitter(0.0)).run(move |cx, ()| {
        let counter = Arc::clone(&counter);
        async move {
            assert_eq!(counter.fetch_add(1, Ordering::SeqCst) + 1, cx.attempt());
            Err(StepError::new("not yet"))
        }
    });
    let pipeline = p.build().unwrap();
    let before = tokio::time::Instant::now();
    let report = LocalEngine::in_memory().run(&pipeline, "r", ()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Failed);
    assert_eq!(calls.load(Ordering::SeqCst), 4);
    assert_eq!(before.elapsed().as_millis() / 10, 70);
    assert_eq!(report.error().unwrap().1.message(), "not yet");
}

fn release(log: &Log, fail: &'static str) -> Pipeline {
    let mut p = Pipeline::builder("release");
    let mut before: Option<Handle<u32>> = None;
    for (n, name) in ["build", "stage", "test", "live"].into_iter().enumerate() {
        let (run, undo) = (Arc::clone(log), Arc::clone(log));
        let body = move |cx: StepContext| {
            say(&run, cx.step());
            let failed = cx.step() == fail;
            async move { if failed { Err(StepError::new("broken")) } else { Ok(n as u32) } }
        };
        let undo = move |cx: StepContext, out: Option<Arc<u32>>| {
            say(&undo, &format!("undo {} {out:?}", cx.step()));
            async { Ok(()) }
        };
        before = Some(match before {
            None => p.step(name).compensate(undo).run(move |cx, ()| body(cx)),
            Some(last) => p.step(name).input(&last).compensate(undo).run(move |cx, _| body(cx)),
        });
    }
    p.build().unwrap()
}

#[tokio::test]
async fn a_failure_undoes_what_is_done_or_may_be_done_in_reverse() {
    let log = Log::default();
    let report = LocalEngine::in_memory().run(&release(&log, "test"), "r", ()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Failed);
    assert_eq!(
        said(&log),
        ["build", "stage", "test", "undo test None", "undo stage Some(1)", "undo build Some(0)"]
    );
    assert_eq!(report.step("stage").unwrap().undo, Some(UndoState::Done));
    assert_eq!(report.why("live").unwrap(), Why::BlockedBy { step: "test".into() });
}

#[tokio::test]
async fn a_failed_run_goes_on_where_it_was_mended() {
    let log = Log::default();
    let dir = tempfile::tempdir().unwrap();
    let engine = LocalEngine::open(dir.path()).unwrap();
    let _ = engine.run(&release(&log, "test"), "r", ()).await.unwrap();
    said(&log);
    let mended = release(&log, "");
    let same = engine.run(&mended, "r", ()).await.unwrap();
    assert_eq!(same.status(), RunStatus::Failed);
    assert_eq!(said(&log), [""; 0]);
    let report = engine.run_with(&mended, "r", (), RunOptions::new().retry_failed()).await.unwrap();
    assert!(report.is_success(), "{report}");
    assert_eq!(said(&log), ["build", "stage", "test", "live"]);
    let again = engine.run(&mended, "r", ()).await.unwrap();
    assert!(again.is_success());
    assert_eq!(again.why("build").unwrap(), Why::Recorded);
    assert_eq!(said(&log), [""; 0]);
    let back = engine.rollback(&mended, "r").await.unwrap();
    assert_eq!(back.status(), RunStatus::RolledBack);
    assert_eq!(said(&log).first().unwrap(), "undo live Some(3)");
}

#[tokio::test]
async fn a_stuck_undo_waits_for_an_operator() {
    let mended = Arc::new(AtomicU32::new(0));
    let log = Log::default();
    let pipeline = {
        let mut p = Pipeline::builder("stuck");
        let (first, second, flag) = (Arc::clone(&log), Arc::clone(&log), Arc::clone(&mended));
        let a = p
            .step("a")
            .compensate(move |_, _| {
                say(&first, "undo a");
                async { Ok(()) }
            })
            .run(|_cx, ()| async { Ok(1) });
        let b = p
            .step("b")
            .input(&a)
            .compensate_retry(Retry::none())
            .compensate(move |_, _| {
                say(&second, "undo b");
                let ok = flag.load(Ordering::SeqCst) > 0;
                async move { if ok { Ok(()) } else { Err(StepError::new("no")) } }
            })
            .run(|_cx, _| async { Ok(2) });
        p.step("c").input(&b).run(|_cx, _| async { Err::<(), _>(StepError::new("broken")) });
        p.build().unwrap()
    };
    let engine = LocalEngine::with_store(MemoryStore::default());
    let report = engine.run(&pipeline, "r", ()).await.unwrap();
    assert_eq!((report.status(), report.stuck()), (RunStatus::Stuck, vec!["b"]));
    assert_eq!(said(&log), ["undo b"]);
    assert_eq!(engine.run(&pipeline, "r", ()).await.unwrap().status(), RunStatus::Stuck);
    assert_eq!(engine.retry_undo(&pipeline, "r", "b").await.unwrap().status(), RunStatus::Stuck);
    assert_eq!(said(&log), ["undo b"]);
    let other = engine.mark_compensated(&pipeline, "r", "a").await.unwrap_err();
    assert_eq!(other.kind(), ErrorKind::InvalidState);
    mended.store(1, Ordering::SeqCst);
    assert_eq!(engine.retry_undo(&pipeline, "r", "b").await.unwrap().status(), RunStatus::Failed);
    assert_eq!(said(&log), ["undo b", "undo a"]);
}

#[tokio::test]
async fn a_fan_out_collects_in_order_and_fails_as_a_whole() {
    for fail in [None, Some(7)] {
        let mut p = Pipeline::builder("fan");
        let list = p.step("list").run(|_cx, ()| async { Ok((0..20).collect::<Vec<u32>>()) });
        let doubled = p.step("double").input(&list).run_each(move |_cx, n: u32| async move {
            tokio::task::yield_now().await;
            if Some(n) == fail { Err(StepError::new("seven")) } else { Ok(n * 2) }
        });
        let sum =
            p.step("sum").input(&doubled).run(|_cx, d| async move { Ok(d.iter().map(|n| **n).sum::<u32>()) });
        let pipeline = p.build().unwrap();
        let engine = LocalEngine::with_store(MemoryStore::default());
        let report = engine.run(&pipeline, "r", ()).await.unwrap();
        assert_eq!(report.is_success(), fail.is_none());
        if fail.is_none() {
            assert_eq!(*report.output(&sum).unwrap(), 380);
        }
    }
}

#[tokio::test]
async fn a_signal_brings_a_suspended_run_on() {
    let mut p = Pipeline::builder("approval");
    let built = p.step("build").run(|_cx, ()| async { Ok(1) });
    let ok = p.step::<bool>("approve").input(&built).wait_for_signal();
    let live = p.step("live").input((&built, &ok)).when(|(_, ok)| **ok).run(|_cx, _| async { Ok(7) });
    let pipeline = p.build().unwrap();
    let engine = LocalEngine::with_store(MemoryStore::default());
    let options = RunOptions::new().return_when_suspended();
    let report = engine.run_with(&pipeline, "r", (), options.clone()).await.unwrap();
    assert_eq!((report.status(), report.awaited_signals()), (RunStatus::Suspended, vec!["approve"]));
    assert_eq!(engine.signal("r", "aprove", true).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(engine.signal("q", "approve", true).await.unwrap_err().kind(), ErrorKind::NotFound);
    engine.signal("r", "approve", true).await.unwrap();
    let report = engine.run_with(&pipeline, "r", (), options).await.unwrap();
    assert_eq!(*report.output(&live).unwrap(), 7);
    assert_eq!(report.why("build").unwrap(), Why::Recorded);

    // And while it is being driven.
    let running = tokio::spawn({
        let (engine, pipeline) = (engine.clone(), pipeline.clone());
        async move { engine.run(&pipeline, "live", ()).await }
    });
    let mut events = engine.events();
    while engine.signal("live", "approve", false).await.is_err() {
        tokio::task::yield_now().await;
    }
    let report = running.await.unwrap().unwrap();
    assert_eq!(report.why("live").unwrap(), Why::ConditionFalse);
    assert!(report.is_success());
    assert!(futures_next(&mut events));
}

fn futures_next(events: &mut EventStream) -> bool {
    use futures::{FutureExt, StreamExt};
    events.next().now_or_never().is_some()
}

#[tokio::test(start_paused = true)]
async fn cancelling_asks_first_and_drops_after_the_grace() {
    let log = Log::default();
    let undo = Arc::clone(&log);
    let mut p = Pipeline::builder("long");
    p.cancel_grace(Duration::from_secs(2));
    p.step::<()>("long")
        .compensate(move |_, _| {
            say(&undo, "undone");
            async { Ok(()) }
        })
        .run(|_cx, ()| std::future::pending());
    let pipeline = p.build().unwrap();
    let engine = LocalEngine::with_store(MemoryStore::default());
    let running = tokio::spawn({
        let (engine, pipeline) = (engine.clone(), pipeline.clone());
        async move { engine.run(&pipeline, "r", ()).await }
    });
    tokio::task::yield_now().await;
    let before = tokio::time::Instant::now();
    engine.cancel("r").await.unwrap();
    let report = running.await.unwrap().unwrap();
    assert_eq!(report.status(), RunStatus::Cancelled);
    assert_eq!(before.elapsed().as_secs(), 2);
    assert_eq!(said(&log), ["undone"]);
    assert_eq!(report.step("long").unwrap().error().unwrap().kind(), StepErrorKind::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn an_undo_is_not_ended_by_what_it_follows() {
    let mut p = Pipeline::builder("slow_undo");
    p.cancel_grace(Duration::from_secs(2));
    // Longer than the grace, and attentive to a cancellation that is not its own.
    let undo = async |cx: StepContext| {
        assert!(!cx.is_cancelled());
        tokio::select! {
            () = cx.cancelled() => Err(StepError::new("told to end")),
            () = tokio::time::sleep(Duration::from_secs(30)) => Ok(()),
        }
    };
    let first = p.step("first").compensate(move |cx, _| undo(cx)).run(|_cx, ()| async { Ok(1) });
    p.step::<()>("second").input(&first).compensate(move |cx, _| undo(cx)).run(|cx, _| async move {
        if cx.run_id() == "fails" { Err(StepError::new("broken")) } else { std::future::pending().await }
    });
    let pipeline = p.build().unwrap();
    let engine = LocalEngine::with_store(MemoryStore::default());
    let report = engine.run(&pipeline, "fails", ()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Failed, "{report}");

    let cancel = async {
        while engine.cancel("hangs").await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    let (report, ()) = tokio::join!(engine.run(&pipeline, "hangs", ()), cancel);
    let report = report.unwrap();
    assert_eq!(report.status(), RunStatus::Cancelled, "{report}");
    assert_eq!(report.step("first").unwrap().undo, Some(UndoState::Done));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn panics_are_failures_wherever_they_happen() {
    let engine = LocalEngine::with_store(MemoryStore::default());
    engine.observe(|_| panic!("observer"));
    let table: Vec<(&str, Pipeline)> = vec![
        ("in place", {
            let mut p = Pipeline::builder("p");
            p.step::<()>("s").run(|_cx, ()| async { panic!("boom") });
            p.build().unwrap()
        }),
        ("before the future", {
            let mut p = Pipeline::builder("p");
            p.step::<()>("s").run(|_cx, ()| -> std::future::Ready<Result<(), StepError>> { panic!("boom") });
            p.build().unwrap()
        }),
        ("after waiting", {
            let mut p = Pipeline::builder("p");
            p.step::<()>("s").run(|_cx, ()| async {
                tokio::task::yield_now().await;
                panic!("boom")
            });
            p.build().unwrap()
        }),
        ("on a thread", {
            let mut p = Pipeline::builder("p");
            p.step::<()>("s").run_blocking(|_cx, ()| panic!("boom"));
            p.build().unwrap()
        }),
        ("in a condition", {
            let mut p = Pipeline::builder("p");
            p.step("s").when(|()| panic!("boom")).run(|_cx, ()| async { Ok(()) });
            p.build().unwrap()
        }),
        ("in a gate", {
            let mut p = Pipeline::builder("p");
            p.step("s").gate(Gate::check("g", |()| panic!("boom"))).run(|_cx, ()| async { Ok(()) });
            p.build().unwrap()
        }),
    ];
    for (at, (name, pipeline)) in table.into_iter().enumerate() {
        let report = engine.run(&pipeline, format!("r{at}"), ()).await.unwrap();
        assert_eq!(report.status(), RunStatus::Failed, "{name}");
        let (_, error) = report.error().unwrap();
        assert!(error.message().contains("panicked"), "{name}: {error}");
    }
}

#[tokio::test]
async fn a_fan_out_that_is_done_stays_done_when_another_step_changes() {
    let log = Log::default();
    let pipeline = |version: &str| {
        let mut p = Pipeline::builder("changing");
        let list = p.step("list").run(|_cx, ()| async { Ok(vec![1_u32, 2]) });
        let said = Arc::clone(&log);
        let each = p.step("each").input(&list).run_each(move |cx, n: u32| {
            say(&said, &format!("each {:?}", cx.item()));
            async move { Ok(n) }
        });
        let said = Arc::clone(&log);
        let changed = p.step("changed").version(version).run(move |cx, ()| {
            say(&said, cx.step());
            async { Ok(1_u32) }
        });
        let ok = p.step::<u32>("approve").input((&each, &changed)).wait_for_signal();
        p.step("sum")
            .input((&each, &ok))
            .run(|_cx, (each, ok)| async move { Ok(each.iter().map(|n| **n).sum::<u32>() + *ok) });
        p.build().unwrap()
    };
    let engine = LocalEngine::with_store(MemoryStore::default());
    let options = RunOptions::new().return_when_suspended().on_change(OnChange::Rerun);
    let _ = engine.run_with(&pipeline("1"), "r", (), options.clone()).await.unwrap();
    said(&log);
    let changed = pipeline("2");
    // Once as the change is noticed, and once as the log tells of it.
    for expected in [&["changed"][..], &[]] {
        let report = engine.run_with(&changed, "r", (), options.clone()).await.unwrap();
        assert_eq!(report.status(), RunStatus::Suspended);
        assert_eq!(said(&log), expected);
    }
    engine.signal("r", "approve", 4).await.unwrap();
    let report = engine.run(&changed, "r", ()).await.unwrap();
    assert_eq!(*report.output_by_name::<u32>("sum").unwrap(), 7);
    assert_eq!(said(&log), [""; 0]);
}

#[tokio::test]
async fn going_on_after_a_failure_runs_only_the_items_without_a_result() {
    let (log, mended) = (Log::default(), Arc::new(AtomicU32::new(0)));
    let mut p = Pipeline::builder("fan");
    p.rollback(Rollback::Manual);
    let list = p.step("list").run(|_cx, ()| async { Ok((0..6).collect::<Vec<u32>>()) });
    let (say_to, flag) = (Arc::clone(&log), Arc::clone(&mended));
    let each = p.step("each").input(&list).run_each(move |_cx, n: u32| {
        say(&say_to, &format!("{n}"));
        let fails = n == 3 && flag.load(Ordering::SeqCst) == 0;
        async move { if fails { Err(StepError::new("three")) } else { Ok(n) } }
    });
    let sum =
        p.step("sum").input(&each).run(|_cx, all| async move { Ok(all.iter().map(|n| **n).sum::<u32>()) });
    let pipeline = p.build().unwrap();
    let engine = LocalEngine::with_store(MemoryStore::default());
    let report = engine.run(&pipeline, "r", ()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Failed);
    assert_eq!(said(&log), ["0", "1", "2", "3"]);
    mended.store(1, Ordering::SeqCst);
    let report = engine.run_with(&pipeline, "r", (), RunOptions::new().retry_failed()).await.unwrap();
    assert_eq!(*report.output(&sum).unwrap(), 15, "{report}");
    assert_eq!(said(&log), ["3", "4", "5"]);
    assert_eq!(*engine.run(&pipeline, "r", ()).await.unwrap().output(&sum).unwrap(), 15);
}
