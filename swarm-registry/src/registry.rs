//! `VersionRegistry`: versions, and how everything is read and changed. The verbs of aliases, traffic and upkeep stand
//! in modules of their own.

mod alias;
mod drive;
mod query;
mod rollout;
#[cfg(feature = "signatures")]
mod signature;
mod tail;
mod traffic;
mod upkeep;
mod watch;

pub use alias::Alias;
pub use query::Query;
pub use upkeep::{Head, Retention};
pub use watch::{Watch, WatchOptions};

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use arc_swap::ArcSwap;
use bytes::Bytes;

use crate::authorizer::{Action, Authorizer};
use crate::clock::{Clock, SystemClock};
use crate::digest::Digest;
use crate::error::{Error, ErrorKind, Result};
use crate::log::{Log, Next, record_name};
use crate::random::nonce;
use crate::state::State;
use crate::store::{ObjectVersionStore, VersionStore};
use crate::traffic::Routes;
use crate::version::{Version, VersionInfo};
use crate::wire::{Change, FORMAT, Line, Record, Registered, StoredArtifact};

use tail::Tail;

/// Knows every version, and which of them serves whom. Cheap to clone; the clones share what they know.
///
/// Every async call sees what any process was acknowledged before the call began, and every mutation is one record in
/// the log, made if and only if nobody else made that record: mutations happen one after the other, everywhere.
///
/// To see that, each of them reads what is new first, so each can fail as [`refresh`](VersionRegistry::refresh) does. What
/// it says under Errors is what it can answer besides.
#[derive(Clone)]
pub struct VersionRegistry {
    shared: Arc<Shared>,
    actor: Option<Arc<str>>,
}

struct Shared {
    log: Log,
    clock: Arc<dyn Clock>,
    authorizer: Option<Arc<dyn Authorizer>>,
    #[cfg(feature = "signatures")]
    policy: Option<crate::signature::SignaturePolicy>,
    state: RwLock<State>,
    /// The writers of this process, one behind the other, so that they do not compete for a number.
    queue: tokio::sync::Mutex<()>,
    /// What routers read; a channel is here once someone asked for its router.
    routes: Mutex<BTreeMap<Arc<str>, Arc<ArcSwap<Routes>>>>,
    /// What watches tell. It is written under the lock of the state, so that it ends where the state does.
    tail: Mutex<Tail>,
    /// The last record that this process knows of.
    known: tokio::sync::watch::Sender<u64>,
}

/// How a registry is opened: see [`VersionRegistry::builder`].
#[derive(Default)]
#[must_use]
pub struct RegistryBuilder {
    clock: Option<Arc<dyn Clock>>,
    authorizer: Option<Arc<dyn Authorizer>>,
    #[cfg(feature = "signatures")]
    policy: Option<crate::signature::SignaturePolicy>,
}

impl RegistryBuilder {
    /// Takes the time from `clock` instead of the system.
    pub fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = Some(clock);
        self
    }

    /// Asks `authorizer` before every mutation. Without one, everything is allowed.
    pub fn authorizer(mut self, authorizer: Arc<dyn Authorizer>) -> Self {
        self.authorizer = Some(authorizer);
        self
    }

    /// Puts versions into traffic only where `policy` trusts their signatures: each that a split names, whatever verb
    /// deploys it, and each that a rollout will serve, before it begins. To go back is never refused: what is rolled back
    /// to was trusted once.
    #[cfg(feature = "signatures")]
    pub fn require_signatures(mut self, policy: crate::SignaturePolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Opens the registry in a folder of this machine: [`VersionRegistry::open`].
    ///
    /// # Errors
    /// As [`VersionRegistry::open`].
    pub async fn open(self, folder: impl AsRef<Path>) -> Result<VersionRegistry> {
        self.with_store(ObjectVersionStore::folder(folder)?).await
    }

    /// Opens the registry that `store` keeps: [`VersionRegistry::with_store`].
    ///
    /// # Errors
    /// As [`VersionRegistry::with_store`].
    pub async fn with_store(self, store: impl VersionStore) -> Result<VersionRegistry> {
        let log = Log::new(Arc::new(store));
        let (state, _) = log.load().await?;
        let shared = Shared {
            log,
            clock: self.clock.unwrap_or_else(|| Arc::new(SystemClock)),
            authorizer: self.authorizer,
            #[cfg(feature = "signatures")]
            policy: self.policy,
            queue: tokio::sync::Mutex::new(()),
            routes: Mutex::default(),
            tail: Mutex::new(Tail::after(state.seq)),
            known: tokio::sync::watch::Sender::new(state.seq),
            state: RwLock::new(state),
        };
        Ok(VersionRegistry { shared: Arc::new(shared), actor: None })
    }
}

