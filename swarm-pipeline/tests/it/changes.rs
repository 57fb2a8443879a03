//! Runs over pipelines that changed, policies that were tuned, and values that came while nobody was there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use chrono::{DateTime, Utc};
use swarm_pipeline::{
    ErrorKind, Gate, Handle, LocalEngine, MemoryStore, OnChange, OnFailure, Pipeline, PipelineBuilder,
    Retention, Retry, RunOptions, RunStatus, StepError, StepStatus, UndoState,
};

fn suspended() -> RunOptions {
    RunOptions::new().return_when_suspended()
}

fn rerun() -> RunOptions {
    suspended().on_change(OnChange::Rerun)
}

fn build(add: impl FnOnce(&mut PipelineBuilder)) -> Pipeline {
    let mut p = Pipeline::builder("p");
    add(&mut p);
    p.build().unwrap()
}

/// `build -> approve -> deploy`, and `aside`, whose version is `version`.
fn release(version: &str, builds: &Arc<AtomicU32>) -> Pipeline {
    build(|p| {
        p.step("aside").version(version).run(|_cx, ()| async { Ok(()) });
        let builds = Arc::clone(builds);
        let built = p.step("build").run(move |_cx, ()| {
            let count = builds.fetch_add(1, Ordering::SeqCst) + 1;
            async move { Ok(count) }
        });
        let approved = p.step::<bool>("approve").input(&built).wait_for_signal();
        p.step("deploy")
            .input((&built, &approved))
            .run(|_cx, (built, approved)| async move { Ok(format!("build {built}, approved: {approved}")) });
    })
}

#[tokio::test]
async fn a_cancellation_that_was_answered_survives_a_changed_pipeline() {
    let (store, builds) = (MemoryStore::new(), Arc::default());
    let engine = LocalEngine::with_store(store);
    let report = engine.run_with(&release("1", &builds), "r", (), suspended()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Suspended);
    engine.cancel("r").await.unwrap();
    let report = engine.run_with(&release("2", &builds), "r", (), rerun()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Cancelled);
    let report = engine.run_with(&release("3", &builds), "r", (), rerun()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Cancelled, "a run that is over does not come back to life");
}

#[tokio::test]
async fn signals_that_came_early_survive_a_changed_pipeline_and_the_first_counts() {
    let (engine, builds) = (LocalEngine::with_store(MemoryStore::new()), Arc::default());
    let fails = |version: &str, fail: bool| {
        build(|p| {
            p.step("aside").version(version).run(|_cx, ()| async { Ok(()) });
            let built = p.step("build").retry(Retry::none()).run(move |_cx, ()| async move {
                if fail { Err(StepError::new("not yet")) } else { Ok(1_u32) }
            });
            let approved = p.step::<bool>("approve").input(&built).wait_for_signal();
            p.step("deploy").input(&approved).run(|_cx, approved| async move { Ok(*approved) });
        })
    };
    // Both come before the step is reached.
    let hold = build(|p| {
        let first = p.step::<bool>("first").wait_for_signal();
        let approved = p.step::<bool>("approve").input(&first).wait_for_signal();
        p.step("deploy").input(&approved).run(|_cx, approved| async move { Ok(*approved) });
    });
    let _ = engine.run_with(&hold, "early", (), suspended()).await.unwrap();
    engine.signal("early", "approve", false).await.unwrap();
    engine.signal("early", "approve", true).await.unwrap();
    engine.signal("early", "first", true).await.unwrap();
    let changed = build(|p| {
        p.step("added").run(|_cx, ()| async { Ok(()) });
        let first = p.step::<bool>("first").wait_for_signal();
        let approved = p.step::<bool>("approve").input(&first).wait_for_signal();
        p.step("deploy").input(&approved).run(|_cx, approved| async move { Ok(*approved) });
    });
    let report = engine.run_with(&changed, "early", (), rerun()).await.unwrap();
    assert!(report.is_success(), "{report}");
    assert!(!*report.output_by_name::<bool>("deploy").unwrap(), "the first value counts");

    // A run that fails before the step is reached keeps the value for when it is tried again.
    let report = engine.run_with(&fails("1", true), "again", (), suspended()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Failed);
    let report = engine.run_with(&release("1", &builds), "kept", (), suspended()).await.unwrap();
    assert_eq!(report.awaited_signals(), ["approve"]);
    engine.signal("kept", "approve", true).await.unwrap();
    let report = engine.run_with(&release("2", &builds), "kept", (), rerun()).await.unwrap();
    assert_eq!(*report.output_by_name::<String>("deploy").unwrap(), "build 1, approved: true");
    assert_eq!(builds.load(Ordering::SeqCst), 1, "what did not change ran once");
}

