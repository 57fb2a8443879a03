//! The records of an engine's file: one JSON value a line, after its checksum.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::alert::Severity;
use crate::alert::instance::{AHEAD, Episode, Instance, Told};
use crate::alert::matcher::{Matcher, Silence};
use crate::window::time;

/// The format that is written, and the newest that is read.
pub(crate) const FORMAT: u32 = 1;

/// Each says how something stands from here on, so that the last one of a thing is all that counts.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Record {
    Format(u32),
    Alert(Box<AlertRecord>),
    /// By its id.
    Gone(String),
    Silence(SilenceRecord),
    Unsilence(u64),
    Told(ToldRecord),
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct AlertRecord {
    rule: String,
    severity: String,
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    value: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pending: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    episode: Option<EpisodeRecord>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    told: BTreeMap<String, ToldState>,
}

#[derive(Debug, Serialize, Deserialize)]
struct EpisodeRecord {
    since: u64,
    fired: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    resolved: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    acknowledged: Option<(String, String, u64)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct ToldState {
    fired: u64,
    firing: bool,
    at: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SilenceRecord {
    id: u64,
    /// Label, value, and whether it is or is not.
    matchers: Vec<(String, String, bool)>,
    /// When it was made. Not there in files of before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from: Option<u64>,
    until: u64,
    by: String,
    comment: String,
}

/// A route was told of these, by their ids with the time they fired and whether they still do.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ToldRecord {
    pub(crate) route: String,
    pub(crate) at: u64,
    pub(crate) alerts: Vec<(String, u64, bool)>,
}

impl AlertRecord {
    pub(crate) fn of(instance: &Instance) -> Self {
        let episode = instance.episode.as_ref().map(|episode| EpisodeRecord {
            since: episode.since,
            fired: episode.fired,
            resolved: episode.resolved,
            acknowledged: episode.acknowledged.clone(),
        });
        let told = |told: &Told| ToldState { fired: told.fired, firing: told.firing, at: told.at };
        AlertRecord {
            rule: instance.rule.clone(),
            severity: instance.severity.as_str().to_owned(),
            labels: instance.labels.clone(),
            annotations: instance.annotations.clone(),
            value: instance.value.filter(|value| value.is_finite()),
            pending: instance.pending,
            episode,
            told: instance.told.iter().map(|(route, state)| (route.clone(), told(state))).collect(),
        }
    }

    pub(crate) fn instance(self, now: u64) -> Instance {
        let told = |told: ToldState| Told { fired: told.fired, firing: told.firing, at: told.at };
        Instance {
            rule: self.rule,
            severity: Severity::from_word(&self.severity),
            labels: self.labels,
            annotations: self.annotations,
            value: self.value,
            pending: self.pending,
            episode: self.episode.map(|episode| Episode {
                since: episode.since,
                fired: episode.fired,
                resolved: episode.resolved,
                acknowledged: episode.acknowledged,
            }),
            told: self.told.into_iter().map(|(route, state)| (route, told(state))).collect(),
            unsure: BTreeSet::new(),
            held: now,
            seen: now,
        }
    }
}

impl SilenceRecord {
    pub(crate) fn of(silence: &Silence) -> Self {
        let matcher = |matcher: &Matcher| (matcher.label.clone(), matcher.value.clone(), matcher.is);
        SilenceRecord {
            id: silence.id,
            matchers: silence.matchers.iter().map(matcher).collect(),
            from: Some(silence.from.timestamp().max(0) as u64),
            until: silence.until.timestamp().max(0) as u64,
            by: silence.by.clone(),
            comment: silence.comment.clone(),
        }
    }

    /// One that was made at a time that is far yet to come is taken for made now, and lasts for as long as it was asked to.
    pub(crate) fn silence(self, now: u64) -> Silence {
        let matcher = |(label, value, is)| Matcher { label, value, is };
        let from = self.from.unwrap_or(now.min(self.until));
        let ahead = if from > now.saturating_add(AHEAD) { from - now } else { 0 };
        Silence {
            id: self.id,
            matchers: self.matchers.into_iter().map(matcher).collect(),
            from: time(from - ahead),
            until: time(self.until.saturating_sub(ahead)),
            by: self.by,
            comment: self.comment,
        }
    }
}

/// A line as it stands in the file.
pub(crate) fn line(record: &Record, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let json = serde_json::to_vec(record)?;
    out.extend(format!("{:08x} ", crc32fast::hash(&json)).into_bytes());
    out.extend(json);
    out.push(b'\n');
    Ok(())
}

/// The record of a line without its end. `None` if it is damaged.
pub(crate) fn parse(line: &[u8]) -> Option<Record> {
    let (sum, json) = line.split_at_checked(9)?;
    let sum = std::str::from_utf8(sum).ok()?.strip_suffix(' ')?;
    let sum = u32::from_str_radix(sum, 16).ok()?;
    if crc32fast::hash(json) != sum {
        return None;
    }
    serde_json::from_slice(json).ok()
}
