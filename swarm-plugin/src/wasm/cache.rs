//! Compiled components on disk.
//!
//! What is read from there becomes machine code of this process, so that it must be what was written. Each file ends in an
//! HMAC-SHA-256 of all before it and of its own name, with a key that only this folder has. Folder and key belong to the user of
//! this process, and nobody else may write or read them: who can make such a file could replace the service itself.

use std::fs::{self, File, OpenOptions};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use wasmtime::Engine;
use wasmtime::component::Component;

use crate::digest::Digest;

const KEY: &str = "key";
const KEY_BYTES: usize = 32;
const MAC_BYTES: usize = 32;
/// Machine code is several times as large as the component.
const FILE_LIMIT: u64 = 1024 * 1024 * 1024;

/// A folder of compiled components.
pub(super) struct Cache {
    folder: PathBuf,
    key: [u8; KEY_BYTES],
}

impl Cache {
    /// Opens a folder, or makes it.
    ///
    /// # Errors
    /// Where it cannot be made, or others than this user may use it.
    pub(super) fn open(folder: &Path) -> io::Result<Cache> {
        make(folder)?;
        private(folder, &fs::symlink_metadata(folder)?)?;
        let key = match key(&folder.join(KEY))? {
            Some(key) => key,
            None => new_key(folder)?,
        };
        Ok(Cache { folder: folder.to_owned(), key })
    }

    /// The component of these bytes: of the cache, or compiled and put there. What is damaged or foreign is compiled anew.
    ///
    /// # Errors
    /// Why the bytes are no component.
    pub(super) fn component(&self, engine: &Engine, bytes: &[u8]) -> wasmtime::Result<Component> {
        let name = name(engine, Digest::of(bytes));
        match self.read(engine, &name) {
            Ok(component) => return Ok(component),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(%error, file = name, "a compiled component is not used, and made anew")
            }
        }
        let component = Component::from_binary(engine, bytes)?;
        // Without it the next load takes longer.
        if let Err(error) = self.write(&name, component.serialize()?) {
            tracing::warn!(%error, folder = %self.folder.display(), "a compiled component is not kept");
        }
        Ok(component)
    }

    fn read(&self, engine: &Engine, name: &str) -> io::Result<Component> {
        let path = self.folder.join(name);
        let mut file = open(&path)?;
        private(&path, &file.metadata()?)?;
        let mut bytes = Vec::new();
        Read::by_ref(&mut file).take(FILE_LIMIT).read_to_end(&mut bytes)?;
        let (code, mac) =
            bytes.split_last_chunk::<MAC_BYTES>().ok_or_else(|| io::Error::other("it is too short"))?;
        let genuine = self.mac(name, code).verify(mac.into());
        genuine.map_err(|_| io::Error::other("it is not as it was written"))?;
        deserialized(engine, code).map_err(|error| io::Error::other(format!("{error:#}")))
    }

    fn write(&self, name: &str, mut code: Vec<u8>) -> io::Result<()> {
        let mac = self.mac(name, &code).finalize().into_bytes();
        code.extend_from_slice(&mac);
        let mut file = tempfile::NamedTempFile::new_in(&self.folder)?;
        file.write_all(&code)?;
        file.persist(self.folder.join(name))?;
        Ok(())
    }

    fn mac(&self, name: &str, code: &[u8]) -> Hmac<Sha256> {
        let mac = Hmac::<Sha256>::new_from_slice(&self.key);
        let mac = mac.expect("an HMAC takes a key of any length");
        mac.chain_update((name.len() as u64).to_le_bytes()).chain_update(name).chain_update(code)
    }
}

/// Makes a component of what this crate had compiled before.
#[allow(unsafe_code, reason = "see below")]
fn deserialized(engine: &Engine, code: &[u8]) -> wasmtime::Result<Component> {
    // SAFETY: `deserialize` asks that the bytes are what `Component::serialize` answered, since they hold machine code. These
    // are in memory, where nobody changes them any more, and their MAC was verified with a key that is known to this user
    // alone and used for nothing but what `Cache::component` got from `serialize`. The name, which the MAC covers as well, holds
    // the digest of the component and the engine's own hash of version, settings and processor features; wasmtime compares
    // the latter again.
    unsafe { Component::deserialize(engine, code) }
}

fn name(engine: &Engine, digest: Digest) -> String {
    let mut hasher = DefaultHasher::new();
    engine.precompile_compatibility_hash().hash(&mut hasher);
    format!("{}-{:016x}", digest.hex(), hasher.finish())
}

fn key(path: &Path) -> io::Result<Option<[u8; KEY_BYTES]>> {
    let mut file = match open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => file?,
    };
    private(path, &file.metadata()?)?;
    let mut key = [0; KEY_BYTES];
    file.read_exact(&mut key)?;
    Ok(Some(key))
}

/// Another process may make one at the same time: the first one stays.
fn new_key(folder: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let mut key = [0; KEY_BYTES];
    getrandom::fill(&mut key).map_err(|error| io::Error::other(error.to_string()))?;
    let mut file = tempfile::NamedTempFile::new_in(folder)?;
    file.write_all(&key)?;
    file.as_file().sync_all()?;
    match file.persist_noclobber(folder.join(KEY)) {
        Ok(_) => Ok(key),
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => {
            self::key(&folder.join(KEY))?.ok_or_else(|| io::Error::other("its key was removed"))
        }
        Err(error) => Err(error.error),
    }
}

#[cfg(unix)]
fn make(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

#[cfg(not(unix))]
fn make(folder: &Path) -> io::Result<()> {
    fs::create_dir_all(folder)
}

/// Without following a link.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
        options.custom_flags(i32::try_from(flags.bits()).map_err(io::Error::other)?);
    }
    options.open(path)
}

/// Checks that nobody but this user may use it.
#[cfg(unix)]
fn private(path: &Path, metadata: &fs::Metadata) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let reason = if metadata.is_symlink() {
        "is a link"
    } else if metadata.uid() != rustix::process::geteuid().as_raw() {
        "belongs to another user"
    } else if metadata.mode() & 0o077 != 0 {
        "is open to other users"
    } else {
        return Ok(());
    };
    Err(io::Error::other(format!("{} {reason}", path.display())))
}

/// Outside Unix it is not known, so that there is no cache.
#[cfg(not(unix))]
fn private(path: &Path, _metadata: &fs::Metadata) -> io::Result<()> {
    let message = format!("who may use {} is known on Unix alone", path.display());
    Err(io::Error::new(io::ErrorKind::Unsupported, message))
}
