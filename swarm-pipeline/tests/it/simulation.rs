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

/// What becomes of a run besides crashes and failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// One definition, and no operator.
    Alone,
    /// Restarts from anywhere, other definitions and policies, and going on after failures.
    Restarts,
    /// The same without restarts.
    Changes,
    /// The same without other definitions.
    Tunes,
}

impl Kind {
    const ALL: [Kind; 6] =
        [Kind::Alone, Kind::Alone, Kind::Alone, Kind::Restarts, Kind::Changes, Kind::Tunes];
}

/// In what a pipeline differs from the one that its run was begun with.
#[derive(Debug, Clone, Copy)]
struct Variant {
    kind: Kind,
    /// Decides which steps have another version, and do something else. 0: none.
    changed: u64,
    /// Decides on other limits, retries and what a failure does. 0: as it was.
    tuned: u64,
}

struct Case {
    pipeline: Pipeline,
    signals: Vec<String>,
    /// Names of the steps with an undo, of those whose only input is optional, and of those in the group of two.
    undo: HashSet<String>,
    optional: HashSet<String>,
    grouped: HashSet<String>,
    /// Of those that are skipped whenever they are reached.
    skipped: HashSet<String>,
    /// Of those that are not as they were at first.
    changed: HashSet<String>,
    /// How long the lists are.
    items: HashMap<String, u32>,
    limit: u32,
}

const GROUP: usize = 2;

