//! The other side: a [`Plugin`] as a library, for [`native_plugin!`](crate::native_plugin).

use std::any::Any;
use std::ffi::c_void;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use serde_json::{Map, Value, json};
use tokio::runtime::{Builder, Runtime};

use super::abi::{self, Bytes, Host};
use crate::call::{CallContext, Progress};
use crate::lease::{Lease, Loaded};
use crate::manifest::Manifest;
use crate::plugin::{Plugin, PluginError};

/// How often a call that waits looks whether anybody still waits for it.
const LOOK: Duration = Duration::from_millis(10);

/// Exports a [`Plugin`](crate::Plugin) from a library, for [`NativeLoader`](crate::NativeLoader).
///
/// The argument makes the plugin: a function or closure without parameters that answers a `Result`, whose error is whatever
/// turns into a [`PluginError`](crate::PluginError). It is called once for each instance. The crate is a library of the type
/// `cdylib`, and uses the macro once:
///
/// ```
#[doc = include_str!("../../examples/native_words.rs")]
/// ```
///
/// With `native_plugin!(inline: words)` calls run on the caller's own thread, some microseconds faster: only for a plugin that
/// answers at once and never waits, since no deadline holds there.
///
/// # What holds in there
/// The library has its own copies of this crate, of tokio and of `tracing`: nothing is shared with the service but what the
/// [interface](crate::NativeLoader) passes. A call runs on a thread of the host, so that one which computes holds up no other, in
/// a tokio runtime of its instance, whose one thread drives timers, sockets and tasks that were spawned: a task that computes is for
/// `spawn_blocking`. A call that waits is dropped within ten milliseconds once nobody waits for it. A panic is the
/// failure of one call, if the library is built to unwind, as is the default; its message goes to standard error as well.
/// Other plugins cannot be called from there.
///
/// The symbol is exported without mangling, which a crate that forbids unsafe code must allow.
#[macro_export]
macro_rules! native_plugin {
    (inline: $make:expr) => {
        $crate::native_plugin!(@table $make, $crate::__native::Table::INLINE);
    };
    (@table $make:expr, $flags:expr) => {
        const _: () = {
            struct Made;

            impl $crate::__native::Author for Made {
                fn make() -> ::std::result::Result<::std::sync::Arc<dyn $crate::Plugin>, $crate::PluginError> {
                    ::std::result::Result::Ok(::std::sync::Arc::new(($make)()?))
                }
            }

            static TABLE: $crate::__native::Table = $crate::__native::table::<Made>($flags);

            #[unsafe(no_mangle)]
            extern "C" fn swarm_plugin_v1() -> *const $crate::__native::Table {
                &raw const TABLE
            }
        };
    };
    ($make:expr) => {
        $crate::native_plugin!(@table $make, 0);
    };
}

/// What the macro is used with.
pub trait Author: 'static {
    /// Makes the plugin.
    ///
    /// # Errors
    /// Why it cannot be made.
    fn make() -> Result<Arc<dyn Plugin>, PluginError>;
}

/// What a library exports.
#[repr(transparent)]
#[derive(Debug)]
pub struct Table(abi::Table);

impl Table {
    /// Calls run on the caller's thread.
    pub const INLINE: u32 = abi::INLINE;
}

/// The table of a library.
pub const fn table<A: Author>(flags: u32) -> Table {
    Table(abi::Table {
        abi_version: abi::VERSION,
        flags,
        size: size_of::<Table>(),
        describe: Some(describe),
        create: Some(create::<A>),
        check: Some(check),
        execute: Some(execute),
        export_state: Some(export_state),
        import_state: Some(import_state),
        cleanup: Some(cleanup),
        destroy: Some(destroy),
    })
}

/// What `create` makes.
struct Guest {
    plugin: Arc<dyn Plugin>,
    manifest: Manifest,
    lease: Arc<Lease>,
    /// Taken when it is dropped.
    runtime: Option<Runtime>,
}

impl Guest {
    fn new(make: fn() -> Result<Arc<dyn Plugin>, PluginError>) -> Result<Guest, PluginError> {
        // A thread of its own for timers and sockets: driven by a call, they would wait for it when it computes.
        let runtime =
            Builder::new_multi_thread().worker_threads(1).thread_name("swarm-guest").enable_all().build()?;
        let plugin = {
            let _entered = runtime.enter();
            make()?
        };
        let manifest = plugin.manifest().clone();
        // The host has a limit of its own, which comes with each call.
        let loaded =
            Loaded::new(plugin.clone(), manifest.clone(), 0, None, Duration::from_secs(30), Weak::new());
        let lease = Arc::new(loaded).lease(Arc::default());
        Ok(Guest { plugin, manifest, lease, runtime: Some(runtime) })
    }

