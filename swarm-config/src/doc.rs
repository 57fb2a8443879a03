//! One source, parsed: a flat arena of values that borrow their text from the source.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use crate::error::{Error, ErrorKind, Result};
use crate::index::Index;
use crate::limits::Limits;
use crate::source::Source;

mod amend;
mod node;

pub(crate) use node::{Children, NO_KEY, Node, Payload, Text};

/// What kind of value it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// `null`, which an overlay uses to delete a key.
    Null,
    /// `true` or `false`.
    Bool,
    /// A whole number, from -2^63 to 2^64 - 1.
    Integer,
    /// A finite number with a fraction or an exponent.
    Float,
    /// A text. TOML's dates and times are texts too.
    String,
    /// A list.
    Array,
    /// A table of named values, in the order of the source.
    Object,
}

impl Kind {
    pub(crate) fn article(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Bool => "a boolean",
            Kind::Integer => "an integer",
            Kind::Float => "a number with a fraction",
            Kind::String => "a string",
            Kind::Array => "an array",
            Kind::Object => "a table",
        }
    }
}

/// A parsed source. Never changes, so that layers, caches and reloads share it.
pub(crate) struct Doc {
    pub(crate) source: Arc<Source>,
    nodes: Vec<Node>,
    /// Texts that differ from the source: escapes, folded lines, values made in code.
    decoded: String,
    indexes: Vec<(u32, Arc<Index>)>,
    nulls: bool,
    /// Whether a text may refer to something, once somebody asked.
    refers: OnceLock<bool>,
    /// No other document of this process has it.
    number: u64,
    /// How much was decoded when all of it was read.
    parsed: usize,
    amendable: bool,
    amends: Option<amend::Amends>,
}

impl Doc {
    /// Says that the text alone makes the document, each value being where it stands.
    pub(crate) fn amendable(mut self) -> Doc {
        self.amendable = true;
        self
    }

    /// How many values there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether any value is `null`, so that a merge need not look for what to delete.
    pub(crate) fn has_nulls(&self) -> bool {
        self.nulls
    }

    pub(crate) fn root(&self) -> u32 {
        self.nodes.len() as u32 - 1
    }

    #[inline]
    pub(crate) fn node(&self, node: u32) -> &Node {
        &self.nodes[node as usize]
    }

    #[inline]
    pub(crate) fn text(&self, text: Text) -> &str {
        let range = text.start as usize..text.start as usize + text.len as usize;
        if text.decoded { &self.decoded[range] } else { &self.source.text[range] }
    }

    #[inline]
    pub(crate) fn key(&self, node: u32) -> &str {
        self.text(self.node(node).key())
    }

    /// A text for another document of the same source.
    #[cfg(feature = "sops")]
    pub(crate) fn copy_text(&self, text: Text, out: &mut DocBuilder<'_>) -> Text {
        if text.decoded { out.decode(self.text(text)) } else { text }
    }

    /// Whether a text is anywhere in it, in the source or decoded.
    pub(crate) fn mentions(&self, text: &str) -> bool {
        let find = |within: &str| memchr::memmem::find(within.as_bytes(), text.as_bytes()).is_some();
        find(&self.source.text) || find(&self.decoded)
    }

    /// Whether a text in it may refer to something.
    pub(crate) fn refers(&self) -> bool {
        *self.refers.get_or_init(|| self.mentions("${"))
    }

    /// Where the key stands in the source, if it stands there as it is.
    pub(crate) fn key_span(&self, node: u32) -> Option<Range<usize>> {
        let key = self.node(node).key();
        let inside = !key.decoded && key.len > 0;
        inside.then(|| key.start as usize..key.start as usize + key.len as usize)
    }