/// A random DAG with every kind of step, over integers. The same seed gives the same steps, but for `variant`.
fn case(seed: u64, variant: Variant) -> Case {
    let chance = &mut Chance(seed);
    let (mut change, mut tune) = (Chance(variant.changed), Chance(variant.tuned));
    let mut p = Pipeline::builder("random");
    let limit = |chance: &mut Chance| if chance.once_in(2) { u32::MAX } else { 1 + chance.below(4) as u32 };
    let mut case = Case {
        pipeline: Pipeline::builder("none").build().unwrap(),
        signals: Vec::new(),
        undo: HashSet::new(),
        optional: HashSet::new(),
        grouped: HashSet::new(),
        skipped: HashSet::new(),
        changed: HashSet::new(),
        items: HashMap::new(),
        limit: limit(chance),
    };
    let mut carry_on = chance.once_in(3);
    if variant.tuned != 0 {
        (case.limit, carry_on) = (limit(&mut tune), tune.once_in(2));
    }
    p.concurrency(case.limit);
    p.group("two", GROUP as u32);
    if carry_on {
        p.on_failure(OnFailure::CarryOn);
    }
    // The version of a step, and what it adds to its output.
    let mut version = |name: &str, changed: &mut HashSet<String>| {
        if variant.changed != 0 && change.once_in(6) {
            changed.insert(name.to_owned());
            let more = 100 + change.below(900);
            return (more.to_string(), more);
        }
        (String::new(), 0)
    };
    // A step that the pipeline did not have at first, and whether the step after it is to wait for it.
    let mut additions = Chance(!variant.changed);
    let mut add = |p: &mut PipelineBuilder, case: &mut Case, at: u32, done: &[Handle<u64>]| {
        let chance = &mut additions;
        if variant.changed == 0 || !chance.once_in(6) {
            return None;
        }
        let name = format!("added{at}");
        case.changed.insert(name.clone());
        let known = done.len() as u64;
        let inputs = Vec::from_iter(
            (0..chance.below(3)).filter(|_| known > 0).map(|_| done[chance.below(known) as usize]),
        );
        // Under the same name it does something else each time, but is undone or skipped each time.
        let same = &mut Chance(seed ^ u64::from(at));
        let mut builder = p.step::<u64>(name.clone()).version(variant.changed.to_string()).input(inputs);
        if same.once_in(2) {
            builder = builder.compensate(|_cx, _| async { Ok(()) });
            case.undo.insert(name.clone());
        }
        if same.once_in(8) {
            builder = builder.when(|_| false);
            case.skipped.insert(name);
        }
        let more = chance.below(1_000);
        let added =
            builder.run(move |_cx, all| async move { Ok(all.iter().map(|n| **n).sum::<u64>() + more) });
        Some((added, chance.once_in(2)))
    };
    let mut done: Vec<Handle<u64>> = Vec::new();
    let count = 1 + chance.below(24) as u32;
    for step in 0..count {
        let name = format!("s{step}");
        let inputs: Vec<usize> = match done.len() as u64 {
            0 => Vec::new(),
            known => (0..chance.below(4)).map(|_| chance.below(known) as usize).collect(),
        };
        let mut inputs: Vec<Handle<u64>> = inputs.into_iter().map(|input| done[input]).collect();
        let first = inputs.first().copied();
        let added = add(&mut p, &mut case, step, &done);
        let gained = added.filter(|(_, goes_in)| *goes_in).map(|(added, _)| added);
        inputs.extend(gained);
        if chance.once_in(12) {
            case.signals.push(name.clone());
            case.changed.extend(gained.map(|_| name.clone()));
            done.push(p.step(name).input(inputs).wait_for_signal());
            continue;
        }
        if let (Some(first), true) = (first, chance.once_in(9)) {
            case.optional.insert(name.clone());
            let (version, more) = version(&name, &mut case.changed);
            let plus = move |n: Option<std::sync::Arc<u64>>| n.map_or(0, |n| *n) + more;
            let builder = p.step(name).version(version).input(first.optional());
            done.push(builder.run(move |_cx, n| async move { Ok(plus(n)) }));
            continue;
        }
        if chance.once_in(9) {
            let (list_version, more) = version(&format!("{name}-list"), &mut case.changed);
            case.changed.extend(gained.map(|_| format!("{name}-list")));
            // Shorter or longer in another version.
            let items = (chance.below(5) + more) % 5;
            case.items.insert(format!("{name}-each"), items as u32);
            let list = p
                .step(format!("{name}-list"))
                .version(list_version)
                .input(inputs)
                .run(move |_cx, _| async move { Ok((0..items).collect::<Vec<u64>>()) });
            let undo = chance.once_in(2);
            if undo {
                case.undo.insert(format!("{name}-each"));
            }
            let (each_version, more) = version(&format!("{name}-each"), &mut case.changed);
            let mut each = p
                .step::<u64>(format!("{name}-each"))
                .version(each_version)
                .input(&list)
                .retry(Retry::fixed(2, Duration::ZERO));
            if undo {
                each = each.compensate(|_cx, _| async { Ok(()) });
            }
            let each = each.run_each(move |_cx, n| async move { Ok(n + more) });
            done.push(
                p.step(name).input(&each).run(|_cx, all| async move { Ok(all.iter().map(|n| **n).sum()) }),
            );
            continue;
        }
        case.changed.extend(gained.map(|_| name.clone()));
        let undo = chance.once_in(2);
        if undo {
            case.undo.insert(name.clone());
        }
        let (version, more) = version(&name, &mut case.changed);
        let mut builder =
            p.step::<u64>(name.clone()).version(version).input(inputs).priority(chance.below(3) as i32);
        let mut retry = chance.once_in(3).then(|| Retry::exponential(1 + chance.below(3) as u32));
        if variant.tuned != 0 && tune.once_in(2) {
            retry = Some(Retry::fixed(1 + tune.below(4) as u32, Duration::from_millis(tune.below(300))));
        }
        if let Some(retry) = retry {
            builder = builder.retry(retry);
        }
        if undo {
            builder = builder.compensate(|_cx, _| async { Ok(()) });
        }
        if chance.once_in(4) {
            builder = builder.group("two");
            case.grouped.insert(name.clone());
        }
        if chance.once_in(15) {
            builder = builder.when(|_| false);
            case.skipped.insert(name);
        }
        if chance.once_in(15) {
            builder = builder.gate(Gate::at_most("never", 0.0, |n: &u64| *n as f64));
        }
        if chance.once_in(10) {
            builder = builder.total_timeout(Duration::from_millis(900));
        }
        done.push(
            builder.run(move |_cx, all| async move { Ok(all.iter().map(|n| **n).sum::<u64>() + 1 + more) }),
        );
    }
    add(&mut p, &mut case, count, &done);
    case.pipeline = p.build().unwrap();
    let graph = case.pipeline.graph();
    // In the order of the graph's numbers dependencies come first.
    for step in 0..case.pipeline.len() as u32 {
        let name = graph.name(step);
        let is_skipped = |dependency: &u32| case.skipped.contains(graph.name(*dependency));
        if !case.optional.contains(name) && graph.dependencies(step).iter().any(is_skipped) {
            case.skipped.insert(name.to_owned());
        }
    }
    case
}

