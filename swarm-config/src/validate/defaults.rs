//! Defaults of a schema, filled in at any depth.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::{Map, Value as Json};

use super::guard::Refs;
use crate::doc::{Kind, Payload};
use crate::error::Result;
use crate::layer;
use crate::limits::Limits;
use crate::source::Source;
use crate::tree::{Ref, Tree, Value};

/// What to add to one table, and where to look below it. Compiled once a schema.
#[derive(Debug, Default)]
struct Table {
    fields: Vec<Field>,
    /// For keys that no field names.
    others: Option<usize>,
    items: Option<usize>,
    required: Vec<String>,
    /// Whether anything at or below it has a default.
    useful: bool,
}

#[derive(Debug)]
struct Field {
    key: String,
    default: Option<Json>,
    table: Option<usize>,
}

/// The defaults of a schema: tables that may refer to each other.
#[derive(Debug)]
pub(super) struct Defaults {
    tables: Vec<Table>,
}

impl Defaults {
    pub(super) fn new<'s>(refs: &Refs<'s>, schema: &'s Json) -> Defaults {
        let mut compiler = Compiler { refs, tables: Vec::new(), known: HashMap::new() };
        compiler.table(vec![schema]);
        let mut tables = compiler.tables;
        // What is useful spreads upwards until nothing changes.
        loop {
            let spread: Vec<usize> = (0..tables.len())
                .filter(|at| {
                    let table = &tables[*at];
                    let below = |at: Option<usize>| at.is_some_and(|at| tables[at].useful);
                    !table.useful
                        && (table.fields.iter().any(|field| field.default.is_some() || below(field.table))
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
        let mut missing = Vec::new();
        self.look(0, tree.root(), &mut missing);
        if missing.is_empty() {
            return Ok(None);
        }
        let tables: Vec<Json> = missing.iter().map(|(_, fields)| Json::Object(fields.clone())).collect();
        let doc = layer::values("default in the schema", &Json::Array(tables), limits)?;
        let source = doc.source.clone();
        let list = tree.add_doc(Arc::new(doc));
        let lists: Vec<Ref> = tree.value(list).items().map(|table| table.at).collect();
        let additions = missing.iter().map(|(at, _)| *at).zip(lists).collect();
        let root = tree.root;
        if let Some(root) = graft(tree, root, &additions) {
            tree.root = root;
        }
        Ok(Some(source))
    }

    fn look(&self, at: usize, value: Value<'_>, missing: &mut Vec<(Ref, Map<String, Json>)>) {
        let table = &self.tables[at];
        if !table.useful {
            return;
        }
        match value.kind() {
            Kind::Object => {
                let mut new = Map::new();
                for field in &table.fields {
                    match (value.get(&field.key), field.table) {
                        (Some(child), Some(below)) => self.look(below, child, missing),
                        (Some(_), None) => {}
                        (None, _) => {
                            if let Some(default) = self.absent(field, 0) {
                                new.insert(field.key.clone(), default);
                            }
                        }
                    }
                }
                if let Some(others) = table.others {
                    for (key, child) in value.entries() {
                        if table.fields.iter().all(|field| field.key != key) {
                            self.look(others, child, missing);
                        }
                    }
                }
                if !new.is_empty() {
                    missing.push((value.named, new));
                }
            }
            Kind::Array => {
                if let Some(items) = table.items {
                    value.items().for_each(|item| self.look(items, item, missing));
                }
            }
            _ => {}
        }
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

/// Rebuilds the way to each table that gets more keys.
fn graft(tree: &mut Tree, at: Ref, additions: &HashMap<Ref, Ref>) -> Option<Ref> {
    let value = tree.value(at);
    let (Payload::Object(children) | Payload::Array(children)) = value.payload() else { return None };
    let (parent, object) = (value.at, value.kind() == Kind::Object);
    let mut all: Option<Vec<Ref>> = None;
    let own =
        |tree: &Tree| (0..children.count).map(|at| tree.child(parent, children, at)).collect::<Vec<_>>();
    for position in 0..children.count {
        let child = tree.child(parent, children, position);
        if let Some(new) = graft(tree, child, additions) {
            all.get_or_insert_with(|| own(tree))[position as usize] = new;
        }
    }
    if let Some(table) = additions.get(&at)
        && let Payload::Object(new) = tree.payload(*table)
    {
        let fields: Vec<Ref> = (0..new.count).map(|position| tree.child(*table, new, position)).collect();
        all.get_or_insert_with(|| own(tree)).extend(fields);
    }
    all.map(|all| tree.add_join(at, object, &all))
}

struct Compiler<'r, 's> {
    refs: &'r Refs<'s>,
    tables: Vec<Table>,
    known: HashMap<Vec<*const Json>, usize>,
}

impl<'s> Compiler<'_, 's> {
    /// The table for a value that all these schemas apply to.
    fn table(&mut self, schemas: Vec<&'s Json>) -> usize {
        let schemas = self.closure(schemas);
        let name: Vec<*const Json> =
            schemas.iter().map(|schema| std::ptr::from_ref::<Json>(schema)).collect();
        if let Some(known) = self.known.get(&name) {
            return *known;
        }
        let at = self.tables.len();
        self.known.insert(name, at);
        self.tables.push(Table::default());
        let mut table = Table::default();
        let mut below: Vec<(&'s str, Vec<&'s Json>)> = Vec::new();
        let mut others = Vec::new();
        let mut items = Vec::new();
        for schema in &schemas {
            for (key, field) in schema["properties"].as_object().into_iter().flatten() {
                match below.iter_mut().find(|(known, _)| known == key) {
                    Some((_, fields)) => fields.push(field),
                    None => below.push((key, vec![field])),
                }
            }
            others.extend(schema.get("additionalProperties").filter(|schema| schema.is_object()));
            items.extend(schema.get("items").filter(|schema| schema.is_object()));
            let required = schema["required"].as_array().into_iter().flatten();
            table.required.extend(required.filter_map(|key| Some(key.as_str()?.to_owned())));
        }
        for (key, fields) in below {
            let all = self.closure(fields.clone());
            let default = all.iter().find_map(|schema| schema.get("default")).cloned();
            let table_below = Some(self.table(fields));
            table.fields.push(Field { key: key.to_owned(), default, table: table_below });
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

    /// The schemas, and those that they take in by reference and `allOf`.
    fn closure(&self, schemas: Vec<&'s Json>) -> Vec<&'s Json> {
        let mut all: Vec<&'s Json> = Vec::new();
        let mut open: Vec<&'s Json> = schemas;
        open.reverse();
        while let Some(schema) = open.pop() {
            if all.iter().any(|known| std::ptr::eq(*known, schema)) {
                continue;
            }
            all.push(schema);
            let mut inner = self.refs.in_place(schema, false);
            inner.reverse();
            open.extend(inner);
        }
        all
    }
}
