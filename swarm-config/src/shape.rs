//! Which keys there can be and of what kind, from a schema, from the type that is loaded, or from the layers.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, VecDeque};

use serde::Deserialize;
use serde::de::{self, DeserializeSeed, Visitor};

use crate::doc::Kind;
use crate::path::Pattern;
use crate::tree::Value;
use crate::validate::Refs;

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Shape {
    pub(crate) kind: Option<Kind>,
    pub(crate) fields: BTreeMap<String, Shape>,
    /// For a list: of what.
    pub(crate) items: Option<Box<Shape>>,
    pub(crate) default: Option<serde_json::Value>,
    /// The key that a deprecated one was replaced by.
    pub(crate) renamed: Option<String>,
}

/// Types and schemas may hold themselves; no configuration goes deeper than this by hand.
const DEPTH: usize = 8;
/// Where what holds itself branches, fewer levels are looked at instead of more keys than this.
const KEYS: usize = 10_000;
/// Any item of a list, any key of a map.
const ANY: &str = "*";

impl Shape {
    pub(crate) const NOTHING: Shape =
        Shape { kind: None, fields: BTreeMap::new(), items: None, default: None, renamed: None };

    /// Adds what another one knows. What is there already stays.
    pub(crate) fn learn(&mut self, other: Shape) {
        self.kind = self.kind.or(other.kind);
        self.default = self.default.take().or(other.default);
        self.renamed = self.renamed.take().or(other.renamed);
        if self.items.is_none() {
            self.items = other.items;
        }
        if self.fields.is_empty() {
            self.fields = other.fields;
            return;
        }
        for (key, shape) in other.fields {
            match self.fields.entry(key) {
                Entry::Vacant(new) => drop(new.insert(shape)),
                Entry::Occupied(mut known) => known.get_mut().learn(shape),
            }
        }
    }

    pub(crate) fn of_value(value: Value<'_>) -> Shape {
        let fields = value.entries().map(|(key, value)| (key.to_owned(), Shape::of_value(value))).collect();
        let kind = Some(value.kind()).filter(|kind| *kind != Kind::Null);
        Shape { kind, fields, ..Shape::default() }
    }

    /// What a schema says of the keys that it names.
    pub(crate) fn of_schema<'s>(refs: &Refs<'s>, schema: &'s serde_json::Value) -> Shape {
        let within = |depth: usize| of_schema(refs, schema, depth, &mut { KEYS });
        (1..=DEPTH + 1).rev().find_map(within).unwrap_or_default()
    }

    /// What a type says of itself when it is asked to read nothing, and where it holds a [`Secret`](crate::Secret).
    pub(crate) fn of_type<T: for<'de> Deserialize<'de>>() -> (Shape, Vec<Pattern>) {
        let mut shape = Shape::default();
        let mut secrets = Vec::new();
        let mut open = VecDeque::from([(Vec::new(), true)]);
        // Each type is asked once for a struct at each path, so this ends; the bounds are for types that hold
        // themselves. The shallow paths come first, so that those are the ones to be known.
        for _ in 0..KEYS {
            let Some((path, settable)) = open.pop_front() else { break };
            let mut found = Found::default();
            let _ = T::deserialize(Probe { way: &path, found: &mut found });
            if found.secret {
                secrets.push(Pattern(path.iter().map(|part| (*part).to_owned()).collect()));
                continue;
            }
            if path.len() < DEPTH {
                let fields = found.fields.iter().map(|field| (*field, settable));
                // What is in a list, a map of any keys or a variant has no path to set it by.
                let others = found.variants.iter().copied().chain(found.many.then_some(ANY));
                let below = fields.chain(others.map(|part| (part, false)));
                open.extend(below.map(|(part, settable)| {
                    (path.iter().copied().chain([part]).collect::<Vec<_>>(), settable)
                }));
            }
            if !settable {
                continue;
            }
            let place = path.iter().fold(&mut shape, |shape, key: &&'static str| {
                shape.fields.entry((*key).to_owned()).or_default()
            });
            place.kind = found.kind;
            if found.list {
                place.items = Some(Box::new(Shape { kind: found.item, ..Shape::default() }));
            }
            for field in found.fields {
                place.fields.entry((*field).to_owned()).or_default();
            }
        }
        (shape, secrets)
    }

    pub(crate) fn walk(&self, path: &[String]) -> Option<&Shape> {
        path.iter().try_fold(self, |shape, key| shape.fields.get(key))
    }

    /// Every path, with the names an environment variable may have for it.
    pub(crate) fn each(&self, path: &mut Vec<String>, found: &mut dyn FnMut(&[String], &Shape)) {
        for (key, shape) in &self.fields {
            path.push(key.clone());
            found(path, shape);
            shape.each(path, found);
            path.pop();
        }
    }
}

