use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::json;
use swarm_pipeline::{BuildError, Gate, Pipeline, StepError};
use swarm_registry::{Criterion, Judge, Rollout, RolloutPhase, Version};

use crate::Swarm;

pub(crate) const CHANNEL: &str = "agents";

/// A version that an agent wants the others to have.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Candidate {
    pub(crate) version: String,
    pub(crate) code: String,
}

/// score -> register -> rollout -> promote.
pub(crate) fn pipeline(swarm: &Arc<Swarm>) -> Result<Pipeline, BuildError> {
    let limit = f64::from(swarm.config.get().limits.complexity);
    let failed = |error: &dyn Error| StepError::permanent(error);
    let mut p = Pipeline::builder("release");

    let with = Arc::clone(swarm);
    let scored =
        p.step("score").gate(Gate::at_most("complexity", limit, |score: &f64| *score)).run(move |cx, ()| {
            let swarm = Arc::clone(&with);
            async move {
                let candidate: Candidate = cx.run_input()?;
                let score = swarm.plugins.call("complexity", json!({ "text": candidate.code })).await;
                score
                    .map_err(|error| failed(&error))?
                    .as_f64()
                    .ok_or_else(|| StepError::permanent("no number"))
            }
        });

    let with = Arc::clone(swarm);
    let registered = p.step("register").input(&scored).run(move |cx, score: Arc<f64>| {
        let swarm = Arc::clone(&with);
        async move {
            let candidate: Candidate = cx.run_input()?;
            let version =
                Version::new(&candidate.version).artifact(candidate.code).metric("complexity", *score);
            swarm.registry.register(version).await.map_err(|error| failed(&error))?;
            Ok(candidate.version)
        }
    });

    let with = Arc::clone(swarm);
    let live = p.step("rollout").input(&registered).run(move |_cx, version: Arc<String>| {
        let swarm = Arc::clone(&with);
        async move {
            let plan = plan(&swarm);
            swarm.registry.start_rollout(CHANNEL, &version, &plan).await.map_err(|error| failed(&error))?;
            let ended =
                swarm.registry.drive_rollout(CHANNEL, &swarm.work).await.map_err(|error| failed(&error))?;
            match ended.phase() {
                RolloutPhase::Completed => Ok(String::clone(&version)),
                // The split before is served again already.
                _ => Err(StepError::permanent(&ended)),
            }
        }
    });

    let with = Arc::clone(swarm);
    p.step("promote").input(&live).run(move |_cx, version: Arc<String>| {
        let registry = with.registry.clone();
        async move {
            let before = registry.alias("stable").await.ok();
            let before = before.as_ref().map(|info| info.id());
            registry.move_alias("stable", before, Some(&version)).await.map_err(|error| failed(&error))
        }
    });
    p.build()
}

fn plan(swarm: &Swarm) -> Rollout {
    let canary = &swarm.config.get().canary;
    Rollout::new()
        .weight(canary.percent)
        .analysis(Duration::from_secs(canary.hours * 3600))
        .weight(100.0)
        .judge(
            Judge::new([Criterion::higher_is_better("good_tasks").tolerance_absolute(0.02)])
                .sequential(1_000),
        )
}
