//! What stores promise: the file store against damaged files and rivals, and all of them against the contract.

#[cfg(feature = "testing")]
pub(crate) mod kit;

use std::fs;
use std::path::{Path, PathBuf};

use swarm_pipeline::{
    BlobKey, CheckpointStore, Durability, Error, ErrorKind, FileStore, MemoryStore, Record, RunId,
};

const BODIES: [&str; 4] = [r#"{"a":1}"#, r#"{"b":{"nested":[{},{}]}}"#, r#"{"ż":"🦀"}"#, "{}"];

fn run_id(name: &str) -> RunId {
    RunId::new(name).unwrap()
}

fn records(from: u64, bodies: &[&str]) -> Vec<Record> {
    (from..).zip(bodies).map(|(seq, body)| Record { seq, body: (*body).to_owned() }).collect()
}

fn error_of<T>(answer: Result<T, Error>) -> Error {
    match answer {
        Ok(_) => panic!("it was accepted"),
        Err(error) => error,
    }
}

/// Without a runtime there is no other thread to wait for, so a store answers at the first poll.
fn without_runtime<T>(work: impl Future<Output = T>) -> T {
    futures::FutureExt::now_or_never(work).unwrap()
}

fn log_path(store: &FileStore) -> PathBuf {
    store.dir().join("run.jsonl")
}

/// A folder with one run of two appends, and the bytes of its log.
async fn written() -> (tempfile::TempDir, FileStore, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let store = FileStore::open(dir.path()).unwrap();
    let mut log = store.acquire(&run_id("run")).await.unwrap();
    log.append(&records(0, &BODIES[..1])).await.unwrap();
    log.append(&records(1, &BODIES[1..])).await.unwrap();
    let bytes = fs::read(log_path(&store)).unwrap();
    (dir, store, bytes)
}

/// Acquires the damaged run and, if that works, proves that it can be carried on.
async fn acquire_and_carry_on(store: &FileStore) -> Result<Vec<Record>, Error> {
    let run = run_id("run");
    let mut log = store.acquire(&run).await?;
    let found = log.take_records();
    let more = records(found.len() as u64, &[r#"{"carried":"on"}"#]);
    log.append(&more).await.unwrap();
    drop(log);
    let mut again = store.acquire(&run).await.unwrap();
    assert_eq!(again.take_records(), [found.clone(), more].concat());
    Ok(found)
}

#[tokio::test]
async fn every_changed_byte_of_a_log_is_a_typed_error_or_harmless() {
    let (_dir, store, whole) = written().await;
    let path = log_path(&store);
    let all = records(0, &BODIES);
    let (mut refused, mut mended, mut changes_of_the_last_byte) = (0, 0, 0);
    for at in 0..whole.len() {
        let masks = [0x01, 0x02, 0x10, 0x20, 0x80, 0xff].map(|mask| whole[at] ^ mask);
        for byte in masks.into_iter().chain(*b"\n}0\0") {
            if byte == whole[at] {
                continue;
            }
            changes_of_the_last_byte += usize::from(at == whole.len() - 1);
            let mut damaged = whole.clone();
            damaged[at] = byte;
            fs::write(&path, &damaged).unwrap();
            let read = store.read(&run_id("run")).await;
            match acquire_and_carry_on(&store).await {
                Ok(found) => {
                    assert_eq!(found, all, "byte {at} became {byte:#x}");
                    assert_eq!(read.unwrap(), all);
                    mended += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Corrupt, "byte {at} became {byte:#x}: {error}");
                    assert_eq!(read.unwrap_err().kind(), ErrorKind::Corrupt);
                    assert_eq!(error.path(), Some(path.as_path()));
                    assert!(error.offset().unwrap() <= at as u64, "{error} but byte {at} is bad");
                    assert_eq!(fs::read(&path).unwrap(), damaged, "a damaged log is left as it is");
                    refused += 1;
                }
            }
        }
    }
    // Whatever becomes of the last newline, the record before it is whole. Every other byte counts.
    assert_eq!(mended, changes_of_the_last_byte);
    assert!(refused > 6 * (whole.len() - 1), "only {refused} changes of {} bytes were refused", whole.len());
}

#[tokio::test]
async fn a_log_cut_anywhere_holds_the_whole_records_before_the_cut() {
    let (_dir, store, whole) = written().await;
    let all = records(0, &BODIES);
    let line_ends: Vec<_> = (0..whole.len()).filter(|at| whole[*at] == b'\n').collect();
    for len in 0..=whole.len() {
        fs::write(log_path(&store), &whole[..len]).unwrap();
        let expected = &all[..line_ends[1..].iter().filter(|end| **end <= len).count()];
        assert_eq!(store.read(&run_id("run")).await.unwrap(), expected, "cut at {len}");
        assert_eq!(acquire_and_carry_on(&store).await.unwrap(), expected, "cut at {len}");
    }
}

#[tokio::test]
async fn missing_doubled_and_swapped_lines_are_corrupt_at_the_first_wrong_one() {
    let (_dir, store, whole) = written().await;
    let lines: Vec<_> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    let [header, zero, one, two, three] = lines[..] else { panic!("five lines were written") };
    let cases = [
        ("the header is missing", vec![zero, one, two, three], 0),
        ("a record is missing", vec![header, zero, two, three], 2),
        ("a record is there twice", vec![header, zero, zero, one], 2),
        ("records are swapped", vec![header, zero, two, one], 2),
        ("an empty line stands between", vec![header, zero, b"\n", one], 2),
        ("a foreign line stands between", vec![header, zero, b"{}\n", one], 2),
        ("the header is there twice", vec![header, header, zero], 1),
    ];
    for (what, lines, bad) in cases {
        fs::write(log_path(&store), lines.concat()).unwrap();
        let error = error_of(store.acquire(&run_id("run")).await);
        let offset: usize = lines[..bad].iter().map(|line| line.len()).sum();
        assert_eq!(
            (error.kind(), error.offset()),
            (ErrorKind::Corrupt, Some(offset as u64)),
            "{what}: {error}"
        );
    }
}

#[tokio::test]
async fn a_blob_that_was_changed_or_cut_is_never_answered() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileStore::open(dir.path()).unwrap();
    let contents = b"{\"a\":1}\n\0\xff";
    for (key, file) in blob_keys(contents) {
        store.put_blob(&key, contents).await.unwrap();
        let path = dir.path().join(file);
        let whole = fs::read(&path).unwrap();
        let flips =
            (0..whole.len()).flat_map(|at| [0x01, 0x20, 0x80, 0xff].map(|mask| (at, whole[at] ^ mask)));
        let flips =
            flips.chain((0..whole.len()).map(|at| (at, b'\n'))).filter(|(at, byte)| whole[*at] != *byte);
        let flipped = flips.map(|(at, byte)| {
            let mut damaged = whole.clone();
            damaged[at] = byte;
            damaged
        });
        let cut = (0..whole.len()).map(|len| whole[..len].to_vec());
        let longer = [b"\n", b"\0", b"x"].map(|end| [&whole[..], end].concat());
        for damaged in flipped.chain(cut).chain(longer) {
            fs::write(&path, &damaged).unwrap();
            let error = error_of(store.get_blob(&key).await);
            assert_eq!(
                error.kind(),
                ErrorKind::Corrupt,
                "{key:?} as {:?}",
                damaged.escape_ascii().to_string()
            );
            assert_eq!(error.path(), Some(path.as_path()));
        }
        store.put_blob(&key, contents).await.unwrap();
        assert_eq!(
            store.get_blob(&key).await.unwrap().unwrap(),
            contents,
            "a new blob replaces a damaged one"
        );
    }
}

/// A key of each kind, and the file that it becomes.
fn blob_keys(contents: &[u8]) -> [(BlobKey, String); 3] {
    use sha2::{Digest, Sha256};
    let digest: String = Sha256::digest(contents).iter().map(|byte| format!("{byte:02x}")).collect();
    let key = "0123456789abcdef".repeat(4);
    [
        (BlobKey::Reuse { key: key.clone() }, format!("reuse/{key}")),
        (BlobKey::Durations { pipeline: key.clone() }, format!("durations/{key}")),
        (BlobKey::Artifact { run: run_id("run"), sha256: digest.clone() }, format!("run.artifacts/{digest}")),
    ]
}

#[tokio::test]
async fn a_key_that_is_not_a_digest_never_becomes_a_path() {
    let dir = tempfile::tempdir().unwrap();
    let file = FileStore::open(dir.path().join("store")).unwrap();
    let memory = MemoryStore::new();
    let upper = "A".repeat(64);
    for bad in
        ["", "../../escaped", "/etc/passwd", &upper, &"a".repeat(63), &"a".repeat(65), &"./".repeat(32)]
    {
        let keys = [
            BlobKey::Reuse { key: bad.into() },
            BlobKey::Durations { pipeline: bad.into() },
            BlobKey::Artifact { run: run_id("run"), sha256: bad.into() },
        ];
        for key in keys {
            for store in [&file as &dyn CheckpointStore, &memory] {
                assert_eq!(
                    error_of(store.put_blob(&key, b"x").await).kind(),
                    ErrorKind::InvalidInput,
                    "{bad}"
                );
                assert_eq!(error_of(store.get_blob(&key).await).kind(), ErrorKind::InvalidInput, "{bad}");
            }
        }
    }
    let wrong = BlobKey::Artifact { run: run_id("run"), sha256: "a".repeat(64) };
    for store in [&file as &dyn CheckpointStore, &memory] {
        assert_eq!(error_of(store.put_blob(&wrong, b"x").await).kind(), ErrorKind::InvalidInput);
    }
    assert_eq!(fs::read_dir(dir.path().join("store")).unwrap().count(), 0, "nothing was written");
}

#[tokio::test]
async fn a_body_that_is_not_one_object_in_one_line_is_refused_and_the_log_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let stores: [&dyn CheckpointStore; 2] = [&FileStore::open(dir.path()).unwrap(), &MemoryStore::new()];
    for store in stores {
        let mut log = store.acquire(&run_id("run")).await.unwrap();
        for body in ["", "1", "[1]", "{\n}", "{}\n", " {}", "{"] {
            let error = error_of(log.append(&records(0, &["{}", body])).await);
            assert_eq!(error.kind(), ErrorKind::InvalidInput, "{body:?}");
            assert_eq!(error.run(), Some("run"));
        }
        log.append(&records(0, &["{}"])).await.unwrap();
        drop(log);
        assert_eq!(store.read(&run_id("run")).await.unwrap(), records(0, &["{}"]));
    }
}

