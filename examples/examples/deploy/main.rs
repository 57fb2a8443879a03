//! The main job on real input: a service is deployed to a group of agents, and taken back if anything is wrong.
//!
//! validate_code -> v2_check -> deploy_staging (Agent-8) -> test_staging -> deploy_production (Agent-1 to Agent-7).
//! Run it again and it deploys nothing; change the service, or give another with `--source`, and it deploys that.
//! Kill it whenever you like and run it again: it goes on where it was. Look around in `target/deploy-demo`.
//! `-- --fail-gate` rolls back, `-- --flaky 3` retries, `-- --die-after STEP` dies; `-- --help` lists all.
//!
//! `cargo run --release -p swarm-examples --example deploy`
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "an example talks to its reader")]

mod checks;
mod options;
mod order;
mod service;
mod steps;
mod tree;
mod workspace;

use std::error::Error;
use std::fs;
use std::process::ExitCode;
use std::time::Duration;

use swarm_examples::Progress;
use swarm_pipeline::{
    AttemptReport, LocalEngine, RunId, RunOptions, RunReport, RunStatus, RunSummary, Verdict, Why,
};

use options::{HELP, Options};
use order::{Draft, Order, Orders};
use steps::{Deployment, NAME, Site, deployment};
use workspace::Workspace;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

#[tokio::main]
async fn main() -> ExitCode {
    let done = match Options::parse() {
        Ok(Some(options)) => act(options).await,
        Ok(None) => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => Err(error),
    };
    done.unwrap_or_else(|error| {
        eprintln!("deploy: {error}");
        let mut source = error.source();
        while let Some(cause) = source {
            eprintln!("  because {cause}");
            source = cause.source();
        }
        ExitCode::from(2)
    })
}

/// The program at work: where it keeps things, and what it runs.
struct Desk {
    site: &'static Site,
    engine: LocalEngine,
    deployment: Deployment,
    orders: Orders,
}

async fn act(options: Options) -> Result<ExitCode> {
    if options.fresh {
        for part in ["agent_workspaces", "orders", "reports", "runs", "sources"] {
            tree::remove(&options.state.join(part))?;
        }
        let _ = fs::remove_file(options.state.join("witness.log"));
    }
    let sources = options.state.join("sources");
    fs::create_dir_all(&sources)
        .map_err(|error| format!("--state: cannot make {}: {error}", sources.display()))?;
    let engine = LocalEngine::open(options.state.join("runs"))?;
    let site = Box::leak(Box::new(Site { state: options.state.clone(), faults: options.faults.clone() }));
    site.die_after_as_told(&engine);
    let orders = Orders::of(&options.state);
    let deployment = deployment(site)?;
    for step in [&options.faults.die_during, &options.faults.die_after].into_iter().flatten() {
        let graph = deployment.pipeline.graph();
        let name = step.split('[').next().unwrap_or_default();
        if graph.find(name).is_none() && name != "undo" {
            let names: Vec<&str> = (0..graph.len() as u32).map(|step| graph.name(step)).collect();
            return Err(format!("no step {step:?} to die at: there are {}", names.join(", ")).into());
        }
    }
    let desk = Desk { site, engine, deployment, orders };
    if options.rollback { desk.roll_back(&options).await } else { desk.deploy(&options).await }
}

impl Desk {
    async fn deploy(&self, options: &Options) -> Result<ExitCode> {
        let (run, order, retry) = self.choose(options).await?;
        // Agents should not be left between two releases, so what was begun is ended before something else is.
        for left in self.runs().await? {
            if left.status == RunStatus::Unfinished && left.run.as_str() != run {
                println!("run {} was left unfinished: first that one", left.run);
                let order = self.orders.get(left.run.as_str())?.ok_or("its order is gone")?;
                let _ = self.drive(left.run.as_str(), &order, RunOptions::new()).await?;
            }
        }
        let options = if retry { RunOptions::new().retry_failed() } else { RunOptions::new() };
        let report = self.drive(&run, &order, options).await?;
        if !report.is_success() {
            println!("`--retry` goes on with this run, `--fresh` begins anew");
            return Ok(ExitCode::FAILURE);
        }
        // The report is one thing, the agents are another: ask each of them.
        for agent in [order.production(), vec![order.staging()]].concat() {
            let workspace = Workspace::of(&self.site.state, &agent);
            let answer = service::version(&workspace.link()).await?;
            assert_eq!(answer, order.version, "{agent} answers with another version");
            assert_eq!(workspace.current()?.as_ref(), Some(&order.release));
        }
        println!("all {} agents answer with version {}", order.agents + 1, order.version);
        Ok(ExitCode::SUCCESS)
    }

    /// Which run to begin or take up, what it deploys, and whether it has failed before.
    async fn choose(&self, options: &Options) -> Result<(String, Order, bool)> {
        // The id becomes the name of files of ours as well.
        options.run.as_deref().map(RunId::new).transpose()?;
        if let Some(run) = &options.run
            && let Some(order) = self.orders.get(run)?
        {
            return Ok((run.clone(), order, options.retry));
        }
        let draft = Draft::take(&options.state, &options.source)?;
        let last = self.orders.last_of(&draft.source)?;
        let build = match (last, &options.run) {
            (Some((run, order)), None) => {
                let status = self.status(&run).await?;
                let is_over = !matches!(status, None | Some(RunStatus::Unfinished));
                let is_live = self.is_live(&order)?;
                let wanted = match status {
                    _ if options.retry => true,
                    Some(RunStatus::Succeeded) => is_live && order.agents == options.agents,
                    Some(RunStatus::RolledBack) => false,
                    _ => true,
                };
                let again = is_over && options.has_faults() && !options.retry;
                if wanted && !again {
                    return Ok((run, order, options.retry));
                }
                order.build + 1
            }
            (Some((_, order)), Some(_)) => order.build + 1,
            (None, _) => 1,
        };
        let order = draft.order(&options.state, build, options.agents)?;
        let run = options.run.clone().unwrap_or_else(|| format!("deploy-{}", order.release));
        self.orders.keep(&run, &order)?;
        Ok((run, order, false))
    }

