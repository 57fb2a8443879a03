use std::fs;

use serde::Deserialize;
use serde_json::json;
use swarm_config::{
    Color, ConfigHierarchy, ConfigLoader, ConfigValidator, Effect, ErrorKind, Format, Limits, Tree,
};

#[derive(Debug, Deserialize, PartialEq)]
struct Settings {
    db: Db,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Db {
    pool_size: u32,
    url: String,
    #[serde(default)]
    tls: bool,
}

const BASE: &str = "[db]\npool_size = 5\nurl = 'postgres://localhost'\n";

fn base() -> ConfigLoader {
    ConfigLoader::new().text("base.toml", Format::Toml, BASE)
}

#[test]
fn variables_find_their_keys_by_the_type_that_is_loaded() {
    let config = base()
        .env_from(
            "APP",
            [
                ("APP_DB_POOL_SIZE", "20"),
                ("APP_DB_TLS", "true"),
                ("APP_HOSTS", "a, b"),
                ("APP_LABELS__TEAM", "7"),
                ("OTHER", "x"),
            ],
        )
        .load::<Settings>()
        .unwrap();
    let settings = config.get();
    assert_eq!((settings.db.pool_size, settings.db.tls), (20, true));
    assert_eq!(settings.hosts, ["a", "b"]);
    assert_eq!(settings.labels["team"], "7");
    assert!(config.get().warnings().findings().is_empty());
    assert_eq!(
        config.explain("db.pool_size").unwrap().to_string(),
        "db.pool_size = 20\n  -> environment variable APP_DB_POOL_SIZE: 20\n     base.toml:2:13: 5"
    );
}

#[test]
fn a_variable_without_a_key_is_told_with_the_nearest() {
    let loader = base().env_from("APP", [("APP_DB_POOLSIZE", "20")]);
    let config = loader.load::<Settings>().unwrap();
    assert_eq!(config.get().db.pool_size, 5);
    assert_eq!(
        config.get().warnings().to_string(),
        "warning: environment variable APP_DB_POOLSIZE: no key is known for APP_DB_POOLSIZE (did you mean APP_DB_POOL_SIZE?)"
    );
    assert_eq!(loader.deny_unknown_keys().load::<Settings>().unwrap_err().kind(), ErrorKind::Invalid);
}

#[test]
fn the_case_of_a_prefix_does_not_matter() {
    for (prefix, name) in
        [("app", "APP_DB_POOL_SIZE"), ("App_", "APP_DB_POOL_SIZE"), ("APP", "app_db_pool_size")]
    {
        let config = base().env_from(prefix, [(name, "20")]).load::<Settings>().unwrap();
        assert_eq!(config.get().db.pool_size, 20, "{prefix}");
    }
    let told =
        base().env_from("app", [("APP_DB_POLSIZE", "20"), ("APPLE_DB_POOL_SIZE", "1")]).load_tree().unwrap();
    let told = told.warnings().to_string();
    assert!(told.contains("(did you mean APP_DB_POOL_SIZE?)") && !told.contains("APPLE"), "{told}");
}

#[test]
fn the_empty_prefix_takes_variables_that_a_key_is_known_for() {
    let others = [
        ("PATH", "/bin"),
        ("LABELS__", "1"),
        ("CANARY", "1"),
        ("X__Y", "1"),
        ("_", "x"),
        ("DB_POLSIZE", "3"),
        ("é", "1"),
    ];
    let loader =
        base().env_from("", others.into_iter().chain([("DB_POOL_SIZE", "20"), ("LABELS__TEAM", "core")]));
    let config = loader.deny_unknown_keys().load::<Settings>().unwrap();
    assert_eq!(config.get().db.pool_size, 20);
    let explained = config.explain("labels.team").unwrap().to_string();
    assert!(explained.contains("environment variable LABELS__TEAM"), "{explained}");
    assert!(config.get().warnings().findings().is_empty());
    // As the process has them.
    let tree = ConfigLoader::new()
        .text("a.toml", Format::Toml, "cargo_manifest_dir = 'x'")
        .env("")
        .load_tree()
        .unwrap();
    assert_eq!(tree.get("cargo_manifest_dir").unwrap().as_str(), Some(env!("CARGO_MANIFEST_DIR")));
}

#[test]
fn a_variable_that_a_reference_asks_for_is_known() {
    let text = "password = '${env:APP_DB_PASSWORD}'\nport = '${env:APP_PORT:-8080}'";
    let loader = ConfigLoader::new()
        .text("a.toml", Format::Toml, text)
        .env_from("APP_", [("APP_DB_PASSWORD", "x"), ("APP_PORT", "1"), ("APP_DB", "2")])
        .deny_unknown_keys();
    let error = loader.clone().load::<std::collections::BTreeMap<String, String>>().unwrap_err();
    let told: Vec<String> =
        error.report().unwrap().findings().iter().map(|found| found.to_string()).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("no key is known for APP_DB"), "{told:?}");
}

