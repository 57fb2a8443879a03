//! One layer each: what can be given to a loader, and how it becomes a document.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value as Json;

use crate::doc::{Doc, DocBuilder, Kind, NO_KEY, Node, Payload, Text, shorten};
use crate::error::{Error, ErrorKind, Result};
use crate::hierarchy::ConfigHierarchy;
use crate::limits::Limits;
use crate::path::{self, Dotted};
use crate::read;
use crate::shape::Shape;
use crate::source::{Format, Origin, Source};
use crate::tree::Tree;

mod finite;

pub(crate) use finite::to_json;

#[derive(Clone)]
pub(crate) enum Layer {
    File {
        path: PathBuf,
        required: bool,
    },
    Hierarchy(ConfigHierarchy),
    Text {
        name: String,
        format: Format,
        text: Arc<str>,
    },
    /// Values made in code, or what kept them from being made.
    Values {
        name: String,
        values: Result<Arc<Json>, String>,
    },
    Environment {
        prefix: String,
        variables: Option<Arc<[(String, String)]>>,
    },
    /// `path=value`.
    Override(String),
    #[cfg(feature = "testing")]
    Fake(crate::testing::FakeSource),
    #[cfg(feature = "figment")]
    Provider(Arc<dyn crate::provider::Supply>),
}

/// A value on its way into a document made in code.
struct Nest {
    key: String,
    value: Leaf,
}

enum Leaf {
    Table(Vec<Nest>),
    /// A value, and the text it came from.
    Value(Json, Range<usize>, bool),
}

/// A document of values made in code.
pub(crate) fn values(name: &str, values: &Json, limits: &Limits) -> Result<Doc> {
    let source = Source::new(Origin::Code(name.to_owned()), String::new());
    let mut out = DocBuilder::new(source, limits);
    write_value(&mut out, NO_KEY, values, 0..0, false)?;
    Ok(out.finish())
}

pub(crate) fn write_value(
    out: &mut DocBuilder<'_>,
    key: Text,
    value: &Json,
    span: Range<usize>,
    loose: bool,
) -> Result<()> {
    let payload = match value {
        Json::Null => Payload::Null,
        Json::Bool(value) => Payload::Bool(*value),
        Json::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), _, _) => Payload::Int(value),
            (_, Some(value), _) => Payload::Uint(value),
            (_, _, Some(value)) if value.is_finite() => Payload::Float(value),
            _ => return Err(out.error(ErrorKind::Number, "a number that does not fit 64 bits", span)),
        },
        Json::String(text) => Payload::Text(out.decode(text)),
        Json::Array(items) => {
            let open = out.open(span.start)?;
            for item in items {
                write_value(out, NO_KEY, item, span.clone(), false)?;
            }
            return out.close_array(open, key, span.end).map(drop);
        }
        Json::Object(entries) => {
            let open = out.open(span.start)?;
            for (name, value) in entries {
                let name = out.decode(name);
                write_value(out, name, value, span.clone(), false)?;
            }
            return out.close_object(open, key, span.end).map(drop);
        }
    };
    let node = Node::new(key, span, payload);
    out.push(if loose { node.loose() } else { node })
}

fn write_nest(out: &mut DocBuilder<'_>, key: Text, children: Vec<Nest>) -> Result<()> {
    let open = out.open(0)?;
    for Nest { key, value } in children {
        let key = out.decode(&key);
        match value {
            Leaf::Table(children) => write_nest(out, key, children)?,
            Leaf::Value(value, span, loose) => write_value(out, key, &value, span, loose)?,
        }
    }
    out.close_object(open, key, 0).map(drop)
}

/// Puts a value at a path. Fails with the path of a value that is in the way.
fn put(children: &mut Vec<Nest>, path: &[String], leaf: Leaf) -> bool {
    let [key, rest @ ..] = path else { return false };
    let at = match children.iter().position(|child| child.key == *key) {
        Some(at) => at,
        None => {
            children.push(Nest { key: key.clone(), value: Leaf::Table(Vec::new()) });
            children.len() - 1
        }
    };
    if rest.is_empty() {
        let free = matches!(&children[at].value, Leaf::Table(below) if below.is_empty());
        children[at].value = leaf;
        return free;
    }
    match &mut children[at].value {
        Leaf::Table(below) => put(below, rest, leaf),
        Leaf::Value(..) => false,
    }
}

