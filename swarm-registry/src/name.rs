//! What may be a name: of a version, an alias, a channel, a label, a metric, an actor.

use crate::error::{Error, Result};

const LONGEST: usize = 128;

/// Among more names nobody is asked whether another was meant: comparing two takes the product of their lengths.
const COMPARED: usize = 1_000;

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
    // What is within two characters is within eight bytes.
    let mut known = known.filter(|other| other.len().abs_diff(name.len()) <= 8);
    let compared: Vec<&str> = known.by_ref().take(COMPARED).collect();
    if known.next().is_some() {
        return String::new();
    }
    compared
        .into_iter()
        .map(|other| (strsim::damerau_levenshtein(name, other), other))
        .filter(|(distance, _)| *distance <= 2 && *distance < name.len())
        .min()
        .map(|(_, other)| format!("; did you mean {other:?}?"))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_told_among_up_to_a_thousand() {
        let names = |count: usize| (0..count).map(|at| format!("version-{at}")).collect::<Vec<_>>();
        for (count, told) in [(1, true), (1_000, true), (1_001, false)] {
            let known = names(count);
            // Names that are much longer are not compared.
            let others = std::iter::repeat_n("of-another-length-altogether", 5_000);
            let near = nearest("versoin-0", known.iter().map(String::as_str).chain(others)); // typos:ignore-line
            assert_eq!(near, if told { "; did you mean \"version-0\"?" } else { "" }, "{count}");
        }
    }
}
