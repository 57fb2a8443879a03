use serde_json::json;
use swarm_plugin::{ErrorKind, Manifest, ManifestBuilder};

fn problems(builder: ManifestBuilder) -> Vec<String> {
    let error = builder.build().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    error.problems().iter().map(|problem| problem.at().to_owned()).collect()
}

#[test]
fn every_problem_of_a_manifest_is_told_at_once() {
    let builder = Manifest::builder("../x", "1.0")
        .description("\u{1b}[2J")
        .requires("b\0", "^^1")
        .concurrency(0)
        .parameters(json!([]));
    let expected =
        ["name", "version", "description", "requires.b\\0", "requires.b\\0", "concurrency", "parameters"];
    assert_eq!(problems(builder), expected);
}

#[test]
fn names_are_safe_in_paths_logs_and_terminals() {
    let long = "x".repeat(64);
    for name in ["complexity_pro", "a", "A.b-c_1", "_x", "9lives", &long] {
        assert!(Manifest::builder(name, "1.0.0").build().is_ok(), "{name}");
    }
    let longer = "x".repeat(65);
    for name in
        ["", "../x", "/etc/passwd", "a\0b", "\u{1b}[31m", "a b", ".hidden", "-rf", "a/b", "ä", &longer]
    {
        let error = Manifest::builder(name, "1.0.0").build().unwrap_err();
        assert!(!error.to_string().contains(['\0', '\u{1b}']), "{error:?}");
        assert_eq!(error.problems()[0].at(), "name", "{name:?}");
    }
}

#[test]
fn named_parameters_make_a_schema_that_refuses_others() {
    let manifest = Manifest::builder("words", "1.0.0")
        .required("text", json!({"type": "string"}))
        .optional("limit", json!({"type": "integer"}))
        .build()
        .unwrap();
    assert_eq!(
        manifest.parameters(),
        &json!({
            "type": "object",
            "properties": {"text": {"type": "string"}, "limit": {"type": "integer"}},
            "required": ["text"],
            "additionalProperties": false,
        })
    );
    let twice = Manifest::builder("words", "1.0.0").required("a", json!({})).optional("a", json!({}));
    assert_eq!(problems(twice), ["parameters.a"]);
    let both =
        Manifest::builder("words", "1.0.0").required("a", json!({})).parameters(json!({"type": "object"}));
    assert_eq!(problems(both), ["parameters"]);
}

#[cfg(feature = "schemars")]
#[test]
fn parameters_come_from_a_rust_type() {
    /// A file to look at.
    #[derive(schemars::JsonSchema)]
    #[allow(dead_code, reason = "only its schema is used")]
    struct Params {
        file_path: String,
        limit: Option<u32>,
    }
    let manifest = Manifest::builder("complexity_pro", "1.0.0").parameters_of::<Params>().build().unwrap();
    assert_eq!(manifest.parameters()["required"], json!(["file_path"]));
    assert_eq!(manifest.parameters()["properties"]["file_path"]["type"], "string");
}
