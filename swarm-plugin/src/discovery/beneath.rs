//! Opening what is below a folder, and nothing else, whatever links are put there meanwhile.

use std::ffi::OsString;
use std::fs::{File, Metadata};
use std::io;
use std::path::Path;

/// What stands at a path.
pub(super) enum Node {
    File(File, Metadata),
    Folder(Folder),
    /// A pipe, a socket, a device. It was not opened.
    Other,
}

pub(super) use system::Folder;

#[cfg(any(target_os = "linux", target_os = "android"))]
mod system {
    use std::os::fd::{AsRawFd, OwnedFd};
    use std::os::unix::ffi::OsStringExt;
    use std::path::Component;

    use rustix::fs::{Dir, FileType, Mode, OFlags, ResolveFlags, fstat, open, openat, openat2};
    use rustix::io::Errno;

    use super::*;

    /// An open folder.
    pub(in crate::discovery) struct Folder(OwnedFd);

    impl Folder {
        /// Opens a folder that the application named. It may be a link.
        pub(in crate::discovery) fn open(path: &Path) -> io::Result<Folder> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(Folder(open(path, flags, Mode::empty())?))
        }

        /// Opens what stands at a path below. Links that stay below are followed.
        pub(in crate::discovery) fn node(&self, path: &Path) -> io::Result<Node> {
            // The place is taken hold of first, and opened once it is known to be a file: to open a device does
            // something, and to open a pipe waits.
            let place = self.place(path)?;
            let kind = FileType::from_raw_mode(fstat(&place)?.st_mode);
            let flags = OFlags::RDONLY | OFlags::CLOEXEC;
            let again = format!("/proc/self/fd/{}", place.as_raw_fd());
            match kind {
                FileType::RegularFile => {
                    let file = File::from(open(again, flags, Mode::empty())?);
                    let metadata = file.metadata()?;
                    Ok(Node::File(file, metadata))
                }
                FileType::Directory => Ok(Node::Folder(Folder(open(again, flags, Mode::empty())?))),
                _ => Ok(Node::Other),
            }
        }

        fn place(&self, path: &Path) -> Result<OwnedFd, Errno> {
            const TRIES: usize = 8;
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
            for _ in 0..TRIES {
                match openat2(&self.0, path, flags, Mode::empty(), resolve) {
                    // Something above was renamed meanwhile, so that the system is not sure.
                    Err(Errno::AGAIN) => {}
                    // An old system, or one that forbids it.
                    Err(Errno::NOSYS | Errno::PERM) => return self.walk(path),
                    outcome => return outcome,
                }
            }
            Err(Errno::AGAIN)
        }

        /// The same without following any link.
        fn walk(&self, path: &Path) -> Result<OwnedFd, Errno> {
            let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
            let mut at = self.0.try_clone().map_err(|_| Errno::MFILE)?;
            for part in path.components() {
                let Component::Normal(part) = part else { return Err(Errno::XDEV) };
                at = openat(&at, part, flags, Mode::empty())?;
                if FileType::from_raw_mode(fstat(&at)?.st_mode) == FileType::Symlink {
                    return Err(Errno::LOOP);
                }
            }
            Ok(at)
        }

        /// The names in it, in order. Stops after `limit` of them, which `None` tells.
        pub(in crate::discovery) fn names(&self, limit: usize) -> io::Result<Option<Vec<OsString>>> {
            let mut names = Vec::new();
            for entry in Dir::read_from(&self.0)? {
                let name = entry?.file_name().to_bytes().to_vec();
                if name != b"." && name != b".." {
                    if names.len() == limit {
                        return Ok(None);
                    }
                    names.push(OsString::from_vec(name));
                }
            }
            names.sort();
            Ok(Some(names))
        }
    }
}

/// Other systems have no call that resolves below a folder: no link is followed, but one that is put in place between
/// the look and the opening is.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod system {
    use std::path::{Component, PathBuf};

    use super::*;

    /// The path of a folder.
    pub(in crate::discovery) struct Folder(PathBuf);

    impl Folder {
        /// Opens a folder that the application named. It may be a link.
        pub(in crate::discovery) fn open(path: &Path) -> io::Result<Folder> {
            path.read_dir()?;
            Ok(Folder(path.canonicalize()?))
        }

        /// Opens what stands at a path below.
        pub(in crate::discovery) fn node(&self, path: &Path) -> io::Result<Node> {
            let mut at = self.0.clone();
            for part in path.components() {
                let Component::Normal(part) = part else {
                    return Err(io::Error::other("the path leads out of the folder"));
                };
                at.push(part);
                if at.symlink_metadata()?.is_symlink() {
                    return Err(io::Error::other("links are not followed on this system"));
                }
            }
            let metadata = at.symlink_metadata()?;
            match metadata.file_type() {
                kind if kind.is_file() => {
                    let file = File::open(&at)?;
                    let metadata = file.metadata()?;
                    Ok(Node::File(file, metadata))
                }
                kind if kind.is_dir() => Ok(Node::Folder(Folder(at))),
                _ => Ok(Node::Other),
            }
        }

        /// The names in it, in order. Stops after `limit` of them, which `None` tells.
        pub(in crate::discovery) fn names(&self, limit: usize) -> io::Result<Option<Vec<OsString>>> {
            let mut names = Vec::new();
            for entry in self.0.read_dir()? {
                if names.len() == limit {
                    return Ok(None);
                }
                names.push(entry?.file_name());
            }
            names.sort();
            Ok(Some(names))
        }
    }
}