/// What text stands for, where the kind is known or not.
pub(crate) fn interpret(text: &str, shape: Option<&Shape>, limits: &Limits) -> (Json, bool) {
    let trimmed = text.trim();
    let plain = || Json::String(text.to_owned());
    let json = || {
        let doc = read::text("value", Format::Json, trimmed.as_bytes(), limits).ok()?;
        Some(Tree::of(Arc::new(doc)).to_json())
    };
    match shape.and_then(|shape| shape.kind) {
        Some(Kind::String) => (plain(), false),
        Some(Kind::Bool) => match trimmed.to_ascii_lowercase().as_str() {
            "true" => (Json::Bool(true), false),
            "false" => (Json::Bool(false), false),
            _ => (plain(), false),
        },
        Some(Kind::Integer) => {
            (json().filter(|value| value.is_i64() || value.is_u64()).unwrap_or_else(plain), false)
        }
        Some(Kind::Float) => (json().filter(Json::is_number).unwrap_or_else(plain), false),
        Some(Kind::Array) if !trimmed.starts_with('[') => {
            let item = shape.and_then(|shape| shape.items.as_deref());
            let parts = trimmed.split(',').map(str::trim).filter(|part| !part.is_empty());
            (Json::Array(parts.map(|part| interpret(part, item, limits).0).collect()), false)
        }
        Some(Kind::Array) => (json().filter(Json::is_array).unwrap_or_else(plain), false),
        Some(Kind::Object) => (json().filter(Json::is_object).unwrap_or_else(plain), false),
        _ => (plain(), true),
    }
}

/// Variables that no key is known for, with the nearest that there is one for.
pub(crate) struct Strange {
    pub(crate) variable: String,
    pub(crate) nearest: Option<String>,
    pub(crate) place: (Arc<Source>, Range<usize>),
}

/// Whether there is a variable with the prefix.
pub(crate) fn any_variable(prefix: &str, variables: Option<&[(String, String)]>) -> bool {
    let fits =
        |name: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.len() > 1 && rest.starts_with('_'));
    match variables {
        Some(variables) => variables.iter().any(|(name, _)| fits(name)),
        None => std::env::vars_os().any(|(name, _)| fits(&name.to_string_lossy())),
    }
}

/// The layer of environment variables that begin with `prefix` and an underscore.
pub(crate) fn environment(
    prefix: &str,
    variables: &[(String, String)],
    shape: &Shape,
    limits: &Limits,
) -> Result<(Doc, Vec<Strange>)> {
    let mut known: Vec<(String, Vec<String>)> = Vec::new();
    shape.each(&mut Vec::new(), &mut |path, _| {
        for name in names(path) {
            known.push((name, path.to_vec()));
        }
    });
    known.sort();
    known.dedup();
    let mut text = String::new();
    let mut values = Vec::new();
    let mut strange = Vec::new();
    for (variable, value) in variables {
        let Some(name) = variable.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('_')) else {
            continue;
        };
        if name.is_empty() || value.contains('\0') {
            continue;
        }
        let start = text.len() + variable.len() + 1;
        // Lines of the text are how a place is found again; a value of several lines is kept in one.
        text.push_str(&format!("{variable}={}\n", value.replace('\n', " ")));
        values.push((variable, name, value, start..start + value.len()));
    }
    if text.len() > limits.max_bytes() {
        return Err(Error::new(
            ErrorKind::Limit,
            format!("environment: more than {} bytes", limits.max_bytes()),
        ));
    }
    let source = Source::new(Origin::Environment, text);
    let mut root = Vec::new();
    for (variable, name, value, span) in values {
        let upper = name.to_uppercase();
        let first = known.partition_point(|(known, _)| *known < upper);
        let fits: Vec<_> = known[first..].iter().take_while(|(known, _)| *known == upper).collect();
        let path = match fits.as_slice() {
            [(_, path)] => path.clone(),
            [(_, one), (_, two), ..] => {
                let message = format!("it may stand for `{}` and for `{}`", Dotted(one), Dotted(two));
                return Err(Error::new(ErrorKind::Ambiguous, message).at(&source, span));
            }
            [] if name.contains("__") => spelled(name, shape),
            [] => {
                let nearest =
                    known.iter().map(|(name, _)| (strsim::damerau_levenshtein(name, &upper), name)).min();
                let near = |distance: usize| distance <= 2.max(upper.len() / 4);
                strange.push(Strange {
                    variable: variable.clone(),
                    nearest: nearest
                        .filter(|(distance, _)| near(*distance))
                        .map(|(_, name)| format!("{prefix}_{name}")),
                    place: (source.clone(), span),
                });
                continue;
            }
        };
        let (value, loose) = interpret(value, shape.walk(&path), limits);
        if !put(&mut root, &path, Leaf::Value(value, span.clone(), loose)) {
            let message = format!("another variable sets `{}` or what it is in", Dotted(&path));
            return Err(Error::new(ErrorKind::Ambiguous, message).at(&source, span));
        }
    }
    let mut out = DocBuilder::new(source, limits);
    write_nest(&mut out, NO_KEY, root)?;
    Ok((out.finish(), strange))
}

