//! Where runs are kept: the trait, and the two stores that come with the crate.

mod file;
mod memory;

pub use file::{Durability, FileStore, FileStoreOptions};
pub use memory::MemoryStore;

use std::fmt;
use std::str::FromStr;

use async_trait::async_trait;

use crate::digest::sha256;
use crate::error::{Error, ErrorKind, Result};

/// Keeps the event log of each run, and the blobs beside it.
///
/// Implemented by [`FileStore`] and [`MemoryStore`], and by you for any other place; the
/// conformance kit (feature `testing`) tells whether an implementation keeps the contract:
///
/// - A run's log is a sequence of [`Record`]s numbered 0, 1, 2, … An [`append`](RunLog::append) that
///   answered `Ok` is never lost, reordered or changed; one that answered `Err` or was cut off by a
///   crash leaves a prefix of its records, each whole.
/// - One writer a run: while a [`RunLog`] lives, a second [`acquire`](CheckpointStore::acquire) answers
///   [`ErrorKind::RunBusy`], or it fences the first, whose appends then answer
///   [`ErrorKind::Fenced`] and write nothing. Dropping the `RunLog` gives the place up, and so does
///   the death of the process.
/// - Methods may be cancelled at any await. The engine never calls two methods of one `RunLog` at once.
/// - The store does not look into a record's body.
#[async_trait]
pub trait CheckpointStore: Send + Sync + 'static {
    /// Takes the one writer's place of `run`, making an empty log if there is none, and reads what is there.
    ///
    /// # Errors
    /// [`ErrorKind::RunBusy`] while another writer lives; [`ErrorKind::Corrupt`] where the log is damaged
    /// before its last record; [`ErrorKind::NewerFormat`]; [`ErrorKind::Io`].
    async fn acquire(&self, run: &RunId) -> Result<Box<dyn RunLog>>;

    /// Reads the log of `run` without taking the writer's place; an empty list if there is no such run.
    ///
    /// # Errors
    /// As [`acquire`](CheckpointStore::acquire), but never `RunBusy`. A record being written at this moment is left out.
    async fn read(&self, run: &RunId) -> Result<Vec<Record>>;

    /// The ids of all runs, in ascending order.
    ///
    /// # Errors
    /// [`ErrorKind::Io`].
    async fn list(&self) -> Result<Vec<RunId>>;

    /// Removes the log of `run` and its artifacts. A run that does not exist is no error.
    ///
    /// # Errors
    /// [`ErrorKind::RunBusy`] while a writer lives; [`ErrorKind::Io`].
    async fn delete(&self, run: &RunId) -> Result<()>;

    /// Keeps `bytes` under `key`, whole or not at all, in place of what was there.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] where the key is not 64 lower-case hex digits or not an artifact's
    /// digest; [`ErrorKind::Io`].
    async fn put_blob(&self, key: &BlobKey, bytes: &[u8]) -> Result<()>;

    /// Answers what was last kept under `key`.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] where the bytes are not those that were kept; [`ErrorKind::InvalidInput`] where
    /// the key is not 64 lower-case hex digits; [`ErrorKind::Io`].
    async fn get_blob(&self, key: &BlobKey) -> Result<Option<Vec<u8>>>;
}

/// The writer's place of one run, until it is dropped.
#[async_trait]
pub trait RunLog: Send {
    /// Grows with every [`acquire`](CheckpointStore::acquire) of the run that wrote something: the fencing token.
    fn token(&self) -> u64;

    /// The records that were in the log when it was acquired. The second call answers an empty list.
    fn take_records(&mut self) -> Vec<Record>;

    /// Appends `records`, whose numbers follow those in the log, and answers when they are as durable as the store promises.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`] when a later writer took the place; [`ErrorKind::Poisoned`] after a failed sync;
    /// [`ErrorKind::InvalidInput`] when the numbers do not follow or a body is not an object in one line, and
    /// then nothing is written; [`ErrorKind::Io`].
    async fn append(&mut self, records: &[Record]) -> Result<()>;

    /// How many dispatches the engine should put into one append: 1 where an append is cheap,
    /// more where it waits for a disk or a network.
    fn batch(&self) -> usize {
        1
    }
}

/// One entry of a run's log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its number in the run, from 0.
    pub seq: u64,
    /// One JSON object in one line. Its meaning is the engine's.
    pub body: String,
}

