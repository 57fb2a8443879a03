//! What is written: records, one JSON object each, and the file that holds many of them.
//!
//! Format 1. An object of the store is lines of JSON that end with `{"digest":"sha256:…"}` over all lines before it, so
//! that any changed byte is noticed. A record names the digest of the line of the record before it. Times are
//! microseconds since the epoch. Unknown fields are ignored; an unknown change is an error.

mod backup;
mod rollout;

pub(crate) use backup::{BackupArtifact, BackupHeader};
pub(crate) use rollout::{
    LeasedRollout, MovedRollout, StartedRollout, StoredCriterion, StoredDeadline, StoredDirection,
    StoredJudge, StoredOnDeadline, StoredPhase, StoredPlan, StoredProgress, StoredRolloutChange, StoredStep,
};

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::measure::Measure;
use crate::version::{Artifact, VersionInfo};

/// The newest format this crate reads and the one it writes.
pub(crate) const FORMAT: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) format: u32,
    pub(crate) seq: u64,
    /// The digest of the line before; empty in the first record.
    pub(crate) previous: String,
    pub(crate) at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) actor: Option<String>,
    /// Makes every record unlike any other, so that a writer knows its own.
    pub(crate) nonce: String,
    pub(crate) change: Change,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Change {
    Registered(Registered),
    /// Versions that nothing reached any more, and the objects that held their bytes.
    Collected {
        versions: Vec<Arc<str>>,
        artifacts: Vec<String>,
    },
    AliasMoved {
        alias: String,
        from: Option<Arc<str>>,
        to: Option<Arc<str>>,
    },
    AliasProtected {
        alias: String,
        protected: bool,
    },
    Deployed(Deployed),
    RolloutStarted(StartedRollout),
    RolloutMoved(MovedRollout),
    RolloutLeased(LeasedRollout),
    /// That someone vouches for a version. Key and signature are in hex.
    Signed {
        version: Arc<str>,
        key: String,
        signature: String,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Registered {
    pub(crate) id: Arc<str>,
    pub(crate) digest: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) artifact: Option<StoredArtifact>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metadata: BTreeMap<String, Value>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) metrics: BTreeMap<String, StoredMeasure>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) parent: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredArtifact {
    pub(crate) object: String,
    pub(crate) size: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum StoredMeasure {
    Value(f64),
    Samples(Vec<f64>),
    Summary { count: u64, mean: f64, deviation: f64 },
    Proportion { successes: u64, trials: u64 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Deployed {
    pub(crate) channel: Arc<str>,
    /// Counts the deployments of the channel, from 1.
    pub(crate) number: u64,
    pub(crate) cause: Cause,
    /// Versions and their basis points.
    pub(crate) weights: Vec<(Arc<str>, u16)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) mirror: Option<(Arc<str>, u16)>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) pins: BTreeMap<String, Arc<str>>,
    /// The slots in order, as runs: the place of a version in `weights`, and how many slots follow one another.
    pub(crate) slots: Vec<(u16, u16)>,
    /// The deployments that can be rolled back to, and last this one, or the one whose split it restored.
    pub(crate) stack: Vec<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cause {
    Deployed,
    Promoted,
    /// The deployment whose split was restored.
    RolledBack(u64),
    /// The rollout that gave its candidate another weight.
    RolledOut(u64),
}

#[derive(Serialize, Deserialize)]
struct Seal {
    digest: String,
}

/// The first line of a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) format: u32,
    /// The last record that is included, and the digest of its line.
    pub(crate) seq: u64,
    pub(crate) head: String,
}

/// A record and the line it was read from.
#[derive(Debug, Clone)]
pub(crate) struct Line {
    pub(crate) record: Record,
    pub(crate) text: Arc<str>,
    pub(crate) digest: Digest,
}

impl Line {
    pub(crate) fn new(record: Record) -> Result<Self> {
        let text = json(&record)?;
        let digest = Digest::of(text.as_bytes());
        // Read back, so that who writes a record has what others read.
        let read = Line::read("a new record", &text, digest);
        read.map_err(|error| Error::input("could not be read back as a record").because(error))
    }

    fn read(object: &str, text: &str, digest: Digest) -> Result<Self> {
        check_format(object, text)?;
        let record = serde_json::from_str(text)
            .map_err(|error| Error::corrupt(object, "is not a record").because(error))?;
        Ok(Line { record, text: text.into(), digest })
    }

    /// What is put into the store.
    pub(crate) fn encode(&self) -> Result<Bytes> {
        seal([&*self.text])
    }

    pub(crate) fn decode(object: &str, seq: u64, bytes: &[u8]) -> Result<Self> {
        let lines = unseal(object, bytes)?;
        let [text] = lines[..] else {
            return Err(Error::corrupt(object, format!("has {} lines where 1 belongs", lines.len())));
        };
        let line = Line::read(object, text, Digest::of(text.as_bytes()))?;
        if line.record.seq != seq {
            return Err(Error::corrupt(object, format!("holds record {}", line.record.seq)));
        }
        Ok(line)
    }
}

/// A snapshot: a header and the lines it stands for.
pub(crate) fn encode_snapshot(header: &Header, lines: &[Line]) -> Result<Bytes> {
    let header = json(header)?;
    seal(std::iter::once(&*header).chain(lines.iter().map(|line| &*line.text)))
}

pub(crate) fn decode_snapshot(object: &str, bytes: &[u8]) -> Result<(Header, Vec<Line>)> {
    let texts = unseal(object, bytes)?;
    let [header, texts @ ..] = &texts[..] else {
        return Err(Error::corrupt(object, "has no header"));
    };
    check_format(object, header)?;
    let header: Header = serde_json::from_str(header)
        .map_err(|error| Error::corrupt(object, "has no header").because(error))?;
    let lines: Vec<Line> = texts
        .iter()
        .map(|text| Line::read(object, text, Digest::of(text.as_bytes())))
        .collect::<Result<_>>()?;
    for pair in lines.windows(2) {
        let (before, after) = (&pair[0], &pair[1]);
        let follows = after.record.seq > before.record.seq;
        let next = after.record.seq == before.record.seq + 1;
        if !follows || (next && after.record.previous != before.digest.to_string()) {
            let why = format!("has record {} that does not follow the one before", after.record.seq);
            return Err(Error::corrupt(object, why));
        }
    }
    Ok((header, lines))
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| Error::input("could not be written as JSON").because(error))
}

