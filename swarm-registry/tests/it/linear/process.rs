//! One of the processes: four threads that do what their seed says, and write down each call before and each answer after.

use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};
use swarm_registry::{Deployment, ErrorKind, Result, Retention, Router, Split, Version, VersionRegistry};

use super::THREADS;
use super::model::{Answer, Verb};

pub(super) const LIFE: &str = "SWARM_REGISTRY_LIFE";
pub(super) const KILL_ME: &str = "kill me now";
pub(super) const CHANNELS: [&str; 3] = ["production", "canary", "staging"];
pub(super) const ALIASES: [&str; 3] = ["stable", "latest", "lts"];

/// What a process is to do.
#[derive(Serialize, Deserialize)]
pub(super) struct Life {
    pub(super) folder: PathBuf,
    pub(super) first_thread: u64,
    pub(super) seed: u64,
    /// How many verbs a thread does.
    pub(super) verbs: u64,
    /// At the start of which verb of all its threads it asks to be killed.
    pub(super) kill_at: Option<u64>,
}

/// A line of the history. All threads of all processes append to one file, so a line that stands before another was
/// written before it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) thread: u64,
    pub(super) step: Step,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum Step {
    Call(Verb),
    Return(Answer),
}

/// What a started process does, and nothing where nobody started it.
#[test]
fn child() {
    let Ok(life) = std::env::var(LIFE) else { return };
    let life: Life = serde_json::from_str(&life).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let folder = life.folder.join("registry");
    let registry = runtime.block_on(VersionRegistry::open(folder)).unwrap();
    let begun = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for thread in life.first_thread..life.first_thread + THREADS {
            let (life, registry, begun, runtime) = (&life, &registry, &begun, &runtime);
            scope.spawn(move || runtime.block_on(work(life, thread, registry, begun)));
        }
    });
}

async fn work(life: &Life, thread: u64, registry: &VersionRegistry, begun: &AtomicU64) {
    let path = life.folder.join("history");
    let mut history = std::fs::OpenOptions::new().append(true).open(path).unwrap();
    let mut tell = |step: Step| {
        let line = serde_json::to_string(&Entry { thread, step }).unwrap() + "\n";
        history.write_all(line.as_bytes()).unwrap();
    };
    let mut dice = Dice(mix(life.seed * 1_000 + thread));
    let mut seen = Seen::default();
    for at in 0..life.verbs {
        let verb = dice.verb(thread, at, &seen);
        tell(Step::Call(verb.clone()));
        if Some(begun.fetch_add(1, Ordering::Relaxed)) == life.kill_at {
            let mut out = std::io::stdout().lock();
            writeln!(out, "{KILL_ME}").unwrap();
            out.flush().unwrap();
            drop(out);
            // The other threads go on until it comes; the process does not end before.
            loop {
                std::thread::park();
            }
        }
        let answer = act(registry, &verb).await.unwrap_or_else(|error| panic!("{verb:?} failed: {error:?}"));
        seen.learn(&verb, &answer);
        tell(Step::Return(answer));
        seen.look(registry).await;
    }
}

/// What a thread saw last, so that its conditional verbs have a chance.
#[derive(Default)]
struct Seen {
    numbers: [u64; 3],
    aliases: [Option<String>; 3],
    routers: [Option<(Router, u64)>; 3],
}

fn place(all: &[&str], name: &str) -> usize {
    all.iter().position(|known| *known == name).unwrap()
}

impl Seen {
    fn learn(&mut self, verb: &Verb, answer: &Answer) {
        match (verb, answer) {
            (
                Verb::Deploy { channel, .. }
                | Verb::DeployAfter { channel, .. }
                | Verb::Rollback { channel }
                | Verb::RollbackFrom { channel, .. }
                | Verb::RollbackTo { channel, .. }
                | Verb::Serves { channel },
                Answer::Serving { number, .. },
            ) => self.numbers[place(&CHANNELS, channel)] = *number,
            (Verb::Alias { alias }, Answer::PointsTo { version }) => {
                self.aliases[place(&ALIASES, alias)] = Some(version.clone());
            }
            (Verb::MoveAlias { alias, to, .. }, Answer::Done) => {
                self.aliases[place(&ALIASES, alias)].clone_from(to);
            }
            _ => {}
        }
    }

    /// What a router of this process serves adds up, never goes back, and is no older than what was answered.
    async fn look(&mut self, registry: &VersionRegistry) {
        for (at, channel) in CHANNELS.iter().enumerate() {
            if self.numbers[at] == 0 {
                continue;
            }
            if self.routers[at].is_none() {
                let Ok(router) = registry.router(channel).await else { continue };
                self.routers[at] = Some((router, 0));
            }
            let Some((router, last)) = &mut self.routers[at] else { continue };
            let serves = router.deployment();
            adds_up(&serves);
            assert!(serves.number() >= *last && serves.number() >= self.numbers[at], "{channel} went back");
            *last = serves.number();
        }
    }
}