#[tokio::test]
async fn a_second_handle_on_the_folder_finds_the_run_busy_and_names_the_lock() {
    let (_dir, store, _) = written().await;
    let rival = FileStore::open(store.dir()).unwrap();
    let log = store.acquire(&run_id("run")).await.unwrap();
    for error in [error_of(rival.acquire(&run_id("run")).await), error_of(rival.delete(&run_id("run")).await)]
    {
        assert_eq!(error.kind(), ErrorKind::RunBusy);
        assert!(error.is_retryable());
        assert_eq!((error.run(), error.path()), (Some("run"), Some(log_path(&store).as_path())));
    }
    assert_eq!(rival.read(&run_id("run")).await.unwrap(), records(0, &BODIES), "readers are let in");
    drop(log);
    rival.acquire(&run_id("run")).await.unwrap();
}

const RIVAL_FOLDER: &str = "SWARM_PIPELINE_TEST_RIVAL_FOLDER";

/// The other process of the next test; on its own it has nothing to do.
#[tokio::test]
async fn a_rival_process_finds_the_run_busy() {
    if let Some(dir) = std::env::var_os(RIVAL_FOLDER) {
        let store = FileStore::open(dir).unwrap();
        assert_eq!(error_of(store.acquire(&run_id("run")).await).kind(), ErrorKind::RunBusy);
        assert_eq!(store.read(&run_id("run")).await.unwrap(), records(0, &BODIES));
        store.acquire(&run_id("rival")).await.unwrap().append(&records(0, &["{}"])).await.unwrap();
    }
}

