use proptest::prelude::*;
use serde_json::{Value, json};
use swarm_config::{ConfigLoader, Format, MergeStrategy};

/// Merges JSON documents, lowest first.
fn merge(layers: &[&Value]) -> Value {
    with(ConfigLoader::new(), layers)
}

fn with(loader: ConfigLoader, layers: &[&Value]) -> Value {
    let text = |loader: ConfigLoader, (at, layer): (usize, &&Value)| {
        loader.text(format!("{at}.json"), Format::Json, layer.to_string())
    };
    layers.iter().enumerate().fold(loader, text).load_tree().unwrap().to_json()
}

/// RFC 7396, appendix A. Each case stands under a key, since a configuration is a table.
#[test]
fn merging_follows_the_examples_of_rfc_7396() {
    for (original, patch, result) in [
        (json!({"a":"b"}), json!({"a":"c"}), json!({"a":"c"})),
        (json!({"a":"b"}), json!({"b":"c"}), json!({"a":"b","b":"c"})),
        (json!({"a":"b"}), json!({"a":null}), json!({})),
        (json!({"a":"b","b":"c"}), json!({"a":null}), json!({"b":"c"})),
        (json!({"a":["b"]}), json!({"a":"c"}), json!({"a":"c"})),
        (json!({"a":"c"}), json!({"a":["b"]}), json!({"a":["b"]})),
        (json!({"a":{"b":"c"}}), json!({"a":{"b":"d","c":null}}), json!({"a":{"b":"d"}})),
        (json!({"a":[{"b":"c"}]}), json!({"a":[1]}), json!({"a":[1]})),
        (json!(["a", "b"]), json!(["c", "d"]), json!(["c", "d"])),
        (json!({"a":"b"}), json!(["c"]), json!(["c"])),
        (json!({"a":"foo"}), json!("bar"), json!("bar")),
        (json!({"e":null}), json!({"a":1}), json!({"e":null,"a":1})),
        (json!([1, 2]), json!({"a":"b","c":null}), json!({"a":"b"})),
        (json!({}), json!({"a":{"bb":{"ccc":null}}}), json!({"a":{"bb":{}}})),
    ] {
        let merged = merge(&[&json!({ "v": original }), &json!({ "v": patch })]);
        assert_eq!(merged, json!({ "v": result }), "{original} under {patch}");
    }
    assert_eq!(merge(&[&json!({"v": {"a": "foo"}}), &json!({"v": null})]), json!({}));
}

#[test]
fn the_founding_example_merges_as_it_says() {
    let base =
        json!({"max_retries": 3, "timeout": 30, "log_level": "INFO", "workspace_path": "agent_workspaces/"});
    let production = json!({"max_retries": 5, "log_level": "WARNING", "monitoring_enabled": true});
    let expected = json!({"max_retries": 5, "timeout": 30, "log_level": "WARNING",
        "workspace_path": "agent_workspaces/", "monitoring_enabled": true});
    assert_eq!(merge(&[&base, &production]), expected);
}

#[test]
fn a_strategy_holds_for_its_key() {
    let low = json!({"hosts": ["a"], "tags": ["x"], "db": {"a": 1, "b": 2}, "users": [{"id": 1, "n": "one"}, {"id": 2}]});
    let high =
        json!({"hosts": ["b"], "tags": ["y"], "db": {"c": 3}, "users": [{"id": 3}, {"id": 1, "m": true}]});
    let loader = ConfigLoader::new()
        .merge_with("hosts", MergeStrategy::Append)
        .merge_with("db", MergeStrategy::Replace)
        .merge_with("users", MergeStrategy::ByKey("id".into()));
    assert_eq!(
        with(loader, &[&low, &high]),
        json!({"hosts": ["a", "b"], "tags": ["y"], "db": {"c": 3},
            "users": [{"id": 1, "n": "one", "m": true}, {"id": 2}, {"id": 3}]})
    );
}

#[test]
fn tables_with_many_keys_are_searched_by_hash_and_keep_their_order() {
    let low: Value =
        (0..1000).map(|at| (format!("k{at:04}"), json!(at))).collect::<serde_json::Map<_, _>>().into();
    let high = json!({"k0500": "new", "k0501": null, "z": 1});
    let mut expected = low.clone();
    expected["k0500"] = json!("new");
    expected.as_object_mut().unwrap().remove("k0501");
    expected["z"] = json!(1);
    assert_eq!(merge(&[&low, &high]), expected);
    assert_eq!(merge(&[&low, &high, &high]), expected);
}