#[tokio::test]
async fn a_value_of_the_wrong_type_is_refused_and_the_run_waits_for_another() {
    let (engine, builds) = (LocalEngine::with_store(MemoryStore::new()), Arc::default());
    let _ = engine.run_with(&release("1", &builds), "r", (), suspended()).await.unwrap();
    engine.signal("r", "approve", "yes").await.unwrap();
    let report = engine.run_with(&release("1", &builds), "r", (), suspended()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Suspended);
    let error = report.step("approve").unwrap().error().cloned().unwrap();
    assert!(error.message().contains("not of the step's type"), "{error}");
    engine.signal("r", "approve", true).await.unwrap();
    let report = engine.run(&release("1", &builds), "r", ()).await.unwrap();
    assert!(report.is_success(), "{report}");
}

#[tokio::test]
async fn gates_judge_the_value_of_a_signal() {
    let pipeline = |retry: bool| {
        build(move |p| {
            let yes = Gate::check("yes", |yes: &bool| if *yes { Ok(()) } else { Err("refused".into()) });
            let yes = if retry { yes.retry_on_refusal() } else { yes };
            let approved = p.step::<bool>("approve").gate(yes).wait_for_signal();
            p.step("deploy").input(&approved).run(|_cx, _| async { Ok(()) });
        })
    };
    let engine = LocalEngine::with_store(MemoryStore::new());
    let _ = engine.run_with(&pipeline(false), "r", (), suspended()).await.unwrap();
    engine.signal("r", "approve", false).await.unwrap();
    let report = engine.run(&pipeline(false), "r", ()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Failed);
    assert_eq!(report.step("deploy").unwrap().attempts.len(), 0);
    assert_eq!(report.step("approve").unwrap().attempts[0].gates.len(), 1);

    // A gate that allows another try waits for another value, live as well.
    let engine = LocalEngine::with_store(MemoryStore::new());
    let pipeline = pipeline(true);
    let mut events = engine.events();
    let running = tokio::spawn({
        let (engine, pipeline) = (engine.clone(), pipeline.clone());
        async move { engine.run(&pipeline, "live", ()).await }
    });
    use futures::StreamExt;
    let mut refused = false;
    while let Some(event) = events.next().await {
        match event.kind {
            swarm_pipeline::RunEventKind::Suspended { .. } => {
                engine.signal("live", "approve", refused).await.unwrap();
                refused = true;
            }
            swarm_pipeline::RunEventKind::Finished { .. } => break,
            _ => {}
        }
    }
    assert!(refused && running.await.unwrap().unwrap().is_success());
}

#[tokio::test(start_paused = true)]
async fn a_sleep_keeps_its_time_through_a_changed_pipeline() {
    let pipeline = |version: &'static str| {
        build(move |p| {
            p.step("aside").version(version).run(|_cx, ()| async { Ok(()) });
            let nap = p.step("nap").sleep(Duration::from_secs(3600));
            p.step("wake").input(&nap).run(|_cx, nap| async move { Ok(*nap) });
        })
    };
    let engine = LocalEngine::with_store(MemoryStore::new());
    let begun = Utc::now();
    let first = pipeline("1");
    let run = engine.run(&first, "r", ());
    let _ = tokio::time::timeout(Duration::from_secs(1800), run).await.unwrap_err();
    let report = engine.run_with(&pipeline("2"), "r", (), rerun()).await.unwrap();
    assert!(report.is_success());
    let woke = *report.output_by_name::<DateTime<Utc>>("wake").unwrap();
    let aimed = woke - begun;
    assert!(aimed.num_seconds() >= 3600 && aimed.num_seconds() < 3660, "aimed at {aimed}");
}

