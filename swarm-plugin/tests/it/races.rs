//! Verbs that come while another one is under way.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::{FutureExt, Stream, StreamExt};
use serde_json::{Value, json};
use swarm_plugin::{
    CallContext, ErrorKind, Event, EventKind, Found, Load, Loader, Manifest, Plugin, PluginError,
    PluginManager,
};
use tokio::sync::{Notify, Semaphore};
use tokio::task::JoinHandle;

use crate::tool::{Seen, Tool, next, plain};

/// Lets everything go on that needs no time; the clock stands still until then.
async fn at_rest() {
    tokio::time::sleep(Duration::from_nanos(1)).await;
}

async fn until(events: &mut (impl Stream<Item = Event> + Unpin), wanted: impl Fn(&Event) -> bool) {
    let found = async { while !wanted(&events.next().await.unwrap()) {} };
    tokio::time::timeout(Duration::from_secs(60), found).await.unwrap();
}

/// A call that waits in the plugin.
async fn call_in(
    plugins: &PluginManager,
    name: &'static str,
    seen: &Seen,
) -> JoinHandle<swarm_plugin::Result<Value>> {
    let begun = seen.executed.load(SeqCst);
    let plugins = plugins.clone();
    let call = tokio::spawn(async move { plugins.call(name, json!({"wait": true})).await });
    while seen.executed.load(SeqCst) == begun {
        tokio::task::yield_now().await;
    }
    call
}

#[tokio::test(start_paused = true)]
async fn a_plugin_that_goes_while_its_state_is_handed_over_is_drained_first() {
    for (verb, ends) in [("remove", true), ("remove", false), ("shutdown", true), ("shutdown", false)] {
        let drained = Duration::from_secs(3);
        let plugins = PluginManager::builder().drain_timeout(drained).start().await.unwrap();
        let old = Tool::new("tool", "1.0.0");
        let (seen, gate) = (old.seen.clone(), old.gate.clone());
        plugins.register(old).await.unwrap();
        let mut events = plugins.events();
        let call = call_in(&plugins, "tool", &seen).await;
        let reload = tokio::spawn({
            let plugins = plugins.clone();
            async move { plugins.reload("tool", Tool::new("tool", "1.1.0")).await }
        });
        while next(&mut events, "1.0.0").await != EventKind::Held {}
        let going = tokio::spawn({
            let plugins = plugins.clone();
            async move {
                match verb {
                    "remove" => plugins.remove("tool").await.unwrap(),
                    _ => plugins.shutdown().await,
                }
            }
        });
        at_rest().await;
        assert_eq!(seen.cleaned.load(SeqCst), 0, "{verb}: cleaned up while a call was in it");
        gate.add_permits(usize::from(ends));
        going.await.unwrap();
        assert_eq!(next(&mut events, "1.0.0").await, EventKind::Retired);
        assert_eq!(next(&mut events, "1.0.0").await, EventKind::Drained { cut_off: !ends }, "{verb}");
        assert_eq!(
            call.await.unwrap().map_err(|error| error.kind()).err(),
            (!ends).then_some(ErrorKind::CutOff)
        );
        assert!(reload.await.unwrap().is_err());
        assert_eq!((seen.cleaned.load(SeqCst), seen.late.load(SeqCst)), (1, 0), "{verb}");
    }
}

/// Loads two plugins with state, `a` and `b`, of the version that the manifest says.
#[derive(Clone, Default)]
struct Pairs {
    loaded: Arc<Mutex<Vec<(String, Arc<Seen>, Arc<Semaphore>)>>>,
}

#[async_trait]
impl Loader for Pairs {
    fn kind(&self) -> &str {
        "pair"
    }

    async fn load(&self, found: &Found) -> Result<Load, PluginError> {
        let version = found.manifest().build()?.version().to_string();
        let tools = ["a", "b"].map(|name| {
            let tool = Tool::new(name, &version);
            let seen = (format!("{name} {version}"), tool.seen.clone(), tool.gate.clone());
            self.loaded.lock().unwrap().push(seen);
            Arc::new(tool) as Arc<dyn Plugin>
        });
        Ok(Load::new(tools))
    }
}

