//! The targets of swarm-monitor: ours beside the libraries that record metrics, in one run.
//!
//! `cargo bench -p swarm-benches --features peers --bench monitor_targets`, and the names of parts (`handle`, `labels`,
//! `histogram`, `query`, `online`) to run only those. Every figure is the median of rounds in which the contenders take turns. Allocations
//! are counted in a pass of their own, and what a library leaves for later is done between the rounds.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fmt;
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use swarm_benches::measure::{median, test_mode};
use swarm_monitor::{
    Adwin, ChangeDetector, Clock, Cusum, Kswin, Measurement, PageHinkley, PerformanceMonitor, Sample, Scored,
    Surprise, Window,
};

#[cfg(feature = "peers")]
mod peers;

/// Counts how often memory is asked for, while it is wanted.
struct Counting;

static COUNTS: AtomicBool = AtomicBool::new(false);
static ASKED: AtomicU64 = AtomicU64::new(0);

// SAFETY: passes everything on to the system's allocator and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if COUNTS.load(Relaxed) {
            ASKED.fetch_add(1, Relaxed);
        }
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How long so many take.
type Run<'a> = Box<dyn FnMut(u64) -> Duration + 'a>;

/// One way to do a thing, by one thread and, where it may be, by two at once.
struct Way<'a> {
    name: &'static str,
    one: Run<'a>,
    two: Option<Run<'a>>,
    /// Does what was left for later, outside of what is timed.
    drain: Option<Box<dyn FnMut() + 'a>>,
}

impl<'a> Way<'a> {
    #[cfg(feature = "peers")]
    fn drained(self, drain: impl FnMut() + 'a) -> Self {
        Way { drain: Some(Box::new(drain)), ..self }
    }

    fn drain(&mut self) {
        if let Some(drain) = &mut self.drain {
            drain();
        }
    }
}

/// What ours keeps to.
#[derive(Clone, Copy, Default)]
struct Target {
    ns: Option<f64>,
    allocations: Option<f64>,
    /// Two threads beside one.
    two: Option<f64>,
}

impl Target {
    fn ns(ns: f64) -> Self {
        Target { ns: Some(ns), ..Target::default() }
    }

    fn verdict(&self, one: f64, allocations: f64, two: Option<f64>) -> &'static str {
        let within = |limit: Option<f64>, figure: f64| limit.is_none_or(|limit| figure <= limit);
        let met = within(self.ns, one)
            && within(self.allocations, allocations)
            && within(self.two, two.map_or(0.0, |two| two / one));
        match (self.ns, met) {
            (None, _) => "-",
            (_, true) => "met",
            (_, false) => "MISSED",
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(ns) = self.ns else { return f.write_str("no target") };
        write!(f, "target: {ns} ns")?;
        if let Some(allocations) = self.allocations {
            write!(f, ", {allocations} allocations")?;
        }
        self.two.map_or(Ok(()), |two| write!(f, ", two threads at most {two} times one"))
    }
}

/// By one thread only.
fn alone<'a>(name: &'static str, mut once: impl FnMut(u64) + 'a) -> Way<'a> {
    let one = move |n| {
        let from = Instant::now();
        for at in 0..n {
            once(at);
        }
        from.elapsed()
    };
    Way { name, one: Box::new(one), two: None, drain: None }
}

/// By one thread, and by two; then it is the time that the slower one takes for its share.
fn shared<'a>(name: &'static str, once: impl Fn(u64) + Send + Sync + 'a) -> Way<'a> {
    let once = Arc::new(once);
    let both = once.clone();
    let two = move |n| {
        let start = Barrier::new(2);
        let work = || {
            start.wait();
            let from = Instant::now();
            for at in 0..n {
                both(at);
            }
            from.elapsed()
        };
        thread::scope(|scope| {
            let other = scope.spawn(work);
            work().max(other.join().unwrap())
        })
    };
    Way { two: Some(Box::new(two)), ..alone(name, move |at| once(at)) }
}

