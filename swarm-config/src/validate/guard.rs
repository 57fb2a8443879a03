//! What is checked of a schema before it is compiled: that its references end, and that it is not a bomb.

use std::collections::{HashMap, HashSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jsonschema::{Draft, Registry, Uri};
use serde_json::Value as Json;

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

type Fetched = Result<Json, Box<dyn std::error::Error + Send + Sync>>;

pub(super) type Retrieve = dyn Fn(&str) -> Fetched + Send + Sync;

/// Documents that a schema may lead to, each fetched once.
const DOCUMENTS: usize = 1000;

/// Fetches for the guard, and gives the compiler what the guard saw.
#[derive(Clone)]
pub(super) struct Retriever {
    retrieve: Option<Arc<Retrieve>>,
    limits: Limits,
    held: Arc<Mutex<Held>>,
}

#[derive(Default)]
struct Held {
    documents: HashMap<String, Json>,
    /// Why no more are fetched.
    refused: Option<Error>,
}

impl Retriever {
    pub(super) fn new(retrieve: Option<Arc<Retrieve>>, limits: &Limits) -> Retriever {
        Retriever { retrieve, limits: limits.clone(), held: Arc::default() }
    }

    fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn refuse(&self, error: Error) -> Fetched {
        let message = error.to_string();
        self.held().refused = Some(error);
        Err(message.into())
    }
}

impl jsonschema::Retrieve for Retriever {
    fn retrieve(&self, uri: &Uri<String>) -> Fetched {
        let uri = uri.as_str();
        if let Some(known) = self.held().documents.get(uri) {
            return Ok(known.clone());
        }
        let Some(retrieve) = &self.retrieve else { return Err(format!("nothing retrieves {uri}").into()) };
        if self.held().documents.len() >= DOCUMENTS {
            let message = format!("the schema leads to more than {DOCUMENTS} documents");
            return self.refuse(Error::new(ErrorKind::Limit, message));
        }
        let Ok(fetched) = catch_unwind(AssertUnwindSafe(|| retrieve(uri))) else {
            return Err(format!("the retriever panicked at {uri}").into());
        };
        let schema = fetched?;
        if let Err(error) = deep(&schema, 0, &self.limits) {
            return self.refuse(error);
        }
        self.held().documents.insert(uri.to_owned(), schema.clone());
        Ok(schema)
    }
}

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
            retriever.held().refused.take().unwrap_or_else(unusable)
        })?;
        Ok(Documents { registry, base, root, draft })
    }

    /// The document alone.
    #[cfg(feature = "testing")]
    pub(crate) fn one(root: &'s Json) -> Result<Documents<'s>> {
        Documents::fetch(root, &Retriever::new(None, &Limits::default()))
    }
}

/// A schema with what its references name, here and in other documents.
pub(crate) struct Refs<'s> {
    targets: HashMap<*const Json, Vec<&'s Json>>,
    /// Everything that may be a schema.
    parts: Vec<&'s Json>,
}

impl<'s> Refs<'s> {
    /// Resolves each reference as the compiler does: what it cannot resolve, the compiler cannot either.
    pub(crate) fn new(documents: &'s Documents<'_>, limits: &Limits) -> Result<Refs<'s>> {
        let mut refs = Refs { targets: HashMap::new(), parts: Vec::new() };
        let mut seen = HashSet::new();
        let root: &'s Json = documents.root;
        let resolver = documents.registry.resolver(documents.base.clone());
        let mut open = vec![(root, resolver, documents.draft, false)];
        while let Some((part, resolver, draft, names)) = open.pop() {
            let draft = if names { draft } else { draft.detect(part) };
            let resolver = match names {
                true => resolver,
                false => match resolver.in_subresource(draft.create_resource_ref(part)) {
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
                    open.extend(entries.values().map(|part| (part, resolver.clone(), draft, false)));
                }
                Json::Object(entries) => {
                    refs.parts.push(part);
                    for keyword in REFERENCES {
                        let Some(reference) = part[keyword].as_str() else { continue };
                        let Ok(found) = resolver.lookup(reference) else { continue };
                        let (target, resolver, draft) = found.into_inner();
                        let targets = refs.targets.entry(part).or_default();
                        if !targets.iter().any(|known| std::ptr::eq(*known, target)) {
                            targets.push(target);
                        }
                        open.push((target, resolver, draft, false));
                    }
                    for (key, below) in entries {
                        // What an instance may be is no schema.
                        if !matches!(&**key, "const" | "enum" | "default" | "examples") {
                            open.push((below, resolver.clone(), draft, NAMES.contains(&&**key)));
                        }
                    }
                }
                Json::Array(items) => {
                    open.extend(items.iter().map(|part| (part, resolver.clone(), draft, false)))
                }
                _ => {}
            }
        }
        Ok(refs)
    }

    /// The subschemas that apply to the same value as this one.
    pub(crate) fn in_place(&self, schema: &'s Json, alternatives: bool) -> Vec<&'s Json> {
        let mut found = self.targets.get(&std::ptr::from_ref(schema)).cloned().unwrap_or_default();
        found.extend(schema["allOf"].as_array().into_iter().flatten());
        if alternatives {
            for keyword in ["anyOf", "oneOf"] {
                found.extend(schema[keyword].as_array().into_iter().flatten());
            }
            for keyword in ["not", "if", "then", "else"] {
                found.extend(schema.get(keyword));
            }
            for keyword in ["dependentSchemas", "dependencies"] {
                let dependent = schema[keyword].as_object().into_iter().flatten();
                found.extend(dependent.map(|(_, part)| part).filter(|part| !part.is_array()));
            }
        }
        found
    }
}

