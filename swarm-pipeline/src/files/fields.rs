//! Reads the keys of a table one by one, noting what is wrong and going on.

use std::time::Duration;

use super::config::unknown_key;
use super::duration;
use super::tree::{Data, Faults, Item, Key};

/// A table of which every key must be asked for.
pub(super) struct Fields<'t> {
    pub(super) at: u32,
    entries: &'t [(Key, Item)],
    known: Vec<&'static str>,
}

impl<'t> Fields<'t> {
    /// `None` where the item is no table, which is then noted.
    pub(super) fn open(item: &'t Item, faults: &mut Faults) -> Option<Self> {
        let entries = table(item, faults)?;
        Some(Fields { at: item.at, entries, known: Vec::new() })
    }

    pub(super) fn take(&mut self, key: &'static str) -> Option<&'t Item> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        self.entries.iter().find(|(k, _)| k.name == key).map(|(_, item)| item)
    }

    pub(super) fn text(&mut self, key: &'static str, faults: &mut Faults) -> Option<&'t str> {
        self.take(key).and_then(|item| text(item, faults))
    }

    pub(super) fn boolean(&mut self, key: &'static str, faults: &mut Faults) -> Option<bool> {
        let item = self.take(key)?;
        match item.data {
            Data::Bool(value) => Some(value),
            _ => wrong(item, "a boolean", faults),
        }
    }

    pub(super) fn float(&mut self, key: &'static str, faults: &mut Faults) -> Option<f64> {
        let item = self.take(key)?;
        match item.data {
            Data::Float(value) => Some(value),
            Data::Int(value) => Some(value as f64),
            Data::Big(value) => Some(value as f64),
            _ => wrong(item, "a number", faults),
        }
    }

    pub(super) fn duration(&mut self, key: &'static str, faults: &mut Faults) -> Option<Duration> {
        let item = self.take(key)?;
        let Data::Text(text) = &item.data else { return wrong(item, duration::EXAMPLE, faults) };
        let read = duration::parse(text);
        if read.is_none() {
            faults.add(item.at, format!("{key:?} is no duration; write {}", duration::EXAMPLE));
        }
        read
    }

    /// A duration longer than nothing.
    pub(super) fn limit(&mut self, key: &'static str, faults: &mut Faults) -> Option<Duration> {
        let read = self.duration(key, faults)?;
        if read.is_zero() {
            let at = self.take(key).map_or(self.at, |item| item.at);
            faults.add(at, format!("{key:?} is 0, which no attempt can meet"));
            return None;
        }
        Some(read)
    }

    /// One of the words, by its position among them.
    pub(super) fn word(&mut self, key: &'static str, words: &[&str], faults: &mut Faults) -> Option<usize> {
        let item = self.take(key)?;
        let found = text(item, faults)?;
        let at = words.iter().position(|word| *word == found);
        if at.is_none() {
            faults.add(item.at, format!("{key:?} must be one of {words:?}"));
        }
        at
    }

    /// Notes the keys that nobody asked for. `place` is where they stand, as in "a gate".
    pub(super) fn finish(self, place: &str, faults: &mut Faults) {
        for (key, _) in self.entries {
            if faults.is_full() {
                return;
            }
            if !self.known.contains(&&*key.name) {
                let message = unknown_key(&key.name, self.known.iter().copied());
                faults.add(key.at, format!("{place}: {message}"));
            }
        }
    }
}

/// Notes that something else was expected.
pub(super) fn wrong<T>(item: &Item, expected: &str, faults: &mut Faults) -> Option<T> {
    faults.add(item.at, format!("expected {expected}, found {}", item.noun()));
    None
}

pub(super) fn table<'t>(item: &'t Item, faults: &mut Faults) -> Option<&'t [(Key, Item)]> {
    match &item.data {
        Data::Table(entries) => Some(entries),
        _ => wrong(item, "a table", faults),
    }
}

pub(super) fn list<'t>(item: &'t Item, faults: &mut Faults) -> Option<&'t [Item]> {
    match &item.data {
        Data::List(items) => Some(items),
        _ => wrong(item, "a list", faults),
    }
}

pub(super) fn text<'t>(item: &'t Item, faults: &mut Faults) -> Option<&'t str> {
    match &item.data {
        Data::Text(text) => Some(text),
        _ => wrong(item, "text", faults),
    }
}

/// An integer of at least 1.
pub(super) fn count(item: &Item, faults: &mut Faults) -> Option<u32> {
    let read = match item.data {
        Data::Int(value) => u32::try_from(value).ok().filter(|value| *value > 0),
        Data::Big(_) => None,
        _ => return wrong(item, "an integer", faults),
    };
    if read.is_none() {
        faults.add(item.at, format!("expected an integer from 1 to {}", u32::MAX));
    }
    read
}
