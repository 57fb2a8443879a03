//! TOML 1.1, from the events of `toml_parser`: what makes a table, and which may be gone on with, is decided here.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use toml_parser::decoder::{Encoding, IntegerRadix, ScalarKind};
use toml_parser::lexer::{Token, TokenKind};
use toml_parser::parser::{EventReceiver, RecursionGuard, ValidateWhitespace, parse_document};
use toml_parser::{ErrorSink, ParseError, Span};

use crate::doc::{Doc, DocBuilder, NO_KEY, Node, Payload, Text, shorten};
use crate::error::{Error, ErrorKind, Result};
use crate::index::Index;
use crate::limits::Limits;
use crate::source::Source;

mod item;

use item::{Form, Item, Table};

pub(crate) fn read(source: Arc<Source>, limits: &Limits) -> Result<Doc> {
    let (body, base) = source.body();
    let mut reader = Reader::new(body, base, DocBuilder::new(source.clone(), limits));
    let most = limits.nodes.saturating_mul(TOKENS);
    let mut tokens = Vec::with_capacity(STATEMENTS + STATEMENTS / 4);
    // Lists and inline tables that are open. One that is closed by the other's bracket stays open: what is wrong is told
    // of the whole.
    let (mut lists, mut tables) = (0i64, 0i64);
    for (count, token) in toml_parser::Source::new(body).lex().enumerate() {
        if count >= most {
            return Err(reader.out.limit("tokens", most, base + token.span().start()));
        }
        tokens.push(token);
        match token.kind() {
            TokenKind::LeftSquareBracket => lists += 1,
            TokenKind::RightSquareBracket => lists -= 1,
            TokenKind::LeftCurlyBracket => tables += 1,
            TokenKind::RightCurlyBracket => tables -= 1,
            TokenKind::Newline if (lists, tables) == (0, 0) && tokens.len() >= STATEMENTS => {
                reader.statements(&tokens)?;
                tokens.clear();
            }
            _ => {}
        }
    }
    reader.statements(&tokens)?;
    drop(tokens);
    reader.flatten(0, NO_KEY)?;
    Ok(reader.out.finish())
}

/// Tokens that are parsed at once, up to the end of the statement that they end in: few enough to stay where the processor
/// has them at hand, since all tokens of a text take ten times its memory.
const STATEMENTS: usize = 1024;

/// Tokens for each value that there may be: `key = 1` on a line of its own takes six. Each takes time, and those of one
/// statement more memory than its text.
const TOKENS: usize = 8;

struct Reader<'t, 'l> {
    text: &'t str,
    base: usize,
    out: DocBuilder<'l>,
    items: Vec<Item>,
    /// Keys since the last statement began.
    path: Vec<(Text, Range<usize>)>,
    header: Option<Range<usize>>,
    section: u32,
    /// Arrays and inline tables that are open.
    open: Vec<u32>,
    /// Where the next value goes, if not into an array.
    target: Option<(u32, Text)>,
    failed: Option<Error>,
}

impl<'t, 'l> Reader<'t, 'l> {
    fn new(text: &'t str, base: usize, out: DocBuilder<'l>) -> Self {
        let root = Item::new(NO_KEY, base..base + text.len(), 1, Form::Table(Table::Header));
        // A value of a configuration takes about 32 bytes. A text may lie, so this is no more than a few megabytes.
        let mut items = Vec::with_capacity((text.len() / 32).min(1 << 16) + 1);
        items.push(root);
        Reader {
            text,
            base,
            out,
            items,
            path: Vec::new(),
            header: None,
            section: 0,
            open: Vec::new(),
            target: None,
            failed: None,
        }
    }

    fn span(&self, span: Span) -> Range<usize> {
        span.start() + self.base..span.end() + self.base
    }

