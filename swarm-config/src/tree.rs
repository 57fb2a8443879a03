//! What layers make together: a tree of references into the documents that were read.

use std::collections::HashMap;
use std::fmt;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::doc::{Children, Doc, Payload};
use crate::error::{Error, ErrorKind, Result};
use crate::index::Index;
use crate::limits::Limits;
use crate::loader::nearest;
use crate::merge::Strategies;
use crate::path::{self, Dotted};
use crate::report::Report;
use crate::source::{Format, Source};

mod de;
mod secrets;
mod ser;
mod value;

pub(crate) use de::{Extracted, Hidden, Unknown, extract, extract_below};
pub(crate) use ser::MASK;
pub use value::Value;

use secrets::Secrets;

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
    /// Warnings of the load that it was made in.
    pub(crate) report: OnceLock<Report>,
    pub(crate) origins: Origins,
    secrets: Secrets,
}

/// What a tree was made of, and how.
pub(crate) struct Origins {
    /// The root of each layer, lowest first.
    pub(crate) layers: Vec<Ref>,
    /// What each layer made of those below it.
    pub(crate) merged: Vec<Ref>,
    pub(crate) strategies: Strategies,
    /// Where values come from that no layer sets.
    pub(crate) defaults: Vec<Arc<Source>>,
    /// Whether `${…}` stands for something.
    pub(crate) interpolated: bool,
}

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
    pub(crate) content: Content,
    keys: Keys,
}

/// How a key of a join is found.
enum Keys {
    OneByOne,
    Indexed(Index),
    /// The first children have the keys of this table, in its order; the few after them have others.
    Below(Ref),
}

