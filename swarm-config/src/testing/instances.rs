use std::sync::Arc;

use serde_json::{Map, Value as Json};

use crate::error::Result;
use crate::layer;
use crate::limits::Limits;
use crate::tree::Tree;
use crate::validate::{ConfigValidator, Documents, Schema};

/// Configurations that a schema lets through, and ones that it does not, for tests of what reads them.
///
/// The same seed gives the same ones. Each was validated: what [`valid`](Instances::valid) answers is valid, and what
/// [`invalid`](Instances::invalid) answers is a valid one with a single thing wrong. Texts for a `pattern` are not made
/// up; give such a field an `enum`, an `examples` or a `default` to be drawn from.
///
/// ```
/// use serde_json::json;
/// use swarm_config::testing::Instances;
///
/// let schema = json!({
///     "type": "object",
///     "properties": { "port": { "type": "integer", "minimum": 1, "maximum": 65535 } },
///     "required": ["port"],
/// });
/// let mut instances = Instances::new(schema, 7)?;
/// let port = instances.valid().unwrap()["port"].as_u64().unwrap();
/// assert!((1..=65535).contains(&port));
/// assert!(instances.invalid().is_some());
/// # Ok::<(), swarm_config::Error>(())
/// ```
#[derive(Debug)]
pub struct Instances {
    schema: Json,
    validator: ConfigValidator,
    random: Random,
}

/// How often a random one is tried before giving up.
const TRIES: usize = 100;
/// How deep a schema that holds itself is followed.
const DEPTH: usize = 6;

impl Instances {
    /// Instances of a schema, other ones for each seed.
    ///
    /// # Errors
    ///
    /// When the schema is not usable.
    pub fn new(schema: Json, seed: u64) -> Result<Instances> {
        let validator = ConfigValidator::builder().schema(schema.clone()).formats().build()?;
        Ok(Instances { schema, validator, random: Random(seed) })
    }

    /// The next valid one; nothing if none is found.
    pub fn valid(&mut self) -> Option<Json> {
        let documents = Documents::one(&self.schema).ok()?;
        let schema = Schema::resolve(&documents, &Limits::default()).ok()?;
        let random = &mut self.random;
        let validator = &self.validator;
        (0..TRIES).find_map(|_| {
            let made = Maker { schema: &schema, random }.value(&self.schema, 0);
            is_valid(validator, &made).then_some(made)
        })
    }

    /// The next that is wrong in one thing; nothing if none is found, as where everything is allowed.
    pub fn invalid(&mut self) -> Option<Json> {
        (0..TRIES).find_map(|_| {
            let mut broken = self.valid()?;
            let places = count(&broken);
            self.spoil(&mut broken, places);
            (!is_valid(&self.validator, &broken)).then_some(broken)
        })
    }

    /// Changes one value in one way.
    fn spoil(&mut self, value: &mut Json, places: usize) {
        let mut left = self.random.below(places);
        let way = self.random.below(6);
        let pick = self.random.next();
        at(value, &mut left, &mut |value| {
            *value = match (way, &mut *value) {
                (0, Json::Object(fields)) if !fields.is_empty() => {
                    let key = fields.keys().nth(pick as usize % fields.len()).cloned().unwrap_or_default();
                    fields.remove(&key);
                    return;
                }
                (1, Json::Object(fields)) => {
                    fields.insert("no-such-key".into(), Json::from(1));
                    return;
                }
                (2, Json::Array(items)) => {
                    items.clear();
                    return;
                }
                (3, Json::Number(_)) => Json::from(-1_000_000_007_i64),
                (4, Json::Number(_)) => Json::from(1_000_000_007_i64),
                (_, Json::String(text)) if way < 3 => Json::from(format!("{text} and more")),
                (_, Json::String(_)) => Json::from(17),
                (_, Json::Bool(_) | Json::Number(_)) => Json::from("neither"),
                (_, Json::Null) => Json::from(0.5),
                (_, Json::Array(_) | Json::Object(_)) => Json::from("no table and no list"),
            };
        });
    }
}

fn is_valid(validator: &ConfigValidator, value: &Json) -> bool {
    let limits = Limits::default();
    layer::values("instance", value, &limits)
        .and_then(|doc| validator.validate(&Tree::of(Arc::new(doc))))
        .is_ok_and(|report| report.is_ok())
}

fn count(value: &Json) -> usize {
    1 + match value {
        Json::Object(fields) => fields.values().map(count).sum(),
        Json::Array(items) => items.iter().map(count).sum(),
        _ => 0,
    }
}

/// Calls `change` with the value that comes after `left` others.
fn at(value: &mut Json, left: &mut usize, change: &mut dyn FnMut(&mut Json)) -> bool {
    if *left == 0 {
        change(value);
        return true;
    }
    *left -= 1;
    match value {
        Json::Object(fields) => fields.values_mut().any(|value| at(value, left, change)),
        Json::Array(items) => items.iter_mut().any(|value| at(value, left, change)),
        _ => false,
    }
}

struct Maker<'m, 's> {
    schema: &'m Schema<'s>,
    random: &'m mut Random,
}

