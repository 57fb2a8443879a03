//! The whole registry against a plain model in memory: versions, aliases, deployments with pins and mirrors, promotions,
//! every kind of rollback, two registries on one store, reopening, compaction, retention, backup and restore.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;
use swarm_registry::testing::FakeClock;
use swarm_registry::{
    Deployment, ErrorKind, ObjectVersionStore, Query, Result, Retention, Split, Version, VersionRegistry,
};

#[derive(Debug, Clone)]
enum Verb {
    Register { id: u8, content: u8, parent: Option<u8> },
    MoveAlias { alias: u8, from: Option<u8>, to: Option<u8> },
    Protect { alias: u8, protected: bool },
    Deploy { channel: u8, split: Served },
    DeployAfter { channel: u8, number: u64, split: Served },
    Promote { from: u8, to: u8 },
    Rollback { channel: u8 },
    RollbackFrom { channel: u8, number: u64 },
    RollbackTo { channel: u8, version: u8 },
    Compact { ago: Option<u64> },
    Reopen,
    Restore,
}

/// A split as the model has it.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Served {
    weights: Vec<(String, u16)>,
    pin: Option<(String, String)>,
    mirror: Option<(String, u16)>,
}

impl Served {
    fn all(version: &str) -> Self {
        Served { weights: vec![(version.to_owned(), 10_000)], pin: None, mirror: None }
    }

    fn split(&self) -> Split {
        let mut split = Split::of_basis_points(self.weights.clone()).unwrap();
        if let Some((key, version)) = &self.pin {
            split = split.pin(key, version);
        }
        if let Some((version, points)) = &self.mirror {
            split = split.mirror(version, f64::from(*points) / 100.0).unwrap();
        }
        split
    }

    fn names(&self) -> impl Iterator<Item = &String> {
        let weights = self.weights.iter().map(|(version, _)| version);
        let others = self.pin.iter().map(|(_, version)| version);
        weights.chain(others).chain(self.mirror.iter().map(|(version, _)| version))
    }
}

fn name(version: u8) -> String {
    format!("v{version}")
}

/// What is known of a registry that never fails.
#[derive(Debug, Clone, Default)]
struct Model {
    versions: BTreeMap<String, Known>,
    used: BTreeSet<String>,
    aliases: BTreeMap<u8, Alias>,
    channels: BTreeMap<u8, Channel>,
}

#[derive(Debug, Clone)]
struct Known {
    content: u8,
    at: DateTime<Utc>,
}

#[derive(Debug, Clone, Default)]
struct Alias {
    to: Option<String>,
    protected: bool,
    moves: Vec<(Option<String>, Option<String>, DateTime<Utc>)>,
}

#[derive(Debug, Clone, Default)]
struct Channel {
    made: BTreeMap<u64, (Served, DateTime<Utc>)>,
    /// The number that the next deployment follows.
    number: u64,
    stack: Vec<u64>,
}

impl Channel {
    fn serves(&self) -> &Served {
        &self.made[&self.number].0
    }

    fn serve(&mut self, split: Served, at: DateTime<Utc>) {
        self.number += 1;
        self.made.insert(self.number, (split, at));
    }
}

fn serves_else(channel: &Channel, number: u64) -> bool {
    channel.made[&number].0 != *channel.serves()
}

type Said = std::result::Result<(), ErrorKind>;

impl Model {
    fn known(&self, version: &str) -> Said {
        if self.versions.contains_key(version) { Ok(()) } else { Err(ErrorKind::NotFound) }
    }

    fn channel(&mut self, channel: u8) -> std::result::Result<&mut Channel, ErrorKind> {
        self.channels.get_mut(&channel).ok_or(ErrorKind::NotFound)
    }

