use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;

use super::Durability;
use super::disk::{self, LockedLog, Missing};
use super::line::{self, Scan};
use crate::error::{Error, ErrorKind, Result};
use crate::store::{Record, RunId, RunLog, check_records};

/// Capacity of the write buffer that is kept from one append to the next.
const KEPT_BUFFER: usize = 256 * 1024;

/// The writer's place of one run in a folder.
///
/// An append writes at its first poll and only then waits for the sync, so an append that is dropped has
/// written all of its records or, never polled, none; the next one syncs what it left.
pub(super) struct FileLog {
    open: Arc<OpenLog>,
    run: RunId,
    durability: Durability,
    token: u64,
    next_seq: u64,
    /// The bytes in the file that are whole lines.
    len: u64,
    records: Vec<Record>,
    buffer: Vec<u8>,
}

/// What a sync that outlives its append still needs.
struct OpenLog {
    log: LockedLog,
    path: PathBuf,
    poisoned: AtomicBool,
    /// Held during a sync, so that the next one knows whether this one failed: the system says it only once.
    syncing: Mutex<()>,
}

impl FileLog {
    /// Takes the place, reads the log, and cuts off what a crash left half written.
    pub(super) fn acquire(path: PathBuf, run: RunId, durability: Durability) -> Result<Self> {
        let log = LockedLog::open(&path, &run, Missing::Create)?.ok_or_else(|| {
            Error::new(ErrorKind::NotFound, format!("{} is missing", path.display())).at_path(&path)
        })?;
        let scan = read_log(&path, &run)?;
        let len = mend(&log, &path, &scan, durability).map_err(|error| error.in_run(&run))?;
        Ok(FileLog {
            open: Arc::new(OpenLog { log, path, poisoned: AtomicBool::new(false), syncing: Mutex::new(()) }),
            run,
            durability,
            token: scan.token + 1,
            next_seq: scan.records.len() as u64,
            len,
            records: scan.records,
            buffer: Vec::new(),
        })
    }

    fn write(&mut self, records: &[Record]) -> Result<()> {
        check_records(&self.run, self.next_seq, records)?;
        self.buffer.clear();
        for record in records {
            line::encode_record(&mut self.buffer, self.token, record);
        }
        let written = (&self.open.log.file).write_all(&self.buffer);
        let added = self.buffer.len() as u64;
        self.buffer.shrink_to(KEPT_BUFFER);
        if let Err(error) = written {
            if cut(&self.open.log, self.len).is_err() {
                self.open.poisoned.store(true, Ordering::Release);
            }
            return Err(Error::io("append to", &self.open.path, error).in_run(&self.run));
        }
        self.len += added;
        self.next_seq += records.len() as u64;
        Ok(())
    }
}

#[async_trait]
impl RunLog for FileLog {
    fn token(&self) -> u64 {
        self.token
    }

    fn take_records(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.records)
    }

    async fn append(&mut self, records: &[Record]) -> Result<()> {
        self.open.check_usable().map_err(|error| error.in_run(&self.run))?;
        if records.is_empty() {
            return Ok(());
        }
        self.write(records)?;
        match self.durability {
            Durability::Process => Ok(()),
            Durability::Power => {
                let open = Arc::clone(&self.open);
                disk::blocking(move || open.sync()).await.map_err(|error| error.in_run(&self.run))
            }
        }
    }

    fn batch(&self) -> usize {
        match self.durability {
            Durability::Process => 1,
            Durability::Power => 64,
        }
    }
}

impl Drop for FileLog {
    fn drop(&mut self) {
        self.open.log.release();
    }
}

impl OpenLog {
    fn check_usable(&self) -> Result<()> {
        if !self.poisoned.load(Ordering::Acquire) {
            return Ok(());
        }
        let message = format!(
            "an earlier write to {} failed and what it left is unknown; acquire the run again",
            self.path.display()
        );
        Err(Error::new(ErrorKind::Poisoned, message).at_path(&self.path))
    }

    fn sync(&self) -> Result<()> {
        let _one_at_a_time = self.syncing.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_usable()?;
        self.log.file.sync_data().map_err(|error| {
            // The pages may be gone though the next sync succeeds, so there must be no next one.
            self.poisoned.store(true, Ordering::Release);
            Error::io("sync", &self.path, error)
        })
    }
}

/// Reads the log at `path`, which may have a writer; empty where there is no file.
pub(super) fn read_log(path: &Path, run: &RunId) -> Result<Scan> {
    let mut seen = None;
    loop {
        let Some(bytes) = disk::read_regular(path)? else {
            return Ok(Scan::default());
        };
        match line::scan(&bytes) {
            Ok(scan) => return Ok(scan),
            // A writer that cut a failed write off between two reads is not damage: that does not look the same twice.
            Err(damage) if seen.as_ref() == Some(&bytes) || damage.kind != ErrorKind::Corrupt => {
                return Err(super::damaged(path, damage).in_run(run));
            }
            Err(_) => seen = Some(bytes),
        }
    }
}

/// Brings the file to whole lines, with at least a header, and answers its length.
///
/// What was read may be in the system's memory only, left by a writer that died before its sync. A run that is
/// carried on from it builds on it, so under [`Durability::Power`] it is synced first.
fn mend(log: &LockedLog, path: &Path, scan: &Scan, durability: Durability) -> Result<u64> {
    let fail = |error| Error::io("mend the end of", path, error);
    let mut missing = Vec::new();
    if scan.keep == 0 {
        line::encode_header(&mut missing);
    } else if scan.newline_missing {
        missing.push(b'\n');
    }
    cut(log, scan.keep as u64).map_err(fail)?;
    (&log.file).write_all(&missing).map_err(fail)?;
    if durability == Durability::Power {
        log.file.sync_all().map_err(|error| Error::io("sync", path, error))?;
        if let Some(dir) = path.parent() {
            disk::sync_dir(dir)?;
        }
    }
    Ok((scan.keep + missing.len()) as u64)
}

/// Drops everything after `len` and goes on writing there.
fn cut(log: &LockedLog, len: u64) -> std::io::Result<()> {
    let mut file = &log.file;
    if file.metadata()?.len() != len {
        file.set_len(len)?;
    }
    file.seek(SeekFrom::Start(len))?;
    Ok(())
}
