//! The command line.

use std::env;
use std::error::Error;
use std::path::PathBuf;

use lexopt::Arg::{Long, Short};
use lexopt::ValueExt;

pub(crate) const HELP: &str = "\
Deploys a service to a group of agents: validate, check compliance, deploy to one, test, deploy to all.

cargo run --release -p swarm-examples --example deploy -- [OPTIONS]

  --source PATH       the tree to deploy, with VERSION and bin/service [the service in examples/assets]
  --state DIR         where agents, runs and reports are kept [target/deploy-demo]
  --agents N          how many agents are in production [7]; one more is for staging
  --run ID            the run to begin, take up or undo, instead of one named by what is deployed
  --retry             go on with a run that failed or was undone: what is done stays done
  --rollback          undo the last release that was deployed, or the run of --run
  --fresh             forget everything in the state folder first

To see each promise kept; a new build is deployed if the last run is over:
  --fail-gate[=GATE]  refuse at violations, coverage, answers or health [health: at the last agent]
  --flaky N           let test_staging fail N times first; it has 4 attempts
  --die-during STEP   abort the process in the middle of STEP, or of an undo with STEP `undo`
  --die-after STEP    abort the process as soon as the result of STEP is recorded
                      STEP: list_agents, validate_code, v2_check, deploy_staging, test_staging,
                      deploy_production (its first item) or deploy_production[ITEM]
";

pub(crate) const GATES: [&str; 4] = ["violations", "coverage", "answers", "health"];

#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) source: PathBuf,
    pub(crate) state: PathBuf,
    pub(crate) agents: u32,
    pub(crate) run: Option<String>,
    pub(crate) retry: bool,
    pub(crate) rollback: bool,
    pub(crate) fresh: bool,
    pub(crate) faults: Faults,
}

/// What shall go wrong.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Faults {
    pub(crate) gate: Option<String>,
    pub(crate) flaky: u32,
    pub(crate) die_during: Option<String>,
    pub(crate) die_after: Option<String>,
}

impl Options {
    /// Whether anything shall go wrong.
    pub(crate) fn has_faults(&self) -> bool {
        self.faults != Faults::default()
    }

    /// Reads the command line; `None` if help was asked for.
    pub(crate) fn parse() -> Result<Option<Self>, Box<dyn Error>> {
        let mut options = Options {
            source: concat!(env!("CARGO_MANIFEST_DIR"), "/assets/service").into(),
            state: "target/deploy-demo".into(),
            agents: 7,
            run: None,
            retry: false,
            rollback: false,
            fresh: false,
            faults: Faults::default(),
        };
        let mut parser = lexopt::Parser::from_env();
        while let Some(argument) = parser.next()? {
            match argument {
                Long("source") => options.source = parser.value()?.into(),
                Long("state") => options.state = parser.value()?.into(),
                Long("agents") => {
                    let agents = parser.value()?;
                    let wrong = |_| format!("--agents {agents:?}: a number from 1 to 1000 is needed");
                    options.agents = agents.parse().map_err(wrong)?;
                }
                Long("run") => options.run = Some(parser.value()?.string()?),
                Long("retry") => options.retry = true,
                Long("rollback") => options.rollback = true,
                Long("fresh") => options.fresh = true,
                Long("flaky") => options.faults.flaky = parser.value()?.parse()?,
                Long("die-during") => options.faults.die_during = Some(parser.value()?.string()?),
                Long("die-after") => options.faults.die_after = Some(parser.value()?.string()?),
                Long("fail-gate") => {
                    let gate = parser.optional_value().map(|gate| gate.to_string_lossy().into_owned());
                    options.faults.gate = Some(gate.unwrap_or_else(|| "health".to_owned()));
                }
                Long("help") | Short('h') => return Ok(None),
                other => return Err(format!("{}; --help lists what there is", other.unexpected()).into()),
            }
        }
        if options.agents == 0 || options.agents > 1000 {
            return Err(format!("--agents {}: 1 to 1000 are allowed", options.agents).into());
        }
        if let Some(gate) = options.faults.gate.as_ref().filter(|gate| !GATES.contains(&gate.as_str())) {
            return Err(format!("--fail-gate={gate}: there are the gates {}", GATES.join(", ")).into());
        }
        // The shell's folder may be another when the run is taken up again.
        options.state = env::current_dir()?.join(options.state);
        Ok(Some(options))
    }
}
