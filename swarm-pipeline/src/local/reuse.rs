//! Results of earlier runs in the place of new ones.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::driver::{Driver, kept};
use crate::digest::sha256_parts;
use crate::error::{Error, ErrorKind, Result};
use crate::gate::Verdict;
use crate::scheduler::{NONE, Task};
use crate::step_error::StepError;
use crate::store::{BlobKey, RunId};

/// What is kept for reuse.
#[derive(Serialize, Deserialize)]
struct Reusable {
    run: String,
    output: Box<RawValue>,
}

impl Driver {
    /// Takes the output of an earlier run, if the step wants that, there is one, and its gates let it pass.
    pub(super) async fn reuse(&mut self, step: u32) -> Result<bool> {
        let pipeline = self.run.shared.pipeline.clone();
        let def = &pipeline.node(step).def;
        if !def.reuse {
            return Ok(false);
        }
        let key = self.reuse_key(step)?;
        // A lost or damaged entry costs a run of the step, not more.
        let found =
            self.run.shared.store().get_blob(&BlobKey::Reuse { key: key.clone() }).await.ok().flatten();
        let found = found.and_then(|bytes| serde_json::from_slice::<Reusable>(&bytes).ok());
        if let Some(Reusable { run, output: json }) = found
            && let Ok(output) = (def.body.decode)(json.get())
            && (def.judge)(&output).iter().all(|gate| gate.verdict != Verdict::Refused)
        {
            if let Ok(source) = RunId::new(&run) {
                self.run.shared.reused_from(source);
            }
            let stored = kept(&self.run.shared, json).await?;
            self.run.reuse(step, run, output, stored, self.now)?;
            return Ok(true);
        }
        self.reuse_keys.insert(step, key);
        Ok(false)
    }

    /// The digest of all that the output depends on.
    fn reuse_key(&self, step: u32) -> Result<String> {
        let pipeline = &self.run.shared.pipeline;
        let mut parts: Vec<String> = vec![
            pipeline.name().to_owned(),
            pipeline.graph().name(step).to_owned(),
            pipeline.step_fingerprint(step),
            canonical(&self.run.shared.input)?,
        ];
        for dependency in pipeline.graph().dependencies(step) {
            let output = self.run.outputs.steps[*dependency as usize].as_ref();
            let json = output.map(|output| output.encode()).transpose().map_err(|error| {
                Error::new(ErrorKind::Codec, "an input cannot be written as JSON").because(error)
            })?;
            parts.push(json.map_or_else(|| Ok(String::new()), |json| canonical(json.get()))?);
        }
        Ok(sha256_parts(parts.iter().map(String::as_bytes)))
    }

    /// Keeps the output of a whole step, if it asked for that.
    pub(super) async fn keep_for_reuse(&mut self, task: Task, output: &RawValue) {
        if task.item != NONE {
            return;
        }
        let Some(key) = self.reuse_keys.remove(&task.step) else { return };
        let run = self.run.shared.run.to_string();
        if let Ok(bytes) = serde_json::to_vec(&Reusable { run, output: output.to_owned() })
            && let Err(error) = self.run.shared.store().put_blob(&BlobKey::Reuse { key }, &bytes).await
        {
            tracing::warn!(%error, "an output was not kept for reuse");
        }
    }

    /// Before a step is undone: its result serves nobody any more.
    pub(super) async fn forget_reusable(&mut self, step: u32) -> Result<(), StepError> {
        if !self.run.shared.pipeline.node(step).def.reuse {
            return Ok(());
        }
        let key = self.reuse_key(step)?;
        let shared = Arc::clone(&self.run.shared);
        shared.store().put_blob(&BlobKey::Reuse { key }, b"null").await?;
        Ok(())
    }
}

/// The same JSON for the same value, whatever the order of its members.
fn canonical(json: &str) -> Result<String> {
    fn sort(value: &mut Value) {
        match value {
            Value::Array(list) => list.iter_mut().for_each(sort),
            Value::Object(members) => {
                members.values_mut().for_each(sort);
                let mut sorted: Vec<_> = std::mem::take(members).into_iter().collect();
                sorted.sort_by(|a, b| a.0.cmp(&b.0));
                members.extend(sorted);
            }
            _ => {}
        }
    }
    let mut value: Value = serde_json::from_str(json)
        .map_err(|error| Error::new(ErrorKind::Codec, "an input cannot be read as JSON").because(error))?;
    sort(&mut value);
    Ok(value.to_string())
}
