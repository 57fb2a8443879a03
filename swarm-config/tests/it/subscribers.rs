//! In which order those who watch hear of changes.

use std::sync::{Arc, Mutex};

use futures::{FutureExt as _, StreamExt as _};
use serde_json::Value;
use swarm_config::testing::{FakeSource, ManualWatch};
use swarm_config::{Config, ConfigEvent, ConfigLoader, Format};

fn open(source: &FakeSource) -> Config<Value> {
    ConfigLoader::new().fake(source).load().unwrap()
}

fn text(value: usize) -> String {
    format!("value = {value}")
}

/// What an event says in short.
fn told(event: &ConfigEvent) -> String {
    match event {
        ConfigEvent::Changed { changes, .. } => changes[0].to_string(),
        ConfigEvent::Missed { events, .. } => format!("{events} missed"),
        other => format!("{other:?}"),
    }
}

#[test]
fn changes_are_told_in_the_order_of_their_reloads() {
    let source = FakeSource::new("a.toml", Format::Toml, text(1));
    let config = open(&source);
    let mut watch = ManualWatch::new(&config);
    let heard = Arc::new(Mutex::new(Vec::new()));
    // The first to hear of a change makes another thread reload, and waits for that.
    let (again, change) = (config.clone(), source.clone());
    config
        .on_change(move |event| {
            if told(event) == "value: 1 -> 2" {
                change.set(text(3));
                let again = again.clone();
                let changes = std::thread::spawn(move || again.reload().unwrap()).join().unwrap();
                assert_eq!(changes[0].to_string(), "value: 2 -> 3");
            }
        })
        .unwrap();
    let list = heard.clone();
    config.on_change(move |event| list.lock().unwrap().push(told(event))).unwrap();
    source.set(text(2));
    config.reload().unwrap();
    let expected = ["value: 1 -> 2", "value: 2 -> 3"];
    assert_eq!(*heard.lock().unwrap(), expected);
    let streamed = std::iter::from_fn(|| watch.changes().next().now_or_never().flatten());
    assert_eq!(streamed.map(|event| told(&event)).collect::<Vec<_>>(), expected);
}

#[test]
fn a_callback_that_is_slow_is_told_what_it_missed() {
    let source = FakeSource::new("a.toml", Format::Toml, text(0));
    let config = open(&source);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (again, list) = (config.clone(), heard.clone());
    let change = source.clone();
    config
        .on_change(move |event| {
            list.lock().unwrap().push(told(event));
            if told(event) == "value: 0 -> 1" {
                for value in 2..72 {
                    change.set(text(value));
                    again.reload().unwrap();
                }
            }
        })
        .unwrap();
    source.set(text(1));
    config.reload().unwrap();
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), 1 + 1 + 64);
    assert_eq!(heard[..3], ["value: 0 -> 1", "6 missed", "value: 7 -> 8"]);
    assert_eq!(heard[65], "value: 70 -> 71");
}
