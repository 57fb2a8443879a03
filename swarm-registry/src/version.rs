use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::digest::Digest;
use crate::error::{Error, Result};
use crate::measure::Measure;
use crate::name;

/// How deep metadata may be nested: what reads a record back goes 128 deep, and the record is around it.
const DEPTH: usize = 100;

/// A version to register: an id, what it consists of, and what is known of it.
///
/// ```
/// use swarm_registry::Version;
///
/// let version = Version::new("v2.0_refactored")
///     .artifact("the bytes of the build")
///     .metric("v2_violations", 3.0)
///     .metric("test_coverage", 88.0)
///     .label("team", "agents")
///     .parent("v1.0_current");
/// ```
///
/// Setters do not fail; [`register`](crate::VersionRegistry::register) tells what is wrong, all of it at once.
#[derive(Debug, Clone)]
#[must_use = "it is registered by VersionRegistry::register"]
pub struct Version {
    pub(crate) id: String,
    pub(crate) artifact: Option<Bytes>,
    pub(crate) digest: Option<Result<Digest, String>>,
    pub(crate) metadata: BTreeMap<String, Value>,
    pub(crate) metrics: BTreeMap<String, Measure>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) parent: Option<String>,
}

impl Version {
    /// A version of this id: 1 to 128 bytes without white space, so that a git tag can be one.
    pub fn new(id: impl Into<String>) -> Self {
        Version {
            id: id.into(),
            artifact: None,
            digest: None,
            metadata: BTreeMap::new(),
            metrics: BTreeMap::new(),
            labels: BTreeMap::new(),
            parent: None,
        }
    }

    /// What it consists of. The registry keeps the bytes and checks them whenever they are read.
    pub fn artifact(mut self, bytes: impl Into<Bytes>) -> Self {
        self.artifact = Some(bytes.into());
        self
    }

    /// The digest of what it consists of, where the bytes are kept elsewhere: `"sha256:…"` or a [`Digest`].
    ///
    /// With [`artifact`](Version::artifact) as well, the two must agree.
    pub fn digest<D: TryInto<Digest>>(mut self, digest: D) -> Self
    where
        D::Error: std::fmt::Display,
    {
        self.digest = Some(digest.try_into().map_err(|error| error.to_string()));
        self
    }

    /// Something that is known of it, as JSON, nested up to 100 deep.
    pub fn metadata(mut self, key: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.insert(key.into(), value.into());
        self
    }

    /// What was measured of it: a figure, samples, or another [`Measure`].
    pub fn metric(mut self, name: impl Into<String>, measure: impl Into<Measure>) -> Self {
        self.metrics.insert(name.into(), measure.into());
        self
    }

    /// A label to find it by.
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// The registered version that it was made from.
    pub fn parent(mut self, id: impl Into<String>) -> Self {
        self.parent = Some(id.into());
        self
    }

    /// The digest, once everything was found acceptable.
    pub(crate) fn check(&self) -> Result<Digest> {
        let mut wrong: Vec<String> = Vec::new();
        let mut note = |checked: Result<()>| {
            if let Err(error) = checked {
                wrong.push(error.to_string());
            }
        };
        note(name::check("version id", &self.id));
        for key in self.labels.keys() {
            note(name::check("label", key));
        }
        for (key, value) in &self.metadata {
            note(name::check("metadata key", key));
            if !is_flat(value, DEPTH) {
                note(Err(Error::input(format!("the metadata {key:?} is nested deeper than {DEPTH}"))));
            }
        }
        for (metric, measure) in &self.metrics {
            note(name::check("metric", metric));
            note(measure.check(metric));
        }
        let of_bytes = self.artifact.as_deref().map(Digest::of);
        let digest = match (of_bytes, &self.digest) {
            (_, Some(Err(error))) => Err(error.clone()),
            (None, None) => Err("there is neither an artifact nor a digest".to_owned()),
            (Some(has), Some(Ok(said))) if has != *said => {
                Err(format!("the artifact has the digest {has}, not {said}"))
            }
            (Some(digest), _) => Ok(digest),
            (None, Some(Ok(digest))) => Ok(*digest),
        };
        match digest {
            Ok(digest) if wrong.is_empty() => return Ok(digest),
            Ok(_) => {}
            Err(error) => wrong.push(error),
        }
        let message = format!("version {} is not acceptable: {}", name::quoted(&self.id), wrong.join("; "));
        Err(Error::input(message).of_version(&self.id))
    }
}

/// Whether `value` is nested at most so deep.
fn is_flat(value: &Value, depth: usize) -> bool {
    let mut inner: Box<dyn Iterator<Item = &Value>> = match value {
        Value::Array(values) => Box::new(values.iter()),
        Value::Object(map) => Box::new(map.values()),
        _ => return true,
    };
    depth > 0 && inner.all(|value| is_flat(value, depth - 1))
}

/// A version as the registry keeps it.
#[derive(Debug, Clone, PartialEq)]
pub struct VersionInfo {
    pub(crate) id: Arc<str>,
    pub(crate) digest: Digest,
    pub(crate) artifact: Option<Artifact>,
    pub(crate) metadata: BTreeMap<String, Value>,
    pub(crate) metrics: BTreeMap<String, Measure>,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) parent: Option<String>,
    pub(crate) creator: Option<String>,
    pub(crate) registered_at: DateTime<Utc>,
    pub(crate) record: u64,
    /// By their keys, both in hex as they are written.
    pub(crate) signatures: BTreeMap<String, String>,
}

/// Where the bytes of a version are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Artifact {
    pub(crate) object: String,
    pub(crate) size: u64,
}

impl VersionInfo {
    /// Its id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What identifies its content. Two ids can share one.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// How many bytes the registry keeps of it; `None` where they are elsewhere.
    pub fn artifact_size(&self) -> Option<u64> {
        Some(self.artifact.as_ref()?.size)
    }

    /// What is known of it.
    pub fn metadata(&self) -> &BTreeMap<String, Value> {
        &self.metadata
    }

    /// What was measured of it.
    pub fn metrics(&self) -> &BTreeMap<String, Measure> {
        &self.metrics
    }

    /// The labels it can be found by.
    pub fn labels(&self) -> &BTreeMap<String, String> {
        &self.labels
    }

    /// The version it was made from. It still says so after retention removed that one.
    pub fn parent(&self) -> Option<&str> {
        self.parent.as_deref()
    }

    /// Who registered it, where the registry was told by [`acting_as`](crate::VersionRegistry::acting_as).
    pub fn creator(&self) -> Option<&str> {
        self.creator.as_deref()
    }

    /// When it was registered, by the clock of who did.
    pub fn registered_at(&self) -> DateTime<Utc> {
        self.registered_at
    }

    /// The number of the record that registered it: versions in the order of these are in the order of registration.
    pub fn record(&self) -> u64 {
        self.record
    }
}
