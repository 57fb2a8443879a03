//! Typed reading, with the path and place of what is wrong.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use serde::Deserialize;
use serde::de::value::BorrowedStrDeserializer;
use serde::de::{self, DeserializeSeed, Unexpected, Visitor};

use super::{Ref, Value};
use crate::doc::{Kind, Node, Payload, shorten};
use crate::error::{Error, ErrorKind, Result};
use crate::loader::nearest;
use crate::path::{Dotted, Pattern};
use crate::shape::Shape;
use crate::source::Source;
use crate::validate::meant_as_boolean;
use crate::{secret, section};

mod inside;

use inside::{Entries, Items, Variant};

/// A key that the type which was read does not have.
pub(crate) struct Unknown {
    pub(crate) path: Vec<String>,
    pub(crate) place: (Arc<Source>, Range<usize>),
    /// What it has instead.
    pub(crate) known: &'static [&'static str],
}

/// What was made of a tree.
pub(crate) struct Extracted<T> {
    pub(crate) value: T,
    /// Keys that `T` passed over.
    pub(crate) unknown: Vec<Unknown>,
    pub(crate) secrets: Hidden,
}

/// Where a type holds a [`Secret`](crate::Secret).
#[derive(Debug, Clone, Default)]
pub(crate) struct Hidden {
    pub(crate) paths: Vec<Pattern>,
    /// Somewhere below these.
    pub(crate) below: Vec<Pattern>,
}

impl Hidden {
    fn covers(&self, path: &[String]) -> bool {
        self.paths.iter().chain(&self.below).any(|hidden| hidden.covers(path))
    }
}

/// What a type does with a tree besides reading it.
#[derive(Default)]
struct Notes {
    unknown: RefCell<Vec<Unknown>>,
    secrets: RefCell<Hidden>,
    /// The list or table that was last handed over whole, to be read from a copy.
    copied: Cell<Option<Ref>>,
}

impl Notes {
    /// The key of a table, and its place, that nobody knows and that a missing field may stand under.
    fn misspelt(&self, field: &str, table: &[String]) -> Option<(String, (Arc<Source>, Range<usize>))> {
        let unknown = self.unknown.borrow();
        let mut beside = unknown.iter().filter_map(|unknown| match unknown.path.split_last() {
            Some((key, parent)) if parent == table => Some((key, unknown)),
            _ => None,
        });
        let near = nearest(field, beside.clone().map(|(key, _)| &**key))?;
        beside.find(|(key, _)| *key == near).map(|(key, unknown)| (key.clone(), unknown.place.clone()))
    }
}

/// Makes a `T`.
pub(crate) fn extract<'a, T: Deserialize<'a>>(value: Value<'a>) -> Result<Extracted<T>> {
    let notes = Notes::default();
    let value = read(value, &[], &notes)?;
    Ok(Extracted { value, unknown: notes.unknown.into_inner(), secrets: notes.secrets.into_inner() })
}

/// Makes a `T` of a value at a path.
pub(crate) fn extract_below<'a, T: Deserialize<'a>>(
    value: Value<'a>,
    path: &[String],
) -> Result<(T, Hidden)> {
    let notes = Notes::default();
    let made = read(value, path, &notes)?;
    let mut secrets = notes.secrets.into_inner();
    for hidden in secrets.paths.iter_mut().chain(&mut secrets.below) {
        hidden.0.splice(..0, path.iter().cloned());
    }
    Ok((made, secrets))
}

fn read<'a, T: Deserialize<'a>>(value: Value<'a>, above: &[String], notes: &Notes) -> Result<T> {
    let reader = De { value, way: &Way::Root, known: None, notes };
    reader.read(PhantomData::<T>).map_err(|Wrong { mut path, mut message, missing, at, copied }| {
        path.reverse();
        let hidden = notes.secrets.borrow().covers(&path);
        let found = at.map_or(value, |at| value.tree.value(at));
        let (mut source, mut span) = found.place();
        let known = notes.secrets.borrow();
        // It may hold secrets that were not come to.
        let mut masked = Shape::of_type::<T>().1;
        masked.extend(known.paths.iter().chain(&known.below).cloned());
        if let Some(below) = copied {
            masked.push(Pattern(path[..path.len() - below].to_vec()));
        }
        if let Some((key, place)) = missing.and_then(|field| notes.misspelt(field, &path)) {
            message.push_str(&format!("; is `{}` meant to be it?", shorten(&key)));
            (source, span) = place;
            // What stands under it may be the secret.
            masked.push(Pattern(path.iter().cloned().chain([key]).collect()));
        }
        masked.iter_mut().for_each(|Pattern(path)| drop(path.splice(..0, above.iter().cloned())));
        path.splice(..0, above.iter().cloned());
        let secret = hidden || found.is_secret();
        // Said of a copy, it may show a value of anywhere in it; a name of a field is none.
        let mut holds_secret = false;
        if copied.is_some() && missing.is_none() {
            found.each(&mut |value| holds_secret |= value.is_secret());
        }
        let message = match () {
            () if secret => "not of the type that is read".to_owned(),
            () if holds_secret => {
                "something in it is not of the type that is read, and not shown, for there are secrets in it"
                    .to_owned()
            }
            () => message,
        };
        let mut error = Error::new(ErrorKind::Type, message).at(&source, span);
        error = error.masking(value.tree.masked(&masked));
        if secret {
            error = error.hiding_lines();
        }
        if path.is_empty() { error } else { error.in_path(Dotted(&path)) }
    })
}

