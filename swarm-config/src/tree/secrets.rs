//! What of a tree is not shown.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use super::{Ref, Tree, Value};
use crate::doc::{Kind, Node};
use crate::path::Pattern;
use crate::source::Source;

/// More show while a type is read, when the tree is shared already.
#[derive(Default)]
pub(super) struct Secrets {
    /// Paths, in every layer.
    paths: RwLock<Vec<Pattern>>,
    marked: RwLock<Marked>,
}

type Marked = HashSet<Ref, foldhash::fast::RandomState>;

impl Tree {
    /// The paths that are secret.
    pub(crate) fn secrets(&self) -> RwLockReadGuard<'_, Vec<Pattern>> {
        self.secrets.paths.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what stands at a path is secret, whatever layer it stands in.
    pub(crate) fn hides(&self, path: &[String]) -> bool {
        self.secrets().iter().any(|known| known.covers(path))
    }

    /// Says which paths are secret, before anything is marked.
    pub(crate) fn name_secrets(&mut self, paths: Vec<Pattern>) {
        *self.secrets.paths.get_mut().unwrap_or_else(PoisonError::into_inner) = paths;
    }

    /// Makes more paths secret, and marks what they cover. Answers with those that were not.
    pub(crate) fn hide(&self, mut paths: Vec<Pattern>) -> Vec<Pattern> {
        let known = self.secrets();
        paths.retain(|path| !known.contains(path));
        drop(known);
        if !paths.is_empty() {
            self.mark_covered(&paths);
            let mut known = self.secrets.paths.write().unwrap_or_else(PoisonError::into_inner);
            known.extend_from_slice(&paths);
        }
        paths
    }

    /// Marks once more what is secret, in what was added to the tree since.
    pub(crate) fn mark_secrets(&self) {
        self.mark_covered(&self.secrets());
    }

    /// Marks values as secret.
    pub(crate) fn mark(&self, values: impl IntoIterator<Item = Ref>) {
        self.secrets.marked.write().unwrap_or_else(PoisonError::into_inner).extend(values);
    }

    /// Whether one of the values is marked.
    pub(super) fn marks(&self, values: [Ref; 2]) -> bool {
        let marked = self.marked();
        !marked.is_empty() && values.iter().any(|value| marked.contains(value))
    }

    fn marked(&self) -> RwLockReadGuard<'_, Marked> {
        self.secrets.marked.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks what the patterns cover, wherever it may be shown.
    fn mark_covered(&self, patterns: &[Pattern]) {
        // Where lists are joined, a position is another one in the layer than in what was made of it.
        let joined = if self.origins.strategies.join_lists() { &self.origins.merged[..] } else { &[] };
        let mut covered = Marked::default();
        for root in self.origins.layers.iter().chain(joined).chain([&self.root]) {
            for pattern in patterns {
                self.value(*root).matching(&pattern.0, &mut |value| {
                    value.each(&mut |value| covered.extend([value.at, value.named]));
                });
            }
        }
        self.mark(covered);
    }

    /// Where secrets stand in the sources of all documents: what is marked, and what the patterns cover.
    pub(crate) fn masked(&self, patterns: &[Pattern]) -> Vec<(Arc<Source>, Range<usize>)> {
        let mut found = Vec::new();
        let mut leaf = |value: Value<'_>| {
            if !matches!(value.kind(), Kind::Array | Kind::Object) {
                found.push(value.place());
            }
        };
        for value in self.marked().iter() {
            leaf(self.value(*value));
        }
        let layers = self.docs.iter().enumerate().map(|(at, doc)| Ref::new(at, doc.root()));
        for root in layers.chain([self.root]) {
            for pattern in patterns {
                self.value(root).matching(&pattern.0, &mut |value| value.each(&mut leaf));
            }
        }
        self.root().each(&mut |value| {
            if value.node().is_some_and(Node::is_secret) {
                found.push(value.place());
            }
        });
        found.sort_by_key(|(source, span)| (Arc::as_ptr(source), span.start, span.end));
        found.dedup_by(|(one, a), (two, b)| Arc::ptr_eq(one, two) && a == b);
        found
    }
}
