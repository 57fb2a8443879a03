//! Encrypting and decrypting in place: only values and comments are replaced, everything else stays as it is.

use std::ops::Range;

use zeroize::Zeroizing;

use super::Kept;
use super::cipher::{self, BEGIN, DataKey, Type};
use super::mac::Mac;
use super::meta::Metadata;
use super::open::Values;
use super::outline::{self, Leaf, aad};
use crate::Secret;
use crate::doc::{Doc, Node, Payload};
use crate::error::{Error, ErrorKind, Result};
use crate::path::Dotted;
use crate::read::lines::{self, DEFAULT, Line};
use crate::source::Format;

/// A value in the clear.
#[derive(Clone)]
pub(super) enum Scalar {
    Text(Zeroizing<String>),
    Int(i64),
    Float(f64),
    Bool(bool),
}

impl Scalar {
    pub(super) fn of_node(doc: &Doc, node: &Node) -> Scalar {
        match node.payload() {
            Payload::Bool(value) => Scalar::Bool(value),
            Payload::Int(value) => Scalar::Int(value),
            Payload::Uint(value) => Scalar::Float(value as f64),
            Payload::Float(value) => Scalar::Float(value),
            Payload::Text(text) => Scalar::Text(doc.text(text).to_owned().into()),
            _ => Scalar::Text(String::new().into()),
        }
    }

    /// What was encrypted as a type.
    pub(super) fn of_plain(kind: Type, plain: &[u8], format: Format) -> Option<Scalar> {
        let text = std::str::from_utf8(plain).ok()?;
        Some(match kind {
            Type::Str | Type::Bytes | Type::Time | Type::Comment => Scalar::Text(text.to_owned().into()),
            Type::Int => Scalar::Int(text.parse().ok()?),
            // `sops` has one kind of number in JSON, as JSON has.
            Type::Float => match text.parse::<i64>() {
                Ok(value) if format == Format::Json && value.to_string() == text => Scalar::Int(value),
                _ => Scalar::Float(text.parse().ok().filter(|value: &f64| value.is_finite())?),
            },
            Type::Bool => match text {
                "True" | "true" | "TRUE" | "T" | "t" | "1" => Scalar::Bool(true),
                "False" | "false" | "FALSE" | "F" | "f" | "0" => Scalar::Bool(false),
                _ => return None,
            },
        })
    }

    /// The value as it is encrypted, and as the MAC counts it.
    pub(super) fn plain(&self, format: Format) -> (Type, Zeroizing<Vec<u8>>) {
        let bytes = |text: &str| Zeroizing::new(text.as_bytes().to_vec());
        match self {
            Scalar::Text(text) => (Type::Str, bytes(text)),
            Scalar::Int(value) => {
                let exact = value.unsigned_abs() <= 1 << 53;
                let kind = if format == Format::Json && exact { Type::Float } else { Type::Int };
                (kind, bytes(&value.to_string()))
            }
            Scalar::Float(value) => (Type::Float, bytes(&value.to_string())),
            Scalar::Bool(value) => (Type::Bool, bytes(if *value { "True" } else { "False" })),
        }
    }

    /// The value as its format writes it.
    fn write(&self, format: Format) -> Option<String> {
        Some(match (self, format) {
            (Scalar::Text(text), Format::Yaml) => yaml(text),
            (Scalar::Text(text), Format::Json) => serde_json::to_string(text.as_str()).ok()?,
            (Scalar::Text(text), Format::Dotenv) => text.replace('\n', "\\n"),
            (Scalar::Text(text), _) => return ini(text),
            (Scalar::Int(value), _) => value.to_string(),
            (Scalar::Float(value), Format::Yaml) if value.fract() == 0.0 => format!("{value}.0"),
            (Scalar::Float(value), _) => value.to_string(),
            (Scalar::Bool(value), _) => value.to_string(),
        })
    }
}