impl Pairs {
    /// The last instance that was made of this name and version.
    fn made(&self, which: &str) -> (Arc<Seen>, Arc<Semaphore>) {
        let loaded = self.loaded.lock().unwrap();
        let (_, seen, gate) = loaded.iter().rfind(|(name, ..)| name == which).unwrap();
        (seen.clone(), gate.clone())
    }
}

/// Puts a folder there in one step.
fn put(root: &Path, folder: &str, kind: &str, version: &str) {
    let (next, old) = (root.join(".next"), root.join(".old"));
    fs::create_dir_all(&next).unwrap();
    let manifest = format!("name = \"a\"\nversion = \"{version}\"\nkind = \"{kind}\"\n");
    fs::write(next.join("plugin.toml"), manifest).unwrap();
    if root.join(folder).exists() {
        fs::rename(root.join(folder), &old).unwrap();
        fs::remove_dir_all(&old).unwrap();
    }
    fs::rename(&next, root.join(folder)).unwrap();
}

/// Loads a plugin that answers its version, once there is a permit for it.
#[derive(Clone)]
struct Slow {
    begun: Arc<AtomicUsize>,
    gate: Arc<Semaphore>,
    /// The first load fails.
    is_ill: bool,
}

impl Slow {
    fn new(permits: usize) -> Slow {
        Slow { begun: Arc::default(), gate: Arc::new(Semaphore::new(permits)), is_ill: false }
    }
}

#[async_trait]
impl Loader for Slow {
    fn kind(&self) -> &str {
        "slow"
    }

    async fn load(&self, found: &Found) -> Result<Load, PluginError> {
        if self.begun.fetch_add(1, SeqCst) == 0 && self.is_ill {
            return Err(PluginError::new("not today"));
        }
        self.gate.acquire().await?.forget();
        let version = found.manifest().build()?.version().to_string();
        Ok(plain("a", &version).into())
    }
}

async fn start(root: &Path, loader: impl Loader) -> PluginManager {
    PluginManager::builder().folder(root).settle(Duration::ZERO).loader(loader).start().await.unwrap()
}

#[tokio::test]
async fn nothing_is_asked_of_a_plugin_after_its_cleanup() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "pair", "pair", "1.0.0");
    let pairs = Pairs::default();
    let plugins = start(root.path(), pairs.clone()).await;
    let ((a, gate), (b, _)) = (pairs.made("a 1.0.0"), pairs.made("b 1.0.0"));
    let mut events = plugins.events();
    let call = call_in(&plugins, "a", &a).await;
    put(root.path(), "pair", "pair", "1.1.0");
    let rescan = tokio::spawn({
        let plugins = plugins.clone();
        async move { plugins.rescan().await }
    });
    until(&mut events, |event| event.kind == EventKind::Held).await;
    plugins.remove("b").await.unwrap();
    assert_eq!(b.cleaned.load(SeqCst), 1);
    gate.add_permits(1);
    call.await.unwrap().unwrap();
    rescan.await.unwrap();
    assert_eq!(b.late.load(SeqCst), 0, "its state was asked for after its cleanup");
    assert!(plugins.get("b").is_none(), "what was removed stays removed");
    assert_eq!(plugins.get("a").unwrap().manifest().version().to_string(), "1.1.0", "the rest is reloaded");
    let (left_out, _) = pairs.made("b 1.1.0");
    assert_eq!((left_out.cleaned.load(SeqCst), left_out.executed.load(SeqCst)), (1, 0));
    // Its file changes, and it is there again.
    put(root.path(), "pair", "pair", "1.2.0");
    plugins.rescan().await;
    assert!(plugins.get("b").is_some());
    plugins.shutdown().await;
    assert_eq!(left_out.cleaned.load(SeqCst), 1);
}

