//! Runs that are taken up again in other ways than they ended: restarts, retries and changed pipelines.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use swarm_pipeline::*;

#[tokio::test(start_paused = true)]
async fn a_step_added_after_one_that_was_skipped_is_skipped_too() {
    let pipeline = |added: bool| {
        let mut p = Pipeline::builder("growing");
        let skipped = p.step::<u32>("skipped").when(|()| false).run(|_cx, ()| async { Ok(1) });
        if added {
            p.step("added").input(&skipped).run(|_cx, n| async move { Ok(*n) });
        }
        p.build().unwrap()
    };
    let engine = LocalEngine::with_store(MemoryStore::default());
    assert!(engine.run(&pipeline(false), "r", ()).await.unwrap().is_success());
    let options = RunOptions::new().on_change(OnChange::Rerun);
    let grown = pipeline(true);
    let ended =
        tokio::time::timeout(Duration::from_secs(3600), engine.run_with(&grown, "r", (), options)).await;
    let report = ended.expect("it ends some time").unwrap();
    assert!(report.is_success(), "{report}");
    assert_eq!(report.why("added").unwrap(), Why::SkippedWith { step: "skipped".into() });
}

/// The same fault without a change: what is put back behind a skipped step waits for ever. `restart_from` here; `retry_failed` does the
/// same where a step needs both a failed step and a skipped one, and `OnChange::Rerun` where it needs a changed and a skipped one.
#[tokio::test(start_paused = true)]
async fn a_step_that_is_put_back_behind_one_that_was_skipped_is_skipped_again() {
    let mut p = Pipeline::builder("restarted");
    let skipped = p.step::<u32>("skipped").when(|()| false).run(|_cx, ()| async { Ok(1) });
    let other = p.step::<u32>("other").run(|_cx, ()| async { Ok(1) });
    p.step("both").input((&skipped, &other)).run(|_cx, _| async move { Ok(()) });
    let pipeline = p.build().unwrap();
    for step in ["both", "other"] {
        let engine = LocalEngine::with_store(MemoryStore::default());
        assert!(engine.run(&pipeline, "r", ()).await.unwrap().is_success());
        let options = RunOptions::new().restart_from(step);
        let again = engine.run_with(&pipeline, "r", (), options);
        let ended = tokio::time::timeout(Duration::from_secs(3600), again).await;
        let report = ended.unwrap_or_else(|_| panic!("restarted from {step}: it never ends")).unwrap();
        assert!(report.is_success(), "{report}");
    }
}

