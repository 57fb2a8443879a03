//! Secrets in memory: the type, and those who provide values for references.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize;
use serde_json::json;
use swarm_config::testing::conformance;
use swarm_config::{
    Color, ConfigLoader, ConfigValidator, ErrorKind, FileSecrets, Format, Secret, SecretError,
    SecretProvider, Section,
};

const CANARY: &str = "hunter2-canary";

#[derive(Debug, Deserialize)]
struct Settings {
    db: Db,
    #[serde(default)]
    users: Vec<User>,
    #[serde(default)]
    tokens: BTreeMap<u32, Secret<String>>,
    #[serde(default)]
    login: Option<Login>,
}

#[derive(Debug, Deserialize)]
struct Db {
    user: String,
    password: Secret<String>,
}

#[derive(Debug, Deserialize)]
struct User {
    #[allow(dead_code, reason = "only read by serde")]
    name: String,
    key: Secret<String>,
}

#[derive(Debug, Deserialize)]
enum Login {
    Token(Secret<String>),
}

fn everything<T>(config: &swarm_config::Config<T>) -> String {
    let mut all = format!("{config:?} {}", config.get().tree().to_json());
    for why in config.explain_all() {
        all += &format!("{why} {why:?}");
    }
    for path in ["db", "users", "tokens", "login"] {
        if let Ok(why) = config.explain(path) {
            all += &format!("{why} {why:?}");
        }
    }
    all + &config.get().warnings().render(Color::Never)
}

