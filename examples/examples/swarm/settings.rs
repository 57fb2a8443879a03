use std::path::Path;
use std::{fs, io};

use schemars::JsonSchema;
use serde::Deserialize;
use swarm_config::{Config, ConfigLoader, ConfigValidator};

/// What holds for every release.
#[derive(Deserialize, JsonSchema)]
pub(crate) struct Settings {
    pub(crate) limits: Limits,
    pub(crate) canary: Canary,
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Limits {
    /// The highest score that the plugin may give.
    #[schemars(range(min = 1))]
    pub(crate) complexity: u32,
}

#[derive(Deserialize, JsonSchema)]
pub(crate) struct Canary {
    /// Which part of the tasks a new version is tried on, in per cent.
    #[schemars(range(min = 1, max = 50))]
    pub(crate) percent: f64,
    /// For how long it is looked at.
    #[schemars(range(min = 1))]
    pub(crate) hours: u64,
}

pub(crate) fn load(folder: &Path) -> Result<Config<Settings>, Box<dyn std::error::Error>> {
    fs::write(file(folder), "[limits]\ncomplexity = 5\n\n[canary]\npercent = 20\nhours = 4\n")?;
    let validator = ConfigValidator::for_type::<Settings>()?;
    Ok(ConfigLoader::new().file(file(folder)).validator(validator).load()?)
}

/// As an editor saves a file: the new text is renamed into its place.
pub(crate) fn edit(folder: &Path, from: &str, to: &str) -> io::Result<()> {
    let draft = folder.join("swarm.draft");
    fs::write(&draft, fs::read_to_string(file(folder))?.replace(from, to))?;
    fs::rename(draft, file(folder))
}

fn file(folder: &Path) -> std::path::PathBuf {
    folder.join("swarm.toml")
}
