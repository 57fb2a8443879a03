//! Files encrypted with SOPS: keys in the clear, each value encrypted by itself, a MAC over all of them.

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use chrono::{DateTime, SecondsFormat, Utc};
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use crate::Secret;
use crate::doc::{Doc, DocBuilder, NO_KEY, Node, Payload, Text};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::path::Dotted;
use crate::read;
use crate::source::{Format, Origin, Source};
use crate::tree::Tree;

mod cipher;
mod keys;
mod meta;
mod outline;
mod text;

pub use keys::{AgeKeys, AgeRecipient};

use cipher::{DataKey, Type};
use meta::{Metadata, Rule};
use text::Scalar;

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

/// Which values of a file are encrypted: one of the rules of `sops`, about the key of a value or of a table around it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SopsRule {
    /// All but those under a key with this ending.
    UnencryptedSuffix(String),
    /// Those under a key with this ending.
    EncryptedSuffix(String),
    /// All but those under a key that matches.
    UnencryptedRegex(String),
    /// Those under a key that matches.
    EncryptedRegex(String),
}

impl SopsRule {
    fn compiled(&self) -> Result<Rule> {
        let (SopsRule::UnencryptedSuffix(text)
        | SopsRule::EncryptedSuffix(text)
        | SopsRule::UnencryptedRegex(text)
        | SopsRule::EncryptedRegex(text)) = self;
        // To `sops` an empty one is none.
        if text.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "a rule for what is encrypted is empty"));
        }
        Ok(match self {
            SopsRule::UnencryptedSuffix(suffix) => Rule::UnencryptedSuffix(suffix.clone()),
            SopsRule::EncryptedSuffix(suffix) => Rule::EncryptedSuffix(suffix.clone()),
            SopsRule::UnencryptedRegex(regex) => Rule::UnencryptedRegex(meta::regex(regex)?),
            SopsRule::EncryptedRegex(regex) => Rule::EncryptedRegex(meta::regex(regex)?),
        })
    }
}

/// For whom a file is encrypted, and what of it.
#[derive(Clone, Debug)]
pub struct SopsOptions {
    recipients: Vec<AgeRecipient>,
    rule: SopsRule,
    mac_only_encrypted: bool,
    time: Option<DateTime<Utc>>,
    limits: Limits,
}

impl SopsOptions {
    /// Encrypts for each of the recipients: the private key of any one of them decrypts.
    ///
    /// What stands under a key that ends in `_unencrypted` stays as it is, which is the rule of `sops` too.
    pub fn new(recipients: impl IntoIterator<Item = AgeRecipient>) -> SopsOptions {
        SopsOptions {
            recipients: recipients.into_iter().collect(),
            rule: SopsRule::UnencryptedSuffix(meta::UNENCRYPTED.into()),
            mac_only_encrypted: false,
            time: None,
            limits: Limits::default(),
        }
    }

    /// Says which values are encrypted. The last rule that is given holds; [`encrypt`](SopsFile::encrypt) checks it.
    #[must_use]
    pub fn rule(mut self, rule: SopsRule) -> SopsOptions {
        self.rule = rule;
        self
    }

    /// Leaves values that are not encrypted out of the MAC, so that they can be changed without the keys.
    #[must_use]
    pub fn mac_only_encrypted(mut self) -> SopsOptions {
        self.mac_only_encrypted = true;
        self
    }

    /// Names the moment of the change in the file. Without it, that is now.
    #[must_use]
    pub fn at(mut self, time: DateTime<Utc>) -> SopsOptions {
        self.time = Some(time);
        self
    }

    /// Puts other limits in place of the default ones.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> SopsOptions {
        self.limits = limits;
        self
    }
}

/// Ciphertexts of values that may stay as they are, so that an edit changes no other line. By the hash of the value,
/// so that it is not kept itself.
#[derive(Default)]
struct Known(HashMap<(String, Type, [u8; 32]), String>);

