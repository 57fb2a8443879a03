//! What an error of the schema's compiler and validator says, in words for people.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind};
use serde_json::Value as Json;

use crate::autofix::Remedy;
use crate::doc::{Kind, shorten};
use crate::error::{Error, ErrorKind, Result};
use crate::loader::nearest;
use crate::path;
use crate::report::{Finding, Report, Severity};
use crate::shape::Shape;
use crate::tree::{Tree, Value};

/// The value at a path, or what is there on the way to it.
pub(super) fn nearest_value<'t>(tree: &'t Tree, path: &[String]) -> Value<'t> {
    let mut value = tree.root();
    for part in path {
        match value.child(part) {
            Some(child) => value = child,
            None => break,
        }
    }
    value
}

/// What the errors of a schema say, weighed.
pub(super) struct Found<'t> {
    tree: &'t Tree,
    shape: &'t Shape,
    weigh: Weigh<'t>,
    /// How many are listed.
    most: usize,
    pub(super) report: Report,
    /// How many refuse the configuration, listed or not.
    pub(super) errors: usize,
}

/// The severity of what a keyword has against a path, if it is wanted.
type Weigh<'t> = &'t dyn Fn(&str, &[String]) -> Option<Severity>;

impl<'t> Found<'t> {
    pub(super) fn new(tree: &'t Tree, shape: &'t Shape, weigh: Weigh<'t>, most: usize) -> Found<'t> {
        Found { tree, shape, weigh, most, report: Report::default(), errors: 0 }
    }

    /// Adds what one error says, which is several findings where it names several keys.
    pub(super) fn add(&mut self, error: &ValidationError<'_>) -> Result<()> {
        let mut path = path::parse_pointer(error.instance_path().as_str());
        let (ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected }) = error.kind()
        else {
            let (tree, shape) = (self.tree, self.shape);
            unfinished(error, &path)?;
            self.push(error, &path, || finding(tree, shape, error, &path));
            return Ok(());
        };
        let value = nearest_value(self.tree, &path);
        let fields = self.shape.walk(&path).into_iter().flat_map(|shape| shape.fields.keys());
        let known: Vec<&str> = fields.map(String::as_str).collect();
        for key in unexpected {
            path.push(key.clone());
            self.push(error, &path, || not_allowed(value, &known, error, &path, key));
            path.pop();
        }
        Ok(())
    }

    /// Words and suggestions take time, and there may be very many: those that are not listed get none.
    fn push(&mut self, error: &ValidationError<'_>, path: &[String], make: impl FnOnce() -> Finding) {
        let keyword = error.kind().keyword();
        let Some(severity) = (self.weigh)(keyword, path) else { return };
        self.errors += usize::from(severity >= Severity::Error);
        let finding = match self.report.has_room(severity, self.most) {
            true => Finding { severity, ..make() },
            false => Finding::of("", severity, Vec::new(), ""),
        };
        self.report.push(finding, self.most);
    }
}

/// What shows that the check came to no end.
fn unfinished(error: &ValidationError<'_>, path: &[String]) -> Result<()> {
    match error.kind() {
        ValidationErrorKind::BacktrackLimitExceeded { .. }
        | ValidationErrorKind::RegexEngineFailure { .. } => {
            Err(Error::new(ErrorKind::Limit, "a pattern of the schema takes too long to match")
                .in_path(path::Dotted(path)))
        }
        ValidationErrorKind::Referencing(_) => {
            Err(Error::new(ErrorKind::Schema, "a reference of the schema cannot be resolved"))
        }
        _ => Ok(()),
    }
}

/// A key that a table may not have.
fn not_allowed(
    table: Value<'_>,
    known: &[&str],
    error: &ValidationError<'_>,
    path: &[String],
    key: &str,
) -> Finding {
    let close = nearest(key, known.iter().copied());
    let message = format!("the key `{}` is not allowed here", shorten(key));
    let mut finding = Finding::of(error.kind().keyword(), Severity::Error, path.to_vec(), message);
    finding.place = Some(table.get(key).map_or(table.place(), Value::key_place));
    finding.suggestion = close.map(|near| format!("did you mean `{near}`?"));
    finding.remedy =
        close.filter(|near| is_typo(key, near, known)).map(|near| Remedy::Rename(near.to_owned()));
    finding
}

