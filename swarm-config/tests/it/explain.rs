use proptest::prelude::*;
use serde_json::{Value, json};
use swarm_config::testing::FakeSource;
use swarm_config::{Config, ConfigLoader, Effect, ErrorKind, Format, MergeStrategy};

fn loader(layers: &[(&str, &str)]) -> ConfigLoader {
    let text = |loader: ConfigLoader, (name, text): &(&str, &str)| loader.text(*name, Format::Json, *text);
    layers.iter().fold(ConfigLoader::new(), text)
}

fn explained(loader: ConfigLoader, path: &str) -> String {
    loader.load::<Value>().unwrap().explain(path).unwrap().to_string()
}

#[test]
fn what_is_behind_a_reference_is_explained_where_it_stands() {
    let text = "copy = '${db}'\nagain = '${copy}'\n[db]\nname = 'x'\n";
    let config = ConfigLoader::new()
        .text("base.json", Format::Json, r#"{"copy": {"name": "y"}}"#)
        .text("a.toml", Format::Toml, text)
        .load::<Value>()
        .unwrap();
    assert_eq!(
        config.explain("copy.name").unwrap().to_string(),
        "copy.name = \"x\"\n  -> a.toml:1:8: through \"${db}\"\n     base.json:1:19: \"y\"\n      \
         db.name = \"x\"\n        -> a.toml:4:8: \"x\""
    );
    let again = config.explain("again.name").unwrap();
    assert_eq!(again.layers()[0].effect(), Effect::Refers);
    assert_eq!(again.references()[0].path(), "copy.name");
    assert_eq!(again.references()[0].references()[0].layers()[0].location().to_string(), "a.toml:4:8");
    let all: Vec<String> = config.explain_all().iter().map(|why| why.to_string()).collect();
    assert!(
        all.iter().all(|why| why.contains("-> a.toml:4:8: \"x\"") && !why.contains("covered")),
        "{all:#?}"
    );
    assert!(config.explain("copy.nope").is_err());
}

#[test]
fn a_default_where_a_reference_stands_is_the_defaults() {
    let validator = swarm_config::ConfigValidator::new(json!({"properties": {
        "copy": {"properties": {"size": {"default": 5}}}, "all": {"default": "${db}"},
    }}));
    let config = loader(&[("a.json", r#"{"copy": "${db}", "db": {"name": "x"}}"#)])
        .validator(validator.unwrap())
        .load::<Value>()
        .unwrap();
    assert_eq!(
        config.explain("copy.size").unwrap().to_string(),
        "copy.size = 5\n     a.json:1:10: through \"${db}\"\n  -> default in the schema: 5 by default"
    );
    assert_eq!(
        config.explain("all.name").unwrap().to_string(),
        "all.name = \"x\"\n  -> default in the schema: through \"${db}\"\n      \
         db.name = \"x\"\n        -> a.json:1:34: \"x\""
    );
}

#[test]
fn the_layer_that_takes_a_key_away_is_named() {
    let layers = [
        ("base", r#"{"db": {"a": 1, "b": 2}, "plugins": ["x", "y"], "kind": {"a": 1}}"#),
        ("prod", r#"{"db": {"c": 3}, "plugins": ["z"], "kind": 7}"#),
    ];
    let load = || loader(&layers).merge_with("db", MergeStrategy::Replace);
    for (path, expected) in [
        ("db.a", "db.a is not set\n  -> prod:1:8: removed by {\"c\":3}\n     base:1:14: 1"),
        ("db", "db = {\"c\":3}\n  -> prod:1:8: {\"c\":3}\n     base:1:8: {\"a\":1,\"b\":2}"),
        ("plugins.1", "plugins.1 is not set\n  -> prod:1:29: removed by [\"z\"]\n     base:1:43: \"y\""),
        ("plugins.0", "plugins.0 = \"z\"\n  -> prod:1:30: \"z\"\n     base:1:38: \"x\""),
        ("kind.a", "kind.a is not set\n  -> prod:1:44: covered by 7\n     base:1:63: 1"),
    ] {
        assert_eq!(explained(load(), path), expected);
    }
    let explained = load().load::<Value>().unwrap().explain("db.a").unwrap();
    assert_eq!(explained.layers().iter().map(|layer| layer.wins()).collect::<Vec<_>>(), [true, false]);
    assert_eq!(explained.layers()[0].effect(), Effect::Removes);
}

#[test]
fn a_null_where_nothing_is_decides_nothing() {
    let layers =
        [("base", r#"{"b": {"c": 1}}"#), ("prod", r#"{"b": 0}"#), ("local", r#"{"b": {"c": null}}"#)];
    assert_eq!(
        explained(loader(&layers), "b.c"),
        "b.c is not set\n     local:1:13: deleted\n  -> prod:1:7: covered by 0\n     base:1:13: 1"
    );
    assert_eq!(
        explained(loader(&layers[2..]).text("more", Format::Json, r#"{"d": null}"#), "d"),
        "d is not set\n     more:1:7: deleted"
    );
}

#[test]
fn a_strategy_for_a_position_holds_and_is_explained() {
    let layers = [
        ("base", r#"{"users": [{"id": 1, "tags": ["a"]}, {"id": 2, "tags": ["b"]}]}"#),
        ("prod", r#"{"users": [{"id": 2, "tags": ["c"]}, {"id": 1, "tags": ["d"]}]}"#),
    ];
    for (path, expected) in
        [("users.0.tags", json!([["a", "d"], ["c"]])), ("users.*.tags", json!([["a", "d"], ["b", "c"]]))]
    {
        let config = loader(&layers)
            .merge_with("users", MergeStrategy::ByKey("id".into()))
            .merge_with(path, MergeStrategy::Append)
            .load::<Value>()
            .unwrap();
        assert_eq!(json!([config.get()["users"][0]["tags"], config.get()["users"][1]["tags"]]), expected);
        for (user, tags) in expected.as_array().unwrap().iter().enumerate() {
            let wins = config
                .explain(&format!("users.{user}.tags"))
                .unwrap()
                .layers()
                .iter()
                .filter(|layer| layer.wins())
                .count();
            assert_eq!(wins, tags.as_array().unwrap().len());
        }
        assert_eq!(
            config.explain("users.0.tags.1").unwrap().to_string(),
            "users.0.tags.1 = \"d\"\n  -> prod:1:57: \"d\""
        );
    }
}

#[test]
fn a_key_that_is_not_there_is_told_with_the_nearest() {
    let config = loader(&[("a", r#"{"db": {"pool_size": 1}, "": {"x.y": 2}}"#)]).load::<Value>().unwrap();
    for (path, told) in [
        ("db.pool_sise", "db.pool_sise: no layer sets this key; did you mean `db.pool_size`?"),
        ("bd.pool_size", "bd.pool_size: no layer sets this key; did you mean `db.pool_size`?"),
        ("bd.other", "bd.other: no layer sets this key; did you mean `db`?"),
        (r#"""."x.z""#, r#"""."x.z": no layer sets this key; did you mean `""."x.y"`?"#),
        ("other", "other: no layer sets this key"),
        ("db.pool_size.x", "db.pool_size.x: no layer sets this key"),
    ] {
        let error = config.explain(path).unwrap_err();
        assert_eq!((error.kind(), error.to_string()), (ErrorKind::NotFound, told.to_owned()));
    }
}

#[test]
fn a_snapshot_explains_the_values_that_it_has() {
    let source = FakeSource::new("a.toml", Format::Toml, "a = 1");
    let config = ConfigLoader::new().fake(&source).load::<Value>().unwrap();
    let before = config.get().keep();
    source.set("b = 0\na = 2");
    config.reload().unwrap();
    assert_eq!(config.explain("a").unwrap().to_string(), "a = 2\n  -> a.toml:2:5: 2");
    let there = std::thread::spawn(move || {
        assert_eq!((before["a"].clone(), before.explain_all().len()), (json!(1), 1));
        before.explain("a").unwrap().to_string()
    });
    assert_eq!(there.join().unwrap(), "a = 1\n  -> a.toml:1:5: 1");
}

#[test]
fn a_path_reads_the_same_everywhere() {
    let config = loader(&[("a", r#"{"a": {"": {"b": 1}, "x/y": [2]}}"#)]).load::<Value>().unwrap();
    let now = config.get();
    let tree = now.tree();
    for (path, pointer, found) in [
        ("", "", tree.to_json()),
        ("a", "/a", tree.to_json()["a"].clone()),
        (r#"a."".b"#, "/a//b", json!(1)),
        ("a.x/y.0", "/a/x~1y/0", json!(2)),
    ] {
        assert_eq!(tree.get(path).unwrap().to_json(), found);
        assert_eq!(tree.pointer(pointer).unwrap().to_json(), found);
        let why = config.explain(path).unwrap();
        assert_eq!((why.path(), why.pointer()), (path.to_owned(), pointer.to_owned()));
    }
    for wrong in ["a..b", ".", "a.", ".a"] {
        assert!(tree.get(wrong).is_none() && config.explain(wrong).is_err(), "{wrong}");
    }
    let error = config.explain("a.x/y.1").unwrap_err();
    assert_eq!((error.path(), error.pointer().as_deref()), (Some("a.x/y.1"), Some("/a/x~1y/1")));
}

#[test]
fn a_secret_in_a_list_that_is_joined_is_shown_by_no_layer() {
    let config = loader(&[
        ("base", r#"{"users": [{"id": 1}]}"#),
        ("prod", r#"{"users": [{"id": 2, "word": "CANARY"}]}"#),
        ("local", r#"{"users": [{"id": 2, "word": "new"}]}"#),
    ])
    .merge_with("users", MergeStrategy::ByKey("id".into()))
    .secret("users.1.word")
    .load::<Value>()
    .unwrap();
    let shown = format!("{:?} {:?}", config.explain("users").unwrap(), config.explain("users.1").unwrap());
    assert!(!shown.contains("CANARY") && !shown.contains("new"), "{shown}");
}

/// Every path of a value, the value's own being empty.
fn paths(value: &Value, path: &str, out: &mut Vec<String>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match value {
        Value::Object(entries) => entries.iter().for_each(|(key, value)| {
            out.push(below(key));
            paths(value, &below(key), out);
        }),
        Value::Array(items) => items.iter().enumerate().for_each(|(at, value)| {
            out.push(below(&at.to_string()));
            paths(value, &below(&at.to_string()), out);
        }),
        _ => {}
    }
}

fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    value.pointer(&format!("/{}", path.replace('.', "/")))
}

/// Keys that meet tables, lists and scalars of each other.
fn layer() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![4 => (0..4u8).prop_map(Value::from), 1 => Just(Value::Null)];
    let tree = leaf.prop_recursive(3, 12, 3, |inner| {
        let item = prop_oneof![
            inner.clone(),
            (0..3u8, inner.clone()).prop_map(|(id, value)| json!({"id": id, "a": value})),
        ];
        prop_oneof![
            prop::collection::vec(("[abc]", inner), 0..3)
                .prop_map(|all| Value::Object(all.into_iter().collect())),
            prop::collection::vec(item, 0..3).prop_map(Value::Array),
        ]
    });
    prop::collection::vec(("[abc]", tree), 0..4).prop_map(|all| Value::Object(all.into_iter().collect()))
}

fn strategy() -> impl Strategy<Value = (String, MergeStrategy)> {
    let path = prop_oneof!["[abc]", "[abc]\\.[abc]", "[abc]\\.[01*]\\.a"];
    let how = prop_oneof![
        Just(MergeStrategy::Replace),
        Just(MergeStrategy::Append),
        Just(MergeStrategy::ByKey("id".into())),
    ];
    (path, how)
}

proptest! {
    /// What is said to decide does: the layers up to it make what all of them make.
    #[test]
    fn the_layer_that_wins_is_the_one_that_decides(
        layers in prop::collection::vec(layer(), 1..5), strategies in prop::collection::vec(strategy(), 0..4),
    ) {
        let load = |count: usize| -> Config<Value> {
            let loader = strategies.iter().fold(ConfigLoader::new(), |loader, (path, how)| loader.merge_with(path, how.clone()));
            let text = |loader: ConfigLoader, (at, layer): (usize, &Value)| loader.text(at.to_string(), Format::Json, layer.to_string());
            layers[..count].iter().enumerate().fold(loader, text).load().unwrap()
        };
        let made: Vec<Value> = (0..=layers.len()).map(|count| load(count).get().clone()).collect();
        let config = load(layers.len());
        let last = &made[layers.len()];
        let mut all = Vec::new();
        made.iter().for_each(|made| paths(made, "", &mut all));
        for path in all {
            let why = config.explain(&path).unwrap();
            prop_assert_eq!(why.value(), at(last, &path), "{}", why);
            let layer = |contribution: &swarm_config::Contribution| -> usize {
                contribution.location().source().parse().unwrap()
            };
            let winners: Vec<_> = why.layers().iter().filter(|layer| layer.wins()).collect();
            let top = layer(winners[0]);
            prop_assert_eq!(at(&made[top + 1], &path), at(last, &path), "{}", why);
            match why.value() {
                None => prop_assert!(winners.len() == 1 && winners[0].effect() != Effect::Sets && at(&made[top], &path).is_some(), "{}", why),
                Some(value) => {
                    prop_assert!(winners.iter().all(|layer| layer.effect() == Effect::Sets), "{}", why);
                    if !value.is_object() && !value.is_array() {
                        prop_assert!(winners.len() == 1 && winners[0].value() == value, "{}", why);
                    }
                }
            }
            // Of the layers that are not named, none changes it.
            for (count, pair) in made.windows(2).enumerate() {
                if !why.layers().iter().any(|one| layer(one) == count) {
                    prop_assert_eq!(at(&pair[0], &path), at(&pair[1], &path), "layer {} of {}", count, why);
                }
            }
        }
    }
}

#[test]
fn a_tree_without_a_type_is_explained_as_a_configuration_is() {
    let schema = json!({"properties": {"size": {"default": 5}}});
    let loader = loader(&[
        ("a.json", r#"{"db": {"name": "x", "password": "hunter2"}, "gone": 1}"#),
        ("b.json", r#"{"copy": "${db.name}", "db": {"password": "hunter3"}, "gone": null}"#),
    ])
    .set("db.name=y")
    .secret("db.password")
    .validator(swarm_config::ConfigValidator::new(schema).unwrap());
    let (tree, config) = (loader.load_tree().unwrap(), loader.load::<Value>().unwrap());
    let said =
        |all: Vec<swarm_config::Explanation>| all.iter().map(|why| why.to_string()).collect::<Vec<_>>();
    assert_eq!(said(tree.explain_all()), said(config.explain_all()));
    for path in ["db.name", "db", "copy", "size", "gone", "db.password", "db.password.below"] {
        let one = tree.explain(path).map(|why| why.to_string());
        let two = config.explain(path).map(|why| why.to_string());
        assert_eq!(one.map_err(|error| error.to_string()), two.map_err(|error| error.to_string()), "{path}");
    }
    assert_eq!(
        tree.explain("db.name").unwrap().to_string(),
        "db.name = \"y\"\n  -> override of db.name: \"y\"\n     a.json:1:17: \"x\""
    );
    assert!(said(tree.explain_all()).iter().all(|why| !why.contains("hunter")));
    // One that was only read has one layer.
    let tree =
        swarm_config::Tree::parse("a.toml", Format::Toml, "a.b = '${c}'", &Default::default()).unwrap();
    assert_eq!(tree.explain("a.b").unwrap().to_string(), "a.b = \"${c}\"\n  -> a.toml:1:7: \"${c}\"");
    assert_eq!(tree.explain("a.c").unwrap_err().kind(), ErrorKind::NotFound);
}
