//! Taking up a run that is there already: what the caller wants of it, and what has changed since.

use std::sync::Arc;

use super::{OnChange, RunOptions};
use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::Pipeline;
use crate::report::RunStatus;
use crate::run::{Changes, Past, Run};
use crate::scheduler::Event;
use crate::shared::RunShared;
use crate::store::RunId;

/// Brings a run back and applies what the caller wants of it.
pub(crate) async fn take_up(
    shared: Arc<RunShared>,
    past: Past<'_>,
    records: usize,
    token: u64,
    options: &RunOptions,
    verb: Option<Event>,
) -> Result<Run> {
    let (id, pipeline) = (shared.run.clone(), shared.pipeline.clone());
    let status = past.status();
    let over = past.scheduler.is_finished();
    let restart = options.restart_from.as_deref().map(|name| super::find(&pipeline, name)).transpose()?;
    let again = options.retry_failed && !matches!(status, RunStatus::Succeeded | RunStatus::Stuck);
    let refuse = |why: String| Err(Error::new(ErrorKind::InvalidState, why).in_run(&id));
    if restart.is_some() && (status == RunStatus::Stuck || !over && past.scheduler.is_undoing()) {
        return refuse(format!(
            "run {id} is {status} in its rollback; end that first, with `retry_undo` or `mark_compensated` where it is stuck"
        ));
    }
    let changes = past.changes(&pipeline);
    let told = verb.is_some() || restart.is_some() || over && again;
    let rerun = if changes.is_empty() {
        Vec::new()
    } else {
        let keep: &dyn Fn(&str) -> bool = match &options.on_change {
            // An operator's word is about what was done, and an answer from the log about nothing new.
            OnChange::Refuse if verb.is_some() || over && !told => &|_| false,
            OnChange::Refuse => return Err(changed(&id, &changes, past.scheduler.is_undoing())),
            OnChange::Rerun => &|_| false,
            OnChange::Migrate(keep) => &**keep,
        };
        let others = changes.changed.iter().filter(|name| !keep(name)).chain(&changes.added);
        others.filter_map(|name| pipeline.graph().find(name)).collect()
    };
    let redefine = !past.is_defined_by(&pipeline);
    let refuses = matches!(options.on_change, OnChange::Refuse);
    let goes_on = !over || told || past.scheduler.goes_forward() && !refuses && !rerun.is_empty();
    if goes_on || status == RunStatus::Stuck && !refuses {
        check_undos(&id, &past, &pipeline, verb)?;
    }
    if !goes_on {
        return Run::resume(shared, past, records, &[]).await;
    }
    let outdated = if verb.is_none() { &rerun[..] } else { &[] };
    let mut run = Run::resume(shared, past, records, outdated).await?;
    let at = run.shared.clock.now();
    let rerun = run.scheduler.downstream(rerun);
    if redefine {
        let (rerun, stale) = match verb.is_none() && run.scheduler.goes_forward() {
            true => (rerun, Vec::new()),
            false => (Vec::new(), rerun),
        };
        run.redefined(rerun, stale, at)?;
    }
    if let Some(verb) = verb {
        if matches!(verb, Event::RollbackRequested) && run.scheduler.is_rolled_back() {
            return Ok(run);
        }
        let stuck = run.scheduler.stuck_steps();
        let fits = match verb {
            Event::RollbackRequested => run.scheduler.is_finished() && status != RunStatus::Stuck,
            Event::UndoRetried { step } | Event::UndoMarked { step } => stuck.contains(&step),
            _ => false,
        };
        if !fits {
            let names: Vec<&str> = stuck.iter().map(|step| run.name(*step)).collect();
            return refuse(match status {
                RunStatus::Stuck => format!(
                    "run {id} is stuck in the undo of {names:?}; `retry_undo` or `mark_compensated` take it on"
                ),
                status => format!("run {id} is {status}, so that there is nothing for this verb to do"),
            });
        }
        run.resumed(token, at)?;
        run.record(verb, at)?;
    } else if let Some(step) = restart {
        let mut steps = run.scheduler.undone();
        steps.push(step);
        steps.extend(&run.stale);
        let steps = run.scheduler.downstream(steps);
        run.resumed(token, at)?;
        run.reset(steps, &[], at)?;
    } else if over && again {
        let mut steps = run.scheduler.unfinished();
        steps.extend(&run.stale);
        let steps = run.scheduler.downstream(steps);
        let keep_items = run.scheduler.partly_done(&steps, &run.stale);
        run.resumed(token, at)?;
        run.reset(steps, &keep_items, at)?;
    } else {
        run.resumed(token, at)?;
    }
    Ok(run)
}

fn changed(id: &RunId, changes: &Changes, undoing: bool) -> Error {
    let advice = match undoing {
        true => "resume with `OnChange::Migrate` to finish its rollback with the undos as they are now",
        false => "resume with `OnChange::Rerun` or `OnChange::Migrate`, or start a new run",
    };
    let message = format!("the pipeline is not the one that run {id} was started with: {changes}; {advice}");
    Error::new(ErrorKind::DefinitionChanged, message).in_run(id)
}

/// What is to be undone, or may have to be, must have its undo still, unless an operator has undone it.
fn check_undos(id: &RunId, past: &Past<'_>, pipeline: &Pipeline, verb: Option<Event>) -> Result<()> {
    let mut owed = past.scheduler.to_undo();
    owed.extend(past.scheduler.undoable());
    let is_lost = |name: &&str| match pipeline.graph().find(name) {
        Some(step) => !pipeline.step_plan(step).undo && verb != Some(Event::UndoMarked { step }),
        None => true,
    };
    let lost = owed.iter().map(|step| past.graph().name(*step)).find(is_lost);
    let Some(step) = lost else { return Ok(()) };
    let message = format!(
        "step {step:?} of run {id} did something and has no undo any more; take the run up with a pipeline where \
         it has one, if only one that does nothing"
    );
    Err(Error::new(ErrorKind::DefinitionChanged, message).in_run(id).in_step(step))
}

pub(super) fn check_same(
    id: &RunId,
    past: &Past<'_>,
    pipeline: &Pipeline,
    input: Option<&str>,
) -> Result<()> {
    if past.pipeline != pipeline.name() {
        let message =
            format!("run {id} belongs to pipeline {:?}, not to {:?}", past.pipeline, pipeline.name());
        return Err(Error::new(ErrorKind::DefinitionChanged, message).in_run(id));
    }
    // The order of members is not part of a value.
    let value = |json: &str| serde_json::from_str::<serde_json::Value>(json).ok();
    let was = past.input.get();
    match input {
        Some(input) if input != was && value(input) != value(was) => {
            let message =
                format!("run {id} was started with another input; the same id resumes, so use another one");
            Err(Error::new(ErrorKind::InvalidInput, message).in_run(id))
        }
        _ => Ok(()),
    }
}