impl Known {
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

/// A value that was decrypted, by the number of its node; nothing for a comment that stands as an item of a list.
type Values = HashMap<u32, Option<Scalar>>;

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
        text::decrypt(&self.doc, self.format, &values, &key, &mut Known::default())
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
        rule: Rule,
        name: &str,
        format: Format,
        text: &str,
        options: &SopsOptions,
    ) -> Result<SopsFile> {
        if options.recipients.is_empty() {
            return Err(Error::new(ErrorKind::InvalidInput, "nobody to encrypt for: give a recipient"));
        }
        let key = cipher::new_key();
        let wrap = |recipient: &AgeRecipient| Ok((recipient.to_string(), keys::wrap(&key, recipient)?));
        let meta = Metadata {
            age: options.recipients.iter().map(wrap).collect::<Result<_>>()?,
            modified: timestamp(options.time),
            mac: String::new(),
            rule,
            mac_only_encrypted: options.mac_only_encrypted,
            others: Vec::new(),
        };
        seal(Origin::File(name.into()), format, text, meta, &key, &Known::default(), &options.limits)
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
        let mut known = Known::default();
        let plain = text::decrypt(&self.doc, self.format, &values, &key, &mut known)?;
        let changed = change(plain.expose());
        let meta = Metadata {
            age: self.meta.age.clone(),
            modified: timestamp(self.time),
            mac: String::new(),
            rule: self.meta.rule.clone(),
            mac_only_encrypted: self.meta.mac_only_encrypted,
            others: Vec::new(),
        };
        let origin = self.doc.source.origin.clone();
        seal(origin, self.format, changed.as_ref(), meta, &key, &known, &self.limits)
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

    /// Decrypts every value, and compares the MAC.
    fn values(&self, key: &DataKey) -> Result<Values> {
        let mut mac = Mac::new(self.meta.mac_only_encrypted);
        let mut values = Values::new();
        for leaf in outline::leaves(&self.doc, self.format) {
            let node = self.doc.node(leaf.node);
            let wrong = |what: &str| {
                let error = Error::new(ErrorKind::Secret, what).at(&self.doc.source, node.span());
                error.in_path(Dotted(&leaf.path)).without_frame()
            };
            let encrypted = self.meta.rule.covers(&leaf.path);
            let value = match node.payload() {
                Payload::Null => continue,
                Payload::Text(text) if encrypted && !self.doc.text(text).is_empty() => {
                    let sealed = cipher::parse(self.doc.text(text))
                        .ok_or_else(|| wrong("this value should be encrypted, and is not or was damaged"))?;
                    let plain = cipher::open(key, &sealed, &leaf.aad())
                        .ok_or_else(|| wrong("this value does not decrypt: it was changed, or moved here"))?;
                    if sealed.kind == Type::Comment {
                        values.insert(leaf.node, None);
                        continue;
                    }
                    let value = Scalar::of_plain(sealed.kind, &plain, self.format)
                        .ok_or_else(|| wrong("this value is not of the type that it is marked as"))?;
                    values.insert(leaf.node, Some(value.clone()));
                    value
                }
                Payload::Text(_) => Scalar::of_node(&self.doc, node),
                _ if encrypted => return Err(wrong("this value should be encrypted, and is not")),
                _ => Scalar::of_node(&self.doc, node),
            };
            mac.add(&value, encrypted, self.format);
        }
        let expected = cipher::parse(&self.meta.mac)
            .and_then(|sealed| cipher::open(key, &sealed, &self.meta.modified))
            .ok_or_else(|| self.error("the MAC does not decrypt: it or `lastmodified` was changed"))?;
        if !bool::from(expected.ct_eq(mac.finish().as_bytes())) {
            return Err(self.error("the MAC is another: values were changed, added, removed or moved"));
        }
        Ok(values)
    }

    /// The document with its values decrypted and marked as secret, at their places in the encrypted file.
    pub(crate) fn open_doc(&self, keys: &AgeKeys) -> Result<Doc> {
        let values = self.values(&self.unlock(keys)?)?;
        let mut out = DocBuilder::new(self.doc.source.clone(), &self.limits);
        self.copy(&mut out, self.doc.root(), NO_KEY, &values)?;
        Ok(out.finish())
    }

    fn copy(&self, out: &mut DocBuilder<'_>, at: u32, key: Text, values: &Values) -> Result<()> {
        let node = self.doc.node(at);
        let children = match node.payload() {
            Payload::Array(children) | Payload::Object(children) => children,
            payload => {
                let found = values.get(&at).and_then(Option::as_ref);
                let payload = match (found, payload) {
                    (Some(Scalar::Text(text)), _) => Payload::Text(out.decode(text)),
                    (Some(Scalar::Int(value)), _) => Payload::Int(*value),
                    (Some(Scalar::Float(value)), _) => Payload::Float(*value),
                    (Some(Scalar::Bool(value)), _) => Payload::Bool(*value),
                    (None, Payload::Text(text)) => Payload::Text(self.doc.copy_text(text, out)),
                    (None, payload) => payload,
                };
                let new = Node::new(key, node.span(), payload);
                let new = if node.is_loose() { new.loose() } else { new };
                return out.push(if found.is_some() { new.secret() } else { new });
            }
        };
        let open = out.open(node.span().start)?;
        let object = matches!(node.payload(), Payload::Object(_));
        for child in children.range() {
            let child = child as u32;
            let dropped = matches!(values.get(&child), Some(None));
            let metadata = at == self.doc.root() && outline::is_metadata(self.doc.key(child), self.format);
            if dropped || metadata {
                continue;
            }
            let key = self.doc.copy_text(self.doc.node(child).key(), out);
            self.copy(out, child, key, values)?;
        }
        let end = node.span().end;
        match object {
            true => out.close_object(open, key, end),
            false => out.close_array(open, key, end),
        }
        .map(drop)
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

/// Encrypts a text with a key that is wrapped already.
fn seal(
    origin: Origin,
    format: Format,
    text: &str,
    mut meta: Metadata,
    key: &DataKey,
    known: &Known,
    limits: &Limits,
) -> Result<SopsFile> {
    if format == Format::Toml {
        return Err(Error::new(ErrorKind::InvalidInput, "`sops` has no TOML; use YAML, JSON, dotenv or INI"));
    }
    let source = Source::from_bytes(origin.clone(), text.as_bytes().to_vec(), limits);
    let source = source.map_err(Error::without_frame)?;
    let doc = Arc::new(read::read(source, format, limits).map_err(Error::without_frame)?);
    if !matches!(doc.node(doc.root()).payload(), Payload::Object(_)) {
        let error = Error::new(ErrorKind::Type, "a configuration is a table").at(&doc.source, 0..0);
        return Err(error.without_frame());
    }
    let (mut edits, mac) = text::encrypt(&doc, format, &meta, key, known)?;
    meta.mac = cipher::seal(key, Type::Str, mac.as_bytes(), &meta.modified);
    edits.push(text::metadata(&doc, format, &meta.write(format))?);
    let whole = text::apply(&doc.source.text, edits);
    // Read again and opened, so that nothing is handed out that does not open.
    let source = Source::from_bytes(origin, whole.into_bytes(), limits).map_err(Error::without_frame)?;
    let file = SopsFile::of(source, format, limits)?;
    file.values(key)?;
    Ok(file)
}

/// The checksum over all values in their order.
struct Mac {
    hash: Sha512,
    only_encrypted: bool,
}

/// What `sops` begins with where values that are not encrypted do not count: the SHA-256 of `sops`.
const ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b, 0x0b,
    0x97, 0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

impl Mac {
    fn new(only_encrypted: bool) -> Mac {
        let mut hash = Sha512::new();
        if only_encrypted {
            hash.update(ONLY_ENCRYPTED);
        }
        Mac { hash, only_encrypted }
    }

    fn add(&mut self, value: &Scalar, encrypted: bool, format: Format) {
        // JSON has no integers for `sops`: it counts what it reads.
        let value = match value {
            Scalar::Int(value) if !encrypted && format == Format::Json => &Scalar::Float(*value as f64),
            value => value,
        };
        if encrypted || !self.only_encrypted {
            self.hash.update(value.plain(format).1.as_slice());
        }
    }

    fn finish(self) -> String {
        self.hash.finalize().iter().map(|byte| format!("{byte:02X}")).collect()
    }
}
