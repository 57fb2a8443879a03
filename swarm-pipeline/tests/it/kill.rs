//! SIGKILL at every moment that matters, from outside the process, judged by a witness file.
//!
//! - The sweep kills the victim before its n-th call of each kind that changes a file, by `strace` injection, and then
//!   lets it run to its end; or kills it again while it recovers.
//! - The storm kills it at random times, again and again.
//!
//! Sizes: `SWARM_KILL_POINTS` is the number of points of each sweep and `SWARM_KILLS` that of random kills;
//! `SWARM_LONG=1` means every point and 500 kills. `SWARM_SEED` repeats a storm.

use std::collections::HashSet;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use swarm_pipeline::{Durability, LocalEngine};

use super::judge::{Tally, judge};
use super::victim::{self, BIAS_CALLS, REFUSED, RUN, Scenario, Witness};

/// A folder with one run, driven by as many processes as it takes.
pub(crate) struct Victim {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) scenario: Scenario,
    pub(crate) durability: Durability,
    lives: usize,
}

/// How a life ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Over,
    Killed,
    /// The engine answered with an error.
    Refused,
}

/// The thread of the victim whose calls are counted. The driver also polls the steps and appends; the one worker thread opens,
/// syncs, keeps blobs and runs the blocking step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Thread {
    Driver,
    Worker,
}

/// A call of a thread of the victim, for `strace` to count and spoil.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Calls {
    pub(crate) thread: Thread,
    /// As `strace` names it.
    pub(crate) call: &'static str,
    /// Whether the other threads make such calls too, and this one has to be told from them.
    pub(crate) shared: bool,
}

impl Calls {
    pub(crate) const fn of(thread: Thread, call: &'static str) -> Self {
        Calls { thread, call, shared: false }
    }

    pub(crate) const fn shared(thread: Thread, call: &'static str) -> Self {
        Calls { thread, call, shared: true }
    }

    fn bias(self) -> usize {
        if self.shared { BIAS_CALLS } else { 0 }
    }

    fn bias_text(self) -> String {
        let thread = if self.thread == Thread::Driver { "driver" } else { "worker" };
        if self.shared { format!("{thread}:{}", self.call) } else { String::new() }
    }
}

impl Victim {
    pub(crate) fn new(scenario: Scenario, durability: Durability) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("store")).unwrap();
        Victim { folder, scenario, durability, lives: 0 }
    }

    pub(crate) fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    pub(crate) fn witness(&self) -> PathBuf {
        self.folder.path().join("witness")
    }

    /// The victim's command; `before` is what runs it, `strace` for example.
    pub(crate) fn command(&mut self, before: &[String], bias: &str) -> Command {
        let itself = std::env::current_exe().unwrap();
        let mut command = match before {
            [] => Command::new(&itself),
            [first, rest @ ..] => {
                let mut command = Command::new(first);
                command.args(rest).arg(&itself);
                command
            }
        };
        command
            .args(["--exact", "victim::the_victim_runs", "--test-threads=1", "--nocapture"])
            .env(victim::DIR, self.store())
            .env(victim::WITNESS, self.witness())
            .env(victim::LIFE, self.lives.to_string())
            .env(victim::SCENARIO, format!("{:?}", self.scenario))
            .env(victim::DURABILITY, format!("{:?}", self.durability))
            .env(victim::BIAS, bias)
            .env("RUST_BACKTRACE", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        self.lives += 1;
        command
    }

    /// One life, to its end.
    pub(crate) fn live(&mut self, before: &[String], bias: &str) -> End {
        end(&self.command(before, bias).output().unwrap())
    }

    /// One life, with `fault` injected into the `n`-th of `calls`.
    pub(crate) fn live_with(&mut self, calls: Calls, fault: &str, n: usize) -> End {
        let when = n + calls.bias();
        let inject = format!("inject={}:{fault}:when={when}", calls.call);
        let trace = format!("trace={}", calls.call);
        let before = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", &trace, "-e", &inject];
        self.live(&before.map(str::to_owned), &calls.bias_text())
    }

    /// Lives once without a fault, and answers how many of `calls` there are.
    pub(crate) fn count(&mut self, calls: Calls) -> usize {
        let log = self.folder.path().join("strace");
        let trace = format!("trace={}", calls.call);
        let before = ["strace", "-f", "-qq", "-o", log.to_str().unwrap(), "-e", &trace];
        assert_eq!(self.live(&before.map(str::to_owned), &calls.bias_text()), End::Over);
        let text = std::fs::read_to_string(log).unwrap();
        let mut by_thread = std::collections::HashMap::<&str, usize>::new();
        // What is no call is a thread's end, a signal, or the end of a call that another one interrupted.
        for line in text.lines().filter(|line| !["+++", "---", "resumed>"].iter().any(|no| line.contains(no)))
        {
            *by_thread.entry(line.split(' ').next().unwrap_or_default()).or_default() += 1;
        }
        by_thread.into_values().max().unwrap_or(0).saturating_sub(calls.bias())
    }

    /// What the witness was told so far.
    pub(crate) fn told(&self) -> String {
        std::fs::read_to_string(self.witness()).unwrap_or_default()
    }

    /// Lets the run come to its end, and judges all of it.
    pub(crate) fn finish(&mut self, name: &str, tally: &mut Tally) {
        assert_eq!(self.live(&[], ""), End::Over, "{name}");
        let text = self.told();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let history = runtime.block_on(async {
            let engine = LocalEngine::open(self.store()).unwrap();
            engine.history(RUN).await.unwrap()
        });
        let pipeline = victim::pipeline(&Witness::in_memory(), self.scenario);
        tally.add(name, judge(&text, &history, &pipeline, self.scenario));
    }
}

