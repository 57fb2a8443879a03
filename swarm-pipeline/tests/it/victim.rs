//! The run that is killed, starved and torn: a pipeline of 12 steps that tell a witness what they do.
//!
//! A line of the witness is `<life> <what> <step> <item> <attempt> <rest>`, written at once. `what` is one of
//!
//! - `begin`, with the inputs that the attempt saw, and `end`, with the value that it made, unique to the attempt;
//! - `undo-begin`, with the output that the undo was given, and `undo-end`;
//! - `ack`, `refuse` and `undo-ack`, written by an observer of the engine once a success, a failure or an undo is told,
//!   and so recorded;
//! - `over`, with the status of the run, and then `output` for each step.

use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use swarm_pipeline::{
    Durability, FileStore, Gate, Handle, LocalEngine, Pipeline, Retry, RunEventKind, RunReport, RunStatus,
    StepContext, StepError,
};

/// The id of the victim's run.
pub(crate) const RUN: &str = "run";

/// The number of items of the fan-out step.
pub(crate) const ITEMS: u32 = 5;

/// The steps that have nothing to undo.
pub(crate) const NOT_UNDONE: [&str; 1] = ["nap"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scenario {
    Succeeds,
    /// The last step but one fails for good, so that everything is rolled back.
    Fails,
}

impl Scenario {
    pub(crate) const ALL: [Scenario; 2] = [Scenario::Succeeds, Scenario::Fails];

    pub(crate) fn status(self) -> RunStatus {
        match self {
            Scenario::Succeeds => RunStatus::Succeeded,
            Scenario::Fails => RunStatus::Failed,
        }
    }
}

/// Keeps what steps say, in a file that outlives the process or in memory. Clones are the same witness.
#[derive(Clone)]
pub(crate) struct Witness {
    sink: Arc<Sink>,
    life: usize,
}

enum Sink {
    File(File),
    Memory(Mutex<String>),
}

impl Witness {
    /// A witness that appends to the file at `path`, in the `life`-th process.
    pub(crate) fn in_file(path: &Path, life: usize) -> Self {
        let file = File::options().append(true).create(true).open(path).unwrap();
        Witness { sink: Arc::new(Sink::File(file)), life }
    }

    pub(crate) fn in_memory() -> Self {
        Witness { sink: Arc::new(Sink::Memory(Mutex::default())), life: 0 }
    }

    /// The same witness, in the next life.
    pub(crate) fn reborn(&self) -> Self {
        Witness { sink: Arc::clone(&self.sink), life: self.life + 1 }
    }

    /// Which process of the run this is.
    pub(crate) fn life(&self) -> usize {
        self.life
    }

    /// What was said in memory.
    pub(crate) fn said(&self) -> String {
        match &*self.sink {
            Sink::File(_) => String::new(),
            Sink::Memory(said) => said.lock().unwrap().clone(),
        }
    }

    pub(crate) fn tell(&self, what: &str, step: &str, item: Option<u32>, attempt: u32, rest: &str) {
        let item = item.map_or_else(|| "-".to_owned(), |item| item.to_string());
        let line = format!("{} {what} {step} {item} {attempt} {rest}\n", self.life);
        match &*self.sink {
            // Appended in one call, so that a kill leaves all of it or nothing.
            Sink::File(file) => {
                let mut file = file;
                // By another call than the log is written with, so that `strace` tells the two apart.
                let written = file.write_vectored(&[IoSlice::new(line.as_bytes())]).unwrap();
                assert_eq!(written, line.len(), "the witness was cut short");
            }
            Sink::Memory(said) => said.lock().unwrap().push_str(&line),
        }
    }

    fn begin(&self, cx: &StepContext, saw: &[(&str, &dyn Shown)]) {
        let saw: Vec<String> = saw.iter().map(|(step, value)| format!("{step}={}", value.shown())).collect();
        self.tell("begin", cx.step(), cx.item(), cx.attempt(), &saw.join(" "));
    }

    fn end(&self, cx: &StepContext) -> String {
        let item = cx.item().map(|item| format!("[{item}]")).unwrap_or_default();
        let value = format!("{}{item}#{}@{}", cx.step(), cx.attempt(), self.life);
        self.tell("end", cx.step(), cx.item(), cx.attempt(), &value);
        value
    }

    /// Writes `ack`, `refuse` and `undo-ack` as the engine tells of them.
    pub(crate) fn observe(&self, engine: &LocalEngine) {
        let witness = self.clone();
        engine.observe(move |event| match &event.kind {
            RunEventKind::StepSucceeded { step, item, attempt } => {
                witness.tell("ack", step, *item, *attempt, "");
            }
            RunEventKind::StepFailed { step, item, attempt, .. } => {
                witness.tell("refuse", step, *item, *attempt, "");
            }
            RunEventKind::UndoSucceeded { step, item, attempt } => {
                witness.tell("undo-ack", step, *item, *attempt, "");
            }
            _ => {}
        });
    }

    /// Writes how the run ended, and what it brought.
    pub(crate) fn over(&self, report: &RunReport) {
        self.tell("over", &report.status().to_string(), None, 0, "");
        for step in report.steps() {
            if let Ok(output) = report.output_by_name::<Value>(&step.name) {
                self.tell("output", &step.name, None, 0, &output.shown());
            }
        }
    }
}

/// An output as the witness writes it: in one word.
pub(crate) trait Shown {
    fn shown(&self) -> String;
}

impl<T: serde::Serialize> Shown for T {
    fn shown(&self) -> String {
        match serde_json::to_value(self).unwrap() {
            // What follows the first word is ballast.
            Value::String(text) => text.split(' ').next().unwrap_or_default().to_owned(),
            Value::Array(items) => items.iter().map(Shown::shown).collect::<Vec<_>>().join("+"),
            Value::Object(fields) => fields["value"].shown(),
            other => other.to_string(),
        }
    }
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Scored {
    value: String,
    score: f64,
}

/// Longer than an output that is kept in the log.
pub(crate) const BALLAST: usize = 257 * 1024;

/// The victim. `lint` and an item fail at first, a gate refuses the first `audit`, the undo of `lint` fails at first.
pub(crate) fn pipeline(witness: &Witness, scenario: Scenario) -> Pipeline {
    pipeline_with(witness, scenario, BALLAST, false)
}

/// The same pipeline with another amount of `ballast` in the output of `pack`, and a `pack` that holds the run up until
/// the standard input ends.
pub(crate) fn pipeline_with(witness: &Witness, scenario: Scenario, ballast: usize, hold: bool) -> Pipeline {
    let soon = Retry::fixed(3, Duration::from_micros(200));
    let mut p = Pipeline::builder("victim");
    let w = witness.clone();
    let fetch = p.step("fetch").compensate(undo(&w)).run(move |cx, ()| {
        w.begin(&cx, &[]);
        let value = w.end(&cx);
        async { Ok(value) }
    });
    let w = witness.clone();
    let lint = p
        .step("lint")
        .input(&fetch)
        .retry(soon.clone())
        .compensate_retry(soon.clone())
        .compensate(undo(&w))
        .run(move |cx, fetch| {
            w.begin(&cx, &[("fetch", &*fetch)]);
            let result = if cx.attempt() == 1 { Err(StepError::new("at first")) } else { Ok(w.end(&cx)) };
            async { result }
        });
    let w = witness.clone();
    let pack =
        p.step("pack").input(&fetch).compensate(undo(&w)).run_blocking(move |cx, fetch: Arc<String>| {
            w.begin(&cx, &[("fetch", &*fetch)]);
            if hold {
                std::io::stdout().write_all(b"\nheld\n")?;
                std::io::stdin().read_to_end(&mut Vec::new())?;
            }
            Ok(w.end(&cx) + " " + &"x".repeat(ballast))
        });
    let w = witness.clone();
    let audit = p
        .step("audit")
        .input(&lint)
        .retry(soon.clone())
        .gate(Gate::at_least("score", 2.0, |audit: &Scored| audit.score).retry_on_refusal())
        .compensate(undo(&w))
        .run(move |cx, lint| {
            let w = w.clone();
            async move {
                w.begin(&cx, &[("lint", &*lint)]);
                tokio::task::yield_now().await;
                Ok(Scored { value: w.end(&cx), score: f64::from(cx.attempt()) })
            }
        });
    let w = witness.clone();
    let list = p.step("list").input(&pack).compensate(undo(&w)).run(move |cx, pack| {
        w.begin(&cx, &[("pack", &*pack)]);
        let value = w.end(&cx);
        async move { Ok((0..ITEMS).map(|item| format!("{value}.{item}")).collect::<Vec<_>>()) }
    });
    let w = witness.clone();
    let each = p.step("each").input(&list).retry(soon.clone()).compensate(undo(&w)).run_each(
        move |cx, item: String| {
            let w = w.clone();
            async move {
                w.begin(&cx, &[("item", &item)]);
                tokio::task::yield_now().await;
                if cx.item() == Some(3) && cx.attempt() == 1 {
                    return Err(StepError::new("at first"));
                }
                Ok(w.end(&cx))
            }
        },
    );
    let w = witness.clone();
    p.step("sum").input(&each).compensate(undo(&w)).run(move |cx, each| {
        w.begin(&cx, &[("each", &*each)]);
        let value = w.end(&cx);
        async { Ok(value) }
    });
    let nap = p.step("nap").input(&audit).sleep(Duration::from_micros(500));
    let (sub, check) = sub_pipeline(witness);
    let check = p.nest("sub", &sub, ["sum"]).handle(&check);
    let w = witness.clone();
    p.step("probe").input(&check).compensate(undo(&w)).run(move |cx, check| {
        let w = w.clone();
        async move {
            w.begin(&cx, &[("sub.check", &*check)]);
            tokio::time::sleep(Duration::from_millis(1)).await;
            Ok(w.end(&cx))
        }
    });
    let w = witness.clone();
    p.step("publish").input((&check, &audit, &nap)).compensate(undo(&w)).run(
        move |cx, (check, audit, nap)| {
            w.begin(&cx, &[("sub.check", &*check), ("audit", &*audit), ("nap", &*nap)]);
            let result = match scenario {
                Scenario::Succeeds => Ok(w.end(&cx)),
                Scenario::Fails => Err(StepError::permanent("for good")),
            };
            async { result }
        },
    );
    p.build().unwrap()
}

fn sub_pipeline(witness: &Witness) -> (Pipeline, Handle<String>) {
    let mut p = Pipeline::builder("sub");
    let w = witness.clone();
    let apply = p.step("apply").compensate(undo(&w)).run(move |cx, ()| {
        let w = w.clone();
        async move {
            w.begin(&cx, &[]);
            tokio::task::yield_now().await;
            Ok(w.end(&cx))
        }
    });
    let w = witness.clone();
    let check = p.step("check").input(&apply).compensate(undo(&w)).run(move |cx, apply| {
        w.begin(&cx, &[("sub.apply", &*apply)]);
        let value = w.end(&cx);
        async { Ok(value) }
    });
    (p.build().unwrap(), check)
}

fn undo<O: Shown + Send + Sync + 'static>(
    witness: &Witness,
) -> impl Fn(StepContext, Option<Arc<O>>) -> futures::future::BoxFuture<'static, Result<(), StepError>> + use<O>
{
    let w = witness.clone();
    move |cx, output| {
        let w = w.clone();
        Box::pin(async move {
            let output = output.map_or_else(|| "-".to_owned(), |output| output.shown());
            w.tell("undo-begin", cx.step(), cx.item(), cx.attempt(), &output);
            tokio::task::yield_now().await;
            if cx.step() == "lint" && cx.attempt() == 1 {
                return Err(StepError::new("at first"));
            }
            w.tell("undo-end", cx.step(), cx.item(), cx.attempt(), "");
            Ok(())
        })
    }
}

pub(crate) const DIR: &str = "SWARM_VICTIM_DIR";
pub(crate) const WITNESS: &str = "SWARM_VICTIM_WITNESS";
pub(crate) const LIFE: &str = "SWARM_VICTIM_LIFE";
pub(crate) const SCENARIO: &str = "SWARM_VICTIM_SCENARIO";
pub(crate) const DURABILITY: &str = "SWARM_VICTIM_DURABILITY";
pub(crate) const BIAS: &str = "SWARM_VICTIM_BIAS";
/// Optional: the amount of ballast; whether to hold the run up.
pub(crate) const WITH_BALLAST: &str = "SWARM_VICTIM_BALLAST";
pub(crate) const HOLD: &str = "SWARM_VICTIM_HOLD";

/// What the process exits with when the engine answered with an error, which is then in the witness as `error`.
pub(crate) const REFUSED: i32 = 3;

/// Calls that a biased thread makes before it begins. `strace` counts the calls of each thread by itself, so that the
/// `BIAS_CALLS + n`-th call is one of the biased thread.
pub(crate) const BIAS_CALLS: usize = 400;

/// The other process of the tests that kill one; on its own it has nothing to do.
#[test]
fn the_victim_runs() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let text = |name: &str| std::env::var(name).unwrap();
    let witness = Witness::in_file(Path::new(&text(WITNESS)), text(LIFE).parse().unwrap());
    let scenario = if text(SCENARIO) == "Fails" { Scenario::Fails } else { Scenario::Succeeds };
    let durability = if text(DURABILITY) == "Power" { Durability::Power } else { Durability::Process };
    let bias = text(BIAS);
    let ballast = std::env::var(WITH_BALLAST).map_or(BALLAST, |ballast| ballast.parse().unwrap());
    let hold = std::env::var_os(HOLD).is_some();
    // Without the driver of sockets, which writes to wake itself up: the writes that are counted are those to files.
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().max_blocking_threads(1).build().unwrap();
    let answer = runtime.block_on(async {
        match bias.split_once(':') {
            Some(("driver", call)) => make_calls(call),
            Some((_, call)) => {
                let call = call.to_owned();
                tokio::task::spawn_blocking(move || make_calls(&call)).await.unwrap();
            }
            None => {}
        }
        let engine = LocalEngine::with_store(FileStore::options().durability(durability).open(dir)?);
        witness.observe(&engine);
        engine.run(&pipeline_with(&witness, scenario, ballast, hold), RUN, ()).await
    });
    match answer {
        Ok(report) => {
            witness.over(&report);
            std::process::exit(0)
        }
        Err(error) => {
            let path = error.path().map(|path| path.display().to_string()).unwrap_or_default();
            witness.tell("error", &format!("{:?}", error.kind()), None, 0, &path);
            std::process::exit(REFUSED)
        }
    }
}

fn make_calls(call: &str) {
    if call == "openat" {
        return (0..BIAS_CALLS).for_each(|_| drop(File::open("/dev/null").unwrap()));
    }
    let mut null = File::options().append(true).open("/dev/null").unwrap();
    for _ in 0..BIAS_CALLS {
        let written = match call {
            "write" => null.write(b"x"),
            "writev" => null.write_vectored(&[IoSlice::new(b"x")]),
            _ => panic!("no bias is known for {call}"),
        };
        assert_eq!(written.unwrap(), 1);
    }
}
