use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use futures::FutureExt;
use serde_json::{Value, json};
use swarm_plugin::{CallOptions, ErrorKind, EventKind, Manifest, PluginError, PluginManager, Stage};

use crate::tool::{Seen, Tool, next, plain, requiring, told};

async fn version(plugins: &PluginManager) -> Value {
    plugins.call("tool", Value::Null).await.unwrap()["version"].clone()
}

fn cleaned(seen: &Seen) -> usize {
    seen.cleaned.load(SeqCst)
}

#[tokio::test]
async fn calls_under_way_end_on_the_old_version_and_new_ones_go_to_the_new() {
    let plugins = PluginManager::new();
    let (open, gate) = tokio::sync::oneshot::channel::<()>();
    let gate = gate.shared();
    let manifest = swarm_plugin::Manifest::builder("tool", "1.0.0").build().unwrap();
    let old = swarm_plugin::FnPlugin::new(manifest, move |_: Value, _| {
        let gate = gate.clone();
        async move {
            let _ = gate.await;
            Ok("1.0.0")
        }
    });
    plugins.register(old).await.unwrap();
    let mut events = plugins.events();
    let mut slow = Box::pin(plugins.call("tool", Value::Null));
    assert!(slow.as_mut().now_or_never().is_none());

    plugins.reload("tool", plain("tool", "2.0.0")).await.unwrap();
    assert_eq!(plugins.call("tool", Value::Null).await.unwrap(), "2.0.0");
    assert_eq!(
        told(&mut events).await,
        ["2.0.0 Loaded", "2.0.0 Checked", "2.0.0 Activated", "1.0.0 Retired"],
        "the old version is not cleaned up before its call ended"
    );
    open.send(()).unwrap();
    assert_eq!(slow.await.unwrap(), "1.0.0");
    assert_eq!(next(&mut events, "1.0.0").await, EventKind::Drained { cut_off: false });
    assert_eq!(next(&mut events, "1.0.0").await, EventKind::CleanedUp { failure: None });
    assert_eq!(plugins.get("tool").unwrap().stats().calls, 2, "counters go on over a reload");
}

