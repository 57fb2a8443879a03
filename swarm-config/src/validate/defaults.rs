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

struct Field {
    key: String,
    default: Option<Json>,
    table: Option<usize>,
}

impl Table {
    /// The table for a key that no field names. `left` counts the patterns that may be tried yet, and is nought once one
    /// more was wanted.
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
    pub(super) fn new(schema: &Schema<'_>) -> Defaults {
        let mut compiler = Compiler { schema, tables: Vec::new(), known: HashMap::new() };
        compiler.table((0..schema.parts().len().min(1)).collect());
        let mut tables = compiler.tables;
        // What is useful spreads upwards until nothing changes.
        loop {
            let spread: Vec<usize> = (0..tables.len())
                .filter(|at| {
                    let table = &tables[*at];
                    let below = |at: Option<usize>| at.is_some_and(|at| tables[at].useful);
                    !table.useful
                        && (table.fields.iter().any(|field| field.default.is_some() || below(field.table))
                            || table.matching.iter().any(|(_, at)| tables[*at].useful)
                            || below(table.others)
                            || below(table.items))
                })
                .collect();
            if spread.is_empty() {
                return Defaults { tables };
            }
            for at in spread {
                tables[at].useful = true;
            }
        }
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
                            if let Some(default) = self.absent(field, 0) {
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

    /// The value of a key that is not there: its default, or a table of defaults if that needs nothing else.
    fn absent(&self, field: &Field, depth: usize) -> Option<Json> {
        let below = field.table.map(|table| &self.tables[table]).filter(|table| table.useful && depth < 16);
        let mut fields = match (&field.default, below) {
            (Some(Json::Object(fields)), Some(_)) => fields.clone(),
            (Some(default), _) => return Some(default.clone()),
            (None, Some(_)) => Map::new(),
            (None, None) => return None,
        };
        let below = below?;
        for field in &below.fields {
            if !fields.contains_key(&field.key)
                && let Some(default) = self.absent(field, depth + 1)
            {
                fields.insert(field.key.clone(), default);
            }
        }
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
}

impl<'w> Compiler<'w> {
    /// The table for a value that all these parts apply to.
    fn table(&mut self, parts: Vec<usize>) -> usize {
        let parts = self.closure(parts);
        if let Some(known) = self.known.get(&parts) {
            return *known;
        }
        let at = self.tables.len();
        self.known.insert(parts.clone(), at);
        self.tables.push(Table::default());
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
            let table_below = Some(self.table(fields));
            table.named.insert(key.to_owned());
            table.fields.push(Field { key: key.to_owned(), default, table: table_below });
        }
        for (pattern, parts) in matching {
            // One that is no pattern the compiler refuses.
            if let Ok(pattern) = pattern_of(pattern) {
                table.matching.push((pattern, self.table(parts)));
            }
        }
        if !others.is_empty() {
            table.others = Some(self.table(others));
        }
        if !items.is_empty() {
            table.items = Some(self.table(items));
        }
        self.tables[at] = table;
        at
    }

    /// The parts, and those that they take in by reference and `allOf`.
    fn closure(&self, parts: Vec<usize>) -> Vec<usize> {
        let mut all = Vec::new();
        let mut open = parts;
        open.reverse();
        while let Some(at) = open.pop() {
            if !all.contains(&at) {
                all.push(at);
                open.extend(self.schema.parts()[at].also.iter().rev());
            }
        }
        all
    }
}
