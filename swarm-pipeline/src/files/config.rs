//! Reads the configuration of a step into the type that its kind asks for, keeping positions in errors.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, Error as _, Expected, IntoDeserializer,
    MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};

use super::tree::{Data, Fault, Item, Key};
use crate::graph::nearest;

pub(super) fn read<C: DeserializeOwned>(item: &Item) -> Result<C, Fault> {
    C::deserialize(item).map_err(|error| Fault::new(error.at.unwrap_or(item.at), error.message))
}

#[derive(Debug)]
pub(super) struct Problem {
    /// Absent until the innermost value around it is known.
    at: Option<u32>,
    message: String,
}

impl Problem {
    fn at(mut self, at: u32) -> Self {
        self.at.get_or_insert(at);
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Problem {}

/// Values are never quoted: they may be secrets.
impl serde::de::Error for Problem {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Problem { at: None, message: message.to_string() }
    }

    fn invalid_type(found: Unexpected<'_>, expected: &dyn Expected) -> Self {
        let noun = match found {
            Unexpected::Bool(_) => "a boolean",
            Unexpected::Unsigned(_) | Unexpected::Signed(_) => "an integer",
            Unexpected::Float(_) => "a decimal number",
            Unexpected::Str(_) | Unexpected::Char(_) => "text",
            Unexpected::Unit | Unexpected::Option => "null",
            Unexpected::Seq => "a list",
            Unexpected::Map => "a table",
            _ => "something else",
        };
        Problem::custom(format_args!("expected {expected}, found {noun}"))
    }

    fn invalid_value(_: Unexpected<'_>, expected: &dyn Expected) -> Self {
        Problem::custom(format_args!("a value that does not do: expected {expected}"))
    }

    fn unknown_variant(variant: &str, expected: &'static [&'static str]) -> Self {
        let mut message = format!("unknown value; known are {expected:?}");
        if let Some(near) = nearest(variant, expected.iter().copied()) {
            message.push_str(&format!("; did you mean {near:?}?"));
        }
        Problem { at: None, message }
    }

    fn unknown_field(field: &str, expected: &'static [&'static str]) -> Self {
        Problem { at: None, message: unknown_key(field, expected.iter().copied()) }
    }

    fn missing_field(field: &'static str) -> Self {
        Problem::custom(format_args!("the key {field:?} is missing"))
    }
}

/// What is said of a key that nothing reads.
pub(super) fn unknown_key<'a>(key: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    match nearest(key, known.clone()) {
        Some(near) => format!("unknown key {key:?}; did you mean {near:?}?"),
        None => format!("unknown key {key:?}; known are {}", known.collect::<Vec<_>>().join(", ")),
    }
}

impl<'de> Deserializer<'de> for &'de Item {
    type Error = Problem;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        let read = match &self.data {
            Data::Null => visitor.visit_unit(),
            Data::Bool(value) => visitor.visit_bool(*value),
            Data::Int(value) => match u64::try_from(*value) {
                Ok(value) => visitor.visit_u64(value),
                Err(_) => visitor.visit_i64(*value),
            },
            Data::Big(value) => visitor.visit_u64(*value),
            Data::Float(value) => visitor.visit_f64(*value),
            Data::Text(value) => visitor.visit_borrowed_str(value),
            Data::List(items) => visitor.visit_seq(List(items.iter())),
            Data::Table(entries) => visitor.visit_map(Table { entries: entries.iter(), value: None }),
        };
        read.map_err(|problem| problem.at(self.at))
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Problem> {
        match self.data {
            Data::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Problem> {
        visitor.visit_newtype_struct(self).map_err(|problem| problem.at(self.at))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        let read = match &self.data {
            Data::Text(variant) => visitor.visit_enum(variant.as_str().into_deserializer()),
            Data::Table(entries) => match &**entries {
                [(key, value)] => visitor.visit_enum(Variant { key, value }),
                _ => Err(Problem::custom("expected a table with one key, which names the variant")),
            },
            _ => Err(Problem::custom(format_args!("expected text, found {}", self.noun()))),
        };
        read.map_err(|problem| problem.at(self.at))
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit unit_struct
        seq tuple tuple_struct map struct identifier ignored_any
    }
}

struct List<'de>(std::slice::Iter<'de, Item>);

impl<'de> SeqAccess<'de> for List<'de> {
    type Error = Problem;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Problem> {
        let read = |item: &'de Item| seed.deserialize(item).map_err(|problem| problem.at(item.at));
        self.0.next().map(read).transpose()
    }

    fn size_hint(&self) -> Option<usize> {
        Some(self.0.len())
    }
}

struct Table<'de> {
    entries: std::slice::Iter<'de, (Key, Item)>,
    value: Option<&'de Item>,
}

impl<'de> MapAccess<'de> for Table<'de> {
    type Error = Problem;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Problem> {
        let Some((key, value)) = self.entries.next() else { return Ok(None) };
        self.value = Some(value);
        let name: StrDeserializer<'_, Problem> = key.name.as_str().into_deserializer();
        seed.deserialize(name).map(Some).map_err(|problem| problem.at(key.at))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, Problem> {
        let item =
            self.value.take().ok_or_else(|| Problem::custom("a value was asked for before its key"))?;
        seed.deserialize(item).map_err(|problem| problem.at(item.at))
    }
}

struct Variant<'de> {
    key: &'de Key,
    value: &'de Item,
}

impl<'de> EnumAccess<'de> for Variant<'de> {
    type Error = Problem;
    type Variant = &'de Item;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, &'de Item), Problem> {
        let name: StrDeserializer<'_, Problem> = self.key.name.as_str().into_deserializer();
        let variant = seed.deserialize(name).map_err(|problem| problem.at(self.key.at))?;
        Ok((variant, self.value))
    }
}

impl<'de> VariantAccess<'de> for &'de Item {
    type Error = Problem;

    fn unit_variant(self) -> Result<(), Problem> {
        serde::Deserialize::deserialize(self)
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Problem> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Problem> {
        self.deserialize_any(visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Problem> {
        self.deserialize_any(visitor)
    }
}
