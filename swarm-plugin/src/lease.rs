//! One loaded version of a plugin, and the right to call it.

use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use futures::FutureExt;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use crate::info::Origin;
use crate::manager::Shared;
use crate::manifest::Manifest;
use crate::plugin::{Plugin, PluginError};
use crate::stats::Counters;

/// An instance with what is known of it. Lives until its cleanup is over.
pub(crate) struct Loaded {
    pub(crate) plugin: Arc<dyn Plugin>,
    pub(crate) manifest: Manifest,
    pub(crate) generation: u64,
    pub(crate) origin: Option<Origin>,
    pub(crate) timeout: Duration,
    pub(crate) permits: Option<Semaphore>,
    pub(crate) host: Weak<Shared>,
    /// One of each lease that was made.
    idles: Mutex<Vec<Idle>>,
    cleaned: AtomicBool,
}

impl Loaded {
    pub(crate) fn new(
        plugin: Arc<dyn Plugin>,
        manifest: Manifest,
        generation: u64,
        origin: Option<Origin>,
        timeout: Duration,
        host: Weak<Shared>,
    ) -> Loaded {
        let permits =
            manifest.limits().concurrency.map(|calls| Semaphore::new(calls.min(Semaphore::MAX_PERMITS)));
        let timeout = manifest.limits().timeout.unwrap_or(timeout);
        Loaded {
            plugin,
            manifest,
            generation,
            origin,
            timeout,
            permits,
            host,
            idles: Mutex::default(),
            cleaned: AtomicBool::new(false),
        }
    }

    /// Makes the right to call it.
    pub(crate) fn lease(self: &Arc<Self>, counters: Arc<Counters>) -> Arc<Lease> {
        let (_held, over) = oneshot::channel();
        let stop = CancellationToken::new();
        self.idles.lock().unwrap_or_else(PoisonError::into_inner).push(Idle { stop: stop.clone(), over });
        Arc::new(Lease { loaded: self.clone(), counters, stop, _held })
    }

    /// Waits until no lease is left, and answers whether that came about in time. What did not end in time stays to be
    /// waited for.
    pub(crate) async fn idle(&self, limit: Duration) -> bool {
        let mut idles = std::mem::take(&mut *self.idles.lock().unwrap_or_else(PoisonError::into_inner));
        let all = async {
            // Nobody sends: the channel closes when the lease is dropped for the last time.
            while let Some(idle) = idles.last_mut() {
                let _ = (&mut idle.over).await;
                idles.pop();
            }
        };
        let in_time = tokio::time::timeout(limit, all).await.is_ok();
        self.idles.lock().unwrap_or_else(PoisonError::into_inner).extend(idles);
        in_time
    }

    /// Cuts off the calls under way.
    pub(crate) fn stop(&self) {
        for idle in &*self.idles.lock().unwrap_or_else(PoisonError::into_inner) {
            idle.stop.cancel();
        }
    }

    /// Runs a part of the plugin's life in bounded time, with its panics contained.
    pub(crate) async fn contained<T>(
        &self,
        limit: Duration,
        part: impl Future<Output = Result<T, PluginError>>,
    ) -> Result<T, PluginError> {
        match tokio::time::timeout(limit, AssertUnwindSafe(part).catch_unwind()).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(payload)) => Err(PluginError::panicked(&*payload)),
            Err(_) => Err(PluginError::new(format_args!("took longer than {limit:?}"))),
        }
    }

    /// Calls the plugin's cleanup, if it was not called before.
    pub(crate) async fn cleanup(&self, limit: Duration) -> Result<(), PluginError> {
        if self.cleaned.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        self.contained(limit, async { self.plugin.cleanup().await }).await
    }
}

/// The right to call a version. Whoever may still call it holds it: the catalogue, and each call under way.
pub(crate) struct Lease {
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) counters: Arc<Counters>,
    /// Cancelled when calls of this version may go on no longer.
    pub(crate) stop: CancellationToken,
    _held: oneshot::Sender<()>,
}

/// What tells that a lease is held by nobody any more.
struct Idle {
    stop: CancellationToken,
    over: oneshot::Receiver<()>,
}
