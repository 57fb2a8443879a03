//! The process dies before and after every single write of a verb; what is left opens to the state before or after.

use swarm_registry::testing::{Fault, FaultyStore};
use swarm_registry::{
    ErrorKind, Head, ObjectVersionStore, Query, Result, Retention, Split, Version, VersionRegistry,
    VersionStore,
};

/// Everything that can be seen of a registry.
pub(crate) async fn seen(registry: &VersionRegistry) -> String {
    let mut out = String::new();
    for version in registry.find(&Query::new()).await.unwrap() {
        let bytes = registry.artifact(version.id()).await.unwrap();
        out += &format!("{} {bytes:?} {:?}\n", version.id(), version.parent());
    }
    for channel in registry.channels().await.unwrap() {
        for made in registry.deployments(&channel).await.unwrap() {
            out += &format!(
                "{channel} {} {:?} {} {:?}\n",
                made.number(),
                made.cause(),
                made.split(),
                made.good()
            );
        }
    }
    for alias in ["stable"] {
        out += &format!(
            "{alias} {:?}\n",
            registry.alias(alias).await.ok().map(|version| version.id().to_owned())
        );
    }
    out
}

async fn prepare(store: &ObjectVersionStore) -> VersionRegistry {
    let registry = VersionRegistry::with_store(store.clone()).await.unwrap();
    for id in ["v1", "v2", "stray"] {
        registry.register(Version::new(id).artifact(id)).await.unwrap();
    }
    registry.move_alias("stable", None, Some("v1")).await.unwrap();
    registry.deploy("production", Split::all("v1")).await.unwrap();
    registry.compact(Retention::everything()).await.unwrap();
    registry.deploy("production", Split::of([("v1", 80.0), ("v2", 20.0)]).unwrap()).await.unwrap();
    registry
}

/// Dies at every write of `verb`. Answers at how many.
async fn sweep(name: &str, verb: impl AsyncFn(&VersionRegistry) -> Result<()>) -> u64 {
    let witness = ObjectVersionStore::memory();
    let before = seen(&prepare(&witness).await).await;
    let counted = FaultyStore::new(witness);
    let registry = VersionRegistry::with_store(counted.clone()).await.unwrap();
    verb(&registry).await.unwrap();
    let after = seen(&registry).await;
    let writes = counted.writes();
    for write in 0..writes {
        for fault in [Fault::DieBefore, Fault::DieAfter] {
            let store = ObjectVersionStore::memory();
            prepare(&store).await;
            let faulty = FaultyStore::new(store.clone()).fail(write, fault);
            let dying = VersionRegistry::with_store(faulty).await.unwrap();
            let error = verb(&dying).await.expect_err("it dies");
            assert_eq!(error.kind(), ErrorKind::Store);
            let opened = VersionRegistry::with_store(store).await.unwrap();
            opened.verify().await.unwrap_or_else(|error| panic!("{name} {write} {fault:?}: {error}"));
            let left = seen(&opened).await;
            assert!(left == before || left == after, "{name} {write} {fault:?}: {left}");
            // What was cut off can be done, or was.
            let again = verb(&opened).await;
            assert!(again.is_ok() || left == after, "{name} {write} {fault:?}: {again:?}");
            opened.verify().await.unwrap();
        }
    }
    writes
}

#[tokio::test]
async fn a_crash_at_any_write_leaves_the_state_before_or_after() {
    let mut writes = 0;
    writes += sweep("register", async |registry| {
        registry.register(Version::new("v3").artifact("three").parent("v1")).await.map(drop)
    })
    .await;
    writes +=
        sweep("deploy", async |registry| registry.deploy("production", Split::all("v2")).await.map(drop))
            .await;
    writes += sweep("rollback", async |registry| registry.rollback("production").await.map(drop)).await;
    writes += sweep("compact", async |registry| registry.compact(Retention::everything()).await).await;
    writes += sweep("collect", async |registry| {
        registry.compact(Retention::since(chrono::Utc::now() + chrono::TimeDelta::days(1))).await
    })
    .await;
    assert!(writes >= 10, "{writes} writes were tried");
}

#[tokio::test]
async fn a_crash_at_any_write_of_a_restore_leaves_an_empty_registry_or_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    let store = ObjectVersionStore::memory();
    let registry = prepare(&store).await;
    let whole = seen(&registry).await;
    let head: Head = registry.backup(&file).await.unwrap();
    let counted = FaultyStore::new(ObjectVersionStore::memory());
    VersionRegistry::restore(&file, counted.clone()).await.unwrap();
    assert_eq!(counted.writes(), 5, "three artifacts, a snapshot, the first number");
    for write in 0..counted.writes() {
        for fault in [Fault::DieBefore, Fault::DieAfter] {
            let store = ObjectVersionStore::memory();
            let faulty = FaultyStore::new(store.clone()).fail(write, fault);
            VersionRegistry::restore(&file, faulty).await.unwrap_err();
            let opened = VersionRegistry::with_store(store.clone()).await.unwrap();
            let left = opened.history(1).await.unwrap().len();
            assert!(left == 0 || left == head.record as usize, "{write} {fault:?}: {left} records");
            if (write, fault) != (4, Fault::DieAfter) {
                assert_eq!(VersionRegistry::restore(&file, store.clone()).await.unwrap(), head);
            }
            let again = VersionRegistry::restore(&file, store.clone()).await.unwrap_err();
            assert_eq!(again.kind(), ErrorKind::InvalidState);
            let restored = VersionRegistry::with_store(store).await.unwrap();
            assert_eq!(seen(&restored).await, whole, "{write} {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_compaction_that_was_cut_off_is_finished_by_the_next() {
    let compact = async |store: FaultyStore<ObjectVersionStore>| {
        let registry = VersionRegistry::with_store(store).await.unwrap();
        registry.compact(Retention::everything()).await
    };
    let prepared = async || {
        let store = ObjectVersionStore::memory();
        prepare(&store).await;
        store
    };
    let counted = FaultyStore::new(prepared().await);
    compact(counted.clone()).await.unwrap();
    assert!(counted.writes() >= 3, "a snapshot, an emptied record, a removed snapshot");
    for write in 0..counted.writes() {
        let store = prepared().await;
        compact(FaultyStore::new(store.clone()).fail(write, Fault::DieBefore)).await.unwrap_err();
        compact(FaultyStore::new(store.clone())).await.unwrap();
        assert_eq!(store.list("snapshots", "").await.unwrap().len(), 1, "{write}");
        let records = store.list("log", "").await.unwrap();
        assert_eq!(records.len(), 6);
        for record in records {
            assert_eq!(store.get(&record).await.unwrap().unwrap(), "", "{record}, cut off at {write}");
        }
    }
}
