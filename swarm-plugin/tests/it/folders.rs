use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use futures::{Stream, StreamExt};
use serde_json::Value;
use swarm_plugin::{
    Digest, ErrorKind, Event, EventKind, FnPlugin, Found, Loader, Plugin, PluginDiscovery, PluginError,
    PluginManager, Stage, Status,
};

/// Loads folders of the kind `text`: a plugin that answers what `answer.txt` holds.
struct Texts;

#[async_trait]
impl Loader for Texts {
    fn kind(&self) -> &str {
        "text"
    }

    async fn load(&self, found: &Found) -> Result<Vec<Arc<dyn Plugin>>, PluginError> {
        let answer = fs::read_to_string(found.copy().join("answer.txt"))?;
        if answer == "bad" {
            return Err(PluginError::new("the answer is bad"));
        }
        let plugin = FnPlugin::new(found.manifest().build()?, move |_: Value, _| {
            let answer = answer.clone();
            async move { Ok(answer) }
        });
        Ok(vec![Arc::new(plugin)])
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
    let builder = PluginManager::builder().loader(Texts).settle(Duration::ZERO).folder(root.path());
    let events = builder.events();
    let plugins = builder.start().await.unwrap();
    plugins.shutdown().await;
    drop(plugins);
    let events: Vec<Event> = events.collect().await;
    let refused = EventKind::Refused { stage: Stage::Load, reason: "the answer is bad".into() };
    assert!(events.iter().any(|event| &*event.name == "one" && event.kind == refused), "{events:?}");
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
    plugins.register(crate::tool::plain("one", "1.1.0")).await.unwrap();
    assert_eq!(answer(&plugins, "one").await.unwrap(), "1.1.0");
    let error = plugins.reload("two", crate::tool::plain("two", "2.0.0")).await.unwrap_err();
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
    assert_eq!(crate::tool::next(&mut events, "1.0.1").await, EventKind::Loaded);

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

#[cfg(target_os = "linux")]
mod hostile {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn script(path: &Path, mode: u32) {
        fs::write(path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn folder(root: &Path, name: &str, manifest: &str) -> std::path::PathBuf {
        let folder = root.join(name);
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("plugin.toml"), manifest).unwrap();
        folder
    }

    #[test]
    fn each_entry_is_a_plugin_or_passed_over_or_unusable_with_a_reason() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| root.path().join(name);
        script(&outside.path().join("secret"), 0o755);
        // Plugins.
        script(&at("run.py"), 0o755);
        script(&at("inside"), 0o755);
        fs::write(at("module.wasm"), "\0asm").unwrap();
        fs::write(at("native.so"), "").unwrap();
        symlink("inside", at("linked")).unwrap();
        const GOOD: &str = "name = \"good\"\nversion = \"1.0.0\"\nkind = \"text\"\n";
        folder(
            root.path(),
            "folder",
            &format!("{GOOD}api = \"^1\"\n[requires]\nother = \"^2\"\n[limits]\ntimeout_ms = 5\n"),
        );
        fs::File::create(at("huge.wasm")).unwrap().set_len(300 * 1024 * 1024).unwrap();
        // Passed over.
        fs::write(at("README.md"), "# read me").unwrap();
        script(&at(".hidden"), 0o755);
        script(&at("run.py~"), 0o755);
        fs::create_dir(at("assets")).unwrap();
        // Unusable.
        script(&at("plain"), 0o644);
        script(&at("bad\u{1b}[2Jname"), 0o755);
        symlink(outside.path().join("secret"), at("away")).unwrap();
        symlink("../../../../../../etc/hostname", at("up")).unwrap();
        symlink("circle", at("circle")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, at("pipe.wasm"), rustix::fs::FileType::Fifo, 0o666.into(), 0)
            .unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket.so")).unwrap();
        let leaks = folder(root.path(), "leaks", GOOD);
        symlink("../inside", leaks.join("tool")).unwrap();
        let piped = folder(root.path(), "piped", GOOD);
        rustix::fs::mknodat(rustix::fs::CWD, piped.join("in"), rustix::fs::FileType::Fifo, 0o666.into(), 0)
            .unwrap();
        folder(root.path(), "typo", &format!("{GOOD}tiemout = 1\n"));
        folder(root.path(), "newer", &format!("{GOOD}api = \"^2\"\n"));
        folder(root.path(), "named", &GOOD.replace("good", "../x"));
        folder(root.path(), "torn", "name = \"go");
        let dangling = root.path().join("dangling");
        fs::create_dir(&dangling).unwrap();
        symlink(outside.path().join("secret"), dangling.join("plugin.toml")).unwrap();
        let deep = folder(root.path(), "deep", GOOD);
        fs::create_dir_all(deep.join(["d"; 20].join("/"))).unwrap();
        let crowded = folder(root.path(), "crowded", GOOD);
        for file in 0..10_000 {
            fs::write(crowded.join(file.to_string()), "").unwrap();
        }

        let store = tempfile::tempdir().unwrap();
        let (found, unusable) = PluginDiscovery::new().folder(root.path()).scan(store.path()).unwrap();
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let found: BTreeMap<String, String> =
            found.iter().map(|found| (name(found.path()), found.kind().to_owned())).collect();
        let expected = [
            ("folder", "text"),
            ("inside", "process"),
            ("linked", "process"),
            ("module.wasm", "wasm"),
            ("native.so", "native"),
            ("run.py", "process"),
        ];
        assert_eq!(found, expected.map(|(name, kind)| (name.into(), kind.into())).into());
        let reasons: BTreeMap<String, &str> =
            unusable.iter().map(|unusable| (name(unusable.path()), unusable.reason())).collect();
        let expected = [
            ("away", "leads out"),
            ("bad\u{1b}[2Jname", "has more than letters"),
            ("circle", "link that cannot be followed"),
            ("crowded", "over 10000 files"),
            ("dangling", "plugin.toml: it leads out"),
            ("deep", "over 16 levels"),
            ("huge.wasm", "over 268435456 bytes"),
            ("leaks", "tool: it leads out"),
            ("named", "name: \"../x\""),
            ("newer", "plugin API ^2, and this is 1.0.0"),
            ("pipe.wasm", "a pipe"),
            ("piped", "in: it is a pipe"),
            ("plain", "not executable"),
            ("socket.so", "a socket"),
            ("torn", "line 1"),
            ("typo", "line 4: unknown field `tiemout`"), // typos:ignore-line
            ("up", "leads out"),
        ];
        assert_eq!(
            reasons.keys().collect::<Vec<_>>(),
            expected.iter().map(|(name, _)| name).collect::<Vec<_>>()
        );
        for (name, reason) in expected {
            assert!(reasons[name].contains(reason), "{name}: {}", reasons[name]);
            assert!(!reasons[name].contains('\u{1b}'), "{name}");
        }
    }

    #[tokio::test]
    async fn other_users_cannot_write_what_is_loaded() {
        let (root, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let discovery = PluginDiscovery::new().folder(root.path());
        script(&root.path().join("run.py"), 0o755);
        let (found, _) = discovery.scan(store.path()).unwrap();
        let _plugins =
            PluginManager::builder().folder(root.path()).store(store.path()).start().await.unwrap();
        let folders: Vec<_> = fs::read_dir(store.path()).unwrap().map(Result::unwrap).collect();
        assert_eq!((folders.len(), found.len()), (2, 1));
        for folder in folders {
            let mode = folder.metadata().unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o700, "{folder:?}");
        }
        let mode = fs::metadata(found[0].copy()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o500, "nor can whoever runs as this user by mistake");
    }

    #[test]
    fn a_folder_of_more_entries_than_any_plugin_folder_has_is_not_read() {
        let root = tempfile::tempdir().unwrap();
        for file in 0..10_001 {
            fs::write(root.path().join(file.to_string()), "").unwrap();
        }
        let store = tempfile::tempdir().unwrap();
        let error = PluginDiscovery::new().folder(root.path()).scan(store.path()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
    }

    #[tokio::test]
    async fn what_was_loaded_stays_where_its_folder_cannot_be_read_any_more() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "tool", "1.0.0", "here");
        let plugins = start(&[root.path()]).await;
        let mut events = plugins.events();
        for file in 0..10_000 {
            fs::write(root.path().join(format!(".{file}")), "").unwrap();
        }
        fs::remove_dir_all(root.path().join("tool")).unwrap();
        fs::write(root.path().join(".last"), "").unwrap();
        plugins.rescan().await;
        assert_eq!(refusals(&mut events), [Stage::Discover]);
        assert_eq!(answer(&plugins, "tool").await.unwrap(), "here");
    }

    #[test]
    fn links_swapped_in_while_folders_are_read_lead_nowhere() {
        let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let secret =
            folder(outside.path(), "tool", "name = \"tool\"\nversion = \"1.0.0\"\nkind = \"text\"\n");
        fs::write(secret.join("answer.txt"), "secret").unwrap();
        write(root.path(), "real", "1.0.0", "public");
        symlink("real", root.path().join("tool")).unwrap();
        let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let swapping = std::thread::spawn({
            let (over, root, secret) = (over.clone(), root.path().to_owned(), secret.clone());
            move || {
                let targets = [Path::new("real"), &secret];
                for target in targets.iter().cycle() {
                    symlink(target, root.join(".next")).unwrap();
                    fs::rename(root.join(".next"), root.join("tool")).unwrap();
                    if over.load(std::sync::atomic::Ordering::SeqCst) {
                        return;
                    }
                }
            }
        });
        let store = tempfile::tempdir().unwrap();
        let discovery = PluginDiscovery::new().folder(root.path());
        let mut through_the_link = 0;
        for _ in 0..300 {
            let (found, _) = discovery.scan(store.path()).unwrap();
            for found in found {
                through_the_link += usize::from(found.path().ends_with("tool"));
                assert_eq!(fs::read_to_string(found.copy().join("answer.txt")).unwrap(), "public");
            }
        }
        over.store(true, std::sync::atomic::Ordering::SeqCst);
        swapping.join().unwrap();
        assert!(through_the_link > 0, "the link was never followed, so that nothing was shown");
        assert_eq!(fs::read_dir(store.path()).unwrap().count(), 0, "copies go with what was found");
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
        while crate::tool::next(&mut events, version).await != wanted {}
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
        while crate::tool::next(&mut events, version).await != EventKind::Activated {}
        assert_eq!(answer(&plugins, "tool").await.unwrap(), version);
        fs::remove_dir_all(&folder).unwrap();
        plugins.rescan().await;
        assert_eq!(answer(&plugins, "tool").await.unwrap_err(), ErrorKind::NotFound);
    }
    plugins.shutdown().await;
}
