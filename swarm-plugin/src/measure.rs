//! How large a JSON value is, its text if it is not too large, and how to drop one that is nested too deep to be dropped as
//! usual.

use serde_json::Value;
#[cfg(any(feature = "native", feature = "wasm"))]
pub(crate) use text::text;

/// Deeper values are refused: validation and `Drop` recurse.
pub(crate) const DEPTH_LIMIT: usize = 128;

/// Why a value is refused.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Oversize {
    Bytes,
    Depth,
}

/// Checks that the value is about at most `limit` bytes of compact JSON, and at most [`DEPTH_LIMIT`] deep.
///
/// Texts count with their length, without what escapes would add; numbers with eight bytes.
pub(crate) fn fits(value: &Value, limit: usize) -> Result<(), Oversize> {
    let mut left = limit;
    spend(value, &mut left, DEPTH_LIMIT)
}

fn spend(value: &Value, left: &mut usize, depth: usize) -> Result<(), Oversize> {
    let mut take = |bytes: usize| {
        *left = left.checked_sub(bytes).ok_or(Oversize::Bytes)?;
        Ok(())
    };
    let deeper = |depth: usize| depth.checked_sub(1).ok_or(Oversize::Depth);
    match value {
        Value::Null | Value::Bool(_) => take(5),
        Value::Number(_) => take(8),
        Value::String(text) => take(text.len() + 2),
        Value::Array(items) => {
            take(2 + items.len())?;
            let depth = deeper(depth)?;
            items.iter().try_for_each(|item| spend(item, left, depth))
        }
        Value::Object(members) => {
            take(2)?;
            let depth = deeper(depth)?;
            members.iter().try_for_each(|(key, item)| {
                *left = left.checked_sub(key.len() + 4).ok_or(Oversize::Bytes)?;
                spend(item, left, depth)
            })
        }
    }
}

#[cfg(any(feature = "native", feature = "wasm"))]
mod text {
    use std::io::{self, Write};

    use serde_json::ser::{CompactFormatter, Formatter, Serializer};

    use super::*;
    use crate::plugin::PluginError;

    /// Writes parameters as compact JSON, measuring them on the way: to measure them before takes as long again.
    ///
    /// # Errors
    /// What is over `limit` bytes, or [`DEPTH_LIMIT`] levels deep, is dropped. The rest is left: to drop it after the call is
    /// quicker than before, as the memory of the result is taken in another order.
    pub(crate) fn text(params: &mut Value, limit: usize) -> Result<Vec<u8>, PluginError> {
        let mut out = Text { bytes: Vec::with_capacity(128), limit };
        let mut serializer = Serializer::with_formatter(&mut out, Levels { left: DEPTH_LIMIT });
        let Err(error) = serde::Serialize::serialize(params, &mut serializer) else {
            return Ok(out.bytes);
        };
        dismantle(params.take());
        Err(match error.io_error_kind() {
            Some(TOO_LONG) => PluginError::refused(format_args!("the parameters are over {limit} bytes")),
            Some(TOO_DEEP) => {
                PluginError::refused(format_args!("the parameters are nested over {DEPTH_LIMIT} levels deep"))
            }
            _ => error.into(),
        })
    }

    const TOO_LONG: io::ErrorKind = io::ErrorKind::FileTooLarge;
    const TOO_DEEP: io::ErrorKind = io::ErrorKind::QuotaExceeded;

    struct Text {
        bytes: Vec<u8>,
        limit: usize,
    }

    impl Write for Text {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.limit - self.bytes.len() < bytes.len() {
                return Err(TOO_LONG.into());
            }
            self.bytes.extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.write(bytes).map(drop)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Compact JSON that ends where it is nested too deep.
    struct Levels {
        left: usize,
    }

    impl Levels {
        fn deeper(&mut self) -> io::Result<()> {
            self.left = self.left.checked_sub(1).ok_or(TOO_DEEP)?;
            Ok(())
        }
    }

    impl Formatter for Levels {
        fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
            self.deeper()?;
            CompactFormatter.begin_array(writer)
        }

        fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
            self.left += 1;
            CompactFormatter.end_array(writer)
        }

        fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
            self.deeper()?;
            CompactFormatter.begin_object(writer)
        }

        fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
            self.left += 1;
            CompactFormatter.end_object(writer)
        }
    }
}

/// Drops a value of any depth without recursion.
pub(crate) fn dismantle(value: Value) {
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        match value {
            Value::Array(items) => left.extend(items),
            Value::Object(members) => left.extend(members.into_iter().map(|(_, item)| item)),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn nested(depth: usize) -> Value {
        (0..depth).fold(Value::Null, |inner, _| Value::Array(vec![inner]))
    }

    #[test]
    fn size_is_about_that_of_the_text() {
        for value in [json!(null), json!("abc"), json!([1, 2, 3]), json!({"key": ["value", {"a": true}]})] {
            let text = value.to_string().len();
            assert_eq!(fits(&value, text * 4 + 16), Ok(()), "{value}");
            assert_eq!(fits(&value, text / 3), Err(Oversize::Bytes), "{value}");
        }
    }

    #[test]
    fn a_million_levels_are_refused_and_dropped() {
        assert_eq!(fits(&nested(DEPTH_LIMIT), 10_000), Ok(()));
        assert_eq!(fits(&nested(DEPTH_LIMIT + 1), 10_000), Err(Oversize::Depth));
        let bomb = nested(1_000_000);
        assert_eq!(fits(&bomb, usize::MAX), Err(Oversize::Depth));
        dismantle(bomb);
    }

    #[cfg(any(feature = "native", feature = "wasm"))]
    #[test]
    fn a_text_is_that_of_serde_json_or_none() {
        let objects = |depth: usize| (0..depth).fold(Value::Null, |inner, _| json!({ "a": inner }));
        for value in [
            json!(null),
            json!({"key": ["va\"lue\u{1}", {"é": true, "n": -0.5e300}, [], {}], "b": 18446744073709551615_u64}),
            nested(DEPTH_LIMIT),
            objects(DEPTH_LIMIT),
            json!([nested(DEPTH_LIMIT - 1), nested(DEPTH_LIMIT - 1), objects(DEPTH_LIMIT - 1), objects(5)]),
        ] {
            let expected = value.to_string();
            assert_eq!(text(&mut value.clone(), expected.len()).unwrap(), expected.as_bytes());
            let error = text(&mut value.clone(), expected.len() - 1).unwrap_err();
            assert!(error.is_refused() && error.message().contains("bytes"), "{error}");
        }
        for mut deep in [nested(DEPTH_LIMIT + 1), objects(DEPTH_LIMIT + 1), nested(1_000_000)] {
            let error = text(&mut deep, usize::MAX).unwrap_err();
            assert!(error.is_refused() && error.message().contains("levels"), "{error}");
        }
    }
}
