//! What `sops` keeps of a file beside its values: for whom it is encrypted, what of it, and the MAC.

use regex::{Regex, RegexBuilder};
use serde::Serialize as _;
use serde_json::ser::PrettyFormatter;
use serde_json::{Map, Value as Json, json};

use crate::doc::{Doc, shorten};
use crate::error::{Error, ErrorKind, Result};
use crate::secret::is_sealed;
pub(super) use crate::secret::{KEY, PREFIX};
use crate::source::Format;
use crate::tree::Value;

/// The metadata of a file.
pub(super) struct Metadata {
    /// Recipients, and the data key encrypted for each.
    pub(super) age: Vec<(String, String)>,
    pub(super) modified: String,
    pub(super) mac: String,
    pub(super) rule: Scope,
    pub(super) mac_only_encrypted: bool,
    /// What is there besides, which a new file would lack.
    pub(super) others: Vec<String>,
}

/// Under keys with this ending nothing is encrypted, where nobody says otherwise.
pub(super) const UNENCRYPTED: &str = "_unencrypted";

/// Which values are encrypted.
#[derive(Clone, Debug)]
pub(super) enum Scope {
    UnencryptedSuffix(String),
    EncryptedSuffix(String),
    UnencryptedRegex(Matcher),
    EncryptedRegex(Matcher),
}

impl Default for Scope {
    fn default() -> Scope {
        Scope::UnencryptedSuffix(UNENCRYPTED.into())
    }
}

impl Scope {
    /// Whether what stands at a path is encrypted.
    pub(super) fn covers(&self, path: &[String]) -> bool {
        match self {
            Scope::UnencryptedSuffix(suffix) => !path.iter().any(|key| key.ends_with(suffix)),
            Scope::EncryptedSuffix(suffix) => path.iter().any(|key| key.ends_with(suffix)),
            Scope::UnencryptedRegex(regex) => !path.iter().any(|key| regex.regex.is_match(key)),
            Scope::EncryptedRegex(regex) => path.iter().any(|key| regex.regex.is_match(key)),
        }
    }

    fn entry(&self) -> (&'static str, &str) {
        match self {
            Scope::UnencryptedSuffix(suffix) => ("unencrypted_suffix", suffix),
            Scope::EncryptedSuffix(suffix) => ("encrypted_suffix", suffix),
            Scope::UnencryptedRegex(regex) => ("unencrypted_regex", &regex.text),
            Scope::EncryptedRegex(regex) => ("encrypted_regex", &regex.text),
        }
    }
}

/// A regular expression as `sops` understands it.
#[derive(Clone, Debug)]
pub(super) struct Matcher {
    /// As it was given.
    text: String,
    regex: Regex,
}

pub(super) fn regex(text: &str) -> Result<Matcher> {
    let regex = RegexBuilder::new(&ascii(text)).size_limit(1 << 20).dfa_size_limit(8 << 20).build();
    regex.map(|regex| Matcher { text: text.to_owned(), regex }).map_err(|_| {
        let text = shorten(text);
        Error::new(ErrorKind::InvalidInput, format!("`{text}` is no regular expression, or too large a one"))
    })
}

/// Gives `\d`, `\w`, `\s` and `\b` the meaning that they have in Go, in which `sops` is written: ASCII alone.
fn ascii(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match rest.next() {
            // Good within `[…]` too, where one may stand in another.
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('w') => out.push_str("[0-9A-Za-z_]"),
            Some('W') => out.push_str("[^0-9A-Za-z_]"),
            Some('s') => out.push_str(r"[\t\n\f\r ]"),
            Some('S') => out.push_str(r"[^\t\n\f\r ]"),
            Some('b') => out.push_str(r"(?-u:\b)"),
            other => {
                out.push(c);
                out.extend(other);
            }
        }
    }
    out
}

/// Keys of services and programs other than age, and what they are called.
const OTHER_KEYS: [(&str, &str); 5] = [
    ("pgp", "PGP"),
    ("kms", "AWS KMS"),
    ("gcp_kms", "GCP KMS"),
    ("azure_kv", "Azure Key Vault"),
    ("hc_vault", "HashiCorp Vault transit"),
];

const KNOWN: [&str; 10] = [
    "age",
    "lastmodified",
    "mac",
    "version",
    "unencrypted_suffix",
    "encrypted_suffix",
    "unencrypted_regex",
    "encrypted_regex",
    "mac_only_encrypted",
    "shamir_threshold",
];