/// What the driver that takes a run over wants of it.
#[derive(Debug, Clone)]
struct Takeover {
    variant: Variant,
    rerun: bool,
    retry_failed: bool,
    restart_from: Option<String>,
}

impl Takeover {
    fn options(&self) -> RunOptions {
        let mut options = RunOptions::new();
        if self.rerun {
            options = options.on_change(OnChange::Rerun);
        }
        if self.retry_failed {
            options = options.retry_failed();
        }
        match &self.restart_from {
            Some(step) => options.restart_from(step),
            None => options,
        }
    }
}

/// What has really happened so far.
#[derive(Default)]
struct Seen {
    recorded: HashSet<(u32, Option<u32>)>,
    attempts: HashSet<(u32, Option<u32>, u32, bool)>,
    /// What began and was not undone since.
    traces: HashSet<(u32, Option<u32>)>,
    undone: HashSet<(u32, Option<u32>)>,
    /// What is under way.
    open: HashSet<(u32, Option<u32>)>,
    open_undos: HashSet<(u32, Option<u32>)>,
    /// How many items fan-out steps have, by the list that stands.
    items: HashMap<u32, u32>,
}

impl Seen {
    /// Whether all of the step is recorded.
    fn is_done(&self, case: &Case, step: u32) -> bool {
        if !case.items.contains_key(case.pipeline.graph().name(step)) {
            return self.recorded.contains(&(step, None));
        }
        let is_done = |item| self.recorded.contains(&(step, Some(item)));
        self.items.get(&step).is_some_and(|items| (0..*items).all(is_done))
    }

    /// Numbers steps as the new graph does, and forgets those that it does not have.
    fn renumber(&mut self, old: &Graph, new: &Graph) {
        fn all<T: Eq + std::hash::Hash>(set: &mut HashSet<T>, to: impl Fn(T) -> Option<T>) {
            *set = std::mem::take(set).into_iter().filter_map(to).collect();
        }
        let to = |step: u32| new.find(old.name(step));
        let of = |(step, item)| Some((to(step)?, item));
        all(&mut self.attempts, |(step, item, attempt, undo)| Some((to(step)?, item, attempt, undo)));
        for set in [&mut self.recorded, &mut self.traces, &mut self.undone] {
            all(set, of);
        }
        self.items = self.items.drain().filter_map(|(step, items)| Some((to(step)?, items))).collect();
    }

    fn count(of: &HashSet<(u32, Option<u32>)>, case: &Case, group: bool) -> usize {
        let graph = case.pipeline.graph();
        of.iter().filter(|(step, _)| !group || case.grouped.contains(graph.name(*step))).count()
    }
}

fn downstream(graph: &Graph, steps: impl IntoIterator<Item = u32>) -> HashSet<u32> {
    let (mut found, mut stack) = (HashSet::new(), steps.into_iter().collect::<Vec<_>>());
    while let Some(step) = stack.pop() {
        if found.insert(step) {
            stack.extend(graph.dependents(step));
        }
    }
    found
}