/// A text without quotes if it cannot be taken for anything else, in YAML 1.1 neither.
fn yaml(text: &str) -> String {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '/')
        && text
            .bytes()
            .all(|c| c.is_ascii_alphanumeric() || matches!(c, b'_' | b'/' | b'.' | b'@' | b'+' | b'-'));
    let words = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    if plain && !words.contains(&text.to_ascii_lowercase().as_str()) {
        return text.to_owned();
    }
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            // Line breaks of YAML 1.1 among them, and what a reader might strip.
            c if c.is_control()
                || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}') =>
            {
                out.push_str(&format!("\\u{:04x}", c as u32));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A text on one line, in back quotes where Go would take a part of it for something else.
fn ini(text: &str) -> Option<String> {
    let odd = text.trim() != text
        || text.contains(['#', ';', '"', '\''])
        || text.starts_with('`')
        || text.ends_with('\\');
    match (odd, text.contains('`')) {
        _ if text.contains(['\n', '\r']) => None,
        (false, _) => Some(text.to_owned()),
        (true, false) => Some(format!("`{text}`")),
        (true, true) => None,
    }
}

/// A part of a text, and what to put in its place.
pub(super) struct Edit {
    span: Range<usize>,
    text: Zeroizing<String>,
}

pub(super) fn edit(span: Range<usize>, text: impl Into<String>) -> Edit {
    Edit { span, text: Zeroizing::new(text.into()) }
}

pub(super) fn apply(text: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit| (edit.span.start, edit.span.end));
    // Never grown, so that no copy is left behind.
    let added: usize = edits.iter().map(|edit| edit.text.len()).sum();
    let mut out = String::with_capacity(text.len() + added);
    let mut at = 0;
    for edit in &edits {
        let start = edit.span.start.max(at);
        out.push_str(&text[at..start]);
        out.push_str(&edit.text);
        at = edit.span.end.max(start);
    }
    out.push_str(&text[at..]);
    out
}

/// Bytes of a value as it is written. A block of YAML begins at its sign, and ends before its last line break.
fn written(doc: &Doc, format: Format, leaf: &Leaf) -> Range<usize> {
    let source = &doc.source.text;
    let span = doc.node(leaf.node).span();
    if format != Format::Yaml {
        return span;
    }
    let start = block(&source[..span.start]).unwrap_or(span.start);
    start..span.start + source[span].trim_end().len()
}

/// Where the sign of a block of text stands whose first line comes after `before`.
fn block(before: &str) -> Option<usize> {
    // Most values stand in the line of their key, and lines can be very long.
    let lines = before.trim_end_matches(' ').strip_suffix('\n')?.trim_end();
    let line = &lines[lines.rfind('\n').map_or(0, |end| end + 1)..];
    let uncommented = line.find(" #").map_or(line, |comment| &line[..comment]).trim_end();
    let sign = uncommented.rsplit([' ', '\t']).next()?;
    let rest = sign.strip_prefix(['|', '>'])?;
    let only = rest.bytes().all(|c| matches!(c, b'+' | b'-' | b'1'..=b'9'));
    only.then_some(lines.len() - line.len() + uncommented.len() - sign.len())
}

fn wrong(doc: &Doc, leaf: &Leaf, what: &str) -> Error {
    let error = Error::new(ErrorKind::InvalidInput, what).at(&doc.source, doc.node(leaf.node).span());
    error.in_path(Dotted(&leaf.path)).without_frame()
}

/// The edits that encrypt a document, and the MAC of its values.
pub(super) fn encrypt(
    doc: &Doc,
    format: Format,
    meta: &Metadata,
    key: &DataKey,
    known: &Kept,
) -> Result<(Vec<Edit>, String)> {
    let mut edits = Vec::new();
    let mut mac = Mac::new(meta.mac_only_encrypted);
    let mut end = 0;
    for leaf in outline::leaves(doc, format) {
        let node = doc.node(leaf.node);
        let span = written(doc, format, &leaf);
        if node.payload() == Payload::Null {
            continue;
        }
        if span.start < end {
            return Err(wrong(doc, &leaf, "an alias or a merge, which `sops` does not keep: write it out"));
        }
        end = span.end;
        let encrypted = meta.rule.covers(&leaf.path);
        check(doc, format, &leaf, encrypted)?;
        let value = Scalar::of_node(doc, node);
        mac.add(&value, encrypted, format);
        if !encrypted || matches!(&value, Scalar::Text(text) if text.is_empty()) {
            continue;
        }
        let (kind, plain) = value.plain(format);
        let sealed = known.seal(key, leaf.aad(), kind, &plain);
        let quoted = format == Format::Json || format == Format::Yaml && leaf.flow;
        edits.push(edit(span, if quoted { format!("\"{sealed}\"") } else { sealed }));
    }
    for comment in outline::comments(doc, format)? {
        let text = &doc.source.text[comment.span.clone()];
        if !text.is_empty() && meta.rule.covers(&comment.paths[0]) {
            let sealed = known.seal(key, aad(&comment.paths[0]), Type::Comment, text.as_bytes());
            edits.push(edit(comment.span, sealed));
        }
    }
    if format == Format::Ini {
        ini_comments(doc, &mut edits, |text, path| {
            meta.rule.covers(path).then(|| known.seal(key, aad(path), Type::Comment, text.as_bytes()))
        })?;
    }
    Ok((edits, mac.finish()))
}

