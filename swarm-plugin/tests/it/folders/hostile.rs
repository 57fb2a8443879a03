//! What stands in folders and is no plugin, or leads elsewhere.

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
    // Only who may make devices can leave one there.
    let device = (rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 5));
    let device =
        rustix::fs::mknodat(rustix::fs::CWD, at("zero.wasm"), device.0, 0o666.into(), device.1).is_ok();
    fs::create_dir_all(at("swapped/plugin.toml")).unwrap();
    let piped = folder(root.path(), "piped", GOOD);
    rustix::fs::mknodat(rustix::fs::CWD, piped.join("in"), rustix::fs::FileType::Fifo, 0o666.into(), 0)
        .unwrap();
    folder(root.path(), "typo", &format!("{GOOD}tiemout = 1\n"));
    folder(root.path(), "newer", &format!("{GOOD}api = \"^2\"\n"));
    folder(root.path(), "named", &GOOD.replace("good", "../x"));
    folder(root.path(), "absolute", &GOOD.replace("good", "/etc/passwd"));
    folder(root.path(), "nul", &GOOD.replace("good", "a\\u0000b"));
    folder(root.path(), "ansi", &GOOD.replace("good", "\\u001b[2J"));
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
        ("absolute", "name: \"/etc/passwd\""),
        ("ansi", "name: \"\\u{1b}[2J\""),
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
        ("nul", "name: \"a\\0b\""),
        ("pipe.wasm", "a pipe"),
        ("piped", "in: it is a pipe"),
        ("plain", "not executable"),
        ("socket.so", "a socket"),
        ("swapped", "plugin.toml is not a file"),
        ("torn", "line 1"),
        ("typo", "line 4: unknown field `tiemout`"), // typos:ignore-line
        ("up", "leads out"),
        ("zero.wasm", "a device"),
    ];
    let expected = &expected[..expected.len() - usize::from(!device)];
    assert_eq!(reasons.keys().collect::<Vec<_>>(), expected.iter().map(|(name, _)| name).collect::<Vec<_>>());
    for &(name, reason) in expected {
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
    let _plugins = PluginManager::builder().folder(root.path()).store(store.path()).start().await.unwrap();
    let folders: Vec<_> = fs::read_dir(store.path()).unwrap().map(Result::unwrap).collect();
    assert_eq!((folders.len(), found.len()), (2, 1));
    for folder in folders {
        let mode = folder.metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{folder:?}");
    }
    let mode = fs::metadata(found[0].copy()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o500, "nor can whoever runs as this user by mistake");
}

#[tokio::test]
async fn a_folder_that_is_flooded_is_not_read_and_what_was_loaded_serves_on() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "tool", "1.0.0", "here");
    let plugins = start(&[root.path()]).await;
    let mut events = plugins.events();
    for file in 0..100_000 {
        fs::write(root.path().join(file.to_string()), "").unwrap();
    }
    let begun = std::time::Instant::now();
    plugins.rescan().await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(refusals(&mut events), [Stage::Discover]);
    assert_eq!(answer(&plugins, "tool").await.unwrap(), "here");

    let store = tempfile::tempdir().unwrap();
    let error = PluginDiscovery::new().folder(root.path()).scan(store.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("over 10000 entries"), "{error}");
    plugins.shutdown().await;
}

/// Cut off anywhere or changed at random, a `plugin.toml` is refused with a reason, or is a manifest.
#[test]
fn damaged_manifests_harm_nobody() {
    let good = "name = \"good\"\nversion = \"1.0.0\"\nkind = \"text\"\ncommand = [\"./run\"]\n\
        [requires]\nother = \"^2\"\n[limits]\ntimeout_ms = 5\n";
    let (root, store) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let file = folder(root.path(), "tool", good).join("plugin.toml");
    let mut random = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = |bound: usize| {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(random >> 33).unwrap() % bound
    };
    let mut texts: Vec<Vec<u8>> = (0..good.len()).map(|cut| good.as_bytes()[..cut].to_vec()).collect();
    for _ in 0..300 {
        let mut changed = good.as_bytes().to_vec();
        for _ in 0..=next(4) {
            let at = next(changed.len());
            changed[at] ^= 1 << next(8);
        }
        texts.push(changed);
        texts.push((0..next(200)).map(|_| u8::try_from(next(256)).unwrap()).collect());
    }
    let (mut loaded, mut refused) = (0, 0);
    for text in &texts {
        fs::write(&file, text).unwrap();
        let (found, unusable) = PluginDiscovery::new().folder(root.path()).scan(store.path()).unwrap();
        assert_eq!(found.len() + unusable.len(), 1, "{}", text.escape_ascii());
        assert!(unusable.iter().all(|told| !told.reason().contains(char::is_control)), "{unusable:?}");
        loaded += found.len();
        refused += unusable.len();
    }
    assert!(loaded > 0 && refused > texts.len() / 2, "{loaded} loaded, {refused} refused");
}

#[test]
fn links_swapped_in_while_folders_are_read_lead_nowhere() {
    let (root, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secret = folder(outside.path(), "tool", "name = \"tool\"\nversion = \"1.0.0\"\nkind = \"text\"\n");
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
