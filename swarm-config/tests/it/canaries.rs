//! Values that must not get out, driven through everything that speaks: errors, logs at TRACE, differences,
//! explanations, reports, events, `Debug`, exports, panics and files.

use std::collections::BTreeMap;
use std::fmt::{Debug, Display, Write as _};
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use futures::StreamExt as _;
use serde::Deserialize;
use serde_json::json;
use swarm_config::testing::{FakeSource, ManualWatch};
use swarm_config::{
    Color, Config, ConfigEvent, ConfigLoader, ConfigValidator, FileSecrets, Finding, Format, Limits, Rule,
    Secret, SecretError, SecretProvider, Severity, Tree,
};

/// No part of it stands in any source line that a panic could quote.
fn canary(number: usize) -> String {
    format!("{}{number}", ["canary", "bird"].join("-"))
}

#[test]
fn warnings_are_logged_without_values_and_once_until_they_change() {
    let schema = json!({"properties": {"level": {"enum": ["INFO"]}}});
    let loader = ConfigLoader::new()
        .text("a.toml", Format::Toml, format!("level = '{}'", canary(1)))
        .validator(ConfigValidator::new(schema).unwrap())
        .severity("enum", Severity::Warning)
        .env_from("APP", [("APP_NO_SUCH", "1")]);
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        loader.load_tree().unwrap();
        let config = loader.load::<serde_json::Value>().unwrap();
        config.reload().unwrap();
        assert_eq!(config.get().warnings().findings().len(), 2, "those who ask are told each time");
        ConfigLoader::new().text("a.toml", Format::Toml, "a = 1").load_tree().unwrap();
    });
    let log = log.0.lock().unwrap();
    assert_eq!(log.matches("loaded with warnings").count(), 2, "{log}");
    assert_eq!(log.matches("a.toml:1:9: level: the value is not one of \"INFO\"").count(), 2, "{log}");
    assert_eq!(log.matches("APP_NO_SUCH: no key is known").count(), 2, "{log}");
    assert!(!log.contains(&canary(1)), "{log}");
}

#[test]
fn warnings_of_a_live_configuration_are_logged_when_they_are_others() {
    let source = FakeSource::new("a.toml", Format::Toml, "level = 'LOUD'");
    let schema = json!({"properties": {"level": {"enum": ["INFO"]}, "size": {"maximum": 9}}});
    let loader = ConfigLoader::new()
        .fake(&source)
        .validator(ConfigValidator::new(schema).unwrap())
        .severity("enum", Severity::Warning)
        .severity("maximum", Severity::Warning);
    let log = Log::default();
    tracing::subscriber::with_default(log.clone(), || {
        let config = loader.load::<serde_json::Value>().unwrap();
        for (text, logged) in [
            ("level = 'LOUD'", 1),
            ("# It stands elsewhere.\nlevel = 'LOUD'", 1),
            // What was refused in between has put no other warnings in place.
            ("level = [", 1),
            ("level = 'LOUD'\nother = 1", 1),
            ("level = 'LOUD'\nsize = 10", 2),
            ("level = 'LOUD'", 3),
            ("level = 'INFO'", 3),
            ("level = 'LOUD'", 4),
        ] {
            source.set(text);
            assert_eq!(config.reload().is_err(), text.ends_with('['), "{text}");
            let log = log.0.lock().unwrap();
            assert_eq!(log.matches("loaded with warnings").count(), logged, "{text}: {log}");
        }
    });
}

/// What a child is told by: the folder that it writes files of its own to.
const CHILD: &str = "SWARM_CANARY_FOLDER";

#[test]
fn no_secret_gets_out_of_anything() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return drive(Path::new(&folder));
    }
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir(&path).unwrap();
        path
    };
    let (own, temporary, home) = (place("own"), place("temporary"), place("home"));
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["canaries::no_secret_gets_out_of_anything", "--exact", "--nocapture"])
        .env(CHILD, &own)
        .envs([("TMPDIR", &temporary), ("TMP", &temporary), ("TEMP", &temporary), ("HOME", &home)])
        .env("RUST_BACKTRACE", "full")
        .env("CANARY_VARIABLE", canary(0))
        .current_dir(&home)
        .output()
        .unwrap();
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}", said.replace(&canary(0)[..8], "<secret>"));
    let told = |part: &str| said.matches(part).count();
    // It spoke of what it should: the test does not pass by saying nothing.
    assert!(told("******") > 50 && told("panicked at") >= 2 && told("TRACE ") >= 1, "{said}");
    assert!(told("db.password") > 20, "{said}");
    if let Some(at) = said.find(&canary(0)[..canary(0).len() - 1]) {
        let from = said[..at].char_indices().rev().nth(300).map_or(0, |(at, _)| at);
        panic!("a secret got out: {}", said[from..].chars().take(700).collect::<String>());
    }
    for left in [temporary, home] {
        let files: Vec<_> = std::fs::read_dir(&left).unwrap().collect();
        assert!(files.is_empty(), "files were left: {files:?}");
    }
}

