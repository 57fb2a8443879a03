//! A JSON Schema as a graph: its parts, with what each refers to, here and in other documents.

use std::collections::{HashMap, HashSet};

use jsonschema::{Draft, ReferencingError, Registry, Uri};
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
            // What a `$schema` names may be missing without harm, and is then not what is wrong.
            let is_missing = matches!(error, ReferencingError::Unretrievable { .. });
            let refused = retriever.refused();
            refused.filter(|why| is_missing || why.kind() == ErrorKind::Limit).unwrap_or_else(unusable)
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
    parts: Vec<Subschema<'s>>,
    numbers: HashMap<*const Json, usize>,
    /// References that lead nowhere, and the parts that have them.
    dangling: Vec<(&'s Json, &'s str)>,
}

/// An object or a boolean that may be a schema, and the parts that it leads to.
pub(crate) struct Subschema<'s> {
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

impl Subschema<'_> {
    /// All that has to do with the same value.
    pub(super) fn in_place(&self) -> impl Iterator<Item = usize> {
        self.also.iter().chain(&self.ways).chain(&self.asked).copied()
    }
}

impl<'s> Schema<'s> {
    /// Resolves each reference as the compiler does. What leads nowhere is for the compiler to refuse, for it may stand
    /// where nothing is a schema; what the compiler takes all the same is in [`lost`](Schema::lost).
    pub(crate) fn resolve(documents: &'s Documents<'_>, limits: &Limits) -> Result<Schema<'s>> {
        let mut schema = Schema { parts: Vec::new(), numbers: HashMap::new(), dangling: Vec::new() };
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
                    Err(_) => {
                        schema.add(part);
                        let id = part["$id"].as_str().or_else(|| part["id"].as_str());
                        schema.dangling.push((part, id.unwrap_or_default()));
                        continue;
                    }
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
                        let Ok(found) = resolver.lookup(reference) else {
                            if is_reference(keyword, draft) {
                                schema.dangling.push((part, reference));
                            }
                            continue;
                        };
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
            self.parts.push(Subschema { text, also, ways, asked, below });
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
        self.parts[at] = Subschema { text, also, ways, asked, below };
    }

    /// A reference that applies to some value and leads nowhere. What is behind it, secrets and defaults too, is not known.
    pub(super) fn lost(&self) -> Option<&'s str> {
        let mut reached = vec![false; self.parts.len()];
        let mut open = Vec::from_iter((!self.parts.is_empty()).then_some(0));
        while let Some(at) = open.pop() {
            if !std::mem::replace(&mut reached[at], true) {
                let part = &self.parts[at];
                open.extend(part.below.iter().map(|(_, next)| *next).chain(part.in_place()));
            }
        }
        let applies =
            |part: &Json| self.numbers.get(&std::ptr::from_ref(part)).is_some_and(|at| reached[*at]);
        self.dangling.iter().find(|(part, _)| applies(part)).map(|(_, reference)| *reference)
    }

    /// All parts. The first one is the schema itself.
    pub(crate) fn parts(&self) -> &[Subschema<'s>] {
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

/// Whether a keyword refers to something in a draft.
fn is_reference(keyword: &str, draft: Draft) -> bool {
    match keyword {
        "$dynamicRef" => !matches!(draft, Draft::Draft4 | Draft::Draft6 | Draft::Draft7 | Draft::Draft201909),
        "$recursiveRef" => draft == Draft::Draft201909,
        _ => true,
    }
}

const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
/// Keywords whose keys are names, of properties or of schemas.
const NAMES: [&str; 6] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_reference_that_leads_nowhere_is_known_where_it_applies() {
        for (schema, lost) in [
            (json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}}}), Some("#/$defs/b")),
            (json!({"properties": {"a": {"items": {"$ref": "#none"}}}}), Some("#none")),
            (json!({"if": {"$dynamicRef": "#none"}}), Some("#none")),
            (json!({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}), None),
            // Where nothing refers to it, where nothing is a schema, and where the draft knows no such keyword.
            (json!({"$defs": {"a": {"$ref": "#/$defs/b"}}}), None),
            (json!({"x-note": {"$ref": "#none"}, "default": {"$ref": "#none"}}), None),
            (json!({"properties": {"$ref": {"type": "string"}}}), None),
            (json!({"$schema": "http://json-schema.org/draft-07/schema#", "$dynamicRef": "#none"}), None),
        ] {
            let limits = Limits::default();
            let documents = Documents::fetch(&schema, &Retriever::new(None, &limits)).unwrap();
            assert_eq!(Schema::resolve(&documents, &limits).unwrap().lost(), lost, "{schema}");
        }
    }
}
