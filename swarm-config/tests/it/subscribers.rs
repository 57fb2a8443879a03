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
    let _first = config
        .on_change(move |event, _| {
            if told(event) == "value: 1 -> 2" {
                change.set(text(3));
                let again = again.clone();
                let changes = std::thread::spawn(move || again.reload().unwrap()).join().unwrap();
                assert_eq!(changes[0].to_string(), "value: 2 -> 3");
            }
        })
        .unwrap();
    let list = heard.clone();
    let _second = config.on_change(move |event, _| list.lock().unwrap().push(told(event))).unwrap();
    source.set(text(2));
    config.reload().unwrap();
    let expected = ["value: 1 -> 2", "value: 2 -> 3"];
    assert_eq!(*heard.lock().unwrap(), expected);
    let streamed = std::iter::from_fn(|| watch.events().next().now_or_never().flatten());
    assert_eq!(streamed.map(|event| told(&event)).collect::<Vec<_>>(), expected);
}

#[test]
fn a_callback_that_is_slow_is_told_what_it_missed() {
    let source = FakeSource::new("a.toml", Format::Toml, text(0));
    let config = open(&source);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let (again, list) = (config.clone(), heard.clone());
    let change = source.clone();
    let _first = config
        .on_change(move |event, _| {
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

#[test]
fn a_callback_is_called_for_as_long_as_its_subscription_is_kept() {
    let source = FakeSource::new("a.toml", Format::Toml, text(1));
    let config = open(&source);
    let (sender, heard) = std::sync::mpsc::channel();
    let note = move |_: &ConfigEvent, now: &swarm_config::Snapshot<Value>| {
        sender.send(now["value"].clone()).unwrap();
    };
    let subscription = config.on_change(note).unwrap();
    for value in [2, 3] {
        source.set(text(value));
        config.reload().unwrap();
        assert_eq!(heard.recv().unwrap(), value);
    }
    drop(subscription);
    source.set(text(4));
    config.reload().unwrap();
    // The callback is gone, and what it held.
    assert!(heard.recv().is_err());
}

#[test]
fn a_callback_may_add_another_which_hears_of_what_comes_after() {
    let source = FakeSource::new("a.toml", Format::Toml, text(1));
    let config = open(&source);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let added = Mutex::new(Vec::new());
    let (again, list) = (config.clone(), heard.clone());
    let _first = config
        .on_change(move |_, _| {
            let list = list.clone();
            let another = again.on_change(move |event, _| list.lock().unwrap().push(told(event)));
            added.lock().unwrap().push(another.unwrap());
        })
        .unwrap();
    for value in [2, 3] {
        source.set(text(value));
        config.reload().unwrap();
    }
    assert_eq!(*heard.lock().unwrap(), ["value: 2 -> 3"]);
}

#[test]
fn a_subscription_that_is_kept_does_not_keep_the_configuration() {
    let config = open(&FakeSource::new("a.toml", Format::Toml, text(1)));
    let changes = config.watch().unwrap();
    let value = Arc::new(());
    let held = value.clone();
    let _kept = config.on_change(move |_, _| drop(held.clone())).unwrap();
    // Waits for the thread that watches.
    drop(config);
    let told: Vec<ConfigEvent> = futures::executor::block_on(changes.collect());
    assert!(told.is_empty(), "{told:?}");
    assert_eq!(Arc::strong_count(&value), 2);
}