/// Everything that was said.
#[derive(Default)]
struct Said(String);

impl Said {
    fn debug(&mut self, what: &impl Debug) {
        let _ = writeln!(self.0, "{what:?} {what:#?}");
    }

    fn display(&mut self, what: &impl Display) {
        let _ = writeln!(self.0, "{what}");
    }

    fn error(&mut self, error: &swarm_config::Error) {
        self.debug(error);
        self.display(error);
        for color in [Color::Never, Color::Always] {
            self.display(&error.render(color));
        }
        let mut source = std::error::Error::source(error);
        while let Some(error) = source {
            self.display(&error);
            self.debug(&error);
            source = error.source();
        }
        if let Some(report) = error.report() {
            self.debug(report);
            self.display(report);
        }
    }

    fn refused<T>(&mut self, what: swarm_config::Result<T>) {
        match what {
            Ok(_) => panic!("it was not refused, after {}", self.0.lines().last().unwrap_or_default()),
            Err(error) => self.error(&error),
        }
    }

    fn config<T>(&mut self, config: &Config<T>) {
        self.debug(config);
        let now = config.get();
        self.debug(&now);
        self.debug(&config.handle());
        self.debug(now.tree());
        self.display(&now.tree().to_json());
        self.display(&serde_json::to_string(now.tree()).unwrap());
        self.display(&now.tree().root());
        self.display(&now.warnings().render(Color::Always));
        for why in config.explain_all() {
            let path = why.path();
            let parts: Vec<&str> = path.split('.').collect();
            for length in 1..=parts.len() {
                if let Ok(why) = config.explain(&parts[..length].join(".")) {
                    self.debug(&why);
                    self.display(&why);
                }
            }
        }
        let empty = Tree::parse("empty", Format::Json, "{}", &Limits::default()).unwrap();
        for changes in [now.tree().diff(&empty), empty.diff(now.tree())] {
            self.debug(&changes);
            changes.iter().for_each(|change| self.display(change));
        }
    }
}

/// Writes down every event at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        span.record(&mut Fields(&mut self.0.lock().unwrap()));
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut Fields(&mut self.0.lock().unwrap()));
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut log = self.0.lock().unwrap();
        let _ = write!(log, "\nTRACE {} {}", event.metadata().target(), event.metadata().level());
        event.record(&mut Fields(&mut log));
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

struct Fields<'l>(&'l mut String);

impl tracing::field::Visit for Fields<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

struct Vault;

impl SecretProvider for Vault {
    fn get(&self, reference: &str) -> Result<Secret<String>, SecretError> {
        let secret = Secret::new(canary(1));
        match reference {
            "good" => Ok(secret),
            "panics" => panic!("on purpose, without {secret:?}"),
            "denied" => Err(SecretError::Denied("no policy")),
            "down" => Err(SecretError::Unavailable("no answer")),
            _ => Err(SecretError::NotFound),
        }
    }
}

struct Panics;

impl Rule for Panics {
    fn name(&self) -> &str {
        "panics"
    }

    fn check(&self, config: &Tree) -> Vec<Finding> {
        let found = config.get("db.password").map(|value| value.as_str().map(str::len));
        assert_eq!(found, None, "on purpose, with {:?}", config.root());
        vec![Finding::new(Severity::Error, "db.password", "it is there")]
    }
}

#[derive(Debug, Deserialize)]
struct Settings {
    #[allow(dead_code, reason = "for its `Debug`")]
    db: Db,
    #[serde(default)]
    #[allow(dead_code, reason = "for its `Debug`")]
    keys: BTreeMap<String, Secret<String>>,
}

#[derive(Debug, Deserialize)]
struct Db {
    #[allow(dead_code, reason = "for its `Debug`")]
    password: Secret<String>,
}

fn drive(folder: &Path) {
    let log = Log::default();
    let mut said = Said::default();
    tracing::subscriber::with_default(log.clone(), || {
        layers(&mut said);
        providers(&mut said, folder);
        live(&mut said, folder);
        #[cfg(feature = "sops")]
        sops(&mut said, folder);
        tracing::trace!("heard");
    });
    eprintln!("{}\n{}", said.0, log.0.lock().unwrap());
}