    /// Takes in whole statements.
    fn statements(&mut self, tokens: &[Token]) -> Result<()> {
        let mut syntax: Option<ParseError> = None;
        let (text, depth) = (toml_parser::Source::new(self.text), self.out.limits.max_depth() as u32);
        let mut guard = RecursionGuard::new(self, depth);
        parse_document(tokens, &mut ValidateWhitespace::new(&mut guard, text), &mut syntax);
        match (self.failed.take(), syntax) {
            (Some(failed), _) => Err(failed),
            (None, Some(syntax)) => Err(self.syntax(&syntax)),
            (None, None) => Ok(()),
        }
    }

    fn syntax(&self, error: &ParseError) -> Error {
        let span = error.unexpected().or(error.context()).map_or(0..0, |span| self.span(span));
        let expected: Vec<String> = error
            .expected()
            .unwrap_or_default()
            .iter()
            .filter_map(|expected| match expected {
                toml_parser::Expected::Literal(text) => Some(format!("`{}`", text.escape_debug())),
                toml_parser::Expected::Description(text) => Some((*text).to_owned()),
                _ => None,
            })
            .collect();
        if error.description().starts_with("cannot recurse further") {
            return self.out.limit("levels of nesting", self.out.limits.max_depth(), span.start);
        }
        let mut message = error.description().to_owned();
        if !expected.is_empty() {
            message = format!("{message}, expected {}", expected.join(", "));
        }
        self.out.error(ErrorKind::Syntax, message, span)
    }

    fn attempt(&mut self, work: impl FnOnce(&mut Self) -> Result<()>) -> bool {
        if self.failed.is_none()
            && let Err(error) = work(self)
        {
            self.failed = Some(error);
        }
        self.failed.is_none()
    }

    /// A text in the source, or decoded beside it.
    fn keep(&mut self, text: Cow<'t, str>) -> Text {
        match text {
            Cow::Borrowed("") => NO_KEY,
            Cow::Borrowed(part) => {
                let start = part.as_ptr() as usize - self.text.as_ptr() as usize + self.base;
                Text::raw(start..start + part.len())
            }
            Cow::Owned(text) => self.out.decode(&text),
        }
    }

    fn child(&self, parent: u32, key: Text) -> Option<u32> {
        let item = &self.items[parent as usize];
        let name = self.out.str(key);
        match &item.names {
            Some(names) => names.get(name).copied(),
            None => self.children(parent).find(|child| self.name(*child) == name),
        }
    }

    fn children(&self, parent: u32) -> impl Iterator<Item = u32> {
        let some = |item: u32| (item != 0).then_some(item);
        std::iter::successors(some(self.items[parent as usize].first), move |child| {
            some(self.items[*child as usize].next)
        })
    }

    fn name(&self, item: u32) -> &str {
        self.out.str(self.items[item as usize].key)
    }

    fn add(&mut self, parent: u32, key: Text, span: Range<usize>, form: Form) -> Result<u32> {
        let depth = self.items[parent as usize].depth + 1;
        // A scalar is no level of its own.
        if (depth - u32::from(matches!(form, Form::Scalar(_)))) as usize > self.out.limits.max_depth() {
            return Err(self.out.limit("levels of nesting", self.out.limits.max_depth(), span.start));
        }
        if self.items.len() > self.out.limits.nodes {
            return Err(self.out.limit("values", self.out.limits.nodes, span.start));
        }
        self.out.check_text(key, span.start)?;
        let new = self.items.len() as u32;
        self.items.push(Item::new(key, span, depth, form));
        let item = &mut self.items[parent as usize];
        item.children += 1;
        match std::mem::replace(&mut item.last, new) {
            0 => item.first = new,
            last => self.items[last as usize].next = new,
        }
        let item = &mut self.items[parent as usize];
        if let Some(mut names) = item.names.take() {
            names.insert(self.name(new).into(), new);
            self.items[parent as usize].names = Some(names);
        } else if item.children as usize > Index::FROM && matches!(item.form, Form::Table(_)) {
            let names = self.children(parent).map(|child| (self.name(child).into(), child)).collect();
            self.items[parent as usize].names = Some(Box::new(names));
        }
        Ok(new)
    }

