use std::collections::{HashMap, HashSet};
use std::time::Duration;

use swarm_pipeline::testing::{SimEngine, SimReport, Witness};
use swarm_pipeline::*;

/// splitmix64, so that a seed says everything.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn once_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

struct Case {
    pipeline: Pipeline,
    signals: Vec<String>,
    /// Names of the steps with an undo, and of those whose only input is optional.
    undo: HashSet<String>,
    optional: HashSet<String>,
    limit: u32,
}

/// A random DAG with every kind of step, over integers.
fn case(chance: &mut Chance) -> Case {
    let mut p = Pipeline::builder("random");
    let limit = if chance.once_in(2) { u32::MAX } else { 1 + chance.below(4) as u32 };
    p.concurrency(limit);
    p.group("two", 2);
    if chance.once_in(3) {
        p.on_failure(OnFailure::CarryOn);
    }
    let mut case = Case {
        pipeline: Pipeline::builder("none").build().unwrap(),
        signals: Vec::new(),
        undo: HashSet::new(),
        optional: HashSet::new(),
        limit,
    };
    let mut done: Vec<Handle<u64>> = Vec::new();
    let count = 1 + chance.below(24) as u32;
    for step in 0..count {
        let name = format!("s{step}");
        let inputs: Vec<Handle<u64>> = match done.len() as u64 {
            0 => Vec::new(),
            known => (0..chance.below(4)).map(|_| done[chance.below(known) as usize]).collect(),
        };
        if chance.once_in(12) {
            case.signals.push(name.clone());
            done.push(p.step(name).input(inputs).wait_for_signal());
            continue;
        }
        if let (Some(first), true) = (inputs.first(), chance.once_in(9)) {
            case.optional.insert(name.clone());
            let plus = |n: Option<std::sync::Arc<u64>>| n.map_or(0, |n| *n);
            done.push(p.step(name).input(first.optional()).run(move |_cx, n| async move { Ok(plus(n)) }));
            continue;
        }
        if chance.once_in(9) {
            let items = chance.below(5);
            let list = p
                .step(format!("{name}-list"))
                .input(inputs)
                .run(move |_cx, _| async move { Ok((0..items).collect::<Vec<u64>>()) });
            let undo = chance.once_in(2);
            if undo {
                case.undo.insert(format!("{name}-each"));
            }
            let mut each =
                p.step::<u64>(format!("{name}-each")).input(&list).retry(Retry::fixed(2, Duration::ZERO));
            if undo {
                each = each.compensate(|_cx, _| async { Ok(()) });
            }
            let each = each.run_each(|_cx, n| async move { Ok(n) });
            done.push(
                p.step(name).input(&each).run(|_cx, all| async move { Ok(all.iter().map(|n| **n).sum()) }),
            );
            continue;
        }
        let undo = chance.once_in(2);
        if undo {
            case.undo.insert(name.clone());
        }
        let mut builder = p.step::<u64>(name).input(inputs).priority(chance.below(3) as i32);
        if chance.once_in(3) {
            builder = builder.retry(Retry::exponential(1 + chance.below(3) as u32));
        }
        if undo {
            builder = builder.compensate(|_cx, _| async { Ok(()) });
        }
        if chance.once_in(4) {
            builder = builder.group("two");
        }
        if chance.once_in(15) {
            builder = builder.when(|_| false);
        }
        if chance.once_in(15) {
            builder = builder.gate(Gate::at_most("never", 0.0, |n: &u64| *n as f64));
        }
        if chance.once_in(10) {
            builder = builder.total_timeout(Duration::from_millis(900));
        }
        done.push(builder.run(|_cx, all| async move { Ok(all.iter().map(|n| **n).sum::<u64>() + 1) }));
    }
    case.pipeline = p.build().unwrap();
    case
}

