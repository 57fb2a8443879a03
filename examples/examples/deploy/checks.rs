//! What is asked of a tree before it may go anywhere.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::tree::{self, At};

const LINES_PER_FILE: usize = 120;
const LINES_PER_FUNCTION: usize = 20;
const COLUMNS: usize = 110;

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Validated {
    pub(crate) files: usize,
    /// Shell files whose syntax was found right.
    pub(crate) scripts: usize,
    /// What the service says of itself when it is run with `--selftest`.
    pub(crate) selftest: Vec<String>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Compliance {
    pub(crate) violations: Vec<String>,
    /// The part of the functions that a test calls, from 0 to 1.
    pub(crate) coverage: f64,
}

/// Checks the syntax of every script and has the service test itself. `halfway` is called between the two.
pub(crate) fn validate(
    root: &Path,
    told: impl Fn(u64, u64),
    halfway: impl FnOnce(),
) -> io::Result<Result<Validated, String>> {
    let names = tree::files(root)?;
    let mut scripts = 0;
    for (done, name) in names.iter().enumerate() {
        let path = root.join(name);
        let bytes = fs::read(&path).at("read", &path)?;
        let Ok(text) = String::from_utf8(bytes) else {
            return Ok(Err(format!("{} is not UTF-8", name.display())));
        };
        if is_script(name, &text) {
            if let Err(fault) = sh(&["-n".as_ref(), path.as_os_str()])? {
                return Ok(Err(format!("{}: {}", name.display(), fault.trim())));
            }
            scripts += 1;
        }
        told(done as u64 + 1, names.len() as u64 + 1);
    }
    halfway();
    match sh(&[root.join("bin/service").as_os_str(), "--selftest".as_ref()])? {
        Err(fault) => Ok(Err(format!("the self-test failed: {}", fault.trim()))),
        Ok(said) => {
            let selftest = said.lines().map(str::to_owned).collect();
            Ok(Ok(Validated { files: names.len(), scripts, selftest }))
        }
    }
}

/// Counts what the house rules do not allow, and which functions have a test.
pub(crate) fn comply(root: &Path, told: impl Fn(u64, u64)) -> io::Result<Compliance> {
    let names = tree::files(root)?;
    let mut violations = Vec::new();
    let mut functions: BTreeMap<String, usize> = BTreeMap::new();
    let mut tests = String::new();
    for (done, name) in names.iter().enumerate() {
        let path = root.join(name);
        let text = fs::read_to_string(&path).at("read", &path)?;
        let at = |line: usize| format!("{}:{line}", name.display());
        let lines = text.lines().count();
        if lines > LINES_PER_FILE {
            violations.push(format!("{} {lines} lines in a file, {LINES_PER_FILE} allowed", at(1)));
        }
        for (number, line) in text.lines().enumerate() {
            if line.chars().count() > COLUMNS {
                violations.push(format!("{} a line of more than {COLUMNS} columns", at(number + 1)));
            }
            if ["TODO", "FIXME"].iter().any(|marker| line.contains(marker)) {
                violations.push(format!("{} work left to do", at(number + 1)));
            }
        }
        if name.starts_with("tests") {
            tests.push_str(&text);
        } else if is_script(name, &text) {
            for (function, line, length) in functions_of(&text) {
                if length > LINES_PER_FUNCTION {
                    let place = at(line);
                    violations
                        .push(format!("{place} {length} lines in {function}, {LINES_PER_FUNCTION} allowed"));
                }
                functions.insert(function, length);
            }
        }
        told(done as u64 + 1, names.len() as u64);
    }
    let words: Vec<&str> = tests.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).collect();
    let tested = functions.keys().filter(|function| words.contains(&function.as_str())).count();
    let coverage = if functions.is_empty() { 1.0 } else { tested as f64 / functions.len() as f64 };
    Ok(Compliance { violations, coverage })
}

/// Name, line and length of each function of a shell script.
fn functions_of(text: &str) -> Vec<(String, usize, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(String, usize)> = None;
    for (number, line) in text.lines().enumerate() {
        if let Some((name, rest)) = line.split_once("()")
            && rest.trim() == "{"
        {
            open = Some((name.trim().to_owned(), number + 1));
        } else if line == "}"
            && let Some((name, begin)) = open.take()
        {
            found.push((name, begin, number + 2 - begin));
        }
    }
    found
}

fn is_script(name: &Path, text: &str) -> bool {
    name.extension().is_some_and(|extension| extension == "sh") || text.starts_with("#!/bin/sh")
}

/// What the shell said: on standard output if it was content, and all of it if it was not.
fn sh(arguments: &[&std::ffi::OsStr]) -> io::Result<Result<String, String>> {
    let output = Command::new("sh").args(arguments).output().at("run", &PathBuf::from("sh"))?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(Ok(said));
    }
    Ok(Err(format!("{said}{}{}", String::from_utf8_lossy(&output.stderr), output.status)))
}