/// Nanoseconds by turns, and allocations then. The first of them is ours, as are others of its name.
fn compare(what: &str, n: u64, target: Target, mut ways: Vec<Way<'_>>) {
    let (n, rounds) = if test_mode() { (100, 1) } else { (n, 15) };
    let mut times = vec![(Vec::new(), Vec::new()); ways.len()];
    for way in &mut ways {
        (way.one)(n);
        way.drain();
    }
    for _ in 0..rounds {
        for (way, (one, two)) in ways.iter_mut().zip(&mut times) {
            one.push((way.one)(n).as_secs_f64() * 1e9 / n as f64);
            way.drain();
            if let Some(both) = &mut way.two {
                two.push(both(n).as_secs_f64() * 1e9 / n as f64);
            }
            way.drain();
        }
    }
    let counted = n.min(100_000);
    let asked: Vec<u64> = ways
        .iter_mut()
        .map(|way| {
            let before = ASKED.load(Relaxed);
            COUNTS.store(true, Relaxed);
            (way.one)(counted);
            COUNTS.store(false, Relaxed);
            way.drain();
            ASKED.load(Relaxed) - before
        })
        .collect();
    println!("\n{what}; {target}\n");
    println!(
        "| | ns | of ours | allocations | two threads, ns | of one thread | |\n|---|---|---|---|---|---|---|"
    );
    let ours = median(times[0].0.clone());
    for ((way, (one, two)), asked) in ways.iter().zip(times).zip(asked) {
        let one = median(one);
        let allocations = asked as f64 / counted as f64;
        let both = if two.is_empty() { None } else { Some(median(two)) };
        // Not for the few times that a run takes memory once.
        let verdict = target.verdict(one, (allocations * 100.0).floor() / 100.0, both);
        let verdict = if way.name.starts_with("swarm-monitor") && !test_mode() { verdict } else { "" };
        let two = both.map_or_else(|| " | ".to_owned(), |two| format!("{two:.1} | {:.1}", two / one));
        println!("| {} | {one:.1} | {:.2} | {allocations:.2} | {two} | {verdict} |", way.name, one / ours);
    }
}

fn handle() {
    let monitor = PerformanceMonitor::new();
    let counter = monitor.counter("requests", &[("route", "/pay")]);
    let atomic = AtomicU64::new(0);
    #[cfg_attr(not(feature = "peers"), expect(unused_mut))]
    let mut ways = vec![
        shared("swarm-monitor", |_| counter.increment()),
        shared("an atomic addition", |_| {
            black_box(&atomic).fetch_add(1, Relaxed);
        }),
    ];
    #[cfg(feature = "peers")]
    ways.extend(peers::handles());
    compare("Count through a cached handle", 2_000_000, Target::ns(8.0), ways);
    assert!(monitor.select("requests").total().unwrap().count > 0);
}

const AGENTS: [&str; 4] = ["Agent-1", "Agent-2", "Agent-3", "Agent-4"];

/// The tags of a record: of one series, or of four in turn.
fn tags(at: u64, series: u64) -> [(&'static str, &'static str); 3] {
    [("agent", AGENTS[(at % series) as usize]), ("route", "/pay"), ("status", "200")]
}

fn labels(series: u64) {
    let monitor = PerformanceMonitor::new();
    let count = |at: u64| {
        monitor.record(black_box("requests"), Measurement::Count(1), black_box(&tags(at, series)));
    };
    let observe = |at: u64| {
        monitor.record(black_box("seconds"), 0.045, black_box(&tags(at, series)));
    };
    #[cfg_attr(not(feature = "peers"), expect(unused_mut))]
    let mut ways =
        vec![shared("swarm-monitor, a count", count), shared("swarm-monitor, an observation", observe)];
    #[cfg(feature = "peers")]
    ways.extend(peers::labels(series));
    let what = format!("Record by name with 3 labels, {series} series");
    // Of two threads the target speaks where both record in one series.
    let two = (series == 1).then_some(3.0);
    compare(&what, 1_000_000, Target { ns: Some(30.0), allocations: Some(0.0), two }, ways);
}

