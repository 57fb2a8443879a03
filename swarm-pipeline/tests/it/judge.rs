//! Judges a run that was killed any number of times, by what its steps told the witness.
//!
//! The judge knows nothing of the engine but the graph of the pipeline. The log is looked at for one thing only:
//! whether what was told as recorded is there, and whether what is there was run again.

use std::collections::{HashMap, HashSet};

use swarm_pipeline::{Pipeline, RunEvent, RunEventKind};

use super::victim::{ITEMS, NOT_UNDONE, Scenario};

type Task = (String, Option<u32>);

struct Line {
    what: String,
    task: Task,
    attempt: u32,
    rest: String,
}

/// A promise that was broken, and how.
pub(crate) enum Broken {
    ExecutedAgain(String),
    ResultLost(String),
    Other(String),
}

/// What was judged over many runs.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) runs: usize,
    pub(crate) kills: usize,
    pub(crate) begun: usize,
    pub(crate) acknowledged: usize,
    pub(crate) executed_again: usize,
    pub(crate) lost: usize,
    pub(crate) other: usize,
    /// The first few, to be read.
    pub(crate) samples: Vec<String>,
}

impl Tally {
    pub(crate) fn add(&mut self, name: &str, verdict: Verdict) {
        self.runs += 1;
        self.begun += verdict.begun;
        self.acknowledged += verdict.acknowledged;
        for broken in verdict.broken {
            let (count, what) = match broken {
                Broken::ExecutedAgain(what) => (&mut self.executed_again, what),
                Broken::ResultLost(what) => (&mut self.lost, what),
                Broken::Other(what) => (&mut self.other, what),
            };
            *count += 1;
            if self.samples.len() < 10 {
                self.samples.push(format!("{name}: {what}"));
            }
        }
    }

    pub(crate) fn merge(&mut self, other: Tally) {
        self.runs += other.runs;
        self.kills += other.kills;
        self.begun += other.begun;
        self.acknowledged += other.acknowledged;
        self.executed_again += other.executed_again;
        self.lost += other.lost;
        self.other += other.other;
        self.samples.extend(other.samples);
    }

    pub(crate) fn check(&self) {
        let bad = self.executed_again + self.lost + self.other;
        assert_eq!(bad, 0, "{self}\n{}", self.samples.join("\n"));
        assert!(self.acknowledged >= self.runs * 10, "hardly anything was acknowledged: {self}");
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Tally { runs, kills, begun, acknowledged, executed_again, lost, other, .. } = self;
        write!(
            f,
            "{runs} runs, {kills} kills, {begun} attempts begun, {acknowledged} results acknowledged: \
             {executed_again} executed again, {lost} lost, {other} otherwise wrong"
        )
    }
}

pub(crate) struct Verdict {
    pub(crate) broken: Vec<Broken>,
    begun: usize,
    acknowledged: usize,
}

fn parse(witness: &str) -> Vec<Line> {
    let line = |line: &str| {
        let mut words = line.splitn(6, ' ').skip(1);
        let mut word =
            || words.next().unwrap_or_else(|| panic!("half a line in the witness: {line:?}")).to_owned();
        let (what, step, item, attempt) = (word(), word(), word(), word());
        let rest = word();
        Line { what, task: (step, item.parse().ok()), attempt: attempt.parse().unwrap(), rest }
    };
    witness.lines().map(line).collect()
}

/// What the judge has seen when it reads a line.
#[derive(Default)]
struct Seen {
    /// By task, the value that each attempt made.
    made: HashMap<(Task, u32), String>,
    acked: HashMap<Task, u32>,
    /// Steps of which a dependent has begun.
    used: HashSet<String>,
    begun: HashSet<(Task, u32)>,
    /// By step, what dependents and undos saw of it.
    shown: HashMap<Task, String>,
    undo_begun: HashSet<(Task, u32)>,
    undo_ended: HashSet<Task>,
    undo_acked: HashSet<Task>,
}

