//! A document made of the one before it, where its text was changed in one place.

use std::ops::Range;
use std::sync::Arc;

use super::{Children, Doc, DocBuilder, Expanded, Node, Payload, Text};
use crate::error::Result;
use crate::limits::Limits;
use crate::source::Source;

/// What a document has of the one that it was made of: all nodes before those that were read anew, and all behind them,
/// which lie elsewhere by now. What the new value is in has its place there, but not its content.
pub(super) struct Amends {
    /// The number of the other document.
    of: u64,
    old: Range<u32>,
    new: Range<u32>,
    /// The value that was read anew and what it is in, by their places in the new document.
    changed: Vec<u32>,
}

/// The value that everything which changed stands in.
struct Around {
    text: Range<usize>,
    node: u32,
    /// What is below it.
    nodes: Range<usize>,
    /// What it is in, outermost first.
    above: Vec<u32>,
}

/// Texts of values that are gone may take as much as those of the last full reading, and this much more.
const GONE: usize = 64 << 10;

impl Doc {
    /// Whether a node of this document reads as one of another does, because both were read together.
    pub(crate) fn keeps(&self, node: u32, other: &Doc, of: u32) -> bool {
        let Some(amends) = self.amends.as_ref().filter(|amends| amends.of == other.number) else {
            return false;
        };
        let was = match node {
            before if before < amends.new.start => Some(before),
            behind if behind >= amends.new.end => Some(behind - amends.new.end + amends.old.end),
            _ => None,
        };
        was == Some(of) && !amends.changed.contains(&node)
    }

    /// Reads a text that differs from this document's in one place, by reading the smallest container around that anew.
    /// `read` reads one value with the given key, from a byte on, and answers with where it ends. `None` where that does
    /// not do, whatever the reason: then all of it is to be read.
    ///
    /// Sound for a format in which a value's text says what it is and where it ends, wherever it stands, and in which
    /// containers lie in the arena in the order of the text: JSON.
    pub(crate) fn amend(
        &self,
        source: &Arc<Source>,
        limits: &Limits,
        read: impl FnOnce(&mut DocBuilder<'_>, usize, Text) -> Result<usize>,
    ) -> Option<Doc> {
        // Whoever looks for references finds those of values that are gone too.
        let refers = memchr::memmem::find(self.decoded.as_bytes(), b"${").is_some();
        if !self.amendable || refers || self.decoded.len() > self.parsed * 2 + GONE {
            return None;
        }
        let (old, new) = (&self.source.text, &source.text);
        let around = self.around(differing(old.as_bytes(), new.as_bytes()))?;
        let grown = new.len() as i64 - old.len() as i64;
        let end = (around.text.end as i64 + grown) as usize;

        let mut out = DocBuilder::new(source.clone(), limits);
        let Range { start: from, end: to } = around.nodes;
        out.nodes.reserve(self.nodes.len());
        out.nodes.extend_from_slice(&self.nodes[..from]);
        out.decoded.clone_from(&self.decoded);
        out.indexes.extend(self.indexes.iter().take_while(|(first, _)| (*first as usize) < from).cloned());
        out.depth = around.above.len();
        out.expanded = Expanded { nodes: self.nodes.len() - (to - from) - 1, bytes: 0, height: 0 };
        let was = self.node(around.node);
        let moved = Moved { text: around.text.end, grown, node: to as u32, by: 0 };
        let key = moved.text_of(was.key());
        if read(&mut out, around.text.start, key).ok()? != end {
            return None;
        }
        let value = out.pending.pop()?;
        let by = out.nodes.len() as i64 - to as i64;
        let moved = Moved { by, ..moved };
        let place = |node: u32| if (node as usize) < to { node } else { (i64::from(node) + by) as u32 };
        out.nodes.extend(self.nodes[to..].iter().map(|node| moved.node(node)));
        let mut changed: Vec<u32> = around.above.iter().map(|node| place(*node)).collect();
        changed.push(place(around.node));
        out.nodes[place(around.node) as usize] = value;
        let behind = self.indexes.iter().skip_while(|(first, _)| (*first as usize) < to);
        out.indexes.extend(behind.map(|(first, index)| (place(*first), index.clone())));

        let mut doc = out.done();
        doc.parsed = self.parsed;
        doc.amendable = true;
        let new = from as u32..(to as i64 + by) as u32;
        doc.amends = Some(Amends { of: self.number, old: from as u32..to as u32, new, changed });
        Some(doc)
    }

    /// Finds the innermost container that holds the bytes, brackets not counted. The root is none: to read it anew is to
    /// read all.
    fn around(&self, bytes: Range<usize>) -> Option<Around> {
        let mut above = Vec::new();
        let mut at = self.root();
        loop {
            let children = self.node(at).children()?;
            let nodes = &self.nodes[children.range()];
            let next = nodes.partition_point(|node| node.span().start < bytes.start).checked_sub(1);
            let inner = next.filter(|next| {
                let Range { start, end } = nodes[*next].span();
                nodes[*next].children().is_some() && start < bytes.start && bytes.end < end
            });
            match inner {
                Some(inner) => {
                    above.push(at);
                    at = children.first + inner as u32;
                }
                None if above.is_empty() => return None,
                None => {
                    // Its children lie last of all that is below it; the first of those below lies behind what is
                    // below the values before it, here and further up.
                    let end = children.range().end;
                    return Some(Around {
                        text: self.node(at).span(),
                        node: at,
                        nodes: self.below(at)?..end,
                        above,
                    });
                }
            }
        }
    }

    /// Where what is below a container begins in the arena.
    fn below(&self, mut at: u32) -> Option<usize> {
        loop {
            let children = self.node(at).children()?;
            let first = self.nodes[children.range()].iter().position(|node| node.children().is_some());
            match first {
                Some(first) => at = children.first + first as u32,
                None => return Some(children.first as usize),
            }
        }
    }
}

impl Node {
    fn children(&self) -> Option<Children> {
        match self.payload() {
            Payload::Array(children) | Payload::Object(children) => Some(children),
            _ => None,
        }
    }
}

/// How far what lies behind a changed value has moved, in the text and in the arena.
#[derive(Clone, Copy)]
struct Moved {
    text: usize,
    grown: i64,
    node: u32,
    by: i64,
}

impl Moved {
    fn byte(&self, at: u32) -> u32 {
        if (at as usize) < self.text { at } else { (i64::from(at) + self.grown) as u32 }
    }

