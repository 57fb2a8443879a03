//! What a run is to deploy: fixed when the run is first asked for, and the same however often it is taken up again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process;

use serde::{Deserialize, Serialize};

use crate::tree::{self, At};

/// The input of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order {
    /// The name of the release: version and beginning of the digest.
    pub(crate) release: String,
    pub(crate) version: String,
    /// Of the tree to deploy, its version stamp included.
    pub(crate) digest: String,
    /// Of the tree it was made from.
    pub(crate) source: String,
    /// Counts the releases made from the same source, from 1.
    pub(crate) build: u32,
    /// How many agents are in production; one more is for staging.
    pub(crate) agents: u32,
}

impl Order {
    pub(crate) fn production(&self) -> Vec<String> {
        (1..=self.agents).map(|number| format!("Agent-{number}")).collect()
    }

    pub(crate) fn staging(&self) -> String {
        format!("Agent-{}", self.agents + 1)
    }

    /// The tree to deploy.
    pub(crate) fn tree(&self, state: &Path) -> PathBuf {
        state.join("sources").join(&self.release)
    }
}

/// A copy of the source that nobody edits, not yet given a name.
pub(crate) struct Draft {
    folder: PathBuf,
    version: String,
    pub(crate) source: String,
}

impl Draft {
    pub(crate) fn take(state: &Path, source: &Path) -> io::Result<Self> {
        let path = source.join("VERSION");
        let version = fs::read_to_string(&path).at("read the version from", &path)?.trim().to_owned();
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
        if version.is_empty() || version.len() > 40 || !version.chars().all(allowed) {
            return Err(io::Error::other(format!("{}: {version:?} is no version", path.display())));
        }
        let folder = state.join("sources").join(format!(".draft-{}", process::id()));
        tree::remove(&folder)?;
        if fs::canonicalize(state)
            .at("find", state)?
            .starts_with(fs::canonicalize(source).at("find", source)?)
        {
            return Err(io::Error::other(
                "the state folder lies inside the source; say another with --state",
            ));
        }
        tree::copy(source, &folder, |_, _| {})?;
        Ok(Draft { version, source: tree::digest(&folder)?, folder })
    }

    /// Makes the order, with its tree. Builds after the first are stamped, so that they differ.
    pub(crate) fn order(self, state: &Path, build: u32, agents: u32) -> io::Result<Order> {
        let version = if build == 1 { self.version.clone() } else { format!("{}-r{build}", self.version) };
        if build > 1 {
            tree::write_atomically(&self.folder.join("VERSION"), format!("{version}\n").as_bytes())?;
        }
        let digest = tree::digest(&self.folder)?;
        let release = format!("{version}-{}", &digest[..12]);
        let order = Order { release, version, digest, source: self.source.clone(), build, agents };
        let tree = order.tree(state);
        if !tree.exists() {
            fs::rename(&self.folder, &tree).at("rename", &self.folder)?;
            tree::sync_folder(&state.join("sources"))?;
        }
        Ok(order)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // One that was renamed is not there; one that cannot be removed does no harm.
        let _ = tree::remove(&self.folder);
    }
}

/// The orders by run, in the folder `orders`.
pub(crate) struct Orders(PathBuf);

impl Orders {
    pub(crate) fn of(state: &Path) -> Self {
        Orders(state.join("orders"))
    }

    pub(crate) fn keep(&self, run: &str, order: &Order) -> io::Result<()> {
        tree::write_atomically(&self.0.join(format!("{run}.json")), &serde_json::to_vec_pretty(order)?)
    }

    pub(crate) fn get(&self, run: &str) -> io::Result<Option<Order>> {
        let path = self.0.join(format!("{run}.json"));
        match fs::read(&path) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).at("read", &path),
        }
    }

    /// The last build made from `source`, with its run.
    pub(crate) fn last_of(&self, source: &str) -> io::Result<Option<(String, Order)>> {
        let mut last: Option<(String, Order)> = None;
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            entries => entries.at("list", &self.0)?,
        };
        for entry in entries {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let Some(run) = name.strip_suffix(".json") else { continue };
            let Some(order) = self.get(run)?.filter(|order| order.source == source) else { continue };
            if last.as_ref().is_none_or(|(_, last)| order.build > last.build) {
                last = Some((run.to_owned(), order));
            }
        }
        Ok(last)
    }
}
