//! durare: a workflow whose every step is checkpointed to SQLite (WAL, `synchronous = NORMAL`).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use durare::{DurableContext, DurableEngine, SqliteProvider, WorkflowOptions};
use tokio::runtime::Runtime;

use crate::measure::timed;

/// Wall time of a workflow of `steps` steps, each after the one before, on a new database in `folder`.
pub fn chain(runtime: &Runtime, folder: &Path, steps: usize) -> Duration {
    let url = format!("sqlite://{}", folder.join("durare.db").display());
    let engine = runtime.block_on(async {
        let provider = SqliteProvider::connect(&url).await.unwrap();
        let mut engine = DurableEngine::new(Arc::new(provider)).await.unwrap();
        engine.register("chain", run);
        engine
    });
    let (spent, last) = timed(|| {
        runtime.block_on(async {
            let options = WorkflowOptions::with_id("bench");
            engine.start::<u64, u64>("chain", steps as u64, options).await.unwrap().await.unwrap()
        })
    });
    assert_eq!(last, steps as u64);
    runtime.block_on(engine.shutdown(Duration::from_secs(1))).unwrap();
    spent
}

async fn run(context: DurableContext, steps: u64) -> durare::Result<u64> {
    let mut value = 0;
    for _ in 0..steps {
        value = context.step("add", || async move { Ok(value + 1) }).await?;
    }
    Ok(value)
}
