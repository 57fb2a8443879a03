use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use super::{Ref, Tree, ser};
use crate::doc::{Children, Kind, Node, Payload, Text};
use crate::source::{Location, Source};

/// One value of a [`Tree`].
#[derive(Clone, Copy)]
pub struct Value<'a> {
    pub(crate) tree: &'a Tree,
    /// The value that has the key.
    pub(crate) named: Ref,
    /// The value that has the content.
    pub(crate) at: Ref,
}

impl<'a> Value<'a> {
    /// What kind of value it is.
    pub fn kind(self) -> Kind {
        self.payload().kind()
    }

    #[inline]
    pub(crate) fn payload(self) -> Payload {
        self.tree.payload(self.at)
    }

    pub(crate) fn node(self) -> Option<&'a Node> {
        self.at.as_join().is_none().then(|| self.tree.docs[self.at.doc()].node(self.at.node))
    }

    /// The boolean it is.
    pub fn as_bool(self) -> Option<bool> {
        match self.payload() {
            Payload::Bool(value) => Some(value),
            _ => None,
        }
    }

    /// The integer it is, if that fits.
    pub fn as_i64(self) -> Option<i64> {
        match self.payload() {
            Payload::Int(value) => Some(value),
            _ => None,
        }
    }

    /// The integer it is, if that is not negative.
    pub fn as_u64(self) -> Option<u64> {
        match self.payload() {
            Payload::Int(value) => u64::try_from(value).ok(),
            Payload::Uint(value) => Some(value),
            _ => None,
        }
    }

    /// The number it is. Integers beyond 2^53 lose their last digits.
    pub fn as_f64(self) -> Option<f64> {
        match self.payload() {
            Payload::Int(value) => Some(value as f64),
            Payload::Uint(value) => Some(value as f64),
            Payload::Float(value) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn text(self, text: Text) -> &'a str {
        self.tree.docs[self.at.doc()].text(text)
    }

    /// The text it is.
    pub fn as_str(self) -> Option<&'a str> {
        match self.payload() {
            Payload::Text(text) => Some(self.text(text)),
            _ => None,
        }
    }

    /// The value under a key of this table.
    pub fn get(self, key: &str) -> Option<Value<'a>> {
        self.find(key).map(|(_, value)| value)
    }

    /// The position of a key of this table, and the value under it.
    pub(crate) fn find(self, key: &str) -> Option<(u32, Value<'a>)> {
        let Payload::Object(children) = self.payload() else { return None };
        let at = self.tree.find(self.at, children, key)?;
        Some((at, self.tree.value(self.tree.child(self.at, children, at))))
    }

    /// The item at a position of this list.
    pub fn item(self, position: usize) -> Option<Value<'a>> {
        let Payload::Array(children) = self.payload() else { return None };
        let position = u32::try_from(position).ok().filter(|position| *position < children.count)?;
        Some(self.tree.value(self.tree.child(self.at, children, position)))
    }

    pub(crate) fn child(self, part: &str) -> Option<Value<'a>> {
        match self.payload() {
            Payload::Object(_) => self.get(part),
            Payload::Array(_) => part.parse().ok().and_then(|position| self.item(position)),
            _ => None,
        }
    }

    pub(crate) fn walk<S: AsRef<str>>(self, path: &[S]) -> Option<Value<'a>> {
        path.iter().try_fold(self, |value, part| value.child(part.as_ref()))
    }

    pub(crate) fn children(self) -> impl ExactSizeIterator<Item = Value<'a>> + Clone {
        let children = match self.payload() {
            Payload::Object(children) | Payload::Array(children) => children,
            _ => Children { first: 0, count: 0 },
        };
        (0..children.count).map(move |at| self.tree.value(self.tree.child(self.at, children, at)))
    }

    /// The items of this list, in order; nothing for another kind.
    pub fn items(self) -> impl ExactSizeIterator<Item = Value<'a>> + Clone {
        let count = if self.kind() == Kind::Array { self.len() } else { 0 };
        self.children().take(count)
    }

    /// The keys and values of this table, in order; nothing for another kind.
    pub fn entries(self) -> impl ExactSizeIterator<Item = (&'a str, Value<'a>)> + Clone {
        let count = if self.kind() == Kind::Object { self.len() } else { 0 };
        self.children().take(count).map(|value| (value.key(), value))
    }

    /// The number of items or keys; nought for what has none.
    pub fn len(self) -> usize {
        match self.payload() {
            Payload::Object(children) | Payload::Array(children) => children.count as usize,
            _ => 0,
        }
    }

    /// Whether there are no items and no keys.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// What tells one value from another: the address of where it lies, and its number there.
    pub(crate) fn identity(self) -> (usize, u32) {
        let place = match self.at.as_join() {
            Some(_) => std::ptr::from_ref(self.tree).addr(),
            None => std::ptr::from_ref(&*self.tree.docs[self.at.doc()]).addr(),
        };
        (place, self.at.node)
    }

    /// Whether both are one value of one document, or of two that were read together, so that they need not be compared.
    pub(crate) fn shares(self, other: Value<'_>) -> bool {
        if self.at.as_join().is_some() || other.at.as_join().is_some() {
            return false;
        }
        let (one, two) = (&self.tree.docs[self.at.doc()], &other.tree.docs[other.at.doc()]);
        let (node, of) = (self.at.node, other.at.node);
        match Arc::ptr_eq(one, two) {
            true => node == of,
            false => two.keeps(of, one, node) || one.keeps(node, two, of),
        }
    }

    /// Whether both read the same, whatever the type that reads them.
    pub(crate) fn is_same(self, other: Value<'_>) -> bool {
        if self.shares(other) {
            return true;
        }
        let loose = |value: Value<'_>| value.node().is_some_and(Node::is_loose);
        let entry = |(one, two): (Value<'_>, Value<'_>)| one.key() == two.key() && one.is_same(two);
        match (self.payload(), other.payload()) {
            (Payload::Object(one), Payload::Object(two)) | (Payload::Array(one), Payload::Array(two)) => {
                one.count == two.count && self.children().zip(other.children()).all(entry)
            }
            (Payload::Text(one), Payload::Text(two)) => {
                self.text(one) == other.text(two) && loose(self) == loose(other)
            }
            (one, two) => one == two,
        }
    }

    pub(crate) fn key(self) -> &'a str {
        self.tree.key(self.named)
    }

    /// Where it was written.
    pub fn location(self) -> Location {
        let (source, span) = self.tree.source_of(self.named);
        source.location(span.start)
    }

    pub(crate) fn place(self) -> (Arc<Source>, Range<usize>) {
        self.tree.source_of(self.named)
    }

    /// Where its key was written, or else the value.
    pub(crate) fn key_place(self) -> (Arc<Source>, Range<usize>) {
        let (doc, node) = self.tree.like(self.named);
        (doc.source.clone(), doc.key_span(node).unwrap_or_else(|| doc.node(node).span()))
    }

    /// Whether it must not be shown.
    pub fn is_secret(self) -> bool {
        self.node().is_some_and(Node::is_secret) || self.tree.marks([self.at, self.named])
    }

    /// The value as JSON, without what is secret.
    pub fn to_json(self) -> serde_json::Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Calls `found` with each value that a pattern names.
    pub(crate) fn matching(self, pattern: &[String], found: &mut dyn FnMut(Value<'a>)) {
        let Some((part, rest)) = pattern.split_first() else { return found(self) };
        if part == "*" {
            self.children().for_each(|child| child.matching(rest, found));
        } else if let Some(child) = self.child(part) {
            child.matching(rest, found);
        }
    }

    /// Calls `found` with the value and each below it.
    pub(crate) fn each(self, found: &mut dyn FnMut(Value<'a>)) {
        found(self);
        self.children().for_each(|child| child.each(found));
    }
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_secret() {
            return f.write_str(ser::MASK);
        }
        match self.kind() {
            Kind::Object => f.debug_map().entries(self.entries()).finish(),
            Kind::Array => f.debug_list().entries(self.items()).finish(),
            _ => fmt::Display::fmt(&self.to_json(), f),
        }
    }
}

/// JSON, on one line, without what is secret.
impl fmt::Display for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.to_json(), f)
    }
}

impl PartialEq for Value<'_> {
    /// Whether both hold the same: the order of keys does not matter, and `1` is not `1.0`.
    fn eq(&self, other: &Self) -> bool {
        if std::ptr::eq(self.tree, other.tree) && self.at == other.at || self.shares(*other) {
            return true;
        }
        match (self.payload(), other.payload()) {
            (Payload::Object(_), Payload::Object(_)) => {
                self.len() == other.len() && self.entries().all(|(key, value)| other.get(key) == Some(value))
            }
            (Payload::Array(_), Payload::Array(_)) => self.items().eq(other.items()),
            (Payload::Text(_), Payload::Text(_)) => self.as_str() == other.as_str(),
            (one, two) => one == two,
        }
    }
}
