//! What layers make together: a tree of references into the documents that were read.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::doc::{Children, Doc, Kind, Node, Payload, Text};
use crate::error::{Error, ErrorKind, Result};
use crate::index::Index;
use crate::limits::Limits;
use crate::path::{self, Pattern};
use crate::source::{Format, Location, Source};

mod de;
mod ser;

pub(crate) use de::{Extracted, Unknown, extract, extract_below};
pub(crate) use ser::MASK;

/// A configuration as a tree, in which each value knows where it was written.
///
/// Immutable and cheap to share. Reading it allocates nothing.
///
/// ```
/// use swarm_config::{Format, Limits, Tree};
///
/// let tree = Tree::parse("app.toml", Format::Toml, "[db]\nport = 5432", &Limits::default())?;
/// let port = tree.get("db.port").unwrap();
/// assert_eq!(port.as_i64(), Some(5432));
/// assert_eq!(port.location().to_string(), "app.toml:2:8");
/// # Ok::<(), swarm_config::Error>(())
/// ```
pub struct Tree {
    pub(crate) docs: Vec<Arc<Doc>>,
    pub(crate) joins: Vec<Join>,
    pub(crate) refs: Vec<Ref>,
    pub(crate) root: Ref,
    /// Values that were made from a template, and the template.
    pub(crate) templates: HashMap<Ref, Ref, foldhash::fast::RandomState>,
    pub(crate) secrets: Marked,
    /// Those that showed only when a type was read.
    late_secrets: OnceLock<Marked>,
}

type Marked = HashSet<Ref, foldhash::fast::RandomState>;

/// A value in one of the documents, or a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Ref {
    doc: u32,
    node: u32,
}

const JOINED: u32 = u32::MAX;

impl Ref {
    pub(crate) fn new(doc: usize, node: u32) -> Ref {
        Ref { doc: doc as u32, node }
    }

    pub(crate) fn join(join: usize) -> Ref {
        Ref { doc: JOINED, node: join as u32 }
    }

    pub(crate) fn as_join(self) -> Option<usize> {
        (self.doc == JOINED).then_some(self.node as usize)
    }

    pub(crate) fn doc(self) -> usize {
        self.doc as usize
    }

    pub(crate) fn node(self) -> u32 {
        self.node
    }
}

/// A container whose children come from several documents, or a value under another key.
pub(crate) struct Join {
    /// The value whose key it has, and whose place.
    pub(crate) like: Ref,
    pub(crate) shape: Shape,
    pub(crate) index: Option<Index>,
}

#[derive(Clone, Copy)]
pub(crate) enum Shape {
    Object(Children),
    Array(Children),
    /// The value of another place.
    Same(Ref),
}

impl Tree {
    /// Reads one text. `name` stands in locations.
    ///
    /// # Errors
    ///
    /// When the text does not follow its format or goes beyond the limits.
    pub fn parse(name: &str, format: Format, text: impl AsRef<[u8]>, limits: &Limits) -> Result<Tree> {
        crate::read::text(name, format, text.as_ref(), limits).map(|doc| Tree::of(Arc::new(doc)))
    }

    pub(crate) fn of(doc: Arc<Doc>) -> Tree {
        let root = Ref::new(0, doc.root());
        Tree {
            docs: vec![doc],
            joins: Vec::new(),
            refs: Vec::new(),
            root,
            templates: HashMap::default(),
            secrets: Marked::default(),
            late_secrets: OnceLock::new(),
        }
    }

