//! What a host and a library say to each other: `include/swarm_plugin.h` in Rust.

use std::ffi::c_void;

pub(crate) const VERSION: u32 = 1;
/// The function that a library exports.
pub(crate) const SYMBOL: &str = "swarm_plugin_v1";

pub(crate) const OK: i32 = 0;
pub(crate) const FAILED: i32 = 1;
pub(crate) const TEMPORARY: i32 = 2;
pub(crate) const PANICKED: i32 = 3;
pub(crate) const NO_STATE: i32 = 4;

pub(crate) const INLINE: u32 = 1;

pub(crate) type Entry = unsafe extern "C" fn() -> *const Table;
/// What `create` made. May be null.
pub(crate) type Instance = *mut c_void;

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bytes {
    pub(crate) data: *const u8,
    pub(crate) len: usize,
}

#[repr(C)]
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) size: usize,
    pub(crate) context: *mut c_void,
    pub(crate) write: unsafe extern "C" fn(*mut c_void, *const u8, usize) -> i32,
    pub(crate) is_cancelled: unsafe extern "C" fn(*mut c_void) -> i32,
    pub(crate) remaining: unsafe extern "C" fn(*mut c_void) -> u64,
    pub(crate) progress: unsafe extern "C" fn(*mut c_void, f64, f64, Bytes),
}

pub(crate) type Ask = unsafe extern "C" fn(Instance, *const Host) -> i32;
pub(crate) type Give = unsafe extern "C" fn(Instance, Bytes, *const Host) -> i32;

#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Table {
    pub(crate) abi_version: u32,
    pub(crate) flags: u32,
    pub(crate) size: usize,
    pub(crate) describe: Option<Ask>,
    pub(crate) create: Option<unsafe extern "C" fn(*mut Instance, *const Host) -> i32>,
    pub(crate) check: Option<Ask>,
    pub(crate) execute: Option<Give>,
    pub(crate) export_state: Option<Ask>,
    pub(crate) import_state: Option<Give>,
    pub(crate) cleanup: Option<Ask>,
    pub(crate) destroy: Option<unsafe extern "C" fn(Instance)>,
}

impl Bytes {
    pub(crate) fn of(bytes: &[u8]) -> Bytes {
        Bytes { data: bytes.as_ptr(), len: bytes.len() }
    }

    /// # Safety
    /// `data` points to `len` bytes that nobody changes during `'b`, or `len` is 0.
    pub(crate) unsafe fn get<'b>(self) -> &'b [u8] {
        if self.data.is_null() || self.len == 0 {
            return &[];
        }
        // SAFETY: the caller's promise; it is neither null nor empty.
        unsafe { std::slice::from_raw_parts(self.data, self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_pointer_width = "64")]
    fn the_layout_is_that_of_the_header() {
        let sizes = [size_of::<Bytes>(), size_of::<Host>(), size_of::<Table>()];
        assert_eq!(sizes, [16, 48, 80]);
        assert_eq!(std::mem::offset_of!(Table, describe), 16);
    }
}