/// What `sops` would read otherwise, or could not read.
fn check(doc: &Doc, format: Format, leaf: &Leaf, encrypted: bool) -> Result<()> {
    let span = doc.node(leaf.node).span();
    let (text, payload) = (&doc.source.text, doc.node(leaf.node).payload());
    if let Payload::Uint(_) = payload {
        return Err(wrong(
            doc,
            leaf,
            "an integer beyond 64 bits with sign, which `sops` does not keep: quote it",
        ));
    }
    if format != Format::Yaml {
        return Ok(());
    }
    let before = &text[..written(doc, format, leaf).start];
    let before = before.split_whitespace().next_back().unwrap_or_default();
    if before.starts_with(['!', '&']) || text[span.clone()].starts_with(['!', '&']) {
        return Err(wrong(doc, leaf, "a tag or an anchor, which `sops` does not keep: remove it"));
    }
    // `sops` reads YAML as Go does, which knows dates and more ways to write numbers. It makes no difference to
    // what is encrypted: that has its type beside it.
    let written = &text[written(doc, format, leaf)];
    if written.starts_with(['|', '>']) && written.lines().next().is_some_and(|line| line.contains('#')) {
        return Err(wrong(doc, leaf, "a comment beside the sign of a block of text: put it above"));
    }
    let quoted = written.starts_with(['"', '\'', '|', '>']);
    if !encrypted && !quoted && read_otherwise(written, payload) {
        return Err(wrong(doc, leaf, "a date or a number that `sops` reads as another: quote it"));
    }
    Ok(())
}

fn read_otherwise(written: &str, payload: Payload) -> bool {
    let digits = written.trim_start_matches(['+', '-']);
    let leading =
        |text: &str| text.len() > 1 && text.starts_with('0') && text.bytes().all(|c| c.is_ascii_digit());
    match payload {
        Payload::Int(_) | Payload::Uint(_) => leading(digits),
        Payload::Text(_) => {
            let number = digits.starts_with(|c: char| c.is_ascii_digit() || c == '.');
            let date = digits.len() >= 8
                && digits.bytes().take(4).all(|c| c.is_ascii_digit())
                && digits.as_bytes()[4] == b'-';
            // As `sops` writes it, which is how it counts it.
            let kept = digits.len() == 20 && digits.as_bytes()[10] == b'T' && digits.ends_with('Z');
            number && (digits.contains('_') || digits.starts_with("0b") || date && !kept)
        }
        _ => false,
    }
}

/// Where and how metadata is put into a text.
pub(super) fn metadata(doc: &Doc, format: Format, text: &str) -> Result<Edit> {
    let source = &doc.source.text;
    let root = doc.node(doc.root());
    let Payload::Object(children) = root.payload() else { return Ok(edit(0..0, "")) };
    let end = source.len()..source.len();
    let taken = children.range().find(|child| outline::is_metadata(doc.key(*child as u32), format));
    let wrong = |what: &str| {
        Err(Error::new(ErrorKind::InvalidInput, what).at(&doc.source, root.span()).without_frame())
    };
    if taken.is_some() {
        return wrong("a key of the name that `sops` uses: encrypted already, or give it another name");
    }
    let line = if source.is_empty() || source.ends_with('\n') { "" } else { "\n" };
    Ok(match format {
        Format::Json => match children.range().next_back() {
            Some(last) => {
                let end = doc.node(last as u32).span().end;
                edit(end..end, format!(",\n\t{text}"))
            }
            None => {
                let end = root.span().end - 1;
                edit(end..end, format!("\n\t{text}\n"))
            }
        },
        Format::Yaml => {
            let ended = source.lines().any(|line| line == "..." || line.starts_with("... "));
            if ended || source[root.span().start..].starts_with('{') {
                return wrong("a document that ends with `...`, or in braces, which cannot be added to");
            }
            edit(end, format!("{line}{text}"))
        }
        Format::Ini => edit(end, format!("{line}\n{text}")),
        _ => edit(end, format!("{line}{text}")),
    })
}

