//! One call of a function of a library: what it can ask of the host, and what it answered.

use std::ffi::c_void;
use std::panic::resume_unwind;
use std::sync::{Mutex, PoisonError};

use super::abi;
use super::threads::Ticket;
use crate::call::{CallContext, Progress};
use crate::plugin::PluginError;

/// For whom a function is called.
#[derive(Clone, Copy, Default)]
pub(super) struct Caller<'c> {
    pub(super) cx: Option<&'c CallContext>,
    pub(super) ticket: Option<&'c Ticket>,
}

/// Room for a message where answers are to be short.
const MESSAGE_BYTES: usize = 16 * 1024;

/// What a host pointer of the interface points to, by its context.
struct Told<'c> {
    caller: Caller<'c>,
    room: usize,
    out: Mutex<Out>,
}

#[derive(Default)]
struct Out {
    bytes: Vec<u8>,
    is_over: bool,
}

/// Calls a function of a library, and answers what it wrote.
///
/// A panic that it tells of goes on from here.
///
/// # Errors
/// What it says that failed, an answer over `limit` bytes, and a number that it must not return.
pub(super) fn ask(
    caller: Caller<'_>,
    limit: usize,
    function: impl FnOnce(*const abi::Host) -> i32,
) -> Result<Vec<u8>, PluginError> {
    let (code, out) = call(caller, limit, function);
    outcome(code, out, limit)
}

/// The same for the function that may say that there is no state, which is `None`.
pub(super) fn ask_for_state(
    caller: Caller<'_>,
    limit: usize,
    function: impl FnOnce(*const abi::Host) -> i32,
) -> Result<Option<Vec<u8>>, PluginError> {
    match call(caller, limit, function) {
        (abi::NO_STATE, _) => Ok(None),
        (code, out) => outcome(code, out, limit).map(Some),
    }
}

fn call(caller: Caller<'_>, limit: usize, function: impl FnOnce(*const abi::Host) -> i32) -> (i32, Out) {
    let told = Told { caller, room: limit.max(MESSAGE_BYTES), out: Mutex::default() };
    let host = abi::Host {
        size: size_of::<abi::Host>(),
        context: (&raw const told).cast_mut().cast(),
        write,
        is_cancelled,
        remaining,
        progress,
    };
    let code = function(&raw const host);
    (code, told.out.into_inner().unwrap_or_else(PoisonError::into_inner))
}

fn outcome(code: i32, Out { bytes, is_over }: Out, limit: usize) -> Result<Vec<u8>, PluginError> {
    let said = |otherwise: &str| match bytes.is_empty() {
        true => otherwise.to_owned(),
        false => String::from_utf8_lossy(&bytes).into_owned(),
    };
    match code {
        abi::OK if is_over || bytes.len() > limit => {
            Err(PluginError::too_large(format_args!("the answer is over {limit} bytes")))
        }
        abi::OK => Ok(bytes),
        // Of a message that is too long, the beginning says it.
        abi::FAILED => Err(PluginError::new(said("failed, and does not say why"))),
        abi::TEMPORARY => Err(PluginError::temporary(said("failed for now, and does not say why"))),
        // Without the message on the standard error, where the plugin's own runtime has put it.
        abi::PANICKED => resume_unwind(Box::new(said("no message"))),
        code => Err(PluginError::new(format_args!("returned {code}, which means nothing"))),
    }
}

/// # Safety
/// `context` is that of a [`abi::Host`] whose function has not returned.
unsafe fn told<'c>(context: *mut c_void) -> &'c Told<'c> {
    // SAFETY: `ask` holds it until the function returns, and shares it only.
    unsafe { &*context.cast_const().cast::<Told<'c>>() }
}

/// # Safety
/// As the header says.
unsafe extern "C" fn write(context: *mut c_void, data: *const u8, len: usize) -> i32 {
    // SAFETY: the header's promise.
    let told = unsafe { told(context) };
    let mut out = told.out.lock().unwrap_or_else(PoisonError::into_inner);
    let room = told.room - out.bytes.len();
    // SAFETY: the header's promise that there are so many bytes until this returns.
    out.bytes.extend_from_slice(unsafe { abi::Bytes { data, len: len.min(room) }.get() });
    out.is_over |= len > room;
    i32::from(out.is_over)
}

/// # Safety
/// As the header says.
unsafe extern "C" fn is_cancelled(context: *mut c_void) -> i32 {
    // SAFETY: the header's promise.
    let Caller { cx, ticket } = unsafe { told(context) }.caller;
    i32::from(ticket.is_some_and(Ticket::is_given_up) || cx.is_some_and(CallContext::is_cancelled))
}

/// # Safety
/// As the header says.
unsafe extern "C" fn remaining(context: *mut c_void) -> u64 {
    // SAFETY: the header's promise.
    let cx = unsafe { told(context) }.caller.cx;
    cx.map_or(u64::MAX, |cx| u64::try_from(cx.remaining().as_nanos()).unwrap_or(u64::MAX))
}

/// # Safety
/// As the header says.
unsafe extern "C" fn progress(context: *mut c_void, done: f64, total: f64, message: abi::Bytes) {
    // SAFETY: the header's promise.
    let (Caller { cx, ticket }, message) = unsafe { (told(context).caller, message.get()) };
    // Whoever gave the call up hears no more of it.
    if let Some(cx) = cx
        && !ticket.is_some_and(Ticket::is_given_up)
    {
        let message = (!message.is_empty()).then(|| String::from_utf8_lossy(message).into_owned());
        cx.progress(Progress { done, total: (total > 0.0).then_some(total), message });
    }
}