#[derive(Clone, Copy)]
pub(crate) enum Content {
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
            report: OnceLock::new(),
            origins: Origins {
                layers: vec![root],
                merged: vec![root],
                strategies: Strategies::default(),
                defaults: Vec::new(),
                interpolated: false,
            },
            secrets: Secrets::default(),
        }
    }

    /// The value at the root.
    pub fn root(&self) -> Value<'_> {
        self.value(self.root)
    }

    /// The value at a path such as `db.hosts.0`; the whole at the empty one. A key that holds a dot or nothing is written
    /// in quotes, as in `hosts."example.org"`.
    pub fn get(&self, path: &str) -> Option<Value<'_>> {
        // The plain case without allocating; quotes need unescaping.
        if !path.is_empty() && !path.contains('"') {
            let mut parts = path.split('.');
            let named = |part: &str| !part.is_empty();
            return parts.try_fold(self.root(), |value, part| value.child(part).filter(|_| named(part)));
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
        self.root().walk(path)
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

    /// What was noticed while it was loaded and is no error, as in [`Snapshot::warnings`](crate::Snapshot::warnings).
    /// Reading one text notices nothing.
    pub fn warnings(&self) -> &Report {
        static NONE: Report = Report::NOTHING;
        self.report.get().unwrap_or(&NONE)
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
            && let Content::Same(other) = self.joins[join].content
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

    /// The value of a document that gives a value its place.
    pub(crate) fn origin(&self, mut at: Ref) -> Value<'_> {
        while let Some(join) = at.as_join() {
            at = self.joins[join].like;
        }
        self.value(at)
    }

    /// The template that a value was made from, also if something was added below it since.
    pub(crate) fn template(&self, mut at: Ref) -> Option<Value<'_>> {
        loop {
            match (self.templates.get(&at), at.as_join()) {
                (Some(template), _) => return Some(self.value(*template)),
                (None, Some(join)) => at = self.joins[join].like,
                (None, None) => return None,
            }
        }
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
        match self.joins[join].content {
            Content::Object(children) => Payload::Object(children),
            Content::Array(children) => Payload::Array(children),
            Content::Same(other) => self.payload(other),
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
                let among = |mut all: Range<u32>| all.find(|at| name(*at) == key);
                match &self.joins[join].keys {
                    Keys::Indexed(index) => index.find(key, name),
                    Keys::Below(below) => {
                        let Payload::Object(lower) = self.payload(*below) else { return None };
                        self.find(*below, lower, key).or_else(|| among(lower.count..children.count))
                    }
                    Keys::OneByOne => among(0..children.count),
                }
            }
        }
    }

    pub(crate) fn add_doc(&mut self, doc: Arc<Doc>) -> Ref {
        let root = doc.root();
        self.docs.push(doc);
        Ref::new(self.docs.len() - 1, root)
    }

    /// Adds a document that is a layer over those that are there.
    pub(crate) fn add_layer(&mut self, doc: Arc<Doc>) {
        let root = self.add_doc(doc);
        self.origins.layers.push(root);
    }

    /// Adds a container of children from anywhere.
    pub(crate) fn add_join(&mut self, like: Ref, object: bool, children: &[Ref]) -> Ref {
        let first = self.refs.len();
        self.refs.extend_from_slice(children);
        self.join_since(like, object, first, None)
    }

    /// Adds a container of the children that `refs` has got since it was that long. Those of `below`, if there is one,
    /// are the first of them, in its order and each under its key.
    pub(crate) fn join_since(&mut self, like: Ref, object: bool, first: usize, below: Option<Ref>) -> Ref {
        let children = &self.refs[first..];
        let range = Children { first: first as u32, count: children.len() as u32 };
        let keys = match object && children.len() > Index::FROM {
            true => below.and_then(|below| self.keys_below(below, range.count)).or_else(|| {
                Index::build(children.len(), |at| self.key(children[at as usize])).ok().map(Keys::Indexed)
            }),
            false => None,
        };
        let content = if object { Content::Object(range) } else { Content::Array(range) };
        self.joins.push(Join { like, content, keys: keys.unwrap_or(Keys::OneByOne) });
        Ref::join(self.joins.len() - 1)
    }

    /// Finds keys in the table below, where it has nearly all of `count`. Never in one that does so itself, so that many
    /// layers make no long way.
    fn keys_below(&self, below: Ref, count: u32) -> Option<Keys> {
        let below = match below.as_join().map(|join| &self.joins[join].keys) {
            Some(Keys::Below(further)) => *further,
            _ => below,
        };
        let Payload::Object(lower) = self.payload(below) else { return None };
        (count - lower.count <= Index::FROM as u32).then_some(Keys::Below(below))
    }

    /// Adds a value that has the key and place of `like` and the content of `other`.
    pub(crate) fn add_same(&mut self, like: Ref, other: Ref) -> Ref {
        self.joins.push(Join { like, content: Content::Same(other), keys: Keys::OneByOne });
        Ref::join(self.joins.len() - 1)
    }

    /// Puts other values in place of some below `at`, copying only the way to each. Answers with what became of `at`, if it
    /// is not what it was.
    pub(crate) fn replace<H: BuildHasher>(&mut self, at: Ref, new: &HashMap<Ref, Ref, H>) -> Option<Ref> {
        let value = self.value(at);
        let (children, object) = match value.payload() {
            Payload::Object(children) => (children, true),
            Payload::Array(children) => (children, false),
            _ => return new.get(&at).copied(),
        };
        let parent = value.at;
        let mut changed: Option<Vec<Ref>> = None;
        for position in 0..children.count {
            let child = self.child(parent, children, position);
            if let Some(new) = self.replace(child, new) {
                let all = || (0..children.count).map(|at| self.child(parent, children, at)).collect();
                changed.get_or_insert_with(all)[position as usize] = new;
            }
        }
        changed.map(|children| self.add_join(at, object, &children))
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

/// Nothing is at the path. Says which key may be meant by the first part that is not there.
pub(crate) fn not_there(tree: &Tree, path: &[String]) -> Error {
    let mut value = tree.root();
    let mut near = None;
    for (depth, part) in path.iter().enumerate() {
        if let Some(child) = value.child(part) {
            value = child;
            continue;
        }
        near = nearest(part, value.entries().map(|(key, _)| key)).map(|near| {
            let mut meant = path.to_vec();
            near.clone_into(&mut meant[depth]);
            // What follows is of use where it is there too.
            let whole = if tree.walk(&meant).is_some() { meant.len() } else { depth + 1 };
            format!("; did you mean `{}`?", Dotted(&meant[..whole]))
        });
        break;
    }
    let message = format!("no layer sets this key{}", near.unwrap_or_default());
    Error::new(ErrorKind::NotFound, message).in_path(Dotted(path))
}
