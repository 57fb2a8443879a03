use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::DateTime;
use swarm_registry::testing::FakeClock;
use swarm_registry::{
    Digest, ErrorKind, EventKind, ObjectVersionStore, Result, Retention, Split, Version, VersionRegistry,
    VersionStore,
};

use crate::meanwhile::{Interrupted, Moment};

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

async fn small_registry(folder: &Path) -> VersionRegistry {
    let registry = VersionRegistry::open(folder).await.unwrap();
    registry.register(Version::new("v1").artifact("one").metric("m", 1.5).label("k", "v")).await.unwrap();
    registry.register(Version::new("v2").artifact("two").parent("v1")).await.unwrap();
    registry
        .deploy("production", Split::of([("v1", 80.0), ("v2", 20.0)]).unwrap().pin("t", "v2"))
        .await
        .unwrap();
    registry.move_alias("stable", None, Some("v1")).await.unwrap();
    registry
}

/// Every byte of every file, one after the other, changed in its lowest bit: `verify` names the file.
#[tokio::test]
async fn every_changed_byte_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let registry = small_registry(folder.path()).await;
    registry.compact(Retention::everything()).await.unwrap();
    registry.rollback("production").await.unwrap_err();
    registry.deploy("production", Split::all("v2")).await.unwrap();
    registry.rollback("production").await.unwrap();
    registry.verify().await.unwrap();
    let mut changed = 0;
    for path in files(folder.path()) {
        let whole = std::fs::read(&path).unwrap();
        let name = path.strip_prefix(folder.path()).unwrap().to_str().unwrap().replace('\\', "/");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).unwrap();
            let error = registry.verify().await.expect_err(&format!("byte {at} of {name}"));
            assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at} of {name}: {error}");
            assert_eq!(error.object(), Some(&*name), "byte {at}: {error}");
            changed += 1;
        }
        std::fs::write(&path, whole).unwrap();
    }
    assert!(changed > 2_000, "{changed}");
    registry.verify().await.unwrap();
}

#[tokio::test]
async fn cut_missing_and_swapped_records_are_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    drop(small_registry(folder.path()).await);
    let record = |number: u32| folder.path().join(format!("log/{number:020}.json"));
    let read = |number| std::fs::read(record(number)).unwrap();
    let kind = async || {
        let error = VersionRegistry::open(folder.path()).await.unwrap_err();
        (error.kind(), error.object().unwrap().to_owned())
    };
    let name = |number: u32| format!("log/{number:020}.json");
    let (second, third) = (read(2), read(3));

    std::fs::write(record(2), &second[..second.len() / 2]).unwrap();
    assert_eq!(kind().await, (ErrorKind::Corrupt, name(2)));
    std::fs::write(record(2), b"").unwrap();
    assert_eq!(kind().await, (ErrorKind::Corrupt, name(2)), "no snapshot stands for an empty record");
    std::fs::remove_file(record(2)).unwrap();
    assert_eq!(kind().await, (ErrorKind::Missing, name(2)));
    std::fs::write(record(2), &third).unwrap();
    assert_eq!(kind().await, (ErrorKind::Corrupt, name(2)));
    std::fs::write(record(2), &second).unwrap();

    // A record of another registry, right in itself, does not follow.
    let other = tempfile::tempdir().unwrap();
    drop(small_registry(other.path()).await);
    std::fs::copy(other.path().join(name(3)), record(3)).unwrap();
    assert_eq!(kind().await, (ErrorKind::Corrupt, name(3)));
    std::fs::write(record(3), &third).unwrap();

    let newer = String::from_utf8(third.clone()).unwrap().replacen("\"format\":1", "\"format\":2", 1);
    let line = newer.lines().next().unwrap();
    let seal = swarm_registry::Digest::of(format!("{line}\n").as_bytes());
    std::fs::write(record(3), format!("{line}\n{{\"digest\":\"{seal}\"}}\n")).unwrap();
    assert_eq!(kind().await, (ErrorKind::NewerFormat, name(3)));
    std::fs::write(record(3), &third).unwrap();
    VersionRegistry::open(folder.path()).await.unwrap().verify().await.unwrap();
}