    /// Drives a part of the plugin's life, until the host does not wait any more.
    fn drive<T>(
        &self,
        call: &Arc<Call>,
        part: impl Future<Output = Result<T, PluginError>>,
    ) -> Result<T, PluginError> {
        let Some(runtime) = &self.runtime else { return Err(PluginError::new("its runtime is gone")) };
        let mut part = pin!(part);
        {
            // What is ready at once needs no turn of the runtime.
            let _entered = runtime.enter();
            if let Poll::Ready(outcome) = part.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return outcome;
            }
        }
        runtime.block_on(async {
            tokio::select! {
                biased;
                outcome = part => outcome,
                // Not starved by a part that uses up what tokio lets a task do at a time.
                () = tokio::task::coop::unconstrained(given_up(call)) => Err(PluginError::temporary("was dropped: nobody waits for it any more")),
            }
        })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Blocking work that a plugin left behind must not hold this thread.
            runtime.shutdown_background();
        }
    }
}

async fn given_up(call: &Arc<Call>) {
    while !call.is_given_up() {
        tokio::time::sleep(LOOK).await;
    }
}

/// One call of a function of the table, as long as it lasts: afterwards the host is not asked any more.
struct Call(Mutex<Option<HostPointer>>);

struct HostPointer(*const Host);

// SAFETY: the header allows to use it from any thread until the function returns, which `Call` sees to.
unsafe impl Send for HostPointer {}

impl Call {
    fn with<T>(&self, otherwise: T, ask: impl FnOnce(&Host) -> T) -> T {
        let host = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*host {
            // SAFETY: it is there until the function returns, and is taken away before, under this lock.
            Some(HostPointer(host)) => ask(unsafe { &**host }),
            None => otherwise,
        }
    }

    fn write(&self, bytes: &[u8]) {
        // What is too long the host knows itself.
        // SAFETY: the host's functions are called with its context.
        let _ = self.with(0, |host| unsafe { (host.write)(host.context, bytes.as_ptr(), bytes.len()) });
    }

    fn is_given_up(&self) -> bool {
        // SAFETY: as above.
        self.with(true, |host| unsafe { (host.is_cancelled)(host.context) } != 0)
    }

    fn remaining(&self) -> Duration {
        // SAFETY: as above.
        Duration::from_nanos(self.with(0, |host| unsafe { (host.remaining)(host.context) }))
    }

    fn progress(&self, progress: &Progress) {
        let message = Bytes::of(progress.message.as_deref().unwrap_or_default().as_bytes());
        let total = progress.total.unwrap_or(0.0);
        // SAFETY: as above; the message outlives the call.
        self.with((), |host| unsafe { (host.progress)(host.context, progress.done, total, message) });
    }

    fn context(self: &Arc<Self>, guest: &Guest) -> CallContext {
        let (asks, tells) = (self.clone(), self.clone());
        CallContext::of_a_host(
            guest.lease.clone(),
            self.remaining(),
            Arc::new(move || asks.is_given_up()),
            Arc::new(move |progress| tells.progress(&progress)),
        )
    }
}

/// Runs a part and tells the host what came of it. Panics end here.
///
/// # Safety
/// `host` is what a function of the table was called with, and this is that call.
unsafe fn answer(
    host: *const Host,
    part: impl FnOnce(&Arc<Call>) -> Result<Option<Vec<u8>>, PluginError>,
) -> i32 {
    let call = Arc::new(Call(Mutex::new(Some(HostPointer(host)))));
    let outcome = catch_unwind(AssertUnwindSafe(|| part(&call)));
    let code = match outcome {
        Ok(Ok(Some(bytes))) => {
            call.write(&bytes);
            abi::OK
        }
        Ok(Ok(None)) => abi::NO_STATE,
        Ok(Err(failure)) => {
            call.write(failure.to_string().as_bytes());
            if failure.is_temporary() { abi::TEMPORARY } else { abi::FAILED }
        }
        Err(payload) => {
            call.write(said(&*payload).as_bytes());
            // To drop it may panic again.
            let _ = catch_unwind(AssertUnwindSafe(move || drop(payload)));
            abi::PANICKED
        }
    };
    *call.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    code
}

