//! Values made in code, with numbers that are not finite refused, of which `serde_json` makes `null` without a word, and
//! with `None` told from `null`.

use std::fmt;

use serde::ser::{self, Serialize, Serializer};
use serde_json::Value as Json;

use crate::path::{self, Dotted};

/// Values as JSON, or what keeps them from being JSON.
#[cfg(feature = "figment")]
pub(crate) fn to_json(values: &(impl Serialize + ?Sized)) -> Result<Json, String> {
    looked_at(values).map(|(values, _)| values)
}

/// As `to_json`, without the keys that are `None`.
pub(crate) fn given(values: &(impl Serialize + ?Sized)) -> Result<Json, String> {
    let (mut values, nones) = looked_at(values)?;
    for path in nones {
        remove(&mut values, &path);
    }
    Ok(values)
}

fn looked_at(values: &(impl Serialize + ?Sized)) -> Result<(Json, Nones), String> {
    let nones = values.serialize(Finite).map_err(|wrong| wrong.to_string())?;
    let values = serde_json::to_value(values).map_err(|error| error.to_string())?;
    Ok((values, nones))
}

/// Removes a key, whose path is given from the value to the root.
fn remove(values: &mut Json, path: &[String]) {
    let Some((key, above)) = path.split_first() else { return };
    let table = above.iter().rev().try_fold(values, |value, key| path::child_of(value, key));
    if let Some(Json::Object(table)) = table {
        table.remove(key);
    }
}

/// Looks at every value.
struct Finite;

/// The values that are `None`, each by its path from the value to the root. An item of a list is none of them.
type Nones = Vec<Vec<String>>;

fn under(key: &str, nones: Nones) -> Nones {
    let longer = |mut path: Vec<String>| {
        path.push(key.to_owned());
        path
    };
    nones.into_iter().map(longer).collect()
}

#[derive(Debug)]
struct Wrong {
    message: String,
    /// From the value to the root.
    path: Vec<String>,
}

impl Wrong {
    fn under(mut self, key: impl Into<String>) -> Wrong {
        self.path.push(key.into());
        self
    }
}

impl fmt::Display for Wrong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            let path: Vec<&String> = self.path.iter().rev().collect();
            write!(f, "{}: ", Dotted(&path))?;
        }
        f.write_str(&self.message)
    }
}

impl std::error::Error for Wrong {}

impl ser::Error for Wrong {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Wrong { message: message.to_string(), path: Vec::new() }
    }
}

type Looked = Result<Nones, Wrong>;

fn finite(value: f64) -> Looked {
    match value.is_finite() {
        true => Ok(Nones::new()),
        false => Err(ser::Error::custom("infinity and NaN have no place in a configuration")),
    }
}

macro_rules! fine {
    ($($method:ident($($kind:ty),*))*) => {$(
        fn $method(self, $(_: $kind),*) -> Looked {
            Ok(Nones::new())
        }
    )*};
}

impl Serializer for Finite {
    type Ok = Nones;
    type Error = Wrong;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Entries;
    type SerializeStruct = Entries;
    type SerializeStructVariant = Entries;

    fine! {
        serialize_bool(bool) serialize_char(char) serialize_str(&str) serialize_bytes(&[u8])
        serialize_i8(i8) serialize_i16(i16) serialize_i32(i32) serialize_i64(i64) serialize_i128(i128)
        serialize_u8(u8) serialize_u16(u16) serialize_u32(u32) serialize_u64(u64) serialize_u128(u128)
        serialize_unit() serialize_unit_struct(&'static str)
        serialize_unit_variant(&'static str, u32, &'static str)
    }

    fn serialize_none(self) -> Looked {
        Ok(vec![Vec::new()])
    }

    fn serialize_f32(self, value: f32) -> Looked {
        finite(value.into())
    }

    fn serialize_f64(self, value: f64) -> Looked {
        finite(value)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Looked {
        value.serialize(self)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Looked {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Looked {
        looked(variant, value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items, Wrong> {
        Ok(Items::default())
    }

    fn serialize_tuple(self, _: usize) -> Result<Items, Wrong> {
        Ok(Items::default())
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items, Wrong> {
        Ok(Items::default())
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Items, Wrong> {
        Ok(Items::default())
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries, Wrong> {
        Ok(Entries::default())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Entries, Wrong> {
        Ok(Entries::default())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Entries, Wrong> {
        Ok(Entries::default())
    }
}

/// Looks at the value of a key.
fn looked(key: &str, value: &(impl Serialize + ?Sized)) -> Looked {
    value.serialize(Finite).map(|nones| under(key, nones)).map_err(|wrong| wrong.under(key))
}

#[derive(Default)]
struct Items {
    /// The position of the next item.
    next: usize,
    nones: Nones,
}

macro_rules! items {
    ($($kind:ident $method:ident)*) => {$(
        impl ser::$kind for Items {
            type Ok = Nones;
            type Error = Wrong;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Wrong> {
                let mut nones = looked(&self.next.to_string(), value)?;
                // The others would move up.
                nones.retain(|path| path.len() > 1);
                self.nones.append(&mut nones);
                self.next += 1;
                Ok(())
            }

            fn end(self) -> Looked {
                Ok(self.nones)
            }
        }
    )*};
}

items! {
    SerializeSeq serialize_element
    SerializeTuple serialize_element
    SerializeTupleStruct serialize_field
    SerializeTupleVariant serialize_field
}

#[derive(Default)]
struct Entries {
    /// The key of the next value.
    key: String,
    nones: Nones,
}

impl ser::SerializeMap for Entries {
    type Ok = Nones;
    type Error = Wrong;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Wrong> {
        // A number is a fine key too; anything else is refused by what comes after.
        self.key = match serde_json::to_value(key) {
            Ok(Json::String(key)) => key,
            key => key.map(|key| key.to_string()).unwrap_or_default(),
        };
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Wrong> {
        self.nones.append(&mut looked(&self.key, value)?);
        Ok(())
    }

    fn end(self) -> Looked {
        Ok(self.nones)
    }
}

macro_rules! fields {
    ($($kind:ident)*) => {$(
        impl ser::$kind for Entries {
            type Ok = Nones;
            type Error = Wrong;

            fn serialize_field<T: Serialize + ?Sized>(
                &mut self,
                key: &'static str,
                value: &T,
            ) -> Result<(), Wrong> {
                self.nones.append(&mut looked(key, value)?);
                Ok(())
            }

            fn end(self) -> Looked {
                Ok(self.nones)
            }
        }
    )*};
}

fields! { SerializeStruct SerializeStructVariant }
