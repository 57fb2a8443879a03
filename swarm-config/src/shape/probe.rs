//! A deserializer that has nothing to read, and notes what a type asks it for.

use serde::de::{self, DeserializeSeed, Visitor};

use crate::doc::Kind;

/// What a type asked for at one place.
#[derive(Default)]
pub(super) struct Wanted {
    pub(super) kind: Option<Kind>,
    pub(super) fields: &'static [&'static str],
    pub(super) variants: &'static [&'static str],
    pub(super) list: bool,
    pub(super) item: Option<Kind>,
    /// Whether there is more below under keys or positions that the type does not name.
    pub(super) many: bool,
    pub(super) secret: bool,
}

/// Reads as a table with one key, the next of the way, and notes what is asked for at its end.
pub(super) struct Probe<'w, 'f> {
    pub(super) way: &'w [&'static str],
    pub(super) found: &'f mut Wanted,
}

#[derive(Debug)]
pub(super) struct Enough;

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
            Some((key, rest)) => visitor.visit_map(Keyed { key: Some(key), rest, found: self.found }),
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
        let mut item = Wanted::default();
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
            Some((key, rest)) => visitor.visit_map(Keyed { key: Some(key), rest, found: self.found }),
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
    found: &'f mut Wanted,
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
    found: &'f mut Wanted,
}

impl<'de> de::SeqAccess<'de> for One<'_, '_> {
    type Error = Enough;

    fn next_element_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<Option<S::Value>, Enough> {
        seed.deserialize(Probe { way: self.way, found: self.found }).map(Some)
    }
}

struct Keyed<'w, 'f> {
    key: Option<&'static str>,
    rest: &'w [&'static str],
    found: &'f mut Wanted,
}

impl<'de> de::MapAccess<'de> for Keyed<'_, '_> {
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
