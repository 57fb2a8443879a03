//! Secrets in a file that is encrypted with SOPS: made, loaded, explained, edited, and given to another key.
//!
//! `cargo run --release -p swarm-examples --example 14_config_secrets`
//!
//! The file is one that the program `sops` reads and writes too, with the keys of `age-keygen`. The service reads it
//! beside its other layers; what was encrypted is shown nowhere.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::fs;

use serde::Deserialize;
use swarm_config::{AgeKeys, ConfigLoader, ErrorKind, Format, Secret, SopsFile, SopsOptions};
use swarm_examples::Scratch;

#[derive(Debug, Deserialize)]
struct Settings {
    db: Db,
}

#[derive(Debug, Deserialize)]
struct Db {
    url: Secret<String>,
    pool_size: u32,
}

const SECRETS: &str = "# asked for by the database team
db:
    password: hunter2 # of the user `app`
    host_unencrypted: db.example
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Scratch::new("config-secrets")?;
    let keys = AgeKeys::generate(); // or AgeKeys::from_env(), which finds those of `sops`
    let file =
        SopsFile::encrypt("secrets.yaml", Format::Yaml, SECRETS, &SopsOptions::new(keys.recipients()))?;
    let path = folder.join("secrets.yaml");
    fs::write(&path, file.text())?;
    println!("{}", file.text().lines().take(4).collect::<Vec<_>>().join("\n"));
    assert!(!file.text().contains("hunter2") && file.text().contains("host_unencrypted: db.example"));

    let base = "[db]\nurl = 'postgres://app:${db.password}@${db.host_unencrypted}'\npool_size = 5\n";
    let loader = || ConfigLoader::new().text("base.toml", Format::Toml, base).file(&path);
    let config = loader().age_keys(keys.clone()).load::<Settings>()?;
    assert_eq!(config.get().db.url.expose(), "postgres://app:hunter2@db.example");
    println!("{:?}\n{}", *config.get(), config.explain("db.password")?);
    assert_eq!(config.get().db.pool_size, 5);
    assert!(!format!("{:?} {:?}", *config.get(), config.explain_all()).contains("hunter2"));

    // An edit leaves the other values and the comments as they are; a reload takes it in.
    let edited = SopsFile::open(&path)?.edit(&keys, |text| text.replace("hunter2", "correct horse"))?;
    fs::write(&path, edited.text())?;
    for change in config.reload()? {
        println!("{change}");
    }
    assert!(config.get().db.url.expose().contains("correct horse"));

    // Someone who changes the file without the key is found out, and the last good configuration stays.
    fs::write(&path, edited.text().replace("db.example", "evil.example"))?;
    let refused = config.reload().map(drop).err().ok_or("an altered file was loaded")?;
    println!("{refused}");
    assert_eq!(refused.kind(), ErrorKind::Secret);
    assert!(config.get().db.url.expose().ends_with("@db.example"));

    // A new key, and the old one opens nothing any more.
    let successor = AgeKeys::generate();
    fs::write(&path, edited.rotate(&keys, successor.recipients())?.text())?;
    assert!(loader().age_keys(keys).load::<Settings>().is_err());
    let config = loader().age_keys(successor.clone()).load::<Settings>()?;
    assert!(config.get().db.url.expose().contains("correct horse"));
    assert!(
        SopsFile::open(&path)?.decrypt(&successor)?.expose().starts_with("# asked for by the database team")
    );
    Ok(())
}
