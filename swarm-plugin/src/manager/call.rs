//! One call, from the name to the outcome.

use std::any::Any;
use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use futures::FutureExt;
use serde_json::{Map, Value};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::{Shared, shut_down};
use crate::call::{CallContext, CallOptions, after, cancelled};
use crate::catalogue::{Catalogue, Serving, Slot};
use crate::contained::Contained;
use crate::error::{Error, ErrorKind, Result};
use crate::lease::{Lease, Loaded};
use crate::manifest::DEFAULT_BYTES;
use crate::measure::{self, Oversize};
use crate::plugin::PluginError;
use crate::stats::End;

impl Shared {
    /// Calls a plugin. What is ready at once pays for no timer and for few moves of its values: all that may wait is in a box.
    pub(crate) async fn call(&self, name: &str, mut params: Value, options: &CallOptions) -> Result<Value> {
        let begun = Instant::now();
        let lease = match self.lease(name, options) {
            Ok(Some(lease)) => lease,
            Ok(None) => {
                // Waiting must be possible to drop.
                if let Err(error) = bound(&params, Some(usize::MAX), "parameters") {
                    measure::dismantle(params);
                    return Err(error.of_plugin(name));
                }
                Box::pin(self.held(name, options, begun)).await?
            }
            Err(error) => {
                measure::dismantle(params);
                return Err(error);
            }
        };
        let timeout = options.timeout.unwrap_or(lease.loaded.timeout);
        let cx = CallContext::new(lease, after(begun, timeout), options);
        let loaded = &*cx.lease.loaded;
        let manifest = &loaded.manifest;
        let mut meter = Meter::start(&cx.lease, begun);
        if let Err(error) = admit(&mut params, loaded) {
            measure::dismantle(params);
            return Err(meter.ended(End::Refused, error));
        }
        if options.cancel.as_ref().is_some_and(CancellationToken::is_cancelled) {
            measure::dismantle(params);
            return Err(meter.failed(by_caller()));
        }
        if let Some(permits) = &loaded.permits {
            let place = match permits.clone().try_acquire_owned() {
                Ok(place) => Ok(place),
                Err(_) => match Box::pin(within(&cx, timeout, permits.clone().acquire_owned())).await {
                    Ok(place) => place,
                    Err(error) => return Err(meter.failed(error)),
                },
            };
            // Never closed, and one for each call.
            let _ = place.map(|place| cx.place.set(Arc::new(place)));
        }
        let span = tracing::debug_span!("plugin", name = manifest.name(), version = %manifest.version());
        let begin = AssertUnwindSafe(|| loaded.plugin.execute(params, &cx));
        let mut running = match span.in_scope(|| catch_unwind(begin)) {
            Ok(future) => Contained::new(future),
            Err(payload) => return Err(meter.failed(panicked(payload))),
        };
        let first = poll_fn(|task| Poll::Ready(span.in_scope(|| running.poll_unpin(task))));
        let outcome = match first.await {
            Poll::Ready(outcome) => outcome,
            Poll::Pending => match Box::pin(within(&cx, timeout, running).instrument(span)).await {
                Ok(outcome) => outcome,
                Err(error) => return Err(meter.failed(error)),
            },
        };
        match outcome {
            Ok(Ok(result)) => match bound(&result, manifest.limits().result_bytes, "result") {
                Ok(()) => {
                    meter.end = End::Answered;
                    Ok(result)
                }
                Err(error) => {
                    measure::dismantle(result);
                    Err(meter.failed(error))
                }
            },
            Ok(Err(failure)) if failure.is_refused() => {
                Err(meter.ended(End::Refused, Error::new(ErrorKind::TooLarge, failure.message())))
            }
            Ok(Err(failure)) => Err(meter.failed(Error::of_failure(ErrorKind::Failed, failure))),
            Err(payload) => Err(meter.failed(panicked(payload))),
        }
    }

    /// The right to call a plugin, or `None` until its state was handed over.
    fn lease(&self, name: &str, options: &CallOptions) -> Result<Option<Arc<Lease>>> {
        let catalogue = self.catalogue.load();
        if catalogue.closed && !options.is_below {
            return Err(shut_down());
        }
        Ok(match &found(&catalogue, name, options)?.serving {
            Serving::Live(lease) => Some(lease.clone()),
            Serving::Held(_) => None,
        })
    }

