//! Steps that say how they are undone: when a later one fails, the work is taken back in reverse order.
//!
//! Also shown: the step that failed is undone too, since it may have done part of its work; an undo is retried;
//! and one that cannot succeed leaves the run stuck until an operator decides.
//!
//! `cargo run --release -p swarm-examples --example 05_saga_with_undo`
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use swarm_pipeline::{
    BuildError, LocalEngine, MemoryStore, Pipeline, Retry, RunStatus, StepError, UndoState,
};

/// The world outside, which remembers what was done to it.
#[derive(Default)]
struct Shop {
    journal: Mutex<Vec<String>>,
    bank_is_down: AtomicBool,
}

impl Shop {
    fn note(&self, what: impl Into<String>) {
        self.journal.lock().expect("nothing panics while it holds the journal").push(what.into());
    }

    fn take_journal(&self) -> Vec<String> {
        std::mem::take(&mut *self.journal.lock().expect("nothing panics while it holds the journal"))
    }
}

/// Reserve, charge, ship. The last fails.
fn order(shop: &Arc<Shop>) -> Result<Pipeline, BuildError> {
    let quickly = || Retry::fixed(3, Duration::from_millis(5));
    let mut p = Pipeline::builder("order");
    let (run, undo) = (Arc::clone(shop), Arc::clone(shop));
    let reserved =
        p.step("reserve")
            .compensate(move |cx, _reserved| {
                // An undo may be called again, like a step. It fails once here, and is retried.
                undo.note(format!("release the goods, attempt {}", cx.attempt()));
                async move {
                    if cx.attempt() == 1 { Err(StepError::new("the store room is locked")) } else { Ok(()) }
                }
            })
            .compensate_retry(quickly())
            .run(move |_cx, ()| {
                run.note("reserve the goods");
                async { Ok("shelf 7".to_owned()) }
            });
    let (run, undo) = (Arc::clone(shop), Arc::clone(shop));
    let charged = p
        .step("charge")
        .input(&reserved)
        // The undo gets the output, if the step came to its end.
        .compensate(move |_cx, receipt: Option<Arc<u32>>| {
            let down = undo.bank_is_down.load(Ordering::SeqCst);
            undo.note(format!("pay back receipt {receipt:?}"));
            async move { if down { Err(StepError::new("the bank does not answer")) } else { Ok(()) } }
        })
        .compensate_retry(quickly())
        .run(move |_cx, _reserved| {
            run.note("charge the card");
            async { Ok(4711) }
        });
    let (run, undo) = (Arc::clone(shop), Arc::clone(shop));
    p.step::<()>("ship")
        .input(&charged)
        .compensate(move |_cx, shipped| {
            undo.note(format!("call the parcel back, {shipped:?}"));
            async { Ok(()) }
        })
        .run(move |_cx, _charged| {
            run.note("ship the parcel");
            async { Err(StepError::permanent("no such address")) }
        });
    p.build()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let shop = Arc::new(Shop::default());
    let pipeline = order(&shop)?;
    let engine = LocalEngine::with_store(MemoryStore::new());

    let report = engine.run(&pipeline, "order-1", ()).await?;
    println!("{report}");
    let journal = shop.take_journal();
    journal.iter().for_each(|line| println!("  {line}"));
    assert_eq!(report.status(), RunStatus::Failed);
    assert_eq!(
        journal,
        [
            "reserve the goods",
            "charge the card",
            "ship the parcel",
            "call the parcel back, None",
            "pay back receipt Some(4711)",
            "release the goods, attempt 1",
            "release the goods, attempt 2",
        ]
    );
    assert_eq!(report.step("charge")?.undo, Some(UndoState::Done));

    // The bank is down for good, as far as three attempts can tell: the run is stuck, and waits. Others go on.
    shop.bank_is_down.store(true, Ordering::SeqCst);
    let report = engine.run(&pipeline, "order-2", ()).await?;
    println!("{report}");
    assert_eq!((report.status(), report.stuck()), (RunStatus::Stuck, vec!["charge"]));
    shop.take_journal();

    // An operator has it tried again once the bank is back ...
    shop.bank_is_down.store(false, Ordering::SeqCst);
    let report = engine.retry_undo(&pipeline, "order-2", "charge").await?;
    println!("{report}");
    assert_eq!(report.status(), RunStatus::Failed);
    assert_eq!(shop.take_journal()[0], "pay back receipt Some(4711)");

    // ... or pays back by hand, and says so.
    shop.bank_is_down.store(true, Ordering::SeqCst);
    let _ = engine.run(&pipeline, "order-3", ()).await?;
    shop.take_journal();
    let report = engine.mark_compensated(&pipeline, "order-3", "charge").await?;
    assert_eq!(report.status(), RunStatus::Failed);
    assert_eq!(shop.take_journal(), ["release the goods, attempt 1", "release the goods, attempt 2"]);
    Ok(())
}
