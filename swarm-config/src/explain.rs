use std::collections::HashSet;
use std::fmt;

use serde_json::Value as Json;

use crate::doc::Kind;
use crate::error::Result;
use crate::interpolate::{Part, is_reference, parts};
use crate::loader::Loaded;
use crate::merge::MergeStrategy;
use crate::path::{self, Dotted};
use crate::source::Location;
use crate::tree::{Value, not_there};

/// Why a key has its value: every layer that has a say, and which one wins.
#[derive(Debug, Clone)]
pub struct Explanation {
    path: String,
    value: Option<Json>,
    layers: Vec<Contribution>,
    references: Vec<Explanation>,
}

/// What one layer says of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Contribution {
    location: Location,
    effect: Effect,
    value: Json,
    wins: bool,
}

/// What a layer does to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// It sets the key.
    Sets,
    /// It deletes the key, or a table that the key is in.
    Deletes,
    /// It puts another kind of value where the table was that the key is in.
    Covers,
    /// The schema has it as the default, since no layer sets it.
    Default,
}

impl Contribution {
    /// Where the layer says it.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// What the layer does to the key.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// The value as the layer has it, before interpolation; asterisks for a secret.
    pub fn value(&self) -> &Json {
        &self.value
    }

    /// Whether it decides. Several do where tables are merged.
    pub fn wins(&self) -> bool {
        self.wins
    }
}

impl Explanation {
    /// The key.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The value that the configuration has; `None` if a layer deleted it.
    pub fn value(&self) -> Option<&Json> {
        self.value.as_ref()
    }

    /// The layers that have a say, the highest first.
    pub fn layers(&self) -> &[Contribution] {
        &self.layers
    }

    /// The explanations of the keys that the value refers to with `${…}`, and of what those refer to, 8 deep. Each key
    /// is explained where it is first referred to, and no more than 10,000 references are followed.
    pub fn references(&self) -> &[Explanation] {
        &self.references
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, indent: usize) -> fmt::Result {
        let pad = " ".repeat(indent);
        match &self.value {
            Some(value) => write!(f, "{pad}{} = {value}", self.path)?,
            None => write!(f, "{pad}{} is not set", self.path)?,
        }
        for layer in &self.layers {
            let mark = if layer.wins { "->" } else { "  " };
            write!(f, "\n{pad}  {mark} {}: ", layer.location)?;
            match layer.effect {
                Effect::Sets => write!(f, "{}", layer.value)?,
                Effect::Deletes => f.write_str("deleted")?,
                Effect::Covers => write!(f, "covered by {}", layer.value)?,
                Effect::Default => write!(f, "{} by default", layer.value)?,
            }
        }
        for reference in &self.references {
            f.write_str("\n")?;
            reference.write(f, indent + 6)?;
        }
        Ok(())
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}

/// How deep references are followed, and how many of them.
const DEPTH: usize = 8;
const REFERENCES: usize = 10_000;

/// The references that were followed, since a few short texts can refer to each other in very many ways.
struct Followed {
    /// What was explained, which is not explained again.
    paths: HashSet<Vec<String>>,
    left: usize,
    depth: usize,
}

impl Followed {
    fn new() -> Followed {
        Followed { paths: HashSet::new(), left: REFERENCES, depth: 0 }
    }
}

impl Loaded {
    /// Explains one key.
    pub(crate) fn explain(&self, path: &str) -> Result<Explanation> {
        let segments = path::parse(path)?;
        let explanation = self.explain_path(&segments, &mut Followed::new());
        match explanation.layers.is_empty() {
            true => Err(not_there(path)),
            false => Ok(explanation),
        }
    }

    /// Explains every key that is not a table.
    pub(crate) fn explain_all(&self) -> Vec<Explanation> {
        let mut out = Vec::new();
        self.leaves(self.tree.root(), &mut Vec::new(), &mut out, &mut Followed::new());
        out
    }

    fn leaves(
        &self,
        value: Value<'_>,
        path: &mut Vec<String>,
        out: &mut Vec<Explanation>,
        followed: &mut Followed,
    ) {
        if value.kind() != Kind::Object || value.is_empty() {
            followed.paths.clear();
            return out.push(self.explain_path(path, followed));
        }
        for (key, child) in value.entries() {
            path.push(key.to_owned());
            self.leaves(child, path, out, followed);
            path.pop();
        }
    }

