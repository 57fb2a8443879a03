//! What the three formats have in common: values that know where they stand in the text.

use std::fmt;

/// How deep values may be nested.
pub(super) const DEPTH_LIMIT: usize = 64;

/// A value and the byte where it begins.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) at: u32,
    pub(super) data: Data,
}

#[derive(Debug)]
pub(super) enum Data {
    Null,
    Bool(bool),
    Int(i64),
    /// Only what is too large for an `i64`.
    Big(u64),
    /// Always finite.
    Float(f64),
    Text(String),
    List(Vec<Item>),
    /// In the order of the file; each key once.
    Table(Vec<(Key, Item)>),
}

#[derive(Debug)]
pub(super) struct Key {
    pub(super) at: u32,
    pub(super) name: String,
}

impl Item {
    /// What is there, without saying its value.
    pub(super) fn noun(&self) -> &'static str {
        match self.data {
            Data::Null => "null",
            Data::Bool(_) => "a boolean",
            Data::Int(_) | Data::Big(_) => "an integer",
            Data::Float(_) => "a decimal number",
            Data::Text(_) => "text",
            Data::List(_) => "a list",
            Data::Table(_) => "a table",
        }
    }

    /// Writes a form that is the same whatever the format and the order of keys.
    pub(super) fn canonical(&self, out: &mut Vec<u8>) {
        let mut part = |tag: u8, bytes: &[u8]| {
            out.push(tag);
            out.extend((bytes.len() as u64).to_le_bytes());
            out.extend(bytes);
        };
        match &self.data {
            Data::Null => part(b'n', &[]),
            Data::Bool(value) => part(b'b', &[u8::from(*value)]),
            Data::Int(value) => part(b'i', &i128::from(*value).to_le_bytes()),
            Data::Big(value) => part(b'i', &i128::from(*value).to_le_bytes()),
            Data::Float(value) => part(b'f', &value.to_bits().to_le_bytes()),
            Data::Text(value) => part(b't', value.as_bytes()),
            Data::List(items) => {
                part(b'l', &(items.len() as u64).to_le_bytes());
                items.iter().for_each(|item| item.canonical(out));
            }
            Data::Table(entries) => {
                part(b'm', &(entries.len() as u64).to_le_bytes());
                let mut sorted: Vec<_> = entries.iter().collect();
                sorted.sort_unstable_by(|(a, _), (b, _)| a.name.cmp(&b.name));
                for (key, item) in sorted {
                    out.extend((key.name.len() as u64).to_le_bytes());
                    out.extend(key.name.as_bytes());
                    item.canonical(out);
                }
            }
        }
    }
}

/// Something wrong at a byte of the text.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) at: u32,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn new(at: u32, message: impl Into<String>) -> Self {
        Fault { at, message: message.into() }
    }
}

/// Everything that is wrong with a file.
#[derive(Debug, Default)]
pub(super) struct Faults {
    kept: Vec<Fault>,
    more: usize,
}

impl Faults {
    /// Nobody mends more than this before trying again.
    const KEPT: usize = 50;

    pub(super) fn push(&mut self, fault: Fault) {
        if self.is_full() {
            self.more += 1;
        } else {
            self.kept.push(fault);
        }
    }

    pub(super) fn add(&mut self, at: u32, message: impl Into<String>) {
        self.push(Fault::new(at, message));
    }

    pub(super) fn is_full(&self) -> bool {
        self.kept.len() >= Self::KEPT
    }

    pub(super) fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// One line a fault, in the order of the file.
    pub(super) fn render(mut self, text: &str, file: Option<&std::path::Path>) -> String {
        self.kept.sort_by_key(|fault| fault.at);
        let places = Places::of(text);
        let told = |fault: &Fault| {
            let (line, column) = places.find(fault.at);
            match file {
                Some(file) => format!("{}:{line}:{column}: {}", file.display(), Visible(&fault.message)),
                None => format!("line {line}, column {column}: {}", Visible(&fault.message)),
            }
        };
        if let ([fault], 0) = (&*self.kept, self.more) {
            return told(fault);
        }
        let mut out = format!("{} problems:", self.kept.len() + self.more);
        for fault in &self.kept {
            out.push_str("\n  ");
            out.push_str(&told(fault));
        }
        if self.more > 0 {
            out.push_str(&format!("\n  and {} more", self.more));
        }
        out
    }
}

/// Text cut to a readable length, with nothing in it that moves a terminal's cursor.
struct Visible<'a>(&'a str);

impl fmt::Display for Visible<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use fmt::Write;
        const LENGTH: usize = 1_000;
        for (n, c) in self.0.chars().enumerate() {
            if n == LENGTH {
                return f.write_str("…");
            }
            f.write_char(if c.is_control() { ' ' } else { c })?;
        }
        Ok(())
    }
}

/// Finds line and column, both from 1, the column in characters.
struct Places<'t> {
    text: &'t str,
    /// Where each line begins.
    lines: Vec<u32>,
}

impl<'t> Places<'t> {
    fn of(text: &'t str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(breaks.map(|(at, _)| at as u32 + 1)).collect();
        Places { text, lines }
    }

    fn find(&self, at: u32) -> (usize, usize) {
        let line = self.lines.partition_point(|start| *start <= at);
        let start = self.lines[line - 1] as usize;
        let mut end = (at as usize).min(self.text.len()).max(start);
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        (line, self.text[start..end].chars().count() + 1)
    }
}
