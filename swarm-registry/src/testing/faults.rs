use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::{Error, Result};
use crate::store::VersionStore;

/// What a [`FaultyStore`] does instead of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing, and answers an error: the request was lost, or refused.
    Refuse,
    /// The write, and answers an error: the answer was lost.
    LoseAnswer,
    /// Nothing, and everything after it fails too, reads included: the process died before the write.
    DieBefore,
    /// The write, and everything after it fails: the process died after the write.
    DieAfter,
}

/// A [`VersionStore`] that fails on order. Clones share the plan.
///
/// Writes are [`create`](VersionStore::create), [`put`](VersionStore::put) and [`delete`](VersionStore::delete), counted
/// from 0.
#[derive(Debug, Clone)]
pub struct FaultyStore<S> {
    store: Arc<S>,
    plan: Arc<Mutex<Plan>>,
}

#[derive(Debug, Default)]
struct Plan {
    writes: u64,
    faults: Vec<(u64, Fault)>,
    dead: bool,
}

impl<S: VersionStore> FaultyStore<S> {
    /// A store that works, until it is told otherwise.
    pub fn new(store: S) -> Self {
        FaultyStore { store: Arc::new(store), plan: Arc::default() }
    }

    /// Orders `fault` for write number `write`.
    #[must_use]
    pub fn fail(self, write: u64, fault: Fault) -> Self {
        self.plan().faults.push((write, fault));
        self
    }

    /// How many writes there were, failed ones included.
    pub fn writes(&self) -> u64 {
        self.plan().writes
    }

    /// Makes everything fail from now on, or work again: the store is away.
    pub fn away(&self, away: bool) {
        self.plan().dead = away;
    }

    fn plan(&self) -> std::sync::MutexGuard<'_, Plan> {
        self.plan.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn alive(&self) -> Result<()> {
        if self.plan().dead { Err(away()) } else { Ok(()) }
    }

    async fn write<T: Send>(&self, write: impl Future<Output = Result<T>> + Send) -> Result<T> {
        let fault = {
            let mut plan = self.plan();
            if plan.dead {
                return Err(away());
            }
            let number = plan.writes;
            plan.writes += 1;
            let fault = plan.faults.iter().find(|(at, _)| *at == number).map(|(_, fault)| *fault);
            plan.dead |= matches!(fault, Some(Fault::DieBefore | Fault::DieAfter));
            fault
        };
        match fault {
            None => return write.await,
            Some(Fault::LoseAnswer | Fault::DieAfter) => drop(write.await?),
            Some(Fault::Refuse | Fault::DieBefore) => {}
        }
        Err(Error::store("the store failed, as it was told"))
    }
}

fn away() -> Error {
    Error::store("the store is away")
}

#[async_trait]
impl<S: VersionStore> VersionStore for FaultyStore<S> {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.alive()?;
        self.store.get(name).await
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool> {
        self.write(self.store.create(name, bytes)).await
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.write(self.store.put(name, bytes)).await
    }

    async fn list(&self, folder: &str, after: &str) -> Result<Vec<String>> {
        self.alive()?;
        self.store.list(folder, after).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.write(self.store.delete(name)).await
    }

    async fn leftovers(&self) -> Result<Vec<String>> {
        self.alive()?;
        self.store.leftovers().await
    }
}
