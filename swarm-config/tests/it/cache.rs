//! What is kept from one load to the next, and what is not.

use std::fs;
use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};
use swarm_config::testing::ManualWatch;
use swarm_config::{Config, ConfigLoader, ErrorKind, Format, Limits, Section, Tree};

#[test]
fn a_schema_of_the_same_length_is_another_one() {
    let folder = tempfile::tempdir().unwrap();
    let (file, schema) = (folder.path().join("app.toml"), folder.path().join("schema.json"));
    let most = |most: u32| json!({"properties": {"a": {"maximum": most}}}).to_string();
    fs::write(&file, "a = 4").unwrap();
    fs::write(&schema, most(5)).unwrap();
    let config: Config<Value> = ConfigLoader::new().file(&file).schema_file(&schema).load().unwrap();
    let mut watch = ManualWatch::new(&config);
    // Nothing but the schema changes.
    fs::write(&schema, most(3)).unwrap();
    watch.touched(&schema);
    watch.advance(Duration::from_millis(10));
    let error = config.reload().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let event = futures::FutureExt::now_or_never(futures::StreamExt::next(watch.events())).flatten();
    let Some(swarm_config::ConfigEvent::Rejected { error, .. }) = event else { panic!("{event:?}") };
    assert_eq!(error.kind(), ErrorKind::Invalid);
}

#[test]
fn other_limits_hold_for_a_file_that_was_read_before() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.toml");
    fs::write(&path, "a = 'longer than five'").unwrap();
    let loader = ConfigLoader::new().file(&path);
    loader.load_tree().unwrap();
    let mut limits = Limits::default();
    limits.string = 5;
    assert_eq!(loader.limits(limits).load_tree().unwrap_err().kind(), ErrorKind::Limit);
}

#[cfg(feature = "sops")]
#[test]
fn other_keys_do_not_open_what_was_opened_before() {
    use swarm_config::{AgeKeys, SopsFile, SopsOptions};
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.yaml");
    let keys = AgeKeys::generate();
    let options = SopsOptions::new(keys.recipients());
    let sealed = SopsFile::encrypt("app.yaml", Format::Yaml, "a: secret\n", &options).unwrap();
    fs::write(&path, sealed.text()).unwrap();
    let loader = ConfigLoader::new().file(&path).age_keys(keys);
    loader.load_tree().unwrap();
    assert_eq!(loader.age_keys(AgeKeys::generate()).load_tree().unwrap_err().kind(), ErrorKind::Secret);
}

#[test]
fn a_type_that_panics_leaves_no_configuration_for_sections_behind() {
    #[derive(Debug)]
    struct Panics;

    impl<'de> Deserialize<'de> for Panics {
        fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Panics, D::Error> {
            // Not when the type is asked what it reads, which comes before anything is loaded.
            let value = u32::deserialize(from)?;
            panic!("{value}, on purpose")
        }
    }

    #[derive(Debug, Deserialize)]
    struct Whole {
        #[serde(rename = "part")]
        _part: Panics,
    }

    #[derive(Debug, Deserialize)]
    struct Parts {
        part: Section<u32>,
    }

    let load = || ConfigLoader::new().text("a.toml", Format::Toml, "part = 1").load::<Whole>().map(drop);
    assert!(std::panic::catch_unwind(load).is_err());
    // Where nothing is loaded, a section is read at once.
    let tree = Tree::parse("a.toml", Format::Toml, "part = 1", &Limits::default()).unwrap();
    let parts: Parts = tree.extract().unwrap();
    assert!(parts.part.is_made());
}
