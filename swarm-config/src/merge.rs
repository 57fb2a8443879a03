//! Layers become one tree. Values stay where they are; only references to them move.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

use crate::doc::{Kind, Payload};
use crate::path::Pattern;
use crate::tree::{Ref, Tree, Value};

/// How a layer's value joins the one below it. A strategy is given for a key, and holds for that key alone.
///
/// Whatever the strategy, a value of another kind replaces, and `null` deletes the key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MergeStrategy {
    /// Tables are merged key by key; anything else is replaced. As RFC 7396 has it, and the default.
    Deep,
    /// The whole value is replaced, tables too.
    Replace,
    /// The items of a list go after those below it.
    Append,
    /// Items of a list that have the same value under this key are merged; others go after those below.
    ByKey(String),
}

/// Strategies for keys, the last that fits winning.
#[derive(Debug, Clone, Default)]
pub(crate) struct Strategies(pub(crate) Vec<(Pattern, MergeStrategy)>);

impl Strategies {
    fn at(&self, path: &[String]) -> &MergeStrategy {
        let fits = self.0.iter().rev().find(|(pattern, _)| pattern.is(path));
        fits.map_or(&MergeStrategy::Deep, |(_, strategy)| strategy)
    }

    pub(crate) fn join_lists(&self) -> bool {
        self.0.iter().any(|(_, strategy)| matches!(strategy, MergeStrategy::Append | MergeStrategy::ByKey(_)))
    }

    /// What becomes of two values at a path, the upper one last.
    pub(crate) fn meeting(&self, path: &[String], below: Payload, above: Payload) -> Meeting<'_> {
        let strategy = if self.0.is_empty() { &MergeStrategy::Deep } else { self.at(path) };
        match (below, above, strategy) {
            (_, Payload::Null, _) => Meeting::Delete,
            (Payload::Object(_), Payload::Object(_), MergeStrategy::Deep) => Meeting::Tables,
            (Payload::Array(_), Payload::Array(_), MergeStrategy::Append) => Meeting::Append,
            (Payload::Array(_), Payload::Array(_), MergeStrategy::ByKey(key)) => Meeting::ByKey(key),
            _ => Meeting::Replace,
        }
    }
}

/// What becomes of a value and the one below it.
pub(crate) enum Meeting<'s> {
    Delete,
    Tables,
    Append,
    ByKey(&'s str),
    /// The upper one stands alone.
    Replace,
}

impl Meeting<'_> {
    /// Whether something of the lower value may stay.
    pub(crate) fn keeps(&self) -> bool {
        matches!(self, Meeting::Tables | Meeting::Append | Meeting::ByKey(_))
    }
}

/// Merges the layers of a tree, lowest first, and keeps what each made of those below it.
pub(crate) fn merge(tree: &mut Tree, strategies: Strategies) {
    let layers = tree.origins.layers.clone();
    let mut merger = Merger { tree, strategies: &strategies, path: Vec::new() };
    let mut merged: Vec<Ref> = Vec::with_capacity(layers.len());
    for layer in layers {
        merged.push(match merged.last() {
            None => layer,
            Some(below) => merger.over(*below, layer).unwrap_or(layer),
        });
    }
    if let Some(root) = merged.last() {
        tree.root = *root;
    }
    tree.origins.merged = merged;
    tree.origins.strategies = strategies;
}

struct Merger<'t> {
    tree: &'t mut Tree,
    strategies: &'t Strategies,
    /// Kept only where there are strategies to look up.
    path: Vec<String>,
}