#[tokio::test]
async fn another_process_is_kept_out_of_the_run_but_not_of_the_folder() {
    let (_dir, store, _) = written().await;
    let _log = store.acquire(&run_id("run")).await.unwrap();
    let rival = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "store::a_rival_process_finds_the_run_busy", "--test-threads=1"])
        .env(RIVAL_FOLDER, store.dir())
        .output()
        .unwrap();
    assert!(rival.status.success(), "{}", String::from_utf8_lossy(&rival.stdout));
    assert_eq!(store.read(&run_id("rival")).await.unwrap().len(), 1, "the rival did run");
}

#[test]
fn a_run_acquired_and_deleted_by_many_at_once_has_one_writer_whose_records_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let acquired = std::thread::scope(|scope| {
        let rivals: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| without_runtime(acquire_and_delete(FileStore::open(dir.path()).unwrap())))
            })
            .collect();
        rivals.into_iter().map(|rival| rival.join().unwrap()).sum::<u64>()
    });
    assert!(acquired >= 200, "the run was hardly ever acquired");
}

async fn acquire_and_delete(store: FileStore) -> u64 {
    let run = run_id("run");
    let mut acquired = 0;
    for round in 0..2000 {
        let answer = match round % 2 {
            0 => store.delete(&run).await.map(|()| None),
            _ => store.acquire(&run).await.map(Some),
        };
        match answer {
            Err(error) => assert_eq!(error.kind(), ErrorKind::RunBusy, "{error}"),
            Ok(None) => {}
            Ok(Some(mut log)) => {
                acquired += 1;
                let mut all = log.take_records();
                let more = records(all.len() as u64, &["{}"]);
                log.append(&more).await.unwrap();
                all.extend(more);
                assert_eq!(store.read(&run).await.unwrap(), all, "the writer's file is the run's file");
            }
        }
    }
    acquired
}

