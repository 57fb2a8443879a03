//! What others do in the middle of a call.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{TimeDelta, Utc};
use futures::future::BoxFuture;
use swarm_registry::{
    Error, ErrorKind, ObjectVersionStore, Result, Retention, Split, Version, VersionRegistry, VersionStore,
};

type Deed = Box<dyn FnOnce(ObjectVersionStore) -> BoxFuture<'static, ()> + Send>;

/// When someone else does something, once.
pub(crate) enum Moment {
    /// After an object was made, whose maker is told this.
    Made(Result<bool>),
    /// Before an object of this folder is read.
    Read(&'static str),
}

/// A store in which someone else does something in the middle of a call.
#[derive(Clone)]
pub(crate) struct Interrupted {
    store: ObjectVersionStore,
    plan: Arc<Mutex<Option<(Moment, Deed)>>>,
}

impl Interrupted {
    pub(crate) fn new(store: &ObjectVersionStore) -> Self {
        Interrupted { store: store.clone(), plan: Arc::default() }
    }

    pub(crate) fn plan<F: Future<Output = ()> + Send + 'static>(
        &self,
        moment: Moment,
        deed: impl FnOnce(ObjectVersionStore) -> F + Send + 'static,
    ) {
        *self.plan.lock().unwrap() = Some((moment, Box::new(|store| Box::pin(deed(store)))));
    }

    /// Whether what was planned came to pass.
    pub(crate) fn is_done(&self) -> bool {
        self.plan.lock().unwrap().is_none()
    }

    fn due(&self, is_now: impl FnOnce(&Moment) -> bool) -> Option<(Moment, Deed)> {
        let mut plan = self.plan.lock().unwrap();
        if plan.as_ref().is_some_and(|(moment, _)| is_now(moment)) { plan.take() } else { None }
    }
}

#[async_trait]
impl VersionStore for Interrupted {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        let due = self.due(|moment| matches!(moment, Moment::Read(folder) if name.starts_with(folder)));
        if let Some((_, deed)) = due {
            deed(self.store.clone()).await;
        }
        self.store.get(name).await
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool> {
        let made = self.store.create(name, bytes).await;
        match self.due(|moment| matches!(moment, Moment::Made(_))) {
            Some((Moment::Made(told), deed)) => {
                deed(self.store.clone()).await;
                told
            }
            _ => made,
        }
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.store.put(name, bytes).await
    }

    async fn list(&self, folder: &str, after: &str) -> Result<Vec<String>> {
        self.store.list(folder, after).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.store.delete(name).await
    }
}

fn tomorrow() -> Retention {
    Retention::since(Utc::now() + TimeDelta::days(1))
}

/// v1, v2 and v3, deployed to production one after the other.
async fn deployed() -> (ObjectVersionStore, Interrupted, VersionRegistry) {
    let store = ObjectVersionStore::memory();
    let interrupted = Interrupted::new(&store);
    let registry = VersionRegistry::with_store(interrupted.clone()).await.unwrap();
    for id in ["v1", "v2", "v3"] {
        registry.register(Version::new(id).artifact(id)).await.unwrap();
        registry.deploy("production", Split::all(id)).await.unwrap();
    }
    (store, interrupted, registry)
}

#[tokio::test]
async fn a_verb_whose_answer_is_lost_is_done_once_also_where_its_record_is_compacted_at_once() {
    for retention in [Retention::everything(), tomorrow()] {
        for told in [|| Err(Error::store("the answer was lost")), || Ok(false)] {
            let (_, store, registry) = deployed().await;
            let compact = move |store| async move {
                VersionRegistry::with_store(store).await.unwrap().compact(retention).await.unwrap();
            };
            store.plan(Moment::Made(told()), compact);
            let back = registry.rollback("production").await.unwrap();
            assert!(store.is_done());
            assert_eq!((back.number(), back.sole_version()), (4, Some("v2")), "not one further");
            store.plan(Moment::Made(told()), compact);
            registry.register(Version::new("v4").artifact("4")).await.unwrap();
            assert!(store.is_done());
            registry.verify().await.unwrap();
        }
    }
}

