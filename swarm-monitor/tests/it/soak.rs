//! Long at work: series come and go, alerts fire and end, snapshots are written, and nothing grows.
//!
//! Some seconds by default. `SWARM_LONG=1` makes at least ten million records on 10,000 series, for as many seconds as `SWARM_SOAK` says
//! (1,800 without), of time that the test moves: a minute a round, so that every ring fills many times over. Best with `--release`.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use swarm_monitor::testing::RecordingNotifier;
use swarm_monitor::{
    AlertEngine, AlertRule, AlertState, Condition, Measurement, PerformanceMonitor, Route, Severity,
};

use crate::{Timed, last};

const DAY: u64 = 24 * 60;

/// What a child is told by: the folder that it writes to.
const CHILD: &str = "SWARM_SOAK_FOLDER";

struct Size {
    records: u64,
    lasts: Duration,
    /// Series of each of three metrics at one time.
    series: u64,
    /// Records of each thread in a round.
    each: u64,
    /// Rounds until everything that is kept for a while is full: days of hours.
    settled: u64,
}

fn size() -> Size {
    if std::env::var_os("SWARM_LONG").is_none() {
        let lasts = Duration::ZERO;
        return Size { records: 30_000, lasts, series: 60, each: 20, settled: DAY / 4 };
    }
    let seconds = std::env::var("SWARM_SOAK").ok().map_or(1_800, |text| text.parse().unwrap());
    let lasts = Duration::from_secs(seconds);
    Size { records: 10_000_000, lasts, series: 3_000, each: 500, settled: 10 * DAY }
}

/// What may not grow: resident memory, open files, bytes in the folder.
#[derive(Debug, Clone, Copy, Default)]
struct Taken {
    memory: u64,
    series: u64,
    files: usize,
    disk: u64,
}

impl Taken {
    fn now(monitor: &PerformanceMonitor, folder: &Path) -> Self {
        let resident = |text: String| text.split(' ').nth(1)?.parse::<u64>().ok();
        let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(resident).unwrap_or(0);
        let disk = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().metadata().unwrap().len());
        Taken {
            memory: pages * 4_096,
            series: monitor.metrics().iter().map(|info| info.series as u64).sum(),
            files: std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count),
            disk: disk.sum(),
        }
    }

    fn most(self, other: Self) -> Self {
        Taken {
            memory: self.memory.max(other.memory),
            series: self.series.max(other.series),
            files: self.files.max(other.files),
            disk: self.disk.max(other.disk),
        }
    }
}

/// Records of one thread in one round. The series of a round move on by one each few rounds, so that all are others in a few days.
fn record(monitor: &PerformanceMonitor, size: &Size, round: u64, seed: &mut u64) {
    for _ in 0..size.each {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let random = *seed >> 33;
        let agent = (random % size.series + round * size.series / (3 * DAY)).to_string();
        let tags = [("agent", agent.as_str()), ("task_type", "refactoring")];
        let share = (random % 1_009) as f64 / 1_009.0;
        match random % 5 {
            0 => monitor.record("cycle_time", 30.0 + 40.0 * share * share, &tags),
            1 => monitor.record("violations", Measurement::Gauge(12.0 * share), &tags),
            _ => monitor.record("tasks", Measurement::Count(1), &tags),
        }
    }
}

/// In a process of its own, as memory and open files are a process's, and other tests have theirs.
#[test]
fn nothing_grows_while_series_come_and_go() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return soak(&size(), Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["soak::nothing_grows_while_series_come_and_go", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("1 passed"), "{}: {said}", output.status);
}

