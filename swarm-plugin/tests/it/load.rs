//! One driver for plugins of every kind, which are replaced again and again while four callers call them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use futures::{FutureExt, Stream, StreamExt};
use serde_json::Value;
use swarm_plugin::{Event, EventKind, PluginManager};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::tool::{Tool, plain};

/// Calls of each caller before the first reload, and of all of them between two.
const BEFORE: u64 = 1_000;
const BETWEEN: u32 = 8;

fn is_long() -> bool {
    std::env::var_os("SWARM_LONG").is_some()
}

/// What an answer tells, of which a call that begins later is told no less.
#[derive(Clone, Copy)]
pub(crate) enum Tells {
    /// How many calls there were, of all versions together.
    Count(fn(&Value) -> u64),
    /// The number of the version.
    Version(fn(&Value) -> u64),
}

impl Tells {
    fn number(self, answer: &Value) -> u64 {
        match self {
            Tells::Count(of) | Tells::Version(of) => of(answer),
        }
    }
}

/// A plugin that serves, and how it is called.
pub(crate) struct Load {
    pub(crate) what: &'static str,
    pub(crate) plugins: PluginManager,
    pub(crate) name: &'static str,
    pub(crate) params: Value,
    pub(crate) tells: Tells,
    /// Reloads where a thousand take too long.
    pub(crate) few: u64,
    /// KiB that a version may leave in memory.
    pub(crate) leaves: u64,
}

impl Load {
    /// Has `install` put in one version after the other, from 1, and answers how many there were.
    pub(crate) async fn run(self, mut install: impl AsyncFnMut(u64)) -> u64 {
        let mut events = self.plugins.events();
        let reloads = if is_long() { 1_000 } else { self.few };
        let idle = self.callers(BEFORE).end().await;
        let mut callers = self.callers(0);
        let (mut own, mut lives, mut first) = (Caller::new(&self), Lives::default(), 0);
        for at in 1..=reloads {
            install(at).await;
            lives.hear(&mut events);
            assert_eq!(lives.serves, at + 1, "each version comes to serve");
            own.call().await;
            if let Tells::Version(_) = self.tells {
                assert_eq!(own.last, at);
            }
            callers.call_on().await;
            if at == reloads / 5 {
                first = resident();
            }
        }
        let last = resident();
        let during = callers.end().await;
        own.call().await;
        let calls = idle.count() + during.count() + own.times.count();
        if let Tells::Count(_) = self.tells {
            assert_eq!(own.last, calls, "the count was handed over each time, to the last call");
        }
        self.plugins.shutdown().await;
        lives.hear(&mut events);
        let expected: BTreeMap<u64, u32> = (1..=reloads + 1).map(|generation| (generation, 1)).collect();
        assert_eq!(lives.cleaned, expected, "each version is cleaned up exactly once");
        eprintln!(
            "{}: {reloads} reloads, {calls} calls, 0 lost; idle {idle}; during {during}; {first} then {last} KiB",
            self.what
        );
        // A short run has other tests beside it.
        let bound = 32 * 1024 + (reloads - reloads / 5) * self.leaves;
        assert!(!is_long() || last.saturating_sub(first) < bound, "{first} and then {last} KiB");
        reloads
    }

    /// Four that call until they are told to end, and so often at least.
    fn callers(&self, least: u64) -> Callers {
        let (over, made) = (Arc::new(AtomicBool::new(false)), Arc::new(Semaphore::new(0)));
        let mut tasks = JoinSet::new();
        for _ in 0..4 {
            let (mut caller, over, made) = (Caller::new(self), over.clone(), made.clone());
            tasks.spawn(async move {
                let mut calls = 0;
                while calls < least || !over.load(SeqCst) {
                    caller.call().await;
                    calls += 1;
                    made.add_permits(1);
                    tokio::task::yield_now().await;
                }
                caller.times
            });
        }
        Callers { over, made, tasks }
    }
}

struct Callers {
    over: Arc<AtomicBool>,
    /// A permit for each call.
    made: Arc<Semaphore>,
    tasks: JoinSet<Times>,
}

impl Callers {
    /// Until some more calls ended.
    async fn call_on(&mut self) {
        self.made.forget_permits(usize::MAX);
        tokio::select! {
            made = self.made.acquire_many(BETWEEN) => made.unwrap().forget(),
            Some(failed) = self.tasks.join_next() => drop(failed.unwrap()),
        }
    }

