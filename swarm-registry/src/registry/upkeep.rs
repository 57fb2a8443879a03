use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::authorizer::Action;
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Event;
use crate::log::{self, Log, record_name};
use crate::random::nonce;
use crate::state::State;
use crate::store::{VersionStore, sync_parent};
use crate::wire::{BackupArtifact, BackupHeader, Change, Deployed, Line};

use super::VersionRegistry;

/// The first two lines of a backup are not longer: they name half a million artifacts. A file that is no backup is not
/// read into memory to find that out.
const LONGEST_HEADER: u64 = 64 << 20;

/// What [`compact`](VersionRegistry::compact) keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    since: Option<DateTime<Utc>>,
}

impl Retention {
    /// Keeps everything; the log becomes one object.
    pub fn everything() -> Self {
        Retention { since: None }
    }

    /// Keeps what was registered, deployed or aliased at `time` or later, and whatever its age what an alias points to,
    /// what a channel serves, and what it can be rolled back to.
    pub fn since(time: DateTime<Utc>) -> Self {
        Retention { since: Some(time) }
    }
}

/// Where a log ends: the number of its last record and the digest that stands for all records up to it.
///
/// Keep one elsewhere to find out later that history was rewritten: the same number must have the same digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Head {
    /// The number of the last record, 0 where there is none.
    pub record: u64,
    /// The digest of its line, which holds the digest of the line before.
    pub digest: Option<Digest>,
}

impl fmt::Display for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.digest {
            Some(digest) => write!(f, "record {} {digest}", self.record),
            None => f.write_str("record 0"),
        }
    }
}

/// Upkeep: history, verification, retention, backup.
impl VersionRegistry {
    /// Every record from number `from` on, as events; without what was compacted away.
    ///
    /// # Errors
    /// As [`open`](VersionRegistry::open).
    pub async fn history(&self, from: u64) -> Result<Vec<Event>> {
        let (lines, _) = self.shared.log.read(from).await?;
        lines.iter().map(|line| Event::of(line, &record_name(line.record.seq))).collect()
    }

    /// Reads everything that is kept, every record and every artifact, and checks each against its digest and the chain.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] and [`ErrorKind::Missing`] name the first object that is not as it was written;
    /// [`ErrorKind::NewerFormat`]; [`ErrorKind::Store`].
    pub async fn verify(&self) -> Result<Head> {
        let (state, _) = self.shared.log.load().await?;
        for version in state.versions.values() {
            if let Some(artifact) = &version.artifact {
                let bytes = self.artifact_bytes(&artifact.object, version.digest).await;
                if let Err(error) = bytes
                    && !(error.kind() == ErrorKind::Missing && self.was_collected(&artifact.object).await?)
                {
                    return Err(error.of_version(&version.id));
                }
            }
        }
        Ok(Head { record: state.seq, digest: state.head })
    }

    /// Puts one snapshot in the place of all records, and removes what `retention` does not keep: versions that nothing
    /// reaches, with their bytes, and the history from before. Their ids stay used up.
    ///
    /// ```
    /// # use chrono::{TimeDelta, Utc};
    /// # use swarm_registry::{ObjectVersionStore, Retention, VersionRegistry};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), swarm_registry::Error> {
    /// # let registry = VersionRegistry::with_store(ObjectVersionStore::memory()).await?;
    /// registry.compact(Retention::everything()).await?; // opens faster, and forgets nothing
    /// registry.compact(Retention::since(Utc::now() - TimeDelta::days(90))).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Records are emptied, not removed: what counts is that their numbers stay taken. Others may read and write meanwhile;
    /// another process that knew the removed history tells it until it opens the registry anew. Cut off in the middle,
    /// versions can be gone and the history from before still be there; call it again.
    ///
    /// # Errors
    /// [`ErrorKind::Denied`]; else as [`open`](VersionRegistry::open). With any other error than that, versions may have been
    /// removed and the rest not done.
    pub async fn compact(&self, retention: Retention) -> Result<()> {
        self.commit(Action::Compact, "", |state| Ok(unreached(state, retention))).await?;
        let (state, lines) = self.shared.log.load().await?;
        if state.seq == 0 {
            return Ok(());
        }
        let keep: Vec<Line> = lines.into_iter().filter(|line| needed(&state, line, retention)).collect();
        self.shared.log.compact(&state, &keep).await?;
        let store = self.shared.log.store();
        for object in store.list("artifacts", "").await? {
            if state.dead.contains(&object) {
                store.delete(&object).await?;
            }
        }
        // What is gone from the store is gone from this process's memory and answers too.
        self.reload().await?;
        self.shared.log.sweep(state.seq).await
    }