#[tokio::test]
async fn a_condition_that_said_no_and_a_gate_that_refused_are_not_asked_again() {
    let asked = Arc::new(AtomicU32::new(0));
    let pipeline = |version: &'static str| {
        let asked = Arc::clone(&asked);
        build(move |p| {
            p.on_failure(OnFailure::CarryOn);
            p.step("aside").version(version).run(|_cx, ()| async { Ok(()) });
            let one = p.step("one").run(|_cx, ()| async { Ok(1_u32) });
            p.step("never")
                .input(&one)
                .when(move |_| {
                    asked.fetch_add(1, Ordering::SeqCst);
                    false
                })
                .run(|_cx, _| async { Ok(()) });
            p.step("bad").gate(Gate::check("no", |_: &u32| Err("no".into()))).run(|_cx, ()| async { Ok(1) });
            p.step::<()>("wait").wait_for_signal();
        })
    };
    let engine = LocalEngine::with_store(MemoryStore::new());
    let _ = engine.run_with(&pipeline("1"), "r", (), suspended()).await.unwrap();
    let report = engine.run_with(&pipeline("2"), "r", (), rerun()).await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    assert_eq!(report.step("never").unwrap().status, StepStatus::Skipped);
    let bad = report.step("bad").unwrap();
    assert_eq!((bad.status, bad.attempts.len()), (StepStatus::Failed, 1));
    assert!(bad.error().is_some() && bad.attempts[0].ended.is_some());
}

#[tokio::test(start_paused = true)]
async fn policies_can_be_tuned_while_a_run_is_under_way() {
    // Fails twice, then waits for a signal; resumed with every other policy than it began with.
    let pipeline = |retry: Retry, undo_retry: Retry, choice: OnFailure, with_undo: bool, limit: u32| {
        build(move |p| {
            p.on_failure(choice).concurrency(limit).group("g", limit);
            let mut flaky = p.step("flaky").retry(retry).group("g").compensate_retry(undo_retry);
            if with_undo {
                flaky = flaky.compensate(|_cx, _| async { Ok(()) });
            }
            let flaky = flaky.run(|cx, ()| async move {
                if cx.attempt() < 3 { Err(StepError::new("at first")) } else { Ok(1_u32) }
            });
            p.step::<()>("wait").input(&flaky).wait_for_signal();
            p.step("broken").run(|_cx, ()| async { Err::<(), _>(StepError::new("for good")) });
        })
    };
    let soon = |attempts| Retry::fixed(attempts, Duration::from_millis(10));
    let engine = LocalEngine::with_store(MemoryStore::new());
    let generous = |with_undo| pipeline(soon(5), soon(9), OnFailure::CarryOn, with_undo, 2);
    let report = engine.run_with(&generous(false), "r", (), suspended()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Suspended, "{report}");
    let strict = pipeline(Retry::none(), soon(1), OnFailure::Stop, true, 1);
    let report = engine.run_with(&strict, "r", (), suspended()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Suspended, "{report}");
    engine.signal("r", "wait", ()).await.unwrap();
    let report = engine.run(&generous(true), "r", ()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Failed, "{report}");
    assert_eq!(report.step("flaky").unwrap().undo, Some(UndoState::Done));
    let report = engine.run(&strict, "r", ()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Failed, "the log is answered whatever the policies are now");
}

