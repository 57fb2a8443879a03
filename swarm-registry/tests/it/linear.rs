//! Histories of eight processes with four threads each on one folder, three of the processes killed in the middle, judged
//! by a linearizability checker that knows nothing of this crate: todc-utils' implementation of Wing, Gong and Lowe.
//!
//! `SWARM_LONG=1` means 200 histories, `SWARM_HISTORIES` means another number; `SWARM_SEED` begins at another one.

mod model;
mod process;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use swarm_registry::{ObjectVersionStore, Result, VersionRegistry, VersionStore};
use todc_utils::{Action, History, WGLChecker};
use tokio::sync::Barrier;

use model::{Answer, Model, Object, Operation, Verb};
use process::{Entry, Life, Step};

const PROCESSES: u64 = 8;
const THREADS: u64 = 4;
const KILLED: u64 = 3;
const VERBS: u64 = 10;
/// What a process does that takes the place of a killed one.
const VERBS_AFTER: u64 = 5;
/// The thread of who comes before and after all others.
const NOBODY_ELSE: u64 = 1_000;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn is_long() -> bool {
    std::env::var("SWARM_LONG").is_ok_and(|long| long == "1")
}

/// Runs a process to its end, or kills it when it says that its time has come. Answers whether it was killed.
fn live(life: &Life) -> bool {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["linear::process::child", "--exact", "--nocapture", "--test-threads=1"])
        .env(process::LIFE, serde_json::to_string(life).unwrap())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for line in lines {
        if line.unwrap().contains(process::KILL_ME) {
            child.kill().unwrap();
        }
    }
    let status = child.wait().unwrap();
    assert!(status.success() || status.code().is_none(), "a process failed: {status}");
    !status.success()
}

/// One history, as the file that all threads appended to tells it.
fn record(folder: &Path, seed: u64) -> (Vec<Entry>, usize) {
    let killed = std::sync::atomic::AtomicUsize::new(0);
    let life = |thread, seed, verbs, kill_at| Life {
        folder: folder.to_owned(),
        first_thread: thread,
        seed,
        verbs,
        kill_at,
    };
    std::fs::write(folder.join("history"), "").unwrap();
    let mut entries = Vec::new();
    let some = ["v0", "v1", "v2"].map(|version| Verb::Register { version: version.into() });
    run(folder, some, &mut entries);
    std::thread::scope(|scope| {
        for at in 0..PROCESSES {
            let (life, killed) = (&life, &killed);
            scope.spawn(move || {
                let seed = seed * 100 + at;
                // At the start of one of its verbs, so while the other threads are in the middle of theirs.
                let kill_at = (at < KILLED).then(|| 2 + process::mix(seed) % (THREADS * VERBS - 8));
                if live(&life(at * THREADS, seed, VERBS, kill_at)) {
                    killed.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    live(&life((PROCESSES + at) * THREADS, seed + 50, VERBS_AFTER, None));
                }
            });
        }
    });
    let text = std::fs::read_to_string(folder.join("history")).unwrap();
    entries.extend(text.lines().map(|line| serde_json::from_str::<Entry>(line).unwrap()));
    (entries, killed.into_inner())
}

/// Does `verbs` one after the other, while nobody else does anything.
fn run(folder: &Path, verbs: impl IntoIterator<Item = Verb>, entries: &mut Vec<Entry>) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let registry = runtime.block_on(VersionRegistry::open(folder.join("registry"))).unwrap();
    for verb in verbs {
        let answer = runtime.block_on(process::act(&registry, &verb)).expect("nobody disturbs it");
        entries.push(Entry { thread: NOBODY_ELSE, step: Step::Call(verb) });
        entries.push(Entry { thread: NOBODY_ELSE, step: Step::Return(answer) });
    }
    runtime.block_on(registry.verify()).unwrap();
}

/// What is left is read by one who comes afterwards: it must fit all that was answered before.
fn read_afterwards(folder: &Path, entries: &mut Vec<Entry>) {
    let versions: BTreeSet<String> = entries
        .iter()
        .filter_map(|entry| match &entry.step {
            Step::Call(Verb::Register { version }) => Some(version.clone()),
            _ => None,
        })
        .collect();
    let versions = versions.into_iter().map(|version| Verb::Version { version });
    let channels = process::CHANNELS.map(|channel| Verb::Serves { channel: channel.into() });
    let aliases = process::ALIASES.map(|alias| Verb::Alias { alias: alias.into() });
    run(folder, versions.chain(channels).chain(aliases), entries);
}