/// More layers than a table may find its keys through, with keys added and taken away in between.
#[test]
fn every_key_is_found_under_any_number_of_layers() {
    let low: serde_json::Map<_, _> = (0..100).map(|at| (format!("k{at}"), json!({"at": at}))).collect();
    let mut expected = low.clone();
    let mut loader = ConfigLoader::new().values("low", &low);
    for at in 0..50 {
        let mut layer =
            json!({format!("n{at}"): at, "k7": {"last": at}, "n3": {"at": at}, format!("k{at}"): "new"});
        if at % 20 == 19 {
            layer[format!("k{}", at + 30)] = json!(null);
            expected.remove(&format!("k{}", at + 30));
        }
        let all = patch(&Value::Object(expected), &layer);
        expected = all.as_object().unwrap().clone();
        loader = loader.text("layer", Format::Json, layer.to_string());
        let tree = loader.load_tree().unwrap();
        assert_eq!(tree.to_json(), all);
        for (key, value) in &expected {
            assert_eq!(tree.get(key).map(|found| found.to_json()).as_ref(), Some(value), "{key} in {at}");
        }
        for key in ["k100", "n50", "", "k49x"] {
            assert!(tree.root().get(key).is_none(), "{key}");
        }
    }
}

/// A key decides the kind of its value, so that a scalar never meets a table.
fn document(nulls: bool) -> impl Strategy<Value = Value> {
    let scalar = prop_oneof![any::<i32>().prop_map(Value::from), "[a-z]{0,3}".prop_map(Value::from)];
    let leaf = if nulls { prop_oneof![4 => scalar, 1 => Just(Value::Null)].boxed() } else { scalar.boxed() };
    let list = prop::collection::vec(leaf.clone(), 0..3).prop_map(Value::from);
    let table = |inner: BoxedStrategy<Value>, list: BoxedStrategy<Value>, leaf: BoxedStrategy<Value>| {
        let entry = prop_oneof![("s[a-c]", leaf), ("l[a-c]", list), ("t[a-c]", inner),];
        prop::collection::vec(entry, 0..6)
            .prop_map(|entries| Value::Object(entries.into_iter().collect()))
            .boxed()
    };
    let flat = table(Just(json!({})).boxed(), list.clone().boxed(), leaf.clone());
    let deeper = table(flat, list.clone().boxed(), leaf.clone());
    table(deeper, list.boxed(), leaf)
}

/// The few lines of RFC 7396, chapter 2.
fn patch(target: &Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = target.as_object().cloned().unwrap_or_default();
    for (key, value) in patch {
        if value.is_null() {
            target.remove(key);
        } else {
            let merged = self::patch(target.get(key).unwrap_or(&Value::Null), value);
            target.insert(key.clone(), merged);
        }
    }
    Value::Object(target)
}

proptest! {
    #[test]
    fn an_empty_layer_changes_nothing(a in document(false)) {
        prop_assert_eq!(merge(&[&a, &json!({})]), a.clone());
        prop_assert_eq!(merge(&[&json!({}), &a]), a);
    }

    #[test]
    fn layers_may_be_grouped_where_kinds_agree(a in document(false), b in document(false), c in document(false)) {
        let left = merge(&[&merge(&[&a, &b]), &c]);
        prop_assert_eq!(merge(&[&a, &merge(&[&b, &c])]), left.clone());
        prop_assert_eq!(merge(&[&a, &b, &c]), left);
    }

    #[test]
    fn the_same_layer_twice_is_the_layer_once(a in document(false), b in document(true)) {
        prop_assert_eq!(merge(&[&a, &a]), a.clone());
        prop_assert_eq!(merge(&[&a, &b, &b]), merge(&[&a, &b]));
    }

    #[test]
    fn what_the_higher_layer_sets_wins(a in document(false), b in document(false)) {
        let merged = merge(&[&a, &b]);
        fn holds(part: &Value, whole: &Value) -> bool {
            match part.as_object() {
                Some(entries) => entries.iter().all(|(key, part)| whole.get(key).is_some_and(|whole| holds(part, whole))),
                None => part == whole,
            }
        }
        prop_assert!(holds(&b, &merged), "{} in {}", b, merged);
    }

    #[test]
    fn merging_is_the_rfcs_few_lines(a in document(false), b in document(true), c in document(true)) {
        prop_assert_eq!(merge(&[&a, &b, &c]), patch(&patch(&a, &b), &c));
    }
}

/// The stated answer where a scalar meets a table: the higher layer's kind. Grouping then matters, as in the RFC.
#[test]
fn a_scalar_and_a_table_replace_each_other() {
    let (a, b, c) = (json!({"x": {"p": 1}}), json!({"x": 5}), json!({"x": {"q": 2}}));
    assert_eq!(merge(&[&a, &b]), b);
    assert_eq!(merge(&[&a, &b, &c]), c);
    assert_eq!(merge(&[&a, &merge(&[&b, &c])]), json!({"x": {"p": 1, "q": 2}}));
}
