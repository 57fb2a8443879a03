#[cfg(target_os = "linux")]
mod hostile;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::channel::mpsc::{UnboundedReceiver, unbounded};
use futures::{Stream, StreamExt};
use serde_json::Value;
use swarm_plugin::{
    Digest, ErrorKind, Event, EventKind, FnPlugin, Found, Load, Loader, Plugin, PluginDiscovery, PluginError,
    PluginManager, Stage, Status,
};

use crate::tool::{next, plain};

/// Loads folders of the kind `text`: a plugin that answers what `answer.txt` holds.
struct Texts;

#[async_trait]
impl Loader for Texts {
    fn kind(&self) -> &str {
        "text"
    }

    async fn load(&self, found: &Found) -> Result<Load, PluginError> {
        let answer = fs::read_to_string(found.copy().join("answer.txt"))?;
        if answer == "bad" {
            return Err(PluginError::new("the answer is bad"));
        }
        let plugin = FnPlugin::new(found.manifest().build()?, move |_: Value, _| {
            let answer = answer.clone();
            async move { Ok(answer) }
        });
        Ok(plugin.into())
    }
}

fn write(root: &Path, name: &str, version: &str, answer: &str) {
    let folder = root.join(name);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("answer.txt"), answer).unwrap();
    let manifest = format!("name = \"{name}\"\nversion = \"{version}\"\nkind = \"text\"\n");
    fs::write(folder.join("plugin.toml"), manifest).unwrap();
}

async fn start(folders: &[&Path]) -> PluginManager {
    let mut builder = PluginManager::builder().loader(Texts).settle(Duration::ZERO);
    for folder in folders {
        builder = builder.folder(*folder);
    }
    builder.start().await.unwrap()
}

async fn answer(plugins: &PluginManager, name: &str) -> Result<Value, ErrorKind> {
    plugins.call(name, Value::Null).await.map_err(|error| error.kind())
}

#[tokio::test]
async fn what_is_refused_in_the_start_is_told() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "one", "1.0.0", "bad");
    fs::write(root.path().join("two.so"), "no library").unwrap();
    let builder = PluginManager::builder().loader(Texts).settle(Duration::ZERO).folder(root.path());
    let events = builder.events();
    let plugins = builder.start().await.unwrap();
    plugins.shutdown().await;
    drop(plugins);
    let events: Vec<Event> = events.collect().await;
    let refused = EventKind::Refused { stage: Stage::Load, reason: "the answer is bad".into() };
    assert!(events.iter().any(|event| &*event.name == "one" && event.kind == refused), "{events:?}");
    let told = |kind: &EventKind| match kind {
        EventKind::Refused { reason, .. } => {
            reason.starts_with("there is no loader for the kind native: give a NativeLoader")
        }
        _ => false,
    };
    assert!(events.iter().any(|event| &*event.name == "two.so" && told(&event.kind)), "{events:?}");
}

/// Loads two plugins whose names are the same but for case, and counts how often.
struct Twins(Arc<AtomicUsize>);

#[async_trait]
impl Loader for Twins {
    fn kind(&self) -> &str {
        "text"
    }

    async fn load(&self, _found: &Found) -> Result<Load, PluginError> {
        self.0.fetch_add(1, Relaxed);
        Ok(Load::new(["one", "One"].map(|name| Arc::new(plain(name, "1.0.0")) as Arc<dyn Plugin>)))
    }
}