/// A password in every way that a layer can have it, right and wrong.
fn layers(said: &mut Said) {
    let loader = |text: String| ConfigLoader::new().text("a.toml", Format::Toml, text);
    let (one, two) = (canary(1), canary(2));
    let good = format!("[db]\npassword = '{one}'\nurl = 'pg://${{db.password}}@h'\n[keys]\na = '{two}'\n");
    let layered = || {
        loader(format!("[db]\npassword = '{two}'\n"))
            .text("b.toml", Format::Toml, good.clone())
            .env_from("APP", [("APP_DB_PASSWORD", canary(3))])
            .set(format!("db.password={}", canary(4)))
            .secret("keys")
    };
    let config = layered().load::<Settings>().unwrap();
    said.debug(&*config.get());
    said.config(&config);
    said.config(&layered().secret("db.password").load::<serde_json::Value>().unwrap());
    let schema = json!({"properties": {"db": {"properties": {
        "password": {"writeOnly": true, "type": "string", "maxLength": 3, "pattern": "^x$", "enum": ["x"], "const": "x"},
    }}}});
    let validators = || {
        [
            ConfigValidator::builder().schema(schema.clone()).build().unwrap(),
            ConfigValidator::builder().schema(schema.clone()).rule(Panics).build().unwrap(),
        ]
    };
    for validator in validators() {
        said.debug(&layered().values("code", &json!({"password": canary(5)})).validator(validator.clone()));
        said.debug(&validator);
        said.refused(layered().validator(validator.clone()).load::<Settings>());
        said.refused(layered().validator(validator).load_tree());
    }
    let table = format!("{{\"db\": {{\"password\": [\"{one}\"]}}}}");
    said.refused(layered().text("c.json", Format::Json, table).load::<Settings>());
    said.refused(layered().secret("db").load::<BTreeMap<String, u32>>());
    said.refused(layered().secret("db").load::<BTreeMap<String, BTreeMap<String, bool>>>());
    let warned = layered().secret("db").text("c.json", Format::Json, "{\"db\": {\"pasword\": 1}}"); // typos:ignore-line
    said.config(&warned.load::<Settings>().unwrap());
    for (format, text) in [
        (Format::Toml, format!("password = '{one}")),
        (Format::Toml, format!("password = '{one}'\npassword = '{two}'")),
        (Format::Toml, format!("password = {one}")),
        (Format::Yaml, format!("password: \"{one}")),
        (Format::Yaml, format!("password: [{one}")),
        (Format::Json, format!("{{\"password\": \"{one}\", }}")),
        (Format::Json, format!("{{\"password\": \"{one}\u{0}\"}}")),
        (Format::Dotenv, format!("PASSWORD {one}")),
        (Format::Ini, format!("password {one}")),
        (Format::Ini, format!("[{one}")),
    ] {
        said.refused(ConfigLoader::new().text("x", format, text).secret("password").load_tree());
    }
    for text in [
        format!("password = '{one} ${{nope}}'"),
        format!("password = '{one} ${{open'"),
        format!("password = '{one} ${{password}}'"),
        format!("password = '{one} ${{env:NOT_SET_AT_ALL}}'"),
        format!("password = '{one} ${{t}}'\n[t]\na = 1"),
    ] {
        said.refused(ConfigLoader::new().text("x.toml", Format::Toml, text).secret("password").load_tree());
    }
}

fn providers(said: &mut Said, folder: &Path) {
    std::fs::write(folder.join("secret"), canary(1)).unwrap();
    std::fs::write(folder.join("bytes"), [canary(1).as_bytes(), &[0xff]].concat()).unwrap();
    let loader = |reference: &str| {
        ConfigLoader::new()
            .text(
                "a.toml",
                Format::Toml,
                format!("[db]\npassword = '{reference}'\nmore = 'x${{db.password}}'"),
            )
            .secret_provider("vault", Vault)
            .secret_provider("file", FileSecrets::new(folder))
    };
    for reference in ["${vault:good}", "a ${vault:good} b", "${env:CANARY_VARIABLE}", "${file:secret}"] {
        said.config(&loader(reference).load::<Settings>().unwrap());
        let config = loader(reference).load::<serde_json::Value>().unwrap();
        said.config(&config);
        said.debug(&config.reload().unwrap());
        let schema = json!({"properties": {"db": {"properties": {
            "password": {"maxLength": 1}, "more": {"enum": ["y"]},
        }}}});
        said.refused(loader(reference).validator(ConfigValidator::new(schema).unwrap()).load_tree());
        said.refused(loader(reference).load::<BTreeMap<String, BTreeMap<String, u8>>>());
    }
    for reference in ["panics", "denied", "down", "nope"] {
        said.refused(loader(&format!("{} ${{vault:{reference}}}", canary(2))).secret("db").load_tree());
    }
    for reference in ["bytes", "nope", "../own/secret", ""] {
        said.refused(loader(&format!("${{file:{reference}}}")).load_tree());
    }
}

