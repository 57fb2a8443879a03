//! One loaded version of a plugin, and the right to call it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::{Mutex, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use crate::contained::{Contained, Instance};
use crate::info::Origin;
use crate::manager::Shared;
use crate::manifest::Manifest;
use crate::plugin::{Plugin, PluginError};
use crate::stats::Counters;

/// An instance with what is known of it. Lives until its cleanup is over.
pub(crate) struct Loaded {
    pub(crate) plugin: Instance,
    pub(crate) manifest: Manifest,
    pub(crate) generation: u64,
    pub(crate) origin: Option<Origin>,
    pub(crate) timeout: Duration,
    pub(crate) permits: Option<Arc<Semaphore>>,
    pub(crate) host: Weak<Shared>,
    /// Cancelled when calls of it may go on no longer.
    pub(crate) stop: CancellationToken,
    /// Counts its leases. Closed from the start, so that any number may wait until there is none.
    leases: TaskTracker,
    /// Whether its cleanup was begun. Held over every other part of its life, so that none comes after that.
    is_over: Mutex<bool>,
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
        let permits = manifest.limits().concurrency;
        let permits = permits.map(|calls| Arc::new(Semaphore::new(calls.min(Semaphore::MAX_PERMITS))));
        let timeout = manifest.limits().timeout.unwrap_or(timeout);
        let leases = TaskTracker::new();
        leases.close();
        Loaded {
            plugin: Instance::new(plugin),
            manifest,
            generation,
            origin,
            timeout,
            permits,
            host,
            stop: CancellationToken::new(),
            leases,
            is_over: Mutex::new(false),
        }
    }

    /// Makes the right to call it.
    pub(crate) fn lease(self: &Arc<Self>, counters: Arc<Counters>) -> Arc<Lease> {
        Arc::new(Lease { loaded: self.clone(), counters, _counted: self.leases.token() })
    }

    /// Waits until no lease is left, and answers whether that came about in time.
    pub(crate) async fn idle(&self, limit: Duration) -> bool {
        tokio::time::timeout(limit, self.leases.wait()).await.is_ok()
    }

    /// Runs a part of the plugin's life in bounded time, with its panics contained.
    ///
    /// # Errors
    /// Those of the part, and one where the cleanup was begun.
    pub(crate) async fn part<T>(
        &self,
        limit: Duration,
        part: impl Future<Output = Result<T, PluginError>>,
    ) -> Result<T, PluginError> {
        let is_over = self.is_over.lock().await;
        if *is_over {
            return Err(PluginError::new("was removed meanwhile"));
        }
        contained(limit, part).await
    }

    /// Calls the plugin's cleanup, if it was not called before.
    pub(crate) async fn cleanup(&self, limit: Duration) -> Result<(), PluginError> {
        if std::mem::replace(&mut *self.is_over.lock().await, true) {
            return Ok(());
        }
        contained(limit, async { self.plugin.cleanup().await }).await
    }
}

async fn contained<T>(
    limit: Duration,
    part: impl Future<Output = Result<T, PluginError>>,
) -> Result<T, PluginError> {
    match tokio::time::timeout(limit, Contained::new(Box::pin(part))).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(payload)) => Err(PluginError::panicked(payload)),
        Err(_) => Err(PluginError::new(format_args!("took longer than {limit:?}"))),
    }
}

/// The right to call a version. Whoever may still call it holds it: the catalogue, and each call under way.
pub(crate) struct Lease {
    pub(crate) loaded: Arc<Loaded>,
    pub(crate) counters: Arc<Counters>,
    _counted: TaskTrackerToken,
}
