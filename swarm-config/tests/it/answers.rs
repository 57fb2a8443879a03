//! The page's tables of references and of answers, row by row.

use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;
use serde_json::{Value, json};
use swarm_config::{ConfigLoader, Error, ErrorKind, Format, Limits, MergeStrategy, Tree};

/// The questions of the table in their order, and what tests their answers.
const ANSWERS: &[(&str, fn())] = &[
    ("which layer wins", layers),
    ("`null` in a layer, or in an override", null),
    ("`None` in values made in code", none),
    ("a scalar meets a table", kinds_meet),
    ("in which format a file is", extensions),
    ("a file in another format than its extension's", other_format),
    ("one key twice in a table", twice),
    ("a number that 64 bits do not hold, infinity, NaN", numbers),
    ("a byte order mark, Windows' line ends", marks_and_line_ends),
    ("not UTF-8, a NUL byte", encoding),
    ("a key that the type does not have, a variable that no key is known for", unknown),
    ("a path of `secret` or `merge_with` at which there is nothing, and that nobody knows", unused),
    ("YAML's `yes`, `no`, `on`, `off`", booleans),
    ("YAML's `<<`", merge_keys),
    ("a bracket in YAML that nobody closes", brackets),
    ("YAML tags of applications, several documents, lists as keys", tags),
    ("TOML's dates and times", dates),
    ("an empty file", empty),
    ("a value in dotenv or INI", untyped),
    ("`${env:X}` and other references to a provider", references),
];

/// What stands for something, and what tests that it does.
const REFERENCES: &[(&str, fn())] = &[
    ("`${db.host}`", another_key),
    ("`${env:HOME}`", variable),
    ("`${vault:app/db#password}`", provided),
    ("`${env:PORT:-8080}`", in_place_of_none),
    ("`$${`", as_it_stands),
];

const ALL: [Format; 5] = [Format::Json, Format::Toml, Format::Yaml, Format::Dotenv, Format::Ini];

#[test]
fn every_answer_of_the_page_holds() {
    let page = include_str!("../../README.md");
    for (head, tested) in
        [("| question | answer, in every format |", ANSWERS), ("| in a text | stands for |", REFERENCES)]
    {
        let table = page.split(&format!("{head}\n|---|---|\n")).nth(1).unwrap();
        let rows = table.lines().take_while(|line| line.starts_with('|'));
        let rows: Vec<&str> = rows.map(|row| row[2..].split(" | ").next().unwrap()).collect();
        assert_eq!(rows, tested.iter().map(|(row, _)| *row).collect::<Vec<_>>());
        tested.iter().for_each(|(_, test)| test());
    }
}

fn parse(format: Format, text: impl AsRef<[u8]>) -> Result<Tree, Error> {
    Tree::parse("a", format, text, &Limits::default())
}

fn refused(format: Format, text: impl AsRef<[u8]>) -> (ErrorKind, String) {
    let error = parse(format, text).unwrap_err();
    (error.kind(), error.to_string())
}

fn texts<const N: usize>(layers: [&str; N]) -> ConfigLoader {
    let loader = ConfigLoader::new();
    layers.iter().fold(loader, |loader, text| loader.text("a.yaml", Format::Yaml, *text))
}

fn loaded(loader: &ConfigLoader) -> Value {
    loader.load_tree().unwrap().to_json()
}

fn layers() {
    let loader = texts(["t: {a: 1, b: 1}\nl: [1]\ns: 1", "t: {b: 2}\nl: [2]\ns: 2"]);
    assert_eq!(loaded(&loader), json!({"t": {"a": 1, "b": 2}, "l": [2], "s": 2}));
    let other = loader.merge_with("t", MergeStrategy::Replace).merge_with("l", MergeStrategy::Append);
    assert_eq!(loaded(&other), json!({"t": {"b": 2}, "l": [1, 2], "s": 2}));
}

fn null() {
    assert_eq!(
        loaded(&texts(["a: {b: 1, c: 1}\nd: 1", "a: {b: null}"]).set("d=null")),
        json!({"a": {"c": 1}})
    );
}

fn none() {
    let given = json!({"a": 1});
    let loader =
        texts(["a: 0\nb: 0"]).values("more", &given).values("none", &BTreeMap::from([("b", None::<u8>)]));
    assert_eq!(loaded(&loader), json!({"a": 1, "b": 0}));
}

