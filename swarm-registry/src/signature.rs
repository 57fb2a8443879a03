//! Ed25519 signatures over what a version is.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use ed25519_dalek::Signer;
use serde_json::Value;

use crate::error::{Error, ErrorKind, Result};
use crate::hex::{self, Hex};
use crate::random;
use crate::version::VersionInfo;

/// A private key that vouches for versions.
///
/// ```
/// use swarm_registry::{ObjectVersionStore, SignaturePolicy, SigningKey, Split, Version, VersionRegistry};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), swarm_registry::Error> {
/// let key = SigningKey::generate()?; // or from_bytes, of 32 bytes kept in a safe place
/// let policy = SignaturePolicy::any_of([key.verifying_key()]);
/// let builder = VersionRegistry::builder().require_signatures(policy);
/// let registry = builder.with_store(ObjectVersionStore::memory()).await?;
///
/// let version = registry.register(Version::new("v1").artifact("bytes")).await?.version;
/// assert!(registry.deploy("production", Split::all("v1")).await.is_err());
/// registry.add_signature("v1", &key.sign(&version)).await?;
/// registry.deploy("production", Split::all("v1")).await?;
/// # Ok(())
/// # }
/// ```
///
/// Its bytes are overwritten when it is dropped, and it is not shown.
pub struct SigningKey(ed25519_dalek::SigningKey);

/// A public key, written as 64 hex digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VerifyingKey([u8; 32]);

/// That the owner of a key vouches for one version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Signature {
    key: VerifyingKey,
    bytes: [u8; 64],
}

/// Whose signatures a version needs before it gets any traffic:
/// [`require_signatures`](crate::RegistryBuilder::require_signatures).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignaturePolicy {
    keys: BTreeSet<VerifyingKey>,
    least: usize,
}

impl SigningKey {
    /// A new key, from the system's random numbers.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] where the system gives none.
    pub fn generate() -> Result<Self> {
        Ok(SigningKey::from_bytes(&random::bytes()?))
    }

    /// The key of these bytes: the seed that RFC 8032 calls the private key.
    pub fn from_bytes(bytes: &[u8; 32]) -> Self {
        SigningKey(ed25519_dalek::SigningKey::from_bytes(bytes))
    }

    /// Its bytes, to be kept where nobody else reads them.
    pub fn to_bytes(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// The public key that belongs to it.
    pub fn verifying_key(&self) -> VerifyingKey {
        VerifyingKey(self.0.verifying_key().to_bytes())
    }

    /// Vouches for `version`.
    pub fn sign(&self, version: &VersionInfo) -> Signature {
        let bytes = self.0.sign(version.statement().as_bytes()).to_bytes();
        Signature { key: self.verifying_key(), bytes }
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey(of {})", self.verifying_key())
    }
}

impl VerifyingKey {
    /// The key of these bytes. Whether there is such a key shows when a signature is checked.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        VerifyingKey(bytes)
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; 32] {
        self.0
    }
}

impl Signature {
    /// A signature that was made elsewhere, in a hardware module for example, over [`VersionInfo::statement`].
    pub fn new(key: VerifyingKey, bytes: [u8; 64]) -> Self {
        Signature { key, bytes }
    }

    /// Whose it is, if it is one.
    pub fn key(&self) -> VerifyingKey {
        self.key
    }

    /// Its bytes.
    pub fn to_bytes(self) -> [u8; 64] {
        self.bytes
    }

    /// Whether it is one of `version`, by its key.
    pub fn is_of(&self, version: &VersionInfo) -> bool {
        let Ok(key) = ed25519_dalek::VerifyingKey::from_bytes(&self.key.0) else { return false };
        let signature = ed25519_dalek::Signature::from_bytes(&self.bytes);
        // Strict: no key of small order, and one form of each signature.
        key.verify_strict(version.statement().as_bytes(), &signature).is_ok()
    }
}