/// What a blob is kept under.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum BlobKey {
    /// A large output of `run`, by the SHA-256 of its bytes in lower-case hex. Removed with the run.
    Artifact {
        /// The run whose step made it.
        run: RunId,
        /// 64 lower-case hex digits.
        sha256: String,
    },
    /// An output kept for reuse by later runs, by the hash of everything it was made from.
    Reuse {
        /// 64 lower-case hex digits.
        key: String,
    },
    /// What was learnt about the pipeline of this name: how long its steps take.
    Durations {
        /// 64 lower-case hex digits, the hash of the pipeline's name.
        pipeline: String,
    },
}

impl BlobKey {
    /// What kind of thing it is, in one word that suits a folder or a table: a store need not know the kinds there are.
    pub fn kind(&self) -> &'static str {
        match self {
            BlobKey::Artifact { .. } => "artifacts",
            BlobKey::Reuse { .. } => "reuse",
            BlobKey::Durations { .. } => "durations",
        }
    }

    /// The run that it belongs to and is removed with, if it does.
    pub fn run(&self) -> Option<&RunId> {
        match self {
            BlobKey::Artifact { run, .. } => Some(run),
            BlobKey::Reuse { .. } | BlobKey::Durations { .. } => None,
        }
    }

    /// What tells it from others of its kind and run: 64 lower-case hex digits, once [`check`](BlobKey::check) has said so.
    pub fn digest(&self) -> &str {
        match self {
            BlobKey::Artifact { sha256: digits, .. }
            | BlobKey::Reuse { key: digits }
            | BlobKey::Durations { pipeline: digits } => digits,
        }
    }

    /// What a store asks first: the digits become a file name, so nothing but digits may pass.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`].
    pub fn check(&self) -> Result<()> {
        let digits = self.digest();
        if digits.len() == 64 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(());
        }
        let message = format!("the {} key {digits:?} is not 64 lower-case hex digits", self.kind());
        Err(Error::new(ErrorKind::InvalidInput, message))
    }

    /// What a store asks before it keeps `bytes`: an artifact has the digest that it is named by.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`].
    pub fn check_contents(&self, bytes: &[u8]) -> Result<()> {
        match self {
            BlobKey::Artifact { run, sha256: digest } if sha256(bytes) != *digest => {
                let message = format!("artifact {digest} does not have that digest");
                Err(Error::new(ErrorKind::InvalidInput, message).in_run(run))
            }
            _ => Ok(()),
        }
    }
}

/// Checks that `records` may follow the record before `next`.
fn check_records(run: &RunId, next: u64, records: &[Record]) -> Result<()> {
    for (expected, record) in (next..).zip(records) {
        let body = record.body.as_bytes();
        let why = if record.seq != expected {
            format!("stands where record {expected} belongs")
        } else if body.first() != Some(&b'{') || body.last() != Some(&b'}') {
            "is not an object".to_owned()
        } else if body.contains(&b'\n') {
            "is not one line".to_owned()
        } else {
            continue;
        };
        return Err(Error::new(ErrorKind::InvalidInput, format!("record {} {why}", record.seq)).in_run(run));
    }
    Ok(())
}

/// The name of a run: 1 to 128 characters of `A-Z a-z 0-9 . _ - :`, not starting with a dot.
///
/// It becomes a file name, so it cannot hold a slash. Ids that differ only in case are different runs;
/// on a file system that ignores case they must not be mixed.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RunId(String);

impl RunId {
    /// Checks and takes `id`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] names the character that is not allowed.
    pub fn new(id: impl Into<String>) -> Result<Self> {
        let id = id.into();
        let fail = |why: String| Err(Error::new(ErrorKind::InvalidInput, format!("run id {id:?} {why}")));
        if id.is_empty() {
            return fail("is empty".into());
        }
        if id.len() > 128 {
            return fail(format!("has {} bytes; 128 are allowed", id.len()));
        }
        if id.starts_with('.') {
            return fail("starts with a dot".into());
        }
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | ':');
        if let Some(bad) = id.chars().find(|c| !allowed(*c)) {
            return fail(format!("contains {bad:?}; letters, digits and . _ - : are allowed"));
        }
        Ok(RunId(id))
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for RunId {
    type Err = Error;

    fn from_str(id: &str) -> Result<Self> {
        RunId::new(id)
    }
}

impl TryFrom<&str> for RunId {
    type Error = Error;

    fn try_from(id: &str) -> Result<Self> {
        RunId::new(id)
    }
}

impl TryFrom<String> for RunId {
    type Error = Error;

    fn try_from(id: String) -> Result<Self> {
        RunId::new(id)
    }
}