/// `a -> b -> c`; `c` fails, `a` and `b` say what they did and undid to `log`.
fn saga(version: &'static str, sticks: bool, log: &Arc<std::sync::Mutex<Vec<String>>>) -> Pipeline {
    build(|p| {
        p.step("aside").version(version).run(|_cx, ()| async { Ok(()) });
        let mut last: Option<Handle<u32>> = None;
        for name in ["a", "b"] {
            let (does, undoes) = (Arc::clone(log), Arc::clone(log));
            let mut step = p.step(name).compensate_retry(Retry::none()).compensate(move |cx, _| {
                undoes.lock().unwrap().push(cx.idempotency_key());
                let fails = sticks && cx.step() == "a";
                async move { if fails { Err(StepError::new("stays")) } else { Ok(()) } }
            });
            if let Some(last) = last {
                step = step.after(["a"]);
                let _ = last;
            }
            last = Some(step.run(move |cx, ()| {
                does.lock().unwrap().push(cx.idempotency_key());
                async { Ok(1) }
            }));
        }
        p.step("c").after(["b"]).run(|cx, ()| async move {
            if cx.attempt() == 1 { Err(StepError::new("at first")) } else { Ok(()) }
        });
    })
}

#[tokio::test]
async fn a_restart_does_again_what_was_undone_and_nothing_is_undone_twice() {
    let log = Arc::default();
    let engine = LocalEngine::with_store(MemoryStore::new());
    let pipeline = saga("1", false, &log);
    let report = engine.run(&pipeline, "r", ()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Failed);
    let report = engine.run_with(&pipeline, "r", (), RunOptions::new().restart_from("c")).await.unwrap();
    assert!(report.is_success(), "{report}");
    let told = std::mem::take(&mut *log.lock().unwrap());
    assert_eq!(told, ["r/a", "r/b", "r/b/undo", "r/a/undo", "r/a", "r/b"]);
    assert_eq!(engine.rollback(&pipeline, "r").await.unwrap().status(), RunStatus::RolledBack);
    assert_eq!(*log.lock().unwrap(), ["r/b/undo", "r/a/undo"]);
    let undo = report_attempts(&engine, &pipeline).await;
    assert_eq!(undo, [1, 2], "attempts to undo go on counting");
}

async fn report_attempts(engine: &LocalEngine, pipeline: &Pipeline) -> Vec<u32> {
    let report = engine.report(pipeline, "r").await.unwrap();
    let step = report.step("a").unwrap();
    step.attempts.iter().filter(|attempt| attempt.undo).map(|attempt| attempt.attempt).collect()
}

#[tokio::test]
async fn a_stuck_run_is_for_its_verbs_alone_and_they_work_after_a_release() {
    let log = Arc::default();
    let engine = LocalEngine::with_store(MemoryStore::new());
    let report = engine.run(&saga("1", true, &log), "r", ()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Stuck);
    assert!(report.to_string().contains("its undo is stuck: stays"), "{report}");
    let restart = RunOptions::new().restart_from("c");
    let error = engine.run_with(&saga("1", true, &log), "r", (), restart).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState);
    let error = engine.rollback(&saga("1", true, &log), "r").await.unwrap_err();
    assert!(error.to_string().contains("mark_compensated"), "{error}");
    let error = engine.cancel("r").await.unwrap_err();
    assert!(error.to_string().contains("mark_compensated"), "{error}");
    // The next release has another version of a step that has nothing to do with it.
    let report = engine.retry_undo(&saga("2", false, &log), "r", "a").await.unwrap();
    assert_eq!(report.status(), RunStatus::Failed);
    let report = engine.run(&saga("3", false, &log), "r", ()).await.unwrap();
    assert_eq!(
        report.status(),
        RunStatus::Failed,
        "a run that is over is answered whatever the pipeline is now"
    );
}