    fn text_of(&self, text: Text) -> Text {
        let start = if text.decoded { text.start } else { self.byte(text.start) };
        Text { start, ..text }
    }

    fn node(&self, node: &Node) -> Node {
        let payload = match node.payload() {
            Payload::Text(text) => Payload::Text(self.text_of(text)),
            Payload::Array(children) => Payload::Array(self.children(children, node.start)),
            Payload::Object(children) => Payload::Object(self.children(children, node.start)),
            other => other,
        };
        let span = self.byte(node.start) as usize..self.byte(node.end) as usize;
        Node { flags: node.flags, ..Node::new(self.text_of(node.key()), span, payload) }
    }

    fn children(&self, children: Children, start: u32) -> Children {
        // Where an empty one in front would have had its children, the changed ones begin.
        let is_empty_before = children.count == 0 && (start as usize) < self.text;
        match children.first < self.node || is_empty_before {
            true => children,
            false => Children { first: (i64::from(children.first) + self.by) as u32, ..children },
        }
    }
}

/// The bytes of `old` in which the two differ; none, at one place, where something was put in.
fn differing(old: &[u8], new: &[u8]) -> Range<usize> {
    const STEP: usize = 4096;
    let both = old.len().min(new.len());
    let mut start = 0;
    while start + STEP <= both && old[start..start + STEP] == new[start..start + STEP] {
        start += STEP;
    }
    while start < both && old[start] == new[start] {
        start += 1;
    }
    let mut same = 0;
    let behind = |text: &[u8], from: usize, to: usize| text.len() - to..text.len() - from;
    while start + same + STEP <= both
        && old[behind(old, same, same + STEP)] == new[behind(new, same, same + STEP)]
    {
        same += STEP;
    }
    while start + same < both && old[old.len() - same - 1] == new[new.len() - same - 1] {
        same += 1;
    }
    start..old.len() - same
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_found_from_both_ends() {
        for (old, new, differs) in [
            ("abc", "abc", 3..3),
            ("abc", "axc", 1..2),
            ("abc", "abbc", 2..2),
            ("abbc", "abc", 2..3),
            ("", "a", 0..0),
            ("aaaa", "aa", 2..4),
        ] {
            assert_eq!(differing(old.as_bytes(), new.as_bytes()), differs, "{old} {new}");
            let padded = |text: &str| ["x".repeat(9000), text.into(), "y".repeat(9000)].concat();
            let moved = differs.start + 9000..differs.end + 9000;
            let found = differing(padded(old).as_bytes(), padded(new).as_bytes());
            assert!(found.start >= moved.start && found.len() <= moved.len().max(1), "{old} {new} {found:?}");
        }
    }

    /// A value as it is written, with where it stands, and everything below it in the order of the arena.
    fn arena(doc: &Doc) -> Vec<String> {
        let shown = |node: &Node| match node.payload() {
            Payload::Text(text) => format!("{:?}", doc.text(text)),
            other => format!("{other:?}"),
        };
        let one = |node: &Node| format!("{} {:?} {}", doc.text(node.key()), node.span(), shown(node));
        let indexes = doc.indexes.iter().map(|(first, _)| format!("index {first}"));
        doc.nodes.iter().map(one).chain(indexes).collect()
    }

    #[test]
    fn a_changed_text_is_read_in_part_as_it_is_read_as_a_whole() {
        let entries = |from: usize, to: usize| -> String {
            let one =
                |at| format!("\"k{at}\": {{\"a\": [{at}, \"t\\u0041\", {{}}, []], \"b\": {{\"c\": null}}}}");
            (from..to).map(one).collect::<Vec<_>>().join(",\n")
        };
        let text = format!("{{\"one\": {{{}}}, \"two\": [{{}}, {{\"x\": 1.5}}]}}", entries(0, 40));
        let limits = Limits::default();
        let source = |text: String| Source::new(crate::source::Origin::Code("a".into()), text);
        let read = |text: &str| crate::read::json::read(source(text.to_owned()), &limits);
        let pieces = [
            "",
            "7",
            "-",
            "\"",
            "{",
            "}",
            "[",
            "]",
            ",",
            ":",
            "{}",
            "[]",
            "\"q\": 1, ",
            " ",
            "\\n",
            "k7",
            "null",
        ];
        let (mut before, mut amended) = (read(&text).unwrap(), 0);
        let mut random = 1u64;
        let mut next = |most: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random as usize % most
        };
        for _ in 0..20_000 {
            let text = before.source.text.clone();
            let at = next(text.len());
            let end = (at + [0, 0, 1, 1, 2, 9, 60][next(7)]).min(text.len());
            if !text.is_char_boundary(at) || !text.is_char_boundary(end) {
                continue;
            }
            let new = [&text[..at], pieces[next(pieces.len())], &text[end..]].concat();
            let whole = read(&new);
            let part = crate::read::json::amend(&before, &source(new.clone()), &limits);
            match (whole, part) {
                (Ok(whole), Some(part)) => {
                    assert!(arena(&whole) == arena(&part), "{text}\n{new}");
                    let kept = |node: &u32| (0..before.len() as u32).any(|of| part.keeps(*node, &before, of));
                    assert!(part.nodes.len() < 20 || (0..part.len() as u32).any(|node| kept(&node)));
                    assert!(!kept(&part.root()));
                    amended += 1;
                    before = part;
                }
                (Ok(whole), None) => before = whole,
                (Err(_), None) => {}
                (Err(error), Some(_)) => panic!("{error}: {new}"),
            }
            if before.len() < 100 {
                before = read(&text).unwrap();
            }
        }
        assert!(amended > 1000, "{amended}");
    }

