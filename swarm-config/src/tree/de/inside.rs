//! Typed reading of what is in lists, tables and variants.

use serde::Deserialize as _;
use serde::de::value::{BorrowedStrDeserializer, StrDeserializer};
use serde::de::{self, DeserializeSeed, IntoDeserializer as _, Visitor};

use super::{De, Way, Wrong};
use crate::doc::Children;
use crate::tree::Value;

/// The items of a list.
pub(super) struct Items<'a, 'w> {
    of: De<'a, 'w>,
    children: Children,
    next: u32,
}

impl<'a, 'w> Items<'a, 'w> {
    pub(super) fn new(of: De<'a, 'w>, children: Children) -> Items<'a, 'w> {
        Items { of, children, next: 0 }
    }

    /// Whether all were read.
    pub(super) fn is_read(&self) -> bool {
        self.next == self.children.count
    }
}

impl<'a> de::SeqAccess<'a> for &mut Items<'a, '_> {
    type Error = Wrong;

    fn next_element_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, Wrong> {
        if self.is_read() {
            return Ok(None);
        }
        let (tree, position) = (self.of.value.tree, self.next as usize);
        let value = tree.value(tree.child(self.of.value.at, self.children, self.next));
        self.next += 1;
        let way = Way::Item(self.of.way, position);
        let reader = De { value, way: &way, known: None, notes: self.of.notes };
        reader.read(seed).map(Some).map_err(|wrong| wrong.through(value.named, position))
    }

    fn size_hint(&self) -> Option<usize> {
        Some((self.children.count - self.next) as usize)
    }
}

/// The entries of a table.
pub(super) struct Entries<'a, 'w> {
    of: De<'a, 'w>,
    children: Children,
    next: u32,
    current: Option<(&'a str, Value<'a>)>,
    /// The fields of the struct that it is read as, if it is one.
    known: Option<&'static [&'static str]>,
}

impl<'a, 'w> Entries<'a, 'w> {
    pub(super) fn new(
        of: De<'a, 'w>,
        children: Children,
        known: Option<&'static [&'static str]>,
    ) -> Entries<'a, 'w> {
        Entries { of, children, next: 0, current: None, known }
    }
}

impl<'a> de::MapAccess<'a> for Entries<'a, '_> {
    type Error = Wrong;

    fn next_key_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<Option<S::Value>, Wrong> {
        if self.next == self.children.count {
            return Ok(None);
        }
        let tree = self.of.value.tree;
        let entry = tree.value(tree.child(self.of.value.at, self.children, self.next));
        self.next += 1;
        let key = entry.key();
        self.current = Some((key, entry));
        seed.deserialize(Key(key)).map(Some).map_err(|wrong| wrong.through(entry.named, key))
    }

    fn next_value_seed<S: DeserializeSeed<'a>>(&mut self, seed: S) -> Result<S::Value, Wrong> {
        let Some((key, value)) = self.current.take() else {
            return Err(de::Error::custom("a value before its key"));
        };
        let way = Way::Key(self.of.way, key);
        let reader = De { value, way: &way, known: self.known, notes: self.of.notes };
        reader.read(seed).map_err(|wrong| wrong.through(value.named, key))
    }

    fn size_hint(&self) -> Option<usize> {
        Some((self.children.count - self.next) as usize)
    }
}

/// A key of a table, which a map may want as a number or a boolean.
struct Key<'a>(&'a str);

macro_rules! parsed_keys {
    ($($method:ident $visit:ident)*) => {$(
        fn $method<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
            match self.0.parse() {
                Ok(value) => visitor.$visit(value),
                Err(_) => visitor.visit_borrowed_str(self.0),
            }
        }
    )*};
}

impl<'a> de::Deserializer<'a> for Key<'a> {
    type Error = Wrong;

    fn deserialize_any<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_borrowed_str(self.0)
    }

    parsed_keys! {
        deserialize_bool visit_bool
        deserialize_i8 visit_i8 deserialize_i16 visit_i16 deserialize_i32 visit_i32 deserialize_i64 visit_i64
        deserialize_u8 visit_u8 deserialize_u16 visit_u16 deserialize_u32 visit_u32 deserialize_u64 visit_u64
    }

    fn deserialize_option<V: Visitor<'a>>(self, visitor: V) -> Result<V::Value, Wrong> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'a>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'a>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        visitor.visit_enum(BorrowedStrDeserializer::new(self.0))
    }

    serde::forward_to_deserialize_any! {
        <W: Visitor<'a>>
        i128 u128 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

/// A table of one key, which names a variant.
pub(super) struct Variant<'a, 'w> {
    pub(super) of: De<'a, 'w>,
    pub(super) key: &'a str,
    pub(super) value: Value<'a>,
}

impl<'a, 'w> de::EnumAccess<'a> for Variant<'a, 'w> {
    type Error = Wrong;
    type Variant = Variant<'a, 'w>;

    fn variant_seed<S: DeserializeSeed<'a>>(self, seed: S) -> Result<(S::Value, Self), Wrong> {
        let key: StrDeserializer<'_, Wrong> = self.key.into_deserializer();
        match seed.deserialize(key) {
            Ok(variant) => Ok((variant, self)),
            Err(wrong) => Err(wrong.through(self.value.named, self.key)),
        }
    }
}

impl<'a> Variant<'a, '_> {
    fn read<T>(self, read: impl FnOnce(De<'a, '_>) -> Result<T, Wrong>) -> Result<T, Wrong> {
        let way = Way::Key(self.of.way, self.key);
        let reader = De { value: self.value, way: &way, known: None, notes: self.of.notes };
        read(reader).map_err(|wrong| wrong.through(self.value.named, self.key))
    }
}

impl<'a> de::VariantAccess<'a> for Variant<'a, '_> {
    type Error = Wrong;

    fn unit_variant(self) -> Result<(), Wrong> {
        self.read(|reader| <()>::deserialize(reader))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'a>>(self, seed: S) -> Result<S::Value, Wrong> {
        self.read(|reader| reader.read(seed))
    }

    fn tuple_variant<V: Visitor<'a>>(self, _: usize, visitor: V) -> Result<V::Value, Wrong> {
        self.read(|reader| de::Deserializer::deserialize_any(reader, visitor))
    }

    fn struct_variant<V: Visitor<'a>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Wrong> {
        self.read(|reader| de::Deserializer::deserialize_struct(reader, "", fields, visitor))
    }
}
