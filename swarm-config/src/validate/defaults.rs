//! Defaults of a schema, filled in at any depth.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::{Map, Value as Json, json};

use super::patterns;
use super::schema::{Schema, Step};
use crate::doc::{Kind, Payload};
use crate::error::{Error, ErrorKind, Result};
use crate::layer;
use crate::limits::Limits;
use crate::source::Source;
use crate::tree::{Ref, Tree, Value};

/// What to add to one table, and where to look below it. Compiled once a schema.
#[derive(Default)]
struct Table {
    fields: Vec<Field>,
    named: HashSet<String>,
    /// For keys that no field names: those that fit a pattern, the first counting, and the rest.
    matching: Vec<(jsonschema::Validator, usize)>,
    others: Option<usize>,
    items: Option<usize>,
    required: Vec<String>,
    /// Whether anything at or below it has a default.
    useful: bool,
}

/// How often a pattern is tried for one step.
const TRIES: u64 = 4;
/// Schemas in all tables together, each being those that apply to one value. More come of parts that combine.
const LENGTHS: usize = 1_000_000;

/// How many tables of defaults are made within each other.
const DEEP: usize = 16;

struct Field {
    key: String,
    default: Option<Json>,
    table: Option<usize>,
}

impl Table {
    /// The table for a key that no field names. `left` counts the patterns that may be tried yet, and is nought once more
    /// were wanted.
    fn unnamed(&self, key: &str, left: &Cell<u64>) -> Option<usize> {
        if self.matching.is_empty() {
            return self.others;
        }
        let name = Json::from(key);
        for (pattern, below) in &self.matching {
            left.set(left.get().saturating_sub(1));
            if left.get() == 0 {
                return None;
            }
            if pattern.is_valid(&name) {
                return Some(*below);
            }
        }
        self.others
    }
}

/// The defaults of a schema: tables that may refer to each other.
pub(super) struct Defaults {
    tables: Vec<Table>,
}

impl Defaults {
    pub(super) fn new(schema: &Schema<'_>) -> Result<Defaults> {
        let mut compiler =
            Compiler { schema, tables: Vec::new(), known: HashMap::new(), open: Vec::new(), lengths: 0 };
        compiler.number((0..schema.parts().len().min(1)).collect())?;
        while let Some((at, parts)) = compiler.open.pop() {
            compiler.tables[at] = compiler.table(&parts)?;
        }
        let mut tables = compiler.tables;
        // What is useful spreads upwards.
        let mut above = vec![Vec::new(); tables.len()];
        for (at, table) in tables.iter().enumerate() {
            let fields = table.fields.iter().filter_map(|field| field.table);
            let matching = table.matching.iter().map(|(_, below)| *below);
            for below in fields.chain(matching).chain(table.others).chain(table.items) {
                above[below].push(at);
            }
        }
        let has_default = |table: &Table| table.fields.iter().any(|field| field.default.is_some());
        let mut open: Vec<usize> = (0..tables.len()).filter(|at| has_default(&tables[*at])).collect();
        while let Some(at) = open.pop() {
            if !std::mem::replace(&mut tables[at].useful, true) {
                open.extend(&above[at]);
            }
        }
        Ok(Defaults { tables })
    }

