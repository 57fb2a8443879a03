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