    fn twice(&self, key: Text, span: Range<usize>) -> Error {
        let message = format!("the key `{}` stands twice in this table", shorten(self.out.str(key)));
        self.out.error(ErrorKind::DuplicateKey, message, span)
    }

    /// Goes to the table that a header's or a dotted key's first part names, making it if need be.
    fn step(&mut self, parent: u32, key: Text, span: Range<usize>, dotted: bool) -> Result<u32> {
        let Some(found) = self.child(parent, key) else {
            let table = if dotted { Table::Dotted } else { Table::Implicit };
            return self.add(parent, key, span, Form::Table(table));
        };
        let item = &self.items[found as usize];
        match item.form {
            Form::Table(Table::Dotted) => Ok(found),
            Form::Table(Table::Implicit | Table::Header) if !dotted => Ok(found),
            Form::ArrayOfTables if !dotted => Ok(item.last),
            Form::Table(Table::Inline) => {
                let message = "an inline table is closed and cannot be added to";
                Err(self.out.error(ErrorKind::Syntax, message, span))
            }
            Form::Table(_) => {
                let message = "a dotted key cannot add to a table that has a header";
                Err(self.out.error(ErrorKind::DuplicateKey, message, span))
            }
            _ => Err(self.twice(key, span)),
        }
    }

    fn open_header(&mut self, array: bool) -> Result<()> {
        let path = std::mem::take(&mut self.path);
        let header = self.header.take();
        let opened = self.header_at(&path, header, array);
        self.reuse(path);
        self.section = opened?;
        Ok(())
    }

    fn header_at(
        &mut self,
        path: &[(Text, Range<usize>)],
        header: Option<Range<usize>>,
        array: bool,
    ) -> Result<u32> {
        let Some(((key, span), before)) = path.split_last() else { return Ok(self.section) };
        let mut at = 0;
        for (key, span) in before {
            at = self.step(at, *key, span.clone(), false)?;
        }
        let header = header.unwrap_or(span.clone());
        Ok(match (self.child(at, *key), array) {
            (None, false) => self.add(at, *key, header, Form::Table(Table::Header))?,
            (None, true) => {
                let list = self.add(at, *key, header.clone(), Form::ArrayOfTables)?;
                self.add(list, NO_KEY, header, Form::Table(Table::Header))?
            }
            (Some(found), true) if matches!(self.items[found as usize].form, Form::ArrayOfTables) => {
                self.add(found, NO_KEY, header, Form::Table(Table::Header))?
            }
            (Some(found), false)
                if matches!(self.items[found as usize].form, Form::Table(Table::Implicit)) =>
            {
                let item = &mut self.items[found as usize];
                item.form = Form::Table(Table::Header);
                (item.start, item.end) = (header.start as u32, header.end as u32);
                found
            }
            _ => return Err(self.twice(*key, span.clone())),
        })
    }

    /// Finds the table for the keys before `=`.
    fn aim(&mut self) -> Result<()> {
        let path = std::mem::take(&mut self.path);
        let target = self.target_of(&path);
        self.reuse(path);
        self.target = target?;
        Ok(())
    }

    fn target_of(&mut self, path: &[(Text, Range<usize>)]) -> Result<Option<(u32, Text)>> {
        let mut at = self.open.last().copied().unwrap_or(self.section);
        let Some(((key, span), before)) = path.split_last() else { return Ok(None) };
        for (key, span) in before {
            at = self.step(at, *key, span.clone(), true)?;
        }
        if self.child(at, *key).is_some() {
            return Err(self.twice(*key, span.clone()));
        }
        Ok(Some((at, *key)))
    }

    /// Takes the list of keys back, for those of the next statement.
    fn reuse(&mut self, mut path: Vec<(Text, Range<usize>)>) {
        path.clear();
        self.path = path;
    }

