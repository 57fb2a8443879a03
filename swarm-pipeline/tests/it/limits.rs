//! How many attempts are under way at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use swarm_pipeline::*;

/// Counts who is inside, and keeps the largest number there ever was.
#[derive(Clone, Default)]
struct Inside(Arc<(AtomicU32, AtomicU32)>);

impl Inside {
    async fn stay(self) {
        let now = self.0.0.fetch_add(1, Ordering::SeqCst) + 1;
        self.0.1.fetch_max(now, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(1)).await;
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }

    fn most(&self) -> u32 {
        self.0.1.load(Ordering::SeqCst)
    }
}

/// Five steps and a fan-out over five items that stay for a second each, in the same `group` if there is one, and are undone
/// as slowly since a step after them fails. Answers the most attempts, and the most undos, at once.
async fn most_at_once(concurrency: u32, group: Option<u32>) -> (u32, u32) {
    let (run, undo) = (Inside::default(), Inside::default());
    let mut p = Pipeline::builder("crowd");
    p.concurrency(concurrency);
    if let Some(limit) = group {
        p.group("few", limit);
    }
    let list = p.step("list").run(|_cx, ()| async { Ok(vec![(); 5]) });
    let undone = |undo: &Inside| {
        let undo = undo.clone();
        move || {
            let undo = undo.clone();
            async move {
                undo.stay().await;
                Ok(())
            }
        }
    };
    let mut steps: Vec<Handle<()>> = Vec::new();
    for n in 0..5 {
        let (inside, undone) = (run.clone(), undone(&undo));
        let mut step = p.step(format!("step{n}")).input(&list).compensate(move |_, _| undone());
        if group.is_some() {
            step = step.group("few");
        }
        steps.push(step.run(move |_cx, _| {
            let inside = inside.clone();
            async move {
                inside.stay().await;
                Ok(())
            }
        }));
    }
    let (inside, undone) = (run.clone(), undone(&undo));
    let mut each = p.step("each").input(&list).compensate(move |_, _| undone());
    if group.is_some() {
        each = each.group("few");
    }
    let each = each.run_each(move |_cx, ()| {
        let inside = inside.clone();
        async move {
            inside.stay().await;
            Ok(())
        }
    });
    p.step("fails").input((steps, &each)).run(|_cx, _| async { Err::<(), _>(StepError::new("broken")) });
    let report = LocalEngine::in_memory().run(&p.build().unwrap(), "r", ()).await.unwrap();
    assert_eq!(report.error().unwrap().0, "fails", "everything before it was made");
    (run.most(), undo.most())
}

#[tokio::test(start_paused = true)]
async fn no_more_attempts_are_under_way_than_the_pipeline_and_the_group_allow() {
    assert_eq!(most_at_once(u32::MAX, None).await, (10, 10), "they do run beside each other");
    for limit in [1, 3] {
        assert_eq!(most_at_once(limit, None).await, (limit, limit));
    }
    // The limit of a group is about the work, not about undoing it.
    for (limit, group, most) in [(u32::MAX, 2, 2), (3, 2, 2), (2, 4, 2)] {
        assert_eq!(most_at_once(limit, Some(group)).await.0, most, "limit {limit}, group of {group}");
    }
}

/// A fan-out over three items and `train`, which comes after it, in a group of one; an attempt takes a second,
/// and fails where `fails` has an error for its item and number. Answers when the run has ended, if it ever does.
async fn in_a_group_of_one(retry: Retry, fails: fn(u32, u32) -> Option<StepError>) -> RunReport {
    let mut p = Pipeline::builder("gpus");
    p.group("gpu", 1).on_failure(OnFailure::CarryOn);
    let list = p.step("list").run(|_cx, ()| async { Ok(vec![0, 1, 2]) });
    p.step("each").input(&list).group("gpu").priority(1).retry(retry).run_each(
        move |cx, item: u32| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            fails(item, cx.attempt()).map_or(Ok(()), Err)
        },
    );
    p.step("train").input(&list).group("gpu").run(|_cx, _| async { Ok(()) });
    let (engine, pipeline) = (LocalEngine::in_memory(), p.build().unwrap());
    let run = tokio::time::timeout(Duration::from_secs(3600), engine.run(&pipeline, "r", ()));
    run.await.expect("the run ends").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_full_group_goes_on_when_an_item_that_waited_for_its_retry_is_done() {
    let retry = Retry::fixed(2, Duration::from_millis(500));
    let at_first = |item, attempt| ((item, attempt) == (0, 1)).then(|| StepError::new("at first"));
    let report = in_a_group_of_one(retry, at_first).await;
    assert!(report.is_success(), "{report}");
}

#[tokio::test(start_paused = true)]
async fn a_full_group_goes_on_when_a_fan_out_in_it_has_failed() {
    let report = in_a_group_of_one(Retry::none(), |item, _| (item == 0).then(|| StepError::new("bad"))).await;
    assert_eq!(report.step("each").unwrap().status, StepStatus::Failed);
    assert_eq!(report.step("train").unwrap().status, StepStatus::Succeeded, "{report}");
}

#[tokio::test(start_paused = true)]
async fn no_item_is_tried_again_once_another_has_failed_for_good() {
    let mut p = Pipeline::builder("items");
    let list = p.step("list").run(|_cx, ()| async { Ok(vec![0, 1, 2]) });
    p.step("each").input(&list).retry(Retry::fixed(2, Duration::from_secs(2))).run_each(
        |_cx, item: u32| async move {
            match item {
                0 => return Err(StepError::new("at first")),
                1 => tokio::time::sleep(Duration::from_secs(1)).await,
                _ => tokio::time::sleep(Duration::from_secs(3)).await,
            }
            if item == 1 { Err(StepError::permanent("for good")) } else { Ok(()) }
        },
    );
    let report = LocalEngine::in_memory().run(&p.build().unwrap(), "r", ()).await.unwrap();
    let items: Vec<_> =
        report.step("each").unwrap().attempts.iter().map(|attempt| (attempt.item, attempt.attempt)).collect();
    assert_eq!(items, [(Some(0), 1), (Some(1), 1), (Some(2), 1)]);
}