fn soak(size: &Size, folder: &Path) {
    let (snapshot, journal) = (folder.join("snapshot"), folder.join("alerts"));
    let limit = size.series as usize * 11 / 10;
    let idle = Duration::from_secs(3_600);
    let timed = Timed::with(PerformanceMonitor::builder().series_limit(limit).idle_after(idle));
    let monitor = &timed.monitor;
    let told = RecordingNotifier::new();
    let hot = Condition::of("load").last().above(50.0);
    let slow = Condition::of("cycle_time").quantile(0.9).above(1_000.0).window(Duration::from_secs(3_600));
    let alerts = AlertEngine::builder(monitor)
        .rule(AlertRule::new("hot", hot).each("host").severity(Severity::Critical))
        .rule(AlertRule::new("slow", slow))
        .route(Route::new("ops", told.clone()))
        .file(&journal)
        .build()
        .unwrap();

    let (begun, stop, rounds) = (Instant::now(), AtomicBool::new(false), AtomicU64::new(0));
    let turn = Barrier::new(3);
    let threads = |seed: u64| {
        let (mut seed, made) = (seed, monitor.counter("made", &[]));
        let (turn, stop, rounds) = (&turn, &stop, &rounds);
        move || {
            loop {
                turn.wait();
                if stop.load(Relaxed) {
                    break;
                }
                record(monitor, size, rounds.load(Relaxed), &mut seed);
                made.add(size.each);
                turn.wait();
            }
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // The most in each stretch of rounds.
    let mut stretches: Vec<Taken> = Vec::new();
    let (mut fired, mut ended, mut wrong) = (0, 0, Vec::new());
    let made = std::thread::scope(|scope| {
        let _threads = [scope.spawn(threads(1)), scope.spawn(threads(2))];
        loop {
            let round = rounds.load(Relaxed);
            let made = round * 2 * size.each;
            let enough = made >= size.records && begun.elapsed() >= size.lasts && round >= 3 * size.settled;
            // Not a panic here, for which the threads would wait for ever.
            if enough || !wrong.is_empty() {
                stop.store(true, Relaxed);
                turn.wait();
                return made;
            }
            turn.wait();
            // Beside the records.
            for host in ["a", "b", "c"] {
                let load = if round % 120 < 20 { 99.0 } else { 1.0 };
                monitor.record("load", Measurement::Gauge(load), &[("host", host)]);
            }
            if round.is_multiple_of(size.settled / 36) {
                wrong.extend(monitor.snapshot(&snapshot).err().map(|error| error.to_string()));
                if !monitor.expose("application/openmetrics-text").body.ends_with("# EOF\n") {
                    wrong.push("half an exposition".to_owned());
                }
            }
            turn.wait();
            timed.pass(60);
            let evaluation = alerts.evaluate();
            let errors = evaluation.failed.iter().map(|(_, error)| error).chain(&evaluation.not_stored);
            wrong.extend(errors.map(ToString::to_string));
            runtime.block_on(alerts.deliver());
            for alert in told.take().iter().flat_map(|told| &told.alerts) {
                match alert.state {
                    AlertState::Resolved => ended += 1,
                    _ => fired += 1,
                }
            }
            rounds.fetch_add(1, Relaxed);
            if round % 10 == 0 {
                let taken = Taken::now(monitor, folder);
                let stretch = (round / size.settled) as usize;
                stretches.resize(stretches.len().max(stretch + 1), Taken::default());
                stretches[stretch] = stretches[stretch].most(taken);
            }
        }
    });

    assert!(wrong.is_empty(), "{wrong:?}");
    let days = rounds.load(Relaxed) / DAY;
    eprintln!("{made} records in {days} days, {:?}; fired {fired}, ended {ended}", begun.elapsed());
    for (at, taken) in stretches.iter().enumerate() {
        eprintln!(
            "  {at}: {} MB, {} series, {} files, {} kB on the disk",
            taken.memory >> 20,
            taken.series,
            taken.files,
            taken.disk / 1_000
        );
    }
    assert_eq!(monitor.select("made").total().unwrap().count, made, "no count is lost");
    let folded: u64 = monitor.metrics().iter().map(|info| info.folded).sum();
    assert!(folded < made / 20, "{folded} records had no series of their own");
    assert!(fired >= 3 * (rounds.load(Relaxed) / 120) && ended >= fired - 3, "{fired} {ended}");
    assert!(
        monitor.select("tasks").total().unwrap().count > 0
            && monitor.select("load").summary(last(600)).unwrap().count > 0
    );

    // Everything that is kept for a while was full after the first stretch; the last one may be short.
    let (first, rest) = stretches[1..].split_first().unwrap();
    let most = rest.iter().copied().fold(Taken::default(), Taken::most);
    assert!(most.files <= first.files, "{most:?} after {first:?}");
    assert!(most.series <= (limit * 3 + 20) as u64, "{most:?}");
    // A small run is over before the hours of eight days are full.
    if size.settled >= 10 * DAY {
        assert!(most.disk as f64 <= 1.15 * first.disk as f64, "{most:?} after {first:?}");
        assert!(most.memory as f64 <= 1.15 * first.memory as f64, "{most:?} after {first:?}");
    }
}