#[test]
fn a_field_of_type_secret_hides_its_path() {
    let text = format!(
        "tokens.7 = '{CANARY}'\nlogin.Token = '{CANARY}'\n[db]\nuser = 'u'\npassword = '{CANARY}'\n\
         [[users]]\nname = 'n'\nkey = '{CANARY}'\n"
    );
    let old = format!("[db]\npassword = 'older-{CANARY}'\n");
    let loader =
        ConfigLoader::new().text("old.toml", Format::Toml, old).text("a.toml", Format::Toml, text.clone());
    let config = loader.clone().load::<Settings>().unwrap();
    let settings = config.get();
    assert_eq!(settings.db.password.expose(), CANARY);
    assert_eq!(settings.users[0].key.expose(), CANARY);
    assert_eq!(settings.tokens[&7].expose(), CANARY);
    assert!(matches!(&settings.login, Some(Login::Token(token)) if token.expose() == CANARY));
    let shown = everything(&config) + &format!("{:?}", *settings);
    assert!(!shown.contains(CANARY), "{shown}");
    assert!(shown.contains(r#""user": "u""#) || shown.contains(r#"user: "u""#), "{shown}");
    assert_eq!(settings.db.user, "u");

    // What the schema has against a secret is told without it.
    let schema = json!({"properties": {"db": {"properties": {"password": {"maxLength": 3}}}}});
    let error =
        loader.validator(ConfigValidator::new(schema).unwrap()).load::<Settings>().map(drop).unwrap_err();
    let shown = format!("{error} {error:?} {}", error.render(Color::Never));
    assert!(shown.contains("db.password") && !shown.contains(CANARY), "{shown}");
}

#[test]
fn a_secret_of_the_wrong_type_is_told_without_its_value() {
    #[derive(Debug, Deserialize)]
    struct Numbers {
        #[allow(dead_code, reason = "never read")]
        pins: BTreeMap<u32, Secret<u32>>,
    }
    let error = ConfigLoader::new()
        .text("a.toml", Format::Toml, format!("pins.1 = '{CANARY}'"))
        .load::<Numbers>()
        .map(drop)
        .unwrap_err();
    assert_eq!((error.kind(), error.path()), (ErrorKind::Type, Some("pins.1")));
    let shown = format!("{error} {error:?} {}", error.render(Color::Never));
    assert!(!shown.contains(CANARY), "{shown}");
}

#[test]
fn a_secret_that_a_layer_above_replaces_is_not_shown_either() {
    let config = ConfigLoader::new()
        .text("1.toml", Format::Toml, format!("[db]\npassword = '{CANARY}'\nuser = 'u'"))
        .text("2.toml", Format::Toml, "[db]\npassword = 'x'")
        .secret("db.password")
        .load::<serde_json::Value>()
        .unwrap();
    let shown = everything(&config);
    assert!(!shown.contains(CANARY), "{shown}");
}

/// Counts who asks.
#[derive(Clone, Default)]
struct Vault {
    asked: Arc<AtomicUsize>,
}

impl SecretProvider for Vault {
    fn get(&self, reference: &str) -> Result<Secret<String>, SecretError> {
        let asked = self.asked.fetch_add(1, Ordering::Relaxed);
        match reference {
            "db#password" => Ok(Secret::new(CANARY.to_owned())),
            "port" => Ok(Secret::new("5432".to_owned())),
            "template" => Ok(Secret::new("${vault:db#password}".to_owned())),
            "count" => Ok(Secret::new(asked.to_string())),
            "denied" => Err(SecretError::Denied("the token has no such policy")),
            "down" => Err(SecretError::Unavailable("the server does not answer")),
            "panic" => panic!("on purpose"),
            "huge" => Ok(Secret::new("x".repeat(2 << 20))),
            _ => Err(SecretError::NotFound),
        }
    }
}

fn vault(text: &str) -> ConfigLoader {
    ConfigLoader::new().text("a.toml", Format::Toml, text).secret_provider("vault", Vault::default())
}

#[test]
fn references_are_asked_for_and_shown_in_place_of_their_values() {
    let text = "[db]\nuser = 'u'\npassword = '${vault:db#password}'\nurl = 'pg://u:${vault:db#password}@h'\n\
                port = '${vault:port}'\nother = '${vault:nope:-none}'\nplain = '${vault:template}'\ncopy = '${db.password}'\n";
    let old = format!("[db]\npassword = '{CANARY}'");
    let config = ConfigLoader::new()
        .text("old.toml", Format::Toml, old)
        .text("a.toml", Format::Toml, text)
        .secret_provider("vault", Vault::default())
        .load::<serde_json::Value>()
        .unwrap();
    let db = &config.get()["db"];
    assert_eq!(db["url"], format!("pg://u:{CANARY}@h"));
    assert_eq!((db["port"].as_str(), db["other"].as_str()), (Some("5432"), Some("none")));
    assert_eq!(db["plain"], "${vault:db#password}", "what a secret holds is not read again");
    assert_eq!(db["copy"], CANARY);
    assert_eq!(
        config.explain("db.password").unwrap().to_string(),
        "db.password = \"******\"\n  -> a.toml:3:12: \"${vault:db#password}\"\n     old.toml:2:12: \"******\""
    );
    assert!(config.get().tree().get("db.url").unwrap().is_secret());
    assert!(!config.get().tree().get("db.other").unwrap().is_secret());
    let shown = everything(&config);
    assert!(!shown.contains(CANARY), "{shown}");
}

#[test]
fn a_secret_that_looks_like_a_reference_is_shown_no_more_than_others() {
    let config = vault("a = '${hunter2:canary}'").without_interpolation().secret("a");
    let shown = everything(&config.load::<serde_json::Value>().unwrap());
    assert!(!shown.contains("canary"), "{shown}");
    let covered = ConfigLoader::new()
        .text("1.toml", Format::Toml, "a = '${hunter2}'")
        .text("2.toml", Format::Toml, "a = 'x'")
        .secret("a")
        .load::<serde_json::Value>()
        .unwrap();
    assert!(!everything(&covered).contains("hunter2"));
}

#[test]
fn the_type_of_the_field_decides_what_a_secret_is_read_as() {
    #[derive(Deserialize)]
    struct Typed {
        port: u16,
        password: Secret<String>,
    }
    let config = vault("port = '${vault:port}'\npassword = '${vault:port}'").load::<Typed>().unwrap();
    assert_eq!((config.get().port, config.get().password.expose().as_str()), (5432, "5432"));
}

#[test]
fn one_reference_is_asked_for_once_a_load_and_again_by_a_reload() {
    let provider = Vault::default();
    let config = ConfigLoader::new()
        .text("a.toml", Format::Toml, "a = '${vault:count}'\nb = 'x${vault:count}'\nc = '${a}'")
        .secret_provider("vault", provider.clone())
        .load::<BTreeMap<String, String>>()
        .unwrap();
    assert_eq!(provider.asked.load(Ordering::Relaxed), 1);
    assert_eq!(config.get()["b"], "x0");
    let changes = config.reload().unwrap();
    assert_eq!(provider.asked.load(Ordering::Relaxed), 2);
    assert_eq!(config.get()["b"], "x1");
    let told: Vec<String> = changes.iter().map(ToString::to_string).collect();
    assert_eq!(told[0], r#"a: "******" -> "******""#);
    assert_eq!(told.len(), 3);
}

#[test]
fn errors_name_scheme_and_reference() {
    for (reference, message, retryable) in [
        ("denied", "access is denied: the token has no such policy", false),
        ("down:-default", "not available: the server does not answer", true),
        ("panic", "cannot be used: the provider panicked", false),
        ("nope", "there is no such secret", false),
    ] {
        let error = vault(&format!("a = 'secret words ${{vault:{reference}}}'")).load_tree().unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::Secret, Some("a")), "{error}");
        assert_eq!(error.is_retryable(), retryable, "{error}");
        let name = reference.trim_end_matches(":-default");
        assert_eq!(error.to_string(), format!("a.toml:1:5: a: `vault:{name}`: {message}"));
        assert!(!error.render(Color::Never).contains("secret words"), "{}", error.render(Color::Never));
    }
    assert_eq!(vault("a = '${vault:huge}'").load_tree().unwrap_err().kind(), ErrorKind::Limit);
    let error = vault("a = '${aws-sm:x}'").load_tree().unwrap_err();
    assert!(error.to_string().ends_with("nobody provides `aws-sm:`; there is `env:`, `vault:`"), "{error}");
}

#[test]
fn what_the_environment_holds_is_secret_and_can_be_provided_otherwise() {
    let loader = ConfigLoader::new()
        .text("a.toml", Format::Toml, "a = '${env:TOKEN}'")
        .env_from("APP", [("TOKEN", CANARY)]);
    let config = loader.clone().load::<serde_json::Value>().unwrap();
    assert_eq!(config.get()["a"], CANARY);
    assert!(!everything(&config).contains(CANARY));
    let given = BTreeMap::from([("TOKEN".to_owned(), Secret::new("other".to_owned()))]);
    let config = loader.secret_provider("env", given).load::<serde_json::Value>().unwrap();
    assert_eq!(config.get()["a"], "other");
}

#[test]
fn files_of_a_folder_are_secrets_within_it() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("secrets");
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    std::fs::create_dir_all(root.join("db")).unwrap();
    write("outside", b"outside");
    write("secrets/plain", b"one\n");
    write("secrets/windows", b"one\r\n");
    write("secrets/lines", b"\n one\n\n");
    write("secrets/db/password", b"deep");
    write("secrets/large", &[b'x'; 11]);
    write("secrets/exact", &[b'x'; 10]);
    write("secrets/binary", &[0xff, 0xfe]);
    let files = FileSecrets::new(&root).limit(10);
    let get = |reference: &str| files.get(reference).map(|secret| secret.expose().clone());
    let absolute = root.join("plain");
    for (reference, found) in [
        ("plain", "one"),
        ("windows", "one"),
        ("lines", "\n one\n"),
        ("db/password", "deep"),
        ("exact", "xxxxxxxxxx"),
        (absolute.to_str().unwrap(), "one"),
    ] {
        assert_eq!(get(reference).unwrap(), found, "{reference}");
    }
    assert_eq!(get("nope"), Err(SecretError::NotFound));
    for (reference, why) in [
        ("", "not a reference"),
        ("../outside", "not a reference"),
        ("db/../../outside", "not a reference"),
        ("/etc/hostname", "not a reference"),
        ("db", "it is not a file"),
        ("large", "too large"),
        ("binary", "not UTF-8"),
    ] {
        let error = get(reference).unwrap_err();
        assert!(error.to_string().contains(why), "{reference}: {error}");
    }
    #[cfg(unix)]
    {
        use std::os::unix::fs::symlink;
        symlink(folder.path().join("outside"), root.join("link")).unwrap();
        symlink("db/password", root.join("inside")).unwrap();
        assert_eq!(get("inside").unwrap(), "deep");
        assert!(get("link").unwrap_err().to_string().contains("leads out"));
        let all = files.clone().follow_links_outside();
        assert_eq!(all.get("link").unwrap().expose(), "outside");
    }
}

