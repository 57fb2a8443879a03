//! Libraries that are not what they should be, and that do what they should not.

use std::fs;

use futures::{FutureExt, Stream, StreamExt};
use serde_json::json;
use swarm_plugin::{CallOptions, CancellationToken, ErrorKind, Event, EventKind};

use super::{builder, built, host, install, loader, none_lost};

/// Why a file was refused, by the events that were told already.
pub(super) fn refused(events: &mut (impl Stream<Item = Event> + Unpin), name: &str) -> String {
    let mut said = String::new();
    while let Some(Some(event)) = events.next().now_or_never() {
        if let EventKind::Refused { reason, .. } = event.kind {
            said += &format!("{}: {reason}\n", event.name);
        }
    }
    assert!(said.contains(name), "{name}: {said}");
    said
}

#[tokio::test]
async fn what_is_no_plugin_is_not_loaded_and_the_version_before_serves_on() {
    let Some(unruly) = built("unruly.c", &[]) else { return };
    let loader = loader();
    let (root, plugins) = host(&unruly, &loader).await;
    let mut events = plugins.events();
    let of = |flags: &[&str]| built("unruly.c", flags).unwrap();
    let mut noise = b"\x7fELF\x02\x01\x01\0".to_vec();
    noise.extend((0..4096_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24) as u8));
    let rows = [
        // Not loaded at all.
        ("a script", b"#!/bin/sh\nexit 0\n".to_vec(), "cannot be read as a native library", 0),
        ("nothing", Vec::new(), "cannot be read as a native library", 0),
        ("noise", noise, "cannot be read as a native library", 0),
        ("another library", built("nothing.c", &[]).unwrap(), "it does not export swarm_plugin_v1", 0),
        ("no library", fs::read(std::env::current_exe().unwrap()).unwrap(), "it ", 0),
        ("what it needs is not there", of(&["-DMISSING"]), "nobody_has_this", 0),
        // Loaded, and refused for what it says.
        ("another version", of(&["-DABI=2"]), "version 2 of the native interface, and this is 1", 1),
        ("no table", of(&["-DNO_TABLE"]), "answers no table", 1),
        ("a short table", of(&["-DSIZE=24"]), "its table has 24 bytes", 1),
        ("unknown flags", of(&["-DFLAGS=6"]), "has flags 0x6", 1),
        ("no describe", of(&["-DDESCRIBE=NULL"]), "its table has no describe", 1),
        ("no execute", of(&["-DEXECUTE=NULL"]), "its table has no execute", 1),
        ("nothing made", of(&["-DCREATED=SWARM_FAILED"]), "nothing was made", 1),
        ("a panic", of(&["-DCREATED=SWARM_PANICKED"]), "panicked: nothing was made", 1),
        ("a long description", of(&["-DLONG"]), "the answer is over 1048576 bytes", 1),
        ("no JSON", of(&["-DDESCRIPTION=\"{\""]), "its answer is not JSON", 1),
        ("no UTF-8", of(&["-DDESCRIPTION=\"\\xff\""]), "its answer is not UTF-8", 1),
        ("no object", of(&["-DDESCRIPTION=\"[]\""]), "its description is not an object", 1),
        ("no name", of(&["-DDESCRIPTION=\"{}\""]), "missing field `name`", 1),
        (
            "a path for a name",
            of(&["-DDESCRIPTION=\"{\\\"name\\\": \\\"../x\\\", \\\"version\\\": \\\"1.0.0\\\"}\""]),
            "has more than letters",
            1,
        ),
        (
            "a misspelling",
            of(&[
                "-DDESCRIPTION=\"{\\\"name\\\": \\\"x\\\", \\\"version\\\": \\\"1.0.0\\\", \\\"limit\\\": 1}\"",
            ]),
            "unknown field",
            1,
        ),
    ];
    for (what, bytes, reason, loads) in rows {
        let before = loader.loaded();
        install(root.path(), "unruly.so", &bytes);
        plugins.rescan().await;
        let said = refused(&mut events, "unruly.so");
        assert!(said.contains(reason), "{what}: {said}");
        assert_eq!(loader.loaded() - before, loads, "{what}");
        plugins.call("unruly", json!({})).await.unwrap();
    }
    plugins.shutdown().await;
}

