//! The contract of [`VersionStore`] as a list of checks.
//!
//! ```
//! use swarm_registry::ObjectVersionStore;
//! use swarm_registry::testing::conformance;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let report = conformance::check(async || ObjectVersionStore::memory()).await;
//! assert!(report.is_ok(), "{report}");
//! # }
//! ```

use std::fmt;

use bytes::Bytes;
use futures::future::{BoxFuture, join_all};

use crate::registry::VersionRegistry;
use crate::store::VersionStore;
use crate::traffic::Split;
use crate::version::Version;

/// What [`check`] found.
#[derive(Debug, Clone, Default)]
#[must_use = "a report that nobody looks at proves nothing"]
pub struct Report {
    kept: Vec<&'static str>,
    broken: Vec<BrokenRule>,
}

/// A rule of the contract that a store does not keep.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokenRule {
    /// The rule, as a sentence that is true of a store that keeps it.
    pub rule: &'static str,
    /// What the store did instead.
    pub why: String,
}

impl Report {
    /// Whether every rule is kept.
    pub fn is_ok(&self) -> bool {
        self.broken.is_empty()
    }

    /// The rules that are kept.
    pub fn kept(&self) -> &[&'static str] {
        &self.kept
    }

    /// The rules that are not.
    pub fn broken(&self) -> &[BrokenRule] {
        &self.broken
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.kept.len() + self.broken.len();
        write!(f, "{} of {all} rules are kept", self.kept.len())?;
        for BrokenRule { rule, why } in &self.broken {
            write!(f, "\n- not kept: {rule}: {why}")?;
        }
        Ok(())
    }
}

/// Checks every rule, each on a store of its own that `make` answers.
///
/// The stores must be empty, share nothing with one another, and clones must be the same store. Nothing here sleeps or
/// spawns.
pub async fn check<S: VersionStore + Clone>(make: impl AsyncFn() -> S) -> Report {
    let mut report = Report::default();
    for (rule, check) in RULES {
        let store = make().await;
        let as_dyn: &dyn VersionStore = &store;
        let found = check(as_dyn).await;
        report.note(rule, found);
    }
    report.note("eight registries on one store lose no write of each other", crowd(make().await).await);
    report
}

impl Report {
    fn note(&mut self, rule: &'static str, found: Result<(), String>) {
        match found {
            Ok(()) => self.kept.push(rule),
            Err(why) => self.broken.push(BrokenRule { rule, why }),
        }
    }
}

type Check = for<'a> fn(&'a dyn VersionStore) -> BoxFuture<'a, Result<(), String>>;

const RULES: [(&str, Check); 9] = [
    ("what is not there is `None`, and its removal no error", |store| Box::pin(absent(store))),
    ("what was made is read back, byte for byte", |store| Box::pin(read_back(store))),
    ("an empty object is there", |store| Box::pin(empty(store))),
    ("a second create answers `false` and changes nothing", |store| Box::pin(create_twice(store))),
    ("of many creates at once, one answers `true`, and its bytes stay", |store| Box::pin(create_race(store))),
    ("put replaces, and what was put cannot be created", |store| Box::pin(replace(store))),
    ("a list has the names of its folder in ascending order", |store| Box::pin(list(store))),
    ("a list begins after the name that it is given", |store| Box::pin(list_after(store))),
    ("what was removed can be created again", |store| Box::pin(remove(store))),
];

fn same<T: PartialEq + fmt::Debug>(what: &str, has: T, want: T) -> Result<(), String> {
    if has == want { Ok(()) } else { Err(format!("{what}: {has:?}, not {want:?}")) }
}

fn text(error: crate::Error) -> String {
    let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
    format!("{error}{}", source.unwrap_or_default())
}

async fn absent(store: &dyn VersionStore) -> Result<(), String> {
    same("get", store.get("log/1.json").await.map_err(text)?, None)?;
    store.delete("log/1.json").await.map_err(text)?;
    same("list", store.list("log", "").await.map_err(text)?, vec![])
}

async fn read_back(store: &dyn VersionStore) -> Result<(), String> {
    let bytes: Bytes = (0..300_000_u32).map(|at| (at.wrapping_mul(at) >> 3) as u8).collect();
    same("create", store.create("artifacts/a-1", bytes.clone()).await.map_err(text)?, true)?;
    match store.get("artifacts/a-1").await.map_err(text)? {
        Some(has) if has == bytes => Ok(()),
        other => Err(format!("of 300000 bytes it has {:?}", other.map(|bytes| bytes.len()))),
    }
}