impl fmt::Debug for RegistryBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryBuilder").finish_non_exhaustive()
    }
}

/// What [`register`](VersionRegistry::register) answers.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Registration {
    /// The version as it is kept.
    pub version: Arc<VersionInfo>,
    /// Versions of other ids with the very same content. No error, but worth a look.
    pub same_content: Vec<String>,
}

impl VersionRegistry {
    /// A registry with a clock or an authorizer of your own.
    pub fn builder() -> RegistryBuilder {
        RegistryBuilder::default()
    }

    /// Opens the registry in a folder of this machine, which is made if it is not there. Any number of processes may
    /// have it open.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] and [`ErrorKind::Missing`] name the first object that is not as it was written;
    /// [`ErrorKind::NewerFormat`]; [`ErrorKind::Store`].
    pub async fn open(folder: impl AsRef<Path>) -> Result<Self> {
        Self::builder().open(folder).await
    }

    /// Opens the registry that `store` keeps: memory, an object store, or one of your own.
    ///
    /// # Errors
    /// As [`open`](VersionRegistry::open).
    pub async fn with_store(store: impl VersionStore) -> Result<Self> {
        Self::builder().with_store(store).await
    }

    /// The same registry, whose mutations are recorded as `actor`'s and authorized for it.
    #[must_use]
    pub fn acting_as(&self, actor: impl Into<Arc<str>>) -> Self {
        VersionRegistry { shared: self.shared.clone(), actor: Some(actor.into()) }
    }

    /// Registers a version.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`] lists everything that is not acceptable; [`ErrorKind::AlreadyExists`] where the id is
    /// or was in use, whatever the content; [`ErrorKind::NotFound`] where the parent is not registered;
    /// [`ErrorKind::Denied`]; [`ErrorKind::Store`].
    pub async fn register(&self, version: Version) -> Result<Registration> {
        let digest = version.check()?;
        let mut uploaded: Option<String> = None;
        loop {
            let planned = |state: &State| {
                check_new(state, &version, digest)?;
                let artifact = match &version.artifact {
                    None => None,
                    Some(bytes) => match uploaded.as_deref().or_else(|| stored_object(state, digest)) {
                        Some(object) => {
                            Some(StoredArtifact { object: object.to_owned(), size: bytes.len() as u64 })
                        }
                        // Nothing can be recorded before the bytes are stored.
                        None => return Ok(None),
                    },
                };
                Ok(Some(Change::Registered(Registered {
                    id: version.id.as_str().into(),
                    digest: digest.to_string(),
                    artifact,
                    metadata: version.metadata.clone(),
                    metrics: version.metrics.iter().map(|(name, m)| (name.clone(), m.into())).collect(),
                    labels: version.labels.clone(),
                    parent: version.parent.clone(),
                })))
            };
            match (self.commit(Action::Register, &version.id, planned).await?, &version.artifact) {
                (None, Some(bytes)) => {
                    // An object of its own, so that no collection of another version can take it away.
                    let object = format!("artifacts/{}-{}", digest.hex(), nonce()?);
                    self.shared.log.store().put(&object, bytes.clone()).await?;
                    uploaded = Some(object);
                }
                _ => break,
            }
        }
        let state = self.state();
        let version = state.version(&version.id)?.clone();
        let same = state.by_digest.get(&digest).into_iter().flatten();
        let same_content = same.filter(|id| **id != version.id).map(|id| id.to_string()).collect();
        Ok(Registration { version, same_content })
    }

