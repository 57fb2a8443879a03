//! What each layer did to a key, read off the trees before and after it.

use std::collections::HashSet;
use std::sync::Arc;

use serde_json::Value as Json;

use super::{Contribution, Effect, Explanation};
use crate::doc::Kind;
use crate::error::Result;
use crate::interpolate::{Piece, is_reference, parts};
use crate::path;
use crate::tree::{Tree, Value, not_there};

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

/// What one layer did to a path.
struct Step<'t> {
    /// The value of the layer that did it.
    value: Value<'t>,
    effect: Effect,
    /// Whether what the layers below said still holds beside it.
    keeps: bool,
    /// Whether it changes anything.
    counts: bool,
}

/// A text that stands for the table or list that a path goes on in.
struct Detour<'t> {
    /// How many parts of the path lead to the text.
    depth: usize,
    value: Value<'t>,
    template: Value<'t>,
}

impl Tree {
    /// Why a key has the value that it has here: each layer that has a say, file, line and column, and which one wins.
    ///
    /// ```
    /// use swarm_config::{ConfigLoader, Format};
    ///
    /// let tree = ConfigLoader::new()
    ///     .text("base.toml", Format::Toml, "port = 80")
    ///     .text("local.toml", Format::Toml, "port = 8080")
    ///     .load_tree()?;
    /// let why = tree.explain("port")?.to_string();
    /// assert_eq!(why, "port = 8080\n  -> local.toml:1:8: 8080\n     base.toml:1:8: 80");
    /// # Ok::<(), swarm_config::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// When no layer sets the key, or `path` is no path.
    pub fn explain(&self, path: &str) -> Result<Explanation> {
        let segments = path::parse(path)?;
        let explanation = self.explain_path(&segments, &mut Followed::new());
        match explanation.layers.is_empty() {
            true => Err(not_there(self, &segments)),
            false => Ok(explanation),
        }
    }

    /// The explanation of every key that is not a table, in the order of the configuration.
    pub fn explain_all(&self) -> Vec<Explanation> {
        let mut out = Vec::new();
        self.leaves(self.root(), &mut Vec::new(), &mut out, &mut Followed::new());
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
        let value = self.walk(path);
        let detour = value.and_then(|_| self.detour(path));
        let secret = value.is_some_and(Value::is_secret) || self.hides(path);
        let shown = |value: Value<'_>| if secret { Json::from(crate::tree::MASK) } else { value.to_json() };
        let mut layers: Vec<Contribution> = Vec::new();
        for step in self.steps(path, detour.as_ref().map(|detour| detour.depth)) {
            if !step.keeps {
                layers.iter_mut().for_each(|layer| layer.wins = false);
            }
            // A reference to a secret is none, wherever it stands.
            let reference =
                step.value.as_str().filter(|text| self.origins.interpolated && is_reference(text));
            layers.push(Contribution {
                location: step.value.location(),
                effect: step.effect,
                value: reference.map_or_else(|| shown(step.value), Json::from),
                wins: step.counts,
            });
        }
        layers.reverse();
        let default = value.filter(|value| self.is_default(*value)).map(|value| (value, Effect::Default));
        let through = detour.as_ref().filter(|detour| default.is_none() && self.is_default(detour.value));
        if let Some((value, effect)) = default.or(through.map(|detour| (detour.template, Effect::Refers))) {
            layers.iter_mut().for_each(|layer| layer.wins = false);
            let (location, value) = (value.location(), shown(value));
            layers.push(Contribution { location, effect, value, wins: true });
        }
        let template = detour.as_ref().map(|detour| (detour.template, &path[detour.depth..]));
        let template = template.or_else(|| Some((self.template(value?.named)?, &path[path.len()..])));
        let references = template.filter(|_| value.is_some()).map(|(template, rest)| {
            followed.depth += 1;
            let references = self.references(template, rest, followed);
            followed.depth -= 1;
            references
        });
        Explanation {
            path: path.to_vec(),
            value: value.map(shown),
            layers,
            references: references.unwrap_or_default(),
        }
    }