fn values() -> Vec<f64> {
    let mut state = 7u64;
    let mut uniform = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64
    };
    (0..65_536).map(|_| -0.05 * uniform().ln()).collect()
}

fn histogram() {
    let monitor = PerformanceMonitor::new();
    let seconds = monitor.histogram("seconds", &[("route", "/pay")]);
    let values = values();
    #[cfg_attr(not(feature = "peers"), expect(unused_mut))]
    let mut ways = vec![shared("swarm-monitor", |at| seconds.record(values[at as usize % 65_536]))];
    #[cfg(feature = "peers")]
    ways.extend(peers::histograms(&values));
    compare("Record an exponential value through a cached handle", 2_000_000, Target::ns(20.0), ways);
}

struct Minutes(Arc<AtomicU64>);

impl Clock for Minutes {
    fn now(&self) -> DateTime<Utc> {
        DateTime::from_timestamp(self.0.load(Relaxed) as i64, 0).unwrap()
    }
}

/// Windows over as many values as `each` a minute makes in eight days.
fn query(each: usize) {
    let clock = Arc::new(AtomicU64::new(1_795_262_400));
    let monitor = PerformanceMonitor::builder().clock(Minutes(clock.clone())).build().unwrap();
    let handle = monitor.histogram("seconds", &[("route", "/pay")]);
    let values = values();
    let minutes = if test_mode() { 200 } else { 8 * 24 * 60 };
    let mut at = 0;
    for _ in 0..minutes {
        for _ in 0..each {
            handle.record(values[at % 65_536]);
            at += 1;
        }
        clock.fetch_add(60, Relaxed);
        monitor.tick();
    }
    let select = monitor.select("seconds");
    let (hour, week) = (Duration::from_secs(3_600), Duration::from_secs(7 * 86_400));
    let ask = |what: &str, ns: f64, question: &dyn Fn()| {
        compare(
            &format!("{what} of {at} values"),
            2_000,
            Target::ns(ns),
            vec![alone("swarm-monitor", |_| question())],
        );
    };
    ask("Mean and deviation of 1 h", 500.0, &|| {
        black_box(select.summary(Window::last(hour)).unwrap().std_dev());
    });
    ask("Mean of 7 d", 1_000.0, &|| {
        black_box(select.summary(Window::last(week)).unwrap().mean);
    });
    ask("99th percentile of 7 d", 50_000.0, &|| {
        black_box(select.quantile(Window::last(week), 0.99).unwrap());
    });
}

/// Values that do not change, so that no detector begins anew.
fn online() {
    let values = values();
    let baseline = Sample::of(&values[..2_000]);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let none = Target::default();
    let mut detectors: Vec<(&'static str, Target, Box<dyn ChangeDetector>)> = vec![
        ("CUSUM", Target::ns(10.0), Box::new(Cusum::new(mean, mean).run_length(1e9))),
        ("Page-Hinkley", Target::ns(10.0), Box::new(PageHinkley::new().run_length(1e9))),
        ("ADWIN", Target::ns(35.0), Box::new(Adwin::new(0.000_01))),
        ("CUSUM, scored", none, Box::new(Scored::new(Cusum::standard().run_length(1e9), &baseline))),
        ("KSWIN", none, Box::new(Kswin::new(0.000_01))),
        ("Surprise", none, Box::new(Surprise::new().season(288))),
    ];
    for (name, target, detector) in &mut detectors {
        let way = alone("swarm-monitor", |at| {
            black_box(detector.update(values[at as usize % 65_536]));
        });
        compare(&format!("{name}, a value"), 200_000, *target, vec![way]);
    }
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wants = |part: &str| wanted.is_empty() || wanted.iter().any(|name| name == part);
    if wants("handle") {
        handle();
    }
    if wants("labels") {
        labels(4);
        labels(1);
    }
    if wants("histogram") {
        histogram();
    }
    if wants("online") {
        online();
    }
    if wants("query") {
        query(87); // a million
        if !test_mode() {
            query(8_700); // a hundred million
        }
    }
}