#[tokio::test]
async fn foreign_files_are_no_runs() {
    let (_dir, store, _) = written().await;
    let dir = store.dir();
    for name in ["notes.txt", ".hidden.jsonl", "with space.jsonl", ".jsonl", "run.jsonl.bak", "run"] {
        fs::write(dir.join(name), "x").unwrap();
    }
    fs::create_dir(dir.join("folder.jsonl")).unwrap();
    assert_eq!(store.list().await.unwrap(), [run_id("run")]);
    let error = error_of(store.acquire(&run_id("folder")).await);
    assert_eq!((error.kind(), error.path()), (ErrorKind::Io, Some(dir.join("folder.jsonl").as_path())));
}

#[cfg(unix)]
#[tokio::test]
async fn links_and_pipes_are_neither_listed_nor_opened() {
    let (_dir, store, whole) = written().await;
    let dir = store.dir();
    std::os::unix::fs::symlink(log_path(&store), dir.join("link.jsonl")).unwrap();
    std::os::unix::fs::symlink(dir.join("nowhere"), dir.join("dangling.jsonl")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(dir.join("pipe.jsonl")).status().unwrap();
    assert!(made.success());
    assert_eq!(store.list().await.unwrap(), [run_id("run")]);
    for name in ["link", "dangling", "pipe"] {
        for error in [
            error_of(store.acquire(&run_id(name)).await),
            error_of(store.read(&run_id(name)).await),
            error_of(store.delete(&run_id(name)).await),
        ] {
            assert_eq!(error.kind(), ErrorKind::Io, "{name}: {error}");
        }
    }
    assert_eq!(fs::read(log_path(&store)).unwrap(), whole);
    assert!(!dir.join("nowhere").exists());
}

#[tokio::test]
async fn a_missing_folder_is_made_and_a_file_in_its_place_is_named() {
    let dir = tempfile::tempdir().unwrap();
    for durability in [Durability::Process, Durability::Power] {
        let inner = dir.path().join(format!("{durability:?}/a/b"));
        FileStore::options().durability(durability).open(&inner).unwrap();
        assert!(inner.is_dir());
        let file = dir.path().join("file");
        fs::write(&file, "x").unwrap();
        for path in [file.clone(), file.join("below")] {
            let error = error_of(FileStore::options().durability(durability).open(&path));
            assert_eq!(error.kind(), ErrorKind::Io);
            assert!(error.to_string().starts_with("could not create the folder "), "{error}");
            assert!(error.path().unwrap().starts_with(&file));
            assert!(std::error::Error::source(&error).is_some());
        }
    }
}

#[tokio::test]
async fn a_folder_that_vanished_is_an_error_that_names_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileStore::open(dir.path().join("store")).unwrap();
    fs::remove_dir(store.dir()).unwrap();
    for error in [error_of(store.acquire(&run_id("run")).await), error_of(store.list().await)] {
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.path().unwrap().starts_with(store.dir()));
    }
    assert_eq!(store.read(&run_id("run")).await.unwrap(), []);
}

