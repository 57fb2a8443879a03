//! Files encrypted with SOPS: keys in the clear, each value encrypted by itself, a MAC over all of them.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use sha2::{Digest as _, Sha256};

use crate::Secret;
use crate::doc::{Doc, Payload};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::read;
use crate::source::{Format, Origin, Source};
use crate::tree::Tree;

mod cipher;
mod keys;
mod mac;
mod meta;
mod open;
mod options;
mod outline;
mod text;

pub use keys::{AgeKeys, AgeRecipient};
pub use options::{SopsOptions, SopsRule};

use cipher::{DataKey, Type};
use meta::{Metadata, Scope};

/// A file as the program `sops` writes it, encrypted for age keys: YAML, JSON, dotenv or INI.
///
/// A [`ConfigLoader`](crate::ConfigLoader) reads such files by itself. This is for tools: it makes them, opens them,
/// edits them and encrypts them for others. `sops` reads what it writes, and it reads what `sops` writes; comments and
/// the order of keys stay as they are. Everything happens in memory; writing [`text`](SopsFile::text) to a file is
/// left to the caller.
///
/// ```
/// use swarm_config::{AgeKeys, Format, Limits, SopsFile, SopsOptions};
///
/// let keys = AgeKeys::generate();
/// let plain = "# the main one\ndb:\n    password: hunter2\n    port_unencrypted: 5432\n";
/// let file = SopsFile::encrypt("db.yaml", Format::Yaml, plain, &SopsOptions::new(keys.recipients()))?;
/// assert!(!file.text().contains("hunter2") && file.text().contains("port_unencrypted: 5432"));
///
/// let read = SopsFile::parse("db.yaml", Format::Yaml, file.text(), &Limits::default())?;
/// assert_eq!(read.decrypt(&keys)?.expose(), plain);
/// # Ok::<(), swarm_config::Error>(())
/// ```
pub struct SopsFile {
    format: Format,
    doc: Arc<Doc>,
    meta: Metadata,
    limits: Limits,
    /// When changes are made, if not now.
    time: Option<DateTime<Utc>>,
}

/// Ciphertexts of values that may stay as they are, so that an edit changes no other line. By the hash of the value,
/// so that it is not kept itself.
#[derive(Default)]
struct Kept(HashMap<(String, Type, [u8; 32]), String>);

impl Kept {
    fn keep(&mut self, aad: String, kind: Type, plain: &[u8], sealed: &str) {
        self.0.insert((aad, kind, Sha256::digest(plain).into()), sealed.to_owned());
    }

    /// The ciphertext of a value: the known one, or a new one.
    fn seal(&self, key: &DataKey, aad: String, kind: Type, plain: &[u8]) -> String {
        if self.0.is_empty() {
            return cipher::seal(key, kind, plain, &aad);
        }
        let place = (aad, kind, Sha256::digest(plain).into());
        self.0.get(&place).cloned().unwrap_or_else(|| cipher::seal(key, kind, plain, &place.0))
    }
}

impl SopsFile {
    /// Reads a file; its extension names the format. Nothing is decrypted yet.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, and as [`parse`](SopsFile::parse).
    pub fn open(path: impl AsRef<Path>) -> Result<SopsFile> {
        let (path, limits) = (path.as_ref(), Limits::default());
        let source =
            Source::from_bytes(Origin::File(path.to_owned()), read::bytes_of(path, &limits)?, &limits)?;
        SopsFile::of(source, read::format_of(path)?, &limits)
    }

    /// Reads a text. `name` stands in locations.
    ///
    /// # Errors
    ///
    /// When the text does not follow its format or goes beyond the limits, is not encrypted, or is encrypted in a way
    /// that is not supported, which the error names: for PGP or a cloud's keys alone, for key groups, by comments.
    pub fn parse(name: &str, format: Format, text: impl AsRef<[u8]>, limits: &Limits) -> Result<SopsFile> {
        let source = Source::from_bytes(Origin::File(name.into()), text.as_ref().to_vec(), limits)?;
        SopsFile::of(source, format, limits)
    }

