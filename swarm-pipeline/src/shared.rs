//! What the attempts of a run share with the engine that drives them.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

use crate::error::Result;
use crate::event::{Bus, RunEvent, RunEventKind};
use crate::pipeline::Pipeline;
use crate::step::StepContext;
use crate::store::{BlobKey, CheckpointStore, RunId};

pub(crate) struct RunShared {
    pub(crate) run: RunId,
    pub(crate) pipeline: Pipeline,
    /// The run's input as JSON.
    pub(crate) input: String,
    /// Asks attempts to end.
    pub(crate) cancel: Flag,
    /// Drops attempts that did not.
    pub(crate) abandon: Flag,
    pub(crate) bus: Arc<Bus>,
    pub(crate) clock: Clock,
    pub(crate) store: Arc<dyn CheckpointStore>,
    /// The runs whose results serve in this one, for the artifacts that those name.
    sources: Mutex<Vec<RunId>>,
    /// Steps to start as tasks of their own, because a poll took long; see `local::attempt`.
    pub(crate) spawn_credit: AtomicU64,
}

impl RunShared {
    pub(crate) fn new(
        run: RunId,
        pipeline: Pipeline,
        input: String,
        bus: Arc<Bus>,
        clock: Clock,
        store: Arc<dyn CheckpointStore>,
    ) -> Arc<Self> {
        Arc::new(RunShared {
            run,
            pipeline,
            input,
            cancel: Flag::default(),
            abandon: Flag::default(),
            bus,
            clock,
            store,
            sources: Mutex::default(),
            spawn_credit: AtomicU64::new(0),
        })
    }

    pub(crate) fn store(&self) -> &dyn CheckpointStore {
        &*self.store
    }

    /// Notes that a result of `run` serves in this one.
    pub(crate) fn reused_from(&self, run: RunId) {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        if !sources.contains(&run) {
            sources.push(run);
        }
    }

    /// The bytes of an artifact of this run, or of one whose results serve in it.
    pub(crate) async fn artifact(&self, sha256: &str) -> Result<Option<Vec<u8>>> {
        let mut runs = vec![self.run.clone()];
        runs.extend(self.sources.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned());
        for run in runs {
            let found = self.store().get_blob(&BlobKey::Artifact { run, sha256: sha256.to_owned() }).await?;
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }

    pub(crate) fn progress(&self, cx: &StepContext, done: u64, total: u64) {
        if self.bus.is_active() {
            let (step, item) = (cx.step().to_owned(), cx.item());
            self.emit(self.clock.now(), RunEventKind::StepProgress { step, item, done, total });
        }
    }

    pub(crate) fn emit(&self, at: i64, kind: RunEventKind) {
        let at = chrono::DateTime::from_timestamp_micros(at).unwrap_or_default();
        self.bus.send(RunEvent { run: self.run.as_str().to_owned(), at, kind });
    }
}

/// Microseconds since the epoch, never going back within a process. Follows tokio's clock, so that a
/// paused runtime makes time virtual.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    epoch: i64,
    started: tokio::time::Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Clock { epoch: chrono::Utc::now().timestamp_micros(), started: tokio::time::Instant::now() }
    }

    /// A clock that always says `at`.
    #[cfg(feature = "testing")]
    pub(crate) fn stopped(at: i64) -> Self {
        let century = std::time::Duration::from_secs(100 * 365 * 86_400);
        Clock { epoch: at, started: tokio::time::Instant::now() + century }
    }

    pub(crate) fn now(&self) -> i64 {
        self.micros(tokio::time::Instant::now())
    }

    /// The moment as microseconds since the epoch.
    pub(crate) fn micros(&self, moment: tokio::time::Instant) -> i64 {
        let since = moment.saturating_duration_since(self.started);
        self.epoch.saturating_add((since.as_secs() * 1_000_000 + u64::from(since.subsec_micros())) as i64)
    }

    pub(crate) fn instant(&self, at: i64) -> tokio::time::Instant {
        let ahead = u64::try_from(at.saturating_sub(self.epoch)).unwrap_or(0);
        // A time out of the clock's reach is a century ahead.
        let century = std::time::Duration::from_secs(100 * 365 * 86_400);
        self.started + std::time::Duration::from_micros(ahead).min(century)
    }
}

/// A flag that can be awaited. Once set it stays set.
#[derive(Default)]
pub(crate) struct Flag {
    set: AtomicBool,
    notify: Notify,
}

impl Flag {
    pub(crate) fn set(&self) {
        self.set.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.set.load(Ordering::Relaxed)
    }

    pub(crate) async fn cancelled(&self) {
        loop {
            let notified = self.notify.notified();
            if self.set.load(Ordering::SeqCst) {
                return;
            }
            notified.await;
        }
    }
}