impl<'s> Maker<'_, 's> {
    fn value(&mut self, schema: &'s Json, depth: usize) -> Json {
        let parts = self.parts(schema, depth);
        let first = |keyword: &str| parts.iter().find_map(|part| part.get(keyword));
        if let Some(value) = first("const") {
            return value.clone();
        }
        if let Some(given) = first("enum").and_then(Json::as_array).filter(|given| !given.is_empty()) {
            return given[self.random.below(given.len())].clone();
        }
        if first("pattern").is_some() || first("format").is_some() || self.random.below(4) == 0 {
            let examples = first("examples").and_then(Json::as_array).filter(|examples| !examples.is_empty());
            if let Some(examples) = examples {
                return examples[self.random.below(examples.len())].clone();
            }
            if let Some(default) = first("default") {
                return default.clone();
            }
        }
        let named = |name: &Json| name.as_str().map(str::to_owned);
        let kind = match first("type") {
            Some(Json::Array(kinds)) if !kinds.is_empty() => named(&kinds[self.random.below(kinds.len())]),
            Some(kind) => named(kind),
            None if first("properties").is_some() || first("required").is_some() => Some("object".into()),
            None if first("items").is_some() => Some("array".into()),
            None => None,
        };
        // The bound that all parts agree on.
        let most = |keyword: &str| parts.iter().filter_map(|part| part[keyword].as_f64()).reduce(f64::max);
        let least = |keyword: &str| parts.iter().filter_map(|part| part[keyword].as_f64()).reduce(f64::min);
        let size = |random: &mut Random, low: &str, high: &str| {
            let low = most(low).unwrap_or(0.0) as usize;
            let high = least(high).map_or(low + 4, |high| high as usize);
            low + random.below(high.saturating_sub(low).min(8) + 1)
        };
        match kind.as_deref() {
            Some("null") => Json::Null,
            Some("boolean") => Json::from(self.random.below(2) == 1),
            Some(kind @ ("integer" | "number")) => {
                let low = most("minimum").or(most("exclusiveMinimum").map(|low| low + 1.0));
                let high = least("maximum").or(least("exclusiveMaximum").map(|high| high - 1.0));
                let low = low.unwrap_or(high.map_or(0.0, |high| high - 100.0));
                let high = high.unwrap_or(low + 100.0).max(low);
                let step = most("multipleOf").unwrap_or(if kind == "integer" { 1.0 } else { 0.25 });
                let steps = (((high - low) / step) as usize).min(1 << 30);
                let value = ((low / step).ceil() + self.random.below(steps + 1) as f64) * step;
                if kind == "integer" { Json::from(value as i64) } else { Json::from(value) }
            }
            Some("array") => {
                let count = if depth < DEPTH { size(self.random, "minItems", "maxItems") } else { 0 };
                let items = first("items").filter(|items| items.is_object());
                let all = first("prefixItems").and_then(Json::as_array);
                let item = |maker: &mut Self, at: usize| match all.and_then(|all| all.get(at)).or(items) {
                    Some(item) => maker.value(item, depth + 1),
                    None => Json::from(at),
                };
                (0..count).map(|at| item(self, at)).collect()
            }
            Some("object") => self.table(&parts, depth),
            _ => {
                let length = size(self.random, "minLength", "maxLength");
                Json::String((0..length).map(|_| (b'a' + self.random.below(26) as u8) as char).collect())
            }
        }
    }

    fn table(&mut self, parts: &[&'s Json], depth: usize) -> Json {
        let required: Vec<&str> = parts
            .iter()
            .flat_map(|part| part["required"].as_array().into_iter().flatten().filter_map(Json::as_str))
            .collect();
        let mut fields = Map::new();
        for (key, field) in parts.iter().filter_map(|part| part["properties"].as_object()).flatten() {
            let wanted = required.contains(&&**key) || depth < DEPTH && self.random.below(2) == 1;
            if wanted && !fields.contains_key(key) {
                fields.insert(key.clone(), self.value(field, depth + 1));
            }
        }
        let others = parts.iter().find_map(|part| part.get("additionalProperties"));
        let missing = required.iter().filter(|key| !fields.contains_key(**key)).map(|key| (*key).to_owned());
        let mut more: Vec<String> = missing.collect();
        if others.is_some_and(Json::is_object) && depth < DEPTH {
            more.extend((0..self.random.below(3)).map(|at| format!("key-{at}")));
        }
        for key in more {
            let value = match others.filter(|others| others.is_object()) {
                Some(others) => self.value(others, depth + 1),
                None => Json::from("any"),
            };
            fields.insert(key, value);
        }
        Json::Object(fields)
    }

    /// A schema with all that applies beside it, and one of each group of alternatives.
    fn parts(&mut self, schema: &'s Json, depth: usize) -> Vec<&'s Json> {
        let mut parts = Vec::new();
        let mut open = vec![schema];
        while let Some(part) = open.pop() {
            if parts.len() > 64 {
                break;
            }
            parts.push(part);
            open.extend(self.schema.also(part));
            for group in ["anyOf", "oneOf"] {
                let Some(ways) = part[group].as_array().filter(|ways| !ways.is_empty()) else { continue };
                // Further down the first way is taken, which is where a schema that holds itself most often ends.
                let way = if depth < DEPTH { self.random.below(ways.len()) } else { 0 };
                open.push(&ways[way]);
            }
        }
        parts
    }
}

/// SplitMix64 (Steele, Lea and Flood, 2014).
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}
