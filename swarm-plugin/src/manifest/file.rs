//! `plugin.toml`.

use std::collections::BTreeMap;
use std::time::Duration;

use semver::{Version, VersionReq};
use serde::Deserialize;
use serde_json::Value;

use super::{Manifest, ManifestBuilder};

/// The version of what plugins and hosts say to each other, which `api` in a manifest is a range of.
pub(crate) const API: Version = Version::new(1, 0, 0);

/// The file as it is written. What is not named here is refused, since it would be a misspelling.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ManifestFile {
    pub(crate) name: String,
    version: String,
    #[serde(default)]
    description: String,
    /// Versions of the plugin API that will do.
    #[serde(default)]
    api: Option<String>,
    /// Who loads it: `process`, or another kind that a loader was given for.
    pub(crate) kind: String,
    /// What runs: the program and its arguments.
    #[serde(default)]
    pub(crate) command: Vec<String>,
    /// The JSON Schema of the parameters.
    parameters: Option<Value>,
    /// Other plugins, each with a range of versions.
    #[serde(default)]
    requires: BTreeMap<String, String>,
    #[serde(default)]
    limits: LimitsTable,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    timeout_ms: Option<u64>,
    concurrency: Option<usize>,
    params_bytes: Option<usize>,
    result_bytes: Option<usize>,
}

impl ManifestFile {
    /// # Errors
    /// Says in one line what is wrong.
    pub(crate) fn parse(text: &str) -> Result<ManifestFile, String> {
        let file: ManifestFile = toml::from_str(text).map_err(|error| {
            let line = 1 + error
                .span()
                .map_or(0, |span| text.bytes().take(span.start).filter(|&byte| byte == b'\n').count());
            format!("plugin.toml, line {line}: {}", error.message().escape_debug())
        })?;
        if let Some(range) = &file.api {
            let parsed = VersionReq::parse(range);
            let parsed =
                parsed.map_err(|error| format!("plugin.toml: api {range:?} is not a range: {error}"))?;
            if !parsed.matches(&API) {
                return Err(format!(
                    "plugin.toml: it is written for the plugin API {range}, and this is {API}"
                ));
            }
        }
        file.builder().build().map_err(|error| format!("plugin.toml: {error}"))?;
        Ok(file)
    }

    pub(crate) fn builder(&self) -> ManifestBuilder {
        let mut builder = Manifest::builder(&self.name, &self.version).description(&self.description);
        if let Some(schema) = &self.parameters {
            builder = builder.parameters(schema.clone());
        }
        for (name, range) in &self.requires {
            builder = builder.requires(name, range);
        }
        let limits = &self.limits;
        if let Some(millis) = limits.timeout_ms {
            builder = builder.timeout(Duration::from_millis(millis));
        }
        if let Some(calls) = limits.concurrency {
            builder = builder.concurrency(calls);
        }
        if let Some(bytes) = limits.params_bytes {
            builder = builder.params_bytes(bytes);
        }
        if let Some(bytes) = limits.result_bytes {
            builder = builder.result_bytes(bytes);
        }
        builder
    }
}
