//! Our tree as jsonschema sees it, without a copy and within a budget of steps.

use std::borrow::Cow;
use std::cell::Cell;

use jsonschema::JsonType;
use jsonschema::json::{Array, Json, Node, NodeIdentity, Object, cmp, unique};
use serde_json::{Number, Value as Json_};

use super::parts::Open;
use crate::doc::Payload;
use crate::tree::{Tree, Value};

thread_local! {
    /// Looks that are left. Nought once one was wanted that was not to be had.
    static STEPS: Cell<u64> = const { Cell::new(0) };
}

/// Runs a validation that looks at values at most `steps` times. Answers with how often it did, or with `None` if that is
/// not enough.
///
/// A validation cannot be stopped from within, so once the steps are spent every value looks like a `null` with nothing
/// below it: what is under way then ends soon, and whatever it says is thrown away.
pub(super) fn within<T>(steps: u64, work: impl FnOnce() -> T) -> Option<(T, u64)> {
    let steps = steps.saturating_add(1);
    STEPS.set(steps);
    let done = work();
    let left = STEPS.get();
    (left > 0).then_some((done, steps - left))
}

/// Whether there is a step left, which is then taken.
#[inline]
fn step() -> bool {
    let left = STEPS.get().saturating_sub(1);
    STEPS.set(left);
    left > 0
}

/// Beyond the number of any value.
const PART: u32 = 1 << 31;

pub(super) struct TreeJson;

#[derive(Clone, Copy)]
pub(super) enum View<'a> {
    Value(Value<'a>),
    /// A value of which only some is looked at: of the others below it only those are shown that a
    /// table may be required to have, and of these again no more than that.
    Part(Value<'a>, &'a Open<'a>),
    /// The name of a property, which `propertyNames` looks at.
    Name(&'a str),
}

impl<'a> View<'a> {
    /// What is open of a tree.
    pub(super) fn of(tree: &'a Tree, open: &'a Open<'a>) -> View<'a> {
        View::Part(tree.root(), open)
    }

    fn payload(&self) -> Option<Payload> {
        match self {
            _ if !step() => Some(Payload::Null),
            View::Value(value) | View::Part(value, _) => Some(value.payload()),
            View::Name(_) => None,
        }
    }
}

impl Json for TreeJson {
    type Node<'a> = View<'a>;
    type PreparedKey = Box<str>;
    type StringBuffer = String;

    fn prepare_key(key: &str) -> Box<str> {
        key.into()
    }

    fn with_string_node<T>(buffer: &mut String, string: &str, f: impl FnOnce(View<'_>) -> T) -> T {
        buffer.clear();
        buffer.push_str(string);
        f(View::Name(buffer))
    }
}

/// The value as JSON, secrets as they are: for comparisons, never for messages.
fn raw(value: Value<'_>) -> Json_ {
    match value.payload() {
        _ if !step() => Json_::Null,
        Payload::Null => Json_::Null,
        Payload::Bool(value) => Json_::Bool(value),
        Payload::Text(_) => Json_::from(value.as_str().unwrap_or_default()),
        Payload::Array(_) => value.items().map(raw).collect(),
        Payload::Object(_) => {
            Json_::Object(value.entries().map(|(key, value)| (key.to_owned(), raw(value))).collect())
        }
        payload => number(payload).map_or(Json_::Null, Json_::Number),
    }
}

fn number(payload: Payload) -> Option<Number> {
    match payload {
        Payload::Int(value) => Some(value.into()),
        Payload::Uint(value) => Some(value.into()),
        Payload::Float(value) => Number::from_f64(value),
        _ => None,
    }
}

fn equals(value: Value<'_>, expected: &Json_) -> bool {
    match (value.payload(), expected) {
        _ if !step() => false,
        (Payload::Null, Json_::Null) => true,
        (Payload::Bool(value), Json_::Bool(expected)) => value == *expected,
        (Payload::Text(_), Json_::String(expected)) => value.as_str() == Some(expected),
        (Payload::Array(_), Json_::Array(expected)) => {
            value.len() == expected.len()
                && value.items().zip(expected).all(|(value, expected)| equals(value, expected))
        }
        (Payload::Object(_), Json_::Object(expected)) => {
            value.len() == expected.len()
                && value
                    .entries()
                    .all(|(key, value)| expected.get(key).is_some_and(|expected| equals(value, expected)))
        }
        (payload, Json_::Number(_)) => {
            number(payload).is_some_and(|number| cmp::equal(&Json_::Number(number), expected))
        }
        _ => false,
    }
}

impl<'a> Node<'a, TreeJson> for View<'a> {
    type Object = Below<'a>;
    type Array = Below<'a>;
    type Number = Number;

    fn as_object(&self) -> Option<Below<'a>> {
        match (self.payload(), self) {
            (Some(Payload::Object(_)), View::Value(value)) => Some(Below { value: *value, open: None }),
            (Some(Payload::Object(_)), View::Part(value, open)) => {
                Some(Below { value: *value, open: Some(open) })
            }
            _ => None,
        }
    }

    fn as_array(&self) -> Option<Below<'a>> {
        match (self.payload(), self) {
            (Some(Payload::Array(_)), View::Value(value)) => Some(Below { value: *value, open: None }),
            (Some(Payload::Array(_)), View::Part(value, open)) => {
                Some(Below { value: *value, open: Some(open) })
            }
            _ => None,
        }
    }

    fn as_string(&self) -> Option<Cow<'a, str>> {
        match self {
            _ if !step() => None,
            View::Value(value) | View::Part(value, _) => value.as_str().map(Cow::Borrowed),
            View::Name(name) => Some(Cow::Borrowed(name)),
        }
    }

    fn as_number(&self) -> Option<Number> {
        number(self.payload()?)
    }

    fn as_boolean(&self) -> Option<bool> {
        match self.payload() {
            Some(Payload::Bool(value)) => Some(value),
            _ => None,
        }
    }

    fn is_null(&self) -> bool {
        self.payload() == Some(Payload::Null)
    }

    fn is_number(&self) -> bool {
        matches!(self.payload(), Some(Payload::Int(_) | Payload::Uint(_) | Payload::Float(_)))
    }

    fn json_type(&self) -> JsonType {
        match self.payload() {
            None | Some(Payload::Text(_)) => JsonType::String,
            Some(Payload::Null) => JsonType::Null,
            Some(Payload::Bool(_)) => JsonType::Boolean,
            Some(Payload::Int(_) | Payload::Uint(_) | Payload::Float(_)) => JsonType::Number,
            Some(Payload::Array(_)) => JsonType::Array,
            Some(Payload::Object(_)) => JsonType::Object,
        }
    }

    fn equals_value(&self, expected: &Json_) -> bool {
        match self {
            View::Value(value) | View::Part(value, _) => equals(*value, expected),
            View::Name(name) => expected.as_str() == Some(name),
        }
    }

    /// Goes into errors only, whose messages show neither containers nor secrets.
    fn to_value(&self) -> Cow<'a, Json_> {
        Cow::Owned(match self {
            View::Name(name) => Json_::from(*name),
            View::Value(value) | View::Part(value, _) if value.is_secret() => Json_::Null,
            View::Value(value) | View::Part(value, _) => match value.payload() {
                Payload::Array(_) | Payload::Object(_) => Json_::Null,
                _ => raw(*value),
            },
        })
    }

    fn identity(&self) -> Option<NodeIdentity> {
        match self {
            View::Value(value) => {
                let (address, tag) = value.identity();
                Some(NodeIdentity::tagged(address, tag))
            }
            // What is said of a part must not be taken as said of the whole, which may be looked at from elsewhere too.
            View::Part(value, _) => {
                let (address, tag) = Value { at: value.named, ..*value }.identity();
                Some(NodeIdentity::tagged(address, tag | PART))
            }
            View::Name(_) => None,
        }
    }
}

