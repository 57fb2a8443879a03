//! A library as a plugin.

use std::mem::ManuallyDrop;
use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, TryLockError};

use async_trait::async_trait;
use serde_json::Value;
use tokio::sync::Semaphore;

use super::abi::{self, Bytes};
use super::ask::{Caller, ask, ask_for_state};
use super::library::Library;
use super::threads::{Threads, Ticket};
use crate::call::CallContext;
use crate::discovery::Found;
use crate::manifest::{DEFAULT_BYTES, Manifest, ManifestFile};
use crate::measure;
use crate::plugin::{Plugin, PluginError};

const DESCRIPTION_BYTES: usize = 1024 * 1024;
/// Calls of one instance that were given up and have not returned.
const LOST_LIMIT: usize = 8;

pub(super) struct NativePlugin {
    manifest: Manifest,
    instance: Arc<Instance>,
    threads: Threads,
    /// Room for a call, taken until it returns, whether or not anybody waits for it.
    room: Arc<Semaphore>,
    lost: Arc<AtomicUsize>,
    /// So many calls that were given up and go on are too many.
    most_lost: usize,
}

impl NativePlugin {
    /// Makes an instance. Blocks, for as long as the library likes.
    ///
    /// # Safety
    /// The library keeps to what the header says, now and for as long as the plugin exists.
    pub(super) unsafe fn new(
        library: &Arc<Library>,
        threads: Threads,
        found: &Found,
        ticket: &Ticket,
    ) -> Result<NativePlugin, PluginError> {
        let caller = Caller { ticket: Some(ticket), cx: None };
        let table = library.table;
        let mut pointer: abi::Instance = ptr::null_mut();
        if let Some(create) = table.create {
            // SAFETY: the caller's promise; both pointers are to what outlives the call.
            ask(caller, DEFAULT_BYTES, |host| unsafe { create(&raw mut pointer, host) })?;
        }
        // From here on it is destroyed when it is dropped.
        let handle = Handle { library: library.clone(), pointer };
        // SAFETY: the caller's promise.
        let said = ask(caller, DESCRIPTION_BYTES, |host| unsafe { asked(table.describe, pointer, host) })?;
        let said = ManifestFile::told("native", value(&said)?).map_err(PluginError::new)?;
        let file = match found.manifest_file() {
            Some(file) => file.clone().over(said).map_err(PluginError::new)?,
            None => said,
        };
        let manifest = file.builder().build()?;
        let limits = manifest.limits();
        let limit = limits.result_bytes.unwrap_or(DEFAULT_BYTES);
        let calls = limits.concurrency.unwrap_or(usize::MAX);
        let room = Arc::new(Semaphore::new(calls.min(threads.share())));
        let instance = Instance { table, limit, handle: RwLock::new(Some(handle)), threads: threads.clone() };
        Ok(NativePlugin {
            manifest,
            instance: Arc::new(instance),
            threads,
            room,
            lost: Arc::default(),
            most_lost: calls.min(LOST_LIMIT),
        })
    }

    async fn call(&self, params: Vec<u8>, cx: &CallContext) -> Result<Value, PluginError> {
        self.has_hope()?;
        // Never closed.
        let room = self.room.clone().acquire_owned().await.ok();
        // Those that it waited for may have been given up.
        self.has_hope()?;
        let cx = cx.without_place();
        self.on_thread(move |instance, caller| {
            let _taken = room;
            instance.execute(&params, Caller { cx: Some(&cx), ..caller })
        })
        .await
    }

    /// Fails at once where a call would wait for others that may never return.
    fn has_hope(&self) -> Result<(), PluginError> {
        // Counted before the call that was given up makes way for another.
        let lost = self.lost.load(Ordering::Relaxed);
        if lost < self.most_lost {
            return Ok(());
        }
        let message = format_args!("calls that were given up go on in it, which takes no more: {lost}");
        Err(PluginError::temporary(message))
    }

    async fn on_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Instance, Caller<'_>) -> Result<T, PluginError> + Send + 'static,
    ) -> Result<T, PluginError> {
        let instance = self.instance.clone();
        let work = move |ticket: &Ticket| work(&instance, Caller { ticket: Some(ticket), cx: None });
        self.threads.run(&self.lost, work).await?
    }
}

#[async_trait]
impl Plugin for NativePlugin {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    async fn execute(&self, mut params: Value, cx: &CallContext) -> Result<Value, PluginError> {
        let text = measure::text(&mut params, self.manifest.limits().params_bytes.unwrap_or(DEFAULT_BYTES))?;
        let outcome = if self.instance.table.flags & abi::INLINE != 0 {
            self.instance.execute(&text, Caller { cx: Some(cx), ticket: None })
        } else {
            // In a box of its own, since a call on the caller's thread needs no room for it.
            Box::pin(self.call(text, cx)).await
        };
        if outcome.is_err() && cx.is_cancelled() {
            // It failed because it was given up, which whoever gives it up is about to notice, and knows why.
            return std::future::pending().await;
        }
        outcome
    }

