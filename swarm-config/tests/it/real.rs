//! Configuration files of published crates against the public schemas for them.
//!
//! `SWARM_SCHEMAS` names a folder with `cargo.json` and `github-workflow.json` as schemastore.org has them; the files are
//! those that cargo unpacked of its registries. What is missing is said aloud and left out.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

use serde_json::{Value, json};
use swarm_config::{ConfigValidator, Format, Limits, Tree};

/// Files of all unpacked crates at a path below each, where `*` stands for any file.
fn files(below: &str) -> Vec<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(env::var_os("HOME")?).join(".cargo")));
    let Some(home) = home else { return Vec::new() };
    let mut found = vec![home.join("registry/src")];
    let list = |folder: &PathBuf| -> Vec<PathBuf> {
        let entries = fs::read_dir(folder).into_iter().flatten();
        entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
    };
    for part in format!("*/*/{below}").split('/') {
        found = match part {
            "*" => found.iter().flat_map(list).collect(),
            part => found.iter().map(|folder| folder.join(part)).collect(),
        };
    }
    found.retain(|path| path.is_file());
    found.sort();
    found
}

/// Validates all files; answers with how many are valid of how many there are, and with what was found.
fn check(schema: &str, below: &str, format: Format) -> Option<(usize, usize, Vec<String>)> {
    let Some(folder) = env::var_os("SWARM_SCHEMAS").map(PathBuf::from) else {
        eprintln!("left out: real files against {schema}, for SWARM_SCHEMAS names no folder");
        return None;
    };
    let files = files(below);
    if files.is_empty() {
        eprintln!("left out: real files against {schema}, for cargo has unpacked none with {below}");
        return None;
    }
    let read = |path: &Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
    let text = read(&folder.join(schema));
    let near = folder.clone();
    let validator = ConfigValidator::builder()
        .schema(text)
        .retriever(move |uri| {
            let name = uri.rsplit('/').next().unwrap_or_default();
            let text = fs::read(near.join(name)).ok();
            Ok(text.map_or(json!(true), |text| serde_json::from_slice(&text).unwrap()))
        })
        .build()
        .unwrap();
    let limits = Limits::default();
    let (mut valid, mut longest, mut said) = (0, Duration::ZERO, Vec::new());
    for path in &files {
        let start = Instant::now();
        let bytes = fs::read(path).unwrap();
        let report = Tree::parse("file", format, &bytes, &limits).and_then(|tree| validator.validate(&tree));
        let report = report.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        longest = longest.max(start.elapsed());
        valid += usize::from(report.is_ok());
        for finding in report.findings() {
            assert!(finding.location().is_some_and(|place| place.line().is_some()), "{finding:?}");
            said.push(finding.to_string().split_once(": ").unwrap().1.to_owned());
        }
        // One thing wrong in each must be found.
        let broken = match format {
            Format::Toml => {
                String::from_utf8(bytes).unwrap().replacen("[package]", "[package]\nlicense-file = 1", 1)
            }
            _ => format!("{}\n1: 2\n", String::from_utf8(bytes).unwrap().replacen("runs-on:", "runs-at:", 1)),
        };
        if let Ok(tree) = Tree::parse("file", format, &broken, &limits) {
            assert!(!validator.validate(&tree).unwrap().is_ok(), "{}", path.display());
        }
    }
    said.sort();
    said.dedup();
    eprintln!(
        "{schema}: {valid} of {} real files valid, the longest took {longest:?}; what was found:",
        files.len()
    );
    said.iter().take(20).for_each(|finding| eprintln!("    {finding}"));
    Some((valid, files.len(), said))
}

/// What cargo has learnt since the schema was written.
const NEWER: [&str; 3] = ["\"2024\"", "\"3\"", "\"line-tables-only\""];

#[test]
fn manifests_of_crates_are_valid() {
    if let Some((valid, all, said)) = check("cargo.json", "Cargo.toml.orig", Format::Toml) {
        assert!(valid * 100 >= all * 80, "{valid} of {all}");
        let older = |finding: &&String| !NEWER.iter().any(|newer| finding.contains(newer));
        assert_eq!(said.iter().find(older), None);
    }
}

/// A quarter is not: runners of later years, and keys left without a value. Python's jsonschema says so of the same files.
#[test]
fn workflows_of_crates_are_valid() {
    if let Some((valid, all, _)) = check("github-workflow.json", ".github/workflows/*", Format::Yaml) {
        assert!(valid * 100 >= all * 70, "{valid} of {all}");
    }
}
