//! Environment variables, which find their keys by what is known of them.

use std::collections::{BTreeSet, VecDeque};
use std::ffi::OsString;
use std::ops::Range;
use std::sync::Arc;

use super::{Leaf, interpret, put, write_nest};
use crate::doc::{Doc, DocBuilder, Kind, NO_KEY};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::path::Dotted;
use crate::shape::Shape;
use crate::source::{Origin, Source};
use crate::tree::Value;

/// What is known of a place in the configuration: by schemas and the type that is loaded, and by what layers have there.
#[derive(Clone)]
pub(crate) struct Known<'k> {
    /// Those that count most first.
    shapes: Vec<&'k Shape>,
    /// Lowest layer first.
    values: Vec<Value<'k>>,
}

impl<'k> Known<'k> {
    pub(crate) fn of_shapes(shapes: Vec<&'k Shape>) -> Known<'k> {
        Known { shapes, values: Vec::new() }
    }

    /// With what layers have, of which these are the roots.
    pub(crate) fn and(&self, roots: impl Iterator<Item = Value<'k>>) -> Known<'k> {
        Known { shapes: self.shapes.clone(), values: roots.collect() }
    }

    fn keys(&self) -> impl Iterator<Item = &'k str> {
        let named = self.shapes.iter().flat_map(|shape| shape.fields.keys()).map(String::as_str);
        named.chain(self.values.iter().flat_map(|value| value.entries()).map(|(key, _)| key))
    }

    /// The keys that a name, in capitals, may begin with.
    fn fitting(&self, name: &str) -> BTreeSet<&'k str> {
        self.keys().filter(|key| may_begin(name, key)).collect()
    }

    fn key(&self, key: &str) -> Known<'k> {
        Known {
            shapes: self.shapes.iter().filter_map(|shape| shape.fields.get(key)).collect(),
            values: self.values.iter().filter_map(|value| value.get(key)).collect(),
        }
    }

    pub(crate) fn walk(&self, path: &[String]) -> Known<'k> {
        path.iter().fold(self.clone(), |known, key| known.key(key))
    }

    pub(crate) fn kind(&self) -> Option<Kind> {
        let stated = self.shapes.iter().find_map(|shape| shape.kind);
        stated.or_else(|| self.values.iter().map(|value| value.kind()).find(|kind| *kind != Kind::Null))
    }

    pub(crate) fn item(&self) -> Option<&'k Shape> {
        self.shapes.iter().find_map(|shape| shape.items.as_deref())
    }

    /// Whether there may be something at a path in which `*` stands for any one key.
    pub(crate) fn may_have(&self, pattern: &[String]) -> bool {
        self.shapes.iter().any(|shape| shape.may_have(pattern))
    }

    /// Every path that the name of a variable, in capitals, may stand for.
    fn named(&self, name: &str, path: &mut Vec<String>, found: &mut Vec<Vec<String>>) {
        for key in self.fitting(name) {
            for spelling in spellings(key) {
                let Some(rest) = name.strip_prefix(&spelling) else { continue };
                path.push(key.to_owned());
                if rest.is_empty() {
                    found.push(path.clone());
                } else if let Some(rest) = rest.strip_prefix('_') {
                    self.key(key).named(rest, path, found);
                }
                path.pop();
            }
        }
    }

    /// Whether a variable without a prefix stands for a key that is known. Most of a process are somebody else's.
    fn has_named(&self, variable: &str) -> bool {
        let upper = variable.to_uppercase();
        let mut found = Vec::new();
        self.named(&upper, &mut Vec::new(), &mut found);
        let in_known =
            |(table, _): (&str, &str)| self.fitting(table).iter().any(|key| spellings(key).contains(table));
        !found.is_empty()
            || upper.split_once("__").is_some_and(in_known) && !self.spelled(variable).is_empty()
    }

    /// The name that a misspelt one, in capitals, may stand for.
    fn nearest(&self, name: &str) -> Option<String> {
        if name.len() > LONG {
            return None;
        }
        let most = 2.max(name.len() / 4);
        let mut best: Option<(usize, String)> = None;
        let mut open = VecDeque::from([(self.clone(), String::new())]);
        let mut left = NEAR;
        'search: while let Some((known, before)) = open.pop_front() {
            for key in known.keys().take(left).collect::<BTreeSet<_>>() {
                if left == 0 {
                    break 'search;
                }
                left -= 1;
                // Few keys are spelled out: there may be very many, and very long ones.
                if before.len() + key.len() > name.len() + most {
                    continue;
                }
                for spelling in spellings(key) {
                    let whole = format!("{before}{spelling}");
                    if whole.len() > name.len() + most {
                        continue;
                    }
                    if whole.len() + most >= name.len() {
                        let distance = strsim::damerau_levenshtein(&whole, name);
                        let nearer = best.as_ref().is_none_or(|(least, _)| distance < *least);
                        if distance <= most && nearer {
                            best = Some((distance, whole.clone()));
                        }
                    }
                    open.push_back((known.key(key), whole + "_"));
                }
            }
        }
        best.map(|(_, name)| name)
    }

    /// `LABELS__TEAM` as `labels.team`, with the spelling that is known for each part. More than one path where a part is
    /// the spelling of several keys. None where a part is empty, where a key that is known for something else than a
    /// table would be one, and where keys are stated and the first part is none of them.
    fn spelled(&self, name: &str) -> Vec<Vec<String>> {
        let mut at = self.clone();
        let mut path = Vec::new();
        if name.split("__").any(str::is_empty) {
            return Vec::new();
        }
        let stated = self.shapes.iter().any(|shape| !shape.fields.is_empty());
        let mut parts = name.split("__").peekable();
        while let Some(part) = parts.next() {
            let upper = part.to_uppercase();
            let known: Vec<&str> =
                at.fitting(&upper).into_iter().filter(|key| spellings(key).contains(&upper)).collect();
            if known.len() > 1 {
                let rest: Vec<String> = parts.map(str::to_lowercase).collect();
                return known.iter().map(|key| [&path[..], &[(*key).to_owned()], &rest].concat()).collect();
            }
            if known.is_empty() && path.is_empty() && stated {
                return Vec::new();
            }
            let key = known.first().map_or_else(|| part.to_lowercase(), |key| (*key).to_owned());
            at = at.key(&key);
            path.push(key);
            if parts.peek().is_some() && at.kind().is_some_and(|kind| kind != Kind::Object) {
                return Vec::new();
            }
        }
        vec![path]
    }
}