    fn of(text: String) -> Arc<Source> {
        Source::new(crate::source::Origin::Code("a".into()), text)
    }

    #[test]
    fn a_reference_that_is_gone_is_mentioned_no_more() {
        let limits = Limits::default();
        for (value, is_amended) in [(r"\u0024{env:APP_X}", false), (r"\u0025{env:APP_X}", true)] {
            let text = |value: &str| format!("{{\"a\": {{\"b\": {{\"c\": \"{value}\", \"d\": 1}}}}}}");
            let before = crate::read::json::read(of(text(value)), &limits).unwrap();
            assert_eq!(before.mentions("${env:APP_X}"), !is_amended);
            let amended = crate::read::json::amend(&before, &of(text("plain")), &limits);
            assert_eq!(amended.is_some(), is_amended);
        }
    }

    #[test]
    fn texts_of_values_that_are_gone_do_not_pile_up() {
        let limits = Limits::default();
        let text =
            |value: usize| format!("{{\"a\": {{\"b\": {{\"c\": \"\\u0041{}{value}\"}}}}}}", "x".repeat(4096));
        let mut doc = crate::read::json::read(of(text(0)), &limits).unwrap();
        let mut amended = 0;
        for value in 1..100 {
            let next = crate::read::json::amend(&doc, &of(text(value)), &limits);
            amended += usize::from(next.is_some());
            doc = next.unwrap_or_else(|| crate::read::json::read(of(text(value)), &limits).unwrap());
            assert!(doc.decoded.len() <= doc.parsed * 2 + GONE + 5000, "{value}");
        }
        assert!(amended > 80, "{amended}");
    }
}
