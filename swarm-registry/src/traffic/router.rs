use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use arc_swap::{ArcSwap, Cache, Guard};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use super::deployment::Deployment;
use super::slots::Slots;
use super::split::WHOLE;

/// The slot of `key` in `channel`, 0 to 9,999.
///
/// Part of the format, so that a program in another language can agree. With XXH3 in its 64-bit form:
///
/// 1. `seed = XXH3_64(channel)`, of the UTF-8 bytes, with seed 0;
/// 2. `hash = XXH3_64_withSeed(key, seed)`;
/// 3. `slot = ((hash >> 32) * 10000) >> 32`.
///
/// The lower half of `hash` in the same way gives the place in the mirror. Two channels divide the same users
/// independently of each other.
///
/// ```
/// use swarm_registry::slot;
///
/// // Vectors for other languages, made with the reference implementation's Python binding, xxhash 4.1.0.
/// assert_eq!(slot("production", b"user-42"), 4324);
/// assert_eq!(slot("production", b""), 7261);
/// assert_eq!(slot("production", "grüße".as_bytes()), 99);
/// assert_eq!(slot("staging", b"user-42"), 6412);
/// ```
pub fn slot(channel: &str, key: &[u8]) -> u16 {
    scale(xxh3_64_with_seed(key, seed(channel)) >> 32)
}

fn seed(channel: &str) -> u64 {
    xxh3_64(channel.as_bytes())
}

/// A half of a hash as one of 10,000 places.
#[inline]
fn scale(half: u64) -> u16 {
    ((half * u64::from(WHOLE)) >> 32) as u16
}

/// The whole of one deployment in the form that is asked.
pub(crate) struct Routes {
    seed: u64,
    table: Table,
    /// Those of the weights, in their order, then those of the pins.
    versions: Vec<Arc<str>>,
    /// Keys and the place of their version, sorted by the key.
    pins: Vec<(Box<str>, usize)>,
    mirror: Option<(Arc<str>, u16)>,
    deployment: Arc<Deployment>,
}

/// The version of each slot: a byte each where that is enough, since a processor's nearest memory holds little more.
#[expect(clippy::large_enum_variant, reason = "each stands in an `Arc` of its own, and most are narrow")]
enum Table {
    /// Here and not behind a pointer, which would be one more load on the way.
    Narrow([u8; WHOLE as usize]),
    Wide(Box<[u16]>),
}

impl Table {
    fn new(slots: &Slots, versions: usize) -> Self {
        if versions > 256 {
            return Table::Wide(slots.expand().collect());
        }
        let mut table = [0; WHOLE as usize];
        for (slot, version) in table.iter_mut().zip(slots.expand()) {
            *slot = version as u8; // One of 256.
        }
        Table::Narrow(table)
    }

    #[inline]
    fn version(&self, slot: u16) -> usize {
        match self {
            Table::Narrow(table) => usize::from(table[usize::from(slot)]),
            Table::Wide(table) => usize::from(table[usize::from(slot)]),
        }
    }
}

/// What a key gets: the place of its version; and its hash, whose lower half is its place in the mirror.
#[derive(Clone, Copy)]
struct Found {
    version: usize,
    hash: u64,
}

impl Routes {
    pub(crate) fn new(deployment: Arc<Deployment>) -> Self {
        let table = Table::new(&deployment.slots, deployment.weights.len());
        let mut versions: Vec<Arc<str>> = deployment.weights.iter().map(|(v, _)| v.clone()).collect();
        let mut pins = Vec::with_capacity(deployment.pins.len());
        for (key, version) in &deployment.pins {
            pins.push((key.as_str().into(), versions.len()));
            versions.push(version.clone());
        }
        let mirror = deployment.mirror.clone();
        Routes { seed: seed(&deployment.channel), table, versions, pins, mirror, deployment }
    }

    pub(crate) fn number(&self) -> u64 {
        self.deployment.number()
    }

    #[inline(always)]
    fn find(&self, key: &str) -> Found {
        let hash = xxh3_64_with_seed(key.as_bytes(), self.seed);
        let pinned = if self.pins.is_empty() { None } else { self.pinned(key) };
        let version = pinned.unwrap_or_else(|| self.table.version(scale(hash >> 32)));
        Found { version, hash }
    }