#[tokio::test]
async fn a_rollback_that_lost_its_undo_is_refused_by_name() {
    let pipeline = |with_undo: bool| {
        build(|p| {
            let mut a =
                p.step("a").version(if with_undo { "1" } else { "2" }).compensate_retry(Retry::none());
            if with_undo {
                a = a.compensate(|_cx, _| async { Err(StepError::new("stays")) });
            }
            a.run(|_cx, ()| async { Ok(()) });
            p.step("b").after(["a"]).run(|_cx, ()| async { Err::<(), _>(StepError::new("no")) });
        })
    };
    let engine = LocalEngine::with_store(MemoryStore::new());
    let report = engine.run(&pipeline(true), "r", ()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Stuck);
    let error = engine.retry_undo(&pipeline(false), "r", "a").await.unwrap_err();
    assert_eq!((error.kind(), error.step()), (ErrorKind::DefinitionChanged, Some("a")));
}

#[tokio::test]
async fn a_run_is_taken_up_by_its_id_and_looked_at_without_being_driven() {
    let (engine, builds) = (LocalEngine::with_store(MemoryStore::new()), Arc::default());
    let pipeline = release("1", &builds);
    let mut input = std::collections::HashMap::new();
    input.extend((0..20).map(|n| (n.to_string(), n)));
    let _ = engine.run_with(&pipeline, "r", &input, suspended()).await.unwrap();
    let listed = engine.runs().await.unwrap();
    assert_eq!(
        (listed[0].status, &listed[0].awaited_signals[..]),
        (RunStatus::Suspended, &["approve".to_owned()][..])
    );
    let report = engine.report(&pipeline, "r").await.unwrap();
    assert_eq!(report.status(), RunStatus::Suspended);
    assert_eq!(*report.output_by_name::<u32>("build").unwrap(), 1);
    let before = engine.history("r").await.unwrap().len();
    // The same map again has its members in another order.
    let again: std::collections::HashMap<_, _> = input.clone().into_iter().collect();
    let _ = engine.run_with(&pipeline, "r", &again, suspended()).await.unwrap();
    assert_eq!(engine.history("r").await.unwrap().len(), before + 1, "a look leaves no trace, a resume one");
    let report = engine.resume(&pipeline, "r", suspended()).await.unwrap();
    assert_eq!(report.status(), RunStatus::Suspended);
    for error in [
        engine.resume(&pipeline, "never", suspended()).await.unwrap_err(),
        engine.rollback(&pipeline, "never").await.unwrap_err(),
        engine.report(&pipeline, "never").await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::NotFound);
    }
    assert_eq!(engine.runs().await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_retention_removes_nothing_until_told_what() {
    let engine = LocalEngine::with_store(MemoryStore::new());
    let pipeline = build(|p| {
        p.step("a").run(|_cx, ()| async { Ok(()) });
    });
    let _ = engine.run(&pipeline, "r", ()).await.unwrap();
    for retention in [Retention::default(), Retention::new(), Retention::new().failed_too()] {
        assert_eq!(engine.prune(&retention).await.unwrap(), []);
    }
    assert_eq!(engine.prune(&Retention::new().keep_last(0)).await.unwrap().len(), 1);
}

#[test]
fn settings_that_a_waiting_step_cannot_have_are_told() {
    let mut p = Pipeline::builder("p");
    p.step::<bool>("approve")
        .timeout(Duration::from_secs(1))
        .retry(Retry::exponential(3))
        .compensate(|_cx, _| async { Ok(()) })
        .wait_for_signal();
    p.step("nap").gate(Gate::check("g", |_| Ok(()))).sleep(Duration::from_secs(1));
    let error = p.build().unwrap_err().to_string();
    for told in ["`timeout`", "`retry`", "`compensate`", "`gate`", "waits for a signal", "sleeps"] {
        assert!(error.contains(told), "{told} in {error}");
    }
}

#[tokio::test]
async fn a_run_is_not_taken_on_by_a_pipeline_that_lost_the_undo_of_what_it_did() {
    #[derive(Clone, Copy)]
    enum Deploy {
        Undone,
        NotUndone,
        Gone,
    }
    let pipeline = |deploy: Deploy, waits: bool| {
        build(move |p| {
            let does = |_cx, ()| async { Ok(()) };
            let _ = match deploy {
                Deploy::Undone => Some(p.step("deploy").compensate(|_cx, _| async { Ok(()) }).run(does)),
                Deploy::NotUndone => Some(p.step("deploy").run(does)),
                Deploy::Gone => None,
            };
            p.step("aside").run(|_cx, ()| async { Ok(()) });
            if waits {
                p.step::<()>("wait").wait_for_signal();
            }
        })
    };
    let engine = LocalEngine::with_store(MemoryStore::new());
    let refused = |error: swarm_pipeline::Error| {
        assert_eq!(error.kind(), ErrorKind::DefinitionChanged, "{error}");
        assert!(error.to_string().contains("deploy"), "{error}");
    };
    assert!(engine.run(&pipeline(Deploy::Undone, false), "over", ()).await.unwrap().is_success());
    let _ = engine.run_with(&pipeline(Deploy::Undone, true), "waits", (), suspended()).await.unwrap();
    for deploy in [Deploy::NotUndone, Deploy::Gone] {
        refused(engine.rollback(&pipeline(deploy, false), "over").await.unwrap_err());
        let keep = OnChange::Migrate(Arc::new(|_| true));
        for options in [suspended(), rerun(), suspended().on_change(keep)] {
            refused(engine.resume(&pipeline(deploy, true), "waits", options).await.unwrap_err());
        }
        let report = engine.run(&pipeline(deploy, false), "over", ()).await.unwrap();
        assert!(report.is_success(), "what is over is answered all the same");
    }
    let report = engine.rollback(&pipeline(Deploy::Undone, false), "over").await.unwrap();
    assert_eq!(report.step("deploy").unwrap().undo, Some(UndoState::Done));
}

#[tokio::test]
async fn a_step_whose_output_has_another_type_now_is_replaced() {
    let engine = LocalEngine::with_store(MemoryStore::new());
    let first = build(|p| {
        let measured = p.step("measure").run(|_cx, ()| async { Ok("much".to_owned()) });
        let doubled =
            p.step("double").input(&measured).run(|_cx, much| async move { Ok(format!("{much} {much}")) });
        p.step::<()>("wait").input(&doubled).wait_for_signal();
    });
    let second = build(|p| {
        let measured = p.step("measure").version("2").run(|_cx, ()| async { Ok(4_u32) });
        let doubled = p.step("double").input(&measured).run(|_cx, four| async move { Ok(*four * 2) });
        p.step::<()>("wait").input(&doubled).wait_for_signal();
    });
    for run in ["r", "over"] {
        let _ = engine.run_with(&first, run, (), suspended()).await.unwrap();
    }
    engine.signal("over", "wait", ()).await.unwrap();
    assert!(engine.run(&first, "over", ()).await.unwrap().is_success());
    for run in ["r", "over"] {
        let report = engine.run_with(&second, run, (), rerun()).await.unwrap();
        assert_eq!(*report.output_by_name::<u32>("double").unwrap(), 8);
    }
}

#[tokio::test]
async fn a_step_of_another_kind_runs_again_whatever_is_to_be_kept() {
    let engine = LocalEngine::with_store(MemoryStore::new());
    let pipeline = |each: bool| {
        build(move |p| {
            let list = p.step("list").run(|_cx, ()| async { Ok(vec![1_u32, 2]) });
            let step = p.step("sum").input(&list);
            if each {
                step.run_each(|_cx, item: u32| async move { Ok(item) });
            } else {
                step.run(|_cx, list| async move { Ok(list.iter().sum::<u32>()) });
            }
            p.step::<()>("wait").after(["sum"]).wait_for_signal();
        })
    };
    let _ = engine.run_with(&pipeline(false), "r", (), suspended()).await.unwrap();
    let keep = suspended().on_change(OnChange::Migrate(Arc::new(|_| true)));
    let report = engine.run_with(&pipeline(true), "r", (), keep).await.unwrap();
    assert_eq!(*report.output_by_name::<Vec<u32>>("sum").unwrap(), [1, 2]);
}
