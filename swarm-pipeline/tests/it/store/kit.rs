//! The conformance kit and the injected faults: that our stores pass, and that the kit can fail.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use swarm_pipeline::testing::{Fault, FaultyStore, conformance};
use swarm_pipeline::{
    BlobKey, CheckpointStore, Durability, Error, ErrorKind, FileStore, MemoryStore, Record, Result, RunId,
    RunLog,
};

use super::{error_of, records, run_id, without_runtime};

type Runs = Arc<Mutex<BTreeMap<RunId, (u64, Vec<Record>)>>>;

#[tokio::test]
async fn every_store_of_the_crate_keeps_the_contract() {
    let report = conformance::check(async || MemoryStore::new()).await;
    assert!(report.is_ok(), "{report}");
    for durability in [Durability::Process, Durability::Power] {
        let dir = tempfile::tempdir().unwrap();
        let fresh = || tempfile::tempdir_in(dir.path()).unwrap().keep();
        let make = async || FileStore::options().durability(durability).open(fresh()).unwrap();
        let report = conformance::check(make).await;
        assert!(report.is_ok(), "{durability:?}: {report}");
        assert!(report.kept().len() >= 20);
    }
    let report = conformance::check(async || FaultyStore::counting(MemoryStore::new())).await;
    assert!(report.is_ok(), "{report}");
}

#[test]
fn the_kit_needs_no_runtime() {
    let dir = tempfile::tempdir().unwrap();
    let make = async || FileStore::open(tempfile::tempdir_in(dir.path()).unwrap().keep()).unwrap();
    let report = without_runtime(conformance::check(make));
    assert!(report.is_ok(), "{report}");
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Flaw {
    None,
    LosesTheLastAppend,
    LetsTwoWritersIn,
    ForgetsBlobs,
    ListsBackwards,
    TakesAnyNumber,
    KeepsDeletedRuns,
    HandsOutOneToken,
}

/// A store that fences earlier writers, and has one flaw.
#[derive(Clone)]
pub(crate) struct Flawed {
    flaw: Flaw,
    runs: Runs,
    blobs: MemoryStore,
}

/// A store without a flaw whose new writers fence the old ones. Clones share what they keep.
pub(crate) fn fencing() -> Flawed {
    Flawed { flaw: Flaw::None, runs: Arc::default(), blobs: MemoryStore::new() }
}

struct FlawedLog {
    flaw: Flaw,
    runs: Runs,
    run: RunId,
    token: u64,
    records: Vec<Record>,
    appends: Vec<usize>,
}

#[async_trait]
impl CheckpointStore for Flawed {
    async fn acquire(&self, run: &RunId) -> Result<Box<dyn RunLog>> {
        let mut runs = self.runs.lock().unwrap();
        let (token, records) = runs.entry(run.clone()).or_default();
        *token += 1;
        Ok(Box::new(FlawedLog {
            flaw: self.flaw,
            runs: Arc::clone(&self.runs),
            run: run.clone(),
            token: *token,
            records: records.clone(),
            appends: Vec::new(),
        }))
    }

    async fn read(&self, run: &RunId) -> Result<Vec<Record>> {
        Ok(self.runs.lock().unwrap().get(run).map(|(_, records)| records.clone()).unwrap_or_default())
    }

    async fn list(&self) -> Result<Vec<RunId>> {
        let mut runs: Vec<_> = self.runs.lock().unwrap().keys().cloned().collect();
        if self.flaw == Flaw::ListsBackwards {
            runs.reverse();
        }
        Ok(runs)
    }

    async fn delete(&self, run: &RunId) -> Result<()> {
        if self.flaw != Flaw::KeepsDeletedRuns {
            self.runs.lock().unwrap().remove(run);
        }
        self.blobs.delete(run).await
    }

    async fn put_blob(&self, key: &BlobKey, bytes: &[u8]) -> Result<()> {
        if self.flaw == Flaw::ForgetsBlobs { Ok(()) } else { self.blobs.put_blob(key, bytes).await }
    }

    async fn get_blob(&self, key: &BlobKey) -> Result<Option<Vec<u8>>> {
        self.blobs.get_blob(key).await
    }
}

#[async_trait]
impl RunLog for FlawedLog {
    fn token(&self) -> u64 {
        if self.flaw == Flaw::HandsOutOneToken { 1 } else { self.token }
    }

    fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    async fn append(&mut self, records: &[Record]) -> Result<()> {
        let mut runs = self.runs.lock().unwrap();
        let Some((token, kept)) = runs.get_mut(&self.run) else {
            return Err(Error::store(ErrorKind::NotFound, "the run was deleted"));
        };
        if *token != self.token && self.flaw != Flaw::LetsTwoWritersIn {
            return Err(Error::store(ErrorKind::Fenced, "a later writer took the place"));
        }
        let follows = (kept.len() as u64..).zip(records).all(|(seq, record)| record.seq == seq);
        if !follows && self.flaw != Flaw::TakesAnyNumber {
            return Err(Error::store(ErrorKind::InvalidInput, "the numbers do not follow"));
        }
        kept.extend_from_slice(records);
        self.appends.push(kept.len());
        Ok(())
    }
}

impl Drop for FlawedLog {
    fn drop(&mut self) {
        if let (Flaw::LosesTheLastAppend, Some((_, kept))) =
            (self.flaw, self.runs.lock().unwrap().get_mut(&self.run))
        {
            self.appends.pop();
            kept.truncate(self.appends.pop().unwrap_or_default());
        }
    }
}

#[tokio::test]
async fn the_kit_names_the_rule_that_a_broken_store_breaks() {
    let cases = [
        (Flaw::LosesTheLastAppend, "what was appended is read again, in order"),
        (Flaw::LetsTwoWritersIn, "a second writer is kept out, or fences the first"),
        (Flaw::ForgetsBlobs, "a blob is read as it was put last"),
        (Flaw::ListsBackwards, "runs are listed in ascending order"),
        (Flaw::TakesAnyNumber, "numbers that do not follow are refused and nothing is written"),
        (Flaw::KeepsDeletedRuns, "a deleted run is gone with its artifacts, and nothing else is"),
        (Flaw::HandsOutOneToken, "the token grows from one writer to the next"),
    ];
    let make = |flaw| async move || Flawed { flaw, ..fencing() };
    let sound = broken_rules(&conformance::check(make(Flaw::None)).await);
    assert_eq!(sound, ["a run that has a writer is not deleted"], "that is what this store leaves out");
    for (flaw, rule) in cases {
        let report = conformance::check(make(flaw)).await;
        assert!(broken_rules(&report).contains(&rule), "{flaw:?}: {report}");
        assert!(report.to_string().contains(rule));
    }
}

fn broken_rules(report: &conformance::Report) -> Vec<&'static str> {
    report.broken().iter().map(|broken| broken.rule).collect()
}

