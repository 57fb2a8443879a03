//! Configurations and schemas made to exhaust whoever reads them. Each goes off in a process of its own, which has 1 GiB
//! of address space and 2 MiB of stack: it ends with a typed error, and soon, or the test fails.

use std::process::Command;
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde_json::{Value, json};
use swarm_config::{
    ConfigLoader, ConfigValidator, Error, ErrorKind, Format, Limits, MergeStrategy, References, Tree,
};

struct Bomb {
    name: &'static str,
    /// What it must end with.
    kinds: &'static [ErrorKind],
    /// What it may take in a build with optimisation, in milliseconds. More than 100 for what grows only
    /// as the text does, and for a schema that is searched for secrets up to the bound on places.
    most: u64,
    /// Makes it, untimed, and says how to set it off.
    make: fn() -> Box<dyn FnOnce() -> Result<(), Error>>,
}

const LIMIT: &[ErrorKind] = &[ErrorKind::Limit];
const INVALID: &[ErrorKind] = &[ErrorKind::Invalid];

fn parse(format: Format, text: String) -> Box<dyn FnOnce() -> Result<(), Error>> {
    Box::new(move || Tree::parse("bomb", format, &text, &Limits::default()).map(drop))
}

fn load(text: String) -> Box<dyn FnOnce() -> Result<(), Error>> {
    Box::new(move || ConfigLoader::new().text("bomb", Format::Yaml, text).load_tree().map(drop))
}

fn compile(schema: Value) -> Box<dyn FnOnce() -> Result<(), Error>> {
    Box::new(move || ConfigValidator::new(schema).map(drop))
}

fn validate(schema: Value, text: String) -> Box<dyn FnOnce() -> Result<(), Error>> {
    let validator = ConfigValidator::new(schema).unwrap();
    let loader = ConfigLoader::new().text("bomb", Format::Json, text).validator(validator);
    Box::new(move || loader.load_tree().map(drop))
}

/// Levels of nine references each to the level before.
fn levels(first: &str, line: impl Fn(usize, &dyn Fn(&str) -> String) -> String) -> String {
    let mut text = format!("{first}\n");
    for at in 1..10 {
        text += &line(at, &|reference| vec![reference.replace('#', &(at - 1).to_string()); 9].join(", "));
    }
    text
}

fn each(count: usize, line: impl Fn(usize) -> String) -> String {
    (0..count).map(line).collect()
}

/// A schema whose every level applies the one below twice.
fn doubling(keyword: &str) -> Value {
    let below = |at: usize| json!({keyword: [{"$ref": format!("#/$defs/d{}", at + 1)}, {"$ref": format!("#/$defs/d{}", at + 1)}]});
    let mut defs: serde_json::Map<String, Value> = (0..40).map(|at| (format!("d{at}"), below(at))).collect();
    defs.insert("d40".into(), json!({"type": "object"}));
    json!({"$ref": "#/$defs/d0", "$defs": defs})
}

/// Compiles a schema that refers to a document elsewhere.
fn compile_with(document: fn(&str) -> Value) -> Box<dyn FnOnce() -> Result<(), Error>> {
    let builder = ConfigValidator::builder().schema(json!({"$ref": "http://x.test/0"}));
    Box::new(move || {
        builder.retriever(move |uri| Ok(document(&uri["http://x.test/".len()..]))).build().map(drop)
    })
}

fn next_document(name: &str) -> String {
    format!("http://x.test/{}", name.parse::<u32>().unwrap() + 1)
}

/// Loads, and explains everything: what it ends with is an error for the sake of this test.
fn explain(text: String) -> Box<dyn FnOnce() -> Result<(), Error>> {
    let config = ConfigLoader::new().text("bomb", Format::Yaml, text).load::<Value>().unwrap();
    Box::new(move || {
        let shown = config.explain_all().len() + config.explain("a0")?.to_string().len();
        assert!(shown < 16 << 10, "{shown}");
        config.explain("nothing").map(drop)
    })
}

