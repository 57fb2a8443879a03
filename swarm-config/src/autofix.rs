use std::fmt;
use std::ops::Range;

use serde_json::Value as Json;

use crate::doc::Kind;
use crate::error::Result;
use crate::path::{self, Dotted, pointer};
use crate::report::{Finding, Report, Severity};
use crate::source::Format;
use crate::tree::{Tree, Value};
use crate::validate::ConfigValidator;

/// What would mend a finding.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Remedy {
    /// Give the key another name.
    Rename(String),
    /// Put this in place of the value.
    Replace(Json),
    /// Add a key with a value.
    Add(String, Json),
}

/// One edit that was made.
#[derive(Debug, Clone, PartialEq)]
pub struct Fix {
    path: Vec<String>,
    what: String,
}

impl Fix {
    /// The key as it was before, as in `db.pool_size`; empty for the whole.
    pub fn path(&self) -> String {
        Dotted(&self.path).to_string()
    }

    /// The key as it was before, as a JSON pointer.
    pub fn pointer(&self) -> String {
        pointer(&self.path)
    }
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", Dotted(&self.path), self.what)
    }
}

/// A text with common mistakes mended, and what is still wrong with it. Nothing is written anywhere.
#[derive(Clone)]
pub struct Autofix {
    before: String,
    after: String,
    fixes: Vec<Fix>,
    report: Report,
}

impl Autofix {
    /// The text with its mistakes mended; comments, order and spacing are as they were.
    pub fn text(&self) -> &str {
        &self.after
    }

    /// The edits, in the order they were made.
    pub fn fixes(&self) -> &[Fix] {
        &self.fixes
    }

    /// What is still wrong.
    pub fn report(&self) -> &Report {
        &self.report
    }

    /// The lines that differ, with `-` and `+` before them. It shows the text, secrets and all.
    pub fn diff(&self) -> String {
        let (old, new): (Vec<&str>, Vec<&str>) =
            (self.before.lines().collect(), self.after.lines().collect());
        let (mut from, mut to) = (0, 0);
        let mut out = String::new();
        let mut line = |mark: char, text: &str| {
            out.push(mark);
            out.push_str(text);
            out.push('\n');
        };
        while from < old.len() || to < new.len() {
            if old.get(from) == new.get(to) {
                (from, to) = (from + 1, to + 1);
                continue;
            }
            // Edits change lines and add some, and never move or remove one: the lines meet again below.
            let mut added = to;
            while added < new.len() && new.get(added) != old.get(from) {
                added += 1;
            }
            let inserted =
                from == old.len() || added < new.len() && added - to <= new.len().saturating_sub(old.len());
            if inserted {
                new[to..added].iter().for_each(|text| line('+', text));
                to = added;
            } else {
                line('-', old[from]);
                if let Some(text) = new.get(to) {
                    line('+', text);
                }
                (from, to) = (from + 1, to + 1);
            }
        }
        out
    }
}

/// Without the texts, which may hold secrets.
impl fmt::Debug for Autofix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Autofix")
            .field("fixes", &self.fixes)
            .field("report", &self.report)
            .finish_non_exhaustive()
    }
}

/// Edits at most; each is checked by reading and validating the whole again.
const MOST: usize = 200;

impl ConfigValidator {
    /// Mends common mistakes in a text where there is one safe way to: a key of five letters or more in which two changed
    /// places, or one is missing or doubled within a word, is renamed to the only one that near; a number or boolean loses its quotes, an enumerated text gets its case, and a key that
    /// the schema has as `deprecated` with `x-renamed-to` its new name. `name` stands in locations.
    ///
    /// An edit is kept only if the text, read again, differs in that key alone and has fewer errors and none that are
    /// new. Nothing but keys is changed in dotenv and INI.
    ///
    /// The text may be one layer of several: keys that are missing are neither added nor told, as another layer may
    /// have them. [`autofix_whole`](ConfigValidator::autofix_whole) is for a text that is the configuration by itself.
    ///
    /// ```
    /// use serde_json::json;
    /// use swarm_config::{ConfigValidator, Format};
    ///
    /// let validator = ConfigValidator::new(json!({
    ///     "properties": { "retries": { "type": "integer" } },
    ///     "additionalProperties": false,
    /// }))?;
    /// let fixed = validator.autofix("app.toml", Format::Toml, "# then give up\nretires = \"3\"\n")?;
    /// assert_eq!(fixed.text(), "# then give up\nretries = 3\n");
    /// # Ok::<(), swarm_config::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When the text cannot be read, or the check could not be finished within the limits.
    pub fn autofix(&self, name: &str, format: Format, text: &str) -> Result<Autofix> {
        let mut fixed = self.mended(name, format, text, |remedy| !matches!(remedy, Remedy::Add(..)))?;
        fixed.report.findings.retain(|finding| finding.rule != "required");
        Ok(fixed)
    }