/// `db.poolSize` as `DB_POOLSIZE` and `DB_POOL_SIZE`.
fn names(path: &[String]) -> Vec<String> {
    let plain = |part: &String| part.replace(['-', '.', ' '], "_").to_uppercase();
    let split = |part: &String| {
        let mut out = String::new();
        let mut lower = false;
        for c in part.chars() {
            if lower && c.is_uppercase() {
                out.push('_');
            }
            lower = c.is_lowercase() || c.is_ascii_digit();
            out.push(c);
        }
        plain(&out)
    };
    let mut names = vec![path.iter().map(plain).collect::<Vec<_>>().join("_")];
    let other = path.iter().map(split).collect::<Vec<_>>().join("_");
    if names[0] != other {
        names.push(other);
    }
    names
}

/// `LABELS__TEAM` as `labels.team`, with the spelling that is known for each part.
fn spelled(name: &str, shape: &Shape) -> Vec<String> {
    let mut at = Some(shape);
    name.split("__")
        .map(|part| {
            let mut fields = at.into_iter().flat_map(|shape| shape.fields.iter());
            let known =
                fields.find(|(key, _)| names(std::slice::from_ref(*key)).contains(&part.to_uppercase()));
            at = known.map(|(_, shape)| shape);
            known.map_or_else(|| part.to_lowercase(), |(key, _)| key.clone())
        })
        .collect()
}

/// The layer of an override such as `db.pool_size=3`.
pub(crate) fn overridden(text: &str, shape: &Shape, limits: &Limits) -> Result<Doc> {
    let wrong = |what: &str| {
        // The value may be a secret, so only the part before the sign is repeated.
        let key = text.split('=').next().unwrap_or_default();
        Error::new(ErrorKind::InvalidInput, format!("the override `{}` {what}", shorten(key)))
    };
    let Some((key, value)) = text.split_once('=') else { return Err(wrong("has no `=`: write `a.b=value`")) };
    let path = path::parse(key.trim())?;
    if path.is_empty() {
        return Err(wrong("has no key: write `a.b=value`"));
    }
    let known = shape.walk(&path);
    let (mut leaf, loose) = interpret(value, known, limits);
    if loose && let Ok(doc) = read::text("value", Format::Json, value.as_bytes(), limits) {
        leaf = Tree::of(Arc::new(doc)).to_json();
    }
    let mut root = Vec::new();
    put(&mut root, &path, Leaf::Value(leaf, 0..0, false));
    let source = Source::new(Origin::Code(format!("override of {}", Dotted(&path))), String::new());
    let mut out = DocBuilder::new(source, limits);
    write_nest(&mut out, NO_KEY, root)?;
    Ok(out.finish())
}