/// What one error says of the value at a path.
fn finding(tree: &Tree, shape: &Shape, error: &ValidationError<'_>, path: &[String]) -> Finding {
    let value = nearest_value(tree, path);
    let keyword = error.kind().keyword();
    let make = |message: String, suggestion: Option<String>| {
        let finding = Finding::of(keyword, Severity::Error, path.to_vec(), message).at(value.place());
        Finding { suggestion, ..finding }
    };
    // With the value, or in place of it where it turns out to be secret.
    let shown = |message: &dyn Fn(&str) -> String, suggestion: Option<String>| {
        let veiled = (!value.is_secret()).then(|| message(UNSHOWN));
        Finding { veiled, ..make(message(&shown_value(value)), suggestion) }
    };
    match error.kind() {
        ValidationErrorKind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            let here = shape.walk(path);
            let is_known = |key: &str| here.is_some_and(|shape| shape.fields.contains_key(key));
            let strange = value.entries().map(|(key, _)| key).filter(|key| !is_known(key));
            let near = nearest(key, strange).map(|near| format!("is `{near}` meant to be it?"));
            let mut finding = make(format!("the key `{key}` is missing"), near);
            let default = here.and_then(|shape| shape.fields.get(key)?.default.clone());
            finding.remedy = default.map(|default| Remedy::Add(key.to_owned(), default));
            finding
        }
        ValidationErrorKind::Type { kind } => {
            let expected = match kind {
                TypeKind::Single(kind) => named(&kind.to_string()),
                TypeKind::Multiple(kinds) => {
                    kinds.iter().map(|kind| named(&kind.to_string())).collect::<Vec<_>>().join(" or ")
                }
            };
            let message = format!("expected {expected}, found {}", value.kind().article());
            let (suggestion, new) = retyped(value, &expected).unzip();
            let mut finding = make(message, suggestion);
            finding.remedy = new.map(Remedy::Replace);
            finding
        }
        ValidationErrorKind::Enum { options } => {
            let options = options.as_array().cloned().unwrap_or_default();
            let text = value.as_str().filter(|_| !value.is_secret());
            let near = text.and_then(|text| nearest(text, options.iter().filter_map(Json::as_str)));
            let options_shown: Vec<String> =
                options.iter().take(12).map(|option| shorten(&option.to_string())).collect();
            let more = if options.len() > options_shown.len() { ", …" } else { "" };
            let options_shown = options_shown.join(", ");
            let message = |value: &str| format!("{value} is not one of {options_shown}{more}");
            let mut finding = shown(&message, near.map(|near| format!("did you mean `{near}`?")));
            // Only the case may be guessed at: another spelling may be another thing.
            let mut same = options
                .iter()
                .filter_map(Json::as_str)
                .filter(|option| text.is_some_and(|text| option.to_lowercase() == text.to_lowercase()));
            finding.remedy =
                same.next().filter(|_| same.next().is_none()).map(|text| Remedy::Replace(text.into()));
            finding
        }
        ValidationErrorKind::Pattern { pattern } => {
            shown(&|value| format!("{value} does not match the pattern {}", shorten(pattern)), None)
        }
        ValidationErrorKind::Format { format } => {
            shown(&|value| format!("{value} is not a valid {format}"), None)
        }
        ValidationErrorKind::FalseSchema => make("nothing is allowed here".into(), None),
        ValidationErrorKind::PropertyNames { error } => {
            let key = error.instance().as_str().unwrap_or_default().to_owned();
            let mut finding =
                make(format!("the key `{}` is not a name that is allowed here", shorten(&key)), None);
            finding.place = value.get(&key).map(Value::key_place).or(finding.place);
            finding
        }
        _ => shown(&|value| error.masked_with(value).to_string(), None),
    }
}

