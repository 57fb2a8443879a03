//! A Rust type is the schema: keys, kinds, defaults and bounds are written once, and checked before anything is made.
//!
//! `cargo run --release -p swarm-examples --example 15_config_from_type`
//!
//! `schemars` derives a JSON Schema from the struct. The validator made of it names every mistake of a file at once, with
//! its line, where serde alone would stop at the first. The same schema, printed, gives editors completion.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use schemars::JsonSchema;
use serde::Deserialize;
use swarm_config::{Color, ConfigLoader, ConfigValidator, ErrorKind, Format};

/// What the service reads.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Settings {
    /// Where it listens.
    #[schemars(range(min = 1024))]
    port: u16,
    #[serde(default = "workers")]
    workers: u32,
    log: Log,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Log {
    level: Level,
}

#[derive(Debug, Deserialize, JsonSchema, PartialEq)]
#[serde(rename_all = "lowercase")]
enum Level {
    Info,
    Debug,
}

fn workers() -> u32 {
    4
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let validator = ConfigValidator::for_type::<Settings>()?;
    let load = |text: &str| {
        ConfigLoader::new()
            .text("app.toml", Format::Toml, text)
            .validator(validator.clone())
            .load::<Settings>()
    };

    let broken = "port = 80\nworker = 8\n\n[log]\nlevel = 'verbose'\n";
    let Err(error) = load(broken) else { return Err("a broken file was loaded".into()) };
    println!("{}", error.render(Color::Auto));
    assert_eq!(error.kind(), ErrorKind::Invalid);
    let report = error.report().ok_or("a report")?;
    assert_eq!(report.findings().len(), 3);

    let config = load("port = 8080\n\n[log]\nlevel = 'debug'\n")?;
    let settings = config.get();
    println!("{settings:?}", settings = *settings);
    assert_eq!((settings.port, settings.workers), (8080, 4));
    assert_eq!(settings.log.level, Level::Debug);
    // The default came from the type, through its schema.
    println!("{}", config.explain("workers")?);
    Ok(())
}
