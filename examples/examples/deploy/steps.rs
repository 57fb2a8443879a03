//! The pipeline. Nothing in it depends on what is deployed: that is the input of the run.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::abort;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use swarm_pipeline::{
    BuildError, Gate, Handle, Items, LocalEngine, Pipeline, Retry, RunEventKind, StepContext, StepError,
};

use crate::checks::{self, Compliance, Validated};
use crate::options::Faults;
use crate::order::Order;
use crate::service::{self, Tested};
use crate::workspace::{Change, Workspace};

pub(crate) const NAME: &str = "agent_code_deployment";

/// Where the agents are, and what shall go wrong.
pub(crate) struct Site {
    pub(crate) state: PathBuf,
    pub(crate) faults: Faults,
}

/// A release that is live on an agent.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Deployed {
    pub(crate) change: Change,
    /// What the service was deployed as, and what it says it is.
    pub(crate) version: String,
    pub(crate) answer: String,
}

pub(crate) struct Deployment {
    pub(crate) pipeline: Pipeline,
    pub(crate) validated: Handle<Validated>,
    pub(crate) compliance: Handle<Compliance>,
    pub(crate) tested: Handle<Tested>,
    pub(crate) live: Handle<Items<Deployed>>,
}

/// Takes the site for as long as the process lives, which spares every step a handle of its own to it.
pub(crate) fn deployment(site: &'static Site) -> Result<Deployment, BuildError> {
    // A gate that is to fail gets a limit that nothing meets.
    let limit = |gate: &str, limit: f64, beyond: f64| {
        if site.faults.gate.as_deref() == Some(gate) { beyond } else { limit }
    };
    let mut p = Pipeline::builder(NAME);
    // A copy on a thread of its own cannot be dropped half-way, so nothing is undone before it has ended.
    p.group("production", 3).cancel_grace(Duration::from_secs(60));

    let agents = p.step("list_agents").run(move |cx, ()| list(site, cx));
    let validated = p.step("validate_code").run_blocking(move |cx, ()| validate(site, &cx));
    let compliance = p
        .step("v2_check")
        .input(&validated)
        .gate(Gate::at_most("violations", limit("violations", 5.0, -1.0), |found: &Compliance| {
            found.violations.len() as f64
        }))
        .gate(Gate::at_least("coverage", limit("coverage", 0.82, 1.01), |found: &Compliance| found.coverage))
        .run_blocking(move |cx, _validated| comply(site, &cx));
    let staged = p
        .step("deploy_staging")
        .input(&compliance)
        .compensate(move |cx, output: Option<Arc<Change>>| {
            undo(site, cx, output.map(|change| (*change).clone()))
        })
        .run_blocking(move |cx, _compliance| deploy(site, &cx, &order(&cx)?.staging()));
    let tested = p
        .step("test_staging")
        .input(&staged)
        .retry(Retry::exponential(4).base(Duration::from_millis(50)))
        .timeout(Duration::from_secs(20))
        .gate(Gate::at_least("answers", limit("answers", 1.0, 1.01), Tested::right))
        .run(move |cx, staged| test(site, cx, staged));
    let live = p
        .step("deploy_production")
        .input(&agents)
        .after(["test_staging"])
        .group("production")
        .gate(Gate::check("health", |live: &Deployed| {
            let Deployed { change, version, answer } = live;
            if answer == version { Ok(()) } else { Err(format!("{} answers {answer:?}", change.agent)) }
        }))
        .compensate(move |cx, output: Option<Arc<Deployed>>| {
            undo(site, cx, output.map(|live| live.change.clone()))
        })
        .run_each(move |cx, agent: String| go_live(site, cx, agent));
    let pipeline = p.build()?;
    Ok(Deployment { pipeline, validated, compliance, tested, live })
}

async fn list(site: &Site, cx: StepContext) -> Result<Vec<String>, StepError> {
    site.witness("begin", &cx)?;
    let agents = order(&cx)?.production();
    site.die_during(&cx);
    Ok(agents)
}

