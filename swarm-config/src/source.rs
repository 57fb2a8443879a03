use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use crate::error::{Error, ErrorKind, Result};
use crate::limits::Limits;

/// A syntax that files are written in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// RFC 8259, strictly: no comments, no trailing commas.
    Json,
    /// TOML 1.1.
    Toml,
    /// YAML 1.2, core schema, one document.
    Yaml,
    /// Lines of `KEY=value`, as the program `sops` reads them: nothing is quoted, `\n` is a line break. The keys are
    /// those of the root, as they stand; values are read as what the type that is loaded wants.
    Dotenv,
    /// Sections of `key = value`, one line each, as Go reads them. A section is a table, keys before the first one are
    /// those of the root; values are read as what the type that is loaded wants.
    Ini,
}

impl Format {
    /// The format that a file's extension names: `json`, `toml`, `yaml` or `yml`, `env` (or the name `.env`), `ini`.
    pub fn of_path(path: &Path) -> Option<Format> {
        if path.file_name()? == ".env" {
            return Some(Format::Dotenv);
        }
        match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "json" => Some(Format::Json),
            "toml" => Some(Format::Toml),
            "yaml" | "yml" => Some(Format::Yaml),
            "env" => Some(Format::Dotenv),
            "ini" => Some(Format::Ini),
            _ => None,
        }
    }
}

/// Where a value stands: a source, and the place in it where there is one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Location {
    source: String,
    place: Option<(usize, usize)>,
}

impl Location {
    /// The file as it was named, `environment variable NAME`, or the name given to a layer in code.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The line, from 1. `None` for what is not in a file.
    pub fn line(&self) -> Option<usize> {
        self.place.map(|(line, _)| line)
    }

    /// The column in characters, from 1.
    pub fn column(&self) -> Option<usize> {
        self.place.map(|(_, column)| column)
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.place {
            Some((line, column)) => write!(f, "{}:{line}:{column}", self.source),
            None => f.write_str(&self.source),
        }
    }
}

/// What a source is, which decides how a place in it is named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A file, or text given with a name: places are lines and columns.
    File(PathBuf),
    /// Lines of `NAME=value`: places are the names.
    Environment,
    /// Values without a text.
    Code(String),
}

/// A text that values were read from. Kept, so that lines are counted only when someone asks.
pub(crate) struct Source {
    pub(crate) origin: Origin,
    pub(crate) text: String,
    lines: OnceLock<Vec<u32>>,
}

impl Source {
    pub(crate) fn new(origin: Origin, text: String) -> Arc<Source> {
        Arc::new(Source { origin, text, lines: OnceLock::new() })
    }

    /// Takes bytes as text: UTF-8, with or without a byte order mark, and without NUL.
    pub(crate) fn from_bytes(origin: Origin, bytes: Vec<u8>, limits: &Limits) -> Result<Arc<Source>> {
        limits.check_bytes(name(&origin), bytes.len() as u64)?;
        match String::from_utf8(bytes) {
            Ok(text) => match memchr::memchr(0, text.as_bytes()) {
                None if text.starts_with("\u{feff}\u{feff}") => {
                    let source = Source::new(origin, text);
                    Err(Error::new(ErrorKind::Encoding, "a second byte order mark").at(&source, 3..6))
                }
                None => Ok(Source::new(origin, text)),
                Some(at) => {
                    let source = Source::new(origin, text);
                    Err(Error::new(ErrorKind::Encoding, "a NUL byte is not text").at(&source, at..at + 1))
                }
            },
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let mut bytes = error.into_bytes();
                bytes.truncate(at);
                let source = Source::new(origin, String::from_utf8(bytes).unwrap_or_default());
                Err(Error::new(ErrorKind::Encoding, "not UTF-8 from here on")
                    .at(&source, at..at)
                    .without_frame())
            }
        }
    }

    /// The text without a byte order mark, and where it begins.
    pub(crate) fn body(&self) -> (&str, usize) {
        match self.text.strip_prefix('\u{feff}') {
            Some(rest) => (rest, 3),
            None => (&self.text, 0),
        }
    }

    fn lines(&self) -> &[u32] {
        self.lines.get_or_init(|| {
            let text = self.text.as_bytes();
            std::iter::once(0).chain(memchr::memchr_iter(b'\n', text).map(|at| at as u32 + 1)).collect()
        })
    }

    /// Line and column of a byte, both from 1.
    pub(crate) fn place(&self, offset: usize) -> (usize, usize) {
        let mut offset = offset.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let line = self.lines().partition_point(|start| *start as usize <= offset);
        let mut start = self.lines()[line - 1] as usize;
        if line == 1 {
            start = self.body().1.min(offset);
        }
        (line, self.text[start..offset].chars().count() + 1)
    }

    /// The bytes of a line counted from 1, without its end.
    pub(crate) fn line(&self, line: usize) -> Range<usize> {
        let lines = self.lines();
        let start = if line == 1 { self.body().1 } else { lines[line - 1] as usize };
        let end = lines.get(line).map_or(self.text.len(), |next| *next as usize - 1).max(start);
        let end = if self.text[start..end].ends_with('\r') { end - 1 } else { end };
        start..end
    }

    pub(crate) fn line_count(&self) -> usize {
        self.lines().len()
    }

    pub(crate) fn location(&self, offset: usize) -> Location {
        match &self.origin {
            Origin::File(path) => {
                Location { source: path.display().to_string(), place: Some(self.place(offset)) }
            }
            Origin::Code(name) => Location { source: name.clone(), place: None },
            Origin::Environment => {
                let line = &self.text[self.line(self.place(offset).0)];
                let variable = line.split_once('=').map_or(line, |(variable, _)| variable);
                Location { source: format!("environment variable {variable}"), place: None }
            }
        }
    }

    pub(crate) fn is_file(&self) -> bool {
        matches!(self.origin, Origin::File(_))
    }
}

fn name(origin: &Origin) -> String {
    match origin {
        Origin::File(path) => path.display().to_string(),
        Origin::Environment => "environment".into(),
        Origin::Code(name) => name.clone(),
    }
}