    /// The value at the root.
    pub fn root(&self) -> Value<'_> {
        self.value(self.root)
    }

    /// The value at a path such as `db.hosts.0`.
    pub fn get(&self, path: &str) -> Option<Value<'_>> {
        // The plain case without allocating; quotes need unescaping.
        if !path.contains('"') {
            let mut parts = path.split('.');
            return parts.try_fold(self.root(), |value, part| value.child(part));
        }
        self.walk(&path::parse(path).ok()?)
    }

    /// The value at a JSON pointer such as `/db/hosts/0`.
    pub fn pointer(&self, pointer: &str) -> Option<Value<'_>> {
        if !pointer.is_empty() && !pointer.starts_with('/') {
            return None;
        }
        self.walk(&path::parse_pointer(pointer))
    }

    pub(crate) fn walk<S: AsRef<str>>(&self, path: &[S]) -> Option<Value<'_>> {
        path.iter().try_fold(self.root(), |value, part| value.child(part.as_ref()))
    }

    /// Makes a `T` of the whole tree.
    ///
    /// # Errors
    ///
    /// When a value is not of the type that is read, with its path and location.
    pub fn extract<'a, T: serde::Deserialize<'a>>(&'a self) -> Result<T> {
        extract(self.root()).map(|extracted| extracted.value)
    }

    /// The whole tree as JSON. Secrets are left out: a text of asterisks stands for each.
    pub fn to_json(&self) -> serde_json::Value {
        self.root().to_json()
    }

    /// Bytes held by the tree and the texts that it was read from.
    pub fn bytes(&self) -> usize {
        self.docs.iter().map(|doc| doc.bytes()).sum::<usize>()
            + self.joins.capacity() * size_of::<Join>()
            + self.refs.capacity() * size_of::<Ref>()
    }

    #[inline]
    pub(crate) fn value(&self, at: Ref) -> Value<'_> {
        match at.doc {
            JOINED => self.joined_value(at),
            _ => Value { tree: self, named: at, at },
        }
    }

    fn joined_value(&self, at: Ref) -> Value<'_> {
        let mut value = at;
        while let Some(join) = value.as_join()
            && let Shape::Same(other) = self.joins[join].shape
        {
            value = other;
        }
        Value { tree: self, named: at, at: value }
    }

    /// The node that gives a value its key and its place.
    pub(crate) fn like(&self, mut at: Ref) -> (&Doc, u32) {
        while let Some(join) = at.as_join() {
            at = self.joins[join].like;
        }
        (&self.docs[at.doc()], at.node)
    }

    #[inline]
    pub(crate) fn key(&self, at: Ref) -> &str {
        if at.doc != JOINED {
            return self.docs[at.doc()].key(at.node);
        }
        let (doc, node) = self.like(at);
        doc.key(node)
    }

    #[inline]
    pub(crate) fn payload(&self, at: Ref) -> Payload {
        match at.doc {
            JOINED => self.joined_payload(at.node as usize),
            _ => self.docs[at.doc()].node(at.node).payload(),
        }
    }

    fn joined_payload(&self, join: usize) -> Payload {
        match self.joins[join].shape {
            Shape::Object(children) => Payload::Object(children),
            Shape::Array(children) => Payload::Array(children),
            Shape::Same(other) => self.payload(other),
        }
    }

    /// The children of a container, `children` being its own.
    #[inline]
    pub(crate) fn child(&self, parent: Ref, children: Children, at: u32) -> Ref {
        match parent.as_join() {
            None => Ref { doc: parent.doc, node: children.first + at },
            Some(_) => self.refs[(children.first + at) as usize],
        }
    }

    /// The position of a key among children.
    pub(crate) fn find(&self, parent: Ref, children: Children, key: &str) -> Option<u32> {
        match parent.as_join() {
            None => self.docs[parent.doc()].child(children, key).map(|node| node - children.first),
            Some(join) => {
                let name = |at| self.key(self.child(parent, children, at));
                match &self.joins[join].index {
                    Some(index) => index.find(key, name),
                    None => (0..children.count).find(|at| name(*at) == key),
                }
            }
        }
    }

    pub(crate) fn add_doc(&mut self, doc: Arc<Doc>) -> Ref {
        let root = doc.root();
        self.docs.push(doc);
        Ref::new(self.docs.len() - 1, root)
    }

    /// Adds a container of children from anywhere.
    pub(crate) fn add_join(&mut self, like: Ref, object: bool, children: &[Ref]) -> Ref {
        let first = self.refs.len() as u32;
        self.refs.extend_from_slice(children);
        let range = Children { first, count: children.len() as u32 };
        let index = (object && children.len() > Index::FROM)
            .then(|| Index::build(children.len(), |at| self.key(children[at as usize])).ok())
            .flatten();
        let shape = if object { Shape::Object(range) } else { Shape::Array(range) };
        self.joins.push(Join { like, shape, index });
        Ref::join(self.joins.len() - 1)
    }

    /// Adds a value that has the key and place of `like` and the content of `other`.
    pub(crate) fn add_same(&mut self, like: Ref, other: Ref) -> Ref {
        self.joins.push(Join { like, shape: Shape::Same(other), index: None });
        Ref::join(self.joins.len() - 1)
    }

    /// Rebuilds the tree with what `change` makes of leaves and tables, copying only the way to each change.
    pub(crate) fn rewrite<C>(
        &mut self,
        at: Ref,
        path: &mut Vec<String>,
        change: &mut C,
    ) -> Result<Option<Ref>>
    where
        C: FnMut(&mut Tree, Ref, &[String]) -> Result<Option<Ref>>,
    {
        let (children, object) = match self.value(at).payload() {
            Payload::Object(children) => (children, true),
            Payload::Array(children) => (children, false),
            _ => return change(self, at, path),
        };
        let parent = self.value(at).at;
        let mut changed: Option<Vec<Ref>> = None;
        for position in 0..children.count {
            let child = self.child(parent, children, position);
            path.push(if object { self.key(child).to_owned() } else { position.to_string() });
            let new = self.rewrite(child, path, change)?;
            path.pop();
            if let Some(new) = new {
                let all = || (0..children.count).map(|at| self.child(parent, children, at)).collect();
                changed.get_or_insert_with(all)[position as usize] = new;
            }
        }
        Ok(changed.map(|children| self.add_join(at, object, &children)))
    }

    /// Marks what the patterns cover, in the tree and in the layers that it was made of.
    pub(crate) fn mark_secrets(&mut self, layers: &[Ref], patterns: &[Pattern]) {
        let marked = self.covered(layers, patterns);
        self.secrets.extend(marked);
    }

    /// As [`mark_secrets`](Tree::mark_secrets), once, when the tree is shared already.
    pub(crate) fn mark_late_secrets(&self, layers: &[Ref], patterns: &[Pattern]) {
        self.late_secrets.get_or_init(|| self.covered(layers, patterns));
    }

    fn covered(&self, layers: &[Ref], patterns: &[Pattern]) -> Marked {
        let mut marked = Marked::default();
        for root in layers.iter().copied().chain([self.root]) {
            for pattern in patterns {
                self.value(root).matching(&pattern.0, &mut |value| {
                    value.each(&mut |value| {
                        marked.insert(value.at);
                        marked.insert(value.named);
                    })
                });
            }
        }
        marked
    }

    pub(crate) fn source_of(&self, at: Ref) -> (Arc<Source>, Range<usize>) {
        let mut at = at;
        if let Some(template) = self.templates.get(&at) {
            at = *template;
        }
        let (doc, node) = self.like(at);
        (doc.source.clone(), doc.node(node).span())
    }
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.root(), f)
    }
}

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
        let Payload::Object(children) = self.payload() else { return None };
        let at = self.tree.find(self.at, children, key)?;
        Some(self.tree.value(self.tree.child(self.at, children, at)))
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

    /// Whether both are one value of one document, so that they need not be compared.
    pub(crate) fn shares(self, other: Value<'_>) -> bool {
        self.at.as_join().is_none()
            && other.at.as_join().is_none()
            && self.at.node == other.at.node
            && Arc::ptr_eq(&self.tree.docs[self.at.doc()], &other.tree.docs[other.at.doc()])
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
        self.node().is_some_and(Node::is_secret)
            || [Some(&self.tree.secrets), self.tree.late_secrets.get()].into_iter().flatten().any(|marked| {
                !marked.is_empty() && (marked.contains(&self.at) || marked.contains(&self.named))
            })
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
        if std::ptr::eq(self.tree, other.tree) && self.at == other.at {
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

pub(crate) fn not_there(path: &str) -> Error {
    Error::new(ErrorKind::NotFound, "no layer sets this key").in_path(path)
}
