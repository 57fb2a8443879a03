//! The few things asked of the operating system, each with an error that names the path.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};
use crate::store::RunId;

/// Windows keeps readers away from a locked file, so there the lock is on a file beside the log, which stays.
const LOCK_BESIDE: bool = cfg!(windows);

/// How often a log that vanishes between being opened and being locked is looked for again.
const ATTEMPTS: usize = 64;

/// What to do where there is no file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Create,
    Leave,
}

/// A log that no other writer can open, until it is released or dropped.
#[derive(Debug)]
pub(super) struct LockedLog {
    pub(super) file: File,
    beside: Option<File>,
}

impl LockedLog {
    /// Opens and locks the log at `path`; `None` where there is none and it is to be left so.
    pub(super) fn open(path: &Path, run: &RunId, missing: Missing) -> Result<Option<Self>> {
        let busy = || {
            let message = format!("run {run} has a writer, which holds the lock on {}", path.display());
            Error::new(ErrorKind::RunBusy, message).in_run(run).at_path(path)
        };
        for _ in 0..ATTEMPTS {
            let beside = match LOCK_BESIDE {
                true => open_regular(&path.with_extension("lock"), Missing::Create)?,
                false => None,
            };
            let Some(file) = open_regular(path, missing)? else {
                return Ok(None);
            };
            match beside.as_ref().unwrap_or(&file).try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(busy()),
                Err(TryLockError::Error(error)) => return Err(Error::io("lock", path, error)),
            }
            if is_at(&file, path).map_err(|error| Error::io("look at", path, error))? {
                return Ok(Some(LockedLog { file, beside }));
            }
        }
        Err(busy())
    }

    /// Gives the lock up though the file may stay open for a moment, in a sync that nobody waits for.
    pub(super) fn release(&self) {
        // A failure leaves the lock to the closing of the file.
        let _ = self.beside.as_ref().unwrap_or(&self.file).unlock();
    }
}

impl Drop for LockedLog {
    /// A child process that is just being made holds the open file for a moment: closing it would not unlock it.
    fn drop(&mut self) {
        self.release();
    }
}

/// Opens a regular file for reading and writing. Links, pipes and folders are refused.
fn open_regular(path: &Path, missing: Missing) -> Result<Option<File>> {
    let fail = |error| Error::io("open", path, error);
    for _ in 0..ATTEMPTS {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        match (is_regular(path)?, missing) {
            (true, _) => {}
            (false, Missing::Create) => {
                options.create_new(true);
            }
            (false, Missing::Leave) => return Ok(None),
        }
        match options.open(path) {
            Ok(file) => return Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && is_missing_parent(path) => {
                return Err(fail(error));
            }
            // Another process made or removed it since it was looked at.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {}
            Err(error) => return Err(fail(error)),
        }
    }
    Err(fail(io::Error::other("it is made and removed all the time")))
}

/// Reads a regular file whole; `None` where there is none.
pub(super) fn read_regular(path: &Path) -> Result<Option<Vec<u8>>> {
    if !is_regular(path)? {
        return Ok(None);
    }
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path, error)),
    }
}

/// Whether there is a regular file at `path`; an error where there is something else.
fn is_regular(path: &Path) -> Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => Ok(true),
        Ok(_) => Err(Error::io("open", path, io::Error::other("it is not a regular file"))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(Error::io("look at", path, error)),
    }
}

fn is_missing_parent(path: &Path) -> bool {
    path.parent().is_some_and(|parent| !parent.is_dir())
}

/// Whether `path` still names `file`, which may have been removed between opening and locking.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    use std::os::unix::fs::MetadataExt;
    let held = file.metadata()?;
    match fs::symlink_metadata(path) {
        Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(not(unix))]
fn is_at(_: &File, path: &Path) -> io::Result<bool> {
    path.try_exists()
}

/// Makes `dir` and the folders above it, each synced into the one above if `sync`.
pub(super) fn create_dir(dir: &Path, sync: bool) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_dir(parent, sync)?;
    }
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        Err(error) => return Err(Error::io("create the folder", dir, error)),
        Ok(()) => {}
    }
    match parent {
        Some(parent) if sync => sync_dir(parent),
        _ => Ok(()),
    }
}

/// Makes the names in `dir` survive a power cut. Only Unix can; elsewhere the file system does it by itself.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    if cfg!(unix) {
        File::open(dir)
            .and_then(|dir| dir.sync_all())
            .map_err(|error| Error::io("sync the folder", dir, error))?;
    }
    Ok(())
}

/// Runs `job` where it may block: on the runtime's pool, or right here where there is no runtime.
pub(super) async fn blocking<T: Send + 'static>(
    job: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return job();
    };
    runtime.spawn_blocking(job).await.unwrap_or_else(|gone| {
        Err(Error::new(ErrorKind::Io, "a file operation was cut off by the end of the runtime").because(gone))
    })
}
