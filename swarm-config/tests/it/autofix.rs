use proptest::prelude::*;
use serde_json::{Value, json};
use swarm_config::{ConfigLoader, ConfigValidator, Format, Limits, Tree};

fn validator() -> ConfigValidator {
    ConfigValidator::new(json!({
        "properties": {
            "port": {"type": "integer"},
            "listen": {"type": "integer"},
            "debug": {"type": "boolean"},
            "level": {"enum": ["INFO", "WARNING"]},
            "retries": {"type": "integer", "default": 3},
            "old_name": {"deprecated": true, "x-renamed-to": "new_name"},
            "new_name": {"type": "string"},
            "db": {
                "properties": {"pool_size": {"type": "integer"}, "ratio": {"type": "number", "default": 0.5}},
                "required": ["ratio"],
                "additionalProperties": false,
            },
        },
        "required": ["retries"],
        "additionalProperties": false,
    }))
    .unwrap()
}

#[test]
fn toml_is_mended_in_place_with_its_comments() {
    let text = "# the service\nlisetn = \"8080\"   # listens here\ndebug = 'yes'\nlevel = \"warning\"\nold_name = 'x'\n\n[db] # the pool\npool_szie = \"5\"\n";
    let fixed = validator().autofix_whole("t", Format::Toml, text).unwrap();
    assert_eq!(
        fixed.text(),
        "# the service\nlisten = 8080   # listens here\ndebug = true\nlevel = \"WARNING\"\nnew_name = 'x'\nretries = 3\n\n[db] # the pool\nratio = 0.5\npool_size = 5\n"
    );
    assert!(fixed.report().is_ok(), "{}", fixed.report());
    assert_eq!(fixed.fixes().len(), 9, "{:?}", fixed.fixes());
    insta::assert_snapshot!(fixed.diff(), @r#"
    -lisetn = "8080"   # listens here
    +listen = 8080   # listens here
    -debug = 'yes'
    +debug = true
    -level = "warning"
    +level = "WARNING"
    -old_name = 'x'
    +new_name = 'x'
    +retries = 3
    -pool_szie = "5"
    +ratio = 0.5
    +pool_size = 5
    "#);
}

#[test]
fn json_and_yaml_are_mended_too() {
    let fixed = validator().autofix_whole("t", Format::Json, r#"{ "lisetn": "80", "db": {} }"#).unwrap();
    assert_eq!(fixed.text(), r#"{ "retries": 3, "listen": 80, "db": {"ratio": 0.5} }"#);
    let fixed =
        validator().autofix_whole("t", Format::Yaml, "debug: yes # on\nlisetn: '80'\nlevel: info\n").unwrap();
    assert_eq!(fixed.text(), "debug: true # on\nlisten: 80\nlevel: INFO\n");
    assert_eq!(fixed.report().findings().len(), 1);
}

#[test]
fn what_is_not_sure_is_left_alone() {
    for text in [
        // The right key is there already.
        "retries = 1\nlisten = 1\nlisetn = 2\n",
        // Nothing is near.
        "retries = 1\nsomething = 2\n",
        // A name that may be right, for a value that cannot be.
        "retries = 1\nlisetn = 'http'\n",
        // Not a number, not an integer.
        "retries = 1\nport = 'http'\n",
        "retries = 1\nport = '1.5'\n",
        // Another word, not another case.
        "retries = 1\nlevel = 'INF'\n",
    ] {
        let fixed = validator().autofix_whole("t", Format::Toml, text).unwrap();
        assert_eq!(fixed.text(), text);
        assert!(fixed.fixes().is_empty() && !fixed.report().is_ok(), "{text}");
    }
}

#[test]
fn a_name_that_is_near_by_chance_is_told_and_not_renamed() {
    for (known, written) in [
        (&["x"][..], "y"),
        (&["gpu"], "cpu"),
        (&["https"], "http"),
        (&["http"], "https"),
        (&["node_a", "node_b"], "node_c"),
        (&["max_size"], "min_size"),
        (&["retry_max"], "retry_min"),
        (&["timeout_s"], "timeout_ms"),
        (&["timeout_ms"], "timeout_s"),
        (&["timeoutMs"], "timeoutS"),
        (&["server2"], "server1"),
        (&["server12"], "server21"),
        (&["server1"], "server11"),
        (&["servers"], "server"),
        (&["start_at"], "start_ta"),
        (&["from_x"], "from_y"),
    ] {
        let fields: serde_json::Map<String, Value> =
            known.iter().map(|key| ((*key).into(), json!({}))).collect();
        let schema = json!({"properties": fields, "additionalProperties": false});
        let text = format!("{written} = 1\n");
        let fixed = ConfigValidator::new(schema).unwrap().autofix("t", Format::Toml, &text).unwrap();
        assert_eq!(fixed.text(), text);
        assert!(fixed.report().findings()[0].suggestion().is_some(), "{written}");
    }
}

#[test]
fn a_layer_gets_nothing_that_wins_over_the_layers_below() {
    let base = "listen = 80\nretries = 5\n";
    let overlay = "lisetn = \"8080\"\n[db]\npool_size = 'many'\n";
    let fixed = validator().autofix("production.toml", Format::Toml, overlay).unwrap();
    assert_eq!(fixed.text(), "listen = 8080\n[db]\npool_size = 'many'\n");
    let left = fixed.report().to_string();
    assert!(left.starts_with("error: production.toml:3:13: db.pool_size: expected an integer"), "{left}");
    assert_eq!(fixed.report().findings().len(), 1);

    let fixed = validator().autofix("production.toml", Format::Toml, "lisetn = \"8080\"\n").unwrap();
    assert!(fixed.report().is_ok());
    let loader = ConfigLoader::new().text("base.toml", Format::Toml, base).validator(validator());
    let loaded = loader.text("production.toml", Format::Toml, fixed.text()).load_tree().unwrap().to_json();
    assert_eq!((&loaded["listen"], &loaded["retries"]), (&json!(8080), &json!(5)));
    // By itself the same text needs a key more.
    let whole = validator().autofix_whole("production.toml", Format::Toml, "lisetn = \"8080\"\n").unwrap();
    assert_eq!(whole.text(), "listen = 8080\nretries = 3\n");
}

proptest! {
    /// Whatever was mended, no error is new and what was right is as it was.
    #[test]
    fn a_fix_is_never_wrong(
        keys in prop::collection::btree_map("(listen|lisetn|port|prot|debug|debgu|level|retries|old_name|[a-z]{1,4})", "([0-9]{1,3}|true|yes|info|[a-z]{0,4})", 0..6),
        quoted in any::<bool>(),
    ) {
        let line = |(key, value): (&String, &String)| match quoted {
            false if value.parse::<u32>().is_ok_and(|number| number.to_string() == *value) => format!("{key} = {value}\n"),
            _ => format!("{key} = \"{value}\" # note\n"),
        };
        let text: String = keys.iter().map(line).collect();
        let read = |text: &str| Tree::parse("t", Format::Toml, text, &Limits::default()).unwrap();
        let before = validator().validate(&read(&text)).unwrap().findings().len();
        let fixed = validator().autofix_whole("t", Format::Toml, &text).unwrap();
        let after = validator().validate(&read(fixed.text())).unwrap();
        prop_assert_eq!(after.findings().len(), fixed.report().findings().len());
        prop_assert!(after.findings().len() <= before);
        let (old, new): (Value, Value) = (read(&text).to_json(), read(fixed.text()).to_json());
        let wrong: Vec<String> = validator().validate(&read(&text)).unwrap().findings().iter().map(|finding| finding.path()).collect();
        for (key, value) in old.as_object().unwrap() {
            if !wrong.contains(key) && key != "old_name" {
                prop_assert_eq!(new.get(key), Some(value));
            }
        }
        prop_assert_eq!(fixed.text().matches("# note").count(), text.matches("# note").count());
    }
}

#[test]
fn the_limits_of_a_validator_hold_for_what_it_fixes() {
    let mut limits = Limits::default();
    limits.depth = 2;
    let validator = ConfigValidator::builder().limits(limits).build().unwrap();
    assert!(validator.autofix("t", Format::Json, r#"{"a": 1}"#).is_ok());
    let error = validator.autofix("t", Format::Json, r#"{"a": {"b": {"c": 1}}}"#).unwrap_err();
    assert_eq!(error.kind(), swarm_config::ErrorKind::Limit);
}

#[test]
fn a_slip_of_the_fingers_is_mended() {
    for (known, written) in [
        // typos:off
        ("listen", "Listen"),
        ("listen", "lisetn"),
        ("pool_size", "pool_szie"),
        ("poolSize", "poolSzie"),
        ("address", "adress"),
        ("address", "addresss"),
        ("address", "adrdess"),
        ("max_retries", "max_retires"),
        // typos:on
    ] {
        let schema = json!({"properties": {known: {}}, "additionalProperties": false});
        let validator = ConfigValidator::new(schema).unwrap();
        let fixed = validator.autofix("t", Format::Toml, &format!("{written} = 1\n")).unwrap();
        assert_eq!(fixed.text(), format!("{known} = 1\n"), "{written}");
    }
}
