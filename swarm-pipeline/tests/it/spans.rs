use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use swarm_pipeline::*;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata};

/// Writes down every span with its fields, and every event with the span it is in.
#[derive(Clone, Default)]
struct Collector {
    lines: Arc<Mutex<Vec<String>>>,
    entered: Arc<Mutex<Vec<u64>>>,
    next: Arc<AtomicU64>,
}

struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!(" {field}={value:?}");
    }
}

impl tracing::Subscriber for Collector {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let id = self.next.fetch_add(1, Ordering::SeqCst) + 1;
        if span.metadata().target().starts_with("swarm_pipeline") {
            let mut fields = Fields(format!("{id} {}", span.metadata().name()));
            span.record(&mut fields);
            self.lines.lock().unwrap().push(fields.0);
        }
        Id::from_u64(id)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        if event.metadata().target() == "user" {
            let inside = self.entered.lock().unwrap().last().copied();
            self.lines.lock().unwrap().push(format!("event in {inside:?}"));
        }
    }

    fn enter(&self, id: &Id) {
        self.entered.lock().unwrap().push(id.into_u64());
    }

    fn exit(&self, _: &Id) {
        self.entered.lock().unwrap().pop();
    }
}

#[test]
fn every_attempt_and_undo_has_a_span_that_its_events_are_in() {
    let mut p = Pipeline::builder("p");
    p.step::<()>("build").compensate(|_cx, _| async { Ok(()) }).run(|_cx, ()| async {
        tracing::info!(target: "user", "in place");
        tokio::task::yield_now().await;
        tracing::info!(target: "user", "after a wait");
        Ok(())
    });
    p.step::<()>("ship").after(["build"]).run(|_cx, ()| async { Err(StepError::permanent("no")) });
    let pipeline = p.build().unwrap();
    let collector = Collector::default();
    let subscriber = tracing::Dispatch::new(collector.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let report = tracing::dispatcher::with_default(&subscriber, || {
        runtime.block_on(async { LocalEngine::in_memory().run(&pipeline, "r", ()).await.unwrap() })
    });
    assert_eq!(report.status(), RunStatus::Failed, "{report}");
    let lines = collector.lines.lock().unwrap().join("\n");
    let expected = "\
1 step run=\"r\" step=\"build\" attempt=1 undo=false
event in Some(1)
event in Some(1)
2 step run=\"r\" step=\"ship\" attempt=1 undo=false
3 step run=\"r\" step=\"build\" attempt=1 undo=true";
    assert_eq!(lines, expected);
}