/// Nothing if there are more than `keys` within `depth` levels.
fn of_schema<'s>(
    refs: &Refs<'s>,
    schema: &'s serde_json::Value,
    depth: usize,
    keys: &mut usize,
) -> Option<Shape> {
    let mut shape = Shape::default();
    let Some(depth) = depth.checked_sub(1) else { return Some(shape) };
    *keys = keys.checked_sub(1)?;
    shape.kind = match &schema["type"] {
        serde_json::Value::String(name) => kind_of(name),
        serde_json::Value::Array(names) => {
            let mut names = names.iter().filter_map(|name| name.as_str()).filter(|name| *name != "null");
            names.next().filter(|_| names.next().is_none()).and_then(kind_of)
        }
        _ => None,
    };
    shape.default = schema.get("default").cloned();
    shape.renamed =
        schema["x-renamed-to"].as_str().filter(|_| schema["deprecated"] == true).map(str::to_owned);
    if let Some(fields) = schema["properties"].as_object() {
        for (key, field) in fields {
            shape.fields.insert(key.clone(), of_schema(refs, field, depth, keys)?);
        }
    }
    if schema["items"].is_object() {
        shape.items = Some(Box::new(of_schema(refs, &schema["items"], depth, keys)?));
    }
    for part in refs.in_place(schema, false) {
        shape.learn(of_schema(refs, part, depth, keys)?);
    }
    for group in ["anyOf", "oneOf"] {
        for part in schema[group].as_array().into_iter().flatten() {
            shape.learn(of_schema(refs, part, depth, keys)?);
        }
    }
    Some(shape)
}

fn kind_of(name: &str) -> Option<Kind> {
    Some(match name {
        "string" => Kind::String,
        "integer" => Kind::Integer,
        "number" => Kind::Float,
        "boolean" => Kind::Bool,
        "array" => Kind::Array,
        "object" => Kind::Object,
        _ => return None,
    })
}

#[derive(Default)]
struct Found {
    kind: Option<Kind>,
    fields: &'static [&'static str],
    variants: &'static [&'static str],
    list: bool,
    item: Option<Kind>,
    /// Whether there is more below under keys or positions that the type does not name.
    many: bool,
    secret: bool,
}

/// Reads as a table with one key, the next of the way, and notes what is asked for at its end.
struct Probe<'w, 'f> {
    way: &'w [&'static str],
    found: &'f mut Found,
}

#[derive(Debug)]
struct Enough;

impl std::fmt::Display for Enough {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("asked")
    }
}

impl std::error::Error for Enough {}

impl de::Error for Enough {
    fn custom<T: std::fmt::Display>(_: T) -> Self {
        Enough
    }
}

macro_rules! asked {
    ($($method:ident $kind:expr;)*) => {$(
        fn $method<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Enough> {
            if self.way.is_empty() {
                self.found.kind = $kind;
            }
            Err(Enough)
        }
    )*};
}

impl<'de> de::Deserializer<'de> for Probe<'_, '_> {
    type Error = Enough;

