//! RFC 8259, strictly, in one pass and without recursion.

use std::ops::Range;
use std::sync::Arc;

use crate::doc::{Doc, DocBuilder, NO_KEY, Node, Open, Payload, Text};
use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;
use crate::source::Source;

pub(crate) fn read(source: Arc<Source>, limits: &Limits) -> Result<Doc> {
    let at = source.body().1;
    let mut out = DocBuilder::new(source.clone(), limits);
    let mut reader = Reader { text: &source.text, bytes: source.text.as_bytes(), at };
    reader.value(&mut out, NO_KEY)?;
    reader.space();
    if reader.at < reader.bytes.len() {
        return Err(reader.expected(&out, "the end of the file"));
    }
    Ok(out.finish().amendable())
}

/// Reads a text that differs in one place from that of a document. `None` where all of it is to be read.
pub(crate) fn amend(doc: &Doc, source: &Arc<Source>, limits: &Limits) -> Option<Doc> {
    doc.amend(source, limits, |out, at, key| {
        let mut reader = Reader { text: &source.text, bytes: source.text.as_bytes(), at };
        reader.value(out, key)?;
        Ok(reader.at)
    })
}

struct Reader<'t> {
    text: &'t str,
    bytes: &'t [u8],
    at: usize,
}

/// An open container and the key it will have.
struct Level {
    open: Open,
    key: Text,
    object: bool,
}