fn kinds_meet() {
    for (below, above) in
        [("a: 1", "a: {b: 1}"), ("a: {b: 1}", "a: 1"), ("a: [1]", "a: {b: 1}"), ("a: x", "a: [1]")]
    {
        assert_eq!(loaded(&texts([below, above])), loaded(&texts([above])), "{below}, {above}");
    }
}

/// How a table of one key is written.
fn one(format: Format) -> &'static str {
    match format {
        Format::Json => r#"{"key": "x"}"#,
        Format::Toml => "key = 'x'",
        Format::Yaml => "key: x",
        _ => "key=x",
    }
}

fn extensions() {
    let folder = tempfile::tempdir().unwrap();
    let load = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        ConfigLoader::new().file(path).load_tree()
    };
    for (name, format) in [
        ("a.json", Format::Json),
        ("a.toml", Format::Toml),
        ("a.yaml", Format::Yaml),
        ("a.yml", Format::Yaml),
        ("a.env", Format::Dotenv),
        (".env", Format::Dotenv),
        ("a.ini", Format::Ini),
        ("A.TOML", Format::Toml),
        ("a.prod.Yml", Format::Yaml),
    ] {
        assert_eq!(Format::of_path(name.as_ref()), Some(format), "{name}");
        assert_eq!(load(name, one(format)).unwrap().to_json(), json!({"key": "x"}), "{name}");
    }
    for name in ["a", "a.txt", "a.toml.bak", "a.", "env", ".toml", "a.conf"] {
        assert_eq!(Format::of_path(name.as_ref()), None, "{name}");
        let error = load(name, one(Format::Toml)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{name}");
        let all = "the extension names no format; use .toml, .yaml, .yml, .json, .env or .ini";
        assert!(error.to_string().ends_with(all), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

fn other_format() {
    let folder = tempfile::tempdir().unwrap();
    let json = "{\"a\": {\n  \"b\": [1]\n}}";
    for (name, text, place) in [
        ("a.json", "a: 1", "1:1"),
        ("b.json", "{\n  // beside\n}", "2:3"),
        ("c.json", "{\"a\": 1,}", "1:9"),
        ("a.toml", json, "1:1"),
        ("b.toml", "[a]\nb: 1", "2:2"),
        ("a.yaml", "[a]\nb = 1", "2:1"),
        ("a.env", json, "1:1"),
        ("a.ini", "plain", "1:1"),
    ] {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let error = ConfigLoader::new().file(&path).load_tree().unwrap_err();
        let told = format!("{:?} {}", error.kind(), error.location().unwrap());
        assert_eq!(told, format!("Syntax {}:{place}", path.display()), "{error}");
    }
    // YAML has JSON in it.
    assert_eq!(parse(Format::Yaml, json).unwrap().to_json(), json!({"a": {"b": [1]}}));
}

fn twice() {
    for (format, text, place) in [
        (Format::Json, "{\"b\": 1,\n\"a\": 1,\n\"a\": 2}", "a:3:2"),
        (Format::Toml, "b = 1\na = 1\na = 2", "a:3:1"),
        (Format::Yaml, "b: 1\na: 1\na: 2", "a:3:1"),
        (Format::Dotenv, "b=1\na=1\na=2", "a:3:1"),
        (Format::Ini, "b = 1\na = 1\na = 2", "a:3:1"),
    ] {
        let (kind, told) = refused(format, text);
        assert_eq!(kind, ErrorKind::DuplicateKey, "{format:?}");
        assert!(told.starts_with(&format!("{place}: the key `a` stands twice")), "{told}");
    }
}

fn numbers() {
    for number in ["18446744073709551616", "-9223372036854775809", "1e400", "-1e400"] {
        for (format, text) in [(Format::Json, "{\"a\": %}"), (Format::Toml, "a = %"), (Format::Yaml, "a: %")]
        {
            assert_eq!(
                refused(format, text.replace('%', number)).0,
                ErrorKind::Number,
                "{format:?} {number}"
            );
        }
    }
    for (format, text) in [
        (Format::Toml, "a = inf"),
        (Format::Toml, "a = -nan"),
        (Format::Yaml, "a: .inf"),
        (Format::Yaml, "a: -.Inf"),
        (Format::Yaml, "a: .NaN"),
    ] {
        assert_eq!(refused(format, text).0, ErrorKind::Number, "{text}");
    }
    // Which JSON does not have.
    assert_eq!(refused(Format::Json, "{\"a\": NaN}").0, ErrorKind::Syntax);
    let error = ConfigLoader::new().values("w", &BTreeMap::from([("a", f64::NAN)])).load_tree();
    assert!(error.is_err());
    // Of dotenv and INI it shows when a number is wanted.
    #[derive(Debug, Deserialize)]
    struct Number {
        #[expect(dead_code, reason = "never read")]
        a: f64,
    }
    for format in [Format::Dotenv, Format::Ini] {
        for number in ["1e400", "inf", "NaN"] {
            let loader = ConfigLoader::new().text("a", format, format!("a={number}"));
            assert!(loader.load::<Number>().is_err(), "{format:?} {number}");
        }
    }
}

fn marks_and_line_ends() {
    for format in ALL {
        let plain = format!("{}\n", one(format));
        let told = |text: String| {
            let tree = parse(format, text).unwrap();
            let place = tree.get("key").unwrap().location();
            (tree.to_json(), place)
        };
        let expected = told(plain.clone());
        assert_eq!(told(format!("\u{feff}{plain}")), expected, "{format:?}");
        assert_eq!(told(plain.replace('\n', "\r\n")), expected, "{format:?}");
    }
}

fn encoding() {
    for format in ALL {
        for (wrong, length) in [(&b"\xff"[..], 0), (&b"\0"[..], 0)] {
            let mut text = b"\n\n ".to_vec();
            text.extend_from_slice(wrong);
            text.resize(text.len() + length, b' ');
            let error = parse(format, text).unwrap_err();
            assert_eq!(
                (error.kind(), error.location().unwrap().to_string()),
                (ErrorKind::Encoding, "a:3:2".to_owned()),
                "{format:?}"
            );
        }
    }
    let error = texts(["a: x"]).env_from("APP", [("APP_A", "x\0")]).load_tree().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encoding);
    assert!(error.to_string().starts_with("environment variable APP_A"), "{error}");
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt as _;
        let told = std::process::Command::new(std::env::current_exe().unwrap())
            .env("ANSWERS_A", std::ffi::OsStr::from_bytes(b"\xff"))
            .args(["answers::a_variable_that_is_no_text_is_refused", "--exact"])
            .output()
            .unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stdout));
    }
}

