//! From a log back to a run that can go on.

use std::sync::Arc;

use super::{Past, Run};
use crate::error::{Error, ErrorKind, Result};
use crate::output::Output;
use crate::scheduler::{Event, Kind, NONE, Status, Task};
use crate::shared::RunShared;
use crate::store::{BlobKey, RunId};
use crate::wire::{Entry, Stored};

impl Run {
    /// Brings the run of `past` back, whose log has `records` entries, to go on with the pipeline of `shared`.
    ///
    /// Where nothing will run on it any more, an output that cannot be read is left out, and so are those of
    /// `outdated` and what depends on them where they are to be made anew.
    ///
    /// # Errors
    /// [`ErrorKind::Codec`] for a recorded output that is not of the type it has now, and what the store answers.
    pub(crate) async fn resume(
        shared: Arc<RunShared>,
        mut past: Past<'_>,
        records: usize,
        outdated: &[u32],
    ) -> Result<Self> {
        past.move_to(shared.pipeline.plan());
        let lenient = !past.scheduler.goes_forward();
        if !lenient {
            past.forget(&past.scheduler.downstream(outdated.iter().copied()));
        }
        let mut run = Run::new(shared, past.scheduler, true);
        run.next_seq = records as u64;
        let mut outputs: Vec<(Task, &Stored)> = past.outputs.into_iter().collect();
        outputs.sort_unstable_by_key(|(task, _)| *task);
        for (task, stored) in outputs {
            let Some(output) = run.load(task, stored, lenient).await? else { continue };
            if task.item == NONE {
                run.outputs.steps[task.step as usize] = Some(output);
                continue;
            }
            run.outputs.put_item(task, run.scheduler.item_count(task.step), output);
        }
        for (task, stored) in past.refused {
            // For the undo, which can do without.
            run.refused.extend(run.load(task, stored, true).await?.map(|output| (task, output)));
        }
        for step in 0..run.shared.pipeline.len() as u32 {
            let is_done = run.scheduler.status(Task::of(step)) == Status::Succeeded;
            match run.shared.pipeline.step_plan(step).kind {
                Kind::ForEach if is_done => run.collect(step)?,
                Kind::Sleep if is_done => {
                    let until = past.sleeps.get(&step).copied().unwrap_or_default();
                    run.outputs.steps[step as usize] = Some(Arc::new(crate::report::time(until)));
                }
                _ => {}
            }
        }
        for source in past.notes.reused.values().filter_map(|run| RunId::new(run).ok()) {
            run.shared.reused_from(source);
        }
        run.signals = past.signals.into_iter().map(|(step, value)| (step, value.to_owned())).collect();
        run.recovered = past.history.len();
        run.emitted = past.history.len();
        run.history = past.history;
        run.notes = past.notes;
        run.changed = past.changed;
        run.stale = past.stale;
        run.asked = past.asked;
        Ok(run)
    }

    /// Records that the present definition decides from here on, that the results of `rerun` no longer count, and that those of
    /// `stale` will not when the run goes forward again.
    pub(crate) fn redefined(&mut self, rerun: Vec<u32>, stale: Vec<u32>, at: i64) -> Result<()> {
        let pipeline = self.shared.pipeline.clone();
        let names = |steps: &[u32]| steps.iter().map(|step| pipeline.graph().name(*step).into()).collect();
        let definition = super::past::definition_of(&pipeline);
        self.write(&Entry::Redefined { at, definition, rerun: names(&rerun), stale: names(&stale) })?;
        if !rerun.is_empty() {
            self.forget(&rerun);
            self.scheduler.reset(&rerun, &[]);
            self.changed.extend(rerun);
        }
        self.stale.extend(stale);
        Ok(())
    }

    /// Marks that a new driver took over.
    pub(crate) fn resumed(&mut self, token: u64, at: i64) -> Result<()> {
        let done = self.scheduler.done();
        self.write(&Entry::Resumed { at, token, pid: std::process::id(), done })?;
        self.note(Event::Resumed { done }, at)
    }

    /// Reads an output back, from the log or from beside it.
    async fn load(&self, task: Task, stored: &Stored, lenient: bool) -> Result<Option<Output>> {
        let def = &self.shared.pipeline.node(task.step).def;
        let decode = if task.item == NONE { def.body.decode } else { def.decode_item };
        let decoded = match stored {
            Stored::Inline(json) => decode(json.get()),
            Stored::Artifact(artifact) => {
                let key = BlobKey::Artifact { run: self.shared.run.clone(), sha256: artifact.sha256.clone() };
                let bytes = self.shared.store().get_blob(&key).await?.ok_or_else(|| {
                    let message = format!("the output of step {:?} is missing", self.name(task.step));
                    Error::new(ErrorKind::Corrupt, message).in_run(&self.shared.run)
                })?;
                decode(&String::from_utf8_lossy(&bytes))
            }
            Stored::Items => decode("[]"),
        };
        let name = self.name(task.step);
        match decoded {
            Ok(output) => Ok(Some(output)),
            Err(error) if lenient => {
                tracing::warn!(run = self.shared.run.as_str(), step = name, %error, "an output cannot be read");
                Ok(None)
            }
            Err(error) => {
                let message = format!(
                    "the recorded output of step {name:?} is not of the type it has now; give the step another \
                     version and resume with `OnChange::Rerun`"
                );
                Err(Error::new(ErrorKind::Codec, message)
                    .in_run(&self.shared.run)
                    .in_step(name)
                    .because(error))
            }
        }
    }
}
