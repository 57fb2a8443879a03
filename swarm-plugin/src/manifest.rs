mod file;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use semver::{Version, VersionReq};
use serde_json::{Map, Value, json};

#[cfg(feature = "wasm")]
pub use self::file::Access;
#[cfg(feature = "wasm")]
pub(crate) use self::file::Grants;
pub(crate) use self::file::ManifestFile;
use crate::error::{Error, ErrorKind, Problem, Result};
use crate::requirement::Requirement;
use crate::schema::Schema;

/// What is known of a plugin without running it: name, version, parameters, requirements, limits.
///
/// Cheap to clone.
///
/// ```
/// use serde_json::json;
/// use swarm_plugin::Manifest;
///
/// let manifest = Manifest::builder("complexity_pro", "1.0.0")
///     .description("Scores how complex a source file is")
///     .required("file_path", json!({"type": "string", "description": "the file to look at"}))
///     .optional("limit", json!({"type": "integer", "minimum": 1, "default": 10}))
///     .build()?;
/// assert_eq!(manifest.parameters()["required"], json!(["file_path"]));
/// # Ok::<_, swarm_plugin::Error>(())
/// ```
#[derive(Clone)]
pub struct Manifest(Arc<Inner>);

struct Inner {
    name: Arc<str>,
    version: Version,
    description: String,
    schema: Schema,
    requires: Vec<Requirement>,
    limits: Limits,
}

impl Manifest {
    /// Begins a manifest. The version is a semantic one, such as `1.0.0`.
    pub fn builder(name: impl Into<String>, version: impl Into<String>) -> ManifestBuilder {
        ManifestBuilder {
            name: name.into(),
            version: version.into(),
            description: String::new(),
            parameters: None,
            named: Vec::new(),
            requires: Vec::new(),
            limits: Limits::default(),
        }
    }

    /// The name by which the plugin is called.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    pub(crate) fn shared_name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// The version.
    pub fn version(&self) -> &Version {
        &self.0.version
    }

    /// What the plugin does, for people and agents who look for a tool.
    pub fn description(&self) -> &str {
        &self.0.description
    }

    /// The JSON Schema of the parameters, which are always an object.
    pub fn parameters(&self) -> &Value {
        self.0.schema.value()
    }

    pub(crate) fn schema(&self) -> &Schema {
        &self.0.schema
    }

    /// The plugins that it needs.
    pub fn requires(&self) -> &[Requirement] {
        &self.0.requires
    }

    /// The limits that the plugin asks for.
    pub fn limits(&self) -> &Limits {
        &self.0.limits
    }
}

impl fmt::Debug for Manifest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Manifest")
            .field("name", &self.name())
            .field("version", &format_args!("{}", self.version()))
            .finish_non_exhaustive()
    }
}

/// What one call of a plugin may take.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// How long a call may take, where the caller does not say. Unset, the manager's.
    pub timeout: Option<Duration>,
    /// How many calls run at the same time; more wait. Unset, any number.
    pub concurrency: Option<usize>,
    /// How large parameters may be, in bytes of their JSON text. Unset, 16 MiB where there is a schema to check, and any
    /// size where every object will do.
    pub params_bytes: Option<usize>,
    /// How large a result may be, in bytes of its JSON text. Unset, any size: a Rust type has made it by then.
    pub result_bytes: Option<usize>,
    /// How much memory an instance may have, in bytes, of a kind that can bound it. Unset, what its loader says.
    pub memory_bytes: Option<usize>,
}

/// Makes a [`Manifest`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ManifestBuilder {
    name: String,
    version: String,
    description: String,
    parameters: Option<Value>,
    named: Vec<(String, Value, Presence)>,
    requires: Vec<(String, String)>,
    limits: Limits,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Presence {
    Required,
    Optional,
}

pub(crate) const DEFAULT_BYTES: usize = 16 * 1024 * 1024;
pub(crate) const NAME_LIMIT: usize = 64;
const VERSION_LIMIT: usize = 256;
const DESCRIPTION_LIMIT: usize = 16 * 1024;

impl ManifestBuilder {
    /// Another name, for a loader whose plugins have names of their own.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Another version, for a loader whose plugins have versions of their own.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// What the plugin does, at most 16 KiB without control characters.
    pub fn description(mut self, text: impl Into<String>) -> Self {
        self.description = text.into();
        self
    }

    /// A parameter that every call must have, with its JSON Schema.
    ///
    /// With at least one named parameter, those that are not named are refused.
    pub fn required(mut self, name: impl Into<String>, schema: Value) -> Self {
        self.named.push((name.into(), schema, Presence::Required));
        self
    }

    /// A parameter that a call may have, with its JSON Schema.
    pub fn optional(mut self, name: impl Into<String>, schema: Value) -> Self {
        self.named.push((name.into(), schema, Presence::Optional));
        self
    }

    /// The whole JSON Schema of the parameters, in the place of named ones. Draft 2020-12, where it does not say another.
    ///
    /// Patterns are those of the [`regex`](https://docs.rs/regex) crate: no look-around and no back-references. A reference is a
    /// JSON pointer into the schema, such as `#/$defs/node`.
    pub fn parameters(mut self, schema: Value) -> Self {
        self.parameters = Some(schema);
        self
    }

    /// The JSON Schema of a Rust type, in the place of named parameters.
    #[cfg(feature = "schemars")]
    #[cfg_attr(docsrs, doc(cfg(feature = "schemars")))]
    pub fn parameters_of<P: schemars::JsonSchema>(self) -> Self {
        self.parameters(schemars::schema_for!(P).to_value())
    }

