//! What the caller says of a call, and what the plugin is told of it.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde_json::Value;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::contained::ignored;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::Lease;
use crate::plugin::PluginError;
use semver::VersionReq;

/// How one call differs from others: its deadline, its version, who may cancel it, who hears of its progress.
///
/// ```
/// use std::time::Duration;
/// use swarm_plugin::{CallOptions, CancellationToken, VersionReq};
///
/// let stop = CancellationToken::new();
/// let options = CallOptions::new()
///     .timeout(Duration::from_millis(200))
///     .version(VersionReq::parse("^1.2")?)
///     .cancel(stop.clone())
///     .on_progress(|progress| println!("{}", progress.done));
/// # let _ = options;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct CallOptions {
    pub(crate) timeout: Option<Duration>,
    pub(crate) version: Option<VersionReq>,
    pub(crate) cancel: Option<CancellationToken>,
    progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
    /// Whether a plugin asks, whose call is under way.
    pub(crate) is_below: bool,
    /// The instance that will do.
    pub(crate) generation: Option<u64>,
}

impl CallOptions {
    /// Those of [`PluginManager::call`](crate::PluginManager::call).
    pub const fn new() -> Self {
        CallOptions {
            timeout: None,
            version: None,
            cancel: None,
            progress: None,
            is_below: false,
            generation: None,
        }
    }

    /// How long the call may take, waiting included, whatever the plugin's manifest says.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The versions that will do: the highest of them that is there is called.
    pub fn version(mut self, range: VersionReq) -> Self {
        self.version = Some(range);
        self
    }

    /// The only instance that will do. Where another has its place, the error says [which](Error::is_behind): a range of
    /// versions would say too little, as it knows nothing of build metadata, and a file may change without its version.
    #[cfg(feature = "serve_mcp")]
    pub(crate) fn generation(mut self, generation: u64) -> Self {
        self.generation = Some(generation);
        self
    }

    /// Ends the call with [`ErrorKind::Cancelled`] when this is cancelled. To drop the call's future does the same.
    pub fn cancel(mut self, token: CancellationToken) -> Self {
        self.cancel = Some(token);
        self
    }

    /// Hears what the plugin tells about its progress, inside the call. Must return soon.
    pub fn on_progress(mut self, observer: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(observer));
        self
    }
}

impl fmt::Debug for CallOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallOptions")
            .field("timeout", &self.timeout)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}

/// How far a call is, in units of the plugin's choice.
#[derive(Debug, Clone, PartialEq)]
pub struct Progress {
    /// What is done. Grows.
    pub done: f64,
    /// What there is to do, where that is known.
    pub total: Option<f64>,
    /// What is being done.
    pub message: Option<String>,
}

/// What a plugin knows of the call that it serves.
///
/// As long as a clone exists, the call counts as under way: the plugin is not cleaned up before the time to drain is over, and
/// it is one of those that may run at the [same time](crate::ManifestBuilder::concurrency).
#[derive(Clone)]
pub struct CallContext {
    pub(crate) lease: Arc<Lease>,
    pub(crate) deadline: Instant,
    pub(crate) cancel: Option<CancellationToken>,
    progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
    /// One of the calls that may run at the same time, where these are limited.
    pub(crate) place: OnceLock<Arc<OwnedSemaphorePermit>>,
    /// Whether the host gave the call up, where that is another than this crate's own here.
    #[cfg(feature = "native")]
    is_given_up: Option<Arc<dyn Fn() -> bool + Send + Sync>>,
}

impl CallContext {
    pub(crate) fn new(lease: Arc<Lease>, deadline: Instant, options: &CallOptions) -> CallContext {
        CallContext {
            lease,
            deadline,
            cancel: options.cancel.clone(),
            progress: options.progress.clone(),
            place: OnceLock::new(),
            #[cfg(feature = "native")]
            is_given_up: None,
        }
    }

    /// A call that came from a host elsewhere.
    #[cfg(feature = "native")]
    pub(crate) fn of_a_host(
        lease: Arc<Lease>,
        remaining: Duration,
        is_given_up: Arc<dyn Fn() -> bool + Send + Sync>,
        progress: Arc<dyn Fn(Progress) + Send + Sync>,
    ) -> CallContext {
        let deadline = after(Instant::now(), remaining);
        CallContext {
            lease,
            deadline,
            cancel: None,
            progress: Some(progress),
            place: OnceLock::new(),
            is_given_up: Some(is_given_up),
        }
    }

