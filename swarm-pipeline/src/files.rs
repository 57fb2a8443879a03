//! Pipelines from TOML, YAML and JSON files.

mod config;
mod definition;
mod duration;
mod fields;
mod json;
mod policy;
mod shell;
mod toml;
mod tree;
mod yaml;

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use serde::de::DeserializeOwned;

use crate::error::{Error, ErrorKind, Result};
use crate::pipeline::Pipeline;
use crate::step::PipelineStep;
pub use shell::Shell;
use tree::{Fault, Faults, Item};

/// Larger files are refused.
const FILE_LIMIT: u64 = 16 * 1024 * 1024;

/// The kinds of steps that a pipeline file may use, and the way to read such files.
///
#[doc = include_str!("../docs/files.md")]
#[derive(Clone, Default)]
pub struct StepRegistry {
    kinds: BTreeMap<String, Factory>,
}

type Factory = Arc<dyn Fn(&Item) -> Result<Arc<dyn PipelineStep>, Fault> + Send + Sync>;

/// The language of a pipeline file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// TOML 1.1; `.toml`.
    Toml,
    /// YAML 1.2, one document; `.yaml` or `.yml`.
    Yaml,
    /// JSON; `.json`.
    Json,
}

impl Format {
    /// The format that the end of a file's name stands for.
    pub fn of_path(path: impl AsRef<Path>) -> Option<Self> {
        match path.as_ref().extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "toml" => Some(Format::Toml),
            "yaml" | "yml" => Some(Format::Yaml),
            "json" => Some(Format::Json),
            _ => None,
        }
    }
}

impl StepRegistry {
    /// No kinds but `signal` and `sleep`, which every file may use.
    pub fn new() -> Self {
        StepRegistry::default()
    }

    /// A registry that knows the kind `shell`, by which a file can run any program; see [`Shell`].
    pub fn with_shell() -> Self {
        let mut registry = StepRegistry::new();
        registry.register("shell", Shell::from_config);
        registry
    }

    /// Adds a kind. `factory` is given what a step has under `with`, as the type it asks for: one that derives
    /// `Deserialize`, or a [`serde_json::Value`]. What it complains of is told with file, line and column.
    ///
    /// A kind that is registered again, `shell`, `signal` and `sleep` included, takes the place of the former.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use swarm_pipeline::{PipelineStep, StepContext, StepError, StepRegistry};
    ///
    /// #[derive(serde::Deserialize)]
    /// #[serde(deny_unknown_fields)]
    /// struct Deploy { target: String }
    ///
    /// #[async_trait::async_trait]
    /// impl PipelineStep for Deploy {
    ///     async fn run(&self, _cx: &StepContext) -> Result<serde_json::Value, StepError> {
    ///         Ok(self.target.clone().into())
    ///     }
    /// }
    ///
    /// let mut registry = StepRegistry::with_shell();
    /// registry.register("deploy", |config: Deploy| match config.target.is_empty() {
    ///     true => Err("the target is empty"),
    ///     false => Ok(config),
    /// });
    /// // One kind may also choose among several types.
    /// registry.register("any", |config: Deploy| Ok::<_, String>(Arc::new(config) as Arc<dyn PipelineStep>));
    /// ```
    pub fn register<C, S, E>(
        &mut self,
        kind: impl Into<String>,
        factory: impl Fn(C) -> Result<S, E> + Send + Sync + 'static,
    ) -> &mut Self
    where
        C: DeserializeOwned,
        S: PipelineStep,
        E: fmt::Display,
    {
        let factory: Factory = Arc::new(move |item| {
            let made = factory(config::read(item)?);
            let step = made.map_err(|error| Fault::new(item.at, error.to_string()))?;
            Ok(Arc::new(step))
        });
        self.kinds.insert(kind.into(), factory);
        self
    }

    /// The registered kinds, in alphabetical order.
    pub fn kinds(&self) -> impl Iterator<Item = &str> {
        self.kinds.keys().map(String::as_str)
    }

    /// Reads the pipeline in the file `path`; its name tells the format.
    ///
    /// # Errors
    /// [`ErrorKind::Definition`] with every problem of the file, each with its line and column; [`ErrorKind::Io`] where the file
    /// cannot be read; [`ErrorKind::InvalidInput`] where its name ends in no known way.
    pub fn load(&self, path: impl AsRef<Path>) -> Result<Pipeline> {
        let path = path.as_ref();
        let format = Format::of_path(path).ok_or_else(|| {
            let message = format!("{} does not end in .toml, .yaml, .yml or .json", path.display());
            Error::new(ErrorKind::InvalidInput, message).at_path(path)
        })?;
        let bytes = read(path).map_err(|error| Error::io("read", path, error))?;
        self.parse_bytes(&bytes, format, Some(path)).map_err(|error| error.at_path(path))
    }

    /// Reads the pipeline in `text`.
    ///
    /// # Errors
    /// [`ErrorKind::Definition`] with every problem of the text, each with its line and column.
    pub fn parse(&self, text: &str, format: Format) -> Result<Pipeline> {
        self.parse_bytes(text.as_bytes(), format, None)
    }

    fn parse_bytes(&self, bytes: &[u8], format: Format, file: Option<&Path>) -> Result<Pipeline> {
        let told =
            |text: &str, faults: Faults| Err(Error::new(ErrorKind::Definition, faults.render(text, file)));
        let one = |fault: Fault| {
            let mut faults = Faults::default();
            faults.push(fault);
            faults
        };
        if bytes.len() as u64 > FILE_LIMIT {
            return told("", one(Fault::new(0, format!("larger than {} MiB", FILE_LIMIT >> 20))));
        }
        // Editors on Windows write a mark in front.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = match std::str::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => {
                let good = error.valid_up_to();
                let text = String::from_utf8_lossy(&bytes[..good]);
                return told(&text, one(Fault::new(good as u32, "a byte that is not UTF-8")));
            }
        };
        let root = match format {
            Format::Toml => toml::read(text).map_err(|found| {
                let mut faults = Faults::default();
                found.into_iter().for_each(|fault| faults.push(fault));
                faults
            }),
            Format::Yaml => yaml::read(text).map_err(one),
            Format::Json => json::read(text).map_err(one),
        };
        root.and_then(|root| definition::build(&root, self)).or_else(|faults| told(text, faults))
    }

    fn knows(&self, kind: &str) -> bool {
        self.kinds.contains_key(kind)
    }

    fn make(&self, kind: &str, config: &Item) -> Option<Result<Arc<dyn PipelineStep>, Fault>> {
        self.kinds.get(kind).map(|factory| factory(config))
    }
}

/// Reads one byte more than is allowed at most, so that a device or a growing file does no harm.
fn read(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(FILE_LIMIT + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

impl fmt::Debug for StepRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("StepRegistry").field(&self.kinds.keys()).finish()
    }
}
