//! YAML with positions, within limits on aliases, nesting and size.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Spanned};

use super::tree::{DEPTH_LIMIT, Data, Fault, Item, Key};

/// Nodes of the file.
const NODE_LIMIT: usize = 1_000_000;

/// Nodes that stand there again through aliases, and nodes kept for that.
const REPLAY_LIMIT: usize = 50_000;

/// A level of nesting takes some tens of KiB of the parser's stack where it is not optimised, more in all than a
/// caller's thread may have.
const STACK: usize = 16 * 1024 * 1024;

pub(super) fn read(text: &str) -> Result<Item, Fault> {
    let read = std::thread::scope(|scope| {
        let reader = std::thread::Builder::new().name("yaml".to_owned()).stack_size(STACK);
        reader.spawn_scoped(scope, || read_here(text)).map(|reader| reader.join())
    });
    match read {
        Ok(Ok(read)) => read,
        Ok(Err(_)) => Err(Fault::new(0, "the YAML parser panicked")),
        Err(_) => Err(Fault::new(0, "no thread could be started to read YAML in")),
    }
}

fn read_here(text: &str) -> Result<Item, Fault> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_depth: DEPTH_LIMIT,
            flow_nesting_limit: DEPTH_LIMIT,
            max_nodes: NODE_LIMIT,
            max_events: NODE_LIMIT * 3,
            max_documents: 1,
            max_recorded_anchor_events: REPLAY_LIMIT,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: REPLAY_LIMIT,
        },
        strict_booleans: true,
        with_snippet: false,
        reject_unsupported_tags: true,
    };
    let read: Result<Spanned<Node>, Error> = serde_saphyr::from_str_with_options(text, options);
    read.map(item).map_err(|error| fault(text, error.without_snippet()))
}

fn item(node: Spanned<Node>) -> Item {
    Item { at: offset(&node.referenced), data: node.value.0 }
}

fn offset(location: &serde_saphyr::Location) -> u32 {
    location.span().byte_offset().unwrap_or(0) as u32
}

fn by_line(text: &str, line: usize, column: usize) -> u32 {
    let before: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let within = text[before..].char_indices().nth(column.saturating_sub(1)).map_or(0, |(at, _)| at);
    (before + within) as u32
}

const ONE_DOCUMENT: &str = "a second document; a file holds one pipeline";

/// The parser's words, but for those that quote values of the file.
fn fault(text: &str, error: &Error) -> Fault {
    let at = error.location().map_or(0, |location| match location.span().byte_offset() {
        Some(at) => at as u32,
        // The scanner tells line and column only.
        None => by_line(text, location.line() as usize, location.column() as usize),
    });
    let message = match error {
        Error::DuplicateMappingKey { key: Some(key), .. } => format!("the key {key:?} is given twice"),
        Error::DuplicateMappingKey { .. } => "a key is given twice".to_owned(),
        Error::Message { msg, .. } => msg.clone(),
        Error::ExternalMessage { msg, .. } => msg.clone(),
        Error::AliasError { error, .. } => return Fault { at, ..fault(text, error.without_snippet()) },
        Error::SerdeInvalidType { .. } | Error::SerdeInvalidValue { .. } => {
            "a value of a kind that JSON does not have".to_owned()
        }
        Error::MultipleDocuments { .. } => ONE_DOCUMENT.to_owned(),
        Error::NonFiniteFloat { .. } => "a number that JSON cannot hold".to_owned(),
        Error::Eof { .. } => "the file ends too early".to_owned(),
        Error::Budget { breach: serde_saphyr::budget::BudgetBreach::Documents { .. }, .. } => {
            ONE_DOCUMENT.to_owned()
        }
        Error::Budget { breach, .. } => format!("the file goes beyond a limit: {}", name_of(breach)),
        Error::UnknownAnchor { .. } => "an alias of an anchor that is not there".to_owned(),
        Error::MergeValueNotMapOrSeqOfMaps { .. } => "`<<` takes a table or a list of tables".to_owned(),
        Error::RecursiveReferencesRequireWeakTypes { .. } => "an anchor that holds itself".to_owned(),
        Error::AliasReplayLimitExceeded { .. } | Error::AliasReplayStackDepthExceeded { .. } => {
            "aliases that stand for too many values".to_owned()
        }
        _ => "not valid YAML".to_owned(),
    };
    Fault::new(at, message)
}

/// The name of an enum's variant, in words; its fields may hold values of the file.
fn name_of(value: &impl fmt::Debug) -> String {
    let shown = format!("{value:?}");
    let name = shown.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
    let mut words = String::new();
    for c in name.chars() {
        if c.is_uppercase() && !words.is_empty() {
            words.push(' ');
        }
        words.extend(c.to_lowercase());
    }
    words
}

struct Node(Data);

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor).map(Node)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }

    fn visit_none<E>(self) -> Result<Data, E> {
        Ok(Data::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Data, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Data, E> {
        Ok(Data::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Data, E> {
        Ok(Data::Int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Data, E> {
        Ok(i64::try_from(value).map_or(Data::Big(value), Data::Int))
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Data, E> {
        match value.is_finite() {
            true => Ok(Data::Float(value)),
            false => Err(E::custom("a number that JSON cannot hold")),
        }
    }

    fn visit_i128<E: serde::de::Error>(self, _: i128) -> Result<Data, E> {
        Err(E::custom("a number that does not fit 64 bits"))
    }

    fn visit_u128<E: serde::de::Error>(self, _: u128) -> Result<Data, E> {
        Err(E::custom("a number that does not fit 64 bits"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Data, E> {
        Ok(Data::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Data, E> {
        Ok(Data::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Data, A::Error> {
        let mut list = Vec::new();
        while let Some(node) = items.next_element::<Spanned<Node>>()? {
            list.push(item(node));
        }
        Ok(Data::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Data, A::Error> {
        let mut table: Vec<(Key, Item)> = Vec::new();
        while let Some((key, node)) = entries.next_entry::<Spanned<Node>, Spanned<Node>>()? {
            let Data::Text(name) = key.value.0 else {
                let (line, column) = (key.referenced.line(), key.referenced.column());
                return Err(A::Error::custom(format_args!(
                    "the key at line {line}, column {column} is no text; put it in quotes"
                )));
            };
            table.push((Key { at: offset(&key.referenced), name }, item(node)));
        }
        Ok(Data::Table(table))
    }
}
