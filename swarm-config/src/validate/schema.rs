//! A JSON Schema as a graph: its parts, with what each refers to, here and in other documents.

use std::collections::{HashMap, HashSet};

use jsonschema::{Draft, Registry, Uri};
use serde_json::Value as Json;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

mod retrieve;

pub(super) use retrieve::{Retrieve, Retriever};

/// A schema, and the documents that its references lead to.
pub(crate) struct Documents<'s> {
    registry: Registry<'s>,
    base: Uri<String>,
    root: &'s Json,
    draft: Draft,
}

impl<'s> Documents<'s> {
    /// Fetches them. The schema must be shallow.
    pub(super) fn fetch(root: &'s Json, retriever: &Retriever) -> Result<Documents<'s>> {
        let draft = Draft::default().detect(root);
        let id = draft.create_resource_ref(root).id().unwrap_or("json-schema:///").to_owned();
        let registry = jsonschema::uri::from_str(&id).and_then(|mut base| {
            base.set_fragment(None);
            let registry = Registry::new().retriever(retriever.clone()).draft(draft);
            Ok((registry.add(base.as_str(), draft.create_resource_ref(root))?.prepare()?, base))
        });
        let (registry, base) = registry.map_err(|error| {
            let unusable = || Error::new(ErrorKind::Schema, format!("the schema is not usable: {error}"));
            retriever.refused().unwrap_or_else(unusable)
        })?;
        Ok(Documents { registry, base, root, draft })
    }

    /// The document alone.
    #[cfg(feature = "testing")]
    pub(crate) fn one(root: &'s Json) -> Result<Documents<'s>> {
        Documents::fetch(root, &Retriever::new(None, &Limits::default()))
    }
}

/// Every part of a schema, by number. What looks at schemas looks at this, so that all agree on what a schema says.
pub(crate) struct Schema<'s> {
    parts: Vec<Part<'s>>,
    numbers: HashMap<*const Json, usize>,
}

/// An object or a boolean that may be a schema, and the parts that it leads to.
pub(crate) struct Part<'s> {
    pub(crate) text: &'s Json,
    /// What applies to the same value: by reference, and by `allOf`.
    pub(crate) also: Vec<usize>,
    /// What may apply to the same value: alternatives, and what depends on conditions.
    pub(crate) ways: Vec<usize>,
    /// What the same value is asked, which does not say what it is like: `if` and `not`.
    pub(crate) asked: Vec<usize>,
    /// What applies to values below it.
    pub(crate) below: Vec<(Step<'s>, usize)>,
}

/// The way from a value to one below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step<'s> {
    /// A key of `properties`.
    Key(&'s str),
    /// A key that fits a pattern of `patternProperties`.
    Matching(&'s str),
    /// A key that is in neither: `additionalProperties`.
    OtherKey,
    /// A position.
    Position(usize),
    /// `items`.
    Item,
    /// Some of the keys or items.
    Some,
}

impl Part<'_> {
    /// All that has to do with the same value.
    pub(super) fn in_place(&self) -> impl Iterator<Item = usize> {
        self.also.iter().chain(&self.ways).chain(&self.asked).copied()
    }
}

impl<'s> Schema<'s> {
    /// Resolves each reference as the compiler does: what it cannot resolve, the compiler cannot either.
    pub(crate) fn resolve(documents: &'s Documents<'_>, limits: &Limits) -> Result<Schema<'s>> {
        let mut schema = Schema { parts: Vec::new(), numbers: HashMap::new() };
        let mut targets: HashMap<*const Json, Vec<&'s Json>> = HashMap::new();
        let mut seen = HashSet::new();
        let root: &'s Json = documents.root;
        let resolver = documents.registry.resolver(documents.base.clone());
        let mut open = vec![(root, resolver, documents.draft, Role::Schema)];
        while let Some((part, resolver, draft, role)) = open.pop() {
            let names = role == Role::Names;
            let draft = if names { draft } else { draft.detect(part) };
            let resolver = match role {
                Role::Names | Role::Target => resolver,
                Role::Schema => match resolver.in_subresource(draft.create_resource_ref(part)) {
                    Ok(resolver) => resolver,
                    Err(_) => continue,
                },
            };
            if !seen.insert((std::ptr::from_ref(part), resolver.base_uri().as_str().to_owned(), names)) {
                continue;
            }
            if seen.len() > limits.nodes {
                let message = format!("the schema has more than {} parts", limits.nodes);
                return Err(Error::new(ErrorKind::Limit, message));
            }
            match part {
                Json::Object(entries) if names => {
                    open.extend(entries.values().map(|part| (part, resolver.clone(), draft, Role::Schema)));
                }
                Json::Object(entries) => {
                    schema.add(part);
                    for keyword in REFERENCES {
                        let Some(reference) = part[keyword].as_str() else { continue };
                        let Ok(found) = resolver.lookup(reference) else { continue };
                        let (target, resolver, draft) = found.into_inner();
                        let known = targets.entry(part).or_default();
                        if !known.iter().any(|known| std::ptr::eq(*known, target)) {
                            known.push(target);
                        }
                        open.push((target, resolver, draft, Role::Target));
                    }
                    for (key, below) in entries {
                        // What an instance may be is no schema.
                        if !matches!(&**key, "const" | "enum" | "default" | "examples") {
                            let is_names = NAMES.contains(&&**key);
                            let role = if is_names { Role::Names } else { Role::Schema };
                            open.push((below, resolver.clone(), draft, role));
                        }
                    }
                }
                Json::Array(items) => {
                    open.extend(items.iter().map(|part| (part, resolver.clone(), draft, Role::Schema)))
                }
                Json::Bool(_) => schema.add(part),
                _ => {}
            }
        }
        for at in 0..schema.parts.len() {
            schema.lead(at, &targets);
        }
        Ok(schema)
    }