fn live(said: &mut Said, folder: &Path) {
    let path = folder.join("live.toml");
    let write = |text: String| std::fs::write(&path, text).unwrap();
    write(format!("[db]\npassword = '{}'\n", canary(1)));
    let config = ConfigLoader::new().file(&path).load::<Settings>().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let mut watch = ManualWatch::new(&config);
    for text in [
        format!("[db]\npassword = '{}'\n", canary(2)),
        format!("[db]\npassword = {}\n", canary(3)),
        format!("[db]\npassword = ['{}']\n", canary(4)),
        format!("[db]\npassword = '{}'\nmore = 1\n", canary(5)),
    ] {
        write(text);
        watch.touched(&path);
        watch.advance(std::time::Duration::from_millis(10));
        let event = futures::executor::block_on(watch.events().next());
        heard.lock().unwrap().push(event.unwrap());
    }
    let heard = heard.lock().unwrap();
    assert_eq!(heard.iter().filter(|event| matches!(event, ConfigEvent::Changed { .. })).count(), 2);
    said.debug(&*heard);
    for event in heard.iter() {
        if let ConfigEvent::Rejected { error, .. } = event {
            said.error(error);
        }
    }
    said.config(&config);
}

#[cfg(feature = "sops")]
fn sops(said: &mut Said, folder: &Path) {
    use swarm_config::{AgeKeys, SopsFile, SopsOptions};

    let keys = AgeKeys::generate();
    said.debug(&keys);
    said.debug(&keys.to_text());
    let private = format!("AGE-SECRET-KEY-1{}", canary(1));
    said.refused(AgeKeys::parse(&private));
    said.refused(private.parse::<swarm_config::AgeRecipient>().map(drop));
    std::fs::write(folder.join("keys.txt"), &private).unwrap();
    said.refused(AgeKeys::from_file(folder.join("keys.txt")));
    let options = SopsOptions::new(keys.recipients());
    said.debug(&options);
    let one = canary(1);
    for (format, text, wrong) in [
        (
            Format::Yaml,
            format!("# {one}\ndb:\n    password: {one} # {one}\n    list: [{one}]\n"),
            [
                format!("db: [{one}"),
                format!("db: !x {one}"),
                format!("- {one}"),
                format!("{{password: {one}}}"),
            ],
        ),
        (
            Format::Json,
            format!("{{\"db\": {{\"password\": \"{one}\"}}}}"),
            [
                format!("{{\"db\": {one}}}"),
                format!("[\"{one}\"]"),
                format!("{{\"sops\": \"{one}\"}}"),
                one.clone(),
            ],
        ),
        (
            Format::Dotenv,
            format!("#{one}\ndb={one}\n"),
            [format!("db {one}"), format!("sops_mac={one}"), format!("db={one}\ndb={one}"), one.clone()],
        ),
        (
            Format::Ini,
            format!("; {one}\n[db]\npassword = {one} ; {one}\n"),
            [format!("[db]\n{one}"), format!("[{one}"), format!("db = \"\"\"{one}"), format!("db = {one}\\")],
        ),
    ] {
        for wrong in wrong {
            said.refused(SopsFile::encrypt("wrong", format, &wrong, &options));
        }
        let file = SopsFile::encrypt("right", format, &text, &options).unwrap();
        said.debug(&file);
        said.display(&file.text());
        said.debug(&file.decrypt(&keys).unwrap());
        said.refused(file.decrypt(&AgeKeys::generate()));
        said.refused(file.edit(&keys, |text| format!("{text}\u{0}")));
        let edited = file.edit(&keys, |text| text.replace(&one, &canary(2))).unwrap();
        said.display(&edited.rotate(&keys, keys.recipients()).unwrap().text());
        let loader = |text: &str| ConfigLoader::new().text("a", format, text).age_keys(keys.clone());
        said.config(&loader(file.text()).load::<serde_json::Value>().unwrap());
        said.refused(loader(file.text()).load::<BTreeMap<String, u8>>());
        let schema =
            json!({"properties": {"db": {"const": 1, "properties": {"password": {"maxLength": 1}}}}});
        let validator = ConfigValidator::builder().schema(schema).rule(Panics).build().unwrap();
        said.refused(loader(file.text()).validator(validator).load_tree());
        // One byte after another, in every place that the file has.
        for at in (0..file.text().len()).step_by(7).filter(|at| file.text().is_char_boundary(*at)) {
            let mut changed = file.text().as_bytes().to_vec();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let Ok(changed) = String::from_utf8(changed) else { continue };
            if let Err(error) = loader(&changed).load_tree() {
                said.error(&error);
            }
        }
    }
}