/// As Kubernetes mounts them: a link to a folder is exchanged, and the folder that it led to removed.
#[cfg(unix)]
#[test]
fn a_file_is_found_while_it_is_exchanged() {
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    let prepare = |number: usize| {
        let now = root.join(format!("..{number}"));
        std::fs::create_dir(&now).unwrap();
        std::fs::write(now.join("password"), "held").unwrap();
        std::os::unix::fs::symlink(&now, root.join("..new")).unwrap();
    };
    let exchange = || std::fs::rename(root.join("..new"), root.join("..data")).unwrap();
    prepare(0);
    exchange();
    std::os::unix::fs::symlink("..data/password", root.join("password")).unwrap();
    let files = FileSecrets::new(root);
    let turn = std::sync::Barrier::new(2);
    // Each reading meets one exchange at most.
    let found = std::thread::scope(|scope| {
        let read = || {
            turn.wait();
            files.get("password").map(|secret| secret.expose().clone())
        };
        let reader = scope.spawn(move || std::iter::repeat_with(read).take(2000).collect::<Vec<_>>());
        for number in 1..=2000 {
            prepare(number);
            turn.wait();
            exchange();
            std::fs::remove_dir_all(root.join(format!("..{}", number - 1))).unwrap();
        }
        reader.join().unwrap()
    });
    assert!(found.iter().all(|found| found.as_deref() == Ok("held")), "{found:?}");
}