/// Whether a key can only be another one, mistyped. Short names are near to each other by chance: `cpu` is no `gpu`, and
/// `https` no `http`.
fn is_typo(key: &str, near: &str, known: &[&str]) -> bool {
    let long = |name: &str| name.chars().count() >= 5;
    let others = known.iter().copied().filter(|known| *known != near);
    long(key) && long(near) && is_slip(key, near) && nearest(key, others).is_none()
}

/// Whether two letters changed places, or one within a word is missing or doubled. Whatever else is near may be another
/// name: `max_size` is no `min_size`, `timeout_ms` no `timeout_s`, `server1` no `server2` and `server` no `servers`.
fn is_slip(key: &str, near: &str) -> bool {
    let (key, near): (Vec<char>, Vec<char>) = (key.chars().collect(), near.chars().collect());
    let at = key.iter().zip(&near).take_while(|(one, two)| one == two).count();
    // A small letter after another letter: neither begins a word, nor is a word by itself.
    let within = |name: &[char], at: usize| {
        at > 0
            && name.get(at).is_some_and(|c| c.is_alphabetic() && !c.is_uppercase())
            && name[at - 1].is_alphabetic()
    };
    match near.len() as isize - key.len() as isize {
        0 if key.iter().flat_map(|c| c.to_lowercase()).eq(near.iter().flat_map(|c| c.to_lowercase())) => true,
        0 => {
            let swapped = key.get(at) == near.get(at + 1) && key.get(at + 1) == near.get(at);
            // Of a word of two letters that is all.
            let more = at > 0 && near[at - 1].is_alphabetic() || within(&near, at + 2);
            swapped
                && more
                && near[at].is_alphabetic()
                && within(&near, at + 1)
                && key[at + 2..] == near[at + 2..]
        }
        1 => within(&near, at) && within(&near, at + 1) && key[at..] == near[at + 1..],
        -1 => within(&key, at) && key[at] == key[at - 1] && key[at + 1..] == near[at..],
        _ => false,
    }
}

fn named(kind: &str) -> String {
    match kind.trim_matches('"') {
        "null" => "null".into(),
        "boolean" => "a boolean".into(),
        "integer" => "an integer".into(),
        "number" => "a number".into(),
        "string" => "a string".into(),
        "array" => "an array".into(),
        "object" => "a table".into(),
        other => other.to_owned(),
    }
}

/// What a message has in place of a value.
const UNSHOWN: &str = "the value";

/// A value for a message: its text if it is short and no secret.
fn shown_value(value: Value<'_>) -> String {
    match value.kind() {
        _ if value.is_secret() => UNSHOWN.into(),
        Kind::Array | Kind::Object => UNSHOWN.into(),
        _ => shorten(&value.to_json().to_string()),
    }
}

/// What to do about a text that stands where another kind belongs: in words, and the value to write.
fn retyped(value: Value<'_>, expected: &str) -> Option<(String, Json)> {
    let text = value.as_str().filter(|_| !value.is_secret())?;
    let number = || serde_json::from_str::<Json>(text).ok().filter(Json::is_number);
    match expected {
        "a number" => Some(("remove the quotes".into(), number()?)),
        "an integer" => Some(("remove the quotes".into(), number().filter(|number| !number.is_f64())?)),
        "a boolean" => {
            let (meant, what) = meant_as_boolean(text)?;
            Some((what, meant.into()))
        }
        _ => None,
    }
}

/// The boolean that a text is meant to be, and what to do about it.
pub(crate) fn meant_as_boolean(text: &str) -> Option<(bool, String)> {
    let (meant, why) = match text.to_ascii_lowercase().as_str() {
        "true" => (true, "without quotes"),
        "false" => (false, "without quotes"),
        "yes" | "on" | "y" => (true, "this is a text since YAML 1.2"),
        "no" | "off" | "n" => (false, "this is a text since YAML 1.2"),
        _ => return None,
    };
    Some((meant, format!("write {meant}: {why}")))
}
