use std::fmt;

use serde_json::Value as Json;

use crate::error::{Error, ErrorKind, Result};
use crate::loader::nearest;

/// Reads `a.b.0."x.y"`: keys and positions, with quotes around a key that holds a dot, a quote or nothing.
pub(crate) fn parse(path: &str) -> Result<Vec<String>> {
    let wrong = |what: &str| Error::new(ErrorKind::InvalidInput, format!("the path `{path}` {what}"));
    let mut segments = Vec::new();
    let mut rest = path;
    if rest.is_empty() {
        return Ok(segments);
    }
    loop {
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut segment = String::new();
            let mut chars = quoted.char_indices();
            let end = loop {
                match chars.next() {
                    None => return Err(wrong("has a quote that does not end")),
                    Some((at, '"')) => break at,
                    Some((_, '\\')) => segment.extend(chars.next().map(|(_, c)| c)),
                    Some((_, c)) => segment.push(c),
                }
            };
            segments.push(segment);
            rest = &quoted[end + 1..];
        } else {
            let end = rest.find('.').unwrap_or(rest.len());
            if end == 0 {
                return Err(wrong("has an empty part"));
            }
            segments.push(rest[..end].to_owned());
            rest = &rest[end..];
        }
        match rest.strip_prefix('.') {
            Some(after) => rest = after,
            None if rest.is_empty() => return Ok(segments),
            None => return Err(wrong("has text after a quote")),
        }
    }
}

/// Reads a JSON pointer, RFC 6901.
pub(crate) fn parse_pointer(pointer: &str) -> Vec<String> {
    let parts = pointer.split('/').skip(1);
    parts.map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
}

/// Segments as the path that [`parse`] reads.
pub(crate) struct Dotted<'a, S>(pub(crate) &'a [S]);

impl<S: AsRef<str>> fmt::Display for Dotted<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, segment) in self.0.iter().enumerate() {
            if at > 0 {
                f.write_str(".")?;
            }
            let segment = segment.as_ref();
            if segment.is_empty() || segment.contains(['.', '"']) {
                write!(f, "\"{}\"", segment.replace('\\', "\\\\").replace('"', "\\\""))?;
            } else {
                f.write_str(segment)?;
            }
        }
        Ok(())
    }
}

/// Segments as a JSON pointer.
pub(crate) fn pointer<S: AsRef<str>>(segments: &[S]) -> String {
    let escape = |segment: &S| format!("/{}", segment.as_ref().replace('~', "~0").replace('/', "~1"));
    segments.iter().map(escape).collect()
}

/// What a table has for a key, or a list at a position.
pub(crate) fn child_of<'j>(value: &'j mut Json, part: &str) -> Option<&'j mut Json> {
    match value {
        Json::Object(table) => table.get_mut(part),
        Json::Array(items) => items.get_mut(part.parse::<usize>().ok()?),
        _ => None,
    }
}

/// A path in which `*` stands for any one key or position.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Pattern(pub(crate) Vec<String>);

impl Pattern {
    pub(crate) fn parse(pattern: &str) -> Result<Pattern> {
        parse(pattern).map(Pattern)
    }

    /// Whether the path is the pattern's, or below it.
    pub(crate) fn covers<S: AsRef<str>>(&self, path: &[S]) -> bool {
        path.len() >= self.0.len()
            && self.0.iter().zip(path).all(|(part, segment)| part == "*" || part == segment.as_ref())
    }

    /// What it covers of what stands at `text`, if that holds what stands at `target`.
    pub(crate) fn seen_through(&self, text: &[String], target: &[String]) -> Option<Pattern> {
        if self.covers(target) {
            return Some(Pattern(text.to_vec()));
        }
        let (table, rest) = self.0.split_at_checked(target.len())?;
        let is_below = table.iter().zip(target).all(|(part, segment)| part == "*" || part == segment);
        is_below.then(|| Pattern(text.iter().chain(rest).cloned().collect()))
    }

    /// What it has for a key of the table at a path.
    pub(crate) fn part_in(&self, table: &[String]) -> Option<&str> {
        let part = self.0.get(table.len())?;
        let is_there = self.0.iter().zip(table).all(|(part, segment)| part == "*" || part == segment);
        is_there.then_some(&**part)
    }

    /// Whether the last key of the path may be one of the pattern's, misspelt.
    pub(crate) fn resembles(&self, path: &[String]) -> bool {
        let Some((key, table)) = path.split_last() else { return false };
        self.part_in(table).is_some_and(|part| nearest(key, [part].into_iter()).is_some())
    }

    pub(crate) fn is<S: AsRef<str>>(&self, path: &[S]) -> bool {
        path.len() == self.0.len() && self.covers(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_reads_back_as_it_was_written() {
        for (path, segments) in [
            ("a", vec!["a"]),
            ("a.b.0", vec!["a", "b", "0"]),
            (r#"a."x.y".c"#, vec!["a", "x.y", "c"]),
            (r#""""#, vec![""]),
            (r#""a\"b""#, vec!["a\"b"]),
        ] {
            assert_eq!(parse(path).unwrap(), segments);
            assert_eq!(Dotted(&segments).to_string(), path);
        }
        for wrong in [".", "a.", "a..b", "\"a", "\"a\"b"] {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(parse_pointer(&pointer(&["a/b", "~c", ""])), ["a/b", "~c", ""]);
    }
}
