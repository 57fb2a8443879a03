use std::fmt;

use serde_json::Value as Json;

use crate::path::{Dotted, pointer};
use crate::source::Location;

mod trace;

/// Why a key has its value: every layer that has a say, and which one wins.
#[derive(Debug, Clone)]
pub struct Explanation {
    path: Vec<String>,
    value: Option<Json>,
    layers: Vec<Contribution>,
    references: Vec<Explanation>,
}

/// What one layer says of a key.
#[derive(Debug, Clone, PartialEq)]
pub struct Contribution {
    location: Location,
    effect: Effect,
    value: Json,
    wins: bool,
}

/// What a layer does to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Effect {
    /// It sets the key.
    Sets,
    /// It deletes the key, or a table that the key is in. Where nothing was there, that decides nothing.
    Deletes,
    /// It puts another kind of value where the table or list was that the key is in.
    Covers,
    /// It replaces the table or list that the key is in by one without it.
    Removes,
    /// It has a reference such as `${db}` in place of the table or list that the key is in:
    /// [`references`](Explanation::references) go on from there.
    Refers,
    /// The schema has it as the default, since no layer sets it.
    Default,
}

impl Contribution {
    /// Where the layer says it.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// What the layer does to the key.
    pub fn effect(&self) -> Effect {
        self.effect
    }

    /// The value as the layer has it, before interpolation; asterisks for a secret. Of what takes the key away or refers to
    /// where it is, the value that does so.
    pub fn value(&self) -> &Json {
        &self.value
    }

    /// Whether it decides, be it that the key is not set. Several do where tables are merged or lists are joined.
    pub fn wins(&self) -> bool {
        self.wins
    }
}

impl Explanation {
    /// The key, as in `db.pool_size`; empty for the whole.
    pub fn path(&self) -> String {
        Dotted(&self.path).to_string()
    }

    /// The key as a JSON pointer.
    pub fn pointer(&self) -> String {
        pointer(&self.path)
    }

    /// The value that the configuration has; `None` if a layer deleted it.
    pub fn value(&self) -> Option<&Json> {
        self.value.as_ref()
    }

    /// The layers that have a say, the highest first.
    pub fn layers(&self) -> &[Contribution] {
        &self.layers
    }

    /// The explanations of the keys that the value refers to with `${…}`, and of what those refer to, 8 deep. Each key
    /// is explained where it is first referred to, and no more than 10,000 references are followed.
    pub fn references(&self) -> &[Explanation] {
        &self.references
    }

    fn write(&self, f: &mut fmt::Formatter<'_>, indent: usize) -> fmt::Result {
        let pad = " ".repeat(indent);
        let path = Dotted(&self.path);
        match &self.value {
            Some(value) => write!(f, "{pad}{path} = {value}")?,
            None => write!(f, "{pad}{path} is not set")?,
        }
        for layer in &self.layers {
            let mark = if layer.wins { "->" } else { "  " };
            write!(f, "\n{pad}  {mark} {}: ", layer.location)?;
            match layer.effect {
                Effect::Sets => write!(f, "{}", layer.value)?,
                Effect::Deletes => f.write_str("deleted")?,
                Effect::Covers => write!(f, "covered by {}", layer.value)?,
                Effect::Removes => write!(f, "removed by {}", layer.value)?,
                Effect::Refers => write!(f, "through {}", layer.value)?,
                Effect::Default => write!(f, "{} by default", layer.value)?,
            }
        }
        for reference in &self.references {
            f.write_str("\n")?;
            reference.write(f, indent + 6)?;
        }
        Ok(())
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(f, 0)
    }
}