impl Reader<'_> {
    /// One value, and the space before it.
    fn value(&mut self, out: &mut DocBuilder<'_>, mut key: Text) -> Result<()> {
        let mut stack: Vec<Level> = Vec::new();
        'value: loop {
            self.space();
            let start = self.at;
            match self.peek() {
                b'{' | b'[' => {
                    let object = self.bytes[start] == b'{';
                    let open = out.open(start)?;
                    self.at += 1;
                    self.space();
                    stack.push(Level { open, key, object });
                    if self.peek() != (if object { b'}' } else { b']' }) {
                        key = if object { self.key(out)? } else { NO_KEY };
                        continue 'value;
                    }
                }
                b'"' => {
                    let text = self.string(out)?;
                    out.push(Node::new(key, start..self.at, Payload::Text(text)))?;
                }
                b'-' | b'0'..=b'9' => {
                    let payload = self.number(out)?;
                    out.push(Node::new(key, start..self.at, payload))?;
                }
                b't' => self.word("true", out, key, Payload::Bool(true))?,
                b'f' => self.word("false", out, key, Payload::Bool(false))?,
                b'n' => self.word("null", out, key, Payload::Null)?,
                _ => return Err(self.expected(out, "a value")),
            }
            // A value has ended: close what closes here, then go on after a comma.
            loop {
                let Some(level) = stack.last() else { return Ok(()) };
                self.space();
                match (self.peek(), level.object) {
                    (b',', object) => {
                        self.at += 1;
                        self.space();
                        key = if object { self.key(out)? } else { NO_KEY };
                        continue 'value;
                    }
                    (b'}', true) => {
                        self.at += 1;
                        out.close_object(level.open, level.key, self.at)?;
                        stack.pop();
                    }
                    (b']', false) => {
                        self.at += 1;
                        out.close_array(level.open, level.key, self.at)?;
                        stack.pop();
                    }
                    (_, true) => return Err(self.expected(out, "`,` or `}`")),
                    (_, false) => return Err(self.expected(out, "`,` or `]`")),
                }
            }
        }
    }

    /// The next byte; nought at the end, which no JSON has.
    fn peek(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn space(&mut self) {
        while matches!(self.peek(), b' ' | b'\n' | b'\r' | b'\t') {
            self.at += 1;
        }
    }

    fn expected(&self, out: &DocBuilder<'_>, what: &str) -> Error {
        let end = self.text[self.at..].chars().next().map_or(self.at, |c| self.at + c.len_utf8());
        out.error(ErrorKind::Syntax, format!("expected {what}"), self.at..end)
    }

    fn word(&mut self, word: &str, out: &mut DocBuilder<'_>, key: Text, payload: Payload) -> Result<()> {
        if !self.bytes[self.at..].starts_with(word.as_bytes()) {
            return Err(self.expected(out, "a value"));
        }
        let start = self.at;
        self.at += word.len();
        out.push(Node::new(key, start..self.at, payload))
    }

    fn key(&mut self, out: &mut DocBuilder<'_>) -> Result<Text> {
        if self.peek() != b'"' {
            return Err(self.expected(out, "a key in double quotes"));
        }
        let key = self.string(out)?;
        self.space();
        if self.peek() != b':' {
            return Err(self.expected(out, "`:`"));
        }
        self.at += 1;
        Ok(key)
    }

    fn number(&mut self, out: &DocBuilder<'_>) -> Result<Payload> {
        let start = self.at;
        let negative = self.peek() == b'-';
        self.at += usize::from(negative);
        let digits = self.at;
        match self.peek() {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits(),
            _ => return Err(self.expected(out, "a digit")),
        }
        let whole = &self.text[digits..self.at];
        if !matches!(self.peek(), b'.' | b'e' | b'E') {
            return out.integer(negative, whole, 10, start..self.at);
        }
        if self.peek() == b'.' {
            self.at += 1;
            self.some_digits(out)?;
        }
        if matches!(self.peek(), b'e' | b'E') {
            self.at += 1;
            self.at += usize::from(matches!(self.peek(), b'+' | b'-'));
            self.some_digits(out)?;
        }
        out.float(&self.text[start..self.at], start..self.at)
    }

    fn digits(&mut self) {
        while self.peek().is_ascii_digit() {
            self.at += 1;
        }
    }

    fn some_digits(&mut self, out: &DocBuilder<'_>) -> Result<()> {
        if !self.peek().is_ascii_digit() {
            return Err(self.expected(out, "a digit"));
        }
        self.digits();
        Ok(())
    }

    /// A string, borrowed from the source unless it has escapes.
    fn string(&mut self, out: &mut DocBuilder<'_>) -> Result<Text> {
        let start = self.at + 1;
        self.at = start;
        self.plain();
        match self.bytes.get(self.at) {
            Some(b'"') => {
                self.at += 1;
                Ok(Text::raw(start..self.at - 1))
            }
            Some(b'\\') => self.escaped(start, out),
            other => Err(self.bad_string(out, start, other.is_some())),
        }
    }

    /// Goes to the next byte that is not plain text.
    fn plain(&mut self) {
        let rest = &self.bytes[self.at..];
        let special = |byte: &u8| matches!(byte, b'"' | b'\\' | 0..0x20);
        // Most strings are short, and calling something that is fast on long ones takes longer than they do.
        let near = &rest[..rest.len().min(32)];
        self.at += near.iter().position(special).unwrap_or_else(|| {
            let end = memchr::memchr2(b'"', b'\\', rest).unwrap_or(rest.len());
            match rest[..end].iter().fold(u8::MAX, |least, byte| least.min(*byte)) {
                0..0x20 => rest[..end].iter().position(special).unwrap_or(end),
                _ => end,
            }
        });
    }

    fn bad_string(&self, out: &DocBuilder<'_>, start: usize, control: bool) -> Error {
        if control {
            return out.error(
                ErrorKind::Syntax,
                "a control character in a string must be escaped",
                self.at..self.at + 1,
            );
        }
        out.error(ErrorKind::Syntax, "this string does not end", start - 1..start)
    }

    fn escaped(&mut self, start: usize, out: &mut DocBuilder<'_>) -> Result<Text> {
        let mut text = String::from(&self.text[start..self.at]);
        loop {
            let from = self.at;
            self.plain();
            text.push_str(&self.text[from..self.at]);
            match self.bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => text.push(self.escape(out)?),
                other => return Err(self.bad_string(out, start, other.is_some())),
            }
        }
        self.at += 1;
        Ok(out.decode(&text))
    }

    fn escape(&mut self, out: &DocBuilder<'_>) -> Result<char> {
        let start = self.at;
        self.at += 2;
        Ok(match self.bytes.get(start + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let unit = self.hex(out, start)?;
                let code = match unit {
                    0xd800..0xdc00 if self.bytes[self.at..].starts_with(b"\\u") => {
                        self.at += 2;
                        match self.hex(out, start)? {
                            low @ 0xdc00..0xe000 => 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00),
                            _ => unit,
                        }
                    }
                    _ => unit,
                };
                let span = start..self.at;
                char::from_u32(code).ok_or_else(|| self.bad_escape(out, "half of a surrogate pair", span))?
            }
            _ => return Err(self.bad_escape(out, "this escape is not one of JSON's", start..start + 1)),
        })
    }

    fn hex(&mut self, out: &DocBuilder<'_>, start: usize) -> Result<u32> {
        let digits = self.bytes.get(self.at..self.at + 4).unwrap_or_default();
        let text = std::str::from_utf8(digits).unwrap_or_default();
        if text.len() < 4 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(self.bad_escape(
                out,
                "`\\u` is followed by four hexadecimal digits",
                start..start + 2,
            ));
        }
        self.at += 4;
        Ok(u32::from_str_radix(text, 16).unwrap_or_default())
    }

    fn bad_escape(&self, out: &DocBuilder<'_>, message: &str, span: Range<usize>) -> Error {
        out.error(ErrorKind::Syntax, message, span)
    }
}
