//! A value in the arena of a document.

use std::ops::Range;

use super::Kind;

/// A value without children, or with children that are elsewhere in the arena.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Payload {
    Null,
    Bool(bool),
    Int(i64),
    /// Above `i64::MAX`.
    Uint(u64),
    Float(f64),
    Text(Text),
    Array(Children),
    Object(Children),
}

impl Payload {
    pub(crate) fn kind(self) -> Kind {
        match self {
            Payload::Null => Kind::Null,
            Payload::Bool(_) => Kind::Bool,
            Payload::Int(_) | Payload::Uint(_) => Kind::Integer,
            Payload::Float(_) => Kind::Float,
            Payload::Text(_) => Kind::String,
            Payload::Array(_) => Kind::Array,
            Payload::Object(_) => Kind::Object,
        }
    }
}

/// Children lie side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Children {
    pub(crate) first: u32,
    pub(crate) count: u32,
}

impl Children {
    pub(crate) fn range(self) -> Range<usize> {
        self.first as usize..self.first as usize + self.count as usize
    }
}

/// Text in the source as it stands, or decoded beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Text {
    pub(super) start: u32,
    pub(super) len: u32,
    pub(super) decoded: bool,
}

impl Text {
    /// Bytes of the source, as they stand.
    pub(crate) fn raw(range: Range<usize>) -> Text {
        Text { start: range.start as u32, len: (range.end - range.start) as u32, decoded: false }
    }
}

/// The key of what has none: an item of an array, the root.
pub(crate) const NO_KEY: Text = Text { start: 0, len: 0, decoded: false };

const KEY_DECODED: u8 = 1;
const TEXT_DECODED: u8 = 2;
const LOOSE: u8 = 4;
const SECRET: u8 = 8;

/// A value and its key, 28 bytes. The payload is packed, because there are very many.
#[derive(Clone, Copy)]
pub(crate) struct Node {
    pub(super) key: [u32; 2],
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) payload: [u32; 2],
    pub(super) tag: u8,
    pub(super) flags: u8,
}

impl Node {
    pub(crate) fn new(key: Text, span: Range<usize>, payload: Payload) -> Node {
        let wide = |bits: u64| [bits as u32, (bits >> 32) as u32];
        let mut flags = if key.decoded { KEY_DECODED } else { 0 };
        let (tag, payload) = match payload {
            Payload::Null => (0, [0, 0]),
            Payload::Bool(value) => (1, [u32::from(value), 0]),
            Payload::Int(value) => (2, wide(value as u64)),
            Payload::Uint(value) => (3, wide(value)),
            Payload::Float(value) => (4, wide(value.to_bits())),
            Payload::Text(text) => {
                flags |= if text.decoded { TEXT_DECODED } else { 0 };
                (5, [text.start, text.len])
            }
            Payload::Array(children) => (6, [children.first, children.count]),
            Payload::Object(children) => (7, [children.first, children.count]),
        };
        Node {
            key: [key.start, key.len],
            start: span.start as u32,
            end: span.end as u32,
            payload,
            tag,
            flags,
        }
    }

    #[inline]
    pub(crate) fn payload(&self) -> Payload {
        let wide = u64::from(self.payload[0]) | u64::from(self.payload[1]) << 32;
        let children = Children { first: self.payload[0], count: self.payload[1] };
        match self.tag {
            0 => Payload::Null,
            1 => Payload::Bool(self.payload[0] != 0),
            2 => Payload::Int(wide as i64),
            3 => Payload::Uint(wide),
            4 => Payload::Float(f64::from_bits(wide)),
            5 => Payload::Text(Text {
                start: self.payload[0],
                len: self.payload[1],
                decoded: self.flags & TEXT_DECODED != 0,
            }),
            6 => Payload::Array(children),
            _ => Payload::Object(children),
        }
    }

    #[inline]
    pub(crate) fn key(&self) -> Text {
        Text { start: self.key[0], len: self.key[1], decoded: self.flags & KEY_DECODED != 0 }
    }

    pub(crate) fn with_key(mut self, key: Text) -> Node {
        self.key = [key.start, key.len];
        self.flags = self.flags & !KEY_DECODED | if key.decoded { KEY_DECODED } else { 0 };
        self
    }

    pub(crate) fn span(&self) -> Range<usize> {
        self.start as usize..self.end as usize
    }

    pub(super) fn is_null(&self) -> bool {
        self.tag == 0
    }

    /// Text that stands for a boolean or a number where one is read: an environment variable without a type.
    pub(crate) fn is_loose(&self) -> bool {
        self.flags & LOOSE != 0
    }

    pub(crate) fn loose(mut self) -> Node {
        self.flags |= LOOSE;
        self
    }

    pub(crate) fn is_secret(&self) -> bool {
        self.flags & SECRET != 0
    }

    #[cfg(feature = "sops")]
    pub(crate) fn secret(mut self) -> Node {
        self.flags |= SECRET;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_gives_back_what_it_was_made_of() {
        assert_eq!(size_of::<Node>(), 28);
        for payload in [
            Payload::Null,
            Payload::Bool(true),
            Payload::Int(i64::MIN),
            Payload::Uint(u64::MAX),
            Payload::Float(-0.1),
            Payload::Text(Text { start: 7, len: u32::MAX, decoded: true }),
            Payload::Array(Children { first: 1, count: 2 }),
            Payload::Object(Children { first: u32::MAX, count: 0 }),
        ] {
            let key = Text { start: 3, len: 4, decoded: true };
            let node = Node::new(key, 5..6, payload);
            assert_eq!((node.key(), node.span(), node.payload()), (key, 5..6, payload));
        }
    }
}
