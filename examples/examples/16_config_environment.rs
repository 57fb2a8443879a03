//! Environment variables alone: no file, and no guess about what an underscore stands for.
//!
//! `cargo run --release -p swarm-examples --example 16_config_environment`
//!
//! `APP_DB_POOL_SIZE` is `db.pool_size`, because the type has that key; a variable that could stand for two keys is an
//! error, and one that stands for none is told, with the name that was probably meant. The kind of each value follows from
//! the type: `8080` is a number for a port and a text for a name.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use serde::Deserialize;
use swarm_config::{ConfigLoader, ErrorKind};

#[derive(Debug, Deserialize)]
struct Settings {
    name: String,
    db: Db,
    #[serde(default)]
    hosts: Vec<String>,
    #[serde(default)]
    labels: std::collections::BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
struct Db {
    pool_size: u32,
    timeout: f64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // A service says `.env("APP")`; the list here makes the outcome the same wherever this runs.
    let load = |pool_size: &str, more: &[(&str, &str)]| {
        let given = [
            ("APP_NAME", "8080"),
            ("APP_DB_POOL_SIZE", pool_size),
            ("APP_DB_TIMEOUT", "2.5"),
            ("PATH", "/bin"),
        ];
        ConfigLoader::new().env_from("APP", given.into_iter().chain(more.iter().copied())).load::<Settings>()
    };

    let config =
        load("20", &[("APP_HOSTS", "a, b"), ("APP_LABELS__TEAM", "swarm"), ("APP_DB_POOLSIZE", "9")])?;
    let settings = config.get();
    println!("{:?}", *settings);
    assert_eq!(settings.name, "8080");
    assert_eq!((settings.db.pool_size, settings.db.timeout), (20, 2.5));
    assert_eq!(settings.hosts, ["a", "b"]);
    assert_eq!(settings.labels["team"], "swarm");
    println!("{}", config.explain("db.pool_size")?);

    // What was not understood is a warning; `deny_unknown_keys` makes it an error.
    print!("{}", config.get().warnings());
    println!();
    let warnings = config.get().warnings().to_string();
    assert!(warnings.contains("APP_DB_POOLSIZE") && warnings.contains("did you mean APP_DB_POOL_SIZE?"));

    let Err(error) = load("many", &[]) else { return Err("`many` is no number".into()) };
    println!("{error}");
    assert_eq!(error.kind(), ErrorKind::Type);
    assert_eq!(error.location().ok_or("a location")?.source(), "environment variable APP_DB_POOL_SIZE");
    Ok(())
}