    fn add(&mut self, text: &'s Json) {
        let number = self.parts.len();
        if let std::collections::hash_map::Entry::Vacant(new) = self.numbers.entry(text) {
            new.insert(number);
            let (also, ways, asked, below) = Default::default();
            self.parts.push(Part { text, also, ways, asked, below });
        }
    }

    /// Finds the parts that one leads to.
    fn lead(&mut self, at: usize, targets: &HashMap<*const Json, Vec<&'s Json>>) {
        let text = self.parts[at].text;
        let one = |keyword: &str| text.get(keyword);
        let each = |keyword: &str| text[keyword].as_array().into_iter().flatten();
        let named = |keyword: &str| text[keyword].as_object().into_iter().flatten();
        let number = |part: &Json| self.numbers.get(&std::ptr::from_ref(part)).copied();

        let referred = targets.get(&std::ptr::from_ref(text)).into_iter().flatten().copied();
        let also = referred.chain(each("allOf")).filter_map(number).collect();
        let dependent = ["dependentSchemas", "dependencies"].into_iter().flat_map(named);
        let ways = ["anyOf", "oneOf"].into_iter().flat_map(each);
        let ways =
            ways.chain(["then", "else"].into_iter().filter_map(one)).chain(dependent.map(|(_, part)| part));
        let ways = ways.filter_map(number).collect();
        let asked = ["if", "not"].into_iter().filter_map(one).filter_map(number).collect();

        let keys = named("properties").map(|(key, part)| (Step::Key(key), part));
        let positions = ["prefixItems", "items"]
            .into_iter()
            .flat_map(|keyword| each(keyword).enumerate().map(|(at, part)| (Step::Position(at), part)));
        let steps = [
            ("additionalProperties", Step::OtherKey),
            ("items", Step::Item),
            ("unevaluatedProperties", Step::Some),
            ("additionalItems", Step::Some),
            ("unevaluatedItems", Step::Some),
            ("contains", Step::Some),
        ];
        let others = steps.into_iter().filter_map(|(keyword, step)| Some((step, one(keyword)?)));
        let matching = named("patternProperties").map(|(pattern, part)| (Step::Matching(pattern), part));
        let below = keys.chain(positions).chain(matching).chain(others);
        let below = below.filter_map(|(step, part)| Some((step, number(part)?))).collect();
        self.parts[at] = Part { text, also, ways, asked, below };
    }

    /// All parts. The first one is the schema itself.
    pub(crate) fn parts(&self) -> &[Part<'s>] {
        &self.parts
    }

    /// What applies to the same value as a part: by reference, and by `allOf`.
    #[cfg(feature = "testing")]
    pub(crate) fn also(&self, text: &'s Json) -> impl Iterator<Item = &'s Json> {
        let part = self.numbers.get(&std::ptr::from_ref(text)).map(|at| &self.parts[*at]);
        part.into_iter().flat_map(|part| &part.also).map(|at| self.parts[*at].text)
    }
}

/// How a part was come to.
#[derive(Clone, Copy, PartialEq)]
enum Role {
    Schema,
    /// Its keys are names.
    Names,
    /// By a reference, with a resolver that is in it already: a relative `$id` of its own must not count twice.
    Target,
}

const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
/// Keywords whose keys are names, of properties or of schemas.
const NAMES: [&str; 6] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];