#[test]
fn our_own_providers_keep_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("one"), "1\n").unwrap();
    std::fs::write(folder.path().join("two"), "2").unwrap();
    let known = [("one", "1"), ("two", "2")];
    let fetched: BTreeMap<String, Secret<String>> =
        known.iter().map(|(name, value)| ((*name).to_owned(), Secret::new((*value).to_owned()))).collect();
    let files = FileSecrets::new(folder.path());
    for provider in [&files as &dyn SecretProvider, &fetched] {
        let report = conformance::check(provider, &known, "nope");
        assert!(report.is_ok() && report.kept().len() == 6, "{report}");
    }
    let report = conformance::check(&Vault::default(), &[("port", "5432"), ("panic", "x")], "denied");
    let broken: Vec<&str> = report.broken().iter().map(|rule| rule.why.as_str()).collect();
    assert_eq!(
        broken,
        [
            "\"panic\" made it panic",
            "\"denied\" was answered with: access is denied: the token has no such policy",
            "\"panic\" made it panic",
            "\"panic\" made it panic",
        ]
    );
}

#[cfg(not(feature = "sops"))]
#[test]
fn ciphertext_is_no_configuration_without_the_feature_that_reads_it() {
    for (format, text) in [
        (Format::Yaml, "a: ENC[x]\nsops:\n    mac: ENC[y]\n"),
        (Format::Json, r#"{"a": "ENC[x]", "sops": {"lastmodified": "today"}}"#),
        (Format::Dotenv, "a=ENC[x]\nsops_mac=ENC[y]\n"),
        (Format::Ini, "a = ENC[x]\n[sops]\nmac = ENC[y]\n"),
    ] {
        let error = ConfigLoader::new().text("a", format, text).load_tree().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Secret, "{error}");
        assert!(error.to_string().contains("the feature `sops`"), "{error}");
    }
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
#[expect(dead_code, reason = "only where they stand is looked at")]
enum Tagged {
    Basic { user: String, password: Secret<String> },
    Open,
}

#[derive(Deserialize)]
#[serde(untagged)]
#[expect(dead_code, reason = "only where they stand is looked at")]
enum Untagged {
    Pair { user: String, password: Secret<String> },
    Name(String),
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only where they stand is looked at")]
struct Flat {
    name: String,
    #[serde(flatten)]
    rest: Rest,
}

#[derive(Deserialize)]
#[expect(dead_code, reason = "only where they stand is looked at")]
struct Rest {
    password: Secret<String>,
}

#[test]
fn where_serde_hides_the_path_of_a_secret_the_whole_value_is_marked() {
    fn check<T: serde::de::DeserializeOwned + Send + Sync + 'static>() {
        let text = |canary: &str| {
            format!(
                "[auth]\nkind = 'basic'\nuser = 'u'\nname = 'n'\npassword = '{canary}'\n[plain]\nport = 1"
            )
        };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("app.toml");
        std::fs::write(&path, text(CANARY)).unwrap();
        let loader = ConfigLoader::new().file(&path);
        let config = loader.clone().load::<BTreeMap<String, Part<T>>>().unwrap();
        std::fs::write(&path, text(&format!("{CANARY}2"))).unwrap();
        let shown = everything(&config) + &format!("{:?}", config.reload().unwrap());
        assert!(!shown.contains(CANARY), "{shown}");
        assert!(config.explain("plain.port").unwrap().to_string().contains('1'));
        // Who says which path it is sees the rest.
        let config = loader.secret("auth.password").load::<BTreeMap<String, Part<T>>>().unwrap();
        assert!(!everything(&config).contains(CANARY));
        assert!(config.explain("auth.user").unwrap().to_string().contains("\"u\""));
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    #[expect(dead_code, reason = "only where they stand is looked at")]
    enum Part<T> {
        Auth(T),
        Plain { port: u16 },
    }

    check::<Tagged>();
    check::<Untagged>();
    check::<Flat>();
}

#[test]
fn a_secret_that_serde_buffers_is_in_no_error() {
    let text = "[auth]\nkind = 'basic'\nuser = 'u'\npassword = 42424242";
    let loader = ConfigLoader::new().text("a.toml", Format::Toml, text);
    let error = loader.load::<BTreeMap<String, Tagged>>().unwrap_err();
    let shown = error.render(swarm_config::Color::Never) + &format!("{error:?}");
    assert!(!shown.contains("42424242"), "{shown}");
}

#[test]
fn what_is_secret_without_its_type_is_in_no_error_where_serde_buffers() {
    #[derive(Debug, Deserialize)]
    #[serde(tag = "kind", rename_all = "lowercase")]
    #[expect(dead_code, reason = "never made")]
    enum Kinds {
        Basic { user: String, retries: u32 },
    }
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "never made")]
    struct Outer {
        user: String,
        #[serde(flatten)]
        rest: Inner,
    }
    #[derive(Debug, Deserialize)]
    #[expect(dead_code, reason = "never made")]
    struct Inner {
        retries: u32,
    }
    #[derive(Debug, Deserialize)]
    #[serde(try_from = "BTreeMap<String, String>")]
    struct Checked(());
    impl TryFrom<BTreeMap<String, String>> for Checked {
        type Error = String;
        fn try_from(all: BTreeMap<String, String>) -> Result<Checked, String> {
            Err(format!("{all:?} is strange"))
        }
    }

    fn check<T: serde::de::DeserializeOwned + Send + Sync + std::fmt::Debug + 'static>() {
        let text = |retries: &str| {
            ConfigLoader::new().text(
                "a.toml",
                Format::Toml,
                format!("[auth]\nkind = 'basic'\nuser = 'u'\n{retries}"),
            )
        };
        let schema = json!({"properties": {"auth": {"properties": {"retries": {"writeOnly": true}}}}});
        let stated = text(&format!("retries = '{CANARY}'"));
        let there = BTreeMap::from([("retries".to_owned(), Secret::new(CANARY.to_owned()))]);
        for loader in [
            text("retries = '${env:RETRIES}'").env_from("APP", [("RETRIES", CANARY)]),
            text("retries = '${vault:retries}'").secret_provider("vault", there),
            stated.clone().secret("auth.retries"),
            stated.validator(ConfigValidator::new(schema).unwrap()),
        ] {
            let waiting = loader.load::<BTreeMap<String, Section<T>>>().unwrap();
            let errors = [
                loader.load::<BTreeMap<String, T>>().unwrap_err(),
                waiting.get()["auth"].get().map(drop).unwrap_err(),
            ];
            for error in errors {
                let shown = format!("{error} {error:?} {}", error.render(Color::Never));
                assert!(!shown.contains(CANARY) && shown.contains("there are secrets in it"), "{shown}");
                assert_eq!(error.path(), Some("auth"));
            }
        }
    }
    check::<Kinds>();
    check::<Outer>();
    check::<Checked>();

    // What shows no value is told as it is.
    let text = "[auth]\nuser = '${env:NAME}'";
    let loader = ConfigLoader::new().text("a.toml", Format::Toml, text).env_from("APP", [("NAME", "u")]);
    let error = loader.load::<BTreeMap<String, Outer>>().unwrap_err();
    assert!(error.to_string().contains("missing field `retries`"), "{error}");
}

