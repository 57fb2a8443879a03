//! The log in a store: numbered records, each made by put-if-absent, and snapshots that stand for the first of them.
//!
//! A number that was taken stays taken. Compaction empties a record and never removes it, so that a writer which slept
//! through it cannot write an old number again.

use std::sync::Arc;

use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt, stream};

use crate::error::{Error, ErrorKind, Result};
use crate::state::State;
use crate::store::VersionStore;
use crate::wire::{self, Header, Line};

/// How many objects are read at once when a log is opened.
const AT_ONCE: usize = 16;

/// How often opening begins again because a compaction went on at the same time.
const ATTEMPTS: usize = 8;

pub(crate) struct Log {
    store: Arc<dyn VersionStore>,
}

/// What stands where the next record belongs.
pub(crate) enum Next {
    Line(Box<Line>),
    /// Nothing: the log ends here.
    End,
    /// A newer snapshot stands for it.
    Compacted,
}

pub(crate) fn record_name(seq: u64) -> String {
    format!("log/{seq:020}.json")
}

fn snapshot_name(seq: u64) -> String {
    format!("snapshots/{seq:020}.jsonl")
}

fn number(name: &str) -> Option<u64> {
    let (_, file) = name.split_once('/')?;
    file.split('.').next()?.parse().ok()
}

impl Log {
    pub(crate) fn new(store: Arc<dyn VersionStore>) -> Self {
        Log { store }
    }

    pub(crate) fn store(&self) -> &dyn VersionStore {
        &*self.store
    }

    /// Reads everything: the newest snapshot and what follows it.
    pub(crate) async fn load(&self) -> Result<(State, Vec<Line>)> {
        let mut gone = String::new();
        for _ in 0..ATTEMPTS {
            match self.try_load().await? {
                Ok(loaded) => return Ok(loaded),
                Err(name) => gone = name,
            }
        }
        // Nobody compacts that often: something is wrong with the store.
        Err(Error::corrupt(&gone, "is gone or empty, though no newer snapshot stands for it"))
    }

    /// Answers the name of a snapshot that went away, or of a record that was emptied, since the folder was listed.
    async fn try_load(&self) -> Result<Result<(State, Vec<Line>), String>> {
        let mut state = State::default();
        let mut lines = Vec::new();
        if let Some(newest) = self.snapshots().await?.last() {
            let name = snapshot_name(*newest);
            let Some(bytes) = self.store.get(&name).await? else {
                return Ok(Err(name));
            };
            (state, lines) = read_snapshot(&name, &bytes)?;
            if state.seq != *newest {
                return Err(Error::corrupt(&name, format!("is of record {}", state.seq)));
            }
        }
        let last = self.last_record(state.seq).await?;
        let mut objects = self.records(state.seq + 1, last);
        while let Some((name, bytes)) = objects.try_next().await? {
            match decode(&state, &name, &bytes)? {
                Next::Line(line) => {
                    state.apply(&line, &name)?;
                    lines.push(*line);
                }
                Next::End | Next::Compacted => return Ok(Err(name)),
            }
        }
        drop(objects);
        Ok(Ok((state, lines)))
    }

    /// The records from number `from` on that are kept, and the number of the last one that there is.
    pub(crate) async fn read(&self, from: u64) -> Result<(Vec<Line>, u64)> {
        let from = from.max(1);
        if self.snapshots().await?.last().is_none_or(|newest| from > *newest)
            && let Some(read) = self.try_read(from).await?
        {
            return Ok(read);
        }
        let (state, mut lines) = self.load().await?;
        lines.retain(|line| line.record.seq >= from);
        Ok((lines, state.seq))
    }

    /// As [`Log::read`] where no snapshot stands for the first of them; `None` where one does meanwhile.
    async fn try_read(&self, from: u64) -> Result<Option<(Vec<Line>, u64)>> {
        let last = self.last_record(from - 1).await?;
        let mut lines: Vec<Line> = Vec::new();
        let mut objects = self.records(from, last);
        while let Some((name, bytes)) = objects.try_next().await? {
            let next = match lines.last() {
                Some(before) => decode_after(before.record.seq, Some(before.digest), &name, &bytes)?,
                None if bytes.is_empty() => Next::Compacted,
                // What it follows is not read.
                None => Next::Line(Box::new(Line::decode(&name, from, &bytes)?)),
            };
            match next {
                Next::Line(line) => lines.push(*line),
                Next::End | Next::Compacted => return Ok(None),
            }
        }
        Ok(Some((lines, last)))
    }