    fn of(source: Arc<Source>, format: Format, limits: &Limits) -> Result<SopsFile> {
        let doc = Arc::new(read::read(source, format, limits).map_err(Error::without_frame)?);
        let at =
            Error::new(ErrorKind::Secret, "not encrypted: there is no `sops` in it").at(&doc.source, 0..0);
        SopsFile::of_doc(&doc, format, limits).unwrap_or_else(|| Err(at.without_frame()))
    }

    /// A document that was read, if it is an encrypted one.
    pub(crate) fn of_doc(doc: &Arc<Doc>, format: Format, limits: &Limits) -> Option<Result<SopsFile>> {
        let tree = Tree::of(doc.clone());
        let found = meta::find(tree.root(), format)?;
        let (doc, limits) = (doc.clone(), limits.clone());
        Some(Metadata::read(&doc, &found).map(|meta| SopsFile { format, doc, meta, limits, time: None }))
    }

    /// Names the moment of the changes that [`edit`](SopsFile::edit) and [`rotate`](SopsFile::rotate) make of this file.
    /// Without it, that is now.
    #[must_use]
    pub fn at(mut self, time: DateTime<Utc>) -> SopsFile {
        self.time = Some(time);
        self
    }

    /// The file as it is written, encrypted.
    pub fn text(&self) -> &str {
        &self.doc.source.text
    }

    /// For whom it is encrypted.
    pub fn recipients(&self) -> impl Iterator<Item = &str> {
        self.meta.age.iter().map(|(recipient, _)| recipient.as_str())
    }

    /// The text that was encrypted: comments, order and layout as they are; texts that need quotes in double ones.
    ///
    /// # Errors
    ///
    /// When no key fits, or a value, the order of values or the MAC was changed ([`ErrorKind::Secret`]).
    pub fn decrypt(&self, keys: &AgeKeys) -> Result<Secret<String>> {
        let key = self.unlock(keys)?;
        let values = self.values(&key)?;
        text::decrypt(&self.doc, self.format, &values, &key, &mut Kept::default())
    }

    /// Encrypts a text.
    ///
    /// # Errors
    ///
    /// When the text does not follow its format or goes beyond the limits, is encrypted already, has what `sops`
    /// cannot keep (aliases, tags, integers beyond 64 bits with sign, a root that is no table), or there is no
    /// recipient, or the rule is empty or no regular expression.
    pub fn encrypt(name: &str, format: Format, text: &str, options: &SopsOptions) -> Result<SopsFile> {
        SopsFile::encrypt_by(options.rule.compiled()?, name, format, text, options)
    }