/// A schema that goes two ways into each level of a deep value, and finds fault with the last level only.
fn twice(keyword: &str) -> Box<dyn FnOnce() -> Result<(), Error>> {
    let below = json!({"properties": {"a": {"$ref": "#"}}});
    let deep = format!("{}{{}}{}", "{\"a\":".repeat(100), "}".repeat(100));
    validate(json!({"minProperties": 1, keyword: [below, below]}), deep)
}

/// A schema with keys that all hold itself, the last of them a secret.
fn branching(keys: usize) -> Value {
    let mut fields: serde_json::Map<String, Value> =
        (0..keys).map(|at| (format!("k{at}"), json!({"$ref": "#"}))).collect();
    fields.insert("secret".into(), json!({"type": "string", "writeOnly": true}));
    json!({"properties": fields})
}

#[derive(Debug, Deserialize)]
struct Narrow {
    #[allow(dead_code, reason = "read by serde")]
    known: Option<u8>,
}

const BOMBS: &[Bomb] = &[
    Bomb {
        name: "9^9 YAML aliases",
        kinds: LIMIT,
        most: 1000,
        make: || {
            parse(
                Format::Yaml,
                levels("a0: &a0 [x, x, x, x, x, x, x, x, x]", |at, nine| {
                    format!("a{at}: &a{at} [{}]\n", nine("*a#"))
                }),
            )
        },
    },
    Bomb {
        name: "9^9 YAML merges",
        kinds: LIMIT,
        most: 1000,
        make: || {
            parse(
                Format::Yaml,
                levels("a0: &a0 {k: {k: {k: x}}}", |at, nine| {
                    let keys = each(9, |key| format!("k{key}: {{<<: [{}]}}, ", nine("*a#")));
                    format!("a{at}: &a{at} {{{keys}}}\n")
                }),
            )
        },
    },
    Bomb {
        name: "a long text, aliased often",
        kinds: LIMIT,
        most: 100,
        make: || parse(Format::Yaml, format!("a: &a {}\nb: [{}]", "x".repeat(100_000), "*a, ".repeat(9_000))),
    },
    Bomb {
        name: "1 MB of [ in JSON",
        kinds: LIMIT,
        most: 100,
        make: || parse(Format::Json, "[".repeat(1 << 20)),
    },
    Bomb {
        name: "1 MB of [ in YAML",
        kinds: LIMIT,
        most: 100,
        make: || parse(Format::Yaml, "[".repeat(1 << 20)),
    },
    Bomb {
        name: "1 MB of { in YAML",
        kinds: LIMIT,
        most: 100,
        make: || parse(Format::Yaml, "{".repeat(1 << 20)),
    },
    Bomb {
        name: "1 MB of - in YAML",
        kinds: LIMIT,
        most: 100,
        make: || parse(Format::Yaml, "- ".repeat(1 << 19)),
    },
    Bomb {
        name: "1 MB of ? in YAML",
        kinds: &[ErrorKind::Syntax],
        most: 100,
        make: || parse(Format::Yaml, "? ".repeat(1 << 19)),
    },
    Bomb {
        name: "1 MB of [ in TOML",
        kinds: LIMIT,
        most: 100,
        make: || parse(Format::Toml, format!("a = {}", "[".repeat(1 << 20))),
    },
    Bomb {
        name: "a table 1e5 deep in JSON",
        kinds: LIMIT,
        most: 100,
        make: || parse(Format::Json, format!("{}1{}", "{\"a\": ".repeat(100_000), "}".repeat(100_000))),
    },
    Bomb {
        name: "a table 1e5 deep in YAML's flow",
        kinds: LIMIT,
        most: 100,
        make: || parse(Format::Yaml, format!("{}1{}", "{a: ".repeat(100_000), "}".repeat(100_000))),
    },
    Bomb {
        name: "a table 2000 deep in YAML's blocks",
        kinds: LIMIT,
        most: 100,
        make: || parse(Format::Yaml, each(2000, |at| format!("{}a:\n", " ".repeat(at)))),
    },
    Bomb {
        name: "a table 1e5 deep in TOML's header",
        kinds: LIMIT,
        most: 100,
        make: || parse(Format::Toml, format!("[{}a]", "a.".repeat(100_000))),
    },
    Bomb {
        name: "a table 1e5 deep in TOML's keys",
        kinds: LIMIT,
        most: 100,
        make: || parse(Format::Toml, format!("{}a = 1", "a.".repeat(100_000))),
    },
    Bomb {
        name: "a table 1e5 deep in TOML's inline tables",
        kinds: LIMIT,
        most: 100,
        make: || parse(Format::Toml, format!("a = {}", "{a = ".repeat(100_000))),
    },
    Bomb {
        name: "a value 300 deep in code",
        kinds: LIMIT,
        most: 100,
        make: || {
            let value = (0..300).fold(json!(1), |value, _| json!([value]));
            Box::new(move || ConfigLoader::new().values("deep", &json!({"a": value})).load_tree().map(drop))
        },
    },
    Bomb {
        name: "a file of 100 MB",
        kinds: LIMIT,
        most: 100,
        make: || {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("bomb.json");
            std::fs::File::create(&path).unwrap().set_len(100 << 20).unwrap();
            Box::new(move || {
                let _folder = folder;
                ConfigLoader::new().file(path).load_tree().map(drop)
            })
        },
    },
    Bomb {
        name: "a text of 100 MB",
        kinds: LIMIT,
        most: 100,
        make: || parse(Format::Toml, " ".repeat(100 << 20)),
    },
    Bomb {
        name: "a device without an end",
        kinds: LIMIT,
        most: 100,
        make: || {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("zero.json");
            std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
            Box::new(move || {
                let _folder = folder;
                ConfigLoader::new().file(path).load_tree().map(drop)
            })
        },
    },
    Bomb {
        name: "3 million values",
        kinds: LIMIT,
        most: 500,
        make: || parse(Format::Json, format!("[{}1]", "1,".repeat(3_000_000))),
    },
    Bomb {
        name: "a string of 2 MB",
        kinds: LIMIT,
        most: 100,
        make: || parse(Format::Json, format!("\"{}\"", "x".repeat(2 << 20))),
    },
    Bomb {
        name: "texts that double",
        kinds: LIMIT,
        most: 100,
        make: || load(levels("a0: xxxxxxxxx", |at, nine| format!("a{at}: \"{}\"\n", nine("${a#}")))),
    },
    Bomb {
        name: "a long text, referred to often",
        kinds: LIMIT,
        most: 100,
        make: || {
            load(format!("a: {}\n{}", "x".repeat(900_000), each(1000, |at| format!("b{at}: \"${{a}}!\"\n"))))
        },
    },
    Bomb {
        name: "a large table, referred to often",
        kinds: LIMIT,
        most: 100,
        make: || {
            let table = each(5000, |at| format!("  k{at}: 1\n"));
            load(format!("a:\n{table}{}", each(5000, |at| format!("b{at}: ${{a}}\n"))))
        },
    },
    Bomb {
        name: "tables referred to in tables",
        kinds: LIMIT,
        most: 100,
        make: || {
            let deep =
                |name: &str, inner: &str| format!("{name}: {}{inner}{}\n", "[".repeat(100), "]".repeat(100));
            load(deep("a", "1") + &deep("b", "\"${a}\""))
        },
    },
    Bomb {
        name: "references in a ring",
        kinds: &[ErrorKind::Interpolation],
        most: 100,
        make: || load("a: ${b}\nb: ${c}\nc: ${a}\n".into()),
    },
    Bomb {
        name: "references in a row of 10,000",
        kinds: LIMIT,
        most: 100,
        make: || load(each(10_000, |at| format!("a{at}: ${{a{}}}\n", at + 1)) + "a10000: x"),
    },
    Bomb { name: "allOf that doubles", kinds: LIMIT, most: 100, make: || compile(doubling("allOf")) },
    Bomb { name: "anyOf that doubles", kinds: LIMIT, most: 100, make: || compile(doubling("anyOf")) },
    Bomb {
        name: "allOf that doubles, with encoded references",
        kinds: LIMIT,
        most: 100,
        make: || {
            let text = doubling("allOf").to_string();
            compile(serde_json::from_str(&text.replace("#/$defs", "#/%24%64efs")).unwrap())
        },
    },
    Bomb {
        name: "allOf that doubles, below a property with the name of a keyword",
        kinds: LIMIT,
        most: 100,
        make: || {
            let doubled = doubling("allOf");
            compile(json!({"properties": {"default": {"$ref": "#/$defs/d0"}}, "$defs": doubled["$defs"]}))
        },
    },
    Bomb {
        name: "dependencies that double",
        kinds: LIMIT,
        most: 100,
        make: || {
            let both = |at: usize| json!({"dependencies": {"a": {"$ref": format!("#/definitions/d{at}")}, "b": {"$ref": format!("#/definitions/d{at}")}}});
            let mut defs: serde_json::Map<String, Value> =
                (0..40).map(|at| (format!("d{at}"), both(at + 1))).collect();
            defs.insert("d40".into(), json!({}));
            compile(
                json!({"$schema": "http://json-schema.org/draft-07/schema#", "allOf": [both(0)], "definitions": defs}),
            )
        },
    },
    Bomb {
        name: "documents that double",
        kinds: LIMIT,
        most: 100,
        make: || {
            compile_with(|name| match name {
                "40" => json!({}),
                _ => json!({"allOf": [{"$ref": next_document(name)}, {"$ref": next_document(name)}]}),
            })
        },
    },
    Bomb {
        name: "documents without an end",
        kinds: LIMIT,
        most: 1000,
        make: || compile_with(|name| json!({"properties": {"a": {"$ref": next_document(name)}}})),
    },
    Bomb {
        name: "a document that refers to itself",
        kinds: &[ErrorKind::Schema],
        most: 100,
        make: || compile_with(|_| json!({"allOf": [{"$ref": "http://x.test/0"}]})),
    },
    Bomb {
        name: "explanations of texts that refer to the next ten times",
        kinds: &[ErrorKind::NotFound],
        most: 100,
        make: || {
            explain(each(8, |at| format!("a{at}: '{}'\n", format!("${{a{}}}", at + 1).repeat(10))) + "a8: ''")
        },
    },
    Bomb {
        name: "a ring of 20,000, each also back to the first",
        kinds: INVALID,
        most: 500,
        make: || {
            let rule = References::new("s.*", "s").unwrap().acyclic();
            let validator = ConfigValidator::builder().rule(rule).build().unwrap();
            let text = each(20_000, |at| format!("  k{at}: [k{}, k0]\n", (at + 1) % 20_000));
            let loader =
                ConfigLoader::new().text("bomb", Format::Yaml, format!("s:\n{text}")).validator(validator);
            Box::new(move || loader.load_tree().map(drop))
        },
    },
    Bomb {
        name: "lists of 50,000, merged by key",
        kinds: INVALID,
        most: 500,
        make: || {
            let list = |from: usize| {
                format!("{{\"l\":[{}{{}}]}}", each(50_000, |at| format!("{{\"id\":\"{}\"}},", at + from)))
            };
            let validator = ConfigValidator::new(json!({"required": ["nothing"]})).unwrap();
            let loader = ConfigLoader::new()
                .text("below", Format::Json, list(0))
                .text("above", Format::Json, list(50_000))
                .merge_with("l", MergeStrategy::ByKey("id".into()))
                .validator(validator);
            Box::new(move || loader.load_tree().map(drop))
        },
    },
    Bomb {
        name: "a schema that refers to itself",
        kinds: &[ErrorKind::Schema],
        most: 100,
        make: || {
            compile(
                json!({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}}}),
            )
        },
    },
    Bomb {
        name: "8,000 keys, and as many patterns for keys",
        kinds: INVALID,
        most: 100,
        make: || {
            let all = |name: &str| -> serde_json::Map<String, Value> {
                (0..8000).map(|at| (format!("{name}{at}"), json!({"type": "integer"}))).collect()
            };
            let schema = json!({"properties": all("k"), "patternProperties": all("^p")});
            validate(schema, "{\"k1\": true}".into())
        },
    },
    Bomb {
        name: "50 variables among 100,000 keys",
        kinds: &[ErrorKind::Ambiguous],
        most: 1000,
        make: || {
            let text = format!("{{{}\"a-b\":0,\"a_b\":0}}", each(100_000, |at| format!("\"key-{at}\":0,")));
            let variables = (0..50).map(|at| (format!("APP_KEY_{at}"), "1"));
            let variables: Vec<_> = variables.chain([("APP_A_B".to_owned(), "1")]).collect();
            let loader = ConfigLoader::new().text("bomb", Format::Json, text).env_from("APP", variables);
            Box::new(move || loader.load_tree().map(drop))
        },
    },
    Bomb {
        name: "5,000 keys, and 1,000 patterns before the one with a default",
        kinds: LIMIT,
        most: 1000,
        make: || {
            let mut patterns: serde_json::Map<String, Value> =
                (0..1000).map(|at| (format!("p{at}$"), json!({}))).collect();
            patterns.insert("z".into(), json!({"properties": {"a": {"default": 1}}}));
            let text = format!("{{{}\"z\":{{}}}}", each(5_000, |at| format!("\"k{at}\":0,")));
            validate(json!({"patternProperties": patterns}), text)
        },
    },
    Bomb { name: "all of itself, twice a level", kinds: LIMIT, most: 100, make: || twice("allOf") },
    Bomb { name: "any of itself, twice a level", kinds: LIMIT, most: 100, make: || twice("anyOf") },
    Bomb {
        name: "a schema with secrets in very many places",
        kinds: LIMIT,
        most: 1000,
        make: || compile(branching(50)),
    },
    Bomb {
        name: "a schema with very many keys",
        kinds: INVALID,
        most: 100,
        make: || {
            let mut schema = branching(50);
            schema["properties"]["secret"] = json!(false);
            schema["required"] = json!(["nothing"]);
            validate(schema, "{\"k1\": {\"nothing\": 1}}".into())
        },
    },
    Bomb {
        name: "a pattern that is large once compiled",
        kinds: &[ErrorKind::Schema],
        most: 100,
        make: || compile(json!({"pattern": "((((a{99}){99}){99}){99}){99}"})),
    },
    Bomb {
        name: "a pattern that backtracks",
        kinds: INVALID,
        most: 100,
        make: || {
            validate(
                json!({"properties": {"a": {"pattern": "^(a+)+$"}}}),
                format!("{{\"a\":\"{}!\"}}", "a".repeat(100_000)),
            )
        },
    },
    Bomb {
        name: "a pattern that looks around",
        kinds: &[ErrorKind::Schema],
        most: 100,
        make: || compile(json!({"pattern": "^(?=(a+)+$)"})),
    },
    Bomb {
        name: "a file wrong in 200,000 places",
        kinds: INVALID,
        most: 500,
        make: || {
            validate(
                json!({"additionalProperties": {"type": "string"}}),
                format!("{{{}\"z\":0}}", each(200_000, |at| format!("\"k{at}\":0,"))),
            )
        },
    },
    Bomb {
        name: "100,000 keys that are not allowed",
        kinds: INVALID,
        most: 100,
        make: || {
            validate(
                json!({"properties": {"key-a": {}, "key-b": {}}, "additionalProperties": false}),
                format!("{{{}\"z\":0}}", each(100_000, |at| format!("\"k{at}\":0,"))),
            )
        },
    },
    Bomb {
        name: "100,000 keys that the type does not have",
        kinds: INVALID,
        most: 100,
        make: || {
            let text = format!("{{{}\"z\":0}}", each(100_000, |at| format!("\"k{at}\":0,")));
            Box::new(move || {
                ConfigLoader::new()
                    .text("bomb", Format::Json, text)
                    .deny_unknown_keys()
                    .load::<Narrow>()
                    .map(drop)
            })
        },
    },
    Bomb {
        name: "20,000 names that dangle",
        kinds: INVALID,
        most: 100,
        make: || {
            let validator = ConfigValidator::builder()
                .rule(References::new("tasks.*", "names").unwrap())
                .build()
                .unwrap();
            let tasks = each(20_000, |at| format!("\"t{at}\":\"dangling-{at}\","));
            let names = each(20_000, |at| format!("\"name-{at}-x\":0,"));
            let text = format!("{{\"tasks\":{{{tasks}\"z\":\"z\"}},\"names\":{{{names}\"y\":0}}}}");
            let loader = ConfigLoader::new().text("bomb", Format::Json, text).validator(validator);
            Box::new(move || loader.load_tree().map(drop))
        },
    },
    Bomb {
        name: "two long names that are nearly alike",
        kinds: &[ErrorKind::Invalid],
        most: 100,
        make: || {
            let validator = ConfigValidator::builder()
                .rule(References::new("tasks.*", "names").unwrap())
                .build()
                .unwrap();
            let long = "x".repeat(1_000_000);
            let text = format!("{{\"tasks\":{{\"a\":\"{long}y\"}},\"names\":{{\"{long}z\":0}}}}");
            let loader = ConfigLoader::new().text("bomb", Format::Json, text).validator(validator);
            Box::new(move || loader.load_tree().map(drop))
        },
    },
    Bomb {
        name: "variables that nobody knows, among long keys",
        kinds: &[ErrorKind::Invalid],
        // The keys are 25 MB, which are read first.
        most: 1000,
        make: || {
            let text = each(25, |at| format!("\"{}{at}\":0,", "k-".repeat(500_000)));
            let names = (0..20).map(|at| (format!("APP_{}{at}", "N".repeat(200)), "1"));
            let long = [(format!("APP_{}", "K_".repeat(5_000)), "1")];
            let loader = ConfigLoader::new()
                .text("bomb", Format::Json, format!("{{{text}\"z\":0}}"))
                .env_from("APP", names.chain(long))
                .deny_unknown_keys();
            Box::new(move || loader.load_tree().map(drop))
        },
    },
    Bomb {
        name: "5,000 references to one long text",
        kinds: LIMIT,
        most: 1000,
        make: || {
            load(format!(
                "a: \"$${{{}\"\n{}",
                "x".repeat(1 << 19),
                each(5_000, |at| format!("k{at}: \"${{a}}\"\n"))
            ))
        },
    },
    Bomb {
        name: "32 MiB of empty lines",
        kinds: LIMIT,
        most: 2000,
        make: || parse(Format::Toml, "\n".repeat(32 << 20)),
    },
    Bomb {
        name: "a chain of 20,000 schemas",
        kinds: INVALID,
        most: 2000,
        make: || {
            let mut defs: serde_json::Map<String, Value> = (0..20_000)
                .map(|at| {
                    (format!("d{at}"), json!({"properties": {"x": {"$ref": format!("#/$defs/d{}", at + 1)}}}))
                })
                .collect();
            defs.insert("d20000".into(), json!({"properties": {"v": {"default": 1}}}));
            let schema = json!({"required": ["y"], "allOf": [{"$ref": "#/$defs/d0"}], "$defs": defs});
            let set_off = move || {
                ConfigValidator::new(schema).and_then(|validator| {
                    ConfigLoader::new()
                        .text("bomb", Format::Json, "{}")
                        .validator(validator)
                        .load::<Value>()
                        .map(drop)
                })
            };
            Box::new(set_off)
        },
    },
    Bomb {
        name: "schemas that combine in 2^24 ways",
        kinds: LIMIT,
        most: 2000,
        make: || {
            let next = |at: usize| json!({"$ref": format!("#/$defs/d{}", at + 1)});
            let mut defs: serde_json::Map<String, Value> = (1..24)
                .map(|at| (format!("d{at}"), json!({"properties": {"a": next(at), "b": next(at)}})))
                .collect();
            defs.insert("d24".into(), json!({"properties": {"v": {"default": 1}}}));
            let root = json!({"a": {"allOf": [{"$ref": "#"}, next(0)]}, "b": {"$ref": "#"}});
            compile(json!({"properties": root, "$defs": defs}))
        },
    },
    Bomb {
        name: "a list within lists, unique at each level",
        kinds: LIMIT,
        most: 1000,
        make: || {
            let inner = format!("[{}0]", each(20_000, |at| format!("1{at},")));
            let text = format!("{{\"a\":{}{inner}{}}}", "[".repeat(100), "]".repeat(100));
            let list = json!({"type": "array", "uniqueItems": true, "items": {"anyOf": [{"$ref": "#/$defs/list"}, {"type": "number"}]}});
            validate(json!({"properties": {"a": {"$ref": "#/$defs/list"}}, "$defs": {"list": list}}), text)
        },
    },
];

