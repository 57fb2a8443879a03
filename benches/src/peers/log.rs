//! Bare append-only log: one JSON line a record, no index, no checksum, no lock.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;

/// Bytes of a record with its line feed, about what a small step's record takes.
pub const RECORD: usize = 128;

/// When a record counts as written.
#[derive(Clone, Copy)]
pub enum Commit {
    /// One `write` a record, no sync: safe against the death of the process.
    Write,
    /// One `write` and one `fdatasync` for this many records.
    Sync(usize),
}

/// Appends `records` records to a new file at `path`.
pub fn append(path: &Path, records: usize, commit: Commit) -> File {
    let mut file = OpenOptions::new().append(true).create_new(true).open(path).unwrap();
    let mut buffer = Vec::with_capacity(64 * RECORD);
    for record in 0..records {
        encode(record, &mut buffer);
        match commit {
            Commit::Write => file.write_all(&buffer).unwrap(),
            Commit::Sync(batch) if (record + 1) % batch == 0 || record + 1 == records => {
                file.write_all(&buffer).unwrap();
                file.sync_data().unwrap();
            }
            Commit::Sync(_) => continue,
        }
        buffer.clear();
    }
    file
}

/// Reads a log back, a JSON value a line.
pub fn read(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Adds a record of [`RECORD`] bytes to `buffer`.
pub fn encode(record: usize, buffer: &mut Vec<u8>) {
    let end = buffer.len() + RECORD;
    write!(buffer, r#"{{"seq":{record},"step":"step-{record:06}","output":{record},"padding":""#).unwrap();
    buffer.resize(end - 3, b'-');
    buffer.extend_from_slice(b"\"}\n");
}