#[tokio::test]
async fn a_log_is_the_same_before_and_after_compaction_for_who_was_there_and_who_comes() {
    let store = ObjectVersionStore::memory();
    let registry = VersionRegistry::with_store(store.clone()).await.unwrap();
    let slow = VersionRegistry::with_store(store.clone()).await.unwrap();
    for at in 0..20 {
        let id = format!("v{at}");
        registry.register(Version::new(&id).artifact(format!("{}", at % 3))).await.unwrap();
        registry.deploy("production", Split::all(&id)).await.unwrap();
    }
    let before = registry.verify().await.unwrap();
    let history = registry.history(1).await.unwrap();
    registry.compact(Retention::everything()).await.unwrap();
    registry.compact(Retention::everything()).await.unwrap();
    assert_eq!(registry.verify().await.unwrap(), before, "the head stands for the same history");
    assert_eq!(registry.history(1).await.unwrap(), history);
    assert_eq!(store.list("snapshots", "").await.unwrap().len(), 1);

    // One that had read nothing since: it neither writes an old number nor misses anything.
    slow.register(Version::new("slow").artifact("x")).await.unwrap();
    assert_eq!(
        slow.deployments("production").await.unwrap(),
        registry.deployments("production").await.unwrap()
    );
    assert_eq!(registry.version("slow").await.unwrap().record(), 41);
    let opened = VersionRegistry::with_store(store).await.unwrap();
    assert_eq!(opened.deployments("production").await.unwrap().len(), 20);
    assert_eq!(opened.rollback("production").await.unwrap().sole_version(), Some("v18"));
}

#[tokio::test]
async fn retention_removes_what_nothing_reaches_and_nothing_else() {
    let clock = FakeClock::new(DateTime::from_timestamp(1_800_000_000, 0).unwrap());
    let store = ObjectVersionStore::memory();
    let builder = VersionRegistry::builder().clock(Arc::new(clock.clone()));
    let registry = builder.with_store(store.clone()).await.unwrap();
    for id in ["aliased", "deployed", "reachable", "stray", "twin-of-stray", "rolled-back-from"] {
        let bytes = if id.contains("stray") { "stray" } else { id };
        registry.register(Version::new(id).artifact(bytes)).await.unwrap();
    }
    registry.move_alias("stable", None, Some("stray")).await.unwrap();
    registry.move_alias("stable", Some("stray"), Some("aliased")).await.unwrap();
    for id in ["reachable", "rolled-back-from"] {
        registry.deploy("production", Split::all(id)).await.unwrap();
    }
    registry.rollback("production").await.unwrap();
    registry
        .deploy("production", Split::all("deployed").mirror("twin-of-stray", 1.0).unwrap())
        .await
        .unwrap();
    clock.advance(Duration::from_secs(3600));
    registry.register(Version::new("young").artifact("young")).await.unwrap();

    let since = chrono::DateTime::from_timestamp(1_800_000_060, 0).unwrap();
    registry.compact(Retention::since(since)).await.unwrap();
    let opened = VersionRegistry::with_store(store.clone()).await.unwrap();
    let deployments = opened.deployments("production").await.unwrap();
    assert_eq!(deployments.len(), 2, "the one that is served, and the one to go back to");
    assert_eq!(registry.deployments("production").await.unwrap(), deployments);
    let moves = registry.alias_history("stable").await.unwrap();
    assert_eq!(moves, opened.alias_history("stable").await.unwrap());
    for registry in [registry, opened] {
        let left = registry.find(&swarm_registry::Query::new()).await.unwrap();
        let left: BTreeSet<&str> = left.iter().map(|version| version.id()).collect();
        assert_eq!(left, BTreeSet::from(["aliased", "deployed", "reachable", "twin-of-stray", "young"]));
        assert_eq!(registry.artifact("twin-of-stray").await.unwrap(), "stray", "bytes that are shared stay");
        assert_eq!(registry.alias("stable").await.unwrap().id(), "aliased");
        let again = registry.register(Version::new("stray").artifact("other")).await.unwrap_err();
        assert_eq!(again.kind(), ErrorKind::AlreadyExists);
        assert!(again.to_string().ends_with("was removed by retention, and ids are used once"), "{again}");
        registry.verify().await.unwrap();
    }
    assert_eq!(store.list("artifacts", "").await.unwrap().len(), 5);
    let opened = VersionRegistry::with_store(store).await.unwrap();
    assert_eq!(opened.rollback("production").await.unwrap().sole_version(), Some("reachable"));
}