    /// Writes the whole registry, its artifacts included, to one file at `path`, as it is at one record.
    ///
    /// The file is there whole or not at all; one that was there before is replaced. It is written beside its place first,
    /// under a name that ends in `.part`: dropped or killed in the middle, that file stays behind.
    ///
    /// ```
    /// # use swarm_registry::{ObjectVersionStore, Split, Version, VersionRegistry};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// # let file = folder.path().join("registry.backup");
    /// # let registry = VersionRegistry::with_store(ObjectVersionStore::memory()).await?;
    /// # registry.register(Version::new("v1.0").artifact("bytes")).await?;
    /// # registry.deploy("production", Split::all("v1.0")).await?;
    /// let head = registry.backup(&file).await?;
    ///
    /// let elsewhere = ObjectVersionStore::folder(folder.path().join("elsewhere"))?; // empty, and of any kind
    /// assert_eq!(VersionRegistry::restore(&file, elsewhere.clone()).await?, head);
    /// let restored = VersionRegistry::with_store(elsewhere).await?;
    /// assert_eq!(restored.artifact("v1.0").await?, "bytes");
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where the file cannot be written; [`ErrorKind::InvalidState`] where there are more artifacts than a
    /// backup can name, about half a million; else as [`verify`](VersionRegistry::verify).
    pub async fn backup(&self, path: impl AsRef<Path>) -> Result<Head> {
        let path = path.as_ref();
        // A name of its own, for others may write a backup to the same place.
        let mut part = path.as_os_str().to_owned();
        part.push(format!(".{}.part", nonce()?));
        let part = PathBuf::from(part);
        let written = loop {
            match self.write_backup(path, &part).await {
                // Another process compacted: what is there now has another record. Begin again.
                Err(error) if self.lacks_collected(&error).await => {}
                written => break written,
            }
        };
        if written.is_err() {
            // Where it cannot be removed, or was never made, there is nothing else to do.
            let _ = tokio::fs::remove_file(&part).await;
        }
        written
    }