#[derive(Debug, Default)]
struct Counts {
    answered: usize,
    refused: usize,
    /// Cut off, so that nobody knows whether they happened.
    open: usize,
}

impl Counts {
    fn of(entries: &[Entry]) -> Self {
        let calls = entries.iter().filter(|entry| matches!(entry.step, Step::Call(_))).count();
        let refused = |entry: &&Entry| matches!(entry.step, Step::Return(Answer::Refused(_)));
        let answered = entries.len() - calls;
        Counts { answered, refused: entries.iter().filter(refused).count(), open: calls - answered }
    }
}

type Actions = Vec<(usize, Action<Operation>)>;

/// The history of each object in the form of the checker. What has no answer may happen at any time from its call on, or
/// never: for the checker its answer comes after everything else, where happening is the same as not happening.
fn histories(entries: &[Entry]) -> BTreeMap<Object, Actions> {
    let mut answers: Vec<Option<Answer>> = Vec::new();
    // The place of a call in `answers`, by its thread.
    let mut open: BTreeMap<u64, usize> = BTreeMap::new();
    for Entry { thread, step } in entries {
        match step {
            Step::Call(_) => {
                let before = open.insert(*thread, answers.len());
                assert_eq!(before, None, "thread {thread} does one thing at a time");
                answers.push(None);
            }
            Step::Return(answer) => {
                let call = open.remove(thread).expect("a return has a call");
                answers[call] = Some(answer.clone());
            }
        }
    }
    let mut histories: BTreeMap<Object, Actions> = BTreeMap::new();
    let mut called: BTreeMap<u64, Vec<(Object, Operation)>> = BTreeMap::new();
    let mut answers = answers.into_iter();
    for Entry { thread, step } in entries {
        match step {
            Step::Call(verb) => {
                let operation = Operation { verb: verb.clone(), answer: answers.next().flatten() };
                let parts = operation.parts();
                for (object, part) in parts.clone() {
                    let history = histories.entry(object).or_default();
                    history.push((*thread as usize, Action::Call(part)));
                }
                called.insert(*thread, parts);
            }
            Step::Return(_) => respond(&mut histories, *thread, called.remove(thread)),
        }
    }
    for (thread, parts) in called {
        respond(&mut histories, thread, Some(parts));
    }
    histories
}

fn respond(histories: &mut BTreeMap<Object, Actions>, thread: u64, parts: Option<Vec<(Object, Operation)>>) {
    for (object, part) in parts.into_iter().flatten() {
        histories.entry(object).or_default().push((thread as usize, Action::Response(part)));
    }
}

/// The objects whose histories are not linearizable.
fn broken(entries: &[Entry]) -> Vec<Object> {
    let broken = histories(entries)
        .into_iter()
        .filter(|(_, actions)| !WGLChecker::<Model>::is_linearizable(History::from_actions(actions.clone())));
    broken.map(|(object, _)| object).collect()
}

/// Histories of real processes, some killed, are those of one registry that does one thing after the other.
#[test]
fn what_many_processes_do_is_linearizable() {
    let histories = number("SWARM_HISTORIES").unwrap_or(if is_long() { 200 } else { 2 });
    let seed = number("SWARM_SEED").unwrap_or(1);
    let mut sum = Counts::default();
    let (mut kills, mut most, mut slowest) = (0, 0, Duration::ZERO);
    for seed in seed..seed + histories {
        let folder = tempfile::tempdir().unwrap();
        let (mut entries, killed) = record(folder.path(), seed);
        read_afterwards(folder.path(), &mut entries);
        let from = Instant::now();
        let broken = broken(&entries);
        if !broken.is_empty() {
            let kept = folder.keep().join("history");
            panic!("SWARM_SEED={seed}: {broken:?} in {} are not linearizable", kept.display());
        }
        slowest = slowest.max(from.elapsed());
        let counts = Counts::of(&entries);
        assert!(counts.answered >= 200, "{counts:?}");
        most = most.max(counts.answered + counts.open);
        sum.answered += counts.answered;
        sum.refused += counts.refused;
        sum.open += counts.open;
        kills += killed;
    }
    eprintln!(
        "linearizable: {histories} histories of up to {most} operations, {} answered of which {} refused, \
         {} cut off by {kills} kills, the slowest judged in {slowest:?}",
        sum.answered, sum.refused, sum.open
    );
    assert_eq!(kills as u64, KILLED * histories);
    assert!(sum.open >= kills, "{kills} kills, {sum:?}");
    assert!(sum.refused * 50 > sum.answered, "they are in each other's way: {sum:?}");
}

