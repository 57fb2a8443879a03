use std::collections::HashMap;
use std::future::Future;
use std::io::{IsTerminal, Write, stderr};
use std::pin::pin;
use std::time::Instant;

use futures::{FutureExt, StreamExt};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use swarm_pipeline::{LocalEngine, Pipeline, RunEvent, RunEventKind};

/// Shows on standard error how a run gets on: a bar for each step on a terminal, or else a line for each event.
pub struct Progress {
    began: Instant,
    width: usize,
    names: Vec<String>,
    /// Absent where standard error is no terminal.
    bars: Option<Bars>,
}

struct Bars {
    screen: MultiProgress,
    by_step: HashMap<String, ProgressBar>,
    waiting: ProgressStyle,
    busy: ProgressStyle,
    over: ProgressStyle,
}

impl Progress {
    /// Gets ready to show runs of `pipeline`.
    pub fn new(pipeline: &Pipeline) -> Self {
        let graph = pipeline.graph();
        let names: Vec<String> = (0..graph.len() as u32).map(|step| graph.name(step).to_owned()).collect();
        let width = names.iter().map(String::len).max().unwrap_or(0);
        let bars = stderr().is_terminal().then(|| Bars::new(width));
        Progress { began: Instant::now(), width, names, bars }
    }

    /// Awaits `run`, and shows what `engine` tells in the meantime.
    pub async fn watch<T>(mut self, engine: &LocalEngine, run: impl Future<Output = T>) -> T {
        if let Some(bars) = &mut self.bars {
            bars.begin(&self.names);
        }
        let mut events = engine.events();
        let mut run = pin!(run);
        let answer = loop {
            tokio::select! {
                answer = &mut run => break answer,
                Some(event) = events.next() => self.show(&event),
            }
        };
        while let Some(Some(event)) = events.next().now_or_never() {
            self.show(&event);
        }
        if let Some(bars) = &self.bars {
            bars.by_step.values().filter(|bar| !bar.is_finished()).for_each(ProgressBar::abandon);
        }
        answer
    }

    fn show(&mut self, event: &RunEvent) {
        let Some((step, news)) = told(event) else { return };
        match &mut self.bars {
            Some(bars) => bars.show(step, &news),
            None if matches!(news, News::Part(..)) => {}
            None => {
                let width = self.width;
                let at = self.began.elapsed().as_secs_f64();
                // Nobody may read standard error; that is no reason to stop.
                let _ = writeln!(stderr(), "{at:8.3} s  {step:width$}  {}", news.text());
            }
        }
    }
}

enum News {
    Busy(String),
    Items(u32),
    Item(u32),
    Part(u64, u64),
    Over(String),
    Failed(String),
}

impl News {
    fn text(&self) -> String {
        match self {
            News::Busy(text) | News::Over(text) | News::Failed(text) => text.clone(),
            News::Items(items) => format!("runs over {items} items"),
            News::Item(item) => format!("item {item} is done"),
            News::Part(done, total) => format!("{done} of {total}"),
        }
    }
}

/// The step an event is about, and what there is to say of it.
fn told(event: &RunEvent) -> Option<(&str, News)> {
    let of = |item: &Option<u32>| item.map(|item| format!("item {item} ")).unwrap_or_default();
    Some(match &event.kind {
        RunEventKind::Started { pipeline, steps } => {
            ("", News::Busy(format!("run {} of {pipeline:?}: {steps} steps", event.run)))
        }
        RunEventKind::Resumed { steps, done, .. } => {
            ("", News::Busy(format!("run {} goes on: {done} of {steps} steps are done", event.run)))
        }
        RunEventKind::StepStarted { step, item, attempt: 1 } => {
            (step, News::Busy(format!("{}started", of(item))))
        }
        RunEventKind::StepStarted { step, item, attempt } => {
            (step, News::Busy(format!("{}started, attempt {attempt}", of(item))))
        }
        RunEventKind::StepProgress { step, item: None, done, total } => (step, News::Part(*done, *total)),
        RunEventKind::GateJudged { step, item, result } => {
            let measured = result.measured.map(|value| format!(" {value}")).unwrap_or_default();
            let limit = result.limit.map(|limit| format!(" (limit {limit})")).unwrap_or_default();
            let verdict = format!("{:?}", result.verdict).to_lowercase();
            (step, News::Busy(format!("{}gate {}{measured}{limit}: {verdict}", of(item), result.gate)))
        }
        RunEventKind::StepSucceeded { step, item: Some(item), .. } => (step, News::Item(*item)),
        RunEventKind::StepSucceeded { step, item: None, .. } => (step, News::Over("done".into())),
        RunEventKind::StepFailed { step, item, error, again, .. } => {
            let then = if *again { "; will be tried again" } else { "" };
            let text = format!("{}failed: {error}{then}", of(item));
            (step, if *again { News::Busy(text) } else { News::Failed(text) })
        }
        RunEventKind::StepSkipped { step } => (step, News::Over("skipped".into())),
        RunEventKind::StepReused { step, from } => (step, News::Over(format!("reused from run {from}"))),
        RunEventKind::FannedOut { step, items } => (step, News::Items(*items)),
        RunEventKind::Signalled { step } => (step, News::Over("signalled".into())),
        RunEventKind::UndoStarted { step, item, .. } => (step, News::Busy(format!("{}undoing", of(item)))),
        RunEventKind::UndoSucceeded { step, item, .. } => (step, News::Failed(format!("{}undone", of(item)))),
        RunEventKind::UndoFailed { step, item, error, .. } => {
            (step, News::Failed(format!("{}could not be undone: {error}", of(item))))
        }
        RunEventKind::Finished { status } => ("", News::Over(format!("{status}"))),
        _ => return None,
    })
}

impl Bars {
    fn new(width: usize) -> Self {
        let style = |template: &str| {
            let filled = template.replace("NAME", &format!("{{prefix:{width}}}"));
            ProgressStyle::with_template(&filled)
                .unwrap_or_else(|_| ProgressStyle::default_bar())
                .progress_chars("=> ")
        };
        Bars {
            screen: MultiProgress::new(),
            by_step: HashMap::new(),
            waiting: style("  NAME  [{bar:24.dim}]"),
            busy: style("> NAME  [{bar:24.cyan}] {elapsed:>4} {wide_msg}"),
            over: style("  NAME  [{bar:24.green}] {elapsed:>4} {wide_msg}"),
        }
    }

    fn begin(&mut self, names: &[String]) {
        for name in names {
            let bar = self.screen.add(ProgressBar::new(1));
            bar.set_style(self.waiting.clone());
            bar.set_prefix(name.clone());
            bar.tick();
            self.by_step.insert(name.clone(), bar);
        }
    }

    fn show(&mut self, step: &str, news: &News) {
        let Some(bar) = self.by_step.get(step) else {
            // What is about the whole run stands above the bars.
            let _ = self.screen.println(news.text());
            return;
        };
        match news {
            News::Busy(text) => {
                bar.set_style(self.busy.clone());
                bar.set_message(text.clone());
            }
            News::Items(items) => bar.set_length(u64::from(*items)),
            News::Item(_) => {
                bar.inc(1);
                if bar.length() == Some(bar.position()) {
                    bar.set_style(self.over.clone());
                    bar.finish_with_message("done");
                }
            }
            News::Part(done, total) => {
                bar.set_length(*total);
                bar.set_position(*done);
            }
            News::Over(text) => {
                bar.set_style(self.over.clone());
                bar.finish_with_message(text.clone());
            }
            News::Failed(text) => {
                bar.set_style(self.over.clone());
                bar.abandon_with_message(text.clone());
            }
        }
    }
}
