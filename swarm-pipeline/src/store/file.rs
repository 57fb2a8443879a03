mod blob;
mod disk;
mod line;
mod log;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use self::disk::{LockedLog, Missing};
use self::log::FileLog;
use super::{BlobKey, CheckpointStore, Record, RunId, RunLog};
use crate::error::{Error, Result};

const LOG_SUFFIX: &str = ".jsonl";

/// Keeps runs in a folder of the local disk: the embedded default.
///
/// Each run is one file of JSON Lines, `<run>.jsonl`, which `jq` reads:
///
/// ```text
/// {"crc":"58707fb3","format":1,"kind":"swarm-pipeline run"}
/// {"crc":"ab8e2b25","seq":0,"token":1,"event":{"any":"object"}}
/// ```
///
/// Beside it lie the run's large outputs in `<run>.artifacts`, and for all runs together `reuse` and
/// `durations`. Clones share the folder and cost nothing.
///
/// # Guarantees
/// - A record is acknowledged when it is as durable as [`Durability`] says, and never lost after that.
/// - A line that a crash left half written is cut off when the run is acquired. Every other changed byte is
///   [`ErrorKind::Corrupt`](crate::ErrorKind::Corrupt), with file and offset, and nothing is cut.
/// - One writer a run, over all processes of the host, by a lock of the operating system that ends with the process.
/// - After a failed sync the writer answers [`ErrorKind::Poisoned`](crate::ErrorKind::Poisoned): what is on disk is unknown
///   until the run is acquired again. After a failed write, as on a full disk, it goes on from the last whole record.
///
/// # Not guaranteed
/// - Whole lines that are missing at the end of a log, as after restoring an old copy, cannot be told from
///   lines that were never written.
/// - The checksums find accidents, not somebody who computes them anew.
/// - Locks and syncs of network file systems keep what those systems promise, often less.
#[derive(Debug, Clone)]
pub struct FileStore(Arc<Folder>);

#[derive(Debug)]
struct Folder {
    dir: PathBuf,
    durability: Durability,
}

/// When a [`FileStore`] calls a record kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Durability {
    /// The operating system has it: it survives the death of the process, but not a power cut. About a microsecond a record.
    #[default]
    Process,
    /// The disk has it: it survives a power cut. A sync for each append, shared by the records in it.
    Power,
}

/// How to open a [`FileStore`].
#[derive(Debug, Clone, Default)]
#[must_use = "nothing is opened before `open`"]
pub struct FileStoreOptions {
    durability: Durability,
}

impl FileStoreOptions {
    /// Sets when a record counts as kept; [`Durability::Process`] if not set.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Opens the folder `dir`, making it and those above it if they are missing.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where the folder cannot be made, as where a file has its name.
    pub fn open(self, dir: impl AsRef<Path>) -> Result<FileStore> {
        let dir = dir.as_ref();
        let dir = std::path::absolute(dir).map_err(|error| Error::io("open the folder", dir, error))?;
        disk::create_dir(&dir, self.durability == Durability::Power)?;
        Ok(FileStore(Arc::new(Folder { dir, durability: self.durability })))
    }
}

impl FileStore {
    /// Opens the folder `dir` with [`Durability::Process`], making it if it is missing.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) where the folder cannot be made.
    ///
    /// # Examples
    /// ```
    /// use swarm_pipeline::{CheckpointStore, FileStore, Record, RunId};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> swarm_pipeline::Result<()> {
    /// # let dir = std::env::temp_dir().join(format!("swarm-doc-{}", std::process::id()));
    /// let store = FileStore::open(&dir)?;
    /// let run = RunId::new("2026-11-21")?;
    /// let mut log = store.acquire(&run).await?;
    /// log.append(&[Record { seq: 0, body: r#"{"any":"object"}"#.into() }]).await?;
    /// assert_eq!(store.read(&run).await?.len(), 1);
    /// # drop(log);
    /// # store.delete(&run).await?;
    /// # std::fs::remove_dir(&dir).ok();
    /// # Ok(())
    /// # }
    /// ```
    pub fn open(dir: impl AsRef<Path>) -> Result<FileStore> {
        FileStore::options().open(dir)
    }