fn check(case: &Case, sim: &SimReport) -> Result<(), String> {
    let graph = case.pipeline.graph();
    let mut recorded: HashSet<(u32, Option<u32>)> = HashSet::new();
    let mut attempts: HashSet<(u32, Option<u32>, u32, bool)> = HashSet::new();
    let mut began: HashSet<u32> = HashSet::new();
    let mut undone: HashSet<(u32, Option<u32>)> = HashSet::new();
    let mut open: HashMap<(u32, Option<u32>), ()> = HashMap::new();
    let whole = |recorded: &HashSet<(u32, Option<u32>)>, step: u32| {
        recorded.contains(&(step, None)) || graph.name(step).ends_with("-each")
    };
    for event in &sim.witness {
        match *event {
            Witness::Began { step, item, attempt } => {
                if recorded.contains(&(step, item)) {
                    return Err(format!("{} ran again after it was recorded", graph.name(step)));
                }
                if !attempts.insert((step, item, attempt, false)) {
                    return Err(format!("{} was dispatched twice for attempt {attempt}", graph.name(step)));
                }
                for dependency in graph.dependencies(step) {
                    let name = graph.name(*dependency);
                    let waits = case.signals.iter().any(|signal| signal == name);
                    let optional = case.optional.contains(graph.name(step));
                    if !whole(&recorded, *dependency) && !waits && !optional {
                        return Err(format!("{} began before {name} was recorded", graph.name(step)));
                    }
                }
                began.insert(step);
                open.insert((step, item), ());
                if open.len() > case.limit as usize {
                    return Err("more attempts at once than allowed".to_owned());
                }
            }
            Witness::Recorded { step, item } => {
                open.remove(&(step, item));
                recorded.insert((step, item));
            }
            Witness::UndoBegan { step, item, attempt } => {
                if undone.contains(&(step, item)) {
                    return Err(format!("{} was undone twice", graph.name(step)));
                }
                if !attempts.insert((step, item, attempt, true)) {
                    return Err(format!("the undo of {} was dispatched twice", graph.name(step)));
                }
                let mut later = graph.dependents(step).to_vec();
                while let Some(dependent) = later.pop() {
                    let pending = sim
                        .witness
                        .iter()
                        .any(|other| matches!(other, Witness::UndoBegan { step, .. } if *step == dependent));
                    let done = undone.iter().any(|(undone, _)| *undone == dependent);
                    if pending && !done {
                        return Err(format!(
                            "{} was undone before {}",
                            graph.name(step),
                            graph.name(dependent)
                        ));
                    }
                    later.extend(graph.dependents(dependent));
                }
            }
            Witness::UndoRecorded { step, item } => {
                undone.insert((step, item));
            }
            // What was under way is gone.
            Witness::Crashed => open.clear(),
            _ => {}
        }
        // A failed attempt is not in the witness, so that an attempt count is only known to fall with the next start.
        if let Witness::Began { .. } = event {
            open.clear();
        }
    }
    let report = &sim.report;
    match report.status() {
        RunStatus::Succeeded => {
            for step in report.steps() {
                let fine = matches!(step.status, StepStatus::Succeeded | StepStatus::Skipped);
                if !fine {
                    return Err(format!("the run succeeded without {}", step.name));
                }
            }
        }
        RunStatus::Failed | RunStatus::Cancelled => {
            for step in &began {
                let undo = report.step(graph.name(*step)).unwrap().undo;
                if case.undo.contains(graph.name(*step)) && undo != Some(UndoState::Done) {
                    return Err(format!("{} was not undone", graph.name(*step)));
                }
            }
            if report.steps().iter().any(|step| step.undo.is_some_and(|undo| undo != UndoState::Done)) {
                return Err("an undo is left over".to_owned());
            }
        }
        RunStatus::Stuck if !report.stuck().is_empty() => {}
        RunStatus::Suspended => return Err("suspended though every signal was sent".to_owned()),
        other => return Err(format!("the run ended {other}")),
    }
    Ok(())
}

#[test]
fn random_runs_keep_every_promise_under_crashes_cancels_and_signals() {
    let usual = if std::env::var_os("SWARM_LONG").is_some() { 10_000 } else { 1_000 };
    let runs: u64 = std::env::var("SWARM_SIMULATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    let first: u64 = std::env::var("SWARM_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut ended: HashMap<RunStatus, u64> = HashMap::new();
    let (mut crashes, mut recorded) = (0, 0);
    for seed in first..first + runs {
        let mut chance = Chance(seed);
        let case = case(&mut chance);
        let mut sim = SimEngine::new(seed).crash_rate([0.0, 0.02, 0.2, 0.5][chance.below(4) as usize]);
        let failing = [0, 5, 30][chance.below(3) as usize];
        let salt = chance.next();
        sim = sim.failure(move |attempt| {
            // One undo in forty fails at every attempt, so that the run gets stuck.
            let stuck = attempt.undo && salt.wrapping_add(attempt.step.len() as u64).is_multiple_of(40);
            let mut chance = Chance(salt ^ u64::from(attempt.attempt) << 32);
            attempt.step.bytes().for_each(|byte| chance.0 = chance.next() ^ u64::from(byte));
            chance.0 ^= u64::from(attempt.item.unwrap_or(99));
            let rate = if attempt.undo { failing / 3 } else { failing };
            stuck || chance.below(100) < rate
        });
        for signal in &case.signals {
            sim = sim.signal_at(Duration::from_millis(chance.below(8_000)), signal, 5_u64).unwrap();
        }
        if chance.once_in(6) {
            sim = sim.cancel_at(Duration::from_millis(chance.below(10_000)));
        }
        let sim = sim.run(&case.pipeline).unwrap_or_else(|error| panic!("SWARM_SEED={seed}: {error:?}"));
        if let Err(broken) = check(&case, &sim) {
            panic!("SWARM_SEED={seed} SWARM_SIMULATIONS=1: {broken}\n{}\n{:?}", sim.report, sim.witness);
        }
        crashes += u64::from(sim.crashes);
        recorded += sim.witness.iter().filter(|event| matches!(event, Witness::Recorded { .. })).count();
        *ended.entry(sim.report.status()).or_default() += 1;
    }
    eprintln!(
        "{runs} simulations from seed {first}: {ended:?}, {crashes} crashes, {recorded} results recorded"
    );
    if runs >= 1_000 {
        assert!(crashes > runs && recorded as u64 > runs * 3, "the simulations did too little");
        for status in [RunStatus::Succeeded, RunStatus::Failed, RunStatus::Cancelled, RunStatus::Stuck] {
            assert!(ended.get(&status).is_some_and(|runs| *runs > 5), "no run ended {status}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let case = case(&mut Chance(3));
        let sim = SimEngine::new(seed).crash_rate(0.1).run(&case.pipeline).unwrap();
        (format!("{:?}", sim.witness), sim.makespan)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}
