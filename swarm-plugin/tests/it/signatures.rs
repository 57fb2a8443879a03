//! Plugins that have to be signed, by the program `minisign`.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;
use swarm_plugin::{
    Digest, FnPlugin, Found, Load, Loader, PluginDiscovery, PluginError, PluginManager, PublicKey,
};

/// A folder of plugins and a pair of keys. `None`, said aloud, where `minisign` is not here.
struct Signer {
    root: tempfile::TempDir,
    keys: tempfile::TempDir,
}

impl Signer {
    fn new() -> Option<Signer> {
        let paths = std::env::var_os("PATH").unwrap_or_default();
        if !std::env::split_paths(&paths).any(|folder| folder.join("minisign").is_file()) {
            eprintln!("left out: a test with the program `minisign`, which is not here");
            return None;
        }
        let signer = Signer { root: tempfile::tempdir().unwrap(), keys: tempfile::tempdir().unwrap() };
        signer.generate("key");
        Some(signer)
    }

    fn key_file(&self, name: &str, ending: &str) -> PathBuf {
        self.keys.path().join(format!("{name}.{ending}"))
    }

    fn minisign(&self, key: &str, args: &[&str]) {
        let mut run = Command::new("minisign");
        run.args(args).arg("-s").arg(self.key_file(key, "sec"));
        let done = run.output().unwrap();
        assert!(done.status.success(), "{done:?}");
    }

    fn generate(&self, key: &str) -> PublicKey {
        let public = self.key_file(key, "pub");
        self.minisign(key, &["-G", "-W", "-p", public.to_str().unwrap()]);
        self.public(key)
    }