#[test]
fn secrets_in_sections_are_hidden_whatever_their_type() {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only where they stand is looked at")]
    enum Auth {
        Token { value: Secret<String> },
        Open,
    }

    #[derive(Deserialize)]
    #[serde(bound = "T: serde::de::DeserializeOwned + Send + Sync + 'static")]
    struct Waiting<T> {
        auth: swarm_config::Section<T>,
    }

    let text = format!("[auth.Token]\nvalue = '{CANARY}'");
    let config = ConfigLoader::new().text("a.toml", Format::Toml, text).load::<Waiting<Auth>>().unwrap();
    assert!(!everything(&config).contains(CANARY), "before it is read");
    config.get().auth.get().unwrap();
    assert!(!everything(&config).contains(CANARY), "when it was read");

    // What kind of variant it is, and so where it holds a secret, is known once it was read.
    let text = format!("[auth]\nkind = 'basic'\nuser = 'u'\npassword = '{CANARY}'");
    let config = ConfigLoader::new().text("a.toml", Format::Toml, text).load::<Waiting<Tagged>>().unwrap();
    config.get().auth.get().unwrap();
    assert!(!everything(&config).contains(CANARY));
    config.reload().unwrap();
    assert!(config.get().auth.is_made());
    assert!(!everything(&config).contains(CANARY), "and after a reload that leaves it as it is");
}