    fn place(&mut self, span: Range<usize>, form: Form) -> Result<u32> {
        match self.target.take() {
            Some((parent, key)) => self.add(parent, key, span, form),
            None => {
                let array = self.open.last().copied().unwrap_or(self.section);
                self.add(array, NO_KEY, span, form)
            }
        }
    }

    fn scalar(&mut self, span: Span, encoding: Option<Encoding>) -> Result<()> {
        let range = self.span(span);
        let raw = toml_parser::Raw::new_unchecked(&self.text[span.start()..span.end()], encoding, span);
        let mut text = Cow::Borrowed("");
        let mut wrong = None;
        let kind = raw.decode_scalar(&mut text, &mut wrong);
        if let Some(wrong) = wrong {
            return Err(self.syntax(&wrong));
        }
        let payload = match kind {
            ScalarKind::String => Payload::Text(self.keep(text)),
            ScalarKind::Boolean(value) => Payload::Bool(value),
            ScalarKind::DateTime => {
                if text.parse::<toml_datetime::Datetime>().is_err() {
                    let message = "not a date or time of RFC 3339";
                    return Err(self.out.error(ErrorKind::Syntax, message, range));
                }
                Payload::Text(self.keep(text))
            }
            ScalarKind::Float => {
                if text.trim_start_matches(['+', '-']).starts_with(['i', 'n']) {
                    let message = "infinity and NaN have no place in a configuration";
                    return Err(self.out.error(ErrorKind::Number, message, range));
                }
                self.out.float(&text, range.clone())?
            }
            ScalarKind::Integer(radix) => {
                let negative = text.starts_with('-');
                let digits = text.trim_start_matches(['+', '-']);
                let (digits, radix) = match radix {
                    IntegerRadix::Dec => (digits, 10),
                    IntegerRadix::Hex => (digits.trim_start_matches("0x"), 16),
                    IntegerRadix::Oct => (digits.trim_start_matches("0o"), 8),
                    IntegerRadix::Bin => (digits.trim_start_matches("0b"), 2),
                };
                self.out.integer(negative, digits, radix, range.clone())?
            }
        };
        self.place(range, Form::Scalar(payload))?;
        Ok(())
    }

    /// Writes an item and what is below it into the arena. As deep as the limit on depth, which is small.
    fn flatten(&mut self, item: u32, key: Text) -> Result<()> {
        let Item { start, end, form, first, .. } = self.items[item as usize];
        self.items[item as usize].names = None;
        if let Form::Scalar(payload) = form {
            return self.out.push(Node::new(key, start as usize..end as usize, payload));
        }
        let open = self.out.open(start as usize)?;
        let mut child = first;
        while child != 0 {
            let Item { key, next, .. } = self.items[child as usize];
            self.flatten(child, key)?;
            child = next;
        }
        if matches!(form, Form::Table(_)) {
            self.out.close_object(open, key, end as usize)?;
        } else {
            self.out.close_array(open, key, end as usize)?;
        }
        Ok(())
    }
}

impl EventReceiver for Reader<'_, '_> {
    fn std_table_open(&mut self, span: Span, _: &mut dyn ErrorSink) {
        self.header = Some(self.span(span));
    }

    fn std_table_close(&mut self, span: Span, _: &mut dyn ErrorSink) {
        self.header = self.header.take().map(|header| header.start..span.end() + self.base);
        self.attempt(|reader| reader.open_header(false));
    }

    fn array_table_open(&mut self, span: Span, _: &mut dyn ErrorSink) {
        self.header = Some(self.span(span));
    }

    fn array_table_close(&mut self, span: Span, _: &mut dyn ErrorSink) {
        self.header = self.header.take().map(|header| header.start..span.end() + self.base);
        self.attempt(|reader| reader.open_header(true));
    }