    async fn end(self) -> Times {
        self.over.store(true, SeqCst);
        self.tasks.join_all().await.into_iter().reduce(Times::with).unwrap()
    }
}

struct Caller {
    plugins: PluginManager,
    name: &'static str,
    params: Value,
    tells: Tells,
    last: u64,
    times: Times,
}

impl Caller {
    fn new(load: &Load) -> Caller {
        let Load { plugins, name, params, tells, .. } = load;
        let (plugins, params) = (plugins.clone(), params.clone());
        Caller { plugins, name, params, tells: *tells, last: 0, times: Times::new() }
    }

    async fn call(&mut self) {
        let (params, begun) = (self.params.clone(), Instant::now());
        let answer = self.plugins.call(self.name, params).await.unwrap();
        self.times.add(begun.elapsed());
        let number = self.tells.number(&answer);
        let more = u64::from(matches!(self.tells, Tells::Count(_)));
        assert!(number >= self.last + more, "{number} after {}, from what was replaced", self.last);
        self.last = number;
    }
}

/// What became of each version.
#[derive(Default)]
struct Lives {
    serves: u64,
    cleaned: BTreeMap<u64, u32>,
}

impl Lives {
    /// Takes what was told until now.
    fn hear(&mut self, events: &mut (impl Stream<Item = Event> + Unpin)) {
        while let Some(Some(event)) = events.next().now_or_never() {
            match event.kind {
                EventKind::Activated => self.serves = event.generation,
                EventKind::CleanedUp { failure: None } => {
                    *self.cleaned.entry(event.generation).or_default() += 1;
                }
                EventKind::CleanedUp { .. } | EventKind::Refused { .. } | EventKind::Missed(_) => {
                    panic!("{event:?}")
                }
                _ => {}
            }
        }
    }
}

/// How many calls took how long, in eighths of powers of two of a nanosecond: as large after many calls as after few.
struct Times(Vec<u64>);

impl Times {
    fn new() -> Times {
        Times(vec![0; 8 * 64])
    }

    fn add(&mut self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap().max(8);
        let power = nanos.ilog2();
        self.0[(8 * power + (nanos >> (power - 3)) as u32 % 8) as usize] += 1;
    }

    fn with(mut self, other: Times) -> Times {
        for (own, other) in self.0.iter_mut().zip(other.0) {
            *own += other;
        }
        self
    }

    fn count(&self) -> u64 {
        self.0.iter().sum()
    }

    /// What so many of a thousand stay under.
    fn under(&self, of_thousand: u64) -> Duration {
        let (mut left, mut at) = (self.count() * of_thousand / 1_000, 0);
        while at + 1 < self.0.len() && self.0[at] <= left {
            left -= self.0[at];
            at += 1;
        }
        Duration::from_nanos((9 + at as u64 % 8) << (at / 8).saturating_sub(3))
    }
}

impl std::fmt::Display for Times {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "p50 {:.1?}, p99 {:.1?}", self.under(500), self.under(990))
    }
}

/// Memory that is this process's alone, in KiB: without what the system can read again from files.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reloads_under_load_lose_no_call_and_no_state() {
    let plugins = PluginManager::new();
    let first = Tool::new("tool", "1.0.0");
    let mut seen = vec![first.seen.clone()];
    plugins.register(first).await.unwrap();
    let load = Load {
        what: "code with state",
        plugins: plugins.clone(),
        name: "tool",
        params: Value::Null,
        tells: Tells::Count(|answer| answer["count"].as_u64().unwrap()),
        few: 100,
        leaves: 0,
    };
    load.run(async |at| {
        let fresh = Tool::new("tool", &format!("1.0.{at}"));
        seen.push(fresh.seen.clone());
        plugins.reload("tool", fresh).await.unwrap();
    })
    .await;
    for seen in seen {
        assert_eq!((seen.cleaned.load(SeqCst), seen.late.load(SeqCst)), (1, 0), "and called never after");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn reloads_of_plugins_without_state_hold_nobody_up() {
    let plugins = PluginManager::new();
    plugins.register(plain("tool", "1.0.0")).await.unwrap();
    let load = Load {
        what: "code",
        plugins: plugins.clone(),
        name: "tool",
        params: Value::Null,
        tells: Tells::Version(|answer| answer.as_str().unwrap()["1.0.".len()..].parse().unwrap()),
        few: 100,
        leaves: 0,
    };
    load.run(async |at| plugins.reload("tool", plain("tool", &format!("1.0.{at}"))).await.unwrap()).await;
}