/// Two compactions with no record between them: the second one removes what the first one kept.
#[tokio::test]
async fn history_is_shortened_also_when_nothing_happened_since_the_last_compaction() {
    let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
    let store = ObjectVersionStore::memory();
    let builder = VersionRegistry::builder().clock(Arc::new(FakeClock::new(start)));
    let registry = builder.with_store(store.clone()).await.unwrap();
    for version in ["v1", "v2"] {
        registry.register(Version::new(version).artifact(version)).await.unwrap();
        registry.deploy("production", Split::all(version)).await.unwrap();
    }
    registry.rollback("production").await.unwrap();
    registry.move_alias("kept", None, Some("v2")).await.unwrap();
    let head = registry.verify().await.unwrap();
    registry.compact(Retention::everything()).await.unwrap();
    assert_eq!(registry.deployments("production").await.unwrap().len(), 3);
    registry.compact(Retention::since(start + chrono::TimeDelta::days(1))).await.unwrap();
    assert_eq!(registry.verify().await.unwrap(), head, "no record was made");
    for registry in [registry, VersionRegistry::with_store(store).await.unwrap()] {
        let numbers: Vec<u64> =
            registry.deployments("production").await.unwrap().iter().map(|made| made.number()).collect();
        assert_eq!(numbers, [1, 3], "the one that was rolled back from is gone");
    }
}

#[tokio::test]
async fn a_backup_restores_the_whole_registry_and_damage_to_it_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let registry = small_registry(&folder.path().join("registry")).await;
    registry.compact(Retention::everything()).await.unwrap();
    registry.rollback("production").await.unwrap_err();
    registry.deploy("production", Split::all("v2")).await.unwrap();
    let file = folder.path().join("registry.backup");
    let head = registry.backup(&file).await.unwrap();
    assert_eq!(
        files(folder.path()).iter().filter(|path| path.to_str().unwrap().ends_with(".part")).count(),
        0
    );

    let store = ObjectVersionStore::memory();
    assert_eq!(VersionRegistry::restore(&file, store.clone()).await.unwrap(), head);
    let restored = VersionRegistry::with_store(store.clone()).await.unwrap();
    assert_eq!(restored.verify().await.unwrap(), head);
    assert_eq!(restored.artifact("v2").await.unwrap(), "two");
    assert_eq!(restored.history(1).await.unwrap(), registry.history(1).await.unwrap());
    let occupied = VersionRegistry::restore(&file, store).await.unwrap_err();
    assert_eq!(occupied.kind(), ErrorKind::InvalidState);

    let whole = std::fs::read(&file).unwrap();
    let broken = folder.path().join("broken");
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        std::fs::write(&broken, &bytes).unwrap();
        let store = ObjectVersionStore::memory();
        let error = VersionRegistry::restore(&broken, store.clone()).await.expect_err(&format!("byte {at}"));
        assert!(matches!(error.kind(), ErrorKind::Corrupt | ErrorKind::NewerFormat), "byte {at}: {error}");
        assert!(VersionRegistry::with_store(store).await.unwrap().history(1).await.unwrap().is_empty());
    }
    for cut in [0, 10, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&broken, &whole[..cut]).unwrap();
        let error = VersionRegistry::restore(&broken, ObjectVersionStore::memory()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

#[tokio::test]
async fn history_tells_every_record_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let registry = small_registry(folder.path()).await;
    let events = registry.history(1).await.unwrap();
    assert_eq!(events.iter().map(|event| event.record).collect::<Vec<_>>(), [1, 2, 3, 4]);
    assert!(matches!(&events[1].kind, EventKind::VersionRegistered { version } if version == "v2"));
    assert!(
        matches!(&events[2].kind, EventKind::Deployed(made) if made.split().to_string() == "v1 80%, v2 20%")
    );
    assert!(matches!(&events[3].kind, EventKind::AliasMoved { alias, .. } if alias == "stable"));
    assert_eq!(registry.history(4).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_handle_on_the_empty_store_goes_on_with_what_was_restored_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    let registry = small_registry(&folder.path().join("registry")).await;
    let head = registry.backup(&file).await.unwrap();
    let store = ObjectVersionStore::memory();
    let before = VersionRegistry::with_store(store.clone()).await.unwrap();
    VersionRegistry::restore(&file, store.clone()).await.unwrap();
    let v3 = before.register(Version::new("v3").artifact("three")).await.unwrap().version;
    assert_eq!(v3.record(), head.record + 1, "after the restored records, not as the first one");
    let opened = VersionRegistry::with_store(store).await.unwrap();
    assert_eq!(opened.version("v3").await.unwrap(), v3);
    opened.verify().await.unwrap();
}

#[tokio::test]
async fn a_restore_leaves_alone_what_another_wrote_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    small_registry(&folder.path().join("registry")).await.backup(&file).await.unwrap();
    let store = ObjectVersionStore::memory();
    let other = Interrupted::new(&store);
    // Artifacts are put. What is made first is the snapshot.
    other.plan(Moment::Made(Ok(true)), |store| async move {
        store.create("log/00000000000000000001.json", "theirs".into()).await.unwrap();
    });
    let late = VersionRegistry::restore(&file, other.clone()).await.unwrap_err();
    assert!(other.is_done());
    assert_eq!(late.kind(), ErrorKind::InvalidState);
    assert!(store.list("snapshots", "").await.unwrap().is_empty());
    assert_eq!(store.get("log/00000000000000000001.json").await.unwrap().unwrap(), "theirs");
}