const CHILD: &str = "SWARM_CONFIG_BOMB";

/// Set off in a process of its own by the test below.
#[test]
fn one_bomb() {
    let Ok(name) = std::env::var(CHILD) else { return };
    let bomb = BOMBS.iter().find(|bomb| bomb.name == name).unwrap();
    let set_off = || {
        let go = (bomb.make)();
        let start = Instant::now();
        let error = go().unwrap_err();
        (start.elapsed(), error)
    };
    let thread = std::thread::Builder::new().stack_size(2 << 20).spawn(set_off).unwrap();
    let (took, error) = thread.join().unwrap();
    let text = error.to_string();
    eprintln!("went off: {} {:?} {}", took.as_micros(), error.kind(), text.lines().next().unwrap());
    assert!(text.len() < 32 << 10, "{} bytes of message", text.len());
}

#[cfg(target_os = "linux")]
#[test]
fn bombs_end_in_typed_errors_within_memory_stack_and_time() {
    let own = std::env::current_exe().unwrap();
    let mut wrong = Vec::new();
    for bomb in BOMBS {
        // The best of three in a build with optimisation, where the time is what is tested.
        let times = if cfg!(debug_assertions) { 1 } else { 3 };
        let mut best = Duration::MAX;
        let mut said = String::new();
        for _ in 0..times {
            let output = Command::new("sh")
                .args([
                    "-c",
                    "ulimit -v 1048576 && ulimit -s 2048 && exec \"$0\" bombs::one_bomb --exact --nocapture",
                ])
                .arg(&own)
                .env(CHILD, bomb.name)
                .output()
                .unwrap();
            said = String::from_utf8_lossy(&output.stderr).into_owned();
            let line = said.lines().find_map(|line| line.strip_prefix("went off: ")).map(str::to_owned);
            let Some(line) = line.filter(|_| output.status.success()) else {
                wrong.push(format!("{}: {} {said}", bomb.name, output.status));
                break;
            };
            let mut words = line.split(' ');
            best = best.min(Duration::from_micros(words.next().unwrap().parse().unwrap()));
            let kind = words.next().unwrap();
            if !bomb.kinds.iter().any(|expected| format!("{expected:?}") == kind) {
                wrong.push(format!("{}: {line}", bomb.name));
                break;
            }
        }
        // Without optimisation, on a busy machine; without limits it would be hours.
        let most = if cfg!(debug_assertions) { 60_000 } else { bomb.most };
        if best != Duration::MAX && best > Duration::from_millis(most) {
            wrong.push(format!("{}: took {best:?}: {said}", bomb.name));
        }
        eprintln!("{:>9.1?} {}", best, bomb.name);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
