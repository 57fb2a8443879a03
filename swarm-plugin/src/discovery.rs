//! What stands in folders and can be loaded, decided without running any of it.

mod beneath;
mod copy;
mod look;
mod part;
mod signature;

use std::collections::HashSet;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::{fmt, io};

use tempfile::TempDir;

use self::beneath::{Folder, Node};
pub(crate) use self::copy::private_folder;
pub(crate) use self::look::{Candidate, Look};
use self::look::{ENTRIES_LIMIT, MANIFEST, NO_FILE};
pub use self::signature::PublicKey;
use self::signature::Signed;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::manifest::{Manifest, ManifestBuilder, ManifestFile, check_name};

/// Finds plugins in folders without running any.
///
/// A plugin is a `*.wasm` file, a native library, an executable file that is a program or begins with `#!`, or a folder with
/// a `plugin.toml`. Hidden files, other files and folders without `plugin.toml` are none and are passed over.
///
/// Nothing outside the folders is opened: links are followed as long as they stay below, and a pipe, a socket or a device is
/// refused without being opened.
#[derive(Debug, Clone, Default)]
#[must_use]
pub struct PluginDiscovery {
    folders: Vec<PathBuf>,
    allowed: Option<HashSet<Digest>>,
    /// Who may sign; where there is nobody, nothing need be signed.
    keys: Vec<PublicKey>,
}

/// A plugin that was found: a private copy of its file or folder, and what its manifest says.
///
/// The copy goes with the last clone.
#[derive(Clone)]
pub struct Found(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    path: Arc<Path>,
    copy: PathBuf,
    kind: String,
    digest: Digest,
    precedence: u32,
    manifest: Option<ManifestFile>,
    stem: String,
    comment: Option<String>,
    _store: TempDir,
}

impl Found {
    /// Where it was found.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    pub(crate) fn shared_path(&self) -> &Arc<Path> {
        &self.0.path
    }

    /// The copy that is to be loaded, which is what the digest is of: a file, or a folder.
    pub fn copy(&self) -> &Path {
        &self.0.copy
    }

    /// `wasm`, `native`, `process`, or what the manifest says.
    pub fn kind(&self) -> &str {
        &self.0.kind
    }

    /// The digest of the copy.
    pub fn digest(&self) -> Digest {
        self.0.digest
    }

    /// The number of its folder, from 1 in the order in which they were given. Lower is stronger.
    pub fn precedence(&self) -> u32 {
        self.0.precedence
    }

    /// The trusted comment of its signature, where one was [asked for](PluginDiscovery::signed_by).
    pub fn trusted_comment(&self) -> Option<&str> {
        self.0.comment.as_deref()
    }

    /// A manifest with what `plugin.toml` says. Without one: the name of the file without its extension, and version 0.0.0.
    pub fn manifest(&self) -> ManifestBuilder {
        match &self.0.manifest {
            Some(file) => file.builder(),
            None => Manifest::builder(&self.0.stem, "0.0.0"),
        }
    }

    #[cfg(any(feature = "native", feature = "wasm"))]
    pub(crate) fn manifest_file(&self) -> Option<&ManifestFile> {
        self.0.manifest.as_ref()
    }

    /// What it asks for of the host.
    #[cfg(feature = "wasm")]
    pub(crate) fn grants(&self) -> crate::manifest::Grants {
        self.0.manifest.as_ref().map(|file| file.grants.clone()).unwrap_or_default()
    }

    /// The program and its arguments, of `plugin.toml`. Empty without it.
    pub fn command(&self) -> &[String] {
        self.0.manifest.as_ref().map_or(&[], |file| &file.command)
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { path, kind, digest, .. } = &*self.0;
        f.debug_struct("Found")
            .field("path", path)
            .field("kind", kind)
            .field("digest", digest)
            .finish_non_exhaustive()
    }
}

/// Said of what is to be looked at again.
pub(crate) const CHANGED: &str = "it changed while it was copied";

/// Said first of what is as good as any, and for which there is no room at the moment.
pub(crate) const NOT_COPIED: &str = "it cannot be copied";

/// Something in a folder that looks like a plugin and is not used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    pub(crate) path: PathBuf,
    pub(crate) reason: String,
}

impl Unusable {
    /// Where it stands.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Why it is not used.
    pub fn reason(&self) -> &str {
        &self.reason
    }
}

impl PluginDiscovery {
    /// Discovery in no folder.
    pub fn new() -> Self {
        PluginDiscovery::default()
    }

    /// Adds a folder, weaker than those before it. It need not exist yet.
    pub fn folder(mut self, path: impl Into<PathBuf>) -> Self {
        self.folders.push(path.into());
        self
    }

    /// Uses nothing but what has one of these digests. Called again, adds to them.
    pub fn allow(mut self, digests: impl IntoIterator<Item = Digest>) -> Self {
        self.allowed.get_or_insert_default().extend(digests);
        self
    }

    /// Uses nothing but what this key has signed, or another that was given so.
    ///
    /// The signature stands beside a plugin, and has its name with `.minisig` behind it. Of a file, `minisign -Sm FILE` makes it.
    /// Of a folder what is signed is the text of its [`Digest`], of 71 bytes, into which all that it holds goes with its names:
    /// written to a file, it is signed with `minisign -Sm DIGEST -x FOLDER.minisig`. The name of the plugin is not signed, nor
    /// does a signature say that there is no newer one.
    pub fn signed_by(mut self, key: PublicKey) -> Self {
        self.keys.push(key);
        self
    }

