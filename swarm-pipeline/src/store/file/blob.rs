use std::fs::{self, File};
use std::hash::BuildHasher;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Durability, disk, line};
use crate::digest::sha256;
use crate::error::{Error, ErrorKind, Result};
use crate::store::BlobKey;

/// Where a blob lies in the store's folder.
///
/// The key is checked already: it cannot name a place outside of the folder.
pub(super) fn place(dir: &Path, key: &BlobKey) -> PathBuf {
    match key {
        BlobKey::Artifact { run, sha256 } => super::artifacts_dir(dir, run).join(sha256),
        BlobKey::Reuse { key } => dir.join("reuse").join(key),
        BlobKey::Durations { pipeline } => dir.join("durations").join(pipeline),
    }
}

/// Writes a blob beside its place and moves it there, so that a reader finds the old or the new one, whole.
pub(super) fn put(dir: &Path, key: &BlobKey, bytes: Vec<u8>, durability: Durability) -> Result<()> {
    let power = durability == Durability::Power;
    let path = place(dir, key);
    let folder = path.parent().unwrap_or(dir);
    disk::create_dir(folder, power)?;
    // An artifact's name is its checksum, so its file is nothing but the artifact.
    let contents = if is_artifact(key) { bytes } else { line::encode_blob(&bytes) };

    // Not to be guessed, and another one in another container that has the same process number.
    let random = std::hash::RandomState::new().hash_one(std::process::id());
    let temporary = folder.join(format!(".{random:016x}.tmp"));
    let written = write_file(&temporary, &contents, power).and_then(|()| {
        fs::rename(&temporary, &path).map_err(|error| Error::io("move a finished file to", &path, error))
    });
    if written.is_err() {
        // What is left of it is in nobody's way.
        let _ = fs::remove_file(&temporary);
    }
    written?;
    if power { disk::sync_dir(folder) } else { Ok(()) }
}

/// Reads a blob and checks that it is what was put.
pub(super) fn get(dir: &Path, key: &BlobKey) -> Result<Option<Vec<u8>>> {
    let path = place(dir, key);
    let Some(contents) = disk::read_regular(&path)? else {
        return Ok(None);
    };
    match key {
        BlobKey::Artifact { sha256: digest, .. } if sha256(&contents) == *digest => Ok(Some(contents)),
        BlobKey::Artifact { run, .. } => {
            let message = format!("{} does not have the digest that it is named by", path.display());
            Err(Error::new(ErrorKind::Corrupt, message).at_path(&path).at_offset(0).in_run(run))
        }
        _ => line::decode_blob(contents).map(Some).map_err(|damage| super::damaged(&path, damage)),
    }
}

fn is_artifact(key: &BlobKey) -> bool {
    matches!(key, BlobKey::Artifact { .. })
}

fn write_file(path: &Path, contents: &[u8], sync: bool) -> Result<()> {
    let mut file = File::create_new(path).map_err(|error| Error::io("create", path, error))?;
    file.write_all(contents).map_err(|error| Error::io("write", path, error))?;
    if sync {
        file.sync_all().map_err(|error| Error::io("sync", path, error))?;
    }
    Ok(())
}
