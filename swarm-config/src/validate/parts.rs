//! Which parts of a configuration show that the whole is valid, the others being known to be.

use std::collections::{BTreeSet, HashMap, HashSet};

use serde_json::Value as Json;

use super::schema::{Schema, Step};
use crate::diff::Spot;
use crate::tree::{Ref, Tree};

/// What a schema says of the values below one, as far as that matters here. Compiled once a schema.
///
/// Most keywords hold of a table if they hold of what it has by itself (its kind, its keys, how many there are) and other
/// schemas hold of each value below it. Then a change below matters to nothing but the values on the way to it. Where a
/// keyword looks at all that is below at once, such as `anyOf`, the value that it applies to is looked at whole.
pub(super) struct Parts {
    parts: Vec<Part>,
    /// Keys that some schema requires alone or with one other: jsonschema looks for those while it goes through a table.
    required: HashSet<String>,
}

struct Part {
    is_whole: bool,
    fields: HashMap<String, usize>,
    /// For keys that no field names.
    others: usize,
}

/// What makes the validity of a value depend on more than each value below it by itself, in any draft.
const WHOLE: [&str; 16] = [
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "dependentSchemas",
    "dependencies",
    "contains",
    "minContains",
    "maxContains",
    "unevaluatedProperties",
    "unevaluatedItems",
    "$dynamicRef",
    "$recursiveRef",
    "extends",
];

/// Sets of schemas that apply to one value. A schema that makes more of them is always looked at whole.
const MOST: usize = 2000;
/// Pairs of a field and a schema for other keys, at one value: one with more of them is looked at whole.
const PAIRS: usize = 100_000;
/// Schemas in all sets together. A schema with more of them is always looked at whole.
const LENGTHS: usize = 1_000_000;
/// Changes at once. With more of them there is little to be saved.
const SPOTS: usize = 1000;

/// The values that are looked at: some whole, and the way to them. Others are taken to be valid.
pub(super) struct Open<'p> {
    pub(super) ways: HashSet<Ref, foldhash::fast::RandomState>,
    pub(super) whole: HashSet<Ref, foldhash::fast::RandomState>,
    /// Keys that are shown to be there, whatever they hold.
    pub(super) required: &'p HashSet<String>,
}

impl Parts {
    pub(super) fn new(schema: &Schema<'_>) -> Parts {
        let few = |part: &Json| {
            let keys = part["required"].as_array().filter(|keys| keys.len() <= 2);
            keys.into_iter().flatten().filter_map(Json::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        let required = schema.parts().iter().flat_map(|part| few(part.text)).collect();
        Parts { parts: Parts::all(schema).unwrap_or_default(), required }
    }

    /// `None` where they are too many.
    fn all(schema: &Schema<'_>) -> Option<Vec<Part>> {
        let mut sets = Sets::default();
        sets.number(schema, &[0])?;
        let mut parts = Vec::new();
        while parts.len() < sets.all.len() {
            let set: Vec<_> = sets.all[parts.len()].iter().map(|at| &schema.parts()[*at]).collect();
            let is_whole = set.iter().any(|part| WHOLE.iter().any(|key| part.text.get(key).is_some()));
            let mut part = Part { is_whole, fields: HashMap::new(), others: 0 };
            if !is_whole {
                // Those for keys that are not named are counted as if they held of named ones too: it does no harm.
                let mut others: Vec<usize> = Vec::new();
                let mut fields: HashMap<&str, Vec<usize>> = HashMap::new();
                for (step, below) in set.iter().flat_map(|part| &part.below) {
                    match step {
                        Step::Key(key) => fields.entry(key).or_default().push(*below),
                        Step::Matching(_) | Step::OtherKey => others.push(*below),
                        Step::Position(_) | Step::Item | Step::Some => {}
                    }
                }
                if fields.len().saturating_mul(others.len()) > PAIRS {
                    part.is_whole = true;
                    parts.push(part);
                    continue;
                }
                part.others = sets.number(schema, &others)?;
                for (key, mut parts) in fields {
                    parts.extend(&others);
                    part.fields.insert(key.to_owned(), sets.number(schema, &parts)?);
                }
            }
            parts.push(part);
        }
        Some(parts)
    }

    /// What is to be looked at where a tree was valid before some values changed. `None` where that is all of it.
    pub(super) fn open<'p>(&'p self, tree: &Tree, spots: &[Spot<'_>]) -> Option<Open<'p>> {
        if self.parts.is_empty() || spots.len() > SPOTS {
            return None;
        }
        let mut open = Open { ways: HashSet::default(), whole: HashSet::default(), required: &self.required };
        for spot in spots {
            let (mut value, mut part) = (tree.root(), &self.parts[0]);
            let mut keys = spot.path.iter();
            loop {
                let Some(key) = keys.next().filter(|_| !part.is_whole) else {
                    open.whole.insert(value.named);
                    break;
                };
                open.ways.insert(value.named);
                // What is gone matters to the table that it was in.
                let Some(below) = value.get(key) else { break };
                value = below;
                part = &self.parts[part.fields.get(*key).copied().unwrap_or(part.others)];
            }
        }
        (!open.whole.contains(&tree.root().named)).then_some(open)
    }
}

/// Sets of schemas that apply to one value, by number.
#[derive(Default)]
struct Sets {
    known: HashMap<Vec<usize>, usize>,
    all: Vec<Vec<usize>>,
    lengths: usize,
}

impl Sets {
    /// `None` once there are too many.
    fn number(&mut self, schema: &Schema<'_>, parts: &[usize]) -> Option<usize> {
        let set = closure(schema, parts);
        if let Some(known) = self.known.get(&set) {
            return Some(*known);
        }
        self.lengths += set.len();
        self.all.push(set.clone());
        self.known.insert(set, self.all.len() - 1);
        (self.all.len() <= MOST && self.lengths <= LENGTHS).then_some(self.all.len() - 1)
    }
}

/// The parts, and those that they take in by reference and `allOf`, in order.
fn closure(schema: &Schema<'_>, parts: &[usize]) -> Vec<usize> {
    let mut all = BTreeSet::new();
    let mut open = parts.to_vec();
    while let Some(part) = open.pop() {
        if all.insert(part) {
            open.extend(&schema.parts()[part].also);
        }
    }
    all.into_iter().collect()
}
