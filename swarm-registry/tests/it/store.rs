use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use swarm_registry::testing::{Fault, FaultyStore, conformance};
use swarm_registry::{ErrorKind, ObjectVersionStore, Result, Split, Version, VersionRegistry, VersionStore};

#[tokio::test]
async fn memory_keeps_the_contract() {
    let report = conformance::check(async || ObjectVersionStore::memory()).await;
    assert!(report.is_ok(), "{report}");
    assert_eq!(report.kept().len(), 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let next = std::sync::atomic::AtomicU32::new(0);
    let report = conformance::check(async || {
        let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        ObjectVersionStore::folder(folder.path().join(number.to_string())).unwrap()
    })
    .await;
    assert!(report.is_ok(), "{report}");
}

/// One that was chosen at run time, and is shared.
#[tokio::test]
async fn an_arc_of_any_store_is_one() {
    let shared = || Arc::new(ObjectVersionStore::memory()) as Arc<dyn VersionStore>;
    let report = conformance::check(async || shared()).await;
    assert!(report.is_ok(), "{report}");
    let store = shared();
    let one = VersionRegistry::with_store(store.clone()).await.unwrap();
    let other = VersionRegistry::with_store(store).await.unwrap();
    one.register(Version::new("v1").artifact("1")).await.unwrap();
    assert_eq!(other.artifact("v1").await.unwrap(), "1");
}

/// A store of one's own. `CAREFUL` is put-if-absent; without it, `create` looks first and then writes.
#[derive(Clone, Default)]
struct Shelf<const CAREFUL: bool>(Arc<Mutex<BTreeMap<String, Bytes>>>);

#[async_trait]
impl<const CAREFUL: bool> VersionStore for Shelf<CAREFUL> {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        Ok(self.0.lock().unwrap().get(name).cloned())
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool> {
        if self.0.lock().unwrap().contains_key(name) {
            return Ok(false);
        }
        if !CAREFUL {
            tokio::task::yield_now().await;
        }
        self.put(name, bytes).await?;
        Ok(true)
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.0.lock().unwrap().insert(name.to_owned(), bytes);
        Ok(())
    }

    async fn list(&self, folder: &str, after: &str) -> Result<Vec<String>> {
        let start = format!("{folder}/");
        let here = |name: &&String| name.starts_with(&start) && name.as_str() > after;
        Ok(self.0.lock().unwrap().keys().filter(here).cloned().collect())
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.0.lock().unwrap().remove(name);
        Ok(())
    }
}

#[tokio::test]
async fn a_store_without_put_if_absent_is_caught() {
    let careful = conformance::check(async || Shelf::<true>::default()).await;
    assert!(careful.is_ok(), "{careful}");
    let careless = conformance::check(async || Shelf::<false>::default()).await;
    let broken: Vec<&str> = careless.broken().iter().map(|broken| broken.rule).collect();
    assert_eq!(
        broken,
        [
            "of many creates at once, one answers `true`, and its bytes stay",
            "eight registries on one store lose no write of each other",
        ],
        "{careless}"
    );
}

/// The answer to any one write is lost: the registry looks, finds its own record, and goes on.
#[tokio::test]
async fn a_lost_answer_is_looked_up() {
    for write in 0..4 {
        let store = FaultyStore::new(ObjectVersionStore::memory()).fail(write, Fault::LoseAnswer);
        let registry = VersionRegistry::with_store(store.clone()).await.unwrap();
        let version = || Version::new("v1").artifact("1");
        if let Err(error) = registry.register(version()).await {
            // Of the artifact's put it is not known whether it is there; it can be put again.
            assert_eq!((write, error.kind()), (0, ErrorKind::Store));
            registry.register(version()).await.unwrap();
        }
        registry.deploy("production", Split::all("v1")).await.unwrap();
        registry.deploy("production", Split::all("v1")).await.unwrap();
        assert_eq!(registry.deployments("production").await.unwrap().len(), 2, "each happened once");
        assert_eq!(registry.verify().await.unwrap().record, 3);
    }
}

/// A sync that failed may have thrown away what it was to make durable, though the object can be read.
#[tokio::test]
async fn a_record_whose_answer_was_lost_is_written_once_more() {
    for (fault, writes) in [(None, 1), (Some(Fault::LoseAnswer), 2)] {
        let mut store = FaultyStore::new(ObjectVersionStore::memory());
        if let Some(fault) = fault {
            store = store.fail(0, fault);
        }
        let registry = VersionRegistry::with_store(store.clone()).await.unwrap();
        let version = Version::new("v1").digest(swarm_registry::Digest::of(b"elsewhere"));
        registry.register(version).await.unwrap();
        assert_eq!(store.writes(), writes, "{fault:?}");
    }
}

/// To try again is of use where a store is away, and not where a path is wrong.
#[tokio::test]
async fn trouble_of_this_machine_is_told_from_that_of_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    let registry = crate::registry_with(&["v1"]).await;
    let store = ObjectVersionStore::memory();
    for error in [
        ObjectVersionStore::folder(file.join("registry")).unwrap_err(),
        VersionRegistry::restore(folder.path().join("no such file"), store).await.unwrap_err(),
        registry.backup(file.join("backup")).await.unwrap_err(),
    ] {
        assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Io, false), "{error}");
        assert!(std::error::Error::source(&error).is_some(), "{error}");
    }
}

/// A restore that lost the answer to its last write is done, and says so.
#[tokio::test]
async fn a_lost_answer_to_a_restore_is_looked_up() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    let registry = crate::registry_with(&["v1"]).await;
    let head = registry.backup(&file).await.unwrap();
    // After the artifact: the snapshot, and the first number.
    for write in [1, 2] {
        let store = FaultyStore::new(ObjectVersionStore::memory()).fail(write, Fault::LoseAnswer);
        assert_eq!(VersionRegistry::restore(&file, store.clone()).await.unwrap(), head);
        assert_eq!(store.writes(), 4, "what may have been lost with a failed sync is written again");
        let occupied = VersionRegistry::restore(&file, store).await.unwrap_err();
        assert_eq!(occupied.kind(), ErrorKind::InvalidState);
    }
}

#[tokio::test]
async fn a_refused_write_changes_nothing_and_can_be_repeated() {
    let store = FaultyStore::new(ObjectVersionStore::memory()).fail(2, Fault::Refuse);
    let registry = VersionRegistry::with_store(store).await.unwrap();
    registry.register(Version::new("v1").artifact("1")).await.unwrap();
    let error = registry.deploy("production", Split::all("v1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Store);
    assert_eq!(registry.deployment("production").await.unwrap_err().kind(), ErrorKind::NotFound);
    registry.deploy("production", Split::all("v1")).await.unwrap();
}
