//! Files that are made beside the one whose place they take.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

/// The same path with something after its last name.
pub(crate) fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(what);
    PathBuf::from(name)
}

/// Whether there is a file. What is there and is none is an error: to open a FIFO is to wait until somebody writes to it.
pub(crate) fn is_there(path: &Path) -> io::Result<bool> {
    match fs::metadata(path) {
        Ok(found) if found.is_file() => Ok(true),
        Ok(_) => Err(io::Error::other("it is not a regular file")),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Makes a file of which nothing was there, locked, so that nobody else takes it for left behind. What a crash left goes, and of a link the
/// link, not what it leads to.
pub(crate) fn make(path: &Path) -> io::Result<File> {
    for _ in 0..8 {
        match File::create_new(path) {
            Ok(file) => {
                lock(&file)?;
                // It may have been taken for left behind before it was locked.
                if is_at(&file, path)? {
                    return Ok(file);
                }
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let left = if matches!(is_there(path), Ok(true)) { File::open(path).ok() } else { None };
                if let Some(left) = &left {
                    lock(left)?;
                }
                match fs::remove_file(path) {
                    Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                    _ => {}
                }
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("others make and remove it all the time"))
}

/// Where files cannot be locked, they are not.
fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(io::Error::other("somebody else is writing it")),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

/// Whether `path` still names `file`.
fn is_at(file: &File, path: &Path) -> io::Result<bool> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let held = file.metadata()?;
        match fs::symlink_metadata(path) {
            Ok(named) => Ok((named.dev(), named.ino()) == (held.dev(), held.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
    #[cfg(not(unix))]
    {
        let _ = (file, path);
        Ok(true)
    }
}

/// Puts what `write` writes, once it is on the disk, in the place of `path`. Where that fails nothing of it stays.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&mut File) -> io::Result<()>) -> io::Result<File> {
    let new = beside(path, "new");
    let mut file = make(&new)?;
    let put = write(&mut file).and_then(|()| file.sync_all()).and_then(|()| fs::rename(&new, path));
    put.inspect_err(|_| drop(fs::remove_file(&new)))?;
    // A child process that is just being made may hold it open, and locked, for a moment longer.
    let _ = file.unlock();
    sync_folder(path)?;
    Ok(file)
}

/// A name is on the disk once its folder is.
fn sync_folder(path: &Path) -> io::Result<()> {
    if cfg!(unix) {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()?;
    }
    Ok(())
}