/// The metadata as it stands, if the document is an encrypted one.
pub(super) fn find(root: Value<'_>, format: Format) -> Option<Json> {
    if !is_sealed(root, format) {
        return None;
    }
    Some(match format {
        Format::Json | Format::Yaml | Format::Toml => root.get(KEY)?.to_json(),
        Format::Ini => unflatten(root.get(KEY)?.entries()),
        Format::Dotenv => {
            unflatten(root.entries().filter_map(|(key, value)| Some((key.strip_prefix(PREFIX)?, value))))
        }
    })
}

/// `age__list_0__map_enc` as `age[0].enc`. No list is longer than its entries.
fn unflatten<'a>(entries: impl Iterator<Item = (&'a str, Value<'a>)>) -> Json {
    let mut root = Map::new();
    for (key, value) in entries {
        let text = Json::from(value.as_str().unwrap_or_default().replace("\\n", "\n"));
        let Some((name, rest)) = key.split_once("__list_") else {
            root.insert(key.to_owned(), text);
            continue;
        };
        // The position and the rest of the way name an entry; order comes from the position.
        let (position, field) = rest.split_once("__map_").unwrap_or((rest, ""));
        let list = root.entry(name).or_insert_with(|| Json::Object(Map::new()));
        let position = format!("{:0>10}", position);
        if let Some(list) = list.as_object_mut() {
            let entry = list.entry(position).or_insert_with(|| Json::Object(Map::new()));
            if let Some(entry) = entry.as_object_mut() {
                entry.insert(field.to_owned(), text);
            }
        }
    }
    for value in root.values_mut() {
        if let Json::Object(list) = value {
            let mut entries: Vec<(String, Json)> = std::mem::take(list).into_iter().collect();
            entries.sort_by(|one, two| one.0.cmp(&two.0));
            *value = entries.into_iter().map(|(_, entry)| entry).collect();
        }
    }
    Json::Object(root)
}

impl Metadata {
    pub(super) fn read(doc: &Doc, found: &Json) -> Result<Metadata> {
        let wrong =
            |what: String| Err(Error::new(ErrorKind::Secret, what).at(&doc.source, 0..0).without_frame());
        let full = |key: &str| match &found[key] {
            Json::Null => false,
            Json::Array(items) => !items.is_empty(),
            Json::String(text) => !text.is_empty() && text != "0",
            Json::Number(number) => number.as_i64() != Some(0),
            _ => true,
        };
        if full("key_groups") || full("shamir_threshold") {
            return wrong("key groups (Shamir's secret sharing) are not supported".into());
        }
        for rule in ["encrypted_comment_regex", "unencrypted_comment_regex"] {
            if full(rule) {
                return wrong(format!("`{rule}` is not supported: comments would decide what is encrypted"));
            }
        }
        let others: Vec<&str> =
            OTHER_KEYS.iter().filter(|(key, _)| full(key)).map(|(_, name)| *name).collect();
        let text = |value: &Json| value.as_str().unwrap_or_default().to_owned();
        let entries = found["age"].as_array().map(Vec::as_slice).unwrap_or_default();
        let age: Vec<(String, String)> =
            entries.iter().map(|entry| (text(&entry["recipient"]), text(&entry["enc"]))).collect();
        if age.is_empty() {
            return wrong(match others.is_empty() {
                true => "encrypted for nobody: `sops` names no recipient".into(),
                false => format!("encrypted for {} only; age keys alone are supported", others.join(", ")),
            });
        }
        let mut rules = Vec::new();
        for (key, make) in [
            (
                "unencrypted_suffix",
                (|text| Ok(Scope::UnencryptedSuffix(text))) as fn(String) -> Result<Scope>,
            ),
            ("encrypted_suffix", |text| Ok(Scope::EncryptedSuffix(text))),
            ("unencrypted_regex", |text| regex(&text).map(Scope::UnencryptedRegex)),
            ("encrypted_regex", |text| regex(&text).map(Scope::EncryptedRegex)),
        ] {
            let text = text(&found[key]);
            if !text.is_empty() {
                rules.push(make(text)?);
            }
        }
        if rules.len() > 1 {
            return wrong("`sops` names more than one rule for what is encrypted".into());
        }
        let (mac, modified) = (text(&found["mac"]), text(&found["lastmodified"]));
        if mac.is_empty() || chrono::DateTime::parse_from_rfc3339(&modified).is_err() {
            return wrong("`sops` has no `mac`, or no `lastmodified` to go with it".into());
        }
        let unknown = found.as_object().into_iter().flatten().map(|(key, _)| key.as_str()).filter(|key| {
            !KNOWN.contains(key) && !OTHER_KEYS.iter().any(|(known, _)| known == key) && full(key)
        });
        let others = others.iter().copied().chain(unknown).map(str::to_owned).collect();
        Ok(Metadata {
            age,
            modified,
            mac,
            rule: rules.pop().unwrap_or_default(),
            mac_only_encrypted: found["mac_only_encrypted"] == true || found["mac_only_encrypted"] == "true",
            others,
        })
    }