/// Judges the whole life of a run that has ended: the witness, and the history as the log tells it in the end.
pub(crate) fn judge(witness: &str, history: &[RunEvent], pipeline: &Pipeline, scenario: Scenario) -> Verdict {
    let lines = parse(witness);
    let graph = pipeline.graph();
    let related = |step: &str, back: bool| -> Vec<String> {
        let step = graph.find(step).unwrap();
        let found = if back { graph.dependencies(step) } else { graph.dependents(step) };
        found.iter().map(|step| graph.name(*step).to_owned()).collect()
    };
    let mut broken = Vec::new();
    let mut seen = Seen::default();
    let mut outputs: HashMap<String, String> = HashMap::new();
    let mut status = None;
    for Line { what, task, attempt, rest } in &lines {
        let (attempt, name) = (*attempt, format!("{task:?}#{attempt}"));
        match what.as_str() {
            "begin" => {
                if let Some(earlier) = seen.acked.get(task) {
                    let why = format!("{name} began though attempt {earlier} was acknowledged");
                    broken.push(Broken::ExecutedAgain(why));
                } else if seen.used.contains(&task.0) {
                    broken.push(Broken::ExecutedAgain(format!("{name} began after what depends on it")));
                }
                if !seen.begun.insert((task.clone(), attempt)) {
                    broken.push(Broken::Other(format!("{name} began twice under one number")));
                }
                if !seen.undo_begun.is_empty() {
                    broken.push(Broken::Other(format!("{name} began after the rollback")));
                }
                let dependencies = related(&task.0, true);
                for word in rest.split(' ').filter(|word| !word.is_empty()) {
                    let (of, value) = word.split_once('=').unwrap();
                    if of != "item" && !dependencies.iter().any(|step| step == of) {
                        broken.push(Broken::Other(format!("{name} saw {of}, which it does not depend on")));
                    }
                    let of = if of == "item" { ("item".to_owned(), task.1) } else { (of.to_owned(), None) };
                    check_same(&mut seen.shown, &mut broken, of, value, &name);
                }
                seen.used.extend(dependencies);
            }
            "end" => drop(seen.made.insert((task.clone(), attempt), rest.clone())),
            "ack" => {
                match seen.made.get(&(task.clone(), attempt)).cloned() {
                    None if task.0 != "nap" => {
                        broken.push(Broken::Other(format!("{name} was acknowledged but did not end")));
                    }
                    // What it made is not its output, but the beginning of each item of it.
                    Some(value) if task.0 != "list" => {
                        check_same(&mut seen.shown, &mut broken, task.clone(), &value, "its acknowledgement");
                    }
                    _ => {}
                }
                if seen.acked.insert(task.clone(), attempt).is_some() {
                    broken.push(Broken::ExecutedAgain(format!("{name} was acknowledged again")));
                }
            }
            "undo-begin" => {
                if seen.undo_acked.contains(task) {
                    broken.push(Broken::ExecutedAgain(format!("the undo of {name} began again")));
                }
                if !seen.undo_begun.insert((task.clone(), attempt)) {
                    broken.push(Broken::Other(format!("the undo of {name} began twice under one number")));
                }
                for dependent in related(&task.0, false) {
                    let open = |(begun, _): &&(Task, u32)| {
                        begun.0 == dependent
                            && !NOT_UNDONE.contains(&&*dependent)
                            && !seen.undo_ended.contains(begun)
                    };
                    if let Some((open, _)) = seen.begun.iter().find(open) {
                        broken.push(Broken::Other(format!("{name} was undone before {open:?}")));
                    }
                }
                if rest != "-" {
                    check_same(&mut seen.shown, &mut broken, task.clone(), rest, "its undo");
                } else if seen.acked.contains_key(task) {
                    broken.push(Broken::ResultLost(format!("the undo of {name} was given no output")));
                }
            }
            "undo-end" => drop(seen.undo_ended.insert(task.clone())),
            "undo-ack" => {
                if !seen.undo_acked.insert(task.clone()) {
                    broken.push(Broken::Other(format!("the undo of {name} was acknowledged again")));
                }
            }
            "over" => status = Some(lines_status(&lines)),
            "output" => drop(outputs.insert(task.0.clone(), rest.clone())),
            "refuse" | "error" => {}
            other => panic!("an unknown word in the witness: {other}"),
        }
    }
    let wanted = scenario.status().to_string();
    if status.as_deref() != Some(&*wanted) {
        broken.push(Broken::Other(format!("the run ended as {status:?}, not {wanted}")));
    }
    judge_end(&mut seen, &mut broken, &outputs, pipeline, scenario);
    judge_log(&seen, &mut broken, history);
    Verdict { broken, begun: seen.begun.len(), acknowledged: seen.acked.len() }
}

fn lines_status(lines: &[Line]) -> String {
    lines.iter().rfind(|line| line.what == "over").map(|line| line.task.0.clone()).unwrap_or_default()
}

fn check_same(shown: &mut HashMap<Task, String>, broken: &mut Vec<Broken>, of: Task, value: &str, by: &str) {
    let known = shown.entry(of.clone()).or_insert_with(|| value.to_owned());
    if known != value {
        broken.push(Broken::ResultLost(format!("{of:?} was {known}, but {by} saw {value}")));
    }
}

