use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use chrono::{DateTime, Utc};

use crate::disk::{beside, is_there, replace};
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::sketch::mapping::Mapping;
use crate::snapshot::wire::{LONGEST_BLOCK, MAGIC, NoBlock, Saved, VERSION, fill, read_block, write_block};
use crate::table::Table;
use crate::window::time;

pub(crate) mod wire;

/// What became of a snapshot when the monitor was made: [`PerformanceMonitor::restored`](crate::PerformanceMonitor::restored).
///
/// Whatever it was, the monitor is there and records.
#[derive(Debug)]
#[non_exhaustive]
pub enum Restored {
    /// There was none.
    Absent,
    /// The monitor goes on from it.
    #[non_exhaustive]
    Complete {
        /// When it was taken. What was recorded from then until the restart is not in it.
        taken: DateTime<Utc>,
        /// How many series came from it.
        series: usize,
        /// How many did not, because the limits of this monitor are lower.
        left_out: usize,
    },
    /// It cannot be used, and the monitor begins with nothing.
    #[non_exhaustive]
    Refused {
        /// Why: [`Corrupt`](ErrorKind::Corrupt), [`UnknownFormat`](ErrorKind::UnknownFormat), or [`Storage`](ErrorKind::Storage).
        error: Error,
        /// Where it is now, so that the next snapshot does not overwrite it. `None` if it could not be moved, or not be read, as it may be
        /// whole: it is where it was, and moves when the next snapshot is written there.
        kept: Option<PathBuf>,
    },
}

impl Restored {
    /// Whether there was a snapshot that is not used.
    pub fn is_refused(&self) -> bool {
        matches!(self, Restored::Refused { .. })
    }

    /// Whether it is where it was, and not used.
    pub(crate) fn is_in_place(&self) -> bool {
        matches!(self, Restored::Refused { kept: None, .. })
    }
}

impl fmt::Display for Restored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Restored::Absent => f.write_str("no snapshot"),
            Restored::Complete { taken, series, left_out } => {
                write!(f, "{series} series restored as of {taken}")?;
                if *left_out > 0 {
                    write!(f, ", {left_out} left out for which there is no room")?;
                }
                Ok(())
            }
            Restored::Refused { error, kept } => {
                write!(f, "snapshot refused: {error}")?;
                match kept {
                    Some(path) => write!(f, "; kept as {}", path.display()),
                    None => f.write_str("; it is where it was"),
                }
            }
        }
    }
}

/// What a snapshot holds besides metrics.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Head {
    pub(crate) taken: u64,
    pub(crate) started: u64,
    pub(crate) accuracy: f64,
    pub(crate) lost: u64,
    pub(crate) events: Vec<Event>,
    pub(crate) states: Vec<(String, Vec<f64>)>,
}

/// A file that was opened, up to its metrics.
pub(crate) struct Reader {
    input: BufReader<File>,
    pub(crate) head: Head,
}

/// A clock may be so many seconds behind a snapshot. Further behind, one of the two was wrong.
const BEHIND: u64 = 3_600;