    async fn check(&self) -> Result<(), PluginError> {
        let Some(check) = self.instance.table.check else { return Ok(()) };
        self.on_thread(move |instance, caller| {
            // SAFETY: the promise to `NativePlugin::new`.
            let ready =
                instance.with(|pointer| ask(caller, DEFAULT_BYTES, |host| unsafe { check(pointer, host) }));
            ready.map(drop)
        })
        .await
    }

    async fn export_state(&self) -> Result<Option<Value>, PluginError> {
        let Some(export) = self.instance.table.export_state else { return Ok(None) };
        self.on_thread(move |instance, caller| {
            let state = instance.with(|pointer| {
                // SAFETY: the promise to `NativePlugin::new`.
                ask_for_state(caller, DEFAULT_BYTES, |host| unsafe { export(pointer, host) })
            })?;
            state.map(|state| value(&state)).transpose()
        })
        .await
    }

    async fn import_state(&self, state: Value) -> Result<(), PluginError> {
        let Some(import) = self.instance.table.import_state else {
            let message = "the version before has state, and this library has no import_state";
            return Err(PluginError::new(message));
        };
        self.on_thread(move |instance, caller| {
            let state = serde_json::to_vec(&state)?;
            let taken = instance.with(|pointer| {
                // SAFETY: the promise to `NativePlugin::new`; the state outlives the call.
                ask(caller, DEFAULT_BYTES, |host| unsafe { import(pointer, Bytes::of(&state), host) })
            });
            taken.map(drop)
        })
        .await
    }

    async fn cleanup(&self) -> Result<(), PluginError> {
        let instance = self.instance.clone();
        // Late is better than never: it must not be left out because it waits for a thread.
        self.threads.run_anyway(&self.lost, move || instance.cleanup()).await?
    }
}

/// What the functions of a library are called with.
struct Instance {
    table: abi::Table,
    /// Bytes of the answer of a call.
    limit: usize,
    /// Read while one of its functions runs, and gone once it was cleaned up.
    handle: RwLock<Option<Handle>>,
    threads: Threads,
}

impl Instance {
    /// Keeps it from being cleaned up meanwhile.
    fn with<T>(&self, part: impl FnOnce(abi::Instance) -> Result<T, PluginError>) -> Result<T, PluginError> {
        let handle = match self.handle.try_read() {
            Ok(handle) => handle,
            Err(TryLockError::Poisoned(handle)) => handle.into_inner(),
            // Only the cleanup writes.
            Err(TryLockError::WouldBlock) => return Err(PluginError::new("it is being cleaned up")),
        };
        part(handle.as_ref().ok_or_else(|| PluginError::new("it was cleaned up"))?.pointer)
    }

    fn execute(&self, params: &[u8], caller: Caller<'_>) -> Result<Value, PluginError> {
        let answer = self.with(|pointer| {
            ask(caller, self.limit, |host| match self.table.execute {
                // SAFETY: the promise to `NativePlugin::new`; the parameters outlive the call.
                Some(execute) => unsafe { execute(pointer, Bytes::of(params), host) },
                None => abi::FAILED,
            })
        });
        value(&answer?)
    }

    /// Waits for the calls that are still in it.
    fn cleanup(&self) -> Result<(), PluginError> {
        // None of its functions is called under this lock.
        let handle = self.handle.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(handle) = handle else { return Ok(()) };
        let Some(cleanup) = self.table.cleanup else { return Ok(()) };
        // It is never told that nobody waits: what it holds is to be given back in any case.
        // SAFETY: the promise to `NativePlugin::new`.
        ask(Caller::default(), DEFAULT_BYTES, |host| unsafe { cleanup(handle.pointer, host) }).map(drop)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let handle = self.handle.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(handle) = handle {
            // Freed there or not at all: whoever drops this must not wait for the library.
            let handle = ManuallyDrop::new(handle);
            self.threads.spawn(Box::new(move || drop(ManuallyDrop::into_inner(handle))));
        }
    }
}

/// What `create` made. Destroyed when it is dropped, by which time nobody is in its functions.
struct Handle {
    /// Its files are there for as long as this is.
    library: Arc<Library>,
    pointer: abi::Instance,
}

// SAFETY: the header allows to call from any thread.
unsafe impl Send for Handle {}
// SAFETY: as above; what is called at the same time is what the header says.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(destroy) = self.library.table.destroy {
            // SAFETY: the promise to `NativePlugin::new`; it is called once, after everything else.
            unsafe { destroy(self.pointer) }
        }
    }
}

/// # Safety
/// As for the function.
unsafe fn asked(function: Option<abi::Ask>, pointer: abi::Instance, host: *const abi::Host) -> i32 {
    match function {
        // SAFETY: the caller's promise.
        Some(function) => unsafe { function(pointer, host) },
        None => abi::FAILED,
    }
}

fn value(bytes: &[u8]) -> Result<Value, PluginError> {
    let text = std::str::from_utf8(bytes)
        .map_err(|error| PluginError::new(format_args!("its answer is not UTF-8: {error}")))?;
    serde_json::from_str(text)
        .map_err(|error| PluginError::new(format_args!("its answer is not JSON: {error}")))
}