    fn encrypt_by(
        rule: Scope,
        name: &str,
        format: Format,
        text: &str,
        options: &SopsOptions,
    ) -> Result<SopsFile> {
        if options.recipients.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "nobody to encrypt for: give a recipient"));
        }
        let doc = plain_doc(Origin::File(name.into()), format, text, &options.limits)?;
        let key = cipher::new_key();
        let wrap = |recipient: &AgeRecipient| Ok((recipient.to_string(), keys::wrap(&key, recipient)?));
        let meta = Metadata {
            age: Vec::new(),
            modified: timestamp(options.time),
            mac: String::new(),
            rule,
            mac_only_encrypted: options.mac_only_encrypted,
            others: Vec::new(),
        };
        let wrapped = || options.recipients.iter().map(wrap).collect();
        seal(&doc, format, meta, wrapped, &key, &Kept::default(), &options.limits)
    }

    /// Decrypts, lets `change` make another text of it, and encrypts that with the same keys. Values that stay the
    /// same keep their ciphertext.
    ///
    /// # Errors
    ///
    /// As [`decrypt`](SopsFile::decrypt) and [`encrypt`](SopsFile::encrypt), and when the file is encrypted for other
    /// than age keys too, which would be lost.
    pub fn edit<T: AsRef<str>>(&self, keys: &AgeKeys, change: impl FnOnce(&str) -> T) -> Result<SopsFile> {
        self.check_rewrite()?;
        let key = self.unlock(keys)?;
        let values = self.values(&key)?;
        let mut known = Kept::default();
        let plain = text::decrypt(&self.doc, self.format, &values, &key, &mut known)?;
        let changed = change(plain.expose());
        let meta = Metadata {
            age: Vec::new(),
            modified: timestamp(self.time),
            mac: String::new(),
            rule: self.meta.rule.clone(),
            mac_only_encrypted: self.meta.mac_only_encrypted,
            others: Vec::new(),
        };
        let origin = self.doc.source.origin.clone();
        let doc = plain_doc(origin, self.format, changed.as_ref(), &self.limits)?;
        seal(&doc, self.format, meta, || Ok(self.meta.age.clone()), &key, &known, &self.limits)
    }

    /// Encrypts everything anew, with a new data key, for the given recipients. Which values are encrypted stays as it
    /// is in the file.
    ///
    /// # Errors
    ///
    /// As [`edit`](SopsFile::edit).
    pub fn rotate(
        &self,
        keys: &AgeKeys,
        recipients: impl IntoIterator<Item = AgeRecipient>,
    ) -> Result<SopsFile> {
        self.check_rewrite()?;
        let plain = self.decrypt(keys)?;
        let mut options = SopsOptions::new(recipients).limits(self.limits.clone());
        options.mac_only_encrypted = self.meta.mac_only_encrypted;
        options.time = self.time;
        let name = self.doc.source.location(0).source().to_owned();
        SopsFile::encrypt_by(self.meta.rule.clone(), &name, self.format, plain.expose(), &options)
    }

    fn check_rewrite(&self) -> Result<()> {
        if self.meta.others.is_empty() {
            return Ok(());
        }
        let others = self.meta.others.join(", ");
        Err(self.error(format!("writing it anew would lose what is not supported: {others}")))
    }

    fn error(&self, message: impl Into<String>) -> Error {
        Error::new(ErrorKind::Secret, message).at(&self.doc.source, 0..0).without_frame()
    }

    fn unlock(&self, keys: &AgeKeys) -> Result<DataKey> {
        keys.unwrap(&self.meta.age).ok_or_else(|| {
            let recipients: Vec<&str> = self.recipients().take(10).collect();
            self.error(format!("no key opens it: it is encrypted for {}", recipients.join(", ")))
        })
    }
}

/// The name, and for whom it is encrypted.
impl fmt::Debug for SopsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SopsFile")
            .field("source", &self.doc.source.location(0).source())
            .field("recipients", &self.recipients().collect::<Vec<_>>())
            .finish()
    }
}

fn timestamp(time: Option<DateTime<Utc>>) -> String {
    time.unwrap_or_else(Utc::now).to_rfc3339_opts(SecondsFormat::Secs, true)
}

/// Reads a text that is to be encrypted.
fn plain_doc(origin: Origin, format: Format, text: &str, limits: &Limits) -> Result<Arc<Doc>> {
    if format == Format::Toml {
        return Err(Error::new(ErrorKind::InvalidInput, "`sops` has no TOML; use YAML, JSON, dotenv or INI"));
    }
    let source = Source::from_bytes(origin, text.as_bytes().to_vec(), limits);
    let source = source.map_err(Error::without_frame)?;
    let doc = Arc::new(read::read(source, format, limits).map_err(Error::without_frame)?);
    if !matches!(doc.node(doc.root()).payload(), Payload::Object(_)) {
        let error = Error::new(ErrorKind::Type, "a configuration is a table").at(&doc.source, 0..0);
        return Err(error.without_frame());
    }
    Ok(doc)
}

/// Encrypts a text. `wrapped` is asked for whom the key is wrapped once it is known that the text can be encrypted: each
/// recipient costs time.
fn seal(
    doc: &Doc,
    format: Format,
    mut meta: Metadata,
    wrapped: impl FnOnce() -> Result<Vec<(String, String)>>,
    key: &DataKey,
    known: &Kept,
    limits: &Limits,
) -> Result<SopsFile> {
    let (mut edits, mac) = text::encrypt(doc, format, &meta, key, known)?;
    meta.mac = cipher::seal(key, Type::Str, mac.as_bytes(), &meta.modified);
    meta.age = wrapped()?;
    edits.push(text::metadata(doc, format, &meta.write(format))?);
    let whole = text::apply(&doc.source.text, edits);
    // Read again and opened, so that nothing is handed out that does not open.
    let origin = doc.source.origin.clone();
    let source = Source::from_bytes(origin, whole.into_bytes(), limits).map_err(Error::without_frame)?;
    let file = SopsFile::of(source, format, limits)?;
    file.values(key)?;
    Ok(file)
}