    /// Fills what is missing. Answers with the source that the new values name.
    pub(super) fn fill(&self, tree: &mut Tree, limits: &Limits) -> Result<Option<Arc<Source>>> {
        let mut tables = Vec::new();
        let steps = limits.steps_for(tree);
        let left = Cell::new(steps.saturating_mul(TRIES).saturating_add(1));
        let growth = self.look(0, tree.root(), &mut tables, &left);
        if left.get() == 0 {
            let message = format!("filling in defaults takes more than {steps} steps");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        let Some(growth) = growth else { return Ok(None) };
        let doc = layer::values("default in the schema", &Json::Array(tables), limits)?;
        let source = doc.source.clone();
        let list = tree.add_doc(Arc::new(doc));
        let tables: Vec<Ref> = tree.value(list).items().map(|table| table.at).collect();
        let root = tree.root;
        tree.root = graft(tree, root, &growth, &tables);
        Ok(Some(source))
    }

    /// What to add to a value, as the numbers of tables. Of no use once nothing is `left`.
    fn look(&self, at: usize, value: Value<'_>, tables: &mut Vec<Json>, left: &Cell<u64>) -> Option<Growth> {
        let table = Some(&self.tables[at]).filter(|table| table.useful)?;
        let mut growth = Growth::default();
        match value.kind() {
            Kind::Object => {
                let mut new = Map::new();
                for field in &table.fields {
                    match (value.find(&field.key), field.table) {
                        (Some((position, child)), Some(below)) => {
                            growth.below.extend(Some(position).zip(self.look(below, child, tables, left)));
                        }
                        (Some(_), None) => {}
                        (None, _) => {
                            if let Some(default) = self.absent(field, &mut vec![at], left) {
                                new.insert(field.key.clone(), default);
                            }
                        }
                    }
                }
                if table.others.is_some() || !table.matching.is_empty() {
                    for (position, (key, child)) in (0..).zip(value.entries()) {
                        if !table.named.contains(key)
                            && let Some(below) = table.unnamed(key, left)
                        {
                            growth.below.extend(Some(position).zip(self.look(below, child, tables, left)));
                        }
                    }
                }
                if !new.is_empty() {
                    growth.table = Some(tables.len());
                    tables.push(Json::Object(new));
                }
            }
            Kind::Array => {
                let below = table.items?;
                for (position, item) in (0..).zip(value.items()) {
                    growth.below.extend(Some(position).zip(self.look(below, item, tables, left)));
                }
            }
            _ => {}
        }
        (growth.table.is_some() || !growth.below.is_empty()).then_some(growth)
    }

    /// The value of a key that is not there: its default, or a table of defaults if that needs nothing else and is not
    /// `within` one of its kind. A step that counts for as much as `TRIES` patterns.
    fn absent(&self, field: &Field, within: &mut Vec<usize>, left: &Cell<u64>) -> Option<Json> {
        left.set(left.get().saturating_sub(TRIES));
        if left.get() == 0 {
            return None;
        }
        let goes_on = |at: &usize| {
            let ends = within.len() > DEEP || field.default.is_none() && within.contains(at);
            self.tables[*at].useful && !ends
        };
        let at = field.table.filter(goes_on);
        let below = at.map(|at| &self.tables[at]);
        let mut fields = match (&field.default, below) {
            (Some(Json::Object(fields)), Some(_)) => fields.clone(),
            (Some(default), _) => return Some(default.clone()),
            (None, Some(_)) => Map::new(),
            (None, None) => return None,
        };
        let below = below?;
        within.extend(at);
        for field in &below.fields {
            if !fields.contains_key(&field.key)
                && let Some(default) = self.absent(field, within, left)
            {
                fields.insert(field.key.clone(), default);
            }
        }
        within.pop();
        let whole = below.required.iter().all(|key| fields.contains_key(key));
        (field.default.is_some() || whole && !fields.is_empty()).then_some(Json::Object(fields))
    }
}

/// What a value gets, by place: one value may stand in several, and get something in one of them.
#[derive(Default)]
struct Growth {
    /// The number of the table whose keys are added.
    table: Option<usize>,
    /// By the position of a child.
    below: Vec<(u32, Growth)>,
}

/// Rebuilds the way to each table that gets more keys.
fn graft(tree: &mut Tree, at: Ref, growth: &Growth, tables: &[Ref]) -> Ref {
    let value = tree.value(at);
    let (Payload::Object(children) | Payload::Array(children)) = value.payload() else { return at };
    let (parent, object) = (value.at, value.kind() == Kind::Object);
    let mut all: Vec<Ref> =
        (0..children.count).map(|position| tree.child(parent, children, position)).collect();
    for (position, growth) in &growth.below {
        let child = &mut all[*position as usize];
        *child = graft(tree, *child, growth, tables);
    }
    if let Some(table) = growth.table.map(|number| tables[number])
        && let Payload::Object(new) = tree.payload(table)
    {
        all.extend((0..new.count).map(|position| tree.child(table, new, position)));
    }
    tree.add_join(at, object, &all)
}

/// What tells whether a key fits, as the validator does.
fn pattern_of(pattern: &str) -> Result<jsonschema::Validator, jsonschema::ValidationError<'static>> {
    jsonschema::options().with_pattern_options(patterns()).build(&json!({ "pattern": pattern }))
}

