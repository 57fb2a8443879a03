use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use async_trait::async_trait;

use crate::error::{Error, ErrorKind, Result};
use crate::store::{BlobKey, CheckpointStore, Record, RunId, RunLog};

/// What a [`FaultyStore`] does at the operation that was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// The operation answers [`ErrorKind::Io`] and changes nothing. Later ones work.
    Error,
    /// The process dies before the operation: it changes nothing, and everything fails from then on.
    Crash,
    /// The process dies after the operation: it is done, but nobody hears of it, and everything fails from then on.
    CrashAfter,
    /// The process dies within the operation: of an append the first half of its records is kept, one fewer
    /// where they are odd; every other operation changes nothing. Everything fails from then on.
    Torn,
}

impl Fault {
    /// Every fault, for a test that sweeps over them.
    pub const ALL: [Fault; 4] = [Fault::Error, Fault::Crash, Fault::CrashAfter, Fault::Torn];
}

/// Passes everything on to another store, and fails once at an operation of your choice.
///
/// Operations are the calls that may change something: `acquire`, `append`, `delete` and `put_blob`, counted
/// from 0 in the order in which they were made. Run once without a fault to learn how many there are, then once for each
/// number and each [`Fault`]; afterwards look at what the inner store holds.
///
/// A crash gives up the writer's place of the run it happens in, as the death of a process would. Clones share
/// the counter and the fault.
///
/// # Examples
/// ```
/// use swarm_pipeline::testing::{Fault, FaultyStore};
/// use swarm_pipeline::{CheckpointStore, MemoryStore, Record, RunId};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> swarm_pipeline::Result<()> {
/// let disk = MemoryStore::new();
/// let store = FaultyStore::failing_at(disk.clone(), 1, Fault::CrashAfter);
/// let run = RunId::new("release")?;
/// let mut log = store.acquire(&run).await?;
/// assert!(log.append(&[Record { seq: 0, body: "{}".into() }]).await.is_err());
/// assert_eq!(disk.read(&run).await?.len(), 1, "it is written, but was not acknowledged");
/// # Ok(())
/// # }
/// ```
pub struct FaultyStore<S>(Arc<Shared<S>>);

struct Shared<S> {
    inner: S,
    faults: Faults,
}

struct Faults {
    planned: Option<(u64, Fault)>,
    operations: AtomicU64,
    acknowledged: AtomicU64,
    crashed: AtomicBool,
}

/// What to do with one operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Plan {
    PassOn,
    Refuse,
    PassOnThenRefuse,
    PassOnHalf,
}

impl<S: CheckpointStore> FaultyStore<S> {
    /// Wraps `inner` and counts its operations; nothing fails.
    pub fn counting(inner: S) -> Self {
        FaultyStore::with_plan(inner, None)
    }

    /// Wraps `inner`; the operation with the number `operation`, counted from 0, meets `fault`.
    pub fn failing_at(inner: S, operation: u64, fault: Fault) -> Self {
        FaultyStore::with_plan(inner, Some((operation, fault)))
    }

    fn with_plan(inner: S, planned: Option<(u64, Fault)>) -> Self {
        let faults = Faults {
            planned,
            operations: AtomicU64::new(0),
            acknowledged: AtomicU64::new(0),
            crashed: AtomicBool::new(false),
        };
        FaultyStore(Arc::new(Shared { inner, faults }))
    }

    /// The store inside, which shows what outlived the fault.
    pub fn inner(&self) -> &S {
        &self.0.inner
    }

    /// How many operations were begun, those after a crash left out.
    pub fn operations(&self) -> u64 {
        self.0.faults.operations.load(Ordering::SeqCst)
    }

    /// How many operations answered `Ok`: the floor that a test asserts, lest it pass by doing nothing.
    pub fn acknowledged(&self) -> u64 {
        self.0.faults.acknowledged.load(Ordering::SeqCst)
    }

    /// Whether the fault was a crash and has happened.
    pub fn is_crashed(&self) -> bool {
        self.0.faults.crashed.load(Ordering::SeqCst)
    }
}

impl<S> Clone for FaultyStore<S> {
    fn clone(&self) -> Self {
        FaultyStore(Arc::clone(&self.0))
    }
}

impl<S: fmt::Debug> fmt::Debug for FaultyStore<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FaultyStore")
            .field("inner", &self.0.inner)
            .field("planned", &self.0.faults.planned)
            .field("operations", &self.0.faults.operations)
            .finish()
    }
}