    /// Out of the way of those who pin nothing.
    #[inline(never)]
    fn pinned(&self, key: &str) -> Option<usize> {
        let at = self.pins.binary_search_by(|(pinned, _)| (**pinned).cmp(key)).ok()?;
        Some(self.pins[at].1)
    }

    #[inline]
    fn version(&self, found: Found) -> &str {
        &self.versions[found.version]
    }

    fn mirror(&self, found: Found) -> Option<&str> {
        let place = scale(found.hash & 0xffff_ffff);
        let mirror = self.mirror.as_ref().filter(|(_, points)| place < *points);
        mirror.map(|(version, _)| &**version)
    }
}

/// Tells which version a key gets. Cheap to clone; every clone sees a change at once.
///
/// It reads the last deployment that this process knows of, and never the store: call
/// [`refresh`](crate::VersionRegistry::refresh), or keep a [`watch`](crate::VersionRegistry::watch) going, to learn of
/// what others deploy. While the store is away it goes on with what it has.
#[derive(Clone)]
pub struct Router {
    routes: Arc<ArcSwap<Routes>>,
}

impl Router {
    pub(crate) fn new(routes: Arc<ArcSwap<Routes>>) -> Self {
        Router { routes }
    }

    /// The version of `key`: a user, a tenant, a request. No lock, no allocation. A key keeps its version as long as its
    /// slot does, in every process.
    #[inline]
    pub fn route(&self, key: &str) -> Routed<'_> {
        let routes = self.routes.load();
        let found = routes.find(key);
        Routed { routes: Held::Loaded(routes), found }
    }

    /// A router for one thread or task, which touches nothing that others write to as long as nothing changes: the
    /// fastest way to ask.
    pub fn cached(&self) -> CachedRouter {
        CachedRouter { routes: Cache::new(self.routes.clone()) }
    }

    /// The deployment that it serves now. What a key got is of [`Routed::deployment`], which can be the one before.
    pub fn deployment(&self) -> Arc<Deployment> {
        self.routes.load().deployment.clone()
    }
}

impl fmt::Debug for Router {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deployment = self.deployment();
        write!(f, "Router({} {}: {})", deployment.channel, deployment.number, deployment.split())
    }
}

/// What [`Router::route`] and [`CachedRouter::route`] answer: the version of a key, to be used as text.
///
/// All of it is of one deployment, whatever is deployed meanwhile. Let go of it before the next await.
pub struct Routed<'a> {
    routes: Held<'a>,
    found: Found,
}

enum Held<'a> {
    Loaded(Guard<Arc<Routes>>),
    Cached(&'a Routes),
}

impl Routed<'_> {
    #[inline]
    fn routes(&self) -> &Routes {
        match &self.routes {
            Held::Loaded(routes) => routes,
            Held::Cached(routes) => routes,
        }
    }

    /// The id of the version.
    #[inline]
    pub fn version(&self) -> &str {
        self.routes().version(self.found)
    }

    /// The version that shall see a copy of this request, if one shall.
    pub fn mirror(&self) -> Option<&str> {
        self.routes().mirror(self.found)
    }

    /// The deployment that says so: what counts by version count by its [`number`](Deployment::number) too.
    pub fn deployment(&self) -> &Arc<Deployment> {
        &self.routes().deployment
    }
}

impl Deref for Routed<'_> {
    type Target = str;

    #[inline]
    fn deref(&self) -> &str {
        self.version()
    }
}

impl PartialEq<str> for Routed<'_> {
    fn eq(&self, other: &str) -> bool {
        self.version() == other
    }
}

impl PartialEq<&str> for Routed<'_> {
    fn eq(&self, other: &&str) -> bool {
        self.version() == *other
    }
}

impl fmt::Display for Routed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl fmt::Debug for Routed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.version())
    }
}

/// A [`Router`] for one thread or task: see [`Router::cached`].
#[derive(Clone)]
pub struct CachedRouter {
    routes: Cache<Arc<ArcSwap<Routes>>, Arc<Routes>>,
}

impl CachedRouter {
    /// What [`Router::route`] answers.
    #[inline]
    pub fn route(&mut self, key: &str) -> Routed<'_> {
        let routes: &Routes = self.routes.load();
        let found = routes.find(key);
        Routed { routes: Held::Cached(routes), found }
    }
}

impl fmt::Debug for CachedRouter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedRouter").finish_non_exhaustive()
    }
}