/// Appends three times and puts a blob, as far as the store lets it; answers how many appends were acknowledged.
async fn work<S: CheckpointStore>(store: &FaultyStore<S>) -> usize {
    let Ok(mut log) = store.acquire(&run_id("run")).await else { return 0 };
    let all = records(0, &["{}"; 12]);
    for (done, batch) in all.chunks(4).enumerate() {
        if log.append(batch).await.is_err() {
            return done;
        }
        let _ = store.put_blob(&BlobKey::Reuse { key: "a".repeat(64) }, b"x").await;
    }
    3
}

#[tokio::test]
async fn a_fault_at_any_operation_leaves_a_prefix_that_holds_what_was_acknowledged() {
    let all = records(0, &["{}"; 12]);
    let counting = FaultyStore::counting(MemoryStore::new());
    assert_eq!(work(&counting).await, 3);
    let operations = counting.operations();
    assert_eq!((operations, counting.acknowledged()), (7, 7));
    for fault in Fault::ALL {
        for operation in 0..operations {
            let disk = MemoryStore::new();
            let store = FaultyStore::failing_at(disk.clone(), operation, fault);
            let acknowledged = work(&store).await;
            assert_eq!(store.is_crashed(), fault != Fault::Error, "{fault:?} at {operation}");
            if store.is_crashed() {
                assert_eq!(store.acknowledged(), operation, "{fault:?} at {operation}");
                assert_eq!(error_of(store.list().await).kind(), ErrorKind::Io);
                assert_eq!(store.operations(), operation + 1);
            }
            let left = disk.acquire(&run_id("run")).await.unwrap().take_records();
            let is_append = operation % 2 == 1;
            let extra = match fault {
                Fault::CrashAfter if is_append => 4,
                Fault::Torn if is_append => 2,
                _ => 0,
            };
            assert_eq!(left, all[..acknowledged * 4 + extra], "{fault:?} at {operation}");
        }
    }
}

#[tokio::test]
async fn a_crash_gives_the_place_up_though_the_log_is_not_dropped() {
    let disk = MemoryStore::new();
    let store = FaultyStore::failing_at(disk.clone(), 1, Fault::Crash);
    let mut log = store.acquire(&run_id("run")).await.unwrap();
    assert_eq!(error_of(disk.acquire(&run_id("run")).await).kind(), ErrorKind::RunBusy);
    assert_eq!(error_of(log.append(&records(0, &["{}"])).await).kind(), ErrorKind::Io);
    disk.acquire(&run_id("run")).await.unwrap();
    assert_eq!(error_of(log.append(&records(0, &["{}"])).await).kind(), ErrorKind::Io);
}