    /// The explanations of what a template refers to, or of what is at `rest` below that.
    fn references(&self, template: Value<'_>, rest: &[String], followed: &mut Followed) -> Vec<Explanation> {
        let mut references = Vec::new();
        let text = template.as_str().filter(|_| followed.depth <= DEPTH).unwrap_or_default();
        for part in parts(text).unwrap_or_default() {
            let Piece::Reference { name, .. } = part else { continue };
            let Some(left) = followed.left.checked_sub(1) else { break };
            followed.left = left;
            let Some(mut target) = path::parse(name).ok().filter(|_| !name.contains(':')) else { continue };
            target.extend_from_slice(rest);
            // What a default added where the reference stands is not there.
            let is_there = rest.is_empty() || self.walk(&target).is_some();
            if is_there && !followed.paths.contains(&target) {
                references.push(self.explain_path(&target, followed));
            }
        }
        references
    }

    fn is_default(&self, value: Value<'_>) -> bool {
        let (source, _) = value.place();
        self.origins.defaults.iter().any(|defaults| Arc::ptr_eq(&source, defaults))
    }

    /// The text on the way to a path that stands for a table or list elsewhere.
    fn detour(&self, path: &[String]) -> Option<Detour<'_>> {
        let mut value = self.root();
        for (depth, part) in path.iter().enumerate() {
            if let Some(template) = self.template(value.named) {
                return Some(Detour { depth, value, template });
            }
            value = value.child(part)?;
        }
        None
    }

    /// What each layer did to a path, lowest first. `detour` is how many parts of it lead to the text that stands for the
    /// table or list that it goes on in.
    fn steps(&self, path: &[String], detour: Option<usize>) -> Vec<Step<'_>> {
        let mut below = None;
        let mut steps = Vec::new();
        for made in &self.origins.merged {
            let made = self.value(*made);
            steps.extend(self.step(below, made, path, detour));
            below = Some(made);
        }
        steps
    }

    /// What the layer did that made `made` of `below`. A merge leaves what it does not change as it is, and what it changes
    /// has its place in the layer: no rule of merging is followed a second time here.
    fn step<'t>(
        &'t self,
        below: Option<Value<'t>>,
        made: Value<'t>,
        path: &[String],
        detour: Option<usize>,
    ) -> Option<Step<'t>> {
        let (mut was, mut is) = (below, made);
        for (depth, part) in path.iter().enumerate() {
            if was.is_some_and(|was| was.named == is.named) {
                return None;
            }
            if let Some(child) = is.child(part) {
                was = was.and_then(|was| was.child(part));
                is = child;
                continue;
            }
            let layer = self.origin(is.named);
            let null = layer.get(part).filter(|value| value.kind() == Kind::Null);
            let refers = detour == Some(depth) && is.as_str().is_some_and(|text| text.contains("${"));
            let was_there = was.is_some_and(|was| was.walk(&path[depth..]).is_some());
            let (value, effect) = match null {
                Some(null) if was_there || depth + 1 == path.len() => (null, Effect::Deletes),
                _ if refers => (layer, Effect::Refers),
                _ if !was_there => return None,
                _ if was.is_some_and(|was| was.kind() == is.kind()) => (layer, Effect::Removes),
                _ => (layer, Effect::Covers),
            };
            let counts = was_there || effect == Effect::Refers;
            return Some(Step { value, effect, keeps: !counts, counts });
        }
        if was.is_some_and(|was| was.named == is.named) {
            return None;
        }
        let layer = self.origin(is.named);
        let keeps = was
            .is_some_and(|was| self.origins.strategies.meeting(path, was.payload(), layer.payload()).keeps());
        Some(Step { value: layer, effect: Effect::Sets, keeps, counts: true })
    }
}
