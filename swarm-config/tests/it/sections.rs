use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;

use serde::Deserialize;
use serde_json::json;
use swarm_config::testing::FakeSource;
use swarm_config::{
    Color, Config, ConfigLoader, ConfigValidator, ErrorKind, Format, Secret, Section, Severity,
};

#[derive(Deserialize)]
struct Settings {
    name: String,
    agents: Section<BTreeMap<String, Agent>>,
    #[serde(default)]
    tools: Section<BTreeMap<String, String>>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Agent {
    retries: u32,
}

#[test]
fn a_section_is_made_when_it_is_first_read() {
    let text = "name = 'x'\n[agents.one]\nretries = 3";
    let config = ConfigLoader::new().text("a.toml", Format::Toml, text).load::<Settings>().unwrap();
    let settings = config.get();
    assert_eq!(settings.name, "x");
    assert!(!settings.agents.is_made());
    assert_eq!(settings.agents.get().unwrap()["one"].retries, 3);
    assert!(settings.agents.is_made());
    assert!(settings.tools.get().unwrap().is_empty());
}

#[test]
fn what_is_not_of_the_type_is_told_at_its_place_and_each_time() {
    let text = "name = 'x'\n[agents.one]\nretries = 'three'";
    let config = ConfigLoader::new().text("a.toml", Format::Toml, text).load::<Settings>().unwrap();
    for _ in 0..2 {
        let error = config.get().agents.get().unwrap_err();
        assert_eq!((error.kind(), error.path()), (ErrorKind::Type, Some("agents.one.retries")));
        assert_eq!(error.location().unwrap().to_string(), "a.toml:3:11");
    }
}

#[test]
fn the_schema_does_not_wait_for_sections() {
    let schema = json!({"properties": {"agents": {"additionalProperties": {"required": ["retries"]}}}});
    let loader = ConfigLoader::new()
        .text("a.toml", Format::Toml, "name = 'x'\n[agents.one]")
        .validator(ConfigValidator::new(schema).unwrap());
    assert_eq!(loader.load::<Settings>().err().unwrap().kind(), ErrorKind::Invalid);
}

#[test]
fn a_text_that_was_read_as_a_number_is_not_kept_once_it_is_only_a_text() {
    #[derive(Deserialize)]
    struct Outer {
        counts: Section<BTreeMap<String, u64>>,
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.toml");
    fs::write(&path, "[counts]\none = '${env:ONE}'").unwrap();
    let config = ConfigLoader::new().file(&path).env_from("APP", [("ONE", "5")]).load::<Outer>().unwrap();
    assert_eq!(config.get().counts.get().unwrap()["one"], 5);
    fs::write(&path, "[counts]\none = '5'").unwrap();
    assert!(config.reload().unwrap().is_empty());
    assert_eq!(config.get().counts.get().unwrap_err().kind(), ErrorKind::Type);
}

#[test]
fn environment_variables_find_keys_in_sections() {
    #[derive(Deserialize)]
    struct Outer {
        agent: Section<Agent>,
    }
    let config = ConfigLoader::new().env_from("APP", [("APP_AGENT_RETRIES", "7")]).load::<Outer>().unwrap();
    assert_eq!(config.get().agent.get().unwrap().retries, 7);
}

#[test]
fn a_section_that_a_reload_does_not_change_stays_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.toml");
    let write = |tools: &str, retries: u32| {
        let text = format!("name = 'x'\n[tools]\na = '{tools}'\n[agents.one]\nretries = {retries}");
        fs::write(&path, text).unwrap();
    };
    write("old", 3);
    let config = ConfigLoader::new().file(&path).load::<Settings>().unwrap();
    let before = config.get().keep();
    assert_eq!(before.agents.get().unwrap()["one"].retries, 3);
    assert_eq!(before.tools.get().unwrap()["a"], "old");

    write("new, and longer", 3);
    config.reload().unwrap();
    assert!(config.get().agents.is_made());
    assert!(std::ptr::eq(before.agents.get().unwrap(), config.get().agents.get().unwrap()));
    assert!(!config.get().tools.is_made());
    assert_eq!(config.get().tools.get().unwrap()["a"], "new, and longer");
    assert_eq!(before.tools.get().unwrap()["a"], "old");

    // The same length, so that nothing but the content tells.
    write("new, and longer", 4);
    config.reload().unwrap();
    assert!(!config.get().agents.is_made());
    assert_eq!(config.get().agents.get().unwrap()["one"].retries, 4);
    assert!(config.get().tools.is_made());
}

thread_local! {
    static AGAIN: RefCell<Option<Config<Live>>> = const { RefCell::new(None) };
}

#[derive(Deserialize)]
struct Live {
    part: Section<Reloads>,
}

#[derive(Debug, PartialEq)]
struct Reloads(u32);

impl<'de> Deserialize<'de> for Reloads {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let again = AGAIN.take().map_or(Ok(Vec::new()), |config| config.reload());
        again.map_err(serde::de::Error::custom)?;
        u32::deserialize(deserializer).map(Reloads)
    }
}

