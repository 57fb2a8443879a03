//! A library as a plugin.

use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock, TryLockError};

use async_trait::async_trait;
use serde_json::Value;

use super::abi::{self, Bytes};
use super::ask::{Caller, ask};
use super::library::Library;
use super::threads::{Threads, Ticket};
use crate::call::CallContext;
use crate::discovery::Found;
use crate::manifest::{DEFAULT_BYTES, Manifest, ManifestFile};
use crate::plugin::{Plugin, PluginError};

const DESCRIPTION_BYTES: usize = 1024 * 1024;
/// Room for a message where results are to be short. How long a result may be is looked at again.
const MESSAGE_BYTES: usize = 16 * 1024;
/// Calls of one instance that were given up and have not returned.
const LOST_LIMIT: usize = 8;

pub(super) struct NativePlugin {
    manifest: Manifest,
    instance: Arc<Instance>,
    threads: Threads,
    lost: Arc<AtomicUsize>,
}

impl NativePlugin {
    /// Makes an instance. Blocks, for as long as the library likes.
    ///
    /// # Safety
    /// The library keeps to what the header says, now and for as long as the plugin exists.
    pub(super) unsafe fn new(
        library: &Library,
        threads: Threads,
        found: Found,
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
        let handle = Handle { table, pointer };
        // SAFETY: the caller's promise.
        let said = ask(caller, DESCRIPTION_BYTES, |host| unsafe { asked(table.describe, pointer, host) })?;
        let said =
            ManifestFile::told("native", value(&said.unwrap_or_default())?).map_err(PluginError::new)?;
        let file = match found.manifest_file() {
            Some(file) => file.clone().over(said).map_err(PluginError::new)?,
            None => said,
        };
        let manifest = file.builder().bounded_params().build()?;
        let limit = manifest.limits().result_bytes.unwrap_or(DEFAULT_BYTES).max(MESSAGE_BYTES);
        let instance =
            Instance { table, limit, handle: RwLock::new(Some(handle)), threads: threads.clone(), found };
        Ok(NativePlugin { manifest, instance: Arc::new(instance), threads, lost: Arc::default() })
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

    async fn execute(&self, params: Value, cx: &CallContext) -> Result<Value, PluginError> {
        let outcome = if self.instance.table.flags & abi::INLINE != 0 {
            self.instance.execute(&params, Caller { cx: Some(cx), ticket: None })
        } else {
            let lost = self.lost.load(Ordering::Relaxed);
            if lost >= LOST_LIMIT {
                let message = format!("{lost} calls that were given up go on in it");
                return Err(PluginError::temporary(message));
            }
            let theirs = cx.clone();
            self.on_thread(move |instance, caller| {
                instance.execute(&params, Caller { cx: Some(&theirs), ..caller })
            })
            .await
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
            instance.ask(caller, DEFAULT_BYTES, |pointer, host| unsafe { check(pointer, host) }).map(drop)
        })
        .await
    }

    async fn export_state(&self) -> Result<Option<Value>, PluginError> {
        let Some(export) = self.instance.table.export_state else { return Ok(None) };
        self.on_thread(move |instance, caller| {
            // SAFETY: the promise to `NativePlugin::new`.
            let state =
                instance.ask(caller, DEFAULT_BYTES, |pointer, host| unsafe { export(pointer, host) })?;
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
            // SAFETY: the promise to `NativePlugin::new`; the state outlives the call.
            instance
                .ask(caller, DEFAULT_BYTES, |pointer, host| unsafe {
                    import(pointer, Bytes::of(&state), host)
                })
                .map(drop)
        })
        .await
    }

    async fn cleanup(&self) -> Result<(), PluginError> {
        self.on_thread(Instance::cleanup).await
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
    /// Its files are there for as long as it is.
    found: Found,
}

impl Instance {
    fn ask(
        &self,
        caller: Caller<'_>,
        limit: usize,
        function: impl FnOnce(abi::Instance, *const abi::Host) -> i32,
    ) -> Result<Option<Vec<u8>>, PluginError> {
        let handle = match self.handle.try_read() {
            Ok(handle) => handle,
            Err(TryLockError::Poisoned(handle)) => handle.into_inner(),
            // Only the cleanup writes.
            Err(TryLockError::WouldBlock) => return Err(PluginError::new("it is being cleaned up")),
        };
        let pointer = handle.as_ref().ok_or_else(|| PluginError::new("it was cleaned up"))?.pointer;
        ask(caller, limit, |host| function(pointer, host))
    }

    fn execute(&self, params: &Value, caller: Caller<'_>) -> Result<Value, PluginError> {
        let params = serde_json::to_vec(params)?;
        let answer = self.ask(caller, self.limit, |pointer, host| match self.table.execute {
            // SAFETY: the promise to `NativePlugin::new`; the parameters outlive the call.
            Some(execute) => unsafe { execute(pointer, Bytes::of(&params), host) },
            None => abi::FAILED,
        });
        value(&answer?.unwrap_or_default())
    }

    /// Waits for the calls that are still in it.
    fn cleanup(&self, caller: Caller<'_>) -> Result<(), PluginError> {
        // None of its functions is called under this lock.
        let handle = self.handle.write().unwrap_or_else(PoisonError::into_inner).take();
        let Some(handle) = handle else { return Ok(()) };
        let Some(cleanup) = self.table.cleanup else { return Ok(()) };
        // SAFETY: the promise to `NativePlugin::new`.
        ask(caller, DEFAULT_BYTES, |host| unsafe { cleanup(handle.pointer, host) }).map(drop)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        let handle = self.handle.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(handle) = handle {
            let found = self.found.again();
            // Where no thread is to be had it stays, which harms nobody.
            let _ = self.threads.spawn(Box::new(move || drop((handle, found))));
        }
    }
}

/// What `create` made. Destroyed when it is dropped, by which time nobody is in its functions.
struct Handle {
    table: abi::Table,
    pointer: abi::Instance,
}

// SAFETY: the header allows to call from any thread.
unsafe impl Send for Handle {}
// SAFETY: as above; what is called at the same time is what the header says.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        if let Some(destroy) = self.table.destroy {
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