#[tokio::test]
async fn what_is_in_the_way_of_itself_is_tried_once() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "twins", "1.0.0", "any");
    let loads = Arc::new(AtomicUsize::new(0));
    let builder = PluginManager::builder().loader(Twins(loads.clone())).settle(Duration::ZERO);
    let plugins = builder.folder(root.path()).start().await.unwrap();
    plugins.rescan().await;
    assert_eq!(loads.load(Relaxed), 1);
    assert!(plugins.list().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_missing_for_a_moment_is_the_same_plugin() {
    const SETTLE: Duration = Duration::from_secs(3600);
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "one", "1.0.0", "first");
    let plugins = PluginManager::builder().loader(Texts).settle(SETTLE).folder(root.path());
    let plugins = plugins.start().await.unwrap();
    let mut events = plugins.events();
    let manifest = root.path().join("one/plugin.toml");
    let text = fs::read(&manifest).unwrap();
    fs::remove_file(&manifest).unwrap();
    let looking = async {
        tokio::time::sleep(SETTLE / 2).await;
        assert_eq!(answer(&plugins, "one").await.unwrap(), "first");
        fs::write(&manifest, &text).unwrap();
        fs::write(root.path().join("one/answer.txt"), "second").unwrap();
    };
    futures::join!(plugins.rescan(), looking);
    assert_eq!(answer(&plugins, "one").await.unwrap(), "second");
    assert_eq!(plugins.get("one").unwrap().stats().calls, 2, "it is the same, reloaded");

    // Under another name it is not in the way of itself.
    fs::rename(root.path().join("one"), root.path().join("two")).unwrap();
    plugins.rescan().await;
    assert_eq!(answer(&plugins, "one").await.unwrap(), "second");
    assert_eq!(plugins.get("one").unwrap().path(), Some(&*root.path().join("two")));
    fs::remove_dir_all(root.path().join("two")).unwrap();
    plugins.rescan().await;
    assert_eq!(answer(&plugins, "one").await.unwrap_err(), ErrorKind::NotFound);
    plugins.shutdown().await;
    drop(plugins);
    while let Some(event) = events.next().await {
        assert!(!matches!(event.kind, EventKind::Refused { .. }), "{event:?}");
    }
}

/// Loads a plugin that becomes others, as it is told.
struct Becoming(Mutex<Option<UnboundedReceiver<Result<Vec<Arc<dyn Plugin>>, PluginError>>>>);

#[async_trait]
impl Loader for Becoming {
    fn kind(&self) -> &str {
        "text"
    }

    async fn load(&self, _found: &Found) -> Result<Load, PluginError> {
        let load = Load::from(plain("one", "1.0.0"));
        assert_eq!(load.plugins().len(), 1);
        let changes = self.0.lock().unwrap().take();
        Ok(match changes {
            Some(changes) => load.followed_by(changes),
            None => load,
        })
    }
}

#[tokio::test]
async fn plugins_become_what_their_loader_says() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "tools", "1.0.0", "any");
    let (tell, changes) = unbounded();
    let loader = Becoming(Mutex::new(Some(changes)));
    let builder = PluginManager::builder().loader(loader).settle(Duration::ZERO).folder(root.path());
    let plugins = builder.start().await.unwrap();
    let mut events = plugins.events();
    assert_eq!(answer(&plugins, "one").await.unwrap(), "1.0.0");

    let both = ["one", "two"].map(|name| Arc::new(plain(name, "1.1.0")) as Arc<dyn Plugin>);
    tell.unbounded_send(Ok(both.into())).unwrap();
    while next(&mut events, "1.0.0").await != EventKind::Retired {}
    assert_eq!(answer(&plugins, "one").await.unwrap(), "1.1.0");
    assert_eq!(answer(&plugins, "two").await.unwrap(), "1.1.0");
    assert!(plugins.list().iter().all(|info| info.path() == Some(&*root.path().join("tools"))));

    let mut events = plugins.events();
    tell.unbounded_send(Err(PluginError::new("not now"))).unwrap();
    let refused = EventKind::Refused { stage: Stage::Load, reason: "not now".into() };
    while events.next().await.unwrap().kind != refused {}
    assert_eq!(answer(&plugins, "two").await.unwrap(), "1.1.0");

    // Another version of the file: what became of the one before is of no account any more.
    write(root.path(), "tools", "1.2.0", "any");
    plugins.rescan().await;
    assert_eq!(answer(&plugins, "one").await.unwrap(), "1.0.0");
    assert_eq!(answer(&plugins, "two").await.unwrap_err(), ErrorKind::NotFound);
    plugins.shutdown().await;
    assert!(tell.is_closed());
}