/// Joins lines and the digest over them.
fn seal<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Bytes> {
    let mut text = String::new();
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    let digest = Digest::of(text.as_bytes()).to_string();
    text.push_str(&json(&Seal { digest })?);
    text.push('\n');
    Ok(Bytes::from(text))
}

/// The lines, if they are those that were sealed.
fn unseal<'a>(object: &str, bytes: &'a [u8]) -> Result<Vec<&'a str>> {
    let broken = || Error::corrupt(object, "is not what was written: its digest is another");
    let text = std::str::from_utf8(bytes).map_err(|_| broken())?;
    let whole = text.strip_suffix('\n').ok_or_else(broken)?;
    let end = whole.rfind('\n').ok_or_else(broken)? + 1;
    let (lines, last) = whole.split_at(end);
    let said: Seal = serde_json::from_str(last).map_err(|_| broken())?;
    // Compared as text: there is one way to write the last line.
    let digest = Digest::of(lines.as_bytes()).to_string();
    if said.digest != digest || last != json(&Seal { digest })? {
        return Err(broken());
    }
    Ok(lines.lines().collect())
}

fn check_format(object: &str, text: &str) -> Result<()> {
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_str(text)
        .map_err(|error| Error::corrupt(object, "does not say its format").because(error))?;
    if format > FORMAT {
        let message = format!("{object} has format {format}; this version reads up to {FORMAT}");
        return Err(Error::new(ErrorKind::NewerFormat, message).at_object(object));
    }
    Ok(())
}

/// A time as the log has it.
pub(crate) fn time(object: &str, micros: i64) -> Result<DateTime<Utc>> {
    DateTime::from_timestamp_micros(micros)
        .ok_or_else(|| Error::corrupt(object, format!("has the time {micros}, which is none")))
}

impl From<&Measure> for StoredMeasure {
    fn from(measure: &Measure) -> Self {
        match measure {
            Measure::Value(value) => StoredMeasure::Value(*value),
            Measure::Samples(samples) => StoredMeasure::Samples(samples.clone()),
            Measure::Summary { count, mean, deviation } => {
                StoredMeasure::Summary { count: *count, mean: *mean, deviation: *deviation }
            }
            Measure::Proportion { successes, trials } => {
                StoredMeasure::Proportion { successes: *successes, trials: *trials }
            }
        }
    }
}

impl From<StoredMeasure> for Measure {
    fn from(stored: StoredMeasure) -> Self {
        match stored {
            StoredMeasure::Value(value) => Measure::Value(value),
            StoredMeasure::Samples(samples) => Measure::Samples(samples),
            StoredMeasure::Summary { count, mean, deviation } => Measure::Summary { count, mean, deviation },
            StoredMeasure::Proportion { successes, trials } => Measure::Proportion { successes, trials },
        }
    }
}

impl Registered {
    pub(crate) fn info(&self, record: &Record, object: &str) -> Result<VersionInfo> {
        let digest = self.digest.parse().map_err(|error| {
            Error::corrupt(object, format!("has no digest for {:?}", self.id)).because(error)
        })?;
        let artifact = self.artifact.as_ref();
        Ok(VersionInfo {
            id: self.id.clone(),
            digest,
            artifact: artifact.map(|at| Artifact { object: at.object.clone(), size: at.size }),
            metadata: self.metadata.clone(),
            metrics: self.metrics.iter().map(|(name, m)| (name.clone(), m.clone().into())).collect(),
            labels: self.labels.clone(),
            parent: self.parent.clone(),
            creator: record.actor.clone(),
            registered_at: time(object, record.at)?,
            record: record.seq,
            signatures: BTreeMap::new(),
        })
    }
}