#[tokio::test]
async fn a_plugin_whose_file_went_while_it_was_loaded_does_not_serve() {
    let root = tempfile::tempdir().unwrap();
    let slow = Slow::new(0);
    let plugins = start(root.path(), slow.clone()).await;
    let mut events = plugins.events();
    put(root.path(), "a", "slow", "1.0.0");
    let mut rescan = Box::pin(plugins.rescan());
    while slow.begun.load(SeqCst) == 0 {
        assert!(rescan.as_mut().now_or_never().is_none());
        tokio::task::yield_now().await;
    }
    drop(rescan);
    fs::remove_dir_all(root.path().join("a")).unwrap();
    plugins.rescan().await;
    slow.gate.add_permits(1);
    until(&mut events, |event| matches!(event.kind, EventKind::CleanedUp { .. })).await;
    assert!(plugins.get("a").is_none(), "a plugin whose file is gone serves");
    // The file that is put there next is another.
    slow.gate.add_permits(1);
    put(root.path(), "a", "slow", "1.0.0");
    plugins.rescan().await;
    assert!(plugins.get("a").is_some());
    plugins.shutdown().await;
}

#[tokio::test]
async fn a_version_whose_requirement_went_while_it_was_checked_leaves_the_old_one() {
    let plugins = PluginManager::new();
    plugins.register(plain("tool", "1.0.0")).await.unwrap();
    plugins.register(plain("needed", "1.0.0")).await.unwrap();
    let mut events = plugins.events();
    let manifest = Manifest::builder("tool", "2.0.0").requires("needed", "^1").build().unwrap();
    let checked = Checked { begun: Arc::default(), gate: Arc::new(Semaphore::new(0)), manifest };
    let (begun, gate) = (checked.begun.clone(), checked.gate.clone());
    let reload = tokio::spawn({
        let plugins = plugins.clone();
        async move { plugins.reload("tool", checked).await }
    });
    begun.notified().await;
    plugins.remove("needed").await.unwrap();
    gate.add_permits(1);
    let error = reload.await.unwrap().unwrap_err();
    assert_eq!((error.kind(), error.to_string().contains("needed")), (ErrorKind::Refused, true), "{error}");
    assert_eq!(plugins.call("tool", Value::Null).await.unwrap(), "1.0.0");
    while next(&mut events, "2.0.0").await != (EventKind::CleanedUp { failure: None }) {}
}

/// A plugin whose check waits for a permit.
struct Checked {
    begun: Arc<Notify>,
    gate: Arc<Semaphore>,
    manifest: Manifest,
}

#[async_trait]
impl Plugin for Checked {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    async fn execute(&self, _params: Value, _cx: &CallContext) -> Result<Value, PluginError> {
        Ok(json!("2.0.0"))
    }

    async fn check(&self) -> Result<(), PluginError> {
        self.begun.notify_one();
        self.gate.acquire().await?.forget();
        Ok(())
    }
}

