//! Private copies, so that what was checked is what is loaded, and can be loaded again.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use super::beneath::{Folder, Node};
use super::look::{files, is_executable, said};
use crate::digest::Digest;

/// Bytes of one plugin.
const BYTES_LIMIT: u64 = 256 * 1024 * 1024;
const MANIFEST_LIMIT: u64 = 1024 * 1024;

/// Makes a folder that other users may neither read nor write, whatever this process allows for others: who could write to it
/// would decide what is loaded.
pub(crate) fn private_folder(prefix: &str, place: &Path) -> io::Result<TempDir> {
    let mut folder = tempfile::Builder::new();
    folder.prefix(prefix);
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        folder.permissions(fs::Permissions::from_mode(0o700));
    }
    folder.tempdir_in(place)
}

/// Copies a file, and answers the digest of what was copied.
pub(super) fn file(from: File, executable: bool, to: &Path) -> Result<Digest, String> {
    Ok(Digest::finish(bytes(from, executable, to, &mut BYTES_LIMIT.clone())?))
}

/// Copies a folder, and answers the digest of the list of what was copied.
pub(super) fn folder(from: &Folder, to: &Path) -> Result<Digest, String> {
    let mut left = BYTES_LIMIT;
    let mut list = Sha256::new();
    for (path, _) in files(from)? {
        let place = to.join(&path);
        place.parent().map_or(Ok(()), fs::create_dir_all).map_err(|error| not_written(&error))?;
        let Node::File(file, metadata) = from.node(&path).map_err(|error| said(&error))? else {
            return Err(super::CHANGED.into());
        };
        let executable = is_executable(&metadata);
        let digest = Digest::finish(bytes(file, executable, &place, &mut left)?);
        let mark = if executable { " x " } else { "  " };
        // Names stand in the list as they are, so that one with a line break could be taken for several lines.
        let name = path.to_str().filter(|name| !name.contains('\n'));
        let name = name.ok_or("a name in it is not UTF-8, or has a line break")?;
        list.update(format!("{}{mark}{name}\n", digest.hex()));
    }
    Ok(Digest::finish(list))
}

/// Reads a text that was copied.
pub(super) fn text(path: &Path) -> Result<String, String> {
    let mut text = String::new();
    let file = File::open(path).map_err(|error| said(&error))?;
    let length = file.take(MANIFEST_LIMIT + 1).read_to_string(&mut text).map_err(|error| said(&error))?;
    match length as u64 > MANIFEST_LIMIT {
        true => Err(format!("its plugin.toml is over {MANIFEST_LIMIT} bytes")),
        false => Ok(text),
    }
}

fn bytes(mut from: File, executable: bool, to: &Path, left: &mut u64) -> Result<Sha256, String> {
    let too_large = || format!("it is over {BYTES_LIMIT} bytes");
    // It may grow while it is read.
    if from.metadata().map_err(|error| said(&error))?.len() > *left {
        return Err(too_large());
    }
    let mut into =
        OpenOptions::new().write(true).create_new(true).open(to).map_err(|error| not_written(&error))?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(said(&error)),
        };
        *left = left.checked_sub(read as u64).ok_or_else(too_large)?;
        hasher.update(&buffer[..read]);
        into.write_all(&buffer[..read]).map_err(|error| not_written(&error))?;
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode = if executable { 0o500 } else { 0o400 };
        into.set_permissions(fs::Permissions::from_mode(mode)).map_err(|error| not_written(&error))?;
    }
    Ok(hasher)
}

fn not_written(error: &io::Error) -> String {
    format!("{}: {error}", super::NOT_COPIED)
}