#[tokio::test]
async fn what_is_in_the_folders_is_loaded_by_precedence() {
    let (strong, weak) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(strong.path(), "one", "1.0.0", "strong");
    write(weak.path(), "one", "1.0.0", "weak");
    write(weak.path(), "two", "1.0.0", "only");
    let plugins = start(&[strong.path(), weak.path(), Path::new("no/such/folder")]).await;
    assert_eq!(answer(&plugins, "one").await.unwrap(), "strong");
    assert_eq!(answer(&plugins, "two").await.unwrap(), "only");
    let list = plugins.list();
    let seen: Vec<_> = list.iter().map(|info| (info.manifest().name(), info.status().clone())).collect();
    assert_eq!(seen, [("one", Status::Active), ("one", Status::Shadowed), ("two", Status::Active)]);
    assert_eq!(list[0].path(), Some(&*strong.path().join("one")));
    assert_eq!(list[0].kind(), Some("text"));

    // When the strong one goes, the weak one is there.
    fs::remove_dir_all(strong.path().join("one")).unwrap();
    plugins.rescan().await;
    assert_eq!(answer(&plugins, "one").await.unwrap(), "weak");
    // A higher version wins wherever it is, and code is stronger than any folder.
    write(weak.path(), "one", "1.1.0", "newer");
    plugins.rescan().await;
    assert_eq!(answer(&plugins, "one").await.unwrap(), "newer");
    plugins.register(plain("one", "1.1.0")).await.unwrap();
    assert_eq!(answer(&plugins, "one").await.unwrap(), "1.1.0");
    let error = plugins.reload("two", plain("two", "2.0.0")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidState);
}

#[tokio::test]
async fn a_change_is_loaded_and_a_bad_one_leaves_the_version_before() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "tool", "1.0.0", "first");
    let plugins = start(&[root.path()]).await;
    let first = plugins.get("tool").unwrap();
    let mut events = plugins.events();
    plugins.rescan().await;
    assert_eq!(plugins.get("tool").unwrap().generation(), first.generation(), "what did not change stays");

    write(root.path(), "tool", "1.0.1", "second");
    plugins.rescan().await;
    assert_eq!(answer(&plugins, "tool").await.unwrap(), "second");
    assert_ne!(plugins.get("tool").unwrap().digest(), first.digest());
    assert_eq!(next(&mut events, "1.0.1").await, EventKind::Loaded);

    for (version, text, stage) in [("1.0.2", "bad", Stage::Load), ("1.0.x", "third", Stage::Discover)] {
        write(root.path(), "tool", version, text);
        plugins.rescan().await;
        plugins.rescan().await;
        assert_eq!(answer(&plugins, "tool").await.unwrap(), "second");
        assert_eq!(refusals(&mut events), [stage], "a bad version is told once");
    }
    fs::write(root.path().join("tool/plugin.toml"), "name = \"tool\"\nversi").unwrap();
    plugins.rescan().await;
    assert_eq!(answer(&plugins, "tool").await.unwrap(), "second");

    // Back to the first; the file on disk is not loaded again before it changes.
    write(root.path(), "tool", "1.0.3", "third");
    plugins.rescan().await;
    assert_eq!(answer(&plugins, "tool").await.unwrap(), "third");
    plugins.rollback("tool").await.unwrap();
    plugins.rescan().await;
    assert_eq!(answer(&plugins, "tool").await.unwrap(), "second");
    write(root.path(), "tool", "1.0.4", "fourth");
    plugins.rescan().await;
    assert_eq!(answer(&plugins, "tool").await.unwrap(), "fourth");

    fs::remove_dir_all(root.path().join("tool")).unwrap();
    plugins.rescan().await;
    assert_eq!(answer(&plugins, "tool").await.unwrap_err(), ErrorKind::NotFound);
    plugins.shutdown().await;
}

fn refusals(events: &mut (impl Stream<Item = Event> + Unpin)) -> Vec<Stage> {
    let mut stages = Vec::new();
    while let Some(Some(event)) = futures::FutureExt::now_or_never(events.next()) {
        if let EventKind::Refused { stage, .. } = event.kind {
            stages.push(stage);
        }
    }
    stages
}

#[tokio::test(start_paused = true)]
async fn a_file_that_just_changed_is_left_to_settle() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "old", "1.0.0", "old");
    let long_ago = SystemTime::now() - Duration::from_secs(3600);
    for name in ["old/answer.txt", "old/plugin.toml"] {
        let file = fs::File::options().write(true).open(root.path().join(name)).unwrap();
        file.set_modified(long_ago).unwrap();
    }
    let builder =
        || PluginManager::builder().loader(Texts).settle(Duration::from_secs(600)).folder(root.path());
    let begun = tokio::time::Instant::now();
    drop(builder().start().await.unwrap());
    assert!(begun.elapsed() < Duration::from_secs(1), "what has stood still for long is loaded at once");

    write(root.path(), "new", "1.0.0", "new");
    let begun = tokio::time::Instant::now();
    let plugins = builder().start().await.unwrap();
    assert!(begun.elapsed() > Duration::from_secs(590), "{:?}", begun.elapsed());
    assert_eq!(answer(&plugins, "new").await.unwrap(), "new");
}