#[tokio::test]
async fn verbs_that_a_shutdown_overtakes_make_and_check_nothing() {
    let plugins = PluginManager::new();
    plugins.register(plain("tool", "1.0.0")).await.unwrap();
    let (made, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Semaphore::new(0)));
    let checked = Arc::new(Notify::new());
    let make = {
        let (made, gate, checked) = (made.clone(), gate.clone(), checked.clone());
        move || {
            let (gate, begun) = (gate.clone(), checked.clone());
            made.fetch_add(1, SeqCst);
            async move {
                gate.acquire().await?.forget();
                let manifest = Manifest::builder("tool", "2.0.0").build()?;
                Ok(Checked { begun, gate, manifest })
            }
        }
    };
    // One that is being made, and one that waits for its turn.
    let reload = || {
        let (plugins, make) = (plugins.clone(), make.clone());
        tokio::spawn(async move { plugins.reload_with("tool", make).await })
    };
    let reloads = [reload(), reload()];
    while made.load(SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    let mut shutdown = Box::pin(plugins.shutdown());
    assert!(shutdown.as_mut().now_or_never().is_none());
    gate.add_permits(2);
    shutdown.await;
    for reload in reloads {
        assert_eq!(reload.await.unwrap().unwrap_err().kind(), ErrorKind::Closed);
    }
    assert_eq!(plugins.register_with(make.clone()).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(plugins.reload_with("tool", make.clone()).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(made.load(SeqCst), 1, "made after the shutdown began");
    assert!(checked.notified().now_or_never().is_none(), "checked after the shutdown began");
}

#[tokio::test]
async fn a_copy_serves_once_the_file_with_its_name_and_version_is_another_or_gone() {
    for change in ["gone", "another version", "removed by hand"] {
        let root = tempfile::tempdir().unwrap();
        let slow = Slow::new(100);
        let plugins = start(root.path(), slow.clone()).await;
        put(root.path(), "one", "slow", "1.0.0");
        plugins.rescan().await;
        put(root.path(), "two", "slow", "1.0.0");
        plugins.rescan().await;
        plugins.rescan().await;
        assert_eq!(slow.begun.load(SeqCst), 2, "tried once while the other is there");
        assert_eq!(paths(&plugins), ["one"]);
        let expected: &[&str] = match change {
            "gone" => {
                fs::remove_dir_all(root.path().join("one")).unwrap();
                &["two"]
            }
            "another version" => {
                put(root.path(), "one", "slow", "1.1.0");
                &["one", "two"]
            }
            _ => {
                plugins.remove("a").await.unwrap();
                &[]
            }
        };
        plugins.rescan().await;
        assert_eq!(paths(&plugins), expected, "{change}");
        plugins.shutdown().await;
    }
}

fn paths(plugins: &PluginManager) -> Vec<String> {
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    plugins.list().iter().map(|info| name(info.path().unwrap())).collect()
}

#[tokio::test]
async fn a_file_that_was_refused_is_tried_again_when_it_is_touched() {
    let root = tempfile::tempdir().unwrap();
    let slow = Slow { is_ill: true, ..Slow::new(100) };
    put(root.path(), "a", "slow", "1.0.0");
    let plugins = start(root.path(), slow.clone()).await;
    plugins.rescan().await;
    assert_eq!((slow.begun.load(SeqCst), plugins.list().len()), (1, 0));
    let touch = |seconds| {
        let manifest = fs::File::options().write(true).open(root.path().join("a/plugin.toml")).unwrap();
        manifest.set_modified(SystemTime::now() + Duration::from_secs(seconds)).unwrap();
    };
    touch(1);
    plugins.rescan().await;
    assert_eq!((slow.begun.load(SeqCst), plugins.list().len()), (2, 1));
    // What serves is not loaded again for that.
    touch(2);
    plugins.rescan().await;
    assert_eq!(slow.begun.load(SeqCst), 2);
    plugins.shutdown().await;
}

#[tokio::test]
async fn what_is_removed_while_a_change_waits_for_its_turn_stays_removed() {
    let root = tempfile::tempdir().unwrap();
    put(root.path(), "pair", "pair", "1.0.0");
    let pairs = Pairs::default();
    let store = tempfile::tempdir().unwrap();
    let builder = PluginManager::builder().folder(root.path()).settle(Duration::ZERO).store(store.path());
    let plugins = builder.loader(pairs.clone()).start().await.unwrap();
    let (a, gate) = pairs.made("a 1.0.0");
    let mut events = plugins.events();
    let call = call_in(&plugins, "a", &a).await;
    // One look is dropped in the middle of its reload, and the next waits for that.
    put(root.path(), "pair", "pair", "1.1.0");
    let mut rescan = Box::pin(plugins.rescan());
    tokio::select! {
        () = &mut rescan => unreachable!("it waits for the call"),
        () = until(&mut events, |event| event.kind == EventKind::Held) => {}
    }
    drop(rescan);
    put(root.path(), "pair", "pair", "1.2.0");
    let rescan = tokio::spawn({
        let plugins = plugins.clone();
        async move { plugins.rescan().await }
    });
    let copies = || {
        let ours = fs::read_dir(store.path()).unwrap().next().unwrap().unwrap();
        fs::read_dir(ours.path()).unwrap().count()
    };
    while copies() < 3 {
        tokio::task::yield_now().await;
    }
    plugins.remove("b").await.unwrap();
    gate.add_permits(1);
    call.await.unwrap().unwrap();
    rescan.await.unwrap();
    assert_eq!(plugins.get("a").unwrap().manifest().version().to_string(), "1.2.0");
    assert!(plugins.get("b").is_none(), "what was removed came back");
    plugins.shutdown().await;
}