fn said(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

/// # Safety
/// `instance` is what [`create`] made, and was not destroyed.
unsafe fn guest<'g>(instance: *mut c_void) -> &'g Guest {
    // SAFETY: the caller's promise; it is shared only.
    unsafe { &*instance.cast_const().cast::<Guest>() }
}

/// # Safety
/// As the header says; so for all that follow.
unsafe extern "C" fn create<A: Author>(instance: *mut *mut c_void, host: *const Host) -> i32 {
    let make = |_: &Arc<Call>| {
        let made = Box::new(Guest::new(A::make)?);
        // SAFETY: the header's promise that there is a place for it.
        unsafe { instance.write(Box::into_raw(made).cast()) };
        Ok(Some(Vec::new()))
    };
    // SAFETY: this is the call that it is of.
    unsafe { answer(host, make) }
}

unsafe extern "C" fn describe(instance: *mut c_void, host: *const Host) -> i32 {
    // SAFETY: the header's promise, and this is the call that it is of.
    unsafe { answer(host, |_| Ok(Some(serde_json::to_vec(&description(&guest(instance).manifest))?))) }
}

unsafe extern "C" fn check(instance: *mut c_void, host: *const Host) -> i32 {
    // SAFETY: the header's promise, and this is the call that it is of.
    unsafe {
        let guest = guest(instance);
        answer(host, |call| guest.drive(call, guest.plugin.check()).map(|()| Some(Vec::new())))
    }
}

unsafe extern "C" fn execute(instance: *mut c_void, params: Bytes, host: *const Host) -> i32 {
    // SAFETY: the header's promise, and this is the call that it is of.
    unsafe {
        let (guest, params) = (guest(instance), params.get());
        answer(host, |call| {
            let params: Value = serde_json::from_slice(params)?;
            let cx = call.context(guest);
            let result = guest.drive(call, guest.plugin.execute(params, &cx))?;
            Ok(Some(serde_json::to_vec(&result)?))
        })
    }
}

unsafe extern "C" fn export_state(instance: *mut c_void, host: *const Host) -> i32 {
    // SAFETY: the header's promise, and this is the call that it is of.
    unsafe {
        let guest = guest(instance);
        answer(host, |call| {
            let state = guest.drive(call, guest.plugin.export_state())?;
            Ok(state.map(|state| serde_json::to_vec(&state)).transpose()?)
        })
    }
}

unsafe extern "C" fn import_state(instance: *mut c_void, state: Bytes, host: *const Host) -> i32 {
    // SAFETY: the header's promise, and this is the call that it is of.
    unsafe {
        let (guest, state) = (guest(instance), state.get());
        answer(host, |call| {
            let state: Value = serde_json::from_slice(state)?;
            guest.drive(call, guest.plugin.import_state(state)).map(|()| Some(Vec::new()))
        })
    }
}

unsafe extern "C" fn cleanup(instance: *mut c_void, host: *const Host) -> i32 {
    // SAFETY: the header's promise, and this is the call that it is of.
    unsafe {
        let guest = guest(instance);
        answer(host, |call| guest.drive(call, guest.plugin.cleanup()).map(|()| Some(Vec::new())))
    }
}

unsafe extern "C" fn destroy(instance: *mut c_void) {
    // SAFETY: the header's promise that it is what `create` made, and that this is its last use.
    let guest = unsafe { Box::from_raw(instance.cast::<Guest>()) };
    // A panic of a destructor ends here; what it should have freed stays.
    let _ = catch_unwind(AssertUnwindSafe(move || drop(guest)));
}

/// A manifest in the words of `plugin.toml`.
fn description(manifest: &Manifest) -> Value {
    let limits = manifest.limits();
    let mut said = Map::new();
    if let Some(timeout) = limits.timeout {
        said.insert(
            "timeout_ms".into(),
            u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX).max(1).into(),
        );
    }
    let sizes = [
        ("concurrency", limits.concurrency),
        ("params_bytes", limits.params_bytes),
        ("result_bytes", limits.result_bytes),
    ];
    for (key, size) in sizes {
        if let Some(size) = size {
            said.insert(key.into(), size.into());
        }
    }
    let requires = manifest.requires().iter();
    let requires: Map<String, Value> = requires
        .map(|requirement| (requirement.name().to_owned(), requirement.version().to_string().into()))
        .collect();
    json!({
        "name": manifest.name(),
        "version": manifest.version().to_string(),
        "description": manifest.description(),
        "parameters": manifest.parameters(),
        "requires": requires,
        "limits": said,
    })
}
