//! Trees of files: listed, digested, and copied so that they are on disk before anyone relies on them.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Says what could not be done to which file; the system's own message names neither.
pub(crate) trait At<T> {
    fn at(self, what: &str, path: &Path) -> io::Result<T>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, what: &str, path: &Path) -> io::Result<T> {
        self.map_err(|error| {
            io::Error::new(error.kind(), format!("could not {what} {}: {error}", path.display()))
        })
    }
}

/// The files under `root`, relative to it, in order. Names that begin with a dot are left out.
pub(crate) fn files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::new()];
    while let Some(folder) = folders.pop() {
        let path = root.join(&folder);
        for entry in fs::read_dir(&path).at("list", &path)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let (kind, name) = (entry.file_type()?, folder.join(entry.file_name()));
            if kind.is_dir() {
                folders.push(name);
            } else if kind.is_file() {
                found.push(name);
            } else {
                return Err(io::Error::other(format!(
                    "{} is neither a file nor a folder",
                    entry.path().display()
                )));
            }
        }
    }
    found.sort();
    Ok(found)
}

/// The SHA-256 of names and contents, in hex.
pub(crate) fn digest(root: &Path) -> io::Result<String> {
    let mut hash = Sha256::new();
    for name in files(root)? {
        let path = root.join(&name);
        let bytes = fs::read(&path).at("read", &path)?;
        let name = name.as_os_str().as_encoded_bytes();
        for part in [name, &bytes] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    Ok(hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Copies the tree to `to`, which must not exist, and waits until it is on disk.
pub(crate) fn copy(from: &Path, to: &Path, mut told: impl FnMut(u64, u64)) -> io::Result<()> {
    fs::create_dir_all(to).at("make", to)?;
    let names = files(from)?;
    let mut folders = vec![to.to_owned()];
    for (done, name) in names.iter().enumerate() {
        let (source, target) = (from.join(name), to.join(name));
        if let Some(folder) = target.parent().filter(|folder| !folders.iter().any(|known| known == folder)) {
            fs::create_dir_all(folder).at("make", folder)?;
            folders.push(folder.to_owned());
        }
        fs::copy(&source, &target).at("copy", &source)?;
        File::open(&target).and_then(|file| file.sync_all()).at("sync", &target)?;
        told(done as u64 + 1, names.len() as u64);
    }
    folders.iter().try_for_each(|folder| sync_folder(folder))
}

/// Writes a file whole or not at all.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().unwrap_or(Path::new("."));
    fs::create_dir_all(folder).at("make", folder)?;
    let mut draft = path.as_os_str().to_owned();
    draft.push(".new");
    let draft = PathBuf::from(draft);
    let mut file = File::create(&draft).at("write", &draft)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).at("write", &draft)?;
    fs::rename(&draft, path).at("write", path)?;
    sync_folder(folder)
}

pub(crate) fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error).at("remove", folder),
        _ => Ok(()),
    }
}

/// A rename or a link is on disk when its folder is.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    // Elsewhere a folder cannot be opened as a file.
    if cfg!(unix) {
        File::open(folder).and_then(|folder| folder.sync_all()).at("sync", folder)?;
    }
    Ok(())
}
