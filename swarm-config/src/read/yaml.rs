//! YAML 1.2, core schema, from the events of `granit-parser`.
//!
//! An alias shares the children of what it names, so a bomb costs nothing to hold; it is counted as what it stands
//! for, so that nobody walks one either.

use std::borrow::Cow;
use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use granit_parser::{ErrorKind as Wrong, Event, Options, Parser, ScalarStyle, ScanError, Span, Tag, options};

use crate::doc::{Doc, DocBuilder, Expanded, NO_KEY, Node, Open, Payload, Text};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::source::Source;

pub(crate) fn read(source: Arc<Source>, limits: &Limits) -> Result<Doc> {
    let (body, base) = source.body();
    let options = options_of(limits);
    let mut reader = Reader {
        text: body,
        base,
        out: DocBuilder::new(source.clone(), limits),
        anchors: HashMap::new(),
        aliases: 0,
        stack: Vec::new(),
        roots: 0,
    };
    let mut parser = Parser::new_from_str_with_options(body, options);
    while let Some(next) = parser.next_event() {
        let (event, span) = next.map_err(|error| reader.syntax(&error))?;
        reader.event(event, span)?;
    }
    if reader.roots == 0 {
        // An empty file says nothing, which is what an empty table says.
        let open = reader.out.open(base)?;
        reader.out.close_object(open, NO_KEY, base)?;
    }
    Ok(reader.out.finish())
}

fn options_of(limits: &Limits) -> Options {
    options! {
        strict_indentation: true,
        emit_comments: false,
        flow_nesting_limit: limits.max_depth() + 1,
        block_nesting_limit: limits.max_depth() + 1,
    }
}

/// An open collection.
struct Level {
    open: Open,
    key: Text,
    /// `None` in a sequence.
    mapping: Option<Mapping>,
    anchor: usize,
    before: Expanded,
    /// The deepest of its children.
    height: usize,
    /// Which of its children stand under `<<`.
    merges: Vec<usize>,
}

/// What a mapping expects next.
enum Mapping {
    Key,
    Value { key: Text, merge: bool },
}

/// What an anchor names: a value, and what it amounts to written out.
#[derive(Clone, Copy)]
struct Anchored {
    node: Node,
    size: Expanded,
}

struct Reader<'t, 'l> {
    text: &'t str,
    base: usize,
    out: DocBuilder<'l>,
    anchors: HashMap<usize, Anchored>,
    aliases: usize,
    stack: Vec<Level>,
    roots: usize,
}

