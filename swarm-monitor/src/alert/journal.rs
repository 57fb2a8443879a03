use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::alert::wire::{FORMAT, Record, line, parse};
use crate::disk::{beside, is_there, make, replace};
use crate::error::{Error, ErrorKind, Result};

/// An append-only file of records, which is written anew when most of it has been overtaken.
///
/// After a failed write nothing is appended to the file any more, as what is in it is not known: the next call writes it anew.
#[derive(Debug)]
pub(crate) struct Journal {
    path: PathBuf,
    /// `None` after a failure.
    file: Option<File>,
    len: u64,
    /// How long it was when it was written anew.
    base: u64,
    lock: File,
}

impl Drop for Journal {
    /// A child process that is just being made holds the open file for a moment: closing it would not unlock it.
    fn drop(&mut self) {
        // A failure leaves the lock to the closing of the file.
        let _ = self.lock.unlock();
    }
}

/// What was in a file.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) records: Vec<Record>,
    /// Lines that could not be read.
    pub(crate) damaged: usize,
    pub(crate) newer: Option<u32>,
    pub(crate) kept: Option<PathBuf>,
}

/// Below this it is not worth writing it anew.
const SMALL: u64 = 1 << 18;

impl Journal {
    /// Reads the file, and keeps a damaged or newer one aside. It is to be [written anew](Journal::rewrite) then.
    pub(crate) fn open(path: &Path, now: u64) -> Result<(Self, Found)> {
        let cannot = |what: &str, error: io::Error| {
            Error::new(ErrorKind::Storage, format!("cannot {what} the alerts in {}", path.display()))
                .because(error)
        };
        let beside_it = beside(path, "lock");
        let lock = is_there(&beside_it)
            .and_then(|_| OpenOptions::new().create(true).truncate(false).write(true).open(beside_it));
        let lock = lock.map_err(|error| cannot("lock", error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let message = format!("the alerts in {} belong to another engine", path.display());
                return Err(Error::new(ErrorKind::InUse, message));
            }
            Err(TryLockError::Error(error)) => return Err(cannot("lock", error)),
        }
        let bytes = match is_there(path) {
            Ok(true) => fs::read(path),
            Ok(false) => Ok(Vec::new()),
            Err(error) => Err(error),
        };
        let bytes = bytes.map_err(|error| cannot("read", error))?;
        let mut found = Found::default();
        let mut rest = &bytes[..];
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            match parse(&rest[..end]) {
                Some(Record::Format(format)) if format != FORMAT => found.newer = Some(format),
                Some(record) => found.records.push(record),
                None => found.damaged += 1,
            }
            rest = &rest[end + 1..];
        }
        // A last line without an end was being written when the process died: nobody was told that it was.
        if found.newer.is_some() {
            found.records.clear();
        }
        if found.newer.is_some() || found.damaged > 0 {
            let kept = beside(path, &format!("refused-{now}"));
            // A copy: what can be read of it is still needed if the process dies before it was written anew.
            let copied = make(&kept).and_then(|mut copy| copy.write_all(&bytes));
            found.kept = copied.is_ok().then_some(kept);
            if found.kept.is_none() {
                let message =
                    format!("the alerts in {} are damaged, and cannot be kept aside", path.display());
                return Err(Error::new(ErrorKind::Corrupt, message));
            }
        }
        let journal = Journal { path: path.to_owned(), file: None, len: 0, base: 0, lock };
        Ok((journal, found))
    }

    /// Whether [`append`](Journal::append) would do. If not, everything is to be written.
    pub(crate) fn can_append(&self) -> bool {
        self.file.is_some() && (self.len < SMALL || self.len < 4 * self.base)
    }

    /// Appends, and brings it to the disk.
    pub(crate) fn append(&mut self, records: &[Record]) -> io::Result<()> {
        let mut bytes = Vec::new();
        for record in records {
            line(record, &mut bytes)?;
        }
        let Some(mut file) = self.file.take() else { return Err(io::Error::other("written anew first")) };
        file.write_all(&bytes)?;
        file.sync_data()?;
        self.len += bytes.len() as u64;
        self.file = Some(file);
        Ok(())
    }

    /// Puts a file with these records in place of what was there.
    pub(crate) fn rewrite(&mut self, records: impl Iterator<Item = Record>) -> io::Result<()> {
        self.file = None;
        let mut bytes = Vec::new();
        for record in std::iter::once(Record::Format(FORMAT)).chain(records) {
            line(&record, &mut bytes)?;
        }
        let file = replace(&self.path, |file| file.write_all(&bytes))?;
        (self.len, self.base) = (bytes.len() as u64, bytes.len() as u64);
        self.file = Some(file);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_appended_to_what_a_failed_write_may_have_left() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerts");
        let (mut journal, _) = Journal::open(&path, 0).unwrap();
        journal.rewrite(std::iter::empty()).unwrap();
        assert!(journal.can_append());
        journal.append(&[Record::Gone("a".to_owned())]).unwrap();
        // To read from, and not to write to.
        journal.file = Some(File::open(&path).unwrap());
        journal.append(&[Record::Gone("b".to_owned())]).unwrap_err();
        assert!(!journal.can_append());
        journal.rewrite(std::iter::empty()).unwrap();
        assert!(journal.can_append());
    }
}