#[test]
fn a_variable_that_may_stand_for_two_keys_is_refused() {
    let error = ConfigLoader::new()
        .text("a.json", Format::Json, r#"{"db": {"pool_size": 1}, "db_pool": {"size": 2}}"#)
        .env_from("APP", [("APP_DB_POOL_SIZE", "3")])
        .load_tree()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    assert!(error.to_string().contains("`db.pool_size` and for `db_pool.size`"), "{error}");
}

#[test]
fn a_spelling_of_two_tables_is_refused() {
    let error = ConfigLoader::new()
        .text("a.json", Format::Json, r#"{"a": {"labels-x": {}, "labels_x": {}}}"#)
        .env_from("APP", [("APP_A__LABELS_X__TEAM", "1")])
        .load_tree()
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Ambiguous);
    assert!(error.to_string().contains("`a.labels-x.team` and for `a.labels_x.team`"), "{error}");
}

#[test]
fn a_variable_with_an_empty_part_is_unknown() {
    for name in ["APP_LABELS__", "APP___LABELS", "APP_LABELS____TEAM"] {
        let tree = base().env_from("APP", [(name, "1")]).load_tree().unwrap();
        let told: Vec<_> = tree.warnings().findings().iter().map(|finding| finding.message()).collect();
        assert_eq!(told, [format!("no key is known for {name}")]);
        assert_eq!(tree.to_json(), base().load_tree().unwrap().to_json());
    }
}

#[test]
fn a_wrong_variable_is_named_in_the_error() {
    let error = base().env_from("APP", [("APP_DB_POOL_SIZE", "many")]).load::<Settings>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "environment variable APP_DB_POOL_SIZE: db.pool_size: invalid type: string \"many\", expected u32"
    );
}

#[test]
fn overrides_are_typed_by_the_key() {
    let tree = base()
        .set("db.pool_size=7")
        .set("db.url=5")
        .set(r#"hosts=["x"]"#)
        .set("new.key=true")
        .load_tree()
        .unwrap();
    assert_eq!(
        tree.to_json(),
        json!({"db": {"pool_size": 7, "url": "5"}, "hosts": ["x"], "new": {"key": true}})
    );
    for wrong in ["db", "=3", "a..b=1"] {
        assert_eq!(base().set(wrong).load_tree().unwrap_err().kind(), ErrorKind::InvalidInput, "{wrong}");
    }
}

#[cfg(feature = "figment")]
#[test]
fn a_figment_provider_is_a_layer() {
    use figment::providers::Serialized;
    let config = base().figment(Serialized::default("db.pool_size", 9)).load::<Settings>().unwrap();
    assert_eq!(config.get().db.pool_size, 9);
    assert!(config.explain("db.pool_size").unwrap().layers()[0].wins());
}

#[test]
fn values_in_code_are_a_layer() {
    let config = ConfigLoader::new()
        .values("defaults", &json!({"db": {"pool_size": 1, "url": "u"}}))
        .set("db.pool_size=2")
        .load::<Settings>()
        .unwrap();
    let explained = config.explain("db.pool_size").unwrap();
    assert_eq!(explained.layers()[1].location().to_string(), "defaults");
    assert_eq!(explained.layers().iter().map(|layer| layer.wins()).collect::<Vec<_>>(), [true, false]);
}

#[test]
fn a_type_error_has_path_place_and_line() {
    let error = ConfigLoader::new()
        .text("app.yaml", Format::Yaml, "db:\n  pool_size: lots\n  url: u\n")
        .load::<Settings>()
        .unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Type, Some("db.pool_size")));
    assert_eq!(
        error.render(Color::Never),
        "error: db.pool_size: invalid type: string \"lots\", expected u32\n --> app.yaml:2:14\n  |\n2 |   pool_size: lots\n  |              ^^^^\n"
    );
}