pub(crate) fn end(output: &Output) -> End {
    #[cfg(unix)]
    if std::os::unix::process::ExitStatusExt::signal(&output.status) == Some(9) {
        return End::Killed;
    }
    match output.status.code() {
        Some(0) => End::Over,
        Some(REFUSED) => End::Refused,
        _ => panic!("{}: {}", output.status, String::from_utf8_lossy(&output.stderr)),
    }
}

/// Whether `strace` is here and may trace; says so aloud if not.
pub(crate) fn can_inject(left_out: &str) -> bool {
    let tried = Command::new("strace").args(["-f", "-o", "/dev/null", "true"]).output();
    let works = tried.is_ok_and(|tried| tried.status.success());
    if !works {
        eprintln!("left out: {left_out}, for `strace` is not here or may not trace");
    }
    works
}

pub(crate) fn number(name: &str) -> Option<usize> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

pub(crate) fn is_long() -> bool {
    std::env::var("SWARM_LONG").is_ok_and(|long| long == "1")
}

/// The points of a sweep over `count`: all of them, or some that are spread evenly, the first and the last among them.
pub(crate) fn points(count: usize, some: usize) -> Vec<usize> {
    let some = number("SWARM_KILL_POINTS").unwrap_or(if is_long() { count } else { some });
    match some {
        _ if count == 0 => Vec::new(),
        0 => Vec::new(),
        1 => vec![count],
        _ if some >= count => (1..=count).collect(),
        _ => (0..some).map(|at| 1 + at * (count - 1) / (some - 1)).collect(),
    }
}

/// Does the jobs on both cores of a small machine, and sums up.
pub(crate) fn in_parallel<J: Sync>(jobs: &[J], job: impl Fn(&J, &mut Tally) + Sync) -> Tally {
    let next = AtomicUsize::new(0);
    let sum = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut tally = Tally::default();
                while let Some(one) = jobs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    job(one, &mut tally);
                }
                sum.lock().unwrap().merge(tally);
            });
        }
    });
    sum.into_inner().unwrap()
}

/// The calls that change a file or its name, by the thread that makes them. `writev` is the witness, `write` all others.
const CHANGES: [Calls; 11] = [
    Calls::shared(Thread::Driver, "write"),
    Calls::shared(Thread::Driver, "writev"),
    Calls::shared(Thread::Worker, "write"),
    Calls::shared(Thread::Worker, "writev"),
    Calls::shared(Thread::Worker, "openat"),
    Calls::of(Thread::Worker, "fdatasync"),
    Calls::of(Thread::Worker, "fsync"),
    Calls::of(Thread::Worker, "/^rename"),
    Calls::of(Thread::Worker, "/^mkdir"),
    Calls::of(Thread::Worker, "ftruncate"),
    Calls::of(Thread::Worker, "/^unlink"),
];

pub(crate) const DURABILITIES: [Durability; 2] = [Durability::Process, Durability::Power];