/// Nothing is skipped, the outputs are those that were seen, and what was begun is undone if the run failed.
fn judge_end(
    seen: &mut Seen,
    broken: &mut Vec<Broken>,
    outputs: &HashMap<String, String>,
    pipeline: &Pipeline,
    scenario: Scenario,
) {
    let names = (0..pipeline.len() as u32).map(|step| pipeline.graph().name(step).to_owned());
    for step in names {
        let items = (0..ITEMS).map(|item| (step.clone(), Some(item)));
        let tasks: Vec<Task> = if step == "each" { items.collect() } else { vec![(step.clone(), None)] };
        let expected = scenario == Scenario::Succeeds || !matches!(&*step, "publish" | "probe");
        for task in tasks.into_iter().filter(|_| step != "nap") {
            let made = seen.made.keys().any(|(made, _)| *made == task);
            if expected && !made {
                broken.push(Broken::Other(format!("{task:?} was skipped")));
            }
            let begun = seen.begun.iter().any(|(begun, _)| *begun == task);
            if scenario == Scenario::Fails && begun && !seen.undo_ended.contains(&task) {
                broken.push(Broken::Other(format!("{task:?} was begun and never undone")));
            }
        }
        match outputs.get(&step) {
            Some(output) => {
                check_same(&mut seen.shown, broken, (step.clone(), None), output, "the report");
            }
            None if expected => broken.push(Broken::ResultLost(format!("{step} has no output in the end"))),
            None => {}
        }
    }
    if scenario == Scenario::Succeeds && !seen.undo_begun.is_empty() {
        broken.push(Broken::Other("a run that succeeded was rolled back".to_owned()));
    }
    // The items make up the output of the fan-out, in the order of the list.
    let items: Option<Vec<&str>> =
        (0..ITEMS).map(|item| seen.shown.get(&("each".to_owned(), Some(item))).map(String::as_str)).collect();
    if let (Some(items), Some(output)) = (items, outputs.get("each"))
        && items.join("+") != *output
    {
        broken.push(Broken::ResultLost(format!("the items are {items:?}, but their step has {output}")));
    }
}

/// The log holds everything that was begun or acknowledged, each success once, and nothing after it.
fn judge_log(seen: &Seen, broken: &mut Vec<Broken>, history: &[RunEvent]) {
    let (mut started, mut succeeded) = (HashSet::new(), HashMap::new());
    let (mut undo_started, mut undone, mut finished) = (HashSet::new(), HashSet::new(), 0);
    for event in history {
        match &event.kind {
            RunEventKind::StepStarted { step, item, attempt } => {
                let task = (step.clone(), *item);
                if succeeded.contains_key(&task) {
                    broken.push(Broken::ExecutedAgain(format!(
                        "{task:?} started after its success in the log"
                    )));
                }
                started.insert((task, *attempt));
            }
            RunEventKind::StepSucceeded { step, item, attempt } => {
                let earlier = succeeded.insert((step.clone(), *item), *attempt);
                if earlier.is_some() {
                    broken.push(Broken::ExecutedAgain(format!("{step} {item:?} succeeded twice in the log")));
                }
            }
            RunEventKind::UndoStarted { step, item, attempt } => {
                let task = (step.clone(), *item);
                if undone.contains(&task) {
                    broken.push(Broken::ExecutedAgain(format!(
                        "the undo of {task:?} started again in the log"
                    )));
                }
                undo_started.insert((task, *attempt));
            }
            RunEventKind::UndoSucceeded { step, item, .. } => drop(undone.insert((step.clone(), *item))),
            RunEventKind::Finished { .. } => finished += 1,
            _ => {}
        }
    }
    for begun in seen.begun.difference(&started) {
        broken.push(Broken::Other(format!("{begun:?} began before it was recorded")));
    }
    // Who was killed between the record and the first word may have begun, for all one knows, and is undone.
    for (task, _) in &seen.undo_begun {
        if !started.iter().any(|(started, _)| started == task) {
            broken.push(Broken::Other(format!("{task:?} was undone though it never started")));
        }
    }
    for begun in seen.undo_begun.difference(&undo_started) {
        broken.push(Broken::Other(format!("the undo of {begun:?} began before it was recorded")));
    }
    for (task, attempt) in &seen.acked {
        if succeeded.get(task) != Some(attempt) {
            broken.push(Broken::ResultLost(format!(
                "{task:?}#{attempt} was acknowledged but is not in the log"
            )));
        }
    }
    for (task, attempt) in &seen.begun {
        // Recorded counts, acknowledged or not.
        if succeeded.get(task).is_some_and(|done| done < attempt) {
            broken
                .push(Broken::ExecutedAgain(format!("{task:?}#{attempt} began after its recorded success")));
        }
    }
    for task in seen.undo_acked.difference(&undone) {
        broken
            .push(Broken::ResultLost(format!("the undo of {task:?} was acknowledged but is not in the log")));
    }
    if finished != 1 {
        broken.push(Broken::Other(format!("the log ends {finished} times")));
    }
}