    /// How much time is left.
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Whether the caller does not wait any more. For code that loops without an await, such as in
    /// [`FnPlugin::blocking`](crate::FnPlugin::blocking).
    pub fn is_cancelled(&self) -> bool {
        #[cfg(feature = "native")]
        if self.is_given_up.as_ref().is_some_and(|is_given_up| is_given_up()) {
            return true;
        }
        self.lease.loaded.stop.is_cancelled()
            || self.cancel.as_ref().is_some_and(CancellationToken::is_cancelled)
            || self.remaining().is_zero()
    }

    /// Tells the caller how far the call is. A panic of the observer is the observer's loss. What is infinite or no number is
    /// not told, nor a total that is.
    pub fn progress(&self, mut progress: Progress) {
        progress.total = progress.total.filter(|total| total.is_finite());
        if !progress.done.is_finite() {
            return;
        }
        if let Some(observer) = &self.progress {
            let _ = catch_unwind(AssertUnwindSafe(|| observer(progress))).map_err(ignored);
        }
    }

    /// Whether anybody hears of the progress.
    #[cfg(any(feature = "process", feature = "wasm"))]
    pub(crate) fn is_heard(&self) -> bool {
        self.progress.is_some()
    }

    /// Calls a plugin that the manifest of this one [requires](crate::ManifestBuilder::requires), in a version that it
    /// named there, within the deadline of this call.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] for one that is not required, and whatever the call may answer.
    pub async fn call(&self, name: &str, params: Value) -> Result<Value> {
        let manifest = &self.lease.loaded.manifest;
        let requirement = manifest.requires().iter().find(|requirement| requirement.name == name);
        let Some(requirement) = requirement else {
            let message = format!("{} does not require it, and so may not call it", manifest.name());
            return Err(Error::new(ErrorKind::NotFound, message).of_plugin(name));
        };
        #[cfg(feature = "native")]
        if self.is_given_up.is_some() {
            let message = "a native library cannot call other plugins";
            return Err(Error::new(ErrorKind::NotFound, message).of_plugin(name));
        }
        let Some(host) = self.lease.loaded.host.upgrade() else {
            return Err(Error::new(ErrorKind::Closed, "the plugin manager is gone"));
        };
        let options = CallOptions {
            timeout: Some(self.remaining()),
            version: Some(requirement.version.clone()),
            cancel: self.cancel.clone(),
            progress: None,
            is_below: true,
            generation: None,
        };
        host.call(name, params, &options).await
    }

    /// The same call for code that counts itself how many go on.
    #[cfg(feature = "native")]
    pub(crate) fn without_place(&self) -> CallContext {
        CallContext { place: OnceLock::new(), ..self.clone() }
    }

    /// The same call for work that goes on elsewhere: on another thread, in a task. It counts as cancelled once the guard is
    /// dropped.
    pub(crate) fn detached(&self) -> (CallContext, DropGuard) {
        let token = match &self.cancel {
            Some(token) => token.child_token(),
            None => CancellationToken::new(),
        };
        (CallContext { cancel: Some(token.clone()), ..self.clone() }, token.drop_guard())
    }
}

impl fmt::Debug for CallContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let manifest = &self.lease.loaded.manifest;
        f.debug_struct("CallContext").field("plugin", manifest).finish_non_exhaustive()
    }
}

pub(crate) async fn cancelled(token: Option<&CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}

/// A moment that is so much later, or as good as never.
pub(crate) fn after(begun: Instant, timeout: Duration) -> Instant {
    const YEAR: Duration = Duration::from_secs(86_400 * 365);
    begun.checked_add(timeout).unwrap_or_else(|| begun + YEAR)
}

/// Waits for work on the pool of blocking threads, which is not stopped when this is dropped, and passes its panics on.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PluginError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(output) => Ok(output),
        Err(error) if error.is_panic() => resume_unwind(error.into_panic()),
        Err(_) => Err(PluginError::temporary("the runtime is shutting down")),
    }
}