/// All combinations where a size is asked for, or else each scenario and each durability once.
pub(crate) fn some_combinations() -> impl Iterator<Item = (Scenario, Durability)> {
    let all = is_long() || number("SWARM_KILL_POINTS").is_some();
    combinations().filter(move |&(s, d)| all || (s == Scenario::Fails) == (d == Durability::Power))
}

pub(crate) fn combinations() -> impl Iterator<Item = (Scenario, Durability)> {
    Scenario::ALL.into_iter().flat_map(|scenario| DURABILITIES.map(|power| (scenario, power)))
}

#[derive(Debug, Clone, Copy)]
struct Point {
    scenario: Scenario,
    durability: Durability,
    calls: Calls,
    n: usize,
    /// The same in the life after it.
    then: Option<(Calls, usize)>,
}

#[test]
fn a_kill_before_any_call_that_changes_a_file_repeats_and_loses_nothing() {
    if !can_inject("the kill sweep") {
        return;
    }
    let kinds: Vec<_> = some_combinations().flat_map(|(s, d)| CHANGES.map(|calls| (s, d, calls))).collect();
    let sweep = Mutex::new(Vec::new());
    in_parallel(&kinds, |&(scenario, durability, calls), _| {
        let count = Victim::new(scenario, durability).count(calls);
        let point = |n| Point { scenario, durability, calls, n, then: None };
        let mut sweep = sweep.lock().unwrap();
        sweep.extend(points(count, 2).into_iter().map(point));
        if calls == CHANGES[0] {
            // There is no such call, so the victim ends by itself: the sweep goes to the end.
            sweep.push(point(count + 20));
        }
    });
    let jobs = sweep.into_inner().unwrap();
    let ended = AtomicUsize::new(0);
    let tally = in_parallel(&jobs, |point, tally| {
        let mut victim = Victim::new(point.scenario, point.durability);
        match victim.live_with(point.calls, "signal=KILL", point.n) {
            End::Killed => tally.kills += 1,
            end => {
                assert_eq!(end, End::Over);
                ended.fetch_add(1, Ordering::Relaxed);
            }
        }
        victim.finish(&format!("{point:?}"), tally);
    });
    eprintln!(
        "kill sweep: {} points, {} of them beyond the last call; {tally}",
        jobs.len(),
        ended.into_inner()
    );
    tally.check();
    // How often the worker syncs depends on how the steps fall together, so that not every last point is reached.
    assert!(jobs.len() >= 25 && tally.kills * 10 >= jobs.len() * 8, "{tally}");
}

#[test]
fn a_kill_during_the_recovery_from_a_kill_repeats_and_loses_nothing() {
    if !can_inject("the kill sweep over recoveries") {
        return;
    }
    let [log, witness, worker, ..] = CHANGES;
    let stride = match number("SWARM_KILL_POINTS") {
        Some(_) => 2,
        None if is_long() => 6,
        None => 1,
    };
    let mut jobs = Vec::new();
    for (scenario, durability) in some_combinations() {
        for first in [log, witness] {
            let count = Victim::new(scenario, durability).count(first);
            for n in points(count, 2) {
                // What is left to do after the first kill, as far as one can tell.
                let left = points(count - n, 2).into_iter().step_by(stride).map(|then| (first, then));
                let once =
                    [worker, Calls::of(Thread::Worker, "ftruncate"), Calls::of(Thread::Worker, "fsync")];
                let then = left.chain(once.map(|calls| (calls, 1)));
                let point = |then| Point { scenario, durability, calls: first, n, then: Some(then) };
                jobs.extend(then.map(point));
            }
        }
    }
    let tally = in_parallel(&jobs, |point, tally| {
        let mut victim = Victim::new(point.scenario, point.durability);
        let (calls, n) = point.then.unwrap();
        for (calls, n) in [(point.calls, point.n), (calls, n)] {
            if victim.live_with(calls, "signal=KILL", n) == End::Killed {
                tally.kills += 1;
            }
        }
        victim.finish(&format!("{point:?}"), tally);
    });
    eprintln!("kills during recovery: {} pairs; {tally}", jobs.len());
    tally.check();
    assert!(tally.kills > jobs.len(), "{tally}");
}