impl Faults {
    fn begin(&self) -> Result<Plan> {
        self.check_alive()?;
        let number = self.operations.fetch_add(1, Ordering::SeqCst);
        let fault = match self.planned {
            Some((at, fault)) if at == number => fault,
            _ => return Ok(Plan::PassOn),
        };
        self.crashed.store(fault != Fault::Error, Ordering::SeqCst);
        Ok(match fault {
            Fault::Error | Fault::Crash => Plan::Refuse,
            Fault::CrashAfter => Plan::PassOnThenRefuse,
            Fault::Torn => Plan::PassOnHalf,
        })
    }

    fn check_alive(&self) -> Result<()> {
        if self.crashed.load(Ordering::SeqCst) { Err(injected()) } else { Ok(()) }
    }

    /// Counts what is answered, unless there was a crash while it was under way.
    fn end<T>(&self, answer: Result<T>) -> Result<T> {
        self.check_alive()?;
        self.acknowledged.fetch_add(u64::from(answer.is_ok()), Ordering::SeqCst);
        answer
    }

    async fn run<T>(&self, operation: impl Future<Output = Result<T>>) -> Result<T> {
        match self.begin()? {
            Plan::PassOn => self.end(operation.await),
            Plan::PassOnThenRefuse => operation.await.and_then(|_| Err(injected())),
            Plan::Refuse | Plan::PassOnHalf => Err(injected()),
        }
    }
}

fn injected() -> Error {
    Error::new(ErrorKind::Io, "a fault was injected")
}

#[async_trait]
impl<S: CheckpointStore> CheckpointStore for FaultyStore<S> {
    async fn acquire(&self, run: &RunId) -> Result<Box<dyn RunLog>> {
        let log = self.0.faults.run(self.0.inner.acquire(run)).await?;
        Ok(Box::new(FaultyLog { shared: Arc::clone(&self.0), token: log.token(), inner: Some(log) }))
    }

    async fn read(&self, run: &RunId) -> Result<Vec<Record>> {
        self.0.faults.check_alive()?;
        self.0.inner.read(run).await
    }

    async fn list(&self) -> Result<Vec<RunId>> {
        self.0.faults.check_alive()?;
        self.0.inner.list().await
    }

    async fn delete(&self, run: &RunId) -> Result<()> {
        self.0.faults.run(self.0.inner.delete(run)).await
    }

    async fn put_blob(&self, key: &BlobKey, bytes: &[u8]) -> Result<()> {
        self.0.faults.run(self.0.inner.put_blob(key, bytes)).await
    }

    async fn get_blob(&self, key: &BlobKey) -> Result<Option<Vec<u8>>> {
        self.0.faults.check_alive()?;
        self.0.inner.get_blob(key).await
    }
}

struct FaultyLog<S> {
    shared: Arc<Shared<S>>,
    token: u64,
    /// `None` after a crash, which gave the place up.
    inner: Option<Box<dyn RunLog>>,
}

impl<S: CheckpointStore> FaultyLog<S> {
    async fn pass_on(&mut self, records: &[Record]) -> Result<()> {
        match &mut self.inner {
            Some(log) => log.append(records).await,
            None => Err(injected()),
        }
    }
}

#[async_trait]
impl<S: CheckpointStore> RunLog for FaultyLog<S> {
    fn token(&self) -> u64 {
        self.token
    }

    fn take_records(&mut self) -> Vec<Record> {
        self.inner.as_mut().map(|log| log.take_records()).unwrap_or_default()
    }

    async fn append(&mut self, records: &[Record]) -> Result<()> {
        let answer = match self.shared.faults.begin() {
            Ok(Plan::PassOn) => {
                let answer = self.pass_on(records).await;
                self.shared.faults.end(answer)
            }
            Ok(Plan::PassOnThenRefuse) => self.pass_on(records).await.and_then(|()| Err(injected())),
            Ok(Plan::PassOnHalf) => {
                let half = &records[..records.len() / 2];
                self.pass_on(half).await.and_then(|()| Err(injected()))
            }
            Ok(Plan::Refuse) => Err(injected()),
            Err(error) => Err(error),
        };
        if self.shared.faults.check_alive().is_err() {
            self.inner = None;
        }
        answer
    }

    fn batch(&self) -> usize {
        self.inner.as_ref().map_or(1, |log| log.batch())
    }
}