impl SignaturePolicy {
    /// One signature by any of `keys`.
    pub fn any_of(keys: impl IntoIterator<Item = VerifyingKey>) -> Self {
        SignaturePolicy { keys: keys.into_iter().collect(), least: 1 }
    }

    /// Signatures by at least so many of the keys: by the build server and by a person, for example. More than there are
    /// keys trusts nothing; 0 is taken for 1.
    #[must_use]
    pub fn at_least(mut self, keys: usize) -> Self {
        self.least = keys.max(1);
        self
    }

    /// Whether it trusts `version`.
    ///
    /// # Errors
    /// [`ErrorKind::Untrusted`] says how many signatures there are and how many it takes.
    pub fn check(&self, version: &VersionInfo) -> Result<()> {
        let signers: BTreeSet<VerifyingKey> = version
            .signatures()
            .filter(|signature| self.keys.contains(&signature.key) && signature.is_of(version))
            .map(|signature| signature.key)
            .collect();
        if signers.len() >= self.least {
            return Ok(());
        }
        let message = format!(
            "version {:?} has {} of the {} trusted signatures that it takes",
            version.id(),
            signers.len(),
            self.least
        );
        Err(Error::new(ErrorKind::Untrusted, message).of_version(version.id()))
    }
}

impl VersionInfo {
    /// What a signature is made of (feature `signatures`): the line `swarm-registry version 1`, a line feed, and a JSON
    /// object of `digest`, `id` and `metadata`.
    ///
    /// The JSON has no white space, and keys in the order of their bytes, at every depth. Numbers and escapes are
    /// those of `serde_json`: integers in full, floats as the shortest digits that read back the same, `\"`, `\\` and control
    /// characters escaped and nothing else. For metadata of texts and integers it is what Python's
    /// `json.dumps(…, sort_keys=True, separators=(",", ":"), ensure_ascii=False)` writes.
    ///
    /// Metrics, labels and the parent are not part of it.
    pub fn statement(&self) -> String {
        let mut out = String::from("swarm-registry version 1\n{\"digest\":");
        write_text(&self.digest.to_string(), &mut out);
        out.push_str(",\"id\":");
        write_text(&self.id, &mut out);
        out.push_str(",\"metadata\":");
        write_object(self.metadata.iter(), &mut out);
        out.push('}');
        out
    }

    /// The signatures that are kept with it (feature `signatures`). They were good when they were added;
    /// [`SignaturePolicy::check`] looks again.
    pub fn signatures(&self) -> impl Iterator<Item = Signature> {
        self.signatures.iter().filter_map(|(key, bytes)| {
            Some(Signature { key: VerifyingKey(hex::decode(key)?), bytes: hex::decode(bytes)? })
        })
    }
}

fn write_text(text: &str, out: &mut String) {
    out.push_str(&Value::from(text).to_string());
}

fn write_object<'a>(entries: impl Iterator<Item = (&'a String, &'a Value)>, out: &mut String) {
    // In whatever order a map of JSON is kept: that is a feature of serde_json, which any crate can turn on.
    let mut entries: Vec<_> = entries.collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    out.push('{');
    for (at, (key, value)) in entries.into_iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        write_text(key, out);
        out.push(':');
        write_value(value, out);
    }
    out.push('}');
}

fn write_value(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => write_object(map.iter(), out),
        Value::Array(values) => {
            out.push('[');
            for (at, value) in values.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                write_value(value, out);
            }
            out.push(']');
        }
        other => out.push_str(&other.to_string()),
    }
}

impl fmt::Display for VerifyingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Hex(&self.0))
    }
}

impl fmt::Display for Signature {
    /// Its bytes in hex.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Hex(&self.bytes))
    }
}

impl FromStr for VerifyingKey {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = || Error::input(format!("{text:?} is no key; it is written as 64 lower-case hex digits"));
        hex::decode(text).map(VerifyingKey).ok_or_else(wrong)
    }
}