/// The way from the root to a value, on the stack: it costs nothing until someone asks.
enum Way<'w> {
    Root,
    Key(&'w Way<'w>, &'w str),
    Item(&'w Way<'w>, usize),
}

impl Way<'_> {
    fn collect(&self, out: &mut Vec<String>) {
        match self {
            Way::Root => {}
            Way::Key(before, key) => {
                before.collect(out);
                out.push((*key).to_owned());
            }
            Way::Item(before, position) => {
                before.collect(out);
                out.push(position.to_string());
            }
        }
    }
}

/// An error on its way up, picking up its path.
#[derive(Debug)]
struct Wrong {
    message: String,
    /// The field that is not there.
    missing: Option<&'static str>,
    at: Option<Ref>,
    path: Vec<String>,
    /// How far above the end of the path something stands that serde copies, so that nobody knows yet what is secret in it.
    copied: Option<usize>,
}

impl Wrong {
    fn through(mut self, at: Ref, segment: impl ToString) -> Wrong {
        self.at.get_or_insert(at);
        self.path.push(segment.to_string());
        self
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Wrong {}

impl de::Error for Wrong {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Wrong { message: message.to_string(), missing: None, at: None, path: Vec::new(), copied: None }
    }

    fn missing_field(field: &'static str) -> Self {
        Wrong { missing: Some(field), ..Wrong::custom(format_args!("missing field `{field}`")) }
    }
}

#[derive(Clone, Copy)]
struct De<'a, 'w> {
    value: Value<'a>,
    way: &'w Way<'w>,
    /// The fields of the struct that this is in, if it is in one.
    known: Option<&'static [&'static str]>,
    notes: &'w Notes,
}

impl<'a> De<'a, '_> {
    /// The text of a value that may be read as another kind: an environment variable of no known type.
    fn loose(&self) -> Option<&'a str> {
        self.value.node().is_some_and(Node::is_loose).then(|| self.value.as_str())?.map(str::trim)
    }

    /// A number that may be written as a text.
    fn number<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if let Some(text) = self.loose() {
            if let Ok(value) = text.parse::<i64>() {
                return visitor.visit_i64(value);
            }
            if let Ok(value) = text.parse::<u64>() {
                return visitor.visit_u64(value);
            }
            if let Some(value) = text.parse::<f64>().ok().filter(|value| value.is_finite()) {
                return visitor.visit_f64(value);
            }
        }
        de::Deserializer::deserialize_any(self, visitor)
    }

    /// Reads, and marks the value whole if there is a secret in it whose path was not seen.
    fn read<S: DeserializeSeed<'a>>(self, seed: S) -> Result<S::Value, Wrong> {
        let (way, notes, named) = (self.way, self.notes, self.value.named);
        let (mut made, missed) = secret::noticing(|| seed.deserialize(self));
        if let Err(wrong) = &mut made
            && wrong.at.is_none()
            && notes.copied.get() == Some(named)
        {
            wrong.copied = Some(0);
        }
        if missed {
            let mut path = Vec::new();
            way.collect(&mut path);
            notes.secrets.borrow_mut().below.push(Pattern(path));
        }
        made
    }

    fn unexpected(&self) -> Unexpected<'a> {
        match self.value.payload() {
            Payload::Null => Unexpected::Other("null"),
            Payload::Bool(value) => Unexpected::Bool(value),
            Payload::Int(value) => Unexpected::Signed(value),
            Payload::Uint(value) => Unexpected::Unsigned(value),
            Payload::Float(value) => Unexpected::Float(value),
            Payload::Text(_) => Unexpected::Str(self.value.as_str().unwrap_or_default()),
            Payload::Array(_) => Unexpected::Other("an array"),
            Payload::Object(_) => Unexpected::Other("a table"),
        }
    }
}