    /// The version of this id.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`], with the nearest id; [`ErrorKind::Store`].
    pub async fn version(&self, id: &str) -> Result<Arc<VersionInfo>> {
        self.refresh().await?;
        self.state().version(id).cloned()
    }

    /// The bytes of a version, which are those that were registered.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] where there is no such version or its bytes are kept elsewhere; [`ErrorKind::Corrupt`]
    /// where the bytes do not have the version's digest; [`ErrorKind::Missing`] where they are gone;
    /// [`ErrorKind::Store`].
    pub async fn artifact(&self, id: &str) -> Result<Bytes> {
        let version = self.version(id).await?;
        let Some(artifact) = &version.artifact else {
            let message = format!("the registry keeps no bytes of version {id:?}");
            return Err(Error::new(ErrorKind::NotFound, message).of_version(id));
        };
        let bytes = self.artifact_bytes(&artifact.object, version.digest).await;
        let missing = bytes.as_ref().is_err_and(|error| error.kind() == ErrorKind::Missing);
        if missing && self.was_collected(&artifact.object).await? {
            // Another process compacted: say so.
            self.state().version(id)?;
        }
        bytes.map_err(|error| error.of_version(id))
    }

    /// Whether retention removed these bytes since they were looked for. The record comes before the removal.
    async fn was_collected(&self, object: &str) -> Result<bool> {
        self.refresh().await?;
        Ok(self.state().dead.contains(object))
    }

    async fn artifact_bytes(&self, object: &str, digest: Digest) -> Result<Bytes> {
        let Some(bytes) = self.shared.log.store().get(object).await? else {
            return Err(Error::new(ErrorKind::Missing, format!("{object} is gone")).at_object(object));
        };
        let has = Digest::of(&bytes);
        if has != digest {
            return Err(Error::corrupt(object, format!("has the digest {has}, not {digest}")));
        }
        Ok(bytes)
    }

    /// Learns what other processes did, so that routers serve it. Other async calls do this themselves.
    ///
    /// # Errors
    /// [`ErrorKind::Corrupt`] and [`ErrorKind::Missing`] name the object that is not as it was written, or gone;
    /// [`ErrorKind::NewerFormat`]; [`ErrorKind::Store`]. What was known stays.
    pub async fn refresh(&self) -> Result<()> {
        while self.advance().await? {}
        Ok(())
    }

    /// Reads what comes next into the state, the routers and the tail, and answers whether there was anything. Nothing
    /// else follows the log.
    async fn advance(&self) -> Result<bool> {
        let (seq, head) = {
            let state = self.state();
            (state.seq, state.head)
        };
        match self.shared.log.next(seq, head).await? {
            Next::Line(line) => self.absorb(Arc::from(line))?,
            Next::End => return Ok(false),
            Next::Compacted => self.reload().await?,
        }
        Ok(true)
    }

    /// Takes everything from the store anew: the next record, or history that this process knows, was compacted away.
    async fn reload(&self) -> Result<()> {
        let (loaded, lines) = self.shared.log.load().await?;
        let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
        if loaded.seq >= state.seq {
            let mut tail = self.tail();
            for line in lines.into_iter().filter(|line| line.record.seq > state.seq) {
                tail.push(Arc::new(line));
            }
            tail.reach(loaded.seq);
            drop(tail);
            *state = loaded;
            self.publish(&state);
        }
        Ok(())
    }

    /// Takes in `line`, unless it is known.
    fn absorb(&self, line: Arc<Line>) -> Result<()> {
        let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
        if line.record.seq == state.seq + 1 {
            state.apply(&line, &record_name(line.record.seq))?;
            self.tail().push(line);
            self.publish(&state);
        }
        Ok(())
    }