/// A folder whose put-if-absent was taken out: it looks, waits until the other one has looked too, and overwrites.
struct Careless {
    store: ObjectVersionStore,
    both_looked: Arc<Barrier>,
}

#[async_trait]
impl VersionStore for Careless {
    async fn get(&self, name: &str) -> Result<Option<Bytes>> {
        self.store.get(name).await
    }

    async fn create(&self, name: &str, bytes: Bytes) -> Result<bool> {
        let is_there = self.store.get(name).await?.is_some();
        self.both_looked.wait().await;
        if is_there {
            return Ok(false);
        }
        self.store.put(name, bytes).await.map(|()| true)
    }

    async fn put(&self, name: &str, bytes: Bytes) -> Result<()> {
        self.store.put(name, bytes).await
    }

    async fn list(&self, folder: &str, after: &str) -> Result<Vec<String>> {
        self.store.list(folder, after).await
    }

    async fn delete(&self, name: &str) -> Result<()> {
        self.store.delete(name).await
    }
}

/// Two that deploy at once on a store without put-if-absent: both are told that theirs is the first deployment.
#[tokio::test]
async fn a_store_without_put_if_absent_is_caught_by_the_same_checker() {
    let folder = tempfile::tempdir().unwrap();
    let mut entries = Vec::new();
    let registry = VersionRegistry::open(folder.path()).await.unwrap();
    for version in ["v0", "v1"] {
        let verb = Verb::Register { version: version.into() };
        let answer = process::act(&registry, &verb).await.unwrap();
        entries.push(Entry { thread: NOBODY_ELSE, step: Step::Call(verb) });
        entries.push(Entry { thread: NOBODY_ELSE, step: Step::Return(answer) });
    }
    let both_looked = Arc::new(Barrier::new(2));
    let deploy = async |version: &str| {
        let store = ObjectVersionStore::folder(folder.path()).unwrap();
        let store = Careless { store, both_looked: both_looked.clone() };
        let registry = VersionRegistry::with_store(store).await.unwrap();
        let verb = Verb::Deploy { channel: "production".into(), split: format!("{version} 100%") };
        let answer = process::act(&registry, &verb).await.unwrap();
        (verb, answer)
    };
    let done = tokio::join!(deploy("v0"), deploy("v1"));
    for (thread, (verb, _)) in [&done.0, &done.1].into_iter().enumerate() {
        entries.push(Entry { thread: thread as u64, step: Step::Call(verb.clone()) });
    }
    for (thread, (_, answer)) in [done.0, done.1].into_iter().enumerate() {
        entries.push(Entry { thread: thread as u64, step: Step::Return(answer) });
    }
    assert_eq!(broken(&entries), [Object::Channel("production".into())]);
}

/// The checker and the model say no where they should.
#[test]
fn a_stale_answer_is_caught_by_the_checker() {
    let call = |thread, verb| Entry { thread, step: Step::Call(verb) };
    let answer = |thread, answer| Entry { thread, step: Step::Return(answer) };
    let deploy = |split: &str| Verb::Deploy { channel: "production".into(), split: split.into() };
    let serving = |number, split: &str| Answer::Serving { number, split: split.into() };
    let serves = || Verb::Serves { channel: "production".into() };
    let rollback = || Verb::Rollback { channel: "production".into() };
    let mut fresh = vec![];
    for version in ["v0", "v1"] {
        fresh.push(call(1, Verb::Register { version: version.into() }));
        fresh.push(answer(1, Answer::Done));
    }
    let registered = fresh.len();
    fresh.extend([
        call(1, deploy("v0 100%")),
        answer(1, serving(1, "v0 100%")),
        call(2, deploy("v1 100%")), // cut off
        call(1, serves()),
        answer(1, serving(2, "v1 100%")),
        call(3, rollback()),
        call(1, serves()),
        answer(3, serving(3, "v0 100%")),
        answer(1, serving(2, "v1 100%")),
        call(1, serves()),
        answer(1, serving(3, "v0 100%")),
    ]);
    assert_eq!(broken(&fresh), []);
    for (at, wrong) in [
        (1, serving(2, "v0 100%")),
        (4, serving(2, "v0 100%")),
        (7, serving(3, "v1 100%")),
        (8, serving(1, "v0 100%")),
        (10, serving(2, "v1 100%")),
        (10, Answer::Refused("NotFound".into())),
    ] {
        let mut stale = fresh.clone();
        let thread = stale[registered + at].thread;
        stale[registered + at] = answer(thread, wrong.clone());
        assert_eq!(broken(&stale).len(), 1, "{at}: {wrong:?}");
    }
}