#[test]
fn an_error_beside_a_secret_that_serde_buffers_does_not_show_it() {
    fn check<T: serde::de::DeserializeOwned + Send + Sync + 'static>(text: &str) {
        let loader = ConfigLoader::new().text("a.json", Format::Json, text);
        let error = loader.load::<BTreeMap<String, T>>().err().unwrap();
        let shown = error.render(swarm_config::Color::Never);
        assert!(!shown.contains(CANARY) && shown.contains("\"user\""), "{shown}");
    }
    let wrong = format!("{{\"auth\": {{\"kind\": \"basic\", \"user\": 1, \"password\": \"{CANARY}\"}}}}");
    check::<Tagged>(&wrong);
    check::<Untagged>(&wrong);
    check::<Flat>(&wrong.replace("\"user\"", "\"user\": 2, \"name\""));
}

#[test]
fn what_refers_to_a_secret_that_is_found_late_is_not_shown() {
    #[derive(Deserialize)]
    #[expect(dead_code, reason = "only where they stand is looked at")]
    struct Settings {
        password: Secret<String>,
        url: String,
        #[serde(flatten)]
        rest: BTreeMap<String, serde_json::Value>,
    }
    let text = |canary: &str| {
        format!(
            "password = '{canary}'\nurl = 'pg://${{password}}@h'\nplain = 'p${{port}}'\nport = 1\n\
             [more]\nalso = '${{url}}/db'\ncopy = '${{more.also}}'"
        )
    };
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.toml");
    std::fs::write(&path, text(CANARY)).unwrap();
    let config = ConfigLoader::new().file(&path).load::<Settings>().unwrap();
    assert_eq!(config.get().url, format!("pg://{CANARY}@h"));
    std::fs::write(&path, text(&format!("{CANARY}2"))).unwrap();
    let shown = everything(&config) + &format!("{:?}", config.reload().unwrap()) + &everything(&config);
    assert!(!shown.contains(CANARY), "{shown}");
    assert!(config.explain("plain").unwrap().to_string().contains("p1"));
}

#[test]
fn a_path_that_a_schema_knows_does_not_unmark_a_secret_without_one() {
    #[derive(Deserialize)]
    struct Settings {
        #[serde(flatten)]
        common: Common,
    }
    #[derive(Deserialize)]
    struct Common {
        api_key: Secret<String>,
    }
    let schema = serde_json::json!({"properties": {"db": {"properties": {"password": {"writeOnly": true}}}}});
    let config = ConfigLoader::new()
        .text("a.toml", Format::Toml, format!("api_key = '{CANARY}'\n[db]\npassword = 'p'"))
        .validator(swarm_config::ConfigValidator::new(schema).unwrap())
        .load::<Settings>()
        .unwrap();
    assert_eq!(config.get().common.api_key.expose(), CANARY);
    assert!(!everything(&config).contains(CANARY));
}

#[test]
fn a_secret_that_became_none_is_shown_on_neither_side() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.toml");
    let texts = ["key = '${env:KEY}'", "key = 'open'"];
    for (first, second) in [(texts[0], texts[1]), (texts[1], texts[0])] {
        std::fs::write(&path, first).unwrap();
        let loader = ConfigLoader::new().file(&path).env_from("APP", [("KEY", CANARY)]);
        let config = loader.load::<BTreeMap<String, String>>().unwrap();
        std::fs::write(&path, second).unwrap();
        let changes = config.reload().unwrap();
        assert_eq!(changes[0].to_string(), "key: \"******\" -> \"******\"");
    }
}

