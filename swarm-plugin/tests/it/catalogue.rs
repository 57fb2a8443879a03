use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use futures::FutureExt;
use serde_json::{Value, json};
use swarm_plugin::{
    CallContext, CallOptions, ErrorKind, EventKind, FnPlugin, Manifest, Plugin, PluginError, PluginManager,
    Status, VersionReq,
};

use tokio::sync::Semaphore;

use crate::tool::{next, plain, requiring, told};

async fn answer(plugins: &PluginManager, name: &str) -> Result<Value, ErrorKind> {
    plugins.call(name, Value::Null).await.map_err(|error| error.kind())
}

fn range(text: &str) -> VersionReq {
    VersionReq::parse(text).unwrap()
}

#[tokio::test]
async fn the_highest_release_is_called_unless_one_is_pinned_or_asked_for() {
    let plugins = PluginManager::new();
    for version in ["1.2.0", "1.10.0", "0.9.0", "2.0.0-rc.1"] {
        plugins.register(plain("tool", version)).await.unwrap();
    }
    assert_eq!(answer(&plugins, "tool").await.unwrap(), "1.10.0");
    let asked = async |text| {
        let options = CallOptions::new().version(range(text));
        plugins.call_with("tool", Value::Null, options).await.map_err(|error| error.to_string())
    };
    assert_eq!(asked("<1.10").await.unwrap(), "1.2.0");
    assert_eq!(asked("=2.0.0-rc.1").await.unwrap(), "2.0.0-rc.1");
    assert!(
        asked("^3")
            .await
            .unwrap_err()
            .contains("no version fits ^3; there is 1.10.0, 1.2.0, 0.9.0, 2.0.0-rc.1")
    );

    let mut events = plugins.events();
    plugins.pin("tool", Some(range("^0.9"))).unwrap();
    assert_eq!(told(&mut events).await, ["Pinned"]);
    plugins.pin("tool", Some(range("^0.9"))).unwrap();
    assert_eq!(answer(&plugins, "tool").await.unwrap(), "0.9.0");
    assert_eq!(plugins.pin("tool", Some(range("^7"))).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(answer(&plugins, "tool").await.unwrap(), "0.9.0", "a pin that is refused changes nothing");
    assert!(told(&mut events).await.is_empty(), "nor does one that is there already");
    plugins.pin("tool", None).unwrap();
    assert_eq!(answer(&plugins, "tool").await.unwrap(), "1.10.0");
    let defaults: Vec<bool> = plugins.list().iter().map(|info| info.is_default()).collect();
    assert_eq!(defaults, [true, false, false, false]);
}

#[tokio::test]
async fn a_name_that_is_not_here_is_answered_with_the_nearest() {
    let plugins = PluginManager::new();
    plugins.register(plain("complexity_pro", "1.0.0")).await.unwrap();
    let error = plugins.call("complexity_por", Value::Null).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(error.to_string().contains("did you mean complexity_pro?"), "{error}");
    let error = plugins.call("\u{1b}[2J", Value::Null).await.unwrap_err();
    assert!(!error.to_string().contains('\u{1b}'), "{error:?}");
}

#[tokio::test]
async fn a_name_of_any_length_is_answered_at_once() {
    let plugins = PluginManager::new();
    for at in 0..100 {
        plugins.register(plain(&format!("a_plugin_with_a_name_{at}"), "1.0.0")).await.unwrap();
    }
    let begun = std::time::Instant::now();
    let error = plugins.call(&"a_plugin_with_a_name".repeat(100_000), Value::Null).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(begun.elapsed().as_secs() < 2, "{:?}", begun.elapsed());
    assert!(error.to_string().len() < 200, "{error}");
}

#[tokio::test]
async fn the_same_version_twice_and_case_twins_are_refused() {
    let plugins = PluginManager::new();
    plugins.register(plain("tool", "1.0.0")).await.unwrap();
    for (name, version) in [("tool", "1.0.0"), ("Tool", "1.0.0"), ("TOOL", "2.0.0")] {
        let error = plugins.register(plain(name, version)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists, "{name} {version}");
    }
    assert_eq!(plugins.list().len(), 1);
}

#[tokio::test]
async fn disabled_plugins_are_not_called_until_they_are_enabled() {
    let plugins = PluginManager::new();
    plugins.register(plain("tool", "1.0.0")).await.unwrap();
    let mut events = plugins.events();
    plugins.disable("tool").unwrap();
    plugins.disable("tool").unwrap();
    assert_eq!(answer(&plugins, "tool").await.unwrap_err(), ErrorKind::Disabled);
    assert_eq!(plugins.get("tool").unwrap().status(), &Status::Disabled);
    plugins.enable("tool").unwrap();
    assert_eq!(answer(&plugins, "tool").await.unwrap(), "1.0.0");
    assert_eq!(told(&mut events).await, ["Disabled", "Enabled"]);
    assert_eq!(plugins.disable("nobody").unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_plugin_waits_for_what_it_requires() {
    let plugins = PluginManager::new();
    plugins.register(requiring("a", "1.0.0", &[("b", "^1")])).await.unwrap();
    let error = plugins.call("a", Value::Null).await.unwrap_err();
    assert_eq!((error.kind(), error.is_retryable()), (ErrorKind::Waiting, true));
    assert_eq!(error.to_string(), "plugin a: requires b ^1, which is not here");
    plugins.register(plain("b", "2.0.0")).await.unwrap();
    assert_eq!(answer(&plugins, "a").await.unwrap_err(), ErrorKind::Waiting);
    plugins.register(plain("b", "1.1.0")).await.unwrap();
    assert_eq!(answer(&plugins, "a").await.unwrap(), "1.0.0");
    plugins.remove("b").await.unwrap();
    assert_eq!(answer(&plugins, "a").await.unwrap_err(), ErrorKind::Waiting);
    assert_eq!(plugins.remove("b").await.unwrap_err().kind(), ErrorKind::NotFound);

    // A lower version that has what it requires is called instead.
    plugins.register(plain("a", "0.9.0")).await.unwrap();
    assert_eq!(answer(&plugins, "a").await.unwrap(), "0.9.0");
}

#[tokio::test]
async fn cycles_are_named() {
    let plugins = PluginManager::new();
    plugins.register(requiring("a", "1.0.0", &[("b", "*")])).await.unwrap();
    plugins.register(requiring("b", "1.0.0", &[("a", "*")])).await.unwrap();
    let error = plugins.call("a", Value::Null).await.unwrap_err();
    assert_eq!(error.to_string(), "plugin a: requires itself: a -> b -> a");
}

/// Writes its name down when it is cleaned up.
struct Goes(Manifest, Arc<Mutex<Vec<String>>>);

#[async_trait]
impl Plugin for Goes {
    fn manifest(&self) -> &Manifest {
        &self.0
    }

    async fn execute(&self, _params: Value, _cx: &CallContext) -> Result<Value, PluginError> {
        Ok(json!(null))
    }

    async fn cleanup(&self) -> Result<(), PluginError> {
        tokio::task::yield_now().await;
        self.1.lock().unwrap().push(self.0.name().to_owned());
        Ok(())
    }
}

#[tokio::test]
async fn a_call_under_way_when_all_is_shut_down_may_call_what_it_requires() {
    let gate = Arc::new(Semaphore::new(0));
    let waits = gate.clone();
    let manifest = Manifest::builder("tool", "1.0.0").requires("words", "^1").build().unwrap();
    let tool = FnPlugin::new(manifest, move |_: Value, cx: CallContext| {
        let waits = waits.clone();
        async move {
            waits.acquire().await?.forget();
            Ok(cx.call("words", Value::Null).await?)
        }
    });
    let plugins = PluginManager::new();
    plugins.register(plain("words", "1.2.0")).await.unwrap();
    plugins.register(tool).await.unwrap();
    let mut events = plugins.events();
    let mut call = Box::pin(plugins.call("tool", Value::Null));
    assert!(call.as_mut().now_or_never().is_none());
    let (outcome, (), ()) = tokio::join!(call, plugins.shutdown(), async {
        assert_eq!(next(&mut events, "1.0.0").await, EventKind::Retired);
        assert_eq!(answer(&plugins, "words").await, Err(ErrorKind::Closed), "others may not");
        gate.add_permits(1);
    });
    assert_eq!(outcome.unwrap(), "1.2.0");
    assert_eq!(plugins.list().len(), 0);
}

#[tokio::test]
async fn a_shutdown_cleans_up_each_plugin_before_what_it_requires() {
    let plugins = PluginManager::new();
    let gone = Arc::new(Mutex::new(Vec::new()));
    for (name, requires) in [("c", Some("b")), ("a", None), ("d", Some("c")), ("b", Some("a"))] {
        let mut manifest = Manifest::builder(name, "1.0.0");
        if let Some(other) = requires {
            manifest = manifest.requires(other, "*");
        }
        plugins.register(Goes(manifest.build().unwrap(), gone.clone())).await.unwrap();
    }
    plugins.shutdown().await;
    assert_eq!(*gone.lock().unwrap(), ["d", "c", "b", "a"]);
    assert_eq!(answer(&plugins, "a").await.unwrap_err(), ErrorKind::Closed);
    let late = plugins.register(plain("z", "1.0.0")).await.unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
    plugins.shutdown().await;
}