#[cfg(unix)]
#[tokio::test]
async fn a_read_only_folder_can_be_read_but_not_written() {
    use std::os::unix::fs::PermissionsExt;
    let (_dir, store, _) = written().await;
    let process_is_root = is_root(store.dir());
    fs::set_permissions(store.dir(), fs::Permissions::from_mode(0o555)).unwrap();
    let again = FileStore::open(store.dir()).unwrap();
    assert_eq!(again.read(&run_id("run")).await.unwrap(), records(0, &BODIES));
    assert_eq!(again.list().await.unwrap(), [run_id("run")]);
    if process_is_root {
        eprintln!("left out: permissions do not bind the super-user, so nothing is refused");
    } else {
        let error = error_of(again.acquire(&run_id("new")).await);
        assert_eq!(error.kind(), ErrorKind::Io);
        assert!(error.to_string().starts_with("could not open "), "{error}");
        let key = BlobKey::Reuse { key: "a".repeat(64) };
        assert_eq!(error_of(again.put_blob(&key, b"x").await).kind(), ErrorKind::Io);
    }
    fs::set_permissions(store.dir(), fs::Permissions::from_mode(0o755)).unwrap();
}

/// Whether permissions do not bind this process.
#[cfg(unix)]
fn is_root(dir: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata(dir).unwrap().uid() == 0
}

#[tokio::test]
async fn deleting_takes_up_what_an_interrupted_deletion_left() {
    let (_dir, store, _) = written().await;
    let [_, _, (key, file)] = blob_keys(b"an output");
    store.put_blob(&key, b"an output").await.unwrap();
    fs::remove_file(log_path(&store)).unwrap();
    assert!(store.dir().join(&file).exists());
    store.delete(&run_id("run")).await.unwrap();
    assert!(!log_path(&store).exists() && !store.dir().join("run.artifacts").exists());
}

#[tokio::test]
async fn an_append_that_is_dropped_while_it_is_synced_is_in_the_log_and_the_next_one_follows() {
    let dir = tempfile::tempdir().unwrap();
    let store = FileStore::options().durability(Durability::Power).open(dir.path()).unwrap();
    let mut log = store.acquire(&run_id("run")).await.unwrap();
    for (seq, body) in (0..).zip(BODIES) {
        // Whether the sync is over at the first poll or not, the write is.
        let _ = futures::FutureExt::now_or_never(log.append(&records(seq, &[body])));
    }
    log.append(&records(4, &["{}"])).await.unwrap();
    let _ = futures::FutureExt::now_or_never(log.append(&records(5, &["{}"])));
    drop(log);
    let left = store.acquire(&run_id("run")).await.unwrap().take_records();
    assert_eq!(left, [records(0, &BODIES), records(4, &["{}", "{}"])].concat());
}

#[test]
fn a_store_works_without_a_runtime() {
    let dir = tempfile::tempdir().unwrap();
    without_runtime(async {
        let store = FileStore::options().durability(Durability::Power).open(dir.path()).unwrap();
        let mut log = store.acquire(&run_id("run")).await.unwrap();
        log.append(&records(0, &BODIES)).await.unwrap();
        assert_eq!(store.read(&run_id("run")).await.unwrap(), records(0, &BODIES));
    });
}

#[tokio::test]
async fn a_batch_is_worth_it_only_where_an_append_waits_for_the_disk() {
    let dir = tempfile::tempdir().unwrap();
    for (durability, batch) in [(Durability::Process, 1), (Durability::Power, 64)] {
        let store = FileStore::options().durability(durability).open(dir.path()).unwrap();
        assert_eq!(store.acquire(&run_id("run")).await.unwrap().batch(), batch);
    }
}