#[test]
fn unknown_keys_are_told_with_the_nearest() {
    let config = base().text("over.toml", Format::Toml, "[db]\npool_sizes = 1\n").load::<Settings>().unwrap();
    assert_eq!(
        config.get().warnings().to_string(),
        "warning: over.toml:2:1: db.pool_sizes: the key `pool_sizes` is known to nobody (did you mean `pool_size`?)"
    );
}

#[test]
fn a_hierarchy_has_base_parents_environment_and_local_layers() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("base.toml", "a = 1\nb = 1\nc = 1\nd = 1\n");
    write("production.yaml", "b: 2\nc: 2\nd: 2\n");
    write("staging/10-first.toml", "c = 3\nd = 3\n");
    write("staging/20-second.json", r#"{"e": 3}"#);
    write("staging/README.md", "no layer");
    write("staging/.30-third.toml", "e = [");
    write("local.toml", "d = 4\n");
    let layers = ConfigHierarchy::new(folder.path(), "staging").parent("staging", "production");
    let tree = ConfigLoader::new().hierarchy(layers).load_tree().unwrap();
    assert_eq!(tree.to_json(), json!({"a": 1, "b": 2, "c": 3, "d": 4, "e": 3}));

    let missing = ConfigLoader::new().hierarchy((folder.path(), "prodution")).load_tree().unwrap_err();
    assert_eq!(missing.kind(), ErrorKind::NotFound);
    assert!(missing.to_string().contains("there is production, staging"), "{missing}");
    for beside in ["base.sops.yaml", "secrets.sops.yaml", "secrets.enc.json", "production.local.toml"] {
        write(beside, "");
    }
    write("eu.west/app.toml", "");
    let missing = ConfigLoader::new().hierarchy((folder.path(), "prodution")).load_tree().unwrap_err();
    let all = "there is eu.west, production, staging; did you mean `production`?";
    assert!(missing.to_string().ends_with(all), "{missing}");
    for layers in [
        ConfigHierarchy::new(folder.path(), "staging").parent("stagng", "production"),
        ConfigHierarchy::new(folder.path(), "production").parent("stagng", "production"),
        ConfigHierarchy::new(folder.path(), "staging")
            .parent("staging", "production")
            .parent("prodution", "x"),
    ] {
        let error = ConfigLoader::new().hierarchy(layers).load_tree().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound);
        assert!(error.to_string().contains("did you mean `"), "{error}");
    }
    let unused = ConfigHierarchy::new(folder.path(), "production").parent("staging", "production");
    assert!(ConfigLoader::new().hierarchy(unused).load_tree().is_ok());
    let ring = ConfigHierarchy::new(folder.path(), "a").parent("a", "b").parent("b", "a");
    assert_eq!(ConfigLoader::new().hierarchy(ring).load_tree().unwrap_err().kind(), ErrorKind::InvalidInput);
    write("production.toml", "");
    let twice = ConfigLoader::new().hierarchy((folder.path(), "production")).load_tree().unwrap_err();
    assert!(twice.to_string().contains("is there twice"), "{twice}");
    assert_eq!(
        ConfigLoader::new().hierarchy((folder.path(), "../x")).load_tree().unwrap_err().kind(),
        ErrorKind::InvalidInput
    );
}