/// A step that fails with one behind it, one beside it, and a wait.
fn blocked_for_ever(carry_on: bool, version: &str) -> Pipeline {
    let mut p = Pipeline::builder("beside");
    if carry_on {
        p.on_failure(OnFailure::CarryOn);
    }
    let bad = p.step("bad").run(|_cx, ()| async { Err::<(), _>(StepError::new("broken")) });
    p.step("behind").input(&bad).run(|_cx, _| async { Ok(()) });
    let beside = p.step("beside").version(version).run(|_cx, ()| async { Ok(()) });
    p.step::<()>("word").input(&beside).wait_for_signal();
    p.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_restart_beside_a_failed_step_comes_to_an_end() {
    let engine = LocalEngine::with_store(MemoryStore::default());
    let pipeline = {
        let mut p = Pipeline::builder("beside");
        p.step("beside").run(|_cx, ()| async { Ok(()) });
        let bad = p.step("bad").run(|_cx, ()| async { Err::<(), _>(StepError::new("broken")) });
        p.step("behind").input(&bad).run(|_cx, _| async { Ok(()) });
        p.build().unwrap()
    };
    assert_eq!(engine.run(&pipeline, "r", ()).await.unwrap().status(), RunStatus::Failed);
    let options = RunOptions::new().restart_from("beside");
    let again = engine.run_with(&pipeline, "r", (), options);
    let report =
        tokio::time::timeout(Duration::from_secs(3600), again).await.expect("it ends some time").unwrap();
    assert_eq!(report.status(), RunStatus::Failed, "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_change_in_a_run_that_carries_on_after_a_failure_lets_it_come_to_an_end() {
    let engine = LocalEngine::with_store(MemoryStore::default());
    let options = RunOptions::new().return_when_suspended().on_change(OnChange::Rerun);
    let report = engine.run_with(&blocked_for_ever(true, "1"), "r", (), options.clone()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Suspended, "{report}");
    let changed = blocked_for_ever(true, "2");
    let _ = engine.run_with(&changed, "r", (), options).await.unwrap();
    engine.signal("r", "word", ()).await.unwrap();
    let again = engine.run(&changed, "r", ());
    let report =
        tokio::time::timeout(Duration::from_secs(3600), again).await.expect("it ends some time").unwrap();
    assert_eq!(report.status(), RunStatus::Failed, "{report}");
}

/// Two items, the last of which fails if `fails` says so, and a step behind them that fails if it says so.
fn changed_fan_out(version: u32, item_fails: bool, end_fails: bool) -> Pipeline {
    let mut p = Pipeline::builder("fan");
    p.rollback(Rollback::Manual).concurrency(1);
    let list = p.step("list").run(|_cx, ()| async { Ok(vec![1_u32, 2]) });
    let each =
        p.step("each").version(version.to_string()).input(&list).run_each(move |_cx, n: u32| async move {
            if item_fails && n == 2 { Err(StepError::new("broken")) } else { Ok(n * version) }
        });
    p.step("sum").input(&each).run(move |_cx, all| async move {
        if end_fails { Err(StepError::new("broken")) } else { Ok(all.iter().map(|n| **n).sum::<u32>()) }
    });
    p.build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn going_on_after_a_failure_runs_all_items_of_a_fan_out_that_changed() {
    let mut found = Vec::new();
    for (item_fails, end_fails) in [(true, false), (false, true)] {
        let engine = LocalEngine::with_store(MemoryStore::default());
        let report = engine.run(&changed_fan_out(1, item_fails, end_fails), "r", ()).await.unwrap();
        assert_eq!(report.status(), RunStatus::Failed);
        let options = RunOptions::new().on_change(OnChange::Rerun).retry_failed();
        let mended = changed_fan_out(10, false, false);
        let again = engine.run_with(&mended, "r", (), options);
        let report = tokio::time::timeout(Duration::from_secs(3600), again).await.ok();
        found.push(report.map(|report| *report.unwrap().output_by_name::<u32>("sum").unwrap()));
    }
    assert_eq!(found, [Some(30), Some(30)], "the sums, if the run came to its end");
}

#[tokio::test]
async fn what_changed_during_a_rollback_runs_again_when_the_run_goes_on() {
    let undos = Arc::new(AtomicU32::new(0));
    let pipeline = |version: u32| {
        let mut p = Pipeline::builder("changing");
        let a = p.step("a").version(version.to_string()).run(move |_cx, ()| async move { Ok(version) });
        let undos = Arc::clone(&undos);
        let b =
            p.step("b")
                .compensate(move |_, _| {
                    let hangs = undos.fetch_add(1, Ordering::SeqCst) == 0;
                    async move { if hangs { std::future::pending().await } else { Ok(()) } }
                })
                .run(move |_cx, ()| async move {
                    if version == 1 { Err(StepError::new("broken")) } else { Ok(0) }
                });
        p.step("sum").input((&a, &b)).run(|_cx, (a, b)| async move { Ok(*a + *b) });
        p.build().unwrap()
    };
    let engine = LocalEngine::with_store(MemoryStore::default());
    {
        let old = pipeline(1);
        let mut run = std::pin::pin!(engine.run(&old, "r", ()));
        while undos.load(Ordering::SeqCst) == 0 {
            assert!(futures::poll!(&mut run).is_pending());
            tokio::task::yield_now().await;
        }
    }
    let new = pipeline(2);
    let options = RunOptions::new().on_change(OnChange::Rerun);
    let report = engine.run_with(&new, "r", (), options.clone()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Failed);
    let report = engine.run_with(&new, "r", (), options.retry_failed()).await.unwrap();
    assert_eq!(*report.output_by_name::<u32>("sum").unwrap(), 2, "{report}");
}

type Said = Arc<Mutex<Vec<String>>>;

/// A fan-out over as many items as `length` says, with an undo, and a step before it that fails while `fails` says so.
fn items_forgotten(length: &Arc<AtomicU32>, fails: &Arc<AtomicU32>, said: &Said) -> Pipeline {
    let mut p = Pipeline::builder("fan");
    let (length, fails) = (Arc::clone(length), Arc::clone(fails));
    let (ran, undone) = (Arc::clone(said), Arc::clone(said));
    let list =
        p.step("list").run(move |_cx, ()| {
            let (length, fails) = (length.load(Ordering::SeqCst), fails.load(Ordering::SeqCst) > 0);
            async move {
                if fails { Err(StepError::new("broken")) } else { Ok((0..length).collect::<Vec<u32>>()) }
            }
        });
    p.step("each")
        .input(&list)
        .compensate(move |cx, _| {
            undone.lock().unwrap().push(format!("undo {}", cx.idempotency_key()));
            async { Ok(()) }
        })
        .run_each(move |cx, n: u32| {
            ran.lock().unwrap().push(cx.attempt_key());
            async move { Ok(n) }
        });
    p.build().unwrap()
}

#[tokio::test]
async fn attempts_go_on_counting_when_a_list_becomes_shorter_and_longer_again() {
    let (length, fails, said) = (Arc::new(AtomicU32::new(2)), Arc::default(), Said::default());
    let pipeline = items_forgotten(&length, &fails, &said);
    let engine = LocalEngine::with_store(MemoryStore::default());
    for now in [2, 0, 2] {
        length.store(now, Ordering::SeqCst);
        let options = RunOptions::new().restart_from("list");
        let report = match now {
            2 if said.lock().unwrap().is_empty() => engine.run(&pipeline, "r", ()).await,
            _ => engine.run_with(&pipeline, "r", (), options).await,
        };
        assert!(report.unwrap().is_success());
    }
    assert_eq!(*said.lock().unwrap(), ["r/each[0]/1", "r/each[1]/1", "r/each[0]/2", "r/each[1]/2"]);
}

#[tokio::test]
async fn items_that_a_restart_put_back_are_undone_if_it_fails() {
    let mut found = Vec::new();
    for (now, fail) in [(0, false), (2, true)] {
        let (length, fails, said) =
            (Arc::new(AtomicU32::new(2)), Arc::new(AtomicU32::new(0)), Said::default());
        let pipeline = items_forgotten(&length, &fails, &said);
        let engine = LocalEngine::with_store(MemoryStore::default());
        assert!(engine.run(&pipeline, "r", ()).await.unwrap().is_success());
        length.store(now, Ordering::SeqCst);
        fails.store(u32::from(fail), Ordering::SeqCst);
        said.lock().unwrap().clear();
        let report =
            engine.run_with(&pipeline, "r", (), RunOptions::new().restart_from("list")).await.unwrap();
        assert_eq!(report.is_success(), !fail);
        if !fail {
            let report = engine.rollback(&pipeline, "r").await.unwrap();
            assert_eq!(report.status(), RunStatus::RolledBack, "{report}");
        }
        let mut undone = std::mem::take(&mut *said.lock().unwrap());
        undone.sort();
        found.push((now, fail, undone.len()));
    }
    assert_eq!(found, [(0, false, 2), (2, true, 2)], "both items are undone");
}

#[tokio::test(start_paused = true)]
async fn items_that_were_lost_in_a_failing_run_run_again_after_a_restart_elsewhere() {
    let life = Arc::new(AtomicU32::new(0));
    let mut p = Pipeline::builder("fan");
    let list = p.step("list").run(|_cx, ()| async { Ok(vec![1_u32, 2]) });
    let flag = Arc::clone(&life);
    p.step("each").input(&list).run_each(move |_cx, n: u32| {
        let hangs = flag.load(Ordering::SeqCst) == 0;
        async move { if hangs { std::future::pending().await } else { Ok(n) } }
    });
    let flag = Arc::clone(&life);
    p.step("bad").run(move |_cx, ()| {
        let fails = flag.load(Ordering::SeqCst) == 0;
        async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            if fails { Err(StepError::new("broken")) } else { Ok(()) }
        }
    });
    let pipeline = p.build().unwrap();
    let engine = LocalEngine::with_store(MemoryStore::default());
    let hour = Duration::from_secs(3600);
    assert!(
        tokio::time::timeout(hour, engine.run(&pipeline, "r", ())).await.is_err(),
        "it waits for the items"
    );
    life.store(1, Ordering::SeqCst);
    assert_eq!(engine.run(&pipeline, "r", ()).await.unwrap().status(), RunStatus::Failed);
    let options = RunOptions::new().restart_from("bad");
    let report = tokio::time::timeout(hour, engine.run_with(&pipeline, "r", (), options)).await;
    let report = report.expect("it ends some time").unwrap();
    assert_ne!(report.step("each").unwrap().status, StepStatus::Open, "{report}");
}

#[tokio::test]
async fn a_step_that_was_blocked_by_one_that_is_gone_names_no_other() {
    let pipeline = |old: bool| {
        let mut p = Pipeline::builder("shrinking");
        p.on_failure(OnFailure::CarryOn);
        if old {
            let bad = p.step("bad").run(|_cx, ()| async { Err::<(), _>(StepError::new("broken")) });
            p.step("behind").input(&bad).run(|_cx, _| async { Ok(()) });
        } else {
            p.step("behind").run(|_cx, ()| async { Ok(()) });
        }
        p.build().unwrap()
    };
    let engine = LocalEngine::with_store(MemoryStore::default());
    let report = engine.run(&pipeline(true), "r", ()).await.unwrap();
    assert_eq!(report.why("behind").unwrap(), Why::BlockedBy { step: "bad".into() });
    let options = RunOptions::new().on_change(OnChange::Rerun);
    let report = engine.run_with(&pipeline(false), "r", (), options).await.unwrap();
    assert_eq!(report.status(), RunStatus::Failed);
    assert_eq!(report.why("behind").unwrap(), Why::NotReached, "{report}");
}

/// Two steps that stood side by side when the rollback began. Now the second needs the first over one that was added, so that it is
/// undone before it, whether the undo of the first was under way or waits for its next attempt.
#[tokio::test(start_paused = true)]
async fn an_undo_waits_for_dependents_that_a_change_gave_its_step() {
    let life = Arc::new(AtomicU32::new(0));
    let pipeline = |new: bool, fails: bool, said: &Said| {
        let mut p = Pipeline::builder("ordered");
        let undo = |name: &'static str, fails: bool| {
            let (life, said) = (Arc::clone(&life), Arc::clone(said));
            move |_, _| {
                let (first, said) = (life.load(Ordering::SeqCst) == 0, Arc::clone(&said));
                async move {
                    if first && fails {
                        return Err(StepError::new("broken"));
                    } else if first {
                        std::future::pending::<()>().await;
                    }
                    said.lock().unwrap().push(format!("{name} begins"));
                    tokio::time::sleep(Duration::from_secs(600)).await;
                    said.lock().unwrap().push(format!("{name} ends"));
                    Ok(())
                }
            }
        };
        let a = p
            .step("a")
            .compensate_retry(Retry::fixed(9, Duration::from_secs(60)))
            .compensate(undo("a", fails))
            .run(|_cx, ()| async { Ok(()) });
        let before = new.then(|| p.step::<()>("added").input(&a).run(|_cx, _| async { Ok(()) }));
        let b = p
            .step("b")
            .input(Vec::from_iter(before))
            .compensate(undo("b", false))
            .run(|_cx, _| async { Ok(()) });
        p.step("bad").input((&a, &b)).run(|_cx, _| async { Err::<(), _>(StepError::new("broken")) });
        p.build().unwrap()
    };
    for fails in [false, true] {
        life.store(0, Ordering::SeqCst);
        let (said, engine) = (Said::default(), LocalEngine::with_store(MemoryStore::default()));
        let old = pipeline(false, fails, &said);
        let hang = tokio::time::timeout(Duration::from_secs(30), engine.run(&old, "r", ())).await;
        assert!(hang.is_err(), "the undos hang");
        life.store(1, Ordering::SeqCst);
        let options = RunOptions::new().on_change(OnChange::Rerun);
        let new = pipeline(true, fails, &said);
        let report = engine.run_with(&new, "r", (), options).await.unwrap();
        assert_eq!(report.status(), RunStatus::Failed, "{report}");
        assert_eq!(*said.lock().unwrap(), ["b begins", "b ends", "a begins", "a ends"], "{fails}");
    }
}
