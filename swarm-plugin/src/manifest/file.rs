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
    /// What of the host it asks for.
    #[serde(default)]
    pub(crate) grants: Grants,
}

/// What a component asks for. It has nothing else.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Grants {
    #[serde(default)]
    pub(crate) folders: BTreeMap<String, Access>,
    #[serde(default)]
    pub(crate) env: Vec<String>,
    #[serde(default)]
    pub(crate) clock: bool,
    #[serde(default)]
    pub(crate) hosts: Vec<String>,
}

impl Grants {
    fn is_asked(&self) -> bool {
        !self.folders.is_empty() || !self.env.is_empty() || self.clock || !self.hosts.is_empty()
    }
}

/// What a plugin may do with a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(not(feature = "wasm"), allow(unreachable_pub, reason = "nobody asks for it"))]
pub enum Access {
    /// Read what is in it.
    Read,
    /// Read and write, make and remove.
    Write,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LimitsTable {
    timeout_ms: Option<u64>,
    concurrency: Option<usize>,
    params_bytes: Option<usize>,
    result_bytes: Option<usize>,
    memory_bytes: Option<usize>,
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
        file.checked().map_err(|why| format!("plugin.toml: {why}"))
    }

    /// What a plugin of this kind says of itself: the same keys, but for those of the kind.
    #[cfg(any(feature = "native", feature = "wasm"))]
    pub(crate) fn told(kind: &str, mut said: Value) -> Result<ManifestFile, String> {
        let Some(keys) = said.as_object_mut() else { return Err("its description is not an object".into()) };
        keys.insert("kind".into(), kind.into());
        let file: ManifestFile = serde_json::from_value(said)
            .map_err(|error| format!("its description: {}", error.to_string().escape_debug()))?;
        file.checked().map_err(|why| format!("its description: {why}"))
    }

    /// With what `below` says, where this one says nothing.
    #[cfg(any(feature = "native", feature = "wasm"))]
    pub(crate) fn over(mut self, below: ManifestFile) -> Result<ManifestFile, String> {
        if (&self.name, &self.version) != (&below.name, &below.version) {
            return Err(format!(
                "plugin.toml is for {} {}, and what stands beside it calls itself {} {}: make them the same",
                self.name, self.version, below.name, below.version
            ));
        }
        if self.description.is_empty() {
            self.description = below.description;
        }
        self.parameters = self.parameters.or(below.parameters);
        for (name, range) in below.requires {
            self.requires.entry(name).or_insert(range);
        }
        let (ours, theirs) = (&mut self.limits, below.limits);
        ours.timeout_ms = ours.timeout_ms.or(theirs.timeout_ms);
        // More at the same time than it says may be more than it can bear.
        ours.concurrency = ours.concurrency.into_iter().chain(theirs.concurrency).min();
        ours.params_bytes = ours.params_bytes.or(theirs.params_bytes);
        ours.result_bytes = ours.result_bytes.or(theirs.result_bytes);
        ours.memory_bytes = ours.memory_bytes.or(theirs.memory_bytes);
        Ok(self)
    }

    fn checked(self) -> Result<ManifestFile, String> {
        if let Some(range) = &self.api {
            let parsed = VersionReq::parse(range);
            let parsed = parsed.map_err(|error| format!("api {range:?} is not a range: {error}"))?;
            if !parsed.matches(&API) {
                return Err(format!("it is written for the plugin API {range}, and this is {API}"));
            }
        }
        if self.grants.is_asked() && self.kind != "wasm" {
            return Err(format!("grants are for the kind wasm, and this is of the kind {:?}", self.kind));
        }
        // What would have no effect must not seem to have one.
        if self.parameters.is_some() && self.kind == "process" {
            return Err("parameters are for other kinds: of a program, each tool tells its own".into());
        }
        if self.limits.memory_bytes.is_some() && self.kind == "native" {
            return Err("memory_bytes is for other kinds: a library has the memory of the service".into());
        }
        self.builder().build().map_err(|error| error.to_string())?;
        Ok(self)
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
        if let Some(bytes) = limits.memory_bytes {
            builder = builder.memory_bytes(bytes);
        }
        builder
    }
}
