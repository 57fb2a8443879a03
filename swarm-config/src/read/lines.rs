//! dotenv and INI, as `sops` reads and writes them. Every value is a text of no known type.

use std::ops::Range;
use std::sync::Arc;

use crate::doc::{Doc, DocBuilder, NO_KEY, Node, Payload, Text};
use crate::error::{ErrorKind, Result};
use crate::limits::Limits;
use crate::source::Source;

/// One line of either format. Ranges are bytes of the source.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Line {
    Blank,
    /// What stands after the sign.
    Comment(Range<usize>),
    /// A section's name, in INI.
    Section(Range<usize>),
    Entry {
        key: Range<usize>,
        /// The value as it is written, with its quotes.
        value: Range<usize>,
        /// The value without them.
        text: Range<usize>,
        /// A comment after the value, with its sign, in INI.
        comment: Option<Range<usize>>,
    },
}

/// The lines of a text from `base` on, without their ends, and where each begins.
fn lines(text: &str, base: usize) -> impl Iterator<Item = (Range<usize>, &str)> {
    let mut at = base;
    text.split('\n').map(move |line| {
        let start = at;
        at += line.len() + 1;
        let line = line.strip_suffix('\r').unwrap_or(line);
        (start..start + line.len(), line)
    })
}

/// Splits dotenv: `KEY=value`, nothing quoted, `\n` for a line break.
pub(crate) fn dotenv(source: &Arc<Source>) -> Result<Vec<(Range<usize>, Line)>> {
    let (body, base) = source.body();
    lines(body, base)
        .map(|(range, line)| {
            let split = match (line.as_bytes().first(), line.find('=')) {
                (None, _) => Line::Blank,
                (Some(b'#'), _) => Line::Comment(range.start + 1..range.end),
                (_, Some(equals)) => {
                    let value = range.start + equals + 1..range.end;
                    let key = range.start..range.start + equals;
                    Line::Entry { key, text: value.clone(), value, comment: None }
                }
                _ if line.trim().is_empty() => Line::Blank,
                _ => return Err(wrong(source, range, "expected `KEY=value`")),
            };
            Ok((range, split))
        })
        .collect()
}

/// Splits INI: sections, `key = value`, comments from `;` or `#` on.
pub(crate) fn ini(source: &Arc<Source>) -> Result<Vec<(Range<usize>, Line)>> {
    let (body, base) = source.body();
    lines(body, base)
        .map(|(range, line)| {
            let trimmed = line.trim();
            let start = range.start + (line.len() - line.trim_start().len());
            let end = start + trimmed.len();
            let split = match trimmed.as_bytes().first() {
                None => Line::Blank,
                Some(b';' | b'#') => Line::Comment(start + 1..end),
                Some(b'[') => match trimmed.strip_suffix(']') {
                    Some(inside) if inside.len() > 1 => Line::Section(start + 1..end - 1),
                    _ => return Err(wrong(source, start..end, "expected `[section]`")),
                },
                Some(_) => {
                    let Some(sign) = trimmed.find(['=', ':']).filter(|sign| *sign > 0) else {
                        return Err(wrong(source, start..end, "expected `key = value`"));
                    };
                    entry(source, start, start + sign, end)?
                }
            };
            Ok((range, split))
        })
        .collect()
}

fn entry(source: &Arc<Source>, start: usize, sign: usize, end: usize) -> Result<Line> {
    let text = &source.text;
    let key = start..start + text[start..sign].trim_end().len();
    let from = sign + 1 + (text[sign + 1..end].len() - text[sign + 1..end].trim_start().len());
    let rest = &text[from..end];
    for quote in ["\"\"\"", "`"] {
        if let Some(inside) = rest.strip_prefix(quote).filter(|_| rest.len() >= quote.len()) {
            let Some(close) = inside.rfind(quote) else {
                return Err(wrong(source, from..end, "a value of several lines is not supported in INI"));
            };
            let inside = from + quote.len()..from + quote.len() + close;
            let value = from..inside.end + quote.len();
            return Ok(Line::Entry { key, value, text: inside, comment: None });
        }
    }
    if rest.ends_with('\\') {
        return Err(wrong(source, from..end, "a value of several lines is not supported in INI"));
    }
    let (value, comment) = match rest.find(['#', ';']) {
        Some(at) => (from..from + rest[..at].trim_end().len(), Some(from + at..end)),
        None => (from..end, None),
    };
    let written = &text[value.clone()];
    let quoted = |quote: char| written.len() > 1 && written.starts_with(quote) && written.ends_with(quote);
    let inner = if quoted('"') || quoted('\'') { value.start + 1..value.end - 1 } else { value.clone() };
    Ok(Line::Entry { key, value, text: inner, comment })
}

fn wrong(source: &Arc<Source>, span: Range<usize>, what: &str) -> crate::Error {
    // Whatever stands there may be a secret that lost its key.
    crate::Error::new(ErrorKind::Syntax, what).at(source, span).hiding_lines()
}

pub(super) fn read_dotenv(source: Arc<Source>, limits: &Limits) -> Result<Doc> {
    let mut out = DocBuilder::new(source.clone(), limits);
    let open = out.open(source.body().1)?;
    for (_, line) in dotenv(&source)? {
        let Line::Entry { key, value, text, .. } = line else { continue };
        let written = &source.text[text.clone()];
        let text = match written.contains("\\n") {
            true => out.decode(&written.replace("\\n", "\n")),
            false => Text::raw(text),
        };
        out.push(Node::new(Text::raw(key), value, Payload::Text(text)).loose())?;
    }
    out.close_object(open, NO_KEY, source.text.len())?;
    Ok(out.finish())
}

pub(super) fn read_ini(source: Arc<Source>, limits: &Limits) -> Result<Doc> {
    let mut out = DocBuilder::new(source.clone(), limits);
    let root = out.open(source.body().1)?;
    let mut section = None;
    let mut end = source.body().1;
    for (range, line) in ini(&source)? {
        match line {
            Line::Section(name) => {
                if let Some((open, name)) = section.take() {
                    out.close_object(open, name, end)?;
                }
                // What stands before the first section may be given a section too.
                if &source.text[name.clone()] != DEFAULT {
                    section = Some((out.open(name.start - 1)?, Text::raw(name)));
                }
            }
            Line::Entry { key, value, text, .. } => {
                out.push(Node::new(Text::raw(key), value, Payload::Text(Text::raw(text))).loose())?;
            }
            Line::Blank | Line::Comment(_) => {}
        }
        end = range.end;
    }
    if let Some((open, name)) = section {
        out.close_object(open, name, end)?;
    }
    out.close_object(root, NO_KEY, source.text.len())?;
    Ok(out.finish())
}

/// The name of the section that keys outside of sections are in.
pub(crate) const DEFAULT: &str = "DEFAULT";