/// What is below a table or a list.
pub(super) struct Below<'a> {
    value: Value<'a>,
    /// What is looked at of it, if not all.
    open: Option<&'a Open<'a>>,
}

impl<'a> Below<'a> {
    fn view(&self, child: Value<'a>) -> View<'a> {
        match self.open {
            Some(open) if !open.whole.contains(&child.named) => View::Part(child, open),
            _ => View::Value(child),
        }
    }
}

impl<'a> Object<'a, TreeJson> for Below<'a> {
    type Node = View<'a>;
    type MemberName = &'a str;
    type MembersIter = Box<dyn Iterator<Item = (&'a str, View<'a>)> + 'a>;

    fn len(&self) -> usize {
        self.value.len()
    }

    /// Finds what is left out too: that a key is there matters to the table.
    fn get(&self, key: &Box<str>) -> Option<View<'a>> {
        step().then(|| self.value.get(key))?.map(|child| self.view(child))
    }

    fn members(&self) -> Self::MembersIter {
        let entries = self.value.entries();
        let Some(open) = self.open else {
            return Box::new(entries.map_while(|(key, value)| step().then_some((key, View::Value(value)))));
        };
        let below = Below { ..*self };
        if !open.ways.contains(&self.value.named) && open.required.len() < self.value.len() {
            let found = open.required.iter().filter_map(move |key| below.value.get(key));
            let found = found.map(|value| (value.key(), value));
            return Box::new(found.map_while(move |(key, value)| step().then(|| (key, below.view(value)))));
        }
        let seen = move |(key, value): &(&str, Value<'a>)| {
            open.whole.contains(&value.named)
                || open.ways.contains(&value.named)
                || open.required.contains(*key)
        };
        Box::new(entries.filter(seen).map_while(move |(key, value)| step().then(|| (key, below.view(value)))))
    }
}

impl<'a> Array<'a, TreeJson> for Below<'a> {
    type Node = View<'a>;
    type ElementsIter = Box<dyn Iterator<Item = View<'a>> + 'a>;

    fn len(&self) -> usize {
        self.value.len()
    }

    /// A list is looked at whole or not at all.
    fn elements(&self) -> Self::ElementsIter {
        match self.open {
            None => Box::new(self.value.items().map_while(|item| step().then_some(View::Value(item)))),
            Some(_) => Box::new(std::iter::empty()),
        }
    }

    fn is_unique(&self) -> bool {
        if self.open.is_some() {
            return true;
        }
        let values: Vec<Cow<'_, Json_>> = self.value.items().map(|item| Cow::Owned(raw(item))).collect();
        unique::is_unique(&values)
    }
}