    async fn drive(&self, run: &str, order: &Order, options: RunOptions) -> Result<RunReport> {
        let Deployment { pipeline, validated, compliance, tested, live } = &self.deployment;
        println!("run {run}: version {} to {} and {} agents", order.version, order.staging(), order.agents);
        let progress = Progress::new(pipeline);
        let running = self.engine.run_with(pipeline, run, order, options);
        let report = progress.watch(&self.engine, running).await?;
        self.tell(&report)?;
        if report.is_success()
            && report.steps().iter().all(|step| report.why(&step.name).is_ok_and(|why| why == Why::Recorded))
        {
            println!("nothing to do: this was deployed before");
            return Ok(report);
        }
        if let Ok(found) = report.output(validated) {
            println!("{} files, {} scripts, {} self-tests", found.files, found.scripts, found.selftest.len());
        }
        if let Ok(found) = report.output(compliance) {
            println!("{} violations, coverage {:.1} %", found.violations.len(), found.coverage * 100.0);
            found.violations.iter().for_each(|violation| println!("  {violation}"));
        }
        if let Ok(tested) = report.output(tested) {
            println!("{} questions to {}, {} wrong", tested.asked, order.staging(), tested.wrong.len());
        }
        if let Ok(live) = report.output(live) {
            let switched =
                live.iter().filter(|live| live.change.before.as_ref() != Some(&live.change.release));
            println!("{} agents of production switched to {}", switched.count(), order.release);
        }
        Ok(report)
    }

    /// What happened, and when.
    fn tell(&self, report: &RunReport) -> Result<()> {
        println!("{report}");
        let since =
            |attempt: &AttemptReport| (attempt.started - report.started()).to_std().unwrap_or_default();
        for step in report.steps() {
            let attempts = || step.attempts.iter().filter(|attempt| !attempt.undo);
            let at = attempts().next().map(|attempt| format!("{:9.3} s", since(attempt).as_secs_f64()));
            let began = attempts().map(|attempt| attempt.started).min();
            let ended = attempts().filter_map(|attempt| attempt.ended).max();
            let took = began.zip(ended).and_then(|(began, ended)| (ended - began).to_std().ok());
            println!(
                "  {:18}{:>11} {:>10}  {}",
                step.name,
                at.unwrap_or_default(),
                took.map(|took| format!("{:.1} ms", took.as_secs_f64() * 1e3)).unwrap_or_default(),
                report.why(&step.name)?,
            );
            for gate in step.attempts.iter().flat_map(|attempt| &attempt.gates) {
                if let (true, Some(message)) = (gate.verdict != Verdict::Passed, &gate.message) {
                    println!("{:20}gate {}: {message}", "", gate.gate);
                }
            }
        }
        if let Some(took) = rollback_time(report) {
            let steps = report.steps();
            let undos = steps.iter().flat_map(|step| &step.attempts).filter(|attempt| attempt.undo);
            let undone = undos.filter(|undo| undo.ended.is_some() && undo.error.is_none()).count();
            println!("rolled back in {:.1} ms, {undone} things undone", took.as_secs_f64() * 1e3);
        }
        let page = self.site.state.join("reports").join(format!("{}.html", report.run()));
        tree::write_atomically(&page, report.to_html().as_bytes())?;
        println!("the whole story: {}", page.display());
        Ok(())
    }

    async fn roll_back(&self, options: &Options) -> Result<ExitCode> {
        let run = match &options.run {
            Some(run) => run.clone(),
            None => {
                let mut done = self.runs().await?;
                done.retain(|run| run.status == RunStatus::Succeeded);
                let last = done.into_iter().max_by_key(|run| run.updated);
                last.ok_or("no run was deployed and not yet undone")?.run.to_string()
            }
        };
        println!("undoing run {run}");
        let pipeline = &self.deployment.pipeline;
        let undoing = self.engine.rollback(pipeline, run);
        let report = Progress::new(pipeline).watch(&self.engine, undoing).await?;
        self.tell(&report)?;
        assert_eq!(report.status(), RunStatus::RolledBack);
        Ok(ExitCode::SUCCESS)
    }

    async fn runs(&self) -> Result<Vec<RunSummary>> {
        let mut runs = self.engine.runs().await?;
        runs.retain(|run| run.pipeline == NAME);
        Ok(runs)
    }

    async fn status(&self, run: &str) -> Result<Option<RunStatus>> {
        Ok(self.runs().await?.into_iter().find(|known| known.run.as_str() == run).map(|known| known.status))
    }

    fn is_live(&self, order: &Order) -> Result<bool> {
        for agent in [order.production(), vec![order.staging()]].concat() {
            if Workspace::of(&self.site.state, &agent).current()?.as_ref() != Some(&order.release) {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

/// From the beginning of the first undo to the end of the last.
fn rollback_time(report: &RunReport) -> Option<Duration> {
    let steps = report.steps();
    let undos = || steps.iter().flat_map(|step| &step.attempts).filter(|attempt| attempt.undo);
    let begun = undos().map(|attempt| attempt.started).min()?;
    let ended = undos().filter_map(|attempt| attempt.ended).max()?;
    (ended - begun).to_std().ok()
}