/// The text that was encrypted. Adds its ciphertexts to `known`.
pub(super) fn decrypt(
    doc: &Doc,
    format: Format,
    values: &Values,
    key: &DataKey,
    known: &mut Kept,
) -> Result<Secret<String>> {
    let source = &doc.source.text;
    let mut edits = without_metadata(doc, format)?;
    for leaf in outline::leaves(doc, format) {
        let span = written(doc, format, &leaf);
        let Payload::Text(text) = doc.node(leaf.node).payload() else { continue };
        let sealed = doc.text(text);
        match values.get(&leaf.node) {
            Some(Some(value)) => {
                let (kind, plain) = value.plain(format);
                known.keep(leaf.aad(), kind, &plain, sealed);
                let text = value.write(format).ok_or_else(|| {
                    wrong(doc, &leaf, "a text of several lines, or with back quotes, has no place in INI")
                })?;
                edits.push(edit(span, text));
            }
            // `sops` puts comments of lists between their items.
            Some(None) => {
                let opened = cipher::parse(sealed).and_then(|sealed| cipher::open(key, &sealed, &leaf.aad()));
                let dash = source[..span.start]
                    .rfind('-')
                    .filter(|dash| source[dash + 1..span.start].trim().is_empty());
                if let (Some(plain), Some(dash)) = (opened, dash) {
                    let comment = String::from_utf8_lossy(&plain).replace('\n', "\n#");
                    edits.push(edit(dash..span.end, format!("#{comment}")));
                    known.keep(leaf.aad(), Type::Comment, &plain, sealed);
                }
            }
            None => {}
        }
    }
    for comment in outline::comments(doc, format)? {
        let text = &source[comment.span.clone()];
        let Some(sealed) = text.starts_with(BEGIN).then(|| cipher::parse(text)).flatten() else { continue };
        // One that opens nowhere stays, as with `sops`: comments are not in the MAC.
        let opens = |path: &Vec<String>| Some((aad(path), cipher::open(key, &sealed, &aad(path))?));
        if let Some((place, plain)) = comment.paths.iter().find_map(opens) {
            edits.push(edit(comment.span.clone(), one_line(&plain, format)));
            known.keep(place, Type::Comment, &plain, text);
        }
    }
    if format == Format::Ini {
        ini_comments(doc, &mut edits, |text, path| {
            let sealed = cipher::parse(text)?;
            let plain = cipher::open(key, &sealed, &aad(path))?;
            known.keep(aad(path), Type::Comment, &plain, text);
            Some(String::from_utf8_lossy(&plain).into_owned())
        })?;
    }
    Ok(Secret::new(apply(source, edits)))
}

/// A comment that ends where its line does.
fn one_line(plain: &[u8], format: Format) -> String {
    let text = String::from_utf8_lossy(plain);
    if format == Format::Yaml { text.replace(['\n', '\r'], " ") } else { text.replace('\n', "\n#") }
}

