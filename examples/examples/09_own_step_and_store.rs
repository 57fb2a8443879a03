//! A step of your own, known by name, and a store of your own, held against the contract of stores.
//!
//! `Publish` implements `PipelineStep`, with an undo. `OneFile` keeps all runs in one file of JSON lines; the
//! conformance kit (feature `testing`) says whether it keeps every rule that the engine relies on.
//!
//! `cargo run --release -p swarm-examples --example 09_own_step_and_store`
#![allow(clippy::print_stdout, reason = "an example talks to its reader")]

use std::collections::{BTreeMap, HashMap, HashSet};
use std::error::Error as StdError;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use swarm_examples::Scratch;
use swarm_pipeline::testing::conformance;
use swarm_pipeline::{
    BlobKey, CheckpointStore, Error, ErrorKind, LocalEngine, Pipeline, PipelineStep, Record, Result, RunId,
    RunLog, RunStatus, StepContext, StepError, Why,
};

/// Puts the output of another step into a file.
struct Publish {
    from: &'static str,
    to: PathBuf,
}

#[async_trait]
impl PipelineStep for Publish {
    async fn run(&self, cx: &StepContext) -> Result<Value, StepError> {
        let text = cx.output::<String>(self.from)?;
        fs::write(&self.to, text.as_bytes())?;
        Ok(json!({ "bytes": text.len() }))
    }