    /// The child with this key.
    pub(crate) fn child(&self, children: Children, key: &str) -> Option<u32> {
        if children.count as usize > Index::FROM
            && let Ok(at) = self.indexes.binary_search_by_key(&children.first, |(first, _)| *first)
        {
            let found = self.indexes[at].1.find(key, |child| self.key(children.first + child))?;
            return Some(children.first + found);
        }
        (children.first..children.first + children.count).find(|child| self.key(*child) == key)
    }

    /// Bytes held, for the reports of benches and caches.
    pub(crate) fn bytes(&self) -> usize {
        self.nodes.capacity() * size_of::<Node>()
            + self.decoded.capacity()
            + self.source.text.capacity()
            + self.indexes.iter().map(|(_, index)| index.bytes()).sum::<usize>()
    }
}

/// What was decrypted is overwritten. Copies that the builder made while it grew are not.
impl Drop for Doc {
    fn drop(&mut self) {
        if self.nodes.iter().any(Node::is_secret) {
            zeroize::Zeroize::zeroize(&mut self.decoded);
        }
    }
}

/// Builds a [`Doc`] from the inside out: children wait in `pending` until their container closes.
pub(crate) struct DocBuilder<'l> {
    pub(crate) source: Arc<Source>,
    pub(crate) limits: &'l Limits,
    nodes: Vec<Node>,
    pending: Vec<Node>,
    decoded: String,
    indexes: Vec<(u32, Arc<Index>)>,
    /// Values and bytes of text so far, with each alias counted as what it stands for.
    pub(crate) expanded: Expanded,
    depth: usize,
}

/// What a part of a document amounts to when aliases are written out.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Expanded {
    pub(crate) nodes: usize,
    pub(crate) bytes: usize,
    /// How deep containers go below it.
    pub(crate) height: usize,
}

/// An open container.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Open {
    pub(crate) from: usize,
    pub(crate) start: usize,
}

impl<'l> DocBuilder<'l> {
    pub(crate) fn new(source: Arc<Source>, limits: &'l Limits) -> Self {
        // A guess that is rarely too small: values of configuration take about 24 bytes each.
        let guess = source.text.len() / 24 + 8;
        DocBuilder {
            source,
            limits,
            nodes: Vec::with_capacity(guess),
            pending: Vec::with_capacity(256),
            decoded: String::new(),
            indexes: Vec::new(),
            expanded: Expanded::default(),
            depth: 0,
        }
    }

    pub(crate) fn error(&self, kind: ErrorKind, message: impl Into<String>, span: Range<usize>) -> Error {
        Error::new(kind, message).at(&self.source, span)
    }

    pub(crate) fn limit(&self, what: &str, limit: usize, at: usize) -> Error {
        self.error(ErrorKind::Limit, format!("more than {limit} {what}"), at..at + 1).without_frame()
    }

    /// Keeps a text that differs from the source.
    pub(crate) fn decode(&mut self, text: &str) -> Text {
        let start = self.decoded.len() as u32;
        self.decoded.push_str(text);
        Text { start, len: text.len() as u32, decoded: true }
    }

    pub(crate) fn str(&self, text: Text) -> &str {
        let range = text.start as usize..text.start as usize + text.len as usize;
        if text.decoded { &self.decoded[range] } else { &self.source.text[range] }
    }

    /// Fails if a key or string is too long.
    pub(crate) fn check_text(&self, text: Text, at: usize) -> Result<()> {
        if text.len as usize > self.limits.string {
            return Err(self.limit("bytes in a string", self.limits.string, at));
        }
        Ok(())
    }

    /// Adds a value to the innermost open container.
    #[inline]
    pub(crate) fn push(&mut self, node: Node) -> Result<()> {
        self.count(&node)?;
        self.pending.push(node);
        Ok(())
    }

