use std::collections::BTreeMap;

use serde::Deserialize;

use super::{Shell, Stdin};
use crate::files::duration;

/// What a step of the kind `shell` has under `with`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::files) struct ShellConfig {
    run: Option<Vec<String>>,
    script: Option<String>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    inherit_env: Option<bool>,
    cwd: Option<String>,
    ok_codes: Option<Vec<i32>>,
    output_limit: Option<usize>,
    #[serde(default)]
    stdin: StdinName,
    #[serde(default)]
    parse: Parse,
    kill_grace: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "snake_case")]
enum StdinName {
    #[default]
    Null,
    Inputs,
    Item,
}

#[derive(Deserialize, Default, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Parse {
    #[default]
    Text,
    Json,
}

impl Shell {
    pub(in crate::files) fn from_config(config: ShellConfig) -> Result<Self, String> {
        let mut shell = match (config.run, config.script) {
            (Some(run), None) => {
                let mut words = run.into_iter();
                let program = words.next().filter(|program| !program.is_empty());
                Shell::new(program.ok_or("`run` names no program")?).args(words)
            }
            (None, Some(script)) => Shell::script(script),
            _ => return Err("either `run` or `script` is needed, not both".to_owned()),
        };
        for (name, value) in config.env {
            if name.is_empty() || name.contains(['=', '\0']) {
                return Err(format!("{name:?} cannot be the name of an environment variable"));
            }
            shell = shell.env(name, value);
        }
        shell.inherit_env = config.inherit_env.unwrap_or(true);
        shell.cwd = config.cwd.map(Into::into);
        shell.ok_codes = config.ok_codes.unwrap_or(shell.ok_codes);
        shell.output_limit = config.output_limit.unwrap_or(shell.output_limit);
        shell.stdin = match config.stdin {
            StdinName::Null => Stdin::Nothing,
            StdinName::Inputs => Stdin::Inputs,
            StdinName::Item => Stdin::Item,
        };
        shell.json = config.parse == Parse::Json;
        if let Some(grace) = config.kill_grace {
            let wrong = || format!("`kill_grace` is no duration; write {}", duration::EXAMPLE);
            shell.kill_grace = duration::parse(&grace).ok_or_else(wrong)?;
        }
        Ok(shell)
    }
}
