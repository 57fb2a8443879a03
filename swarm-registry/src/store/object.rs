use std::fmt;
use std::path::{Path as FsPath, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures::TryStreamExt;
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{Error as ObjectError, ObjectStore, ObjectStoreExt, PutMode, PutOptions};

use super::VersionStore;
use crate::error::{Error, Result};

/// Any [`ObjectStore`] with put-if-absent as a [`VersionStore`]: memory, a folder, S3, GCS, Azure.
///
/// [`PutMode::Create`](https://docs.rs/object_store/latest/object_store/enum.PutMode.html#variant.Create) is what it
/// rests on: a hard link locally, a conditional request elsewhere. A store that ignores the condition breaks the
/// registry's promises; the conformance kit finds it.
#[derive(Clone)]
pub struct ObjectVersionStore {
    objects: Arc<dyn ObjectStore>,
    prefix: Path,
    /// Of this machine, where it is one.
    folder: Option<PathBuf>,
}

/// How old a file of a write is that nobody goes on with.
const ABANDONED: Duration = Duration::from_secs(3600);

impl ObjectVersionStore {
    /// Keeps a registry in `objects`, under the path `prefix`, which may be empty.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) where `prefix` is no path.
    pub fn new(objects: Arc<dyn ObjectStore>, prefix: &str) -> Result<Self> {
        let prefix = Path::parse(prefix)
            .map_err(|error| Error::input(format!("{prefix:?} is no path in a store")).because(error))?;
        Ok(ObjectVersionStore { objects, prefix, folder: None })
    }

    /// Keeps a registry in memory, until the last clone is dropped.
    pub fn memory() -> Self {
        ObjectVersionStore { objects: Arc::new(InMemory::new()), prefix: Path::default(), folder: None }
    }

    /// Keeps a registry in a folder of this machine, which is made if it is not there. File and folder are synced with
    /// every write. Any number of processes may use it at once.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where the folder cannot be made.
    pub fn folder(path: impl AsRef<FsPath>) -> Result<Self> {
        let path = path.as_ref();
        let fail = |error| Error::io(format!("could not open the folder {}", path.display()), error);
        make_folder(path).map_err(fail)?;
        let objects = LocalFileSystem::new_with_prefix(path).map_err(|error| fail(error.into()))?;
        let folder = Some(path.canonicalize().map_err(fail)?);
        Ok(ObjectVersionStore {
            objects: Arc::new(objects.with_fsync(true)),
            prefix: Path::default(),
            folder,
        })
    }

    fn at(&self, name: &str) -> Path {
        self.prefix.parts().chain(Path::from(name).parts()).collect()
    }
}

/// Makes the folder and those above it, and syncs it and where each was made: else a crash can take all of it away. Also
/// where they are there already, for whoever made them can have been killed before that.
fn make_folder(path: &FsPath) -> std::io::Result<()> {
    let named: Vec<&FsPath> = path.ancestors().take_while(|folder| !folder.as_os_str().is_empty()).collect();
    let missing = named.iter().take_while(|folder| !folder.exists()).count();
    std::fs::create_dir_all(path)?;
    sync(path)?;
    for (at, folder) in named.into_iter().enumerate() {
        match sync_parent(folder) {
            Err(error) if at < missing => return Err(error),
            // It can be that nobody may read a folder which others made.
            _ => {}
        }
    }
    Ok(())
}

/// Makes it durable that `path` is in its folder.
pub(crate) fn sync_parent(path: &FsPath) -> std::io::Result<()> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync(parent.unwrap_or(FsPath::new(".")))
}

