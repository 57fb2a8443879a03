//! A base, an environment over it, variables and a command line over both; and why each key has its value.
//!
//! `cargo run --release -p swarm-examples --example 11_config_layers`
//!
//! `APP_DB_POOL_SIZE` finds `db.pool_size` because the type has that key. A key that is misspelt in a file, and a
//! variable that no key is known for, are told with the nearest one. References such as `${db.host}` are filled in.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use serde::Deserialize;
use swarm_config::{Config, ConfigHierarchy, ConfigLoader, MergeStrategy};
use swarm_examples::Scratch;

#[derive(Debug, Deserialize)]
struct Settings {
    db: Db,
    plugins: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Db {
    host: String,
    url: String,
    pool_size: u32,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Scratch::new("config-layers")?;
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text);
    write(
        "base.toml",
        "plugins = ['core']\n\n[db]\nhost = 'localhost'\nurl = 'postgres://${db.host}/app'\npool_size = 5\n",
    )?;
    write("production.yaml", "db:\n  host: db.example.org\n  pool_size: 20\nplugins: [metrics]\n")?;
    write("staging.json", r#"{ "db": { "pool_sise": 2 } }"#)?; // typos:ignore-line

    // Staging is production but for what it says itself.
    let config: Config<Settings> = ConfigLoader::new()
        .hierarchy(ConfigHierarchy::new(folder.path(), "staging").parent("staging", "production"))
        .env_from("APP", [("APP_DB_POOL_SIZE", "30")]) // .env("APP") takes the process's
        .set("db.host=db.staging.example.org")
        .merge_with("plugins", MergeStrategy::Append)
        .load()?;

    let settings = config.get();
    assert_eq!(settings.db.pool_size, 30);
    assert_eq!(settings.db.host, "db.staging.example.org");
    assert_eq!(settings.db.url, "postgres://db.staging.example.org/app");
    assert_eq!(settings.plugins, ["core", "metrics"]);

    println!("warnings:\n{}\n", settings.warnings());
    for explained in config.explain_all() {
        println!("{explained}");
    }
    assert_eq!(settings.warnings().findings().len(), 1);
    Ok(())
}
