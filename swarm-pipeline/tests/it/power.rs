//! Which calls make files survive a power cut, and what a sync that fails leaves, as `strace` sees and spoils them.

use std::path::Path;
use std::process::Command;

use swarm_pipeline::{BlobKey, CheckpointStore, Durability, ErrorKind, FileStore, Record, RunId};

use super::kill::can_inject;

const DIR: &str = "SWARM_POWER_DIR";
const DURABILITY: &str = "SWARM_POWER_DURABILITY";
const OPERATION: &str = "SWARM_POWER_OPERATION";

fn open(dir: impl AsRef<Path>, power: bool) -> FileStore {
    let durability = if power { Durability::Power } else { Durability::Process };
    FileStore::options().durability(durability).open(dir).unwrap()
}

fn run_id() -> RunId {
    RunId::new("run").unwrap()
}

fn record(seq: u64) -> [Record; 1] {
    [Record { seq, body: "{}".into() }]
}

fn key() -> BlobKey {
    BlobKey::Reuse { key: "a".repeat(64) }
}

/// The process whose calls are watched; on its own it has nothing to do. It works without a runtime, on one thread.
#[test]
fn the_watched_process_runs() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let store = open(dir, std::env::var_os(DURABILITY).unwrap() == "Power");
    let operation = std::env::var(OPERATION).unwrap();
    let work = async {
        match operation.as_str() {
            "acquire" => drop(store.acquire(&run_id()).await.unwrap()),
            "append" => store.acquire(&run_id()).await.unwrap().append(&record(1)).await.unwrap(),
            "delete" => store.delete(&run_id()).await.unwrap(),
            "blob" => store.put_blob(&key(), b"{}").await.unwrap(),
            "go on after a failed sync" => {
                let mut log = store.acquire(&run_id()).await.unwrap();
                let failed = log.append(&record(1)).await.unwrap_err();
                assert_eq!(failed.kind(), ErrorKind::Io, "{failed}");
                // No later sync fails, which is why it must not be believed.
                let error = log.append(&record(2)).await.unwrap_err();
                assert_eq!((error.kind(), error.run()), (ErrorKind::Poisoned, Some("run")), "{error}");
                drop(log);
                let mut log = store.acquire(&run_id()).await.unwrap();
                let kept = log.take_records().len() as u64;
                log.append(&record(kept)).await.unwrap();
            }
            other => panic!("{other}"),
        }
    };
    futures::FutureExt::now_or_never(work).unwrap();
}

/// Does the operation in a process of its own under `strace` with these arguments.
fn watch(dir: &Path, power: bool, operation: &str, strace: &[&str]) {
    let output = Command::new("strace")
        .args(["-f", "-qq", "-y"])
        .args(strace)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "power::the_watched_process_runs", "--test-threads=1", "--nocapture"])
        .env(DIR, dir)
        .env(DURABILITY, if power { "Power" } else { "Process" })
        .env(OPERATION, operation)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{operation}: {}", String::from_utf8_lossy(&said));
}

/// Does the operation, and answers the syncs and the changes of names in `dir`, as `sync <name>`, `move <from> <to>`, `remove <name>`
/// and `write <name>`.
fn calls(dir: &Path, power: bool, operation: &str) -> Vec<String> {
    let scratch = tempfile::tempdir().unwrap();
    let trace = scratch.path().join("trace");
    let calls = "trace=fsync,fdatasync,write,/^rename,/^unlink";
    watch(dir, power, operation, &["-o", trace.to_str().unwrap(), "-e", calls]);
    let within = dir.to_str().unwrap();
    let text = std::fs::read_to_string(trace).unwrap();
    let name = |path: &str| {
        let name = path.strip_prefix(within).unwrap().trim_start_matches('/');
        let name = name.replace(&"a".repeat(64), "<key>");
        match name.rsplit_once('.') {
            _ if name.is_empty() => "<dir>".to_owned(),
            Some((before, "tmp")) => format!("{}<tmp>", before.split('.').next().unwrap_or_default()),
            _ => name,
        }
    };
    text.lines()
        .filter(|line| line.contains(within))
        .map(|line| {
            let call = line.split_once(' ').unwrap().1.trim_start();
            assert!(call.contains(" = ") && !call.contains(" = -1"), "{line}");
            let paths: Vec<String> =
                call.split(['<', '>', '"']).filter(|part| part.starts_with(within)).map(name).collect();
            let verb = match call.split('(').next().unwrap() {
                "fsync" | "fdatasync" => "sync",
                "write" => "write",
                call if call.starts_with("rename") => "move",
                _ => "remove",
            };
            format!("{verb} {}", paths.join(" "))
        })
        .collect()
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_to_survive_a_power_cut_is_synced_with_the_folder_that_names_it() {
    if !can_inject("the syncs of a store") {
        return;
    }
    let written = |dir: &Path| {
        let mut log = futures::FutureExt::now_or_never(open(dir, false).acquire(&run_id())).unwrap().unwrap();
        futures::FutureExt::now_or_never(log.append(&record(0))).unwrap().unwrap();
    };
    let nothing = |_: &Path| {};
    // What there is before, the operation, and the calls; those in brackets only where power may be cut.
    type Case<'c> = (&'c dyn Fn(&Path), &'c str, &'c [&'c str]);
    let cases: [Case<'_>; 5] = [
        (&nothing, "acquire", &["write run.jsonl", "[sync run.jsonl", "[sync <dir>"]),
        // What a writer left that died before its sync is built on from here.
        (&written, "acquire", &["[sync run.jsonl", "[sync <dir>"]),
        (&written, "append", &["[sync run.jsonl", "[sync <dir>", "write run.jsonl", "[sync run.jsonl"]),
        (&written, "delete", &["remove run.jsonl", "[sync <dir>"]),
        (
            &nothing,
            "blob",
            // Moved to its place when it is whole, and no earlier than that.
            &[
                "[sync <dir>",
                "write reuse/<tmp>",
                "[sync reuse/<tmp>",
                "move reuse/<tmp> reuse/<key>",
                "[sync reuse",
            ],
        ),
    ];
    for (before, operation, expected) in cases {
        for power in [true, false] {
            let dir = tempfile::tempdir().unwrap();
            before(dir.path());
            let expected: Vec<&str> = expected
                .iter()
                .filter_map(|call| match call.strip_prefix('[') {
                    Some(call) => power.then_some(call),
                    None => Some(*call),
                })
                .collect();
            assert_eq!(calls(dir.path(), power, operation), expected, "{operation}, power: {power}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn after_a_failed_sync_nothing_is_acknowledged_before_the_run_is_acquired_again() {
    if !can_inject("failing syncs") {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    drop(futures::FutureExt::now_or_never(open(dir.path(), true).acquire(&run_id())).unwrap().unwrap());
    let mut log =
        futures::FutureExt::now_or_never(open(dir.path(), true).acquire(&run_id())).unwrap().unwrap();
    futures::FutureExt::now_or_never(log.append(&record(0))).unwrap().unwrap();
    drop(log);
    let strace = ["-o", "/dev/null", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=1"];
    watch(dir.path(), true, "go on after a failed sync", &strace);
}