async fn empty(store: &dyn VersionStore) -> Result<(), String> {
    store.put("log/1.json", Bytes::new()).await.map_err(text)?;
    same("get", store.get("log/1.json").await.map_err(text)?, Some(Bytes::new()))?;
    same("create", store.create("log/1.json", "x".into()).await.map_err(text)?, false)
}

async fn create_twice(store: &dyn VersionStore) -> Result<(), String> {
    same("the first", store.create("log/1.json", "one".into()).await.map_err(text)?, true)?;
    same("the second", store.create("log/1.json", "two".into()).await.map_err(text)?, false)?;
    same("get", store.get("log/1.json").await.map_err(text)?, Some("one".into()))
}

async fn create_race(store: &dyn VersionStore) -> Result<(), String> {
    for round in 0..8 {
        let name = format!("log/{round}.json");
        let racers = (0..16).map(|racer| store.create(&name, format!("racer {racer}").into()));
        let made: Vec<bool> = join_all(racers).await.into_iter().collect::<Result<_, _>>().map_err(text)?;
        let winners: Vec<usize> = (0..16).filter(|racer| made[*racer]).collect();
        let [winner] = winners[..] else {
            return Err(format!("{} of 16 were told that they made it", winners.len()));
        };
        same("get", store.get(&name).await.map_err(text)?, Some(format!("racer {winner}").into()))?;
    }
    Ok(())
}

async fn replace(store: &dyn VersionStore) -> Result<(), String> {
    store.create("log/1.json", "one".into()).await.map_err(text)?;
    store.put("log/1.json", "two".into()).await.map_err(text)?;
    same("get", store.get("log/1.json").await.map_err(text)?, Some("two".into()))?;
    store.put("log/2.json", "three".into()).await.map_err(text)?;
    same("create", store.create("log/2.json", "four".into()).await.map_err(text)?, false)
}

async fn list(store: &dyn VersionStore) -> Result<(), String> {
    let names: Vec<String> = (0..120).map(|number| format!("log/{number:020}.json")).collect();
    for name in names.iter().rev() {
        store.create(name, "x".into()).await.map_err(text)?;
    }
    store.create("snapshots/1.jsonl", "x".into()).await.map_err(text)?;
    same("list", store.list("log", "").await.map_err(text)?, names)
}

async fn list_after(store: &dyn VersionStore) -> Result<(), String> {
    for number in [1, 3, 10, 11] {
        store.create(&format!("log/{number:020}.json"), "x".into()).await.map_err(text)?;
    }
    store.create("snapshots/00000000000000000001.jsonl", "x".into()).await.map_err(text)?;
    for (after, expected) in
        [(0, &[1, 3, 10, 11][..]), (1, &[3, 10, 11]), (2, &[3, 10, 11]), (10, &[11]), (11, &[])]
    {
        let after = format!("log/{after:020}.json");
        let expected: Vec<String> = expected.iter().map(|number| format!("log/{number:020}.json")).collect();
        let listed = store.list("log", &after).await.map_err(text)?;
        same(&format!("list after {after}"), listed, expected)?;
    }
    Ok(())
}

async fn remove(store: &dyn VersionStore) -> Result<(), String> {
    store.create("log/1.json", "one".into()).await.map_err(text)?;
    store.delete("log/1.json").await.map_err(text)?;
    same("get", store.get("log/1.json").await.map_err(text)?, None)?;
    same("create", store.create("log/1.json", "two".into()).await.map_err(text)?, true)
}

async fn crowd(store: impl VersionStore + Clone) -> Result<(), String> {
    let one = async |member: usize| {
        let registry = VersionRegistry::with_store(store.clone()).await?;
        for at in 0..6 {
            let id = format!("v{member}.{at}");
            registry.register(Version::new(&id).artifact(format!("build {at}"))).await?;
            registry.deploy("production", Split::all(&id)).await?;
        }
        Ok::<_, crate::Error>(())
    };
    join_all((0..8).map(one)).await.into_iter().collect::<Result<(), _>>().map_err(text)?;
    let registry = VersionRegistry::with_store(store.clone()).await.map_err(text)?;
    let head = registry.verify().await.map_err(text)?;
    same("records", head.record, 8 * 6 * 2)?;
    let deployments = registry.deployments("production").await.map_err(text)?;
    same("deployments", deployments.len(), 8 * 6)
}