/// The cases are that of the beginning and those of the takeovers.
fn check(cases: &[Case], takeovers: &[Takeover], sim: &SimReport) -> Result<(), String> {
    let mut case = &cases[0];
    let mut seen = Seen::default();
    // What the last takeover may put back.
    let mut may_go = HashSet::new();
    for (at, event) in sim.witness.iter().enumerate() {
        let graph = case.pipeline.graph();
        match *event {
            Witness::Began { step, item, attempt } => {
                let name = graph.name(step);
                if seen.recorded.contains(&(step, item)) {
                    return Err(format!("{name} ran again after it was recorded"));
                }
                if !seen.attempts.insert((step, item, attempt, false)) {
                    return Err(format!("{name} was dispatched twice for attempt {attempt}"));
                }
                if case.skipped.contains(name) {
                    return Err(format!("{name} began, which is to be skipped"));
                }
                for &dependency in graph.dependencies(step) {
                    let before = graph.name(dependency);
                    let left_out = case.optional.contains(name) && case.skipped.contains(before);
                    if !left_out && !seen.is_done(case, dependency) {
                        return Err(format!("{name} began before {before} was recorded"));
                    }
                }
                seen.traces.insert((step, item));
                seen.undone.remove(&(step, item));
                seen.open.insert((step, item));
                if Seen::count(&seen.open, case, false) > case.limit as usize {
                    return Err("more attempts at once than allowed".to_owned());
                }
                if Seen::count(&seen.open, case, true) > GROUP {
                    return Err("more attempts of the group at once than allowed".to_owned());
                }
            }
            Witness::Recorded { step, item } => {
                seen.open.remove(&(step, item));
                seen.recorded.insert((step, item));
                for &dependent in graph.dependents(step) {
                    let items = case.items.get(graph.name(dependent));
                    seen.items.extend(items.map(|items| (dependent, *items)));
                }
            }
            Witness::Failed { step, item } => {
                seen.open.remove(&(step, item));
            }
            Witness::UndoBegan { step, item, attempt } => {
                let name = graph.name(step);
                if seen.undone.contains(&(step, item)) {
                    return Err(format!("{name} was undone twice"));
                }
                if !seen.attempts.insert((step, item, attempt, true)) {
                    return Err(format!("the undo of {name} was dispatched twice"));
                }
                let mut later = downstream(graph, [step]);
                later.remove(&step);
                let left = seen
                    .traces
                    .iter()
                    .map(|(left, _)| left)
                    .find(|left| later.contains(left) && case.undo.contains(graph.name(**left)));
                if let Some(left) = left {
                    return Err(format!("{name} was undone before {}", graph.name(*left)));
                }
                seen.open_undos.insert((step, item));
                if Seen::count(&seen.open_undos, case, false) > case.limit as usize {
                    return Err("more undos at once than allowed".to_owned());
                }
            }
            Witness::UndoRecorded { step, item } => {
                seen.open_undos.remove(&(step, item));
                seen.undone.insert((step, item));
                seen.traces.remove(&(step, item));
            }
            Witness::UndoFailed { step, item } => {
                seen.open_undos.remove(&(step, item));
            }
            // What was under way is gone.
            Witness::Crashed => {
                seen.open.clear();
                seen.open_undos.clear();
            }
            Witness::TakenOver { takeover, accepted } => {
                let takeover_at = takeover as usize;
                let takeover = &takeovers[takeover_at];
                may_go.clear();
                if !accepted {
                    let any_change = takeovers.iter().any(|takeover| takeover.variant.changed != 0);
                    if takeover.restart_from.is_none() && !any_change {
                        return Err(format!("takeover {takeover_at} was refused"));
                    }
                    continue;
                }
                case = &cases[takeover_at + 1];
                let old = graph;
                let graph = case.pipeline.graph();
                seen.renumber(old, graph);
                // What changed since whichever definition was in force.
                if takeover.rerun {
                    let changed = cases.iter().flat_map(|case| &case.changed);
                    may_go.extend(changed.filter_map(|name| graph.find(name)));
                }
                let restart = takeover.restart_from.as_ref().map(|step| graph.find(step).unwrap());
                may_go.extend(restart);
                if takeover.retry_failed || restart.is_some() {
                    may_go.extend(seen.undone.iter().map(|(step, _)| *step));
                }
                if takeover.retry_failed {
                    let is_open =
                        |step: &u32| !seen.is_done(case, *step) && !case.skipped.contains(graph.name(*step));
                    may_go.extend((0..case.pipeline.len() as u32).filter(is_open));
                }
                may_go = downstream(graph, may_go);
                // Whatever depends on the step of a restart no longer counts.
                let put_back: HashSet<_> = (sim.witness[at + 1..].iter())
                    .map_while(|event| match event {
                        Witness::PutBack { step, item } => Some((*step, *item)),
                        _ => None,
                    })
                    .collect();
                let must_go = downstream(graph, restart);
                let stays = seen.recorded.iter().find(|of| must_go.contains(&of.0) && !put_back.contains(of));
                if let Some((step, _)) = stays {
                    return Err(format!("{} still counts after the restart", graph.name(*step)));
                }
            }
            Witness::PutBack { step, item } => {
                if !may_go.contains(&step) {
                    return Err(format!("{} was put back without reason", graph.name(step)));
                }
                seen.recorded.remove(&(step, item));
            }
            _ => {}
        }
    }
    let (graph, report) = (case.pipeline.graph(), &sim.report);
    match report.status() {
        RunStatus::Succeeded => {
            for step in report.steps() {
                let fine = matches!(step.status, StepStatus::Succeeded | StepStatus::Skipped);
                if !fine {
                    return Err(format!("the run succeeded without {}", step.name));
                }
            }
            if let Some((step, _)) = seen.undone.intersection(&seen.recorded).next() {
                return Err(format!("the run succeeded with {}, which is undone", graph.name(*step)));
            }
            check_outputs(case, report)?;
        }
        RunStatus::Failed | RunStatus::Cancelled => {
            let left = seen.traces.iter().find(|(step, _)| case.undo.contains(graph.name(*step)));
            if let Some((step, item)) = left {
                return Err(format!("{} {item:?} was not undone", graph.name(*step)));
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

/// The outputs are those of a run that began with the pipeline as it is now, and met with nothing.
fn check_outputs(case: &Case, report: &RunReport) -> Result<(), String> {
    let mut sim = SimEngine::new(0);
    for signal in &case.signals {
        sim = sim.signal_at(Duration::ZERO, signal, SIGNAL).unwrap();
    }
    let expected = sim.run(&case.pipeline).unwrap().report;
    for step in expected.steps() {
        let is_number = !step.name.ends_with("-list") && !step.name.ends_with("-each");
        if step.status == StepStatus::Succeeded && is_number {
            let output =
                |report: &RunReport| report.output_by_name::<u64>(&step.name).map_err(|e| e.to_string());
            let (found, expected) = (output(report)?, output(&expected)?);
            if found != expected {
                return Err(format!("{} answered {found}, and {expected} is right", step.name));
            }
        }
    }
    Ok(())
}

const SIGNAL: u64 = 5;

/// Milliseconds after which every run is over, or suspended.
const OVER: u64 = 10_000_000;

/// Up to three takeovers, by the time they come at.
fn takeovers(chance: &mut Chance, pipeline: &Pipeline, mut variant: Variant) -> Vec<(Duration, Takeover)> {
    let count = if variant.kind == Kind::Alone { 0 } else { 1 + chance.below(3) };
    let mut times: Vec<u64> =
        (0..count).map(|at| if chance.once_in(3) { chance.below(12_000) } else { OVER * (at + 1) }).collect();
    times.sort_unstable();
    let kind = variant.kind;
    let mut takeover = |at| {
        if kind != Kind::Tunes && chance.once_in(2) {
            variant.changed = chance.next() | 1;
        }
        if chance.once_in(2) {
            variant.tuned = chance.next() | 1;
        }
        let step = chance.below(pipeline.len() as u64) as u32;
        let restarts = kind == Kind::Restarts && chance.once_in(2);
        let takeover = Takeover {
            variant,
            rerun: variant.changed != 0,
            retry_failed: chance.once_in(2),
            restart_from: restarts.then(|| pipeline.graph().name(step).to_owned()),
        };
        (Duration::from_millis(at), takeover)
    };
    times.into_iter().map(&mut takeover).collect()
}

#[test]
fn random_runs_keep_every_promise_under_crashes_cancels_signals_and_takeovers() {
    let usual = if std::env::var_os("SWARM_LONG").is_some() { 10_000 } else { 1_000 };
    let runs: u64 = std::env::var("SWARM_SIMULATIONS").ok().and_then(|n| n.parse().ok()).unwrap_or(usual);
    let first: u64 = std::env::var("SWARM_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1);
    let mut ended: HashMap<RunStatus, u64> = HashMap::new();
    let (mut crashes, mut recorded, mut taken_over, mut refused, mut put_back) = (0, 0, 0, 0, 0);
    for seed in first..first + runs {
        let mut chance = Chance(seed);
        let kind = Kind::ALL[chance.below(6) as usize];
        let variant = Variant { kind, changed: 0, tuned: 0 };
        let first = case(seed, variant);
        let takeovers = takeovers(&mut chance, &first.pipeline, variant);
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
        let mut cases = vec![first];
        for (time, takeover) in &takeovers {
            let case = case(seed, takeover.variant);
            sim = sim.take_over_at(*time, &case.pipeline, takeover.options());
            cases.push(case);
        }
        // Sent again after each takeover, for steps that wait for them anew.
        for from in [Duration::ZERO].into_iter().chain(takeovers.iter().map(|(time, _)| *time)) {
            for signal in &cases[0].signals {
                let time = from + Duration::from_millis(1 + chance.below(8_000));
                sim = sim.signal_at(time, signal, SIGNAL).unwrap();
            }
        }
        if chance.once_in(6) {
            sim = sim.cancel_at(Duration::from_millis(chance.below(10_000)));
        }
        let sim = sim.run(&cases[0].pipeline).unwrap_or_else(|error| panic!("SWARM_SEED={seed}: {error:?}"));
        let takeovers: Vec<_> = takeovers.into_iter().map(|(_, takeover)| takeover).collect();
        if let Err(broken) = check(&cases, &takeovers, &sim) {
            panic!(
                "SWARM_SEED={seed} SWARM_SIMULATIONS=1: {broken}\n{}\n{takeovers:?}\n{:?}",
                sim.report, sim.witness
            );
        }
        crashes += u64::from(sim.crashes);
        for event in &sim.witness {
            match event {
                Witness::Recorded { .. } => recorded += 1,
                Witness::TakenOver { accepted: true, .. } => taken_over += 1,
                Witness::TakenOver { .. } => refused += 1,
                Witness::PutBack { .. } => put_back += 1,
                _ => {}
            }
        }
        *ended.entry(sim.report.status()).or_default() += 1;
    }
    eprintln!(
        "{runs} simulations from seed {first}: {ended:?}, {crashes} crashes, {recorded} results recorded, {taken_over} \
         taken over and {refused} refused, {put_back} results put back"
    );
    if runs >= 1_000 {
        assert!(crashes > runs && recorded > runs * 3, "the simulations did too little");
        assert!(taken_over > runs / 2 && put_back > runs, "the takeovers did too little");
        for status in [RunStatus::Succeeded, RunStatus::Failed, RunStatus::Cancelled, RunStatus::Stuck] {
            assert!(ended.get(&status).is_some_and(|runs| *runs > 5), "no run ended {status}");
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = |seed| {
        let case = case(3, Variant { kind: Kind::Alone, changed: 0, tuned: 0 });
        let sim = SimEngine::new(seed).crash_rate(0.1).run(&case.pipeline).unwrap();
        (format!("{:?}", sim.witness), sim.makespan)
    };
    assert_eq!(run(5), run(5));
    assert_ne!(run(5), run(6));
}
