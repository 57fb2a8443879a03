//! Which runs are pruned.

use std::time::Duration;

use serde_json::Value;
use swarm_pipeline::*;

const DAY: Duration = Duration::from_secs(86_400);

/// A pipeline that waits for a word and then ends well, or badly, or is stuck.
fn pipeline(name: &str) -> Pipeline {
    let mut p = Pipeline::builder(name);
    let word = p.step::<String>("word").wait_for_signal();
    let undo = p
        .step("undo")
        .input(&word)
        .compensate_retry(Retry::none())
        .compensate(async |_, out: Option<std::sync::Arc<String>>| match out.unwrap().as_str() {
            "stuck" => Err(StepError::new("cannot be undone")),
            _ => Ok(()),
        })
        .run(|_cx, word| async move { Ok(word.to_string()) });
    p.step("end").input(&undo).run(|_cx, word| async move {
        match word.as_str() {
            "good" => Ok(()),
            _ => Err(StepError::new("broken")),
        }
    });
    p.build().unwrap()
}

/// Writes the log of a run anew under the id `to`, as if everything in it had happened `age` earlier.
async fn aged(store: &MemoryStore, from: &RunId, to: &RunId, age: Duration) {
    let mut records = store.read(from).await.unwrap();
    for record in &mut records {
        let mut entry: Value = serde_json::from_str(&record.body).unwrap();
        let at = entry.as_object_mut().unwrap().values_mut().next().unwrap().get_mut("at").unwrap();
        *at = Value::from(at.as_i64().unwrap() - age.as_micros() as i64);
        record.body = entry.to_string();
    }
    store.acquire(to).await.unwrap().append(&records).await.unwrap();
    store.delete(from).await.unwrap();
}

/// Makes a run that came to its end by `word`, or waits, `age` ago.
async fn past(store: &MemoryStore, of: &str, run: &str, word: &str, age: Duration) {
    let engine = LocalEngine::with_store(store.clone());
    let (pipeline, first) = (pipeline(of), RunId::new("first").unwrap());
    let options = RunOptions::new().return_when_suspended();
    let _ = engine.run_with(&pipeline, first.as_str(), (), options.clone()).await.unwrap();
    match word {
        "waits" => {}
        "cancelled" => engine.cancel(first.as_str()).await.unwrap(),
        "undone" => engine.signal(first.as_str(), "word", "good").await.unwrap(),
        word => engine.signal(first.as_str(), "word", word).await.unwrap(),
    }
    let mut report = engine.run_with(&pipeline, first.as_str(), (), options).await.unwrap();
    if word == "undone" {
        report = engine.rollback(&pipeline, first.as_str()).await.unwrap();
    }
    let expected = match word {
        "waits" => RunStatus::Suspended,
        "good" => RunStatus::Succeeded,
        "bad" => RunStatus::Failed,
        "stuck" => RunStatus::Stuck,
        "cancelled" => RunStatus::Cancelled,
        "undone" => RunStatus::RolledBack,
        word => panic!("{word}"),
    };
    assert_eq!(report.status(), expected, "{report}");
    aged(store, &first, &RunId::new(run).unwrap(), age).await;
}

/// Prunes, and checks that these runs and no others are gone.
async fn check(store: &MemoryStore, retention: Retention, gone: &[&str]) {
    let engine = LocalEngine::with_store(store.clone());
    let before = engine.runs().await.unwrap();
    let mut removed = engine.prune(&retention).await.unwrap();
    removed.sort();
    assert_eq!(removed.iter().map(RunId::as_str).collect::<Vec<_>>(), gone, "{retention:?}");
    let left = engine.runs().await.unwrap();
    let expected: Vec<_> = before.into_iter().filter(|run| !removed.contains(&run.run)).collect();
    assert_eq!(left, expected, "{retention:?}");
}

