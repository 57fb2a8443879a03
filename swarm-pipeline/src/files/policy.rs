//! What a file says of how a step is treated.

use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

use super::fields::{self, Fields};
use super::tree::{Data, Faults, Item};
use crate::gate::Gate;
use crate::retry::Retry;

/// The keys that any step that runs may have.
#[derive(Default)]
pub(super) struct Policy {
    pub(super) retry: Option<Retry>,
    pub(super) timeout: Option<Duration>,
    pub(super) total_timeout: Option<Duration>,
    pub(super) expect: Option<Duration>,
    pub(super) group: Option<String>,
    pub(super) reuse: bool,
}

impl Policy {
    pub(super) fn read(fields: &mut Fields<'_>, groups: &[&str], faults: &mut Faults) -> Self {
        Policy {
            retry: fields.take("retry").and_then(|item| retry(item, faults)),
            timeout: fields.limit("timeout", faults),
            total_timeout: fields.limit("total_timeout", faults),
            expect: fields.duration("expect", faults),
            group: fields.take("group").and_then(|item| group(item, groups, faults)),
            reuse: fields.boolean("reuse", faults).unwrap_or(false),
        }
    }
}

fn group(item: &Item, groups: &[&str], faults: &mut Faults) -> Option<String> {
    let name = fields::text(item, faults)?;
    if groups.contains(&name) {
        return Some(name.to_owned());
    }
    let near = crate::graph::nearest(name, groups.iter().copied());
    let hint = match near {
        Some(near) => format!("did you mean {near:?}?"),
        None => "give its limit under `groups`".to_owned(),
    };
    faults.add(item.at, format!("unknown group {name:?}; {hint}"));
    None
}

/// `3`, or a table with `attempts` and what differs from [`Retry::exponential`].
pub(super) fn retry(item: &Item, faults: &mut Faults) -> Option<Retry> {
    if !matches!(item.data, Data::Table(_)) {
        return fields::count(item, faults).map(Retry::exponential);
    }
    let mut fields = Fields::open(item, faults)?;
    let attempts = match fields.take("attempts") {
        Some(item) => fields::count(item, faults),
        None => {
            faults.add(item.at, "`retry` has no `attempts`");
            None
        }
    };
    let mut retry = Retry::exponential(attempts.unwrap_or(1));
    if let Some(base) = fields.duration("base", faults) {
        retry = retry.base(base);
    }
    if let Some(factor) = fields.float("factor", faults) {
        retry = retry.factor(factor);
    }
    if let Some(longest) = fields.duration("max_delay", faults) {
        retry = retry.max_delay(longest);
    }
    if let Some(jitter) = fields.float("jitter", faults) {
        retry = retry.jitter(jitter);
    }
    fields.finish("a retry", faults);
    if let Some(problem) = retry.problem() {
        faults.add(item.at, problem);
        return None;
    }
    Some(retry)
}

/// A test of a part of an output.
#[derive(Debug, Clone)]
pub(super) enum Test {
    AtLeast(f64),
    AtMost(f64),
    Equals(Value),
    NotEquals(Value),
}

impl Test {
    /// Exactly one of `at_least`, `at_most`, `equals` and `not_equals`.
    fn read(fields: &mut Fields<'_>, faults: &mut Faults) -> Option<Self> {
        let mut found: Vec<Test> = Vec::new();
        let before = faults.is_empty();
        found.extend(fields.float("at_least", faults).map(Test::AtLeast));
        found.extend(fields.float("at_most", faults).map(Test::AtMost));
        found.extend(fields.take("equals").and_then(value).map(Test::Equals));
        found.extend(fields.take("not_equals").and_then(value).map(Test::NotEquals));
        if found.len() > 1 || (found.is_empty() && before == faults.is_empty()) {
            faults
                .add(fields.at, "exactly one of `at_least`, `at_most`, `equals` and `not_equals` is needed");
            return None;
        }
        found.pop()
    }

    fn holds(&self, found: Option<&Value>) -> bool {
        let number = || found.and_then(Value::as_f64).unwrap_or(f64::NAN);
        match self {
            Test::AtLeast(limit) => number() >= *limit,
            Test::AtMost(limit) => number() <= *limit,
            Test::Equals(value) => same(found.unwrap_or(&Value::Null), value),
            Test::NotEquals(value) => !same(found.unwrap_or(&Value::Null), value),
        }
    }
}

fn value(item: &Item) -> Option<Value> {
    Value::deserialize(item).map_err(drop).ok()
}

/// Equality in which 1 and 1.0 are the same, since TOML and JSON writers do not agree on when to write which.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        (a, b) => a == b,
    }
}

/// A JSON pointer (RFC 6901); the whole output where there is none.
fn pointer(fields: &mut Fields<'_>, faults: &mut Faults) -> String {
    let Some(item) = fields.take("path") else { return String::new() };
    let path = fields::text(item, faults).unwrap_or_default();
    if !path.is_empty() && !path.starts_with('/') {
        faults.add(item.at, "a path begins with `/`, as in \"/coverage\"");
    }
    path.to_owned()
}

pub(super) fn gate(item: &Item, faults: &mut Faults) -> Option<Gate<Value>> {
    let mut fields = Fields::open(item, faults)?;
    let name = fields.text("name", faults).map(str::to_owned);
    if fields.take("name").is_none() {
        faults.add(item.at, "a gate has no `name`");
    }
    let path = pointer(&mut fields, faults);
    let test = Test::read(&mut fields, faults);
    let warn_only = fields.boolean("warn_only", faults).unwrap_or(false);
    let retry = fields.boolean("retry_on_refusal", faults).unwrap_or(false);
    fields.finish("a gate", faults);
    let name = name?;
    let measure = {
        let path = path.clone();
        move |output: &Value| output.pointer(&path).and_then(Value::as_f64).unwrap_or(f64::NAN)
    };
    let mut gate = match test? {
        Test::AtLeast(limit) => Gate::at_least(name, limit, measure),
        Test::AtMost(limit) => Gate::at_most(name, limit, measure),
        test => Gate::check(name, move |output: &Value| match test.holds(output.pointer(&path)) {
            true => Ok(()),
            false => Err(format!("the value at {path:?} is not what was asked for")),
        }),
    };
    if warn_only {
        gate = gate.warn_only();
    }
    if retry {
        gate = gate.retry_on_refusal();
    }
    Some(gate)
}

/// Runs a step only if the output of another is as wanted.
pub(super) struct When<'t> {
    pub(super) step: &'t Item,
    pub(super) path: String,
    pub(super) test: Test,
}

impl<'t> When<'t> {
    pub(super) fn read(item: &'t Item, faults: &mut Faults) -> Option<Self> {
        let mut fields = Fields::open(item, faults)?;
        let step = fields.take("step");
        if step.is_none() {
            faults.add(item.at, "`when` has no `step`");
        }
        let path = pointer(&mut fields, faults);
        let test = Test::read(&mut fields, faults);
        fields.finish("a condition", faults);
        Some(When { step: step?, path, test: test? })
    }

    pub(super) fn condition(self) -> impl Fn(&Value) -> bool + Send + Sync + 'static {
        let (path, test) = (self.path, self.test);
        move |output| test.holds(output.pointer(&path))
    }
}