    /// The number of the last record after `known`, or that where there is none.
    async fn last_record(&self, known: u64) -> Result<u64> {
        let names = self.store.list("log", &record_name(known)).await?;
        Ok(names.iter().filter_map(|name| number(name)).max().unwrap_or(known))
    }

    /// The objects of these records in their order, several read at once.
    fn records(&self, first: u64, last: u64) -> BoxStream<'_, Result<(String, Bytes)>> {
        let read = move |seq| async move {
            let name = record_name(seq);
            match self.store.get(&name).await? {
                Some(bytes) => Ok((name, bytes)),
                None => {
                    let message = format!("{name} is missing, though record {last} is there");
                    Err(Error::new(ErrorKind::Missing, message).at_object(name))
                }
            }
        };
        stream::iter(first..=last).map(read).buffered(AT_ONCE).boxed()
    }

    /// What follows the last record of `state`.
    pub(crate) async fn next(&self, seq: u64, head: Option<crate::Digest>) -> Result<Next> {
        let name = record_name(seq + 1);
        match self.store.get(&name).await? {
            Some(bytes) => decode_after(seq, head, &name, &bytes),
            None => Ok(Next::End),
        }
    }

    /// Writes `line` as the record of its number, and answers whether it is there: if not, another was first.
    pub(crate) async fn append(&self, line: &Line) -> Result<bool> {
        let name = record_name(line.record.seq);
        let bytes = line.encode()?;
        match self.store.create(&name, bytes.clone()).await {
            Ok(true) => Ok(true),
            // A client that repeats a request can be told that its own object is there.
            Ok(false) => match self.store.get(&name).await? {
                Some(there) if there.is_empty() => self.was_compacted(line).await,
                Some(there) => Ok(there == bytes),
                // To plan again would be to find the same, for ever.
                None => Err(unreadable(&name)),
            },
            Err(error) => match self.store.get(&name).await {
                Ok(Some(there)) if there == bytes => {
                    // The answer was lost, or a sync failed after the object was made: write it once more, since pages
                    // that a failed sync left behind may be gone.
                    self.store.put(&name, bytes).await?;
                    Ok(true)
                }
                Ok(Some(there)) if there.is_empty() => self.was_compacted(line).await,
                Ok(Some(_)) => Ok(false),
                Ok(None) | Err(_) => Err(error),
            },
        }
    }

    /// Whether `line` is the one that stood in the record of its number, which was emptied since.
    async fn was_compacted(&self, line: &Line) -> Result<bool> {
        let (state, lines) = self.load().await?;
        let seq = line.record.seq;
        if let Some(there) = lines.iter().find(|there| there.record.seq == seq) {
            return Ok(there.digest == line.digest);
        }
        // Where retention left it out, what follows still names it.
        if state.seq == seq {
            return Ok(state.head == Some(line.digest));
        }
        if let Some(after) = lines.iter().find(|after| after.record.seq == seq + 1) {
            return Ok(after.record.previous == line.digest.to_string());
        }
        let name = record_name(seq);
        let message = format!("what became of {name} is not known: it was compacted away meanwhile");
        Err(Error::store(message).at_object(name))
    }

    /// The numbers of the snapshots, ascending.
    async fn snapshots(&self) -> Result<Vec<u64>> {
        Ok(self.store.list("snapshots", "").await?.iter().filter_map(|name| number(name)).collect())
    }

    /// Puts `lines` in the place of all records up to that of `state`.
    pub(crate) async fn compact(&self, state: &State, lines: &[Line]) -> Result<()> {
        let older = self.snapshots().await?;
        let bytes = snapshot(state, lines)?;
        // One of the same record can be there, of a compaction that kept more: they say the same, but for that.
        self.store.put(&snapshot_name(state.seq), bytes).await?;
        // What stands from here on is not needed to read the log.
        let mut emptied = older.last().copied().unwrap_or(0);
        // One that was cut off left some of them full: those with the highest numbers, since it goes upwards.
        while emptied > 0
            && self.store.get(&record_name(emptied)).await?.is_some_and(|bytes| !bytes.is_empty())
        {
            emptied -= 1;
        }
        for seq in emptied + 1..=state.seq {
            self.store.put(&record_name(seq), Bytes::new()).await?;
        }
        for seq in older.into_iter().filter(|seq| *seq < state.seq) {
            self.store.delete(&snapshot_name(seq)).await?;
        }
        Ok(())
    }

    /// Removes what killed writes left beside objects that nobody makes any more, where there is a snapshot of record `seq`.
    ///
    /// A writer that was held up, not killed, would find its file gone, and fail. Where it could still make the object, another
    /// one could take the same name for its file meanwhile, and the first would make the object of what the second wrote: so
    /// nothing is removed beside a record or a snapshot that can yet be made. Artifacts have names of their own.
    pub(crate) async fn sweep(&self, seq: u64) -> Result<()> {
        for name in self.store.leftovers().await? {
            let settled = match (name.split_once('/').map(|(folder, _)| folder), number(&name)) {
                (Some("log"), Some(of)) => of <= seq,
                (Some("snapshots"), Some(of)) => of < seq,
                (Some("artifacts"), _) => true,
                _ => false,
            };
            if settled {
                self.store.delete(&name).await?;
            }
        }
        Ok(())
    }

    /// Makes an empty store hold the snapshot `bytes`, and takes the first number, so that a handle which was opened while
    /// the store was empty reads the snapshot and cannot write that number.
    pub(crate) async fn found(&self, state: &State, bytes: Bytes) -> Result<()> {
        let snapshot = snapshot_name(state.seq);
        self.make(&snapshot, bytes).await?;
        let first = self.make(&record_name(1), Bytes::new()).await;
        if first.as_ref().is_err_and(|error| error.kind() == ErrorKind::InvalidState) {
            // Somebody wrote the first record of another registry meanwhile. It is theirs.
            self.store.delete(&snapshot).await?;
        }
        first
    }

    /// Makes the object, or finds that a call before this one did.
    async fn make(&self, name: &str, bytes: Bytes) -> Result<()> {
        let made = self.store.create(name, bytes.clone()).await;
        if let Ok(true) = made {
            return Ok(());
        }
        match (self.store.get(name).await?, made) {
            // The answer was lost, or a client repeated its request and found what it made itself.
            (Some(there), _) if there == bytes => self.store.put(name, bytes).await,
            (Some(_), _) => Err(Error::new(ErrorKind::InvalidState, "the store holds a registry")),
            (None, made) => made.and_then(|_| Err(unreadable(name))),
        }
    }

    /// Whether a registry whose last record is `seq` can be put there: there is none, or a part of that one, which was cut
    /// off before it took the first number.
    pub(crate) async fn is_free_for(&self, seq: u64) -> Result<bool> {
        let snapshots = self.snapshots().await?;
        Ok(snapshots.iter().all(|there| *there == seq) && self.store.list("log", "").await?.is_empty())
    }
}