    asked! {
        deserialize_any None;
        deserialize_ignored_any None;
        deserialize_identifier None;
        deserialize_bool Some(Kind::Bool);
        deserialize_i8 Some(Kind::Integer);
        deserialize_i16 Some(Kind::Integer);
        deserialize_i32 Some(Kind::Integer);
        deserialize_i64 Some(Kind::Integer);
        deserialize_i128 Some(Kind::Integer);
        deserialize_u8 Some(Kind::Integer);
        deserialize_u16 Some(Kind::Integer);
        deserialize_u32 Some(Kind::Integer);
        deserialize_u64 Some(Kind::Integer);
        deserialize_u128 Some(Kind::Integer);
        deserialize_f32 Some(Kind::Float);
        deserialize_f64 Some(Kind::Float);
        deserialize_char Some(Kind::String);
        deserialize_str Some(Kind::String);
        deserialize_string Some(Kind::String);
        deserialize_bytes None;
        deserialize_byte_buf None;
        deserialize_unit None;
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Enough> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Enough> {
        self.found.secret |= name == crate::secret::NAME && self.way.is_empty();
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Enough> {
        match self.way.split_first() {
            None => {
                self.found.kind = Some(Kind::Object);
                self.found.many = true;
                Err(Enough)
            }
            Some((key, rest)) => visitor.visit_map(Step { key: Some(key), rest, found: self.found }),
        }
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(self, _: &'static str, _: V) -> Result<V::Value, Enough> {
        Err(Enough)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Enough> {
        if let Some((_, rest)) = self.way.split_first() {
            return visitor.visit_seq(One { way: rest, found: self.found });
        }
        self.found.kind = Some(Kind::Array);
        self.found.list = true;
        self.found.many = true;
        let mut item = Found::default();
        let _ = visitor.visit_seq(One { way: &[], found: &mut item });
        self.found.item = item.kind;
        Err(Enough)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Enough> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Enough> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Enough> {
        match self.way.split_first() {
            None => {
                self.found.kind = Some(Kind::Object);
                self.found.fields = fields;
                Err(Enough)
            }
            Some((key, rest)) => visitor.visit_map(Step { key: Some(key), rest, found: self.found }),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Enough> {
        match self.way.split_first() {
            None => {
                self.found.kind = Some(Kind::String);
                self.found.variants = variants;
                Err(Enough)
            }
            Some((variant, rest)) => visitor.visit_enum(Chosen { variant, rest, found: self.found }),
        }
    }
}

struct Chosen<'w, 'f> {
    variant: &'static str,
    rest: &'w [&'static str],
    found: &'f mut Found,
}

impl<'w, 'f> Chosen<'w, 'f> {
    fn inside(self) -> Probe<'w, 'f> {
        Probe { way: self.rest, found: self.found }
    }
}

impl<'de> de::EnumAccess<'de> for Chosen<'_, '_> {
    type Error = Enough;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), Enough> {
        let variant = de::value::BorrowedStrDeserializer::new(self.variant);
        seed.deserialize(variant).map(|variant| (variant, self))
    }
}

impl<'de> de::VariantAccess<'de> for Chosen<'_, '_> {
    type Error = Enough;

    fn unit_variant(self) -> Result<(), Enough> {
        Err(Enough)
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, Enough> {
        seed.deserialize(self.inside())
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Enough> {
        de::Deserializer::deserialize_seq(self.inside(), visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Enough> {
        de::Deserializer::deserialize_struct(self.inside(), "", fields, visitor)
    }
}

struct One<'w, 'f> {
    way: &'w [&'static str],
    found: &'f mut Found,
}

impl<'de> de::SeqAccess<'de> for One<'_, '_> {
    type Error = Enough;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Enough> {
        seed.deserialize(Probe { way: self.way, found: self.found }).map(Some)
    }
}

struct Step<'w, 'f> {
    key: Option<&'static str>,
    rest: &'w [&'static str],
    found: &'f mut Found,
}

impl<'de> de::MapAccess<'de> for Step<'_, '_> {
    type Error = Enough;

    fn next_key_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Enough> {
        match self.key.take() {
            Some(key) => seed.deserialize(de::value::BorrowedStrDeserializer::new(key)).map(Some),
            None => Err(Enough),
        }
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Enough> {
        seed.deserialize(Probe { way: self.rest, found: self.found })
    }
}

#[cfg(test)]
mod tests {
    #![allow(dead_code, reason = "only their shape is read")]
    use super::*;

    #[derive(Deserialize)]
    struct Settings {
        name: String,
        db: Db,
        #[serde(rename = "max-retries")]
        retries: Option<u8>,
        hosts: Vec<std::net::IpAddr>,
        next: Option<Box<Settings>>,
    }

    #[derive(Deserialize)]
    struct Db {
        pool_size: u32,
        ratio: f64,
    }

    #[test]
    fn a_type_tells_its_keys_and_their_kinds() {
        let (shape, _) = Shape::of_type::<Settings>();
        let at = |path: &str| shape.walk(&crate::path::parse(path).unwrap()).and_then(|shape| shape.kind);
        assert_eq!(at("name"), Some(Kind::String));
        assert_eq!(at("db.pool_size"), Some(Kind::Integer));
        assert_eq!(at("db.ratio"), Some(Kind::Float));
        assert_eq!(at("max-retries"), Some(Kind::Integer));
        assert_eq!(at("hosts"), Some(Kind::Array));
        assert_eq!(at("next.next.db"), Some(Kind::Object));
        assert_eq!(at("retries"), None);
    }

    #[derive(Deserialize)]
    struct Hidden {
        plain: String,
        password: crate::Secret<String>,
        maybe: Option<crate::Secret<Vec<u8>>>,
        users: Vec<User>,
        tokens: std::collections::BTreeMap<String, crate::Secret<String>>,
        next: Option<Box<Hidden>>,
    }

    #[derive(Deserialize)]
    struct User {
        name: String,
        key: crate::Secret<String>,
    }

    #[test]
    fn a_type_tells_where_its_secrets_are() {
        let (_, secrets) = Shape::of_type::<Hidden>();
        let secrets: Vec<String> = secrets.iter().map(|path| path.0.join(".")).collect();
        for path in ["password", "maybe", "users.*.key", "tokens.*", "next.password", "next.next.users.*.key"]
        {
            assert!(secrets.iter().any(|secret| secret == path), "{path} is not in {secrets:?}");
        }
        assert!(!secrets.iter().any(|path| path.ends_with("plain") || path.ends_with("name")), "{secrets:?}");
    }
}