    /// Simple entries, in the order that `sops` has them.
    fn entries(&self) -> Vec<(&'static str, &str)> {
        let mut entries =
            vec![("lastmodified", self.modified.as_str()), ("mac", &self.mac), self.rule.entry()];
        if self.mac_only_encrypted {
            entries.push(("mac_only_encrypted", "true"));
        }
        entries.push(("version", VERSION));
        entries
    }

    fn flat(&self, escape: impl Fn(&str) -> String) -> Vec<(String, String)> {
        let mut entries = Vec::new();
        for (at, (recipient, file)) in self.age.iter().enumerate() {
            entries.push((format!("age__list_{at}__map_recipient"), recipient.clone()));
            entries.push((format!("age__list_{at}__map_enc"), file.replace('\n', "\\n")));
        }
        entries.extend(self.entries().iter().map(|(key, value)| ((*key).to_owned(), escape(value))));
        entries
    }

    /// The metadata as it is written at the end of a file.
    pub(super) fn write(&self, format: Format) -> String {
        let mut out = String::new();
        match format {
            Format::Yaml => {
                out.push_str("sops:\n    age:\n");
                for (recipient, file) in &self.age {
                    out.push_str(&format!("        - recipient: {recipient}\n          enc: |\n"));
                    file.lines().for_each(|line| out.push_str(&format!("            {line}\n")));
                }
                for (key, value) in self.entries() {
                    let value = match key {
                        "mac" | "mac_only_encrypted" => value.to_owned(),
                        _ => Json::from(value).to_string(),
                    };
                    out.push_str(&format!("    {key}: {value}\n"));
                }
            }
            Format::Json => {
                let age: Vec<Json> = self
                    .age
                    .iter()
                    .map(|(recipient, enc)| json!({"recipient": recipient, "enc": enc}))
                    .collect();
                let mut all = Map::from_iter([("age".to_owned(), Json::Array(age))]);
                for (key, value) in self.entries() {
                    let value = if key == "mac_only_encrypted" { Json::Bool(true) } else { value.into() };
                    all.insert(key.to_owned(), value);
                }
                let mut written = Vec::new();
                let tabs = PrettyFormatter::with_indent(b"\t");
                // Writing to memory does not fail, and JSON is UTF-8.
                let _ = all.serialize(&mut serde_json::Serializer::with_formatter(&mut written, tabs));
                let written = String::from_utf8(written).unwrap_or_default();
                out.push_str(&format!("\"sops\": {}", written.replace('\n', "\n\t")));
            }
            Format::Dotenv => {
                for (key, value) in self.flat(|value| value.replace('\n', "\\n")) {
                    out.push_str(&format!("{PREFIX}{key}={value}\n"));
                }
            }
            _ => {
                out.push_str("[sops]\n");
                let escape = |value: &str| match value.contains([';', '#', '"', '\'', '\\']) {
                    true => format!("`{value}`"),
                    false => value.to_owned(),
                };
                for (key, value) in self.flat(escape) {
                    out.push_str(&format!("{key} = {value}\n"));
                }
            }
        }
        out
    }
}

/// The version of `sops` whose format this is.
const VERSION: &str = "3.11.0";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_letters_are_those_of_go() {
        for (text, key, is_match) in [
            (r"^\w+$", "name_1", true),
            (r"^\w+$", "größe", false),
            (r"^[\w-]+$", "a-b", true),
            (r"^[\w-]+$", "a-é", false),
            (r"^\d$", "7", true),
            (r"^\d$", "٣", false),
            (r"^[^\d]$", "٣", true),
            (r"^\D$", "٣", true),
            (r"^.$", "é", true),
            (r"^a\sb$", "a b", true),
            (r"^a\sb$", "a\u{a0}b", false),
            (r"\bkey\b", "ékey", true),
            (r"\bkey\b", "akey", false),
            (r"^\\d$", r"\d", true),
            (r"^\.$", "a", false),
        ] {
            assert_eq!(regex(text).unwrap().regex.is_match(key), is_match, "{text} {key}");
        }
        assert_eq!(regex(r"^\w$").unwrap().text, r"^\w$");
    }
}