    fn act(&mut self, verb: &Verb, now: DateTime<Utc>) -> Said {
        match verb {
            Verb::Register { id, content, parent } => {
                if self.used.contains(&name(*id)) {
                    return Err(ErrorKind::AlreadyExists);
                }
                parent.map_or(Ok(()), |parent| self.known(&name(parent)))?;
                self.used.insert(name(*id));
                self.versions.insert(name(*id), Known { content: *content, at: now });
            }
            Verb::MoveAlias { alias, from, to } => {
                let (from, to) = (from.map(name), to.map(name));
                let entry = self.aliases.get(alias).cloned().unwrap_or_default();
                if entry.protected {
                    return Err(ErrorKind::Protected);
                }
                if entry.to != from {
                    return Err(ErrorKind::Conflict);
                }
                to.iter().try_for_each(|to| self.known(to))?;
                if to != from {
                    let entry = self.aliases.entry(*alias).or_default();
                    entry.to.clone_from(&to);
                    entry.moves.push((from, to, now));
                }
            }
            Verb::Protect { alias, protected } => match self.aliases.get_mut(alias) {
                Some(entry) if entry.to.is_some() => entry.protected = *protected,
                _ => return Err(ErrorKind::NotFound),
            },
            Verb::Deploy { channel, split } => {
                split.names().try_for_each(|version| self.known(version))?;
                self.deploy(*channel, split.clone(), now);
            }
            Verb::DeployAfter { channel, number, split } => {
                if self.channels.get(channel).map_or(0, |channel| channel.number) != *number {
                    return Err(ErrorKind::Conflict);
                }
                split.names().try_for_each(|version| self.known(version))?;
                self.deploy(*channel, split.clone(), now);
            }
            Verb::Promote { from, to } => {
                let [(version, _)] = &self.channel(*from)?.serves().weights[..] else {
                    return Err(ErrorKind::InvalidState);
                };
                let split = Served::all(&version.clone());
                self.deploy(*to, split, now);
            }
            Verb::Rollback { channel } => return self.back(*channel, now, serves_else),
            Verb::RollbackFrom { channel, number } => {
                if self.channel(*channel)?.number != *number {
                    return Err(ErrorKind::Conflict);
                }
                return self.back(*channel, now, serves_else);
            }
            Verb::RollbackTo { channel, version } => {
                self.known(&name(*version))?;
                let alone = vec![(name(*version), 10_000)];
                if self.channel(*channel)?.serves().weights == alone {
                    return Ok(());
                }
                return self.back(*channel, now, |channel, number| channel.made[&number].0.weights == alone);
            }
            Verb::Compact { ago } => {
                if let Some(ago) = ago {
                    self.retain(now - TimeDelta::seconds(*ago as i64));
                }
            }
            Verb::Reopen | Verb::Restore => {}
        }
        Ok(())
    }

    fn deploy(&mut self, channel: u8, split: Served, now: DateTime<Utc>) {
        let channel = self.channels.entry(channel).or_default();
        channel.serve(split, now);
        channel.stack.push(channel.number);
    }

    /// Back to the last good deployment that `fits`.
    fn back(&mut self, channel: u8, now: DateTime<Utc>, fits: impl Fn(&Channel, u64) -> bool) -> Said {
        let channel = self.channel(channel)?;
        let good = &channel.stack[..channel.stack.len() - 1];
        let at = good.iter().rposition(|number| fits(channel, *number)).ok_or(ErrorKind::InvalidState)?;
        let split = channel.made[&good[at]].0.clone();
        channel.stack.truncate(at + 1);
        channel.serve(split, now);
        Ok(())
    }

    /// Keeps what is young, what is pointed to, what is served, what can be gone back to.
    fn retain(&mut self, since: DateTime<Utc>) {
        let mut reached: BTreeSet<String> = BTreeSet::new();
        for alias in self.aliases.values_mut() {
            let mut left = alias.moves.len();
            alias.moves.retain(|(_, _, time)| {
                left -= 1;
                *time >= since || left == 0
            });
            reached.extend(alias.to.clone());
            let young = alias.moves.iter().filter(|(_, _, time)| *time >= since);
            reached.extend(young.flat_map(|(from, to, _)| from.iter().chain(to)).cloned());
        }
        for channel in self.channels.values_mut() {
            let (number, stack) = (channel.number, channel.stack.clone());
            channel.made.retain(|made, (_, at)| *at >= since || *made == number || stack.contains(made));
            reached.extend(channel.made.values().flat_map(|(split, _)| split.names()).cloned());
        }
        self.versions.retain(|version, known| known.at >= since || reached.contains(version));
    }
}