#[tokio::test]
async fn state_is_handed_over_and_calls_wait_meanwhile() {
    let plugins = PluginManager::new();
    let old = Tool::new("tool", "1.0.0");
    let (gate, seen) = (old.gate.clone(), old.seen.clone());
    plugins.register(old).await.unwrap();
    assert_eq!(plugins.call("tool", Value::Null).await.unwrap()["count"], 1);
    let mut events = plugins.events();

    let mut slow = Box::pin(plugins.call("tool", json!({"wait": true})));
    assert!(slow.as_mut().now_or_never().is_none());
    let reload = tokio::spawn({
        let plugins = plugins.clone();
        async move { plugins.reload("tool", Tool::new("tool", "2.0.0")).await }
    });
    assert_eq!(next(&mut events, "1.0.0").await, EventKind::Held);
    let mut waiting = Box::pin(plugins.call("tool", Value::Null));
    assert!(waiting.as_mut().now_or_never().is_none(), "a new call waits for the state");

    gate.add_permits(1);
    assert_eq!(slow.await.unwrap(), json!({"version": "1.0.0", "count": 2}));
    assert_eq!(waiting.await.unwrap(), json!({"version": "2.0.0", "count": 3}));
    reload.await.unwrap().unwrap();
    assert_eq!(next(&mut events, "2.0.0").await, EventKind::StateTaken { late_calls: 0 });
    plugins.shutdown().await;
    assert_eq!(cleaned(&seen), 1);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_waits_for_the_state_keeps_to_its_deadline_or_else_to_that_of_the_plugin() {
    const SECOND: Duration = Duration::from_secs(1);
    let tool = |version| Tool::of(Manifest::builder("tool", version).timeout(SECOND));
    let plugins = PluginManager::new();
    plugins.register(tool("1.0.0")).await.unwrap();
    let mut events = plugins.events();
    let longer = CallOptions::new().timeout(SECOND * 20);
    let mut slow = Box::pin(plugins.call_with("tool", json!({"wait": true}), longer));
    assert!(slow.as_mut().now_or_never().is_none());
    let reload = tokio::spawn({
        let (plugins, fresh) = (plugins.clone(), tool("2.0.0"));
        async move { plugins.reload("tool", fresh).await }
    });
    assert_eq!(next(&mut events, "1.0.0").await, EventKind::Held);
    for (options, timeout) in [
        (CallOptions::new(), SECOND),
        (CallOptions::new().timeout(SECOND / 2), SECOND / 2),
        (CallOptions::new().timeout(SECOND * 5), SECOND * 5),
    ] {
        let begun = tokio::time::Instant::now();
        let error = plugins.call_with("tool", Value::Null, options).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!((timeout..timeout + SECOND / 4).contains(&begun.elapsed()), "{timeout:?}");
    }
    drop(slow);
    reload.await.unwrap().unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_version_that_is_no_good_leaves_the_old_one_and_its_state() {
    for (fault, stage) in [
        ("check", Stage::Check),
        ("panic check", Stage::Check),
        ("hang check", Stage::Check),
        ("import", Stage::ImportState),
        ("panic import", Stage::ImportState),
        ("hang import", Stage::ImportState),
    ] {
        let plugins = PluginManager::new();
        let old = Tool::new("tool", "1.0.0");
        let seen = old.seen.clone();
        plugins.register(old).await.unwrap();
        version(&plugins).await;
        let mut events = plugins.events();
        let bad = Tool::new("tool", "2.0.0").failing(fault);
        let bad_seen = bad.seen.clone();
        let error = plugins.reload("tool", bad).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Refused, "{fault}");
        loop {
            if let EventKind::Refused { stage: seen, reason } = next(&mut events, "2.0.0").await {
                assert_eq!(seen, stage, "{fault}");
                assert!(error.to_string().contains(&reason), "{error}: {reason}");
                break;
            }
        }
        assert_eq!(plugins.call("tool", Value::Null).await.unwrap(), json!({"version": "1.0.0", "count": 2}));
        assert_eq!((cleaned(&bad_seen), cleaned(&seen)), (1, 0), "{fault}");
        plugins.reload("tool", Tool::new("tool", "2.0.1")).await.unwrap();
        assert_eq!(plugins.call("tool", Value::Null).await.unwrap(), json!({"version": "2.0.1", "count": 3}));
        plugins.shutdown().await;
        assert_eq!((cleaned(&bad_seen), cleaned(&seen)), (1, 1), "{fault}");
    }
}

#[tokio::test]
async fn a_version_that_does_not_export_its_state_stays() {
    let plugins = PluginManager::new();
    plugins.register(Tool::new("tool", "1.0.0").failing("export")).await.unwrap();
    let error = plugins.reload("tool", Tool::new("tool", "2.0.0")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(version(&plugins).await, "1.0.0");
}

#[tokio::test]
async fn a_version_that_knows_nothing_of_state_does_not_lose_it() {
    let plugins = PluginManager::new();
    plugins.register(Tool::new("tool", "1.0.0")).await.unwrap();
    let error = plugins.reload("tool", plain("tool", "2.0.0")).await.unwrap_err();
    assert!(error.to_string().contains("does not implement import_state"), "{error}");
    assert_eq!(version(&plugins).await, "1.0.0");
}

#[tokio::test]
async fn what_cannot_be_made_or_does_not_fit_is_refused() {
    let plugins = PluginManager::new();
    plugins.register(Tool::new("tool", "1.0.0")).await.unwrap();
    let make = || async { Err::<Tool, _>(PluginError::new("the file is torn")) };
    let error = plugins.reload_with("tool", make).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused);
    assert_eq!(error.to_string(), "plugin tool: the file is torn");
    let make = || async { panic!("no file") };
    assert_eq!(plugins.reload_with::<Tool, _, _>("tool", make).await.unwrap_err().kind(), ErrorKind::Refused);

    let other = Tool::new("other", "1.0.0");
    let seen = other.seen.clone();
    assert_eq!(plugins.reload("tool", other).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert_eq!(cleaned(&seen), 1);
    let needy = requiring("tool", "2.0.0", &[("absent", "*")]);
    let error = plugins.reload("tool", needy).await.unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("absent")), (ErrorKind::Refused, true));
    plugins.register(Tool::new("tool", "0.5.0")).await.unwrap();
    let taken = plugins.reload("tool", Tool::new("tool", "0.5.0")).await.unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::AlreadyExists);
    assert_eq!(
        plugins.reload("nobody", plain("nobody", "1.0.0")).await.unwrap_err().kind(),
        ErrorKind::NotFound
    );
    assert_eq!(version(&plugins).await, "1.0.0");
}

#[tokio::test(start_paused = true)]
async fn calls_that_do_not_end_are_cut_off_when_the_time_to_drain_is_over() {
    let plugins = PluginManager::builder().drain_timeout(Duration::from_secs(3)).start().await.unwrap();
    let old = Tool::new("tool", "1.0.0");
    let seen = old.seen.clone();
    plugins.register(old).await.unwrap();
    let mut events = plugins.events();
    let slow = tokio::spawn({
        let plugins = plugins.clone();
        async move { plugins.call("tool", json!({"wait": true})).await }
    });
    while seen.executed.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    plugins.reload("tool", Tool::new("tool", "2.0.0")).await.unwrap();
    assert_eq!(next(&mut events, "2.0.0").await, EventKind::Loaded);
    let error = slow.await.unwrap().unwrap_err();
    assert!(error.kind() == ErrorKind::CutOff && error.is_retryable(), "{error}");
    assert_eq!(plugins.get("tool").unwrap().stats().cancelled, 1);
    assert_eq!(next(&mut events, "2.0.0").await, EventKind::Checked);
    assert_eq!(next(&mut events, "2.0.0").await, EventKind::StateTaken { late_calls: 1 });
    assert_eq!(next(&mut events, "1.0.0").await, EventKind::Retired);
    assert_eq!(next(&mut events, "1.0.0").await, EventKind::Drained { cut_off: true });
    assert_eq!(next(&mut events, "1.0.0").await, EventKind::CleanedUp { failure: None });
    assert_eq!(version(&plugins).await, "2.0.0");
}