fn validate(site: &Site, cx: &StepContext) -> Result<Validated, StepError> {
    site.witness("begin", cx)?;
    let tree = order(cx)?.tree(&site.state);
    let told = |done, total| cx.progress(done, total);
    checks::validate(&tree, told, || site.die_during(cx))?.map_err(StepError::permanent)
}

fn comply(site: &Site, cx: &StepContext) -> Result<Compliance, StepError> {
    site.witness("begin", cx)?;
    let found = checks::comply(&order(cx)?.tree(&site.state), |done, total| cx.progress(done, total))?;
    site.die_during(cx);
    Ok(found)
}

/// Brings the release to an agent and makes it live. May be called again after it was cut off anywhere.
fn deploy(site: &Site, cx: &StepContext, agent: &str) -> Result<Change, StepError> {
    site.witness("begin", cx)?;
    let order = order(cx)?;
    let workspace = Workspace::of(&site.state, agent);
    let told = |done, total| cx.progress(done, total);
    let change = workspace.install(cx.run_id(), agent, &order, &order.tree(&site.state), told)?;
    site.die_during(cx);
    workspace.switch(Some(&order.release))?;
    Ok(change)
}

/// Talks to the service that is live on the staging agent.
async fn test(site: &Site, cx: StepContext, staged: Arc<Change>) -> Result<Tested, StepError> {
    site.witness("begin", &cx)?;
    if cx.attempt() <= site.faults.flaky {
        return Err(StepError::new(format!("the service did not answer at attempt {}", cx.attempt())));
    }
    let folder = Workspace::of(&site.state, &staged.agent).link();
    let tested =
        service::converse(&folder, &order(&cx)?.version, |done, total| cx.progress(done, total)).await?;
    site.die_during(&cx);
    Ok(tested)
}

/// Deploys to one agent of production, and asks the service there whether it is well.
async fn go_live(site: &'static Site, cx: StepContext, agent: String) -> Result<Deployed, StepError> {
    let order = order(&cx)?;
    let workspace = Workspace::of(&site.state, &agent);
    let work = cx.clone();
    let change = tokio::task::spawn_blocking(move || deploy(site, &work, &agent)).await??;
    let is_last = cx.item() == Some(order.agents - 1);
    let answer = match site.faults.gate.as_deref() {
        Some("health") if is_last => "nothing".to_owned(),
        _ => service::version(&workspace.link()).await?,
    };
    Ok(Deployed { change, version: order.version, answer })
}

/// Undoes a deployment that is done or may be done.
async fn undo(site: &'static Site, cx: StepContext, known: Option<Change>) -> Result<(), StepError> {
    site.witness("undo", &cx)?;
    let order = order(&cx)?;
    let agent = match cx.item() {
        Some(item) => order.production().swap_remove(item as usize),
        None => order.staging(),
    };
    let undo = move || {
        let workspace = Workspace::of(&site.state, &agent);
        workspace.undo(cx.run_id(), known.as_ref(), || die_if(&site.faults.die_during, "undo", None))
    };
    tokio::task::spawn_blocking(undo).await??;
    Ok(())
}

fn order(cx: &StepContext) -> Result<Order, StepError> {
    cx.run_input()
}

impl Site {
    /// Dies as soon as the result of the step that was named is recorded: the engine tells it then, not before.
    pub(crate) fn die_after_as_told(&'static self, engine: &LocalEngine) {
        engine.observe(|event| {
            if let RunEventKind::StepSucceeded { step, item, .. } = &event.kind {
                die_if(&self.faults.die_after, step, *item);
            }
        });
    }

    fn die_during(&self, cx: &StepContext) {
        die_if(&self.faults.die_during, cx.step(), cx.item());
    }

    /// Notes outside of the engine's own records what was called, so that one can be held against the other.
    fn witness(&self, what: &str, cx: &StepContext) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(self.state.join("witness.log"))?;
        file.write_all(format!("{what} {}\n", cx.attempt_key()).as_bytes())
    }
}

fn die_if(told: &Option<String>, step: &str, item: Option<u32>) {
    let named = |told: &String| told == step || item.is_some_and(|item| *told == format!("{step}[{item}]"));
    if told.as_ref().is_some_and(named) {
        // No destructor runs, nothing is flushed: for this process it is the same as SIGKILL.
        abort();
    }
}