async fn act(registry: &VersionRegistry, verb: &Verb, now: DateTime<Utc>) -> Result<()> {
    let (channel, alias) =
        (|channel: &u8| format!("channel-{channel}"), |alias: &u8| format!("alias-{alias}"));
    match verb {
        Verb::Register { id, content, parent } => {
            let mut version = Version::new(name(*id)).artifact(format!("content {content}"));
            if let Some(parent) = parent {
                version = version.parent(name(*parent));
            }
            registry.register(version).await.map(drop)
        }
        Verb::MoveAlias { alias: at, from, to } => {
            let (from, to) = (from.map(name), to.map(name));
            registry.move_alias(&alias(at), from.as_deref(), to.as_deref()).await
        }
        Verb::Protect { alias: at, protected } => registry.protect_alias(&alias(at), *protected).await,
        Verb::Deploy { channel: at, split } => registry.deploy(&channel(at), split.split()).await.map(drop),
        Verb::DeployAfter { channel: at, number, split } => {
            registry.deploy_after(&channel(at), *number, split.split()).await.map(drop)
        }
        Verb::Promote { from, to } => registry.promote(&channel(from), &channel(to)).await.map(drop),
        Verb::Rollback { channel: at } => registry.rollback(&channel(at)).await.map(drop),
        Verb::RollbackFrom { channel: at, number } => {
            registry.rollback_from(&channel(at), *number).await.map(drop)
        }
        Verb::RollbackTo { channel: at, version } => {
            registry.rollback_to(&channel(at), &name(*version)).await.map(drop)
        }
        Verb::Compact { ago } => {
            let since = |ago: u64| Retention::since(now - TimeDelta::seconds(ago as i64));
            registry.compact(ago.map_or(Retention::everything(), since)).await
        }
        Verb::Reopen | Verb::Restore => Ok(()),
    }
}

/// Everything that can be asked of a registry, beside what the model says.
async fn compare(registry: &VersionRegistry, model: &Model) {
    let found = registry.find(&Query::new()).await.unwrap();
    let found: BTreeSet<&str> = found.iter().map(|version| version.id()).collect();
    assert_eq!(found, model.versions.keys().map(String::as_str).collect());
    for (version, known) in &model.versions {
        assert_eq!(registry.artifact(version).await.unwrap(), format!("content {}", known.content));
    }
    for (alias, entry) in &model.aliases {
        let name = format!("alias-{alias}");
        let to = registry.alias(&name).await.ok().map(|version| version.id().to_owned());
        assert_eq!(to, entry.to);
        let moves = registry.alias_history(&name).await.unwrap();
        let moves: Vec<_> = moves.into_iter().map(|made| (made.from, made.to, made.at)).collect();
        assert_eq!(moves, entry.moves);
    }
    assert_eq!(registry.channels().await.unwrap().len(), model.channels.len());
    for (channel, expected) in &model.channels {
        let name = format!("channel-{channel}");
        let made: Vec<Arc<Deployment>> = registry.deployments(&name).await.unwrap();
        let numbers: Vec<u64> = made.iter().map(|made| made.number()).collect();
        assert_eq!(numbers, expected.made.keys().copied().collect::<Vec<_>>());
        for (made, (split, at)) in made.iter().zip(expected.made.values()) {
            assert_eq!((made.split(), made.at()), (split.split(), *at));
        }
        let now = registry.deployment(&name).await.unwrap();
        assert_eq!(now.number(), expected.number);
        assert_eq!(now.good(), &expected.stack[..expected.stack.len() - 1]);
        let router = registry.router(&name).await.unwrap();
        assert_eq!(router.deployment().number(), expected.number);
        if let Some((key, version)) = &expected.serves().pin {
            assert_eq!(router.route(key), version.as_str());
        }
    }
}

fn served() -> impl Strategy<Value = Served> {
    let version = || (0..5_u8).prop_map(name);
    let weights = prop_oneof![
        version().prop_map(|version| vec![(version, 10_000)]),
        (0..5_u8, 1..5_u8, 1..10_000_u16)
            .prop_map(|(a, b, points)| vec![(name(a), points), (name((a + b) % 5), 10_000 - points)]),
    ];
    let pin = prop::option::weighted(0.2, ("[a-z]{1,3}", version()));
    let mirror = prop::option::weighted(0.2, (version(), 1..=10_000_u16));
    (weights, pin, mirror).prop_map(|(weights, pin, mirror)| Served { weights, pin, mirror })
}