    fn inline_table_open(&mut self, span: Span, _: &mut dyn ErrorSink) -> bool {
        let span = self.span(span);
        self.attempt(|reader| {
            let table = reader.place(span, Form::Table(Table::Inline))?;
            reader.open.push(table);
            Ok(())
        })
    }

    fn inline_table_close(&mut self, span: Span, _: &mut dyn ErrorSink) {
        if let Some(table) = self.open.pop() {
            self.items[table as usize].end = (span.end() + self.base) as u32;
        }
    }

    fn array_open(&mut self, span: Span, _: &mut dyn ErrorSink) -> bool {
        let span = self.span(span);
        self.attempt(|reader| {
            let array = reader.place(span, Form::Array)?;
            reader.open.push(array);
            Ok(())
        })
    }

    fn array_close(&mut self, span: Span, _: &mut dyn ErrorSink) {
        if let Some(array) = self.open.pop() {
            self.items[array as usize].end = (span.end() + self.base) as u32;
        }
    }

    fn simple_key(&mut self, span: Span, encoding: Option<Encoding>, _: &mut dyn ErrorSink) {
        self.attempt(|reader| {
            let raw = toml_parser::Raw::new_unchecked(&reader.text[span.start()..span.end()], encoding, span);
            let mut text = Cow::Borrowed("");
            let mut wrong = None;
            raw.decode_key(&mut text, &mut wrong);
            if let Some(wrong) = wrong {
                return Err(reader.syntax(&wrong));
            }
            let key = reader.keep(text);
            let span = reader.span(span);
            reader.path.push((key, span));
            Ok(())
        });
    }

    fn key_val_sep(&mut self, _: Span, _: &mut dyn ErrorSink) {
        self.attempt(Reader::aim);
    }

    fn scalar(&mut self, span: Span, encoding: Option<Encoding>, _: &mut dyn ErrorSink) {
        self.attempt(|reader| Reader::scalar(reader, span, encoding));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::source::Format;
    use crate::tree::Tree;

    fn parse(text: &str) -> Result<serde_json::Value> {
        Tree::parse("a.toml", Format::Toml, text, &Limits::default()).map(|tree| tree.to_json())
    }

    /// Statements of every kind, each of which is cut off from others at some place.
    #[test]
    fn a_text_of_many_statements_is_read_as_one() {
        let one = |at: usize| {
            format!(
                "[t.n{at}]\na.b.c = {at} # {{ [\nlist = [ # ]\n  1,\n\n  [{{ x = {at} }}],\n]\n\
                 [[t.n{at}.many]]\n'k e y' = \"\"\"\n]\n}}\"\"\"\n[[t.n{at}.many]]\n"
            )
        };
        let expected = |at: usize| {
            let many = json!([{"k e y": "]\n}"}, {}]);
            (format!("n{at}"), json!({"a": {"b": {"c": at}}, "list": [1, [{"x": at}]], "many": many}))
        };
        for before in 0..40 {
            let mut text = "\n".repeat(before);
            text.extend((0..100).map(one));
            assert!(toml_parser::Source::new(&text).lex().count() > 4 * STATEMENTS);
            let all: serde_json::Map<_, _> = (0..100).map(expected).collect();
            assert_eq!(parse(&text).unwrap(), json!({"t": all}), "{before}");
            for (wrong, place) in [("[t.n7]\n", 1), ("a = [1\nb = 2\n", 1), ("a = [}\n", 1), ("a = ]\n", 1)] {
                let error = parse(&format!("{text}{wrong}")).unwrap_err();
                let line = text.lines().count() + place;
                assert!(
                    error.location().unwrap().line().is_some_and(|at| at == line || at == line + 1),
                    "{error}"
                );
            }
        }
        // What comes first is told.
        let error =
            parse(&format!("a = 1 1\n{}[t.n7]\n", (0..100).map(one).collect::<String>())).unwrap_err();
        assert_eq!(error.location().unwrap().line(), Some(1), "{error}");
    }
}