/// The weights make the whole, and each version has as many slots as it weighs.
fn adds_up(deployment: &Deployment) {
    let split = deployment.split();
    assert_eq!(split.basis_points().map(|(_, points)| usize::from(points)).sum::<usize>(), 10_000);
    let slots = deployment.slots();
    for (version, points) in split.basis_points() {
        assert_eq!(slots.iter().filter(|slot| *slot == version).count(), usize::from(points));
    }
}

/// Does `verb`. An error that tells nothing of the registry's state is an `Err`.
pub(super) async fn act(registry: &VersionRegistry, verb: &Verb) -> Result<Answer, swarm_registry::Error> {
    let serving = |made: std::sync::Arc<Deployment>| {
        adds_up(&made);
        Answer::Serving { number: made.number(), split: made.split().to_string() }
    };
    let done = |()| Answer::Done;
    let answer = match verb {
        Verb::Register { version } => {
            let version = Version::new(version).artifact(format!("bytes of {}", version.len()));
            registry.register(version).await.map(|_| Answer::Done)
        }
        Verb::Version { version } => registry.version(version).await.map(|_| Answer::Done),
        Verb::Deploy { channel, split } => registry.deploy(channel, parse(split)).await.map(serving),
        Verb::DeployAfter { channel, number, split } => {
            registry.deploy_after(channel, *number, parse(split)).await.map(serving)
        }
        Verb::Rollback { channel } => registry.rollback(channel).await.map(serving),
        Verb::RollbackFrom { channel, number } => registry.rollback_from(channel, *number).await.map(serving),
        Verb::RollbackTo { channel, version } => registry.rollback_to(channel, version).await.map(serving),
        Verb::Serves { channel } => registry.deployment(channel).await.map(serving),
        Verb::MoveAlias { alias, from, to } => {
            registry.move_alias(alias, from.as_deref(), to.as_deref()).await.map(done)
        }
        Verb::Alias { alias } => {
            let version = registry.alias(alias).await;
            version.map(|version| Answer::PointsTo { version: version.id().to_owned() })
        }
        Verb::Compact => registry.compact(Retention::everything()).await.map(done),
    };
    match answer {
        Ok(answer) => Ok(answer),
        Err(error) => match error.kind() {
            ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Conflict
            | ErrorKind::InvalidState => Ok(Answer::Refused(format!("{:?}", error.kind()))),
            _ => Err(error),
        },
    }
}

fn parse(split: &str) -> Split {
    let share = |share: &str| {
        let (version, percent) = share.trim_end_matches('%').split_once(' ').unwrap();
        (version.to_owned(), percent.parse::<f64>().unwrap())
    };
    Split::of(split.split(", ").map(share)).unwrap()
}

/// [SplitMix64](https://prng.di.unimi.it/splitmix64.c).
pub(super) fn mix(seed: u64) -> u64 {
    let mut x = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % end
    }

    /// One of a few that everybody registers, so that they are in each other's way.
    fn shared_version(&mut self) -> String {
        format!("v{}", self.below(6))
    }

    fn split(&mut self) -> String {
        let share = self.below(101);
        let (a, b) = (self.below(6), self.below(5));
        let b = if b >= a { b + 1 } else { b };
        match share {
            0 | 100 => format!("v{a} 100%"),
            share => format!("v{a} {share}%, v{b} {}%", 100 - share),
        }
    }

    fn verb(&mut self, thread: u64, at: u64, seen: &Seen) -> Verb {
        let which = self.below(3) as usize;
        let (channel, alias) = (CHANNELS[which].to_owned(), ALIASES[which].to_owned());
        match self.below(100) {
            0..8 => Verb::Register { version: self.shared_version() },
            8..18 => Verb::Register { version: format!("own-{thread}-{at}") },
            18..24 => Verb::Version { version: self.shared_version() },
            24..44 => Verb::Deploy { channel, split: self.split() },
            44..52 => Verb::DeployAfter { channel, number: seen.numbers[which], split: self.split() },
            52..60 => Verb::Rollback { channel },
            60..66 => Verb::RollbackFrom { channel, number: seen.numbers[which] },
            66..70 => Verb::RollbackTo { channel, version: self.shared_version() },
            70..82 => Verb::Serves { channel },
            82..92 => {
                let from = seen.aliases[which].clone();
                Verb::MoveAlias { alias, from, to: Some(self.shared_version()) }
            }
            92..98 => Verb::Alias { alias },
            _ => Verb::Compact,
        }
    }
}