#[tokio::test]
async fn a_registry_whose_snapshot_is_gone_or_renamed_is_not_taken_for_another() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("backup");
    let registry = small_registry(&folder.path().join("registry")).await;
    let head = registry.backup(&file).await.unwrap();
    let store = ObjectVersionStore::memory();
    VersionRegistry::restore(&file, store.clone()).await.unwrap();
    let name = |seq: u64| format!("snapshots/{seq:020}.jsonl");
    let snapshot = store.get(&name(head.record)).await.unwrap().unwrap();
    store.delete(&name(head.record)).await.unwrap();
    let open = async || VersionRegistry::with_store(store.clone()).await.unwrap_err();
    let gone = open().await;
    assert_eq!((gone.kind(), gone.object()), (ErrorKind::Corrupt, Some("log/00000000000000000001.json")));
    let renamed = name(head.record + 1);
    store.put(&renamed, snapshot).await.unwrap();
    let other = open().await;
    assert_eq!((other.kind(), other.object()), (ErrorKind::Corrupt, Some(&*renamed)), "{other}");
}

/// In a folder: a folder of that name, or a link that leads nowhere.
#[tokio::test]
async fn a_number_that_is_taken_by_what_cannot_be_read_is_named_and_not_tried_for_ever() {
    let store = ObjectVersionStore::memory();
    let taken = Interrupted::new(&store);
    let registry = VersionRegistry::with_store(taken.clone()).await.unwrap();
    taken.plan(Moment::Made(Ok(false)), |store| async move {
        store.delete("log/00000000000000000001.json").await.unwrap();
    });
    let error = registry.register(Version::new("v1").digest(Digest::of(b"1"))).await.unwrap_err();
    assert!(taken.is_done());
    assert_eq!((error.kind(), error.object()), (ErrorKind::Missing, Some("log/00000000000000000001.json")));
}

#[tokio::test]
async fn a_record_that_is_gone_is_told_to_who_registers_and_nothing_is_stored_for_it() {
    let store = ObjectVersionStore::memory();
    let late = VersionRegistry::with_store(store.clone()).await.unwrap();
    let registry = VersionRegistry::with_store(store.clone()).await.unwrap();
    for id in ["v1", "v2", "v3", "v4"] {
        if id == "v3" {
            registry.compact(Retention::everything()).await.unwrap();
        }
        registry.register(Version::new(id).digest(Digest::of(id.as_bytes()))).await.unwrap();
    }
    let third = "log/00000000000000000003.json";
    store.delete(third).await.unwrap();
    for version in [Version::new("v5").digest(Digest::of(b"elsewhere")), Version::new("v5").artifact("5")] {
        let error = late.register(version).await.unwrap_err();
        assert_eq!((error.kind(), error.object()), (ErrorKind::Missing, Some(third)), "{error}");
        assert!(store.list("artifacts", "").await.unwrap().is_empty());
    }
}

/// Counts the names that are listed.
#[derive(Clone)]
struct Listed(ObjectVersionStore, Arc<AtomicUsize>);