    /// Makes the empty `store` hold the registry that was [backed up](VersionRegistry::backup) to `path`. Until it
    /// answers, nobody else may write to that store. Where it held another registry before, every handle on that one must be
    /// gone: one that is still open goes on with its own numbers, and what it writes damages the log.
    ///
    /// [`backup`](VersionRegistry::backup) shows how.
    ///
    /// Everything is checked before anything counts: cut off in the middle, the store opens as an empty registry or as the
    /// whole one, and the same call can be made again until it answered.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidState`] where the store holds a registry; [`ErrorKind::Corrupt`] where the file is not what was
    /// written; [`ErrorKind::Io`] where it cannot be read; [`ErrorKind::NewerFormat`]; [`ErrorKind::Store`].
    pub async fn restore(path: impl AsRef<Path>, store: impl VersionStore) -> Result<Head> {
        let path = path.as_ref();
        let name = path.display().to_string();
        let log = Log::new(Arc::new(store));
        let failed = |error| Error::io(format!("could not read the backup {name}"), error);
        let broken = |why: &str| Error::corrupt(&name, why);
        let mut file = BufReader::new(tokio::fs::File::open(path).await.map_err(failed)?);
        let mut first = Vec::new();
        let mut head = (&mut file).take(LONGEST_HEADER);
        for _ in 0..2 {
            head.read_until(b'\n', &mut first).await.map_err(failed)?;
        }
        if head.limit() == 0 {
            return Err(broken("has no header in its first 64 MiB"));
        }
        let header = BackupHeader::decode(&name, &first)?;
        if !log.is_free_for(header.backup_of).await? {
            return Err(Error::new(ErrorKind::InvalidState, "the store holds a registry"));
        }
        let read = async |file: &mut BufReader<tokio::fs::File>, size: u64| {
            let mut bytes = Vec::new();
            let got = file.take(size).read_to_end(&mut bytes).await.map_err(failed)?;
            if got as u64 == size { Ok(bytes) } else { Err(broken("ends before its end")) }
        };
        let snapshot = read(&mut file, header.snapshot).await?;
        let (state, _) = log::read_snapshot(&name, &snapshot)?;
        if state.seq != header.backup_of {
            return Err(broken("does not hold the record it says"));
        }
        let objects = objects(&state);
        let listed = header.artifacts.iter().map(|artifact| (&*artifact.object, artifact.size));
        if !listed.eq(objects.iter().map(|(object, size, _)| (&**object, *size))) {
            return Err(broken("does not list the artifacts of its versions"));
        }
        for (object, size, digest) in objects {
            let bytes = read(&mut file, size).await?;
            if Digest::of(&bytes) != digest {
                return Err(broken(&format!("has other bytes for {object}")));
            }
            log.store().put(&object, bytes.into()).await?;
        }
        if file.read(&mut [0]).await.map_err(failed)? != 0 {
            return Err(broken("goes on after its end"));
        }
        if state.seq > 0 {
            log.found(&state, snapshot.into()).await?;
        }
        Ok(Head { record: state.seq, digest: state.head })
    }

    async fn lacks_collected(&self, error: &Error) -> bool {
        match error.object() {
            Some(object) if error.kind() == ErrorKind::Missing => {
                self.was_collected(object).await.is_ok_and(|collected| collected)
            }
            _ => false,
        }
    }

    async fn write_backup(&self, path: &Path, part: &Path) -> Result<Head> {
        let (state, lines) = self.shared.log.load().await?;
        let failed = |error| Error::io(format!("could not write the backup {}", path.display()), error);
        let mut file = tokio::fs::File::create(part).await.map_err(failed)?;
        let snapshot = log::snapshot(&state, &lines)?;
        let objects = objects(&state);
        let artifacts =
            objects.iter().map(|(object, size, _)| BackupArtifact { object: object.clone(), size: *size });
        let header = BackupHeader::new(state.seq, snapshot.len() as u64, artifacts.collect()).encode()?;
        if header.len() as u64 >= LONGEST_HEADER {
            let message = format!(
                "a backup's header has at most 64 MiB, and {} artifacts need more: have compact remove versions",
                objects.len()
            );
            return Err(Error::new(ErrorKind::InvalidState, message));
        }
        file.write_all(&header).await.map_err(failed)?;
        file.write_all(&snapshot).await.map_err(failed)?;
        for (object, _, digest) in &objects {
            let bytes = self.artifact_bytes(object, *digest).await?;
            file.write_all(&bytes).await.map_err(failed)?;
        }
        // A write that is still under way tells its error to a flush, and not to a sync.
        file.flush().await.map_err(failed)?;
        file.sync_all().await.map_err(failed)?;
        drop(file);
        tokio::fs::rename(part, path).await.map_err(failed)?;
        let made = path.to_owned();
        let synced = tokio::task::spawn_blocking(move || sync_parent(&made)).await;
        synced.map_err(std::io::Error::from).and_then(|synced| synced).map_err(failed)?;
        Ok(Head { record: state.seq, digest: state.head })
    }
}

/// The objects of all artifacts, each once, with size and digest.
fn objects(state: &State) -> Vec<(String, u64, Digest)> {
    let of = |version: &crate::VersionInfo| {
        let artifact = version.artifact.as_ref()?;
        Some((artifact.object.clone(), artifact.size, version.digest))
    };
    let objects: BTreeSet<_> = state.versions.values().filter_map(|version| of(version)).collect();
    objects.into_iter().collect()
}

