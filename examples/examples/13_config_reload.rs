//! A running service whose configuration changes under it: good edits are taken in whole, a bad one is told and left.
//!
//! `cargo run --release -p swarm-examples --example 13_config_reload`
//!
//! Two workers read the configuration all the time and never see half of an edit. The stream says what changed.
#![allow(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use serde::Deserialize;
use swarm_config::{Config, ConfigEvent, ConfigLoader};
use swarm_examples::Scratch;

#[derive(Deserialize)]
struct Settings {
    low: u32,
    high: u32,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = Scratch::new("config-reload")?;
    let path = folder.join("service.toml");
    // Finished files are renamed into place, as editors and deployment tools do.
    let write = |text: &str| {
        let draft = path.with_extension("draft");
        fs::write(&draft, text).and_then(|()| fs::rename(&draft, &path))
    };
    write("low = 1\nhigh = 2\n")?;
    let config: Config<Settings> = ConfigLoader::new().file(&path).load()?;
    let mut events = config.watch()?;
    let done = AtomicBool::new(false);

    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let mut settings = config.handle();
                while !done.load(Ordering::Relaxed) {
                    let now = settings.get();
                    assert_eq!(now.high, now.low * 2);
                    std::thread::yield_now();
                }
            });
        }
        let watched = futures::executor::block_on(async {
            write("low = 10\nhigh = 20\n")?;
            let Some(ConfigEvent::Changed { changes, .. }) = events.next().await else {
                return Err("no change".into());
            };
            changes.iter().for_each(|change| println!("{change}"));
            assert_eq!(config.get().low, 10);

            write("low = 100\nhigh = ")?;
            let Some(ConfigEvent::Rejected { error, .. }) = events.next().await else {
                return Err("not refused".into());
            };
            println!("{error}");
            assert_eq!(config.get().low, 10);

            write("low = 100\nhigh = 200\n")?;
            let Some(ConfigEvent::Changed { .. }) = events.next().await else {
                return Err("no change".into());
            };
            assert_eq!(config.get().high, 200);
            Ok::<(), Box<dyn std::error::Error>>(())
        });
        done.store(true, Ordering::Relaxed);
        watched
    })
}