    /// As [`autofix`](ConfigValidator::autofix), for a text that is the whole configuration: a key that is missing and
    /// has a default is added with it, in TOML and JSON, and is told otherwise. In a layer over another such a default
    /// would win over what the layer below has.
    ///
    /// # Errors
    ///
    /// As [`autofix`](ConfigValidator::autofix).
    pub fn autofix_whole(&self, name: &str, format: Format, text: &str) -> Result<Autofix> {
        self.mended(name, format, text, |_| true)
    }

    fn mended(
        &self,
        name: &str,
        format: Format,
        text: &str,
        is_wanted: impl Fn(&Remedy) -> bool,
    ) -> Result<Autofix> {
        let read = |text: &str| Tree::parse(name, format, text, self.limits());
        let mut tree = read(text)?;
        let mut after = text.to_owned();
        let mut report = self.validate(&tree)?;
        let mut fixes = Vec::new();
        let mut refused: Vec<(Vec<String>, Remedy)> = Vec::new();
        while fixes.len() < MOST && refused.len() < MOST {
            let remedies = report
                .findings
                .iter()
                .filter_map(|finding| Some((finding.path.clone(), finding.remedy.clone()?)))
                .filter(|(_, remedy)| is_wanted(remedy));
            let next = remedies.chain(self.renamed(&tree)).find(|remedy| !refused.contains(remedy));
            let Some((path, remedy)) = next else { break };
            let made = edit(&tree, format, &after, &path, &remedy).and_then(|edited| {
                let new = read(&edited).ok()?;
                let left = self.validate(&new).ok()?;
                (only(&tree, &new, &path, &remedy) && better(&report, &left, &path, &remedy))
                    .then_some((edited, new, left))
            });
            match made {
                None => refused.push((path, remedy)),
                Some((edited, new, left)) => {
                    let what = match &remedy {
                        Remedy::Rename(name) => format!("renamed to `{name}`"),
                        Remedy::Replace(_) => "written as its type".to_owned(),
                        Remedy::Add(name, _) => format!("`{name}` added with its default"),
                    };
                    fixes.push(Fix { path, what });
                    (after, tree, report) = (edited, new, left);
                }
            }
        }
        Ok(Autofix { before: text.to_owned(), after, fixes, report })
    }
}

/// Whether fewer errors are left and none is new. A key that got its name may be wrong in a way that can be mended
/// next, since nobody looked at its value before.
fn better(before: &Report, after: &Report, path: &[String], remedy: &Remedy) -> bool {
    let mut new = path.to_vec();
    if let (Remedy::Rename(name), Some(last)) = (remedy, new.last_mut()) {
        name.clone_into(last);
    }
    let errors = |report: &Report, but: &[String]| {
        let counted =
            |finding: &&Finding| finding.severity == Severity::Error && !finding.path.starts_with(but);
        report.more_errors + report.findings.iter().filter(counted).count()
    };
    let known = |finding: &Finding| {
        let old: Vec<String> = match finding.path.strip_prefix(&new[..]) {
            Some(below) => path.iter().chain(below).cloned().collect(),
            None => finding.path.clone(),
        };
        before.findings.iter().any(|known| known.rule == finding.rule && known.path == old)
            || *finding.path == new && finding.remedy.is_some() && matches!(remedy, Remedy::Rename(_))
    };
    let all = |report| errors(report, &[String::new()]);
    let fewer = match remedy {
        Remedy::Rename(_) => errors(after, &new) <= errors(before, path),
        _ => all(after) < all(before),
    };
    fewer && after.findings.iter().all(known)
}

