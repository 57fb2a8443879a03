use std::time::{Duration, Instant};

use swarm_config::{ConfigLoader, ConfigValidator, ErrorKind, Format, Limits, Tree};

fn parse(format: Format, text: &str) -> Result<Tree, swarm_config::Error> {
    Tree::parse("bomb", format, text, &Limits::default())
}

/// Nine levels of nine aliases each: 9^9 texts.
fn alias_bomb() -> String {
    let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for at in 1..9 {
        let all = vec![format!("*a{}", at - 1); 9].join(", ");
        text.push_str(&format!("a{at}: &a{at} [{all}]\n"));
    }
    text
}

#[test]
fn bombs_are_limit_errors_and_soon() {
    let bombs = [
        (Format::Json, "[".repeat(1 << 20)),
        (Format::Yaml, "[".repeat(1 << 20)),
        (Format::Toml, format!("a = {}", "[".repeat(1 << 20))),
        (Format::Json, format!("{{\"a\": {}", "{\"a\": ".repeat(100_000))),
        (Format::Toml, format!("[{}a]", "a.".repeat(100_000))),
        (Format::Toml, format!("{}a = 1", "a.".repeat(100_000))),
        (Format::Yaml, (0..2000).map(|at| format!("{}a:\n", " ".repeat(at))).collect()),
        (Format::Yaml, alias_bomb()),
        (Format::Yaml, format!("a: &a {}\nb: [{}]", "x".repeat(100_000), "*a, ".repeat(9_000))),
        (Format::Yaml, format!("a: &a x\nb: [{}]", "*a, ".repeat(20_000))),
        (Format::Json, format!("[{}1]", "1,".repeat(3_000_000))),
        (Format::Json, format!("\"{}\"", "x".repeat(2 << 20))),
        (Format::Json, " ".repeat(100 << 20)),
    ];
    for (format, text) in bombs {
        let start = Instant::now();
        let error = parse(format, &text).unwrap_err();
        let took = start.elapsed();
        let head: String = text.chars().take(20).collect();
        assert_eq!(error.kind(), ErrorKind::Limit, "{format:?} {head}: {error}");
        // Generous, for builds without optimisation on busy machines; without limits it would be minutes, or no end.
        assert!(took < Duration::from_secs(60), "{format:?} {head}: {took:?}");
        assert!(error.to_string().len() < 200, "{error}");
    }
}

