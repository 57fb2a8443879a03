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

mod environment;
mod finite;
#[cfg(feature = "figment")]
mod provided;

pub(crate) use environment::{Known, Strange, environment, of_process};
pub(crate) use finite::given;
#[cfg(feature = "figment")]
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
    Provider(Arc<dyn provided::Supply>),
}

impl Layer {
    /// What it is, and nothing of its values.
    pub(crate) fn name(&self) -> String {
        match self {
            Layer::File { path, .. } => path.display().to_string(),
            Layer::Hierarchy(hierarchy) => format!("{hierarchy:?}"),
            Layer::Text { name, .. } | Layer::Values { name, .. } => name.clone(),
            Layer::Environment { prefix, .. } => format!("environment variables {prefix}_*"),
            Layer::Override(text) => {
                format!("override of {}", text.split_once('=').map_or("nothing", |(path, _)| path))
            }
            #[cfg(feature = "testing")]
            Layer::Fake(source) => source.name.to_string(),
            #[cfg(feature = "figment")]
            Layer::Provider(_) => "a figment provider".to_owned(),
        }
    }
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

/// What text stands for, where the kind is known or not, and for a list what its items are.
pub(crate) fn interpret(
    text: &str,
    kind: Option<Kind>,
    item: Option<&Shape>,
    limits: &Limits,
) -> (Json, bool) {
    let trimmed = text.trim();
    let plain = || Json::String(text.to_owned());
    let json = || {
        let doc = read::text("value", Format::Json, trimmed.as_bytes(), limits).ok()?;
        Some(Tree::of(Arc::new(doc)).to_json())
    };
    match kind {
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
            let parts = trimmed.split(',').map(str::trim).filter(|part| !part.is_empty());
            let kind = item.and_then(|item| item.kind);
            let below = item.and_then(|item| item.items.as_deref());
            (Json::Array(parts.map(|part| interpret(part, kind, below, limits).0).collect()), false)
        }
        Some(Kind::Array) => (json().filter(Json::is_array).unwrap_or_else(plain), false),
        Some(Kind::Object) => (json().filter(Json::is_object).unwrap_or_else(plain), false),
        _ => (plain(), true),
    }
}

/// The layer of an override such as `db.pool_size=3`.
pub(crate) fn overridden(text: &str, known: &Known<'_>, limits: &Limits) -> Result<Doc> {
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
    let known = known.walk(&path);
    let (mut leaf, loose) = match value.trim() {
        // As in any other layer, whatever kind the key has.
        "null" => (Json::Null, false),
        _ => interpret(value, known.kind(), known.item(), limits),
    };
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