/// Whether two trees differ by a remedy and by nothing else. A tree of one document has no secrets to mask but what a
/// schema marks, which is not marked here.
fn only(before: &Tree, after: &Tree, path: &[String], remedy: &Remedy) -> bool {
    let mut expected = before.to_json();
    let holder =
        if matches!(remedy, Remedy::Rename(_)) { path.split_last().map(|(_, at)| at) } else { Some(path) };
    let at = holder.and_then(|keys| keys.iter().try_fold(&mut expected, |at, part| path::child_of(at, part)));
    let Some(at) = at else { return false };
    let is_made = match (remedy, at) {
        (Remedy::Rename(name), Json::Object(table)) => {
            let value = path.last().and_then(|last| table.remove(last));
            value.is_some_and(|value| table.insert(name.clone(), value).is_none())
        }
        (Remedy::Add(name, value), Json::Object(table)) => {
            table.insert(name.clone(), value.clone()).is_none()
        }
        (Remedy::Replace(value), at) => {
            *at = value.clone();
            true
        }
        _ => false,
    };
    is_made && after.to_json() == expected
}

/// The text with one edit, or nothing where there is no sure place for it.
fn edit(tree: &Tree, format: Format, text: &str, path: &[String], remedy: &Remedy) -> Option<String> {
    let value = tree.walk(path)?;
    let (span, new) = match remedy {
        Remedy::Rename(name) => {
            let (doc, node) = tree.like(value.named);
            let span = doc.key_span(node)?;
            let quoted = span.start > 0 && matches!(text.as_bytes()[span.start - 1], b'"' | b'\'');
            (is_bare(name) || quoted && !name.contains(['"', '\'', '\\'])).then(|| (span, name.clone()))?
        }
        // Nothing is quoted there, so there are no quotes to take away.
        Remedy::Replace(_) if matches!(format, Format::Dotenv | Format::Ini) => return None,
        Remedy::Replace(new) => {
            let span = value.place().1;
            let old = text.get(span.clone())?;
            let bare = format == Format::Yaml && !old.starts_with(['"', '\'']);
            (span, written(new, bare)?)
        }
        Remedy::Add(name, new) => {
            let key = serde_json::to_string(name).ok()?;
            let new = written(new, false)?;
            match format {
                Format::Json => {
                    let first = value.entries().next();
                    let start = match first {
                        Some((_, first)) => first.key_place().1.start - 1,
                        None => value.place().1.start + 1,
                    };
                    let comma = if first.is_some() { ", " } else { "" };
                    (start..start, format!("{key}: {new}{comma}"))
                }
                Format::Toml => {
                    let at = line_for(value, text, path.is_empty())?;
                    let before = if at > 0 && text.as_bytes()[at - 1] != b'\n' { "\n" } else { "" };
                    let key = if is_bare(name) { name } else { &key };
                    (at..at, format!("{before}{key} = {new}\n"))
                }
                Format::Yaml | Format::Dotenv | Format::Ini => return None,
            }
        }
    };
    Some(format!("{}{new}{}", text.get(..span.start)?, text.get(span.end..)?))
}

/// Where a line can be added to a table in TOML: after its header, or after the last plain key of the root.
fn line_for(table: Value<'_>, text: &str, root: bool) -> Option<usize> {
    let after = |at: usize| text[at..].find('\n').map_or(text.len(), |end| at + end + 1);
    if !root {
        let Range { start, .. } = table.place().1;
        return text[start..].starts_with('[').then(|| after(start));
    }
    let plain = table.entries().filter(|(_, value)| !text[value.place().1.start..].starts_with('['));
    let last =
        plain.filter(|(_, value)| value.kind() != Kind::Object).map(|(_, value)| value.place().1.end).max();
    Some(last.map_or(0, after))
}

/// Whether TOML and YAML take a key without quotes.
fn is_bare(name: &str) -> bool {
    !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-'))
}

/// A scalar as all three formats write it.
fn written(value: &Json, bare: bool) -> Option<String> {
    match value {
        Json::String(text) if bare && text.bytes().all(|c| c.is_ascii_alphanumeric()) => Some(text.clone()),
        Json::String(_) | Json::Bool(_) | Json::Number(_) => Some(value.to_string()),
        _ => None,
    }
}