    pub(crate) fn folders(&self) -> &[PathBuf] {
        &self.folders
    }

    /// Reads the folders and copies what can be loaded below `store`, which must exist. Blocks.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] if a folder exists and cannot be read, or nothing can be written to `store`.
    pub fn scan(&self, store: &Path) -> Result<(Vec<Found>, Vec<Unusable>)> {
        TempDir::new_in(store).map_err(|error| {
            let message = format!("the store {} cannot be used", store.display());
            Error::new(ErrorKind::InvalidInput, message).because(error)
        })?;
        let Look { candidates, mut unusable, unread } = self.look();
        if let Some(path) = unread.first() {
            let why = unusable.iter().find(|unusable| &unusable.path == path);
            let why = why.map_or("cannot be read", |unusable| &unusable.reason);
            let message = format!("the folder {} {why}", path.display());
            return Err(Error::new(ErrorKind::InvalidInput, message));
        }
        let mut found = Vec::new();
        for candidate in candidates {
            match self.take(&candidate, store) {
                Ok(plugin) => found.push(plugin),
                Err(reason) => unusable.push(Unusable { path: candidate.path, reason }),
            }
        }
        Ok((found, unusable))
    }

    /// Looks at names, sizes and times.
    pub(crate) fn look(&self) -> Look {
        let mut look = Look::default();
        for (at, path) in self.folders.iter().enumerate() {
            let names = Folder::open(path).and_then(|folder| Ok((folder.names(ENTRIES_LIMIT)?, folder)));
            match names {
                Ok((Some(names), folder)) => {
                    for name in names {
                        look.entry(&folder, path, at, name, !self.keys.is_empty());
                    }
                }
                Ok((None, _)) => {
                    let reason = format!("has over {ENTRIES_LIMIT} entries, and was not read");
                    look.unusable.push(Unusable { path: path.clone(), reason });
                    look.unread.push(path.clone());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    look.unusable
                        .push(Unusable { path: path.clone(), reason: format!("cannot be read: {error}") });
                    look.unread.push(path.clone());
                }
            }
        }
        look
    }

    /// Copies a candidate, and answers it if it did not change meanwhile and may be used.
    ///
    /// # Errors
    /// Says in a sentence why it is not used.
    pub(crate) fn take(&self, candidate: &Candidate, store: &Path) -> Result<Found, String> {
        let folder = Folder::open(&self.folders[candidate.folder]).map_err(|error| look::said(&error))?;
        let name = candidate.name.to_str().ok_or("its name is not UTF-8")?;
        let own = private_folder("plugin-", store)
            // Without the name that was tried, which is another each time.
            .map_err(|error| format!("{NOT_COPIED} to {}: {}", store.display(), error.kind()))?;
        let copy = own.path().join(name);
        let node = folder.node(Path::new(name)).map_err(|error| look::said(&error))?;
        let (digest, manifest, kind, stem) = match node {
            Node::File(file, metadata) => {
                let stem = Path::new(name).file_stem().and_then(OsStr::to_str).unwrap_or_default().to_owned();
                check_name(&stem).map_err(|why| format!("its name without the extension {why}"))?;
                let digest = copy::file(file, look::is_executable(&metadata), &copy)?;
                (digest, None, look::kind_of(name).unwrap_or("process").to_owned(), stem)
            }
            Node::Folder(below) => {
                let digest = copy::folder(&below, &copy)?;
                // Of the copy, so that what was read is what the digest is of.
                let manifest = ManifestFile::parse(&copy::text(&copy.join(MANIFEST))?)?;
                let kind = manifest.kind.clone();
                (digest, Some(manifest), kind, String::new())
            }
            Node::Other => return Err(NO_FILE.into()),
        };
        let again = look::fingerprint(&folder, &candidate.name, !self.keys.is_empty())?;
        if again.is_none_or(|(fingerprint, _)| fingerprint != candidate.fingerprint) {
            return Err(CHANGED.into());
        }
        if self.allowed.as_ref().is_some_and(|allowed| !allowed.contains(&digest)) {
            return Err(format!("its digest {digest} is not among those allowed"));
        }
        let comment = match &*self.keys {
            [] => None,
            keys => {
                let signed = if copy.is_dir() { Signed::Folder(digest) } else { Signed::File(&copy) };
                Some(signature::check(keys, &folder, &candidate.name, &signed)?)
            }
        };
        let inner = Arc::new(Inner {
            path: candidate.path.as_path().into(),
            copy,
            kind,
            digest,
            precedence: candidate.precedence(),
            manifest,
            stem,
            comment,
            _store: own,
        });
        Ok(Found(inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_since_it_was_seen_is_not_taken() {
        let (root, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let path = root.path().join("tool.wasm");
        std::fs::write(&path, "half").unwrap();
        let discovery = PluginDiscovery::new().folder(root.path());
        let look = discovery.look();
        assert!(discovery.take(&look.candidates[0], store.path()).is_ok());
        std::fs::write(&path, "half, and more").unwrap();
        assert_eq!(discovery.take(&look.candidates[0], store.path()).unwrap_err(), CHANGED);
    }
}