#[test]
fn under_power_nothing_is_begun_or_acknowledged_before_the_record_of_it_is_synced() {
    if !can_inject("the order of writes and syncs") {
        return;
    }
    for scenario in Scenario::ALL {
        let mut victim = Victim::new(scenario, Durability::Power);
        let log = victim.folder.path().join("strace");
        let before = ["strace", "-f", "-qq", "-s", "100000", "-o", log.to_str().unwrap()];
        let trace = ["-e", "trace=write,writev,fdatasync"];
        let before: Vec<String> = before.into_iter().chain(trace).map(str::to_owned).collect();
        assert_eq!(victim.live(&before, ""), End::Over);
        let (mut written, mut synced, mut told) = (HashSet::new(), HashSet::new(), 0);
        for line in std::fs::read_to_string(log).unwrap().lines() {
            if line.contains("fdatasync") && line.ends_with("= 0") {
                synced.extend(written.drain());
            } else if line.contains(" write(") && line.contains(r#"\"seq\":"#) {
                written.extend(quoted(line).lines().filter_map(recorded));
            } else if line.contains(" writev(") {
                let text = quoted(line);
                let words: Vec<&str> = text.trim().splitn(6, ' ').collect();
                let record = match words.get(1) {
                    Some(&"begin") => "step_started",
                    Some(&"ack") => "step_succeeded",
                    Some(&"refuse") => "step_failed",
                    Some(&"undo-begin") => "undo_started",
                    Some(&"undo-ack") => "undo_succeeded",
                    _ => continue,
                };
                if words[2] != "nap" {
                    told += 1;
                    let record = format!("{record} {} {} {}", words[2], words[3], words[4]);
                    assert!(
                        synced.contains(&record),
                        "{record} was not synced before the witness heard: {text}"
                    );
                }
            }
        }
        assert!(synced.len() >= 30 && told >= 30, "{} records, {told} words", synced.len());
    }
}

/// The text between the first and the last quotation mark of a line of `strace`.
fn quoted(line: &str) -> String {
    let text = line.split_once('"').map_or("", |(_, rest)| rest);
    let text = text.rsplit_once('"').map_or(text, |(text, _)| text);
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match (char, char == '\\') {
            (_, true) => {
                out.push(chars.next().map_or('\\', |escaped| if escaped == 'n' { '\n' } else { escaped }))
            }
            (char, false) => out.push(char),
        }
    }
    out
}

/// What a line of the log records, in the words of the witness.
fn recorded(line: &str) -> Option<String> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let (kind, entry) = line["event"].as_object()?.iter().next()?;
    let item = entry["item"].as_u64().map_or_else(|| "-".to_owned(), |item| item.to_string());
    Some(format!("{kind} {} {item} {}", entry["step"].as_str()?, entry["attempt"].as_u64()?))
}

/// Random numbers for a seed (splitmix64, Steele et al. 2014).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

pub(crate) fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    number("SWARM_SEED").map_or(now.as_nanos() as u64, |seed| seed as u64)
}

#[cfg(unix)]
#[test]
fn kills_at_random_times_repeat_and_lose_nothing() {
    let wanted = number("SWARM_KILLS").unwrap_or(if is_long() { 500 } else { 24 });
    let seed = fresh_seed();
    eprintln!("SWARM_SEED={seed}");
    // How long a life takes that nobody cuts short, the start of the process left out as far as it can be.
    let before = Instant::now();
    let mut whole = Victim::new(Scenario::Succeeds, Durability::Process);
    assert_eq!(whole.live(&[], ""), End::Over);
    let length = before.elapsed().as_nanos() as u64;
    let jobs: Vec<u64> = (0..2).collect();
    let kills = AtomicUsize::new(0);
    let tally = in_parallel(&jobs, |job, tally| {
        let mut random = Random(seed ^ (job << 63));
        while kills.load(Ordering::Relaxed) < wanted {
            let scenario = Scenario::ALL[(random.next() % 2) as usize];
            let durability = DURABILITIES[(random.next() % 2) as usize];
            let mut victim = Victim::new(scenario, durability);
            for _ in 0..random.next() % 6 + 1 {
                let mut child = victim.command(&[], "").spawn().unwrap();
                // The random moment itself: nothing is waited for.
                std::thread::sleep(Duration::from_nanos(random.next() % length));
                child.kill().unwrap();
                if end(&child.wait_with_output().unwrap()) == End::Killed {
                    tally.kills += 1;
                    kills.fetch_add(1, Ordering::Relaxed);
                }
            }
            victim.finish(&format!("seed {seed}, {scenario:?}, {durability:?}"), tally);
        }
    });
    eprintln!("random kills: {tally}");
    tally.check();
    assert!(tally.kills >= wanted);
}
