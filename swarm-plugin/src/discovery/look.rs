//! Telling what is a plugin from names, sizes, times and the first bytes.

use std::collections::hash_map::DefaultHasher;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata};
use std::hash::{Hash, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::Unusable;
use super::beneath::{Folder, Node};

/// Entries of one folder, and files of one plugin.
pub(super) const ENTRIES_LIMIT: usize = 10_000;
const DEPTH_LIMIT: usize = 16;
pub(super) const MANIFEST: &str = "plugin.toml";
pub(super) const NO_FILE: &str = "it is a pipe, a socket or a device, and was not opened";

/// A plugin as far as it can be told without reading it.
#[derive(Debug, Clone)]
pub(crate) struct Candidate {
    pub(crate) path: PathBuf,
    pub(super) folder: usize,
    pub(super) name: OsString,
    /// Another, once anything of it changed: names, sizes, times, modes.
    pub(crate) fingerprint: u64,
    /// When something of it changed last, by the clock of the file system.
    pub(crate) changed: SystemTime,
}

impl Candidate {
    /// The number of its folder, from 1. 0 is what is registered in code.
    pub(crate) fn precedence(&self) -> u32 {
        u32::try_from(self.folder).map_or(u32::MAX, |at| at.saturating_add(1))
    }

    #[cfg(test)]
    pub(crate) fn fake(name: &str, fingerprint: u64, changed: SystemTime) -> Candidate {
        Candidate { path: name.into(), folder: 0, name: name.into(), fingerprint, changed }
    }
}

/// What one look at the folders gave.
#[derive(Debug, Default)]
pub(crate) struct Look {
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) unusable: Vec<Unusable>,
    /// Folders that could not be read, so that nothing is known of what stands there.
    pub(crate) unread: Vec<PathBuf>,
}

impl Look {
    pub(super) fn entry(&mut self, folder: &Folder, root: &Path, at: usize, name: OsString, signed: bool) {
        let bytes = name.as_encoded_bytes();
        // Hidden, or what editors and downloads leave beside the file itself.
        let passing = [&b"~"[..], b".tmp", b".part", b".swp"].iter().any(|end| bytes.ends_with(end));
        if bytes.starts_with(b".") || passing {
            return;
        }
        let path = root.join(&name);
        match fingerprint(folder, &name, signed) {
            Ok(Some((fingerprint, changed))) => {
                self.candidates.push(Candidate { path, folder: at, name, fingerprint, changed });
            }
            Ok(None) => {}
            Err(reason) => self.unusable.push(Unusable { path, reason }),
        }
    }
}

/// What an entry looks like from outside, with its signature where it has to be `signed`, and when it changed last; `None` if
/// it is no plugin.
pub(super) fn fingerprint(
    folder: &Folder,
    name: &OsStr,
    signed: bool,
) -> Result<Option<(u64, SystemTime)>, String> {
    let mut files = match folder.node(Path::new(name)) {
        Ok(Node::File(mut file, metadata)) => {
            if name.to_str().and_then(kind_of).is_none() {
                if !starts_like_a_program(&mut file).map_err(|error| said(&error))? {
                    return Ok(None);
                }
                if !is_executable(&metadata) {
                    return Err("it begins like a program and is not executable".into());
                }
            }
            vec![(PathBuf::new(), metadata)]
        }
        Ok(Node::Folder(below)) => {
            match below.node(Path::new(MANIFEST)) {
                Ok(Node::File(..)) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(format!("its plugin.toml: {}", said(&error))),
                Ok(_) => return Err("its plugin.toml is not a file".into()),
            }
            files(&below)?
        }
        Ok(Node::Other) => return Err(NO_FILE.into()),
        // It was there when the names were read.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(said(&error)),
    };
    if signed {
        let beside = super::signature::beside(name);
        if let Ok(Node::File(_, metadata)) = folder.node(Path::new(&beside)) {
            files.push((beside.into(), metadata));
        }
    }
    let mut hasher = DefaultHasher::new();
    let mut changed = SystemTime::UNIX_EPOCH;
    for (path, metadata) in files {
        let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        changed = changed.max(modified);
        (path, metadata.len(), modified, is_executable(&metadata)).hash(&mut hasher);
        #[cfg(unix)]
        {
            use std::os::unix::fs::MetadataExt;
            (metadata.ino(), metadata.ctime(), metadata.ctime_nsec()).hash(&mut hasher);
        }
    }
    Ok(Some((hasher.finish(), changed)))
}

/// All files below, in the order of their paths.
pub(super) fn files(folder: &Folder) -> Result<Vec<(PathBuf, Metadata)>, String> {
    let mut files = Vec::new();
    let mut left = vec![PathBuf::new()];
    while let Some(path) = left.pop() {
        let sub = if path.as_os_str().is_empty() { Path::new(".") } else { &path };
        let node = folder.node(sub).map_err(|error| format!("{}: {}", path.display(), said(&error)))?;
        match node {
            Node::File(_, metadata) => files.push((path, metadata)),
            Node::Other => return Err(format!("{}: {NO_FILE}", path.display())),
            Node::Folder(_) if path.components().count() > DEPTH_LIMIT => {
                return Err(format!("it has folders over {DEPTH_LIMIT} levels deep"));
            }
            Node::Folder(below) => {
                let room = ENTRIES_LIMIT.saturating_sub(files.len() + left.len());
                let names = below.names(room).map_err(|error| said(&error))?;
                let names = names.ok_or_else(|| format!("it has over {ENTRIES_LIMIT} files"))?;
                left.extend(names.into_iter().map(|name| path.join(name)));
            }
        }
    }
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(files)
}

/// Kinds that the name alone tells.
pub(super) fn kind_of(name: &str) -> Option<&'static str> {
    match Path::new(name).extension()?.to_str()? {
        "wasm" => Some("wasm"),
        "so" | "dylib" | "dll" => Some("native"),
        _ => None,
    }
}

#[cfg(unix)]
pub(super) fn is_executable(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o111 != 0
}

#[cfg(not(unix))]
pub(super) fn is_executable(_metadata: &Metadata) -> bool {
    true
}

/// A `#!`, or what programs of the known systems begin with.
fn starts_like_a_program(file: &mut File) -> io::Result<bool> {
    let mut start = Vec::new();
    file.take(4).read_to_end(&mut start)?;
    Ok(start.starts_with(b"#!")
        || start.starts_with(b"MZ")
        || [b"\x7fELF", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe"].iter().any(|magic| start == *magic))
}

/// Words for what the system answers to a path that leads out, or in circles.
pub(super) fn said(error: &io::Error) -> String {
    #[cfg(unix)]
    if let Some(code) = error.raw_os_error() {
        let code = rustix::io::Errno::from_raw_os_error(code);
        if code == rustix::io::Errno::XDEV {
            return "it leads out of its folder".into();
        }
        if code == rustix::io::Errno::LOOP {
            return "it is a link that cannot be followed".into();
        }
    }
    format!("it cannot be read: {error}")
}
