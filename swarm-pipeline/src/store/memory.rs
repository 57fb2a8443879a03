use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{BlobKey, CheckpointStore, Record, RunId, RunLog, check_records};
use crate::error::{Error, ErrorKind, Result};

/// Keeps runs in memory: for tests, and for work that need not survive the process.
///
/// Clones share their contents, so a clone that outlives an engine plays the part of the disk that outlives a crash.
#[derive(Clone, Default)]
pub struct MemoryStore(Arc<Mutex<Shelf>>);

#[derive(Default)]
struct Shelf {
    runs: BTreeMap<RunId, MemoryRun>,
    blobs: HashMap<BlobKey, Vec<u8>>,
}

#[derive(Default)]
struct MemoryRun {
    records: Vec<Record>,
    /// The token of the last writer that appended something.
    token: u64,
    has_writer: bool,
}

impl MemoryStore {
    /// Makes an empty store.
    pub fn new() -> Self {
        MemoryStore::default()
    }

    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        // Nothing under the lock can be left half changed by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shelf = self.shelf();
        f.debug_struct("MemoryStore")
            .field("runs", &shelf.runs.len())
            .field("blobs", &shelf.blobs.len())
            .finish()
    }
}

#[async_trait]
impl CheckpointStore for MemoryStore {
    async fn acquire(&self, run: &RunId) -> Result<Box<dyn RunLog>> {
        let mut shelf = self.shelf();
        let kept = shelf.runs.entry(run.clone()).or_default();
        if kept.has_writer {
            return Err(busy(run));
        }
        kept.has_writer = true;
        Ok(Box::new(MemoryLog {
            store: self.clone(),
            run: run.clone(),
            token: kept.token + 1,
            records: kept.records.clone(),
        }))
    }

    async fn read(&self, run: &RunId) -> Result<Vec<Record>> {
        Ok(self.shelf().runs.get(run).map(|kept| kept.records.clone()).unwrap_or_default())
    }

    async fn list(&self) -> Result<Vec<RunId>> {
        Ok(self.shelf().runs.keys().cloned().collect())
    }

    async fn delete(&self, run: &RunId) -> Result<()> {
        let mut shelf = self.shelf();
        if shelf.runs.get(run).is_some_and(|kept| kept.has_writer) {
            return Err(busy(run));
        }
        shelf.runs.remove(run);
        shelf.blobs.retain(|key, _| !matches!(key, BlobKey::Artifact { run: of, .. } if of == run));
        Ok(())
    }

    async fn put_blob(&self, key: &BlobKey, bytes: &[u8]) -> Result<()> {
        key.check()?;
        key.check_contents(bytes)?;
        self.shelf().blobs.insert(key.clone(), bytes.to_vec());
        Ok(())
    }

    async fn get_blob(&self, key: &BlobKey) -> Result<Option<Vec<u8>>> {
        key.check()?;
        Ok(self.shelf().blobs.get(key).cloned())
    }
}

struct MemoryLog {
    store: MemoryStore,
    run: RunId,
    token: u64,
    records: Vec<Record>,
}

#[async_trait]
impl RunLog for MemoryLog {
    fn token(&self) -> u64 {
        self.token
    }

    fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    async fn append(&mut self, records: &[Record]) -> Result<()> {
        let mut shelf = self.store.shelf();
        let kept = shelf.runs.entry(self.run.clone()).or_default();
        check_records(&self.run, kept.records.len() as u64, records)?;
        if !records.is_empty() {
            kept.token = self.token;
            kept.records.extend_from_slice(records);
        }
        Ok(())
    }
}

impl Drop for MemoryLog {
    fn drop(&mut self) {
        if let Some(kept) = self.store.shelf().runs.get_mut(&self.run) {
            kept.has_writer = false;
        }
    }
}

fn busy(run: &RunId) -> Error {
    Error::new(ErrorKind::RunBusy, format!("run {run} has a writer")).in_run(run)
}
