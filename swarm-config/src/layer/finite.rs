//! Values made in code, with numbers that are not finite refused: `serde_json` makes `null` of them without a word.

use std::fmt;

use serde::ser::{self, Serialize, Serializer};
use serde_json::Value as Json;

use crate::path::Dotted;

/// Values as JSON, or what keeps them from being JSON.
pub(crate) fn to_json(values: &(impl Serialize + ?Sized)) -> Result<Json, String> {
    values.serialize(Finite).map_err(|wrong| wrong.to_string())?;
    serde_json::to_value(values).map_err(|error| error.to_string())
}

/// Looks at every number and keeps nothing.
struct Finite;

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

type Looked = Result<(), Wrong>;

fn finite(value: f64) -> Looked {
    match value.is_finite() {
        true => Ok(()),
        false => Err(ser::Error::custom("infinity and NaN have no place in a configuration")),
    }
}

macro_rules! fine {
    ($($method:ident($($kind:ty),*))*) => {$(
        fn $method(self, $(_: $kind),*) -> Looked {
            Ok(())
        }
    )*};
}

impl Serializer for Finite {
    type Ok = ();
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
        serialize_none() serialize_unit() serialize_unit_struct(&'static str)
        serialize_unit_variant(&'static str, u32, &'static str)
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
        value.serialize(self).map_err(|wrong| wrong.under(variant))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Items, Wrong> {
        Ok(Items(0))
    }

    fn serialize_tuple(self, _: usize) -> Result<Items, Wrong> {
        Ok(Items(0))
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Items, Wrong> {
        Ok(Items(0))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Items, Wrong> {
        Ok(Items(0))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Entries, Wrong> {
        Ok(Entries(String::new()))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Entries, Wrong> {
        Ok(Entries(String::new()))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Entries, Wrong> {
        Ok(Entries(String::new()))
    }
}

/// The position of the next item.
struct Items(usize);

impl Items {
    fn next(&mut self, value: &(impl Serialize + ?Sized)) -> Looked {
        let position = self.0;
        self.0 += 1;
        value.serialize(Finite).map_err(|wrong| wrong.under(position.to_string()))
    }
}

macro_rules! items {
    ($($kind:ident $method:ident)*) => {$(
        impl ser::$kind for Items {
            type Ok = ();
            type Error = Wrong;

            fn $method<T: Serialize + ?Sized>(&mut self, value: &T) -> Looked {
                self.next(value)
            }

            fn end(self) -> Looked {
                Ok(())
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

/// The key of the next value.
struct Entries(String);

impl ser::SerializeMap for Entries {
    type Ok = ();
    type Error = Wrong;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Looked {
        // A number is a fine key too; anything else is refused by what comes after.
        self.0 = serde_json::to_string(key).unwrap_or_default().trim_matches('"').to_owned();
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Looked {
        value.serialize(Finite).map_err(|wrong| wrong.under(std::mem::take(&mut self.0)))
    }

    fn end(self) -> Looked {
        Ok(())
    }
}

macro_rules! fields {
    ($($kind:ident)*) => {$(
        impl ser::$kind for Entries {
            type Ok = ();
            type Error = Wrong;

            fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Looked {
                value.serialize(Finite).map_err(|wrong| wrong.under(key))
            }

            fn end(self) -> Looked {
                Ok(())
            }
        }
    )*};
}

fields! { SerializeStruct SerializeStructVariant }