#[tokio::test]
async fn a_library_that_is_cut_off_anywhere_is_not_loaded() {
    let Some(unruly) = built("unruly.c", &[]) else { return };
    let (root, loader) = (tempfile::tempdir().unwrap(), loader());
    let cuts: Vec<usize> = (0..unruly.len()).step_by(97).chain([unruly.len() - 1]).collect();
    assert!(cuts.len() > 100);
    for cut in cuts {
        install(root.path(), &format!("cut-{cut}.so"), &unruly[..cut]);
    }
    let plugins = builder(root.path(), &loader).start().await.unwrap();
    assert_eq!((plugins.list().len(), loader.loaded()), (0, 0));
    plugins.shutdown().await;
}

#[tokio::test]
async fn what_a_library_answers_is_checked() {
    for flags in [&[][..], &["-DFLAGS=SWARM_INLINE"]] {
        let Some(unruly) = built("unruly.c", flags) else { return };
        let loader = loader();
        let (_root, plugins) = host(&unruly, &loader).await;
        let mut count = 0;
        for (what, kind, said) in [
            ("fail", ErrorKind::Failed, "no luck"),
            ("temporary", ErrorKind::Failed, "not now"),
            ("panic", ErrorKind::Panicked, "panicked: oh no"),
            ("number", ErrorKind::Failed, "returned 77, which means nothing"),
            ("no state", ErrorKind::Failed, "returned 4, which means nothing"),
            ("nothing", ErrorKind::Failed, "its answer is not JSON"),
            ("garbage", ErrorKind::Failed, "its answer is not JSON"),
            ("utf8", ErrorKind::Failed, "its answer is not UTF-8"),
            ("deep", ErrorKind::Failed, "recursion limit exceeded"),
            ("flood", ErrorKind::TooLarge, "the answer is over 16777216 bytes"),
        ] {
            let error = plugins.call("unruly", json!({ "do": what })).await.unwrap_err();
            assert_eq!((error.kind(), error.is_retryable()), (kind, what == "temporary"), "{what}: {error}");
            assert!(error.to_string().contains(said), "{what}: {error}");
            count += 1;
            assert_eq!(plugins.call("unruly", json!({})).await.unwrap(), json!({ "count": count }), "{what}");
        }
        plugins.shutdown().await;
    }
}

#[tokio::test]
async fn a_failure_keeps_its_message_and_kind_where_results_are_to_be_short() {
    let description = r#"{"name": "unruly", "version": "1.0.100000", "limits": {"result_bytes": 64}}"#;
    let description = format!("-DDESCRIPTION=\"{}\"", description.replace('"', "\\\""));
    let Some(unruly) = built("unruly.c", &[&description]) else { return };
    let (_root, plugins) = host(&unruly, &loader()).await;
    let error = plugins.call("unruly", json!({"do": "wail"})).await.unwrap_err();
    assert!(error.is_retryable() && error.to_string().contains("oh oh oh"), "{error}");
    let error = plugins.call("unruly", json!({"do": "flood"})).await.unwrap_err();
    assert!(error.kind() == ErrorKind::TooLarge && !error.is_retryable(), "{error}");
    assert!(error.to_string().contains("the answer is over 64 bytes"), "{error}");
    plugins.shutdown().await;
}

#[tokio::test]
async fn a_loop_is_told_that_nobody_waits() {
    let Some(unruly) = built("unruly.c", &[]) else { return };
    let loader = loader();
    let (_root, plugins) = host(&unruly, &loader).await;
    let stop = CancellationToken::new();
    let mut call =
        Box::pin(plugins.call_with("unruly", json!({"do": "loop"}), CallOptions::new().cancel(stop.clone())));
    assert!((&mut call).now_or_never().is_none());
    stop.cancel();
    // It may notice before its caller does, and answer.
    if let Err(error) = call.await {
        assert_eq!(error.kind(), ErrorKind::Cancelled);
    }
    none_lost(&loader).await;
    // The same when the caller drops it.
    let mut call = Box::pin(plugins.call("unruly", json!({"do": "loop"})));
    assert!((&mut call).now_or_never().is_none());
    drop(call);
    none_lost(&loader).await;
    plugins.shutdown().await;
}