#[tokio::test]
async fn what_there_was_no_room_for_is_loaded_once_there_is() {
    let (root, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let builder = PluginManager::builder().loader(Texts).settle(Duration::ZERO).folder(root.path());
    let plugins = builder.store(place.path()).start().await.unwrap();
    let store = fs::read_dir(place.path()).unwrap().next().unwrap().unwrap().path();
    let mut events = plugins.events();
    let away = place.path().join("away");
    fs::rename(&store, &away).unwrap();
    write(root.path(), "tool", "1.0.0", "here");
    for _ in 0..2 {
        plugins.rescan().await;
    }
    assert_eq!(refusals(&mut events), [Stage::Discover], "told once");
    fs::rename(&away, &store).unwrap();
    plugins.rescan().await;
    assert_eq!(answer(&plugins, "tool").await.unwrap(), "here");
}

#[tokio::test]
async fn only_digests_that_are_allowed_are_loaded() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "good", "1.0.0", "good");
    write(root.path(), "evil", "1.0.0", "evil");
    let store = tempfile::tempdir().unwrap();
    let (found, _) = PluginDiscovery::new().folder(root.path()).scan(store.path()).unwrap();
    let good = found.iter().find(|found| found.path().ends_with("good")).unwrap().digest();
    let allowed: Digest = good.to_string().parse().unwrap();
    let builder = PluginManager::builder().loader(Texts).settle(Duration::ZERO).folder(root.path());
    let plugins = builder.allow([allowed]).start().await.unwrap();
    assert_eq!(answer(&plugins, "good").await.unwrap(), "good");
    assert_eq!(answer(&plugins, "evil").await.unwrap_err(), ErrorKind::NotFound);
    assert_eq!(plugins.get("good").unwrap().digest(), Some(good));
    fs::write(root.path().join("good/answer.txt"), "tampered").unwrap();
    plugins.rescan().await;
    assert_eq!(answer(&plugins, "good").await.unwrap(), "good");
}

#[test]
fn digests_are_those_of_sha256sum() {
    let known = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
    assert_eq!(Digest::of("hello").to_string(), known);
    for text in
        ["", "sha256:", "sha256:2cf2", &known[..70], &known.replace('2', "g"), "é".repeat(32).as_str()]
    {
        assert!(text.parse::<Digest>().is_err(), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_folder_is_followed() {
    let root = tempfile::tempdir().unwrap();
    let builder =
        PluginManager::builder().loader(Texts).settle(Duration::from_millis(10)).folder(root.path());
    let plugins = builder.watch().start().await.unwrap();
    let mut events = plugins.events();
    let mut until = async |version: &str, wanted: EventKind| {
        while next(&mut events, version).await != wanted {}
    };
    write(root.path(), "tool", "1.0.0", "first");
    until("1.0.0", EventKind::Activated).await;
    assert_eq!(answer(&plugins, "tool").await.unwrap(), "first");
    write(root.path(), "tool", "1.0.1", "second");
    until("1.0.1", EventKind::Activated).await;
    assert_eq!(answer(&plugins, "tool").await.unwrap(), "second");
    until("1.0.0", EventKind::CleanedUp { failure: None }).await;
    fs::remove_dir_all(root.path().join("tool")).unwrap();
    until("1.0.1", EventKind::CleanedUp { failure: None }).await;
    assert_eq!(answer(&plugins, "tool").await.unwrap_err(), ErrorKind::NotFound);
    plugins.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_folder_that_is_made_later_is_followed() {
    let root = tempfile::tempdir().unwrap();
    let folder = root.path().join("plugins");
    let builder = PluginManager::builder().loader(Texts).settle(Duration::from_millis(10)).folder(&folder);
    let plugins = builder.watch().start().await.unwrap();
    let mut events = plugins.events();
    for version in ["1.0.0", "1.0.1"] {
        fs::create_dir(&folder).unwrap();
        write(&folder, "tool", version, version);
        while next(&mut events, version).await != EventKind::Activated {}
        assert_eq!(answer(&plugins, "tool").await.unwrap(), version);
        fs::remove_dir_all(&folder).unwrap();
        plugins.rescan().await;
        assert_eq!(answer(&plugins, "tool").await.unwrap_err(), ErrorKind::NotFound);
    }
    plugins.shutdown().await;
}