    /// Called whether or not the end of `run` is known, so it asks the world instead of `output`.
    async fn compensate(&self, _cx: &StepContext, _output: Option<&Value>) -> Result<(), StepError> {
        match fs::remove_file(&self.to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn compensates(&self) -> bool {
        true
    }

    fn version(&self) -> &str {
        "1"
    }
}

/// All runs and blobs in one file, read when it is opened and appended to from then on.
#[derive(Clone)]
struct OneFile(Arc<Mutex<Kept>>);

struct Kept {
    file: File,
    runs: BTreeMap<String, Vec<Record>>,
    blobs: HashMap<String, Vec<u8>>,
    writers: HashSet<String>,
    /// How often each run had a writer.
    tokens: HashMap<String, u64>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
enum Line {
    Appended { run: String, bodies: Vec<String> },
    Blob { key: String, bytes: Vec<u8> },
    Deleted { run: String },
}

impl OneFile {
    fn open(path: &Path) -> Result<Self> {
        let failed =
            |error| Error::store(ErrorKind::Io, format!("cannot use {}", path.display())).because(error);
        let text = if path.exists() { fs::read(path).map_err(failed)? } else { Vec::new() };
        // A process that died in the middle of a line never answered that it was kept, so it may go.
        let whole = text.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let file = OpenOptions::new().create(true).append(true).open(path).map_err(failed)?;
        file.set_len(whole as u64).map_err(failed)?;
        let mut kept = Kept {
            file,
            runs: BTreeMap::new(),
            blobs: HashMap::new(),
            writers: HashSet::new(),
            tokens: HashMap::new(),
        };
        for line in text[..whole].split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let damaged = |error| Error::store(ErrorKind::Corrupt, "a line is damaged").because(error);
            kept.apply(serde_json::from_slice::<Line>(line).map_err(damaged)?);
        }
        Ok(OneFile(Arc::new(Mutex::new(kept))))
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().expect("nothing panics while it holds the lock")
    }
}

impl Kept {
    /// First the file, then the memory.
    fn write(&mut self, line: Line) -> Result<()> {
        let mut bytes = serde_json::to_vec(&line)
            .map_err(|error| Error::store(ErrorKind::Codec, "a line cannot be written").because(error))?;
        bytes.push(b'\n');
        // A store that promises more than surviving the process would sync here as well.
        self.file
            .write_all(&bytes)
            .map_err(|error| Error::store(ErrorKind::Io, "cannot append").because(error))?;
        self.apply(line);
        Ok(())
    }

    fn apply(&mut self, line: Line) {
        match line {
            Line::Appended { run, bodies } => {
                let records = self.runs.entry(run).or_default();
                let next = records.len() as u64;
                records.extend((next..).zip(bodies).map(|(seq, body)| Record { seq, body }));
            }
            Line::Blob { key, bytes } => drop(self.blobs.insert(key, bytes)),
            Line::Deleted { run } => {
                self.runs.remove(&run);
                self.blobs.retain(|key, _| !key.starts_with(&format!("artifacts/{run}/")));
            }
        }
    }
}

#[async_trait]
impl CheckpointStore for OneFile {
    async fn acquire(&self, run: &RunId) -> Result<Box<dyn RunLog>> {
        let mut kept = self.kept();
        let run = run.to_string();
        if !kept.writers.insert(run.clone()) {
            return Err(Error::store(ErrorKind::RunBusy, format!("run {run} has a writer")));
        }
        let token = kept.tokens.entry(run.clone()).or_default();
        *token += 1;
        let token = *token;
        let records = kept.runs.entry(run.clone()).or_default().clone();
        Ok(Box::new(Writer { store: self.clone(), run, token, records }))
    }

    async fn read(&self, run: &RunId) -> Result<Vec<Record>> {
        Ok(self.kept().runs.get(run.as_str()).cloned().unwrap_or_default())
    }

    async fn list(&self) -> Result<Vec<RunId>> {
        self.kept().runs.keys().map(RunId::new).collect()
    }

    async fn delete(&self, run: &RunId) -> Result<()> {
        let mut kept = self.kept();
        if kept.writers.contains(run.as_str()) {
            return Err(Error::store(ErrorKind::RunBusy, format!("run {run} has a writer")));
        }
        kept.write(Line::Deleted { run: run.to_string() })
    }

    async fn put_blob(&self, key: &BlobKey, bytes: &[u8]) -> Result<()> {
        key.check_contents(bytes)?;
        self.kept().write(Line::Blob { key: name(key)?, bytes: bytes.to_vec() })
    }

    async fn get_blob(&self, key: &BlobKey) -> Result<Option<Vec<u8>>> {
        Ok(self.kept().blobs.get(&name(key)?).cloned())
    }
}

/// What a blob is called in the file.
fn name(key: &BlobKey) -> Result<String> {
    key.check()?;
    let run = key.run().map(RunId::as_str).unwrap_or_default();
    Ok(format!("{}/{run}/{}", key.kind(), key.digest()))
}

struct Writer {
    store: OneFile,
    run: String,
    token: u64,
    records: Vec<Record>,
}

#[async_trait]
impl RunLog for Writer {
    fn token(&self) -> u64 {
        self.token
    }

    fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    async fn append(&mut self, records: &[Record]) -> Result<()> {
        let mut kept = self.store.kept();
        let next = kept.runs.get(&self.run).map_or(0, Vec::len) as u64;
        let follow = (next..).zip(records).all(|(seq, record)| record.seq == seq);
        let objects = records.iter().all(|record| {
            record.body.starts_with('{') && record.body.ends_with('}') && !record.body.contains('\n')
        });
        if !follow || !objects {
            let message = format!("these are no records to follow record {next}");
            return Err(Error::store(ErrorKind::InvalidInput, message));
        }
        if records.is_empty() {
            return Ok(());
        }
        let bodies = records.iter().map(|record| record.body.clone()).collect();
        kept.write(Line::Appended { run: self.run.clone(), bodies })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.store.kept().writers.remove(&self.run);
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn StdError>> {
    let scratch = Scratch::new("own")?;

    // Each rule gets a store of its own.
    let stores = std::cell::Cell::new(0);
    let report = conformance::check(async || {
        stores.set(stores.get() + 1);
        OneFile::open(&scratch.join(format!("store-{}", stores.get())))
            .expect("the scratch folder is writable")
    })
    .await;
    println!("{report}");
    assert!(report.is_ok());

    let page = scratch.join("page.txt");
    let mut p = Pipeline::builder("own");
    p.step("write").run(|_cx, ()| async { Ok("hello".to_owned()) });
    // Known by name only: `write` is found by `after`, and its output by `StepContext::output`.
    p.step("publish").after(["write"]).run_step(Publish { from: "write", to: page.clone() });
    let good = p.build()?;

    let file = scratch.join("runs.jsonl");
    let report = LocalEngine::with_store(OneFile::open(&file)?).run(&good, "first", ()).await?;
    assert!(report.is_success(), "{report}");
    assert_eq!(fs::read_to_string(&page)?, "hello");
    assert_eq!(report.output_by_name::<Value>("publish")?["bytes"], 5);

    // The file alone brings the run back, even when the last line was cut off.
    OpenOptions::new().append(true).open(&file)?.write_all(b"{\"Appended\":{\"run\":\"fi")?;
    let engine = LocalEngine::with_store(OneFile::open(&file)?);
    let again = engine.run(&good, "first", ()).await?;
    assert_eq!(again.why("publish")?, Why::Recorded);
    let back = engine.rollback(&good, "first").await?;
    println!("{back}");
    assert_eq!(back.status(), RunStatus::RolledBack);
    assert!(!page.exists());
    Ok(())
}