#[test]
fn a_reference_beside_a_secret_without_a_path_does_not_show_it() {
    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    enum Auth {
        Both { token: String, password: Secret<String> },
    }
    #[derive(Debug, Deserialize)]
    struct Settings {
        auth: Auth,
    }
    let config = ConfigLoader::new()
        .text("a.toml", Format::Toml, "auth = { token = '${env:TOKEN}', password = 'CANARY' }")
        .env_from("APP", [("TOKEN", "t")])
        .load::<Settings>()
        .unwrap();
    let Auth::Both { token, password } = &config.get().auth;
    assert_eq!((&**token, &**password.expose()), ("t", "CANARY"));
    let shown = format!("{:?} {}", config, config.explain("auth.password").unwrap());
    assert!(!shown.contains("CANARY"), "{shown}");
}

/// Those of `/proc` say that they hold nothing, and hold more.
#[cfg(target_os = "linux")]
#[test]
fn a_file_that_grows_while_it_is_read_is_no_secret_yet() {
    let provider = FileSecrets::new(format!("/proc/{}", std::process::id()));
    let error = provider.get("status").map(drop).unwrap_err();
    assert_eq!(error, SecretError::Unavailable("the file is being written"));
    assert!(error.is_retryable());
}

/// One line each, so that a frame around anything has the secret in it.
fn one_line(text: &str) -> ConfigLoader {
    ConfigLoader::new().text("a.json", Format::Json, text.replace("CANARY", CANARY))
}

#[derive(Debug, Deserialize)]
struct Ported {
    #[allow(dead_code, reason = "only read by serde")]
    db: PortedDb,
}

#[derive(Debug, Deserialize)]
struct PortedDb {
    #[serde(default)]
    #[allow(dead_code, reason = "only read by serde")]
    port: u16,
    #[serde(default)]
    #[allow(dead_code, reason = "only read by serde")]
    password: Option<Secret<String>>,
}

