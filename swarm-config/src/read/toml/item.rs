//! What a TOML text is made of before all of it was read: tables may still grow.

use std::collections::HashMap;
use std::ops::Range;

use crate::doc::{Payload, Text};

/// What may still be added to a table.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Table {
    /// Made on the way to a deeper header; a header of its own may follow.
    Implicit,
    /// Has had its header.
    Header,
    /// Made by a dotted key; further dotted keys may follow.
    Dotted,
    /// Closed.
    Inline,
}

#[derive(Clone, Copy)]
pub(super) enum Form {
    Scalar(Payload),
    Table(Table),
    Array,
    ArrayOfTables,
}

/// A value on its way into the arena. There is one for each, so it has no list of its own: the children of a container are
/// a chain.
pub(super) struct Item {
    pub(super) key: Text,
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) depth: u32,
    pub(super) form: Form,
    pub(super) children: u32,
    /// The first and the last child, and the one after this in its container. The root is nobody's child, so nought is none.
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) next: u32,
    pub(super) names: Option<Box<Names>>,
}

/// Children by key, once there are many.
pub(super) type Names = HashMap<Box<str>, u32, foldhash::fast::RandomState>;

impl Item {
    pub(super) fn new(key: Text, span: Range<usize>, depth: u32, form: Form) -> Item {
        Item {
            key,
            start: span.start as u32,
            end: span.end as u32,
            depth,
            form,
            children: 0,
            first: 0,
            last: 0,
            next: 0,
            names: None,
        }
    }
}
