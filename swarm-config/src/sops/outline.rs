//! What there is to encrypt in a document: its values, in order, and its comments.

use std::ops::Range;

use granit_parser::{Event, Parser, options};

use super::meta::{KEY, PREFIX};
use crate::doc::{Doc, Payload};
use crate::error::Result;
use crate::read::lines::{self, DEFAULT, Line};
use crate::source::Format;

/// A value that is no table and no list.
pub(super) struct Leaf {
    pub(super) node: u32,
    /// The keys on the way to it. Positions in lists do not count.
    pub(super) path: Vec<String>,
    /// Whether it stands within brackets, where YAML needs quotes.
    pub(super) flow: bool,
}

impl Leaf {
    pub(super) fn aad(&self) -> String {
        aad(&self.path)
    }
}

/// A path as the data that goes with a ciphertext.
pub(super) fn aad(path: &[String]) -> String {
    path.join(":") + ":"
}

/// Whether a key of the root belongs to `sops`.
pub(super) fn is_metadata(key: &str, format: Format) -> bool {
    match format {
        Format::Dotenv => key.starts_with(PREFIX),
        _ => key == KEY,
    }
}

/// The values, in the order of the document.
pub(super) fn leaves(doc: &Doc, format: Format) -> Vec<Leaf> {
    let mut out = Vec::new();
    let mut path = Vec::new();
    let Payload::Object(children) = doc.node(doc.root()).payload() else { return out };
    for child in children.range() {
        let child = child as u32;
        let key = doc.key(child);
        if is_metadata(key, format) {
            continue;
        }
        let sectioned = format == Format::Ini && !matches!(doc.node(child).payload(), Payload::Object(_));
        path.extend(sectioned.then(|| DEFAULT.to_owned()));
        path.push(key.to_owned());
        collect(doc, child, &mut path, flow(doc, doc.root()), &mut out);
        path.clear();
    }
    out
}

fn flow(doc: &Doc, at: u32) -> bool {
    doc.source.text[doc.node(at).span().start..].starts_with(['[', '{'])
}

fn collect(doc: &Doc, at: u32, path: &mut Vec<String>, inside: bool, out: &mut Vec<Leaf>) {
    match doc.node(at).payload() {
        Payload::Object(children) => {
            for child in children.range() {
                path.push(doc.key(child as u32).to_owned());
                collect(doc, child as u32, path, inside || flow(doc, at), out);
                path.pop();
            }
        }
        Payload::Array(children) => {
            for child in children.range() {
                collect(doc, child as u32, path, inside || flow(doc, at), out);
            }
        }
        _ => out.push(Leaf { node: at, path: path.clone(), flow: inside }),
    }
}

/// A comment, with what a ciphertext of it may go with.
pub(super) struct Comment {
    /// What stands after the sign.
    pub(super) span: Range<usize>,
    /// Where it belongs, by its place; other places that it may have been encrypted for follow.
    pub(super) paths: Vec<Vec<String>>,
}

/// The comments of YAML and dotenv. JSON has none, those of INI are taken line by line.
pub(super) fn comments(doc: &Doc, format: Format) -> Result<Vec<Comment>> {
    Ok(match format {
        Format::Yaml => yaml_comments(doc),
        Format::Dotenv => lines::dotenv(&doc.source)?
            .into_iter()
            .filter_map(|(_, line)| match line {
                Line::Comment(span) => Some(Comment { span, paths: vec![Vec::new()] }),
                _ => None,
            })
            .collect(),
        _ => Vec::new(),
    })
}

/// The beginning of a key, or of the line of a list's item, and what it is in.
struct Token {
    at: usize,
    column: usize,
    path: Vec<String>,
    below: Vec<String>,
}

fn yaml_comments(doc: &Doc) -> Vec<Comment> {
    let text = doc.source.text.as_str();
    let (body, base) = doc.source.body();
    let mut spans = Vec::new();
    let options = options! { strict_indentation: true, emit_comments: true };
    // What cannot be parsed was refused before.
    for (event, span) in Parser::new_from_str_with_options(body, options).map_while(|event| event.ok()) {
        if let (Event::Comment(..), Some(range)) = (event, span.byte_range()) {
            let (start, end) = (range.start + base + 1, (range.end + base).min(text.len()));
            // A line break is no part of a comment, whichever it is.
            let length = text.get(start..end).unwrap_or_default().trim_end_matches(['\r', '\n']).len();
            spans.push(start..start + length);
        }
    }
    if spans.is_empty() {
        return Vec::new();
    }
    let starts = std::iter::once(base).chain(memchr::memchr_iter(b'\n', text.as_bytes()).map(|at| at + 1));
    let lines: Vec<usize> = starts.collect();
    let line_of = |at: usize| lines[lines.partition_point(|line| *line <= at).max(1) - 1];
    let mut tokens = Vec::new();
    token(doc, doc.root(), &line_of, &mut Vec::new(), &mut tokens);
    tokens.sort_by_key(|token| token.at);
    let place = |span: Range<usize>| {
        let sign = span.start - 1;
        let line = line_of(sign);
        let next = tokens.partition_point(|token| token.at < sign);
        let (before, after) = tokens.split_at(next);
        let alone = text[line..sign].trim().is_empty();
        let column = sign - line;
        let owner = match alone {
            true => after
                .first()
                .filter(|token| token.column == column)
                .or_else(|| before.iter().rev().find(|token| token.column <= column)),
            false => {
                let first = before.partition_point(|token| token.at < line);
                before.get(first).or(before.last())
            }
        };
        let mut paths = vec![owner.map(|token| token.path.clone()).unwrap_or_default()];
        for token in before.last().into_iter().chain(after.first()) {
            let ways = (0..=token.below.len()).rev().map(|length| token.below[..length].to_vec());
            paths.extend(ways);
        }
        Comment { span, paths }
    };
    spans.into_iter().map(place).collect()
}

fn token(doc: &Doc, at: u32, line_of: &dyn Fn(usize) -> usize, path: &mut Vec<String>, out: &mut Vec<Token>) {
    let text = doc.source.text.as_str();
    match doc.node(at).payload() {
        Payload::Object(children) => {
            for child in children.range() {
                let child = child as u32;
                let start = doc.key_span(child).unwrap_or_else(|| doc.node(child).span()).start;
                let parent = path.clone();
                path.push(doc.key(child).to_owned());
                out.push(Token {
                    at: start,
                    column: start - line_of(start),
                    path: parent,
                    below: path.clone(),
                });
                token(doc, child, line_of, path, out);
                path.pop();
            }
        }
        Payload::Array(children) => {
            for child in children.range() {
                let line = line_of(doc.node(child as u32).span().start);
                let rest = &text[line..];
                let column = rest.len() - rest.trim_start_matches(' ').len();
                out.push(Token { at: line + column, column, path: path.clone(), below: path.clone() });
                token(doc, child as u32, line_of, path, out);
            }
        }
        _ => {}
    }
}