    fn public(&self, key: &str) -> PublicKey {
        fs::read_to_string(self.key_file(key, "pub")).unwrap().parse().unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn signature(&self, name: &str) -> PathBuf {
        self.path(&format!("{name}.minisig"))
    }

    /// Signs a file of the folder.
    fn sign(&self, key: &str, name: &str, more: &[&str]) {
        let path = self.path(name);
        let mut args = vec!["-S", "-m", path.to_str().unwrap(), "-t", "made for a test"];
        args.extend(more);
        self.minisign(key, &args);
    }

    /// Signs a folder of the folder, as it stands.
    fn sign_folder(&self, name: &str) {
        let found = self.scan(PluginDiscovery::new()).unwrap();
        let (digest, signature) = (self.keys.path().join("digest"), self.signature(name));
        fs::write(&digest, found.digest().to_string()).unwrap();
        let args = ["-S", "-m", digest.to_str().unwrap(), "-x", signature.to_str().unwrap()];
        self.minisign("key", &args);
    }

    fn scan(&self, discovery: PluginDiscovery) -> Result<Found, String> {
        let store = tempfile::tempdir().unwrap();
        let (mut found, unusable) = discovery.folder(self.root.path()).scan(store.path()).unwrap();
        match found.pop() {
            Some(found) => Ok(found),
            None => Err(unusable.iter().map(|one| one.reason()).collect::<Vec<_>>().join("; ")),
        }
    }

    /// What a host finds that asks for a signature by this key.
    fn check(&self, key: &str) -> Result<Found, String> {
        self.scan(PluginDiscovery::new().signed_by(self.public(key)))
    }
}

fn flip(path: &Path, at: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[at] ^= 1;
    fs::write(path, bytes).unwrap();
}

#[test]
fn no_byte_of_a_file_or_of_its_signature_can_be_another() {
    let Some(signer) = Signer::new() else { return };
    for mode in [&["-H"][..], &["-l"]] {
        let (file, signature) = (signer.path("tool.wasm"), signer.signature("tool.wasm"));
        fs::write(&file, b"\0asm what is in it").unwrap();
        signer.sign("key", "tool.wasm", mode);
        let found = signer.check("key").unwrap();
        assert_eq!(found.trusted_comment(), Some("made for a test"));
        for at in 0..fs::metadata(&file).unwrap().len() as usize {
            flip(&file, at);
            let reason = signer.check("key").unwrap_err();
            assert_eq!(
                reason, "tool.wasm.minisig is not the signature of what stands there",
                "{mode:?} {at}"
            );
            flip(&file, at);
        }
        // The first line is a comment that nobody vouches for, and after the last there is nothing.
        let text = fs::read_to_string(&signature).unwrap();
        let begin = text.find('\n').unwrap() + 1;
        for at in begin..text.trim_end().len() {
            flip(&signature, at);
            assert!(
                signer.check("key").is_err(),
                "{mode:?} {at}: {}",
                fs::read_to_string(&signature).unwrap()
            );
            flip(&signature, at);
        }
        assert!(signer.check("key").is_ok());
        for length in [0, 1, begin, text.len() / 2, text.trim_end().len() - 1] {
            fs::write(&signature, &text[..length]).unwrap();
            assert!(signer.check("key").is_err(), "{mode:?}, cut to {length}");
        }
        fs::write(&signature, "x".repeat(1 << 20)).unwrap();
        assert!(signer.check("key").is_err());
    }
}

#[test]
fn nothing_in_a_signed_folder_can_be_another() {
    let Some(signer) = Signer::new() else { return };
    let within = |name: &str| signer.path("tool").join(name);
    let manifest = "name = \"tool\"\nversion = \"1.0.0\"\nkind = \"process\"\ncommand = [\"run\"]\n";
    let make = || {
        let _ = fs::remove_dir_all(signer.path("tool"));
        fs::create_dir(signer.path("tool")).unwrap();
        fs::write(within("plugin.toml"), manifest).unwrap();
        fs::write(within("run"), "#!/bin/sh\n").unwrap();
        fs::write(within("data"), "1").unwrap();
        fs::write(within("sums"), "2").unwrap();
    };
    make();
    signer.sign_folder("tool");
    assert!(signer.check("key").is_ok());
    let changes: [&dyn Fn(); 7] = [
        &|| fs::write(within("plugin.toml"), manifest.replace("run", "sh")).unwrap(),
        &|| fs::write(within("run"), "#!/bin/sh\nexit\n").unwrap(),
        &|| fs::write(within("more"), "").unwrap(),
        &|| fs::remove_file(within("data")).unwrap(),
        &|| fs::rename(within("data"), within("atad")).unwrap(),
        &|| fs::set_permissions(within("run"), fs::Permissions::from_mode(0o755)).unwrap(),
        &|| {
            fs::rename(within("run"), within("was")).unwrap();
            fs::rename(within("data"), within("run")).unwrap();
            fs::rename(within("was"), within("data")).unwrap();
        },
    ];
    for (at, change) in changes.iter().enumerate() {
        make();
        assert!(signer.check("key").is_ok(), "{at}");
        change();
        let reason = signer.check("key").unwrap_err();
        let told = "tool.minisig is not the signature of what stands there, whose digest is sha256:";
        assert!(reason.starts_with(told), "{at}: {reason}");
    }
    // One file whose name goes on with the line of another.
    make();
    fs::remove_file(within("sums")).unwrap();
    let line = Digest::of("2").to_string().replace("sha256:", "run\n") + "  sums";
    fs::rename(within("run"), within(&line)).unwrap();
    let reason = "a name in it is not UTF-8, or has a line break";
    assert_eq!(signer.check("key").unwrap_err(), reason);
    assert_eq!(signer.scan(PluginDiscovery::new()).unwrap_err(), reason, "it has no digest to be allowed by");
    // It stands for the folder beside which it stands.
    make();
    fs::rename(signer.path("tool"), signer.path("other")).unwrap();
    let reason = signer.check("key").unwrap_err();
    let told = reason.strip_prefix("it is not signed: there is no other.minisig, a signature of the text ");
    let digest = signer.scan(PluginDiscovery::new()).unwrap().digest();
    assert_eq!(told, Some(&*digest.to_string()), "{reason}");
}

#[test]
fn only_keys_that_were_given_may_sign() {
    let Some(signer) = Signer::new() else { return };
    let other = signer.generate("other");
    fs::write(signer.path("tool.wasm"), b"\0asm").unwrap();
    assert_eq!(signer.check("key").unwrap_err(), "it is not signed: there is no tool.wasm.minisig");
    signer.sign("key", "tool.wasm", &[]);
    assert_eq!(signer.check("other").unwrap_err(), "tool.wasm.minisig is by none of the keys that may sign");
    let both = || PluginDiscovery::new().signed_by(other.clone()).signed_by(signer.public("key"));
    assert!(signer.scan(both()).is_ok());
    signer.sign("other", "tool.wasm", &[]);
    assert!(signer.scan(both()).is_ok());
    // A signature by itself is no plugin, and none is asked for where no key was given.
    assert_eq!(signer.scan(PluginDiscovery::new()).unwrap().trusted_comment(), None);

    // It stands in the folder, as the plugin does.
    let outside = signer.keys.path().join("outside");
    fs::rename(signer.signature("tool.wasm"), &outside).unwrap();
    symlink(&outside, signer.signature("tool.wasm")).unwrap();
    let reason = signer.check("other").unwrap_err();
    assert!(reason.ends_with("tool.wasm.minisig: it leads out of its folder"), "{reason}");
    for text in ["", "no key", "RWQ=", "untrusted comment: x\nRWQ=\n"] {
        assert!(text.parse::<PublicKey>().is_err(), "{text}");
    }
    // A key is the same with its comment and without, and of two that stand in one text none is taken.
    let text = fs::read_to_string(signer.key_file("key", "pub")).unwrap();
    let alone = text.lines().nth(1).unwrap();
    assert!(alone.parse::<PublicKey>().unwrap() == signer.public("key"));
    assert!(alone.parse::<PublicKey>().unwrap() != other);
    assert!(format!("{alone}\n{alone}").parse::<PublicKey>().is_err());
    assert!(format!("{text}{text}").parse::<PublicKey>().is_err());
}

/// Answers what the file holds.
struct Bytes;

#[async_trait]
impl Loader for Bytes {
    fn kind(&self) -> &str {
        "wasm"
    }

    async fn load(&self, found: &Found) -> Result<Load, PluginError> {
        let text = fs::read_to_string(found.copy())?;
        let plugin = FnPlugin::new(found.manifest().build()?, move |_: Value, _cx| {
            let text = text.clone();
            async move { Ok(text) }
        });
        Ok(plugin.into())
    }
}

#[tokio::test]
async fn a_plugin_is_loaded_once_its_signature_is_there_and_stays_when_it_is_swapped() {
    let Some(signer) = Signer::new() else { return };
    let builder = PluginManager::builder().folder(signer.root.path()).loader(Bytes).settle(Duration::ZERO);
    let plugins = builder.signed_by(signer.public("key")).start().await.unwrap();
    fs::write(signer.path("tool.wasm"), "one").unwrap();
    plugins.rescan().await;
    assert!(plugins.list().is_empty());
    signer.sign("key", "tool.wasm", &[]);
    plugins.rescan().await;
    assert_eq!(plugins.call("tool", Value::Null).await.unwrap(), "one");
    fs::write(signer.path("tool.wasm"), "two").unwrap();
    plugins.rescan().await;
    assert_eq!(plugins.call("tool", Value::Null).await.unwrap(), "one");
    signer.sign("key", "tool.wasm", &[]);
    plugins.rescan().await;
    assert_eq!(plugins.call("tool", Value::Null).await.unwrap(), "two");
    plugins.shutdown().await;
}
