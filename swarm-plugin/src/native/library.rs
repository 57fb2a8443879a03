//! Libraries in this process, which stay as long as it does.

use std::collections::HashMap;
use std::mem::{MaybeUninit, offset_of};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{abi, image};
use crate::digest::Digest;
use crate::discovery::Found;
use crate::plugin::PluginError;

/// The functions of a library that is loaded.
pub(super) struct Library {
    pub(super) table: abi::Table,
    /// The copy that it was loaded from, in which it looks for files of its own: another of the same bytes may go.
    _files: Found,
}

/// The libraries of one loader.
pub(super) struct Libraries {
    /// By the digest of the whole copy: a library beside other files may be another one. Held while one is loaded, which the
    /// system does one at a time itself. What was loaded and cannot be used is kept as the reason: it cannot be unloaded either.
    known: Mutex<HashMap<Digest, Result<Arc<Library>, String>>>,
    count: AtomicUsize,
    limit: AtomicUsize,
}

impl Libraries {
    pub(super) fn new(limit: usize) -> Libraries {
        Libraries { known: Mutex::default(), count: AtomicUsize::new(0), limit: AtomicUsize::new(limit) }
    }

    pub(super) fn limit(&self, libraries: usize) {
        self.limit.store(libraries, Ordering::Relaxed);
    }

    /// How many are loaded.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Loads a library, unless it is loaded.
    ///
    /// # Safety
    /// As for [`NativeLoader::new`](super::NativeLoader::new).
    ///
    /// # Errors
    /// Says in a sentence why it cannot be used.
    pub(super) unsafe fn load(&self, found: &Found, path: &Path) -> Result<Arc<Library>, String> {
        let digest = found.digest();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(library) = known.get(&digest) {
            return library.clone();
        }
        image::check(path)?;
        let limit = self.limit.load(Ordering::Relaxed);
        if self.count() >= limit {
            return Err(format!(
                "{limit} native libraries were loaded, which is as many as are allowed: they are never unloaded; start \
                 the service anew, or raise NativeLoader::generations"
            ));
        }
        // SAFETY: the caller's promise that what the library runs when it is loaded is sound.
        let opened = unsafe { open(path) }
            .map_err(|error| format!("it cannot be loaded: {}", PluginError::from(error)))?;
        self.count.fetch_add(1, Ordering::Relaxed);
        // SAFETY: the function of this name is what the header says, by the caller's promise.
        let table = unsafe { table(&opened) };
        let library = table.map(|table| Arc::new(Library { table, _files: found.clone() }));
        // Never unloaded: code of it may run, and values with its destructors may be anywhere.
        std::mem::forget(opened);
        known.insert(digest, library.clone());
        library
    }
}

/// # Safety
/// It runs what the library runs when it is loaded.
#[cfg(unix)]
unsafe fn open(path: &Path) -> Result<libloading::Library, libloading::Error> {
    use libloading::os::unix::{Library, RTLD_LOCAL, RTLD_NOW};
    // At once: a function that is missing fails here, and not the process when it is called.
    // SAFETY: the caller's promise.
    unsafe { Library::open(Some(path), RTLD_NOW | RTLD_LOCAL) }.map(Into::into)
}

/// # Safety
/// It runs what the library runs when it is loaded.
#[cfg(not(unix))]
unsafe fn open(path: &Path) -> Result<libloading::Library, libloading::Error> {
    // SAFETY: the caller's promise.
    unsafe { libloading::Library::new(path) }
}

/// # Safety
/// The function `swarm_plugin_v1` of the library is what the header says. The library stays loaded.
unsafe fn table(opened: &libloading::Library) -> Result<abi::Table, String> {
    // SAFETY: the caller's promise.
    let entry = unsafe { opened.get::<abi::Entry>(abi::SYMBOL) }
        .map_err(|error| format!("it has no {}: {}", abi::SYMBOL, PluginError::from(error)))?;
    // SAFETY: the caller's promise.
    let table = unsafe { entry() };
    if table.is_null() || !table.is_aligned() {
        return Err(format!("{} answers no table", abi::SYMBOL));
    }
    // The version stands first in every version, and says how to read on.
    // SAFETY: it is not null, and points to a table by the caller's promise.
    let version = unsafe { (*table).abi_version };
    if version != abi::VERSION {
        return Err(format!(
            "it is written for version {version} of the native interface, and this is {}",
            abi::VERSION
        ));
    }
    // SAFETY: tables of this version have a size.
    let size = unsafe { (*table).size };
    let least = offset_of!(abi::Table, destroy) + size_of::<usize>();
    if size < least {
        return Err(format!("its table has {size} bytes, and this version of it has {least}"));
    }
    let mut copy = MaybeUninit::<abi::Table>::zeroed();
    // SAFETY: there are `size` bytes to read, and as many as the type has to write; they are different places.
    unsafe {
        std::ptr::copy_nonoverlapping(
            table.cast::<u8>(),
            copy.as_mut_ptr().cast::<u8>(),
            size.min(size_of::<abi::Table>()),
        );
    }
    // SAFETY: zero is a value of every field, and what was copied over it is a table of this version.
    let table = unsafe { copy.assume_init() };
    if table.flags & !abi::INLINE != 0 {
        return Err(format!("its table has flags {:#x}, of which some are not known", table.flags));
    }
    for (is_there, name) in [(table.describe.is_some(), "describe"), (table.execute.is_some(), "execute")] {
        if !is_there {
            return Err(format!("its table has no {name}"));
        }
    }
    Ok(table)
}