    /// Waits until the state of a plugin was handed over.
    async fn held(&self, name: &str, options: &CallOptions, begun: Instant) -> Result<Arc<Lease>> {
        let mut timeout = options.timeout;
        loop {
            let (token, timeout) = {
                let catalogue = self.catalogue.load();
                let slot = found(&catalogue, name, options)?;
                match &slot.serving {
                    Serving::Live(lease) => return Ok(lease.clone()),
                    Serving::Held(token) => (token.clone(), *timeout.get_or_insert(slot.loaded.timeout)),
                }
            };
            tokio::select! {
                biased;
                () = token.cancelled() => {}
                () = cancelled(options.cancel.as_ref()) => return Err(by_caller().of_plugin(name)),
                () = tokio::time::sleep_until(after(begun, timeout)) => return Err(too_late(timeout).of_plugin(name)),
            }
        }
    }
}

/// What is to be called.
fn found<'c>(catalogue: &'c Catalogue, name: &str, options: &CallOptions) -> Result<&'c Slot> {
    let slot = catalogue.find(name, options.version.as_ref())?;
    match options.generation.is_some_and(|generation| generation != slot.loaded.generation) {
        true => {
            let error = Error::new(ErrorKind::NotFound, "another took its place").of_plugin(name);
            Err(error.behind(Some(slot.loaded.generation)))
        }
        false => Ok(slot),
    }
}

/// Whether the plugin may be called with these parameters.
#[inline]
fn admit(params: &mut Value, loaded: &Loaded) -> Result<()> {
    if params.is_null() {
        *params = Value::Object(Map::new());
    }
    let schema = loaded.manifest.schema();
    // To measure costs more than the rest of a call does, so it is done where somebody asked for it, and before
    // validation, which recurses. Waiting must be possible to drop.
    let waits = loaded.permits.as_ref().map(|_| usize::MAX);
    let limit = loaded.manifest.limits().params_bytes;
    bound(params, limit.or(schema.asks().then_some(DEFAULT_BYTES)).or(waits), "parameters")?;
    schema.check(params)
}

/// Waits no longer than the call may take.
async fn within<F: Future>(cx: &CallContext, timeout: Duration, future: F) -> Result<F::Output> {
    let ended = async {
        tokio::select! {
            biased;
            output = future => Ok(output),
            () = cancelled(cx.cancel.as_ref()) => Err(by_caller()),
            () = cx.lease.loaded.stop.cancelled() => {
                Err(Error::new(ErrorKind::CutOff, "was cut off: this version was replaced or removed"))
            }
        }
    };
    // A timer beside it would starve: a future that is always ready uses up what tokio lets a task do at a time.
    tokio::time::timeout_at(cx.deadline, ended).await.unwrap_or_else(|_| Err(too_late(timeout)))
}

fn panicked(payload: Box<dyn Any + Send>) -> Error {
    Error::of_failure(ErrorKind::Panicked, PluginError::panicked(payload))
}

fn by_caller() -> Error {
    Error::new(ErrorKind::Cancelled, "was cancelled by the caller")
}

fn too_late(timeout: Duration) -> Error {
    Error::new(ErrorKind::TimedOut, format!("took longer than {timeout:?}"))
}

/// Whether the value is small enough to be passed on, and to be dropped as usual.
#[inline]
fn bound(value: &Value, limit: Option<usize>, what: &str) -> Result<()> {
    let Some(limit) = limit else { return Ok(()) };
    measure::fits(value, limit).map_err(|oversize| {
        let message = match oversize {
            Oversize::Bytes => format!("the {what} is over {limit} bytes"),
            Oversize::Depth => format!("the {what} is nested over {} levels deep", measure::DEPTH_LIMIT),
        };
        Error::new(ErrorKind::TooLarge, message)
    })
}

/// Counts a call, also one whose future is dropped.
struct Meter<'c> {
    lease: &'c Lease,
    begun: Instant,
    /// That of a dropped call, until it has another.
    end: End,
}

impl<'c> Meter<'c> {
    fn start(lease: &'c Lease, begun: Instant) -> Self {
        lease.counters.begin();
        Meter { lease, begun, end: End::Failed(ErrorKind::Cancelled) }
    }

    fn ended(mut self, end: End, error: Error) -> Error {
        self.end = end;
        error.of_plugin(self.lease.loaded.manifest.name())
    }

    fn failed(self, error: Error) -> Error {
        let end = End::Failed(error.kind());
        self.ended(end, error)
    }
}

impl Drop for Meter<'_> {
    fn drop(&mut self) {
        self.lease.counters.end(self.end, self.begun.elapsed());
    }
}