#[test]
fn what_makes_a_section_may_reload() {
    let config = ConfigLoader::new().text("a.toml", Format::Toml, "part = 1").load::<Live>().unwrap();
    let before = config.get().keep();
    AGAIN.set(Some(config.clone()));
    assert_eq!(before.part.get().unwrap(), &Reloads(1));
    assert!(AGAIN.take().is_none() && !config.get().part.is_made());
}

#[test]
fn a_section_read_from_elsewhere_is_read_at_once() {
    let settings: Settings =
        serde_json::from_value(json!({"name": "x", "agents": {"one": {"retries": 1}}})).unwrap();
    assert!(settings.agents.is_made());
    assert_eq!(settings.agents.get().unwrap()["one"], Agent { retries: 1 });
    assert!(serde_json::from_value::<Settings>(json!({"name": "x", "agents": 1})).is_err());
}

#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Auth {
    Basic { password: Secret<String> },
}

#[test]
fn what_a_section_showed_to_be_secret_stays_so_over_reloads_that_change_it() {
    #[derive(Deserialize)]
    struct Parts {
        auth: Section<Auth>,
    }

    let text = |secret: &str| format!("{{\"auth\": {{\"kind\": \"basic\", \"password\": \"{secret}\"}}}}");
    let source = FakeSource::new("a.json", Format::Json, text("CANARY"));
    let config = ConfigLoader::new().fake(&source).load::<Parts>().unwrap();
    config.get().auth.get().unwrap();
    // The second finds a section that nobody read.
    for secret in ["CANARY 2", "CANARY 3"] {
        source.set(text(secret));
        let changes = config.reload().unwrap();
        let now = config.get();
        assert!(!now.auth.is_made());
        let explained = now.explain("auth.password").unwrap();
        let shown = format!("{changes:?} {:?} {explained}", now.tree());
        assert!(!shown.contains("CANARY") && shown.contains("******"), "{shown}");
    }
    let now = config.get();
    let Auth::Basic { password } = now.auth.get().unwrap();
    assert_eq!(password.expose(), "CANARY 3");
}

#[test]
fn what_was_told_before_a_section_showed_a_secret_does_not_show_it() {
    #[derive(Deserialize)]
    struct Parts {
        auth: Section<Auth>,
        other: Section<u32>,
    }

    // Of a tagged enum nobody knows where its secrets are before it is read.
    let text =
        "{\"auth\": {\"kind\": \"basic\", \"password\": \"CANARY\"}, \"other\": \"x\", \"strange\": 1}";
    let schema = json!({"properties": {"auth": {"properties": {
        "password": {"pattern": "^a", "format": "ipv4", "enum": ["CANARIES"], "maxLength": 3},
    }}}});
    let rules = ["pattern", "format", "enum", "maxLength"];
    let validator = ConfigValidator::builder().schema(schema).formats();
    let validator = rules.into_iter().fold(validator, |all, rule| all.severity(rule, Severity::Warning));
    let config = ConfigLoader::new()
        .text("a.json", Format::Json, text)
        .validator(validator.build().unwrap())
        .load::<Parts>()
        .unwrap();
    let now = config.get();
    let wrong = now.other.get().unwrap_err();
    let all = || {
        let told = now.warnings();
        let tree = now.tree().warnings();
        let texts = [told.render(Color::Never), told.to_string(), format!("{told:?}"), tree.to_string()];
        (texts.concat(), tree.render(Color::Never), wrong.render(Color::Never))
    };
    assert_eq!(now.warnings().findings().len(), 5);
    assert!(all().0.contains("CANAR") && all().1.contains("CANAR") && all().2.contains("CANAR"));
    let Auth::Basic { password } = now.auth.get().unwrap();
    assert_eq!(password.expose(), "CANARY");
    let (told, tree, wrong) = all();
    for text in [&told, &tree, &wrong] {
        assert!(!text.contains("CANARY") && text.contains("******"), "{text}");
    }
    assert!(told.contains("auth.password: the value does not match the pattern ^a"), "{told}");
}
