//! A broken file: everything that is wrong at once, with its lines; then what can be mended, mended in place.
//!
//! `cargo run --release -p swarm-examples --example 12_config_validation`
//!
//! A JSON Schema checks the shape, a rule of our own what a schema cannot say, and a rule that comes with the crate
//! that names lead somewhere. `autofix` keeps comments and order, and only makes edits that are safe.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use serde_json::json;
use swarm_config::{Color, ConfigValidator, Finding, Format, Limits, References, Rule, Severity, Tree};

struct PoolFits;

impl Rule for PoolFits {
    fn name(&self) -> &str {
        "pool-fits"
    }

    fn check(&self, config: &Tree) -> Vec<Finding> {
        let at = |path| config.get(path).and_then(|value| value.as_u64());
        match (at("db.pool_size"), at("db.max_connections")) {
            (Some(pool), Some(most)) if pool > most => vec![
                Finding::new(
                    Severity::Error,
                    "db.pool_size",
                    format!("{pool} is more than db.max_connections"),
                )
                .suggest(format!("at most {most}")),
            ],
            _ => vec![],
        }
    }
}

// typos:off
const BROKEN: &str = r#"# The service.
log_level = "warning"
lisetn = "8080"       # behind the proxy

[db]                  # one for all
pool_size = 50
max_connections = 20

[agents.reader]
enabled = true

[jobs.nightly]
agent = "raeder"
"#;
// typos:on

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let validator = ConfigValidator::builder()
        .schema(json!({
            "properties": {
                "log_level": { "enum": ["INFO", "WARNING"] },
                "listen": { "type": "integer" },
                "db": { "type": "object" },
                "agents": { "type": "object" },
                "jobs": { "type": "object" },
            },
            "additionalProperties": false,
        }))
        .rule(PoolFits)
        .rule(References::new("jobs.*.agent", "agents")?)
        .build()?;

    let tree = Tree::parse("service.toml", Format::Toml, BROKEN, &Limits::default())?;
    let report = validator.validate(&tree)?;
    println!("{}", report.render(Color::Auto));
    assert_eq!(report.findings().len(), 4);

    let fixed = validator.autofix("service.toml", Format::Toml, BROKEN)?;
    println!("mended:\n{}", fixed.diff());
    assert_eq!(fixed.fixes().len(), 3);
    assert!(fixed.text().contains("listen = 8080       # behind the proxy"));
    println!("left:\n{}", fixed.report());
    assert_eq!(fixed.report().findings().len(), 2);
    Ok(())
}