#[test]
fn references_are_replaced_and_explained() {
    let text = r#"
host = "example.org"
port = 8080
url = "http://${host}:${port}/"
again = "${port}"
plain = "$${host}"
user = "${env:WHO:-nobody}"
copy = "${db}"
[db]
name = "${host}-db"
"#;
    let loader = ConfigLoader::new().text("a.toml", Format::Toml, text).env_from("X", [("HOME", "h")]);
    let config = loader.load::<serde_json::Value>().unwrap();
    assert_eq!(
        *config.get(),
        json!({"host": "example.org", "port": 8080, "url": "http://example.org:8080/", "again": 8080,
            "plain": "${host}", "user": "nobody", "copy": {"name": "example.org-db"}, "db": {"name": "example.org-db"}})
    );
    let explained = config.explain("url").unwrap();
    assert_eq!(explained.layers()[0].value(), &json!("http://${host}:${port}/"));
    assert_eq!(explained.references().iter().map(|why| why.path()).collect::<Vec<_>>(), ["host", "port"]);
    assert_eq!(explained.references()[1].layers()[0].location().line(), Some(3));
    assert_eq!(config.get().tree().get("url").unwrap().location().line(), Some(4));
}

#[test]
fn references_that_lead_nowhere_or_back_are_errors() {
    for (text, part) in [
        ("a = '${b}'\nb = '${c}'\nc = '${a}'", "a -> b -> c -> a"),
        ("a = '${a}'", "refers back to itself: a -> a"),
        ("[t]\na = '${t}'", "it is in `t`"),
        ("a = '${b}'\n[b]\nc = '${d}'\n[d]\ne = 1", "stands for a table too"),
        ("a = '${nope}'", "there is no `nope`"),
        ("a = '${env:NOPE}'", "NOPE is not set"),
        ("a = '${open'", "without its `}`"),
        ("a = '${}'", "names nothing"),
        ("a = '${vault:x}'", "nobody provides `vault:`; there is `env:`"),
        ("a = 'x ${b}'\n[b]", "does not go into a text"),
    ] {
        let error = ConfigLoader::new()
            .text("a.toml", Format::Toml, text)
            .env_from("X", [("A", "b")])
            .load_tree()
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Interpolation, "{text}: {error}");
        assert!(error.to_string().contains(part), "{text}: {error}");
        assert!(error.location().is_some(), "{error}");
    }
    let doubling: String = (0..40).map(|at| format!("a{at} = '${{a{0}}}${{a{0}}}'\n", at + 1)).collect();
    let error =
        ConfigLoader::new().text("a.toml", Format::Toml, doubling + "a40 = 'x'").load_tree().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}