const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
/// Keywords whose keys are names, of properties or of schemas.
const NAMES: [&str; 6] =
    ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas", "dependencies"];

/// Refuses references that lead back to themselves without going into a value, and schemas that apply too many
/// subschemas to one value.
pub(super) fn check(refs: &Refs<'_>, depth: usize, limits: &Limits) -> Result<Cost> {
    let mut cost = Cost { subschemas: 0, depth };
    let mut counted: HashMap<*const Json, Option<usize>> = HashMap::new();
    for part in &refs.parts {
        cost.subschemas = cost.subschemas.max(count(refs, part, &mut counted, limits, 0)?);
    }
    Ok(cost)
}

/// What a schema was found to take.
pub(super) struct Cost {
    /// Applied to one value, at most.
    subschemas: usize,
    depth: usize,
}

impl Cost {
    pub(super) fn within(&self, limits: &Limits) -> Result<()> {
        if self.depth > limits.max_depth() {
            return Err(too_deep(limits));
        }
        if self.subschemas > limits.subschemas {
            return Err(too_many(limits));
        }
        Ok(())
    }
}

fn too_deep(limits: &Limits) -> Error {
    let message = format!("the schema has more than {} levels of nesting", limits.max_depth());
    Error::new(ErrorKind::Limit, message)
}

fn too_many(limits: &Limits) -> Error {
    let message = format!("the schema applies more than {} subschemas to one value", limits.subschemas);
    Error::new(ErrorKind::Limit, message)
}

fn count<'s>(
    refs: &Refs<'s>,
    schema: &'s Json,
    counted: &mut HashMap<*const Json, Option<usize>>,
    limits: &Limits,
    depth: usize,
) -> Result<usize> {
    let wrong = |kind, message: String| Err(Error::new(kind, message));
    match counted.get(&std::ptr::from_ref(schema)) {
        Some(Some(count)) => return Ok(*count),
        Some(None) => {
            let name = schema["$ref"].as_str().unwrap_or("it");
            return wrong(ErrorKind::Schema, format!("the schema's reference `{name}` leads back to itself"));
        }
        None => {}
    }
    if depth > limits.max_depth() {
        return wrong(
            ErrorKind::Limit,
            format!("the schema has more than {} references in a row", limits.max_depth()),
        );
    }
    counted.insert(schema, None);
    let mut total = 1usize;
    for part in refs.in_place(schema, true) {
        total = total.saturating_add(count(refs, part, counted, limits, depth + 1)?);
    }
    if total > limits.subschemas {
        return Err(too_many(limits));
    }
    counted.insert(schema, Some(total));
    Ok(total)
}

/// How deep a schema is. One given as a value may be nested deeper than any reader lets through.
pub(super) fn deep(schema: &Json, depth: usize, limits: &Limits) -> Result<usize> {
    if depth > limits.max_depth() {
        return Err(too_deep(limits));
    }
    let most = |most: usize, part: &Json| deep(part, depth + 1, limits).map(|found| most.max(found));
    match schema {
        Json::Object(entries) => entries.values().try_fold(depth, most),
        Json::Array(items) => items.iter().try_fold(depth, most),
        _ => Ok(depth),
    }
}