/// Among how many keys the nearest is looked for, how long a name may be, and how many misspelt ones get it.
const NEAR: usize = 5_000;
const LONG: usize = 256;
const SUGGESTED: usize = 20;

/// Variables that no key is known for, with the nearest that there is one for.
pub(crate) struct Strange {
    pub(crate) variable: String,
    pub(crate) nearest: Option<String>,
    pub(crate) place: (Arc<Source>, Range<usize>),
}

/// The variables of the process that begin with `prefix` and an underscore, or without a prefix those that are known.
pub(crate) fn of_process(prefix: &str, known: &Known<'_>) -> Result<Vec<(String, String)>> {
    ours(prefix, known, std::env::vars_os())
}

fn ours(
    prefix: &str,
    known: &Known<'_>,
    variables: impl Iterator<Item = (OsString, OsString)>,
) -> Result<Vec<(String, String)>> {
    let ours = variables.filter(|(name, _)| rest(prefix, &name.to_string_lossy(), known).is_some());
    let text = |(name, value): (OsString, OsString)| match (name.into_string(), value.into_string()) {
        (Ok(name), Ok(value)) => Ok((name, value)),
        (Ok(name), Err(_)) => Err(not_text(&name, "not UTF-8")),
        (Err(name), _) => Err(not_text(&name.to_string_lossy(), "not UTF-8")),
    };
    ours.map(text).collect()
}

fn not_text(variable: &str, what: &str) -> Error {
    Error::new(ErrorKind::Encoding, format!("environment variable {variable}: {what}"))
}

/// What follows the prefix, in whatever case, in the name of one of our variables.
fn rest<'n>(prefix: &str, name: &'n str, known: &Known<'_>) -> Option<&'n str> {
    if prefix.is_empty() {
        return known.has_named(name).then_some(name);
    }
    let (start, rest) = name.split_at_checked(prefix.len())?;
    let rest = rest.strip_prefix('_').filter(|rest| !rest.is_empty())?;
    start.eq_ignore_ascii_case(prefix).then_some(rest)
}

