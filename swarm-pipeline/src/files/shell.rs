//! Running a program as a step.

mod capture;
mod config;
mod failure;
mod process;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::{Value, json};
use tokio::process::Command;

use crate::digest::sha256_parts;
use crate::step::{PipelineStep, StepContext};
use crate::step_error::{StepError, StepErrorKind};
use capture::Captured;
use process::{Ended, Process};

/// Runs a program. In files it is the kind `shell`.
///
/// The output is `{"code": 0, "stdout": "…", "stderr": "…", "truncated": false, "lossy": false}`, with the value that the
/// program printed under `json` if [`parse_json`](Shell::parse_json) asks for that. Any exit code but 0 and those of
/// [`ok_codes`](Shell::ok_codes) fails the attempt, which may be retried; a program that cannot be found fails the step for good.
///
/// The program finds the run's id in `SWARM_RUN`, its step in `SWARM_STEP`, the number of the attempt in `SWARM_ATTEMPT`, and
/// the idempotency key, the same for every attempt, in `SWARM_IDEMPOTENCY_KEY`. In a fan-out, `SWARM_ITEM` is the item (a text as it is,
/// anything else as JSON) and `SWARM_ITEM_INDEX` its position.
///
/// On Unix the program leads a process group of its own. When the run is cancelled the group is sent SIGTERM, and SIGKILL when
/// the [grace](Shell::kill_grace) is over. The same befalls it when the attempt takes too long: the attempt then ends with the program, so
/// that a retry never runs beside it. What the program leaves running in its group when it exits is killed too: a daemon
/// must start a session of its own. If this process itself is killed, the program goes on: the parent-death signal that
/// could prevent it needs `unsafe` code.
///
/// ```
/// use swarm_pipeline::{LocalEngine, Pipeline, Shell};
///
/// # #[cfg(unix)]
/// # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
/// let mut p = Pipeline::builder("greeting");
/// let hello = p.step("hello").run_step(Shell::new("echo").arg("hello"));
/// let pipeline = p.build()?;
/// let report = LocalEngine::in_memory().run(&pipeline, "r1", ()).await?;
/// assert_eq!(report.output(&hello)?["stdout"], "hello\n");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// # })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Shell {
    program: OsString,
    args: Vec<OsString>,
    env: BTreeMap<String, OsString>,
    inherit_env: bool,
    cwd: Option<PathBuf>,
    ok_codes: Vec<i32>,
    output_limit: usize,
    stdin: Stdin,
    json: bool,
    kill_grace: Duration,
    version: OnceLock<String>,
}

impl std::fmt::Debug for Shell {
    /// Without the values of the environment, which may be secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shell")
            .field("program", &self.program)
            .field("args", &self.args)
            .field("env", &self.env.keys())
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}

/// What the program reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Stdin {
    #[default]
    Nothing,
    Inputs,
    Item,
}

impl Shell {
    /// Runs `program`, which is looked for in `PATH` if it has no `/`.
    pub fn new(program: impl Into<OsString>) -> Self {
        Shell {
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            inherit_env: true,
            cwd: None,
            ok_codes: vec![0],
            output_limit: 64 * 1024,
            stdin: Stdin::Nothing,
            json: false,
            kill_grace: Duration::from_secs(2),
            version: OnceLock::new(),
        }
    }

    /// Runs `script` by `sh -c`.
    pub fn script(script: impl Into<OsString>) -> Self {
        Shell::new("sh").arg("-c").arg(script)
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, arg: impl Into<OsString>) -> Self {
        self.args.push(arg.into());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<OsString>) -> Self {
        self.env.insert(name.into(), value.into());
        self
    }

    /// Whether the program gets the environment of this process too; it does unless said otherwise.
    #[must_use]
    pub fn inherit_env(mut self, inherit: bool) -> Self {
        self.inherit_env = inherit;
        self
    }

    /// The folder the program runs in; that of this process unless said otherwise.
    #[must_use]
    pub fn cwd(mut self, folder: impl Into<PathBuf>) -> Self {
        self.cwd = Some(folder.into());
        self
    }

    /// The exit codes that mean success; only 0 unless said otherwise.
    #[must_use]
    pub fn ok_codes(mut self, codes: impl IntoIterator<Item = i32>) -> Self {
        self.ok_codes = codes.into_iter().collect();
        self
    }

    /// How many bytes are kept of each of the two streams, the last ones; 64 KiB unless said otherwise.
    #[must_use]
    pub fn output_limit(mut self, bytes: usize) -> Self {
        self.output_limit = bytes;
        self
    }

    /// Gives the program the outputs of the dependencies on its standard input, as a JSON object by step name.
    ///
    /// For a program that undoes a step, that is one entry: the output of the step, if it is known.
    #[must_use]
    pub fn stdin_inputs(mut self) -> Self {
        self.stdin = Stdin::Inputs;
        self
    }