fn unreadable(name: &str) -> Error {
    Error::new(ErrorKind::Missing, format!("{name} is taken and cannot be read")).at_object(name)
}

pub(crate) fn snapshot(state: &State, lines: &[Line]) -> Result<Bytes> {
    let head = state.head.map(|head| head.to_string()).unwrap_or_default();
    wire::encode_snapshot(&Header { format: wire::FORMAT, seq: state.seq, head }, lines)
}

pub(crate) fn read_snapshot(name: &str, bytes: &[u8]) -> Result<(State, Vec<Line>)> {
    let (header, lines) = wire::decode_snapshot(name, bytes)?;
    let mut state = State::default();
    for line in &lines {
        state.apply(line, name)?;
    }
    let wrong = |why: &str| Error::corrupt(name, why);
    if state.seq > header.seq {
        return Err(wrong("has records after its last"));
    }
    state.seq = header.seq;
    state.head = match &*header.head {
        "" => None,
        head => Some(head.parse().map_err(|error| wrong("has no digest of its last record").because(error))?),
    };
    Ok((state, lines))
}

fn decode(state: &State, name: &str, bytes: &[u8]) -> Result<Next> {
    decode_after(state.seq, state.head, name, bytes)
}

fn decode_after(seq: u64, head: Option<crate::Digest>, name: &str, bytes: &[u8]) -> Result<Next> {
    if bytes.is_empty() {
        return Ok(Next::Compacted);
    }
    let line = Line::decode(name, seq + 1, bytes)?;
    if line.record.previous != head.map(|head| head.to_string()).unwrap_or_default() {
        return Err(Error::corrupt(name, format!("does not follow record {seq}: the chain is broken")));
    }
    Ok(Next::Line(Box::new(line)))
}