/// The layer of the environment variables that are ours.
pub(crate) fn environment(
    prefix: &str,
    variables: &[(String, String)],
    known: &Known<'_>,
    limits: &Limits,
) -> Result<(Doc, Vec<Strange>)> {
    let mut text = String::new();
    let mut values = Vec::new();
    let mut strange: Vec<Strange> = Vec::new();
    for (variable, value) in variables {
        let Some(name) = rest(prefix, variable, known) else { continue };
        if value.contains('\0') {
            return Err(not_text(variable, "a NUL byte is not text"));
        }
        let start = text.len() + variable.len() + 1;
        // Lines of the text are how a place is found again; a value of several lines is kept in one.
        text.push_str(&format!("{variable}={}\n", value.replace('\n', " ")));
        values.push((variable, name, value, start..start + value.len()));
    }
    if text.len() > limits.max_bytes() {
        let message = format!("environment: more than {} bytes", limits.max_bytes());
        return Err(Error::new(ErrorKind::Limit, message));
    }
    let source = Source::new(Origin::Environment, text);
    let mut root = Vec::new();
    for (variable, name, value, span) in values {
        let upper = name.to_uppercase();
        let mut fits = Vec::new();
        known.named(&upper, &mut Vec::new(), &mut fits);
        if fits.is_empty() && name.contains("__") {
            fits = known.spelled(name);
        }
        let path = match fits.as_slice() {
            [path] => path.clone(),
            [one, two, ..] => {
                let message = format!("it may stand for `{}` and for `{}`", Dotted(one), Dotted(two));
                return Err(Error::new(ErrorKind::Ambiguous, message).at(&source, span));
            }
            [] => {
                // Looking for what is near costs far more than finding out that nothing is there.
                let nearest = (strange.len() < SUGGESTED).then(|| known.nearest(&upper)).flatten();
                strange.push(Strange {
                    variable: variable.clone(),
                    nearest: nearest.map(|name| format!("{}_{name}", &variable[..prefix.len()])),
                    place: (source.clone(), span),
                });
                continue;
            }
        };
        let known = known.walk(&path);
        let (value, loose) = interpret(value, known.kind(), known.item(), limits);
        if !put(&mut root, &path, Leaf::Value(value, span.clone(), loose)) {
            let message = format!("another variable sets `{}` or what it is in", Dotted(&path));
            return Err(Error::new(ErrorKind::Ambiguous, message).at(&source, span));
        }
    }
    let mut out = DocBuilder::new(source, limits);
    write_nest(&mut out, NO_KEY, root)?;
    Ok((out.finish(), strange))
}

/// Whether a spelling of a key may be what a name, in capitals, begins with. Keys may be very many, and few are spelled.
fn may_begin(name: &str, key: &str) -> bool {
    let mut name = name.chars().filter(|c| *c != '_');
    let key = key.chars().filter(|c| !matches!(c, '-' | '.' | ' ' | '_'));
    key.flat_map(char::to_uppercase).all(|c| name.next() == Some(c))
}

/// `poolSize` as `POOLSIZE` and `POOL_SIZE`.
fn spellings(key: &str) -> BTreeSet<String> {
    let plain = |key: &str| key.replace(['-', '.', ' '], "_").to_uppercase();
    let mut split = String::new();
    let mut lower = false;
    for c in key.chars() {
        if lower && c.is_uppercase() {
            split.push('_');
        }
        lower = c.is_lowercase() || c.is_ascii_digit();
        split.push(c);
    }
    BTreeSet::from([plain(key), plain(&split)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::Format;
    use crate::tree::Tree;

    #[cfg(unix)]
    #[test]
    fn a_variable_of_ours_that_is_no_text_is_an_error() {
        use std::os::unix::ffi::OsStringExt as _;
        let odd = |text: &[u8]| OsString::from_vec(text.to_vec());
        let plain = (OsString::from("APP_A"), OsString::from("1"));
        let others = [plain.clone(), (odd(b"OTHER"), odd(b"\xff")), (odd(b"APP"), odd(b"\xff"))];
        let known = Known::of_shapes(Vec::new());
        assert_eq!(ours("APP", &known, others.into_iter()).unwrap(), [("APP_A".to_owned(), "1".to_owned())]);
        for (name, value) in [(b"APP_B".as_slice(), b"CANARY\xff".as_slice()), (b"APP_B\xff", b"1")] {
            let error =
                ours("APP", &known, [plain.clone(), (odd(name), odd(value))].into_iter()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Encoding);
            assert!(error.to_string().contains("APP_B") && !error.to_string().contains("CANARY"), "{error}");
        }
    }

    #[test]
    fn few_keys_are_spelled_out_for_a_variable() {
        let text: Vec<String> = (0..1000).map(|at| format!("\"k-{at}\":{{}}")).collect();
        let tree =
            Tree::parse("a", Format::Json, format!("{{{}}}", text.join(",")), &Limits::default()).unwrap();
        let known = Known::of_shapes(Vec::new()).and([tree.root()].into_iter());
        let keys: Vec<_> = known.fitting("K_123_X").into_iter().collect();
        assert_eq!(keys, ["k-1", "k-12", "k-123"]);
        for key in ["poolSize", "pool-size", "pool_size", "a.b c", "straße", "ǅx", "_a", ""] {
            for spelling in spellings(key) {
                assert!(may_begin(&spelling, key) && may_begin(&format!("{spelling}_MORE"), key), "{key}");
            }
        }
        assert!(!may_begin("POOL", "poolSize") && !may_begin("OTHER", "pool"));
    }
}