#[tokio::test(start_paused = true)]
async fn a_cleanup_that_fails_panics_or_hangs_is_told_and_left() {
    for (fault, says) in [
        ("cleanup", "no cleanup today"),
        ("panic cleanup", "panicked: no cleanup today"),
        ("hang cleanup", "took longer than 5s"),
    ] {
        let plugins = PluginManager::new();
        let tool = Tool::new("tool", "1.0.0").failing(fault);
        let seen = tool.seen.clone();
        plugins.register(tool).await.unwrap();
        let mut events = plugins.events();
        plugins.remove("tool").await.unwrap();
        assert_eq!(next(&mut events, "1.0.0").await, EventKind::Retired);
        assert_eq!(next(&mut events, "1.0.0").await, EventKind::Drained { cut_off: false });
        assert_eq!(next(&mut events, "1.0.0").await, EventKind::CleanedUp { failure: Some(says.into()) });
        assert_eq!(cleaned(&seen), 1);
    }
}

#[tokio::test]
async fn a_rollback_makes_the_version_before_anew_with_the_state_of_now() {
    let plugins = PluginManager::new();
    let nothing = plugins.rollback("tool").await.unwrap_err();
    assert_eq!(nothing.kind(), ErrorKind::NotFound);
    plugins.register_with(|| async { Ok(Tool::new("tool", "1.0.0")) }).await.unwrap();
    assert_eq!(plugins.rollback("tool").await.unwrap_err().kind(), ErrorKind::InvalidState);
    version(&plugins).await;
    plugins.reload_with("tool", || async { Ok(Tool::new("tool", "2.0.0")) }).await.unwrap();
    assert_eq!(plugins.call("tool", Value::Null).await.unwrap(), json!({"version": "2.0.0", "count": 2}));
    plugins.rollback("tool").await.unwrap();
    assert_eq!(plugins.call("tool", Value::Null).await.unwrap(), json!({"version": "1.0.0", "count": 3}));
    assert_eq!(plugins.rollback("tool").await.unwrap_err().kind(), ErrorKind::InvalidState);

    // What was registered as a value cannot be made again.
    plugins.reload("tool", Tool::new("tool", "3.0.0")).await.unwrap();
    plugins.reload("tool", Tool::new("tool", "4.0.0")).await.unwrap();
    assert_eq!(plugins.rollback("tool").await.unwrap_err().kind(), ErrorKind::InvalidState);
    assert_eq!(version(&plugins).await, "4.0.0");
}

#[tokio::test]
async fn a_reload_goes_on_when_nobody_waits_for_it() {
    let plugins = PluginManager::new();
    plugins.register(Tool::new("tool", "1.0.0")).await.unwrap();
    let mut events = plugins.events();
    assert!(plugins.reload("tool", Tool::new("tool", "2.0.0")).now_or_never().is_none());
    while next(&mut events, "1.0.0").await != (EventKind::CleanedUp { failure: None }) {}
    assert_eq!(version(&plugins).await, "2.0.0");
}

#[tokio::test]
async fn a_plugin_that_is_removed_while_it_is_reloaded_stays_removed() {
    let plugins = PluginManager::new();
    let old = Tool::new("tool", "1.0.0");
    let (gate, seen) = (old.gate.clone(), old.seen.clone());
    plugins.register(old).await.unwrap();
    let mut events = plugins.events();
    let mut slow = Box::pin(plugins.call("tool", json!({"wait": true})));
    assert!(slow.as_mut().now_or_never().is_none());
    let fresh = Tool::new("tool", "2.0.0");
    let fresh_seen: Arc<Seen> = fresh.seen.clone();
    let reload = tokio::spawn({
        let plugins = plugins.clone();
        async move { plugins.reload("tool", fresh).await }
    });
    assert_eq!(next(&mut events, "1.0.0").await, EventKind::Held);
    let (removed, _) = tokio::join!(plugins.remove("tool"), async {
        assert_eq!(next(&mut events, "1.0.0").await, EventKind::Retired);
        gate.add_permits(1);
        slow.await
    });
    removed.unwrap();
    assert!(reload.await.unwrap().is_err());
    assert_eq!(plugins.list().len(), 0);
    plugins.shutdown().await;
    assert_eq!((cleaned(&seen), cleaned(&fresh_seen)), (1, 1));
}
