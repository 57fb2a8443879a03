//! Every target of the crates beside its peers, by turns in one run, as one Markdown table.
//!
//! `cargo bench -p swarm-benches --features peers --bench targets [-- PART...]`, where a part is `resolve`, `run`,
//! `store`, `power`, `recover` or `makespan`.
#![allow(clippy::print_stdout, reason = "the table is for the terminal")]
#![allow(
    clippy::unwrap_used,
    reason = "a bench that cannot set itself up has nothing better to do than stop"
)]

use std::sync::LazyLock;
use std::time::Duration;

use swarm_benches::measure::{median, scratch, suites, timed, wall};
use swarm_benches::ours::{self, Durability, Recorded};
use swarm_benches::peers::inline::Inline;
use swarm_benches::peers::join_set::Spawning;
use swarm_benches::peers::log::{self, Commit};
use swarm_benches::runner::{self, TimedRuns, cpu_time};
use swarm_benches::schedule::{fifo, layer_barriers, lower_bound};
use swarm_benches::session::{Contender, Session};
use swarm_benches::shapes::{NameList, Shape, count, is_execution_order};
use swarm_benches::table::{HEADER, Row, Target, Unit};
use swarm_benches::trace::Trace;
use tokio::runtime::Runtime;

const SCRATCH: &str = env!("CARGO_TARGET_TMPDIR");

static RUNTIME: LazyLock<Runtime> = LazyLock::new(runner::runtime);

/// Measures and prints some rows.
type Part = fn(&Session);

fn main() {
    let session = Session::from_env();
    let parts: [(&str, Part); 6] = [
        ("resolve", resolve),
        ("run", run),
        ("store", store),
        ("power", power),
        ("recover", recover),
        ("makespan", makespan),
    ];
    if !matches!(session, Session::Repetition { .. }) {
        println!("{HEADER}");
    }
    for (name, part) in parts {
        if session.wants(name) {
            part(&session);
        }
    }
}

fn resolve(session: &Session) {
    for &(size, rounds, repetitions) in session
        .pick(&[(100, 1, 1)][..], &[(1_000, 7, 21), (10_000, 7, 11), (100_000, 7, 3), (1_000_000, 3, 1)])
    {
        let contenders = [
            Contender::new("ours", move || {
                let list = NameList::random(size);
                let nodes = list.nodes();
                let (spent, resolved) = timed(|| ours::resolve(&nodes));
                assert!(is_execution_order(&nodes, &resolved.names()), "ours gave no execution order");
                spent
            }),
            #[cfg(feature = "peers")]
            Contender::new("petgraph", move || {
                let list = NameList::random(size);
                let nodes = list.nodes();
                let (spent, resolved) = timed(|| swarm_benches::peers::petgraph::resolve(&nodes));
                assert!(is_execution_order(&nodes, &resolved.names()), "petgraph gave no execution order");
                spent
            }),
        ];
        Measured {
            what: format!("resolve {}, a node", count(size)),
            figure: Figure::TimeFor(size),
            rounds,
            repetitions,
            targets: vec![Target::TimesAsGood("petgraph", 4.0)],
        }
        .print(session, &contenders);
    }
}