    /// Takes what the program prints as JSON. Anything else fails the attempt.
    #[must_use]
    pub fn parse_json(mut self) -> Self {
        self.json = true;
        self
    }

    /// How long a program that was asked to end may go on; 2 s unless said otherwise.
    #[must_use]
    pub fn kill_grace(mut self, grace: Duration) -> Self {
        self.kill_grace = grace;
        self
    }

    fn command(&self, cx: &StepContext) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args);
        if !self.inherit_env {
            command.env_clear();
        }
        command.envs(&self.env);
        command.env("SWARM_RUN", cx.run_id()).env("SWARM_STEP", cx.step());
        command.env("SWARM_ATTEMPT", cx.attempt().to_string());
        command.env("SWARM_IDEMPOTENCY_KEY", cx.idempotency_key());
        if let Some(index) = cx.item() {
            command.env("SWARM_ITEM_INDEX", index.to_string());
            // An undo has no item, only the output of one.
            if let Ok(item) = cx.item_value::<Value>() {
                command.env("SWARM_ITEM", item.as_str().map_or_else(|| item.to_string(), str::to_owned));
            }
        }
        if let Some(folder) = &self.cwd {
            command.current_dir(folder);
        }
        command
    }

    fn input(&self, cx: &StepContext) -> Result<Option<Vec<u8>>, StepError> {
        match self.stdin {
            Stdin::Nothing => Ok(None),
            Stdin::Inputs => Ok(Some(cx.inputs_json()?)),
            Stdin::Item => Ok(Some(cx.item_value::<Value>()?.to_string().into_bytes())),
        }
    }

    fn value(&self, ended: &Ended) -> Result<Value, StepError> {
        let Ended { code, stdout, stderr } = ended;
        let code = match code {
            Ok(code) if self.ok_codes.contains(code) => *code,
            Ok(code) => {
                return Err(failure::exited(&self.program, &format!("exited with code {code}"), stderr));
            }
            Err(signal) => return Err(failure::exited(&self.program, signal, stderr)),
        };
        let (out, out_lossy) = stdout.text();
        let (err, err_lossy) = stderr.text();
        let mut value = json!({
            "code": code,
            "stdout": out,
            "stderr": err,
            "truncated": stdout.is_truncated() || stderr.is_truncated(),
            "lossy": out_lossy || err_lossy,
        });
        if self.json {
            value["json"] = self.parsed(stdout)?;
            value["stdout"] = Value::from("");
        }
        Ok(value)
    }

    fn parsed(&self, stdout: &Captured) -> Result<Value, StepError> {
        let program = self.program.to_string_lossy();
        if stdout.is_truncated() {
            let limit = self.output_limit;
            return Err(StepError::permanent(format_args!(
                "{program:?} printed more than the {limit} bytes kept; raise `output_limit`"
            )));
        }
        serde_json::from_slice(stdout.bytes()).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            StepError::new(format_args!(
                "{program:?} did not print JSON: wrong at line {line}, column {column}"
            ))
        })
    }
}

#[async_trait]
impl PipelineStep for Shell {
    async fn run(&self, cx: &StepContext) -> Result<Value, StepError> {
        let input = self.input(cx)?;
        let mut command = self.command(cx);
        let process = Process::spawn(&mut command, input.is_some(), self.kill_grace)
            .map_err(|error| failure::not_started(&self.program, self.cwd.as_deref(), self.path(), error))?;
        let asked_to_end = cx.cancelled();
        let (ended, cancelled) = process.finish(input, self.output_limit, asked_to_end).await?;
        match self.value(&ended) {
            // The engine says so where time was up.
            Err(error) if cancelled => Err(StepError::of(
                StepErrorKind::Cancelled,
                format_args!("ended since the run was cancelled: {error}"),
            )),
            other => other,
        }
    }

    fn ends_itself(&self) -> bool {
        true
    }

    fn version(&self) -> &str {
        self.version.get_or_init(|| {
            let mut parts = vec![self.program.as_encoded_bytes(), b"args"];
            parts.extend(self.args.iter().map(|arg| arg.as_encoded_bytes()));
            parts.push(b"env");
            for (name, value) in &self.env {
                parts.extend([name.as_bytes(), value.as_encoded_bytes()]);
            }
            let rest = format!(
                "{:?}",
                (self.inherit_env, &self.cwd, &self.ok_codes, self.output_limit, self.stdin, self.json)
            );
            parts.push(rest.as_bytes());
            sha256_parts(parts)[..32].to_owned()
        })
    }
}

impl Shell {
    /// Where the program is looked for.
    fn path(&self) -> Option<OsString> {
        match self.env.get("PATH") {
            Some(path) => Some(path.clone()),
            None => std::env::var_os("PATH").filter(|_| self.inherit_env),
        }
    }
}