#[tokio::test]
async fn pruning_leaves_runs_that_are_not_over() {
    let store = MemoryStore::new();
    for word in ["waits", "good", "bad", "stuck", "cancelled", "undone"] {
        past(&store, "p", word, word, 9 * DAY).await;
    }
    check(&store, Retention::new(), &[]).await;
    check(&store, Retention::new().failed_too(), &[]).await;
    check(&store, Retention::new().older_than(DAY), &["good"]).await;
    check(&store, Retention::new().older_than(DAY).failed_too(), &["bad", "cancelled", "undone"]).await;
    check(&store, Retention::new().keep_last(0).failed_too(), &[]).await;
}

#[tokio::test]
async fn pruning_by_age_removes_what_ended_longer_ago() {
    let store = MemoryStore::new();
    for age in [1, 3, 5, 7] {
        past(&store, "p", &format!("age{age}"), "good", age * DAY).await;
    }
    check(&store, Retention::new().older_than(8 * DAY), &[]).await;
    check(&store, Retention::new().older_than(4 * DAY), &["age5", "age7"]).await;
    check(&store, Retention::new().older_than(2 * DAY), &["age3"]).await;
}

#[tokio::test]
async fn pruning_keeps_the_youngest_runs_of_each_pipeline() {
    let store = MemoryStore::new();
    for age in [1, 3, 5, 7] {
        past(&store, "p", &format!("p{age}"), "good", age * DAY).await;
        past(&store, "q", &format!("q{age}"), "good", (age + 1) * DAY).await;
    }
    check(&store, Retention::new().keep_last(3), &["p7", "q7"]).await;
    check(&store, Retention::new().older_than(3 * DAY).keep_last(2), &["p5", "q5"]).await;
    check(&store, Retention::new().older_than(DAY / 2).keep_last(2), &[]).await;
    check(&store, Retention::new().keep_last(0), &["p1", "p3", "q1", "q3"]).await;
}

#[tokio::test]
async fn pruning_passes_over_a_run_that_somebody_has_taken() {
    let store = MemoryStore::new();
    for run in ["a", "b", "c"] {
        past(&store, "p", run, "good", 9 * DAY).await;
    }
    let taken = store.acquire(&RunId::new("b").unwrap()).await.unwrap();
    check(&store, Retention::new().older_than(DAY), &["a", "c"]).await;
    drop(taken);
    check(&store, Retention::new().older_than(DAY), &["b"]).await;
}

/// A store in which the run `b` is begun again when another one is deleted.
struct BegunAgain(MemoryStore);

#[async_trait::async_trait]
impl CheckpointStore for BegunAgain {
    async fn acquire(&self, run: &RunId) -> Result<Box<dyn RunLog>> {
        self.0.acquire(run).await
    }

    async fn read(&self, run: &RunId) -> Result<Vec<Record>> {
        self.0.read(run).await
    }

    async fn list(&self) -> Result<Vec<RunId>> {
        self.0.list().await
    }

    async fn delete(&self, run: &RunId) -> Result<()> {
        let options = RunOptions::new().restart_from("word").return_when_suspended();
        let engine = LocalEngine::with_store(self.0.clone());
        assert_eq!(engine.resume(&pipeline("p"), "b", options).await?.status(), RunStatus::Suspended);
        self.0.delete(run).await
    }

    async fn put_blob(&self, key: &BlobKey, bytes: &[u8]) -> Result<()> {
        self.0.put_blob(key, bytes).await
    }

    async fn get_blob(&self, key: &BlobKey) -> Result<Option<Vec<u8>>> {
        self.0.get_blob(key).await
    }
}

#[tokio::test]
async fn pruning_leaves_a_run_that_was_begun_again_since_it_was_listed() {
    let store = MemoryStore::new();
    // The younger one is looked at first.
    past(&store, "p", "a", "good", 2 * DAY).await;
    past(&store, "p", "b", "good", 9 * DAY).await;
    let removed = LocalEngine::with_store(BegunAgain(store.clone()));
    let removed = removed.prune(&Retention::new().older_than(DAY)).await.unwrap();
    assert_eq!(removed, [RunId::new("a").unwrap()]);
    let left = LocalEngine::with_store(store).runs().await.unwrap();
    assert_eq!((left[0].run.as_str(), left[0].status), ("b", RunStatus::Suspended));
}