impl Reader {
    /// `None` if there is no file.
    pub(crate) fn open(path: &Path, now: u64) -> Result<Option<Self>> {
        if !is_there(path).map_err(|error| unread(path, error))? {
            return Ok(None);
        }
        let file = File::open(path).map_err(|error| unread(path, error))?;
        let mut input = BufReader::new(file);
        let mut start = [0; 12];
        fill(&mut input, &mut start).map_err(|why| refusal(path, why))?;
        let [magic @ .., a, b, c, d] = start;
        if magic != *MAGIC {
            let message = format!("{} is no snapshot of a monitor", path.display());
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        let version = u32::from_le_bytes([a, b, c, d]);
        if version != VERSION {
            let message = format!("{} has format {version}, and {VERSION} is known", path.display());
            return Err(Error::new(ErrorKind::UnknownFormat, message));
        }
        let mut block = Vec::new();
        read_block(&mut input, &mut block).map_err(|why| refusal(path, why))?;
        let head = Head::load(&mut &block[..]).ok_or_else(|| refusal(path, NoBlock::Damaged))?;
        if head.taken > now.saturating_add(BEHIND) {
            let message =
                format!("{} was taken at {}, which is yet to come", path.display(), time(head.taken));
            return Err(Error::new(ErrorKind::Corrupt, message));
        }
        Ok(Some(Reader { input, head }))
    }

    /// Reads the metrics into a table that has none.
    pub(crate) fn fill(&mut self, path: &Path, table: &Table) -> Result<Restored> {
        let mapping = Mapping::new(self.head.accuracy);
        let loaded = table.load(mapping, &mut self.input).map_err(|why| refusal(path, why))?;
        let mut rest = [0; 1];
        match self.input.read(&mut rest) {
            Ok(0) => {}
            Ok(_) => return Err(refusal(path, NoBlock::Damaged)),
            Err(error) => return Err(unread(path, error)),
        }
        let taken = time(self.head.taken);
        Ok(Restored::Complete { taken, series: loaded.series, left_out: loaded.left_out })
    }
}

/// Writes a snapshot beside `path`, brings it to the disk, and puts it in place of the one that was there.
pub(crate) fn write(path: &Path, head: &Head, table: &Table) -> Result<()> {
    let mut block = Vec::new();
    head.save(&mut block);
    if block.len() > LONGEST_BLOCK as usize {
        let message = format!(
            "detectors saved and events kept take {} bytes, and a snapshot has room for {LONGEST_BLOCK}",
            block.len()
        );
        return Err(Error::input(message));
    }
    let written = replace(path, |file| {
        let mut out = BufWriter::with_capacity(1 << 16, file);
        out.write_all(MAGIC)?;
        out.write_all(&VERSION.to_le_bytes())?;
        write_block(&mut out, &block)?;
        table.save(&mut out)?;
        out.flush()
    });
    written.map(drop).map_err(|error| {
        Error::new(ErrorKind::Storage, format!("cannot write the snapshot {}", path.display())).because(error)
    })
}

/// Keeps a file aside that is where a snapshot is to be.
pub(crate) fn make_way(path: &Path, now: u64) -> Result<()> {
    if !path.is_file() {
        return Ok(());
    }
    let Some(kept) = keep_aside(path, now) else {
        let message = format!("{} could not be used, and cannot be kept aside", path.display());
        return Err(Error::new(ErrorKind::Storage, message));
    };
    tracing::warn!(kept = %kept.display(), "a snapshot that could not be read makes way for another");
    Ok(())
}

/// Gives a file that cannot be used another name, which says when.
pub(crate) fn keep_aside(path: &Path, now: u64) -> Option<PathBuf> {
    let kept = beside(path, &format!("refused-{now}"));
    fs::rename(path, &kept).ok()?;
    Some(kept)
}

fn refusal(path: &Path, why: NoBlock) -> Error {
    match why {
        NoBlock::Unread(error) => unread(path, error),
        NoBlock::Damaged => {
            Error::new(ErrorKind::Corrupt, format!("the snapshot {} is damaged", path.display()))
        }
    }
}

fn unread(path: &Path, error: io::Error) -> Error {
    Error::new(ErrorKind::Storage, format!("cannot read the snapshot {}", path.display())).because(error)
}

impl Saved for Head {
    fn save(&self, out: &mut Vec<u8>) {
        self.taken.save(out);
        self.started.save(out);
        self.accuracy.save(out);
        self.lost.save(out);
        self.events.save(out);
        self.states.save(out);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        let head = Head {
            taken: u64::load(input)?,
            started: u64::load(input)?,
            accuracy: f64::load(input)?,
            lost: u64::load(input)?,
            events: Vec::load(input)?,
            states: Vec::load(input)?,
        };
        ((0.001..=0.2).contains(&head.accuracy) && input.is_empty()).then_some(head)
    }
}

impl Saved for Event {
    fn save(&self, out: &mut Vec<u8>) {
        (self.time.timestamp().max(0) as u64).save(out);
        self.metric.save(out);
        self.text.save(out);
        self.tags.save(out);
    }

    fn load(input: &mut &[u8]) -> Option<Self> {
        Some(Event {
            time: time(u64::load(input)?),
            metric: String::load(input)?,
            text: String::load(input)?,
            tags: Vec::load(input)?,
        })
    }
}