macro_rules! numbers {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
            match self.value.payload() {
                Payload::Int(value) => visitor.visit_i64(value),
                Payload::Uint(value) => visitor.visit_u64(value),
                Payload::Float(value) => visitor.visit_f64(value),
                Payload::Text(_) => self.number(visitor),
                _ => self.deserialize_any(visitor),
            }
        }
    )*};
}

impl<'a> de::Deserializer<'a> for De<'a, '_> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.value.payload() {
            Payload::Null => visitor.visit_unit(),
            Payload::Bool(value) => visitor.visit_bool(value),
            Payload::Int(value) => visitor.visit_i64(value),
            Payload::Uint(value) => visitor.visit_u64(value),
            Payload::Float(value) => visitor.visit_f64(value),
            Payload::Text(text) => visitor.visit_borrowed_str(self.value.text(text)),
            Payload::Array(children) => {
                let mut items = Items::new(self, children);
                let made = visitor.visit_seq(&mut items)?;
                self.notes.copied.set(Some(self.value.named));
                if !items.is_read() {
                    return Err(de::Error::invalid_length(children.count as usize, &"fewer items"));
                }
                Ok(made)
            }
            Payload::Object(children) => {
                let made = visitor.visit_map(Entries::new(self, children, None))?;
                self.notes.copied.set(Some(self.value.named));
                Ok(made)
            }
        }
    }

    fn deserialize_map<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        let flattens = flattens(&visitor);
        let copied = |wrong: Wrong| Wrong { copied: Some(wrong.path.len()), ..wrong };
        self.deserialize_any(visitor).map_err(|wrong| if flattens { copied(wrong) } else { wrong })
    }

    fn deserialize_bool<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if let Payload::Bool(value) = self.value.payload() {
            return visitor.visit_bool(value);
        }
        match self.loose().map(str::to_ascii_lowercase).as_deref() {
            Some("true") => visitor.visit_bool(true),
            Some("false") => visitor.visit_bool(false),
            _ => self.deserialize_any(visitor).map_err(|mut wrong| {
                if let Some((_, what)) = self.value.as_str().and_then(meant_as_boolean) {
                    wrong.message.push_str(&format!("; {what}"));
                }
                wrong
            }),
        }
    }

    numbers! {
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64 deserialize_i128
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        match self.value.kind() {
            Kind::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        if name == section::NAME && section::may_wait() {
            let mut path = Vec::new();
            self.way.collect(&mut path);
            section::hand_over(self.value.named, path);
            return visitor.visit_unit();
        }
        if name == secret::NAME {
            let mut path = Vec::new();
            self.way.collect(&mut path);
            self.notes.secrets.borrow_mut().paths.push(Pattern(path));
            return secret::noticing(|| visitor.visit_newtype_struct(self)).0;
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match self.value.payload() {
            Payload::Object(children) => visitor.visit_map(Entries::new(self, children, Some(fields))),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        match self.value.payload() {
            Payload::Text(_) => {
                visitor.visit_enum(BorrowedStrDeserializer::new(self.value.as_str().unwrap_or_default()))
            }
            Payload::Object(children) if children.count == 1 => {
                let (key, value) =
                    self.value.entries().next().ok_or_else(|| de::Error::custom("no variant"))?;
                visitor.visit_enum(Variant { of: self, key, value })
            }
            _ => {
                Err(de::Error::invalid_type(self.unexpected(), &"a variant: a string, or a table of one key"))
            }
        }
    }

    fn deserialize_ignored_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        if let Some(known) = self.known {
            let mut path = Vec::new();
            self.way.collect(&mut path);
            let place = self.value.key_place();
            self.notes.unknown.borrow_mut().push(Unknown { path, place, known });
        }
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        <W: Visitor<'a>>
        char str string bytes byte_buf unit unit_struct seq tuple tuple_struct identifier
    }
}

/// Whether what is read as a map is a struct with `#[serde(flatten)]`, by the words that serde has for one.
fn flattens<'a>(visitor: &impl Visitor<'a>) -> bool {
    #[derive(Default)]
    struct First(Option<bool>);

    impl fmt::Write for First {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.get_or_insert(text.starts_with("struct "));
            Ok(())
        }
    }

    let mut first = First::default();
    let expected: &dyn de::Expected = visitor;
    let _ = fmt::write(&mut first, format_args!("{expected}"));
    first.0 == Some(true)
}
