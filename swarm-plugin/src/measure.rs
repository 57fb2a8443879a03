//! How large a JSON value is, without writing it, and how to drop one that is nested too deep to be dropped as usual.

use serde_json::Value;

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
}