/// Cuts metadata out.
fn without_metadata(doc: &Doc, format: Format) -> Result<Vec<Edit>> {
    let source = &doc.source.text;
    let Payload::Object(children) = doc.node(doc.root()).payload() else { return Ok(Vec::new()) };
    let line_of = |at: usize| source[..at].rfind('\n').map_or(0, |line| line + 1);
    let after = |at: usize| source[at..].find('\n').map_or(source.len(), |end| at + end + 1);
    let key_of = |child: usize| doc.key_span(child as u32).unwrap_or_else(|| doc.node(child as u32).span());
    let mut cuts = Vec::new();
    if format == Format::Ini {
        let mut inside = false;
        for (range, line) in lines::ini(&doc.source)? {
            if let Line::Section(name) = line {
                inside = outline::is_metadata(&source[name], format);
            }
            if inside {
                cuts.push(edit(range.start..after(range.start), ""));
            }
        }
        // The empty line before the section is ours too.
        if let Some(first) = cuts.first_mut().filter(|cut| source[..cut.span.start].ends_with("\n\n")) {
            first.span.start -= 1;
        }
        return Ok(cuts);
    }
    let all: Vec<usize> = children.range().collect();
    for (at, child) in all.iter().enumerate() {
        if !outline::is_metadata(doc.key(*child as u32), format) {
            continue;
        }
        let (key, value) = (key_of(*child), doc.node(*child as u32).span());
        let (before, next) = (at.checked_sub(1).map(|at| all[at]), all.get(at + 1).copied());
        let cut = match format {
            // With the comma on one side.
            Format::Json => match (before, next) {
                (Some(before), _) => doc.node(before as u32).span().end..value.end,
                (None, Some(next)) => key.start - 1..key_of(next).start - 1,
                (None, None) => key.start - 1..value.end,
            },
            Format::Yaml => {
                let end = next.map_or(source.len(), |next| line_of(key_of(next).start));
                if source[line_of(key.start)..key.start].trim_matches(['"', '\'']).is_empty() {
                    line_of(key.start)..end
                } else {
                    let what = "`sops` stands in braces; only blocks are decrypted in place";
                    return Err(Error::new(ErrorKind::Secret, what).at(&doc.source, key).without_frame());
                }
            }
            _ => line_of(key.start)..after(value.end.max(key.end)),
        };
        cuts.push(edit(cut, ""));
    }
    Ok(cuts)
}

/// Goes through the comments of an INI file as Go's reader attaches them: all that stand above a key or a section,
/// and beside a key, are one comment of it.
fn ini_comments(
    doc: &Doc,
    edits: &mut Vec<Edit>,
    mut change: impl FnMut(&str, &[String]) -> Option<String>,
) -> Result<()> {
    let source = &doc.source.text;
    let mut section = vec![DEFAULT.to_owned()];
    let mut above: Vec<Range<usize>> = Vec::new();
    let all = lines::ini(&doc.source)?;
    let end = (source.len()..source.len(), Line::Section(0..0));
    for (range, line) in all.into_iter().chain([end]) {
        let beside = match line {
            Line::Blank => continue,
            Line::Comment(_) => {
                let indent = source[range.clone()].len() - source[range.clone()].trim_start().len();
                above.push(range.start + indent..range.end);
                continue;
            }
            Line::Section(name) => {
                if !name.is_empty() {
                    section = vec![source[name].to_owned()];
                }
                None
            }
            Line::Entry { value, comment, .. } => comment.map(|comment| value.end..comment.end),
        };
        if outline::is_metadata(&section[0], Format::Ini) {
            above.clear();
            continue;
        }
        let mut texts: Vec<&str> = above.iter().map(|range| source[range.clone()].trim_end()).collect();
        texts.extend(beside.iter().map(|range| source[range.clone()].trim()));
        let text = texts.join("\n");
        let bare = text.strip_prefix([';', '#']).map_or("", |text| text.trim_start_matches([';', '#', ' ']));
        if let Some(new) = change(bare, &section).filter(|_| !bare.is_empty()) {
            let sign = if new.starts_with([';', '#']) { "" } else { "; " };
            let mut above = above.iter();
            match above.next() {
                Some(first) => edits.push(edit(first.clone(), format!("{sign}{new}"))),
                None => edits.push(edit(range.start..range.start, format!("{sign}{new}\n"))),
            }
            for more in above {
                let line = source[..more.start].rfind('\n').map_or(0, |line| line + 1);
                let next = source[more.end..].find('\n').map_or(source.len(), |end| more.end + end + 1);
                edits.push(edit(line..next, ""));
            }
            edits.extend(beside.map(|range| edit(range, "")));
        }
        above.clear();
    }
    Ok(())
}