    /// Another plugin that this one needs, with a range of versions such as `^1.2`.
    ///
    /// Without it the plugin waits and is not called. It can be called through
    /// [`CallContext::call`](crate::CallContext::call).
    pub fn requires(mut self, name: impl Into<String>, versions: impl Into<String>) -> Self {
        self.requires.push((name.into(), versions.into()));
        self
    }

    /// How long a call may take, where the caller does not say.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.limits.timeout = Some(timeout);
        self
    }

    /// How many calls run at the same time; more wait.
    pub fn concurrency(mut self, calls: usize) -> Self {
        self.limits.concurrency = Some(calls);
        self
    }

    /// How large parameters may be, in bytes of their JSON text.
    pub fn params_bytes(mut self, bytes: usize) -> Self {
        self.limits.params_bytes = Some(bytes);
        self
    }

    /// How large a result may be, in bytes of its JSON text.
    pub fn result_bytes(mut self, bytes: usize) -> Self {
        self.limits.result_bytes = Some(bytes);
        self
    }

    /// How much memory an instance may have, in bytes, of a kind that can bound it.
    pub fn memory_bytes(mut self, bytes: usize) -> Self {
        self.limits.memory_bytes = Some(bytes);
        self
    }

    /// For what comes from outside, where nobody wrote limits down.
    #[cfg(feature = "process")]
    pub(crate) fn bounded_params(mut self) -> Self {
        self.limits.params_bytes.get_or_insert(DEFAULT_BYTES);
        self
    }

    /// Checks everything and makes the manifest.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidInput`], with every problem.
    pub fn build(self) -> Result<Manifest> {
        let mut problems = Vec::new();
        if let Err(why) = check_name(&self.name) {
            problems.push(Problem::new("name", why));
        }
        let version = version(&self.version).map_err(|why| problems.push(Problem::new("version", why)));
        if self.description.len() > DESCRIPTION_LIMIT {
            problems.push(Problem::new("description", format!("is over {DESCRIPTION_LIMIT} bytes")));
        }
        if self.description.chars().any(|c| c.is_control() && c != '\n' && c != '\t') {
            problems.push(Problem::new("description", "has control characters"));
        }
        let mut requires: Vec<Requirement> = Vec::new();
        for (name, range) in self.requires {
            let at = format!("requires.{}", name.escape_debug());
            if let Err(why) = check_name(&name) {
                problems.push(Problem::new(&at, why));
            }
            if requires.iter().any(|known| known.name == name) {
                problems.push(Problem::new(&at, "is required twice"));
            }
            match range.parse::<VersionReq>() {
                Ok(version) => requires.push(Requirement { name, version }),
                Err(error) => {
                    problems.push(Problem::new(at, format!("{range:?} is not a range of versions: {error}")));
                }
            }
        }
        if self.limits.concurrency == Some(0) {
            problems.push(Problem::new("concurrency", "is 0, so that no call could run"));
        }
        if self.limits.timeout == Some(Duration::ZERO) {
            problems.push(Problem::new("timeout", "is 0, so that no call could run"));
        }
        let schema = parameters(self.parameters, self.named, &mut problems);
        let schema = Schema::compile(schema).map_err(|why| problems.push(Problem::new("parameters", why)));
        match (version, schema) {
            (Ok(version), Ok(schema)) if problems.is_empty() => Ok(Manifest(Arc::new(Inner {
                name: self.name.into(),
                version,
                description: self.description,
                schema,
                requires,
                limits: self.limits,
            }))),
            _ => {
                let what = format!("the manifest of {:?} is not valid", self.name);
                Err(Error::of_problems(ErrorKind::InvalidInput, &what, problems))
            }
        }
    }
}

fn parameters(
    whole: Option<Value>,
    named: Vec<(String, Value, Presence)>,
    problems: &mut Vec<Problem>,
) -> Value {
    if named.is_empty() {
        return whole.unwrap_or_else(Schema::any);
    }
    if whole.is_some() {
        problems.push(Problem::new("parameters", "are given as a whole and by name"));
    }
    let mut properties = Map::new();
    let mut required = Vec::new();
    for (name, schema, presence) in named {
        if presence == Presence::Required {
            required.push(Value::from(name.clone()));
        }
        if properties.contains_key(&name) {
            problems.push(Problem::new(format!("parameters.{}", name.escape_debug()), "is given twice"));
        }
        properties.insert(name, schema);
    }
    json!({"type": "object", "properties": properties, "required": required, "additionalProperties": false})
}

fn version(text: &str) -> Result<Version, String> {
    if text.len() > VERSION_LIMIT {
        return Err(format!("is over {VERSION_LIMIT} bytes"));
    }
    text.parse().map_err(|error| format!("{text:?} is not a semantic version: {error}"))
}

/// Names are safe in paths, logs and terminals, and are what MCP allows for tools.
pub(crate) fn check_name(name: &str) -> Result<(), String> {
    let shown = || name.chars().take(NAME_LIMIT).collect::<String>();
    if name.is_empty() {
        return Err("is empty".into());
    }
    if name.len() > NAME_LIMIT {
        return Err(format!("{:?}… is over {NAME_LIMIT} bytes", shown()));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'))
        || !name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
    {
        return Err(format!(
            "{:?} has more than letters, digits, `_`, `-` and `.`, or begins with one of the last two",
            shown()
        ));
    }
    Ok(())
}