fn run(session: &Session) {
    let ways: &[(&'static str, TimedRuns)] = &[
        ("ours", cpu_time::<ours::InMemory>),
        ("inline", cpu_time::<Inline>),
        ("JoinSet", cpu_time::<Spawning>),
        #[cfg(feature = "peers")]
        ("dagx", cpu_time::<swarm_benches::peers::dagx::Dagx>),
        #[cfg(feature = "peers")]
        ("dagrs", cpu_time::<swarm_benches::peers::dagrs::Dagrs>),
    ];
    let (size, wide, side) = session.pick((10, 20, 5), (1_000, 10_000, 100));
    let targets = |limit, dagx, dagrs| {
        vec![Target::AtMost(limit), Target::TimesAsGood("dagx", dagx), Target::TimesAsGood("dagrs", dagrs)]
    };
    let simple = targets(150e-9, 7.0, 30.0);
    let tangled = targets(250e-9, 20.0, 60.0);
    for (shape, targets) in [
        (Shape::chain(size), &simple),
        (Shape::fan_out(size), &simple),
        (Shape::fan_out(wide), &simple),
        (Shape::layered(side, side), &tangled),
        (Shape::random(wide), &tangled),
    ] {
        let runs = session.pick(1, 20_000usize.div_ceil(shape.len()));
        let shape = &shape;
        let contenders: Vec<_> = ways
            .iter()
            .map(|&(name, timed)| Contender::new(name, move || timed(&RUNTIME, shape, runs)))
            .collect();
        Measured {
            what: format!("run {}, CPU a step", shape.name),
            figure: Figure::TimeFor(runs * shape.len()),
            rounds: 7,
            repetitions: 3,
            targets: targets.clone(),
        }
        .print(session, &contenders);
    }
}

fn store(session: &Session) {
    let steps = session.pick(10, 1_000);
    let shape = Shape::chain(steps);
    let contenders = [
        durable(&shape, Durability::Process),
        bare_log(steps, Commit::Write),
        #[cfg(feature = "peers")]
        Contender::new("durare", || {
            swarm_benches::peers::durare::chain(&RUNTIME, scratch(SCRATCH).path(), steps)
        }),
    ];
    Measured {
        what: format!("file store, process durability, {}, a step", shape.name),
        figure: Figure::TimeFor(steps),
        rounds: 7,
        repetitions: 3,
        targets: vec![Target::AtMost(5e-6), Target::TimesAsGood("durare", 20.0)],
    }
    .print(session, &contenders);
}

fn power(session: &Session) {
    let shape = Shape::chains(64, session.pick(1, 64));
    let steps = shape.len();
    let contenders = [
        durable(&shape, Durability::Power),
        bare_log(steps, Commit::Sync(64)),
        #[cfg(feature = "peers")]
        Contender::new("redb", move || {
            use swarm_benches::peers::redb;
            let folder = scratch(SCRATCH);
            let database = redb::create(&folder.path().join("redb"));
            let spent = wall(|| redb::append(&database, steps, 64));
            assert_eq!(redb::len(&database), steps as u64);
            spent
        }),
    ];
    Measured {
        what: "file store, power durability, 64 in flight, steps".to_owned(),
        figure: Figure::RateOf(steps),
        rounds: 7,
        repetitions: 3,
        targets: vec![Target::TimesAsGood("bare log", 0.5)],
    }
    .print(session, &contenders);

    let shape = Shape::chain(session.pick(2, 200));
    let steps = shape.len();
    Measured {
        what: "file store, power durability, 1 in flight, steps".to_owned(),
        figure: Figure::RateOf(steps),
        rounds: 11,
        repetitions: 1,
        targets: vec![Target::TimesAsGood("bare log", 0.8)],
    }
    .print(session, &[durable(&shape, Durability::Power), bare_log(steps, Commit::Sync(1))]);
}

fn durable(shape: &Shape, durability: Durability) -> Contender<'_> {
    Contender::new("ours", move || ours::durable(&RUNTIME, scratch(SCRATCH).path(), shape, durability))
}

fn bare_log<'a>(records: usize, commit: Commit) -> Contender<'a> {
    Contender::new("bare log", move || {
        let folder = scratch(SCRATCH);
        wall(|| log::append(&folder.path().join("log"), records, commit))
    })
}

fn recover(session: &Session) {
    let steps = session.pick(10, 100_000);
    let contenders = [
        Contender::new("ours", move || {
            let folder = scratch(SCRATCH);
            Recorded::record(&RUNTIME, folder.path(), steps).recover(&RUNTIME)
        }),
        Contender::new("bare log", move || {
            let folder = scratch(SCRATCH);
            let path = folder.path().join("log");
            log::append(&path, steps, Commit::Write);
            let (spent, records) = timed(|| log::read(&path));
            assert_eq!(records.len(), steps);
            spent
        }),
    ];
    Measured {
        what: format!("recover a {}-step log", count(steps)),
        figure: Figure::TimeFor(1),
        rounds: 5,
        repetitions: 1,
        targets: vec![Target::AtMost(1.0)],
    }
    .print(session, &contenders);
}