    /// Starts choosing how to open a store.
    pub fn options() -> FileStoreOptions {
        FileStoreOptions::default()
    }

    /// The folder, as an absolute path.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    async fn blocking<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Folder) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let folder = Arc::clone(&self.0);
        disk::blocking(move || job(&folder)).await
    }
}

#[async_trait]
impl CheckpointStore for FileStore {
    async fn acquire(&self, run: &RunId) -> Result<Box<dyn RunLog>> {
        let run = run.clone();
        let log = self.blocking(move |folder| FileLog::acquire(folder.log(&run), run, folder.durability));
        Ok(Box::new(log.await?))
    }

    async fn read(&self, run: &RunId) -> Result<Vec<Record>> {
        let run = run.clone();
        self.blocking(move |folder| Ok(log::read_log(&folder.log(&run), &run)?.records)).await
    }

    async fn list(&self) -> Result<Vec<RunId>> {
        self.blocking(|folder| folder.list()).await
    }

    async fn delete(&self, run: &RunId) -> Result<()> {
        let run = run.clone();
        self.blocking(move |folder| folder.delete(&run)).await
    }

    async fn put_blob(&self, key: &BlobKey, bytes: &[u8]) -> Result<()> {
        key.check()?;
        key.check_contents(bytes)?;
        let (key, bytes) = (key.clone(), bytes.to_vec());
        self.blocking(move |folder| blob::put(&folder.dir, &key, bytes, folder.durability)).await
    }

    async fn get_blob(&self, key: &BlobKey) -> Result<Option<Vec<u8>>> {
        key.check()?;
        let key = key.clone();
        self.blocking(move |folder| blob::get(&folder.dir, &key)).await
    }
}

impl Folder {
    fn log(&self, run: &RunId) -> PathBuf {
        self.dir.join(stem(run) + LOG_SUFFIX)
    }

    fn list(&self) -> Result<Vec<RunId>> {
        let fail = |error| Error::io("list the folder", &self.dir, error);
        let mut runs = Vec::new();
        for entry in fs::read_dir(&self.dir).map_err(fail)? {
            let entry = entry.map_err(fail)?;
            let name = entry.file_name();
            let run = name.to_str().and_then(|name| name.strip_suffix(LOG_SUFFIX)).and_then(run_of_stem);
            // A file that has gone since is no run any more, and what cannot be looked at is none.
            if let (Some(run), Ok(true)) = (run, entry.file_type().map(|kind| kind.is_file())) {
                runs.push(run);
            }
        }
        runs.sort_unstable();
        Ok(runs)
    }

    fn delete(&self, run: &RunId) -> Result<()> {
        let path = self.log(run);
        let artifacts = artifacts_dir(&self.dir, run);
        // Artifacts without a log are what a crash in the middle of a deletion leaves.
        let missing = if artifacts.is_dir() { Missing::Create } else { Missing::Leave };
        let Some(_lock) = LockedLog::open(&path, run, missing)? else {
            return Ok(());
        };
        fs::remove_file(&path).map_err(|error| Error::io("remove", &path, error).in_run(run))?;
        match fs::remove_dir_all(&artifacts) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("remove the folder", &artifacts, error).in_run(run));
            }
            _ => {}
        }
        if self.durability == Durability::Power { disk::sync_dir(&self.dir) } else { Ok(()) }
    }
}

fn artifacts_dir(dir: &Path, run: &RunId) -> PathBuf {
    dir.join(stem(run) + ".artifacts")
}

/// The run's id as part of a file name. A colon means something else in a file name of Windows.
fn stem(run: &RunId) -> String {
    if cfg!(windows) { run.as_str().replace(':', "%3A") } else { run.as_str().to_owned() }
}

fn run_of_stem(stem: &str) -> Option<RunId> {
    if cfg!(windows) { RunId::new(stem.replace("%3A", ":")).ok() } else { RunId::new(stem).ok() }
}

fn damaged(path: &Path, damage: line::Damage) -> Error {
    let message = format!("{} cannot be used from byte {}: {}", path.display(), damage.offset, damage.what);
    Error::new(damage.kind, message).at_path(path).at_offset(damage.offset as u64)
}