    #[inline]
    fn count(&mut self, node: &Node) -> Result<()> {
        self.expanded.nodes += 1;
        if let Payload::Text(text) = node.payload() {
            self.expanded.bytes += text.len as usize;
            self.check_text(text, node.span().start)?;
        }
        if node.key().len as usize > self.limits.string {
            self.check_text(node.key(), node.span().start)?;
        }
        if self.expanded.nodes > self.limits.nodes {
            return Err(self.limit("values", self.limits.nodes, node.span().start));
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn open(&mut self, start: usize) -> Result<Open> {
        self.depth += 1;
        if self.depth > self.limits.max_depth() {
            return Err(self.limit("levels of nesting", self.limits.max_depth(), start));
        }
        Ok(Open { from: self.pending.len(), start })
    }

    /// The children of an open container so far.
    pub(crate) fn children(&mut self, open: Open) -> &mut [Node] {
        &mut self.pending[open.from..]
    }

    /// Replaces the children of an open container.
    pub(crate) fn replace_children(&mut self, open: Open, children: Vec<Node>) {
        self.pending.truncate(open.from);
        self.pending.extend(children);
    }

    pub(crate) fn close_array(&mut self, open: Open, key: Text, end: usize) -> Result<Node> {
        let children = self.settle(open);
        let node = Node::new(key, open.start..end, Payload::Array(children));
        self.push(node)?;
        Ok(node)
    }

    /// Closes a table. A key that stands twice in it is an error at its second place.
    pub(crate) fn close_object(&mut self, open: Open, key: Text, end: usize) -> Result<Node> {
        let children = &self.pending[open.from..];
        let name = |at: u32| self.str(children[at as usize].key());
        let mut index = None;
        let twice = if children.len() > Index::FROM {
            match Index::build(children.len(), name) {
                Ok(built) => {
                    index = Some(built);
                    None
                }
                Err(twice) => Some(twice),
            }
        } else {
            (1..children.len() as u32).find(|at| (0..*at).any(|before| name(before) == name(*at)))
        };
        if let Some(twice) = twice {
            let node = children[twice as usize];
            let key = node.key();
            let span = if key.decoded || key.len == 0 {
                node.span()
            } else {
                key.start as usize..key.start as usize + key.len as usize
            };
            let message = format!("the key `{}` stands twice in this table", shorten(self.str(key)));
            return Err(self.error(ErrorKind::DuplicateKey, message, span));
        }
        let children = self.settle(open);
        if let Some(index) = index {
            self.indexes.push((children.first, Arc::new(index)));
        }
        let node = Node::new(key, open.start..end, Payload::Object(children));
        self.push(node)?;
        Ok(node)
    }

    fn settle(&mut self, open: Open) -> Children {
        self.depth -= 1;
        let first = self.nodes.len() as u32;
        let count = (self.pending.len() - open.from) as u32;
        self.nodes.extend_from_slice(&self.pending[open.from..]);
        self.pending.truncate(open.from);
        Children { first, count }
    }

    pub(crate) fn depth(&self) -> usize {
        self.depth
    }

    pub(crate) fn settled(&self, children: Children) -> &[Node] {
        &self.nodes[children.range()]
    }

    /// Ends the document: exactly one value is pending.
    pub(crate) fn finish(mut self) -> Doc {
        debug_assert_eq!(self.pending.len(), 1, "a document has one root");
        self.nodes.extend_from_slice(&self.pending);
        self.done()
    }

    fn done(mut self) -> Doc {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        self.nodes.shrink_to_fit();
        self.decoded.shrink_to_fit();
        let nulls = self.nodes.iter().any(Node::is_null);
        let (number, parsed) = (NUMBERS.fetch_add(1, Ordering::Relaxed), self.decoded.len());
        let DocBuilder { source, nodes, decoded, indexes, .. } = self;
        let refers = OnceLock::new();
        Doc { source, nodes, decoded, indexes, nulls, refers, number, parsed, amendable: false, amends: None }
    }
}

/// A name short enough for a message.
pub(crate) fn shorten(text: &str) -> String {
    if text.chars().count() <= 64 {
        return text.to_owned();
    }
    text.chars().take(63).chain(['…']).collect()
}