/// Run alone too, with a variable that is none.
#[test]
fn a_variable_that_is_no_text_is_refused() {
    if let Some(value) = std::env::var_os("ANSWERS_A") {
        assert!(value.to_str().is_none());
        let error = texts(["a: x"]).env("ANSWERS").load_tree().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Encoding);
        assert!(error.to_string().contains("ANSWERS_A"), "{error}");
    }
}

fn unknown() {
    #[derive(Debug, Deserialize)]
    struct Known {
        #[expect(dead_code, reason = "never read")]
        port: u16,
    }
    let loader = texts(["port: 1\nprot: 2"]).env_from("APP", [("APP_PROT", "3")]);
    let config = loader.load::<Known>().unwrap();
    let told = config.get().warnings().to_string();
    assert!(told.contains("the key `prot` is known to nobody (did you mean `port`?)"), "{told}");
    let strange = texts(["port: 1"]).env_from("APP", [("APP_POTR", "3")]); // typos:ignore-line
    let told = strange.load::<Known>().unwrap().get().warnings().to_string();
    assert!(told.contains("no key is known for APP_POTR (did you mean APP_PORT?)"), "{told}"); // typos:ignore-line
    assert_eq!(loader.deny_unknown_keys().load::<Known>().unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(strange.deny_unknown_keys().load::<Known>().unwrap_err().kind(), ErrorKind::Invalid);
}

fn unused() {
    let loader = texts(["db: {url: x}"]).secret("db.ulr").merge_with("db.url2", MergeStrategy::Replace);
    let told = loader.load_tree().unwrap().warnings().to_string();
    assert!(told.contains("`db.ulr`, which `secret` names (did you mean `url`?)"), "{told}");
    assert!(told.contains("`db.url2`, which `merge_with` names (did you mean `url`?)"), "{told}");
}

fn booleans() {
    #[derive(Debug, Deserialize)]
    struct Flag {
        #[expect(dead_code, reason = "never read")]
        a: bool,
    }
    for (text, meant) in [("yes", true), ("on", true), ("No", false), ("OFF", false)] {
        let loader = texts([&format!("a: {text}")]);
        assert_eq!(loaded(&loader), json!({"a": text}));
        let told = loader.load::<Flag>().unwrap_err().to_string();
        assert!(told.ends_with(&format!("write {meant}: this is a text since YAML 1.2")), "{told}");
        let schema = json!({"properties": {"a": {"type": "boolean"}}});
        let validator = swarm_config::ConfigValidator::new(schema).unwrap();
        let told = loader.validator(validator).load_tree().unwrap_err().to_string();
        assert!(told.contains(&format!("write {meant}: this is a text since YAML 1.2")), "{told}");
    }
}

fn merge_keys() {
    let text = "base: &b {x: 1, y: 1}\nall: {<<: *b, y: 2}";
    assert_eq!(parse(Format::Yaml, text).unwrap().to_json()["all"], json!({"x": 1, "y": 2}));
}

fn brackets() {
    for (text, told) in [
        ("a: [1, 2\nb: 3\n", "a:1:4: this `[` is not closed before line 2, column 1: put a `]`"),
        ("a: {x: 1\nb: 3\n", "a:1:4: this `{` is not closed before line 2, column 1: put a `}`"),
        (
            "t:\n  a: [1,\n    {b: [2}]\n  c: 3\n",
            "a:3:9: this `[` is not closed before the next `}`: put a `]`",
        ),
        ("t:\n  - [1, 2\n  - 3\n", "a:2:5: this `[` is not closed before line 3, column 3: put a `]`"),
        ("a: [1, 2\n  b: 3\nc: 4", "the `[` of line 1, column 4 is open here: put a `]` where it ends"),
        ("a: {x: 1,\n  - 2\n", "the `{` of line 1, column 4 is open here: put a `}` where it ends"),
        ("a: {x: 1,\n  y: 2: 3}\n", "the `{` of line 1, column 4 is open here: put a `}` where it ends"),
        ("a: {x: 1,\n  y: [1, 2\n", "a:2:6: this `[` is not closed: put a `]` where it ends"),
        ("a: [1, 2\n---\nb: 1", "a:1:4: this `[` is not closed: put a `]` where it ends"),
        (
            "# é\na: [\n  1,\n]\n",
            "a:4:1: `]` stands too far left: it closes the `[` of line 2, column 4; indent it",
        ),
        // Where no bracket is to blame.
        ("a: 1\n b: 2\n", "a:2:"),
        ("a: [1, \"\\q\"]\n", "a:1:"),
        ("a: {x: 1: 2}\n", "a:1:"),
    ] {
        let (kind, found) = refused(Format::Yaml, text);
        assert_eq!(kind, ErrorKind::Syntax, "{text}");
        assert!(found.starts_with(told) || told.starts_with("the") && found.ends_with(told), "{text}{found}");
        assert_eq!(found.contains('`'), told.contains('`'), "{text}{found}");
    }
}

fn tags() {
    let tree = parse(Format::Yaml, "a: !vault x\nb: !point {x: 1}\nc: !!str 1").unwrap();
    assert_eq!(tree.to_json(), json!({"a": "x", "b": {"x": 1}, "c": "1"}));
    for wrong in ["a: 1\n---\nb: 1", "[a]: 1", "? {a: 1}\n: 1"] {
        assert_eq!(refused(Format::Yaml, wrong).0, ErrorKind::Syntax, "{wrong}");
    }
}

fn dates() {
    for date in ["2026-01-02", "2026-01-02T03:04:05Z", "03:04:05", "2026-01-02 03:04:05.6-07:00"] {
        assert_eq!(parse(Format::Toml, format!("a = {date}")).unwrap().to_json(), json!({"a": date}));
    }
    for wrong in ["2026-13-02", "2026-02-30", "25:00:00"] {
        assert_eq!(refused(Format::Toml, format!("a = {wrong}")).0, ErrorKind::Syntax, "{wrong}");
    }
}

fn empty() {
    for format in ALL {
        for text in ["", "\n\n", "\u{feff}"] {
            match format {
                Format::Json => assert_eq!(refused(format, text).0, ErrorKind::Syntax),
                _ => assert_eq!(parse(format, text).unwrap().to_json(), json!({}), "{format:?} {text:?}"),
            }
        }
    }
    assert_eq!(parse(Format::Yaml, "# nothing\n").unwrap().to_json(), json!({}));
}

fn untyped() {
    #[derive(Debug, Deserialize, PartialEq)]
    struct Typed {
        port: u16,
        ratio: f64,
        on: bool,
        name: String,
    }
    for format in [Format::Dotenv, Format::Ini] {
        let loader = ConfigLoader::new().text("a", format, "port=80\nratio=0.5\non=true\nname=7");
        assert_eq!(loaded(&loader), json!({"port": "80", "ratio": "0.5", "on": "true", "name": "7"}));
        let config = loader.load::<Typed>().unwrap();
        assert_eq!(*config.get(), Typed { port: 80, ratio: 0.5, on: true, name: "7".into() });
    }
}

fn references() {
    let held = BTreeMap::from([("X".to_owned(), swarm_config::Secret::new("${a}".to_owned()))]);
    let loader = texts(["a: 1\nb: ${env:X}\nc: ${vault:X}"])
        .secret_provider("env", held.clone())
        .secret_provider("vault", held);
    let config = loader.load::<BTreeMap<String, Value>>().unwrap();
    let all = config.get();
    assert_eq!((&all["b"], &all["c"]), (&json!("${a}"), &json!("${a}")));
    assert!(["b", "c"].iter().all(|key| all.tree().get(key).unwrap().is_secret()));
    assert!(!format!("{all:?}").contains("${a}"), "{all:?}");
}

fn another_key() {
    let loader =
        texts(["db: {host: h, port: 1}\na: ${db.host}:${db.port}\nb: ${db.port}\nc: ${db}\nd: ${a}"]);
    let all = loaded(&loader);
    assert_eq!(
        (&all["a"], &all["b"], &all["c"], &all["d"]),
        (&json!("h:1"), &json!(1), &all["db"], &json!("h:1"))
    );
    let error = texts(["a: ${b}\nb: x ${a}"]).load_tree().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Interpolation);
    assert!(error.to_string().contains("a -> b -> a"), "{error}");
}