/// The same question has the same answer in every format.
#[test]
fn odd_input_has_one_answer_in_every_format() {
    let all = |json: &str, toml: &str, yaml: &str| {
        [(Format::Json, json), (Format::Toml, toml), (Format::Yaml, yaml)]
            .map(|(format, text)| parse(format, text))
    };
    let kinds =
        |results: [Result<Tree, swarm_config::Error>; 3]| results.map(|result| result.unwrap_err().kind());
    let texts = |results: [Result<Tree, swarm_config::Error>; 3]| {
        results.map(|result| result.unwrap().to_json().to_string())
    };

    assert_eq!(kinds(all(r#"{"a":1,"a":2}"#, "a=1\na=2", "a: 1\na: 2")), [ErrorKind::DuplicateKey; 3]);
    assert_eq!(kinds(all("{\"a\":1\0}", "a=1\0", "a: 1\0")), [ErrorKind::Encoding; 3]);
    let big = "18446744073709551616";
    let number = [ErrorKind::Number; 3];
    assert_eq!(kinds(all(&format!("[{big}]"), &format!("a={big}"), &format!("a: {big}"))), number);
    assert_eq!(kinds(all("[1e400]", "a=1e400", "a: 1e400")), number);
    assert_eq!(kinds(all("[1e-400]", "a=1e-400", "a: 1e-400")), number);
    assert_eq!(
        kinds(all("[-9223372036854775809]", "a=-9223372036854775809", "a: -9223372036854775809")),
        number
    );
    let most = r#"{"a":18446744073709551615}"#;
    assert_eq!(texts(all(most, "a=18446744073709551615", "a: 18446744073709551615")), [most; 3]);
    // A byte order mark and Windows' line ends change nothing.
    assert_eq!(texts(all("\u{feff}{\"a\":\r\n1}", "\u{feff}a=1\r\n", "\u{feff}a: 1\r\n")), [r#"{"a":1}"#; 3]);
    for format in [Format::Json, Format::Toml, Format::Yaml] {
        let error = Tree::parse("x", format, b"a: \xff", &Limits::default()).unwrap_err();
        assert_eq!(
            (error.kind(), error.location().unwrap().to_string()),
            (ErrorKind::Encoding, "x:1:4".to_owned())
        );
    }
    let not_finite =
        [parse(Format::Toml, "a=nan"), parse(Format::Yaml, "a: .nan"), parse(Format::Yaml, "a: -.inf")];
    assert_eq!(kinds(not_finite), number);
}

#[test]
fn what_yaml_1_1_had_otherwise_is_read_as_1_2() {
    let tree = parse(
        Format::Yaml,
        "a: yes\nb: off\nc: 0o17\nd: 017\ne: 1_000\nf: 12:30:45\ng: 2001-12-14\nbase: &b {x: 1, y: 1}\nh: {<<: *b, y: 2}\ni: {<<: [{x: 3}, *b]}\n\"<<\": z",
    )
    .unwrap();
    let expected = serde_json::json!({
        "a": "yes", "b": "off", "c": 15, "d": 17, "e": "1_000", "f": "12:30:45", "g": "2001-12-14",
        "base": {"x": 1, "y": 1}, "h": {"y": 2, "x": 1}, "i": {"x": 3, "y": 1}, "<<": "z",
    });
    assert_eq!(tree.to_json(), expected);
    for wrong in ["<<: 1", "a: &a {<<: *a}", "<<: [1]", "<<: {a: 1}\n<<: {b: 1}", "a: &a [*a]"] {
        assert!(parse(Format::Yaml, wrong).is_err(), "{wrong}");
    }
}

#[test]
fn numbers_in_code_that_are_not_finite_are_errors() {
    #[derive(serde::Serialize)]
    struct Defaults {
        retry: std::collections::BTreeMap<&'static str, Vec<f64>>,
    }
    let load = |value: f64| {
        let defaults = Defaults { retry: [("after", vec![1.0, value])].into() };
        swarm_config::ConfigLoader::new().values("defaults", &defaults).load_tree()
    };
    assert_eq!(load(2.0).unwrap().get("retry.after.1").unwrap().as_f64(), Some(2.0));
    for wrong in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let error = load(wrong).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains("retry.after.1: infinity and NaN have no place"), "{error}");
    }
}

#[test]
fn a_loaders_limits_hold_for_validators_that_it_is_given() {
    use serde_json::json;
    use swarm_config::{ConfigLoader, ConfigValidator};
    let schema =
        json!({"allOf": [{"type": "object"}, {"properties": {"a": {"enum": ["x"]}, "b": {"enum": ["x"]}}}]});
    let validator = ConfigValidator::new(schema.clone()).unwrap();
    let load = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        let loader = ConfigLoader::new().text("a.toml", Format::Toml, "a = 1\nb = 2").limits(limits);
        loader.validator(validator.clone()).load_tree().unwrap_err()
    };
    assert_eq!(load(|limits| limits.subschemas = 2).kind(), ErrorKind::Limit);
    assert_eq!(load(|limits| limits.depth = 3).kind(), ErrorKind::Limit);
    assert_eq!(load(|limits| limits.findings = 1).report().unwrap().unlisted(), 1);
    let error = load(|limits| limits.steps = 0);
    assert_eq!(error.report().unwrap().findings().len(), 2, "64 steps a value suffice");
    // Without a loader the validator's own hold.
    let mut limits = Limits::default();
    limits.findings = 1;
    let own = ConfigValidator::builder().schema(schema).limits(limits).build().unwrap();
    let tree = parse(Format::Toml, "a = 1\nb = 2").unwrap();
    assert_eq!(own.validate(&tree).unwrap().findings().len(), 1);
}

#[test]
fn minus_nought_is_an_integer_in_every_format() {
    for (format, text) in [(Format::Json, r#"{"a": -0}"#), (Format::Toml, "a = -0"), (Format::Yaml, "a: -0")]
    {
        let tree = Tree::parse("a", format, text, &Limits::default()).unwrap();
        assert_eq!(tree.get("a").unwrap().as_u64(), Some(0), "{text}");
    }
}

#[test]
fn what_has_to_be_mended_is_not_worth_another_try() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("conf.toml")).unwrap();
    std::fs::write(folder.path().join("file"), "").unwrap();
    for (path, kind) in [
        ("conf.toml", ErrorKind::Io),
        ("file/below.toml", ErrorKind::Io),
        ("none.toml", ErrorKind::NotFound),
        (&*format!("{}.toml", "x".repeat(300)), ErrorKind::Io),
    ] {
        let error = ConfigLoader::new().file(folder.path().join(path)).load_tree().unwrap_err();
        assert_eq!((error.kind(), error.is_retryable()), (kind, false), "{error}");
    }
}

#[test]
fn one_limit_holds_for_all_that_is_found_and_the_rest_is_counted() {
    let schema = serde_json::json!({"properties": {"a": {"items": {"type": "string"}}}});
    let mut limits = Limits::default();
    limits.findings = 10;
    let loader = |text: &str| {
        let variables = (0..20).map(|at| (format!("APP_NO_SUCH_{at}"), "1"));
        let mut loader = ConfigLoader::new()
            .text("a.toml", Format::Toml, text)
            .limits(limits.clone())
            .env_from("APP", variables);
        for at in 0..5 {
            loader = loader.secret(format!("nothing.at{at}"));
        }
        loader
    };
    let tree = loader("a = []").load_tree().unwrap();
    assert_eq!((tree.warnings().findings().len(), tree.warnings().unlisted()), (10, 15));
    assert!(tree.warnings().is_ok());
    // Errors are listed before warnings, of whichever validator they are.
    let wrong = loader("a = [1, 2, 3]");
    for (validators, listed, left) in [(1, 3, 18), (2, 6, 21), (4, 10, 27)] {
        let validator = || ConfigValidator::new(schema.clone()).unwrap();
        let loader = (0..validators).fold(wrong.clone(), |loader, _| loader.validator(validator()));
        let error = loader.load_tree().unwrap_err();
        let report = error.report().unwrap();
        let errors = report.findings().iter().filter(|found| found.rule() == "type").count();
        assert_eq!((report.findings().len(), errors, report.unlisted()), (10, listed, left), "{validators}");
    }
    let typed =
        loader("a = []\nb = 1\nc = 1").load::<std::collections::BTreeMap<String, serde_json::Value>>();
    // A map may have any key, so no pattern is unused.
    assert_eq!(typed.unwrap().get().warnings().unlisted(), 10);
}

#[test]
fn no_limit_on_depth_lets_the_stack_overflow() {
    let mut limits = Limits::default();
    limits.depth = 100_000;
    for format in [Format::Json, Format::Yaml] {
        let deep = |levels: usize| format!("{}1{}", "[".repeat(levels), "]".repeat(levels));
        assert!(Tree::parse("a", format, deep(256), &limits).is_ok());
        assert_eq!(Tree::parse("a", format, deep(257), &limits).unwrap_err().kind(), ErrorKind::Limit);
    }
}

#[test]
fn an_alias_is_as_deep_as_what_it_stands_for() {
    let text = |levels: usize| {
        let deep =
            |inside: &str, levels: usize| format!("{}{inside}{}", "[".repeat(levels), "]".repeat(levels));
        format!("a: &a {}\nb: {}\n", deep("1", 60), deep("*a", levels))
    };
    parse(Format::Yaml, &text(60)).unwrap();
    assert_eq!(parse(Format::Yaml, &text(70)).unwrap_err().kind(), ErrorKind::Limit);
}