#[async_trait]
impl VersionStore for Listed {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.0.get(name).await
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool> {
        self.0.create(name, bytes).await
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.0.put(name, bytes).await
    }

    async fn list(&self, folder: &str, after: &str) -> Result<Vec<String>> {
        let names = self.0.list(folder, after).await?;
        self.1.fetch_add(names.len(), Ordering::Relaxed);
        Ok(names)
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.0.delete(name).await
    }
}

#[tokio::test]
async fn no_call_lists_the_records_that_were_compacted() {
    let store = Listed(ObjectVersionStore::memory(), Arc::default());
    let registry = VersionRegistry::with_store(store.clone()).await.unwrap();
    registry.register(Version::new("v1").artifact("1")).await.unwrap();
    for _ in 0..200 {
        registry.deploy("production", Split::all("v1")).await.unwrap();
    }
    registry.compact(Retention::everything()).await.unwrap();
    registry.deploy("production", Split::all("v1")).await.unwrap();
    store.1.store(0, Ordering::Relaxed);
    let opened = VersionRegistry::with_store(store.clone()).await.unwrap();
    assert_eq!(opened.history(202).await.unwrap().len(), 1);
    opened.verify().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    opened.backup(folder.path().join("backup")).await.unwrap();
    opened.compact(Retention::everything()).await.unwrap();
    assert!(store.1.load(Ordering::Relaxed) < 20, "{}", store.1.load(Ordering::Relaxed));
}

#[tokio::test]
async fn a_file_that_is_no_backup_is_not_read_whole() {
    let file = tempfile::NamedTempFile::new().unwrap();
    // A hole, where the system has those.
    file.as_file().set_len((64 << 20) + 1).unwrap();
    let error = VersionRegistry::restore(file.path(), ObjectVersionStore::memory()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.to_string().ends_with("has no header in its first 64 MiB"), "{error}");
}

/// A snapshot or backup with one word of its header changed and sealed again, as a later version would write it.
fn resealed(bytes: &[u8], lines: usize, from: &str, to: &str) -> Vec<u8> {
    let text = String::from_utf8(bytes.to_vec()).unwrap();
    let end = text.match_indices('\n').nth(lines - 1).unwrap().0 + 1;
    let rest = &text[end..];
    let after = rest.find('\n').unwrap() + 1;
    let sealed = text[..end].replacen(from, to, 1);
    assert_ne!(sealed, text[..end]);
    let seal = Digest::of(sealed.as_bytes());
    format!("{sealed}{{\"digest\":\"{seal}\"}}\n{}", &rest[after..]).into_bytes()
}

#[tokio::test]
async fn snapshots_and_backups_of_a_later_format_are_refused_and_named() {
    let folder = tempfile::tempdir().unwrap();
    let registry = small_registry(&folder.path().join("registry")).await;
    registry.compact(Retention::everything()).await.unwrap();
    let snapshot = folder.path().join("registry/snapshots/00000000000000000004.jsonl");
    let bytes = std::fs::read(&snapshot).unwrap();
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() - 1;
    std::fs::write(&snapshot, resealed(&bytes, lines, "{\"format\":1", "{\"format\":2")).unwrap();
    let newer = VersionRegistry::open(folder.path().join("registry")).await.unwrap_err();
    let name = "snapshots/00000000000000000004.jsonl";
    assert_eq!((newer.kind(), newer.object()), (ErrorKind::NewerFormat, Some(name)));
    std::fs::write(&snapshot, bytes).unwrap();

    let file = folder.path().join("backup");
    registry.backup(&file).await.unwrap();
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, resealed(&whole, 1, "{\"format\":1", "{\"format\":2")).unwrap();
    let newer = VersionRegistry::restore(&file, ObjectVersionStore::memory()).await.unwrap_err();
    assert_eq!((newer.kind(), newer.object()), (ErrorKind::NewerFormat, file.to_str()));

    std::fs::write(&file, [&whole[..], b"x"].concat()).unwrap();
    let longer = VersionRegistry::restore(&file, ObjectVersionStore::memory()).await.unwrap_err();
    assert_eq!(longer.kind(), ErrorKind::Corrupt);
    assert!(longer.to_string().ends_with("goes on after its end"), "{longer}");
    std::fs::write(&file, whole).unwrap();
    VersionRegistry::restore(&file, ObjectVersionStore::memory()).await.unwrap();
}