fn verbs() -> impl Strategy<Value = Vec<Verb>> {
    let version = || 0..5_u8;
    let (channel, alias) = (|| 0..2_u8, || 0..2_u8);
    let some = || prop::option::of(0..3_u8);
    let verb = prop_oneof![
        5 => (version(), 0..3_u8, prop::option::weighted(0.3, version()))
            .prop_map(|(id, content, parent)| Verb::Register { id, content, parent }),
        4 => (alias(), some(), some()).prop_map(|(alias, from, to)| Verb::MoveAlias { alias, from, to }),
        1 => (alias(), any::<bool>()).prop_map(|(alias, protected)| Verb::Protect { alias, protected }),
        6 => (channel(), served()).prop_map(|(channel, split)| Verb::Deploy { channel, split }),
        2 => (channel(), 0..6_u64, served())
            .prop_map(|(channel, number, split)| Verb::DeployAfter { channel, number, split }),
        1 => (channel(), channel()).prop_map(|(from, to)| Verb::Promote { from, to }),
        3 => channel().prop_map(|channel| Verb::Rollback { channel }),
        1 => (channel(), 0..8_u64).prop_map(|(channel, number)| Verb::RollbackFrom { channel, number }),
        2 => (channel(), version()).prop_map(|(channel, version)| Verb::RollbackTo { channel, version }),
        2 => prop::option::weighted(0.7, 0..8_u64).prop_map(|ago| Verb::Compact { ago }),
        1 => Just(Verb::Reopen),
        1 => Just(Verb::Restore),
    ];
    // All versions but one are there from the start, so that most verbs have something to do.
    let first = (0..4_u8).map(|id| Verb::Register { id, content: id % 3, parent: None }).collect::<Vec<_>>();
    prop::collection::vec(verb, 1..40).prop_map(move |verbs| first.iter().cloned().chain(verbs).collect())
}

fn cases() -> u32 {
    if std::env::var("SWARM_LONG").is_ok_and(|long| long == "1") { 5_000 } else { 64 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), ..ProptestConfig::default() })]

    #[test]
    fn a_registry_is_what_a_plain_model_says(verbs in verbs(), turns in any::<u64>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let start = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
            let clock = FakeClock::new(start);
            let open = async |store: &ObjectVersionStore| {
                let builder = VersionRegistry::builder().clock(Arc::new(clock.clone()));
                builder.with_store(store.clone()).await.unwrap()
            };
            let mut store = ObjectVersionStore::memory();
            let mut registries = [open(&store).await, open(&store).await];
            let mut model = Model::default();
            for (at, verb) in verbs.iter().enumerate() {
                clock.advance(Duration::from_secs(1));
                let now = start + TimeDelta::seconds(at as i64 + 1);
                let turn = usize::from(turns >> (at % 64) & 1 == 1);
                let said = act(&registries[turn], verb, now).await.map_err(|error| error.kind());
                prop_assert_eq!(said, model.act(verb, now), "{:?}", verb);
                match verb {
                    Verb::Reopen => registries[turn] = open(&store).await,
                    // What another process remembers of the history that was removed is its own.
                    Verb::Compact { ago: Some(_) } => registries[1 - turn] = open(&store).await,
                    Verb::Restore => {
                        let file = tempfile::NamedTempFile::new().unwrap();
                        registries[turn].backup(file.path()).await.unwrap();
                        store = ObjectVersionStore::memory();
                        VersionRegistry::restore(file.path(), store.clone()).await.unwrap();
                        registries = [open(&store).await, open(&store).await];
                    }
                    _ => {}
                }
                compare(&registries[1 - turn], &model).await;
            }
            compare(&registries[0], &model).await;
            let heads = [registries[0].verify().await.unwrap(), registries[1].verify().await.unwrap()];
            prop_assert_eq!(heads[0], heads[1]);
            Ok::<(), TestCaseError>(())
        })?;
    }
}
