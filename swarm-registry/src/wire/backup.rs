//! The first line of a backup. What follows is its digest, then the bytes of the snapshot, then those of the artifacts in
//! this order.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::{FORMAT, check_format, json, seal, unseal};
use crate::error::{Error, Result};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BackupHeader {
    format: u32,
    /// The last record that is included.
    pub(crate) backup_of: u64,
    /// How many bytes the snapshot has.
    pub(crate) snapshot: u64,
    pub(crate) artifacts: Vec<BackupArtifact>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct BackupArtifact {
    pub(crate) object: String,
    pub(crate) size: u64,
}

impl BackupHeader {
    pub(crate) fn new(backup_of: u64, snapshot: u64, artifacts: Vec<BackupArtifact>) -> Self {
        BackupHeader { format: FORMAT, backup_of, snapshot, artifacts }
    }

    pub(crate) fn encode(&self) -> Result<Bytes> {
        seal([&*json(self)?])
    }

    pub(crate) fn decode(file: &str, bytes: &[u8]) -> Result<Self> {
        let lines = unseal(file, bytes)?;
        let [text] = lines[..] else { return Err(Error::corrupt(file, "is not a backup")) };
        check_format(file, text)?;
        serde_json::from_str(text).map_err(|error| Error::corrupt(file, "is not a backup").because(error))
    }
}
