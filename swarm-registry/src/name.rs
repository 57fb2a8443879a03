//! What may be a name: of a version, an alias, a channel, a label, a metric, an actor.

use crate::error::{Error, Result};

const LONGEST: usize = 128;

/// Checks that `name` is 1 to 128 bytes without white space and control characters.
pub(crate) fn check(what: &str, name: &str) -> Result<()> {
    let why = if name.is_empty() {
        "is empty".to_owned()
    } else if name.len() > LONGEST {
        format!("has {} bytes; {LONGEST} are allowed", name.len())
    } else if let Some(bad) = name.chars().find(|c| c.is_whitespace() || c.is_control()) {
        format!("contains {bad:?}; white space and control characters are not allowed")
    } else {
        return Ok(());
    };
    Err(Error::input(format!("the {what} {} {why}", quoted(name))))
}

/// What a caller gave for a name, for a message: in quotes, and not longer than a name may be.
pub(crate) fn quoted(name: &str) -> String {
    match name.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{:?}…", &name[..end]),
        None => format!("{name:?}"),
    }
}

/// The nearest of `known` to a name that was not found, as the tail of a message.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> String {
    known
        // What is within two characters is within eight bytes, and comparing takes the product of the lengths.
        .filter(|other| other.len().abs_diff(name.len()) <= 8)
        .map(|other| (strsim::damerau_levenshtein(name, other), other))
        .filter(|(distance, _)| *distance <= 2 && *distance < name.len())
        .min()
        .map(|(_, other)| format!("; did you mean {other:?}?"))
        .unwrap_or_default()
}
