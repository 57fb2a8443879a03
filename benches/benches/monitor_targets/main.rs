//! The targets of swarm-monitor: ours beside the libraries that record metrics, in one run.
//!
//! `cargo bench -p swarm-benches --features peers --bench monitor_targets`, and the names of parts (`handle`, `labels`,
//! `histogram`, `query`, `online`) to run only those. Every figure is the median of rounds in which the contenders take turns.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs, reason = "a bench")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use swarm_benches::measure::{median, test_mode};
use swarm_monitor::{
    Adwin, ChangeDetector, Clock, Cusum, Kswin, Measurement, PageHinkley, PerformanceMonitor, Sample, Scored,
    Window,
};

#[cfg(feature = "peers")]
mod peers;

/// Counts how often memory is asked for.
struct Counting;

static ASKED: AtomicU64 = AtomicU64::new(0);

// SAFETY: passes everything on to the system's allocator and only counts.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ASKED.fetch_add(1, Relaxed);
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
    Way { name, one: Box::new(one), two: None }
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

/// Nanoseconds and allocations each, by turns. The first of them is ours.
fn compare(what: &str, n: u64, target: &str, mut ways: Vec<Way<'_>>) {
    let (n, rounds) = if test_mode() { (100, 1) } else { (n, 15) };
    let mut times = vec![(Vec::new(), Vec::new()); ways.len()];
    let mut asked = vec![0; ways.len()];
    for way in &mut ways {
        (way.one)(n);
    }
    for _ in 0..rounds {
        for (at, way) in ways.iter_mut().enumerate() {
            let before = ASKED.load(Relaxed);
            times[at].0.push((way.one)(n).as_secs_f64() * 1e9 / n as f64);
            asked[at] += ASKED.load(Relaxed) - before;
            if let Some(two) = &mut way.two {
                times[at].1.push(two(n).as_secs_f64() * 1e9 / n as f64);
            }
        }
    }
    println!("\n{what}; target: {target}\n");
    println!("| | ns | of ours | allocations | two threads, ns | of one thread |\n|---|---|---|---|---|---|");
    let ours = median(times[0].0.clone());
    for ((way, (one, two)), asked) in ways.iter().zip(times).zip(asked) {
        let one = median(one);
        let allocations = asked as f64 / (rounds * n) as f64;
        let both = if two.is_empty() { None } else { Some(median(two)) };
        let two = both.map_or_else(|| " | ".to_owned(), |two| format!("{two:.1} | {:.1}", two / one));
        println!("| {} | {one:.1} | {:.2} | {allocations:.2} | {two} |", way.name, one / ours);
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
    compare("Count through a cached handle", 2_000_000, "8 ns", ways);
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
    compare(&what, 1_000_000, "30 ns, no allocation, two threads on one series at most 3 times one", ways);
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
    compare("Record an exponential value through a cached handle", 2_000_000, "20 ns", ways);
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
    let ask = |what: &str, target: &str, question: &dyn Fn()| {
        compare(
            &format!("{what} of {at} values"),
            2_000,
            target,
            vec![alone("swarm-monitor", |_| question())],
        );
    };
    ask("Mean and deviation of 1 h", "500 ns", &|| {
        black_box(select.summary(Window::last(hour)).unwrap().std_dev());
    });
    ask("Mean of 7 d", "1,000 ns", &|| {
        black_box(select.summary(Window::last(week)).unwrap().mean);
    });
    ask("99th percentile of 7 d", "50,000 ns", &|| {
        black_box(select.quantile(Window::last(week), 0.99).unwrap());
    });
}

/// Values that do not change, so that no detector begins anew.
fn online() {
    let values = values();
    let baseline = Sample::of(&values[..2_000]);
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let mut detectors: Vec<(&'static str, &str, Box<dyn ChangeDetector>)> = vec![
        ("CUSUM", "10 ns", Box::new(Cusum::new(mean, mean).run_length(1e9))),
        ("Page-Hinkley", "10 ns", Box::new(PageHinkley::new().run_length(1e9))),
        ("ADWIN", "35 ns", Box::new(Adwin::new(0.000_01))),
        ("CUSUM, scored", "no target", Box::new(Scored::new(Cusum::standard().run_length(1e9), &baseline))),
        ("KSWIN", "no target", Box::new(Kswin::new(0.000_01))),
    ];
    for (name, target, detector) in &mut detectors {
        let way = alone("swarm-monitor", |at| {
            black_box(detector.update(values[at as usize % 65_536]));
        });
        compare(&format!("{name}, a value"), 200_000, target, vec![way]);
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