/// The versions that nothing reaches, and the objects that nothing else shares.
fn unreached(state: &State, retention: Retention) -> Option<Change> {
    let since = retention.since?;
    let mut reached: BTreeSet<&str> = BTreeSet::new();
    for alias in state.aliases.values() {
        reached.extend(alias.to.as_deref());
        for moved in alias.moves.iter().filter(|moved| moved.at >= since) {
            reached.extend(moved.from.as_deref().into_iter().chain(moved.to.as_deref()));
        }
    }
    for (name, channel) in &state.channels {
        let kept = channel
            .history
            .values()
            .filter(|deployment| deployment.at() >= since || reachable(state, name, deployment.number));
        reached.extend(kept.flat_map(|deployment| deployment.versions()));
    }
    // A candidate is in no deployment before its first weight. A baseline is in that from before the rollout.
    let under_way = state.channels.keys().filter_map(|channel| state.rollout_under_way(channel));
    reached.extend(under_way.map(|rollout| &*rollout.candidate));
    let (kept, gone): (Vec<_>, Vec<_>) = state
        .versions
        .values()
        .partition(|version| version.registered_at >= since || reached.contains(version.id()));
    let used: BTreeSet<_> =
        kept.iter().filter_map(|version| version.artifact.as_ref()).map(|a| &a.object).collect();
    let objects: BTreeSet<_> =
        gone.iter().filter_map(|version| version.artifact.as_ref()).map(|a| &a.object).collect();
    (!gone.is_empty()).then(|| Change::Collected {
        versions: gone.iter().map(|version| version.id.clone()).collect(),
        artifacts: objects.difference(&used).map(|object| (*object).clone()).collect(),
    })
}

/// Whether a snapshot keeps `line`: the state would be another without it, or it is inside the window.
fn needed(state: &State, line: &Line, retention: Retention) -> bool {
    let Some(since) = retention.since else { return true };
    let record = &line.record;
    match &record.change {
        Change::Registered(registered) => state.versions.contains_key(&registered.id),
        Change::Signed { version, .. } => state.versions.contains_key(version),
        Change::Collected { .. } => true,
        Change::AliasMoved { alias, .. } => {
            let last = state.aliases.get(alias).and_then(|alias| alias.moves.last());
            record.at >= since.timestamp_micros() || last.is_some_and(|last| last.record == record.seq)
        }
        // Small, and the last one counts.
        Change::AliasProtected { .. } => true,
        Change::Deployed(deployed) => {
            record.at >= since.timestamp_micros() || reachable(state, &deployed.channel, deployed.number)
        }
        Change::RolloutStarted(started) => rollout_needed(state, &started.channel, record.seq, since),
        Change::RolloutMoved(moved) => {
            let serves = |deployed: &Deployed| {
                record.at >= since.timestamp_micros() || reachable(state, &deployed.channel, deployed.number)
            };
            rollout_needed(state, &moved.channel, moved.rollout, since)
                || moved.deployed.as_ref().is_some_and(serves)
        }
        Change::RolloutLeased(leased) => rollout_needed(state, &leased.channel, leased.rollout, since),
    }
}

/// Whether the channel serves the deployment, can be rolled back to it, or has a rollout under way that began there: each
/// of its weights is made from it, and an end restores it.
fn reachable(state: &State, channel: &str, number: u64) -> bool {
    let Some(current) = state.channels.get(channel).map(|channel| &channel.current) else { return true };
    number == current.number
        || current.stack.contains(&number)
        || state.rollout_under_way(channel).is_some_and(|rollout| rollout.origin == number)
}

/// Whether the rollout is under way, or changed inside the window: then all of it is kept, and else nothing, whatever
/// the clocks say that wrote its records.
fn rollout_needed(state: &State, channel: &Arc<str>, id: u64, since: DateTime<Utc>) -> bool {
    let rollout = state.rollouts.get(channel).and_then(|rollouts| rollouts.get(&id));
    rollout.is_some_and(|rollout| !rollout.phase.is_over() || rollout.changed_at >= since)
}