impl Merger<'_> {
    /// What `above` makes of `below`; nothing if it deletes it. Whatever is not as it was in `below` has its place in
    /// `above`: by that it can be told later which layer set it.
    fn over(&mut self, below: Ref, above: Ref) -> Option<Ref> {
        let strategies = self.strategies;
        match strategies.meeting(&self.path, self.tree.payload(below), self.tree.payload(above)) {
            Meeting::Delete => None,
            Meeting::Tables => Some(self.tables(below, above)),
            Meeting::Append => {
                let mut items = self.children(below);
                items.extend(self.children(above));
                Some(self.tree.add_join(above, false, &items))
            }
            Meeting::ByKey(key) => Some(self.lists(below, above, key)),
            Meeting::Replace => Some(self.alone(above)),
        }
    }

    /// A value with nothing below it: what it would delete is not there.
    fn alone(&mut self, above: Ref) -> Ref {
        let Payload::Object(children) = self.tree.payload(above) else { return above };
        let has_nulls = above.as_join().is_some() || self.tree.docs[above.doc()].has_nulls();
        if !has_nulls {
            return above;
        }
        let all = self.children(above);
        let mut kept = Vec::with_capacity(children.count as usize);
        for child in &all {
            if self.tree.value(*child).kind() != Kind::Null {
                kept.push(self.alone(*child));
            }
        }
        if kept == all { above } else { self.tree.add_join(above, true, &kept) }
    }

    fn children(&self, parent: Ref) -> Vec<Ref> {
        let (Payload::Object(children) | Payload::Array(children)) = self.tree.payload(parent) else {
            return Vec::new();
        };
        (0..children.count).map(|at| self.tree.child(parent, children, at)).collect()
    }

    fn tables(&mut self, below: Ref, above: Ref) -> Ref {
        let (Payload::Object(lower), Payload::Object(upper)) =
            (self.tree.payload(below), self.tree.payload(above))
        else {
            return above;
        };
        if upper.count == 0 {
            return below;
        }
        // What differs from the lower table. That may be long, and is copied once, into its place.
        let mut changed: Vec<(u32, Option<Ref>)> = Vec::new();
        let mut added: Vec<Ref> = Vec::new();
        for at in 0..upper.count {
            let child = self.tree.child(above, upper, at);
            let found = self.tree.find(below, lower, self.tree.key(child));
            let deep = !self.strategies.0.is_empty();
            if deep {
                self.path.push(self.tree.key(child).to_owned());
            }
            match found {
                Some(found) => {
                    let lower = self.tree.child(below, lower, found);
                    changed.push((found, self.over(lower, child)));
                }
                None if self.tree.value(child).kind() == Kind::Null => {}
                None => {
                    let new = self.alone(child);
                    added.push(new);
                }
            }
            if deep {
                self.path.pop();
            }
        }
        changed.sort_unstable_by_key(|(at, _)| *at);
        let all_stay = changed.iter().all(|(_, new)| new.is_some());
        let mut changed = changed.into_iter().peekable();
        let first = self.tree.refs.len();
        self.tree.refs.reserve(lower.count as usize + added.len());
        for at in 0..lower.count {
            let child = match changed.next_if(|(place, _)| *place == at) {
                Some((_, new)) => new,
                None => Some(self.tree.child(below, lower, at)),
            };
            self.tree.refs.extend(child);
        }
        self.tree.refs.extend(added);
        self.tree.join_since(above, true, first, all_stay.then_some(below))
    }

    fn lists(&mut self, below: Ref, above: Ref, key: &str) -> Ref {
        let mut items = self.children(below);
        // Where the items are, by what they have under the key; the first of those that have the same comes first.
        let mut index: HashMap<u64, Vec<usize>> = HashMap::with_capacity(items.len());
        for (at, item) in items.iter().enumerate() {
            if let Some(name) = self.tree.value(*item).get(key) {
                let places = index.entry(hash(name)).or_default();
                if !places.iter().any(|at| self.tree.value(items[*at]).get(key) == Some(name)) {
                    places.push(at);
                }
            }
        }
        for item in self.children(above) {
            let name = self.tree.value(item).get(key);
            let found = name.and_then(|name| {
                let places = index.entry(hash(name)).or_default();
                let found =
                    places.iter().copied().find(|at| self.tree.value(items[*at]).get(key) == Some(name));
                if found.is_none() {
                    places.push(items.len());
                }
                found
            });
            match found {
                Some(found) => {
                    self.path.push(found.to_string());
                    if let Some(merged) = self.over(items[found], item) {
                        items[found] = merged;
                    }
                    self.path.pop();
                }
                None => items.push(self.alone(item)),
            }
        }
        self.tree.add_join(above, false, &items)
    }
}

/// The same for values that are equal.
fn hash(value: Value<'_>) -> u64 {
    fn one<T: Hash>(value: T) -> u64 {
        // Seeded once a process: whoever writes the layers cannot make values meet.
        static SEEDS: std::sync::LazyLock<std::hash::RandomState> =
            std::sync::LazyLock::new(Default::default);
        SEEDS.hash_one(value)
    }
    match value.payload() {
        Payload::Text(_) => one(value.as_str()),
        Payload::Array(_) => one(value.items().map(hash).collect::<Vec<_>>()),
        // The order of keys does not matter.
        Payload::Object(_) => {
            value.entries().fold(0, |sum, (key, value)| sum.wrapping_add(one((key, hash(value)))))
        }
        Payload::Float(value) => one((value + 0.0).to_bits()),
        Payload::Int(value) => one(value),
        Payload::Uint(value) => one(value),
        Payload::Bool(value) => one(value),
        Payload::Null => 0,
    }
}
