use serde::ser::{Serialize, SerializeMap as _, SerializeSeq as _, Serializer};

use super::{Tree, Value};
use crate::doc::Payload;

/// What stands for a secret.
pub(crate) const MASK: &str = "******";

/// Secrets are not written: a text of asterisks stands for each.
impl Serialize for Value<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.is_secret() {
            return serializer.serialize_str(MASK);
        }
        match self.payload() {
            Payload::Null => serializer.serialize_unit(),
            Payload::Bool(value) => serializer.serialize_bool(value),
            Payload::Int(value) => serializer.serialize_i64(value),
            Payload::Uint(value) => serializer.serialize_u64(value),
            Payload::Float(value) => serializer.serialize_f64(value),
            Payload::Text(_) => serializer.serialize_str(self.as_str().unwrap_or_default()),
            Payload::Array(children) => {
                let mut seq = serializer.serialize_seq(Some(children.count as usize))?;
                for item in self.items() {
                    seq.serialize_element(&item)?;
                }
                seq.end()
            }
            Payload::Object(children) => {
                let mut map = serializer.serialize_map(Some(children.count as usize))?;
                for (key, value) in self.entries() {
                    map.serialize_entry(key, &value)?;
                }
                map.end()
            }
        }
    }
}

impl Serialize for Tree {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.root().serialize(serializer)
    }
}