struct Compiler<'w> {
    schema: &'w Schema<'w>,
    tables: Vec<Table>,
    known: HashMap<Vec<usize>, usize>,
    /// Tables that are to be filled.
    open: Vec<(usize, Vec<usize>)>,
    lengths: usize,
}

impl<'w> Compiler<'w> {
    /// The number of the table for a value that all these parts apply to.
    fn number(&mut self, parts: Vec<usize>) -> Result<usize> {
        let mut parts = self.closure(parts);
        // What only refers to another part makes no table of its own.
        parts.retain(|at| {
            let part = &self.schema.parts()[*at];
            !part.below.is_empty() || part.text.get("required").is_some()
        });
        if let Some(known) = self.known.get(&parts) {
            return Ok(*known);
        }
        let at = self.tables.len();
        self.lengths += parts.len() + 1;
        if self.lengths > LENGTHS {
            let message = format!("finding the defaults of the schema takes more than {LENGTHS} subschemas");
            return Err(Error::new(ErrorKind::Limit, message));
        }
        self.known.insert(parts.clone(), at);
        self.tables.push(Table::default());
        self.open.push((at, parts));
        Ok(at)
    }

    fn table(&mut self, parts: &[usize]) -> Result<Table> {
        let mut table = Table::default();
        let mut below: Vec<(&'w str, Vec<usize>)> = Vec::new();
        let mut matching: Vec<(&'w str, Vec<usize>)> = Vec::new();
        let mut others = Vec::new();
        let mut items = Vec::new();
        for part in parts.iter().map(|at| &self.schema.parts()[*at]) {
            for (step, next) in &part.below {
                let add = |to: &mut Vec<(&'w str, Vec<usize>)>, name| match to
                    .iter_mut()
                    .find(|(known, _)| *known == name)
                {
                    Some((_, parts)) => parts.push(*next),
                    None => to.push((name, vec![*next])),
                };
                match step {
                    Step::Key(key) => add(&mut below, *key),
                    Step::Matching(pattern) => add(&mut matching, *pattern),
                    Step::OtherKey => others.push(*next),
                    Step::Item => items.push(*next),
                    Step::Position(_) | Step::Some => {}
                }
            }
            let required = part.text["required"].as_array().into_iter().flatten();
            table.required.extend(required.filter_map(|key| Some(key.as_str()?.to_owned())));
        }
        for (key, fields) in below {
            let all = self.closure(fields.clone());
            let default = all.iter().find_map(|at| self.schema.parts()[*at].text.get("default")).cloned();
            let table_below = Some(self.number(fields)?);
            table.named.insert(key.to_owned());
            table.fields.push(Field { key: key.to_owned(), default, table: table_below });
        }
        for (pattern, parts) in matching {
            // One that is no pattern the compiler refuses.
            if let Ok(pattern) = pattern_of(pattern) {
                table.matching.push((pattern, self.number(parts)?));
            }
        }
        if !others.is_empty() {
            table.others = Some(self.number(others)?);
        }
        if !items.is_empty() {
            table.items = Some(self.number(items)?);
        }
        Ok(table)
    }

    /// The parts, and those that they take in by reference and `allOf`.
    fn closure(&self, parts: Vec<usize>) -> Vec<usize> {
        let mut all = Vec::new();
        let mut seen = HashSet::new();
        let mut open = parts;
        open.reverse();
        while let Some(at) = open.pop() {
            if seen.insert(at) {
                all.push(at);
                open.extend(self.schema.parts()[at].also.iter().rev());
            }
        }
        all
    }
}