/// Schedules are computed, not timed: the figures are the same in every run.
fn makespan(session: &Session) {
    if matches!(session, Session::Repetition { .. }) {
        return;
    }
    let folder = suites().join("wfcommons");
    if !folder.is_dir() {
        println!("\nmakespan LEFT OUT: no recorded workflows at {}, set SWARM_SUITES\n", folder.display());
        return;
    }
    let mut schedules = Vec::new();
    for trace in Trace::read_folder(&folder).unwrap() {
        for workers in [4, 16, 64] {
            let bound = lower_bound(&trace, workers) as f64;
            schedules.push(Schedules {
                ours: ours::makespan(&trace, workers) as f64 / bound,
                barriers: layer_barriers(&trace, workers) as f64 / bound,
                fifo: fifo(&trace, workers) as f64 / bound,
            });
        }
    }
    assert!(!schedules.is_empty(), "no trace in {}", folder.display());
    let contested: Vec<_> = schedules.iter().copied().filter(|way| way.fifo > 1.001).collect();
    for (which, of, schedules, targets) in [
        ("median", median as fn(Vec<f64>) -> f64, &schedules, vec![Target::AtMost(1.05)]),
        ("median where FIFO misses it", median, &contested, vec![]),
        ("worst", worst, &schedules, vec![]),
    ] {
        let row = Row {
            what: format!("makespan over the bound, {which}, {} schedules", schedules.len()),
            unit: Unit::Factor,
            ours: Some(of(schedules.iter().map(|way| way.ours).collect())),
            peers: vec![
                ("barriers", of(schedules.iter().map(|way| way.barriers).collect())),
                ("FIFO", of(schedules.iter().map(|way| way.fifo).collect())),
            ],
            targets,
        };
        println!("{row}");
    }
    let over_fifo = schedules.iter().map(|way| way.ours / way.fifo);
    let row = Row {
        what: "makespan over FIFO's, worst".to_owned(),
        unit: Unit::Factor,
        ours: Some(worst(over_fifo.collect())),
        peers: vec![],
        targets: vec![Target::AtMost(1.01)],
    };
    println!("{row}");
}

/// Makespans over the bound.
#[derive(Clone, Copy)]
struct Schedules {
    ours: f64,
    barriers: f64,
    fifo: f64,
}

fn worst(values: Vec<f64>) -> f64 {
    values.into_iter().fold(f64::NEG_INFINITY, f64::max)
}

/// A row that takes time to fill.
struct Measured {
    what: String,
    figure: Figure,
    rounds: usize,
    repetitions: usize,
    targets: Vec<Target>,
}

/// How a time becomes a row's figure.
#[derive(Clone, Copy)]
enum Figure {
    TimeFor(usize),
    RateOf(usize),
}

impl Measured {
    /// Measures the contenders, ours first, and prints the row.
    fn print(self, session: &Session, contenders: &[Contender<'_>]) {
        let times = session.measure(&self.what, self.rounds, self.repetitions, contenders);
        let Some((ours, peers)) = times.split_first() else { return };
        let figure = |time: Duration| match self.figure {
            Figure::TimeFor(n) => time.as_secs_f64() / n as f64,
            Figure::RateOf(n) => n as f64 / time.as_secs_f64(),
        };
        let row = Row {
            what: self.what,
            unit: match self.figure {
                Figure::TimeFor(_) => Unit::Seconds,
                Figure::RateOf(_) => Unit::PerSecond,
            },
            ours: Some(figure(ours.1)),
            peers: peers.iter().map(|&(name, time)| (name, figure(time))).collect(),
            // Tiny sizes say nothing about a target.
            targets: session.pick(vec![], self.targets),
        };
        println!("{row}");
    }
}