impl<'t> Reader<'t, '_> {
    fn span(&self, span: Span) -> Range<usize> {
        let range = span.byte_range().unwrap_or_default();
        let end = range.end.min(self.text.len());
        range.start.min(end) + self.base..end + self.base
    }

    fn syntax(&self, error: &ScanError) -> Error {
        let at = self.offset(error);
        let message = error.kind().to_string();
        if message.contains("nesting") || message.contains("recursion") {
            return self.out.limit("levels of nesting", self.out.limits.max_depth(), at);
        }
        if let Some(error) = self.unclosed(error.kind(), at) {
            return error;
        }
        self.out.error(ErrorKind::Syntax, message, at..at + 1)
    }

    fn offset(&self, error: &ScanError) -> usize {
        error.marker().byte_offset().unwrap_or(0).min(self.text.len()) + self.base
    }

    /// What was found wrong is often far from the bracket that nobody closed. Names that bracket.
    fn unclosed(&self, kind: &Wrong, at: usize) -> Option<Error> {
        let close = |open: char| if open == '[' { ']' } else { '}' };
        // These are told at the bracket.
        let before = match kind {
            Wrong::UnclosedFlowCollection { open } => Some((open, String::new())),
            Wrong::MismatchedFlowCollectionEnd { open, close } => {
                Some((open, format!(" before the next `{close}`")))
            }
            _ => None,
        };
        if let Some((open, before)) = before {
            let message =
                format!("this `{open}` is not closed{before}: put a `{}` where it ends", close(*open));
            return Some(self.out.error(ErrorKind::Syntax, message, at..at + 1));
        }
        let may_be_unclosed = matches!(
            kind,
            Wrong::BlockEntryInFlowCollection
                | Wrong::ExpectedFlowMappingSeparator
                | Wrong::ExpectedFlowSequenceSeparator
                | Wrong::ExpectedNodeContent
                | Wrong::InvalidColonPlacement
                | Wrong::InvalidIndentation
                | Wrong::InvalidSimpleKey
                | Wrong::MappingValueNotAllowed
                | Wrong::SimpleKeyExpected
        );
        if !may_be_unclosed {
            return None;
        }
        // The text up to here says which bracket is open: the last one that is not closed in it.
        let (before, after) = self.text.split_at_checked(at - self.base)?;
        let ended =
            Parser::new_from_str_with_options(before, options_of(self.out.limits)).find_map(Result::err)?;
        let Wrong::UnclosedFlowCollection { open } = ended.kind() else { return None };
        let (open, opened) = (*open, self.offset(&ended));
        let place_of = |at: usize| self.out.source.place(at);
        let place = |at: usize| {
            let (line, column) = place_of(at);
            format!("line {line}, column {column}")
        };
        let (message, at) = match (kind, after.chars().next()) {
            (Wrong::InvalidIndentation, Some(found @ (']' | '}'))) => {
                let what = if found == close(open) { "closes" } else { "is within" };
                let message = format!(
                    "`{found}` stands too far left: it {what} the `{open}` of {}; indent it further than the key of that",
                    place(opened)
                );
                (message, at)
            }
            (Wrong::InvalidIndentation, _) => {
                let message = format!(
                    "this `{open}` is not closed before {}: put a `{}` where it ends, or indent what is in it",
                    place(at),
                    close(open)
                );
                (message, opened)
            }
            _ if place_of(opened).0 == place_of(at).0 => return None,
            _ => {
                let message = format!(
                    "{kind}; the `{open}` of {} is open here: put a `{}` where it ends",
                    place(opened),
                    close(open)
                );
                (message, at)
            }
        };
        Some(self.out.error(ErrorKind::Syntax, message, at..at + 1))
    }

    fn event(&mut self, event: Event<'t>, span: Span) -> Result<()> {
        match event {
            Event::DocumentStart(..) if self.roots > 0 => {
                let message = "a configuration is one YAML document; this begins a second";
                return Err(self.out.error(ErrorKind::Syntax, message, self.span(span)));
            }
            Event::Alias(anchor) => self.alias(anchor, span)?,
            Event::Scalar(text, style, anchor, tag) => {
                self.scalar(text, style, anchor, tag.as_deref(), span)?
            }
            Event::SequenceStart(_, anchor, _) => self.begin(None, anchor, span)?,
            Event::MappingStart(_, anchor, _) => self.begin(Some(Mapping::Key), anchor, span)?,
            Event::SequenceEnd | Event::MappingEnd => self.end(span)?,
            _ => {}
        }
        Ok(())
    }

    /// The key that the value beginning here has. A collection where a key belongs is an error.
    fn key(&mut self, range: &Range<usize>) -> Result<Text> {
        let Some(level) = self.stack.last_mut() else {
            self.roots += 1;
            return Ok(NO_KEY);
        };
        match level.mapping.as_mut().map(|mapping| std::mem::replace(mapping, Mapping::Key)) {
            None => Ok(NO_KEY),
            Some(Mapping::Value { key, merge }) => {
                if merge {
                    let at = self.out.children(level.open).len();
                    level.merges.push(at);
                }
                Ok(key)
            }
            Some(Mapping::Key) => {
                let message = "a key is a single value, not a list or a table";
                Err(self.out.error(ErrorKind::Syntax, message, range.clone()))
            }
        }
    }

    fn expects_key(&self) -> bool {
        matches!(self.stack.last(), Some(Level { mapping: Some(Mapping::Key), .. }))
    }

    fn take_key(&mut self, key: Text, merge: bool) {
        if let Some(Level { mapping: Some(mapping), .. }) = self.stack.last_mut() {
            *mapping = Mapping::Value { key, merge };
        }
    }

    fn scalar(
        &mut self,
        text: Cow<'t, str>,
        style: ScalarStyle,
        anchor: usize,
        tag: Option<&Tag>,
        span: Span,
    ) -> Result<()> {
        let range = self.span(span);
        let plain = style == ScalarStyle::Plain;
        let kept = |reader: &mut Self, text: &Cow<'t, str>| match text {
            Cow::Borrowed(part) if !part.is_empty() => {
                let start = (part.as_ptr() as usize).wrapping_sub(reader.text.as_ptr() as usize);
                match reader.text.get(start..start.wrapping_add(part.len())) {
                    Some(_) => Text::raw(start + reader.base..start + part.len() + reader.base),
                    None => reader.out.decode(part),
                }
            }
            text if text.is_empty() => NO_KEY,
            text => reader.out.decode(text),
        };
        if self.expects_key() {
            let merge = plain && tag.is_none() && text == "<<";
            let key = if plain && range.is_empty() { NO_KEY } else { kept(self, &text) };
            self.out.check_text(key, range.start)?;
            if anchor > 0 {
                let node = Node::new(NO_KEY, range, Payload::Text(key));
                self.anchors.insert(
                    anchor,
                    Anchored { node, size: Expanded { nodes: 1, bytes: text.len(), height: 0 } },
                );
            }
            self.take_key(key, merge);
            return Ok(());
        }
        let payload = match self.typed(&text, plain, tag, &range)? {
            Some(payload) => payload,
            None => Payload::Text(kept(self, &text)),
        };
        let key = self.key(&range)?;
        let node = Node::new(key, range, payload);
        let before = self.out.expanded;
        self.out.push(node)?;
        self.anchor(anchor, node, before, 0);
        Ok(())
    }

    /// The value of a scalar that is not a text.
    fn typed(
        &self,
        text: &str,
        plain: bool,
        tag: Option<&Tag>,
        span: &Range<usize>,
    ) -> Result<Option<Payload>> {
        let wrong = |what: &str| {
            Err(self.out.error(ErrorKind::Syntax, format!("tagged as {what}, but is not"), span.clone()))
        };
        let tag = match tag {
            None if plain => return self.core(text, span),
            None => return Ok(None),
            Some(tag) => tag.core_suffix(),
        };
        let found = self.core(text, span)?;
        Ok(match (tag, found) {
            (Some("null"), Some(Payload::Null)) => found,
            (Some("bool"), Some(Payload::Bool(_))) => found,
            (Some("int"), Some(Payload::Int(_) | Payload::Uint(_))) => found,
            (Some("float"), Some(Payload::Float(_))) => found,
            (Some("float"), Some(Payload::Int(value))) => Some(Payload::Float(value as f64)),
            (Some("float"), Some(Payload::Uint(value))) => Some(Payload::Float(value as f64)),
            (Some("null"), _) => return wrong("null"),
            (Some("bool"), _) => return wrong("a boolean"),
            (Some("int"), _) => return wrong("an integer"),
            (Some("float"), _) => return wrong("a number"),
            // `!!str`, `!` and what an application means by its own tags: the text as it stands.
            _ => None,
        })
    }

    /// The core schema of YAML 1.2.2, chapter 10.3. `yes`, `no`, `on` and `off` are texts in it.
    fn core(&self, text: &str, span: &Range<usize>) -> Result<Option<Payload>> {
        let bytes = text.as_bytes();
        let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
        Ok(Some(match text {
            "" | "~" | "null" | "Null" | "NULL" => Payload::Null,
            "true" | "True" | "TRUE" => Payload::Bool(true),
            "false" | "False" | "FALSE" => Payload::Bool(false),
            ".nan" | ".NaN" | ".NAN" => return Err(self.not_finite(span)),
            _ if matches!(unsigned, ".inf" | ".Inf" | ".INF") => return Err(self.not_finite(span)),
            _ => match bytes[0] {
                b'0'..=b'9' | b'+' | b'-' | b'.' => {
                    if let Some(digits) =
                        text.strip_prefix("0o").filter(|d| all(d, |c| matches!(c, b'0'..=b'7')))
                    {
                        self.out.integer(false, digits, 8, span.clone())?
                    } else if let Some(digits) =
                        text.strip_prefix("0x").filter(|d| all(d, |c| c.is_ascii_hexdigit()))
                    {
                        self.out.integer(false, digits, 16, span.clone())?
                    } else if all(unsigned, |c| c.is_ascii_digit()) {
                        self.out.integer(bytes[0] == b'-', unsigned, 10, span.clone())?
                    } else if is_float(unsigned) {
                        self.out.float(text, span.clone())?
                    } else {
                        return Ok(None);
                    }
                }
                _ => return Ok(None),
            },
        }))
    }

    fn not_finite(&self, span: &Range<usize>) -> Error {
        self.out.error(ErrorKind::Number, "infinity and NaN have no place in a configuration", span.clone())
    }

    fn anchor(&mut self, anchor: usize, node: Node, before: Expanded, height: usize) {
        if let Some(level) = self.stack.last_mut() {
            level.height = level.height.max(height);
        }
        if anchor > 0 {
            let now = self.out.expanded;
            let size = Expanded { nodes: now.nodes - before.nodes, bytes: now.bytes - before.bytes, height };
            self.anchors.insert(anchor, Anchored { node, size });
        }
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<()> {
        let range = self.span(span);
        self.aliases += 1;
        if self.aliases > self.out.limits.aliases {
            return Err(self.out.limit("aliases", self.out.limits.aliases, range.start));
        }
        let Some(Anchored { node, size }) = self.anchors.get(&anchor).copied() else {
            let message = "this alias stands within what it names";
            return Err(self.out.error(ErrorKind::Syntax, message, range));
        };
        if self.expects_key() {
            return match node.payload() {
                Payload::Text(text) => {
                    self.take_key(text, false);
                    Ok(())
                }
                _ => Err(self.out.error(ErrorKind::Syntax, "a key by alias names a text", range)),
            };
        }
        if self.out.depth() + size.height > self.out.limits.max_depth() {
            return Err(self.out.limit("levels of nesting", self.out.limits.max_depth(), range.start));
        }
        self.out.expanded.nodes += size.nodes - 1;
        self.out.expanded.bytes += size.bytes;
        if self.out.expanded.bytes > self.out.limits.max_bytes() {
            return Err(self.out.limit(
                "bytes with aliases written out",
                self.out.limits.max_bytes(),
                range.start,
            ));
        }
        let key = self.key(&range)?;
        self.out.push(node.with_key(key))?;
        if let Some(level) = self.stack.last_mut() {
            level.height = level.height.max(size.height);
        }
        Ok(())
    }

    fn begin(&mut self, mapping: Option<Mapping>, anchor: usize, span: Span) -> Result<()> {
        let range = self.span(span);
        let key = self.key(&range)?;
        let before = self.out.expanded;
        let open = self.out.open(range.start)?;
        self.stack.push(Level { open, key, mapping, anchor, before, height: 0, merges: Vec::new() });
        Ok(())
    }

    fn end(&mut self, span: Span) -> Result<()> {
        let Some(level) = self.stack.pop() else { return Ok(()) };
        let end = self.span(span).end.max(level.open.start);
        let node = if level.mapping.is_some() {
            if !level.merges.is_empty() {
                self.merge(level.open, &level.merges)?;
            }
            self.out.close_object(level.open, level.key, end)?
        } else {
            self.out.close_array(level.open, level.key, end)?
        };
        self.anchor(level.anchor, node, level.before, level.height + 1);
        Ok(())
    }

    /// Puts what stands under `<<` after the keys of the table itself, which win, as do earlier tables of a list.
    fn merge(&mut self, open: Open, merges: &[usize]) -> Result<()> {
        let all = self.out.children(open).to_vec();
        if let Some(second) = merges.get(1) {
            let message = "the key `<<` stands twice in this table; give it a list";
            return Err(self.out.error(ErrorKind::DuplicateKey, message, all[*second].span()));
        }
        let under = all[merges[0]];
        let tables = match under.payload() {
            Payload::Object(_) => vec![under],
            Payload::Array(items) => self.out.settled(items).to_vec(),
            _ => vec![under],
        };
        let mut merged: Vec<Node> = Vec::with_capacity(all.len());
        merged.extend_from_slice(&all[..merges[0]]);
        merged.extend_from_slice(&all[merges[0] + 1..]);
        // The table's own keys may stand twice, which closing it finds; merged ones never do.
        let mut names: HashSet<&str> = merged.iter().map(|node| self.out.str(node.key())).collect();
        for table in tables {
            let Payload::Object(children) = table.payload() else {
                let message = "`<<` merges a table or a list of tables";
                return Err(self.out.error(ErrorKind::Syntax, message, under.span()));
            };
            for node in self.out.settled(children) {
                if names.insert(self.out.str(node.key())) {
                    merged.push(*node);
                }
            }
        }
        self.out.replace_children(open, merged);
        Ok(())
    }
}

fn all(text: &str, test: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(test)
}

/// `(\. [0-9]+ | [0-9]+ (\. [0-9]*)?) ([eE] [-+]? [0-9]+)?`, without its sign.
fn is_float(text: &str) -> bool {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let whole = digits(text);
    let mut rest = &text[whole..];
    let mut fraction = 0;
    if let Some(after) = rest.strip_prefix('.') {
        fraction = digits(after);
        rest = &after[fraction..];
    }
    if whole + fraction == 0 {
        return false;
    }
    match rest.strip_prefix(['e', 'E']) {
        Some(exponent) => all(exponent.strip_prefix(['+', '-']).unwrap_or(exponent), |c| c.is_ascii_digit()),
        None => rest.is_empty(),
    }
}