#[test]
fn frames_of_unknown_keys_do_not_show_the_secrets_beside_them() {
    for text in [
        r#"{"db":{"password":"CANARY","hots":1}}"#,
        r#"{"db":{"pasword":"CANARY"}}"#,          // typos:ignore-line
        r#"{"db":{"pasword":{"a":["CANARY"]}}}"#,  // typos:ignore-line
        r#"{"db":{},"dv":{"password":"CANARY"}}"#, // typos:ignore-line
    ] {
        let loader = one_line(text).text("b.json", Format::Json, r#"{"db":{"password":"x"}}"#);
        let config = loader.load::<Ported>().unwrap();
        let shown = config.get().warnings().render(Color::Never);
        assert!(shown.contains(" | {\"db\"") && !shown.contains(CANARY), "{shown}");
        let error = loader.deny_unknown_keys().load::<Ported>().unwrap_err().render(Color::Never);
        assert!(error.contains(" | {\"db\"") && !error.contains(CANARY), "{error}");
    }
    // What is no secret and is like none is shown.
    let shown = one_line(r#"{"db":{"hots":"localhost"}}"#).load::<Ported>().unwrap();
    assert!(shown.get().warnings().render(Color::Never).contains("localhost"));
}

#[test]
fn frames_of_a_schema_do_not_show_what_is_misspelt_from_a_secret() {
    let password = json!({"writeOnly": true});
    for db in [
        json!({"properties": {"password": password}, "additionalProperties": false}),
        json!({"properties": {"password": password}, "required": ["password"]}),
    ] {
        let validator = ConfigValidator::new(json!({"properties": {"db": db}})).unwrap();
        let loader = one_line(r#"{"db":{"pasword":"CANARY"}}"#).validator(validator); // typos:ignore-line
        let error = loader.load_tree().unwrap_err().render(Color::Never);
        assert!(error.contains("pasword") && !error.contains(CANARY), "{error}"); // typos:ignore-line
    }
}

#[test]
fn frames_of_errors_do_not_show_the_secrets_beside_them() {
    #[derive(Debug, Deserialize)]
    struct Strict {
        #[allow(dead_code, reason = "only read by serde")]
        db: StrictDb,
    }
    #[derive(Debug, Deserialize)]
    struct StrictDb {
        #[allow(dead_code, reason = "only read by serde")]
        password: Secret<String>,
    }
    #[derive(Debug, Deserialize)]
    struct Later {
        db: Section<PortedDb>,
    }
    let check = |error: &swarm_config::Error, part: &str| {
        let shown = error.render(Color::Never);
        assert!(shown.contains(part) && shown.contains(" | "), "{shown}");
        assert!(shown.contains("******") && !shown.contains(CANARY), "{shown}");
    };
    for text in ["[db]\npasword = 'CANARY'\n", "[db]\npasword.a = ['CANARY']\n"] {
        // typos:ignore-line
        let loader = ConfigLoader::new().text("a.toml", Format::Toml, text.replace("CANARY", CANARY));
        check(&loader.load::<Strict>().unwrap_err(), "meant to be it?");
    }
    for text in [r#"{"db":{"password":"CANARY","port":"x"}}"#, r#"{"db":{"port":"x","password":"CANARY"}}"#] {
        check(&one_line(text).load::<Ported>().unwrap_err(), "db.port");
        // That another layer has the last word changes nothing about the line.
        let over = one_line(text).text("b.json", Format::Json, r#"{"db":{"password":"y"}}"#);
        check(&over.load::<Ported>().unwrap_err(), "db.port");
        let config = one_line(text).load::<Later>().unwrap();
        check(&config.get().db.get().unwrap_err(), "db.port");
        let tree = one_line(text).load_tree().unwrap();
        check(&tree.extract::<Ported>().unwrap_err(), "db.port");
    }
    for text in [r#"{"p":"CANARY","u":"${nope}"}"#, r#"{"p":"CANARY","u":"${u}"}"#] {
        check(&one_line(text).secret("p").load_tree().unwrap_err(), "u: ");
    }
}

#[test]
fn a_provider_can_be_chosen_at_run_time() {
    let map = || HashMap::from([("a".to_owned(), Secret::new("hunter2".to_owned()))]);
    let boxed: Box<dyn SecretProvider> = Box::new(map());
    let shared: Arc<dyn SecretProvider> = Arc::new(map());
    let config = ConfigLoader::new()
        .text("a.toml", Format::Toml, "a = '${boxed:a}'\nb = '${shared:a}'\nc = '${map:b:-none}'")
        .secret_provider("boxed", boxed)
        .secret_provider("shared", shared)
        .secret_provider("map", map())
        .load::<BTreeMap<String, String>>()
        .unwrap();
    let values: Vec<String> = config.get().values().cloned().collect();
    assert_eq!(values, ["hunter2", "hunter2", "none"]);
}

#[test]
fn a_piece_of_a_secret_that_looks_like_a_reference_is_in_no_error() {
    for piece in ["ss", "SS", "ss:x", "db", "none", "a..b", "db.password"] {
        let text = format!("none: null\ndb:\n  password: \"pa${{{piece}}}word\"\n");
        let loader = ConfigLoader::new().text("a.yaml", Format::Yaml, text).secret("db.password");
        let error = loader.load::<serde_json::Value>().unwrap_err();
        for shown in [error.to_string(), error.render(Color::Never), format!("{error:?}")] {
            assert!(!shown.contains(&format!("`{piece}`")) && !shown.contains("pa$"), "{shown}");
            assert!(shown.contains("db.password"), "{shown}");
        }
    }
    // One that is a reference and nothing else gives nothing away.
    let loader =
        ConfigLoader::new().text("a.yaml", Format::Yaml, "password: ${env:SWARM_NOT_SET}").secret("password");
    let error = loader.load::<serde_json::Value>().unwrap_err().to_string();
    assert!(error.contains("SWARM_NOT_SET"), "{error}");
}

#[test]
fn a_line_that_is_not_shown_is_said_to_be_left_out() {
    let text = format!("db = {{ user = 'u', password = '{CANARY}' 2 }}");
    let loader = ConfigLoader::new().text("a.toml", Format::Toml, text);
    let note = "\n  = note: the line is not shown, for a secret may stand in it\n";
    let hidden = loader.load::<Settings>().unwrap_err().render(Color::Never);
    assert!(hidden.contains("a.toml:1:") && hidden.ends_with(note) && !hidden.contains('|'), "{hidden}");
    // Without a type and a path nobody says that there is one.
    let shown = loader.load_tree().unwrap_err().render(Color::Never);
    assert!(shown.contains(CANARY) && !shown.contains("note"), "{shown}");
    let missing = ConfigLoader::new()
        .text("a.toml", Format::Toml, "db = { user = 'u', password = '${vault:nope}' }")
        .secret_provider("vault", BTreeMap::<String, Secret<String>>::new());
    let error = missing.load::<Settings>().unwrap_err().render(Color::Never);
    assert!(error.contains("`vault:nope`: there is no such secret") && error.ends_with(note), "{error}");
}