fn held(name: &str) -> BTreeMap<String, swarm_config::Secret<String>> {
    BTreeMap::from([(name.to_owned(), swarm_config::Secret::new("held".to_owned()))])
}

fn variable() {
    let path = std::env::var("PATH").unwrap();
    let config = texts(["a: ${env:PATH}"]).load::<BTreeMap<String, String>>().unwrap();
    assert_eq!(config.get()["a"], path);
    assert!(config.get().tree().get("a").unwrap().is_secret());
}

fn provided() {
    let loader = texts(["a: ${vault:app/db#password}"]).secret_provider("vault", held("app/db#password"));
    assert_eq!(loader.load::<BTreeMap<String, String>>().unwrap().get()["a"], "held");
    let error = texts(["a: ${vault:app/db#password}"]).load_tree().unwrap_err();
    assert!(error.to_string().contains("nobody provides `vault:`"), "{error}");
}

fn in_place_of_none() {
    let loader = texts(["a: ${env:PORT:-8080}\nb: ${env:NONE:-no one}\nc: ${none:-}"]);
    let all = loader.secret_provider("env", held("PORT")).load::<BTreeMap<String, Value>>().unwrap();
    let all = all.get();
    assert_eq!((&all["a"], &all["b"], &all["c"]), (&json!("held"), &json!("no one"), &json!("")));
    // Neither where there is a value nor where there is none, for the first `}` ends the reference.
    for text in ["a: ${env:PORT:-${b}}", "a: ${env:NONE:-${b}}", "a: ${env:NONE:-$${b}}"] {
        let loader = texts([text]).secret_provider("env", held("PORT"));
        let error = loader.load_tree().unwrap_err().to_string();
        assert!(error.contains("a default holds no `${…}`"), "{error}");
    }
}

fn as_it_stands() {
    let text = "a: $${x}\nb: $x {y} $$\nc: ${d}\nd: 1";
    assert_eq!(loaded(&texts([text])), json!({"a": "${x}", "b": "$x {y} $$", "c": 1, "d": 1}));
    let plain = json!({"a": "$${x}", "b": "$x {y} $$", "c": "${d}", "d": 1});
    assert_eq!(loaded(&texts([text]).without_interpolation()), plain);
}
