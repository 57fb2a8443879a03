use async_trait::async_trait;
use bytes::Bytes;
use swarm_registry::{ObjectVersionStore, Result, VersionStore};

/// A store that does again what failed, and looks whether an object is its own where the answer was lost. The registry
/// looks in the same way. That is no part of [`ObjectVersionStore`], since it is right only where no two callers make the
/// same bytes.
#[derive(Clone)]
pub(super) struct Patient(pub(super) ObjectVersionStore);

const TRIES: usize = 20;

macro_rules! again {
    ($call:expr) => {{
        let mut tries = 1;
        loop {
            match $call {
                Err(_) if tries < TRIES => tries += 1,
                answer => break answer,
            }
        }
    }};
}

#[async_trait]
impl VersionStore for Patient {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        again!(self.0.get(name).await)
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool> {
        again!(match self.0.create(name, bytes.clone()).await {
            Ok(true) => Ok(true),
            unclear => match self.0.get(name).await {
                Ok(Some(there)) => Ok(there == bytes),
                Ok(None) => unclear,
                Err(error) => Err(error),
            },
        })
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        again!(self.0.put(name, bytes.clone()).await)
    }

    async fn list(&self, folder: &str, after: &str) -> Result<Vec<String>> {
        again!(self.0.list(folder, after).await)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        again!(self.0.delete(name).await)
    }
}
