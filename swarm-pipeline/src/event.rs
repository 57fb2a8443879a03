//! What observers of runs are told.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::task::{Context, Poll};

use chrono::{DateTime, Utc};
use futures::{Stream, StreamExt};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{self, Receiver};

use crate::gate::GateResult;
use crate::report::RunStatus;
use crate::step_error::StepError;

/// Something that happened in a run. It is told after it was recorded as durably as the store promises.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RunEvent {
    /// The run's id.
    pub run: String,
    /// When it happened.
    pub at: DateTime<Utc>,
    /// What happened.
    pub kind: RunEventKind,
}

/// The kinds of [`RunEvent`].
#[derive(Debug, Clone)]
#[non_exhaustive]
#[allow(missing_docs, reason = "the fields are named after the accessors of StepContext and RunReport")]
pub enum RunEventKind {
    /// The run began.
    Started { pipeline: String, steps: usize },
    /// The run was taken up again; so many steps are done already.
    Resumed { pipeline: String, steps: usize, done: usize },
    /// An attempt is about to begin.
    StepStarted { step: String, item: Option<u32>, attempt: u32 },
    /// How far an attempt is; see [`StepContext::progress`](crate::StepContext::progress).
    StepProgress { step: String, item: Option<u32>, done: u64, total: u64 },
    /// A gate looked at an output.
    GateJudged { step: String, item: Option<u32>, result: GateResult },
    /// An attempt brought a result.
    StepSucceeded { step: String, item: Option<u32>, attempt: u32 },
    /// An attempt failed; `again` says whether another follows.
    StepFailed { step: String, item: Option<u32>, attempt: u32, error: StepError, again: bool },
    /// The condition said no.
    StepSkipped { step: String },
    /// The output of an earlier run serves.
    StepReused { step: String, from: String },
    /// A fan-out step knows its items.
    FannedOut { step: String, items: u32 },
    /// Nothing can go on before one of these signals comes.
    Suspended { signals: Vec<String> },
    /// A value came for a step that waits for it, or will; an attempt takes it when the step is reached.
    Signalled { step: String },
    /// Somebody wants the run to end.
    CancelRequested,
    /// An operator put so many steps back, to run again.
    Restarted { steps: usize },
    /// An operator wants the run undone, which is over.
    RollbackRequested,
    /// An undo is about to begin.
    UndoStarted { step: String, item: Option<u32>, attempt: u32 },
    /// A step is undone.
    UndoSucceeded { step: String, item: Option<u32>, attempt: u32 },
    /// An undo failed; `again` says whether another attempt follows.
    UndoFailed { step: String, item: Option<u32>, attempt: u32, error: StepError, again: bool },
    /// An operator wants the undo that is stuck to be tried again.
    UndoRetried { step: String },
    /// An operator says that the step is undone.
    UndoMarked { step: String },
    /// The run is over.
    Finished { status: RunStatus },
    /// This observer was too slow, and so many events were dropped for it.
    Missed { events: u64 },
}

type Observer = Arc<dyn Fn(&RunEvent) + Send + Sync>;

/// Carries events to observers. Costs one load of an atomic where there are none.
pub(crate) struct Bus {
    listening: Arc<AtomicUsize>,
    observers: RwLock<Vec<Observer>>,
    /// Made with the first stream: its buffer is large.
    sender: OnceLock<broadcast::Sender<RunEvent>>,
}

/// Events that wait for a slow stream before the oldest are dropped.
const CAPACITY: usize = 4096;

impl Bus {
    pub(crate) fn new() -> Self {
        Bus { listening: Arc::default(), observers: RwLock::default(), sender: OnceLock::new() }
    }

    pub(crate) fn is_active(&self) -> bool {
        self.listening.load(Ordering::Relaxed) > 0
    }

    pub(crate) fn observe(&self, observer: Observer) {
        self.observers.write().unwrap_or_else(PoisonError::into_inner).push(observer);
        self.listening.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn send(&self, event: RunEvent) {
        let observers = self.observers.read().unwrap_or_else(PoisonError::into_inner).clone();
        for observer in observers {
            if catch_unwind(AssertUnwindSafe(|| observer(&event))).is_err() {
                tracing::error!(run = event.run, "an observer panicked");
            }
        }
        if let Some(sender) = self.sender.get() {
            // Streams that are gone miss nothing.
            let _ = sender.send(event);
        }
    }

    pub(crate) fn stream(&self) -> EventStream {
        self.listening.fetch_add(1, Ordering::Relaxed);
        let receiver = self.sender.get_or_init(|| broadcast::Sender::new(CAPACITY)).subscribe();
        let stream = futures::stream::unfold(receiver, |mut receiver: Receiver<RunEvent>| async move {
            let event = match receiver.recv().await {
                Ok(event) => event,
                Err(RecvError::Closed) => return None,
                Err(RecvError::Lagged(events)) => {
                    RunEvent { run: String::new(), at: Utc::now(), kind: RunEventKind::Missed { events } }
                }
            };
            Some((event, receiver))
        });
        EventStream { stream: stream.boxed(), listening: Arc::clone(&self.listening) }
    }
}

/// The events of all runs of an engine from now on; see [`LocalEngine::events`](crate::LocalEngine::events).
///
/// A stream that is read too slowly loses the oldest events and is told how many. It ends with the engine.
pub struct EventStream {
    stream: Pin<Box<dyn Stream<Item = RunEvent> + Send>>,
    listening: Arc<AtomicUsize>,
}

impl Stream for EventStream {
    type Item = RunEvent;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<RunEvent>> {
        self.stream.poll_next_unpin(cx)
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        self.listening.fetch_sub(1, Ordering::Relaxed);
    }
}

impl std::fmt::Debug for EventStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("EventStream")
    }
}
