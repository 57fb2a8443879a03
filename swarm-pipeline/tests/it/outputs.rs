//! What becomes of an output: how large it may be, what an undo is given, and which value of a signal counts.

use std::sync::{Arc, Mutex};

use swarm_pipeline::*;

const LIMIT: usize = 4 * 1024 * 1024;

#[tokio::test]
async fn an_output_may_be_four_mebibytes_of_json_and_no_more() {
    // The quotes count.
    for (length, fits) in [(LIMIT - 2, true), (LIMIT - 1, false)] {
        let store = MemoryStore::new();
        let mut p = Pipeline::builder("large");
        let large = p
            .step("large")
            .retry(Retry::fixed(3, std::time::Duration::ZERO))
            .run(move |_cx, ()| async move { Ok("x".repeat(length)) });
        let pipeline = p.build().unwrap();
        let report = LocalEngine::with_store(store.clone()).run(&pipeline, "r", ()).await.unwrap();
        assert_eq!(report.is_success(), fits, "{length}");
        let step = report.step("large").unwrap();
        assert_eq!(step.attempts.len(), 1, "another attempt would be as large");
        if fits {
            let report = LocalEngine::with_store(store).run(&pipeline, "r", ()).await.unwrap();
            assert_eq!(report.output(&large).unwrap().len(), length);
        } else {
            let error = step.error().unwrap();
            assert_eq!(error.kind(), StepErrorKind::BadValue);
            assert!(error.message().contains("put_artifact"), "{error}");
        }
    }
}

#[tokio::test]
async fn the_undo_is_given_what_a_gate_refused_in_this_life_and_the_next() {
    for (engine, lives) in [
        (LocalEngine::in_memory(), 1),
        (LocalEngine::with_store(MemoryStore::default()), 1),
        (LocalEngine::with_store(MemoryStore::default()), 2),
    ] {
        let given: Arc<Mutex<Vec<Option<u32>>>> = Arc::default();
        let keep = Arc::clone(&given);
        let mut p = Pipeline::builder("refused");
        p.step("s")
            .gate(Gate::at_most("small", 5.0, |n: &u32| f64::from(*n)))
            .compensate(move |_, output| {
                keep.lock().unwrap().push(output.map(|n| *n));
                let dies = keep.lock().unwrap().len() < lives;
                async move { if dies { std::future::pending().await } else { Ok(()) } }
            })
            .run(|_cx, ()| async { Ok(7) });
        let pipeline = p.build().unwrap();
        for life in 1..lives {
            let mut run = std::pin::pin!(engine.run(&pipeline, "r", ()));
            while given.lock().unwrap().len() < life {
                assert!(futures::poll!(&mut run).is_pending());
                tokio::task::yield_now().await;
            }
        }
        let report = engine.run(&pipeline, "r", ()).await.unwrap();
        assert_eq!(report.error().unwrap().1.kind(), StepErrorKind::GateRefused);
        assert_eq!(report.step("s").unwrap().undo, Some(UndoState::Done));
        assert_eq!(*given.lock().unwrap(), vec![Some(7); lives]);
    }
}

#[tokio::test]
async fn the_first_value_of_a_signal_counts_whether_the_run_is_driven_or_not() {
    for driven in [true, false] {
        let leave = Arc::new(tokio::sync::Notify::new());
        let mut p = Pipeline::builder("early");
        let waits = Arc::clone(&leave);
        let before = p.step("before").run(move |_cx, ()| {
            let waits = Arc::clone(&waits);
            async move {
                waits.notified().await;
                Ok(())
            }
        });
        let word = p.step::<String>("word").input(&before).wait_for_signal();
        let pipeline = p.build().unwrap();
        let engine = LocalEngine::with_store(MemoryStore::default());
        let mut run = Box::pin(engine.run(&pipeline, "r", ()));
        assert!(futures::poll!(&mut run).is_pending(), "the step before holds it");
        if !driven {
            drop(run);
            run = Box::pin(engine.run(&pipeline, "r", ()));
        }
        let speak = async {
            for value in ["first", "second"] {
                engine.signal("r", "word", value).await.unwrap();
            }
            leave.notify_one();
        };
        let report = match driven {
            true => tokio::join!(run, speak).0,
            false => {
                speak.await;
                run.await
            }
        };
        assert_eq!(*report.unwrap().output(&word).unwrap(), "first", "driven: {driven}");
    }
}

#[tokio::test]
async fn a_report_on_many_paths_through_steps_that_wait_is_made_at_once() {
    let mut p = Pipeline::builder("layers");
    let mut layer = vec![p.step::<()>("go").wait_for_signal()];
    for n in 0..30 {
        let two = ["left", "right"]
            .map(|side| p.step(format!("{side}{n}")).input(layer.clone()).run(|_cx, _| async { Ok(()) }));
        layer = two.to_vec();
    }
    let engine = LocalEngine::in_memory();
    let options = RunOptions::new().return_when_suspended();
    let report = engine.run_with(&p.build().unwrap(), "r", (), options).await.unwrap();
    assert_eq!(report.why("left29").unwrap(), Why::NotReached);
}