#[test]
fn every_key_is_explained_with_the_layer_that_wins() {
    let config = ConfigLoader::new()
        .text("1.json", Format::Json, r#"{"a": {"x": 1, "y": 1}, "gone": {"z": 1}, "list": [1]}"#)
        .text("2.json", Format::Json, r#"{"a": {"x": 2}, "gone": null}"#)
        .load::<serde_json::Value>()
        .unwrap();
    let all: Vec<String> = config.explain_all().iter().map(|why| why.to_string()).collect();
    assert_eq!(
        all,
        [
            "a.x = 2\n  -> 2.json:1:13: 2\n     1.json:1:13: 1",
            "a.y = 1\n  -> 1.json:1:21: 1",
            "list = [1]\n  -> 1.json:1:51: [1]",
        ]
    );
    let gone = config.explain("gone.z").unwrap();
    assert_eq!(gone.value(), None);
    assert_eq!(gone.layers()[0].effect(), Effect::Deletes);
    assert_eq!(config.explain("nope").unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn every_layer_of_what_is_appended_has_a_say() {
    let layer =
        |text: &str| (format!("{text}.json"), format!("{{\"list\": [\"{text}\"], \"plain\": [\"{text}\"]}}"));
    let config = ["a", "b"]
        .iter()
        .map(|text| layer(text))
        .fold(ConfigLoader::new(), |loader, (name, text)| loader.text(name, Format::Json, text))
        .merge_with("list", swarm_config::MergeStrategy::Append)
        .load::<serde_json::Value>()
        .unwrap();
    let wins = |path: &str| -> Vec<bool> {
        config.explain(path).unwrap().layers().iter().map(|layer| layer.wins()).collect()
    };
    assert_eq!(wins("list"), [true, true]);
    assert_eq!(wins("plain"), [true, false]);
    assert_eq!(config.explain("list.0").unwrap().layers()[0].location().source(), "a.json");
    assert_eq!(config.explain("list.1").unwrap().layers()[0].location().source(), "b.json");
}

#[test]
fn a_secret_is_shown_nowhere() {
    let canary = "hunter2-canary";
    let loader = ConfigLoader::new()
        .text("a.toml", Format::Toml, format!("port = 'x'\n[db]\npassword = '{canary}'\nuser = 'u'\n"))
        .text(
            "b.toml",
            Format::Toml,
            format!("[db]\nurl = 'pg://${{db.password}}@h'\n[other]\nkeys = ['{canary}']\n"),
        )
        .secret("db.password")
        .secret("other.*");
    let config = loader.clone().load::<serde_json::Value>().unwrap();
    let shown = [
        format!("{config:?}"),
        config.get().tree().to_json().to_string(),
        config.explain_all().iter().map(|why| why.to_string()).collect(),
        format!("{:?}", config.explain("db.password").unwrap()),
        format!(
            "{:?}",
            config.get().tree().diff(&Tree::parse("x", Format::Json, "{}", &Limits::default()).unwrap())
        ),
    ];
    for shown in shown {
        assert!(!shown.contains(canary), "{shown}");
    }
    assert_eq!(config.get()["db"]["url"], format!("pg://{canary}@h"));

    #[derive(Debug, Deserialize)]
    struct Wrong {
        #[allow(dead_code, reason = "never read")]
        db: std::collections::BTreeMap<String, u32>,
    }
    let error = loader.load::<Wrong>().map(drop).unwrap_err();
    assert!(!format!("{error} {error:?} {}", error.render(Color::Never)).contains(canary), "{error:?}");
    let broken = ConfigLoader::new()
        .text("a.toml", Format::Toml, format!("password = '{canary}"))
        .secret("password")
        .load_tree()
        .unwrap_err();
    assert!(!format!("{broken} {broken:?} {}", broken.render(Color::Never)).contains(canary), "{broken:?}");
}

#[test]
fn dotenv_and_ini_are_layers_of_texts() {
    #[derive(serde::Deserialize, PartialEq, Debug)]
    struct Plain {
        port: u16,
        db: std::collections::BTreeMap<String, String>,
    }
    let config = ConfigLoader::new()
        .text("a.env", Format::Dotenv, "# x\nport=80\n")
        .text("b.ini", Format::Ini, "port = 81 ; beside\n[db]\nname: \"x\"\nother = `a;b`\n")
        .load::<Plain>()
        .unwrap();
    let db = [("name", "x"), ("other", "a;b")].map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(*config.get(), Plain { port: 81, db: db.into() });
    assert_eq!(config.explain("port").unwrap().layers()[0].location().to_string(), "b.ini:1:8");
    for (format, text, kind) in [
        (Format::Dotenv, "nothing", ErrorKind::Syntax),
        (Format::Dotenv, "A=1\nA=2", ErrorKind::DuplicateKey),
        (Format::Ini, "[open", ErrorKind::Syntax),
        (Format::Ini, "key", ErrorKind::Syntax),
        (Format::Ini, "a = \"\"\"x", ErrorKind::Syntax),
        (Format::Ini, "a = x\\\ny", ErrorKind::Syntax),
        (Format::Ini, "[a]\n[a]", ErrorKind::DuplicateKey),
    ] {
        assert_eq!(Tree::parse("x", format, text, &Limits::default()).unwrap_err().kind(), kind, "{text}");
    }
}

#[test]
fn a_variable_is_looked_up_from_its_name() {
    let text = r#"{"db": {"pool-size": 1, "maxIdle": 2, "retries": {"first.try": 3}}, "db_pool": {"other": 4}, "": {"x": 5}}"#;
    let load = |name: &str| {
        let loader = ConfigLoader::new().text("a.json", Format::Json, text).env_from("APP", [(name, "7")]);
        loader.load_tree().map(|tree| tree.to_json())
    };
    for (variable, path) in [
        ("APP_DB_POOL_SIZE", "/db/pool-size"),
        ("APP_DB_MAXIDLE", "/db/maxIdle"),
        ("APP_DB_MAX_IDLE", "/db/maxIdle"),
        ("APP_db_retries_first_try", "/db/retries/first.try"),
        ("APP_DB_POOL_OTHER", "/db_pool/other"),
        ("APP__X", "//x"),
    ] {
        assert_eq!(load(variable).unwrap().pointer(path), Some(&json!(7)), "{variable}");
    }
    let expected: serde_json::Value = serde_json::from_str(text).unwrap();
    assert_eq!(load("APP_DB_POOLS").unwrap(), expected);
}

#[test]
fn a_template_is_typed_alike_with_and_without_variables() {
    let text = "base = 1\nport = '${base}0'\nname = 'x'";
    let read = |loader: ConfigLoader| loader.load::<serde_json::Value>().unwrap().get()["port"].clone();
    let plain = ConfigLoader::new().text("a.toml", Format::Toml, text);
    assert_eq!(read(plain.clone()), read(plain.env_from("APP", [("APP_NAME", "y")])));
}

#[test]
fn a_variable_with_a_nul_byte_is_refused() {
    let error = base().env_from("APP", [("APP_DB_URL", "CANARY\0")]).load::<Settings>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Encoding);
    assert_eq!(error.to_string(), "environment variable APP_DB_URL: a NUL byte is not text");
}

#[test]
fn what_is_none_in_values_is_not_given() {
    #[derive(serde::Serialize)]
    struct Args {
        port: Option<u16>,
        name: Option<String>,
        limits: Option<Limit>,
        list: Vec<Option<u8>>,
        tables: Vec<Limit>,
    }
    #[derive(serde::Serialize)]
    struct Limit {
        rate: Option<u8>,
        burst: Option<u8>,
    }
    let args = Args {
        port: None,
        name: Some("given".into()),
        limits: Some(Limit { rate: None, burst: Some(2) }),
        list: vec![Some(1), None],
        tables: vec![Limit { rate: Some(1), burst: None }],
    };
    let below = r#"{"port": 80, "name": "below", "limits": {"rate": 1, "burst": 1}, "gone": true}"#;
    let tree = ConfigLoader::new()
        .text("a.json", Format::Json, below)
        .values("arguments", &args)
        .values("more", &json!({"gone": null}))
        .load_tree()
        .unwrap();
    assert_eq!(
        tree.to_json(),
        json!({
            "port": 80, "name": "given", "limits": {"rate": 1, "burst": 2}, "list": [1, null], "tables": [{"rate": 1}],
        })
    );
}

#[test]
fn an_override_of_null_deletes_a_key_of_any_kind() {
    let text = "name = 'x'\nport = 1\n[db]\nurl = 'u'\n";
    let loader = ConfigLoader::new().text("a.toml", Format::Toml, text);
    let tree =
        loader.set("name=null").set("port= null").set("db=null").set("new=nullable").load_tree().unwrap();
    assert_eq!(tree.to_json(), json!({"new": "nullable"}));
}

#[test]
fn a_reference_that_looks_like_a_variable_is_told_how_to_be_one() {
    let load = |text: &str| {
        ConfigLoader::new().text("a.toml", Format::Toml, text).load_tree().unwrap_err().to_string()
    };
    assert_eq!(load("a = '${HOME}'"), "a.toml:1:5: a: there is no `HOME`; a variable is `${env:HOME}`");
    assert_eq!(load("a = '${home}'"), "a.toml:1:5: a: there is no `home`");
}

#[test]
fn the_schema_that_a_file_names_for_editors_is_no_unknown_key() {
    let load = |more: &str| {
        let text = format!(r#"{{"$schema": "./schema.json", "db": {{"pool_size": 1, "url": "u"{more}}}}}"#);
        ConfigLoader::new().text("a.json", Format::Json, text).deny_unknown_keys().load::<Settings>()
    };
    assert!(load("").is_ok());
    assert!(load(r#", "$schema": 1"#).unwrap_err().to_string().contains("db.$schema: the key"));
}

#[test]
fn a_missing_field_is_told_with_the_key_that_may_be_it() {
    let load =
        |text: &str| ConfigLoader::new().text("a.toml", Format::Toml, text).load::<Settings>().unwrap_err();
    let error = load("[db]\nurl = 'u'\npool_sise = 1\n");
    assert_eq!(
        error.to_string(),
        "a.toml:3:1: db: missing field `pool_size`; is `pool_sise` meant to be it?"
    );
    assert!(load("[db]\nurl = 'u'\nother = 1\n").to_string().ends_with("db: missing field `pool_size`"));
    assert!(load("[bd]\nurl = 'u'\n").to_string().contains("missing field `db`; is `bd` meant to be it?"));
}

#[test]
fn findings_are_weighed_as_the_loader_says() {
    use swarm_config::Severity;
    let load = |weigh: fn(ConfigLoader) -> ConfigLoader| {
        let validator = ConfigValidator::new(json!({"properties": {"colour": {"type": "string"}}})).unwrap();
        let loader =
            base().text("more.toml", Format::Toml, "colour = 1\n[db]\nprot = 2").validator(validator);
        let loader = loader.severity("type", Severity::Warning).env_from("APP", [("APP_NO_SUCH", "1")]);
        let told = |report: &swarm_config::Report| {
            let findings = report.findings().iter();
            findings
                .map(|found| format!("{} {:?}", found.rule(), found.severity()))
                .collect::<Vec<_>>()
                .join(", ")
        };
        match weigh(loader).load::<Settings>() {
            Ok(config) => {
                let config = config.get();
                assert_eq!(told(config.tree().warnings()), told(config.warnings()));
                told(config.warnings())
            }
            Err(error) => format!("refused: {}", told(error.report().unwrap())),
        }
    };
    assert_eq!(
        load(|loader| loader),
        "unknown-variable Warning, type Warning, unknown-key Warning, unknown-key Warning"
    );
    assert_eq!(
        load(|loader| loader
            .disable("", Some("unknown-variable"))
            .disable("db", None)
            .disable("*", Some("type"))),
        "unknown-key Warning"
    );
    assert_eq!(
        load(|loader| loader
            .disable("db", None)
            .deny_unknown_keys()
            .severity("unknown-variable", Severity::Warning)),
        "refused: unknown-variable Warning, type Warning, unknown-key Error"
    );
    assert_eq!(load(|loader| loader.disable("", None)), "");
    let error = base().disable("a..b", None).load::<Settings>().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn a_pattern_that_fits_nothing_is_told() {
    use swarm_config::MergeStrategy;
    let told = |loader: ConfigLoader| {
        let warnings = loader.load::<Settings>().unwrap().get().warnings().to_string();
        assert_eq!(warnings, loader.load::<Settings>().unwrap().get().tree().warnings().to_string());
        warnings
    };
    assert_eq!(
        told(base().secret("db.ulr")),
        "warning: nothing is known of `db.ulr`, which `secret` names (did you mean `url`?)"
    );
    assert_eq!(
        told(base().merge_with("host", MergeStrategy::Append)),
        "warning: nothing is known of `host`, which `merge_with` names"
    );
    // What is there, what the type has, and what may be in a table of any keys.
    for path in ["db.url", "db.*", "db.tls", "labels.team", "hosts.0", "*.tls"] {
        assert_eq!(told(base().secret(path)), "", "{path}");
    }
    let untyped = base().secret("db.ulr").load_tree().unwrap();
    assert_eq!(untyped.warnings().findings().len(), 1);
    assert!(base().secret("db.url").load_tree().unwrap().warnings().findings().is_empty());
}

#[test]
fn a_table_named_sops_is_a_configuration_unless_it_looks_encrypted() {
    let load = |format, text: &str| {
        ConfigLoader::new().text("a", format, text).load_tree().map(|tree| tree.to_json())
    };
    for (format, text) in [
        (Format::Yaml, "sops: {folder: keys, version: 3}"),
        (Format::Json, r#"{"sops": "a text", "mac": "aa:bb"}"#),
        (Format::Toml, "[sops]\nmac = 'TOML is not written by it'"),
        (Format::Dotenv, "sops_folder=keys\nmac=aa"),
        (Format::Ini, "[sops]\nmachine = 1"),
    ] {
        assert!(load(format, text).is_ok(), "{text}");
    }
    for (format, text) in [
        (Format::Yaml, "a: ENC[x]\nsops: {mac: x}"),
        (Format::Json, r#"{"sops": {"age": []}}"#),
        (Format::Dotenv, "sops_age__list_0__map_enc=x"),
        (Format::Ini, "[sops]\nlastmodified = x"),
    ] {
        let error = load(format, text).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Secret, "{text}: {error}");
    }
}

#[test]
fn two_underscores_make_no_table_that_nobody_knows() {
    for (name, text) in [
        ("APP_LABLES__TEAM", "x"), // typos:ignore-line
        ("APP_DB_URL__HOST", "h"),
        ("APP_DB__URL__HOST", "h"),
        ("APP_HOSTS__0", "a"),
    ] {
        let loader = base().env_from("APP", [(name, text)]);
        let config = loader.load::<Settings>().unwrap();
        assert_eq!(config.get().tree().to_json(), base().load::<Settings>().unwrap().get().tree().to_json());
        let told = config.get().warnings().to_string();
        assert!(told.contains(&format!("no key is known for {name}")), "{told}");
    }
    // Where nothing says which keys there are, and where another layer has the table.
    let loader = base().env_from("APP", [("APP_MORE__DEEP__KEY", "1"), ("APP_DB__NEW", "2")]);
    let config = loader.load::<serde_json::Value>().unwrap();
    assert_eq!(
        (config.get()["more"]["deep"]["key"].clone(), config.get()["db"]["new"].clone()),
        (json!("1"), json!("2"))
    );
}

#[test]
fn a_path_goes_on_below_a_reference_to_a_table() {
    let text = "copy: ${db}\nagain: ${copy}\nx: ${copy.name:-none}\ny: at ${again.inner.deep}\nz: ${copy.nothing:-none}\nlist: ${again.inner}\ndb: {name: n, inner: {deep: 7}}\n";
    let loader = ConfigLoader::new().text("a.yaml", Format::Yaml, text);
    let config = loader.load::<serde_json::Value>().unwrap();
    let all = config.get();
    assert_eq!((&all["x"], &all["y"], &all["z"]), (&json!("n"), &json!("at 7"), &json!("none")));
    assert_eq!(all["list"], json!({"deep": 7}));
    // What is on the way may be secret.
    let config = loader.secret("copy").load::<serde_json::Value>().unwrap();
    assert!(config.get().tree().get("x").unwrap().is_secret());
    for ring in ["a: ${b.x}\nb: ${a.x}\n", "a: ${a.x:-1}\n"] {
        let error =
            ConfigLoader::new().text("a.yaml", Format::Yaml, ring).load::<serde_json::Value>().unwrap_err();
        assert!(error.to_string().contains("refers back to itself"), "{error}");
    }
}

#[derive(Debug, Deserialize)]
struct Outer {
    #[allow(dead_code, reason = "read by serde")]
    empty: Empty,
}

#[derive(Debug, Deserialize)]
struct Empty {}

#[test]
fn a_struct_without_fields_has_no_keys() {
    let loader = ConfigLoader::new().text("a.toml", Format::Toml, "[empty]\nany = 1\n");
    let told = loader.load::<Outer>().unwrap().get().warnings().to_string();
    assert!(told.contains("empty.any: the key `any` is known to nobody"), "{told}");
    assert!(loader.deny_unknown_keys().load::<Outer>().is_err());
}