    fn explain_path(&self, path: &[String], followed: &mut Followed) -> Explanation {
        followed.paths.insert(path.to_vec());
        let value = self.tree.walk(path);
        let secret = value.is_some_and(Value::is_secret) || self.hides(path);
        let shown = |value: Value<'_>| if secret { Json::from(crate::tree::MASK) } else { value.to_json() };
        let mut layers: Vec<Contribution> = Vec::new();
        let mut decided = false;
        for root in self.layers.iter().rev() {
            let Some((found, effect)) = self.in_layer(self.tree.value(*root), path) else { continue };
            // What adds to the layers below leaves them their say; anything else hides them.
            let adds = matches!(
                (value.map(Value::kind), self.strategies.at(path)),
                (Some(Kind::Object), MergeStrategy::Deep)
                    | (Some(Kind::Array), MergeStrategy::Append | MergeStrategy::ByKey(_))
            );
            let open =
                adds && effect == Effect::Sets && value.is_some_and(|value| value.kind() == found.kind());
            // A reference to a secret is none, wherever it stands.
            let reference = found.as_str().filter(|text| self.interpolated && is_reference(text));
            layers.push(Contribution {
                location: found.location(),
                effect,
                value: reference.map_or_else(|| shown(found), Json::from),
                wins: !decided,
            });
            decided |= !open;
        }
        let mut references = Vec::new();
        if let Some(value) = value {
            let origin = self.tree.source_of(value.named).0;
            if self.defaults.iter().any(|defaults| std::sync::Arc::ptr_eq(&origin, defaults)) {
                for layer in &mut layers {
                    layer.wins = false;
                }
                let location = value.location();
                layers.push(Contribution {
                    location,
                    effect: Effect::Default,
                    value: shown(value),
                    wins: true,
                });
            }
            if followed.depth < DEPTH
                && followed.left > 0
                && let Some(template) = self.tree.templates.get(&value.named)
                && let Some(text) = self.tree.value(*template).as_str()
            {
                followed.depth += 1;
                for part in parts(text).unwrap_or_default() {
                    if let Part::Reference { name, .. } = part
                        && let Some(left) = followed.left.checked_sub(1)
                    {
                        followed.left = left;
                        if !name.contains(':')
                            && let Ok(target) = path::parse(name)
                            && !followed.paths.contains(&target)
                        {
                            references.push(self.explain_path(&target, followed));
                        }
                    }
                }
                followed.depth -= 1;
            }
        }
        Explanation { path: Dotted(path).to_string(), value: value.map(shown), layers, references }
    }

    /// What a layer says of a path.
    fn in_layer<'a>(&'a self, root: Value<'a>, path: &[String]) -> Option<(Value<'a>, Effect)> {
        let mut value = root;
        for (depth, part) in path.iter().enumerate() {
            if value.kind() == Kind::Null && depth > 0 {
                return Some((value, Effect::Deletes));
            }
            value = match value.kind() {
                Kind::Object => value.get(part)?,
                Kind::Array => {
                    let merged = self.tree.walk(&path[..=depth]);
                    match (self.strategies.at(&path[..depth]), merged) {
                        (MergeStrategy::Append, Some(merged)) => {
                            value.items().find(|item| same(*item, merged))?
                        }
                        (MergeStrategy::ByKey(key), Some(merged)) => value
                            .items()
                            .find(|item| item.get(key).is_some() && item.get(key) == merged.get(key))?,
                        _ => value.child(part)?,
                    }
                }
                _ => return Some((value, Effect::Covers)),
            };
        }
        match value.kind() {
            Kind::Null if !path.is_empty() && self.tree.walk(path).is_none() => {
                Some((value, Effect::Deletes))
            }
            _ => Some((value, Effect::Sets)),
        }
    }
}

/// Whether both were written at one place.
fn same(one: Value<'_>, two: Value<'_>) -> bool {
    let ((one, from), (two, to)) = (one.place(), two.place());
    std::sync::Arc::ptr_eq(&one, &two) && from == to
}