    /// Hands the current deployments to the routers. Under the lock of the state, so that none goes back.
    fn publish(&self, state: &State) {
        let routes = self.shared.routes.lock().unwrap_or_else(PoisonError::into_inner);
        for (channel, cell) in &*routes {
            if let Some(channel) = state.channels.get(channel)
                && cell.load().number() != channel.current.number()
            {
                cell.store(Arc::new(Routes::new(channel.current.clone())));
            }
        }
        self.shared.known.send_replace(state.seq);
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.shared.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn tail(&self) -> MutexGuard<'_, Tail> {
        self.shared.tail.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn allow(&self, action: Action, target: &str) -> Result<()> {
        let Some(authorizer) = &self.shared.authorizer else { return Ok(()) };
        let actor = self.actor.as_deref();
        authorizer.authorize(actor, action, target).map_err(|why| {
            let who = actor.unwrap_or("nobody in particular");
            Error::new(ErrorKind::Denied, format!("{who} may not {action} {target:?}: {why}"))
        })
    }

    /// Writes what `plan` makes of the state as the next record, and answers when it is in the log; `None` where the
    /// plan changes nothing. If another was first, the plan is made again for what the state is then.
    ///
    /// Dropped in the middle, it may or may not have happened. The state follows from the log, so the next call knows.
    async fn commit(
        &self,
        action: Action,
        target: &str,
        plan: impl Fn(&State) -> Result<Option<Change>>,
    ) -> Result<Option<Arc<Line>>> {
        self.allow(action, target)?;
        if let Some(actor) = &self.actor {
            crate::name::check("actor", actor)?;
        }
        let _place = self.shared.queue.lock().await;
        // A plan that fails, or changes nothing, could do so because this process has not heard the latest.
        let mut fresh = false;
        loop {
            let planned = {
                let state = self.state();
                let change = plan(&state);
                #[cfg(feature = "signatures")]
                let change = change.and_then(|change| {
                    change.iter().try_for_each(|change| self.trust(&state, change))?;
                    Ok(change)
                });
                change.map(|change| change.map(|change| (change, state.seq, state.head)))
            };
            let (change, seq, head) = match planned {
                Ok(Some(planned)) => planned,
                unfit if fresh => return unfit.map(|_| None),
                _ => {
                    self.refresh().await?;
                    fresh = true;
                    continue;
                }
            };
            let line = Line::new(Record {
                format: FORMAT,
                seq: seq + 1,
                previous: head.map(|head| head.to_string()).unwrap_or_default(),
                at: self.shared.clock.now().timestamp_micros(),
                actor: self.actor.as_deref().map(str::to_owned),
                nonce: nonce()?,
                change,
            })?;
            let appended = self.shared.log.append(&line).await;
            if appended.is_err() {
                // What is in the way, if anything is, the next call must know: a number that retention left out is taken, and
                // would be refused again and again. Where the store is away, the first error is the one to tell.
                let _ = self.refresh().await;
            }
            if appended? {
                let line = Arc::new(line);
                self.absorb(line.clone())?;
                tracing::debug!(record = seq + 1, actor = self.actor.as_deref(), on = target, "{action}");
                return Ok(Some(line));
            }
            self.refresh().await?;
            fresh = true;
        }
    }
}

impl fmt::Debug for VersionRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("VersionRegistry")
            .field("record", &state.seq)
            .field("versions", &state.versions.len())
            .field("channels", &state.channels.len())
            .finish_non_exhaustive()
    }
}

fn check_new(state: &State, version: &Version, digest: Digest) -> Result<()> {
    let id = &*version.id;
    let used = match state.versions.get(id) {
        Some(there) if there.digest == digest => {
            Some("is registered already, with the same content".to_owned())
        }
        Some(there) => Some(format!("is registered already, with the content {}", there.digest)),
        None if state.collected.contains(id) => {
            Some("was removed by retention, and ids are used once".to_owned())
        }
        None => None,
    };
    if let Some(why) = used {
        let message = format!("version {id:?} {why}");
        return Err(Error::new(ErrorKind::AlreadyExists, message).of_version(id));
    }
    match &version.parent {
        Some(parent) => state.version(parent).map(drop),
        None => Ok(()),
    }
}

/// Where a registered version has these bytes already.
fn stored_object(state: &State, digest: Digest) -> Option<&str> {
    let ids = state.by_digest.get(&digest)?;
    ids.iter().find_map(|id| Some(&*state.versions.get(id)?.artifact.as_ref()?.object))
}