/// The files in these folders of `root` whose names end in `#` and a number, which is how `object_store` calls what it writes
/// before it has its place, and that are older by an hour than the newest change to `snapshots`, which a compaction has just
/// made: that is the file system's own time, wherever it is mounted from.
fn abandoned(root: &FsPath) -> std::io::Result<Vec<String>> {
    let mut found = Vec::new();
    let now = match std::fs::metadata(root.join("snapshots")) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        snapshots => snapshots?.modified()?,
    };
    for folder in ["artifacts", "log", "snapshots"] {
        let entries = match std::fs::read_dir(root.join(folder)) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            let file = entry.file_name();
            let Some((file, true)) = file.to_str().map(|name| (name, is_part(name))) else { continue };
            match entry.metadata().and_then(|entry| entry.modified()) {
                Ok(at) => found.push((format!("{folder}/{file}"), at)),
                // Its write ended meanwhile.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }
    let old = |at| now.duration_since(at).is_ok_and(|age| age > ABANDONED);
    let mut names: Vec<String> = found.into_iter().filter(|(_, at)| old(*at)).map(|(name, _)| name).collect();
    names.sort_unstable();
    Ok(names)
}

fn is_part(name: &str) -> bool {
    name.rsplit_once('#').is_some_and(|(_, n)| !n.is_empty() && n.bytes().all(|byte| byte.is_ascii_digit()))
}

fn sync(folder: &FsPath) -> std::io::Result<()> {
    // Elsewhere folders cannot be opened, or need not be synced.
    if cfg!(unix) { std::fs::File::open(folder)?.sync_all() } else { Ok(()) }
}

fn failed(verb: &str, name: &str, error: impl std::error::Error + Send + Sync + 'static) -> Error {
    Error::store(format!("could not {verb} {name}")).at_object(name).because(error)
}

#[async_trait]
impl VersionStore for ObjectVersionStore {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let read = async { self.objects.get(&self.at(name)).await?.bytes().await };
        match read.await {
            Ok(bytes) => Ok(Some(bytes)),
            Err(ObjectError::NotFound { .. }) => Ok(None),
            Err(error) => Err(failed("read", name, error)),
        }
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool> {
        let options = PutOptions::from(PutMode::Create);
        match self.objects.put_opts(&self.at(name), bytes.into(), options).await {
            Ok(_) => Ok(true),
            Err(ObjectError::AlreadyExists { .. } | ObjectError::Precondition { .. }) => Ok(false),
            Err(error) => Err(failed("make", name, error)),
        }
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        let put = self.objects.put(&self.at(name), bytes.into()).await;
        put.map(drop).map_err(|error| failed("write", name, error))
    }

    async fn list(&self, folder: &str, after: &str) -> Result<Vec<String>> {
        let place = self.at(folder);
        let objects = match after {
            "" => self.objects.list(Some(&place)),
            _ => self.objects.list_with_offset(Some(&place), &self.at(after)),
        };
        let listed = objects.map_ok(|object| object.location).try_collect::<Vec<_>>();
        let listed = listed.await.map_err(|error| failed("list", folder, error))?;
        let mut names: Vec<String> = listed
            .iter()
            .filter_map(|path| Some(format!("{folder}/{}", path.prefix_match(&place)?.next()?.as_ref())))
            // A server that does not know where to begin begins at the beginning: azurite, for example.
            .filter(|name| name.as_str() > after)
            .collect();
        names.sort_unstable();
        Ok(names)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        if let (Some(folder), true) = (&self.folder, is_part(name)) {
            // No name of an object.
            return match tokio::fs::remove_file(folder.join(name)).await {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    Err(failed("remove", name, error))
                }
                _ => Ok(()),
            };
        }
        match self.objects.delete(&self.at(name)).await {
            Ok(()) | Err(ObjectError::NotFound { .. }) => Ok(()),
            Err(error) => Err(failed("remove", name, error)),
        }
    }

    async fn leftovers(&self) -> Result<Vec<String>> {
        let Some(folder) = self.folder.clone() else { return Ok(Vec::new()) };
        let found = tokio::task::spawn_blocking(move || abandoned(&folder)).await;
        found.map_err(std::io::Error::from).flatten().map_err(|error| failed("list", "leftovers", error))
    }
}

impl fmt::Debug for ObjectVersionStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ObjectVersionStore({}/{})", self.objects, self.prefix)
    }
}