/// Neither the record nor the one after it is kept.
#[tokio::test]
async fn what_retention_left_out_before_it_could_be_looked_up_is_told_to_be_unknown() {
    let (_, store, registry) = deployed().await;
    store.plan(Moment::Made(Err(Error::store("the answer was lost"))), |store| async {
        let other = VersionRegistry::with_store(store).await.unwrap();
        other.rollback("production").await.unwrap();
        other.deploy("production", Split::all("v1")).await.unwrap();
        other.compact(tomorrow()).await.unwrap();
    });
    let unknown = registry.deploy("production", Split::all("v2")).await.unwrap_err();
    assert!(store.is_done());
    assert_eq!(unknown.kind(), ErrorKind::Store, "{unknown}");
    assert_eq!(unknown.object(), Some("log/00000000000000000007.json"));
    assert_eq!(registry.deployment("production").await.unwrap().number(), 6);
}

#[tokio::test]
async fn a_writer_that_slept_through_a_retention_is_refused_once_at_most() {
    let store = ObjectVersionStore::memory();
    let asleep = VersionRegistry::with_store(store.clone()).await.unwrap();
    let registry = VersionRegistry::with_store(store).await.unwrap();
    registry.register(Version::new("v1").artifact("1")).await.unwrap();
    asleep.refresh().await.unwrap();
    // Of these, the last one is kept: neither what would be the next record of the other nor the one after it.
    for (from, to) in [(None, Some("v1")), (Some("v1"), None), (None, Some("v1"))] {
        registry.move_alias("stable", from, to).await.unwrap();
    }
    registry.deploy("production", Split::all("v1")).await.unwrap();
    registry.compact(tomorrow()).await.unwrap();
    assert_eq!(registry.alias_history("stable").await.unwrap().len(), 1);
    let unknown = asleep.deploy("production", Split::all("v1")).await.unwrap_err();
    assert_eq!(unknown.kind(), ErrorKind::Store, "{unknown}");
    assert_eq!(asleep.deploy("production", Split::all("v1")).await.unwrap().number(), 2);
    assert_eq!(registry.deployment("production").await.unwrap().number(), 2);
}

#[tokio::test]
async fn two_backups_to_one_place_at_once_do_not_meet() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    let (_, store, registry) = deployed().await;
    let same = file.clone();
    store.plan(Moment::Read("artifacts/"), move |store| async move {
        let other = VersionRegistry::with_store(store).await.unwrap();
        other.register(Version::new("v4").artifact("4")).await.unwrap();
        other.backup(&same).await.unwrap();
    });
    let head = registry.backup(&file).await.unwrap();
    assert!(store.is_done());
    let restored = VersionRegistry::restore(&file, ObjectVersionStore::memory()).await.unwrap();
    assert_eq!((restored, head.record), (head, 6), "the one that ended last");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
}

#[tokio::test]
async fn a_backup_that_fails_leaves_nothing_and_the_one_before_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    let (store, _, registry) = deployed().await;
    let head = registry.backup(&file).await.unwrap();
    let artifact = store.list("artifacts", "").await.unwrap().remove(0);
    store.delete(&artifact).await.unwrap();
    let gone = registry.backup(&file).await.unwrap_err();
    assert_eq!((gone.kind(), gone.object()), (ErrorKind::Missing, Some(&*artifact)));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    assert_eq!(VersionRegistry::restore(&file, ObjectVersionStore::memory()).await.unwrap(), head);
}

#[tokio::test]
async fn what_another_process_collects_meanwhile_is_not_taken_for_damage() {
    let compact = |store| async move {
        VersionRegistry::with_store(store).await.unwrap().compact(tomorrow()).await.unwrap();
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    let stray = async || {
        let (_, store, registry) = deployed().await;
        registry.register(Version::new("stray").artifact("stray")).await.unwrap();
        store.plan(Moment::Read("artifacts/"), compact);
        (store, registry)
    };

    let (store, registry) = stray().await;
    registry.verify().await.unwrap();
    assert!(store.is_done());

    let (store, registry) = stray().await;
    let gone = registry.artifact("stray").await.unwrap_err();
    assert!(store.is_done());
    assert_eq!((gone.kind(), gone.version()), (ErrorKind::NotFound, Some("stray")), "{gone}");

    let (store, registry) = stray().await;
    let head = registry.backup(&file).await.unwrap();
    assert!(store.is_done());
    assert_eq!(head.record, 8, "with the record of the collection");
    assert_eq!(VersionRegistry::restore(&file, ObjectVersionStore::memory()).await.unwrap(), head);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}
