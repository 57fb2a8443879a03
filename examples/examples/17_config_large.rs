//! A large configuration: 1,000 agents of which this process runs one, reloaded while it runs.
//!
//! `cargo run --release -p swarm-examples --example 17_config_large`
//!
//! A field of the type `Section` becomes what it is when it is first read, and what was made of it stays over reloads that
//! leave it as it is. Each section is a file of its own here, so that a reload also parses only the file that changed.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::time::Instant;

use serde::Deserialize;
use swarm_config::{ConfigLoader, Section};
use swarm_examples::Scratch;

#[derive(Deserialize)]
struct Eager {
    agents: BTreeMap<String, Agent>,
    tools: BTreeMap<String, Tool>,
}

#[derive(Deserialize)]
struct Lazy {
    agents: Section<BTreeMap<String, Agent>>,
    tools: Section<BTreeMap<String, Tool>>,
}

#[derive(Deserialize)]
struct Agent {
    role: String,
    retries: u32,
}

#[derive(Deserialize)]
struct Tool {
    command: String,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Scratch::new("config-large")?;
    let (agents, tools) = (folder.join("agents.toml"), folder.join("tools.toml"));
    let write_agents = |retries: u32| {
        let mut text = String::new();
        for at in 0..1000 {
            let _ = writeln!(text, "[agents.a{at}]\nrole = 'role-{}'\nretries = {retries}", at % 8);
        }
        fs::write(&agents, text)
    };
    let mut text = String::new();
    for at in 0..1000 {
        let _ = writeln!(text, "[tools.t{at}]\ncommand = '/usr/bin/tool-{at}'");
    }
    fs::write(&tools, text)?;
    write_agents(3)?;
    let loader = ConfigLoader::new().file(&agents).file(&tools);

    let start = Instant::now();
    let eager = loader.load::<Eager>()?;
    println!("all of it made:        {:>6.2?}", start.elapsed());
    assert_eq!((eager.get().agents.len(), eager.get().tools.len()), (1000, 1000));

    // The files are parsed already, and have not changed.
    let start = Instant::now();
    let config = loader.load::<Lazy>()?;
    println!("nothing parsed again:  {:>6.2?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(config.get().tools.get()?["t7"].command, "/usr/bin/tool-7");
    println!("one section made:      {:>6.2?}", start.elapsed());
    assert!(!config.get().agents.is_made());
    assert_eq!(config.get().agents.get()?["a9"].retries, 3);

    write_agents(5)?;
    let start = Instant::now();
    let changes = config.reload()?;
    println!("reloaded, {} changes: {:>6.2?}", changes.len(), start.elapsed());
    assert_eq!(changes.len(), 1000);
    let settings = config.get();
    assert!(settings.tools.is_made(), "what did not change stays made");
    assert!(!settings.agents.is_made());
    let agent = &settings.agents.get()?["a9"];
    assert_eq!((agent.role.as_str(), agent.retries), ("role-1", 5));
    Ok(())
}
